/* Block-quantised products in AVX-512: 16 or 32 weights at a time become floats in registers; the
 * scale of a block multiplies a register of partial sums once per block. */
#include <immintrin.h>
#include <string.h>

#include "provider/cpu/nbits/nbits.h"

#define INLINE static inline __attribute__((always_inline))

/* Sixteen 4-bit weights from 8 bytes, in order. */
INLINE __m512 load4(const uint8_t *q) {
  const __m128i b = _mm_loadl_epi64((const __m128i *)q), low = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(b, low), odd = _mm_and_si128(_mm_srli_epi16(b, 4), low);
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(even, odd)));
}
INLINE __m512 load8(const uint8_t *q) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q)));
}
INLINE __m512 load(const uint8_t *q, const int bits) { return bits == 4 ? load4(q) : load8(q); }

/* The last, incomplete sixteen of a row: B is padded to whole blocks, A is not. */
INLINE __mmask16 mask_of(int64_t n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }

INLINE void dot_rows(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                     int64_t block, const float *a, int64_t lda, const int rows, float *y,
                     const int bits) {
  __m512 sum[MRT_NBITS_ROWS];
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) sum[r] = _mm512_setzero_ps();
  __m512 zero = _mm512_set1_ps((float)(1 << (bits - 1)));
  for (int64_t k0 = 0; k0 < k; k0 += block, ++scales, q += block * bits / 8) {
    const int64_t end = k - k0 < block ? k - k0 : block;
    const __m512 scale = _mm512_set1_ps(*scales);
    if (zeros) zero = _mm512_set1_ps(*zeros++);
    _mm_prefetch((const char *)(q + 1024), _MM_HINT_T0);
    __m512 part[MRT_NBITS_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) part[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < end; i += 16) {
      const __m512 w = _mm512_sub_ps(load(q + i * bits / 8, bits), zero);
      const __mmask16 m = mask_of(end - i);
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r)
        part[r] = _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(m, a + r * lda + k0 + i), part[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) sum[r] = _mm512_fmadd_ps(part[r], scale, sum[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) y[r] = _mm512_reduce_add_ps(sum[r]);
}

INLINE void dot(const uint8_t *q, const float *scales, const float *zeros, int64_t k, int64_t block,
                const float *a, int64_t lda, int rows, float *y, const int bits) {
  switch (rows) {
    case 1: dot_rows(q, scales, zeros, k, block, a, lda, 1, y, bits); break;
    case 2: dot_rows(q, scales, zeros, k, block, a, lda, 2, y, bits); break;
    case 3: dot_rows(q, scales, zeros, k, block, a, lda, 3, y, bits); break;
    default: dot_rows(q, scales, zeros, k, block, a, lda, 4, y, bits); break;
  }
}

INLINE void expand(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                   int64_t block, float *out, const int bits) {
  __m512 zero = _mm512_set1_ps((float)(1 << (bits - 1)));
  for (int64_t k0 = 0; k0 < k; k0 += block, ++scales, q += block * bits / 8) {
    const int64_t end = k - k0 < block ? k - k0 : block;
    const __m512 scale = _mm512_set1_ps(*scales);
    if (zeros) zero = _mm512_set1_ps(*zeros++);
    for (int64_t i = 0; i < end; i += 16)
      _mm512_mask_storeu_ps(
          out + k0 + i, mask_of(end - i),
          _mm512_mul_ps(_mm512_sub_ps(load(q + i * bits / 8, bits), zero), scale));
  }
}

static void dot4(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                 int64_t block, const float *a, int64_t lda, int rows, float *y) {
  dot(q, scales, zeros, k, block, a, lda, rows, y, 4);
}
static void dot8(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                 int64_t block, const float *a, int64_t lda, int rows, float *y) {
  dot(q, scales, zeros, k, block, a, lda, rows, y, 8);
}
static void expand4(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                    int64_t block, float *out) {
  expand(q, scales, zeros, k, block, out, 4);
}
static void expand8(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                    int64_t block, float *out) {
  expand(q, scales, zeros, k, block, out, 8);
}

const mrt_nbits_kernels mrt_nbits_avx512 = {"avx512", dot4, dot8, expand4, expand8};
