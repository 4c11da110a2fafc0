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
  int64_t total, parts, piece;
  void (*fn)(void *arg, int64_t begin, int64_t end);
  void *arg;
} mrt_range_job;
/* Runs fn over [0, total) cut by size; ns: cost of one unit. */
void mrt_par_range(const mrt_par *par, int64_t total, double ns,
                   void (*fn)(void *arg, int64_t begin, int64_t end), void *arg);

/* Element i of `data` from a text, all of which must be one number that the type can hold. */
mrt_status *mrt_elem_parse(const char *op, const mrt_string *text, mrt_dtype to, void *data,
                           int64_t i) MRT_MUST_CHECK;
mrt_status *mrt_no_type(const char *op, int dtype);

/* Bytes of one element, for code that only moves data; types narrower than a byte are refused. */
mrt_status *mrt_elem_size(const mrt_kctx *c, const mrt_tensor *t, size_t *out) MRT_MUST_CHECK;
/* Packed elements (int4, uint2, ...). Runs a kernel that moves bytes on copies of the packed inputs
 * with one element per byte, and packs what it gives. The kernel must not ask for scratch. */
static inline bool mrt_is_packed(const mrt_tensor *t) {
  return t && mrt_dtype_bits((mrt_dtype)t->dtype) < 8;
}
mrt_status *mrt_run_unpacked(mrt_kctx *c, mrt_status *(*run)(mrt_kctx *c)) MRT_MUST_CHECK;
/* Element i of an index tensor (int32 or int64). */
static inline int64_t mrt_index_at(const mrt_tensor *t, int64_t i) {
  return t->dtype == MRT_INT32 ? ((const int32_t *)t->data)[i] : ((const int64_t *)t->data)[i];
}
/* All of an index tensor must lie in [-dim, dim); the error is ONNX Runtime's. */
mrt_status *mrt_check_indices(const mrt_tensor *t, int64_t dim) MRT_MUST_CHECK;
/* A 0-d or one-element integer tensor. */
mrt_status *mrt_read_int(const mrt_tensor *t, const char *what, int64_t *out) MRT_MUST_CHECK;
/* The coordinates of row number i over n dims, and the step to the next row. */
static inline void mrt_unravel(int64_t i, int n, const int64_t *dims, int64_t *index) {
  for (int d = n - 1; d >= 0; --d) {
    index[d] = i % dims[d];
    i /= dims[d];
  }
}
static inline void mrt_next_index(int n, const int64_t *dims, int64_t *index) {
  for (int d = n - 1; d >= 0 && ++index[d] == dims[d]; --d) index[d] = 0;
}

#endif
