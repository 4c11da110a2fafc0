/* CastMap (ai.onnx.ml): the values of a map with integer keys as one row of a tensor, side by side
 * in the order of the keys (DENSE) or each at the place that its key names (SPARSE). */
#include <stdio.h>
#include <stdlib.h>

#include "ops/common.h"

static mrt_status *target_of(const mrt_node *node, mrt_dtype *out) {
  const char *word = mrt_node_str(node, "cast_to");
  *out = strcmp(word, "TO_FLOAT") == 0    ? MRT_FLOAT
         : strcmp(word, "TO_STRING") == 0 ? MRT_STRING
         : strcmp(word, "TO_INT64") == 0  ? MRT_INT64
                                          : MRT_UNDEFINED;
  return *out ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "cast_to '%.20s' is not known", word);
}
/* Length of the row; 0: as many as the map has entries. */
static mrt_status *length_of(const mrt_node *node, int64_t *out) {
  const char *form = mrt_node_str(node, "map_form");
  const bool sparse = strcmp(form, "SPARSE") == 0;
  *out = sparse ? mrt_node_int(node, "max_map") : 0;
  if (!sparse && strcmp(form, "DENSE") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "map_form '%.20s' is not known", form);
  if (sparse && *out < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "max_map is %lld", (long long)*out);
  return NULL;
}
static mrt_status *infer(mrt_infer *c) {
  mrt_dtype to;
  int64_t n;
  MRT_TRY(target_of(c->node, &to));
  MRT_TRY(length_of(c->node, &n));
  const mrt_expr *dims[2] = {mrt_expr_const(c->sym, 1), n ? mrt_expr_const(c->sym, n) : NULL};
  return mrt_infer_out(c, 0, to, 2, dims);
}

typedef struct entry {
  int64_t key, at; /* at: position among the map's values */
} entry;
static int by_key(const void *a, const void *b) {
  const int64_t x = ((const entry *)a)->key, y = ((const entry *)b)->key;
  return (x > y) - (x < y);
}

/* A float outside of int64's range, or NaN, becomes the smallest number, as x86 converts it. */
static int64_t whole(float v) {
  return v >= -9223372036854775808.0f && v < 9223372036854775808.0f ? (int64_t)v : INT64_MIN;
}
/* Element `to` of y from value `from`; a negative `from` is a place that no key names. */
static mrt_status *put(const mrt_tensor *values, int64_t from, mrt_tensor *y, int64_t to) {
  const mrt_dtype t = (mrt_dtype)y->dtype;
  if (from < 0) {
    if (t != MRT_STRING) return NULL; /* zeros are there already */
    return mrt_string_create(NULL, "0.f", 3, (mrt_string **)y->data + to);
  }
  if (values->dtype == MRT_STRING) {
    mrt_string *s = ((mrt_string *const *)values->data)[from];
    if (t != MRT_STRING) return mrt_elem_parse("CastMap", s, t, y->data, to);
    ((mrt_string **)y->data)[to] = mrt_string_retain(s);
    return NULL;
  }
  const float v = ((const float *)values->data)[from];
  if (t == MRT_FLOAT) {
    ((float *)y->data)[to] = v;
  } else if (t == MRT_INT64) {
    ((int64_t *)y->data)[to] = whole(v);
  } else {
    char text[64]; /* 39 digits and 6 behind the point at most */
    const int n = snprintf(text, sizeof text, "%f", (double)v);
    return mrt_string_create(NULL, text, (size_t)n, (mrt_string **)y->data + to);
  }
  return NULL;
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_value *v = mrt_in_value(c, 0);
  const mrt_mapping *m = (const mrt_mapping *)v;
  mrt_tensor *y;
  mrt_dtype to;
  entry *order;
  int64_t dims[2] = {1, 0}, length, next = 0;
  if (!v || v->kind != MRT_KIND_MAP || m->keys->dtype != MRT_INT64 ||
      (m->values->dtype != MRT_FLOAT && m->values->dtype != MRT_STRING))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "CastMap: the input is not a map(int64, float) or map(int64, string)");
  const int64_t n = mrt_tensor_count(m->keys);
  MRT_TRY(target_of(c->node, &to));
  MRT_TRY(length_of(c->node, &length));
  MRT_TRY(mrt_scratch(c, ((size_t)n + 1) * sizeof *order, (void **)&order));
  for (int64_t i = 0; i < n; ++i)
    order[i] = (entry){.key = ((const int64_t *)m->keys->data)[i], .at = i};
  qsort(order, (size_t)n, sizeof *order, by_key);
  if (length && n && order[0].key < 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "CastMap: the key %lld is negative",
                   (long long)order[0].key);
  dims[1] = length ? length : n;
  MRT_TRY(mrt_out_alloc(c, 0, to, 2, dims, &y));
  memset(y->data, 0, y->bytes);
  for (int64_t i = 0; i < dims[1]; ++i) {
    const bool here = next < n && (!length || order[next].key == i);
    MRT_TRY(put(m->values, here ? order[next].at : -1, y, i));
    next += here;
  }
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
MRT_OP_IN(ml, CastMap) = {
    .domain = "ai.onnx.ml",
    .name = "CastMap",
    .doc = "the values of a map as a row, in the order of the keys",
    .in = "X:any",
    .out = "Y:T",
    .types = "T=string,int64,float",
    .attrs = "cast_to:string=TO_FLOAT map_form:string=DENSE max_map:int=1",
    .versions = versions,
    .flags = MRT_OP_DYNAMIC,
    .infer = infer,
    .run = run,
};
