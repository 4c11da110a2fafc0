/* AVX2 has no exact u8 x s8 dot product (vpmaddubsw saturates), so both are widened to 16 bits and
 * multiplied in pairs: a column's four k give two partial sums, added at the end. 3 rows x 16
 * columns. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 3, COLS = 16 };

/* Four bytes to four 16-bit numbers, repeated: a broadcast is a load, one shuffle is all it costs.
 */
INLINE __m256i widen4(const uint8_t *p) {
  const __m256i order = _mm256_set1_epi64x((long long)0x8003800280018000);
  int32_t x;
  __builtin_memcpy(&x, p, 4);
  return _mm256_shuffle_epi8(_mm256_set1_epi32(x), order);
}

/* Sixteen bytes a row at a time; everything else in plain C. */
static void finish(const mrt_qtile *t, const int32_t *raw) {
  const bool s8 = t->out == MRT_Q_S8;
  if ((!s8 && t->out != MRT_Q_U8) || t->add || t->b_zero || t->cols < COLS) {
    mrt_qtile_finish(t, raw, COLS);
    return;
  }
  const __m256 lo = _mm256_set1_ps(t->lo), hi = _mm256_set1_ps(t->hi);
  const __m256i zero = _mm256_set1_epi32(t->zero);
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    for (int k = 0; k < g->count; ++k) {
      const int32_t *x = raw + (g->first + k) * COLS;
      __m256i q[2];
      for (int h = 0; h < 2; ++h) {
        const __m256i n = _mm256_loadu_si256((const __m256i *)(x + 8 * h));
        const __m256 v = t->shifted ? _mm256_castsi256_ps(n) : _mm256_cvtepi32_ps(n);
        const __m256 scale = _mm256_loadu_ps(t->scale + 8 * h),
                     bias = t->shifted ? _mm256_mul_ps(scale, _mm256_set1_ps(-0x1p23f))
                                       : _mm256_loadu_ps(t->bias + 8 * h),
                     y = _mm256_fmadd_ps(v, scale, bias);
        q[h] = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, lo), hi)), zero);
      }
      const __m256i p = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xd8);
      const __m128i a = _mm256_castsi256_si128(p), b = _mm256_extracti128_si256(p, 1);
      _mm_storeu_si128((__m128i *)((uint8_t *)t->c + g->at + k * t->c_row),
                       s8 ? _mm_packs_epi16(a, b) : _mm_packus_epi16(a, b));
    }
  }
}

INLINE void tile(const mrt_qtile *t, const int rows) {
  __m256i acc[ROWS][4];
#pragma GCC unroll 3
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[i][q] = _mm256_setzero_si256();
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const int8_t *b = t->b + kb * 2048;
    const uint8_t *q0 = t->a + t->blocks[kb].off, *q2 = t->a_hi + t->blocks[kb].off;
    for (int k = 0; k < t->blocks[kb].len; ++k, b += 128) {
      __m256i a[ROWS];
#pragma GCC unroll 3
      for (int i = 0; i < rows; ++i) a[i] = widen4((i < 2 ? q0 + i * t->a_row : q2) + 4 * k);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) { /* four columns */
        const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + 16 * q)));
#pragma GCC unroll 3
        for (int i = 0; i < rows; ++i)
          acc[i][q] = _mm256_add_epi32(acc[i][q], _mm256_madd_epi16(a[i], w));
      }
    }
  }
  int32_t raw[ROWS * COLS];
#pragma GCC unroll 3
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) { /* hadd works within halves: put the columns back in order */
      const __m256i s = _mm256_hadd_epi32(acc[i][2 * h], acc[i][2 * h + 1]);
      const __m256i col = _mm256_loadu_si256((const __m256i *)(t->col + 8 * h));
      _mm256_storeu_si256((__m256i *)(raw + i * COLS + 8 * h),
                          _mm256_add_epi32(_mm256_permute4x64_epi64(s, 0xd8), col));
    }
  finish(t, raw);
}
static void tile_1(const mrt_qtile *t) { tile(t, 1); }
static void tile_2(const mrt_qtile *t) { tile(t, 2); }
static void tile_3(const mrt_qtile *t) { tile(t, 3); }

static void quantize(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     uint8_t *y) {
  const float lo = (float)((is_signed ? -128 : 0) - zero),
              hi = (float)((is_signed ? 127 : 255) - zero);
  const __m256 vlo = _mm256_set1_ps(lo), vhi = _mm256_set1_ps(hi), vs = _mm256_set1_ps(scale);
  const __m256i vz = _mm256_set1_epi32(zero);
  const __m256i low = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                       0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 v =
        _mm256_min_ps(_mm256_max_ps(_mm256_div_ps(_mm256_loadu_ps(x + i), vs), vlo), vhi);
    __m256i q = _mm256_shuffle_epi8(_mm256_add_epi32(_mm256_cvtps_epi32(v), vz), low);
    q = _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
    _mm_storel_epi64((__m128i *)(y + i), _mm256_castsi256_si128(q));
  }
  mrt_quantize_loop(x + i, n - i, scale, zero, is_signed, y + i);
}

static void dequantize(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                       float *y) {
  const __m256 vs = _mm256_set1_ps(scale);
  const __m256i vz = _mm256_set1_epi32(zero);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i b = _mm_loadl_epi64((const __m128i *)(x + i));
    const __m256i v = is_signed ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b);
    _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(v, vz)), vs));
  }
  mrt_dequantize_loop(x + i, n - i, scale, zero, is_signed, y + i);
}

static void range(const float *x, int64_t n, float *io_min, float *io_max) {
  __m256 lo = _mm256_set1_ps(*io_min), hi = _mm256_set1_ps(*io_max);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) { /* min and max give the second operand for NaN */
    const __m256 v = _mm256_loadu_ps(x + i);
    lo = _mm256_min_ps(v, lo);
    hi = _mm256_max_ps(v, hi);
  }
  float l[8], h[8];
  _mm256_storeu_ps(l, lo);
  _mm256_storeu_ps(h, hi);
  mrt_range_loop(l, 8, io_min, io_max);
  mrt_range_loop(h, 8, io_min, io_max);
  mrt_range_loop(x + i, n - i, io_min, io_max);
}

const mrt_qgemm_kernels mrt_qgemm_avx2 = {.name = "avx2",
                                          .macs_per_ns = 60,
                                          .shifts = true,
                                          .max_rows = ROWS,
                                          .nr = COLS,
                                          .split = 2,
                                          .wide = {0, tile_1, tile_2, tile_3},
                                          .quantize = quantize,
                                          .dequantize = dequantize,
                                          .range = range};
