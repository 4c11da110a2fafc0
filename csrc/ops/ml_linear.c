/* LinearRegressor, LinearClassifier, SVMRegressor (ai.onnx.ml). */
#include "ops/ml_common.h"

static mrt_status *floats_of(const mrt_node *node, const char *name, int64_t n, const float **out) {
  int have;
  *out = mrt_node_floats(node, name, &have);
  if (!*out) have = 0;
  if (n >= 0 && have != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %d entries, not %lld", name, have, (long long)n);
  return NULL;
}
static int count_of(const mrt_node *node, const char *name) {
  int n;
  return mrt_node_floats(node, name, &n) ? n : 0;
}
/* [rows, features] of the input; a vector is one row. */
static mrt_status *shape_of(const mrt_tensor *x, int64_t *rows, int64_t *features) {
  if (x->rank < 1 || x->rank > 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Input shape needs to be [N, F] or [F].");
  *rows = x->rank == 2 ? x->dims[0] : 1;
  *features = x->dims[x->rank - 1];
  return NULL;
}
static const mrt_expr *rows_of(const mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  return rank == 2 ? mrt_infer_dim(c, 0, 0) : rank == 1 ? mrt_expr_const(c->sym, 1) : NULL;
}
static mrt_status *read_row(const mrt_tensor *x, int64_t row, int64_t n, double *out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, row * n + i);
  return NULL;
}
static double dot(const double *a, const float *b, int64_t n) {
  double s = 0;
  for (int64_t i = 0; i < n; ++i) s += a[i] * b[i];
  return s;
}

/* ---- linear ---- */
static mrt_status *regressor_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {rows_of(c), mrt_expr_const(c->sym, mrt_node_int(c->node, "targets"))};
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
  MRT_TRY(shape_of(x, &rows, &n));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(floats_of(c->node, "coefficients", targets * n, &w));
  MRT_TRY(floats_of(c->node, "intercepts", count_of(c->node, "intercepts") ? targets : 0, &b));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  MRT_TRY(mrt_scratch(c, ((size_t)targets + 1) * sizeof *out, (void **)&out));
  for (int64_t r = 0; r < rows; ++r) {
    MRT_TRY(read_row(x, r, n, row));
    for (int64_t k = 0; k < targets; ++k) out[k] = dot(row, w + k * n, n) + (b ? b[k] : 0);
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
  int64_t n = count_of(c->node, "intercepts");
  const mrt_expr *dims[2] = {rows_of(c),
                             n ? mrt_expr_const(c->sym, n == 1 && l.n == 2 ? 2 : n) : NULL};
  MRT_TRY(mrt_infer_out(c, 0, l.strings ? MRT_STRING : MRT_INT64, 1, dims));
  return mrt_infer_out(c, 1, MRT_FLOAT, 2, dims);
}
static mrt_status *classifier_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0), *z = mrt_out(c, 1);
  mrt_ml_labels l = labels_of(c->node);
  int64_t rows = 0, n = 0, k = count_of(c->node, "intercepts");
  const float *w, *b;
  mrt_ml_post post;
  double *row, *out;
  MRT_TRY(shape_of(x, &rows, &n));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(floats_of(c->node, "coefficients", k * n, &w));
  MRT_TRY(floats_of(c->node, "intercepts", k, &b));
  if (!k) return MRT_ERR(MRT_INVALID_ARGUMENT, "intercepts is missing");
  bool second = k == 1 && l.n == 2;
  int64_t width = second ? 2 : k;
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  MRT_TRY(mrt_scratch(c, ((size_t)width + 1) * sizeof *out, (void **)&out));
  for (int64_t r = 0; r < rows; ++r) {
    int64_t best = 0;
    MRT_TRY(read_row(x, r, n, row));
    for (int64_t i = 0; i < k; ++i) {
      out[i] = dot(row, w + i * n, n) + b[i];
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

/* ---- support vectors ---- */
typedef struct svm {
  enum { LINEAR, POLY, RBF, SIGMOID } kind;
  double gamma, coef0, degree;
} svm;
static mrt_status *svm_of(const mrt_node *node, svm *s) {
  static const char *const words[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
  const char *w = mrt_node_str(node, "kernel_type");
  int k = 0, n;
  const float *p = mrt_node_floats(node, "kernel_params", &n);
  while (k < 4 && strcmp(w, words[k]) != 0) ++k;
  if (k == 4) return MRT_ERR(MRT_INVALID_ARGUMENT, "kernel_type '%s' is not known", w);
  s->kind = k;
  s->gamma = p && n == 3 ? p[0] : 0;
  s->coef0 = p && n == 3 ? p[1] : 0;
  s->degree = p && n == 3 ? p[2] : 0;
  return NULL;
}
static double kernel(const svm *s, const double *a, const float *b, int64_t n) {
  double v = 0;
  if (s->kind == RBF) {
    for (int64_t i = 0; i < n; ++i) v += (a[i] - b[i]) * (a[i] - b[i]);
    return exp(-s->gamma * v);
  }
  v = dot(a, b, n);
  if (s->kind == LINEAR) return v;
  v = s->gamma * v + s->coef0;
  return s->kind == POLY ? pow(v, s->degree) : tanh(v);
}

static mrt_status *svr_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {rows_of(c), mrt_expr_const(c->sym, 1)};
  return mrt_infer_out(c, 0, MRT_FLOAT, 2, dims);
}
static mrt_status *svr_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t rows = 0, n = 0, m = mrt_node_int(c->node, "n_supports");
  const float *v, *w, *rho;
  svm s;
  mrt_ml_post post;
  double *row;
  if (!y) return NULL;
  MRT_TRY(shape_of(x, &rows, &n));
  MRT_TRY(svm_of(c->node, &s));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  if (m < 0 || m > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "n_supports is %lld", (long long)m);
  MRT_TRY(floats_of(c->node, "support_vectors", m ? m * n : -1, &v));
  MRT_TRY(floats_of(c->node, "coefficients", m ? m : n, &w));
  MRT_TRY(floats_of(c->node, "rho", 1, &rho));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  for (int64_t r = 0; r < rows; ++r) {
    double sum = rho[0];
    MRT_TRY(read_row(x, r, n, row));
    if (!m) sum += kernel(&s, row, w, n);
    for (int64_t i = 0; i < m; ++i) sum += w[i] * kernel(&s, row, v + i * n, n);
    if (mrt_node_int(c->node, "one_class"))
      sum = sum > 0 ? 1 : -1;
    else
      mrt_ml_transform(post, &sum, 1);
    ((float *)y->data)[r] = (float)sum;
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
MRT_OP_IN(ml, SVMRegressor) = {
    COMMON,
    .name = "SVMRegressor",
    .doc = "a weighted sum of kernels at support vectors",
    .out = "Y:float",
    .types = "T=" MRT_T_ML,
    .attrs =
        "coefficients:floats kernel_params:floats kernel_type:string=LINEAR n_supports:int=0 "
        "one_class:int=0 post_transform:string=NONE rho:floats support_vectors:floats",
    .infer = svr_infer,
    .run = svr_run};
