/* What operators of the quantise family share: which scale an element has, and how a number is
 * quantised. */
#ifndef MRT_OPS_QUANT_H
#define MRT_OPS_QUANT_H

#include "ops/common.h"

/* Element (o, a, i) of a tensor [outer, axis, inner] has scale 0 (per tensor), scale a (per axis)
 * or scale (o, a / block, i) of a tensor [outer, blocks, inner]. */
typedef struct mrt_qmap {
  int64_t outer, axis, inner;
  int64_t block, blocks; /* block 0: per axis or per tensor */
  bool per_tensor;
} mrt_qmap;

/* Reads attributes axis and block_size of a QuantizeLinear or DequantizeLinear and checks scale and
 * zero (may be NULL) against x. INVALID_ARGUMENT where shapes do not fit. */
mrt_status *mrt_qmap_read(const mrt_node *node, const mrt_tensor *x, const mrt_tensor *scale,
                          const mrt_tensor *zero, mrt_qmap *out) MRT_MUST_CHECK;
/* The longest run of elements from `at` whose scale index is first + k * step (step 0 or 1). */
int64_t mrt_qmap_run(const mrt_qmap *m, int64_t at, int64_t *first, int *step);

/* Range of an integer type that can be quantised to; false for all others. */
bool mrt_quant_range(mrt_dtype dtype, int32_t *lo, int32_t *hi);
/* round_half_even(x / scale) + zero, clamped to [lo, hi]; NaN gives lo. */
static inline int32_t mrt_quant_value(float x, float scale, int32_t zero, int32_t lo, int32_t hi) {
  float v = rintf(x / scale), a = (float)(lo - zero), b = (float)(hi - zero);
  v = v > a ? v : a;
  v = v < b ? v : b;
  return (int32_t)v + zero;
}
/* Scale and zero point of unsigned 8-bit values that cover [lo, hi] and 0. */
void mrt_quant_params_u8(float lo, float hi, float *scale, int32_t *zero);
/* Element 0 as a number: scales (float kinds) and zero points; `none` when t is NULL. */
float mrt_scalar_f32(const mrt_tensor *t, float none);
int32_t mrt_scalar_i32(const mrt_tensor *t, int32_t none);

#endif
