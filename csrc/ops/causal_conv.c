/* CausalConvWithState: a depthwise convolution over the past along the last axis, with the last
 * k - 1 inputs carried from call to call. */
#include "ops/work.h"

typedef struct causal {
  const float *x, *w, *bias, *past;
  float *y, *present, *padded; /* padded: past and input of each unit */
  int64_t channels, len, k;
  bool silu;
} causal;
static void channels(void *arg, int64_t begin, int64_t end) {
  const causal *j = arg;
  int64_t keep = j->k - 1, width = keep + j->len;
  for (int64_t u = begin; u < end; ++u) { /* u: (batch, channel) */
    const float *w = j->w + u % j->channels * j->k;
    float *p = j->padded + u * width;
    for (int64_t i = 0; i < keep; ++i) p[i] = j->past ? j->past[u * keep + i] : 0;
    memcpy(p + keep, j->x + u * j->len, (size_t)j->len * sizeof *p);
    for (int64_t t = 0; j->y && t < j->len; ++t) {
      float v = j->bias ? j->bias[u % j->channels] : 0;
      for (int64_t i = 0; i < j->k; ++i) v += w[i] * p[t + i];
      j->y[u * j->len + t] = j->silu ? v / (1 + expf(-v)) : v;
    }
    if (j->present) memcpy(j->present + u * keep, p + j->len, (size_t)keep * sizeof *p);
  }
}
static mrt_status *causal_infer(mrt_infer *c) {
  const mrt_expr *k = mrt_expr_sub(c->sym, mrt_infer_dim(c, 1, 2), mrt_expr_const(c->sym, 1));
  const mrt_expr *s[3] = {mrt_infer_dim(c, 0, 0), mrt_infer_dim(c, 0, 1), k};
  MRT_TRY(mrt_infer_same_shape(c));
  return mrt_infer_out(c, 1, mrt_infer_dtype(c, 0), 3, s);
}
static mrt_status *causal_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *w = mrt_in(c, 1), *b = mrt_in(c, 2), *past = mrt_in(c, 3),
                   *in[4];
  mrt_tensor view[6], *y, *present;
  const char *act = mrt_node_str(c->node, "activation");
  bool none = strcmp(act, "none") == 0;
  if (!none && strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "CausalConvWithState: activation '%s'", act);
  if (x->rank != 3 || w->rank != 3 || w->dims[0] != x->dims[1] || w->dims[1] != 1 ||
      w->dims[2] < 1 || (b && mrt_tensor_count(b) != x->dims[1]))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "CausalConvWithState: weight or bias do not fit");
  causal j = {.channels = x->dims[1], .len = x->dims[2], .k = w->dims[2], .silu = !none};
  const int64_t state[3] = {x->dims[0], x->dims[1], j.k - 1};
  if (past && !mrt_shape_equal(past->rank, past->dims, 3, state))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "CausalConvWithState: past_state has another shape");
  for (int i = 0; i < 4; ++i) MRT_TRY(mrt_work_in(c, mrt_in(c, i), MRT_FLOAT, &view[i], &in[i]));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 0), MRT_FLOAT, &view[4], &y));
  MRT_TRY(mrt_work_out(c, mrt_out(c, 1), MRT_FLOAT, &view[5], &present));
  j.x = in[0]->data, j.w = in[1]->data;
  j.bias = in[2] ? in[2]->data : NULL;
  j.past = in[3] ? in[3]->data : NULL;
  j.y = y ? y->data : NULL;
  j.present = present ? present->data : NULL;
  int64_t units = x->dims[0] * j.channels, n;
  if (!mrt_i64_mul(units, j.k - 1 + j.len, &n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "CausalConvWithState: too many elements");
  MRT_TRY(mrt_scratch_array(c, n, sizeof *j.padded, &j.padded));
  mrt_par_range(&c->par, units, (double)(j.len * j.k), channels, &j);
  if (y) mrt_work_done(y, mrt_out(c, 0));
  if (present) mrt_work_done(present, mrt_out(c, 1));
  return NULL;
}
static const mrt_op_version causal_v[] = {{27}, {0}};
MRT_OP(CausalConvWithState) = {.domain = "",
                               .name = "CausalConvWithState",
                               .doc = "depthwise convolution over the past, with carried inputs",
                               .in = "input:T, weight:T, bias:T?, past_state:T?",
                               .out = "output:T, present_state:T",
                               .types = "T=float,float16,bfloat16",
                               .attrs = "activation:string=none",
                               .versions = causal_v,
                               .infer = causal_infer,
                               .run = causal_run};
