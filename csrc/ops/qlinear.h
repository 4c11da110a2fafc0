/* Element-wise operators on quantised numbers: what reference and vector kernels share. */
#ifndef MRT_OPS_QLINEAR_H
#define MRT_OPS_QLINEAR_H

#include "ops/qsum.h"
#include "ops/quant.h"

/* QLinearAdd, QLinearMul: c = a (op) b, all quantised. With a' = a - a_zero, b' = b - b_zero:
 *   add: a' * ra + b' * rb,   mul: a' * b' * ra,   then rounded, + c_zero, clamped to [lo, hi].
 * The sum is mrt_qsum in all kernels. */
typedef struct mrt_qbinary_params {
  bool mul;
  int32_t a_zero, b_zero, c_zero, lo, hi;
  float ra, rb;
} mrt_qbinary_params;
/* Reads scales, zero points and, for macart's forms, the attributes lo and hi of this call. */
mrt_status *mrt_qbinary_read(const mrt_kctx *c, mrt_qbinary_params *p) MRT_MUST_CHECK;
mrt_status *mrt_qbinary_infer(mrt_infer *c) MRT_MUST_CHECK;
mrt_status *mrt_qbinary_run(mrt_kctx *c) MRT_MUST_CHECK; /* the reference kernel */
/* The range of a type, narrowed by attributes lo and hi where the node has them. */
mrt_status *mrt_quant_bounds(const mrt_node *node, mrt_dtype dtype, int32_t *lo,
                             int32_t *hi) MRT_MUST_CHECK;

#endif
