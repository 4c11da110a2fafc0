/* Structure checks and order: names are bound already, so what remains is that every value has a
 * source and that the nodes can be put in an order. Captures of a subgraph are edges to its owner.
 */
#include <string.h>

#include "ir/op.h"

#define MAX_DEPTH 64

static bool encloses(const mrt_graph *outer, const mrt_graph *g) {
  for (; g; g = g->parent)
    if (g == outer) return true;
  return false;
}

/* Calls fn for every var of `g` that nested subgraphs of `node` read. */
static mrt_status *each_capture(const mrt_node *node, const mrt_graph *g,
                                mrt_status *(*fn)(void *arg, mrt_var *v), void *arg, int depth) {
  mrt_graph *subs[64];
  int n = mrt_node_subgraphs(node, subs, 64);
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  for (int i = 0; i < n && i < 64; ++i) {
    for (mrt_node *k = subs[i]->first; k; k = k->next) {
      for (int a = 0; a < k->n_in; ++a)
        if (k->in[a].var && k->in[a].var->graph == g) MRT_TRY(fn(arg, k->in[a].var));
      MRT_TRY(each_capture(k, g, fn, arg, depth + 1));
    }
    for (int a = 0; a < subs[i]->n_outputs; ++a)
      if (subs[i]->outputs[a]->graph == g) MRT_TRY(fn(arg, subs[i]->outputs[a]));
  }
  return NULL;
}

typedef struct collect {
  mrt_map seen;
  mrt_var **list;
  size_t n, cap;
} collect;
/* Names are unique per graph and stored once per var: the pointer to the name identifies the var.
 */
static mrt_status *collect_var(collect *c, mrt_var *v) {
  if (mrt_map_getn(&c->seen, &v->name, sizeof v->name)) return NULL;
  MRT_TRY(mrt_map_setn(&c->seen, &v->name, sizeof v->name, v));
  MRT_TRY(mrt_mem_grow(c->seen.alloc, (void **)&c->list, &c->cap, c->n + 1, sizeof *c->list));
  c->list[c->n++] = v;
  return NULL;
}

/* All vars from outside that a graph reads, at any depth. */
static mrt_status *outer_reads(mrt_graph *g, const mrt_graph *inside, collect *c, int depth) {
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  for (mrt_node *n = g->first; n; n = n->next) {
    for (int i = 0; i < n->n_in; ++i) {
      mrt_var *v = n->in[i].var;
      if (v && !encloses(inside, v->graph)) MRT_TRY(collect_var(c, v));
    }
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) MRT_TRY(outer_reads(subs[i], inside, c, depth + 1));
  }
  for (int i = 0; i < g->n_outputs; ++i) {
    mrt_var *v = g->outputs[i];
    if (!encloses(inside, v->graph)) MRT_TRY(collect_var(c, v));
  }
  return NULL;
}

mrt_status *mrt_graph_captures(mrt_graph *g, mrt_var ***out, int *n) {
  collect c = {0};
  mrt_map_init(&c.seen, g->model->alloc);
  *out = NULL;
  *n = 0;
  mrt_status *st = outer_reads(g, g, &c, 0);
  if (!st && c.n) {
    *out = mrt_arena_memdup(g->model->arena, c.list, c.n * sizeof *c.list);
    if (!*out) st = mrt_status_oom();
    *n = (int)c.n;
  }
  mrt_mem_free(g->model->alloc, c.list);
  mrt_map_deinit(&c.seen);
  return st;
}

static bool has_source(const mrt_var *v) { return v->producer || v->is_input || v->constant; }

/* Depth-first in source order with an own stack: keeps the order wherever it is legal. */
typedef struct visit {
  mrt_node *node;
  int next;
  mrt_var **deps;
  int n_deps;
} visit;

typedef struct dep_list {
  mrt_arena *arena;
  mrt_var **v;
  size_t n, cap;
  const mrt_alloc *alloc;
} dep_list;
static mrt_status *add_dep(void *arg, mrt_var *v) {
  dep_list *d = arg;
  if (!v->producer) return NULL;
  MRT_TRY(mrt_mem_grow(d->alloc, (void **)&d->v, &d->cap, d->n + 1, sizeof *d->v));
  d->v[d->n++] = v;
  return NULL;
}

static mrt_status *open_visit(mrt_node *n, dep_list *d, visit *out) {
  d->n = 0;
  for (int i = 0; i < n->n_in; ++i)
    if (n->in[i].var && n->in[i].var->graph == n->graph) MRT_TRY(add_dep(d, n->in[i].var));
  MRT_TRY(each_capture(n, n->graph, add_dep, d, 0));
  *out = (visit){n, 0, NULL, (int)d->n};
  if (d->n) {
    out->deps = mrt_arena_memdup(d->arena, d->v, d->n * sizeof *d->v);
    if (!out->deps) return mrt_status_oom();
  }
  return NULL;
}

enum { NEW = 0, OPEN = 1, DONE = 2 };

static mrt_status *sort(mrt_graph *g) {
  const mrt_alloc *alloc = g->model->alloc;
  visit *stack = NULL;
  mrt_node **order = NULL;
  char *state = NULL;
  mrt_status *st = NULL;
  size_t n = 0, depth = 0, cap = 0;
  dep_list deps = {.alloc = alloc};
  mrt_graph_number(g);
  MRT_TRY_GOTO(st, done, mrt_arena_create(alloc, &deps.arena));
  MRT_TRY_GOTO(st, done, mrt_mem_new(alloc, (g->n_nodes + 1) * sizeof *order, (void **)&order));
  MRT_TRY_GOTO(st, done, mrt_mem_new_zero(alloc, g->n_nodes + 1, (void **)&state));
  for (mrt_node *root = g->first; root; root = root->next) {
    if (state[root->order] != NEW) continue;
    MRT_TRY_GOTO(st, done, mrt_mem_grow(alloc, (void **)&stack, &cap, 1, sizeof *stack));
    MRT_TRY_GOTO(st, done, open_visit(root, &deps, &stack[0]));
    state[root->order] = OPEN;
    depth = 1;
    while (depth) {
      visit *v = &stack[depth - 1];
      if (v->next == v->n_deps) {
        state[v->node->order] = DONE;
        order[n++] = v->node;
        --depth;
        continue;
      }
      mrt_node *p = v->deps[v->next++]->producer;
      if (state[p->order] == OPEN) {
        st = MRT_ERR(MRT_FAIL, "This is an invalid model. Error: the graph is not acyclic.");
        goto done;
      }
      if (state[p->order] == DONE) continue;
      MRT_TRY_GOTO(st, done, mrt_mem_grow(alloc, (void **)&stack, &cap, depth + 1, sizeof *stack));
      MRT_TRY_GOTO(st, done, open_visit(p, &deps, &stack[depth]));
      state[p->order] = OPEN;
      ++depth;
    }
  }
  for (size_t i = 0; i < n; ++i) mrt_node_move_before(order[i], NULL);
  mrt_graph_number(g);
done:
  mrt_arena_destroy(deps.arena);
  mrt_mem_free(alloc, deps.v);
  mrt_mem_free(alloc, stack);
  mrt_mem_free(alloc, order);
  mrt_mem_free(alloc, state);
  return st;
}

static mrt_status *verify(mrt_graph *g, int depth) {
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  for (mrt_node *n = g->first; n; n = n->next)
    for (int i = 0; i < n->n_in; ++i) {
      const mrt_var *v = n->in[i].var;
      if (v && !has_source(v))
        return MRT_ERR(MRT_INVALID_ARGUMENT,
                       "Invalid model. Node input '%s' is not a graph input, initializer, or "
                       "output of a previous node.",
                       v->name);
    }
  for (int i = 0; i < g->n_outputs; ++i)
    if (!has_source(g->outputs[i]))
      return MRT_ERR(MRT_FAIL,
                     "This is an invalid model. Graph output (%s) does not exist in the graph.",
                     g->outputs[i]->name);
  MRT_TRY(sort(g));
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    if (k > 64) return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 64 subgraphs in one node");
    for (int i = 0; i < k; ++i) MRT_TRY(verify(subs[i], depth + 1));
  }
  return NULL;
}

mrt_status *mrt_graph_verify(mrt_graph *g) { return verify(g, 0); }
