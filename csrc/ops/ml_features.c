/* Binarizer and ArrayFeatureExtractor (ai.onnx.ml). */
#include "ops/common.h"

static mrt_status *binarizer_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  double threshold = mrt_node_float(c->node, "threshold");
  if (!y) return NULL;
  mrt_dtype d = (mrt_dtype)x->dtype;
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i)
    mrt_elem_set_f64(d, y->data, i, mrt_elem_get_f64(d, x->data, i) > threshold);
  return NULL;
}

/* Columns at indices of the last dim; a vector counts as one row. */
static mrt_status *extract_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), ri = mrt_infer_rank(c, 1);
  const mrt_expr *dims[MRT_MAX_RANK], *n = mrt_expr_const(c->sym, 1);
  if (rank < 1 || ri < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  for (int i = 0; i < ri; ++i) n = mrt_expr_mul(c->sym, n, mrt_infer_dim(c, 1, i));
  dims[0] = mrt_expr_const(c->sym, 1);
  for (int i = 0; i < rank - 1; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  int k = rank == 1 ? 2 : rank;
  dims[k - 1] = n;
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), k, dims);
}
static mrt_status *extract_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *idx = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  if (x->rank < 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid argument: X input has empty dimensions.");
  int64_t cols = x->dims[x->rank - 1], n = mrt_tensor_count(idx),
          rows = mrt_dims_product(x->dims, 0, x->rank - 1);
  for (int64_t k = 0; k < n; ++k)
    if (mrt_index_at(idx, k) < 0 || mrt_index_at(idx, k) >= cols)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "Invalid Y argument: index is out of range: Y[%lld] (%lld) >=%lld",
                     (long long)k, (long long)mrt_index_at(idx, k), (long long)cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < n; ++k)
      memcpy((char *)y->data + (size_t)(r * n + k) * size,
             (const char *)x->data + (size_t)(r * cols + mrt_index_at(idx, k)) * size, size);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
MRT_OP_IN(ml, Binarizer) = {.domain = "ai.onnx.ml",
                            .name = "Binarizer",
                            .doc = "x > threshold ? 1 : 0",
                            .in = "X:T",
                            .out = "Y:T",
                            .types = "T=float,double,int64,int32",
                            .attrs = "threshold:float=0",
                            .versions = versions,
                            .inplace = {{1, 0}},
                            .infer = mrt_infer_same_shape,
                            .run = binarizer_run};
MRT_OP_IN(ml, ArrayFeatureExtractor) = {.domain = "ai.onnx.ml",
                                        .name = "ArrayFeatureExtractor",
                                        .doc = "columns at indices",
                                        .in = "X:T, Y:int64",
                                        .out = "Z:T",
                                        .types = "T=float,double,int64,int32,string",
                                        .versions = versions,
                                        .infer = extract_infer,
                                        .run = extract_run};
