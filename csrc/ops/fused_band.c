/* macart.ConvBand: a depthwise convolution with the 1x1 convolutions before and behind it. It has
 * no reference kernel: decompose says what it means. */
#include "ops/fused.h"
#include "ops/window.h"

enum { X, EXPAND_W, EXPAND_B, W, B, PROJECT_W, PROJECT_B, Z };

static mrt_var *input(const mrt_node *node, int i) {
  return i < node->n_in ? node->in[i].var : NULL;
}

static mrt_status *band_infer(mrt_infer *c) {
  const mrt_expr *dims[4];
  mrt_window w;
  if (mrt_infer_rank(c, X) < 0) return NULL;
  if (mrt_infer_rank(c, X) != 4)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has rank %d, not 4", mrt_infer_rank(c, X));
  MRT_TRY(mrt_window_read(c->node, 2, NULL, &w));
  dims[0] = mrt_infer_dim(c, X, 0);
  dims[1] = mrt_infer_dim(c, mrt_infer_has(c, PROJECT_W) ? PROJECT_W : W, 0);
  for (int i = 0; i < 2; ++i) dims[i + 2] = mrt_window_out(c, &w, i, mrt_infer_dim(c, X, i + 2));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, X), 4, dims);
}

/* One macart.Conv before the node, of inputs w and w + 1, applied to *value. */
static mrt_status *append(mrt_node *node, const mrt_op_table *ops, int w, const char *act,
                          const char *params, mrt_node **out, mrt_var **value) {
  const bool last = w == PROJECT_W || (w == W && !input(node, PROJECT_W));
  mrt_var *z = last ? input(node, Z) : NULL;
  mrt_var *in[4] = {*value, input(node, w), input(node, w + 1), z};
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "macart", "Conv", z ? 4 : 3, in,
                           last ? node->out[0]->type : NULL, out, value));
  int n;
  const float *p = mrt_node_floats(node, params, &n);
  const mrt_attr attr = {
      .name = "activation_params", .kind = MRT_ATTR_FLOATS, .n = (size_t)n, .floats = p};
  MRT_TRY(mrt_node_set_str(*out, "activation", mrt_node_str(node, act)));
  return mrt_node_set_attr(*out, &attr);
}

static mrt_status *band_decompose(mrt_node *node, const mrt_op_table *ops) {
  static const char *const geometry[] = {"kernel_shape", "strides", "pads"};
  mrt_var *value = input(node, X);
  mrt_node *n;
  if (input(node, EXPAND_W))
    MRT_TRY(append(node, ops, EXPAND_W, "expand_activation", "expand_params", &n, &value));
  MRT_TRY(append(node, ops, W, "activation", "activation_params", &n, &value));
  MRT_TRY(mrt_node_set_int(n, "group", mrt_node_int(node, "group")));
  for (int i = 0; i < 3; ++i) {
    int count;
    const int64_t *v = mrt_node_ints(node, geometry[i], &count);
    const mrt_attr attr = {
        .name = geometry[i], .kind = MRT_ATTR_INTS, .n = (size_t)count, .ints = v};
    MRT_TRY(mrt_node_set_attr(n, &attr));
  }
  if (input(node, PROJECT_W))
    MRT_TRY(append(node, ops, PROJECT_W, "project_activation", "project_params", &n, &value));
  MRT_TRY(mrt_var_replace(node->out[0], value));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, ConvBand) = {
    .domain = "macart",
    .name = "ConvBand",
    .doc = "Conv1x1(DepthwiseConv(Conv1x1(X))) + Z, each with an activation",
    .in = "X:T, ExpandW:T?, ExpandB:T?, W:T, B:T?, ProjectW:T?, ProjectB:T?, Z:T?",
    .out = "Y:T",
    .types = "T=float",
    .attrs =
        "group:int=1 kernel_shape:ints pads:ints strides:ints "
        "expand_activation:string= expand_params:floats "
        "activation:string= activation_params:floats "
        "project_activation:string= project_params:floats",
    .versions = first,
    .infer = band_infer,
    .decompose = band_decompose};
