/* ModelProto, GraphProto, NodeProto to graph. Field numbers: onnx.proto. The file is walked in
 * place; nesting is bounded, every length is checked by the wire reader. */
#include <string.h>

#include "load/onnx_internal.h"

#define MAX_NESTED 64

mrt_status *mrt_onnx_malformed(void) {
  return MRT_ERR(MRT_INVALID_PROTOBUF, "Protobuf parsing failed.");
}

mrt_status *mrt_onnx_string(mrt_onnx *l, mrt_wire w, const char **out) {
  *out = mrt_arena_strndup(l->model->arena, (const char *)w.p, mrt_wire_size(w));
  return *out ? NULL : mrt_status_oom();
}

mrt_status *mrt_onnx_entry(mrt_onnx *l, mrt_wire w, const char **key, const char **value) {
  mrt_field f;
  int more;
  *key = *value = "";
  while ((more = mrt_wire_next(&w, &f)) > 0)
    if (f.type == 2 && (f.number == 1 || f.number == 2))
      MRT_TRY(mrt_onnx_string(l, f.bytes, f.number == 1 ? key : value));
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

/* A var by name: known in this graph or an enclosing one, else made (used before it is produced).
 */
static mrt_status *lookup(mrt_graph *g, const char *name, mrt_var **out) {
  *out = NULL;
  if (!*name) return NULL;
  *out = mrt_graph_find_outer(g, name);
  return *out ? NULL : mrt_graph_add_var(g, name, NULL, out);
}
static mrt_status *own_var(mrt_graph *g, const char *name, mrt_var **out) {
  *out = NULL;
  if (!*name) return NULL;
  *out = mrt_graph_find(g, name);
  return *out ? NULL : mrt_graph_add_var(g, name, NULL, out);
}

static mrt_status *value_info(mrt_onnx *l, mrt_wire w, const char **name, const mrt_type **type) {
  mrt_field f;
  int more;
  *name = "";
  *type = NULL;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 1 && f.type == 2) MRT_TRY(mrt_onnx_string(l, f.bytes, name));
    if (f.number == 2 && f.type == 2) MRT_TRY(mrt_onnx_type(l, f.bytes, type));
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

typedef struct names {
  const char **v;
  size_t n, cap;
} names;
static mrt_status *add_name(mrt_onnx *l, names *s, mrt_wire w) {
  MRT_TRY(mrt_mem_grow(l->alloc, (void **)&s->v, &s->cap, s->n + 1, sizeof *s->v));
  return mrt_onnx_string(l, w, &s->v[s->n++]);
}

static mrt_status *make_node(mrt_onnx *l, mrt_graph *g, const names *in, const names *out,
                             const char *name, const char *op, const char *domain,
                             mrt_node **node) {
  mrt_arena *a = l->model->arena;
  mrt_var **iv = mrt_arena_alloc(a, (in->n + 1) * sizeof *iv);
  mrt_var **ov = mrt_arena_alloc(a, (out->n + 1) * sizeof *ov);
  if (!iv || !ov) return mrt_status_oom();
  for (size_t i = 0; i < in->n; ++i) MRT_TRY(lookup(g, in->v[i], &iv[i]));
  for (size_t i = 0; i < out->n; ++i) MRT_TRY(own_var(g, out->v[i], &ov[i]));
  return mrt_graph_add_node(g, NULL, domain, op, name, (int)in->n, iv, (int)out->n, ov, node);
}

static mrt_status *read_node(mrt_onnx *l, mrt_wire w, mrt_graph *g) {
  names in = {0}, out = {0};
  const char *name = "", *op = "", *domain = "", *doc = "";
  mrt_wire again = w;
  mrt_field f;
  mrt_node *node = NULL;
  mrt_status *st = NULL;
  int more = 0;
  while (!st && (more = mrt_wire_next(&w, &f)) > 0) {
    if (f.type != 2) continue;
    switch (f.number) {
      case 1: st = add_name(l, &in, f.bytes); break;
      case 2: st = add_name(l, &out, f.bytes); break;
      case 3: st = mrt_onnx_string(l, f.bytes, &name); break;
      case 4: st = mrt_onnx_string(l, f.bytes, &op); break;
      case 6: st = mrt_onnx_string(l, f.bytes, &doc); break;
      case 7: st = mrt_onnx_string(l, f.bytes, &domain); break;
      default: break;
    }
  }
  if (!st && more < 0) st = mrt_onnx_malformed();
  if (!st) st = make_node(l, g, &in, &out, name, op, domain, &node);
  while (!st && mrt_wire_next(&again, &f) > 0)
    if (f.number == 5 && f.type == 2) st = mrt_onnx_attr(l, f.bytes, node);
  if (node) node->doc = doc;
  mrt_mem_free(l->alloc, in.v);
  mrt_mem_free(l->alloc, out.v);
  return mrt_status_wrap(st, "node '%s' (%s)", name, op);
}

static mrt_status *read_initializer(mrt_onnx *l, mrt_wire w, mrt_graph *g) {
  const char *name;
  mrt_tensor *t;
  MRT_TRY(mrt_onnx_tensor(l, w, &name, &t));
  mrt_var *v = mrt_graph_find(g, name);
  if (!v) return mrt_graph_add_constant(g, name, t, &v);
  if (v->constant || v->producer) {
    mrt_tensor_release(t);
    return MRT_ERR(MRT_FAIL, "This is an invalid model. Duplicate definition of name (%s).", name);
  }
  return mrt_var_set_constant(v, t);
}

static mrt_status *read_inputs(mrt_onnx *l, mrt_wire w, mrt_graph *g) {
  mrt_field f;
  int more;
  const char *name;
  const mrt_type *type;
  mrt_var *v;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 2 && f.type == 2) {
      MRT_TRY(mrt_onnx_string(l, f.bytes, &g->name));
    } else if (f.number == 11 && f.type == 2) {
      MRT_TRY(value_info(l, f.bytes, &name, &type));
      MRT_TRY(mrt_graph_add_var(g, name, type, &v));
      MRT_TRY(mrt_graph_add_input(g, v));
    }
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

static mrt_status *read_rest(mrt_onnx *l, mrt_wire w, mrt_graph *g) {
  mrt_field f;
  const char *name;
  const mrt_type *type;
  mrt_var *v;
  mrt_wire nodes = w, outs = w;
  while (mrt_wire_next(&w, &f) > 0) {
    if (f.number == 5 && f.type == 2) MRT_TRY(read_initializer(l, f.bytes, g));
    if (f.number == 10 && f.type == 2) MRT_TRY(mrt_onnx_string(l, f.bytes, &g->doc));
    if (f.number == 15 && f.type == 2) return MRT_ERR(MRT_NOT_IMPLEMENTED, "sparse initializers");
  }
  /* Names produced here hide those of enclosing graphs, also when they are used before: make them
   * first, since nodes need not stand in order. */
  while (mrt_wire_next(&nodes, &f) > 0)
    if (f.number == 1 && f.type == 2) MRT_TRY(read_node(l, f.bytes, g));
  while (mrt_wire_next(&outs, &f) > 0) {
    if ((f.number != 12 && f.number != 13) || f.type != 2) continue;
    MRT_TRY(value_info(l, f.bytes, &name, &type));
    if (f.number == 13) {
      v = mrt_graph_find(g, name);
      if (v && !v->type) v->type = type;
      continue;
    }
    MRT_TRY(lookup(g, name, &v));
    if (!v)
      return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. A graph output has no name.");
    if (!v->type) v->type = type;
    MRT_TRY(mrt_graph_add_output(g, v));
  }
  return NULL;
}

mrt_status *mrt_onnx_graph(mrt_onnx *l, mrt_wire w, mrt_graph *parent, mrt_graph **out) {
  MRT_TRY(mrt_graph_create(l->model, parent, "", out));
  if (++l->depth > MAX_NESTED)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_NESTED);
  MRT_TRY(read_inputs(l, w, *out));
  MRT_TRY(read_rest(l, w, *out));
  --l->depth;
  return NULL;
}

static mrt_status *read_opset(mrt_onnx *l, mrt_wire w) {
  mrt_field f;
  const char *domain = "";
  int64_t version = 0;
  int more;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 1 && f.type == 2) MRT_TRY(mrt_onnx_string(l, f.bytes, &domain));
    if (f.number == 2 && f.type == 0) version = (int64_t)f.value;
  }
  if (more < 0) return mrt_onnx_malformed();
  if (version > 1000000) version = 1000000;
  return mrt_model_set_opset(l->model, domain, version);
}

static mrt_status *add_metadata(mrt_onnx *l, mrt_wire w) {
  mrt_model *m = l->model;
  struct mrt_metadata *all = mrt_arena_alloc(m->arena, ((size_t)m->n_metadata + 1) * sizeof *all);
  if (!all) return mrt_status_oom();
  if (m->n_metadata) memcpy(all, m->metadata, (size_t)m->n_metadata * sizeof *all);
  m->metadata = all;
  MRT_TRY(mrt_onnx_entry(l, w, &all[m->n_metadata].key, &all[m->n_metadata].value));
  ++m->n_metadata;
  return NULL;
}

static mrt_status *read_model(mrt_onnx *l, mrt_wire w) {
  mrt_model *m = l->model;
  mrt_wire graph = {NULL, NULL};
  mrt_field f;
  int more;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == 1 && f.type == 0) m->ir_version = (int64_t)f.value;
    if (f.number == 5 && f.type == 0) m->model_version = (int64_t)f.value;
    if (f.type != 2) continue;
    switch (f.number) {
      case 2: MRT_TRY(mrt_onnx_string(l, f.bytes, &m->producer_name)); break;
      case 3: MRT_TRY(mrt_onnx_string(l, f.bytes, &m->producer_version)); break;
      case 4: MRT_TRY(mrt_onnx_string(l, f.bytes, &m->domain)); break;
      case 6: MRT_TRY(mrt_onnx_string(l, f.bytes, &m->doc)); break;
      case 7: graph = f.bytes; break;
      case 8: MRT_TRY(read_opset(l, f.bytes)); break;
      case 14: MRT_TRY(add_metadata(l, f.bytes)); break;
      default: break;
    }
  }
  if (more < 0) return mrt_onnx_malformed();
  if (!graph.p) return MRT_ERR(MRT_INVALID_ARGUMENT, "No graph was found in the protobuf.");
  if (m->ir_version > 13)
    return MRT_ERR(MRT_FAIL, "Unsupported model IR version: %lld, max supported IR version: 13",
                   (long long)m->ir_version);
  if (!mrt_model_opset(m, "")) MRT_TRY(mrt_model_set_opset(m, "", 1));
  return mrt_onnx_graph(l, graph, NULL, &m->graph);
}

mrt_status *mrt_onnx_load(const mrt_alloc *alloc, mrt_blob *bytes, const char *path,
                          mrt_model **out) {
  mrt_onnx l = {.alloc = alloc, .blob = bytes};
  *out = NULL;
  MRT_TRY(mrt_model_create(alloc, &l.model));
  mrt_map_init(&l.files, alloc);
  const uint8_t *p = mrt_blob_data(bytes);
  l.model->path = mrt_arena_strdup(l.model->arena, path ? path : "");
  mrt_status *st = l.model->path ? NULL : mrt_status_oom();
  if (!st) st = read_model(&l, (mrt_wire){p, p + mrt_blob_size(bytes)});
  if (!st) st = mrt_model_check(l.model);
  for (size_t i = 0; i < l.files.n_entries; ++i) mrt_blob_release(l.files.entries[i].value);
  mrt_map_deinit(&l.files);
  if (st) {
    mrt_model_destroy(l.model);
    return st;
  }
  *out = l.model;
  return NULL;
}
