/* macart.MatMulQ8: A times an int8 matrix that is widened with one scale per column (or one for
 * all), and what follows it. Without a reference kernel: decompose says what it means in ONNX. */
#include "ops/fused.h"
#include "ops/matmul.h"

static mrt_status *infer(mrt_infer *c) { return mrt_infer_matmul(c, 0, 1, MRT_FLOAT); }

/* B * scale in front of the node. */
static mrt_status *widened(mrt_node *node, const mrt_op_table *ops, mrt_var **out) {
  mrt_graph *g = node->graph;
  mrt_var *b = node->in[1].var;
  mrt_node *cast;
  const mrt_attr to = {.name = "to", .kind = MRT_ATTR_INT, .i = MRT_FLOAT};
  MRT_TRY(mrt_graph_add_var(g, NULL, NULL, out));
  MRT_TRY(mrt_graph_add_node(g, node, "", "Cast", node->name, 1, &b, 1, out, &cast));
  MRT_TRY(mrt_node_set_attr(cast, &to));
  MRT_TRY(mrt_node_resolve(cast, ops));
  mrt_var *factors[2] = {*out, node->in[2].var};
  return mrt_graph_insert(g, node, ops, "", "Mul", 2, factors, NULL, NULL, out);
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_graph *g = node->graph;
  const mrt_type *type = node->out[0]->type;
  mrt_var *in[2] = {node->in[0].var}, *y;
  MRT_TRY(widened(node, ops, &in[1]));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "MatMul", 2, in, type, NULL, &y));
  for (int i = 3; i < node->n_in; ++i) {
    if (!node->in[i].var) continue;
    mrt_var *terms[2] = {y, node->in[i].var};
    MRT_TRY(mrt_graph_insert(g, node, ops, "", "Add", 2, terms, type, NULL, &y));
  }
  MRT_TRY(mrt_fused_activation(node, ops, &y));
  MRT_TRY(mrt_var_replace(node->out[0], y));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP_IN(mt, MatMulQ8) = {.domain = "macart",
                           .name = "MatMulQ8",
                           .doc = "activation(A * (B * scale) + bias + Z), B of int8",
                           .in = "A:T, B:Q, scale:T, bias:T?, Z:T?",
                           .out = "Y:T",
                           .types = "T=float;Q=int8",
                           .attrs = "activation:string= activation_params:floats",
                           .versions = v1,
                           .infer = infer,
                           .decompose = decompose};
