/* Convolution, residual sum and activation as one macart.Conv: the sum and the activation are done
 * on each tile of the output while it is in registers or L1. */
#include <math.h>
#include <string.h>

#include "provider/cpu/conv/conv_node.h"

/* The only reader of v, in the same graph; NULL if there is another, or v is a result. */
static mrt_node *only_user(const mrt_var *v) {
  return v->n_uses == 1 && v->n_graph_outputs == 0 && v->uses[0].node->graph == v->graph
             ? v->uses[0].node
             : NULL;
}
static bool is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}

typedef struct fused {
  mrt_node *conv, *last; /* last: the node whose output the fused one takes over */
  mrt_node *drop[6];     /* between and with conv and last, users first */
  int n_drop;
  mrt_var *residual;
  mrt_act act;
} fused;

static mrt_var *tail(const fused *f) { return f->last->out[0]; }
static void take(fused *f, mrt_node *n) {
  f->drop[f->n_drop++] = n;
  f->last = n;
}

static bool same_type(const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a->dtype != b->dtype || a->rank != b->rank || a->rank < 0) return false;
  for (int i = 0; i < a->rank; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

static void take_residual(fused *f) {
  mrt_node *add = only_user(tail(f));
  if (!is_op(add, "Add") || !add->in[0].var || !add->in[1].var) return;
  mrt_var *other = add->in[add->in[0].var == tail(f) ? 1 : 0].var;
  if (other->constant || !same_type(other->type, tail(f)->type)) return;
  f->residual = other;
  take(f, add);
}

/* x * sigmoid(x), or x * max(0, min(1, x / 6 + 1/2)). */
static bool take_gated(fused *f) {
  mrt_var *x = tail(f);
  if (x->n_uses != 2 || x->n_graph_outputs) return false;
  for (int i = 0; i < 2; ++i) {
    mrt_node *gate = x->uses[i].node, *mul = x->uses[1 - i].node;
    const bool silu = is_op(gate, "Sigmoid"), hard = is_op(gate, "HardSigmoid");
    if ((!silu && !hard) || !is_op(mul, "Mul") || gate->graph != x->graph ||
        only_user(gate->out[0]) != mul)
      continue;
    if (hard && (fabsf(mrt_node_float(gate, "alpha") - 1.0f / 6) > 1e-7f ||
                 mrt_node_float(gate, "beta") != 0.5f))
      continue;
    f->act.op = silu ? MRT_EW_SILU : MRT_EW_HARD_SWISH;
    f->drop[f->n_drop++] = gate;
    take(f, mul);
    return true;
  }
  return false;
}

static void take_activation(fused *f) {
  mrt_act act;
  if (take_gated(f)) return;
  mrt_node *n = only_user(tail(f));
  if (!n || !mrt_unary_node_act(n, &act) || n->in[0].var != tail(f) || !mrt_act_name(&act)) return;
  f->act = act;
  take(f, n);
}

/* The one element of the other operand of a node that reads v. */
static bool scalar_beside(const mrt_node *n, const mrt_var *v, float *out) {
  const mrt_var *c = n->n_in == 2 ? n->in[n->in[0].var == v ? 1 : 0].var : NULL;
  const mrt_tensor *t = c ? c->constant : NULL;
  if (!t || t->dtype != MRT_FLOAT || mrt_tensor_count(t) != 1 || !v->type ||
      t->rank > v->type->rank)
    return false;
  *out = *(const float *)t->data;
  return true;
}

/* A scalar factor and a scalar sum behind HardSwish (a learnable affine block). */
static void take_affine(fused *f) {
  float p[2];
  mrt_node *mul = only_user(tail(f));
  if (f->act.op != MRT_EW_HARD_SWISH || !is_op(mul, "Mul") || !mul->out[0]) return;
  mrt_node *add = only_user(mul->out[0]);
  if (!is_op(add, "Add") || !add->out[0] || !scalar_beside(mul, tail(f), &p[0]) ||
      !scalar_beside(add, mul->out[0], &p[1]))
    return;
  f->act = (mrt_act){MRT_EW_HARD_SWISH_AB, {p[0], p[1]}};
  take(f, mul);
  take(f, add);
}

static mrt_status *replace(fused *f, const mrt_op_table *ops) {
  const mrt_node *conv = f->conv;
  mrt_var *in[4] = {conv->in[0].var, conv->in[1].var, conv->n_in > 2 ? conv->in[2].var : NULL,
                    f->residual};
  mrt_node *n;
  mrt_var *out;
  MRT_TRY(mrt_graph_insert(conv->graph, f->last, ops, "macart", "Conv", f->residual ? 4 : 3, in,
                           tail(f)->type, &n, &out));
  n->name = conv->name;
  n->orig_op = conv->orig_op;
  n->orig_version = conv->orig_version;
  for (int i = 0; i < conv->n_attrs; ++i) MRT_TRY(mrt_node_set_attr(n, &conv->attrs[i]));
  if (f->act.op != MRT_EW_COPY) {
    const mrt_attr params = {.name = "activation_params",
                             .kind = MRT_ATTR_FLOATS,
                             .n = (size_t)mrt_ew_op_params(f->act.op),
                             .floats = f->act.p};
    MRT_TRY(mrt_node_set_str(n, "activation", mrt_act_name(&f->act)));
    MRT_TRY(mrt_node_set_attr(n, &params));
  }
  MRT_TRY(mrt_var_replace(tail(f), out));
  for (int i = f->n_drop; i-- > 0;) mrt_node_remove(f->drop[i]);
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    mrt_conv conv;
    int64_t loop;
    next = n->next;
    if (!is_op(n, "Conv") || n->provider != index || !n->out[0] ||
        !mrt_conv_node_read(n, &conv, &loop))
      continue;
    fused f = {.conv = n, .last = n, .drop = {n}, .n_drop = 1};
    take_residual(&f);
    take_activation(&f);
    take_affine(&f);
    if (f.n_drop == 1) continue;
    for (int i = 0; i < f.n_drop; ++i)
      if (f.drop[i]->provider != index) goto skip;
    for (int i = 1; next && i < f.n_drop;) { /* go on behind everything that goes */
      if (f.drop[i] == next)
        next = next->next, i = 1;
      else
        ++i;
    }
    MRT_TRY(replace(&f, p->env->ops));
    ++*fired;
  skip:;
  }
  return NULL;
}

MRT_FUSION(conv_epilogue) = {
    .name = "conv_epilogue", .doc = "Conv + Add + activation", .order = 10, .level = 2, .run = run};
