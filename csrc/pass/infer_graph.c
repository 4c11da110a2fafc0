/* Shape propagation: runs every operator's inference over a graph in topological order. Subgraphs
 * are inferred when their node is, with the types that the node gives their inputs. A dim that
 * inference cannot say becomes a fresh symbol, bound at run time, so that what follows can still be
 * expressed in it. */
#include <string.h>

#include "pass/pass.h"

#define MAX_IO 4096

typedef struct driver {
  mrt_model *model;
  mrt_guards *guards;
  int depth;
} driver;

static mrt_status *infer_one_graph(driver *d, mrt_graph *g);

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
    if (in_types && in_types[i]) g->inputs[i]->type = in_types[i];
  if (++d->depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
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
static mrt_status *settle(driver *d, const mrt_node *node, mrt_var *var, const mrt_type *inferred) {
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
    inferred = mrt_type_tensor(d->model, declared->dtype, inferred->rank, inferred->dims);
  var->type = complete(d->model, inferred, var);
  var->inferred = true;
  return NULL;
}

static mrt_status *infer_node(driver *d, mrt_node *node) {
  mrt_model *m = d->model;
  if (node->n_in > MAX_IO || node->n_out > MAX_IO)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than %d inputs or outputs", MAX_IO);
  size_t ni = (size_t)node->n_in + 1, no = (size_t)node->n_out + 1;
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
    MRT_TRY(settle(d, node, v, c.out_types[i]));
    v->elems = c.out_n_elems[i] >= 0 ? c.out_elems[i] : NULL;
    v->n_elems = v->elems ? c.out_n_elems[i] : -1;
  }
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
  return infer_one_graph(&d, g);
}

mrt_status *mrt_infer_node(mrt_model *model, mrt_node *node) {
  driver d = {.model = model};
  return infer_node(&d, node);
}
