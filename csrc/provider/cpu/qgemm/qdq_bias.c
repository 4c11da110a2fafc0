/* The bias of a quantised product, as the integers that its sums count in. */
#include <math.h>

#include "provider/cpu/qgemm/qdq.h"

/* Of a bias: what stands behind it, quantised or float. */
typedef struct bias_source {
  const mrt_tensor *values, *scale, *zero; /* scale NULL: floats */
} bias_source;

static bool find_bias(const mrt_var *v, int64_t n, bias_source *out) {
  const mrt_node *dq = v->producer;
  *out = (bias_source){.values = v->constant};
  if (out->values) return out->values->dtype == MRT_FLOAT && mrt_tensor_count(out->values) == n;
  if (!mrt_is_op(dq, "DequantizeLinear") || mrt_node_in_dtype(dq, 0) != MRT_INT32) return false;
  *out =
      (bias_source){mrt_node_in_const(dq, 0), mrt_node_in_const(dq, 1), mrt_node_in_const(dq, 2)};
  const bool has_zero = dq->n_in > 2 && dq->in[2].var;
  if (!out->values || !out->scale || mrt_tensor_count(out->values) != n || has_zero != !!out->zero)
    return false;
  const int64_t scales = mrt_tensor_count(out->scale);
  return out->scale->dtype == MRT_FLOAT && (scales == 1 || scales == n) &&
         (!out->zero || mrt_tensor_count(out->zero) == scales);
}

static float scale_at(const bias_source *b, int64_t i) {
  return ((const float *)b->scale->data)[mrt_tensor_count(b->scale) == 1 ? 0 : i];
}
static int64_t zero_at(const bias_source *b, int64_t i) {
  if (!b->zero) return 0;
  return mrt_elem_get_i64(MRT_INT32, b->zero->data, mrt_tensor_count(b->zero) == 1 ? 0 : i);
}
static float bias_at(const bias_source *b, int64_t i) {
  if (!b->scale) return ((const float *)b->values->data)[i];
  return (float)(((const int32_t *)b->values->data)[i] - zero_at(b, i)) * scale_at(b, i);
}

/* Do its integers count in the unit of the sums? */
static bool is_in_unit(const bias_source *b, int64_t n, const mrt_qval *x, const mrt_qval *w) {
  if (!b->scale) return false;
  for (int64_t i = 0; i < n; ++i) {
    const float want = mrt_qval_scale(x, 0) * mrt_qval_scale(w, i);
    if (zero_at(b, i) || !(fabsf(scale_at(b, i) - want) <= 1e-4f * fabsf(want))) return false;
  }
  return true;
}

mrt_status *mrt_qval_bias(mrt_graph *g, const mrt_var *v, int64_t n, const mrt_qval *x,
                          const mrt_qval *w, mrt_var **out, bool *ok) {
  bias_source b;
  mrt_tensor *t;
  *out = NULL;
  *ok = v == NULL;
  if (!v || !find_bias(v, n, &b)) return NULL;
  if (b.scale) { /* 0 to 2: any of them may lie misaligned in the file */
    for (int i = 0; i < v->producer->n_in; ++i)
      if (v->producer->in[i].var) MRT_TRY(mrt_var_align(v->producer->in[i].var));
    (void)find_bias(v, n, &b);
  }
  if ((*ok = is_in_unit(&b, n, x, w))) {
    *out = v->producer->in[0].var;
    return NULL;
  }
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_INT32, 1, &n, &t));
  bool fits = true;
  for (int64_t i = 0; i < n; ++i) {
    const float q = rintf(bias_at(&b, i) / (mrt_qval_scale(x, 0) * mrt_qval_scale(w, i)));
    fits = fits && fabsf(q) < 2e9f;
    ((int32_t *)t->data)[i] = fits ? (int32_t)q : 0;
  }
  *ok = fits;
  if (fits) return mrt_graph_constant(g, t, out);
  mrt_tensor_release(t);
  return NULL;
}
