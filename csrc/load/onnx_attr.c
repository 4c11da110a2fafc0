/* AttributeProto to attribute. The kind that a file states must be the kind that it gives: later
 * code then need not ask whether an attribute of kind GRAPH has a graph. */
#include <string.h>

#include "load/onnx_internal.h"

/* IR version 1 and 2 files may leave the type out. */
static mrt_attr_kind guess(const Onnx__AttributeProto *p) {
  return p->g               ? MRT_ATTR_GRAPH
         : p->t             ? MRT_ATTR_TENSOR
         : p->sparse_tensor ? MRT_ATTR_SPARSE
         : p->tp            ? MRT_ATTR_TYPE
         : p->n_ints        ? MRT_ATTR_INTS
         : p->n_floats      ? MRT_ATTR_FLOATS
         : p->n_strings     ? MRT_ATTR_STRINGS
         : p->n_tensors     ? MRT_ATTR_TENSORS
         : p->n_graphs      ? MRT_ATTR_GRAPHS
         : p->has_s         ? MRT_ATTR_STRING
         : p->has_f         ? MRT_ATTR_FLOAT
                            : MRT_ATTR_INT;
}

static mrt_status *bytes(mrt_onnx *l, const ProtobufCBinaryData *b, const char **out, size_t *len) {
  *len = b->len;
  *out = mrt_arena_strndup(l->model->arena, (const char *)b->data, b->len);
  return *out ? NULL : mrt_status_oom();
}

static mrt_status *strings(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_attr *a) {
  const char **s = mrt_arena_alloc(l->model->arena, (p->n_strings + 1) * sizeof *s);
  size_t *lens = mrt_arena_alloc(l->model->arena, (p->n_strings + 1) * sizeof *lens);
  if (!s || !lens) return mrt_status_oom();
  for (size_t i = 0; i < p->n_strings; ++i) MRT_TRY(bytes(l, &p->strings[i], &s[i], &lens[i]));
  a->n = p->n_strings;
  a->strings = s;
  a->string_lens = lens;
  return NULL;
}

static mrt_status *tensors(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_attr *a) {
  mrt_tensor **all = mrt_arena_alloc(l->model->arena, (p->n_tensors + 1) * sizeof *all);
  if (!all) return mrt_status_oom();
  for (size_t i = 0; i < p->n_tensors; ++i) {
    MRT_TRY(mrt_onnx_tensor(l, p->tensors[i], &all[i]));
    MRT_TRY(mrt_model_own(l->model, &all[i]->base));
  }
  a->n = p->n_tensors;
  a->tensors = all;
  return NULL;
}

static mrt_status *subgraph(mrt_onnx *l, const Onnx__GraphProto *p, mrt_node *node,
                            mrt_graph **out) {
  if (!node) return MRT_ERR(MRT_NOT_IMPLEMENTED, "a graph as default of a function's attribute");
  MRT_TRY(mrt_onnx_graph(l, p, node->graph, out));
  (*out)->owner = node;
  return NULL;
}

static mrt_status *graphs(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_node *node, mrt_attr *a) {
  mrt_graph **all = mrt_arena_alloc(l->model->arena, (p->n_graphs + 1) * sizeof *all);
  if (!all) return mrt_status_oom();
  for (size_t i = 0; i < p->n_graphs; ++i) MRT_TRY(subgraph(l, p->graphs[i], node, &all[i]));
  a->n = p->n_graphs;
  a->graphs = all;
  return NULL;
}

static mrt_status *no_value(const Onnx__AttributeProto *p, const char *kind) {
  return MRT_ERR(MRT_INVALID_GRAPH,
                 "This is an invalid model. The attribute '%s' is of type %s but has no such value",
                 mrt_onnx_str(p->name), kind);
}

static mrt_status *value(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_node *node, mrt_attr *a) {
  mrt_arena *arena = l->model->arena;
  switch ((int)a->kind) {
    case MRT_ATTR_FLOAT: a->f = p->f; return NULL;
    case MRT_ATTR_INT: a->i = p->i; return NULL;
    case MRT_ATTR_STRING: return bytes(l, &p->s, &a->s, &a->n);
    case MRT_ATTR_TENSOR:
      if (!p->t) return no_value(p, "TENSOR");
      MRT_TRY(mrt_onnx_tensor(l, p->t, &a->tensor));
      return mrt_model_own(l->model, &a->tensor->base);
    case MRT_ATTR_GRAPH: return p->g ? subgraph(l, p->g, node, &a->graph) : no_value(p, "GRAPH");
    case MRT_ATTR_FLOATS:
      a->n = p->n_floats;
      a->floats = mrt_arena_memdup(arena, p->floats, a->n * sizeof *a->floats);
      return a->floats ? NULL : mrt_status_oom();
    case MRT_ATTR_INTS:
      a->n = p->n_ints;
      a->ints = mrt_arena_memdup(arena, p->ints, a->n * sizeof *a->ints);
      return a->ints ? NULL : mrt_status_oom();
    case MRT_ATTR_STRINGS: return strings(l, p, a);
    case MRT_ATTR_TENSORS: return tensors(l, p, a);
    case MRT_ATTR_GRAPHS: return graphs(l, p, node, a);
    case MRT_ATTR_SPARSE:
      if (!p->sparse_tensor) return no_value(p, "SPARSE_TENSOR");
      MRT_TRY(mrt_onnx_sparse(l, p->sparse_tensor, &a->sparse));
      return mrt_model_own(l->model, &a->sparse->base);
    case MRT_ATTR_TYPE:
      MRT_TRY(mrt_onnx_type(l, p->tp, &a->type));
      return a->type ? NULL : no_value(p, "TYPE_PROTO");
    default:
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "attribute type %d (AttributeProto.type)", (int)a->kind);
  }
}

mrt_status *mrt_onnx_attr_value(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_node *node,
                                mrt_attr *out) {
  *out = (mrt_attr){.kind = p->has_type && p->type ? (mrt_attr_kind)p->type : guess(p)};
  MRT_TRY(mrt_onnx_keep(l, p->name, &out->name));
  if (p->ref_attr_name && *p->ref_attr_name) { /* in a function: the caller's attribute */
    if (!l->opsets)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. A reference to attribute '%s' "
                     "outside of a function",
                     p->ref_attr_name);
    out->i = out->kind;
    out->kind = MRT_ATTR_REF;
    return mrt_onnx_keep(l, p->ref_attr_name, &out->s);
  }
  return value(l, p, node, out);
}

mrt_status *mrt_onnx_attr(mrt_onnx *l, const Onnx__AttributeProto *p, mrt_node *node) {
  mrt_attr a;
  mrt_status *st = mrt_onnx_attr_value(l, p, node, &a);
  if (!st) st = mrt_node_set_attr(node, &a);
  return mrt_status_wrap(st, "attribute '%s'", mrt_onnx_str(p->name));
}
