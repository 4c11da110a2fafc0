/* Scaler, Normalizer, Imputer, FeatureVectorizer (ai.onnx.ml). */
#include "ops/ml_common.h"

static double get(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}
static mrt_status *float_infer(mrt_infer *c) { return mrt_infer_out_like(c, 0, 0, MRT_FLOAT); }

/* ---- Scaler ---- */
static mrt_status *scaler_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int ns, no;
  const float *scale = mrt_node_floats(c->node, "scale", &ns),
              *offset = mrt_node_floats(c->node, "offset", &no);
  if (!y) return NULL;
  int64_t total = mrt_tensor_count(x), n = x->rank ? x->dims[x->rank - 1] : 1;
  if (!scale || !offset || ns != no || (ns != 1 && ns != n))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Either both scale and offset can be of feature size (%lld) or 1", (long long)n);
  for (int64_t i = 0; i < total; ++i) {
    int64_t k = ns == 1 ? 0 : i % n;
    ((float *)y->data)[i] = (float)((get(x, i) - offset[k]) * scale[k]);
  }
  return NULL;
}

/* ---- Normalizer: rows of the last dim ---- */
static mrt_status *normalizer_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  const char *how = mrt_node_str(c->node, "norm");
  if (!y) return NULL;
  bool max = strcmp(how, "MAX") == 0, l1 = strcmp(how, "L1") == 0;
  if (!max && !l1 && strcmp(how, "L2") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "norm '%s' is none of MAX, L1, L2", how);
  if (x->rank < 1 || x->rank > 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Rank of input to Normalized must be less than or equal to 2");
  int64_t n = x->dims[x->rank - 1], rows = x->rank == 2 ? x->dims[0] : 1;
  for (int64_t r = 0; r < rows; ++r) {
    double norm = max ? -INFINITY : 0;
    float *out = (float *)y->data + r * n;
    for (int64_t i = 0; i < n; ++i) {
      double v = get(x, r * n + i);
      norm = max ? fmax(norm, v) : norm + (l1 ? fabs(v) : v * v);
    }
    if (!max && !l1) norm = sqrt(norm);
    for (int64_t i = 0; i < n; ++i) {
      double v = get(x, r * n + i);
      out[i] = (float)(norm != 0 ? v / norm : max || l1 ? v : v * v);
    }
  }
  return NULL;
}

/* ---- Imputer ---- */
static mrt_status *imputer_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int n;
  if (!y) return NULL;
  mrt_dtype d = (mrt_dtype)x->dtype;
  bool real = mrt_dtype_is_float(d);
  const float *f = real ? mrt_node_floats(c->node, "imputed_value_floats", &n) : NULL;
  const int64_t *k = real ? NULL : mrt_node_ints(c->node, "imputed_value_int64s", &n);
  double old = real ? mrt_node_float(c->node, "replaced_value_float")
                    : (double)mrt_node_int(c->node, "replaced_value_int64");
  int64_t total = mrt_tensor_count(x), width = x->rank ? x->dims[x->rank - 1] : 1;
  if (!(f || k) || (n != 1 && n != width))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Empty value of imputed values, or not one per feature.");
  for (int64_t i = 0; i < total; ++i) {
    double v = get(x, i);
    int64_t at = n == 1 ? 0 : i % width;
    bool hit = real && isnan(old) ? isnan(v) : v == old;
    mrt_elem_set_f64(d, y->data, i, !hit ? v : f ? f[at] : (double)k[at]);
  }
  return NULL;
}

/* ---- FeatureVectorizer: inputs side by side, each cut or filled with zeros to its width ---- */
static mrt_status *vectorizer_infer(mrt_infer *c) {
  int n;
  const int64_t *width = mrt_node_ints(c->node, "inputdimensions", &n);
  const mrt_expr *dims[2] = {NULL, NULL};
  int64_t sum = 0;
  if (n != c->n_in) return MRT_ERR(MRT_INVALID_ARGUMENT, "inputdimensions has %d entries", n);
  for (int i = 0; i < n; ++i) {
    if (width[i] < 0 || width[i] > INT32_MAX)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "inputdimensions");
    sum += width[i];
  }
  if (mrt_infer_rank(c, 0) >= 0)
    dims[0] = mrt_infer_rank(c, 0) > 1 ? mrt_infer_dim(c, 0, 0) : mrt_expr_const(c->sym, 1);
  dims[1] = mrt_expr_const(c->sym, sum);
  return mrt_infer_out(c, 0, MRT_FLOAT, 2, dims);
}
static mrt_status *vectorizer_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  int n;
  const int64_t *width = mrt_node_ints(c->node, "inputdimensions", &n);
  int64_t at = 0;
  if (!y) return NULL;
  memset(y->data, 0, y->bytes);
  for (int i = 0; i < n; ++i) {
    const mrt_tensor *x = mrt_in(c, i);
    int64_t rows = x->rank > 1 ? x->dims[0] : 1,
            per = x->rank > 1 ? mrt_dims_product(x->dims, 1, x->rank) : mrt_tensor_count(x);
    if (rows != y->dims[0])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "input %d has another batch size", i);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < per && k < width[i]; ++k)
        ((float *)y->data)[r * y->dims[1] + at + k] = (float)get(x, r * per + k);
    at += width[i];
  }
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
#define COMMON .domain = "ai.onnx.ml", .versions = versions, .types = "T=" MRT_T_ML
MRT_OP_IN(ml, Scaler) = {COMMON,
                         .name = "Scaler",
                         .doc = "(x - offset) * scale",
                         .in = "X:T",
                         .out = "Y:float",
                         .attrs = "offset:floats scale:floats",
                         .infer = float_infer,
                         .run = scaler_run};
MRT_OP_IN(ml, Normalizer) = {COMMON,
                             .name = "Normalizer",
                             .doc = "rows divided by a norm",
                             .in = "X:T",
                             .out = "Y:float",
                             .attrs = "norm:string=MAX",
                             .infer = float_infer,
                             .run = normalizer_run};
MRT_OP_IN(ml, Imputer) = {COMMON,
                          .name = "Imputer",
                          .doc = "puts a value in place of missing ones",
                          .in = "X:T",
                          .out = "Y:T",
                          .attrs =
                              "imputed_value_floats:floats imputed_value_int64s:ints "
                              "replaced_value_float:float=0 replaced_value_int64:int=0",
                          .infer = mrt_infer_same_shape,
                          .run = imputer_run};
MRT_OP_IN(ml, FeatureVectorizer) = {COMMON,
                                    .name = "FeatureVectorizer",
                                    .doc = "inputs side by side",
                                    .in = "X:T**",
                                    .out = "Y:float",
                                    .attrs = "inputdimensions:ints",
                                    .infer = vectorizer_infer,
                                    .run = vectorizer_run};
