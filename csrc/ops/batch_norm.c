/* BatchNormalization: one scale and one shift per channel; in training mode they come from the
 * batch itself (population variance) and the running statistics are updated. */
#include "ops/common.h"

/* Old forms: hints and modes that are gone. */
static mrt_status *bn_up(mrt_node *node) {
  static const char *const gone[] = {"consumed_inputs", "is_test", "spatial", NULL};
  if (mrt_node_attr(node, "spatial") && !mrt_node_int(node, "spatial"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "BatchNormalization with spatial = 0");
  for (int i = 0; gone[i]; ++i) mrt_node_del_attr(node, gone[i]);
  for (int i = 1; i < node->n_out; ++i)
    if (node->out[i] && (node->out[i]->n_uses || node->out[i]->n_graph_outputs))
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "BatchNormalization in the training mode of opset %d",
                     node->version);
  node->n_out = 1;
  return NULL;
}
static mrt_status *bn_infer(mrt_infer *c) {
  MRT_TRY(mrt_infer_same_shape(c));
  MRT_TRY(mrt_infer_out_like(c, 1, 3, MRT_UNDEFINED));
  return mrt_infer_out_like(c, 2, 4, MRT_UNDEFINED);
}

typedef struct bn_job {
  const mrt_tensor *x;
  mrt_tensor *y;
  int64_t channels, inner;
  const double *scale, *shift;
} bn_job;
static void planes(void *arg, int64_t begin, int64_t end) {
  const bn_job *j = arg;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  for (int64_t p = begin; p < end; ++p) {
    double s = j->scale[p % j->channels], b = j->shift[p % j->channels];
    int64_t at = p * j->inner, last = at + j->inner;
    if (t == MRT_FLOAT) {
      const float *x = j->x->data;
      float *y = j->y->data;
      for (int64_t i = at; i < last; ++i) y[i] = (float)(x[i] * s + b);
    } else {
      for (int64_t i = at; i < last; ++i)
        mrt_elem_set_f64(t, j->y->data, i, mrt_elem_get_f64(t, j->x->data, i) * s + b);
    }
  }
}
/* Mean and population variance of channel k. */
static void statistics(const bn_job *j, int64_t k, double *mean, double *var) {
  int64_t batch = j->x->rank > 1 ? j->x->dims[0] : 1;
  double n = (double)(batch * j->inner), sum = 0, sq = 0;
  mrt_dtype t = (mrt_dtype)j->x->dtype;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < j->inner; ++i)
      sum += mrt_elem_get_f64(t, j->x->data, (b * j->channels + k) * j->inner + i);
  *mean = sum / n;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < j->inner; ++i) {
      double v = mrt_elem_get_f64(t, j->x->data, (b * j->channels + k) * j->inner + i) - *mean;
      sq += v * v;
    }
  *var = sq / n;
}
static double at(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}
static mrt_status *bn_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *s = mrt_in(c, 1), *b = mrt_in(c, 2), *m = mrt_in(c, 3),
                   *v = mrt_in(c, 4);
  mrt_tensor *y = mrt_out(c, 0), *running[2] = {mrt_out(c, 1), mrt_out(c, 2)};
  bool training = mrt_node_int(c->node, "training_mode") != 0;
  bn_job j = {x,
              y,
              x->rank > 1 ? x->dims[1] : 1,
              mrt_dims_product(x->dims, x->rank > 1 ? 2 : 1, x->rank),
              NULL,
              NULL};
  double eps = mrt_node_float(c->node, "epsilon"), *scale, *shift;
  double keep = mrt_node_float(c->node, "momentum");
  if (mrt_tensor_count(s) != j.channels || mrt_tensor_count(b) != j.channels ||
      mrt_tensor_count(m) != j.channels || mrt_tensor_count(v) != j.channels)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "scale, B, mean and var need %lld elements",
                   (long long)j.channels);
  if (!training && (running[0] || running[1]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "running statistics are wanted, but training_mode is 0");
  MRT_TRY(mrt_scratch(c, (size_t)j.channels * 16 + 1, (void **)&scale));
  shift = scale + j.channels;
  for (int64_t k = 0; k < j.channels; ++k) {
    double mean = at(m, k), var = at(v, k);
    if (training) {
      double old_mean = mean, old_var = var;
      statistics(&j, k, &mean, &var);
      if (running[0])
        mrt_elem_set_f64((mrt_dtype)running[0]->dtype, running[0]->data, k,
                         old_mean * keep + mean * (1 - keep));
      if (running[1])
        mrt_elem_set_f64((mrt_dtype)running[1]->dtype, running[1]->data, k,
                         old_var * keep + var * (1 - keep));
    }
    scale[k] = at(s, k) / sqrt(var + eps);
    shift[k] = at(b, k) - mean * scale[k];
  }
  j.scale = scale;
  j.shift = shift;
  int64_t n = mrt_tensor_count(x);
  if (y && n) mrt_par_range(&c->par, n / j.inner, (double)j.inner * 0.5, planes, &j);
  return NULL;
}
static const mrt_op_version bn_v[] = {{1, bn_up}, {6, bn_up}, {7, bn_up}, {9, bn_up},
                                      {14},       {15},       {0}};
MRT_OP(BatchNormalization) = {.domain = "",
                              .name = "BatchNormalization",
                              .doc = "(x - mean) / sqrt(var + epsilon) * scale + B",
                              .in = "X:T, scale:T1, B:T1, input_mean:T2, input_var:T2",
                              .out = "Y:T, running_mean:T2?, running_var:T2?",
                              .types = "T=" MRT_T_FLOATS ";T1=" MRT_T_FLOATS ";T2=" MRT_T_FLOATS,
                              .attrs = "epsilon:float=1e-05 momentum:float=0.9 training_mode:int=0",
                              .versions = bn_v,
                              .infer = bn_infer,
                              .run = bn_run};
