/* Operators about shapes: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze, Identity, Constant,
 * ConstantOfShape, Expand. The contents of shape tensors are followed symbolically. */
#include "ops/common.h"
#include "tensor/strided.h"

static mrt_status *copy_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  if (y->bytes != x->bytes) return MRT_ERR(MRT_FAIL, "input and output differ in size");
  if (x->bytes) memcpy(y->data, x->data, x->bytes);
  mrt_tensor_retain_strings(y);
  return NULL;
}

/* ---- Shape, Size ---- */
static int clamp(int64_t v, int rank) {
  return (int)(v < 0 ? (v + rank < 0 ? 0 : v + rank) : v > rank ? rank : v);
}
static void shape_range(const mrt_node *n, int rank, int *from, int *to) {
  *from = clamp(mrt_node_int(n, "start"), rank);
  *to = mrt_node_attr(n, "end") ? clamp(mrt_node_int(n, "end"), rank) : rank;
  if (*to < *from) *to = *from;
}
static mrt_status *shape_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), from, to;
  const mrt_expr *dims[MRT_MAX_RANK], *n = NULL;
  if (rank < 0) return mrt_infer_out(c, 0, MRT_INT64, 1, &n);
  shape_range(c->node, rank, &from, &to);
  for (int i = from; i < to; ++i) dims[i - from] = mrt_infer_dim(c, 0, i);
  n = mrt_expr_const(c->sym, to - from);
  MRT_TRY(mrt_infer_out(c, 0, MRT_INT64, 1, &n));
  return mrt_infer_out_elems(c, 0, to - from, dims);
}
static mrt_status *shape_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int from, to;
  if (!y) return NULL;
  shape_range(c->node, x->rank, &from, &to);
  for (int i = from; i < to; ++i) ((int64_t *)y->data)[i - from] = x->dims[i];
  return NULL;
}
static mrt_status *size_infer(mrt_infer *c) {
  const mrt_expr *n = mrt_expr_const(c->sym, 1);
  int rank = mrt_infer_rank(c, 0);
  MRT_TRY(mrt_infer_out(c, 0, MRT_INT64, 0, NULL));
  for (int i = 0; i < rank; ++i) n = mrt_expr_mul(c->sym, n, mrt_infer_dim(c, 0, i));
  return rank < 0 || !n ? NULL : mrt_infer_out_elems(c, 0, 1, &n);
}
static mrt_status *size_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  if (y) *(int64_t *)y->data = mrt_tensor_count(mrt_in(c, 0));
  return NULL;
}

/* Hands symbolic contents through views of small tensors. */
static mrt_status *pass_elems(mrt_infer *c) {
  int n;
  const mrt_expr *const *e = mrt_infer_ints(c, 0, &n);
  return e ? mrt_infer_out_elems(c, 0, n, e) : NULL;
}

/* ---- Reshape ---- */
static const mrt_expr *product(mrt_infer *c, int from, int to) {
  const mrt_expr *n = mrt_expr_const(c->sym, 1);
  for (int i = from; i < to; ++i) n = mrt_expr_mul(c->sym, n, mrt_infer_dim(c, 0, i));
  return n;
}
static mrt_status *reshape_infer(mrt_infer *c) {
  int n, minus = -1;
  const mrt_expr *dims[MRT_MAX_RANK], *known = mrt_expr_const(c->sym, 1);
  const mrt_expr *const *s = mrt_infer_ints(c, 1, &n);
  int64_t v, total, rest;
  if (!s) {
    int64_t len;
    const mrt_expr *unknown[MRT_MAX_RANK] = {NULL};
    if (mrt_expr_is_const(mrt_infer_dim(c, 1, 0), &len) && len >= 0 && len <= MRT_MAX_RANK)
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), (int)len, unknown);
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  }
  if (n > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", n);
  for (int i = 0; i < n; ++i) {
    dims[i] = s[i];
    if (mrt_expr_is_const(s[i], &v) && v == 0 && !mrt_node_int(c->node, "allowzero"))
      dims[i] = mrt_infer_dim(c, 0, i);
    if (mrt_expr_is_const(s[i], &v) && v == -1) {
      if (minus >= 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "At most one dimension can be -1.");
      minus = i;
    } else {
      known = mrt_expr_mul(c->sym, known, dims[i]);
    }
  }
  const mrt_expr *all = mrt_infer_rank(c, 0) < 0 ? NULL : product(c, 0, mrt_infer_rank(c, 0));
  if (minus >= 0)
    dims[minus] = mrt_expr_is_const(known, &v) && v == 0 ? mrt_expr_const(c->sym, 0)
                                                         : mrt_expr_floordiv(c->sym, all, known);
  if (mrt_expr_is_const(all, &total) && mrt_expr_is_const(known, &rest) &&
      (minus >= 0 ? rest && total % rest : total != rest)) {
    char a[160], b[160];
    int64_t x[MRT_MAX_RANK], y[MRT_MAX_RANK];
    for (int i = 0; i < mrt_infer_rank(c, 0); ++i)
      (void)(mrt_expr_is_const(mrt_infer_dim(c, 0, i), &x[i]) || (x[i] = -1));
    for (int i = 0; i < n; ++i) (void)(mrt_expr_is_const(s[i], &y[i]) || (y[i] = -1));
    return MRT_ERR(MRT_FAIL,
                   "The input tensor cannot be reshaped to the requested shape. Input shape:%s, "
                   "requested shape:%s",
                   mrt_shape_format(a, sizeof a, mrt_infer_rank(c, 0), x),
                   mrt_shape_format(b, sizeof b, n, y));
  }
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), n, dims));
  return pass_elems(c);
}
static mrt_status *reshape_up1(mrt_node *node) { /* the shape was an attribute */
  mrt_node_del_attr(node, "consumed_inputs");
  return mrt_node_attr_to_input(node, "shape", 1);
}

static mrt_status *flatten_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  int64_t axis = mrt_node_int(c->node, "axis");
  if (rank < 0) return NULL;
  if (axis < 0) axis += rank;
  if (axis < 0 || axis > rank) return MRT_ERR(MRT_FAIL, "axis is out of range");
  const mrt_expr *dims[2] = {product(c, 0, (int)axis), product(c, (int)axis, rank)};
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 2, dims);
}

/* ---- Squeeze, Unsqueeze ---- */
static mrt_status *axes_up(mrt_node *node) { return mrt_node_attr_to_input(node, "axes", 1); }
static mrt_status *squeeze_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n = 0, k = 0;
  int64_t axes[MRT_MAX_RANK], v;
  const mrt_expr *dims[MRT_MAX_RANK];
  bool drop[MRT_MAX_RANK] = {false};
  if (rank < 0 || (mrt_infer_has(c, 1) && !mrt_infer_const_ints(c, 1, MRT_MAX_RANK, axes, &n)))
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  for (int i = 0; i < n; ++i) {
    int a;
    MRT_TRY(mrt_infer_axis(c, axes[i], rank, &a));
    if (mrt_expr_is_const(mrt_infer_dim(c, 0, a), &v) && v != 1)
      return MRT_ERR(MRT_FAIL, "Dimension of input %d must be 1 instead of %lld", a, (long long)v);
    drop[a] = true;
  }
  for (int i = 0; i < rank; ++i) {
    bool one = mrt_expr_is_const(mrt_infer_dim(c, 0, i), &v);
    if (!mrt_infer_has(c, 1)) {
      if (!one) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
      drop[i] = v == 1;
    }
    if (!drop[i]) dims[k++] = mrt_infer_dim(c, 0, i);
  }
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), k, dims));
  return pass_elems(c);
}
static mrt_status *unsqueeze_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), n, k = 0;
  int64_t axes[MRT_MAX_RANK];
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL};
  bool made[MRT_MAX_RANK] = {false};
  if (rank < 0 || !mrt_infer_const_ints(c, 1, MRT_MAX_RANK, axes, &n))
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank + n > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", rank + n);
  for (int i = 0; i < n; ++i) {
    int a;
    MRT_TRY(mrt_infer_axis(c, axes[i], rank + n, &a));
    if (made[a]) return MRT_ERR(MRT_FAIL, "'axes' has a duplicate axis");
    made[a] = true;
  }
  for (int i = 0; i < rank + n; ++i)
    dims[i] = made[i] ? mrt_expr_const(c->sym, 1) : mrt_infer_dim(c, 0, k++);
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank + n, dims));
  return pass_elems(c);
}

/* ---- Identity ---- */
static mrt_status *identity_infer(mrt_infer *c) {
  MRT_TRY(mrt_infer_out_type(c, 0, c->n_in ? c->in_types[0] : NULL));
  return pass_elems(c);
}
static mrt_status *identity_run(mrt_kctx *c) {
  if (mrt_out(c, 0) && mrt_in(c, 0)) return copy_run(c);
  mrt_value *v;
  MRT_TRY(mrt_value_keep(c->alloc, mrt_in_value(c, 0), &v));
  return mrt_out_set(c, 0, v);
}
/* ---- Constant, ConstantOfShape ---- */
static mrt_status *constant_infer(mrt_infer *c) {
  const mrt_attr *a = mrt_node_attr(c->node, "value");
  int n;
  const mrt_expr *dim;
  if (a && a->tensor)
    return mrt_infer_out_type(c, 0, mrt_type_of_value(c->model, &a->tensor->base));
  if (mrt_node_attr(c->node, "value_int")) return mrt_infer_out(c, 0, MRT_INT64, 0, NULL);
  if (mrt_node_attr(c->node, "value_float")) return mrt_infer_out(c, 0, MRT_FLOAT, 0, NULL);
  if (mrt_node_attr(c->node, "value_string")) return mrt_infer_out(c, 0, MRT_STRING, 0, NULL);
  bool ints = mrt_node_ints(c->node, "value_ints", &n) || mrt_node_attr(c->node, "value_ints");
  if (!ints) mrt_node_floats(c->node, "value_floats", &n);
  a = mrt_node_attr(c->node, "value_strings");
  if (a)
    n = (int)a->n;
  else if (!ints && !mrt_node_attr(c->node, "value_floats"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Constant without a dense value");
  dim = mrt_expr_const(c->sym, n);
  return mrt_infer_out(c, 0, a ? MRT_STRING : ints ? MRT_INT64 : MRT_FLOAT, 1, &dim);
}
static mrt_status *constant_run(mrt_kctx *c) {
  const mrt_node *node = c->node;
  const mrt_attr *a = mrt_node_attr(node, "value");
  mrt_tensor *y = mrt_out(c, 0);
  int n;
  if (!y) return NULL;
  if (a && a->tensor) return mrt_tensor_copy_into(y, a->tensor);
  if ((a = mrt_node_attr(node, "value_int")))
    memcpy(y->data, &a->i, 8);
  else if ((a = mrt_node_attr(node, "value_float")))
    memcpy(y->data, &a->f, 4);
  else if ((a = mrt_node_attr(node, "value_string")))
    return mrt_string_create(NULL, a->s, a->n, y->data);
  else if (mrt_node_attr(node, "value_ints")) {
    if (y->bytes) memcpy(y->data, mrt_node_ints(node, "value_ints", &n), y->bytes);
  } else if (mrt_node_attr(node, "value_floats")) {
    if (y->bytes) memcpy(y->data, mrt_node_floats(node, "value_floats", &n), y->bytes);
  } else if ((a = mrt_node_attr(node, "value_strings"))) {
    for (size_t i = 0; i < a->n; ++i)
      MRT_TRY(
          mrt_string_create(NULL, a->strings[i], a->string_lens[i], &((mrt_string **)y->data)[i]));
  }
  return NULL;
}
static mrt_status *cos_infer(mrt_infer *c) {
  int n;
  const mrt_expr *const *s = mrt_infer_ints(c, 0, &n);
  const mrt_attr *a = mrt_node_attr(c->node, "value");
  mrt_dtype d = a && a->tensor ? (mrt_dtype)a->tensor->dtype : MRT_FLOAT;
  int64_t len, count, v;
  const mrt_expr *unknown[MRT_MAX_RANK] = {NULL}, *fill[64];
  if (!s && mrt_expr_is_const(mrt_infer_dim(c, 0, 0), &len) && len <= MRT_MAX_RANK)
    return mrt_infer_out(c, 0, d, (int)len, unknown);
  MRT_TRY(mrt_infer_out(c, 0, d, s ? n : -1, s));
  if (s && n == 1 && mrt_expr_is_const(s[0], &count) && count <= 64 &&
      (d == MRT_INT64 || d == MRT_INT32)) {
    v = mrt_elem_get_i64(d, a->tensor->data, 0);
    for (int i = 0; i < count; ++i) fill[i] = mrt_expr_const(c->sym, v);
    return mrt_infer_out_elems(c, 0, (int)count, fill);
  }
  return NULL;
}
static mrt_status *cos_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  const mrt_attr *a = mrt_node_attr(c->node, "value");
  if (!y || !y->bytes) return NULL;
  memset(y->data, 0, y->bytes);
  if (!a || !a->tensor) return NULL;
  int bits = mrt_dtype_bits((mrt_dtype)y->dtype);
  size_t size = bits < 8 ? 1 : (size_t)bits / 8;
  char *out = y->data;
  if (y->dtype == MRT_STRING) return mrt_no_type("ConstantOfShape", y->dtype);
  memcpy(out, a->tensor->data, size);
  for (int k = bits; k < 8; k *= 2) /* a packed element fills its byte */
    *(uint8_t *)out = (uint8_t)((*(uint8_t *)out & ((1 << k) - 1)) * ((1 << k) + 1));
  for (size_t have = size; have < y->bytes;) {
    size_t k = have < y->bytes - have ? have : y->bytes - have;
    memcpy(out + have, out, k);
    have += k;
  }
  return NULL;
}

/* ---- Expand ---- */
static mrt_status *expand_infer(mrt_infer *c) {
  int n, rank = mrt_infer_rank(c, 0);
  const mrt_expr *const *s = mrt_infer_ints(c, 1, &n);
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t x, y;
  if (rank >= 0 && !s && mrt_infer_rank(c, 1) == 1) { /* the rank at least */
    int64_t len;
    if (mrt_expr_is_const(mrt_infer_dim(c, 1, 0), &len) && len <= MRT_MAX_RANK) {
      for (int i = 0; i < MRT_MAX_RANK; ++i) dims[i] = NULL;
      return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), (int)len > rank ? (int)len : rank, dims);
    }
  }
  if (rank < 0 || !s || n > MRT_MAX_RANK)
    return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  int r = n > rank ? n : rank;
  for (int i = 0; i < r; ++i) {
    const mrt_expr *a =
        i < r - rank ? mrt_expr_const(c->sym, 1) : mrt_infer_dim(c, 0, i - (r - rank));
    const mrt_expr *b = i < r - n ? mrt_expr_const(c->sym, 1) : s[i - (r - n)];
    bool ca = mrt_expr_is_const(a, &x), cb = mrt_expr_is_const(b, &y);
    if (ca && cb && x != y && x != 1 && y != 1)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "invalid expand shape");
    dims[i] = a == b || (cb && y == 1) || (ca && x > 1) ? a
              : ca && x == 1                            ? b
              : cb && y > 1                             ? b
                                                        : mrt_expr_max(c->sym, a, b);
  }
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), r, dims);
}
static mrt_status *expand_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t from[MRT_MAX_RANK], to[MRT_MAX_RANK], step = 1;
  size_t size;
  if (!y) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  for (int i = y->rank - 1; i >= 0; --i) {
    int k = i - (y->rank - x->rank);
    int64_t d = k < 0 ? 1 : x->dims[k];
    if (d != 1 && d != y->dims[i]) return MRT_ERR(MRT_INVALID_ARGUMENT, "invalid expand shape");
    from[i] = d == 1 ? 0 : step;
    step *= d;
  }
  mrt_contiguous_strides(y->rank, y->dims, to);
  mrt_strided_copy(&c->par, size, y->rank, y->dims, y->data, to, x->data, from);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version shape_v[] = {{1}, {13}, {15}, {19}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version reshape_v[] = {
    {1, reshape_up1}, {5}, {13}, {14}, {19}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version flatten_v[] = {{1}, {9}, {11}, {13}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version squeeze_v[] = {{1, axes_up}, {11, axes_up}, {13}, {21},
                                           {23},         {24},          {25}, {0}};
static const mrt_op_version identity_v[] = {{1},  {13}, {14}, {16}, {19},
                                            {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version constant_v[] = {{1},  {9},  {11}, {12}, {13}, {19},
                                            {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version cos_v[] = {{9}, {20}, {21}, {23}, {24}, {25}, {0}};
static const mrt_op_version expand_v[] = {{8}, {13}, {0}};
#define ANY .domain = "", .types = "T=" MRT_T_ANY
MRT_OP(Shape) = {ANY,
                 .name = "Shape",
                 .doc = "the shape of x",
                 .in = "data:T",
                 .out = "shape:int64",
                 .attrs = "start:int=0 end:int",
                 .versions = shape_v,
                 .flags = MRT_OP_SHAPE_ONLY,
                 .infer = shape_infer,
                 .run = shape_run};
MRT_OP(Size) = {ANY,
                .name = "Size",
                .doc = "the number of elements",
                .in = "data:T",
                .out = "size:int64",
                .versions = shape_v,
                .flags = MRT_OP_SHAPE_ONLY,
                .infer = size_infer,
                .run = size_run};
MRT_OP(Reshape) = {ANY,
                   .name = "Reshape",
                   .doc = "the same bytes under another shape",
                   .in = "data:T, shape:int64",
                   .out = "reshaped:T",
                   .attrs = "allowzero:int=0",
                   .versions = reshape_v,
                   .flags = MRT_OP_VIEW,
                   .infer = reshape_infer,
                   .run = copy_run};
MRT_OP(Flatten) = {ANY,
                   .name = "Flatten",
                   .doc = "to a matrix",
                   .in = "input:T",
                   .out = "output:T",
                   .attrs = "axis:int=1",
                   .versions = flatten_v,
                   .flags = MRT_OP_VIEW,
                   .infer = flatten_infer,
                   .run = copy_run};
MRT_OP(Squeeze) = {ANY,
                   .name = "Squeeze",
                   .doc = "drops dims of 1",
                   .in = "data:T, axes:int64?",
                   .out = "squeezed:T",
                   .versions = squeeze_v,
                   .flags = MRT_OP_VIEW,
                   .infer = squeeze_infer,
                   .run = copy_run};
MRT_OP(Unsqueeze) = {ANY,
                     .name = "Unsqueeze",
                     .doc = "inserts dims of 1",
                     .in = "data:T, axes:int64",
                     .out = "expanded:T",
                     .versions = squeeze_v,
                     .flags = MRT_OP_VIEW,
                     .infer = unsqueeze_infer,
                     .run = copy_run};
MRT_OP(Identity) = {ANY,
                    .name = "Identity",
                    .doc = "y = x",
                    .in = "input:any",
                    .out = "output:any",
                    .versions = identity_v,
                    .flags = MRT_OP_VIEW,
                    .infer = identity_infer,
                    .run = identity_run};
MRT_OP(Constant) = {
    ANY,
    .name = "Constant",
    .doc = "a constant",
    .in = "",
    .out = "output:T",
    .attrs =
        "value:tensor value_int:int value_ints:ints value_float:float value_floats:floats "
        "value_string:string value_strings:strings sparse_value:sparse",
    .versions = constant_v,
    .infer = constant_infer,
    .run = constant_run};
MRT_OP(ConstantOfShape) = {ANY,
                           .name = "ConstantOfShape",
                           .doc = "one value everywhere",
                           .in = "input:int64",
                           .out = "output:T",
                           .attrs = "value:tensor",
                           .versions = cos_v,
                           .infer = cos_infer,
                           .run = cos_run};
MRT_OP(Expand) = {ANY,
                  .name = "Expand",
                  .doc = "broadcast to a shape",
                  .in = "input:T, shape:int64",
                  .out = "output:T",
                  .versions = expand_v,
                  .infer = expand_infer,
                  .run = expand_run};
