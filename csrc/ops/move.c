/* Transpose, Concat, Split, Slice: copies between strided boxes (tensor/strided.h), by element
 * size; strings are moved as pointers and then counted. Range. */
#include "ops/common.h"
#include "tensor/strided.h"

/* ---- Transpose ---- */
static void permutation(const mrt_node *n, int rank, int *perm) {
  int k;
  const int64_t *p = mrt_node_ints(n, "perm", &k);
  for (int i = 0; i < rank; ++i) perm[i] = p && k == rank ? (int)p[i] : rank - 1 - i;
}
static mrt_status *transpose_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), perm[MRT_MAX_RANK], k;
  const mrt_expr *dims[MRT_MAX_RANK];
  bool seen[MRT_MAX_RANK] = {false};
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (mrt_node_ints(c->node, "perm", &k) && k != rank)
    return MRT_ERR(MRT_FAIL, "perm has %d entries for rank %d", k, rank);
  permutation(c->node, rank, perm);
  for (int i = 0; i < rank; ++i) {
    if (perm[i] < 0 || perm[i] >= rank || seen[perm[i]])
      return MRT_ERR(MRT_FAIL, "Invalid attribute perm");
    seen[perm[i]] = true;
    dims[i] = mrt_infer_dim(c, 0, perm[i]);
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static mrt_status *transpose_bytes(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int perm[MRT_MAX_RANK];
  int64_t from[MRT_MAX_RANK], to[MRT_MAX_RANK], strides[MRT_MAX_RANK];
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  permutation(c->node, x->rank, perm);
  mrt_contiguous_strides(x->rank, x->dims, strides);
  mrt_contiguous_strides(y->rank, y->dims, to);
  for (int i = 0; i < x->rank; ++i) from[i] = strides[perm[i]];
  mrt_strided_copy(&c->par, size, y->rank, y->dims, y->data, to, x->data, from);
  mrt_tensor_retain_strings(y);
  return NULL;
}
static mrt_status *transpose_run(mrt_kctx *c) {
  return mrt_is_packed(mrt_in(c, 0)) ? mrt_run_unpacked(c, transpose_bytes) : transpose_bytes(c);
}

/* ---- Concat ---- */
static mrt_status *concat_infer(mrt_infer *c) {
  int axis, rank = -1, total = 0;
  const mrt_expr *dims[MRT_MAX_RANK], *sum = mrt_expr_const(c->sym, 0), *elems[64];
  for (int i = 0; i < c->n_in; ++i)
    if (mrt_infer_rank(c, i) >= 0) rank = mrt_infer_rank(c, i);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int d = 0; d < rank; ++d) dims[d] = NULL;
  bool known = rank == 1;
  for (int i = 0; i < c->n_in; ++i) {
    int n;
    if (mrt_infer_rank(c, i) >= 0 && mrt_infer_rank(c, i) != rank)
      return MRT_ERR(MRT_FAIL, "All inputs to Concat must have same rank");
    for (int d = 0; d < rank; ++d)
      if (d != axis)
        MRT_TRY(mrt_infer_same_dim(c, dims[d], mrt_infer_dim(c, i, d), "Concat", &dims[d]));
    sum = mrt_expr_add(c->sym, sum, mrt_infer_dim(c, i, axis));
    const mrt_expr *const *e = known ? mrt_infer_ints(c, i, &n) : NULL;
    known = known && e && total + n <= 64;
    for (int k = 0; known && k < n; ++k) elems[total++] = e[k];
  }
  dims[axis] = sum;
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims));
  return known ? mrt_infer_out_elems(c, 0, total, elems) : NULL;
}
static mrt_status *concat_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), y->rank, &axis));
  MRT_TRY(mrt_elem_size(c, y, &size));
  int64_t outer = mrt_dims_product(y->dims, 0, axis),
          row = mrt_dims_product(y->dims, axis, y->rank), at = 0;
  for (int i = 0; i < c->n_in; ++i) { /* nothing is copied before all is known to fit */
    const mrt_tensor *x = mrt_in(c, i);
    at += mrt_dims_product(x->dims, axis, x->rank);
    if (at > row || mrt_dims_product(x->dims, 0, axis) != outer)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Concat: input %d does not fit", i);
  }
  at = 0;
  for (int i = 0; i < c->n_in; ++i) {
    const mrt_tensor *x = mrt_in(c, i);
    int64_t part = mrt_dims_product(x->dims, axis, x->rank);
    const int64_t box[2] = {outer, part}, to[2] = {row, 1}, from[2] = {part, 1};
    mrt_strided_copy(&c->par, size, 2, box, (char *)y->data + (size_t)at * size, to, x->data, from);
    at += part;
  }
  mrt_tensor_retain_strings(y);
  return NULL;
}
static mrt_status *concat_up1(mrt_node *node) { /* the axis had a default */
  return mrt_node_attr(node, "axis") ? NULL : mrt_node_set_int(node, "axis", 1);
}

/* ---- Split ---- */
/* Known sizes must be as many as outputs, and add up to a known axis. */
static mrt_status *split_check(mrt_infer *c, const mrt_expr *all, const mrt_expr *const *sizes,
                               int n) {
  int64_t sum = 0, len, total;
  if (n != c->n_out)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%d sizes in 'split' for %d outputs", n, c->n_out);
  for (int i = 0; i < n; ++i) {
    if (!sizes[i] || !mrt_expr_is_const(sizes[i], &len)) return NULL;
    if (len < 0 || !mrt_i64_add(sum, len, &sum))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "'split' has a size of %lld", (long long)len);
  }
  if (all && mrt_expr_is_const(all, &total) && total != sum)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Mismatch between the sum of 'split' (%lld) and the split dimension of the "
                   "input (%lld)",
                   (long long)sum, (long long)total);
  return NULL;
}
static mrt_status *split_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis, n = 0;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) return NULL;
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int d = 0; d < rank; ++d) dims[d] = mrt_infer_dim(c, 0, d);
  const mrt_expr *all = dims[axis], *count = mrt_expr_const(c->sym, c->n_out);
  const mrt_expr *const *sizes = mrt_infer_has(c, 1) ? mrt_infer_ints(c, 1, &n) : NULL;
  const mrt_expr *chunk = mrt_expr_ceildiv(c->sym, all, count);
  if (sizes) MRT_TRY(split_check(c, all, sizes, n));
  for (int i = 0; i < c->n_out; ++i) {
    if (mrt_infer_has(c, 1))
      dims[axis] = sizes && i < n ? sizes[i] : NULL;
    else if (i + 1 < c->n_out)
      dims[axis] = chunk;
    else
      dims[axis] = mrt_expr_sub(c->sym, all,
                                mrt_expr_mul(c->sym, chunk, mrt_expr_const(c->sym, c->n_out - 1)));
    int64_t len; /* too many parts: an error only if the node really runs */
    if (!c->concrete && mrt_expr_is_const(dims[axis], &len) && len < 0) dims[axis] = NULL;
    MRT_TRY(mrt_infer_out(c, i, mrt_infer_dtype(c, 0), rank, dims));
  }
  return NULL;
}
static mrt_status *split_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  int axis;
  size_t size;
  MRT_TRY(mrt_elem_size(c, x, &size));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  int64_t outer = mrt_dims_product(x->dims, 0, axis),
          inner = mrt_dims_product(x->dims, axis + 1, x->rank), at = 0;
  const mrt_tensor *sizes = mrt_in(c, 1);
  int64_t chunk = (x->dims[axis] + c->n_out - 1) / c->n_out, sum = 0;
  for (int i = 0; sizes && i < c->n_out && i < mrt_tensor_count(sizes); ++i)
    sum += mrt_index_at(sizes, i);
  if (sizes && (mrt_tensor_count(sizes) != c->n_out || sum != x->dims[axis]))
    return MRT_ERR(
        MRT_INVALID_ARGUMENT,
        "Cannot split using values in 'split' input: %lld sizes add up to %lld, axis has "
        "%lld",
        (long long)mrt_tensor_count(sizes), (long long)sum, (long long)x->dims[axis]);
  for (int i = 0; i < c->n_out; ++i) {
    int64_t len = sizes              ? mrt_elem_get_i64(MRT_INT64, sizes->data, i)
                  : i + 1 < c->n_out ? chunk
                                     : x->dims[axis] - at;
    mrt_tensor *y = mrt_out(c, i);
    if (len < 0 || at + len > x->dims[axis])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "split sizes do not add up to the axis");
    if (y && y->dims[axis] != len) return MRT_ERR(MRT_FAIL, "split %d", i);
    const int64_t run = len * inner, box[2] = {outer, run}, to[2] = {run, 1},
                  from[2] = {x->dims[axis] * inner, 1};
    if (y)
      mrt_strided_copy(&c->par, size, 2, box, y->data, to,
                       (const char *)x->data + (size_t)(at * inner) * size, from);
    if (y) mrt_tensor_retain_strings(y);
    at += len;
  }
  return NULL;
}
static mrt_status *split_up(mrt_node *node) { return mrt_node_attr_to_input(node, "split", 1); }

/* ---- Slice ---- */
static mrt_status *slice_up1(mrt_node *node) { /* starts, ends, axes were attributes */
  MRT_TRY(mrt_node_attr_to_input(node, "starts", 1));
  MRT_TRY(mrt_node_attr_to_input(node, "ends", 2));
  return mrt_node_attr_to_input(node, "axes", 3);
}
/* One bound, clamped as the operator says; symbolic where it must be. */
static const mrt_expr *bound(mrt_infer *c, const mrt_expr *v, const mrt_expr *dim) {
  int64_t k, lo, hi;
  const mrt_expr *zero = mrt_expr_const(c->sym, 0);
  if (mrt_expr_is_const(v, &k)) {
    if (k >= INT32_MAX) return dim;
    if (k < 0)
      return k <= INT32_MIN ? zero : mrt_expr_max(c->sym, zero, mrt_expr_add(c->sym, dim, v));
    return mrt_expr_min(c->sym, v, dim);
  }
  mrt_expr_bounds(v, &lo, &hi);
  return lo >= 0 ? mrt_expr_min(c->sym, v, dim) : NULL;
}
static int64_t clamp_to(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }
typedef struct slicing {
  int64_t start[MRT_MAX_RANK], step[MRT_MAX_RANK], len[MRT_MAX_RANK];
} slicing;
static void slice_axis(int64_t dim, int64_t s, int64_t e, int64_t step, slicing *out, int a) {
  if (s < 0) s += dim;
  if (e < 0 && e > -INT64_MAX / 2) e += dim;
  s = clamp_to(s, 0, step > 0 || !dim ? dim : dim - 1); /* not as numpy: never in front of all */
  e = step > 0 ? clamp_to(e, 0, dim) : clamp_to(e, -1, dim);
  int64_t span = step > 0 ? e - s : s - e, by = step > 0            ? step
                                                : step < -INT64_MAX ? INT64_MAX
                                                                    : -step;
  out->start[a] = s;
  out->step[a] = step;
  out->len[a] = span > 0 && dim ? (span - 1) / by + 1 : 0;
}
static mrt_status *slice_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), ns, ne, na = 0, nt = 0;
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t axes[MRT_MAX_RANK], steps[MRT_MAX_RANK], d, x, y;
  const mrt_expr *const *s = mrt_infer_ints(c, 1, &ns), *const *e = mrt_infer_ints(c, 2, &ne);
  mrt_dtype t = mrt_infer_dtype(c, 0);
  if (rank < 0) return mrt_infer_out(c, 0, t, -1, NULL);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  bool have_axes = mrt_infer_has(c, 3), have_steps = mrt_infer_has(c, 4);
  if ((have_axes && !mrt_infer_const_ints(c, 3, MRT_MAX_RANK, axes, &na)) ||
      (have_steps && !mrt_infer_const_ints(c, 4, MRT_MAX_RANK, steps, &nt)) || (!have_axes && !s)) {
    for (int i = 0; i < rank; ++i) dims[i] = NULL;
    return mrt_infer_out(c, 0, t, rank, dims);
  }
  int n = have_axes ? na : ns;
  if (n > rank || (s && ns != n) || (e && ne != n) || (have_steps && nt != n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "starts, ends, axes and steps differ in length");
  slicing one = {0};
  for (int i = 0; i < n; ++i) {
    int a;
    MRT_TRY(mrt_infer_axis(c, have_axes ? axes[i] : i, rank, &a));
    int64_t step = have_steps ? steps[i] : 1;
    if (!step) return MRT_ERR(MRT_INVALID_ARGUMENT, "'step' value cannot be 0");
    const mrt_expr *se = s ? s[i] : NULL, *ee = e ? e[i] : NULL;
    if (mrt_expr_is_const(dims[a], &d) && mrt_expr_is_const(se, &x) && mrt_expr_is_const(ee, &y)) {
      slice_axis(d, x, y, step, &one, a);
      dims[a] = mrt_expr_const(c->sym, one.len[a]);
      if (rank == 1) {
        int k;
        const mrt_expr *elems[64];
        const mrt_expr *const *in = mrt_infer_ints(c, 0, &k);
        if (in && k == d && one.len[0] <= 64) {
          for (int64_t j = 0; j < one.len[0]; ++j) elems[j] = in[one.start[0] + j * step];
          MRT_TRY(mrt_infer_out_elems(c, 0, (int)one.len[0], elems));
        }
      }
    } else if (step > 0 && se && ee) {
      const mrt_expr *span = mrt_expr_sub(c->sym, bound(c, ee, dims[a]), bound(c, se, dims[a]));
      dims[a] = mrt_expr_max(c->sym, mrt_expr_const(c->sym, 0),
                             mrt_expr_ceildiv(c->sym, span, mrt_expr_const(c->sym, step)));
    } else {
      dims[a] = NULL;
    }
  }
  return mrt_infer_out(c, 0, t, rank, dims);
}
static mrt_status *slice_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t s[MRT_MAX_RANK], e[MRT_MAX_RANK], axes[MRT_MAX_RANK], steps[MRT_MAX_RANK];
  int n, k;
  slicing sl;
  if (!y) return NULL;
  MRT_TRY(mrt_read_ints(mrt_in(c, 1), MRT_MAX_RANK, s, &n, "starts"));
  MRT_TRY(mrt_read_ints(mrt_in(c, 2), MRT_MAX_RANK, e, &k, "ends"));
  for (int i = 0; i < n; ++i) axes[i] = i, steps[i] = 1;
  if (mrt_in(c, 3)) MRT_TRY(mrt_read_ints(mrt_in(c, 3), MRT_MAX_RANK, axes, &k, "axes"));
  if (mrt_in(c, 4)) MRT_TRY(mrt_read_ints(mrt_in(c, 4), MRT_MAX_RANK, steps, &k, "steps"));
  for (int i = 0; i < x->rank; ++i) sl.start[i] = 0, sl.step[i] = 1, sl.len[i] = x->dims[i];
  for (int i = 0; i < n; ++i) {
    int a;
    MRT_TRY(mrt_fix_axis(axes[i], x->rank, &a));
    slice_axis(x->dims[a], s[i], e[i], steps[i], &sl, a);
  }
  if (!mrt_shape_equal(y->rank, y->dims, x->rank, sl.len))
    return MRT_ERR(MRT_FAIL, "the slice has another shape than planned");
  if (!mrt_tensor_count(y)) return NULL;
  size_t size;
  MRT_TRY(mrt_elem_size(c, x, &size));
  int64_t offset = 0, from[MRT_MAX_RANK], to[MRT_MAX_RANK];
  mrt_contiguous_strides(x->rank, x->dims, from);
  mrt_contiguous_strides(y->rank, y->dims, to);
  for (int i = 0; i < x->rank; ++i) {
    offset += sl.start[i] * from[i];
    from[i] = sl.len[i] > 1 ? from[i] * sl.step[i] : 0; /* a step past the end is never taken */
  }
  mrt_strided_copy(&c->par, size, y->rank, y->dims, y->data, to,
                   (const char *)x->data + offset * (int64_t)size, from);
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* ---- Range ---- */
static mrt_status *range_infer(mrt_infer *c) {
  const mrt_tensor *t[3];
  const mrt_expr *n = NULL;
  mrt_dtype d = mrt_infer_dtype(c, 0);
  bool all = true;
  for (int i = 0; i < 3; ++i) all = (t[i] = mrt_infer_const(c, i)) != NULL && all;
  if (all) {
    double s = mrt_elem_get_f64(d, t[0]->data, 0), e = mrt_elem_get_f64(d, t[1]->data, 0),
           k = mrt_elem_get_f64(d, t[2]->data, 0);
    if (k == 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "delta in Range operator can not be zero!");
    double len = ceil((e - s) / k);
    n = mrt_expr_const(c->sym, len > 0 ? (int64_t)len : 0);
  } else {
    int na, nb, nc;
    int64_t step;
    const mrt_expr *const *a = mrt_infer_ints(c, 0, &na), *const *b = mrt_infer_ints(c, 1, &nb),
                          *const *k = mrt_infer_ints(c, 2, &nc);
    if (a && b && k && na == 1 && nb == 1 && nc == 1 && mrt_expr_is_const(k[0], &step) && step > 0)
      n = mrt_expr_max(c->sym, mrt_expr_const(c->sym, 0),
                       mrt_expr_ceildiv(c->sym, mrt_expr_sub(c->sym, b[0], a[0]), k[0]));
  }
  return mrt_infer_out(c, 0, d, 1, &n);
}
static mrt_status *range_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  const mrt_tensor *s = mrt_in(c, 0), *k = mrt_in(c, 2);
  if (!y) return NULL;
  mrt_dtype d = (mrt_dtype)y->dtype;
  int64_t n = mrt_tensor_count(y);
  bool ints = mrt_dtype_is_int(d);
  for (int64_t i = 0; i < n; ++i) {
    if (ints)
      mrt_elem_set_i64(d, y->data, i,
                       mrt_elem_get_i64(d, s->data, 0) + i * mrt_elem_get_i64(d, k->data, 0));
    else
      mrt_elem_set_f64(
          d, y->data, i,
          mrt_elem_get_f64(d, s->data, 0) + (double)i * mrt_elem_get_f64(d, k->data, 0));
  }
  return NULL;
}

static const mrt_op_version transpose_v[] = {{1}, {13}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version concat_v[] = {{1, concat_up1}, {4}, {11}, {13}, {0}};
static const mrt_op_version split_v[] = {{1, split_up}, {2, split_up}, {11, split_up},
                                         {13},          {18},          {0}};
static const mrt_op_version slice_v[] = {{1, slice_up1}, {10}, {11}, {13}, {0}};
static const mrt_op_version range_v[] = {{11}, {27}, {0}};
#define ANY .domain = "", .types = "T=" MRT_T_ANY ";I=int32,int64"
MRT_OP(Transpose) = {ANY,
                     .name = "Transpose",
                     .doc = "permutes dims",
                     .in = "data:T",
                     .out = "transposed:T",
                     .attrs = "perm:ints",
                     .versions = transpose_v,
                     .infer = transpose_infer,
                     .run = transpose_run};
MRT_OP(Concat) = {ANY,
                  .name = "Concat",
                  .doc = "joins along an axis",
                  .in = "inputs:T*",
                  .out = "concat_result:T",
                  .attrs = "axis:int!",
                  .versions = concat_v,
                  .infer = concat_infer,
                  .run = concat_run};
MRT_OP(Split) = {ANY,
                 .name = "Split",
                 .doc = "cuts along an axis",
                 .in = "input:T, split:int64?",
                 .out = "outputs:T*",
                 .attrs = "axis:int=0 num_outputs:int",
                 .versions = split_v,
                 .infer = split_infer,
                 .run = split_run};
MRT_OP(Slice) = {ANY,
                 .name = "Slice",
                 .doc = "a strided box",
                 .in = "data:T, starts:I, ends:I, axes:I?, steps:I?",
                 .out = "output:T",
                 .versions = slice_v,
                 .infer = slice_infer,
                 .run = slice_run};
MRT_OP(Range) = {.domain = "",
                 .types = "T=float,double,int16,int32,int64,float16,bfloat16",
                 .name = "Range",
                 .doc = "start, start + delta, ...",
                 .in = "start:T, limit:T, delta:T",
                 .out = "output:T",
                 .versions = range_v,
                 .infer = range_infer,
                 .run = range_run};
