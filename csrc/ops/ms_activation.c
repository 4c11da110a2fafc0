/* com.microsoft: Gelu, BiasGelu, FastGelu, QuickGelu, BiasSoftmax, FusedConv, FusedGemm. All but
 * QuickGelu are other operators in one. */
#include "ops/common.h"
#include "ops/compose.h"

static mrt_status *gelu_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *x = mrt_compose_in(&b, 0), *bias = mrt_compose_in(&b, 1);
  if (bias) x = mrt_compose_2(&b, "Add", x, bias);
  mrt_var *y = mrt_compose_1(&b, "Gelu", x);
  if (strcmp(node->op_type, "FastGelu") == 0) mrt_compose_str(&b, "approximate", "tanh");
  mrt_compose_set(&b, 0, y);
  return mrt_compose_end(&b);
}

static void quick_f32(const float *x, float *y, int64_t n, const double *p) {
  const float alpha = (float)p[0];
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / (1 + expf(-alpha * x[i]));
}
static void quick_f64(const double *x, double *y, int64_t n, const double *p) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] / (1 + exp(-p[0] * x[i]));
}
static mrt_status *quick_run(mrt_kctx *c) {
  const double alpha = mrt_node_float(c->node, "alpha");
  return mrt_run_map(c, quick_f32, quick_f64, &alpha);
}

/* y = activation(x) by its name; parameters as ONNX Runtime's fusions write them. */
static mrt_var *activate(mrt_compose *b, mrt_var *x, const char *name, int n, const float *p) {
  const float first = n > 0 ? p[0] : 0, second = n > 1 ? p[1] : 0;
  if (!*name) return x;
  if (strcmp(name, "Clip") == 0)
    return mrt_compose_op(b, name, 3,
                          (mrt_var *[]){x, mrt_compose_f32(b, first), mrt_compose_f32(b, second)});
  mrt_var *y = mrt_compose_1(b, name, x);
  if (n > 0) mrt_compose_float(b, "alpha", first);
  if (n > 1) mrt_compose_float(b, "beta", second);
  return y;
}
static bool known_activation(const char *name) {
  static const char *const names[] = {"",     "Relu",        "Tanh", "Sigmoid", "LeakyRelu",
                                      "Clip", "HardSigmoid", "Elu",  "Softplus"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (strcmp(names[i], name) == 0) return true;
  return false;
}

static mrt_status *conv_expand(mrt_node *node, const mrt_op_table *ops) {
  static const char *const copied[] = {"auto_pad",     "dilations", "group",
                                       "kernel_shape", "pads",      "strides"};
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *in[3] = {mrt_compose_in(&b, 0), mrt_compose_in(&b, 1), mrt_compose_in(&b, 2)};
  const char *act = mrt_node_str(node, "activation");
  int n;
  const float *p = mrt_node_floats(node, "activation_params", &n);
  if (!known_activation(act)) mrt_compose_fail(&b, act);
  mrt_var *y = mrt_compose_op(&b, "Conv", 3, in);
  for (size_t i = 0; i < sizeof copied / sizeof *copied; ++i) mrt_compose_copy_attr(&b, copied[i]);
  if (mrt_compose_in(&b, 3)) y = mrt_compose_2(&b, "Add", y, mrt_compose_in(&b, 3));
  mrt_compose_set(&b, 0, activate(&b, y, act, n, p));
  return mrt_compose_end(&b);
}

static mrt_status *gemm_expand(mrt_node *node, const mrt_op_table *ops) {
  static const char *const copied[] = {"alpha", "beta", "transA", "transB"};
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *in[3] = {mrt_compose_in(&b, 0), mrt_compose_in(&b, 1), mrt_compose_in(&b, 2)};
  const char *act = mrt_node_str(node, "activation");
  const bool one = mrt_node_attr(node, "activation_alpha") != NULL,
             two = one && mrt_node_attr(node, "activation_beta") != NULL;
  const float p[2] = {mrt_node_float(node, "activation_alpha"),
                      mrt_node_float(node, "activation_beta")};
  if (!known_activation(act)) mrt_compose_fail(&b, act);
  mrt_var *y = mrt_compose_op(&b, "Gemm", 3, in);
  for (size_t i = 0; i < sizeof copied / sizeof *copied; ++i) mrt_compose_copy_attr(&b, copied[i]);
  mrt_compose_set(&b, 0, activate(&b, y, act, two ? 2 : one, p));
  return mrt_compose_end(&b);
}

static mrt_status *bias_softmax_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  if (!mrt_node_int(node, "is_inner_broadcast")) mrt_compose_fail(&b, "is_inner_broadcast = 0");
  mrt_var *y = mrt_compose_1(
      &b, "Softmax", mrt_compose_2(&b, "Add", mrt_compose_in(&b, 0), mrt_compose_in(&b, 1)));
  const int64_t axis = mrt_node_int(node, "axis");
  if (axis != -1) mrt_compose_fail(&b, "an axis that is not the last");
  mrt_compose_set(&b, 0, y);
  return mrt_compose_end(&b);
}

static const mrt_op_version v1[] = {{1}, {0}};
#define MS .domain = "com.microsoft", .types = "T=" MRT_T_FLOATS, .versions = v1, .out = "Y:T"
#define WINDOW \
  "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints"
MRT_OP_IN(ms, Gelu) = {MS, .name = "Gelu", .doc = "x * Phi(x)", .in = "X:T", .expand = gelu_expand};
MRT_OP_IN(ms, BiasGelu) = {MS, .name = "BiasGelu", .doc = "Gelu(A + B)", .in = "A:T, B:T",
                           .expand = gelu_expand};
MRT_OP_IN(ms, FastGelu) = {MS, .name = "FastGelu", .doc = "Gelu(X + bias) by tanh",
                           .in = "X:T, bias:T?", .expand = gelu_expand};
MRT_OP_IN(ms, QuickGelu) = {MS,
                            .name = "QuickGelu",
                            .doc = "x * Sigmoid(alpha * x)",
                            .in = "X:T",
                            .attrs = "alpha:float=1.702",
                            .flags = MRT_OP_ELEMENTWISE,
                            .inplace = {{1, 0}},
                            .infer = mrt_infer_same_shape,
                            .run = quick_run};
MRT_OP_IN(ms, FusedConv) = {MS,
                            .name = "FusedConv",
                            .doc = "activation(Conv(X, W, B) + Z)",
                            .in = "X:T, W:T, B:T?, Z:T?",
                            .attrs = WINDOW " activation:string= activation_params:floats",
                            .expand = conv_expand};
MRT_OP_IN(ms, FusedGemm) = {
    MS,
    .name = "FusedGemm",
    .doc = "activation(Gemm(A, B, C))",
    .in = "A:T, B:T, C:T?",
    .attrs =
        "alpha:float=1.0 beta:float=1.0 transA:int=0 transB:int=0 activation:string= "
        "activation_alpha:float activation_beta:float activation_gamma:float",
    .expand = gemm_expand};
MRT_OP_IN(ms, BiasSoftmax) = {MS,
                              .name = "BiasSoftmax",
                              .doc = "Softmax(data + bias)",
                              .in = "data:T, bias:T",
                              .attrs = "axis:int=1 is_inner_broadcast:int!",
                              .expand = bias_softmax_expand};
