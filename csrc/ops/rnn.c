/* RNN, GRU and LSTM: forward, reverse and bidirectional, both layouts, all activations. Formulas:
 * the ONNX operator specification; gates i o f c (LSTM) and z r h (GRU). */
#include <strings.h>

#include "ops/work.h"

#define SCRATCH 8 /* hidden-sized vectors of one unit: h, cell, gates, two more */

typedef enum rnn_act_kind {
  ACT_SIGMOID,
  ACT_TANH,
  ACT_RELU,
  ACT_AFFINE,
  ACT_LEAKY,
  ACT_THRESHOLDED,
  ACT_SCALED_TANH,
  ACT_HARD_SIGMOID,
  ACT_ELU,
  ACT_SOFTSIGN,
  ACT_SOFTPLUS,
} rnn_act_kind;
typedef struct rnn_act {
  rnn_act_kind kind;
  float alpha, beta;
} rnn_act;
typedef struct rnn {
  int64_t seq, batch, in, hidden, dirs, gates, acts; /* acts: activations of one direction */
  bool reverse_only, linear_before_reset, batch_first, input_forget;
  float clip;
  rnn_act act[6];
  const void *x, *w, *r, *b, *p, *h0, *c0; /* of the working type */
  const int32_t *lens;
  void *y, *yh, *yc, *scratch;
} rnn;

static float exponential_f32(float v) { return expf(v); }
static double exponential_f64(double v) { return exp(v); }
static float hyperbolic_f32(float v) { return tanhf(v); }
static double hyperbolic_f64(double v) { return tanh(v); }
#define MRT_TEMPLATE "ops/rnn.inl"
#include "tensor/each_float.h"

static mrt_status *rnn_infer(mrt_infer *c) {
  int64_t hidden = 0;
  if (mrt_infer_rank(c, 0) < 0 || mrt_infer_rank(c, 2) < 0) return NULL;
  if (mrt_infer_rank(c, 0) != 3 || mrt_infer_rank(c, 2) != 3)
    return MRT_ERR(MRT_FAIL, "X and R must have rank 3");
  bool first = mrt_node_int(c->node, "layout") != 0;
  const mrt_expr *h = mrt_infer_dim(c, 2, 2), *seq = mrt_infer_dim(c, 0, first),
                 *batch = mrt_infer_dim(c, 0, !first);
  const mrt_expr *dirs = mrt_expr_const(
      c->sym, strcmp(mrt_node_str(c->node, "direction"), "bidirectional") == 0 ? 2 : 1);
  if (mrt_expr_is_const(h, &hidden) && mrt_node_attr(c->node, "hidden_size") &&
      mrt_node_int(c->node, "hidden_size") != hidden)
    return MRT_ERR(MRT_FAIL, "hidden_size is %lld, R says %lld",
                   (long long)mrt_node_int(c->node, "hidden_size"), (long long)hidden);
  const mrt_expr *y[4] = {seq, dirs, batch, h}, *s[3] = {dirs, batch, h};
  if (first) {
    const mrt_expr *yf[4] = {batch, seq, dirs, h}, *sf[3] = {batch, dirs, h};
    memcpy(y, yf, sizeof y);
    memcpy(s, sf, sizeof s);
  }
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 4, y));
  for (int i = 1; i < c->n_out; ++i) MRT_TRY(mrt_infer_out(c, i, mrt_infer_dtype(c, 0), 3, s));
  return NULL;
}

static mrt_status *expect(const mrt_tensor *t, const char *name, int rank, const int64_t *dims) {
  char a[160], b[160];
  if (!t || mrt_shape_equal(t->rank, t->dims, rank, dims)) return NULL;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "Input %s must have shape %s. Actual:%s", name,
                 mrt_shape_format(a, sizeof a, rank, dims),
                 mrt_shape_format(b, sizeof b, t->rank, t->dims));
}
static mrt_status *check_shapes(mrt_kctx *c, const rnn *q) {
  const int64_t state[3] = {q->batch_first ? q->batch : q->dirs,
                            q->batch_first ? q->dirs : q->batch, q->hidden};
  MRT_TRY(expect(mrt_in(c, 1), "W", 3, (int64_t[]){q->dirs, q->gates * q->hidden, q->in}));
  MRT_TRY(expect(mrt_in(c, 2), "R", 3, (int64_t[]){q->dirs, q->gates * q->hidden, q->hidden}));
  MRT_TRY(expect(mrt_in(c, 3), "B", 2, (int64_t[]){q->dirs, 2 * q->gates * q->hidden}));
  MRT_TRY(expect(mrt_in(c, 4), "sequence_lens", 1, &q->batch));
  MRT_TRY(expect(mrt_in(c, 5), "initial_h", 3, state));
  if (q->gates == 4) {
    MRT_TRY(expect(mrt_in(c, 6), "initial_c", 3, state));
    MRT_TRY(expect(mrt_in(c, 7), "P", 2, (int64_t[]){q->dirs, 3 * q->hidden}));
  }
  for (int64_t i = 0; q->lens && i < q->batch; ++i)
    if (q->lens[i] < 0 || q->lens[i] > q->seq)
      return MRT_ERR(
          MRT_INVALID_ARGUMENT,
          "Invalid value/s in sequence_lens. All values must be >= 0 and <= seq_length=%lld",
          (long long)q->seq);
  return NULL;
}

/* Activations with their parameters: alpha and beta lists feed, in order, the functions that take
 * them; the rest have the defaults of the operators of the same names. */
static const struct act_row {
  const char *name;
  float alpha, beta;
  bool takes_alpha, takes_beta;
} act_rows[] = {
    [ACT_SIGMOID] = {"sigmoid", 0, 0, false, false},
    [ACT_TANH] = {"tanh", 0, 0, false, false},
    [ACT_RELU] = {"relu", 0, 0, false, false},
    [ACT_AFFINE] = {"affine", 1, 0, true, true},
    [ACT_LEAKY] = {"leakyrelu", 0.01f, 0, true, false},
    [ACT_THRESHOLDED] = {"thresholdedrelu", 1, 0, true, false},
    [ACT_SCALED_TANH] = {"scaledtanh", 1, 1, true, true},
    [ACT_HARD_SIGMOID] = {"hardsigmoid", 0.2f, 0.5f, true, true},
    [ACT_ELU] = {"elu", 1, 0, true, false},
    [ACT_SOFTSIGN] = {"softsign", 0, 0, false, false},
    [ACT_SOFTPLUS] = {"softplus", 0, 0, false, false},
};
static mrt_status *read_activations(const mrt_node *node, rnn *q) {
  static const rnn_act_kind usual[5][3] = {
      [1] = {ACT_TANH}, [3] = {ACT_SIGMOID, ACT_TANH}, [4] = {ACT_SIGMOID, ACT_TANH, ACT_TANH}};
  const mrt_attr *names = mrt_node_attr(node, "activations");
  int n_alpha, n_beta, i_alpha = 0, i_beta = 0;
  const float *alpha = mrt_node_floats(node, "activation_alpha", &n_alpha),
              *beta = mrt_node_floats(node, "activation_beta", &n_beta);
  q->acts = q->gates == 4 ? 3 : q->gates == 3 ? 2 : 1;
  for (int64_t i = 0; i < q->acts * q->dirs; ++i) {
    rnn_act_kind kind = usual[q->gates][i % q->acts];
    if (names && (int64_t)names->n > i) {
      size_t k = 0, total = sizeof act_rows / sizeof *act_rows;
      while (k < total && strcasecmp(names->strings[i], act_rows[k].name) != 0) ++k;
      if (k == total)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: activation '%s'", node->op_type,
                       names->strings[i]);
      kind = (rnn_act_kind)k;
    }
    const struct act_row *row = &act_rows[kind];
    q->act[i] = (rnn_act){kind, row->alpha, row->beta};
    if (row->takes_alpha && i_alpha < n_alpha) q->act[i].alpha = alpha[i_alpha++];
    if (row->takes_beta && i_beta < n_beta) q->act[i].beta = beta[i_beta++];
  }
  return NULL;
}
static mrt_status *setup(mrt_kctx *c, int64_t gates, rnn *q) {
  const mrt_tensor *x = mrt_in(c, 0), *r = mrt_in(c, 2), *lens = mrt_in(c, 4);
  const mrt_node *node = c->node;
  const char *dir = mrt_node_str(node, "direction");
  bool first = mrt_node_int(node, "layout") != 0;
  if (x->rank != 3 || r->rank != 3) return MRT_ERR(MRT_INVALID_ARGUMENT, "X and R must be 3-D");
  *q = (rnn){.seq = x->dims[first],
             .batch = x->dims[!first],
             .in = x->dims[2],
             .hidden = r->dims[2],
             .gates = gates,
             .dirs = strcmp(dir, "bidirectional") == 0 ? 2 : 1,
             .reverse_only = strcmp(dir, "reverse") == 0,
             .batch_first = first,
             .clip = mrt_node_float(node, "clip"),
             .input_forget = mrt_node_int(node, "input_forget") != 0,
             .linear_before_reset = mrt_node_int(node, "linear_before_reset") != 0,
             .lens = lens ? lens->data : NULL};
  MRT_TRY(read_activations(node, q));
  return check_shapes(c, q);
}

static mrt_status *run(mrt_kctx *c, int64_t gates) {
  rnn q;
  mrt_tensor view[11], *out;
  int64_t units, n;
  MRT_TRY(setup(c, gates, &q));
  mrt_dtype work = mrt_work_type((mrt_dtype)mrt_in(c, 0)->dtype);
  const void **in_data[] = {&q.x, &q.w, &q.r, &q.b, NULL, &q.h0, &q.c0, &q.p};
  void **out_data[] = {&q.y, &q.yh, &q.yc};
  mrt_tensor *outs[3] = {NULL};
  for (int i = 0; i < (gates == 4 ? 8 : 6); ++i) {
    const mrt_tensor *t;
    if (!in_data[i]) continue;
    MRT_TRY(mrt_work_in(c, mrt_in(c, i), work, &view[i], &t));
    *in_data[i] = t ? t->data : NULL;
  }
  for (int i = 0; i < (gates == 4 ? 3 : 2); ++i) {
    MRT_TRY(mrt_work_out(c, mrt_out(c, i), work, &view[8 + i], &out));
    outs[i] = out;
    *out_data[i] = out ? out->data : NULL;
  }
  if (q.y) memset(q.y, 0, outs[0]->bytes); /* past the end of short sequences */
  units = q.dirs * q.batch;
  if (!mrt_i64_mul(units, SCRATCH * q.hidden, &n))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the state is too large");
  MRT_TRY(mrt_scratch_array(c, n, work == MRT_FLOAT ? 4 : 8, &q.scratch));
  double ns = (double)q.seq * (double)(gates * q.hidden) * (double)(q.in + q.hidden) * 0.1;
  mrt_par_range(&c->par, units, ns, work == MRT_FLOAT ? sequences_f32 : sequences_f64, &q);
  for (int i = 0; i < 3; ++i)
    if (outs[i]) mrt_work_done(outs[i], mrt_out(c, i));
  return NULL;
}
static mrt_status *lstm_run(mrt_kctx *c) { return run(c, 4); }
static mrt_status *gru_run(mrt_kctx *c) { return run(c, 3); }
static mrt_status *rnn_run(mrt_kctx *c) { return run(c, 1); }
static mrt_status *drop_sequence(mrt_node *node) { /* whether Y is wanted is seen from its use */
  mrt_node_del_attr(node, "output_sequence");
  return NULL;
}
static const mrt_op_version v7[] = {{1, drop_sequence}, {7}, {14}, {22}, {0}};
static const mrt_op_version gru_v[] = {
    {1, drop_sequence}, {3, drop_sequence}, {7}, {14}, {22}, {0}};
#define COMMON .domain = "", .types = "T=" MRT_T_FLOATS, .infer = rnn_infer, .flags = MRT_OP_WEIGHTS
#define ATTRS                                                                      \
  "activation_alpha:floats activation_beta:floats activations:strings clip:float " \
  "direction:string=forward hidden_size:int layout:int=0 "
MRT_OP(LSTM) = {COMMON,
                .name = "LSTM",
                .doc = "long short-term memory",
                .in = "X:T, W:T, R:T, B:T?, sequence_lens:int32?, initial_h:T?, initial_c:T?, P:T?",
                .out = "Y:T?, Y_h:T?, Y_c:T?",
                .attrs = ATTRS "input_forget:int=0",
                .versions = v7,
                .run = lstm_run};
MRT_OP(GRU) = {COMMON,
               .name = "GRU",
               .doc = "gated recurrent unit",
               .in = "X:T, W:T, R:T, B:T?, sequence_lens:int32?, initial_h:T?",
               .out = "Y:T?, Y_h:T?",
               .attrs = ATTRS "linear_before_reset:int=0",
               .versions = gru_v,
               .run = gru_run};
MRT_OP(RNN) = {COMMON,
               .name = "RNN",
               .doc = "plain recurrence H = f(X W^T + H R^T + b)",
               .in = "X:T, W:T, R:T, B:T?, sequence_lens:int32?, initial_h:T?",
               .out = "Y:T?, Y_h:T?",
               .attrs = ATTRS,
               .versions = v7,
               .run = rnn_run};
