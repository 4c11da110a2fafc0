/* Transposes: two in a row become one (or none), and one above point-wise operators sinks below
 * them, where it may meet the next. Only sinking, so the pass comes to an end; a residual stream
 * between transposes is the one exception: it is entered once, at its first member. */
#include <string.h>

#include "ir/pattern.h"
#include "pass/pass.h"

/* The permutation of a Transpose of known rank; false if it is not known. */
static bool get_perm(const mrt_node *n, int *rank, int64_t *perm) {
  int k;
  const int64_t *p = mrt_node_ints(n, "perm", &k);
  const mrt_type *t = n->in[0].var ? n->in[0].var->type : NULL;
  *rank = p ? k : t && t->kind == MRT_KIND_TENSOR ? t->rank : -1;
  if (*rank < 0 || *rank > MRT_MAX_RANK) return false;
  for (int i = 0; i < *rank; ++i) {
    perm[i] = p ? p[i] : *rank - 1 - i;
    if (perm[i] < 0 || perm[i] >= *rank) return false;
  }
  return true;
}

static bool is_transpose(const mrt_node *n) {
  return n && !*n->domain && strcmp(n->op_type, "Transpose") == 0 && n->n_in == 1 && n->in[0].var &&
         n->out[0];
}

/* Transpose(Transpose(x)): the outer reads x with both permutations. */
static mrt_status *compose(mrt_node *outer, int *fired) {
  mrt_match m;
  int64_t first[MRT_MAX_RANK], second[MRT_MAX_RANK], both[MRT_MAX_RANK];
  int rank, rank2;
  if (!mrt_pattern_match("Transpose(!inner=Transpose(x))", outer, &m)) return NULL;
  mrt_node *inner = mrt_match_node(&m, "inner");
  if (!get_perm(inner, &rank, first) || !get_perm(outer, &rank2, second) || rank != rank2)
    return NULL;
  bool identity = true;
  for (int i = 0; i < rank; ++i) {
    both[i] = first[second[i]];
    identity = identity && both[i] == i;
  }
  MRT_TRY(mrt_node_set_ints(outer, "perm", rank, both));
  MRT_TRY(mrt_node_set_input(outer, 0, mrt_match_var(&m, "x")));
  ++*fired;
  if (!identity || outer->out[0]->n_graph_outputs) return NULL; /* noop removes the identity */
  MRT_TRY(mrt_var_replace(outer->out[0], outer->in[0].var));
  mrt_node_remove(outer);
  return NULL;
}

static bool one_element(const mrt_var *v) {
  return v->constant && mrt_tensor_count(v->constant) == 1 && v->constant->rank <= 1;
}

/* A Transpose that all inputs of the point-wise node come from (constants of one element aside),
 * with the same permutation, one of them at least used here alone, so that there will not be more
 * of them; NULL if it is not so. A residual stream has other readers. */
static mrt_node *common_transpose(const mrt_node *n, int *rank, int64_t *perm) {
  mrt_node *found = NULL;
  int64_t other[MRT_MAX_RANK];
  int r;
  bool alone = false;
  for (int i = 0; i < n->n_in; ++i) {
    mrt_var *v = n->in[i].var;
    if (!v || one_element(v)) continue;
    mrt_node *t = v->producer;
    if (!is_transpose(t) || t->graph != n->graph) return NULL;
    alone = alone || (v->n_uses == 1 && !v->n_graph_outputs);
    if (!get_perm(t, &r, other)) return NULL;
    if (found && (r != *rank || memcmp(perm, other, (size_t)r * sizeof *perm) != 0)) return NULL;
    *rank = r;
    memcpy(perm, other, (size_t)r * sizeof *perm);
    found = t;
  }
  return alone ? found : NULL;
}

/* f(Transpose(x), Transpose(y)) -> Transpose(f(x, y)) */
static mrt_status *sink(mrt_pass_ctx *ctx, mrt_node *n, int *fired) {
  int rank = 0;
  int64_t perm[MRT_MAX_RANK];
  if (!n->def || !(n->def->flags & MRT_OP_ELEMENTWISE) || n->n_out != 1 || !n->out[0]) return NULL;
  if (!common_transpose(n, &rank, perm)) return NULL;
  mrt_var *out = n->out[0], *below;
  mrt_node *moved;
  for (int i = 0; i < n->n_in; ++i) {
    mrt_var *v = n->in[i].var;
    if (v && !one_element(v)) MRT_TRY(mrt_node_set_input(n, i, v->producer->in[0].var));
  }
  MRT_TRY(mrt_graph_add_var(n->graph, NULL, NULL, &below)); /* f's result, inferred later */
  MRT_TRY(mrt_node_set_output(n, 0, below));
  MRT_TRY(
      mrt_graph_add_node(n->graph, n->next, "", "Transpose", n->name, 1, &below, 1, &out, &moved));
  MRT_TRY(mrt_node_set_ints(moved, "perm", rank, perm));
  MRT_TRY(mrt_node_resolve(moved, ctx->ops));
  ++*fired;
  return NULL;
}

/* Does a sum read v beside the same transpose: the next member of a residual stream? */
static bool stream_goes_on(const mrt_var *v, int rank, const int64_t *perm) {
  int64_t other[MRT_MAX_RANK];
  int r;
  for (size_t i = 0; i < v->n_uses; ++i) {
    const mrt_node *n = v->uses[i].node;
    if (n->graph != v->graph || *n->domain || strcmp(n->op_type, "Add") != 0) continue;
    const mrt_var *beside = n->in[1 - v->uses[i].index].var;
    const mrt_node *t = beside ? beside->producer : NULL;
    if (is_transpose(t) && get_perm(t, &r, other) && r == rank &&
        memcmp(perm, other, (size_t)r * sizeof *perm) == 0)
      return true;
  }
  return false;
}
static bool same_shape(const mrt_var *a, const mrt_var *b) {
  const mrt_type *x = a->type, *y = b->type;
  if (!x || !y || x->kind != MRT_KIND_TENSOR || y->kind != MRT_KIND_TENSOR || x->rank != y->rank)
    return false;
  for (int i = 0; i < x->rank; ++i)
    if (!x->dims[i] || x->dims[i] != y->dims[i]) return false;
  return true;
}

/* A residual stream: Add(c, Transpose(x)) whose result the next such sum reads. Its first member,
 * c, is transposed back instead, and all sums of the stream then sink to where x is. */
static mrt_status *enter(mrt_pass_ctx *ctx, mrt_node *n, int *fired) {
  int rank;
  int64_t perm[MRT_MAX_RANK], back[MRT_MAX_RANK];
  mrt_node *inverse;
  mrt_var *turned;
  if (*n->domain || strcmp(n->op_type, "Add") != 0 || n->n_in != 2 || !n->out[0]) return NULL;
  for (int i = 0; i < 2; ++i) {
    mrt_var *t = n->in[i].var, *c = n->in[1 - i].var;
    if (!t || !c || !is_transpose(t->producer) || is_transpose(c->producer) || c->constant ||
        t->producer->graph != n->graph || t->n_uses != 1 || t->n_graph_outputs)
      continue;
    if (!get_perm(t->producer, &rank, perm) || !same_shape(t, c) ||
        !stream_goes_on(n->out[0], rank, perm))
      continue;
    for (int k = 0; k < rank; ++k) back[perm[k]] = k;
    MRT_TRY(mrt_graph_insert(n->graph, n, ctx->ops, "", "Transpose", 1, &c,
                             t->producer->in[0].var->type, &inverse, &turned));
    MRT_TRY(mrt_node_set_ints(inverse, "perm", rank, back));
    c = turned;
    MRT_TRY(mrt_graph_insert(n->graph, n, ctx->ops, "", "Transpose", 1, &c, t->type, &inverse,
                             &turned));
    MRT_TRY(mrt_node_set_ints(inverse, "perm", rank, perm));
    MRT_TRY(mrt_node_set_input(n, 1 - i, turned));
    ++*fired;
    return sink(ctx, n, fired);
  }
  return NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    if (is_transpose(n))
      MRT_TRY(compose(n, fired));
    else
      MRT_TRY(sink(ctx, n, fired));
    MRT_TRY(enter(ctx, n, fired));
  }
  return NULL;
}

MRT_PASS(transpose) = {
    .name = "transpose", .doc = "transposes merged and cancelled", .level = 1, .run = run};
