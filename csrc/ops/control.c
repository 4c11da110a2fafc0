/* If. Its branches are subgraphs without inputs; they read values of the enclosing graph. */
#include "ops/control.h"

static int branch_index(const mrt_node *node, const char *name) {
  mrt_graph *subs[64], *want = mrt_node_graph(node, name);
  int n = mrt_node_subgraphs(node, subs, 64);
  for (int i = 0; i < n && i < 64; ++i)
    if (subs[i] == want) return i;
  return -1;
}

static mrt_status *if_infer(mrt_infer *c) {
  static const char *const names[2] = {"then_branch", "else_branch"};
  const mrt_type **out[2];
  if (!c->subgraph) return NULL;
  for (int k = 0; k < 2; ++k) {
    mrt_graph *g = mrt_node_graph(c->node, names[k]);
    if (g->n_outputs < c->n_out || g->n_inputs)
      return MRT_ERR(MRT_INVALID_GRAPH, "%s has %d inputs and %d outputs", names[k], g->n_inputs,
                     g->n_outputs);
    out[k] = mrt_infer_alloc(c, ((size_t)g->n_outputs + 1) * sizeof **out);
    if (!out[k]) return mrt_status_oom();
    MRT_TRY(c->subgraph(c, g, 0, NULL, out[k]));
  }
  for (int i = 0; i < c->n_out; ++i)
    MRT_TRY(mrt_infer_out_type(c, i, mrt_type_join(c, out[0][i], out[1][i])));
  return NULL;
}

static mrt_status *if_run(mrt_kctx *c) {
  const mrt_tensor *cond = mrt_in(c, 0);
  if (!cond || mrt_tensor_count(cond) != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the condition must have one element");
  const char *name = *(const uint8_t *)cond->data ? "then_branch" : "else_branch";
  int n = mrt_node_graph(c->node, name)->n_outputs;
  mrt_value **out;
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *out, (void **)&out));
  MRT_TRY(mrt_run_subgraph(c, branch_index(c->node, name), 0, NULL, n, out));
  for (int i = 0; i < n; ++i) {
    mrt_status *st = mrt_out_set(c, i, out[i]);
    if (!st) continue;
    for (int k = i + 1; k < n; ++k) mrt_value_release(out[k]);
    return st;
  }
  return NULL;
}
static const mrt_op_version if_v[] = {{1}, {11}, {13}, {16}, {19}, {21}, {23}, {24}, {25}, {0}};
MRT_OP(If) = {.domain = "",
              .name = "If",
              .doc = "one of two subgraphs",
              .in = "cond:bool",
              .out = "outputs:any**",
              .attrs = "then_branch:graph! else_branch:graph!",
              .versions = if_v,
              .flags = MRT_OP_DYNAMIC | MRT_OP_CONTROL,
              .infer = if_infer,
              .run = if_run};
