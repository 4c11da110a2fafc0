/* AttributeProto and TypeProto. Field numbers: onnx.proto. */
#include <string.h>

#include "load/onnx_internal.h"

mrt_status *mrt_model_own(mrt_model *m, mrt_value *take); /* ir/model.c */

static mrt_status *dim(mrt_onnx *l, mrt_wire w, const mrt_expr **out, const char **name) {
  mrt_field f;
  int more;
  *out = NULL;
  *name = NULL;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 1 && f.type == 0 && (int64_t)f.value >= 0) {
      *out = mrt_expr_const(l->model->sym, (int64_t)f.value);
    } else if (f.number == 2 && f.type == 2 && mrt_wire_size(f.bytes)) {
      MRT_TRY(mrt_onnx_string(l, f.bytes, name));
      *out = mrt_expr_symbol(l->model->sym, *name);
    }
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

static mrt_status *shape(mrt_onnx *l, mrt_wire w, mrt_type *t) {
  const mrt_expr *dims[MRT_MAX_RANK];
  const char *names[MRT_MAX_RANK];
  mrt_field f;
  int more, rank = 0;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number != 1 || f.type != 2) continue;
    if (rank == MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank above %d", MRT_MAX_RANK);
    MRT_TRY(dim(l, f.bytes, &dims[rank], &names[rank]));
    ++rank;
  }
  if (more < 0) return mrt_onnx_malformed();
  t->rank = rank;
  t->dims = mrt_arena_memdup(l->model->arena, dims, (size_t)rank * sizeof *dims);
  t->dim_names = mrt_arena_memdup(l->model->arena, names, (size_t)rank * sizeof *names);
  return t->dims && t->dim_names ? NULL : mrt_status_oom();
}

static mrt_status *tensor_type(mrt_onnx *l, mrt_wire w, mrt_type *t) {
  mrt_field f;
  int more;
  t->rank = -1;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 1 && f.type == 0) {
      if (f.value && !mrt_dtype_valid((int)(f.value & 0xffff)))
        return MRT_ERR(MRT_INVALID_PROTOBUF, "unknown element type %llu",
                       (unsigned long long)f.value);
      t->dtype = (mrt_dtype)f.value;
    } else if (f.number == 2 && f.type == 2) {
      MRT_TRY(shape(l, f.bytes, t));
    }
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

static mrt_status *nested(mrt_onnx *l, mrt_wire w, mrt_type *t) {
  mrt_field f;
  int more;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (t->kind == MRT_KIND_MAP && f.number == 1) {
      t->key_dtype = mrt_dtype_valid((int)f.value) ? (mrt_dtype)f.value : MRT_UNDEFINED;
    } else if (f.type == 2) {
      const mrt_type *elem;
      MRT_TRY(mrt_onnx_type(l, f.bytes, &elem));
      t->elem = elem;
      if (t->kind == MRT_KIND_MAP && elem) t->dtype = elem->dtype;
    }
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

mrt_status *mrt_onnx_type(mrt_onnx *l, mrt_wire w, const mrt_type **out) {
  mrt_field f;
  int more;
  *out = NULL;
  mrt_type *t = mrt_arena_alloc(l->model->arena, sizeof *t);
  if (!t) return mrt_status_oom();
  if (++l->depth > 100) return MRT_ERR(MRT_INVALID_PROTOBUF, "messages nested too deep");
  t->rank = -1;
  mrt_status *st = NULL;
  while (!st && (more = mrt_wire_next(&w, &f)) != 0) {
    if (more < 0) {
      st = mrt_onnx_malformed();
    } else if (f.type == 2 && (f.number == 1 || f.number == 8)) {
      t->kind = f.number == 1 ? MRT_KIND_TENSOR : MRT_KIND_SPARSE;
      st = tensor_type(l, f.bytes, t);
    } else if (f.type == 2 && (f.number == 4 || f.number == 5 || f.number == 9)) {
      t->kind = f.number == 4   ? MRT_KIND_SEQUENCE
                : f.number == 5 ? MRT_KIND_MAP
                                : MRT_KIND_OPTIONAL;
      st = nested(l, f.bytes, t);
    }
  }
  --l->depth;
  if (!st && t->kind != MRT_KIND_NONE) *out = t;
  return st;
}

/* Repeated numbers, packed or not. */
typedef struct numbers {
  int64_t *i;
  float *f;
  size_t n, cap_i, cap_f;
} numbers;

static mrt_status *add_number(mrt_onnx *l, numbers *x, bool is_float, uint64_t v) {
  if (is_float) {
    MRT_TRY(mrt_mem_grow(l->alloc, (void **)&x->f, &x->cap_f, x->n + 1, sizeof *x->f));
    uint32_t bits = (uint32_t)v;
    memcpy(&x->f[x->n++], &bits, 4);
  } else {
    MRT_TRY(mrt_mem_grow(l->alloc, (void **)&x->i, &x->cap_i, x->n + 1, sizeof *x->i));
    x->i[x->n++] = (int64_t)v;
  }
  return NULL;
}

static mrt_status *add_numbers(mrt_onnx *l, numbers *x, const mrt_field *f) {
  bool is_float = f->number == 7;
  mrt_wire b = f->bytes;
  uint64_t v;
  if (f->type != 2) return add_number(l, x, is_float, f->value);
  while (b.p < b.end) {
    if (is_float) {
      uint32_t bits;
      if (mrt_wire_size(b) < 4) return mrt_onnx_malformed();
      memcpy(&bits, b.p, 4);
      b.p += 4;
      v = bits;
    } else if (!mrt_wire_varint(&b, &v)) {
      return mrt_onnx_malformed();
    }
    MRT_TRY(add_number(l, x, is_float, v));
  }
  return NULL;
}

static mrt_status *read_field(mrt_onnx *l, const mrt_field *f, mrt_node *node, mrt_attr *a,
                              numbers *x, const char **strings, size_t *lens, size_t cap) {
  mrt_graph *g;
  mrt_tensor *t;
  switch (f->number) {
    case 1: return mrt_onnx_string(l, f->bytes, &a->name);
    case 2: {
      uint32_t bits = (uint32_t)f->value;
      memcpy(&a->f, &bits, 4);
      return NULL;
    }
    case 3: a->i = (int64_t)f->value; return NULL;
    case 4: a->n = mrt_wire_size(f->bytes); return mrt_onnx_string(l, f->bytes, &a->s);
    case 5:
      MRT_TRY(mrt_onnx_tensor(l, f->bytes, NULL, &t));
      a->tensor = t;
      return mrt_model_own(l->model, &t->base);
    case 6:
      MRT_TRY(mrt_onnx_graph(l, f->bytes, node->graph, &g));
      g->owner = node;
      a->graph = g;
      return NULL;
    case 7:
    case 8: return add_numbers(l, x, f);
    case 9:
      if (a->n == cap) return mrt_onnx_malformed();
      lens[a->n] = mrt_wire_size(f->bytes);
      return mrt_onnx_string(l, f->bytes, &strings[a->n++]);
    case 14: return mrt_onnx_type(l, f->bytes, &a->type);
    case 20: a->kind = (mrt_attr_kind)f->value; return NULL;
    default: return NULL;
  }
}

mrt_status *mrt_onnx_attr(mrt_onnx *l, mrt_wire w, mrt_node *node) {
  mrt_attr a = {.name = ""};
  numbers x = {0};
  mrt_field f;
  mrt_wire first = w;
  size_t n_strings = 0;
  int more;
  bool ints = false, floats = false;
  mrt_status *st = NULL;
  while ((more = mrt_wire_next(&first, &f)) > 0) n_strings += f.number == 9 && f.type == 2;
  if (more < 0) return mrt_onnx_malformed();
  const char **strings = mrt_arena_alloc(l->model->arena, (n_strings + 1) * sizeof *strings);
  size_t *lens = mrt_arena_alloc(l->model->arena, (n_strings + 1) * sizeof *lens);
  if (!strings || !lens) return mrt_status_oom();
  while (!st && mrt_wire_next(&w, &f) > 0) {
    bool bytes =
        f.number == 1 || (f.number >= 4 && f.number <= 6) || f.number == 9 || f.number == 14;
    if (bytes && f.type != 2) st = mrt_onnx_malformed();
    floats = floats || f.number == 7;
    ints = ints || f.number == 8;
    if (!st) st = read_field(l, &f, node, &a, &x, strings, lens, n_strings);
  }
  if (!st && !a.kind) /* IR version 1 and 2 files may leave the type out */
    a.kind = a.graph     ? MRT_ATTR_GRAPH
             : a.tensor  ? MRT_ATTR_TENSOR
             : ints      ? MRT_ATTR_INTS
             : floats    ? MRT_ATTR_FLOATS
             : n_strings ? MRT_ATTR_STRINGS
             : a.s       ? MRT_ATTR_STRING
             : a.f != 0  ? MRT_ATTR_FLOAT
                         : MRT_ATTR_INT;
  if (a.kind == MRT_ATTR_INTS || a.kind == MRT_ATTR_FLOATS) a.n = x.n;
  a.ints = x.i;
  a.floats = x.f;
  a.strings = strings;
  a.string_lens = lens;
  if (a.kind == MRT_ATTR_STRING && !a.s) a.s = "";
  if (!st) st = mrt_node_set_attr(node, &a);
  mrt_mem_free(l->alloc, x.i);
  mrt_mem_free(l->alloc, x.f);
  return mrt_status_wrap(st, "attribute '%s'", a.name);
}
