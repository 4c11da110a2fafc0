/* What inference functions ask and say. */
#include <string.h>

#include "ir/op.h"

#define MAX_ELEMS 64 /* contents are followed for shape-like tensors only */

static const mrt_type *tensor_type(const mrt_infer *c, int i) {
  const mrt_type *t = i < c->n_in ? c->in_types[i] : NULL;
  return t && t->kind == MRT_KIND_TENSOR ? t : NULL;
}

bool mrt_infer_has(const mrt_infer *c, int i) { return i < c->node->n_in && c->node->in[i].var; }
mrt_dtype mrt_infer_dtype(const mrt_infer *c, int i) {
  const mrt_type *t = tensor_type(c, i);
  return t ? t->dtype : MRT_UNDEFINED;
}
int mrt_infer_rank(const mrt_infer *c, int i) {
  const mrt_type *t = tensor_type(c, i);
  return t ? t->rank : -1;
}
const mrt_expr *mrt_infer_dim(const mrt_infer *c, int i, int axis) {
  const mrt_type *t = tensor_type(c, i);
  return t && axis < t->rank ? t->dims[axis] : NULL;
}
const mrt_tensor *mrt_infer_const(const mrt_infer *c, int i) {
  return i < c->n_in ? c->in_consts[i] : NULL;
}
void *mrt_infer_alloc(mrt_infer *c, size_t bytes) { return mrt_arena_alloc(c->arena, bytes); }

const mrt_expr *const *mrt_infer_ints(const mrt_infer *c, int i, int *n) {
  *n = -1;
  if (i >= c->n_in) return NULL;
  const mrt_tensor *t = c->in_consts[i];
  if (t && (mrt_dtype_is_int((mrt_dtype)t->dtype) || t->dtype == MRT_BOOL)) {
    int64_t count = mrt_tensor_count(t);
    if (count > MAX_ELEMS || t->strided) return NULL;
    const mrt_expr **e = mrt_arena_alloc(c->arena, ((size_t)count + 1) * sizeof *e);
    if (!e) return NULL;
    for (int64_t k = 0; k < count; ++k)
      e[k] = mrt_expr_const(c->sym, mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, k));
    *n = (int)count;
    return e;
  }
  if (c->in_elems[i] && c->in_n_elems[i] >= 0) {
    *n = c->in_n_elems[i];
    return c->in_elems[i];
  }
  return NULL;
}

bool mrt_infer_const_ints(const mrt_infer *c, int i, int cap, int64_t *out, int *n) {
  const mrt_expr *const *e = mrt_infer_ints(c, i, n);
  if (!e || *n > cap) return false;
  for (int k = 0; k < *n; ++k)
    if (!mrt_expr_is_const(e[k], &out[k])) return false;
  return true;
}

mrt_status *mrt_infer_out(mrt_infer *c, int i, mrt_dtype dtype, int rank,
                          const mrt_expr *const *dims) {
  if (i >= c->n_out) return NULL;
  if (rank > MRT_MAX_RANK)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d; at most %d", rank, MRT_MAX_RANK);
  for (int k = 0; k < rank; ++k) {
    int64_t d;
    if (mrt_expr_is_const(dims[k], &d) && d < 0)
      return MRT_ERR(MRT_FAIL, "dim %d of output %d would be %lld", k, i, (long long)d);
  }
  c->out_types[i] = mrt_type_tensor(c->model, dtype, rank, dims);
  return c->out_types[i] ? NULL : mrt_status_oom();
}
mrt_status *mrt_infer_out_type(mrt_infer *c, int i, const mrt_type *type) {
  if (i < c->n_out) c->out_types[i] = type;
  return NULL;
}
mrt_status *mrt_infer_out_like(mrt_infer *c, int i, int in, mrt_dtype dtype) {
  const mrt_type *t = tensor_type(c, in);
  if (!t) return NULL;
  if (!dtype || dtype == t->dtype) return mrt_infer_out_type(c, i, t);
  return mrt_infer_out(c, i, dtype, t->rank, t->dims);
}
mrt_status *mrt_infer_out_elems(mrt_infer *c, int i, int n, const mrt_expr *const *elems) {
  if (i >= c->n_out || n < 0 || n > MAX_ELEMS) return NULL;
  const mrt_expr **copy = mrt_arena_alloc(c->arena, ((size_t)n + 1) * sizeof *copy);
  if (!copy) return mrt_status_oom();
  for (int k = 0; k < n; ++k) copy[k] = elems[k];
  c->out_elems[i] = copy;
  c->out_n_elems[i] = n;
  return NULL;
}

mrt_status *mrt_infer_same_dim(mrt_infer *c, const mrt_expr *a, const mrt_expr *b, const char *what,
                               const mrt_expr **out) {
  int64_t x, y;
  if (out) *out = a ? a : b;
  if (!a || !b || a == b) return NULL;
  bool ca = mrt_expr_is_const(a, &x), cb = mrt_expr_is_const(b, &y);
  if (ca && cb)
    return MRT_ERR(MRT_FAIL, "%s: %lld and %lld differ", what, (long long)x, (long long)y);
  if (out) *out = cb ? b : a;
  return c->guard ? c->guard(c, a, b, 0) : NULL;
}

mrt_status *mrt_infer_broadcast_dim(mrt_infer *c, const mrt_expr *a, const mrt_expr *b,
                                    const mrt_expr **out) {
  int64_t x, y;
  *out = NULL;
  bool ca = mrt_expr_is_const(a, &x), cb = mrt_expr_is_const(b, &y);
  if (a == b || (cb && y == 1)) {
    *out = a;
    return NULL;
  }
  if (ca && x == 1) {
    *out = b;
    return NULL;
  }
  if (ca && cb)
    return MRT_ERR(MRT_FAIL, "Incompatible dimensions for broadcasting: %lld and %lld",
                   (long long)x, (long long)y);
  if (ca || cb) { /* a known size above 1 decides; the other one must agree or be 1 */
    *out = ca ? a : b;
    const mrt_expr *other = ca ? b : a;
    return c->guard && other ? c->guard(c, *out, other, 1) : NULL;
  }
  if (!a || !b) return NULL;
  *out = mrt_expr_max(c->sym, a, b);
  return c->guard ? c->guard(c, a, b, 2) : NULL;
}

mrt_status *mrt_infer_broadcast(mrt_infer *c, int first, int n, int *rank, const mrt_expr **dims) {
  int r = 0;
  *rank = -1;
  for (int i = first; i < first + n; ++i) {
    if (!mrt_infer_has(c, i)) continue;
    int k = mrt_infer_rank(c, i);
    if (k < 0) return NULL;
    if (k > r) r = k;
  }
  for (int d = 0; d < r; ++d) {
    const mrt_expr *dim = mrt_expr_const(c->sym, 1);
    for (int i = first; i < first + n; ++i) {
      int k = mrt_infer_rank(c, i), at = d - (r - k);
      if (!mrt_infer_has(c, i) || at < 0) continue;
      MRT_TRY(mrt_infer_broadcast_dim(c, dim, mrt_infer_dim(c, i, at), &dim));
    }
    dims[d] = dim;
  }
  *rank = r;
  return NULL;
}

mrt_status *mrt_infer_axis(const mrt_infer *c, int64_t axis, int rank, int *out) {
  (void)c;
  if (axis < -(int64_t)rank || axis >= rank)
    return MRT_ERR(MRT_FAIL, "axis must be in [-rank, rank-1]. axis=%lld rank=%d", (long long)axis,
                   rank);
  *out = (int)(axis < 0 ? axis + rank : axis);
  return NULL;
}

mrt_status *mrt_infer_same_shape(mrt_infer *c) {
  return mrt_infer_out_like(c, 0, 0, MRT_UNDEFINED);
}

static mrt_status *broadcast_all(mrt_infer *c, mrt_dtype dtype) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int rank;
  MRT_TRY(mrt_infer_broadcast(c, 0, c->n_in, &rank, dims));
  return mrt_infer_out(c, 0, dtype, rank, dims);
}
mrt_status *mrt_infer_elementwise(mrt_infer *c) { return broadcast_all(c, mrt_infer_dtype(c, 0)); }
mrt_status *mrt_infer_compare(mrt_infer *c) { return broadcast_all(c, MRT_BOOL); }
