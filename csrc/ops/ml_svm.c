/* SVMRegressor, SVMClassifier (ai.onnx.ml): weighted sums of kernels at support vectors. */
#include "ops/ml_common.h"

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
  v = mrt_ml_dot(a, b, n);
  if (s->kind == LINEAR) return v;
  v = s->gamma * v + s->coef0;
  return s->kind == POLY ? pow(v, s->degree) : tanh(v);
}

static mrt_status *svr_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {mrt_ml_rows(c), mrt_expr_const(c->sym, 1)};
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
  MRT_TRY(mrt_ml_shape(x, &rows, &n));
  MRT_TRY(svm_of(c->node, &s));
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  if (m < 0 || m > INT32_MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "n_supports is %lld", (long long)m);
  MRT_TRY(mrt_ml_floats(c->node, "support_vectors", m ? m * n : -1, &v));
  MRT_TRY(mrt_ml_floats(c->node, "coefficients", m ? m : n, &w));
  MRT_TRY(mrt_ml_floats(c->node, "rho", 1, &rho));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  for (int64_t r = 0; r < rows; ++r) {
    double sum = rho[0];
    mrt_ml_read_row(x, r, n, row);
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

/* ---- SVMClassifier ---- */
/* With support vectors: one machine per pair of classes (i < j), which votes for i when its sum is
 * above 0; scores are these sums, or probabilities coupled from them (prob_a, prob_b). Without:
 * one linear function per class, whatever kernel_type says (as ONNX Runtime computes it). */
typedef struct svc {
  svm s;
  mrt_ml_post post;
  mrt_ml_labels labels;
  const int64_t *per_class;
  const float *vectors, *weights, *rho, *prob_a, *prob_b;
  int64_t classes, pairs, supports, features;
  bool votes, positive; /* positive: no weight is below 0 */
  /* scratch */
  double *kernels, *sums, *ballot, *matrix, *p;
  int64_t *first; /* [classes] position of a class among the vectors */
} svc;

static mrt_ml_labels svc_labels(const mrt_node *node) {
  return mrt_ml_labels_of(node, "classlabels_ints", "classlabels_strings");
}
/* Columns of Z: probabilities or linear scores of classes, or sums of pairs; two for one pair. */
static int64_t svc_width(const mrt_node *node) {
  int n;
  const bool votes = mrt_node_ints(node, "vectors_per_class", &n) && n > 0;
  const int64_t classes = svc_labels(node).n;
  if (!votes || mrt_ml_count(node, "prob_a") > 0) return classes;
  return classes == 2 ? 2 : classes * (classes - 1) / 2;
}
static mrt_status *svc_infer(mrt_infer *c) {
  const mrt_ml_labels l = svc_labels(c->node);
  const mrt_expr *dims[2] = {mrt_ml_rows(c), mrt_expr_const(c->sym, svc_width(c->node))};
  MRT_TRY(mrt_infer_out(c, 0, l.strings ? MRT_STRING : MRT_INT64, 1, dims));
  return mrt_infer_out(c, 1, MRT_FLOAT, 2, dims);
}

/* Numbers of vectors, checked against each other; the products cannot overflow afterwards. */
static mrt_status *svc_counts(const mrt_node *node, svc *q) {
  int n;
  q->per_class = mrt_node_ints(node, "vectors_per_class", &n);
  q->votes = q->per_class && n > 0;
  q->classes = q->labels.n;
  q->pairs = q->classes * (q->classes - 1) / 2;
  if (q->classes < 1 || q->classes > 1 << 15)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%lld class labels", (long long)q->classes);
  if (!q->votes) return NULL;
  if (n != q->classes || n < 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "vectors_per_class has %d entries for %lld labels", n,
                   (long long)q->classes);
  for (int i = 0; i < n; ++i) {
    if (q->per_class[i] < 0 || q->per_class[i] > INT32_MAX - q->supports)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "vectors_per_class[%d] is %lld", i,
                     (long long)q->per_class[i]);
    q->supports += q->per_class[i];
  }
  return NULL;
}
static mrt_status *svc_read(const mrt_node *node, int64_t features, svc *q) {
  q->labels = svc_labels(node);
  q->features = features;
  MRT_TRY(svm_of(node, &q->s));
  MRT_TRY(mrt_ml_post_of(node, &q->post));
  MRT_TRY(svc_counts(node, q));
  if (features < 1 || (q->votes && q->supports == 0))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "SVMClassifier of no features or no support vectors");
  const int64_t n = q->votes ? q->supports * (q->classes - 1) : q->classes * features;
  MRT_TRY(mrt_ml_floats(node, "coefficients", n, &q->weights));
  MRT_TRY(mrt_ml_floats(node, "rho", q->votes ? q->pairs : -1, &q->rho));
  if (!q->rho) return MRT_ERR(MRT_INVALID_ARGUMENT, "rho is missing");
  q->positive = true;
  for (int64_t i = 0; i < n; ++i) q->positive = q->positive && q->weights[i] >= 0;
  if (!q->votes) return NULL;
  MRT_TRY(mrt_ml_floats(node, "support_vectors", q->supports * features, &q->vectors));
  if (mrt_ml_count(node, "prob_a") + mrt_ml_count(node, "prob_b") == 0) return NULL;
  MRT_TRY(mrt_ml_floats(node, "prob_a", q->pairs, &q->prob_a));
  return mrt_ml_floats(node, "prob_b", q->pairs, &q->prob_b);
}

/* sums[pair] = rho + what the vectors of both classes weigh against each other. weights:
 * [classes - 1, supports]; row j - 1 of the vectors of class i, row i of those of class j. */
static void svc_sums(const svc *q) {
  int64_t pair = 0;
  for (int64_t i = 0; i < q->classes; ++i)
    for (int64_t j = i + 1; j < q->classes; ++j, ++pair) {
      double sum = q->rho[pair];
      const float *wi = q->weights + (j - 1) * q->supports, *wj = q->weights + i * q->supports;
      for (int64_t v = q->first[i]; v < q->first[i] + q->per_class[i]; ++v)
        sum += wi[v] * q->kernels[v];
      for (int64_t v = q->first[j]; v < q->first[j] + q->per_class[j]; ++v)
        sum += wj[v] * q->kernels[v];
      q->sums[pair] = sum;
      ++q->ballot[sum > 0 ? i : j];
    }
}

/* Probabilities p of the classes from those of the pairs, r[i][j] = P(i of {i, j}): p minimises the
 * sum over pairs of (r[j][i] p[i] - r[i][j] p[j])^2 under sum p = 1 (Wu, Lin and Weng 2004, second
 * approach). The minimum fulfils Q p = (p'Qp) 1; one class after the other is set to its value,
 * until all components of Q p agree. r is replaced by Q. */
static void svc_couple(int64_t k, double *r, double *p, double *qp) {
  for (int64_t i = 0; i < k; ++i) {
    double d = 0;
    for (int64_t j = 0; j < k; ++j)
      if (j != i) d += r[j * k + i] * r[j * k + i];
    r[i * k + i] = d;
    p[i] = 1.0 / (double)k;
  }
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = i + 1; j < k; ++j) {
      const double v = -r[i * k + j] * r[j * k + i];
      r[i * k + j] = r[j * k + i] = v;
    }
  for (int round = 0; round < 100; ++round) {
    double value = 0, worst = 0;
    for (int64_t i = 0; i < k; ++i) {
      qp[i] = 0;
      for (int64_t j = 0; j < k; ++j) qp[i] += r[i * k + j] * p[j];
      value += p[i] * qp[i];
    }
    for (int64_t i = 0; i < k; ++i) worst = fmax(worst, fabs(qp[i] - value));
    if (worst < 0.005 / (double)k) break;
    for (int64_t i = 0; i < k; ++i) {
      const double d = (value - qp[i]) / r[i * k + i];
      value = (value + d * (d * r[i * k + i] + 2 * qp[i])) / ((1 + d) * (1 + d));
      for (int64_t j = 0; j < k; ++j) {
        qp[j] = (qp[j] + d * r[i * k + j]) / (1 + d);
        p[j] = (p[j] + (j == i ? d : 0)) / (1 + d);
      }
    }
  }
}
static void svc_probabilities(const svc *q) {
  int64_t pair = 0, k = q->classes;
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = i + 1; j < k; ++j, ++pair) {
      const double at = q->sums[pair] * q->prob_a[pair] + q->prob_b[pair];
      const double r = fmin(fmax(1 / (1 + exp(at)), 1e-7), 1 - 1e-7);
      q->matrix[i * k + j] = r;
      q->matrix[j * k + i] = 1 - r;
    }
  svc_couple(k, q->matrix, q->p, q->p + k);
}

static int64_t largest(const double *v, int64_t n) {
  int64_t at = 0;
  for (int64_t i = 1; i < n; ++i)
    if (v[i] > v[at]) at = i;
  return at;
}
/* Scores of one row into out [width]; the label's position. */
static int64_t svc_row(const svc *q, const double *row, double *out) {
  if (!q->votes) {
    for (int64_t k = 0; k < q->classes; ++k)
      out[k] = mrt_ml_dot(row, q->weights + k * q->features, q->features) + q->rho[0];
    int64_t best = largest(out, q->classes);
    if (q->classes == 2 && out[best] > (q->positive ? 0.5 : 0)) best = 1;
    mrt_ml_transform(q->post, out, q->classes);
    return best;
  }
  memset(q->ballot, 0, (size_t)q->classes * sizeof *q->ballot);
  for (int64_t v = 0; v < q->supports; ++v)
    q->kernels[v] = kernel(&q->s, row, q->vectors + v * q->features, q->features);
  svc_sums(q);
  const int64_t best = largest(q->ballot, q->classes);
  if (q->prob_a) {
    svc_probabilities(q);
    memcpy(out, q->p, (size_t)q->classes * sizeof *out);
    mrt_ml_transform(q->post, out, q->classes);
  } else {
    memcpy(out, q->sums, (size_t)q->pairs * sizeof *out);
    if (q->pairs == 1)
      (void)mrt_ml_binary(q->post, q->post == ML_NONE, out);
    else
      mrt_ml_transform(q->post, out, q->pairs);
  }
  return best;
}
static mrt_status *svc_scratch(mrt_kctx *c, svc *q) {
  const size_t k = (size_t)q->classes;
  MRT_TRY(mrt_scratch(c, ((size_t)q->supports + 1) * sizeof *q->kernels, (void **)&q->kernels));
  MRT_TRY(mrt_scratch(c, ((size_t)q->pairs + 1) * sizeof *q->sums, (void **)&q->sums));
  MRT_TRY(mrt_scratch(c, k * sizeof *q->ballot, (void **)&q->ballot));
  MRT_TRY(mrt_scratch(c, k * sizeof *q->first, (void **)&q->first));
  if (q->prob_a) {
    MRT_TRY(mrt_scratch(c, k * k * sizeof *q->matrix, (void **)&q->matrix));
    MRT_TRY(mrt_scratch(c, 2 * k * sizeof *q->p, (void **)&q->p));
  }
  int64_t at = 0;
  for (int64_t i = 0; i < q->classes && q->votes; ++i) {
    q->first[i] = at;
    at += q->per_class[i];
  }
  return NULL;
}
static mrt_status *svc_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0), *z = mrt_out(c, 1);
  int64_t rows = 0, n = 0;
  const int64_t width = svc_width(c->node);
  svc q = {0};
  double *row, *out;
  MRT_TRY(mrt_ml_shape(x, &rows, &n));
  MRT_TRY(svc_read(c->node, n, &q));
  MRT_TRY(svc_scratch(c, &q));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *row, (void **)&row));
  MRT_TRY(mrt_scratch(c, ((size_t)width + 1) * sizeof *out, (void **)&out));
  for (int64_t r = 0; r < rows; ++r) {
    mrt_ml_read_row(x, r, n, row);
    const int64_t best = svc_row(&q, row, out);
    if (y) MRT_TRY(mrt_ml_put_label(&q.labels, best, y, r));
    for (int64_t i = 0; i < width && z; ++i) ((float *)z->data)[r * width + i] = (float)out[i];
  }
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
#define COMMON .domain = "ai.onnx.ml", .in = "X:T", .versions = versions
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
MRT_OP_IN(ml, SVMClassifier) = {
    COMMON,
    .name = "SVMClassifier",
    .doc = "classes by the votes of a machine for each pair, or by linear scores",
    .out = "Y:U, Z:float",
    .types = "T=" MRT_T_ML ";U=string,int64",
    .attrs =
        "classlabels_ints:ints classlabels_strings:strings coefficients:floats "
        "kernel_params:floats kernel_type:string=LINEAR post_transform:string=NONE prob_a:floats "
        "prob_b:floats rho:floats support_vectors:floats vectors_per_class:ints",
    .infer = svc_infer,
    .run = svc_run};
