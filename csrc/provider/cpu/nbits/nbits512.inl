/* What nbits.inl asks for on 512-bit vectors, but for dot4 and dot8. */
#include "provider/cpu/nbits/nbits.h"
#include "provider/cpu/simd/simd_avx512.h"

enum { SPAN = 2 };

INLINE vi load_words(const uint32_t *p) { return (vi)_mm512_loadu_si512(p); }

/* A permutation looks only at the low four bits of a lane: a load from some bytes further on puts
 * every second value there without a shift. Three bytes past the end of a panel are read. Kept in a
 * register, for such loads cross cache lines. */
INLINE vi load_value(const uint32_t *p, const int bits, const int j) {
  __m512i w = _mm512_loadu_si512((const char *)p + (bits == 4 ? j / 2 : 0));
  __asm__("" : "+v"(w));
  return (vi)w;
}
INLINE vf nibble(vi w, const int j, const bool half) {
  const float o = half ? 8.0f : 0.0f;
  const __m512 table = _mm512_setr_ps(0 - o, 1 - o, 2 - o, 3 - o, 4 - o, 5 - o, 6 - o, 7 - o, 8 - o,
                                      9 - o, 10 - o, 11 - o, 12 - o, 13 - o, 14 - o, 15 - o);
  return _mm512_permutexvar_ps((__m512i)(j & 1 ? w >> 4 : w), table);
}
INLINE vf byte(vi w, const int j, const bool half) {
  const vi u = j == 3 ? (vi)_mm512_srli_epi32((__m512i)w, 24) : w >> 8 * j & v_seti(255);
  return v_to_f(u) - v_set(half ? 128.0f : 0.0f);
}
