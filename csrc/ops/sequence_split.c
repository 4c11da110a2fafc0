/* SplitToSequence and ConcatFromSequence: between a tensor and a sequence of its parts. */
#include "ops/sequence.h"

/* ---- SplitToSequence ---- */
static bool drops_axis(const mrt_infer *c) { /* only without sizes */
  return !mrt_infer_has(c, 1) && mrt_node_int(c->node, "keepdims") == 0;
}
static mrt_status *split_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis, k = 0;
  const mrt_expr *dims[MRT_MAX_RANK];
  const mrt_type *elem = mrt_type_tensor(c->model, mrt_infer_dtype(c, 0), -1, NULL);
  if (rank >= 0) {
    MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
    for (int i = 0; i < rank; ++i) {
      if (i != axis)
        dims[k++] = mrt_infer_dim(c, 0, i);
      else if (!drops_axis(c))
        dims[k++] = mrt_infer_has(c, 1) ? NULL : mrt_expr_const(c->sym, 1);
    }
    elem = mrt_type_tensor(c->model, mrt_infer_dtype(c, 0), k, dims);
  }
  const mrt_type *t = mrt_type_of_kind(c->model, MRT_KIND_SEQUENCE, elem);
  return t ? mrt_infer_out_type(c, 0, t) : mrt_status_oom();
}

typedef struct splitting {
  const mrt_tensor *x, *sizes; /* sizes NULL: parts of one */
  int axis;
  size_t size;
  bool keep;
} splitting;

/* Slices [at, at + len) along the axis as a new tensor. */
static mrt_status *part(const mrt_kctx *c, const splitting *s, int64_t at, int64_t len,
                        mrt_tensor **out) {
  const mrt_tensor *x = s->x;
  int64_t dims[MRT_MAX_RANK], outer = mrt_dims_product(x->dims, 0, s->axis),
                              inner = mrt_dims_product(x->dims, s->axis + 1, x->rank);
  int k = 0;
  for (int i = 0; i < x->rank; ++i)
    if (i != s->axis || s->keep) dims[k++] = i == s->axis ? len : x->dims[i];
  MRT_TRY(mrt_tensor_create(c->alloc, (mrt_dtype)x->dtype, k, dims, out));
  size_t row = (size_t)(len * inner) * s->size, step = (size_t)(x->dims[s->axis] * inner) * s->size;
  for (int64_t o = 0; o < outer && row; ++o)
    memcpy((char *)(*out)->data + (size_t)o * row,
           (const char *)x->data + (size_t)o * step + (size_t)(at * inner) * s->size, row);
  mrt_tensor_retain_strings(*out);
  return NULL;
}

/* Length of part i that starts at `at`. */
static mrt_status *part_length(const splitting *s, int64_t i, int64_t at, int64_t *len) {
  int64_t rest = s->x->dims[s->axis] - at;
  *len = 1;
  if (s->sizes) {
    bool one = s->sizes->rank == 0;
    *len = mrt_index_at(s->sizes, one ? 0 : i);
    if (*len < 0 || (one && *len == 0))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid value in 'split' input: %lld", (long long)*len);
    if (one && *len > rest) *len = rest;
  }
  if (*len > rest)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "split sizes do not add up to the axis: %lld are left for %lld", (long long)rest,
                   (long long)*len);
  return NULL;
}

static mrt_status *split_run(mrt_kctx *c) {
  splitting s = {.x = mrt_in(c, 0), .sizes = mrt_in(c, 1)};
  mrt_sequence *y;
  mrt_status *st = NULL;
  if (!s.x || s.x->rank == 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "a scalar cannot be split");
  MRT_TRY(mrt_elem_size(c, s.x, &s.size));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), s.x->rank, &s.axis));
  s.keep = s.sizes || mrt_node_int(c->node, "keepdims") != 0;
  if (s.sizes && s.sizes->rank > 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "'split' must be a scalar or 1-D");
  MRT_TRY(mrt_sequence_create(c->alloc, (mrt_dtype)s.x->dtype, &y));
  int64_t at = 0, dim = s.x->dims[s.axis], n = s.sizes && s.sizes->rank ? s.sizes->dims[0] : -1;
  for (int64_t i = 0; (n >= 0 ? i < n : at < dim) && !st; ++i) {
    int64_t len;
    mrt_tensor *t;
    MRT_TRY_GOTO(st, done, part_length(&s, i, at, &len));
    MRT_TRY_GOTO(st, done, part(c, &s, at, len, &t));
    st = mrt_sequence_append(y, &t->base);
    at += len;
  }
  if (!st && at != dim)
    st = MRT_ERR(MRT_INVALID_ARGUMENT, "split sizes add up to %lld, not %lld", (long long)at,
                 (long long)dim);
done:
  if (!st) return mrt_out_set(c, 0, &y->base);
  mrt_value_release(&y->base);
  return st;
}

/* ---- ConcatFromSequence ---- */
static mrt_status *concat_infer(mrt_infer *c) {
  const mrt_type *t = mrt_sequence_elem_type(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK];
  int axis, k = 0, more = mrt_node_int(c->node, "new_axis") != 0;
  if (!t || t->kind != MRT_KIND_TENSOR) return NULL;
  if (t->rank < 0 || t->rank + more > MRT_MAX_RANK) return mrt_infer_out(c, 0, t->dtype, -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), t->rank + more, &axis));
  for (int i = 0; i < t->rank + more; ++i) {
    dims[i] = i == axis ? NULL : t->dims[k];
    k += i != axis || !more;
  }
  return mrt_infer_out(c, 0, t->dtype, t->rank + more, dims);
}

/* Shape of the result, and every element checked against the first. */
static mrt_status *concat_shape(const mrt_sequence *s, int axis, bool stack, int *rank,
                                int64_t *dims) {
  const mrt_tensor *first = mrt_value_tensor(s->items[0]);
  int k = 0;
  *rank = first->rank + stack;
  for (int i = 0; i < *rank; ++i) dims[i] = i == axis ? 0 : first->dims[k++ + (!stack && i > axis)];
  for (size_t i = 0; i < s->n; ++i) {
    const mrt_tensor *t = mrt_value_tensor(s->items[i]);
    bool same = t && t->dtype == first->dtype && t->rank == first->rank;
    for (int d = 0; same && d < t->rank; ++d)
      same = t->dims[d] == first->dims[d] || (!stack && d == axis);
    if (!same)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Non concat axis dimensions must match: element %lld",
                     (long long)i);
    dims[axis] += stack ? 1 : t->dims[axis];
  }
  return NULL;
}
static mrt_status *concat_run(mrt_kctx *c) {
  const mrt_sequence *s;
  int64_t dims[MRT_MAX_RANK + 1], at = 0;
  bool stack = mrt_node_int(c->node, "new_axis") != 0;
  int rank, axis;
  size_t size;
  mrt_tensor *y;
  MRT_TRY(mrt_in_sequence(c, 0, &s));
  if (!s->n || !mrt_value_tensor(s->items[0]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Must have 1 or more inputs");
  rank = mrt_value_tensor(s->items[0])->rank + stack;
  if (!rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "Cannot concatenate scalars");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), rank, &axis));
  MRT_TRY(concat_shape(s, axis, stack, &rank, dims));
  MRT_TRY(mrt_out_alloc(c, 0, (mrt_dtype)mrt_value_tensor(s->items[0])->dtype, rank, dims, &y));
  MRT_TRY(mrt_elem_size(c, y, &size));
  int64_t outer = mrt_dims_product(dims, 0, axis), inner = mrt_dims_product(dims, axis + 1, rank),
          row = dims[axis] * inner;
  for (size_t i = 0; i < s->n; ++i) {
    const mrt_tensor *t = mrt_value_tensor(s->items[i]);
    mrt_tensor *own = NULL;
    if (t->strided) MRT_TRY(mrt_tensor_copy(c->alloc, t, &own));
    const mrt_tensor *from = own ? own : t;
    int64_t len = (stack ? 1 : from->dims[axis]) * inner;
    for (int64_t o = 0; o < outer && len; ++o) {
      char *to = (char *)y->data + (size_t)(o * row + at) * size;
      memcpy(to, (const char *)from->data + (size_t)(o * len) * size, (size_t)len * size);
      if (y->dtype == MRT_STRING)
        for (int64_t k = 0; k < len; ++k) mrt_string_retain(((mrt_string **)(void *)to)[k]);
    }
    at += len;
    mrt_tensor_release(own);
  }
  return NULL;
}

static const mrt_op_version split_v[] = {{11}, {24}, {0}};
static const mrt_op_version concat_v[] = {{11}, {0}};
#define COMMON .domain = "", .types = MRT_T_SEQUENCE, .flags = MRT_OP_DYNAMIC
MRT_OP(SplitToSequence) = {COMMON,
                           .name = "SplitToSequence",
                           .doc = "the parts of a tensor along an axis",
                           .in = "input:T, split:I?",
                           .out = "output_sequence:seq(T)",
                           .attrs = "axis:int=0 keepdims:int=1",
                           .versions = split_v,
                           .infer = split_infer,
                           .run = split_run};
MRT_OP(ConcatFromSequence) = {COMMON,
                              .name = "ConcatFromSequence",
                              .doc = "joins or stacks the elements of a sequence",
                              .in = "input_sequence:seq(T)",
                              .out = "concat_result:T",
                              .attrs = "axis:int! new_axis:int=0",
                              .versions = concat_v,
                              .infer = concat_infer,
                              .run = concat_run};
