/* Block-quantised products in AVX-512 with its dot product of bytes. */
#include "provider/cpu/nbits/nbits512.inl"

INLINE vi dot4(vi acc, vi w, vi a) {
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)a);
}
INLINE vi dot8(vi acc, vi w, vi a) { return dot4(acc, w, a); }

#define TABLE      mrt_nbits_avx512vnni
#define TABLE_NAME "avx512vnni"
#include "provider/cpu/nbits/nbits.inl"
