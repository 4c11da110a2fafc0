/* Working copies of reference kernels: a kernel is written for float and double (a template over T)
 * and the other types go through one of these. */
#ifndef MRT_OPS_WORK_H
#define MRT_OPS_WORK_H

#include "ops/common.h"

/* MRT_DOUBLE for double and integers of 32 bits and more, else MRT_FLOAT. */
mrt_dtype mrt_work_type(mrt_dtype t);
/* *out = t itself if it has type `work`, else a converted copy in scratch memory, described by
 * *view. NULL stays NULL. work: MRT_FLOAT or MRT_DOUBLE. */
mrt_status *mrt_work_in(mrt_kctx *c, const mrt_tensor *t, mrt_dtype work, mrt_tensor *view,
                        const mrt_tensor **out) MRT_MUST_CHECK;
/* The same for an output: uninitialised scratch of the same shape if the types differ. */
mrt_status *mrt_work_out(mrt_kctx *c, mrt_tensor *t, mrt_dtype work, mrt_tensor *view,
                         mrt_tensor **out) MRT_MUST_CHECK;
/* Converts what was computed into the output (nothing to do if they are the same). NULL is fine. */
void mrt_work_done(const mrt_tensor *done, mrt_tensor *t);
/* Scratch for n elements of `size` bytes; the product is checked. */
mrt_status *mrt_scratch_array(mrt_kctx *c, int64_t n, size_t size, void *out) MRT_MUST_CHECK;

#endif
