/* The two rows of qdepth.h. The dot product is inline assembly: with the intrinsic gcc 12 copies
 * and spills the accumulators. */
#include <immintrin.h>

#include "provider/cpu/qgemm/qdepth.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i dot(__m512i acc, __m512i x, const int8_t *w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "m"(*(const __m512i *)w));
  return acc;
}

typedef struct finish {
  __m512i zero, lo, hi;
} finish;

INLINE __m512i scaled(__m512i x, const float *scale) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(x), _mm512_loadu_ps(scale)));
}
INLINE void store(const finish *f, const __m512i acc[4], const float *scale, uint8_t *y,
                  __mmask64 m, const bool is_signed) {
  __m512i p = _mm512_packs_epi32(scaled(acc[0], scale), scaled(acc[1], scale + 16));
  __m512i q = _mm512_packs_epi32(scaled(acc[2], scale + 32), scaled(acc[3], scale + 48));
  p = _mm512_adds_epi16(p, f->zero);
  q = _mm512_adds_epi16(q, f->zero);
  if (is_signed)
    p = _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(p, q), f->lo), f->hi);
  else
    p = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(p, q), f->lo), f->hi);
  _mm512_mask_storeu_epi8(y, m, p);
}

INLINE void rows(const mrt_qdepth_rows *r, const int64_t quads, const bool is_signed) {
  const finish f = {_mm512_set1_epi16((int16_t)r->zero), _mm512_set1_epi8((char)r->lo),
                    _mm512_set1_epi8((char)r->hi)};
  const uint8_t *const *tap = r->tap;
  const int8_t *w = r->w;
  int64_t block = 0;
  for (int64_t at = 0; at < r->bytes; at += 64) {
    const int32_t *col = r->col + block * 64;
    const float *scale = r->scale + block * 64;
    __m512i a[4], b[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) a[v] = b[v] = _mm512_loadu_si512(col + 16 * v);
#pragma GCC unroll 4
    for (int64_t q = 0; q < quads; ++q, w += 512) {
      const __m512i t0 = _mm512_loadu_si512(tap[4 * q] + at),
                    t1 = _mm512_loadu_si512(tap[4 * q + 1] + at),
                    t2 = _mm512_loadu_si512(tap[4 * q + 2] + at),
                    t3 = _mm512_loadu_si512(tap[4 * q + 3] + at);
      const __m512i low = _mm512_unpacklo_epi8(t0, t1), high = _mm512_unpackhi_epi8(t0, t1),
                    low2 = _mm512_unpacklo_epi8(t2, t3), high2 = _mm512_unpackhi_epi8(t2, t3);
      const __m512i x0 = _mm512_unpacklo_epi16(low, low2), x1 = _mm512_unpackhi_epi16(low, low2),
                    x2 = _mm512_unpacklo_epi16(high, high2),
                    x3 = _mm512_unpackhi_epi16(high, high2);
      a[0] = dot(a[0], x0, w);
      a[1] = dot(a[1], x1, w + 64);
      a[2] = dot(a[2], x2, w + 128);
      a[3] = dot(a[3], x3, w + 192);
      b[0] = dot(b[0], x0, w + 256);
      b[1] = dot(b[1], x1, w + 320);
      b[2] = dot(b[2], x2, w + 384);
      b[3] = dot(b[3], x3, w + 448);
    }
    const int64_t left = r->bytes - at;
    const __mmask64 m = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
    store(&f, a, scale, r->y[0] + at, m, is_signed);
    store(&f, b, scale, r->y[1] + at, m, is_signed);
    if (++block == r->period) block = 0, w = r->w;
  }
}

void mrt_qdepth_rows_avx512vnni(const mrt_qdepth_rows *r) {
  if (r->quads == 3)
    r->is_signed ? rows(r, 3, true) : rows(r, 3, false);
  else if (r->quads == 4)
    r->is_signed ? rows(r, 4, true) : rows(r, 4, false);
  else
    r->is_signed ? rows(r, r->quads, true) : rows(r, r->quads, false);
}
