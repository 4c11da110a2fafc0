/* macart.QLinearBand: a depthwise convolution of bytes with the convolutions before (of any window)
 * and behind it (1x1), each rounded to its own scale, and a QLinearAdd. Images are channels-last.
 * It has no reference kernel: decompose says what it means. */
#include "ops/common.h"
#include "ops/qband.h"
#include "ops/window.h"

static mrt_var *input(const mrt_node *node, int i) {
  return i < node->n_in ? node->in[i].var : NULL;
}

/* Attribute `name` of `count` numbers from `least` up to 2^31, or what is there without it. */
static mrt_status *read_ints(const mrt_node *node, const char *name, int count, int64_t least,
                             int64_t *io) {
  int n;
  const int64_t *v = mrt_node_ints(node, name, &n);
  if (v && n != count)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %d entries, not %d", name, n, count);
  for (int i = 0; v && i < n; ++i) {
    if (v[i] < least || v[i] > INT32_MAX)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: %lld is out of range", name, (long long)v[i]);
    io[i] = v[i];
  }
  return NULL;
}

mrt_status *mrt_qband_expand_window(const mrt_node *node, mrt_window *w) {
  int64_t pads[4] = {0};
  *w = (mrt_window){.n = 2, .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
  MRT_TRY(read_ints(node, "expand_kernel_shape", 2, 1, w->kernel));
  MRT_TRY(read_ints(node, "expand_strides", 2, 1, w->stride));
  MRT_TRY(read_ints(node, "expand_pads", 4, 0, pads));
  for (int i = 0; i < 2; ++i) w->begin[i] = pads[i], w->end[i] = pads[2 + i];
  return NULL;
}

static mrt_status *band_infer(mrt_infer *c) {
  const mrt_expr *dims[4];
  mrt_window w, before;
  if (mrt_infer_rank(c, MRT_QBAND_X) < 0) return NULL;
  if (mrt_infer_rank(c, MRT_QBAND_X) != 4)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has rank %d, not 4", mrt_infer_rank(c, MRT_QBAND_X));
  MRT_TRY(mrt_window_read(c->node, 2, NULL, &w));
  MRT_TRY(mrt_qband_expand_window(c->node, &before));
  dims[0] = mrt_infer_dim(c, MRT_QBAND_X, 0);
  for (int i = 0; i < 2; ++i)
    dims[i + 1] = mrt_window_out(
        c, &w, i, mrt_window_out(c, &before, i, mrt_infer_dim(c, MRT_QBAND_X, i + 1)));
  dims[3] = mrt_infer_dim(c, mrt_qband_in(2, MRT_QBAND_W), 0);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, MRT_QBAND_X), 4, dims);
}

static mrt_status *copy_bounds(const mrt_node *node, int from, int to, mrt_node *made) {
  for (int i = 0; i < 2; ++i) {
    const mrt_attr *a = mrt_node_attr(node, mrt_qband_bounds[from][i]);
    if (a) MRT_TRY(mrt_node_set_int(made, mrt_qband_bounds[to][i], a->i));
  }
  return NULL;
}

/* The result of a convolution within the band, as far as it is known: that of the node, or of X,
 * with as many channels as w has. */
static mrt_status *type_of(const mrt_node *node, int conv, const mrt_type **out) {
  const mrt_var *w = input(node, mrt_qband_in(conv, MRT_QBAND_W)), *x = input(node, MRT_QBAND_X);
  const mrt_type *t = conv ? node->out[0]->type : x ? x->type : NULL;
  const mrt_expr *dims[4];
  *out = t;
  if (conv == 2 || !t || t->kind != MRT_KIND_TENSOR || t->rank != 4 || !w || !w->type ||
      w->type->kind != MRT_KIND_TENSOR || w->type->rank != 4)
    return NULL;
  for (int i = 0; i < 3; ++i) dims[i] = t->dims[i];
  if (!conv) {
    mrt_infer c = {.sym = node->graph->model->sym};
    mrt_window before;
    MRT_TRY(mrt_qband_expand_window(node, &before));
    for (int i = 0; i < 2; ++i) dims[i + 1] = mrt_window_out(&c, &before, i, t->dims[i + 1]);
  }
  dims[3] = w->type->dims[0];
  *out = mrt_type_tensor(node->graph->model, t->dtype, 4, dims);
  return *out ? NULL : mrt_status_oom();
}

/* Convolution `conv` before the node, applied to value[0..2]: bytes, scale, zero point. */
static mrt_status *append(mrt_node *node, const mrt_op_table *ops, int conv, mrt_var **value) {
  static const char *const geometry[] = {"kernel_shape", "strides", "pads"};
  static const char *const first[] = {"expand_kernel_shape", "expand_strides", "expand_pads"};
  const bool adds = conv == 2 && input(node, MRT_QBAND_ADD);
  mrt_var *in[14] = {value[0], value[1], value[2]}, *out;
  const mrt_type *type;
  mrt_node *made;
  MRT_TRY(type_of(node, conv, &type));
  for (int i = 0; i < MRT_QBAND_PER_CONV; ++i) in[3 + i] = input(node, mrt_qband_in(conv, i));
  for (int i = 0; i < 5; ++i) in[9 + i] = input(node, MRT_QBAND_ADD + i);
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "macart",
                           adds ? "QLinearConvAdd" : "QLinearConv", adds ? 14 : 9, in, type, &made,
                           &out));
  MRT_TRY(mrt_node_set_int(made, "channels_last", 1));
  MRT_TRY(copy_bounds(node, conv, 1, made));
  if (adds) MRT_TRY(copy_bounds(node, 3, 3, made));
  if (conv == 1) MRT_TRY(mrt_node_set_int(made, "group", mrt_node_int(node, "group")));
  for (int i = 0; conv < 2 && i < 3; ++i) {
    int count;
    const int64_t *v = mrt_node_ints(node, conv ? geometry[i] : first[i], &count);
    if (v) MRT_TRY(mrt_node_set_ints(made, geometry[i], count, v));
  }
  value[0] = out;
  value[1] = in[3 + MRT_QBAND_Y_SCALE];
  value[2] = in[3 + MRT_QBAND_Y_ZERO];
  return NULL;
}

static mrt_status *band_decompose(mrt_node *node, const mrt_op_table *ops) {
  mrt_var *value[3] = {input(node, MRT_QBAND_X), input(node, MRT_QBAND_X_SCALE),
                       input(node, MRT_QBAND_X_ZERO)};
  for (int conv = 0; conv < 3; ++conv)
    if (input(node, mrt_qband_in(conv, MRT_QBAND_W))) MRT_TRY(append(node, ops, conv, value));
  MRT_TRY(mrt_var_replace(node->out[0], value[0]));
  mrt_node_remove(node);
  return NULL;
}

#define CONV(name, optional)                                                                       \
  name "W:B" optional ", " name "W_scale:S" optional ", " name "W_zero_point:B" optional ", " name \
       "Y_scale:S" optional ", " name "Y_zero_point:T" optional ", " name "B:C?"
static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, QLinearBand) = {
    .domain = "macart",
    .name = "QLinearBand",
    .doc = "QLinearConv of a window or 1x1, depthwise and of 1x1, with bounds, then QLinearAdd",
    .in = "X:T, X_scale:S, X_zero_point:T, " CONV("Expand", "?") ", " CONV("", "") ", " CONV(
        "Project", "") ", other:T?, other_scale:S?, other_zero_point:T?, sum_scale:S?, "
                       "sum_zero_point:T?",
    .out = "Y:T",
    .types = "T=int8,uint8;B=int8;S=float;C=int32",
    .attrs =
        "group:int=1 kernel_shape:ints pads:ints strides:ints expand_kernel_shape:ints "
        "expand_pads:ints expand_strides:ints expand_lo:int expand_hi:int lo:int "
        "hi:int project_lo:int project_hi:int add_lo:int add_hi:int",
    .versions = first,
    .infer = band_infer,
    .decompose = band_decompose};
