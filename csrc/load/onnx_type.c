/* TypeProto to type: shapes with numbers and named dims. */
#include "load/onnx_internal.h"

static mrt_status *dim(mrt_onnx *l, const Onnx__TensorShapeProto__Dimension *p,
                       const mrt_expr **out, const char **name, const char **denotation) {
  *out = NULL;
  *name = *denotation = NULL;
  if (p->denotation && *p->denotation) MRT_TRY(mrt_onnx_keep(l, p->denotation, denotation));
  if (p->dim_param && *p->dim_param) {
    MRT_TRY(mrt_onnx_keep(l, p->dim_param, name));
    *out = mrt_expr_symbol(l->model->sym, *name);
  } else if (p->has_dim_value && p->dim_value >= 0) {
    *out = mrt_expr_const(l->model->sym, p->dim_value);
  }
  return NULL;
}

static mrt_status *shape(mrt_onnx *l, const Onnx__TensorShapeProto *p, mrt_type *t) {
  const mrt_expr *dims[MRT_MAX_RANK];
  const char *names[MRT_MAX_RANK], *denotations[MRT_MAX_RANK];
  t->rank = -1;
  if (!p) return NULL;
  if (p->n_dim > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank above %d", MRT_MAX_RANK);
  for (size_t i = 0; i < p->n_dim; ++i)
    MRT_TRY(dim(l, p->dim[i], &dims[i], &names[i], &denotations[i]));
  t->rank = (int)p->n_dim;
  t->dims = mrt_arena_memdup(l->model->arena, dims, p->n_dim * sizeof *dims);
  t->dim_names = mrt_arena_memdup(l->model->arena, names, p->n_dim * sizeof *names);
  t->dim_denotations =
      mrt_arena_memdup(l->model->arena, denotations, p->n_dim * sizeof *denotations);
  return t->dims && t->dim_names && t->dim_denotations ? NULL : mrt_status_oom();
}

static mrt_status *elem_type(int32_t number, mrt_dtype *out) {
  if (!mrt_dtype_valid(number))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Failed to load model with error: Invalid tensor data type %d.", number);
  *out = (mrt_dtype)number;
  return NULL;
}

static mrt_status *inner(mrt_onnx *l, const Onnx__TypeProto *p, const char *what,
                         const mrt_type **out) {
  MRT_TRY(mrt_onnx_type(l, p, out));
  return *out ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "Unsupported type proto: %s of nothing", what);
}

/* Recurses as deep as the messages are nested, which the scan has bounded. */
mrt_status *mrt_onnx_type(mrt_onnx *l, const Onnx__TypeProto *p, const mrt_type **out) {
  *out = NULL;
  if (!p) return NULL;
  mrt_type *t = mrt_arena_alloc(l->model->arena, sizeof *t);
  if (!t) return mrt_status_oom();
  t->rank = -1;
  if (p->tensor_type) {
    t->kind = MRT_KIND_TENSOR;
    MRT_TRY(elem_type(p->tensor_type->elem_type, &t->dtype));
    MRT_TRY(shape(l, p->tensor_type->shape, t));
  } else if (p->sparse_tensor_type) {
    t->kind = MRT_KIND_SPARSE;
    MRT_TRY(elem_type(p->sparse_tensor_type->elem_type, &t->dtype));
    MRT_TRY(shape(l, p->sparse_tensor_type->shape, t));
  } else if (p->sequence_type) {
    t->kind = MRT_KIND_SEQUENCE;
    MRT_TRY(inner(l, p->sequence_type->elem_type, "a sequence", &t->elem));
  } else if (p->optional_type) {
    t->kind = MRT_KIND_OPTIONAL;
    MRT_TRY(inner(l, p->optional_type->elem_type, "an optional", &t->elem));
  } else if (p->map_type) {
    t->kind = MRT_KIND_MAP;
    MRT_TRY(elem_type(p->map_type->key_type, &t->key_dtype));
    MRT_TRY(inner(l, p->map_type->value_type, "a map", &t->elem));
    t->dtype = t->elem->dtype;
  } else {
    return NULL;
  }
  *out = t;
  return NULL;
}
