/* Graphs, nodes and attributes to messages. Vars are bound by pointers here and by names there:
 * each gets a name that no other var has, its own where that is free, interfaces of the main graph
 * first.
 */
#include <string.h>

#include "save/onnx_internal.h"

#define MAX_DEPTH 64
#define NEW(s, out, type, init)                         \
  do {                                                  \
    *(out) = mrt_arena_alloc((s)->arena, sizeof(type)); \
    if (!*(out)) return mrt_status_oom();               \
    init(*(out));                                       \
  } while (0)

static mrt_status *new_array(mrt_onnx_saver *s, size_t n, size_t size, void *out) {
  void *p = mrt_arena_alloc(s->arena, (n + 1) * size);
  *(void **)out = p;
  return p ? NULL : mrt_status_oom();
}

static mrt_status *name_of(mrt_onnx_saver *s, const mrt_var *v, char **out) {
  static const char absent[] = "";
  *out = (char *)absent;
  if (!v) return NULL;
  *out = mrt_map_getn(&s->given, &v->name, sizeof v->name);
  if (*out) return NULL;
  const char *name = v->name;
  for (unsigned i = 1; mrt_map_get(&s->names, name); ++i)
    if (!(name = mrt_arena_printf(s->arena, "%s_%u", v->name, i))) return mrt_status_oom();
  MRT_TRY(mrt_map_set(&s->names, name, (void *)v));
  *out = (char *)name;
  return mrt_map_setn(&s->given, &v->name, sizeof v->name, (void *)name);
}

/* The first version from which on the row's newest form is valid. */
static int64_t version_needed(const mrt_op_def *def) {
  int64_t since = 1;
  for (const mrt_op_version *v = def ? def->versions : NULL; v && v->since; ++v)
    if (v == def->versions || v[-1].upgrade) since = v->since;
  return since;
}

static mrt_status *need_opset(mrt_onnx_saver *s, const mrt_node *n) {
  int64_t version = version_needed(n->def), model = mrt_model_opset(s->model, n->domain);
  if (version < model) version = model;
  for (int i = 0; i < s->n_opsets; ++i)
    if (strcmp(s->opsets[i].domain, n->domain) == 0) {
      if (s->opsets[i].version < version) s->opsets[i].version = version;
      return NULL;
    }
  MRT_TRY(mrt_mem_grow(s->alloc, (void **)&s->opsets, &s->cap_opsets, (size_t)s->n_opsets + 1,
                       sizeof *s->opsets));
  s->opsets[s->n_opsets++] = (mrt_opset){n->domain, version};
  return NULL;
}

static mrt_status *build_graph(mrt_onnx_saver *s, const mrt_graph *g, int depth,
                               Onnx__GraphProto **out);

static ProtobufCBinaryData bytes(const char *p, size_t n) {
  return (ProtobufCBinaryData){n, (uint8_t *)p};
}

static mrt_status *build_lists(mrt_onnx_saver *s, const mrt_attr *a, int depth,
                               Onnx__AttributeProto *p) {
  if (a->kind == MRT_ATTR_STRINGS) {
    p->n_strings = a->n;
    MRT_TRY(new_array(s, a->n, sizeof *p->strings, &p->strings));
    for (size_t i = 0; i < a->n; ++i)
      p->strings[i] =
          bytes(a->strings[i], a->string_lens ? a->string_lens[i] : strlen(a->strings[i]));
  } else if (a->kind == MRT_ATTR_TENSORS) {
    p->n_tensors = a->n;
    MRT_TRY(new_array(s, a->n, sizeof *p->tensors, &p->tensors));
    for (size_t i = 0; i < a->n; ++i)
      MRT_TRY(mrt_onnx_build_tensor(s, "", a->tensors[i], false, &p->tensors[i]));
  } else {
    p->n_graphs = a->n;
    MRT_TRY(new_array(s, a->n, sizeof *p->graphs, &p->graphs));
    for (size_t i = 0; i < a->n; ++i)
      MRT_TRY(build_graph(s, a->graphs[i], depth + 1, &p->graphs[i]));
  }
  return NULL;
}

static mrt_status *build_attr(mrt_onnx_saver *s, const mrt_attr *a, int depth,
                              Onnx__AttributeProto **out) {
  NEW(s, out, Onnx__AttributeProto, onnx__attribute_proto__init);
  Onnx__AttributeProto *p = *out;
  p->name = (char *)a->name;
  p->has_type = 1;
  p->type = (int32_t)a->kind;
  switch (a->kind) {
    case MRT_ATTR_FLOAT: p->has_f = 1, p->f = a->f; return NULL;
    case MRT_ATTR_INT: p->has_i = 1, p->i = a->i; return NULL;
    case MRT_ATTR_STRING: p->has_s = 1, p->s = bytes(a->s, a->n); return NULL;
    case MRT_ATTR_TENSOR: return mrt_onnx_build_tensor(s, "", a->tensor, false, &p->t);
    case MRT_ATTR_GRAPH: return build_graph(s, a->graph, depth + 1, &p->g);
    case MRT_ATTR_FLOATS: p->n_floats = a->n, p->floats = (float *)a->floats; return NULL;
    case MRT_ATTR_INTS: p->n_ints = a->n, p->ints = (int64_t *)a->ints; return NULL;
    case MRT_ATTR_STRINGS:
    case MRT_ATTR_TENSORS:
    case MRT_ATTR_GRAPHS: return build_lists(s, a, depth, p);
    case MRT_ATTR_SPARSE: return mrt_onnx_build_sparse(s, a->sparse, &p->sparse_tensor);
    case MRT_ATTR_TYPE: return mrt_onnx_build_type(s, a->type, &p->tp);
    default: return MRT_ERR(MRT_FAIL, "attribute '%s' of kind %d", a->name, (int)a->kind);
  }
}

mrt_status *mrt_onnx_build_metadata(mrt_onnx_saver *s, const mrt_metadata *from, int n,
                                    Onnx__StringStringEntryProto ***out, size_t *out_n) {
  if (n == 0) return NULL;
  MRT_TRY(new_array(s, (size_t)n, sizeof **out, out));
  for (int i = 0; i < n; ++i) {
    NEW(s, &(*out)[i], Onnx__StringStringEntryProto, onnx__string_string_entry_proto__init);
    (*out)[i]->key = (char *)from[i].key;
    (*out)[i]->value = (char *)from[i].value;
  }
  *out_n = (size_t)n;
  return NULL;
}

static mrt_status *build_node(mrt_onnx_saver *s, const mrt_node *n, int depth,
                              Onnx__NodeProto **out) {
  NEW(s, out, Onnx__NodeProto, onnx__node_proto__init);
  Onnx__NodeProto *p = *out;
  MRT_TRY(need_opset(s, n));
  p->op_type = (char *)n->op_type;
  if (*n->domain) p->domain = (char *)n->domain;
  if (*n->doc) p->doc_string = (char *)n->doc;
  MRT_TRY(mrt_onnx_build_metadata(s, n->metadata, n->n_metadata, &p->metadata_props,
                                  &p->n_metadata_props));
  MRT_TRY(new_array(s, (size_t)n->n_in, sizeof *p->input, &p->input));
  MRT_TRY(new_array(s, (size_t)n->n_out, sizeof *p->output, &p->output));
  MRT_TRY(new_array(s, (size_t)n->n_attrs, sizeof *p->attribute, &p->attribute));
  for (int i = 0; i < n->n_in; ++i) {
    MRT_TRY(name_of(s, n->in[i].var, &p->input[i]));
    if (n->in[i].var) p->n_input = (size_t)i + 1; /* absent ones at the end are left out */
  }
  for (int i = 0; i < n->n_out; ++i) {
    MRT_TRY(name_of(s, n->out[i], &p->output[i]));
    if (n->out[i]) p->n_output = (size_t)i + 1;
  }
  for (int i = 0; i < n->n_attrs; ++i)
    if (!n->attrs[i].is_default)
      MRT_TRY(build_attr(s, &n->attrs[i], depth, &p->attribute[p->n_attribute++]));
  return NULL;
}

static mrt_status *build_info(mrt_onnx_saver *s, const mrt_var *v, Onnx__ValueInfoProto **out) {
  NEW(s, out, Onnx__ValueInfoProto, onnx__value_info_proto__init);
  if (*v->doc) (*out)->doc_string = (char *)v->doc;
  MRT_TRY(name_of(s, v, &(*out)->name));
  return mrt_onnx_build_type(s, v->type, &(*out)->type);
}

static mrt_status *build_interface(mrt_onnx_saver *s, const mrt_graph *g, Onnx__GraphProto *p) {
  MRT_TRY(new_array(s, (size_t)g->n_inputs, sizeof *p->input, &p->input));
  MRT_TRY(new_array(s, (size_t)g->n_outputs, sizeof *p->output, &p->output));
  p->n_input = (size_t)g->n_inputs;
  p->n_output = (size_t)g->n_outputs;
  for (int i = 0; i < g->n_inputs; ++i) MRT_TRY(build_info(s, g->inputs[i], &p->input[i]));
  for (int i = 0; i < g->n_outputs; ++i) MRT_TRY(build_info(s, g->outputs[i], &p->output[i]));
  return NULL;
}

static mrt_status *build_initializers(mrt_onnx_saver *s, const mrt_graph *g, Onnx__GraphProto *p) {
  mrt_tensor *const *defaults = g->parent ? NULL : s->options->input_defaults;
  char *name;
  MRT_TRY(new_array(s, g->n_vars + (size_t)g->n_inputs, sizeof *p->initializer, &p->initializer));
  for (int i = 0; i < g->n_inputs && defaults; ++i) {
    if (!defaults[i]) continue;
    MRT_TRY(name_of(s, g->inputs[i], &name));
    MRT_TRY(mrt_onnx_build_tensor(s, name, defaults[i], true, &p->initializer[p->n_initializer++]));
  }
  for (size_t i = 0; i < g->n_vars; ++i) {
    const mrt_var *v = g->vars[i];
    if (!v->constant || v->is_input || (!v->n_uses && !v->n_graph_outputs)) continue;
    MRT_TRY(name_of(s, v, &name));
    MRT_TRY(mrt_onnx_build_tensor(s, name, v->constant, true, &p->initializer[p->n_initializer++]));
  }
  return NULL;
}

/* What a pass put in a node's place carries its name: in the file a name stands once in a graph. */
static mrt_status *name_nodes(mrt_onnx_saver *s, const mrt_graph *g, Onnx__GraphProto *p) {
  mrt_map taken;
  mrt_status *st = NULL;
  Onnx__NodeProto **node = p->node;
  mrt_map_init(&taken, s->alloc);
  for (const mrt_node *n = g->first; n && !st; n = n->next, ++node) {
    const char *name = n->name;
    if (!*name) continue;
    for (unsigned i = 1; name && mrt_map_get(&taken, name); ++i)
      name = mrt_arena_printf(s->arena, "%s_%u", n->name, i);
    (*node)->name = (char *)name;
    st = name ? mrt_map_set(&taken, name, (void *)n) : mrt_status_oom();
  }
  mrt_map_deinit(&taken);
  return st;
}

static mrt_status *build_graph(mrt_onnx_saver *s, const mrt_graph *g, int depth,
                               Onnx__GraphProto **out) {
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  NEW(s, out, Onnx__GraphProto, onnx__graph_proto__init);
  Onnx__GraphProto *p = *out;
  p->name = (char *)g->name;
  if (*g->doc) p->doc_string = (char *)g->doc;
  MRT_TRY(mrt_onnx_build_metadata(s, g->metadata, g->n_metadata, &p->metadata_props,
                                  &p->n_metadata_props));
  MRT_TRY(build_interface(s, g, p));
  MRT_TRY(build_initializers(s, g, p));
  MRT_TRY(new_array(s, g->n_nodes, sizeof *p->node, &p->node));
  for (const mrt_node *n = g->first; n; n = n->next) {
    char buf[256];
    MRT_TRY_CTX(build_node(s, n, depth, &p->node[p->n_node++]), "%s",
                mrt_node_describe(n, buf, sizeof buf));
  }
  return name_nodes(s, g, p);
}

mrt_status *mrt_onnx_build_graph(mrt_onnx_saver *s, const mrt_graph *g, Onnx__GraphProto **out) {
  return build_graph(s, g, 0, out);
}
