/* HannWindow, HammingWindow, BlackmanWindow (sums of cosines) and MelWeightMatrix (triangles on the
 * mel scale). */
#include "ops/common.h"

#define TWO_PI 6.283185307179586476925286766559

static mrt_dtype output_type(const mrt_node *node) {
  int64_t t = mrt_node_int(node, "output_datatype");
  return t > 0 && t < MRT_DTYPE_COUNT ? (mrt_dtype)t : MRT_UNDEFINED;
}
static mrt_status *check_type(const mrt_node *node) {
  mrt_dtype t = output_type(node);
  if (t == MRT_FLOAT || t == MRT_DOUBLE || t == MRT_FLOAT16 || t == MRT_BFLOAT16 ||
      mrt_dtype_is_int(t))
    return NULL;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "attribute 'output_datatype' is %lld",
                 (long long)mrt_node_int(node, "output_datatype"));
}
static mrt_status *window_infer(mrt_infer *c) {
  int n;
  const mrt_expr *const *size = mrt_infer_ints(c, 0, &n), *dim = size && n == 1 ? size[0] : NULL;
  MRT_TRY(check_type(c->node));
  return mrt_infer_out(c, 0, output_type(c->node), 1, &dim);
}
/* a0 - a1 cos(2 pi k / N) + a2 cos(4 pi k / N) */
static mrt_status *window_run(mrt_kctx *c, double a0, double a1, double a2) {
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t n = mrt_tensor_count(y);
  mrt_dtype t = (mrt_dtype)y->dtype;
  double period = (double)(mrt_node_int(c->node, "periodic") ? n : n - 1);
  for (int64_t k = 0; k < n; ++k) {
    double angle = period > 0 ? TWO_PI * (double)k / period : 0;
    double v = a0 - a1 * cos(angle) + a2 * cos(2 * angle);
    if (n == 1) v = 1;
    if (mrt_dtype_is_int(t)) v = (float)v; /* the peak is 1, and must not be cut off to 0 */
    mrt_elem_set_f64(t, y->data, k, v);
  }
  return NULL;
}
static mrt_status *hann_run(mrt_kctx *c) { return window_run(c, 0.5, 0.5, 0); }
static mrt_status *hamming_run(mrt_kctx *c) { return window_run(c, 25.0 / 46, 21.0 / 46, 0); }
static mrt_status *blackman_run(mrt_kctx *c) { return window_run(c, 0.42, 0.5, 0.08); }

/* ---- MelWeightMatrix ---- */
static mrt_status *mel_infer(mrt_infer *c) {
  int n, k;
  const mrt_expr *const *mel = mrt_infer_ints(c, 0, &n), *const *len = mrt_infer_ints(c, 1, &k);
  const mrt_expr *dims[2] = {NULL, mel && n == 1 ? mel[0] : NULL};
  if (len && k == 1)
    dims[0] = mrt_expr_add(c->sym, mrt_expr_floordiv(c->sym, len[0], mrt_expr_const(c->sym, 2)),
                           mrt_expr_const(c->sym, 1));
  MRT_TRY(check_type(c->node));
  return mrt_infer_out(c, 0, output_type(c->node), 2, dims);
}
static double scalar(const mrt_kctx *c, int i) {
  const mrt_tensor *t = mrt_in(c, i);
  return t && mrt_tensor_count(t) == 1 ? mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, 0) : NAN;
}
/* Spectrogram bin of edge i of the triangles. */
static double edge_bin(double low, double step, int64_t i, double length, double rate) {
  double hertz = 700 * (pow(10, ((double)i * step + low) / 2595) - 1);
  return floor((length + 1) * hertz / rate);
}
static mrt_status *mel_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t bins = y->dims[0], mels = y->dims[1];
  double length = scalar(c, 1), rate = scalar(c, 2);
  double low = 2595 * log10(1 + scalar(c, 3) / 700), high = 2595 * log10(1 + scalar(c, 4) / 700);
  double step = (high - low) / (double)(mels + 2);
  mrt_dtype t = (mrt_dtype)y->dtype;
  memset(y->data, 0, y->bytes);
  for (int64_t m = 0; m < mels; ++m) {
    double edge[3];
    for (int k = 0; k < 3; ++k) edge[k] = edge_bin(low, step, m + k, length, rate);
    if (!(edge[0] >= 0 && edge[1] >= edge[0] && edge[2] >= edge[1] && edge[2] <= (double)bins &&
          edge[1] < (double)bins))
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "MelWeightMatrix: the frequencies do not fit the sample rate");
    int64_t lo = (int64_t)edge[0], mid = (int64_t)edge[1], hi = (int64_t)edge[2];
    for (int64_t j = lo; j <= mid; ++j)
      mrt_elem_set_f64(t, y->data, j * mels + m,
                       mid == lo ? 1 : (double)(j - lo) / (double)(mid - lo));
    for (int64_t j = mid; j < hi; ++j)
      mrt_elem_set_f64(t, y->data, j * mels + m, (double)(hi - j) / (double)(hi - mid));
  }
  return NULL;
}
static const mrt_op_version v17[] = {{17}, {0}};
#define WINDOW                                                                                    \
  .domain = "", .in = "size:T1", .out = "output:T2", .types = "T1=int32,int64;T2=" MRT_T_NUMERIC, \
  .attrs = "output_datatype:int=1 periodic:int=1", .versions = v17, .infer = window_infer
MRT_OP(HannWindow) = {WINDOW, .name = "HannWindow", .doc = "Hann window", .run = hann_run};
MRT_OP(HammingWindow) = {WINDOW, .name = "HammingWindow", .doc = "Hamming window",
                         .run = hamming_run};
MRT_OP(BlackmanWindow) = {WINDOW, .name = "BlackmanWindow", .doc = "Blackman window",
                          .run = blackman_run};
MRT_OP(MelWeightMatrix) = {.domain = "",
                           .name = "MelWeightMatrix",
                           .doc = "triangular filters on the mel scale",
                           .in =
                               "num_mel_bins:T1, dft_length:T1, sample_rate:T1, "
                               "lower_edge_hertz:T2, upper_edge_hertz:T2",
                           .out = "output:T3",
                           .types = "T1=int32,int64;T2=" MRT_T_FLOATS ";T3=" MRT_T_NUMERIC,
                           .attrs = "output_datatype:int=1",
                           .versions = v17,
                           .infer = mel_infer,
                           .run = mel_run};
