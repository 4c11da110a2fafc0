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

/* Sixteen bytes a row at a time: packing with saturation does the clamping, zero points are added
 * to 16-bit numbers. Everything else in plain C. */
enum { PLAIN, SHIFTED, SUM }; /* SUM: a QLinearAdd behind */
typedef struct byte_store {
  __m256 scale[2], bias[2], low, high, ra, rb;
  __m256i zero, other;
  __m128i lo, hi;
} byte_store;

INLINE __m256i rounded(const byte_store *b, const int32_t *x, __m128i add, const int h,
                       const bool s8, const int kind) {
  const __m256i n = _mm256_loadu_si256((const __m256i *)(x + 8 * h));
  __m256 v = kind == SHIFTED ? _mm256_castsi256_ps(n) : _mm256_cvtepi32_ps(n);
  v = _mm256_fmadd_ps(v, b->scale[h], b->bias[h]);
  if (kind == SUM) {
    if (h) add = _mm_unpackhi_epi64(add, add);
    const __m256i o = s8 ? _mm256_cvtepi8_epi32(add) : _mm256_cvtepu8_epi32(add);
    const __m256 z = _mm256_cvtepi32_ps(_mm256_sub_epi32(o, b->other));
    v = _mm256_round_ps(_mm256_min_ps(_mm256_max_ps(v, b->low), b->high), 8);
    v = _mm256_fmadd_ps(v, b->ra, _mm256_mul_ps(z, b->rb));
  }
  return _mm256_cvtps_epi32(v);
}
INLINE __m128i bytes_of(const byte_store *b, const int32_t *x, __m128i add, const bool s8,
                        const int kind) {
  const __m256i q = _mm256_packs_epi32(rounded(b, x, add, 0, s8, kind),
                                       rounded(b, x, add, 1, s8, kind)),
                p = _mm256_adds_epi16(_mm256_permute4x64_epi64(q, 0xd8), b->zero);
  const __m128i low = _mm256_castsi256_si128(p), high = _mm256_extracti128_si256(p, 1);
  if (s8) return _mm_min_epi8(_mm_max_epi8(_mm_packs_epi16(low, high), b->lo), b->hi);
  return _mm_min_epu8(_mm_max_epu8(_mm_packus_epi16(low, high), b->lo), b->hi);
}
INLINE byte_store byte_store_of(const mrt_qtile *t, const int kind) {
  const int32_t zero = kind == SUM ? t->add_out : t->zero;
  const float lo = kind == SUM ? t->add_lo : t->lo, hi = kind == SUM ? t->add_hi : t->hi;
  byte_store b = {.zero = _mm256_set1_epi16((int16_t)zero),
                  .lo = _mm_set1_epi8((char)((int)__builtin_rintf(lo) + zero)),
                  .hi = _mm_set1_epi8((char)((int)__builtin_rintf(hi) + zero))};
  for (int h = 0; h < 2; ++h) {
    b.scale[h] = _mm256_loadu_ps(t->scale + 8 * h);
    b.bias[h] = kind == SHIFTED ? _mm256_mul_ps(b.scale[h], _mm256_set1_ps(-0x1p23f))
                                : _mm256_loadu_ps(t->bias + 8 * h);
  }
  if (kind == SUM) {
    b.low = _mm256_set1_ps(t->lo), b.high = _mm256_set1_ps(t->hi);
    b.ra = _mm256_set1_ps(t->ra), b.rb = _mm256_set1_ps(t->rb);
    b.other = _mm256_set1_epi32(t->add_zero);
  }
  return b;
}
INLINE void store_bytes(const mrt_qtile *t, const int32_t *raw, const bool s8, const int kind) {
  const byte_store b = byte_store_of(t, kind);
  const size_t cols = (size_t)t->cols;
  for (int s = 0; s < t->n_segments; ++s) {
    const mrt_qsegment *g = &t->segments[s];
    const int32_t *x = raw + g->first * COLS;
    uint8_t *y = (uint8_t *)t->c + g->at, part[COLS] = {0};
    const uint8_t *add = kind == SUM ? t->add + g->at : part;
    for (int k = 0; k < g->count; ++k, x += COLS, y += t->c_row) {
      const bool whole = cols == COLS;
      if (kind == SUM && !whole) __builtin_memcpy(part, add, cols);
      const __m128i o = _mm_loadu_si128((const __m128i *)(whole ? add : part)),
                    p = bytes_of(&b, x, o, s8, kind);
      if (kind == SUM) add += t->c_row;
      _mm_storeu_si128((__m128i *)(whole ? y : part), p);
      if (!whole) __builtin_memcpy(y, part, cols);
    }
  }
}
static void finish(const mrt_qtile *t, const int32_t *raw) {
  const bool s8 = t->out == MRT_Q_S8;
  const bool sums = !t->shifted && __builtin_fabsf(t->ra) < 1e6f && __builtin_fabsf(t->rb) < 1e6f;
  if ((!s8 && t->out != MRT_Q_U8) || t->b_zero || !t->in_range || (t->add && !sums))
    mrt_qtile_finish(t, raw, COLS);
  else if (t->add)
    s8 ? store_bytes(t, raw, true, SUM) : store_bytes(t, raw, false, SUM);
  else if (t->shifted) /* order is all that is right below the zero point */
    s8 ? store_bytes(t, raw, true, SHIFTED) : store_bytes(t, raw, false, SHIFTED);
  else
    s8 ? store_bytes(t, raw, true, PLAIN) : store_bytes(t, raw, false, PLAIN);
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
