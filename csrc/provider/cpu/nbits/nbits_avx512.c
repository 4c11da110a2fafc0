/* Block-quantised products in AVX-512 without its dot product of bytes. */
#include "provider/cpu/nbits/nbits512.inl"

INLINE vi dot4(vi acc, vi w, vi a) {
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)a);
  return acc + (vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
INLINE vi dot8(vi acc, vi w, vi a) { /* by halves: pairs of whole bytes overflow 16 bits */
  const vi low = v_seti(0x0f0f0f0f);
  return dot4(acc, w & low, a) + (dot4(v_seti(0), w >> 4 & low, a) << 4);
}

#define TABLE      mrt_nbits_avx512
#define TABLE_NAME "avx512"
#include "provider/cpu/nbits/nbits.inl"
