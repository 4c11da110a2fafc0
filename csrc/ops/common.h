/* Helpers of reference kernels. */
#ifndef MRT_OPS_COMMON_H
#define MRT_OPS_COMMON_H

#include <math.h>
#include <string.h>

#include "ir/op.h"

/* y[i] = f(x[i]) for floating types: float and double natively, the others through float blocks.
 * p: parameters of the operator. */
typedef void (*mrt_map_f32)(const float *x, float *y, int64_t n, const double *p);
typedef void (*mrt_map_f64)(const double *x, double *y, int64_t n, const double *p);
mrt_status *mrt_run_map(mrt_kctx *c, mrt_map_f32 f, mrt_map_f64 d, const double *p);

/* Reads an integer tensor (int32, int64, ...) of at most cap elements; *n = count. */
mrt_status *mrt_read_ints(const mrt_tensor *t, int cap, int64_t *out, int *n, const char *what);
/* The axis made non-negative; an error names the operator's rule. */
mrt_status *mrt_fix_axis(int64_t axis, int rank, int *out);
/* Product of dims[from..to). */
int64_t mrt_dims_product(const int64_t *dims, int from, int to);

/* Chunks of a plain range for mrt_par_run: [begin, end) of part `chunk`. */
typedef struct mrt_range_job {
  int64_t total, parts;
  void (*fn)(void *arg, int64_t begin, int64_t end);
  void *arg;
} mrt_range_job;
/* Runs fn over [0, total) cut by size; ns: cost of one unit. */
void mrt_par_range(const mrt_par *par, int64_t total, double ns,
                   void (*fn)(void *arg, int64_t begin, int64_t end), void *arg);

mrt_status *mrt_no_type(const char *op, int dtype);

#endif
