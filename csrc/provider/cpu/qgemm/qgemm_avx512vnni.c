/* AVX-512 VNNI tiles: up to 14 rows x 32 columns of vpdpbusd. The instruction is inline assembly:
 * with the intrinsic gcc 12 copies and spills the accumulators. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 14, SPLIT = 7 };

INLINE __m512i dot(__m512i acc, __m512i a, __m512i b) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
  return acc;
}

INLINE __m512i load4(const uint8_t *p) {
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return _mm512_set1_epi32(x);
}

/* Fetches a line of the 16 KiB behind those of p: a line of each of their four pages in turn, so
 * that the prefetcher of L2 runs ahead in all four. */
INLINE void fetch_ahead(const int8_t *p) {
  const uintptr_t at = (uintptr_t)p, line = at / 64 % 256;
  _mm_prefetch((const char *)(at / 16384 * 16384 + 16384 + line % 4 * 4096 + line / 4 * 64),
               _MM_HINT_T0);
}

typedef struct cursor {
  const uint8_t *q0, *q1, *q2, *q3; /* rows 0-3, 4-6, 7-10, 11-13 */
  int64_t s, s3;
} cursor;
INLINE const uint8_t *row_at(const cursor *p, int i) {
  const uint8_t *q = i < 4 ? p->q0 : i < 7 ? p->q1 : i < 11 ? p->q2 : p->q3;
  const int d = i < 4 ? i : i < 7 ? i - 4 : i < 11 ? i - 7 : i - 11;
  return d == 0 ? q : d == 1 ? q + p->s : d == 2 ? q + 2 * p->s : q + p->s3;
}

INLINE void step(__m512i c[ROWS][2], const cursor *p, int64_t k, const int8_t *b, const int rows,
                 const int nv) {
  const __m512i b0 = _mm512_loadu_si512(b);
  const __m512i b1 = nv > 1 ? _mm512_loadu_si512(b + 64) : b0;
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    const __m512i a = load4(row_at(p, i) + 4 * k);
    c[i][0] = dot(c[i][0], a, b0);
    if (nv > 1) c[i][1] = dot(c[i][1], a, b1);
  }
}

#include "provider/cpu/qgemm/qgemm_store512.inl"

/* Whole rows of unsigned bytes from 0 on that nothing else bounds, as behind Relu: the operations
 * of store_u8, on registers. */
INLINE bool is_plain(const mrt_qtile *t, const int rows) {
  return t->cols == 32 && t->n_segments == 1 && t->segments->first == 0 &&
         t->segments->count == rows && t->out == MRT_Q_U8 && t->in_range && !t->b_zero && !t->add &&
         t->zero == 0 && t->lo <= 0 && t->hi >= 255;
}
INLINE __m512 number(__m512i x, const bool shifted) {
  return shifted ? _mm512_castsi512_ps(x) : _mm512_cvtepi32_ps(x);
}
INLINE __m512i plain_row(const __m512i sums[2], const __m512 scale[2], const __m512 bias[2],
                         const bool shifted) {
  const __m512 x0 = _mm512_fmadd_ps(number(sums[0], shifted), scale[0], bias[0]),
               x1 = _mm512_fmadd_ps(number(sums[1], shifted), scale[1], bias[1]);
  return _mm512_packs_epi32(_mm512_cvtps_epi32(x0), _mm512_cvtps_epi32(x1));
}
INLINE void finish_plain(const mrt_qtile *t, __m512i c[ROWS][2], const int rows,
                         const bool shifted) {
  const __m512 scale[2] = {_mm512_loadu_ps(t->scale), _mm512_loadu_ps(t->scale + 16)},
               less = _mm512_set1_ps(-0x1p23f),
               bias[2] = {shifted ? _mm512_mul_ps(scale[0], less) : _mm512_loadu_ps(t->bias),
                          shifted ? _mm512_mul_ps(scale[1], less) : _mm512_loadu_ps(t->bias + 16)};
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const int64_t step = t->c_row;
  uint8_t *y = (uint8_t *)t->c + t->segments->at;
#pragma GCC unroll 7
  for (int i = 0; i < rows; i += 2, y += 2 * step) {
    const __m512i p = plain_row(c[i], scale, bias, shifted),
                  q = i + 1 < rows ? plain_row(c[i + 1], scale, bias, shifted) : p,
                  z = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(p, q));
    _mm256_storeu_si256((__m256i *)y, _mm512_castsi512_si256(z));
    if (i + 1 < rows) _mm256_storeu_si256((__m256i *)(y + step), _mm512_extracti64x4_epi64(z, 1));
  }
}

INLINE void tile(const mrt_qtile *t, const int rows, const int nv, const int phases) {
  __m512i c[4][ROWS][2];
#pragma GCC unroll 4
  for (int p = 0; p < phases; ++p)
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      c[p][i][0] = p ? _mm512_setzero_si512() : _mm512_loadu_si512(t->col);
      c[p][i][1] = p || nv < 2 ? _mm512_setzero_si512() : _mm512_loadu_si512(t->col + 16);
    }
  cursor p = {.s = t->a_row, .s3 = 3 * t->a_row};
  __asm__("" : "+r"(p.s3));
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const int64_t off = t->blocks[kb].off, len = t->blocks[kb].len;
    const int8_t *b = t->b + kb * 2048;
    p.q0 = t->a + off;
    p.q1 = p.q0 + 4 * p.s;
    p.q2 = t->a_hi + off;
    p.q3 = p.q2 + 4 * p.s;
    __asm__("" : "+r"(p.q0), "+r"(p.q1), "+r"(p.q2), "+r"(p.q3));
    int64_t k = 0;
    for (; k + 4 <= len; k += 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) step(c[u % phases], &p, k + u, b + u * 128, rows, nv);
      if (rows <= 4) { /* streaming B from memory: stay ahead of it */
#pragma GCC unroll 8
        for (int u = 0; u < 4 * nv; ++u) fetch_ahead(b + u * 64);
      }
      b += 512;
    }
    for (; k < len; ++k, b += 128) step(c[0], &p, k, b, rows, nv);
  }
#pragma GCC unroll 4
  for (int q = 1; q < phases; ++q)
#pragma GCC unroll 14
    for (int i = 0; i < rows; ++i) {
      c[0][i][0] = _mm512_add_epi32(c[0][i][0], c[q][i][0]);
      c[0][i][1] = _mm512_add_epi32(c[0][i][1], c[q][i][1]);
    }
  if (nv > 1 && is_plain(t, rows)) {
    if (t->shifted)
      finish_plain(t, c[0], rows, true);
    else
      finish_plain(t, c[0], rows, false);
    return;
  }
  int32_t sums[ROWS][32] __attribute__((aligned(64)));
#pragma GCC unroll 14
  for (int i = 0; i < rows; ++i) {
    _mm512_store_si512(sums[i], c[0][i][0]);
    if (nv > 1) _mm512_store_si512(sums[i] + 16, c[0][i][1]);
  }
  finish512(t, sums[0]);
}

#define TILE(rows)                                      \
  static void wide_##rows(const mrt_qtile *t) {         \
    tile(t, rows, 2, rows == 1 ? 4 : rows < 4 ? 2 : 1); \
  }                                                     \
  static void narrow_##rows(const mrt_qtile *t) {       \
    tile(t, rows, 1, rows < 3 ? 4 : rows < 8 ? 2 : 1);  \
  }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
TILE(13)
TILE(14)

static void quantize(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     uint8_t *y) {
  const __m512 lo = _mm512_set1_ps((float)((is_signed ? -128 : 0) - zero));
  const __m512 hi = _mm512_set1_ps((float)((is_signed ? 127 : 255) - zero)),
               vs = _mm512_set1_ps(scale);
  const __m512i vz = _mm512_set1_epi32(zero);
  /* x / scale rounded correctly: x * (1 / scale), corrected by its remainder; where that is no
   * small number (NaN, infinities, scales out of the ordinary), division itself. */
  const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), vs), big = _mm512_set1_ps(1e6f);
  const bool plain = scale > 1e-30f && scale < 1e30f;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
    const __m512 from = _mm512_maskz_loadu_ps(m, x + i), guess = _mm512_mul_ps(from, inverse);
    const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(guess), big, _CMP_LT_OQ);
    __m512 v = _mm512_fmadd_ps(_mm512_fnmadd_ps(guess, vs, from), inverse, guess);
    if (__builtin_expect(!plain || small != 0xffff, 0)) v = _mm512_div_ps(from, vs);
    const __m512i q = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo), hi));
    _mm_mask_storeu_epi8(y + i, m, _mm512_cvtepi32_epi8(_mm512_add_epi32(q, vz)));
  }
}

static void dequantize(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                       float *y) {
  const __m512 vs = _mm512_set1_ps(scale);
  const __m512i vz = _mm512_set1_epi32(zero);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
    const __m128i b = _mm_maskz_loadu_epi8(m, x + i);
    const __m512i v = is_signed ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b);
    _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(v, vz)), vs));
  }
}

static void range(const float *x, int64_t n, float *io_min, float *io_max) {
  __m512 lo = _mm512_set1_ps(*io_min), hi = _mm512_set1_ps(*io_max);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) { /* min and max give the second operand for NaN */
    const __m512 v = _mm512_loadu_ps(x + i);
    lo = _mm512_min_ps(v, lo);
    hi = _mm512_max_ps(v, hi);
  }
  *io_min = _mm512_reduce_min_ps(lo);
  *io_max = _mm512_reduce_max_ps(hi);
  mrt_range_loop(x + i, n - i, io_min, io_max);
}

#define LIST(kind)                                                                               \
  {                                                                                              \
    0, kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7, kind##_8, kind##_9, \
        kind##_10, kind##_11, kind##_12, kind##_13, kind##_14                                    \
  }
const mrt_qgemm_kernels mrt_qgemm_avx512vnni = {.name = "avx512vnni",
                                                .macs_per_ns = 240,
                                                .shifts = true,
                                                .max_rows = ROWS,
                                                .nr = 32,
                                                .split = SPLIT,
                                                .wide = LIST(wide),
                                                .narrow = LIST(narrow),
                                                .quantize = quantize,
                                                .dequantize = dequantize,
                                                .range = range};
