/* Copying nodes. A var is found by the address that holds its name, which is its own. */
#include "ir/clone.h"

#define MAX_DEPTH 64

static const mrt_var absent_var; /* the copy of a var that the caller left out: an address only */
#define ABSENT ((mrt_var *)&absent_var)

void mrt_clone_init(mrt_clone *c, mrt_graph *into, mrt_node *before, const char *prefix) {
  *c = (mrt_clone){.into = into, .before = before, .prefix = prefix, .max_nodes = SIZE_MAX};
  mrt_map_init(&c->vars, into->model->alloc);
}
void mrt_clone_deinit(mrt_clone *c) { mrt_map_deinit(&c->vars); }

static mrt_var *mapped(const mrt_clone *c, mrt_var *v) {
  return mrt_map_getn(&c->vars, &v->name, sizeof v->name);
}
mrt_status *mrt_clone_map(mrt_clone *c, mrt_var *from, mrt_var *to) {
  return mrt_map_setn(&c->vars, &from->name, sizeof from->name, to ? to : ABSENT);
}

static const char *with_prefix(const mrt_clone *c, const char *name) {
  return mrt_arena_printf(c->into->model->arena, "%s%s", c->prefix, name);
}

/* Named dims mean something in the source's scope only: two calls of a function may differ. */
static const mrt_type *copy_type(mrt_model *m, const mrt_type *t) {
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t d;
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank < 0) return t;
  for (int i = 0; i < t->rank; ++i)
    dims[i] = t->dims[i] && mrt_expr_is_const(t->dims[i], &d) ? t->dims[i] : NULL;
  return mrt_type_tensor(m, t->dtype, t->rank, dims);
}

static mrt_status *copy_var(mrt_clone *c, mrt_graph *into, mrt_var *v, mrt_var **out) {
  const char *name = with_prefix(c, v->name);
  if (!name) return mrt_status_oom();
  if (mrt_graph_find_outer(into, name)) name = NULL;
  MRT_TRY(mrt_graph_add_var(into, name, copy_type(into->model, v->type), out));
  (*out)->doc = v->doc;
  if (v->constant) {
    mrt_tensor_retain(v->constant);
    MRT_TRY(mrt_var_set_constant(*out, v->constant));
  }
  return mrt_clone_map(c, v, *out);
}

/* The copy of a var that a node of `from`, copied to `into`, reads or (own) writes. */
static mrt_status *get(mrt_clone *c, const mrt_graph *from, mrt_graph *into, mrt_var *v,
                       mrt_var **out) {
  *out = NULL;
  if (!v) return NULL;
  *out = mapped(c, v);
  if (*out == ABSENT)
    *out = NULL;
  else if (!*out && v->graph == from)
    return copy_var(c, into, v, out);
  else if (!*out)
    *out = v;
  return NULL;
}

static mrt_status *copy_graph(mrt_clone *c, const mrt_graph *from, mrt_node *owner, int depth,
                              mrt_graph **out);

static mrt_status *copy_graphs(mrt_clone *c, const mrt_attr *a, mrt_node *owner, int depth,
                               mrt_attr *copy) {
  mrt_graph **all = mrt_arena_alloc(c->into->model->arena, (a->n + 1) * sizeof *all);
  if (!all) return mrt_status_oom();
  for (size_t i = 0; i < a->n; ++i) MRT_TRY(copy_graph(c, a->graphs[i], owner, depth + 1, &all[i]));
  copy->graphs = all;
  return NULL;
}

static mrt_status *copy_attr(mrt_clone *c, const mrt_attr *a, mrt_node *owner, int depth) {
  mrt_attr copy = *a;
  if (a->kind == MRT_ATTR_REF) {
    const mrt_attr *given = c->resolve ? c->resolve(c->ctx, a->s) : NULL;
    if (!given) return NULL;
    if (a->i && a->i != (int64_t)given->kind)
      return MRT_ERR(MRT_INVALID_GRAPH, "attribute '%s' is of type %d, the function needs %lld",
                     a->s, (int)given->kind, (long long)a->i);
    copy = *given;
    copy.name = a->name;
    a = given;
  }
  if (copy.kind == MRT_ATTR_GRAPH) MRT_TRY(copy_graph(c, a->graph, owner, depth + 1, &copy.graph));
  if (copy.kind == MRT_ATTR_GRAPHS) MRT_TRY(copy_graphs(c, a, owner, depth, &copy));
  return mrt_node_set_attr(owner, &copy);
}

static mrt_status *copy_node(mrt_clone *c, const mrt_graph *from, mrt_graph *into, mrt_node *before,
                             const mrt_node *n, int depth) {
  mrt_arena *arena = into->model->arena;
  mrt_var **in = mrt_arena_alloc(arena, ((size_t)n->n_in + 1) * sizeof *in);
  mrt_var **out = mrt_arena_alloc(arena, ((size_t)n->n_out + 1) * sizeof *out);
  const char *name = *n->name ? with_prefix(c, n->name) : "";
  mrt_node *copy;
  if (!in || !out || !name) return mrt_status_oom();
  if (++c->n_nodes > c->max_nodes)
    return MRT_ERR(MRT_INVALID_GRAPH, "functions expand to more than %zu nodes", c->max_nodes);
  for (int i = 0; i < n->n_in; ++i) MRT_TRY(get(c, from, into, n->in[i].var, &in[i]));
  for (int i = 0; i < n->n_out; ++i) MRT_TRY(get(c, from, into, n->out[i], &out[i]));
  MRT_TRY(mrt_graph_add_node(into, before, n->domain, n->op_type, name, n->n_in, in, n->n_out, out,
                             &copy));
  copy->version = n->version;
  copy->orig_version = n->orig_version;
  copy->orig_op = n->orig_op;
  copy->overload = n->overload;
  copy->doc = n->doc;
  copy->metadata = n->metadata;
  copy->n_metadata = n->n_metadata;
  for (int i = 0; i < n->n_attrs; ++i)
    MRT_TRY_CTX(copy_attr(c, &n->attrs[i], copy, depth), "node '%s' (%s): attribute '%s'", n->name,
                n->op_type, n->attrs[i].name);
  return NULL;
}

/* Outputs first: a node may stand before the one that makes its input. */
static mrt_status *copy_outputs(mrt_clone *c, const mrt_graph *from, mrt_graph *into) {
  mrt_var *v;
  for (const mrt_node *n = from->first; n; n = n->next)
    for (int i = 0; i < n->n_out; ++i) MRT_TRY(get(c, from, into, n->out[i], &v));
  return NULL;
}

static mrt_status *copy_graph(mrt_clone *c, const mrt_graph *from, mrt_node *owner, int depth,
                              mrt_graph **out) {
  mrt_var *v;
  *out = NULL;
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  MRT_TRY(mrt_graph_create(owner->graph->model, owner->graph, from->name, out));
  (*out)->owner = owner;
  (*out)->doc = from->doc;
  (*out)->metadata = from->metadata;
  (*out)->n_metadata = from->n_metadata;
  for (int i = 0; i < from->n_inputs; ++i) {
    MRT_TRY(copy_var(c, *out, from->inputs[i], &v));
    MRT_TRY(mrt_graph_add_input(*out, v));
  }
  MRT_TRY(copy_outputs(c, from, *out));
  for (const mrt_node *n = from->first; n; n = n->next)
    MRT_TRY(copy_node(c, from, *out, NULL, n, depth));
  for (int i = 0; i < from->n_outputs; ++i) {
    MRT_TRY(get(c, from, *out, from->outputs[i], &v));
    if (!v) return MRT_ERR(MRT_INVALID_GRAPH, "a subgraph gives out an absent input");
    MRT_TRY(mrt_graph_add_output(*out, v));
  }
  return NULL;
}

mrt_status *mrt_clone_nodes(mrt_clone *c, const mrt_graph *from) {
  MRT_TRY(copy_outputs(c, from, c->into));
  for (const mrt_node *n = from->first; n; n = n->next)
    MRT_TRY(copy_node(c, from, c->into, c->before, n, 0));
  return mrt_model_check(c->into->model);
}
