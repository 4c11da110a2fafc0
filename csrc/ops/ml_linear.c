/* LinearRegressor, LinearClassifier (ai.onnx.ml). */
#include "ops/ml_common.h"

/* ---- linear ---- */
static mrt_status *regressor_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {mrt_ml_rows(c),
                             mrt_expr_const(c->sym, mrt_node_int(c->node, "targets"))};
  return mrt_infer_out(c, 0, MRT_FLOAT, 2, dims);
}
static mrt_status *regressor_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t rows = 0, n = 0, targets = mrt_node_int(c->node, "targets");
  const float *w, *b;
  mrt_ml_post post;
  double *row, *out;
  if (!y) return NULL;
  if (targets < 1 || targets > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "targets is %lld", (long long)targets);
  MRT_TRY(mrt_ml_shape(x, &rows, &n));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(mrt_ml_floats(c->node, "coefficients", targets * n, &w));
  MRT_TRY(
      mrt_ml_floats(c->node, "intercepts", mrt_ml_count(c->node, "intercepts") ? targets : 0, &b));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  MRT_TRY(mrt_scratch(c, ((size_t)targets + 1) * sizeof *out, (void **)&out));
  for (int64_t r = 0; r < rows; ++r) {
    mrt_ml_read_row(x, r, n, row);
    for (int64_t k = 0; k < targets; ++k) out[k] = mrt_ml_dot(row, w + k * n, n) + (b ? b[k] : 0);
    mrt_ml_transform(post, out, targets);
    for (int64_t k = 0; k < targets; ++k) ((float *)y->data)[r * targets + k] = (float)out[k];
  }
  return NULL;
}

static mrt_ml_labels labels_of(const mrt_node *node) {
  return mrt_ml_labels_of(node, "classlabels_ints", "classlabels_strings");
}
static mrt_status *classifier_infer(mrt_infer *c) {
  mrt_ml_labels l = labels_of(c->node);
  int64_t n = mrt_ml_count(c->node, "intercepts");
  const mrt_expr *dims[2] = {mrt_ml_rows(c),
                             n ? mrt_expr_const(c->sym, n == 1 && l.n == 2 ? 2 : n) : NULL};
  MRT_TRY(mrt_infer_out(c, 0, l.strings ? MRT_STRING : MRT_INT64, 1, dims));
  return mrt_infer_out(c, 1, MRT_FLOAT, 2, dims);
}
static mrt_status *classifier_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0), *z = mrt_out(c, 1);
  mrt_ml_labels l = labels_of(c->node);
  int64_t rows = 0, n = 0, k = mrt_ml_count(c->node, "intercepts");
  const float *w, *b;
  mrt_ml_post post;
  double *row, *out;
  MRT_TRY(mrt_ml_shape(x, &rows, &n));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(mrt_ml_floats(c->node, "coefficients", k * n, &w));
  MRT_TRY(mrt_ml_floats(c->node, "intercepts", k, &b));
  if (!k) return MRT_ERR(MRT_INVALID_ARGUMENT, "intercepts is missing");
  bool second = k == 1 && l.n == 2;
  int64_t width = second ? 2 : k;
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  MRT_TRY(mrt_scratch(c, ((size_t)width + 1) * sizeof *out, (void **)&out));
  for (int64_t r = 0; r < rows; ++r) {
    int64_t best = 0;
    mrt_ml_read_row(x, r, n, row);
    for (int64_t i = 0; i < k; ++i) {
      out[i] = mrt_ml_dot(row, w + i * n, n) + b[i];
      if (out[i] > out[best]) best = i;
    }
    if (k == 1) best = out[0] > 0;
    if (y && k == 1 && !second)
      MRT_TRY(mrt_ml_put_label(&(mrt_ml_labels){0}, best, y, r));
    else if (y)
      MRT_TRY(mrt_ml_put_label(&l, best, y, r));
    if (!z) continue;
    if (second) {
      mrt_ml_binary(post, false, out);
    } else {
      mrt_ml_transform(post, out, k);
    }
    for (int64_t i = 0; i < width; ++i) ((float *)z->data)[r * width + i] = (float)out[i];
  }
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
#define COMMON .domain = "ai.onnx.ml", .in = "X:T", .versions = versions
MRT_OP_IN(ml, LinearRegressor) = {
    COMMON,
    .name = "LinearRegressor",
    .doc = "x W + b",
    .out = "Y:float",
    .types = "T=" MRT_T_ML,
    .attrs = "coefficients:floats intercepts:floats post_transform:string=NONE targets:int=1",
    .infer = regressor_infer,
    .run = regressor_run};
MRT_OP_IN(ml, LinearClassifier) = {
    COMMON,
    .name = "LinearClassifier",
    .doc = "classes by x W + b",
    .out = "Y:U, Z:float",
    .types = "T=" MRT_T_ML ";U=string,int64",
    .attrs =
        "classlabels_ints:ints classlabels_strings:strings coefficients:floats! "
        "intercepts:floats multi_class:int=0 post_transform:string=NONE",
    .infer = classifier_infer,
    .run = classifier_run};
