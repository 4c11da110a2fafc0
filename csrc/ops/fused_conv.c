/* Operators that the CPU provider makes of convolutions: macart.Conv (bias, residual and activation
 * in the epilogue) and macart.Reorder (another arrangement of the same values in memory). They have
 * no reference kernel: decompose says what they mean in ONNX. */
#include "ops/fused.h"
#include "ops/window.h"

typedef struct expander {
  mrt_node *node;
  const mrt_op_table *ops;
  mrt_var *value; /* so far */
} expander;

static mrt_status *append(expander *e, const char *op, int n_in, mrt_var *const *in,
                          mrt_node **out) {
  return mrt_graph_insert(e->node->graph, e->node, e->ops, "", op, n_in, in, e->node->out[0]->type,
                          out, &e->value);
}

static mrt_status *fused_conv_decompose(mrt_node *node, const mrt_op_table *ops) {
  expander e = {.node = node, .ops = ops};
  mrt_var *in[3] = {node->in[0].var, node->in[1].var, node->n_in > 2 ? node->in[2].var : NULL};
  mrt_var *residual = node->n_in > 3 ? node->in[3].var : NULL;
  mrt_node *n;
  MRT_TRY(append(&e, "Conv", in[2] ? 3 : 2, in, &n));
  for (int i = 0; i < node->n_attrs; ++i)
    if (strncmp(node->attrs[i].name, "activation", 10) != 0 &&
        strcmp(node->attrs[i].name, "winograd") != 0)
      MRT_TRY(mrt_node_set_attr(n, &node->attrs[i]));
  if (residual) {
    mrt_var *sum[2] = {e.value, residual};
    MRT_TRY(append(&e, "Add", 2, sum, &n));
  }
  MRT_TRY(mrt_fused_activation(node, ops, &e.value));
  MRT_TRY(mrt_var_replace(node->out[0], e.value));
  mrt_node_remove(node);
  return NULL;
}

static mrt_status *reorder_decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_var *in = node->in[0].var, *out;
  mrt_node *n;
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "", "Identity", 1, &in, node->out[0]->type, &n,
                           &out));
  MRT_TRY(mrt_var_replace(node->out[0], out));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, Conv) = {
    .domain = "macart",
    .name = "Conv",
    .doc = "activation(Conv(X, W, B) + Z)",
    .in = "X:T, W:T, B:T?, Z:T?",
    .out = "Y:T",
    .types = "T=float",
    .attrs =
        "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints "
        "strides:ints activation:string= activation_params:floats winograd:ints",
    .versions = first,
    .inplace = {{4, 0}},
    .infer = mrt_conv_infer,
    .decompose = fused_conv_decompose};
MRT_OP_IN(mt, Reorder) = {.domain = "macart",
                          .name = "Reorder",
                          .doc = "the same values in the memory layout of the output",
                          .in = "X:T",
                          .out = "Y:T",
                          .types = "T=float",
                          .versions = first,
                          .infer = mrt_infer_same_shape,
                          .decompose = reorder_decompose};
