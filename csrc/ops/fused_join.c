/* macart.JoinNorm: what a densely connected network does in front of each convolution. It has no
 * reference kernel: decompose says what it means in ONNX. */
#include "ops/fused.h"

enum { X = 4 }; /* the first of the joined inputs, behind the parameters */

static mrt_status *join_infer(mrt_infer *c) {
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL}, *sum = mrt_expr_const(c->sym, 0);
  const int rank = mrt_infer_rank(c, X);
  if (rank < 2) return mrt_infer_out(c, 0, mrt_infer_dtype(c, X), -1, NULL);
  for (int i = X; i < c->n_in; ++i) {
    if (mrt_infer_rank(c, i) != rank)
      return MRT_ERR(MRT_FAIL, "All inputs to JoinNorm must have same rank");
    for (int d = 0; d < rank; ++d)
      if (d != 1)
        MRT_TRY(mrt_infer_same_dim(c, dims[d], mrt_infer_dim(c, i, d), "JoinNorm", &dims[d]));
    sum = mrt_expr_add(c->sym, sum, mrt_infer_dim(c, i, 1));
  }
  dims[1] = sum;
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, X), rank, dims);
}

static mrt_status *join_decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_var *in[64], *value, *joined;
  mrt_node *n;
  const mrt_type *type = node->out[0]->type;
  const int parts = node->n_in - X;
  if (parts < 1 || parts > 64)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "JoinNorm of %d inputs, at most 64", parts);
  for (int i = 0; i < parts; ++i) in[i] = node->in[X + i].var;
  joined = in[0];
  if (parts > 1) {
    MRT_TRY(mrt_graph_add_var(node->graph, NULL, type, &joined));
    MRT_TRY(
        mrt_graph_add_node(node->graph, node, "", "Concat", node->name, parts, in, 1, &joined, &n));
    MRT_TRY(mrt_node_set_int(n, "axis", 1));
    MRT_TRY(mrt_node_resolve(n, ops));
  }
  mrt_var *norm[5] = {joined};
  for (int i = 0; i < X; ++i) norm[1 + i] = node->in[i].var;
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "", "BatchNormalization", 5, norm, type, &n,
                           &value));
  MRT_TRY(mrt_node_set_float(n, "epsilon", mrt_node_float(node, "epsilon")));
  MRT_TRY(mrt_fused_activation(node, ops, &value));
  MRT_TRY(mrt_var_replace(node->out[0], value));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, JoinNorm) = {
    .domain = "macart",
    .name = "JoinNorm",
    .doc = "activation(BatchNormalization(Concat(X...))), along axis 1",
    .in = "scale:T, B:T, input_mean:T, input_var:T, X:T*",
    .out = "Y:T",
    .types = "T=float",
    .attrs = "epsilon:float=1e-5 activation:string= activation_params:floats",
    .versions = first,
    .infer = join_infer,
    .decompose = join_decompose};
