/* DequantizeLinear, an operator, QuantizeLinear: one integer operator. Relu and Clip in front of
 * the quantisation become bounds of its result. The operators are ONNX's and com.microsoft's; with
 * bounds they are macart's. Dequantisations that nobody reads any more go with the dead code. */
#include <string.h>

#include "ops/quant.h"
#include "provider/cpu/qgemm/qdq.h"

typedef struct region {
  const mrt_provider *p;
  int index;
  mrt_graph *g;
  mrt_node *quantize, *act, *op; /* act: Relu or Clip, or NULL */
  mrt_qval y;
  int32_t lo, hi; /* range of y */
  bool bounded;
  mrt_node *made;
} region;

static int32_t quantized(const region *r, float v) {
  int32_t lo = 0, hi = 0;
  mrt_quant_range(r->y.dtype, &lo, &hi);
  return mrt_quant_value(v, mrt_qval_scale(&r->y, 0), mrt_qval_zero(&r->y), lo, hi);
}

/* A constant scalar input as a number; absent: `none`. */
static bool bound_of(const mrt_node *n, int i, float none, float *out) {
  const mrt_tensor *t = mrt_node_in_const(n, i);
  *out = none;
  if (i >= n->n_in || !n->in[i].var) return true;
  if (!t || t->dtype != MRT_FLOAT || mrt_tensor_count(t) != 1) return false;
  *out = *(const float *)t->data;
  return true;
}

static void take_bounds(region *r, mrt_node *n) {
  float lo = 0, hi = INFINITY;
  int32_t all_lo = 0, all_hi = 0;
  if (mrt_is_op(n, "Clip")) {
    if (!bound_of(n, 1, -INFINITY, &lo) || !bound_of(n, 2, INFINITY, &hi) || !(lo <= hi)) return;
  } else if (!mrt_is_op(n, "Relu")) {
    return;
  }
  mrt_quant_range(r->y.dtype, &all_lo, &all_hi);
  r->act = n;
  r->lo = quantized(r, lo);
  r->hi = quantized(r, hi);
  r->bounded = r->lo > all_lo || r->hi < all_hi;
}

/* The integer operator in front of the quantisation; bounds make it macart's. */
static mrt_status *make(region *r, const char *domain, const char *op, int n_in,
                        mrt_var *const *in) {
  mrt_var *out;
  MRT_TRY(mrt_graph_add_var(r->g, NULL, r->y.q->type, &out));
  MRT_TRY(mrt_graph_add_node(r->g, r->quantize, r->bounded ? "macart" : domain, op, r->op->name,
                             n_in, in, 1, &out, &r->made));
  r->made->provider = r->index;
  if (r->bounded) {
    MRT_TRY(mrt_node_set_int(r->made, "lo", r->lo));
    MRT_TRY(mrt_node_set_int(r->made, "hi", r->hi));
  }
  MRT_TRY(mrt_var_replace(r->y.q, out));
  mrt_node_remove(r->quantize);
  if (r->act) mrt_node_remove(r->act);
  return NULL;
}
/* The last step: attributes of the operator that was, which goes; the new node is resolved. */
static mrt_status *copy_attrs(const region *r, int n, const char *const *names) {
  for (int i = 0; i < n; ++i) {
    const mrt_attr *a = mrt_node_attr(r->op, names[i]);
    if (a) MRT_TRY(mrt_node_set_attr(r->made, a));
  }
  mrt_node_remove(r->op);
  return mrt_node_resolve(r->made, r->p->env->ops);
}

/* ---- operators with weights ---- */

/* x, w and what belongs to the result as inputs [x, s, z, w, s, z, s, z]. */
static mrt_status *eight(const region *r, const mrt_qval *a, const mrt_qval *b, mrt_var **in) {
  const mrt_qval *const v[3] = {a, b, &r->y};
  for (int i = 0; i < 3; ++i) {
    if (i < 2) in[3 * i] = v[i]->q;
    in[i < 2 ? 3 * i + 1 : 6] = v[i]->scale;
    MRT_TRY(mrt_qval_zero_var(r->g, v[i], &in[i < 2 ? 3 * i + 2 : 7]));
  }
  return NULL;
}

static mrt_status *fuse_conv(region *r, bool *done) {
  static const char *const names[] = {"auto_pad",     "dilations", "group",
                                      "kernel_shape", "pads",      "strides"};
  const mrt_node *n = r->op;
  mrt_qval x, w;
  mrt_var *in[9] = {NULL};
  bool ok;
  if (!mrt_qval_activation(n->in[0].var, r->index, &x) ||
      !mrt_qval_weight(n->in[1].var, r->index, &w))
    return NULL;
  const mrt_tensor *t = w.q->constant;
  if (t->rank < 3 || t->rank > 4 || (w.scales != 1 && (w.axis != 0 || w.scales != t->dims[0])))
    return NULL;
  MRT_TRY(mrt_qval_bias(r->g, n->n_in > 2 ? n->in[2].var : NULL, t->dims[0], &x, &w, &in[8], &ok));
  if (!ok) return NULL;
  MRT_TRY(eight(r, &x, &w, in));
  MRT_TRY(make(r, "", "QLinearConv", in[8] ? 9 : 8, in));
  *done = true;
  return copy_attrs(r, 6, names);
}

static mrt_status *fuse_matmul(region *r, bool *done) {
  const mrt_node *n = r->op;
  mrt_qval a, b;
  mrt_var *in[8];
  if (!mrt_qval_activation(n->in[0].var, r->index, &a)) return NULL;
  if (mrt_qval_weight(n->in[1].var, r->index, &b)) {
    const mrt_tensor *t = b.q->constant;
    if (t->rank < 2 || (b.scales != 1 && (t->rank != 2 || b.axis != 1 || b.scales != t->dims[1])))
      return NULL;
  } else if (!mrt_qval_activation(n->in[1].var, r->index, &b)) {
    return NULL;
  }
  MRT_TRY(eight(r, &a, &b, in));
  MRT_TRY(make(r, "", "QLinearMatMul", 8, in));
  *done = true;
  return copy_attrs(r, 0, NULL);
}

static mrt_status *fuse_gemm(region *r, bool *done) {
  static const char *const names[] = {"transB"};
  const mrt_node *n = r->op;
  mrt_qval a, b;
  mrt_var *v[8], *in[9], *bias;
  bool ok;
  const int n_axis = mrt_node_int(n, "transB") ? 0 : 1;
  if (mrt_node_float(n, "alpha") != 1 || mrt_node_int(n, "transA") ||
      !mrt_qval_activation(n->in[0].var, r->index, &a) ||
      !mrt_qval_weight(n->in[1].var, r->index, &b) || b.q->constant->rank != 2)
    return NULL;
  const int64_t columns = b.q->constant->dims[n_axis];
  mrt_var *c = n->n_in > 2 ? n->in[2].var : NULL;
  if ((b.scales != 1 && (b.axis != n_axis || b.scales != columns)) ||
      (c && mrt_node_float(n, "beta") != 1))
    return NULL;
  MRT_TRY(mrt_qval_bias(r->g, c, columns, &a, &b, &bias, &ok));
  if (!ok) return NULL;
  MRT_TRY(eight(r, &a, &b, v));
  for (int i = 0; i < 9; ++i) in[i] = i < 6 ? v[i] : i == 6 ? bias : v[i - 1];
  MRT_TRY(make(r, "com.microsoft", "QGemm", 9, in));
  *done = true;
  return copy_attrs(r, 1, names);
}

/* ---- operators without weights ---- */
static mrt_status *fuse_binary(region *r, bool *done) {
  mrt_qval a, b;
  mrt_var *in[8];
  if (!mrt_qval_activation(r->op->in[0].var, r->index, &a) ||
      !mrt_qval_activation(r->op->in[1].var, r->index, &b) || a.dtype != b.dtype ||
      a.dtype != r->y.dtype)
    return NULL;
  MRT_TRY(eight(r, &a, &b, in));
  MRT_TRY(make(r, "com.microsoft", mrt_is_op(r->op, "Add") ? "QLinearAdd" : "QLinearMul", 8, in));
  *done = true;
  return copy_attrs(r, 0, NULL);
}

/* x, scale, zero, y scale, y zero. An activation that stands alone is the operator itself. */
static mrt_status *fuse_unary(region *r, const char *op, bool *done) {
  static const char *const names[] = {"alpha", "axis"};
  mrt_qval x;
  mrt_var *in[5];
  if (!mrt_qval_activation(r->op->in[0].var, r->index, &x) || x.dtype != r->y.dtype || r->bounded)
    return NULL;
  in[0] = x.q, in[1] = x.scale, in[3] = r->y.scale;
  MRT_TRY(mrt_qval_zero_var(r->g, &x, &in[2]));
  MRT_TRY(mrt_qval_zero_var(r->g, &r->y, &in[4]));
  const bool softmax = strcmp(op, "QLinearSoftmax") == 0, relu = mrt_is_op(r->op, "Relu");
  MRT_TRY(make(r, "com.microsoft", op, 5, in));
  *done = true;
  if (softmax) MRT_TRY(mrt_node_set_int(r->made, "opset", 13));
  if (relu) MRT_TRY(mrt_node_set_float(r->made, "alpha", 0));
  return copy_attrs(r, softmax ? 2 : strcmp(op, "QLinearLeakyRelu") == 0 ? 1 : 0, names);
}

static mrt_status *fuse_concat(region *r, bool *done) {
  static const char *const names[] = {"axis"};
  enum { MOST = 32 };
  const mrt_node *n = r->op;
  mrt_var *in[2 + 3 * MOST];
  mrt_qval x[MOST];
  if (n->n_in > MOST || r->bounded) return NULL;
  for (int i = 0; i < n->n_in; ++i)
    if (!mrt_qval_activation(n->in[i].var, r->index, &x[i])) return NULL;
  in[0] = r->y.scale;
  MRT_TRY(mrt_qval_zero_var(r->g, &r->y, &in[1]));
  for (int i = 0; i < n->n_in; ++i) {
    in[2 + 3 * i] = x[i].q;
    in[3 + 3 * i] = x[i].scale;
    MRT_TRY(mrt_qval_zero_var(r->g, &x[i], &in[4 + 3 * i]));
  }
  MRT_TRY(make(r, "com.microsoft", "QLinearConcat", 2 + 3 * n->n_in, in));
  *done = true;
  return copy_attrs(r, 1, names);
}

/* Operators that only move or pick values work on the bytes as well. */
static bool is_mover(const mrt_node *n) {
  static const char *const movers[] = {"MaxPool", "Reshape",   "Transpose", "Flatten",
                                       "Squeeze", "Unsqueeze", "Slice",     "Gather"};
  for (size_t i = 0; i < sizeof movers / sizeof *movers && n->n_out == 1; ++i)
    if (mrt_is_op(n, movers[i])) return true;
  return false;
}

/* Between equal scales: the quantisation goes. */
static mrt_status *fuse_mover(region *r, bool *done) {
  mrt_node *n = r->op;
  mrt_qval x;
  mrt_var *out;
  if (!is_mover(n) || r->act || !mrt_qval_activation(n->in[0].var, r->index, &x) ||
      !mrt_qval_same(&x, &r->y))
    return NULL;
  MRT_TRY(mrt_node_set_input(n, 0, x.q));
  MRT_TRY(mrt_graph_add_var(r->g, NULL, r->y.q->type, &out));
  MRT_TRY(mrt_node_set_output(n, 0, out));
  MRT_TRY(mrt_var_replace(r->y.q, out));
  mrt_node_remove(r->quantize);
  *done = true;
  return NULL;
}

/* Not in front of a quantisation: the bytes are moved first, then dequantised. */
static mrt_status *sink(const mrt_provider *p, mrt_graph *g, mrt_node *n, int index) {
  mrt_qval x, y;
  mrt_var *bytes, *out;
  mrt_node *dq;
  if (n->provider != index || !is_mover(n) || !n->out[0] || !n->out[0]->type ||
      !mrt_qval_activation(n->in[0].var, index, &x) || x.q->constant)
    return NULL;
  for (size_t i = 0; i < n->out[0]->n_uses; ++i)
    if (mrt_qval_result(n->out[0]->uses[i].node, index, &y)) return NULL;
  const mrt_type *t = n->out[0]->type, *type = mrt_type_tensor(g->model, x.dtype, t->rank, t->dims);
  if (!type) return mrt_status_oom();
  MRT_TRY(mrt_graph_add_var(g, NULL, type, &bytes));
  mrt_var *in[3] = {bytes, x.scale, x.zero};
  MRT_TRY(mrt_graph_insert(g, n->next, p->env->ops, "", "DequantizeLinear", x.zero ? 3 : 2, in, t,
                           &dq, &out));
  dq->provider = index;
  MRT_TRY(mrt_var_replace(n->out[0], out));
  MRT_TRY(mrt_node_set_output(n, 0, bytes));
  return mrt_node_set_input(n, 0, x.q);
}

/* ReduceMean over the pixels of images: GlobalAveragePool in other words. */
static bool is_pixel_mean(const mrt_node *n) {
  const mrt_tensor *axes = mrt_is_op(n, "ReduceMean") ? mrt_node_in_const(n, 1) : NULL;
  if (!axes || axes->dtype != MRT_INT64 || mrt_tensor_count(axes) != 2 ||
      !mrt_node_int(n, "keepdims") || mrt_node_in_rank(n, 0) != 4)
    return false;
  const int64_t a = mrt_elem_get_i64(MRT_INT64, axes->data, 0) & 3,
                b = mrt_elem_get_i64(MRT_INT64, axes->data, 1) & 3;
  return (a == 2 && b == 3) || (a == 3 && b == 2); /* -2 & 3 is 2 */
}

/* A mean, a change of shape, the quantisation: the bytes change their shape instead. */
static mrt_status *hoist(mrt_graph *g, mrt_node *quantize, int index, const mrt_qval *y) {
  static const char *const shapers[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"};
  mrt_node *shaper = mrt_sole_producer(quantize->in[0].var, index);
  mrt_var *bytes, *shaped, *old = quantize->out[0];
  mrt_qval x;
  bool is_shaper = false;
  for (size_t i = 0; i < sizeof shapers / sizeof *shapers; ++i)
    is_shaper = is_shaper || mrt_is_op(shaper, shapers[i]);
  const mrt_node *mean = is_shaper ? mrt_sole_producer(shaper->in[0].var, index) : NULL;
  if (!mean || (!is_pixel_mean(mean) && !mrt_is_op(mean, "GlobalAveragePool")) ||
      !mrt_qval_activation(mean->in[0].var, index, &x) || x.dtype != y->dtype)
    return NULL;
  const mrt_type *t = mean->out[0]->type,
                 *type = t ? mrt_type_tensor(g->model, y->dtype, t->rank, t->dims) : NULL;
  if (!t) return NULL;
  if (!type) return mrt_status_oom();
  MRT_TRY(mrt_graph_add_var(g, NULL, type, &bytes));
  MRT_TRY(mrt_graph_add_var(g, NULL, old->type, &shaped));
  MRT_TRY(mrt_node_set_input(quantize, 0, mean->out[0]));
  MRT_TRY(mrt_node_set_output(quantize, 0, bytes));
  MRT_TRY(mrt_node_set_input(shaper, 0, bytes));
  MRT_TRY(mrt_node_set_output(shaper, 0, shaped));
  MRT_TRY(mrt_var_replace(old, shaped));
  mrt_node_move_before(quantize, shaper);
  return NULL;
}

static mrt_status *fuse_one(region *r, bool *done) {
  static const struct {
    const char *op, *as;
  } unary[] = {{"Sigmoid", "QLinearSigmoid"},
               {"LeakyRelu", "QLinearLeakyRelu"},
               {"Softmax", "QLinearSoftmax"},
               {"GlobalAveragePool", "QLinearGlobalAveragePool"}};
  const mrt_node *n = r->op;
  if (*n->domain || !n->n_in || !n->in[0].var) return NULL;
  if (mrt_is_op(n, "Conv")) return fuse_conv(r, done);
  if (mrt_is_op(n, "MatMul")) return fuse_matmul(r, done);
  if (mrt_is_op(n, "Gemm")) return fuse_gemm(r, done);
  if (mrt_is_op(n, "Add") || mrt_is_op(n, "Mul")) return fuse_binary(r, done);
  if (mrt_is_op(n, "Concat")) return fuse_concat(r, done);
  if (is_pixel_mean(n)) return fuse_unary(r, "QLinearGlobalAveragePool", done);
  for (size_t i = 0; i < sizeof unary / sizeof *unary; ++i)
    if (mrt_is_op(n, unary[i].op)) return fuse_unary(r, unary[i].as, done);
  return fuse_mover(r, done);
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first; n; n = n->next) MRT_TRY(sink(p, g, n, index));
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    region r = {.p = p, .index = index, .g = g, .quantize = n};
    bool done = false;
    if (!mrt_qval_result(n, index, &r.y)) continue;
    MRT_TRY(hoist(g, n, index, &r.y));
    if (!mrt_qval_result(n, index, &r.y)) continue; /* its output may be another one now */
    mrt_node *last = mrt_sole_producer(n->in[0].var, index);
    if (!last) continue;
    take_bounds(&r, last);
    r.op = r.act ? mrt_sole_producer(r.act->in[0].var, index) : last;
    if (r.op) MRT_TRY(fuse_one(&r, &done));
    if (!done && mrt_is_op(r.act, "Relu")) { /* on its own, between two quantised values */
      r.op = r.act;
      r.act = NULL;
      r.bounded = false;
      MRT_TRY(fuse_unary(&r, "QLinearLeakyRelu", &done));
    }
    *fired += done;
  }
  return NULL;
}

MRT_FUSION(qdq) = {.name = "qdq",
                   .doc = "DequantizeLinear, operator, QuantizeLinear as one integer operator",
                   .order = 2,
                   .level = 2,
                   .run = run};
