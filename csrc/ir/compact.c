/* Compaction (compact.h). Live nodes and vars are numbered, then copied; everything they point to
 * is made of pieces of bytes, and equal pieces are one (`piece`): parts before the whole, so that
 * equal wholes hold equal pointers. What can fail is done before the model is touched. */
#include "ir/compact.h"

#include <string.h>

#include "ir/model_internal.h"
#include "ir/op.h"

#define MAX_DEPTH 64

typedef struct body { /* the new lists of a graph */
  mrt_var **vars;
  size_t n_vars;
  mrt_node *first, *last;
  const char *name, *doc;
} body;

typedef struct compaction {
  mrt_model *m;
  mrt_arena *arena;
  mrt_map pieces;
  mrt_graph **graphs; /* that can be reached */
  body *bodies;       /* of those */
  size_t n_graphs, cap_graphs;
  mrt_var **old_vars, **vars; /* by var->id: live ones */
  size_t n_vars;
  mrt_node **old_nodes, **nodes; /* by node->id */
  size_t n_nodes;
} compaction;

/* ---- pieces ---- */
/* out: a pointer of any type, hence the bytes. */
static mrt_status *piece(compaction *c, const void *bytes, size_t n, void *out) {
  void *have = mrt_map_getn(&c->pieces, bytes, n);
  mrt_status *st = NULL;
  if (!have) {
    have = mrt_arena_memdup(c->arena, bytes, n);
    st = have ? mrt_map_setn(&c->pieces, have, n, have) : mrt_status_oom();
  }
  memcpy(out, &have, sizeof have);
  return st;
}

static mrt_status *word(compaction *c, const char *s, const char **out) {
  *out = "";
  return s && *s ? piece(c, s, strlen(s) + 1, out) : NULL;
}

static mrt_status *words(compaction *c, const char *const *s, int n, const char *const **out) {
  const char *copy[MRT_MAX_RANK] = {0};
  if (!s || n <= 0) return NULL;
  for (int i = 0; i < n; ++i)
    if (s[i]) MRT_TRY(word(c, s[i], &copy[i]));
  return piece(c, copy, (size_t)n * sizeof *copy, out);
}

static mrt_status *copy_type(compaction *c, const mrt_type *t, const mrt_type **out) {
  mrt_type copy = {0};
  *out = NULL;
  if (!t) return NULL;
  copy.kind = t->kind;
  copy.dtype = t->dtype;
  copy.key_dtype = t->key_dtype;
  copy.rank = t->rank;
  if (t->dims && t->rank > 0)
    MRT_TRY(piece(c, t->dims, (size_t)t->rank * sizeof *t->dims, &copy.dims));
  MRT_TRY(words(c, t->dim_names, t->rank, &copy.dim_names));
  MRT_TRY(words(c, t->dim_denotations, t->rank, &copy.dim_denotations));
  MRT_TRY(copy_type(c, t->elem, &copy.elem));
  return piece(c, &copy, sizeof copy, out);
}

/* ---- attributes ---- */
static mrt_status *copy_strings(compaction *c, const mrt_attr *a, mrt_attr *out) {
  const char **s;
  MRT_TRY(mrt_mem_new_zero(c->m->alloc, (a->n + 1) * sizeof *s, (void **)&s));
  mrt_status *st = NULL;
  for (size_t i = 0; i < a->n && !st; ++i) /* one more byte: the final 0 */
    st = piece(c, a->strings[i], a->string_lens[i] + 1, &s[i]);
  if (!st) st = piece(c, s, (a->n + 1) * sizeof *s, &out->strings);
  if (!st && a->n) st = piece(c, a->string_lens, a->n * sizeof *a->string_lens, &out->string_lens);
  mrt_mem_free(c->m->alloc, s);
  return st;
}

static mrt_status *copy_attr(compaction *c, const mrt_attr *a, mrt_attr *out) {
  out->kind = a->kind;
  out->is_default = a->is_default;
  out->f = a->f;
  out->i = a->i;
  out->n = a->n;
  out->tensor = a->tensor;
  out->graph = a->graph;
  out->sparse = a->sparse;
  MRT_TRY(word(c, a->name, &out->name));
  if (a->s && a->kind == MRT_ATTR_STRING) MRT_TRY(piece(c, a->s, a->n + 1, &out->s));
  if (a->s && a->kind != MRT_ATTR_STRING) MRT_TRY(word(c, a->s, &out->s));
  if (a->kind == MRT_ATTR_STRINGS) MRT_TRY(copy_strings(c, a, out));
  if (a->floats && a->n) MRT_TRY(piece(c, a->floats, a->n * sizeof *a->floats, &out->floats));
  if (a->ints && a->n) MRT_TRY(piece(c, a->ints, a->n * sizeof *a->ints, &out->ints));
  if (a->tensors && a->n) MRT_TRY(piece(c, a->tensors, a->n * sizeof *a->tensors, &out->tensors));
  if (a->graphs && a->n) MRT_TRY(piece(c, a->graphs, a->n * sizeof *a->graphs, &out->graphs));
  return copy_type(c, a->type, &out->type);
}

static mrt_status *copy_attrs(compaction *c, const mrt_node *n, mrt_node *copy) {
  mrt_attr few[8], *all = few;
  const size_t bytes = (size_t)n->n_attrs * sizeof *all;
  mrt_status *st = NULL;
  copy->attrs = NULL;
  copy->cap_attrs = n->n_attrs;
  if (!n->n_attrs) return NULL;
  if (n->n_attrs > 8) MRT_TRY(mrt_mem_new(c->m->alloc, bytes, (void **)&all));
  memset(all, 0, bytes); /* padding too: they are compared as bytes */
  for (int i = 0; i < n->n_attrs && !st; ++i) st = copy_attr(c, &n->attrs[i], &all[i]);
  if (!st) st = piece(c, all, bytes, &copy->attrs);
  if (all != few) mrt_mem_free(c->m->alloc, all);
  return st;
}

/* ---- what is live ---- */
static mrt_status *find_graphs(compaction *c, mrt_graph *g, int depth) {
  if (depth > MAX_DEPTH)
    return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than %d", MAX_DEPTH);
  MRT_TRY(mrt_mem_grow(c->m->alloc, (void **)&c->graphs, &c->cap_graphs, c->n_graphs + 1,
                       sizeof *c->graphs));
  c->graphs[c->n_graphs++] = g;
  c->n_vars += g->n_vars;
  c->n_nodes += g->n_nodes;
  for (size_t i = 0; i < g->n_vars; ++i) g->vars[i]->id = -1;
  for (const mrt_node *n = g->first; n; n = n->next) {
    mrt_graph *subs[64];
    const int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) MRT_TRY(find_graphs(c, subs[i], depth + 1));
  }
  return NULL;
}

static void touch(mrt_var *v) {
  if (v) v->id = 0;
}

/* Numbers nodes and, in the order of their graph, the vars that somebody holds. */
static void number(compaction *c) {
  c->n_vars = c->n_nodes = 0;
  for (size_t k = 0; k < c->n_graphs; ++k) {
    mrt_graph *g = c->graphs[k];
    for (int i = 0; i < g->n_inputs; ++i) touch(g->inputs[i]);
    for (int i = 0; i < g->n_outputs; ++i) touch(g->outputs[i]);
    for (mrt_node *n = g->first; n; n = n->next) {
      for (int i = 0; i < n->n_in; ++i) touch(n->in[i].var);
      for (int i = 0; i < n->n_out; ++i) touch(n->out[i]);
      n->id = (int)c->n_nodes;
      c->old_nodes[c->n_nodes++] = n;
    }
  }
  for (size_t k = 0; k < c->n_graphs; ++k)
    for (size_t i = 0; i < c->graphs[k]->n_vars; ++i) {
      mrt_var *v = c->graphs[k]->vars[i];
      if (v->id < 0) continue;
      v->id = (int)c->n_vars;
      c->old_vars[c->n_vars++] = v;
      ++c->bodies[k].n_vars;
    }
}

static mrt_var *moved(const compaction *c, const mrt_var *v) { return v ? c->vars[v->id] : NULL; }

/* ---- copies ---- */
static mrt_status *copy_var(compaction *c, const mrt_var *v, mrt_var **out) {
  mrt_var *copy = mrt_arena_alloc(c->arena, sizeof *copy);
  if (!copy) return mrt_status_oom();
  *copy = *v;
  copy->uses = NULL;
  copy->n_uses = copy->cap_uses = 0;
  copy->elems = NULL;
  copy->n_elems = -1;
  copy->doc = "";
  *out = copy; /* from here on its uses are freed with it */
  MRT_TRY(word(c, v->name, &copy->name));
  MRT_TRY(copy_type(c, v->type, &copy->type));
  if (!v->n_uses) return NULL;
  copy->cap_uses = v->n_uses;
  return mrt_mem_new(c->m->alloc, v->n_uses * sizeof *v->uses, (void **)&copy->uses);
}

static mrt_status *copy_op(compaction *c, const mrt_node *n, mrt_node *copy) {
  copy->overload = copy->doc = "";
  copy->metadata = NULL;
  copy->n_metadata = 0;
  MRT_TRY(word(c, n->name, &copy->name));
  MRT_TRY(word(c, n->op_type, &copy->op_type));
  MRT_TRY(word(c, n->domain, &copy->domain));
  return word(c, n->orig_op, &copy->orig_op);
}

static mrt_status *copy_node(compaction *c, const mrt_node *n, mrt_node **out) {
  mrt_node *copy = mrt_arena_alloc(c->arena, sizeof *copy);
  if (!copy) return mrt_status_oom();
  *out = copy;
  *copy = *n;
  copy->in = mrt_arena_alloc(c->arena, (size_t)n->n_in * sizeof *copy->in);
  copy->out = mrt_arena_alloc(c->arena, (size_t)n->n_out * sizeof *copy->out);
  if (!copy->in || !copy->out) return mrt_status_oom();
  MRT_TRY(copy_op(c, n, copy));
  MRT_TRY(copy_attrs(c, n, copy));
  for (int i = 0; i < n->n_in; ++i) {
    mrt_var *v = moved(c, n->in[i].var);
    if (!v) continue;
    if (v->n_uses == v->cap_uses) return MRT_ERR(MRT_FAIL, "'%s' has lost a use", v->name);
    copy->in[i] = (mrt_operand){v, v->n_uses};
    v->uses[v->n_uses++] = (mrt_use){copy, i};
  }
  for (int i = 0; i < n->n_out; ++i) {
    copy->out[i] = moved(c, n->out[i]);
    if (copy->out[i]) copy->out[i]->producer = copy;
  }
  return NULL;
}

static mrt_status *copy_graph(compaction *c, size_t which, size_t first_var) {
  const mrt_graph *g = c->graphs[which];
  body *b = &c->bodies[which];
  MRT_TRY(word(c, g->name, &b->name));
  MRT_TRY(word(c, g->doc, &b->doc));
  MRT_TRY(mrt_mem_new(c->m->alloc, (b->n_vars + 1) * sizeof *b->vars, (void **)&b->vars));
  memcpy(b->vars, c->vars + first_var, b->n_vars * sizeof *b->vars);
  for (const mrt_node *n = g->first; n; n = n->next) {
    mrt_node *copy = NULL;
    MRT_TRY(copy_node(c, n, &copy));
    c->nodes[n->id] = copy;
    copy->prev = b->last;
    copy->next = NULL;
    *(b->last ? &b->last->next : &b->first) = copy;
    b->last = copy;
  }
  return NULL;
}

static mrt_status *copy_metadata(compaction *c, const mrt_metadata *from, int n,
                                 const mrt_metadata **out) {
  mrt_metadata *all = mrt_arena_alloc(c->arena, ((size_t)n + 1) * sizeof *all);
  if (!all) return mrt_status_oom();
  for (int i = 0; i < n; ++i) {
    MRT_TRY(word(c, from[i].key, &all[i].key));
    MRT_TRY(word(c, from[i].value, &all[i].value));
  }
  *out = all;
  return NULL;
}

/* What the model says of itself; *out is a copy of it. */
static mrt_status *copy_head(compaction *c, mrt_model *out) {
  const mrt_model *m = c->m;
  *out = *m;
  out->arena = c->arena;
  out->functions = NULL;
  out->n_functions = 0;
  MRT_TRY(word(c, m->producer_name, &out->producer_name));
  MRT_TRY(word(c, m->producer_version, &out->producer_version));
  MRT_TRY(word(c, m->domain, &out->domain));
  MRT_TRY(word(c, m->doc, &out->doc));
  MRT_TRY(word(c, m->path, &out->path));
  MRT_TRY(copy_metadata(c, m->metadata, m->n_metadata, &out->metadata));
  out->opsets = mrt_arena_alloc(c->arena, ((size_t)m->n_opsets + 1) * sizeof *out->opsets);
  if (!out->opsets) return mrt_status_oom();
  for (int i = 0; i < m->n_opsets; ++i) {
    out->opsets[i].version = m->opsets[i].version;
    MRT_TRY(word(c, m->opsets[i].domain, &out->opsets[i].domain));
  }
  return NULL;
}

static mrt_status *copy_all(compaction *c, mrt_model *head) {
  const mrt_alloc *a = c->m->alloc;
  MRT_TRY(find_graphs(c, c->m->graph, 0));
  MRT_TRY(mrt_mem_new_zero(a, c->n_graphs * sizeof *c->bodies, (void **)&c->bodies));
  MRT_TRY(mrt_mem_new_zero(a, (c->n_vars + 1) * sizeof *c->vars, (void **)&c->vars));
  MRT_TRY(mrt_mem_new_zero(a, (c->n_vars + 1) * sizeof *c->vars, (void **)&c->old_vars));
  MRT_TRY(mrt_mem_new_zero(a, (c->n_nodes + 1) * sizeof *c->nodes, (void **)&c->nodes));
  MRT_TRY(mrt_mem_new_zero(a, (c->n_nodes + 1) * sizeof *c->nodes, (void **)&c->old_nodes));
  number(c);
  for (size_t i = 0; i < c->n_vars; ++i) MRT_TRY(copy_var(c, c->old_vars[i], &c->vars[i]));
  for (size_t k = 0, at = 0; k < c->n_graphs; at += c->bodies[k++].n_vars)
    MRT_TRY(copy_graph(c, k, at));
  return copy_head(c, head);
}

/* What everything below counts on: each graph has one owner, each guard a node that lives. */
static mrt_status *check(const compaction *c, const mrt_guards *guards) {
  const mrt_model_state *s = c->m->private_state;
  bool ok = c->n_graphs <= s->n_graphs;
  for (size_t i = 0; guards && i < guards->n && ok; ++i) {
    const mrt_node *n = guards->items[i].node;
    ok = n->id >= 0 && (size_t)n->id < c->n_nodes && c->old_nodes[n->id] == n;
  }
  return ok ? NULL : MRT_ERR(MRT_FAIL, "the graph holds nodes twice, or not at all");
}

/* ---- the end: nothing fails ---- */
static void settle_graph(compaction *c, mrt_graph *g, const body *b) {
  for (int i = 0; i < g->n_inputs; ++i) g->inputs[i] = moved(c, g->inputs[i]);
  for (int i = 0; i < g->n_outputs; ++i) g->outputs[i] = moved(c, g->outputs[i]);
  if (g->owner) g->owner = c->nodes[g->owner->id];
  for (size_t i = 0; i < g->n_vars; ++i) mrt_mem_free(c->m->alloc, g->vars[i]->uses);
  mrt_mem_free(c->m->alloc, g->vars);
  mrt_map_deinit(&g->by_name);
  g->vars = b->vars;
  g->n_vars = b->n_vars;
  g->cap_vars = b->n_vars + 1;
  g->first = b->first;
  g->last = b->last;
  g->name = b->name;
  g->doc = b->doc;
  g->metadata = NULL;
  g->n_metadata = 0;
}

/* Graphs that nothing leads to: functions, branches that were never taken. */
static void drop_graphs(compaction *c) {
  enum { LIVE = -1 };
  mrt_model_state *s = c->m->private_state;
  for (size_t k = 0; k < c->n_graphs; ++k) c->graphs[k]->n_metadata = LIVE; /* 0 when settled */
  for (size_t i = 0; i < s->n_graphs; ++i)
    if (s->graphs[i]->n_metadata != LIVE) mrt_graph_free_arrays(s->graphs[i]);
  memcpy(s->graphs, c->graphs, c->n_graphs * sizeof *s->graphs);
  s->n_graphs = c->n_graphs;
}

/* Constants that the sweep found without a reader. */
static void drop_constants(mrt_model *m) {
  mrt_model_state *s = m->private_state;
  size_t n = 0;
  for (size_t i = 0; i < s->n; ++i) {
    const mrt_tensor *t = mrt_value_tensor(s->owned[i]);
    if (t && atomic_load(&t->base.refs) == 1 && !t->readers &&
        !(t->base.flags & MRT_VALUE_INGREDIENT))
      mrt_value_release(s->owned[i]);
    else
      s->owned[n++] = s->owned[i];
  }
  s->n = n;
}

static void settle(compaction *c, const mrt_model *head, mrt_guards *guards) {
  mrt_arena *old = c->m->arena;
  for (size_t i = 0; guards && i < guards->n; ++i) {
    const int id = guards->items[i].node->id;
    guards->items[i].node = c->nodes[id];
  }
  drop_graphs(c);
  for (size_t k = 0; k < c->n_graphs; ++k) {
    settle_graph(c, c->graphs[k], &c->bodies[k]);
    c->bodies[k].vars = NULL;
  }
  *c->m = *head;
  mrt_arena_destroy(old);
  drop_constants(c->m);
}

mrt_status *mrt_model_compact(mrt_model *m, mrt_guards *guards) {
  compaction c = {.m = m};
  mrt_model head;
  mrt_map_init(&c.pieces, m->alloc);
  mrt_status *st = mrt_arena_create(m->alloc, &c.arena);
  if (!st) st = copy_all(&c, &head);
  if (!st) st = check(&c, guards);
  if (!st) {
    settle(&c, &head, guards);
  } else {
    for (size_t i = 0; c.vars && i < c.n_vars; ++i)
      if (c.vars[i]) mrt_mem_free(m->alloc, c.vars[i]->uses);
    mrt_arena_destroy(c.arena);
  }
  for (size_t k = 0; c.bodies && k < c.n_graphs; ++k) mrt_mem_free(m->alloc, c.bodies[k].vars);
  mrt_map_deinit(&c.pieces);
  mrt_mem_free(m->alloc, c.graphs);
  mrt_mem_free(m->alloc, c.bodies);
  mrt_mem_free(m->alloc, c.vars);
  mrt_mem_free(m->alloc, c.old_vars);
  mrt_mem_free(m->alloc, c.nodes);
  mrt_mem_free(m->alloc, c.old_nodes);
  return st;
}

/* ---- one type ---- */
static bool dup_words(mrt_arena *arena, const char *const *from, int n, const char *const **out) {
  *out = NULL;
  if (!from || n <= 0) return true;
  const char **copy = mrt_arena_alloc(arena, (size_t)n * sizeof *copy);
  for (int i = 0; copy && i < n; ++i)
    if (from[i] && !(copy[i] = mrt_arena_strdup(arena, from[i]))) return false;
  *out = copy;
  return copy != NULL;
}

const mrt_type *mrt_type_copy(mrt_arena *arena, const mrt_type *t) {
  mrt_type *copy = t ? mrt_arena_memdup(arena, t, sizeof *t) : NULL;
  if (!copy) return NULL;
  if (t->dims && t->rank > 0) {
    copy->dims = mrt_arena_memdup(arena, t->dims, (size_t)t->rank * sizeof *t->dims);
    if (!copy->dims) return NULL;
  }
  if (!dup_words(arena, t->dim_names, t->rank, &copy->dim_names) ||
      !dup_words(arena, t->dim_denotations, t->rank, &copy->dim_denotations))
    return NULL;
  if (t->elem && !(copy->elem = mrt_type_copy(arena, t->elem))) return NULL;
  return copy;
}
