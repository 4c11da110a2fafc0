/* Shapes of matrix products with numpy's broadcasting, for every operator that is one. */
#ifndef MRT_OPS_MATMUL_H
#define MRT_OPS_MATMUL_H

#include "ops/common.h"

/* Output 0 is the product of inputs ia and ib, with this element type. */
mrt_status *mrt_infer_matmul(mrt_infer *c, int ia, int ib, mrt_dtype dtype) MRT_MUST_CHECK;

typedef struct mrt_matmul_dims {
  int64_t m, n, k, batches;
  const int64_t *a_off, *b_off; /* [batches]: first element of each matrix; scratch memory */
} mrt_matmul_dims;
/* a [.., m, k], b [.., k, n] (vectors: m or n is 1), y the allocated product. */
mrt_status *mrt_matmul_read(mrt_kctx *c, const mrt_tensor *a, const mrt_tensor *b,
                            const mrt_tensor *y, mrt_matmul_dims *d) MRT_MUST_CHECK;

#endif
