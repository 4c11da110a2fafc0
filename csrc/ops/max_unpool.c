/* MaxUnpool: values go back to the positions that MaxPool took them from; the rest is 0. */
#include "ops/window.h"

/* Output size along spatial dim i as the window says it. */
static int64_t unpooled(const mrt_window *w, int i, int64_t in) {
  return (in - 1) * w->stride[i] - w->begin[i] - w->end[i] + w->kernel[i];
}
static mrt_status *unpool_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n;
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL};
  mrt_dtype t = mrt_infer_dtype(c, 0);
  mrt_window w;
  if (mrt_infer_has(c, 2)) {
    const mrt_expr *const *size = mrt_infer_ints(c, 2, &n);
    if (!size) return mrt_infer_out(c, 0, t, rank, dims);
    if (rank >= 0 && n != rank) return MRT_ERR(MRT_FAIL, "output_shape has %d elements", n);
    return mrt_infer_out(c, 0, t, n, size);
  }
  if (rank < 0) return mrt_infer_out(c, 0, t, -1, NULL);
  MRT_TRY(mrt_window_read(c->node, rank - 2, NULL, &w));
  dims[0] = mrt_infer_dim(c, 0, 0);
  dims[1] = mrt_infer_dim(c, 0, 1);
  for (int i = 0; i < w.n; ++i)
    dims[i + 2] = mrt_expr_add(
        c->sym,
        mrt_expr_mul(c->sym, mrt_infer_dim(c, 0, i + 2), mrt_expr_const(c->sym, w.stride[i])),
        mrt_expr_const(c->sym, unpooled(&w, i, 0)));
  return mrt_infer_out(c, 0, t, rank, dims);
}
/* Indices count in the shape that the window says; a larger output_shape is filled from its corner,
 * as ONNX's definition does. */
static mrt_status *unpool_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *index = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t dims[MRT_MAX_RANK], total;
  mrt_window w;
  if (!y) return NULL;
  MRT_TRY(mrt_window_read(c->node, x->rank - 2, NULL, &w));
  if (!mrt_shape_equal(x->rank, x->dims, index->rank, index->dims) || y->rank != x->rank)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Index tensor shape should be same as that of the input "
                   "data tensor to unpool.");
  dims[0] = x->dims[0], dims[1] = x->dims[1];
  for (int i = 0; i < w.n; ++i) dims[i + 2] = unpooled(&w, i, x->dims[i + 2]);
  MRT_TRY(mrt_shape_count(x->rank, dims, &total));
  for (int d = 0; d < y->rank; ++d)
    if (y->dims[d] < dims[d])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "MaxUnpool: output_shape is too small");
  memset(y->data, 0, y->bytes);
  int64_t n = mrt_tensor_count(x), size = mrt_dtype_bits((mrt_dtype)x->dtype) / 8;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = ((const int64_t *)index->data)[i], to = 0, step = 1;
    if (at < 0 || at >= total)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "MaxUnpool: index %lld of %lld", (long long)at,
                     (long long)total);
    for (int d = x->rank - 1; d >= 0; --d) {
      to += at % dims[d] * step;
      at /= dims[d];
      step *= y->dims[d];
    }
    memcpy((char *)y->data + to * size, (const char *)x->data + i * size, (size_t)size);
  }
  return NULL;
}
static const mrt_op_version unpool_v[] = {{9}, {11}, {22}, {0}};
MRT_OP(MaxUnpool) = {.domain = "",
                     .name = "MaxUnpool",
                     .doc = "partial inverse of MaxPool",
                     .in = "X:T1, I:int64, output_shape:int64?",
                     .out = "output:T1",
                     .types = "T1=" MRT_T_FLOATS,
                     .attrs = "kernel_shape:ints! pads:ints strides:ints",
                     .versions = unpool_v,
                     .infer = unpool_infer,
                     .run = unpool_run};
