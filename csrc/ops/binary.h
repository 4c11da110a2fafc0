/* Element-wise functions of two broadcast tensors, as rows for one element type: what operators
 * outside binary.c need to be one of them. */
#ifndef MRT_OPS_BINARY_H
#define MRT_OPS_BINARY_H

#include "ops/common.h"

/* out[i] = f(a[i * sa], b[i * sb]) for i in [0, n). */
typedef void (*mrt_row2)(const void *a, int64_t sa, const void *b, int64_t sb, void *out,
                         int64_t n);
/* Inputs 0 and 1 of the node; table by element type (half types go through MRT_FLOAT's). */
mrt_status *mrt_run_pair(mrt_kctx *c, const mrt_row2 *table) MRT_MUST_CHECK;

/* Upgrade of the forms before opset 7: `axis` becomes an Unsqueeze of the second operand. */
mrt_status *mrt_legacy_broadcast(mrt_node *node) MRT_MUST_CHECK;

/* Symbolic contents of integer arithmetic; fold gives NULL where it cannot say. */
typedef const mrt_expr *(*mrt_fold2)(mrt_symtab *t, const mrt_expr *a, const mrt_expr *b);
mrt_status *mrt_infer_pair(mrt_infer *c, mrt_fold2 fold) MRT_MUST_CHECK;

#endif
