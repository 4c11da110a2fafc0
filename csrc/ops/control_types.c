/* Types around the bodies of If, Loop and Scan. A body is inferred with the types of the first
 * iteration; where it hands back something else, what differs becomes unknown and it is inferred
 * again, until nothing changes: each round can only forget, so it ends. */
#include "ops/control.h"

#define MAX_ROUNDS 24

const mrt_type *mrt_type_join(mrt_infer *c, const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a == b) return a && b ? a : NULL;
  if (a->kind != b->kind) return NULL;
  if (a->kind == MRT_KIND_SEQUENCE || a->kind == MRT_KIND_OPTIONAL) {
    const mrt_type *e = mrt_type_join(c, a->elem, b->elem);
    return e == a->elem ? a : mrt_type_of_kind(c->model, a->kind, e);
  }
  if (a->kind != MRT_KIND_TENSOR) return a;
  mrt_dtype d = a->dtype == b->dtype ? a->dtype : MRT_UNDEFINED;
  if (a->rank != b->rank || a->rank < 0) return mrt_type_tensor(c->model, d, -1, NULL);
  const mrt_expr *dims[MRT_MAX_RANK];
  bool same = d == a->dtype;
  for (int i = 0; i < a->rank; ++i) {
    dims[i] = a->dims[i] == b->dims[i] ? a->dims[i] : NULL;
    same = same && dims[i] == a->dims[i];
  }
  return same ? a : mrt_type_tensor(c->model, d, a->rank, dims);
}

static void find_inner(void *arg, int symbol) {
  int *limit = arg;
  if (symbol >= *limit) *limit = -1;
}
/* Symbols made since `limit` belong to the body. */
static const mrt_type *outside(mrt_infer *c, const mrt_type *t, int limit) {
  const mrt_expr *dims[MRT_MAX_RANK];
  bool all = true;
  if (!t) return NULL;
  if (t->kind == MRT_KIND_SEQUENCE || t->kind == MRT_KIND_OPTIONAL) {
    const mrt_type *e = outside(c, t->elem, limit);
    return e == t->elem ? t : mrt_type_of_kind(c->model, t->kind, e);
  }
  if (t->kind != MRT_KIND_TENSOR || t->rank < 0) return t;
  for (int i = 0; i < t->rank; ++i) {
    int known = limit;
    if (t->dims[i]) mrt_expr_symbols(t->dims[i], find_inner, &known);
    dims[i] = known < 0 ? NULL : t->dims[i];
    all = all && dims[i] == t->dims[i];
  }
  return all ? t : mrt_type_tensor(c->model, t->dtype, t->rank, dims);
}

static bool same_type(const mrt_type *a, const mrt_type *b) {
  if (a == b) return true;
  if (!a || !b || a->kind != b->kind) return false;
  if (a->kind == MRT_KIND_SEQUENCE || a->kind == MRT_KIND_OPTIONAL)
    return same_type(a->elem, b->elem);
  if (a->kind != MRT_KIND_TENSOR) return true;
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; ++i)
    if (a->dims[i] != b->dims[i]) return false;
  return true;
}

mrt_status *mrt_infer_carried(mrt_infer *c, mrt_graph *body, int n_in, const mrt_type **in,
                              int first, int n, int from, const mrt_type **out) {
  int limit = mrt_symtab_count(c->sym);
  for (int round = 0; round < MAX_ROUNDS; ++round) {
    bool changed = false;
    MRT_TRY(c->subgraph(c, body, n_in, in, out));
    for (int i = 0; i < body->n_outputs; ++i) out[i] = outside(c, out[i], limit);
    for (int i = 0; i < n; ++i) {
      const mrt_type *a = in[first + i], *b = out[from + i];
      if (!a) continue; /* as declared: nothing to widen */
      /* A body whose result is not known: shape and all may change. */
      const mrt_type *j = b ? mrt_type_join(c, a, b)
                          : a->kind == MRT_KIND_TENSOR
                              ? mrt_type_tensor(c->model, a->dtype, -1, NULL)
                              : a;
      if (!j || (round > MAX_ROUNDS / 2 && j->kind == MRT_KIND_TENSOR))
        j = mrt_type_tensor(c->model, a->dtype, -1, NULL);
      changed = changed || !same_type(a, j);
      in[first + i] = j;
    }
    if (!changed) return NULL;
  }
  return MRT_ERR(MRT_FAIL, "the types of carried values do not settle");
}

mrt_status *mrt_type_stacked(mrt_infer *c, const mrt_type *type, int64_t axis,
                             const mrt_expr *count, const mrt_type **out) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int at, k = 0;
  *out = NULL;
  if (!type || type->kind != MRT_KIND_TENSOR) return NULL;
  if (type->rank < 0) {
    *out = mrt_type_tensor(c->model, type->dtype, -1, NULL);
    return NULL;
  }
  if (type->rank + 1 > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d", type->rank + 1);
  MRT_TRY(mrt_infer_axis(c, axis, type->rank + 1, &at));
  for (int i = 0; i <= type->rank; ++i) dims[i] = i == at ? count : type->dims[k++];
  *out = mrt_type_tensor(c->model, type->dtype, type->rank + 1, dims);
  return NULL;
}

const mrt_type *mrt_type_sliced(mrt_infer *c, const mrt_type *type, int axis) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int k = 0;
  if (!type || type->kind != MRT_KIND_TENSOR || type->rank <= axis) return NULL;
  for (int i = 0; i < type->rank; ++i)
    if (i != axis) dims[k++] = type->dims[i];
  return mrt_type_tensor(c->model, type->dtype, k, dims);
}
