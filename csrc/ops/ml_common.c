/* Transforms of scores and class labels (ai.onnx.ml). */
#include "ops/ml_common.h"

mrt_status *mrt_ml_post_of(const mrt_node *node, mrt_ml_post *out) {
  static const char *const words[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const char *w = mrt_node_str(node, "post_transform");
  for (int i = 0; i < 5; ++i)
    if (strcmp(w, words[i]) == 0) {
      *out = (mrt_ml_post)i;
      return NULL;
    }
  *out = ML_NONE;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "post_transform '%s' is not known", w);
}

static double logistic(double x) {
  double v = 1 / (1 + exp(-fabs(x)));
  return x < 0 ? 1 - v : v;
}
/* sqrt(2) * erfinv(2 p - 1), with Winitzki's approximation of erfinv (constant 0.147), which is
 * what ONNX Runtime computes, in float as there: near 1/2 most digits cancel. */
static double probit(double p) {
  float x = 2 * (float)p - 1, sign = x < 0 ? -1.0f : 1.0f;
  float l = logf((1 - x) * (1 + x)), a = 2 / (3.14159265f * 0.147f) + 0.5f * l;
  return 1.41421356f * (sign * sqrtf(-a + sqrtf(a * a - 1 / 0.147f * l)));
}
void mrt_ml_transform(mrt_ml_post how, double *v, int64_t n) {
  double top = -INFINITY, sum = 0;
  if (n == 1 && how != ML_PROBIT) return; /* ONNX Runtime leaves a single score alone */
  for (int64_t i = 0; i < n; ++i) {
    if (how == ML_LOGISTIC) v[i] = logistic(v[i]);
    if (how == ML_PROBIT) v[i] = probit(v[i]);
    if (v[i] > top) top = v[i];
  }
  if (how != ML_SOFTMAX && how != ML_SOFTMAX_ZERO) return;
  for (int64_t i = 0; i < n; ++i) {
    bool zero = how == ML_SOFTMAX_ZERO && fabs(v[i]) <= 1e-7;
    v[i] = zero ? v[i] * exp(-top) : exp(v[i] - top);
    if (!zero) sum += v[i];
  }
  for (int64_t i = 0; i < n && sum > 0; ++i) v[i] /= sum;
}
bool mrt_ml_binary(mrt_ml_post how, bool mixed, double *v) {
  if (how == ML_PROBIT) {
    v[0] = probit(v[0]);
    v[1] = 0;
    return false;
  }
  double s = v[0];
  bool squash = how == ML_LOGISTIC;
  v[1] = squash ? logistic(s) : s;
  v[0] = squash ? logistic(-s) : mixed ? -s : 1 - s;
  return true;
}

mrt_ml_labels mrt_ml_labels_of(const mrt_node *node, const char *ints_name,
                               const char *strings_name) {
  mrt_ml_labels l = {.strings = mrt_node_attr(node, strings_name)};
  l.ints = mrt_node_ints(node, ints_name, &l.n);
  if (l.strings && l.strings->n) {
    l.n = (int)l.strings->n;
    l.ints = NULL;
  } else {
    l.strings = NULL;
  }
  return l;
}
mrt_status *mrt_ml_put_label(const mrt_ml_labels *l, int64_t k, mrt_tensor *y, int64_t i) {
  bool in = k >= 0 && k < l->n;
  if (!l->strings) {
    ((int64_t *)y->data)[i] = in ? l->ints[k] : k;
    return NULL;
  }
  if (!in) return NULL; /* strings are made empty */
  return mrt_string_create(NULL, l->strings->strings[k], l->strings->string_lens[k],
                           (mrt_string **)y->data + i);
}

mrt_status *mrt_ml_floats(const mrt_node *node, const char *name, int64_t n, const float **out) {
  int have;
  *out = mrt_node_floats(node, name, &have);
  if (!*out) have = 0;
  if (n >= 0 && have != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %d entries, not %lld", name, have, (long long)n);
  return NULL;
}
int mrt_ml_count(const mrt_node *node, const char *name) {
  int n;
  return mrt_node_floats(node, name, &n) ? n : 0;
}
mrt_status *mrt_ml_shape(const mrt_tensor *x, int64_t *rows, int64_t *features) {
  if (x->rank < 1 || x->rank > 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Input shape needs to be [N, F] or [F].");
  *rows = x->rank == 2 ? x->dims[0] : 1;
  *features = x->dims[x->rank - 1];
  if (*features > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%lld features are too many", (long long)*features);
  return NULL;
}
const mrt_expr *mrt_ml_rows(const mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  return rank == 2 ? mrt_infer_dim(c, 0, 0) : rank == 1 ? mrt_expr_const(c->sym, 1) : NULL;
}
void mrt_ml_read_row(const mrt_tensor *x, int64_t row, int64_t n, double *out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, row * n + i);
}
double mrt_ml_dot(const double *a, const float *b, int64_t n) {
  double s = 0;
  for (int64_t i = 0; i < n; ++i) s += a[i] * b[i];
  return s;
}
