/* Model-local functions: every call is replaced by a copy of the function's body. Calls inside a
 * body are met again when the walk goes on at the first copied node, so nothing recurses here; that
 * no function calls itself is found out first. */
#include "ir/clone.h"
#include "pass/pass.h"

#include <string.h>

#define MAX_CALLS 100               /* functions that call functions */
#define MAX_NODES ((size_t)1 << 18) /* doubling functions make 2^n nodes out of n */

typedef struct functions {
  mrt_model *model;
  mrt_map by_key; /* "domain\nname\noverload" -> mrt_function */
} functions;

static mrt_status *collect(functions *f) {
  mrt_model *m = f->model;
  for (int i = 0; i < m->n_functions; ++i) {
    mrt_function *fn = &m->functions[i];
    const char *domain = strcmp(fn->domain, "ai.onnx") == 0 ? "" : fn->domain;
    char *key = mrt_arena_printf(m->arena, "%s\n%s\n%s", domain, fn->name, fn->overload);
    if (!key) return mrt_status_oom();
    if (mrt_map_get(&f->by_key, key))
      return MRT_ERR(MRT_INVALID_GRAPH, "This is an invalid model. Function '%s.%s' stands twice",
                     fn->domain, fn->name);
    MRT_TRY(mrt_map_set(&f->by_key, key, fn));
  }
  return NULL;
}

static mrt_status *find(const functions *f, const mrt_node *n, mrt_function **out) {
  mrt_str key;
  mrt_str_init(&key, f->model->alloc);
  mrt_str_addf(&key, "%s\n%s\n%s", n->domain, n->op_type, n->overload);
  mrt_status *st = mrt_str_check(&key);
  *out = st ? NULL : mrt_map_get(&f->by_key, mrt_str_cstr(&key));
  mrt_str_deinit(&key);
  return st;
}

/* state[i]: 0 not seen, 1 on the way, 2 fine. */
static mrt_status *check_calls(functions *f, char *state, const mrt_graph *g, int calls,
                               int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_function *callee;
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) MRT_TRY(check_calls(f, state, subs[i], calls, depth + 1));
    MRT_TRY(find(f, n, &callee));
    if (!callee) continue;
    char *s = &state[callee - f->model->functions];
    if (*s == 1)
      return MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Function '%s.%s' calls itself (recursion)",
                     callee->domain, callee->name);
    if (*s == 2) continue;
    if (calls > MAX_CALLS)
      return MRT_ERR(MRT_INVALID_GRAPH, "functions call functions deeper than %d", MAX_CALLS);
    *s = 1;
    MRT_TRY(check_calls(f, state, callee->body, calls + 1, 0));
    *s = 2;
  }
  return NULL;
}

typedef struct call {
  mrt_node *node;
  const mrt_function *f;
} call;

static const mrt_attr *resolve(void *ctx, const char *name) {
  const call *c = ctx;
  const mrt_attr *a = mrt_node_attr(c->node, name);
  for (int i = 0; !a && i < c->f->n_attr_defaults; ++i)
    if (strcmp(c->f->attr_defaults[i].name, name) == 0) a = &c->f->attr_defaults[i];
  return a;
}

static mrt_status *check_call(const call *c) {
  const mrt_graph *body = c->f->body;
  if (c->node->n_in > body->n_inputs || c->node->n_out > body->n_outputs)
    return MRT_ERR(MRT_INVALID_GRAPH, "%d inputs and %d outputs, the function '%s' has %d and %d",
                   c->node->n_in, c->node->n_out, c->f->name, body->n_inputs, body->n_outputs);
  return NULL;
}

static mrt_status *identity(mrt_node *before, mrt_var *from, mrt_var *to) {
  mrt_node *n;
  MRT_TRY(mrt_graph_add_node(before->graph, before, "", "Identity", before->name, 1, &from, 1, &to,
                             &n));
  if (!n->version) n->version = n->orig_version = 1;
  return NULL;
}

/* Results that nodes of the body make are made under the caller's names at once. */
static mrt_status *map_interface(mrt_clone *c, const call *k, mrt_var **outs) {
  const mrt_graph *body = k->f->body;
  for (int i = 0; i < body->n_inputs; ++i) {
    mrt_var *given = i < k->node->n_in ? k->node->in[i].var : NULL;
    MRT_TRY(mrt_clone_map(c, body->inputs[i], given));
  }
  for (int i = 0; i < k->node->n_out; ++i) {
    mrt_var *v = body->outputs[i];
    bool again = false;
    for (int j = 0; j < i; ++j) again = again || (body->outputs[j] == v && outs[j]);
    if (outs[i] && v->producer && !again) MRT_TRY(mrt_clone_map(c, v, outs[i]));
  }
  return NULL;
}

/* Results that are inputs of the function, or stand twice. */
static mrt_status *copy_results(mrt_clone *c, const call *k, mrt_var **outs) {
  for (int i = 0; i < k->node->n_out; ++i) {
    mrt_var *v = k->f->body->outputs[i];
    if (!outs[i] || outs[i]->producer) continue;
    mrt_var *from = mrt_map_getn(&c->vars, &v->name, sizeof v->name);
    if (v->is_input) {
      int at = 0;
      while (k->f->body->inputs[at] != v) ++at;
      from = at < k->node->n_in ? k->node->in[at].var : NULL;
    }
    if (!from || !(from->producer || from->is_input || from->constant))
      return MRT_ERR(MRT_INVALID_GRAPH, "function '%s' does not make its output '%s'", k->f->name,
                     v->name);
    MRT_TRY(identity(k->node, from, outs[i]));
  }
  return NULL;
}

static mrt_status *inline_call(const call *k, size_t *n_nodes) {
  mrt_node *n = k->node;
  mrt_arena *arena = n->graph->model->arena;
  mrt_var **outs = mrt_arena_memdup(arena, n->out, ((size_t)n->n_out + 1) * sizeof *outs);
  const char *prefix = mrt_arena_printf(arena, "%s/", *n->name ? n->name : n->op_type);
  mrt_clone c;
  if (!outs || !prefix) return mrt_status_oom();
  MRT_TRY(check_call(k));
  for (int i = 0; i < n->n_out; ++i)
    if (outs[i]) MRT_TRY(mrt_node_set_output(n, i, NULL));
  mrt_clone_init(&c, n->graph, n, prefix);
  c.resolve = resolve;
  c.ctx = (void *)k;
  c.n_nodes = *n_nodes;
  c.max_nodes = MAX_NODES;
  mrt_status *st = map_interface(&c, k, outs);
  if (!st) st = mrt_clone_nodes(&c, k->f->body);
  if (!st) st = copy_results(&c, k, outs);
  *n_nodes = c.n_nodes;
  mrt_clone_deinit(&c);
  return st;
}

static mrt_status *inline_all(functions *f, mrt_graph *g, size_t *n_nodes, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    mrt_function *callee;
    char buf[256];
    next = n->next;
    MRT_TRY(find(f, n, &callee));
    if (!callee) continue;
    mrt_node *before = n->prev;
    const call k = {n, callee};
    MRT_TRY_CTX(inline_call(&k, n_nodes), "%s", mrt_node_describe(n, buf, sizeof buf));
    mrt_node_remove(n);
    next = before ? before->next : g->first;
    ++*fired;
  }
  return NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  mrt_model *m = ctx->model;
  functions f = {.model = m};
  char *state = NULL;
  if (!m->n_functions) return NULL;
  mrt_map_init(&f.by_key, m->alloc);
  mrt_status *st = collect(&f);
  if (!st) st = mrt_mem_new_zero(m->alloc, (size_t)m->n_functions, (void **)&state);
  if (!st && g == m->graph) st = check_calls(&f, state, g, 0, 0);
  if (!st) st = inline_all(&f, g, &ctx->n_inlined, fired);
  mrt_mem_free(m->alloc, state);
  mrt_map_deinit(&f.by_key);
  return st;
}

MRT_PASS(inline) = {.name = "inline",
                    .doc = "model-local functions replaced by their bodies",
                    .level = 0,
                    .run = run};
