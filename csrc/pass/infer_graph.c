/* Shape propagation: runs every operator's inference over a graph in topological order. Subgraphs
 * are inferred when their node is, with the types that the node gives their inputs. A dim that
 * inference cannot say becomes a fresh symbol, bound at run time, so that what follows can still be
 * expressed in it. */
#include <string.h>

#include "ir/compact.h"
#include "pass/pass.h"

#define MAX_IO    4096
#define MAX_DEPTH 64

/* What inference makes on the way to a node's types is thrown away after each node: rounds of
 * passes infer everything again, and most of it comes out as it was. */
typedef struct driver {
  mrt_model *model;
  mrt_guards *guards;
  int depth;
  mrt_arena *scratch[MAX_DEPTH + 1]; /* by depth; NULL: not wanted so far */
} driver;

static mrt_status *infer_one_graph(driver *d, mrt_graph *g);

static bool same_type(const mrt_type *a, const mrt_type *b) {
  if (a == b) return true;
  if (!a || !b || a->kind != b->kind || a->dtype != b->dtype || a->key_dtype != b->key_dtype ||
      a->rank != b->rank || a->dim_names || b->dim_names || a->dim_denotations ||
      b->dim_denotations)
    return false;
  for (int i = 0; i < a->rank; ++i)
    if (a->dims[i] != b->dims[i]) return false;
  return same_type(a->elem, b->elem);
}

/* The type as it will stay: *type, what it is now, if that is the same. */
static mrt_status *keep_type(driver *d, const mrt_type *t, const mrt_type **type) {
  if (same_type(*type, t)) return NULL;
  if (mrt_arena_holds(d->scratch[d->depth], t)) {
    t = mrt_type_copy(d->model->arena, t);
    if (!t) return mrt_status_oom();
  }
  *type = t;
  return NULL;
}

static mrt_status *keep_elems(driver *d, mrt_var *v, int n, const mrt_expr *const *elems) {
  if (!elems) n = -1;
  if (n > 0 && v->n_elems == n && memcmp(v->elems, elems, (size_t)n * sizeof *elems) == 0)
    return NULL;
  if (n > 0 && mrt_arena_holds(d->scratch[d->depth], elems)) {
    elems = mrt_arena_memdup(d->model->arena, elems, (size_t)n * sizeof *elems);
    if (!elems) return mrt_status_oom();
  }
  v->elems = n < 0 ? NULL : elems;
  v->n_elems = v->elems ? n : -1;
  return NULL;
}

static mrt_status *add_guard(mrt_infer *c, const mrt_expr *a, const mrt_expr *b, int kind) {
  driver *d = c->driver;
  mrt_guards *gs = d->guards;
  if (!gs || !a || !b) return NULL;
  MRT_TRY(mrt_mem_grow(gs->alloc, (void **)&gs->items, &gs->cap, gs->n + 1, sizeof *gs->items));
  gs->items[gs->n++] = (mrt_guard){a, b, kind, c->node};
  return NULL;
}

/* Gives the subgraph's inputs the caller's types where they say more, then infers its body. */
static mrt_status *infer_subgraph(mrt_infer *c, mrt_graph *g, int n_in,
                                  const mrt_type *const *in_types, const mrt_type **out_types) {
  driver *d = c->driver;
  for (int i = 0; i < n_in && i < g->n_inputs; ++i)
    if (in_types && in_types[i]) MRT_TRY(keep_type(d, in_types[i], &g->inputs[i]->type));
  if (d->depth == MAX_DEPTH) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  ++d->depth;
  mrt_status *st = infer_one_graph(d, g);
  --d->depth;
  if (st) return st;
  for (int i = 0; i < g->n_outputs; ++i) out_types[i] = g->outputs[i]->type;
  return NULL;
}

/* Unknown dims of a tensor type become fresh symbols: the same ones each time, so that rounds of
 * passes do not fill the symbol table and dims stay comparable. */
static const mrt_type *complete(mrt_model *m, const mrt_type *t, const mrt_var *var) {
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank <= 0) return t;
  const mrt_type *old =
      var->inferred && var->type && var->type->kind == MRT_KIND_TENSOR && var->type->rank == t->rank
          ? var->type
          : NULL;
  bool all = true;
  for (int i = 0; i < t->rank; ++i) all = all && t->dims[i];
  if (all) return t;
  const mrt_expr *dims[MRT_MAX_RANK];
  for (int i = 0; i < t->rank; ++i) {
    dims[i] = t->dims[i];
    if (!dims[i] && old && mrt_expr_is_symbol(old->dims[i], NULL)) dims[i] = old->dims[i];
    if (!dims[i]) dims[i] = mrt_expr_fresh(m->sym, var->name);
  }
  const mrt_type *out = mrt_type_tensor(m, t->dtype, t->rank, dims);
  return out ? out : t;
}

/* session.strict_shape_type_inference: what the file declares of values outside of subgraphs (whose
 * shapes may change from trip to trip). Only numbers can contradict each other. */
static mrt_status *check_declared(const mrt_var *var, const mrt_type *inferred) {
  const mrt_type *declared = var->type;
  if (!declared || var->inferred || declared->kind != MRT_KIND_TENSOR ||
      inferred->kind != MRT_KIND_TENSOR || declared->rank < 0 || inferred->rank < 0)
    return NULL;
  if (declared->rank != inferred->rank)
    return MRT_ERR(
        MRT_FAIL,
        "Output:%s [ShapeInferenceError] Mismatch between number of inferred and declared "
        "dimensions. inferred=%d declared=%d",
        var->name, inferred->rank, declared->rank);
  for (int i = 0; i < inferred->rank; ++i) {
    int64_t have, want;
    if (inferred->dims[i] && declared->dims[i] && mrt_expr_is_const(inferred->dims[i], &have) &&
        mrt_expr_is_const(declared->dims[i], &want) && have != want)
      return MRT_ERR(MRT_FAIL,
                     "Output:%s [ShapeInferenceError] Can't merge shape info. Both inferred and "
                     "declared dimension have values but they differ. Inferred=%lld Declared=%lld "
                     "Dimension=%d",
                     var->name, (long long)have, (long long)want, i);
  }
  return NULL;
}

/* Inferred and declared type together: inferred dims win, declared ones fill what is unknown only
 * when the value's shape is static in the declaration and inference knew nothing at all. */
static mrt_status *settle(driver *d, mrt_model *m, const mrt_node *node, mrt_var *var,
                          const mrt_type *inferred) {
  const mrt_type *declared = var->type;
  if (!inferred) {
    /* Nothing known: keep kind and element type, forget dims (a declaration may be wrong). */
    if (declared && declared->kind == MRT_KIND_TENSOR)
      var->type = mrt_type_tensor(d->model, declared->dtype, -1, NULL);
    return NULL;
  }
  if (d->model->strict_shapes && !node->graph->parent) MRT_TRY(check_declared(var, inferred));
  if (declared && declared->kind == MRT_KIND_TENSOR && inferred->kind == MRT_KIND_TENSOR &&
      declared->dtype && inferred->dtype && declared->dtype != inferred->dtype)
    return MRT_ERR(MRT_FAIL,
                   "Type Error: Type (tensor(%s)) of output arg (%s) of node (%s) does not match "
                   "expected type (tensor(%s)).",
                   mrt_dtype_name(declared->dtype), var->name, node->name,
                   mrt_dtype_name(inferred->dtype));
  if (inferred->kind == MRT_KIND_TENSOR && !inferred->dtype && declared &&
      declared->kind == MRT_KIND_TENSOR)
    inferred = mrt_type_tensor(m, declared->dtype, inferred->rank, inferred->dims);
  const mrt_type *whole = complete(m, inferred, var);
  if (!whole) return mrt_status_oom();
  var->inferred = true;
  return keep_type(d, whole, &var->type);
}

static mrt_status *open_scratch(driver *d, mrt_model *out) {
  mrt_arena **a = &d->scratch[d->depth];
  if (*a)
    mrt_arena_reset(*a);
  else
    MRT_TRY(mrt_arena_create(d->model->alloc, a));
  *out = *d->model;
  out->arena = *a;
  return NULL;
}

static void close_scratch(driver *d) {
  for (int i = 0; i <= MAX_DEPTH; ++i) mrt_arena_destroy(d->scratch[i]);
}

static mrt_status *infer_node(driver *d, mrt_node *node) {
  if (node->n_in > MAX_IO || node->n_out > MAX_IO)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than %d inputs or outputs", MAX_IO);
  size_t ni = (size_t)node->n_in + 1, no = (size_t)node->n_out + 1;
  mrt_model scratch, *m = &scratch; /* the model, but for its memory */
  MRT_TRY(open_scratch(d, m));
  mrt_infer c = {.node = node,
                 .sym = m->sym,
                 .model = m,
                 .arena = m->arena,
                 .n_in = node->n_in,
                 .n_out = node->n_out,
                 .subgraph = infer_subgraph,
                 .guard = add_guard,
                 .driver = d};
  const mrt_type **in_types = mrt_arena_alloc(m->arena, ni * sizeof *in_types);
  const mrt_tensor **consts = mrt_arena_alloc(m->arena, ni * sizeof *consts);
  const mrt_expr *const **elems = mrt_arena_alloc(m->arena, ni * sizeof *elems);
  int *n_elems = mrt_arena_alloc(m->arena, ni * sizeof *n_elems);
  c.out_types = mrt_arena_alloc(m->arena, no * sizeof *c.out_types);
  c.out_elems = mrt_arena_alloc(m->arena, no * sizeof *c.out_elems);
  c.out_n_elems = mrt_arena_alloc(m->arena, no * sizeof *c.out_n_elems);
  if (!in_types || !consts || !elems || !n_elems || !c.out_types || !c.out_elems || !c.out_n_elems)
    return mrt_status_oom();
  for (int i = 0; i < node->n_in; ++i) {
    const mrt_var *v = node->in[i].var;
    n_elems[i] = -1;
    if (!v) continue;
    in_types[i] = v->type;
    consts[i] = v->constant && mrt_device_is_host(v->constant->device) ? v->constant : NULL;
    elems[i] = v->elems;
    n_elems[i] = v->elems ? v->n_elems : -1;
  }
  for (int i = 0; i < node->n_out; ++i) c.out_n_elems[i] = -1;
  c.in_types = in_types;
  c.in_consts = consts;
  c.in_elems = elems;
  c.in_n_elems = n_elems;
  mrt_status *st = node->def && node->def->infer ? node->def->infer(&c) : NULL;
  mrt_code code = mrt_status_code(st);
  if (st && code != MRT_OUT_OF_MEMORY && code != MRT_NOT_IMPLEMENTED)
    st = mrt_status_recode(st, MRT_FAIL); /* whatever is wrong with the values */
  MRT_TRY_CTX(st, "[ShapeInferenceError]");
  MRT_TRY(mrt_model_check(m));
  for (int i = 0; i < node->n_out; ++i) {
    mrt_var *v = node->out[i];
    if (!v) continue;
    MRT_TRY(settle(d, m, node, v, c.out_types[i]));
    MRT_TRY(keep_elems(d, v, c.out_n_elems[i], c.out_elems[i]));
  }
  MRT_TRY(mrt_model_check(m));
  if (node->def) MRT_TRY(mrt_node_check_types(node));
  return NULL;
}

static mrt_status *infer_one_graph(driver *d, mrt_graph *g) {
  for (int i = 0; i < g->n_inputs; ++i)
    g->inputs[i]->type = complete(d->model, g->inputs[i]->type, g->inputs[i]);
  for (mrt_node *n = g->first; n; n = n->next) {
    char buf[256];
    MRT_TRY_CTX(infer_node(d, n), "%s", mrt_node_describe(n, buf, sizeof buf));
  }
  return mrt_model_check(d->model);
}

mrt_status *mrt_infer_graph(mrt_model *model, mrt_graph *g, mrt_guards *guards) {
  driver d = {.model = model, .guards = guards};
  mrt_status *st = infer_one_graph(&d, g);
  close_scratch(&d);
  return st;
}

mrt_status *mrt_infer_node(mrt_model *model, mrt_node *node) {
  driver d = {.model = model};
  mrt_status *st = infer_node(&d, node);
  close_scratch(&d);
  return st;
}
