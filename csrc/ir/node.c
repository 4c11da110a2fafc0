/* Nodes: making, linking, rewriting; use lists. */
#include <stdio.h>
#include <string.h>

#include "ir/op.h"

static mrt_status *add_use(mrt_var *v, mrt_node *node, int index) {
  MRT_TRY(mrt_mem_grow(v->graph->model->alloc, (void **)&v->uses, &v->cap_uses, v->n_uses + 1,
                       sizeof *v->uses));
  node->in[index].var = v;
  node->in[index].use = v->n_uses;
  v->uses[v->n_uses++] = (mrt_use){node, index};
  return NULL;
}

static void drop_use(mrt_node *node, int index) {
  mrt_var *v = node->in[index].var;
  if (!v) return;
  size_t at = node->in[index].use, last = --v->n_uses;
  if (at != last) { /* the last use moves into the gap */
    v->uses[at] = v->uses[last];
    v->uses[at].node->in[v->uses[at].index].use = at;
  }
  node->in[index].var = NULL;
}

static void link_before(mrt_graph *g, mrt_node *n, mrt_node *before) {
  n->next = before;
  n->prev = before ? before->prev : g->last;
  if (n->prev)
    n->prev->next = n;
  else
    g->first = n;
  if (before)
    before->prev = n;
  else
    g->last = n;
  ++g->n_nodes;
}
static void unlink_node(mrt_node *n) {
  mrt_graph *g = n->graph;
  if (n->prev)
    n->prev->next = n->next;
  else
    g->first = n->next;
  if (n->next)
    n->next->prev = n->prev;
  else
    g->last = n->prev;
  n->prev = n->next = NULL;
  --g->n_nodes;
}

mrt_status *mrt_graph_add_node(mrt_graph *g, mrt_node *before, const char *domain,
                               const char *op_type, const char *name, int n_in, mrt_var *const *in,
                               int n_out, mrt_var *const *out, mrt_node **out_node) {
  mrt_arena *a = g->model->arena;
  if (out_node) *out_node = NULL;
  if (strcmp(domain, "ai.onnx") == 0) domain = "";
  mrt_node *n = mrt_arena_alloc(a, sizeof *n);
  char *d = mrt_arena_strdup(a, domain), *o = mrt_arena_strdup(a, op_type);
  char *nm = mrt_arena_strdup(a, name ? name : "");
  if (!n || !d || !o || !nm) return mrt_status_oom();
  n->graph = g;
  n->domain = d;
  n->op_type = n->orig_op = o;
  n->name = nm;
  n->overload = n->doc = "";
  n->provider = -1;
  n->version = (int)mrt_model_opset(g->model, domain);
  n->orig_version = n->version;
  n->in = mrt_arena_alloc(a, ((size_t)n_in + 1) * sizeof *n->in);
  n->out = mrt_arena_alloc(a, ((size_t)n_out + 1) * sizeof *n->out);
  if (!n->in || !n->out) return mrt_status_oom();
  n->n_in = n_in;
  n->n_out = n_out;
  for (int i = 0; i < n_out; ++i)
    if (out[i] && (out[i]->producer || out[i]->constant || out[i]->is_input))
      return MRT_ERR(MRT_FAIL,
                     "This is an invalid model. Error: Duplicate definition of name (%s).",
                     out[i]->name);
  for (int i = 0; i < n_in; ++i)
    if (in[i]) MRT_TRY(add_use(in[i], n, i));
  for (int i = 0; i < n_out; ++i) {
    n->out[i] = out[i];
    if (!out[i]) continue;
    out[i]->producer = n;
    out[i]->out_index = i;
  }
  link_before(g, n, before);
  if (out_node) *out_node = n;
  return NULL;
}

mrt_status *mrt_graph_insert(mrt_graph *g, mrt_node *before, const mrt_op_table *ops,
                             const char *domain, const char *op_type, int n_in, mrt_var *const *in,
                             const mrt_type *type, mrt_node **out_node, mrt_var **out_var) {
  mrt_node *n;
  mrt_var *v;
  MRT_TRY(mrt_graph_add_var(g, NULL, type, &v));
  MRT_TRY(mrt_graph_add_node(g, before, domain, op_type, NULL, n_in, in, 1, &v, &n));
  n->def = mrt_op_find(ops, domain, op_type);
  if (!n->def) return MRT_ERR(MRT_FAIL, "no operator %s.%s", domain, op_type);
  if (before) {
    n->name = before->name;
    n->provider = before->provider;
  }
  MRT_TRY(mrt_node_resolve(n, ops));
  if (out_node) *out_node = n;
  if (out_var) *out_var = v;
  return NULL;
}

mrt_status *mrt_node_set_n_inputs(mrt_node *node, int n) {
  for (int i = n; i < node->n_in; ++i) drop_use(node, i);
  if (n > node->n_in) {
    mrt_operand *in = mrt_arena_alloc(node->graph->model->arena, ((size_t)n + 1) * sizeof *in);
    if (!in) return mrt_status_oom();
    if (node->n_in) memcpy(in, node->in, (size_t)node->n_in * sizeof *in);
    node->in = in;
  }
  node->n_in = n;
  return NULL;
}

mrt_status *mrt_node_set_input(mrt_node *node, int index, mrt_var *var) {
  if (index >= node->n_in) MRT_TRY(mrt_node_set_n_inputs(node, index + 1));
  drop_use(node, index);
  return var ? add_use(var, node, index) : NULL;
}

mrt_status *mrt_node_set_output(mrt_node *node, int index, mrt_var *var) {
  if (index >= node->n_out) {
    mrt_var **out = mrt_arena_alloc(node->graph->model->arena, ((size_t)index + 2) * sizeof *out);
    if (!out) return mrt_status_oom();
    if (node->n_out) memcpy(out, node->out, (size_t)node->n_out * sizeof *out);
    node->out = out;
    node->n_out = index + 1;
  }
  if (node->out[index]) node->out[index]->producer = NULL;
  node->out[index] = var;
  if (var) {
    var->producer = node;
    var->out_index = index;
  }
  return NULL;
}

static void swap_names(mrt_graph *g, mrt_var *a, mrt_var *b) {
  const char *name = a->name;
  a->name = b->name;
  b->name = name;
  /* both names exist in the map: setting them again cannot fail */
  mrt_status_free(mrt_map_set(&g->by_name, a->name, a));
  mrt_status_free(mrt_map_set(&g->by_name, b->name, b));
}

mrt_status *mrt_var_replace(mrt_var *old, mrt_var *with) {
  while (old->n_uses) {
    mrt_use u = old->uses[old->n_uses - 1];
    MRT_TRY(mrt_node_set_input(u.node, u.index, with));
  }
  mrt_graph *g = old->graph;
  if (!old->n_graph_outputs) return NULL;
  for (int i = 0; i < g->n_outputs; ++i)
    if (g->outputs[i] == old) {
      g->outputs[i] = with;
      ++with->n_graph_outputs;
    }
  old->n_graph_outputs = 0;
  if (with->graph == g && !with->is_input) swap_names(g, old, with);
  return NULL;
}

static void drop_graph_uses(mrt_graph *g, int depth) {
  if (depth > 64) return;
  for (mrt_node *n = g->first; n; n = n->next) {
    for (int i = 0; i < n->n_in; ++i) drop_use(n, i);
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) drop_graph_uses(subs[i], depth + 1);
  }
  for (int i = 0; i < g->n_outputs; ++i) --g->outputs[i]->n_graph_outputs; /* also outer vars */
  g->n_outputs = 0;
}

void mrt_node_remove(mrt_node *node) {
  for (int i = 0; i < node->n_in; ++i) drop_use(node, i);
  for (int i = 0; i < node->n_out; ++i)
    if (node->out[i] && node->out[i]->producer == node) node->out[i]->producer = NULL;
  mrt_graph *subs[64];
  int k = mrt_node_subgraphs(node, subs, 64);
  for (int i = 0; i < k && i < 64; ++i) drop_graph_uses(subs[i], 0);
  unlink_node(node);
}

void mrt_node_move_before(mrt_node *node, mrt_node *before) {
  if (before == node) return;
  unlink_node(node);
  link_before(node->graph, node, before);
}

/* A name that is free in `g`; v keeps its own if it is. */
static mrt_status *rename_in(mrt_graph *g, mrt_var *v) {
  mrt_model *m = g->model;
  const char *name = v->name;
  while (mrt_graph_find_outer(g, name)) {
    name = mrt_arena_printf(m->arena, "_v%llu", (unsigned long long)m->next_name++);
    if (!name) return mrt_status_oom();
  }
  v->name = name;
  return mrt_map_set(&g->by_name, name, v);
}

mrt_status *mrt_graph_splice(mrt_node *before, mrt_graph *body) {
  mrt_graph *g = before->graph;
  MRT_TRY(mrt_mem_grow(g->model->alloc, (void **)&g->vars, &g->cap_vars, g->n_vars + body->n_vars,
                       sizeof *g->vars));
  for (size_t i = 0; i < body->n_vars; ++i) MRT_TRY(rename_in(g, body->vars[i]));
  for (size_t i = 0; i < body->n_vars; ++i) { /* from here on nothing fails */
    body->vars[i]->graph = g;
    g->vars[g->n_vars++] = body->vars[i];
  }
  body->n_vars = 0;
  for (mrt_node *n = body->first, *next; n; n = next) {
    next = n->next;
    mrt_graph *subs[64];
    const int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) subs[i]->parent = g;
    unlink_node(n);
    n->graph = g;
    link_before(g, n, before);
  }
  return NULL;
}

mrt_status *mrt_node_set_op(mrt_node *node, const char *domain, const char *op_type) {
  char *d = mrt_arena_strdup(node->graph->model->arena, domain);
  char *o = mrt_arena_strdup(node->graph->model->arena, op_type);
  if (!d || !o) return mrt_status_oom();
  node->domain = d;
  node->op_type = o;
  node->def = NULL;
  return NULL;
}

int mrt_node_subgraphs(const mrt_node *node, mrt_graph **out, int cap) {
  int n = 0;
  for (int i = 0; i < node->n_attrs; ++i) {
    const mrt_attr *a = &node->attrs[i];
    if (a->kind == MRT_ATTR_GRAPH) {
      if (n < cap) out[n] = a->graph;
      ++n;
    } else if (a->kind == MRT_ATTR_GRAPHS) {
      for (size_t k = 0; k < a->n; ++k) {
        if (n < cap) out[n] = a->graphs[k];
        ++n;
      }
    }
  }
  return n;
}

void mrt_graph_number(mrt_graph *g) {
  int i = 0;
  for (mrt_node *n = g->first; n; n = n->next) n->order = i++;
}

const char *mrt_node_describe(const mrt_node *n, char *buf, size_t cap) {
  snprintf(buf, cap, "node '%.100s' (%.60s-%d)", n->name, n->orig_op, n->orig_version);
  return buf;
}
