/* Common subexpressions: of two nodes that compute the same from the same inputs, the later one
 * goes. Constants with the same bytes become one first, so that nodes over copies of a constant
 * are found too. */
#include <string.h>

#include "pass/pass.h"

static uint64_t mix(uint64_t h, const void *p, size_t n) { return mrt_hash_bytes(p, n, h); }

static bool same_tensor(const mrt_tensor *a, const mrt_tensor *b) {
  return a == b || (a->dtype == b->dtype && a->bytes == b->bytes && !a->strided && !b->strided &&
                    mrt_shape_equal(a->rank, a->dims, b->rank, b->dims) &&
                    (a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0));
}

/* ---- attributes ---- */
static bool same_attr(const mrt_attr *a, const mrt_attr *b) {
  if (a->kind != b->kind || a->n != b->n || strcmp(a->name, b->name) != 0) return false;
  switch (a->kind) {
    case MRT_ATTR_FLOAT: return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case MRT_ATTR_INT: return a->i == b->i;
    case MRT_ATTR_STRING: return memcmp(a->s, b->s, a->n) == 0;
    case MRT_ATTR_INTS: return a->n == 0 || memcmp(a->ints, b->ints, a->n * sizeof *a->ints) == 0;
    case MRT_ATTR_FLOATS:
      return a->n == 0 || memcmp(a->floats, b->floats, a->n * sizeof *a->floats) == 0;
    case MRT_ATTR_STRINGS:
      for (size_t i = 0; i < a->n; ++i)
        if (a->string_lens[i] != b->string_lens[i] ||
            memcmp(a->strings[i], b->strings[i], a->string_lens[i]) != 0)
          return false;
      return true;
    case MRT_ATTR_TENSOR: return same_tensor(a->tensor, b->tensor);
    default: return false; /* graphs, types, lists of tensors: not compared */
  }
}

static bool same_node(const mrt_node *a, const mrt_node *b) {
  if (a->def != b->def || a->n_in != b->n_in || a->n_out != b->n_out || a->n_attrs != b->n_attrs)
    return false;
  for (int i = 0; i < a->n_in; ++i)
    if (a->in[i].var != b->in[i].var) return false;
  for (int i = 0; i < a->n_attrs; ++i) { /* order may differ */
    const mrt_attr *other = mrt_node_attr(b, a->attrs[i].name);
    if (!other || !same_attr(&a->attrs[i], other)) return false;
  }
  return true;
}

static bool candidate(const mrt_node *n) {
  if (!n->def || !n->def->infer ||
      (n->def->flags & (MRT_OP_RANDOM | MRT_OP_CONTROL | MRT_OP_ORDERED)))
    return false;
  for (int i = 0; i < n->n_out; ++i) /* a graph output keeps its own maker */
    if (n->out[i] && n->out[i]->n_graph_outputs) return false;
  return true;
}

/* Tables chained by hash: chains[hash % size] -> entry -> next. */
typedef struct table {
  size_t size;
  int *heads, *next;
  void **items;
  uint64_t *hashes;
  int n;
} table;

static mrt_status *table_init(mrt_model *m, table *t, size_t n) {
  t->size = 2 * n + 1;
  t->n = 0;
  t->heads = mrt_arena_alloc(m->arena, t->size * sizeof *t->heads);
  t->next = mrt_arena_alloc(m->arena, (n + 1) * sizeof *t->next);
  t->items = mrt_arena_alloc(m->arena, (n + 1) * sizeof *t->items);
  t->hashes = mrt_arena_alloc(m->arena, (n + 1) * sizeof *t->hashes);
  return t->heads && t->next && t->items && t->hashes ? NULL : mrt_status_oom();
}

/* An equal item that stands in the table, or NULL and `item` stands there from now on. */
static void *table_put(table *t, uint64_t hash, void *item,
                       bool (*same)(const void *a, const void *b)) {
  int *head = &t->heads[hash % t->size];
  for (int i = *head; i; i = t->next[i - 1])
    if (t->hashes[i - 1] == hash && same(t->items[i - 1], item)) return t->items[i - 1];
  t->items[t->n] = item;
  t->hashes[t->n] = hash;
  t->next[t->n] = *head;
  *head = ++t->n;
  return NULL;
}

/* ---- constants ---- */
#define SMALL 4096 /* larger ones are rarely equal and would cost reading the whole file */

static bool same_constant(const void *a, const void *b) {
  return same_tensor(((const mrt_var *)a)->constant, ((const mrt_var *)b)->constant);
}

static mrt_status *merge_constants(mrt_graph *g, int *fired) {
  table t;
  MRT_TRY(table_init(g->model, &t, g->n_vars));
  for (size_t i = 0; i < g->n_vars; ++i) {
    mrt_var *v = g->vars[i], *first;
    const mrt_tensor *c = v->constant;
    if (!c || !v->n_uses || v->is_input || v->n_graph_outputs || c->dtype == MRT_STRING ||
        c->bytes > SMALL || c->strided || !mrt_device_is_host(c->device))
      continue;
    uint64_t h = mix(c->dtype, c->dims, (size_t)c->rank * sizeof *c->dims);
    first = table_put(&t, mix(h, c->data, c->bytes), v, same_constant);
    if (!first) continue;
    MRT_TRY(mrt_var_replace(v, first));
    ++*fired;
  }
  return NULL;
}

/* ---- nodes ---- */
static bool same_nodes(const void *a, const void *b) { return same_node(a, b); }

static uint64_t hash_node(const mrt_node *n) {
  uint64_t h = mix(0, &n->def, sizeof n->def);
  for (int i = 0; i < n->n_in; ++i) h = mix(h, &n->in[i].var, sizeof n->in[i].var);
  uint64_t attrs = 0; /* a sum: their order does not matter */
  for (int i = 0; i < n->n_attrs; ++i) {
    const mrt_attr *a = &n->attrs[i];
    uint64_t one = mix((uint64_t)a->kind, a->name, strlen(a->name));
    if (a->kind == MRT_ATTR_INT) one = mix(one, &a->i, sizeof a->i);
    if (a->kind == MRT_ATTR_INTS && a->n) one = mix(one, a->ints, a->n * sizeof *a->ints);
    attrs += one;
  }
  return mix(h, &attrs, sizeof attrs);
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  table t;
  (void)ctx;
  MRT_TRY(merge_constants(g, fired));
  MRT_TRY(table_init(g->model, &t, g->n_nodes));
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (!candidate(n)) continue;
    const mrt_node *first = table_put(&t, hash_node(n), n, same_nodes);
    if (!first) continue;
    bool all = true; /* what this one gives, the first one must give too */
    for (int i = 0; i < n->n_out; ++i) all = all && (!n->out[i] || first->out[i]);
    if (!all) continue;
    for (int i = 0; i < n->n_out; ++i)
      if (n->out[i]) MRT_TRY(mrt_var_replace(n->out[i], first->out[i]));
    mrt_node_remove(n);
    ++*fired;
  }
  return NULL;
}

MRT_PASS(cse) = {.name = "cse", .doc = "common subexpressions", .level = 1, .run = run};
