/* Block-quantised products in AVX2. */
#include "provider/cpu/nbits/nbits.h"
#include "provider/cpu/simd/simd_avx2.h"

enum { SPAN = 2 };

INLINE vi load_words(const uint32_t *p) { return (vi)_mm256_loadu_si256((const __m256i *)p); }
INLINE vi load_value(const uint32_t *p, const int bits, const int j) {
  (void)bits, (void)j;
  return load_words(p);
}
INLINE vf nibble(vi w, const int j, const bool half) {
  return v_to_f(w >> 4 * j & v_seti(15)) - v_set(half ? 8.0f : 0.0f);
}
INLINE vf byte(vi w, const int j, const bool half) {
  return v_to_f(w >> 8 * j & v_seti(255)) - v_set(half ? 128.0f : 0.0f);
}
INLINE vi dot4(vi acc, vi w, vi a) {
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)a);
  return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
INLINE vi dot8(vi acc, vi w, vi a) { /* by halves: pairs of whole bytes overflow 16 bits */
  const vi low = v_seti(0x0f0f0f0f);
  return dot4(acc, w & low, a) + (dot4(v_seti(0), w >> 4 & low, a) << 4);
}

#define TABLE      mrt_nbits_avx2
#define TABLE_NAME "avx2"
#include "provider/cpu/nbits/nbits.inl"
