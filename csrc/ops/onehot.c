/* OneHot: a new axis of length depth that holds the on-value at the index; an index outside
 * [-depth, depth) gives a row of off-values. */
#include "ops/common.h"

static mrt_status *infer(mrt_infer *c) {
  int ri = mrt_infer_rank(c, 0), axis, n, k = 0;
  const mrt_expr *dims[MRT_MAX_RANK + 1], *depth = NULL;
  const mrt_tensor *d = mrt_infer_const(c, 1);
  if (ri < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 2), -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), ri + 1, &axis));
  if (ri + 1 > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", ri + 1);
  if (d) {
    if (mrt_tensor_count(d) != 1)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid argument for depth; it's not a scalar.");
    double v = mrt_elem_get_f64((mrt_dtype)d->dtype, d->data, 0);
    if (!(v > 0 && v < 9e18)) return MRT_ERR(MRT_INVALID_ARGUMENT, "Depth is negative or zero.");
    depth = mrt_expr_const(c->sym, (int64_t)v);
  } else {
    const mrt_expr *const *e = mrt_infer_ints(c, 1, &n);
    depth = e && n == 1 ? e[0] : NULL;
  }
  for (int i = 0; i <= ri; ++i) dims[i] = i == axis ? depth : mrt_infer_dim(c, 0, k++);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 2), ri + 1, dims);
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *idx = mrt_in(c, 0), *values = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, y, &size));
  if (mrt_tensor_count(values) != 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Invalid argument for values; either it's rank is more than 1 "
                   "or it has more than 2 elements");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), y->rank, &axis));
  int64_t depth = y->dims[axis], inner = mrt_dims_product(y->dims, axis + 1, y->rank),
          n = mrt_tensor_count(idx), total = mrt_tensor_count(y);
  const char *off = values->data, *on = off + size;
  char *out = y->data;
  if (total) memcpy(out, off, size);
  for (size_t have = size, all = (size_t)total * size; have < all;) {
    size_t k = have < all - have ? have : all - have;
    memcpy(out + have, out, k);
    have += k;
  }
  mrt_dtype d = (mrt_dtype)idx->dtype;
  bool real = mrt_dtype_is_float(d);
  for (int64_t i = 0; i < n && total; ++i) {
    double f = real ? mrt_elem_get_f64(d, idx->data, i) : 0;
    if (real && !(f > -9e18 && f < 9e18)) continue;
    int64_t v = real ? (int64_t)f : mrt_elem_get_i64(d, idx->data, i);
    if (v < -depth || v >= depth) continue;
    if (v < 0) v += depth;
    memcpy(out + (size_t)((i / inner * depth + v) * inner + i % inner) * size, on, size);
  }
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version versions[] = {{9}, {11}, {0}};
#define REAL "float,double,float16," MRT_T_INTS
MRT_OP(OneHot) = {
    .domain = "",
    .name = "OneHot",
    .doc = "one on-value per index along a new axis",
    .in = "indices:I, depth:D, values:T",
    .out = "output:T",
    .types = "I=" REAL ";D=" REAL ";T=" MRT_T_NUMERIC ",bool,string,complex64,complex128",
    .attrs = "axis:int=-1",
    .versions = versions,
    .infer = infer,
    .run = run};
