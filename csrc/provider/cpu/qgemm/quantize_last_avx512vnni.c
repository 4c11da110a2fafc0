/* Sixteen pixels at a time: the bytes of a pixel are put together in a 32-bit number, then the
 * numbers lose their upper bytes. */
#include "provider/cpu/qgemm/quantize_last.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

typedef struct factors {
  __m512 scale, inverse, lo, hi, big;
  __m512i zero;
  bool plain;
} factors;

/* x / scale rounded correctly: x * (1 / scale), corrected by its remainder; where that is no small
 * number (NaN, infinities, scales out of the ordinary), division itself. */
INLINE __m512i quantized(const factors *f, __m512 x, __mmask16 m) {
  const __m512 guess = _mm512_mul_ps(x, f->inverse);
  const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(guess), f->big, _CMP_LT_OQ);
  __m512 v = _mm512_fmadd_ps(_mm512_fnmadd_ps(guess, f->scale, x), f->inverse, guess);
  if (__builtin_expect(!f->plain || (small & m) != m, 0)) v = _mm512_div_ps(x, f->scale);
  const __m512i q = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, f->lo), f->hi));
  return _mm512_and_si512(_mm512_add_epi32(q, f->zero), _mm512_set1_epi32(0xff));
}

INLINE void store(__m512i v, const int channels, int n, uint8_t *y) {
  const __m512i three =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i join = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
  const int bytes = n * channels;
  const __mmask64 m = bytes < 64 ? ((__mmask64)1 << bytes) - 1 : ~(__mmask64)0;
  if (channels == 1) v = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(v));
  if (channels == 2) v = _mm512_castsi256_si512(_mm512_cvtepi32_epi16(v));
  if (channels == 3) v = _mm512_permutexvar_epi32(join, _mm512_shuffle_epi8(v, three));
  _mm512_mask_storeu_epi8(y, m, v);
}

INLINE void pixels(const mrt_quantize_last *q, const factors *f, const int channels, int64_t p0,
                   int64_t p1) {
  for (int64_t p = p0; p < p1; p += 16) {
    const int n = p1 - p < 16 ? (int)(p1 - p) : 16;
    const __mmask16 m = (__mmask16)((1u << n) - 1);
    __m512i v = quantized(f, _mm512_maskz_loadu_ps(m, q->x + p), m);
    if (channels > 1)
      v = _mm512_or_si512(
          v, _mm512_slli_epi32(quantized(f, _mm512_maskz_loadu_ps(m, q->x + q->area + p), m), 8));
    if (channels > 2)
      v = _mm512_or_si512(
          v,
          _mm512_slli_epi32(quantized(f, _mm512_maskz_loadu_ps(m, q->x + 2 * q->area + p), m), 16));
    if (channels > 3)
      v = _mm512_or_si512(
          v,
          _mm512_slli_epi32(quantized(f, _mm512_maskz_loadu_ps(m, q->x + 3 * q->area + p), m), 24));
    store(v, channels, n, q->y + p * channels);
  }
}

void mrt_quantize_last_avx512vnni(const mrt_quantize_last *q, int64_t p0, int64_t p1) {
  const __m512 scale = _mm512_set1_ps(q->scale);
  const factors f = {.scale = scale,
                     .inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), scale),
                     .lo = _mm512_set1_ps((float)((q->is_signed ? -128 : 0) - q->zero)),
                     .hi = _mm512_set1_ps((float)((q->is_signed ? 127 : 255) - q->zero)),
                     .big = _mm512_set1_ps(1e6f),
                     .zero = _mm512_set1_epi32(q->zero),
                     .plain = q->scale > 1e-30f && q->scale < 1e30f};
  if (q->channels == 1)
    pixels(q, &f, 1, p0, p1);
  else if (q->channels == 2)
    pixels(q, &f, 2, p0, p1);
  else if (q->channels == 3)
    pixels(q, &f, 3, p0, p1);
  else
    pixels(q, &f, 4, p0, p1);
}
