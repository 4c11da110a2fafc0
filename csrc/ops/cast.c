/* Cast and CastLike: every number type to every other; strings to and from numbers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/common.h"

static mrt_status *cast_infer(mrt_infer *c) {
  int64_t to = mrt_node_int(c->node, "to");
  if (!mrt_dtype_valid((int)to))
    return MRT_ERR(MRT_INVALID_GRAPH, "Cast: unknown type %lld", (long long)to);
  MRT_TRY(mrt_infer_out_like(c, 0, 0, (mrt_dtype)to));
  int n;
  const mrt_expr *const *e = mrt_infer_ints(c, 0, &n);
  return e && (to == MRT_INT64 || to == MRT_INT32) && mrt_infer_dtype(c, 0) != MRT_BOOL
             ? mrt_infer_out_elems(c, 0, n, e)
             : NULL;
}
static mrt_status *like_infer(mrt_infer *c) {
  return mrt_infer_dtype(c, 1) ? mrt_infer_out_like(c, 0, 0, mrt_infer_dtype(c, 1)) : NULL;
}

static mrt_status *to_string(const mrt_tensor *x, int64_t i, mrt_string **out) {
  char text[64];
  mrt_dtype d = (mrt_dtype)x->dtype;
  if (mrt_dtype_is_int(d))
    snprintf(text, sizeof text, d == MRT_UINT64 ? "%llu" : "%lld",
             (long long)mrt_elem_get_i64(d, x->data, i));
  else if (d == MRT_BOOL)
    snprintf(text, sizeof text, "%d", (int)mrt_elem_get_i64(d, x->data, i));
  else {
    double v = mrt_elem_get_f64(d, x->data, i);
    if (isnan(v))
      strcpy(text, "NaN");
    else if (isinf(v))
      strcpy(text, v > 0 ? "INF" : "-INF");
    else
      snprintf(text, sizeof text, d == MRT_DOUBLE ? "%.17g" : "%.8g", v);
  }
  return mrt_string_create(NULL, text, strlen(text), out);
}

typedef struct job {
  const mrt_tensor *x;
  mrt_tensor *y;
  bool saturate;
  mrt_round round; /* to float8e8m0 only */
} job;
static bool is_f8(mrt_dtype d) { return d >= MRT_FLOAT8E4M3FN && d <= MRT_FLOAT8E5M2FNUZ; }
static void convert(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  mrt_dtype from = (mrt_dtype)j->x->dtype, to = (mrt_dtype)j->y->dtype;
  bool exact_int =
      (mrt_dtype_is_int(from) || from == MRT_BOOL) && (mrt_dtype_is_int(to) || to == MRT_BOOL);
  uint8_t *bytes = j->y->data;
  if (exact_int) {
    for (int64_t i = begin; i < end; ++i)
      mrt_elem_set_i64(to, j->y->data, i, mrt_elem_get_i64(from, j->x->data, i));
  } else if (to == MRT_FLOAT) {
    mrt_convert_to_f32(from, j->x->data, begin, end - begin, (float *)j->y->data + begin);
  } else if (is_f8(to)) {
    for (int64_t i = begin; i < end; ++i)
      bytes[i] = mrt_f32_to_f8(to, (float)mrt_elem_get_f64(from, j->x->data, i), j->saturate);
  } else if (to == MRT_FLOAT8E8M0) {
    for (int64_t i = begin; i < end; ++i)
      bytes[i] =
          mrt_f32_to_e8m0((float)mrt_elem_get_f64(from, j->x->data, i), j->round, j->saturate);
  } else if (from == MRT_FLOAT && (to == MRT_FLOAT16 || to == MRT_BFLOAT16)) {
    mrt_convert_from_f32(to, j->y->data, begin, end - begin, (const float *)j->x->data + begin);
  } else {
    for (int64_t i = begin; i < end; ++i)
      mrt_elem_set_f64(to, j->y->data, i, mrt_elem_get_f64(from, j->x->data, i));
  }
}

mrt_status *mrt_elem_parse(const char *op, const mrt_string *text, mrt_dtype to, void *data,
                           int64_t i) {
  const char *s = mrt_string_bytes(text);
  char *end = NULL;
  errno = 0;
  if (to == MRT_UINT64) {
    mrt_elem_set_i64(to, data, i, (int64_t)strtoull(s, &end, 10));
  } else if (mrt_dtype_is_int(to)) {
    long long v = strtoll(s, &end, 10);
    mrt_elem_set_i64(to, data, i, v);
    if (mrt_elem_get_i64(to, data, i) != v) errno = ERANGE;
  } else {
    mrt_elem_set_f64(to, data, i, strtod(s, &end));
    errno = 0; /* infinity and denormal numbers are values */
  }
  if (end == s || end != s + mrt_string_len(text))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: '%.40s' is not a number", op, s);
  if (errno == ERANGE)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: '%.40s' is out of range for %s", op, s,
                   mrt_dtype_name(to));
  return NULL;
}

static mrt_status *read_round(const mrt_node *node, mrt_round *out) {
  const char *mode = mrt_node_str(node, "round_mode");
  *out = strcmp(mode, "down") == 0      ? MRT_ROUND_DOWN
         : strcmp(mode, "nearest") == 0 ? MRT_ROUND_NEAREST
                                        : MRT_ROUND_UP;
  return *out != MRT_ROUND_UP || !*mode || strcmp(mode, "up") == 0
             ? NULL
             : MRT_ERR(MRT_INVALID_ARGUMENT, "round_mode '%.20s' is not up, down or nearest", mode);
}

static mrt_status *run(mrt_kctx *c) {
  job j = {mrt_in(c, 0), mrt_out(c, 0), mrt_node_int(c->node, "saturate") != 0, MRT_ROUND_UP};
  if (!j.y) return NULL;
  MRT_TRY(read_round(c->node, &j.round));
  int64_t n = mrt_tensor_count(j.x);
  mrt_dtype from = (mrt_dtype)j.x->dtype, to = (mrt_dtype)j.y->dtype;
  if (from == to) return mrt_tensor_copy_into(j.y, j.x);
  if (from >= MRT_COMPLEX64 && from <= MRT_COMPLEX128) return mrt_no_type("Cast", from);
  if (to >= MRT_COMPLEX64 && to <= MRT_COMPLEX128) return mrt_no_type("Cast", to);
  if (to == MRT_STRING) {
    for (int64_t i = 0; i < n; ++i) MRT_TRY(to_string(j.x, i, &((mrt_string **)j.y->data)[i]));
    return NULL;
  }
  if (mrt_dtype_bits(to) < 8) memset(j.y->data, 0, j.y->bytes);
  if (from == MRT_STRING) {
    for (int64_t i = 0; i < n; ++i)
      MRT_TRY(mrt_elem_parse("Cast", ((mrt_string **)j.x->data)[i], to, j.y->data, i));
    return NULL;
  }
  if (mrt_dtype_bits(to) < 8) /* neighbours share bytes: one thread only */
    convert(&j, 0, n);
  else
    mrt_par_range(&c->par, n, 0.5, convert, &j);
  return NULL;
}
static mrt_status *up1(mrt_node *node) { /* the type was a name */
  static const char *const names[] = {"",        "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                      "INT16",   "INT32",  "INT64",  "STRING", "BOOL",
                                      "FLOAT16", "DOUBLE", "UINT32", "UINT64"};
  const mrt_attr *a = mrt_node_attr(node, "to");
  for (int i = 1; a && a->kind == MRT_ATTR_STRING && i < 14; ++i)
    if (strcmp(a->s, names[i]) == 0) return mrt_node_set_int(node, "to", i);
  return NULL;
}
static const mrt_op_version cast_v[] = {{1, up1}, {6},  {9},  {13}, {19},
                                        {21},     {23}, {24}, {25}, {0}};
static const mrt_op_version like_v[] = {{15}, {19}, {21}, {23}, {24}, {25}, {0}};
MRT_OP(Cast) = {.domain = "",
                .name = "Cast",
                .doc = "to another element type",
                .in = "input:T",
                .out = "output:any",
                .types = "T=" MRT_T_ANY,
                .attrs = "to:int! saturate:int=1 round_mode:string=up",
                .versions = cast_v,
                .infer = cast_infer,
                .run = run};
MRT_OP(CastLike) = {.domain = "",
                    .name = "CastLike",
                    .doc = "to the element type of another tensor",
                    .in = "input:T, target_type:U",
                    .out = "output:any",
                    .types = "T=" MRT_T_ANY ";U=" MRT_T_ANY,
                    .attrs = "saturate:int=1 round_mode:string=up",
                    .versions = like_v,
                    .infer = like_infer,
                    .run = run};
