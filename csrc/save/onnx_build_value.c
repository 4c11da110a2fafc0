/* Types and tensors to messages. */
#include <string.h>

#include "save/onnx_internal.h"

#define NEW(s, out, type, init)                         \
  do {                                                  \
    *(out) = mrt_arena_alloc((s)->arena, sizeof(type)); \
    if (!*(out)) return mrt_status_oom();               \
    init(*(out));                                       \
  } while (0)

static mrt_status *build_dim(mrt_onnx_saver *s, const mrt_type *t, int i,
                             Onnx__TensorShapeProto__Dimension **out) {
  const mrt_expr *e = t->dims[i];
  int symbol;
  NEW(s, out, Onnx__TensorShapeProto__Dimension, onnx__tensor_shape_proto__dimension__init);
  if (e && mrt_expr_is_const(e, &(*out)->dim_value))
    (*out)->has_dim_value = 1;
  else if (t->dim_names && t->dim_names[i])
    (*out)->dim_param = (char *)t->dim_names[i];
  else if (e && mrt_expr_is_symbol(e, &symbol))
    (*out)->dim_param = (char *)mrt_symtab_name(s->model->sym, symbol);
  return NULL;
}

static mrt_status *build_shape(mrt_onnx_saver *s, const mrt_type *t, Onnx__TensorShapeProto **out) {
  *out = NULL;
  if (t->rank < 0) return NULL;
  NEW(s, out, Onnx__TensorShapeProto, onnx__tensor_shape_proto__init);
  (*out)->n_dim = (size_t)t->rank;
  (*out)->dim = mrt_arena_alloc(s->arena, ((size_t)t->rank + 1) * sizeof *(*out)->dim);
  if (!(*out)->dim) return mrt_status_oom();
  for (int i = 0; i < t->rank; ++i) MRT_TRY(build_dim(s, t, i, &(*out)->dim[i]));
  return NULL;
}

static mrt_status *build_map(mrt_onnx_saver *s, const mrt_type *t, Onnx__TypeProto *p) {
  const mrt_type scalar = {.kind = MRT_KIND_TENSOR, .dtype = t->dtype, .rank = -1};
  NEW(s, &p->map_type, Onnx__TypeProto__Map, onnx__type_proto__map__init);
  p->map_type->has_key_type = 1;
  p->map_type->key_type = (int32_t)t->key_dtype;
  return mrt_onnx_build_type(s, t->elem ? t->elem : &scalar, &p->map_type->value_type);
}

mrt_status *mrt_onnx_build_type(mrt_onnx_saver *s, const mrt_type *t, Onnx__TypeProto **out) {
  *out = NULL;
  if (!t || ((t->kind == MRT_KIND_TENSOR || t->kind == MRT_KIND_SPARSE) && !t->dtype)) return NULL;
  NEW(s, out, Onnx__TypeProto, onnx__type_proto__init);
  Onnx__TypeProto *p = *out;
  switch (t->kind) {
    case MRT_KIND_TENSOR:
      NEW(s, &p->tensor_type, Onnx__TypeProto__Tensor, onnx__type_proto__tensor__init);
      p->tensor_type->has_elem_type = 1;
      p->tensor_type->elem_type = (int32_t)t->dtype;
      return build_shape(s, t, &p->tensor_type->shape);
    case MRT_KIND_SPARSE:
      NEW(s, &p->sparse_tensor_type, Onnx__TypeProto__SparseTensor,
          onnx__type_proto__sparse_tensor__init);
      p->sparse_tensor_type->has_elem_type = 1;
      p->sparse_tensor_type->elem_type = (int32_t)t->dtype;
      return build_shape(s, t, &p->sparse_tensor_type->shape);
    case MRT_KIND_SEQUENCE:
      NEW(s, &p->sequence_type, Onnx__TypeProto__Sequence, onnx__type_proto__sequence__init);
      return mrt_onnx_build_type(s, t->elem, &p->sequence_type->elem_type);
    case MRT_KIND_OPTIONAL:
      NEW(s, &p->optional_type, Onnx__TypeProto__Optional, onnx__type_proto__optional__init);
      return mrt_onnx_build_type(s, t->elem, &p->optional_type->elem_type);
    case MRT_KIND_MAP: return build_map(s, t, p);
    default: *out = NULL; return NULL;
  }
}

static mrt_status *build_strings(mrt_onnx_saver *s, const mrt_tensor *t, Onnx__TensorProto *p) {
  size_t n = (size_t)mrt_tensor_count(t);
  mrt_string *const *from = t->data;
  p->n_string_data = n;
  p->string_data = mrt_arena_alloc(s->arena, (n + 1) * sizeof *p->string_data);
  if (!p->string_data) return mrt_status_oom();
  for (size_t i = 0; i < n; ++i)
    p->string_data[i] =
        (ProtobufCBinaryData){mrt_string_len(from[i]), (uint8_t *)mrt_string_bytes(from[i])};
  return NULL;
}

static mrt_status *add_entry(mrt_onnx_saver *s, Onnx__TensorProto *p, const char *key,
                             const char *value) {
  Onnx__StringStringEntryProto *e;
  if (!value) return mrt_status_oom();
  NEW(s, &e, Onnx__StringStringEntryProto, onnx__string_string_entry_proto__init);
  e->key = (char *)key;
  e->value = (char *)value;
  p->external_data[p->n_external_data++] = e;
  return NULL;
}

/* Aligned in the file: whoever maps it can use the elements where they lie. */
static mrt_status *to_external(mrt_onnx_saver *s, const mrt_tensor *t, Onnx__TensorProto *p) {
  mrt_writer_pad(s->external, MRT_ALIGN);
  p->external_data = mrt_arena_alloc(s->arena, 3 * sizeof *p->external_data);
  if (!p->external_data) return mrt_status_oom();
  MRT_TRY(add_entry(s, p, "location", s->options->external_name));
  MRT_TRY(add_entry(
      s, p, "offset",
      mrt_arena_printf(s->arena, "%llu", (unsigned long long)mrt_writer_size(s->external))));
  MRT_TRY(add_entry(s, p, "length", mrt_arena_printf(s->arena, "%zu", t->bytes)));
  p->has_data_location = 1;
  p->data_location = 1;
  mrt_writer_add(s->external, t->data, t->bytes);
  return NULL;
}

mrt_status *mrt_onnx_build_tensor(mrt_onnx_saver *s, const char *name, const mrt_tensor *t,
                                  bool external, Onnx__TensorProto **out) {
  *out = NULL;
  if (t->strided || t->layout != MRT_LAYOUT_PLAIN || !mrt_device_is_host(t->device))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "tensor '%s': writing from a device or a layout", name);
  NEW(s, out, Onnx__TensorProto, onnx__tensor_proto__init);
  Onnx__TensorProto *p = *out;
  if (*name) p->name = (char *)name;
  p->has_data_type = 1;
  p->data_type = (int32_t)t->dtype;
  p->n_dims = (size_t)t->rank;
  p->dims = (int64_t *)t->dims;
  if (t->dtype == MRT_STRING) return build_strings(s, t, p);
  if (external && s->external && t->bytes >= s->options->external_min_bytes)
    return to_external(s, t, p);
  MRT_TRY(mrt_mem_grow(s->alloc, (void **)&s->payloads, &s->cap_payloads, s->n_payloads + 1,
                       sizeof *s->payloads));
  if (s->n_payloads > UINT32_MAX) return MRT_ERR(MRT_FAIL, "too many tensors");
  p->has_macart_payload = 1;
  p->macart_payload = (uint32_t)s->n_payloads;
  s->payloads[s->n_payloads++] = (mrt_saved_payload){t->data, t->bytes};
  return NULL;
}

mrt_status *mrt_onnx_build_sparse(mrt_onnx_saver *s, const mrt_sparse *v,
                                  Onnx__SparseTensorProto **out) {
  NEW(s, out, Onnx__SparseTensorProto, onnx__sparse_tensor_proto__init);
  (*out)->n_dims = (size_t)v->rank;
  (*out)->dims = (int64_t *)v->dims;
  MRT_TRY(mrt_onnx_build_tensor(s, "", v->values, false, &(*out)->values));
  return mrt_onnx_build_tensor(s, "", v->indices, false, &(*out)->indices);
}
