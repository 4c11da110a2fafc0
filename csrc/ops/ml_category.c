/* OneHotEncoder, CategoryMapper, ZipMap, DictVectorizer (ai.onnx.ml): categories by position. */
#include "ops/ml_common.h"

/* Position of element i of x among the categories; -1. Numbers are compared as integers. */
static int64_t position(const mrt_ml_labels *cats, const mrt_tensor *x, int64_t i) {
  if (x->dtype == MRT_STRING) {
    const mrt_string *s = ((mrt_string *const *)x->data)[i];
    for (int k = 0; cats->strings && k < cats->n; ++k)
      if (cats->strings->string_lens[k] == mrt_string_len(s) &&
          !memcmp(cats->strings->strings[k], mrt_string_bytes(s), mrt_string_len(s)))
        return k;
    return -1;
  }
  double v = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, i);
  if (!(v > -9e18 && v < 9e18)) return -1;
  int64_t n = mrt_dtype_is_float((mrt_dtype)x->dtype)
                  ? (int64_t)v
                  : mrt_elem_get_i64((mrt_dtype)x->dtype, x->data, i);
  for (int k = 0; cats->ints && k < cats->n; ++k)
    if (cats->ints[k] == n) return k;
  return -1;
}

/* ---- OneHotEncoder ---- */
static mrt_ml_labels cats_of(const mrt_node *n) {
  return mrt_ml_labels_of(n, "cats_int64s", "cats_strings");
}
static mrt_status *encoder_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[MRT_MAX_RANK + 1];
  if (rank < 0) return mrt_infer_out(c, 0, MRT_FLOAT, -1, NULL);
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  dims[rank] = mrt_expr_const(c->sym, cats_of(c->node).n);
  return mrt_infer_out(c, 0, MRT_FLOAT, rank + 1, dims);
}
static mrt_status *encoder_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  mrt_ml_labels cats = cats_of(c->node);
  if (!y) return NULL;
  if ((x->dtype == MRT_STRING) != (cats.strings != NULL))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the categories are not of the input's type");
  int64_t n = mrt_tensor_count(x);
  memset(y->data, 0, y->bytes);
  for (int64_t i = 0; i < n; ++i) {
    int64_t k = position(&cats, x, i);
    if (k >= 0)
      ((float *)y->data)[i * cats.n + k] = 1;
    else if (!mrt_node_int(c->node, "zeros"))
      return MRT_ERR(MRT_FAIL, "Unknown Category and zeros = 0.");
  }
  return NULL;
}

/* ---- CategoryMapper ---- */
static mrt_status *mapper_infer(mrt_infer *c) {
  mrt_dtype d = mrt_infer_dtype(c, 0);
  return mrt_infer_out_like(c, 0, 0, d == MRT_STRING ? MRT_INT64 : d ? MRT_STRING : MRT_UNDEFINED);
}
static mrt_status *mapper_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  const mrt_attr *names = mrt_node_attr(c->node, "cats_strings"),
                 *other = mrt_node_attr(c->node, "default_string");
  int n;
  const int64_t *ints = mrt_node_ints(c->node, "cats_int64s", &n);
  if (!y) return NULL;
  if (!names || !ints || names->n != (size_t)n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "cats_strings and cats_int64s must be equally long");
  bool text = x->dtype == MRT_STRING;
  mrt_ml_labels from = {.ints = text ? NULL : ints, .strings = text ? names : NULL, .n = n};
  int64_t total = mrt_tensor_count(x);
  for (int64_t i = 0; i < total; ++i) {
    int64_t k = position(&from, x, i);
    if (text)
      ((int64_t *)y->data)[i] = k >= 0 ? ints[k] : mrt_node_int(c->node, "default_int64");
    else
      MRT_TRY(mrt_string_create(NULL, k >= 0 ? names->strings[k] : other->s,
                                k >= 0 ? names->string_lens[k] : other->n,
                                (mrt_string **)y->data + i));
  }
  return NULL;
}

/* ---- ZipMap: a list of maps from class to score ---- */
static mrt_ml_labels zip_labels(const mrt_node *n) {
  return mrt_ml_labels_of(n, "classlabels_int64s", "classlabels_strings");
}
static mrt_status *zip_infer(mrt_infer *c) {
  mrt_dtype key = zip_labels(c->node).strings ? MRT_STRING : MRT_INT64;
  const mrt_type *t = mrt_type_map(c->model, key, MRT_FLOAT);
  t = t ? mrt_type_of_kind(c->model, MRT_KIND_SEQUENCE, t) : NULL;
  return t ? mrt_infer_out_type(c, 0, t) : mrt_status_oom();
}
static mrt_status *zip_row(const mrt_kctx *c, const mrt_ml_labels *l, const float *row,
                           mrt_mapping **out) {
  int64_t n = l->n;
  mrt_tensor *keys = NULL, *values = NULL;
  mrt_status *st = mrt_tensor_create(c->alloc, l->strings ? MRT_STRING : MRT_INT64, 1, &n, &keys);
  if (!st) st = mrt_tensor_create(c->alloc, MRT_FLOAT, 1, &n, &values);
  for (int64_t k = 0; k < n && !st; ++k) {
    ((float *)values->data)[k] = row[k];
    st = mrt_ml_put_label(l, k, keys, k);
  }
  if (!st) return mrt_mapping_create(c->alloc, keys, values, out);
  mrt_tensor_release(keys);
  mrt_tensor_release(values);
  return st;
}
static mrt_status *zip_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_ml_labels l = zip_labels(c->node);
  mrt_sequence *s;
  mrt_status *st = NULL;
  if (!x || x->rank < 1 || x->rank > 2 || x->dims[x->rank - 1] != l.n)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "Input features_per_batch must be equal to number of labels: %d", l.n);
  MRT_TRY(mrt_sequence_create(c->alloc, MRT_UNDEFINED, &s));
  int64_t rows = x->rank == 2 ? x->dims[0] : 1;
  for (int64_t r = 0; r < rows && !st; ++r) {
    mrt_mapping *m;
    st = zip_row(c, &l, (const float *)x->data + r * l.n, &m);
    if (!st) st = mrt_sequence_append(s, &m->base);
  }
  if (!st) return mrt_out_set(c, 0, &s->base);
  mrt_value_release(&s->base);
  return st;
}

/* ---- DictVectorizer: the values of a map in the order of a vocabulary ---- */
static mrt_ml_labels words_of(const mrt_node *n) {
  return mrt_ml_labels_of(n, "int64_vocabulary", "string_vocabulary");
}
static mrt_status *dict_infer(mrt_infer *c) {
  const mrt_type *t = c->in_types[0];
  const mrt_expr *dims[2] = {mrt_expr_const(c->sym, 1),
                             mrt_expr_const(c->sym, words_of(c->node).n)};
  return mrt_infer_out(c, 0, t && t->kind == MRT_KIND_MAP ? t->dtype : MRT_UNDEFINED, 2, dims);
}
static mrt_status *dict_run(mrt_kctx *c) {
  const mrt_value *v = mrt_in_value(c, 0);
  mrt_ml_labels words = words_of(c->node);
  int64_t dims[2] = {1, words.n};
  mrt_tensor *y;
  if (!v || v->kind != MRT_KIND_MAP) return MRT_ERR(MRT_INVALID_ARGUMENT, "the input is not a map");
  const mrt_mapping *m = (const mrt_mapping *)v;
  if ((m->keys->dtype == MRT_STRING) != (words.strings != NULL))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the vocabulary is not of the type of the keys");
  size_t size;
  MRT_TRY(mrt_elem_size(c, m->values, &size));
  MRT_TRY(mrt_out_alloc(c, 0, (mrt_dtype)m->values->dtype, 2, dims, &y));
  memset(y->data, 0, y->bytes);
  int64_t n = mrt_tensor_count(m->keys);
  for (int64_t i = 0; i < n; ++i) {
    int64_t k = position(&words, m->keys, i);
    if (k < 0) continue;
    char *to = (char *)y->data + (size_t)k * size;
    if (y->dtype == MRT_STRING) mrt_string_release(*(mrt_string **)(void *)to);
    memcpy(to, (const char *)m->values->data + (size_t)i * size, size);
    if (y->dtype == MRT_STRING) mrt_string_retain(*(mrt_string **)(void *)to);
  }
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
#define COMMON .domain = "ai.onnx.ml", .versions = versions
MRT_OP_IN(ml, OneHotEncoder) = {COMMON,
                                .name = "OneHotEncoder",
                                .doc = "1 at the category's position",
                                .in = "X:T",
                                .out = "Y:float",
                                .types = "T=string," MRT_T_ML,
                                .attrs = "cats_int64s:ints cats_strings:strings zeros:int=1",
                                .infer = encoder_infer,
                                .run = encoder_run};
MRT_OP_IN(ml, CategoryMapper) = {COMMON,
                                 .name = "CategoryMapper",
                                 .doc = "names to numbers or back",
                                 .in = "X:T",
                                 .out = "Y:U",
                                 .types = "T=string,int64;U=string,int64",
                                 .attrs =
                                     "cats_int64s:ints cats_strings:strings "
                                     "default_int64:int=-1 default_string:string=_Unused",
                                 .infer = mapper_infer,
                                 .run = mapper_run};
MRT_OP_IN(ml, ZipMap) = {COMMON,
                         .name = "ZipMap",
                         .doc = "rows of scores as maps by class",
                         .in = "X:float",
                         .out = "Z:any",
                         .attrs = "classlabels_int64s:ints classlabels_strings:strings",
                         .flags = MRT_OP_DYNAMIC,
                         .infer = zip_infer,
                         .run = zip_run};
MRT_OP_IN(ml, DictVectorizer) = {COMMON,
                                 .name = "DictVectorizer",
                                 .doc = "values of a map in the order of a vocabulary",
                                 .in = "X:any",
                                 .out = "Y:any",
                                 .attrs = "int64_vocabulary:ints string_vocabulary:strings",
                                 .flags = MRT_OP_DYNAMIC,
                                 .infer = dict_infer,
                                 .run = dict_run};
