/* Narrow weights in AVX-512. */
#include "provider/cpu/half/narrow.h"
#include "provider/cpu/simd/simd_avx512.h"

enum { SPAN = 2, TILE = 8 };

INLINE vf load_bf16(const uint16_t *p) {
  const __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
INLINE vf load_f16(const uint16_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf load_s8(const int8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vf load_first(const uint16_t *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
INLINE vf load_second(const uint16_t *p) {
  const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), high));
}

#define TABLE      mrt_narrow_avx512
#define TABLE_NAME "avx512"
#include "provider/cpu/half/narrow.inl"
