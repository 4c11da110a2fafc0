/* macart.QuantizeToLast: QuantizeLinear of an image with one scale, channels moved to the end. The
 * CPU provider makes it where a quantised network begins. No reference kernel: decompose says what
 * it means. */
#include "ops/common.h"

static mrt_status *infer(mrt_infer *c) {
  const mrt_expr *dims[4];
  const int rank = mrt_infer_rank(c, 0);
  if (rank < 0) return NULL; /* not known yet */
  if (rank != 4) return MRT_ERR(MRT_INVALID_ARGUMENT, "QuantizeToLast: rank %d is not 4", rank);
  for (int i = 0; i < 4; ++i) dims[i] = mrt_infer_dim(c, 0, i == 0 ? 0 : i == 3 ? 1 : i + 1);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 2), 4, dims);
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  static const int64_t to_last[4] = {0, 2, 3, 1};
  mrt_graph *g = node->graph;
  mrt_var *in[3] = {node->in[0].var, node->in[1].var, node->in[2].var}, *bytes;
  const mrt_type *x = in[0]->type, *t;
  if (!x || x->kind != MRT_KIND_TENSOR || !node->out[0]->type)
    return MRT_ERR(MRT_FAIL, "QuantizeToLast of unknown type");
  t = mrt_type_tensor(g->model, node->out[0]->type->dtype, x->rank, x->dims);
  if (!t) return mrt_status_oom();
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "QuantizeLinear", 3, in, t, NULL, &bytes));
  MRT_TRY(mrt_node_set_n_inputs(node, 1));
  MRT_TRY(mrt_node_set_input(node, 0, bytes));
  MRT_TRY(mrt_node_set_ints(node, "perm", 4, to_last));
  MRT_TRY(mrt_node_set_op(node, "", "Transpose"));
  return mrt_node_resolve(node, ops);
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(mt, QuantizeToLast) = {.domain = "macart",
                                 .name = "QuantizeToLast",
                                 .doc = "QuantizeLinear, then Transpose with perm 0, 2, 3, 1",
                                 .in = "x:T, y_scale:T, y_zero_point:Q",
                                 .out = "y:Q",
                                 .types = "T=float;Q=int8,uint8",
                                 .versions = v1,
                                 .infer = infer,
                                 .decompose = decompose};
