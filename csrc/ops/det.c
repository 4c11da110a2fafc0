/* Det: determinants of square matrices, by elimination with partial pivoting in double. */
#include "ops/common.h"

static mrt_status *det_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK], *unused;
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank < 2) return MRT_ERR(MRT_FAIL, "input of rank %d, at least 2 is needed", rank);
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, rank - 1), mrt_infer_dim(c, 0, rank - 2),
                             "rows and columns", &unused));
  for (int i = 0; i < rank - 2; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank - 2, dims);
}
static double determinant(double *a, int64_t n) {
  double det = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t p = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (fabs(a[i * n + k]) > fabs(a[p * n + k])) p = i;
    if (a[p * n + k] == 0) return 0;
    for (int64_t i = 0; p != k && i < n; ++i) {
      double t = a[k * n + i];
      a[k * n + i] = a[p * n + i];
      a[p * n + i] = t;
    }
    det *= p == k ? a[k * n + k] : -a[k * n + k];
    for (int64_t i = k + 1; i < n; ++i) {
      double f = a[i * n + k] / a[k * n + k];
      for (int64_t m = k; m < n; ++m) a[i * n + m] -= f * a[k * n + m];
    }
  }
  return det;
}
static mrt_status *det_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  double *a;
  if (!y) return NULL;
  int64_t n = x->dims[x->rank - 1], total = mrt_tensor_count(y);
  if (x->dims[x->rank - 2] != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Det: matrices of %lld rows and %lld columns",
                   (long long)x->dims[x->rank - 2], (long long)n);
  MRT_TRY(mrt_scratch(c, (size_t)(n * n) * sizeof *a + 1, (void **)&a));
  for (int64_t i = 0; i < total; ++i) {
    for (int64_t k = 0; k < n * n; ++k)
      a[k] = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, i * n * n + k);
    mrt_elem_set_f64((mrt_dtype)y->dtype, y->data, i, determinant(a, n));
  }
  return NULL;
}
static const mrt_op_version det_v[] = {{11}, {22}, {0}};
MRT_OP(Det) = {.domain = "",
               .name = "Det",
               .doc = "determinant",
               .in = "X:T",
               .out = "Y:T",
               .types = "T=" MRT_T_FLOATS,
               .versions = det_v,
               .infer = det_infer,
               .run = det_run};
