/* What If, Loop and Scan share. */
#ifndef MRT_OPS_CONTROL_H
#define MRT_OPS_CONTROL_H

#include "ops/common.h"

/* What two types agree on: a dim they differ in is unknown. NULL if nothing is known of either. */
const mrt_type *mrt_type_join(mrt_infer *c, const mrt_type *a, const mrt_type *b);

/* Types of values that a body carries from one iteration to the next: widens in[first..first+n)
 * until the body, given them, returns nothing more general at out[from..from+n). in: types of all
 * body inputs (NULL: as declared); out: [outputs of the body]. Dims that only the body knows are
 * dropped from the other outputs. */
mrt_status *mrt_infer_carried(mrt_infer *c, mrt_graph *body, int n_in, const mrt_type **in,
                              int first, int n, int from, const mrt_type **out) MRT_MUST_CHECK;
/* Type of values of `type` stacked along a new dim at `axis` (negative: counted from the end). */
mrt_status *mrt_type_stacked(mrt_infer *c, const mrt_type *type, int64_t axis,
                             const mrt_expr *count, const mrt_type **out) MRT_MUST_CHECK;
/* Type of a slice: without dim `axis`. NULL for NULL or unknown rank. */
const mrt_type *mrt_type_sliced(mrt_infer *c, const mrt_type *type, int axis);

#endif
