/* FlexAttention (ai.onnx.preview): softmax(score_mod(Q K' * scale)), then prob_mod, times V, where
 * the two modifiers are subgraphs over the whole tensor of scores. */
#include "ops/control.h"
#include "ops/work.h"

/* Element type of scores: the attribute, or float unless the inputs are double. */
static mrt_dtype score_type(const mrt_node *node, mrt_dtype in) {
  if (mrt_node_attr(node, "softmax_precision"))
    return (mrt_dtype)mrt_node_int(node, "softmax_precision");
  return in == MRT_DOUBLE ? MRT_DOUBLE : MRT_FLOAT;
}
static mrt_status *flex_infer(mrt_infer *c) {
  static const char *const mods[] = {"score_mod", "prob_mod"};
  const mrt_expr *dims[4] = {mrt_infer_dim(c, 0, 0), mrt_infer_dim(c, 0, 1), mrt_infer_dim(c, 0, 2),
                             mrt_infer_dim(c, 1, 2)};
  mrt_dtype t = mrt_infer_dtype(c, 0), s = score_type(c->node, t);
  for (int i = 0; i < 3; ++i)
    if (mrt_infer_rank(c, i) >= 0 && mrt_infer_rank(c, i) != 4)
      return MRT_ERR(MRT_FAIL, "Q, K and V must have rank 4, input %d has rank %d", i,
                     mrt_infer_rank(c, i));
  if (s != MRT_FLOAT && s != MRT_DOUBLE && s != MRT_FLOAT16 && s != MRT_BFLOAT16)
    return MRT_ERR(MRT_FAIL, "softmax_precision %d is not a floating type", (int)s);
  const mrt_type *scores = mrt_type_tensor(c->model, s, 4, dims), *out;
  for (int i = 0; i < 2; ++i) {
    mrt_graph *g = mrt_node_graph(c->node, mods[i]);
    if (!g) continue;
    if (g->n_inputs != 1 || g->n_outputs != 1)
      return MRT_ERR(MRT_INVALID_GRAPH, "%s needs one input and one output", mods[i]);
    if (c->subgraph) MRT_TRY(c->subgraph(c, g, 1, &scores, &out));
  }
  dims[3] = mrt_infer_dim(c, 2, 3);
  return mrt_infer_out(c, 0, t, 4, dims);
}

typedef struct flex {
  const mrt_tensor *q, *k, *v;
  mrt_tensor *y;
  const double *p; /* [batch, q_heads, q_len, k_len] scores, then probabilities */
  double *out, scale;
  int64_t heads, kv_heads, q_len, k_len, size, v_size;
} flex;
static int64_t kv_plane(const flex *f, int64_t row) {
  int64_t h = row / f->q_len % f->heads, b = row / f->q_len / f->heads;
  return b * f->kv_heads + h / (f->heads / f->kv_heads);
}
/* Units of both: query rows. */
static void score_rows(void *arg, int64_t begin, int64_t end) {
  const flex *f = arg;
  for (int64_t r = begin; r < end; ++r) {
    const double *q = (const double *)f->q->data + r * f->size,
                 *k = (const double *)f->k->data + kv_plane(f, r) * f->k_len * f->size;
    for (int64_t j = 0; j < f->k_len; ++j) {
      double sum = 0;
      for (int64_t d = 0; d < f->size; ++d) sum += q[d] * k[j * f->size + d];
      f->out[r * f->k_len + j] = sum * f->scale;
    }
  }
}
static void value_rows(void *arg, int64_t begin, int64_t end) {
  const flex *f = arg;
  for (int64_t r = begin; r < end; ++r) {
    const double *p = f->p + r * f->k_len,
                 *v = (const double *)f->v->data + kv_plane(f, r) * f->k_len * f->v_size;
    double *y = (double *)f->y->data + r * f->v_size;
    for (int64_t d = 0; d < f->v_size; ++d) y[d] = 0;
    for (int64_t j = 0; j < f->k_len; ++j)
      for (int64_t d = 0; d < f->v_size; ++d) y[d] += p[j] * v[j * f->v_size + d];
  }
}
static void softmax_rows(double *p, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, p += n) {
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; ++j)
      if (p[j] > top || isnan(p[j])) top = p[j];
    for (int64_t j = 0; j < n; ++j) sum += p[j] = top == -INFINITY ? 0 : exp(p[j] - top);
    for (int64_t j = 0; j < n && sum != 0; ++j) p[j] /= sum;
  }
}
static int subgraph_index(const mrt_node *node, const mrt_graph *want) {
  mrt_graph *subs[4];
  int n = mrt_node_subgraphs(node, subs, 4);
  for (int i = 0; i < n && i < 4; ++i)
    if (subs[i] == want) return i;
  return -1;
}
/* p through the subgraph of that name, if there is one; in the scores' type. */
static mrt_status *modify(mrt_kctx *c, const char *name, mrt_dtype t, const int64_t *dims,
                          double *p) {
  mrt_graph *g = mrt_node_graph(c->node, name);
  mrt_tensor *in;
  mrt_value *out = NULL;
  int64_t n;
  if (!g && t == MRT_DOUBLE) return NULL;
  MRT_TRY(mrt_tensor_create(c->alloc, t, 4, dims, &in));
  n = mrt_tensor_count(in);
  for (int64_t i = 0; i < n; ++i) mrt_elem_set_f64(t, in->data, i, p[i]);
  mrt_status *st = NULL;
  const mrt_tensor *result = in;
  if (g) {
    mrt_value *arg = &in->base;
    st = mrt_run_subgraph(c, subgraph_index(c->node, g), 1, &arg, 1, &out);
    result = mrt_value_tensor(out);
    if (!st &&
        (!result || result->dtype != t || !mrt_shape_equal(result->rank, result->dims, 4, dims)))
      st = MRT_ERR(MRT_INVALID_ARGUMENT, "FlexAttention: %s changed the shape or type", name);
  }
  for (int64_t i = 0; !st && i < n; ++i) p[i] = mrt_elem_get_f64(t, result->data, i);
  mrt_value_release(out);
  mrt_tensor_release(in);
  return st;
}
static mrt_status *flex_run(mrt_kctx *c) {
  const mrt_tensor *q = mrt_in(c, 0), *k = mrt_in(c, 1), *v = mrt_in(c, 2);
  mrt_tensor view[4];
  int64_t n;
  flex f = {0};
  if (!mrt_out(c, 0)) return NULL;
  if (q->rank != 4 || k->rank != 4 || v->rank != 4 || q->dims[0] != k->dims[0] ||
      q->dims[0] != v->dims[0] || k->dims[1] != v->dims[1] || k->dims[2] != v->dims[2] ||
      q->dims[3] != k->dims[3] || k->dims[1] < 1 || q->dims[1] % k->dims[1])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "FlexAttention: the shapes of Q, K and V do not fit");
  f.heads = q->dims[1], f.kv_heads = k->dims[1], f.q_len = q->dims[2], f.k_len = k->dims[2];
  f.size = q->dims[3], f.v_size = v->dims[3];
  f.scale = mrt_node_attr(c->node, "scale") ? (double)mrt_node_float(c->node, "scale")
                                            : 1 / sqrt((double)f.size);
  const int64_t dims[4] = {q->dims[0], f.heads, f.q_len, f.k_len};
  mrt_dtype t = score_type(c->node, (mrt_dtype)q->dtype);
  MRT_TRY(mrt_work_in(c, q, MRT_DOUBLE, &view[0], &f.q));
  MRT_TRY(mrt_work_in(c, k, MRT_DOUBLE, &view[1], &f.k));
  MRT_TRY(mrt_work_in(c, v, MRT_DOUBLE, &view[2], &f.v));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 0), MRT_DOUBLE, &view[3], &f.y));
  MRT_TRY(mrt_shape_count(4, dims, &n));
  MRT_TRY(mrt_scratch_array(c, n, sizeof *f.out, &f.out));
  int64_t rows = dims[0] * dims[1] * dims[2];
  mrt_par_range(&c->par, rows, (double)(f.k_len * f.size), score_rows, &f);
  MRT_TRY(modify(c, "score_mod", t, dims, f.out));
  softmax_rows(f.out, rows, f.k_len);
  MRT_TRY(modify(c, "prob_mod", t, dims, f.out));
  f.p = f.out;
  mrt_par_range(&c->par, rows, (double)(f.k_len * f.v_size), value_rows, &f);
  mrt_work_done(f.y, mrt_out(c, 0));
  return NULL;
}
static const mrt_op_version flex_v[] = {{1}, {0}};
MRT_OP_IN(mp, FlexAttention) = {
    .domain = "ai.onnx.preview",
    .name = "FlexAttention",
    .doc = "attention with modifiers of scores and probabilities",
    .in = "Q:T1, K:T1, V:T1",
    .out = "Y:T1",
    .types = "T1=" MRT_T_FLOATS,
    .attrs = "prob_mod:graph scale:float score_mod:graph softmax_precision:int",
    .versions = flex_v,
    .flags = MRT_OP_CONTROL,
    .infer = flex_infer,
    .run = flex_run};
