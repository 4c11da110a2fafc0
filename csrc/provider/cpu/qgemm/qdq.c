/* See qdq.h. */
#include "provider/cpu/qgemm/qdq.h"

#include <string.h>

bool mrt_is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}
mrt_node *mrt_sole_user(const mrt_var *v) {
  return v->n_uses == 1 && v->n_graph_outputs == 0 && v->uses[0].node->graph == v->graph
             ? v->uses[0].node
             : NULL;
}
mrt_node *mrt_sole_producer(const mrt_var *v, int index) {
  return v && v->producer && v->producer->provider == index && mrt_sole_user(v) ? v->producer
                                                                                : NULL;
}

static bool linear_op(const mrt_node *n, const char *op, int index) {
  return n && n->provider == index && strcmp(n->op_type, op) == 0 &&
         (!*n->domain || strcmp(n->domain, "com.microsoft") == 0) && !mrt_node_int(n, "block_size");
}
static bool is_byte(mrt_dtype t) { return t == MRT_INT8 || t == MRT_UINT8; }

/* Scale and zero point of a node; both constant, the zero point like the scale or absent. */
static bool read_params(const mrt_node *n, mrt_qval *out) {
  const mrt_tensor *s = mrt_node_in_const(n, 1), *z = mrt_node_in_const(n, 2);
  if (!s || s->dtype != MRT_FLOAT || mrt_tensor_is_forgotten(s) ||
      (n->n_in > 2 && n->in[2].var && !z))
    return false;
  *out = (mrt_qval){.scale = n->in[1].var,
                    .zero = z ? n->in[2].var : NULL,
                    .scales = mrt_tensor_count(s),
                    .axis = (int)mrt_node_int(n, "axis")};
  return !z || mrt_tensor_count(z) == out->scales;
}

bool mrt_qval_activation(const mrt_var *v, int index, mrt_qval *out) {
  const mrt_node *n = v ? v->producer : NULL;
  if (!linear_op(n, "DequantizeLinear", index) || !read_params(n, out) || out->scales != 1 ||
      mrt_node_out_dtype(n, 0) != MRT_FLOAT)
    return false;
  out->q = n->in[0].var;
  out->dtype = mrt_node_in_dtype(n, 0);
  return is_byte(out->dtype);
}

bool mrt_qval_weight(const mrt_var *v, int index, mrt_qval *out) {
  const mrt_node *n = v ? v->producer : NULL;
  const mrt_tensor *w = n ? mrt_node_in_const(n, 0) : NULL;
  if (!linear_op(n, "DequantizeLinear", index) || !w || !read_params(n, out) ||
      mrt_node_out_dtype(n, 0) != MRT_FLOAT)
    return false;
  out->q = n->in[0].var;
  out->dtype = (mrt_dtype)w->dtype;
  if (out->axis < 0) out->axis += w->rank;
  return is_byte(out->dtype) && w->rank >= 1 &&
         (out->scales == 1 || (out->axis >= 0 && out->axis < w->rank));
}

bool mrt_qval_result(const mrt_node *n, int index, mrt_qval *out) {
  if (!linear_op(n, "QuantizeLinear", index) || !n->out[0] || !read_params(n, out) ||
      out->scales != 1 || mrt_node_in_dtype(n, 0) != MRT_FLOAT)
    return false;
  out->q = n->out[0];
  out->dtype = mrt_node_out_dtype(n, 0);
  return is_byte(out->dtype) && mrt_node_int(n, "precision") <= MRT_FLOAT;
}

float mrt_qval_scale(const mrt_qval *v, int64_t i) {
  return ((const float *)v->scale->constant->data)[v->scales == 1 ? 0 : i];
}
int32_t mrt_qval_zero(const mrt_qval *v) {
  const mrt_tensor *z = v->zero ? v->zero->constant : NULL;
  return z ? (int32_t)mrt_elem_get_i64((mrt_dtype)z->dtype, z->data, 0) : 0;
}
bool mrt_qval_same(const mrt_qval *a, const mrt_qval *b) {
  return a->dtype == b->dtype && a->scales == 1 && b->scales == 1 &&
         mrt_qval_scale(a, 0) == mrt_qval_scale(b, 0) && mrt_qval_zero(a) == mrt_qval_zero(b);
}

mrt_status *mrt_graph_constant(mrt_graph *g, mrt_tensor *take, mrt_var **out) {
  const mrt_type *type = mrt_type_of_value(g->model, &take->base);
  mrt_status *st = type ? mrt_graph_add_var(g, NULL, type, out) : mrt_status_oom();
  if (st) {
    mrt_tensor_release(take);
    return st;
  }
  return mrt_var_set_constant(*out, take);
}

mrt_status *mrt_qval_zero_var(mrt_graph *g, const mrt_qval *v, mrt_var **out) {
  mrt_tensor *t;
  *out = v->zero;
  if (v->zero) return NULL;
  const int64_t n = v->scales;
  MRT_TRY(mrt_tensor_create(g->model->alloc, v->dtype, n > 1, &n, &t));
  memset(t->data, 0, t->bytes);
  return mrt_graph_constant(g, t, out);
}
