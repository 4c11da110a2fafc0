/* Narrow weights in AVX2 and F16C. */
#include "provider/cpu/half/narrow.h"
#include "provider/cpu/simd/simd_avx2.h"

enum { SPAN = 2, TILE = 4 };

INLINE vf load_bf16(const uint16_t *p) {
  const __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}
INLINE vf load_f16(const uint16_t *p) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE vf load_s8(const int8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE vf load_first(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}
INLINE vf load_second(const uint16_t *p) {
  const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), high));
}

#define TABLE      mrt_narrow_avx2
#define TABLE_NAME "avx2"
#include "provider/cpu/half/narrow.inl"
