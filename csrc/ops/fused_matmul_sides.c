/* macart.MatMulSides: up to four products of one A with constant weights. Without a reference
 * kernel: decompose says what it means in ONNX. */
#include "ops/fused.h"
#include "ops/fused_matmul_sides.h"
#include "ops/matmul.h"

static mrt_status *infer(mrt_infer *c) {
  for (int i = 0; i < c->n_out; ++i) {
    const int b = MRT_SIDE_B(i);
    if (!mrt_infer_has(c, b)) continue;
    const int rank = mrt_infer_rank(c, 0);
    const mrt_expr *dims[MRT_MAX_RANK], *k;
    if (rank < 2 || mrt_infer_rank(c, b) != 2) {
      MRT_TRY(mrt_infer_out(c, i, mrt_infer_dtype(c, 0), -1, NULL));
      continue;
    }
    const bool trans = mrt_node_int(c->node, "transB") != 0;
    for (int d = 0; d < rank - 1; ++d) dims[d] = mrt_infer_dim(c, 0, d);
    MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, rank - 1), mrt_infer_dim(c, b, trans ? 1 : 0),
                               "MatMulSides: A and B", &k));
    dims[rank - 1] = mrt_infer_dim(c, b, trans ? 0 : 1);
    MRT_TRY(mrt_infer_out(c, i, mrt_infer_dtype(c, 0), rank, dims));
  }
  return NULL;
}

/* The macart.MatMul of side i, which knows how to become ONNX. */
static mrt_status *split_off(mrt_node *node, const mrt_op_table *ops, int i) {
  mrt_var *y = node->out[i], *in[3] = {node->in[0].var, node->in[MRT_SIDE_B(i)].var, NULL}, *out;
  mrt_node *n;
  if (!y || !in[1]) return NULL;
  if (MRT_SIDE_BIAS(i) < node->n_in) in[2] = node->in[MRT_SIDE_BIAS(i)].var;
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "macart", "MatMul", in[2] ? 3 : 2, in, y->type,
                           &n, &out));
  MRT_TRY(mrt_node_set_int(n, "transB", mrt_node_int(node, "transB")));
  MRT_TRY(mrt_var_replace(y, out));
  return n->def->decompose(n, ops);
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  for (int i = 0; i < node->n_out; ++i) MRT_TRY(split_off(node, ops, i));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, MatMulSides) = {
    .domain = "macart",
    .name = "MatMulSides",
    .doc = "Yi = A * Bi' + biasi for up to four matrices Bi: A is read once",
    .in = "A:T, B0:T, bias0:T?, B1:T?, bias1:T?, B2:T?, bias2:T?, B3:T?, bias3:T?",
    .out = "Y0:T, Y1:T?, Y2:T?, Y3:T?",
    .types = "T=float",
    .attrs = "transB:int=0",
    .versions = first,
    .infer = infer,
    .decompose = decompose};
