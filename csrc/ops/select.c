/* NonZero and Compress: outputs whose size depends on the contents. */
#include "ops/common.h"

static bool nonzero(const mrt_tensor *t, int64_t i) {
  switch (t->dtype) {
    case MRT_FLOAT: return ((const float *)t->data)[i] != 0;
    case MRT_DOUBLE: return ((const double *)t->data)[i] != 0;
    case MRT_FLOAT16:
    case MRT_BFLOAT16: return (((const uint16_t *)t->data)[i] & 0x7fff) != 0;
    case MRT_COMPLEX64:
      return ((const float *)t->data)[2 * i] != 0 || ((const float *)t->data)[2 * i + 1] != 0;
    case MRT_COMPLEX128:
      return ((const double *)t->data)[2 * i] != 0 || ((const double *)t->data)[2 * i + 1] != 0;
    case MRT_STRING: return mrt_string_len(((mrt_string *const *)t->data)[i]) != 0;
    default: return mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, i) != 0;
  }
}

/* A scalar counts as one element of a row: the result then has one coordinate. */
static mrt_status *nonzero_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  const mrt_expr *dims[2] = {rank < 0 ? NULL : mrt_expr_const(c->sym, rank ? rank : 1), NULL};
  return mrt_infer_out(c, 0, MRT_INT64, 2, dims);
}
/* Truth of elements [begin, begin + n) as bytes of 0 and 1; their number. */
static int64_t truth(const mrt_tensor *t, int64_t begin, int64_t n, uint8_t *out) {
  int64_t found = 0;
  if (t->dtype == MRT_BOOL) {
    const uint8_t *x = (const uint8_t *)t->data + begin;
    for (int64_t i = 0; i < n; ++i) found += out[i] = x[i] != 0;
  } else if (t->dtype == MRT_FLOAT) {
    const float *x = (const float *)t->data + begin;
    for (int64_t i = 0; i < n; ++i) found += out[i] = x[i] != 0;
  } else if (t->dtype == MRT_INT64) {
    const int64_t *x = (const int64_t *)t->data + begin;
    for (int64_t i = 0; i < n; ++i) found += out[i] = x[i] != 0;
  } else {
    for (int64_t i = 0; i < n; ++i) found += out[i] = nonzero(t, begin + i);
  }
  return found;
}
static mrt_status *nonzero_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  int64_t n = mrt_tensor_count(x), k = 0, index[MRT_MAX_RANK] = {0};
  int last = x->rank ? x->rank - 1 : 0;
  int64_t dims[2] = {last + 1, 0}, row = x->rank ? x->dims[last] : 1;
  uint8_t *is;
  mrt_tensor *y;
  if (!mrt_out_wanted(c, 0)) return NULL;
  MRT_TRY(mrt_scratch(c, (size_t)n + 1, (void **)&is));
  const int64_t found = dims[1] = truth(x, 0, n, is);
  MRT_TRY(mrt_out_alloc(c, 0, MRT_INT64, 2, dims, &y));
  int64_t *out = y->data;
  for (int64_t r = 0; found && r < n / row; ++r, is += row) {
    int64_t from = k;
    for (int64_t i = 0; i < row && k < found; ++i) { /* written always, kept if true */
      out[last * found + k] = i;
      k += is[i];
    }
    for (int d = 0; d < last; ++d)
      for (int64_t i = from; i < k; ++i) out[d * found + i] = index[d];
    mrt_next_index(last, x->dims, index);
  }
  return NULL;
}

static mrt_status *compress_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis;
  const mrt_expr *dims[MRT_MAX_RANK] = {NULL};
  if (!mrt_node_attr(c->node, "axis")) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 1, dims);
  if (rank < 0) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < rank; ++i) dims[i] = i == axis ? NULL : mrt_infer_dim(c, 0, i);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static mrt_status *compress_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0), *cond = mrt_in(c, 1);
  int64_t dims[MRT_MAX_RANK], outer = 1, len = mrt_tensor_count(x), inner = 1, kept = 0;
  int axis = 0, rank = 1;
  size_t size;
  mrt_tensor *y;
  if (!mrt_out_wanted(c, 0)) return NULL;
  MRT_TRY(mrt_elem_size(c, x, &size));
  if (mrt_node_attr(c->node, "axis")) {
    MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
    if (!x->rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "Compress along an axis of a scalar");
    rank = x->rank;
    memcpy(dims, x->dims, (size_t)rank * sizeof *dims);
    outer = mrt_dims_product(x->dims, 0, axis);
    len = x->dims[axis];
    inner = mrt_dims_product(x->dims, axis + 1, rank);
  }
  const uint8_t *keep = cond->data;
  int64_t n = mrt_tensor_count(cond); /* may be shorter, and may be longer than the axis */
  if (n > len) n = len;
  for (int64_t i = 0; i < n; ++i) kept += keep[i] != 0;
  dims[axis] = kept;
  MRT_TRY(mrt_out_alloc(c, 0, (mrt_dtype)x->dtype, rank, dims, &y));
  char *to = y->data;
  size_t run = (size_t)inner * size;
  for (int64_t o = 0; o < outer && run; ++o)
    for (int64_t i = 0; i < n; ++i)
      if (keep[i]) {
        memcpy(to, (const char *)x->data + (size_t)(o * len + i) * run, run);
        to += run;
      }
  mrt_tensor_retain_strings(y);
  return NULL;
}

static const mrt_op_version nonzero_v[] = {{9}, {13}, {0}};
static const mrt_op_version compress_v[] = {{9}, {11}, {0}};
#define ANY .domain = "", .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128"
MRT_OP(NonZero) = {ANY,
                   .name = "NonZero",
                   .doc = "coordinates of elements that are not zero",
                   .in = "X:T",
                   .out = "Y:int64",
                   .versions = nonzero_v,
                   .flags = MRT_OP_DYNAMIC,
                   .infer = nonzero_infer,
                   .run = nonzero_run};
MRT_OP(Compress) = {ANY,
                    .name = "Compress",
                    .doc = "slices where a condition holds",
                    .in = "input:T, condition:bool",
                    .out = "output:T",
                    .attrs = "axis:int",
                    .versions = compress_v,
                    .flags = MRT_OP_DYNAMIC,
                    .infer = compress_infer,
                    .run = compress_run};
