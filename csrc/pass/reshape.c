/* A Reshape whose target was computed by the model gets a constant one, where inference knows the
 * result: fixed dims as numbers, a dim equal to the input's at the same place as 0, one other dim
 * as -1. Shape, Gather and Concat that only computed it are dead then. */
#include <string.h>

#include "pass/pass.h"

/* The constant target that gives `out` from `in`; false if there is none. */
static bool target(const mrt_type *in, const mrt_type *out, int64_t *dims) {
  bool inferred = false;
  if (!in || !out || in->kind != MRT_KIND_TENSOR || out->kind != MRT_KIND_TENSOR || in->rank < 0 ||
      out->rank < 0)
    return false;
  for (int i = 0; i < out->rank; ++i) {
    if (!out->dims[i]) return false;
    if (mrt_expr_is_const(out->dims[i], &dims[i])) {
      if (dims[i] <= 0) return false; /* an empty result: 0 would copy a dim */
    } else if (i < in->rank && in->dims[i] == out->dims[i]) {
      dims[i] = 0;
    } else if (!inferred) {
      dims[i] = -1;
      inferred = true;
    } else {
      return false;
    }
  }
  return true;
}

static bool same_elements(const mrt_type *in, const mrt_type *out, mrt_symtab *sym) {
  const mrt_expr *a = mrt_expr_const(sym, 1), *b = a;
  for (int i = 0; i < in->rank; ++i) a = mrt_expr_mul(sym, a, in->dims[i]);
  for (int i = 0; i < out->rank; ++i) b = mrt_expr_mul(sym, b, out->dims[i]);
  return a && a == b;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  int64_t dims[MRT_MAX_RANK];
  for (mrt_node *n = g->first; n; n = n->next) {
    if (*n->domain || strcmp(n->op_type, "Reshape") != 0 || n->n_in < 2 || !n->in[0].var ||
        !n->in[1].var || n->in[1].var->constant || !n->out[0] || mrt_node_int(n, "allowzero"))
      continue;
    const mrt_type *in = n->in[0].var->type, *out = n->out[0]->type;
    /* The inferred dims may rest on an assumption; a wrong target would hide that it failed. */
    if (!target(in, out, dims) || !same_elements(in, out, ctx->model->sym)) continue;
    mrt_var *shape;
    MRT_TRY(mrt_graph_const_i64(g, out->rank, dims, &shape));
    MRT_TRY(mrt_node_set_input(n, 1, shape));
    ++*fired;
  }
  return mrt_symtab_check(ctx->model->sym);
}

MRT_PASS(reshape) = {
    .name = "reshape", .doc = "computed targets of Reshape made constant", .level = 1, .run = run};
