/* GraphProto, NodeProto and FunctionProto to graphs. Names become vars: of this graph first, then
 * of the enclosing ones; a name that nobody has produced yet is made, and mrt_graph_verify finds
 * out whether somebody does. */
#include <string.h>

#include "load/onnx_internal.h"

/* A dense tensor as large as this could not stand in the file. */
#define MAX_DENSE ((size_t)1 << 31)

static mrt_status *lookup(mrt_graph *g, const char *name, mrt_var **out) {
  *out = NULL;
  if (!*name) return NULL;
  *out = mrt_graph_find_outer(g, name);
  return *out ? NULL : mrt_graph_add_var(g, name, NULL, out);
}

/* A name produced in this graph hides those of enclosing graphs. */
static mrt_status *own_var(mrt_graph *g, const char *name, mrt_var **out) {
  *out = NULL;
  if (!*name) return NULL;
  *out = mrt_graph_find(g, name);
  return *out ? NULL : mrt_graph_add_var(g, name, NULL, out);
}

static int version_of(const mrt_onnx *l, const char *domain, int otherwise) {
  if (!l->opsets) return otherwise;
  if (strcmp(domain, "ai.onnx") == 0) domain = "";
  for (int i = 0; i < l->n_opsets; ++i)
    if (strcmp(l->opsets[i].domain, domain) == 0) return (int)l->opsets[i].version;
  return 0;
}

static mrt_status *make_node(mrt_onnx *l, const Onnx__NodeProto *p, mrt_graph *g, mrt_node **out) {
  mrt_arena *a = l->model->arena;
  mrt_var **in = mrt_arena_alloc(a, (p->n_input + 1) * sizeof *in);
  mrt_var **outs = mrt_arena_alloc(a, (p->n_output + 1) * sizeof *outs);
  if (!in || !outs) return mrt_status_oom();
  for (size_t i = 0; i < p->n_input; ++i) MRT_TRY(lookup(g, mrt_onnx_str(p->input[i]), &in[i]));
  for (size_t i = 0; i < p->n_output; ++i)
    MRT_TRY(own_var(g, mrt_onnx_str(p->output[i]), &outs[i]));
  MRT_TRY(mrt_graph_add_node(g, NULL, mrt_onnx_str(p->domain), mrt_onnx_str(p->op_type),
                             mrt_onnx_str(p->name), (int)p->n_input, in, (int)p->n_output, outs,
                             out));
  mrt_node *n = *out;
  n->version = n->orig_version = version_of(l, n->domain, n->version);
  if (p->doc_string) MRT_TRY(mrt_onnx_keep(l, p->doc_string, &n->doc));
  MRT_TRY(
      mrt_onnx_metadata(l, p->n_metadata_props, p->metadata_props, &n->metadata, &n->n_metadata));
  if (p->overload) MRT_TRY(mrt_onnx_keep(l, p->overload, &n->overload));
  MRT_TRY(mrt_node_reserve_attrs(n, p->n_attribute));
  for (size_t i = 0; i < p->n_attribute; ++i) MRT_TRY(mrt_onnx_attr(l, p->attribute[i], n));
  return NULL;
}

static mrt_status *check_names(mrt_onnx *l, size_t n, Onnx__NodeProto *const *p) {
  mrt_map seen;
  mrt_status *st = NULL;
  mrt_map_init(&seen, l->alloc);
  for (size_t i = 0; i < n && !st; ++i) {
    const char *name = mrt_onnx_str(p[i]->name);
    if (*name && mrt_map_get(&seen, name))
      st = MRT_ERR(MRT_FAIL, "This is an invalid model. Error: two nodes with same node name (%s).",
                   name);
    else if (*name)
      st = mrt_map_set(&seen, name, p[i]);
  }
  mrt_map_deinit(&seen);
  return st;
}

static mrt_status *read_nodes(mrt_onnx *l, size_t n, Onnx__NodeProto *const *p, mrt_graph *g) {
  mrt_var *v;
  mrt_node *node;
  for (size_t i = 0; i < n; ++i)
    for (size_t k = 0; k < p[i]->n_output; ++k)
      MRT_TRY(own_var(g, mrt_onnx_str(p[i]->output[k]), &v));
  for (size_t i = 0; i < n; ++i)
    MRT_TRY_CTX(make_node(l, p[i], g, &node), "node '%s' (%s)", mrt_onnx_str(p[i]->name),
                mrt_onnx_str(p[i]->op_type));
  return NULL;
}

/* Takes the tensor. Of two initializers of a name the latest counts, as in ONNX Runtime. */
static mrt_status *initializer(mrt_graph *g, const char *name, mrt_tensor *t) {
  mrt_var *v = mrt_graph_find(g, name);
  if (!v && *name) return mrt_graph_add_constant(g, name, t, &v);
  if (v) return mrt_var_set_constant(v, t);
  mrt_tensor_release(t);
  return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. An initializer has no name.");
}

static mrt_status *sparse_initializer(mrt_onnx *l, const Onnx__SparseTensorProto *p, mrt_graph *g) {
  mrt_sparse *s;
  mrt_tensor *t = NULL;
  size_t bytes;
  const char *name = mrt_onnx_str(p->values ? p->values->name : NULL);
  MRT_TRY_CTX(mrt_onnx_sparse(l, p, &s), "sparse tensor '%s'", name);
  mrt_status *st = mrt_shape_bytes((mrt_dtype)s->values->dtype, s->rank, s->dims, &bytes);
  if (!st && bytes > MAX_DENSE) st = MRT_ERR(MRT_NOT_IMPLEMENTED, "%zu bytes when dense", bytes);
  if (!st) st = mrt_sparse_to_dense(l->alloc, s, &t);
  mrt_value_release(&s->base);
  MRT_TRY_CTX(st, "sparse tensor '%s'", name);
  return initializer(g, name, t);
}

static mrt_status *read_constants(mrt_onnx *l, const Onnx__GraphProto *p, mrt_graph *g) {
  for (size_t i = 0; i < p->n_initializer; ++i) {
    mrt_tensor *t;
    MRT_TRY(mrt_onnx_tensor(l, p->initializer[i], &t));
    MRT_TRY(initializer(g, mrt_onnx_str(p->initializer[i]->name), t));
  }
  for (size_t i = 0; i < p->n_sparse_initializer; ++i)
    MRT_TRY(sparse_initializer(l, p->sparse_initializer[i], g));
  return NULL;
}

static mrt_status *read_inputs(mrt_onnx *l, const Onnx__GraphProto *p, mrt_graph *g) {
  const mrt_type *type;
  mrt_var *v;
  for (size_t i = 0; i < p->n_input; ++i) {
    const char *name = mrt_onnx_str(p->input[i]->name);
    MRT_TRY_CTX(mrt_onnx_type(l, p->input[i]->type, &type), "input '%s'", name);
    if (!*name)
      return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. A graph input has no name.");
    if (!type && !g->parent)
      return MRT_ERR(MRT_FAIL,
                     "This is an invalid model. Model input (%s) does not have type information.",
                     name);
    MRT_TRY(mrt_graph_add_var(g, name, type, &v));
    if (p->input[i]->doc_string) MRT_TRY(mrt_onnx_keep(l, p->input[i]->doc_string, &v->doc));
    MRT_TRY(mrt_graph_add_input(g, v));
  }
  return NULL;
}

static mrt_status *read_outputs(mrt_onnx *l, const Onnx__GraphProto *p, mrt_graph *g) {
  const mrt_type *type;
  mrt_var *v;
  for (size_t i = 0; i < p->n_value_info; ++i) {
    v = mrt_graph_find(g, mrt_onnx_str(p->value_info[i]->name));
    if (!v || v->type) continue;
    MRT_TRY_CTX(mrt_onnx_type(l, p->value_info[i]->type, &v->type), "value '%s'", v->name);
  }
  for (size_t i = 0; i < p->n_output; ++i) {
    const char *name = mrt_onnx_str(p->output[i]->name);
    MRT_TRY_CTX(mrt_onnx_type(l, p->output[i]->type, &type), "output '%s'", name);
    MRT_TRY(lookup(g, name, &v));
    if (!v)
      return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. A graph output has no name.");
    if (!v->type) v->type = type;
    if (p->output[i]->doc_string && !*v->doc)
      MRT_TRY(mrt_onnx_keep(l, p->output[i]->doc_string, &v->doc));
    MRT_TRY(mrt_graph_add_output(g, v));
  }
  return NULL;
}

/* Recurses as deep as the messages are nested, which the scan has bounded. */
mrt_status *mrt_onnx_graph(mrt_onnx *l, const Onnx__GraphProto *p, mrt_graph *parent,
                           mrt_graph **out) {
  MRT_TRY(mrt_graph_create(l->model, parent, mrt_onnx_str(p->name), out));
  if (p->doc_string) MRT_TRY(mrt_onnx_keep(l, p->doc_string, &(*out)->doc));
  MRT_TRY(mrt_onnx_metadata(l, p->n_metadata_props, p->metadata_props, &(*out)->metadata,
                            &(*out)->n_metadata));
  MRT_TRY(read_inputs(l, p, *out));
  MRT_TRY(read_constants(l, p, *out));
  MRT_TRY(check_names(l, p->n_node, p->node));
  MRT_TRY(read_nodes(l, p->n_node, p->node, *out));
  return read_outputs(l, p, *out);
}

static mrt_status *function_head(mrt_onnx *l, const Onnx__FunctionProto *p, mrt_function *f) {
  mrt_arena *a = l->model->arena;
  mrt_opset *opsets = mrt_arena_alloc(a, (p->n_opset_import + 1) * sizeof *opsets);
  const char **names = mrt_arena_alloc(a, (p->n_attribute + 1) * sizeof *names);
  mrt_attr *defaults = mrt_arena_alloc(a, (p->n_attribute_proto + 1) * sizeof *defaults);
  if (!opsets || !names || !defaults) return mrt_status_oom();
  MRT_TRY(mrt_onnx_keep(l, p->name, &f->name));
  MRT_TRY(mrt_onnx_keep(l, p->domain, &f->domain));
  MRT_TRY(mrt_onnx_keep(l, p->overload, &f->overload));
  for (size_t i = 0; i < p->n_opset_import; ++i) {
    int64_t version = p->opset_import[i]->version;
    MRT_TRY(mrt_onnx_keep(l, p->opset_import[i]->domain, &opsets[i].domain));
    if (strcmp(opsets[i].domain, "ai.onnx") == 0) opsets[i].domain = "";
    opsets[i].version = version < 0 ? 0 : version > 1000000 ? 1000000 : version;
  }
  for (size_t i = 0; i < p->n_attribute; ++i) MRT_TRY(mrt_onnx_keep(l, p->attribute[i], &names[i]));
  for (size_t i = 0; i < p->n_attribute_proto; ++i)
    MRT_TRY(mrt_onnx_attr_value(l, p->attribute_proto[i], NULL, &defaults[i]));
  f->opsets = opsets;
  f->n_opsets = (int)p->n_opset_import;
  f->attr_names = names;
  f->n_attr_names = (int)p->n_attribute;
  f->attr_defaults = defaults;
  f->n_attr_defaults = (int)p->n_attribute_proto;
  return NULL;
}

static mrt_status *function_body(mrt_onnx *l, const Onnx__FunctionProto *p, mrt_graph *g) {
  mrt_var *v;
  for (size_t i = 0; i < p->n_input; ++i) {
    if (!*p->input[i])
      return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. An input has no name.");
    MRT_TRY(mrt_graph_add_var(g, p->input[i], NULL, &v));
    MRT_TRY(mrt_graph_add_input(g, v));
  }
  MRT_TRY(read_nodes(l, p->n_node, p->node, g));
  for (size_t i = 0; i < p->n_output; ++i) {
    MRT_TRY(lookup(g, mrt_onnx_str(p->output[i]), &v));
    if (!v) return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. An output has no name.");
    MRT_TRY(mrt_graph_add_output(g, v));
  }
  return NULL;
}

mrt_status *mrt_onnx_function(mrt_onnx *l, const Onnx__FunctionProto *p, mrt_function *out) {
  mrt_status *st = function_head(l, p, out);
  if (!st) st = mrt_graph_create(l->model, NULL, mrt_onnx_str(p->name), &out->body);
  l->opsets = out->opsets;
  l->n_opsets = out->n_opsets;
  if (!st) st = function_body(l, p, out->body);
  l->opsets = NULL;
  l->n_opsets = 0;
  return mrt_status_wrap(st, "function '%s.%s'", mrt_onnx_str(p->domain), mrt_onnx_str(p->name));
}
