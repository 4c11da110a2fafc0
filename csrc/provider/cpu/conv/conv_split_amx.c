/* Split convolution on AMX tiles; splitting in AVX-512. conv_split_model.c says what it computes.
 */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/conv/conv_split_simd.inl"

/* The upper halves of x0 and x1, side by side. */
INLINE __m512i upper_halves(__m512i x0, __m512i x1) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(x0, 16), x1);
}

/* Float16 numbers to parts, as split_two: the second is exact. */
INLINE void split_f16(__m512 x0, __m512 x1, uint16_t *dst) {
  const __m512i high = _mm512_set1_epi32((int)0xffff0000u), half = _mm512_set1_epi32(0x8000);
  const __m512i t0 = _mm512_add_epi32((__m512i)x0, half), t1 = _mm512_add_epi32((__m512i)x1, half);
  _mm512_store_si512(dst, upper_halves(t0, t1));
  x0 = _mm512_sub_ps(x0, (__m512)_mm512_and_si512(t0, high));
  x1 = _mm512_sub_ps(x1, (__m512)_mm512_and_si512(t1, high));
  _mm512_store_si512(dst + 1024, upper_halves((__m512i)x0, (__m512i)x1));
}

INLINE void split_pair(const void *raw, const bool f16, uint16_t *dst, int64_t pair) {
  const int64_t group = pair / 32, i = pair % 32 / 2, half = pair % 2;
  const int64_t at = group * 1024 + i * 32 + half * 16, to = half * 512 + i * 32;
  if (f16) {
    const __m256i *x = (const void *)((const uint16_t *)raw + at);
    split_f16(_mm512_cvtph_ps(_mm256_loadu_si256(x)), _mm512_cvtph_ps(_mm256_loadu_si256(x + 32)),
              dst + group * 2048 + to);
  } else {
    const float *x = (const float *)raw + at;
    split_two(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 512), 3, _mm512_loadu_si512(interleave),
              dst + group * 3072 + to, 1024);
  }
}

#include "provider/cpu/conv/conv_split.inl"

const mrt_conv_split_kernels mrt_conv_split_amx = {.name = "amx",
                                                   .gemm = &mrt_gemm_split_amx,
                                                   .few = 4,
                                                   TILE_COSTS,
                                                   .split_line = split_line,
                                                   .split_pairs = split_pairs,
                                                   .multiply = multiply,
                                                   .finish = finish};
