/* LinearAttention: a recurrent state S [d_k, d_v] per key/value head takes one token after the
 * other: S = e^g S (gated), + beta k (v - S' k)' (delta) or + k v'; the output is scale S' q. */
#include "ops/work.h"

typedef struct linear {
  const float *q, *k, *v, *decay, *beta;
  float *y, *state, *correction; /* correction: d_v floats of each unit */
  int64_t batch, len, q_heads, kv_heads, d_k, d_v;
  int64_t decay_width, beta_heads; /* decay: 1 per head or d_k; beta: kv_heads or 1 */
  float scale;
} linear;

/* One token of one head: k [d_k], v [d_v], s [d_k, d_v]; o: scratch of d_v. */
static void update(const linear *j, const float *k, const float *v, const float *g,
                   const float *beta, float *s, float *o) {
  for (int64_t i = 0; g && i < j->d_k; ++i) {
    float e = expf(g[j->decay_width == 1 ? 0 : i]);
    for (int64_t m = 0; m < j->d_v; ++m) s[i * j->d_v + m] *= e;
  }
  if (beta) {
    for (int64_t m = 0; m < j->d_v; ++m) o[m] = 0;
    for (int64_t i = 0; i < j->d_k; ++i)
      for (int64_t m = 0; m < j->d_v; ++m) o[m] += s[i * j->d_v + m] * k[i];
    for (int64_t m = 0; m < j->d_v; ++m) o[m] = *beta * (v[m] - o[m]);
    v = o;
  }
  for (int64_t i = 0; i < j->d_k; ++i)
    for (int64_t m = 0; m < j->d_v; ++m) s[i * j->d_v + m] += k[i] * v[m];
}
/* Units: (batch, key/value head). */
static void heads(void *arg, int64_t begin, int64_t end) {
  const linear *j = arg;
  int64_t group = j->q_heads / j->kv_heads;
  for (int64_t u = begin; u < end; ++u) {
    int64_t b = u / j->kv_heads, h = u % j->kv_heads;
    float *s = j->state + u * j->d_k * j->d_v;
    for (int64_t t = 0; t < j->len; ++t) {
      int64_t token = b * j->len + t, at = token * j->kv_heads + h;
      update(j, j->k + at * j->d_k, j->v + at * j->d_v,
             j->decay ? j->decay + at * j->decay_width : NULL,
             j->beta ? j->beta + token * j->beta_heads + (j->beta_heads == 1 ? 0 : h) : NULL, s,
             j->correction + u * j->d_v);
      for (int64_t r = h * group; r < (h + 1) * group; ++r) {
        const float *q = j->q + (token * j->q_heads + r) * j->d_k;
        float *y = j->y + (token * j->q_heads + r) * j->d_v;
        for (int64_t m = 0; m < j->d_v; ++m) y[m] = 0;
        for (int64_t i = 0; i < j->d_k; ++i)
          for (int64_t m = 0; m < j->d_v; ++m) y[m] += q[i] * s[i * j->d_v + m];
        for (int64_t m = 0; m < j->d_v; ++m) y[m] *= j->scale;
      }
    }
  }
}

static mrt_status *linear_infer(mrt_infer *c) {
  int64_t hq = mrt_node_int(c->node, "q_num_heads"), hkv = mrt_node_int(c->node, "kv_num_heads");
  if (hq < 1 || hkv < 1 || hq % hkv)
    return MRT_ERR(MRT_FAIL, "q_num_heads %lld must be a positive multiple of kv_num_heads %lld",
                   (long long)hq, (long long)hkv);
  const mrt_expr *q = mrt_expr_const(c->sym, hq), *kv = mrt_expr_const(c->sym, hkv);
  const mrt_expr *dk = mrt_expr_floordiv(c->sym, mrt_infer_dim(c, 0, 2), q),
                 *dv = mrt_expr_floordiv(c->sym, mrt_infer_dim(c, 2, 2), kv);
  const mrt_expr *y[3] = {mrt_infer_dim(c, 0, 0), mrt_infer_dim(c, 0, 1),
                          mrt_expr_mul(c->sym, q, dv)};
  const mrt_expr *s[4] = {mrt_infer_dim(c, 0, 0), kv, dk, dv};
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 3, y));
  return mrt_infer_out(c, 1, mrt_infer_dtype(c, mrt_infer_has(c, 3) ? 3 : 0), 4, s);
}
static mrt_status *read_rule(mrt_kctx *c, bool *gated, bool *delta) {
  const char *rule = mrt_node_str(c->node, "update_rule");
  *gated = strcmp(rule, "gated") == 0 || strcmp(rule, "gated_delta") == 0;
  *delta = strcmp(rule, "delta") == 0 || strcmp(rule, "gated_delta") == 0;
  if (!*gated && !*delta && strcmp(rule, "linear") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LinearAttention: update_rule '%s'", rule);
  if (*gated != (mrt_in(c, 4) != NULL) || *delta != (mrt_in(c, 5) != NULL))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "LinearAttention: update_rule '%s' does not go with the inputs decay, beta",
                   rule);
  return NULL;
}
static bool has_shape(const mrt_tensor *t, int64_t a, int64_t b, int64_t last) {
  return t->rank == 3 && t->dims[0] == a && t->dims[1] == b && t->dims[2] == last;
}
static mrt_status *read_sizes(mrt_kctx *c, linear *j) {
  const mrt_tensor *q = mrt_in(c, 0), *k = mrt_in(c, 1), *v = mrt_in(c, 2), *s = mrt_in(c, 3),
                   *g = mrt_in(c, 4), *beta = mrt_in(c, 5);
  int64_t hq = mrt_node_int(c->node, "q_num_heads"), hkv = mrt_node_int(c->node, "kv_num_heads");
  if (hq < 1 || hkv < 1 || hq % hkv || q->rank != 3 || v->rank != 3 || q->dims[2] % hq ||
      v->dims[2] % hkv)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LinearAttention: %lld query and %lld value heads",
                   (long long)hq, (long long)hkv);
  *j = (linear){.batch = q->dims[0],
                .len = q->dims[1],
                .q_heads = hq,
                .kv_heads = hkv,
                .d_k = q->dims[2] / hq,
                .d_v = v->dims[2] / hkv,
                .scale = mrt_node_float(c->node, "scale")};
  if (j->scale == 0) j->scale = (float)(1 / sqrt((double)j->d_k));
  if (!has_shape(k, j->batch, j->len, hkv * j->d_k) ||
      !has_shape(v, j->batch, j->len, hkv * j->d_v))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LinearAttention: query, key and value do not fit");
  j->decay_width = g && g->rank == 3 && g->dims[2] == hkv ? 1 : j->d_k;
  j->beta_heads = beta && beta->rank == 3 && beta->dims[2] == 1 ? 1 : hkv;
  if ((g && !has_shape(g, j->batch, j->len, hkv * j->decay_width)) ||
      (beta && !has_shape(beta, j->batch, j->len, j->beta_heads)))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LinearAttention: decay or beta has another shape");
  if (s && (s->rank != 4 || s->dims[0] != j->batch || s->dims[1] != hkv || s->dims[2] != j->d_k ||
            s->dims[3] != j->d_v))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "LinearAttention: past_state has another shape");
  return NULL;
}
static mrt_status *linear_run(mrt_kctx *c) {
  linear j;
  mrt_tensor view[6], fy, *y;
  const mrt_tensor *in[6];
  bool gated, delta;
  MRT_TRY(read_sizes(c, &j));
  MRT_TRY(read_rule(c, &gated, &delta));
  for (int i = 0; i < 6; ++i) MRT_TRY(mrt_work_in(c, mrt_in(c, i), MRT_FLOAT, &view[i], &in[i]));
  j.q = in[0]->data, j.k = in[1]->data, j.v = in[2]->data;
  j.decay = in[4] ? in[4]->data : NULL;
  j.beta = in[5] ? in[5]->data : NULL;
  int64_t units = j.batch * j.kv_heads, n = units * j.d_k * j.d_v;
  MRT_TRY(mrt_scratch_array(c, n, sizeof *j.state, &j.state));
  MRT_TRY(mrt_scratch_array(c, units * j.d_v, sizeof *j.correction, &j.correction));
  if (in[3])
    memcpy(j.state, in[3]->data, (size_t)n * sizeof *j.state);
  else
    memset(j.state, 0, (size_t)n * sizeof *j.state);
  MRT_TRY(mrt_work_out(c, mrt_out(c, 0), MRT_FLOAT, &fy, &y));
  if (y)
    j.y = y->data;
  else
    MRT_TRY(mrt_scratch_array(c, j.batch * j.len * j.q_heads * j.d_v, 4, &j.y));
  mrt_par_range(&c->par, units, (double)(j.len * j.d_k * j.d_v), heads, &j);
  if (y) mrt_work_done(y, mrt_out(c, 0));
  if (mrt_out(c, 1))
    mrt_convert_from_f32((mrt_dtype)mrt_out(c, 1)->dtype, mrt_out(c, 1)->data, 0, n, j.state);
  return NULL;
}
static const mrt_op_version linear_v[] = {{27}, {0}};
MRT_OP(LinearAttention) = {
    .domain = "",
    .name = "LinearAttention",
    .doc = "attention with a recurrent state",
    .in = "query:T, key:T, value:T, past_state:S?, decay:T?, beta:T?",
    .out = "output:T, present_state:S",
    .types = "T=float16,bfloat16,float;S=float16,bfloat16,float",
    .attrs =
        "chunk_size:int=64 kv_num_heads:int! q_num_heads:int! scale:float=0.0 "
        "update_rule:string=gated_delta",
    .versions = linear_v,
    .infer = linear_infer,
    .run = linear_run};
