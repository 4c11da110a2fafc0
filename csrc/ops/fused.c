/* Fused operators of the CPU provider are taken apart: the activation becomes a node again. */
#include "ops/fused.h"

/* Where the parameters of an activation go when it is written as a node: attribute names, or for
 * Clip its inputs. */
static const struct act_params {
  const char *op, *attr[2];
} act_params[] = {
    {"LeakyRelu", {"alpha", NULL}}, {"HardSigmoid", {"alpha", "beta"}}, {"Elu", {"alpha", NULL}}};

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

static mrt_status *append_clip(expander *e, const float *p) {
  mrt_var *in[3] = {e->value};
  mrt_node *n;
  MRT_TRY(mrt_graph_const_f32(e->node->graph, p[0], &in[1]));
  MRT_TRY(mrt_graph_const_f32(e->node->graph, p[1], &in[2]));
  return append(e, "Clip", 3, in, &n);
}

static mrt_status *append_affine(expander *e, const float *p) {
  mrt_var *in[2] = {e->value};
  mrt_node *n;
  MRT_TRY(append(e, "HardSwish", 1, in, &n));
  for (int k = 0; k < 2; ++k) {
    in[0] = e->value;
    MRT_TRY(mrt_graph_const_f32(e->node->graph, p[k], &in[1]));
    MRT_TRY(append(e, k ? "Add" : "Mul", 2, in, &n));
  }
  return NULL;
}

static mrt_status *activation(expander *e) {
  const char *name = mrt_node_str(e->node, "activation");
  int count;
  const float *p = mrt_node_floats(e->node, "activation_params", &count);
  mrt_var *in[2] = {e->value};
  mrt_node *n;
  if (!*name) return NULL;
  if (strcmp(name, "Clip") == 0) {
    if (count != 2) return MRT_ERR(MRT_INVALID_GRAPH, "Clip without its two parameters");
    return append_clip(e, p);
  }
  if (strcmp(name, "Silu") == 0) {
    MRT_TRY(append(e, "Sigmoid", 1, in, &n));
    in[1] = e->value;
    return append(e, "Mul", 2, in, &n);
  }
  if (strcmp(name, "HardSwishAffine") == 0) {
    if (count != 2) return MRT_ERR(MRT_INVALID_GRAPH, "HardSwishAffine without its parameters");
    return append_affine(e, p);
  }
  MRT_TRY(append(e, name, 1, in, &n));
  for (size_t i = 0; i < sizeof act_params / sizeof *act_params; ++i)
    for (int k = 0; k < 2 && strcmp(act_params[i].op, name) == 0; ++k)
      if (act_params[i].attr[k] && k < count)
        MRT_TRY(mrt_node_set_float(n, act_params[i].attr[k], p[k]));
  return NULL;
}

mrt_status *mrt_fused_activation(mrt_node *node, const mrt_op_table *ops, mrt_var **value) {
  expander e = {.node = node, .ops = ops, .value = *value};
  MRT_TRY(activation(&e));
  *value = e.value;
  return NULL;
}
