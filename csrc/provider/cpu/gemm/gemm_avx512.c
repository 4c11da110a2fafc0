/* AVX-512 tiles: up to 14 rows x 32 columns, 28 accumulators, two registers for B and the rest for
 * broadcast A. Tiles of fewer than 4 rows have too few accumulators to hide the latency of FMA, so
 * they keep several sums per element (one per k modulo 2 or 4), added up at the end. */
#include "provider/cpu/gemm/gemm_kernel.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 14, SPLIT = 7 };

typedef struct cursor {
  const float *q0, *q1, *q2, *q3; /* rows 0-3, 4-6, 7-10, 11-13 */
  int64_t s, s3;                  /* one and three rows */
} cursor;

/* Address of row i: at most three multiples of the row stride away from a base register. */
INLINE const float *row_at(const cursor *p, int i) {
  const float *q = i < 4 ? p->q0 : i < 7 ? p->q1 : i < 11 ? p->q2 : p->q3;
  const int d = i < 4 ? i : i < 7 ? i - 4 : i < 11 ? i - 7 : i - 11;
  return d == 0 ? q : d == 1 ? q + p->s : d == 2 ? q + 2 * p->s : q + p->s3;
}

/* One k: c[i] += a(i)[k] * b. */
INLINE void step(__m512 c[ROWS][2], const cursor *p, int64_t k, const float *b, const int rows,
                 const int nv) {
  const __m512 b0 = _mm512_loadu_ps(b);
  const __m512 b1 = nv > 1 ? _mm512_loadu_ps(b + 16) : b0;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const __m512 a = _mm512_set1_ps(row_at(p, i)[k]);
    c[i][0] = _mm512_fmadd_ps(a, b0, c[i][0]);
    if (nv > 1) c[i][1] = _mm512_fmadd_ps(a, b1, c[i][1]);
  }
}

INLINE void finish(const mrt_tile *t, __m512 c[ROWS][2], const int rows, const int nv) {
  const __mmask16 m0 = (__mmask16)(t->cols >= 16 ? 0xffff : (1u << t->cols) - 1);
  const __mmask16 m1 = nv > 1 ? (__mmask16)((1u << (t->cols - 16)) - 1) : 0;
  float *y = t->c;
  const int64_t ld = t->c_row, col = t->c_col16;
#define EACH(i) _Pragma("GCC unroll 14") for (int i = 0; i < rows; ++i)
  if (t->cols == 16 * nv && t->flags == MRT_TILE_FINAL && t->alpha == 1.0f && !t->bias &&
      !t->row_bias && !t->residual) {
    EACH(i) {
      _mm512_storeu_ps(y + i * ld, c[i][0]);
      if (nv > 1) _mm512_storeu_ps(y + i * ld + col, c[i][1]);
    }
    return;
  }
  if (t->flags & MRT_TILE_LOAD) {
    EACH(i) {
      c[i][0] = _mm512_add_ps(c[i][0], _mm512_maskz_loadu_ps(m0, y + i * ld));
      if (nv > 1) c[i][1] = _mm512_add_ps(c[i][1], _mm512_maskz_loadu_ps(m1, y + i * ld + col));
    }
  }
  if (t->flags & MRT_TILE_FINAL) {
    __m512 b0 = _mm512_setzero_ps(), b1 = b0;
    if (t->bias) {
      b0 = _mm512_maskz_loadu_ps(m0, t->bias);
      if (nv > 1) b1 = _mm512_maskz_loadu_ps(m1, t->bias + 16);
    }
    const __m512 alpha = _mm512_set1_ps(t->alpha);
    EACH(i) {
      c[i][0] = _mm512_fmadd_ps(c[i][0], alpha, b0);
      if (nv > 1) c[i][1] = _mm512_fmadd_ps(c[i][1], alpha, b1);
    }
    if (t->row_bias) {
      EACH(i) {
        const __m512 rb = _mm512_set1_ps(t->row_bias[i]);
        c[i][0] = _mm512_add_ps(c[i][0], rb);
        if (nv > 1) c[i][1] = _mm512_add_ps(c[i][1], rb);
      }
    }
    if (t->residual) {
      const __m512 beta = _mm512_set1_ps(t->beta);
      const float *r = t->residual;
      EACH(i) {
        c[i][0] = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(m0, r + i * t->r_row), c[i][0]);
        if (nv > 1)
          c[i][1] = _mm512_fmadd_ps(beta, _mm512_maskz_loadu_ps(m1, r + i * t->r_row + t->r_col16),
                                    c[i][1]);
      }
    }
    if (t->flags & MRT_TILE_CLIP) { /* bound first: max and min return the second when one is NaN */
      const __m512 lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
      EACH(i) {
        c[i][0] = _mm512_min_ps(hi, _mm512_max_ps(lo, c[i][0]));
        if (nv > 1) c[i][1] = _mm512_min_ps(hi, _mm512_max_ps(lo, c[i][1]));
      }
    }
  }
  EACH(i) {
    _mm512_mask_storeu_ps(y + i * ld, m0, c[i][0]);
    if (nv > 1) _mm512_mask_storeu_ps(y + i * ld + col, m1, c[i][1]);
  }
#undef EACH
}

/* What a tile ends with, fetched while its sums are made. */
INLINE void fetch_ends(const mrt_tile *t, const int rows, const int nv) {
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    _mm_prefetch((const char *)(t->c + i * t->c_row), _MM_HINT_ET0);
    if (nv > 1) _mm_prefetch((const char *)(t->c + i * t->c_row + t->c_col16), _MM_HINT_ET0);
  }
  if (t->bias) {
    _mm_prefetch((const char *)t->bias, _MM_HINT_T0);
    if (nv > 1) _mm_prefetch((const char *)(t->bias + 16), _MM_HINT_T0);
  }
  if (!t->residual) return;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    _mm_prefetch((const char *)(t->residual + i * t->r_row), _MM_HINT_T0);
    if (nv > 1) _mm_prefetch((const char *)(t->residual + i * t->r_row + t->r_col16), _MM_HINT_T0);
  }
}

/* rows, nv (vectors of columns) and phases are constants: the loops below unroll away. */
INLINE void tile(const mrt_tile *t, const int rows, const int nv, const int phases) {
  __m512 c[4][ROWS][2];
#pragma GCC unroll 4
  for (int p = 0; p < phases; ++p)
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) c[p][i][0] = c[p][i][1] = _mm512_setzero_ps();
  if (rows <= 8) fetch_ends(t, rows, nv);
  cursor p = {.s = t->a_row, .s3 = 3 * t->a_row};
  __asm__("" : "+r"(p.s3)); /* keep it in a register */
  const float *b = t->b, *ahead = t->ahead;
  const int64_t n_blocks = t->n_blocks, lines = ahead ? t->ahead_lines : 0;
  for (int64_t kb = 0; kb < n_blocks; ++kb) {
    const int64_t off = t->blocks[kb].off, len = t->blocks[kb].len;
    p.q0 = t->a + off;
    p.q1 = p.q0 + 4 * p.s;
    p.q2 = t->a_hi + off;
    p.q3 = p.q2 + 4 * p.s;
    __asm__("" : "+r"(p.q0), "+r"(p.q1), "+r"(p.q2), "+r"(p.q3));
    int64_t k = 0;
    for (; k + 4 <= len; k += 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) step(c[u % phases], &p, k + u, b + u * 32, rows, nv);
      if (rows <= 8) { /* streaming B from memory: stay ahead of it */
#pragma GCC unroll 8
        for (int u = 0; u < 4 * nv; ++u)
          _mm_prefetch((const char *)(b + 512 + u * 16), _MM_HINT_T0);
      }
      b += 128;
      if (rows > 8)
        for (int64_t u = 0; u < lines; ++u, ahead += 16)
          _mm_prefetch((const char *)ahead, _MM_HINT_T1);
    }
    for (; k < len; ++k, b += 32) step(c[0], &p, k, b, rows, nv);
  }
#pragma GCC unroll 4
  for (int q = 1; q < phases; ++q)
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      c[0][i][0] = _mm512_add_ps(c[0][i][0], c[q][i][0]);
      c[0][i][1] = _mm512_add_ps(c[0][i][1], c[q][i][1]);
    }
  finish(t, c[0], rows, nv);
}

/* Packed A, 16 floats from row to row: every address is one register and a constant. Rows stand in
 * the order written (left to the compiler, loads are moved, sums spilled: 3 to 5 % slower), and
 * what is fetched stands between them, a line or two at a time. C is fetched during the last LATE
 * blocks of k, else A and B would drive it out of L1 again. */
enum { LATE = 12 };
#define FETCH_L2(p)  __asm__ volatile("prefetcht1 %0" : : "m"(*(p)))
#define FETCH_OWN(p) __asm__ volatile("prefetchw %0" : : "m"(*(p)))
#define ROW2(c0, c1, x, b0, b1)         \
  __asm__ volatile(                     \
      "vbroadcastss %2, %%zmm31\n\t"    \
      "vfmadd231ps %3, %%zmm31, %0\n\t" \
      "vfmadd231ps %4, %%zmm31, %1"     \
      : "+v"(c0), "+v"(c1)              \
      : "m"(*(x)), "v"(b0), "v"(b1)     \
      : "xmm31")
#define ROW1(c0, x, b0) \
  __asm__ volatile("vfmadd231ps %1%{1to16%}, %2, %0" : "+v"(c0) : "m"(*(x)), "v"(b0))

INLINE void packed_step(__m512 c[ROWS][2], const float *a, const float *b, const int rows,
                        const int nv) {
  __m512 b0, b1;
  __asm__ volatile("vmovups %1, %0" : "=v"(b0) : "m"(*(const __m512 *)b));
  if (nv > 1) __asm__ volatile("vmovups %1, %0" : "=v"(b1) : "m"(*(const __m512 *)(b + 16)));
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    if (nv > 1)
      ROW2(c[i][0], c[i][1], a + i * 16, b0, b1);
    else
      ROW1(c[i][0], a + i * 16, b0);
  }
}

INLINE void packed_tile(const mrt_tile *t, const int rows, const int nv) {
  __m512 c[ROWS][2];
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) c[i][0] = c[i][1] = _mm512_setzero_ps();
  const float *b = t->b;
  const float *ahead = t->ahead, *end = t->c;
  const int64_t lines = ahead ? t->ahead_lines : 0;
  int ends = rows;
  if (t->residual || t->n_blocks * 4 < rows) fetch_ends(t, rows, nv), ends = 0;
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const float *a = t->a + t->blocks[kb].off;
    int64_t len = t->blocks[kb].len;
    const int late = t->n_blocks - kb <= LATE ? ends : 0;
#pragma GCC unroll 1
    for (int u = 0; len >= 4; len -= 4, a += 4, b += 128, ++u) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) packed_step(c, a + k, b + k * 32, rows, nv);
      if (u < late) {
        FETCH_OWN(end);
        if (nv > 1) FETCH_OWN(end + t->c_col16);
        end += t->c_row;
        --ends;
      }
      for (int64_t i = 0; i < lines; ++i, ahead += 16) FETCH_L2(ahead);
    }
#pragma GCC unroll 1
    for (; len > 0; --len, ++a, b += 32) packed_step(c, a, b, rows, nv);
  }
  finish(t, c, rows, nv);
}
static inline bool is_packed(const mrt_tile *t) {
  return t->a_row == 16 && t->a_hi == t->a + SPLIT * 16;
}

#define PACKED(rows)                                                              \
  __attribute__((noinline)) static void packed_wide_##rows(const mrt_tile *t) {   \
    packed_tile(t, rows, 2);                                                      \
  }                                                                               \
  __attribute__((noinline)) static void packed_narrow_##rows(const mrt_tile *t) { \
    packed_tile(t, rows, 1);                                                      \
  }
#define TILE(rows)                                      \
  static void wide_##rows(const mrt_tile *t) {          \
    tile(t, rows, 2, rows == 1 ? 4 : rows < 4 ? 2 : 1); \
  }                                                     \
  static void narrow_##rows(const mrt_tile *t) {        \
    tile(t, rows, 1, rows < 3 ? 4 : rows < 8 ? 2 : 1);  \
  }
#define TALL(rows)                               \
  static void wide_##rows(const mrt_tile *t) {   \
    if (is_packed(t))                            \
      packed_wide_##rows(t);                     \
    else                                         \
      tile(t, rows, 2, 1);                       \
  }                                              \
  static void narrow_##rows(const mrt_tile *t) { \
    if (is_packed(t))                            \
      packed_narrow_##rows(t);                   \
    else                                         \
      tile(t, rows, 1, 1);                       \
  }
/* The formatter cannot agree with itself on lists of macros. */
/* clang-format off */
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) TILE(7)
PACKED(8) PACKED(9) PACKED(10) PACKED(11) PACKED(12) PACKED(13) PACKED(14)
TALL(8) TALL(9) TALL(10) TALL(11) TALL(12) TALL(13) TALL(14)
    /* clang-format on */

    /* 16x16 transpose: r[i][j] becomes r[j][i]. */
    INLINE void transpose16(__m512 r[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int h = 0; h < 2; ++h) {
      const __m512d x = _mm512_castps_pd(t[i + h]), y = _mm512_castps_pd(t[i + h + 2]);
      r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
      r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
    }
  /* r[4g + c] now holds column c of each 4-lane group for rows 4g .. 4g+3. */
  for (int c = 0; c < 4; ++c) {
    const __m512 p = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
    const __m512 q = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
    const __m512 u = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const __m512 v = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    t[c] = _mm512_shuffle_f32x4(p, u, 0x88);
    t[8 + c] = _mm512_shuffle_f32x4(p, u, 0xdd);
    t[4 + c] = _mm512_shuffle_f32x4(q, v, 0x88);
    t[12 + c] = _mm512_shuffle_f32x4(q, v, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

/* Loads a block of up to 16 x 16 (rows ld apart) and transposes it; what is missing is 0. */
INLINE void load_transposed(__m512 r[16], const float *src, int64_t ld, int rows, int cols) {
  const __mmask16 m = (__mmask16)(cols >= 16 ? 0xffff : (1u << cols) - 1);
  for (int i = 0; i < 16; ++i)
    r[i] = i < rows ? _mm512_maskz_loadu_ps(m, src + i * ld) : _mm512_setzero_ps();
  transpose16(r);
}

static void pack_b_trans(const float *src, int64_t ld, int64_t k, int cols, float *dst) {
  for (int64_t k0 = 0; k0 < k; k0 += 16) {
    const int kn = k - k0 < 16 ? (int)(k - k0) : 16;
    for (int half = 0; half < 2; ++half) {
      const int n = cols - 16 * half;
      __m512 r[16];
      load_transposed(r, src + 16 * half * ld + k0, ld, n < 0 ? 0 : n > 16 ? 16 : n, kn);
      for (int i = 0; i < kn; ++i) _mm512_storeu_ps(dst + (k0 + i) * 32 + 16 * half, r[i]);
    }
  }
}

static void pack_a(const float *src, int64_t ld, int64_t k, int rows, int pitch, float *dst) {
  const int64_t step = pitch * 16, whole = k / 64 * 64;
  for (int r = 0; r < rows; ++r, src += ld, dst += 16) {
    float *to = dst;
    int64_t i = 0;
    for (; i < whole; i += 64, to += 4 * step) {
      const __m512 x0 = _mm512_loadu_ps(src + i), x1 = _mm512_loadu_ps(src + i + 16);
      const __m512 x2 = _mm512_loadu_ps(src + i + 32), x3 = _mm512_loadu_ps(src + i + 48);
      _mm512_storeu_ps(to, x0);
      _mm512_storeu_ps(to + step, x1);
      _mm512_storeu_ps(to + 2 * step, x2);
      _mm512_storeu_ps(to + 3 * step, x3);
    }
    for (; i < k; i += 16, to += step) {
      const __mmask16 m = (__mmask16)(k - i >= 16 ? 0xffff : (1u << (k - i)) - 1);
      _mm512_mask_storeu_ps(to, m, _mm512_maskz_loadu_ps(m, src + i));
    }
  }
}

static void pack_a_trans(const float *src, int64_t ld, int64_t k, int rows, int pitch, float *dst) {
  for (int64_t k0 = 0; k0 < k; k0 += 16) {
    __m512 r[16];
    load_transposed(r, src + k0 * ld, ld, k - k0 < 16 ? (int)(k - k0) : 16, rows);
    for (int i = 0; i < rows; ++i) _mm512_storeu_ps(dst + (k0 / 16 * pitch + i) * 16, r[i]);
  }
}

#define LIST(kind)                                                                               \
  {                                                                                              \
    0, kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7, kind##_8, kind##_9, \
        kind##_10, kind##_11, kind##_12, kind##_13, kind##_14                                    \
  }
const mrt_gemm_kernels mrt_gemm_f32_avx512 = {
    .name = "avx512",
    .max_rows = ROWS,
    .nr = 32,
    .split = SPLIT,
    .wide = LIST(wide),
    .narrow = LIST(narrow),
    .pack_b_trans = pack_b_trans,
    .pack_a = pack_a,
    .pack_a_trans = pack_a_trans,
};
