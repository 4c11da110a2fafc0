/* Block-quantised products a column at a time. */
#include "provider/cpu/nbits/nbits.h"
#include "provider/cpu/simd/simd_scalar.h"

enum { SPAN = 1 };
typedef int32_t vi;

INLINE vi v_seti(int32_t x) { return x; }
INLINE vf v_to_f(vi x) { return (vf)x; }
INLINE vi v_to_i(vf x) { return (vi)lrintf(x); }
INLINE vi load_words(const uint32_t *p) { return (vi)*p; }
INLINE vi load_value(const uint32_t *p, const int bits, const int j) {
  (void)bits, (void)j;
  return load_words(p);
}
INLINE vf nibble(vi w, const int j, const bool half) {
  return (vf)((uint32_t)w >> 4 * j & 15) - (half ? 8.0f : 0.0f);
}
INLINE vf byte(vi w, const int j, const bool half) {
  return (vf)((uint32_t)w >> 8 * j & 255) - (half ? 128.0f : 0.0f);
}
INLINE vi dot8(vi acc, vi w, vi a) {
  for (int i = 0; i < 4; ++i)
    acc += (int32_t)((uint32_t)w >> 8 * i & 255) * (int8_t)((uint32_t)a >> 8 * i & 255);
  return acc;
}
INLINE vi dot4(vi acc, vi w, vi a) { return dot8(acc, w, a); }

#define TABLE      mrt_nbits_scalar
#define TABLE_NAME "scalar"
#include "provider/cpu/nbits/nbits.inl"
