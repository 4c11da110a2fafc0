/* Reads unary nodes as activations: which point-wise instruction they are, with its parameters. */
#include <math.h>
#include <string.h>

#include "provider/cpu/conv/conv_node.h"

typedef struct unary_row {
  const char *op;
  mrt_ew_op ew;
  const char *attr[2];
  bool fusable; /* macart.Conv knows it by this name */
} unary_row;

static const unary_row rows[] = {
    {"Relu", MRT_EW_RELU, {NULL, NULL}, true},
    {"Clip", MRT_EW_CLIP, {NULL, NULL}, true},
    {"LeakyRelu", MRT_EW_LEAKY_RELU, {"alpha", NULL}, true},
    {"Sigmoid", MRT_EW_SIGMOID, {NULL, NULL}, true},
    {"Tanh", MRT_EW_TANH, {NULL, NULL}, true},
    {"HardSigmoid", MRT_EW_HARD_SIGMOID, {"alpha", "beta"}, true},
    {"Elu", MRT_EW_ELU, {"alpha", NULL}, true},
    {"HardSwish", MRT_EW_HARD_SWISH, {NULL, NULL}, true},
    {"Mish", MRT_EW_MISH, {NULL, NULL}, true},
    {"Gelu", MRT_EW_GELU, {NULL, NULL}, true},
    {"Silu", MRT_EW_SILU, {NULL, NULL}, true}, /* no ONNX operator: Sigmoid and Mul */
    {"HardSwishAffine", MRT_EW_HARD_SWISH_AB, {NULL, NULL}, true}, /* HardSwish, Mul, Add */
    {"Softplus", MRT_EW_SOFTPLUS, {NULL, NULL}, false},
    {"Softsign", MRT_EW_SOFTSIGN, {NULL, NULL}, false},
    {"Neg", MRT_EW_NEG, {NULL, NULL}, false},
    {"Abs", MRT_EW_ABS, {NULL, NULL}, false},
    {"Sqrt", MRT_EW_SQRT, {NULL, NULL}, false},
    {"Exp", MRT_EW_EXP, {NULL, NULL}, false},
    {"Erf", MRT_EW_ERF, {NULL, NULL}, false},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

/* A bound of Clip: absent, or a float constant. */
static bool bound(const mrt_node *node, int i, float absent, float *out) {
  *out = absent;
  if (i >= node->n_in || !node->in[i].var) return true;
  const mrt_tensor *t = node->in[i].var->constant;
  if (!t || t->dtype != MRT_FLOAT || mrt_tensor_count(t) != 1) return false;
  *out = *(const float *)t->data;
  return !isnan(*out);
}

bool mrt_unary_node_act(const mrt_node *node, mrt_act *act) {
  *act = (mrt_act){0};
  if (*node->domain || node->n_in < 1 || !node->in[0].var || node->n_out != 1) return false;
  for (int i = 0; i < N_ROWS; ++i) {
    if (strcmp(rows[i].op, node->op_type) != 0) continue;
    act->op = rows[i].ew;
    for (int k = 0; k < 2; ++k)
      if (rows[i].attr[k]) act->p[k] = mrt_node_float(node, rows[i].attr[k]);
    if (act->op == MRT_EW_GELU && strcmp(mrt_node_str(node, "approximate"), "tanh") == 0)
      return false;
    /* With min above max, ONNX gives max: what the instruction does. */
    if (act->op == MRT_EW_CLIP)
      return bound(node, 1, -INFINITY, &act->p[0]) && bound(node, 2, INFINITY, &act->p[1]);
    return true;
  }
  return false;
}

const char *mrt_act_name(const mrt_act *act) {
  for (int i = 0; i < N_ROWS; ++i)
    if (rows[i].fusable && rows[i].ew == act->op) return rows[i].op;
  return NULL;
}

bool mrt_act_of(const char *name, int n, const float *p, mrt_act *act) {
  *act = (mrt_act){0};
  if (!*name) return true;
  for (int i = 0; i < N_ROWS; ++i) {
    if (!rows[i].fusable || strcmp(rows[i].op, name) != 0) continue;
    act->op = rows[i].ew;
    if (mrt_ew_op_params(act->op) > n) return false;
    for (int k = 0; k < mrt_ew_op_params(act->op); ++k) act->p[k] = p[k];
    return true;
  }
  return false;
}

bool mrt_conv_node_act(const mrt_node *node, mrt_act *act) {
  *act = (mrt_act){0};
  if (strcmp(node->domain, "macart") != 0) return true;
  int n;
  const float *p = mrt_node_floats(node, "activation_params", &n);
  return mrt_act_of(mrt_node_str(node, "activation"), n, p, act);
}
