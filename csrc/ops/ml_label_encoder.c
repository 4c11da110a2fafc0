/* LabelEncoder (ai.onnx.ml): looks each element up among keys and gives the value at the same
 * place, or a default. Keys become byte strings, so that one hash map serves all types. */
#include "base/str.h"
#include "ops/common.h"

/* A list of keys or values: attributes of one of three kinds, or a tensor. */
typedef struct list {
  const mrt_attr *a;
  mrt_dtype dtype; /* UNDEFINED: not given */
  int64_t n;
} list;
static list find_list(const mrt_node *node, const char *prefix) {
  static const struct {
    const char *suffix;
    mrt_dtype dtype;
  } kinds[] = {{"int64s", MRT_INT64}, {"floats", MRT_FLOAT}, {"strings", MRT_STRING}};
  char name[64];
  list out = {0};
  size_t k = strlen(prefix);
  memcpy(name, prefix, k);
  memcpy(name + k, "tensor", 7);
  if ((out.a = mrt_node_attr(node, name)) && out.a->tensor) {
    out.dtype = (mrt_dtype)out.a->tensor->dtype;
    out.n = mrt_tensor_count(out.a->tensor);
    return out;
  }
  for (int i = 0; i < 3; ++i) {
    memcpy(name + k, kinds[i].suffix, strlen(kinds[i].suffix) + 1);
    if (!(out.a = mrt_node_attr(node, name)) || !out.a->n) continue;
    out.dtype = kinds[i].dtype;
    out.n = (int64_t)out.a->n;
    return out;
  }
  return (list){0};
}
static const char *list_string(const list *l, int64_t i, size_t *len) {
  if (l->a->tensor) {
    const mrt_string *s = ((mrt_string *const *)l->a->tensor->data)[i];
    *len = mrt_string_len(s);
    return mrt_string_bytes(s);
  }
  *len = l->a->string_lens[i];
  return l->a->strings[i];
}
static const void *list_data(const list *l) {
  if (l->a->tensor) return l->a->tensor->data;
  return l->dtype == MRT_INT64 ? (const void *)l->a->ints : l->a->floats;
}
/* Eight bytes that are equal when the numbers are: integers as they are, floats with one zero and
 * one NaN. */
static uint64_t number_key(mrt_dtype d, const void *data, int64_t i) {
  uint64_t bits;
  if (!mrt_dtype_is_float(d)) return (uint64_t)mrt_elem_get_i64(d, data, i);
  double v = mrt_elem_get_f64(d, data, i);
  if (v == 0) v = 0;
  if (v != v) return 0x7ff8000000000000u;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}

static mrt_status *lists(const mrt_node *node, list *keys, list *values) {
  *keys = find_list(node, "keys_");
  *values = find_list(node, "values_");
  if (mrt_node_attr(node, "_classes")) return NULL;
  if (!keys->dtype || !values->dtype || keys->n != values->n)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "The keys and values attributes must be there and equally long");
  return NULL;
}
static mrt_status *infer(mrt_infer *c) {
  list keys, values;
  mrt_dtype in = mrt_infer_dtype(c, 0), out;
  MRT_TRY(lists(c->node, &keys, &values));
  if (mrt_node_attr(c->node, "_classes"))
    out = in == MRT_STRING ? MRT_INT64 : in ? MRT_STRING : MRT_UNDEFINED;
  else
    out = values.dtype;
  return mrt_infer_out_like(c, 0, 0, out);
}

/* The first form: a list of strings, from name to number or from number to name. */
static mrt_status *run_classes(mrt_kctx *c, const mrt_tensor *x, mrt_tensor *y) {
  const mrt_attr *a = mrt_node_attr(c->node, "_classes"),
                 *def = mrt_node_attr(c->node, "default_string");
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i) {
    if (x->dtype == MRT_STRING) {
      const mrt_string *s = ((mrt_string *const *)x->data)[i];
      int64_t at = mrt_node_int(c->node, "default_int64");
      for (size_t k = a->n; k-- > 0;)
        if (a->string_lens[k] == mrt_string_len(s) &&
            !memcmp(a->strings[k], mrt_string_bytes(s), a->string_lens[k]))
          at = (int64_t)k;
      ((int64_t *)y->data)[i] = at;
    } else {
      int64_t at = mrt_elem_get_i64((mrt_dtype)x->dtype, x->data, i);
      bool in = at >= 0 && (size_t)at < a->n;
      MRT_TRY(mrt_string_create(NULL, in ? a->strings[at] : def->s,
                                in ? a->string_lens[at] : def->n, (mrt_string **)y->data + i));
    }
  }
  return NULL;
}

static mrt_status *put_default(const mrt_node *node, mrt_tensor *y, int64_t i) {
  const mrt_attr *t = mrt_node_attr(node, "default_tensor"),
                 *s = mrt_node_attr(node, "default_string");
  mrt_dtype d = (mrt_dtype)y->dtype;
  bool tensor = t && t->tensor && t->tensor->dtype == y->dtype && mrt_tensor_count(t->tensor) == 1;
  if (d == MRT_STRING) {
    mrt_string **out = (mrt_string **)y->data + i;
    if (!tensor) return mrt_string_create(NULL, s->s, s->n, out);
    *out = mrt_string_retain(*(mrt_string *const *)t->tensor->data);
  } else if (tensor) {
    size_t size = (size_t)mrt_dtype_bits(d) / 8;
    memcpy((char *)y->data + (size_t)i * size, t->tensor->data, size);
  } else if (mrt_dtype_is_float(d)) {
    mrt_elem_set_f64(d, y->data, i, mrt_node_float(node, "default_float"));
  } else {
    mrt_elem_set_i64(d, y->data, i, mrt_node_int(node, "default_int64"));
  }
  return NULL;
}
static mrt_status *put_value(const list *v, int64_t k, mrt_tensor *y, int64_t i) {
  if (v->dtype == MRT_STRING) {
    size_t len;
    const char *s = list_string(v, k, &len);
    return mrt_string_create(NULL, s, len, (mrt_string **)y->data + i);
  }
  size_t size = (size_t)mrt_dtype_bits(v->dtype) / 8;
  memcpy((char *)y->data + (size_t)i * size, (const char *)list_data(v) + (size_t)k * size, size);
  return NULL;
}
static mrt_status *fill_map(mrt_map *m, const list *keys, uint64_t *numbers) {
  for (int64_t k = 0; k < keys->n; ++k) { /* the last of equal keys counts */
    const void *key = &numbers[k];
    size_t len = sizeof *numbers;
    if (keys->dtype == MRT_STRING)
      key = list_string(keys, k, &len);
    else
      numbers[k] = number_key(keys->dtype, list_data(keys), k);
    MRT_TRY(mrt_map_setn(m, key, len, (void *)(intptr_t)(k + 1)));
  }
  return NULL;
}
static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  list keys, values;
  uint64_t *numbers;
  mrt_map m;
  if (!y) return NULL;
  MRT_TRY(lists(c->node, &keys, &values));
  if (mrt_node_attr(c->node, "_classes")) return run_classes(c, x, y);
  if (keys.dtype != (mrt_dtype)x->dtype)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the keys are not of the input's type");
  MRT_TRY(mrt_scratch(c, ((size_t)keys.n + 1) * sizeof *numbers, (void **)&numbers));
  mrt_map_init(&m, c->alloc);
  mrt_status *st = fill_map(&m, &keys, numbers);
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n && !st; ++i) {
    intptr_t k;
    if (x->dtype == MRT_STRING) {
      const mrt_string *s = ((mrt_string *const *)x->data)[i];
      k = (intptr_t)mrt_map_getn(&m, mrt_string_bytes(s), mrt_string_len(s));
    } else {
      uint64_t key = number_key(keys.dtype, x->data, i);
      k = (intptr_t)mrt_map_getn(&m, &key, sizeof key);
    }
    st = k ? put_value(&values, k - 1, y, i) : put_default(c->node, y, i);
  }
  mrt_map_deinit(&m);
  return st;
}

static mrt_status *up1(mrt_node *node) {
  mrt_attr a;
  if (!mrt_node_take_attr(node, "classes_strings", &a))
    return MRT_ERR(MRT_INVALID_GRAPH, "classes_strings is missing");
  a.name = "_classes";
  return mrt_node_set_attr(node, &a);
}
static const mrt_op_version versions[] = {{1, up1}, {2}, {4}, {0}};
#define KINDS "string,int64,float,int32,int16,double"
MRT_OP_IN(ml, LabelEncoder) = {
    .domain = "ai.onnx.ml",
    .name = "LabelEncoder",
    .doc = "looks elements up in a table",
    .in = "X:T",
    .out = "Y:U",
    .types = "T=" KINDS ";U=" KINDS,
    .attrs =
        "default_float:float=-0 default_int64:int=-1 default_string:string=_Unused "
        "default_tensor:tensor keys_floats:floats keys_int64s:ints keys_strings:strings "
        "keys_tensor:tensor values_floats:floats values_int64s:ints values_strings:strings "
        "values_tensor:tensor",
    .versions = versions,
    .infer = infer,
    .run = run};
