/* Splitting, checks and epilogue of gemm_split.h in AVX-512 with BF16, for all kernels that have
 * these. gemm_split_model.c says what is computed. */
#include <immintrin.h>
#include <string.h>

#include "provider/cpu/gemm/gemm_split_rows.inl"

/* The upper halves of x0 and x1, side by side. */
INLINE __m512i upper_halves(__m512 x0, __m512 x1) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32((__m512i)x0, 16), (__m512i)x1);
}

/* From [x0 | x1] to pairs. */
static const uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                        21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                        11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/* Two registers of floats become registers of pairs of bf16, one per part, 1024 numbers apart. */
INLINE void split_pair(__m512 x0, __m512 x1, const int parts, __m512i order, uint16_t *dst) {
  const __m512i high = _mm512_set1_epi32((int)0xffff0000u), half = _mm512_set1_epi32(0x8000);
  if (parts > 1) {
    const __m512 t0 = (__m512)_mm512_add_epi32((__m512i)x0, half);
    const __m512 t1 = (__m512)_mm512_add_epi32((__m512i)x1, half);
    _mm512_store_si512(dst, upper_halves(t0, t1));
    x0 = _mm512_sub_ps(x0, (__m512)_mm512_and_si512((__m512i)t0, high));
    x1 = _mm512_sub_ps(x1, (__m512)_mm512_and_si512((__m512i)t1, high));
  }
  if (parts > 2) {
    _mm512_store_si512(dst + 1024, upper_halves(x0, x1));
    x0 = _mm512_sub_ps(x0, (__m512)_mm512_and_si512((__m512i)x0, high));
    x1 = _mm512_sub_ps(x1, (__m512)_mm512_and_si512((__m512i)x1, high));
    _mm512_store_si512(dst + 2048, upper_halves(x0, x1));
  } else {
    const __m512i last = (__m512i)_mm512_cvtne2ps_pbh(x1, x0);
    _mm512_store_si512(dst + (parts - 1) * 1024, _mm512_permutexvar_epi16(order, last));
  }
}

INLINE void split_step(mrt_split_ahead *n, const int parts) {
  const int64_t stop = n->at + n->burst < n->end ? n->at + n->burst : n->end;
  const __m512i order = _mm512_loadu_si512(interleave);
  for (; n->at < stop; ++n->at) {
    if (n->panel) {
      const float *from = n->panel + (n->at >> 4) * 1024 + (n->at & 15) * 32;
      uint16_t *to = n->dst + (n->at >> 4) * parts * 1024 + (n->at & 15) * 32;
      split_pair(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 512), parts, order, to);
      split_pair(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from + 528), parts, order, to + 512);
    }
    const bool near = n->at < n->turn;
    const char *fetch = near ? n->fetch : n->then;
    const int64_t line = n->at * n->lines + (near ? n->first : n->then_first);
    if (fetch)
      for (int i = 0; i < n->lines; ++i)
        _mm_prefetch(mrt_split_fetch_at(fetch, line + i, n->whole), _MM_HINT_T1);
  }
}
static inline __mmask16 mask_of(int64_t n) {
  return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1);
}

INLINE void split_panel(const float *panel, int64_t k, const int tiles, const int parts,
                        uint16_t *dst) {
  const __m512i order = _mm512_loadu_si512(interleave);
  for (int64_t g = 0; g < k; g += 32, panel += 1024, dst += parts * 1024)
    for (int i = 0; i < 16; ++i) {
      const float *from = panel + i * 32;
      const __mmask16 m0 = g + i < k ? 0xffff : 0, m1 = g + i + 16 < k ? 0xffff : 0;
#pragma GCC unroll 2
      for (int t = 0; t < tiles; ++t)
        split_pair(_mm512_maskz_loadu_ps(m0, from + 16 * t),
                   _mm512_maskz_loadu_ps(m1, from + 512 + 16 * t), parts, order,
                   dst + 512 * t + i * 32);
    }
}

static void split_b(const float *panel, int64_t k, int cols, int parts, uint16_t *dst) {
  switch (parts * 2 + (cols > 16)) {
    case 2: split_panel(panel, k, 1, 1, dst); break;
    case 3: split_panel(panel, k, 2, 1, dst); break;
    case 4: split_panel(panel, k, 1, 2, dst); break;
    case 5: split_panel(panel, k, 2, 2, dst); break;
    case 6: split_panel(panel, k, 1, 3, dst); break;
    default: split_panel(panel, k, 2, 3, dst); break;
  }
}

/* One group of all rows whose k lies in one or two pieces of 16 (or is cut short at the end). */
INLINE void split_group(const mrt_split_rows *src, int64_t off0, int64_t off1, __mmask16 m0,
                        __mmask16 m1, const int parts, uint16_t *dst) {
  const __m512i order = _mm512_loadu_si512(interleave);
  for (int r = 0; r < src->rows; ++r) {
    const float *row = src->row[r];
    for (int p = 0; p < parts; ++p) /* lines of the group after next, from L2 or beyond */
      __builtin_prefetch(dst + (2 * parts + p) * 1024 + r * 32, 1);
    split_pair(_mm512_maskz_loadu_ps(m0, row + off0), _mm512_maskz_loadu_ps(m1, row + off1), parts,
               order, dst + r * 32);
  }
}

/* A group made of odd pieces: gathered first. */
static void gather_group(const mrt_split_rows *src, const int64_t off[32], int n, int parts,
                         uint16_t *dst) {
  const __m512i order = _mm512_loadu_si512(interleave);
  for (int r = 0; r < src->rows; ++r) {
    float x[32] = {0};
    for (int k = 0; k < n; ++k) x[k] = src->row[r][off[k]];
    const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
    if (parts == 1)
      split_pair(x0, x1, 1, order, dst + r * 32);
    else if (parts == 2)
      split_pair(x0, x1, 2, order, dst + r * 32);
    else
      split_pair(x0, x1, 3, order, dst + r * 32);
  }
}

INLINE void zero_rows(const mrt_split_rows *src, const int parts, int64_t groups, uint16_t *dst) {
  const int full = src->rows > 16 ? 32 : 16;
  if (src->rows == full) return;
  for (int64_t p = 0; p < groups * parts; ++p)
    memset(dst + p * 1024 + src->rows * 32, 0, (size_t)(full - src->rows) * 64);
}

/* Groups in one piece, a few of a row at a time: rows are read as streams, and what is written
 * stays in L1 until its lines are whole. */
enum { RUN = 8, ROWS_AHEAD = 4 };
INLINE void split_run(const mrt_split_rows *src, int64_t off, int64_t groups, const int parts,
                      uint16_t *dst) {
  const __m512i order = _mm512_loadu_si512(interleave);
  for (int r = 0; r < src->rows; ++r) {
    const float *row = src->row[r] + off;
    /* A row further down, or, from the last ones, the first of the groups that follow. */
    const int down = r + ROWS_AHEAD, over = down - src->rows;
    const float *next = over < 0           ? src->row[down] + off
                        : over < src->rows ? src->row[over] + off + groups * 32
                                           : row;
    for (int64_t g = 0; g < groups; ++g) {
      _mm_prefetch((const char *)(next + g * 32), _MM_HINT_T0);
      _mm_prefetch((const char *)(next + g * 32 + 16), _MM_HINT_T0);
      split_pair(_mm512_loadu_ps(row + g * 32), _mm512_loadu_ps(row + g * 32 + 16), parts, order,
                 dst + g * parts * 1024 + r * 32);
    }
  }
}

INLINE void split_strip(const mrt_split_rows *src, const int parts, uint16_t *dst) {
  group_cursor c = {src->blocks, src->n_blocks, 0, 0};
  const int64_t groups = groups_of(src->blocks, src->n_blocks);
  zero_rows(src, parts, groups, dst);
  for (int64_t g = 0; g < groups; ++g, dst += parts * 1024) {
    if (c.block < c.n_blocks && c.blocks[c.block].len - c.pos >= 32) {
      int64_t n = (c.blocks[c.block].len - c.pos) / 32;
      if (n > RUN / parts) n = RUN / parts;
      split_run(src, c.blocks[c.block].off + c.pos, n, parts, dst);
      c.pos += n * 32;
      g += n - 1;
      dst += (n - 1) * parts * 1024;
      continue;
    }
    const group_cursor before = c;
    int64_t off0 = 0, off1 = 0;
    const int n0 = cursor_piece(&c, 16, &off0), n1 = n0 == 16 ? cursor_piece(&c, 16, &off1) : 0;
    if ((n0 == 16 && n1 == 16) || g + 1 == groups) {
      group_cursor rest = c;
      int64_t unused;
      if (!cursor_piece(&rest, 1, &unused) || (n0 == 16 && n1 == 16)) {
        split_group(src, off0, off1, mask_of(n0), mask_of(n1), parts, dst);
        continue;
      }
    }
    c = before;
    int64_t off[32];
    int n = 0;
    while (n < 32 && cursor_piece(&c, 1, &off[n])) ++n;
    gather_group(src, off, n, parts, dst);
  }
}

static void split_a(const mrt_split_rows *src, int parts, uint16_t *dst) {
  if (parts == 1)
    split_strip(src, 1, dst);
  else if (parts == 2)
    split_strip(src, 2, dst);
  else
    split_strip(src, 3, dst);
}

static bool suspicious(const float *acc, int rows, int cols) {
  const __m512i low = _mm512_set1_epi32((127 - 90) << 23), all = _mm512_set1_epi32(0x7fffffff);
  /* Good: zero, or 2^-90 <= |x| < infinity. As unsigned: |x| - low < infinity - low. */
  const __m512i span = _mm512_set1_epi32((int)(0x7f800000u - ((127 - 90) << 23)));
  const __mmask16 m0 = mask_of(cols), m1 = mask_of(cols - 16);
  __mmask16 bad = 0;
  for (int r = 0; r < rows; ++r) {
    const __m512i x0 = _mm512_and_si512(_mm512_loadu_si512(acc + r * 32), all);
    const __m512i x1 = _mm512_and_si512(_mm512_loadu_si512(acc + r * 32 + 16), all);
    const __mmask16 n0 = _mm512_mask_test_epi32_mask(m0, x0, x0);
    const __mmask16 n1 = _mm512_mask_test_epi32_mask(m1, x1, x1);
    bad |= _mm512_mask_cmpge_epu32_mask(n0, _mm512_sub_epi32(x0, low), span);
    bad |= _mm512_mask_cmpge_epu32_mask(n1, _mm512_sub_epi32(x1, low), span);
  }
  return bad != 0;
}

INLINE void finish_half(const float *acc, int rows, const mrt_tile *t, int half) {
  const __mmask16 m = mask_of(t->cols - 16 * half);
  const __m512 bias = t->bias ? _mm512_maskz_loadu_ps(m, t->bias + 16 * half) : _mm512_setzero_ps();
  const __m512 alpha = _mm512_set1_ps(t->alpha), beta = _mm512_set1_ps(t->beta);
  const __m512 lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
  float *c = t->c + half * t->c_col16;
  const float *res = t->residual ? t->residual + half * t->r_col16 : NULL;
  for (int r = 0; r < rows; ++r, c += t->c_row) {
    __m512 x = _mm512_fmadd_ps(_mm512_loadu_ps(acc + r * 32 + 16 * half), alpha, bias);
    if (t->row_bias) x = _mm512_add_ps(x, _mm512_set1_ps(t->row_bias[r]));
    if (res) x = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(m, res + r * t->r_row), x);
    if (t->flags & MRT_TILE_CLIP) /* bound first: max and min return the second when one is NaN */
      x = _mm512_min_ps(hi, _mm512_max_ps(lo, x));
    _mm512_mask_storeu_ps(c, m, x);
  }
}

static void finish(const float *acc, int rows, const mrt_tile *t) {
  finish_half(acc, rows, t, 0);
  if (t->cols > 16) finish_half(acc, rows, t, 1);
}

/* What most products end with, in one pass. The smallest magnitude and a sum that only infinities
 * and NaN change say whether to look again: zeros, too, ask for that. */
INLINE bool finish_pass(const float *acc, int rows, const mrt_tile *t, const bool residual,
                        const bool clip) {
  const __mmask16 m = mask_of(t->cols - 16);
  const __m512 zero = _mm512_setzero_ps(), alpha = _mm512_set1_ps(t->alpha);
  const __m512 beta = _mm512_set1_ps(t->beta);
  const __m512 lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
  const __m512 bias0 = t->bias ? _mm512_loadu_ps(t->bias) : zero;
  const __m512 bias1 = t->bias ? _mm512_maskz_loadu_ps(m, t->bias + 16) : zero;
  enum { LEAST_MAGNITUDE = 10 };
  __m512 odd0 = zero, odd1 = zero, least0 = _mm512_set1_ps(1), least1 = least0;
  float *c = t->c;
  const float *r = t->residual;
  for (int i = 0; i < rows; ++i, c += t->c_row, acc += 32) {
    __m512 x0 = _mm512_loadu_ps(acc), x1 = _mm512_loadu_ps(acc + 16);
    odd0 = _mm512_fmadd_ps(x0, zero, odd0);
    odd1 = _mm512_fmadd_ps(x1, zero, odd1);
    least0 = _mm512_range_ps(least0, x0, LEAST_MAGNITUDE);
    least1 = _mm512_mask_range_ps(least1, m, least1, x1, LEAST_MAGNITUDE);
    x0 = _mm512_fmadd_ps(x0, alpha, bias0);
    x1 = _mm512_fmadd_ps(x1, alpha, bias1);
    if (residual) {
      x0 = _mm512_fmadd_ps(beta, _mm512_loadu_ps(r), x0);
      x1 = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(m, r + t->r_col16), x1);
      r += t->r_row;
    }
    if (clip) { /* bound first: max and min return the second when one is NaN */
      x0 = _mm512_min_ps(hi, _mm512_max_ps(lo, x0));
      x1 = _mm512_min_ps(hi, _mm512_max_ps(lo, x1));
    }
    _mm512_storeu_ps(c, x0);
    _mm512_mask_storeu_ps(c + t->c_col16, m, x1);
  }
  const __m512 least = _mm512_min_ps(least0, least1), odd = _mm512_add_ps(odd0, odd1);
  return _mm512_cmp_ps_mask(least, _mm512_set1_ps(0x1p-90f), _CMP_LT_OQ) |
         _mm512_cmp_ps_mask(odd, odd, _CMP_UNORD_Q);
}

static bool finish_checked(const float *acc, int rows, const mrt_tile *t) {
  bool again = true;
  if (t->cols <= 16 || t->row_bias)
    finish(acc, rows, t);
  else if (t->residual)
    again = t->flags & MRT_TILE_CLIP ? finish_pass(acc, rows, t, true, true)
                                     : finish_pass(acc, rows, t, true, false);
  else
    again = t->flags & MRT_TILE_CLIP ? finish_pass(acc, rows, t, false, true)
                                     : finish_pass(acc, rows, t, false, false);
  return again && suspicious(acc, rows, t->cols);
}
