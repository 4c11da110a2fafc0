/* LSTM and GRU of float32, forward, reverse and bidirectional. Formulas: the ONNX operator
 * specification; gates i o f c (LSTM) and z r h (GRU). Rows of weights are walked contiguously. */
#include <strings.h>

#include "ops/common.h"

typedef struct rnn {
  int64_t seq, batch, in, hidden, dirs, gates;
  bool reverse_only, linear_before_reset, batch_first;
  float clip;
  const float *x, *w, *r, *b, *p;
  const int32_t *lens;
} rnn;

static mrt_status *rnn_infer(mrt_infer *c) {
  int64_t hidden = 0;
  if (mrt_infer_rank(c, 0) < 0 || mrt_infer_rank(c, 2) < 0) return NULL;
  if (mrt_infer_rank(c, 0) != 3 || mrt_infer_rank(c, 2) != 3)
    return MRT_ERR(MRT_FAIL, "X and R must have rank 3");
  const mrt_expr *h = mrt_infer_dim(c, 2, 2), *seq = mrt_infer_dim(c, 0, 0),
                 *batch = mrt_infer_dim(c, 0, 1);
  const mrt_expr *dirs = mrt_expr_const(
      c->sym, strcmp(mrt_node_str(c->node, "direction"), "bidirectional") == 0 ? 2 : 1);
  bool first = mrt_node_int(c->node, "layout") != 0;
  if (mrt_expr_is_const(h, &hidden) && mrt_node_attr(c->node, "hidden_size") &&
      mrt_node_int(c->node, "hidden_size") != hidden)
    return MRT_ERR(MRT_FAIL, "hidden_size is %lld, R says %lld",
                   (long long)mrt_node_int(c->node, "hidden_size"), (long long)hidden);
  const mrt_expr *y[4] = {seq, dirs, batch, h}, *s[3] = {dirs, batch, h};
  const mrt_expr *yf[4] = {seq, batch, dirs, h},
                 *sf[3] = {seq, dirs, h}; /* batch first: X is [batch, seq, in] */
  if (first) yf[0] = seq, yf[1] = batch, sf[0] = seq;
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, first ? yf : y));
  for (int i = 1; i < c->n_out; ++i)
    MRT_TRY(mrt_infer_out(c, i, mrt_infer_dtype(c, 0), 3, first ? sf : s));
  return NULL;
}

static mrt_status *expect(const mrt_tensor *t, const char *name, int rank, const int64_t *dims) {
  char a[160], b[160];
  if (!t || mrt_shape_equal(t->rank, t->dims, rank, dims)) return NULL;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "Input %s must have shape %s. Actual:%s", name,
                 mrt_shape_format(a, sizeof a, rank, dims),
                 mrt_shape_format(b, sizeof b, t->rank, t->dims));
}

static mrt_status *setup(mrt_kctx *c, int64_t gates, rnn *q) {
  const mrt_tensor *x = mrt_in(c, 0), *w = mrt_in(c, 1), *r = mrt_in(c, 2), *b = mrt_in(c, 3),
                   *lens = mrt_in(c, 4);
  const char *dir = mrt_node_str(c->node, "direction");
  int n = 0;
  const mrt_attr *act = mrt_node_attr(c->node, "activations");
  static const char *const lstm[3] = {"sigmoid", "tanh", "tanh"}, *const gru[2] = {"sigmoid",
                                                                                   "tanh"};
  int per = gates == 4 ? 3 : 2;
  for (size_t i = 0; act && i < act->n; ++i)
    if (strcasecmp(act->strings[i], (gates == 4 ? lstm : gru)[i % (size_t)per]) != 0)
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: activation '%s'", c->node->op_type, act->strings[i]);
  (void)mrt_node_floats(c->node, "activation_alpha", &n);
  if (x->dtype != MRT_FLOAT) return mrt_no_type(c->node->op_type, x->dtype);
  if (mrt_node_int(c->node, "layout"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: layout = 1", c->node->op_type);
  if (mrt_node_int(c->node, "input_forget"))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "LSTM: input_forget");
  *q = (rnn){.seq = x->dims[0],
             .batch = x->dims[1],
             .in = x->dims[2],
             .hidden = r->dims[2],
             .gates = gates,
             .dirs = strcmp(dir, "bidirectional") == 0 ? 2 : 1,
             .reverse_only = strcmp(dir, "reverse") == 0,
             .clip = mrt_node_float(c->node, "clip"),
             .linear_before_reset = mrt_node_int(c->node, "linear_before_reset") != 0,
             .x = x->data,
             .w = w->data,
             .r = r->data,
             .b = b ? b->data : NULL,
             .lens = lens ? lens->data : NULL};
  MRT_TRY(expect(w, "W", 3, (int64_t[]){q->dirs, gates * q->hidden, q->in}));
  MRT_TRY(expect(r, "R", 3, (int64_t[]){q->dirs, gates * q->hidden, q->hidden}));
  MRT_TRY(expect(b, "B", 2, (int64_t[]){q->dirs, 2 * gates * q->hidden}));
  MRT_TRY(expect(lens, "sequence_lens", 1, &q->batch));
  int64_t state[3] = {q->dirs, q->batch, q->hidden};
  MRT_TRY(expect(mrt_in(c, 5), "initial_h", 3, state));
  if (gates == 4) MRT_TRY(expect(mrt_in(c, 6), "initial_c", 3, state));
  if (gates == 4) MRT_TRY(expect(mrt_in(c, 7), "P", 2, (int64_t[]){q->dirs, 3 * q->hidden}));
  q->p = gates == 4 && mrt_in(c, 7) ? mrt_in(c, 7)->data : NULL;
  for (int64_t i = 0; q->lens && i < q->batch; ++i)
    if (q->lens[i] < 0 || q->lens[i] > q->seq)
      return MRT_ERR(
          MRT_INVALID_ARGUMENT,
          "Invalid value/s in sequence_lens. All values must be >= 0 and <= seq_length=%lld",
          (long long)q->seq);
  return NULL;
}

static float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }
static float clipped(const rnn *q, float v) {
  return q->clip > 0 ? fmaxf(-q->clip, fminf(q->clip, v)) : v;
}
/* Eight partial sums: the compiler vectorises them, the order is fixed. */
static float dot(const float *a, const float *b, int64_t n) {
  float s[8] = {0}, t = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) s[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) t += a[i] * b[i];
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])) + t;
}

/* One direction of one batch entry. g: scratch of gates * hidden. */
static void lstm_one(const rnn *q, int64_t d, int64_t n, float *h, float *cell, float *g,
                     float *y) {
  int64_t H = q->hidden, len = q->lens ? q->lens[n] : q->seq;
  const float *w = q->w + d * 4 * H * q->in, *r = q->r + d * 4 * H * H,
              *b = q->b ? q->b + d * 8 * H : NULL, *p = q->p ? q->p + d * 3 * H : NULL;
  bool back = q->reverse_only || d == 1;
  for (int64_t s = 0; s < len; ++s) {
    int64_t t = back ? len - 1 - s : s;
    const float *x = q->x + (t * q->batch + n) * q->in;
    for (int64_t k = 0; k < 4 * H; ++k)
      g[k] = dot(w + k * q->in, x, q->in) + dot(r + k * H, h, H) + (b ? b[k] + b[4 * H + k] : 0);
    for (int64_t k = 0; k < H; ++k) {
      float i = sigmoid(clipped(q, g[k] + (p ? p[k] * cell[k] : 0))),
            f = sigmoid(clipped(q, g[2 * H + k] + (p ? p[2 * H + k] * cell[k] : 0)));
      cell[k] = f * cell[k] + i * tanhf(clipped(q, g[3 * H + k]));
      float o = sigmoid(clipped(q, g[H + k] + (p ? p[H + k] * cell[k] : 0)));
      h[k] = o * tanhf(cell[k]);
    }
    if (y) memcpy(y + ((t * q->dirs + d) * q->batch + n) * H, h, (size_t)H * 4);
  }
}
static void gru_one(const rnn *q, int64_t d, int64_t n, float *h, float *g, float *y) {
  int64_t H = q->hidden, len = q->lens ? q->lens[n] : q->seq;
  const float *w = q->w + d * 3 * H * q->in, *r = q->r + d * 3 * H * H,
              *b = q->b ? q->b + d * 6 * H : NULL;
  bool back = q->reverse_only || d == 1;
  float *rh = g + 3 * H, *next = rh + H;
  for (int64_t s = 0; s < len; ++s) {
    int64_t t = back ? len - 1 - s : s;
    const float *x = q->x + (t * q->batch + n) * q->in;
    for (int64_t k = 0; k < 3 * H; ++k) g[k] = dot(w + k * q->in, x, q->in) + (b ? b[k] : 0);
    for (int64_t k = 0; k < 2 * H; ++k)
      g[k] = sigmoid(clipped(q, g[k] + dot(r + k * H, h, H) + (b ? b[3 * H + k] : 0)));
    for (int64_t k = 0; k < H; ++k) rh[k] = g[H + k] * h[k];
    for (int64_t k = 0; k < H; ++k) {
      float rb = b ? b[5 * H + k] : 0, rest = q->linear_before_reset
                                                  ? g[H + k] * (dot(r + (2 * H + k) * H, h, H) + rb)
                                                  : dot(r + (2 * H + k) * H, rh, H) + rb;
      next[k] = (1 - g[k]) * tanhf(clipped(q, g[2 * H + k] + rest)) + g[k] * h[k];
    }
    memcpy(h, next, (size_t)H * 4);
    if (y) memcpy(y + ((t * q->dirs + d) * q->batch + n) * H, h, (size_t)H * 4);
  }
}

static mrt_status *run(mrt_kctx *c, int64_t gates) {
  rnn q;
  float *h, *g;
  MRT_TRY(setup(c, gates, &q));
  mrt_tensor *y = mrt_out(c, 0), *yh = mrt_out(c, 1), *yc = mrt_out(c, 2);
  const mrt_tensor *h0 = mrt_in(c, 5), *c0 = gates == 4 ? mrt_in(c, 6) : NULL;
  MRT_TRY(mrt_scratch(c, (size_t)q.hidden * 8, (void **)&h));
  MRT_TRY(mrt_scratch(c, (size_t)(q.hidden * 6) * 4, (void **)&g));
  if (y) memset(y->data, 0, y->bytes); /* past the end of short sequences */
  size_t row = (size_t)q.hidden * 4;
  for (int64_t d = 0; d < q.dirs; ++d)
    for (int64_t n = 0; n < q.batch; ++n) {
      int64_t at = (d * q.batch + n) * q.hidden;
      memset(h, 0, 2 * row);
      if (h0) memcpy(h, (const float *)h0->data + at, row);
      if (c0) memcpy(h + q.hidden, (const float *)c0->data + at, row);
      if (gates == 4)
        lstm_one(&q, d, n, h, h + q.hidden, g, y ? y->data : NULL);
      else
        gru_one(&q, d, n, h, g, y ? y->data : NULL);
      if (yh) memcpy((float *)yh->data + at, h, row);
      if (yc) memcpy((float *)yc->data + at, h + q.hidden, row);
    }
  return NULL;
}
static mrt_status *lstm_run(mrt_kctx *c) { return run(c, 4); }
static mrt_status *gru_run(mrt_kctx *c) { return run(c, 3); }
static mrt_status *drop_sequence(mrt_node *node) { /* whether Y is wanted is seen from its use */
  mrt_node_del_attr(node, "output_sequence");
  return NULL;
}
static const mrt_op_version lstm_v[] = {{1, drop_sequence}, {7}, {14}, {22}, {0}};
static const mrt_op_version gru_v[] = {
    {1, drop_sequence}, {3, drop_sequence}, {7}, {14}, {22}, {0}};
#define COMMON .domain = "", .types = "T=float,double,float16,bfloat16", .infer = rnn_infer
#define ATTRS                                                                      \
  "activation_alpha:floats activation_beta:floats activations:strings clip:float " \
  "direction:string=forward hidden_size:int layout:int=0 "
MRT_OP(LSTM) = {COMMON,
                .name = "LSTM",
                .doc = "long short-term memory",
                .in = "X:T, W:T, R:T, B:T?, sequence_lens:int32?, initial_h:T?, initial_c:T?, P:T?",
                .out = "Y:T?, Y_h:T?, Y_c:T?",
                .attrs = ATTRS "input_forget:int=0",
                .versions = lstm_v,
                .run = lstm_run};
MRT_OP(GRU) = {COMMON,
               .name = "GRU",
               .doc = "gated recurrent unit",
               .in = "X:T, W:T, R:T, B:T?, sequence_lens:int32?, initial_h:T?",
               .out = "Y:T?, Y_h:T?",
               .attrs = ATTRS "linear_before_reset:int=0",
               .versions = gru_v,
               .run = gru_run};
