/* MatMul of two matrices and a constant row: one Gemm. Only a row, [n] or [1, n]: a sum with
 * anything else may be a residual, which providers fuse better as it stands. */
#include <string.h>

#include "pass/pass.h"

static const mrt_type *matrix(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->rank == 2 ? t : NULL;
}

static bool is_row(const mrt_var *v, const mrt_type *out) {
  int64_t n;
  if (!v || !v->constant || !out->dims[1] || !mrt_expr_is_const(out->dims[1], &n)) return false;
  const mrt_tensor *t = v->constant;
  return (t->rank == 1 || (t->rank == 2 && t->dims[0] == 1)) && t->dims[t->rank - 1] == n;
}

/* The sum that alone reads the product; *row: its other side. NULL: no such sum. */
static mrt_node *find_sum(const mrt_node *product, mrt_var **row) {
  const mrt_var *y = product->out[0];
  if (!y || y->n_uses != 1 || y->n_graph_outputs || !matrix(y)) return NULL;
  mrt_node *add = y->uses[0].node;
  if (add->graph != product->graph || *add->domain || strcmp(add->op_type, "Add") != 0) return NULL;
  *row = add->in[add->in[0].var == y ? 1 : 0].var;
  return is_row(*row, y->type) ? add : NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    mrt_var *in[3], *out;
    mrt_node *gemm;
    next = n->next;
    if (*n->domain || strcmp(n->op_type, "MatMul") != 0 || !matrix(n->in[0].var) ||
        !matrix(n->in[1].var))
      continue;
    mrt_node *add = find_sum(n, &in[2]);
    if (!add || !add->out[0]) continue;
    in[0] = n->in[0].var;
    in[1] = n->in[1].var;
    MRT_TRY(mrt_graph_insert(g, add, ctx->ops, "", "Gemm", 3, in, n->out[0]->type, &gemm, &out));
    gemm->name = n->name;
    gemm->orig_op = n->orig_op;
    gemm->orig_version = n->orig_version;
    MRT_TRY(mrt_var_replace(add->out[0], out));
    if (next == add) next = add->next;
    mrt_node_remove(add);
    mrt_node_remove(n);
    ++*fired;
  }
  return NULL;
}

MRT_PASS(matmul_add) = {
    .name = "matmul_add", .doc = "MatMul and a constant row as Gemm", .level = 1, .run = run};
