/* One step of Adam, Adagrad and Momentum over any number of tensors (domain
 * ai.onnx.preview.training). Inputs after (R, T): all values, all gradients, then the states, kind
 * by kind; outputs: all new values, then the new states. Computed in double, element by element. */
#include "ops/common.h"

typedef struct step { /* scalars of a run */
  double r, t, norm, post, eps, alpha, beta;
  bool nesterov;
} step;
/* v: value, gradient, states; results in v[0] and v[2], v[3]. */
typedef void (*step_fn)(const step *s, double *v);

static void adam(const step *s, double *v) {
  double g = s->norm * v[0] + v[1];
  v[2] = s->alpha * v[2] + (1 - s->alpha) * g;
  v[3] = s->beta * v[3] + (1 - s->beta) * g * g;
  double r = s->t > 0 ? s->r * sqrt(1 - pow(s->beta, s->t)) / (1 - pow(s->alpha, s->t)) : s->r;
  v[0] = (1 - s->post) * (v[0] - r * v[2] / (sqrt(v[3]) + s->eps));
}
static void adagrad(const step *s, double *v) { /* beta: decay_factor */
  double g = s->norm * v[0] + v[1];
  v[2] += g * g;
  v[0] -= s->r / (1 + s->t * s->beta) * g / (sqrt(v[2]) + s->eps);
}
static void momentum(const step *s, double *v) {
  double g = s->norm * v[0] + v[1];
  v[2] = s->alpha * v[2] + (s->t > 0 ? s->beta : 1) * g;
  v[0] -= s->r * (s->nesterov ? g + s->alpha * v[2] : v[2]);
}

static mrt_status *arity(const mrt_node *node, int states, int *n) {
  int k = node->n_in - 2;
  *n = k / (2 + states);
  if (k <= 0 || k % (2 + states) || node->n_out > *n * (1 + states))
    return MRT_ERR(MRT_INVALID_GRAPH, "%s with %d inputs and %d outputs", node->op_type, node->n_in,
                   node->n_out);
  return NULL;
}
static int states_of(const mrt_node *node) { return strcmp(node->op_type, "Adam") == 0 ? 2 : 1; }
/* Input that output i continues. */
static int source(int i, int n) { return 2 + (i < n ? i : i + n); }

static mrt_status *infer(mrt_infer *c) {
  int n;
  MRT_TRY(arity(c->node, states_of(c->node), &n));
  for (int i = 0; i < c->n_out; ++i) MRT_TRY(mrt_infer_out_like(c, i, source(i, n), MRT_UNDEFINED));
  return NULL;
}

static mrt_status *run_all(mrt_kctx *c, const step *s, step_fn fn) {
  int n, states = states_of(c->node);
  MRT_TRY(arity(c->node, states, &n));
  for (int k = 0; k < n; ++k) {
    const mrt_tensor *in[4];
    int64_t count = 0;
    for (int i = 0; i < 2 + states; ++i) {
      in[i] = mrt_in(c, 2 + k + i * n);
      if (!in[i] || in[i]->dtype != in[0]->dtype ||
          !mrt_shape_equal(in[i]->rank, in[i]->dims, in[0]->rank, in[0]->dims))
        return MRT_ERR(MRT_INVALID_ARGUMENT, "tensors number %d differ in shape or type", k);
      count = mrt_tensor_count(in[0]);
    }
    mrt_dtype d = (mrt_dtype)in[0]->dtype;
    for (int64_t e = 0; e < count; ++e) {
      double v[4];
      for (int i = 0; i < 2 + states; ++i) v[i] = mrt_elem_get_f64(d, in[i]->data, e);
      fn(s, v);
      for (int o = 0; o <= states; ++o) {
        mrt_tensor *y = mrt_out(c, k + o * n);
        if (y) mrt_elem_set_f64(d, y->data, e, v[o ? o + 1 : 0]);
      }
    }
  }
  return NULL;
}
static mrt_status *scalars(mrt_kctx *c, step *s) {
  const mrt_tensor *r = mrt_in(c, 0), *t = mrt_in(c, 1);
  if (mrt_tensor_count(r) != 1 || mrt_tensor_count(t) != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "R and T must be scalars");
  s->r = mrt_elem_get_f64((mrt_dtype)r->dtype, r->data, 0);
  s->t = mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, 0);
  s->norm = mrt_node_float(c->node, "norm_coefficient");
  s->eps = mrt_node_float(c->node, "epsilon");
  s->alpha = mrt_node_float(c->node, "alpha");
  s->beta = mrt_node_float(c->node, "beta");
  s->post = mrt_node_float(c->node, "norm_coefficient_post");
  return NULL;
}
static mrt_status *adam_run(mrt_kctx *c) {
  step s = {0};
  MRT_TRY(scalars(c, &s));
  return run_all(c, &s, adam);
}
static mrt_status *adagrad_run(mrt_kctx *c) {
  step s = {0};
  MRT_TRY(scalars(c, &s));
  s.beta = mrt_node_float(c->node, "decay_factor");
  return run_all(c, &s, adagrad);
}
static mrt_status *momentum_run(mrt_kctx *c) {
  step s = {0};
  const char *mode = mrt_node_str(c->node, "mode");
  MRT_TRY(scalars(c, &s));
  s.nesterov = strcmp(mode, "nesterov") == 0;
  if (!s.nesterov && strcmp(mode, "standard") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "mode '%s' is neither 'nesterov' nor 'standard'", mode);
  return run_all(c, &s, momentum);
}

static const mrt_op_version versions[] = {{1}, {0}};
#define COMMON                                                              \
  .domain = "ai.onnx.preview.training", .in = "R:R, T:int64, inputs:any**", \
  .out = "outputs:any**", .types = "R=float,double", .versions = versions, .infer = infer
MRT_OP_IN(mpt, Adam) = {
    COMMON, .name = "Adam", .doc = "one step of Adam",
    .attrs =
        "alpha:float=0.9 beta:float=0.999 epsilon:float=0.000001 norm_coefficient:float=0 "
        "norm_coefficient_post:float=0",
    .run = adam_run};
MRT_OP_IN(mpt, Adagrad) = {
    COMMON, .name = "Adagrad", .doc = "one step of Adagrad",
    .attrs = "decay_factor:float=0 epsilon:float=0.000001 norm_coefficient:float=0",
    .run = adagrad_run};
MRT_OP_IN(mpt, Momentum) = {
    COMMON, .name = "Momentum", .doc = "one step of gradient descent with momentum",
    .attrs = "alpha:float! beta:float! mode:string! norm_coefficient:float!", .run = momentum_run};
