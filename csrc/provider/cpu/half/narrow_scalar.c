/* Narrow weights a column at a time. */
#include "provider/cpu/half/narrow.h"
#include "provider/cpu/simd/simd_scalar.h"
#include "tensor/dtype.h"

enum { SPAN = 1, TILE = 4 };

INLINE vf load_bf16(const uint16_t *p) { return mrt_bf16_to_f32(*p); }
INLINE vf load_f16(const uint16_t *p) { return mrt_f16_to_f32(*p); }
INLINE vf load_s8(const int8_t *p) { return (vf)*p; }
INLINE vf load_first(const uint16_t *p) { return mrt_bf16_to_f32(p[0]); }
INLINE vf load_second(const uint16_t *p) { return mrt_bf16_to_f32(p[1]); }

#define TABLE      mrt_narrow_scalar
#define TABLE_NAME "scalar"
#include "provider/cpu/half/narrow.inl"
