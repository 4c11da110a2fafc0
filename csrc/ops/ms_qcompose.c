/* com.microsoft operators that are dequantise, compute, quantise: QLinearAveragePool,
 * QLinearReduceMean, QLinearWhere; and DynamicQuantizeLSTM, an LSTM with dequantised weights. */
#include <string.h>

#include "ops/compose.h"

static mrt_var *linear(mrt_compose *b, const char *op, mrt_var *x, mrt_var *scale, mrt_var *zero) {
  return mrt_compose_op(b, op, 3, (mrt_var *[]){x, scale, zero});
}
static mrt_var *dequantized(mrt_compose *b, int i) {
  return linear(b, "DequantizeLinear", mrt_compose_in(b, i), mrt_compose_in(b, i + 1),
                mrt_compose_in(b, i + 2));
}
static mrt_status *end(mrt_compose *b, mrt_var *y, int scale) {
  mrt_compose_set(
      b, 0, linear(b, "QuantizeLinear", y, mrt_compose_in(b, scale), mrt_compose_in(b, scale + 1)));
  return mrt_compose_end(b);
}

static mrt_status *pool_expand(mrt_node *node, const mrt_op_table *ops) {
  static const char *const copied[] = {"auto_pad",     "ceil_mode", "count_include_pad",
                                       "kernel_shape", "pads",      "strides"};
  mrt_compose b = mrt_compose_begin(node, ops);
  const int64_t to_last[4] = {0, 2, 3, 1}, to_first[4] = {0, 3, 1, 2};
  const bool last = mrt_node_int(node, "channels_last") != 0;
  mrt_var *x = dequantized(&b, 0);
  if (last) {
    x = mrt_compose_1(&b, "Transpose", x);
    if (!b.st) b.st = mrt_node_set_ints(b.last, "perm", 4, to_first);
  }
  mrt_var *y = mrt_compose_1(&b, "AveragePool", x);
  for (size_t i = 0; i < sizeof copied / sizeof *copied; ++i) mrt_compose_copy_attr(&b, copied[i]);
  if (last) {
    y = mrt_compose_1(&b, "Transpose", y);
    if (!b.st) b.st = mrt_node_set_ints(b.last, "perm", 4, to_last);
  }
  return end(&b, y, 3);
}

static mrt_status *mean_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  int n;
  const int64_t *axes = mrt_node_ints(node, "axes", &n);
  mrt_var *x = dequantized(&b, 0);
  mrt_var *y = mrt_compose_2(&b, "ReduceMean", x, mrt_compose_ints(&b, n, axes));
  mrt_compose_copy_attr(&b, "keepdims");
  return end(&b, y, 3);
}

static mrt_status *where_expand(mrt_node *node, const mrt_op_table *ops) {
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *x = dequantized(&b, 1), *y = dequantized(&b, 4);
  mrt_var *z = mrt_compose_op(&b, "Where", 3, (mrt_var *[]){mrt_compose_in(&b, 0), x, y});
  return end(&b, z, 7);
}

/* Weights [dirs, in, 4 * hidden] with scales [dirs] or [dirs, 4 * hidden] as LSTM's
 * [dirs, 4 * hidden, in] in float. */
static mrt_var *weights(mrt_compose *b, int w, int scale) {
  const int64_t swap[3] = {0, 2, 1}, shape[3] = {0, -1, 1};
  mrt_var *parts[3] = {mrt_compose_in(b, w), mrt_compose_in(b, scale),
                       mrt_compose_in(b, scale + 1)};
  for (int i = 0; i < 3; ++i) {
    if (i != 1) {
      parts[i] = mrt_compose_1(b, "Cast", parts[i]);
      mrt_compose_int(b, "to", MRT_FLOAT);
    }
    if (i) { /* [dirs, 1 or 4 * hidden, 1] */
      parts[i] = mrt_compose_2(b, "Reshape", parts[i], mrt_compose_ints(b, 3, shape));
    } else {
      parts[i] = mrt_compose_1(b, "Transpose", parts[i]);
      if (!b->st) b->st = mrt_node_set_ints(b->last, "perm", 3, swap);
    }
  }
  return mrt_compose_2(b, "Mul", mrt_compose_2(b, "Sub", parts[0], parts[2]), parts[1]);
}

static mrt_status *lstm_expand(mrt_node *node, const mrt_op_table *ops) {
  static const char *const copied[] = {"activation_alpha", "activation_beta", "activations", "clip",
                                       "direction",        "hidden_size",     "input_forget"};
  mrt_compose b = mrt_compose_begin(node, ops);
  mrt_var *in[8] = {mrt_compose_in(&b, 0), weights(&b, 1, 8), weights(&b, 2, 10)};
  for (int i = 3; i < 8; ++i) in[i] = mrt_compose_in(&b, i);
  mrt_var *y = mrt_compose_op(&b, "LSTM", 8, in);
  for (size_t i = 0; i < sizeof copied / sizeof *copied; ++i) mrt_compose_copy_attr(&b, copied[i]);
  mrt_compose_set(&b, 0, y);
  for (int i = 1; i < 3; ++i)
    if (mrt_compose_wants(&b, i)) mrt_compose_set(&b, i, mrt_compose_out(&b, i));
  return mrt_compose_end(&b);
}

static const mrt_op_version v1[] = {{1}, {0}};
#define MS .domain = "com.microsoft", .versions = v1, .types = "T=int8,uint8;S=float;B=bool;I=int32"
MRT_OP_IN(ms, QLinearAveragePool) = {
    MS,
    .name = "QLinearAveragePool",
    .doc = "AveragePool of quantised numbers",
    .in = "X:T, x_scale:S, x_zero_point:T?, y_scale:S, y_zero_point:T?",
    .out = "Y:T",
    .attrs =
        "auto_pad:string=NOTSET ceil_mode:int=0 channels_last:int=0 count_include_pad:int=0 "
        "kernel_shape:ints! pads:ints strides:ints",
    .expand = pool_expand};
MRT_OP_IN(ms, QLinearReduceMean) = {
    MS,
    .name = "QLinearReduceMean",
    .doc = "ReduceMean of quantised numbers",
    .in = "data:T, data_scale:S, data_zero_point:T?, reduced_scale:S, reduced_zero_point:T?",
    .out = "reduced:T",
    .attrs = "axes:ints! keepdims:int!",
    .expand = mean_expand};
MRT_OP_IN(ms, QLinearWhere) = {
    MS,
    .name = "QLinearWhere",
    .doc = "Where of quantised numbers",
    .in =
        "condition:B, X:T, x_scale:S, x_zero_point:T, Y:T, y_scale:S, y_zero_point:T, "
        "z_scale:S, z_zero_point:T",
    .out = "Z:T",
    .expand = where_expand};
MRT_OP_IN(ms, DynamicQuantizeLSTM) = {
    MS,
    .name = "DynamicQuantizeLSTM",
    .doc = "LSTM with 8-bit weights",
    .in =
        "X:S, W:T, R:T, B:S?, sequence_lens:I?, initial_h:S?, initial_c:S?, P:S?, W_scale:S, "
        "W_zero_point:T, R_scale:S, R_zero_point:T",
    .out = "Y:S?, Y_h:S?, Y_c:S?",
    .attrs =
        "activation_alpha:floats activation_beta:floats activations:strings clip:float "
        "direction:string=forward hidden_size:int input_forget:int=0",
    .expand = lstm_expand};
