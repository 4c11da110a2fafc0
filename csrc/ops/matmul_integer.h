/* Products of 8-bit integers under their five operator names: which input plays which part. */
#ifndef MRT_OPS_MATMUL_INTEGER_H
#define MRT_OPS_MATMUL_INTEGER_H

#include "ops/matmul.h"
#include "ops/qlinear.h"

/* Input numbers; -1: the operator has no such input. y = requantise or scale or leave
 * sum_k (a - a_zero)(b - b_zero): to integers where y_scale is present, to float where b_scale is,
 * else as int32. bias is float, or int32 and added to the sum (QGemm). */
typedef struct mrt_iproduct_parts {
  const char *op;
  int8_t a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, bias;
  bool dynamic; /* a is float: quantised to uint8 over its own range first */
} mrt_iproduct_parts;
const mrt_iproduct_parts *mrt_iproduct_find(const char *op_type);

typedef struct mrt_iproduct {
  const mrt_tensor *a, *a_scale, *a_zero, *b, *b_scale, *b_zero, *y_scale, *y_zero, *bias;
  mrt_tensor *y;
  bool trans_a, trans_b;
  float alpha;
  int32_t lo, hi; /* of y, where it is quantised */
  mrt_matmul_dims d;
} mrt_iproduct;
/* Fills in the tensors of this call and checks shapes and counts of zero points and scales. */
mrt_status *mrt_iproduct_read(mrt_kctx *c, const mrt_iproduct_parts *parts,
                              mrt_iproduct *p) MRT_MUST_CHECK;
/* Factor of column j: a_scale * b_scale[j] * alpha, over y_scale where there is one. */
float mrt_iproduct_scale(const mrt_iproduct *p, int64_t j);
mrt_status *mrt_iproduct_infer(mrt_infer *c) MRT_MUST_CHECK;
mrt_status *mrt_iproduct_gemm_infer(mrt_infer *c) MRT_MUST_CHECK; /* QGemm */
/* The reference kernel. */
mrt_status *mrt_iproduct_run(mrt_kctx *c) MRT_MUST_CHECK;

#endif
