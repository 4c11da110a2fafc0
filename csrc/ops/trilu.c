/* Trilu and EyeLike: matrices that are zero on one side of a diagonal, or off it. */
#include "ops/common.h"

static mrt_status *trilu_infer(mrt_infer *c) {
  if (mrt_infer_rank(c, 0) >= 0 && mrt_infer_rank(c, 0) < 2)
    return MRT_ERR(MRT_FAIL, "Input rank must be >= 2.");
  return mrt_infer_same_shape(c);
}

typedef struct trilu {
  const char *x;
  char *y;
  size_t size;
  int64_t h, w, k;
  bool upper;
} trilu;

/* Rows [begin, end) of all matrices: each keeps one stretch. */
static void trilu_rows(void *arg, int64_t begin, int64_t end) {
  const trilu *t = arg;
  for (int64_t r = begin; r < end; ++r) {
    int64_t i = r % t->h, w = t->w, at = t->k >= w - i ? w : i + t->k < 0 ? 0 : i + t->k;
    int64_t lo = 0, hi = w;
    if (t->upper)
      lo = at;
    else /* up to and with the diagonal */
      hi = t->k >= w - i ? w : i + t->k < 0 ? 0 : i + t->k + 1;
    const char *x = t->x + (size_t)(r * w) * t->size;
    char *y = t->y + (size_t)(r * w) * t->size;
    memset(y, 0, (size_t)lo * t->size);
    if (x != y)
      memcpy(y + (size_t)lo * t->size, x + (size_t)lo * t->size, (size_t)(hi - lo) * t->size);
    memset(y + (size_t)hi * t->size, 0, (size_t)(w - hi) * t->size);
  }
}

static mrt_status *trilu_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  trilu t = {.upper = mrt_node_int(c->node, "upper") != 0};
  if (!y) return NULL;
  if (x->rank < 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Input tensor should have a rank of at least 2");
  MRT_TRY(mrt_elem_size(c, x, &t.size));
  if (mrt_in(c, 1)) MRT_TRY(mrt_read_int(mrt_in(c, 1), "k", &t.k));
  t.x = x->data;
  t.y = y->data;
  t.h = x->dims[x->rank - 2];
  t.w = x->dims[x->rank - 1];
  if (t.k > t.w) t.k = t.w; /* all such diagonals say the same */
  if (t.k < -t.h) t.k = -t.h;
  if (mrt_tensor_count(x))
    mrt_par_range(&c->par, mrt_dims_product(x->dims, 0, x->rank - 1), (double)t.w * 0.3, trilu_rows,
                  &t);
  mrt_tensor_retain_strings(y);
  return NULL;
}

static mrt_dtype eye_dtype(const mrt_node *n, mrt_dtype in) {
  return mrt_node_attr(n, "dtype") ? (mrt_dtype)mrt_node_int(n, "dtype") : in;
}
static mrt_status *eye_infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  if (mrt_node_attr(c->node, "dtype") && !mrt_dtype_valid((int)mrt_node_int(c->node, "dtype")))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "dtype %lld", (long long)mrt_node_int(c->node, "dtype"));
  if (rank >= 0 && rank != 2) return MRT_ERR(MRT_FAIL, "EyeLike : Input tensor dimension is not 2");
  return mrt_infer_out_like(c, 0, 0, eye_dtype(c->node, mrt_infer_dtype(c, 0)));
}
static mrt_status *eye_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t k = mrt_node_int(c->node, "k"), h = y->dims[0], w = y->dims[1];
  mrt_dtype d = (mrt_dtype)y->dtype;
  if (d == MRT_STRING || d == MRT_COMPLEX64 || d == MRT_COMPLEX128 || mrt_dtype_bits(d) < 8)
    return mrt_no_type("EyeLike", d);
  memset(y->data, 0, y->bytes);
  for (int64_t i = k < 0 ? (k < -h ? h : -k) : 0; i < h && k < w - i; ++i)
    mrt_elem_set_f64(d, y->data, i * w + i + k, 1);
  return NULL;
}

static const mrt_op_version trilu_v[] = {{14}, {0}};
static const mrt_op_version eye_v[] = {{9}, {22}, {0}};
MRT_OP(Trilu) = {.domain = "",
                 .name = "Trilu",
                 .doc = "the upper or lower triangle of matrices",
                 .in = "input:T, k:int64?",
                 .out = "output:T",
                 .types = "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128",
                 .attrs = "upper:int=1",
                 .versions = trilu_v,
                 .infer = trilu_infer,
                 .run = trilu_run};
MRT_OP(EyeLike) = {.domain = "",
                   .name = "EyeLike",
                   .doc = "ones on a diagonal",
                   .in = "input:T",
                   .out = "output:U",
                   .types = "T=" MRT_T_NUMERIC ",bool;U=" MRT_T_NUMERIC ",bool",
                   .attrs = "dtype:int k:int=0",
                   .versions = eye_v,
                   .infer = eye_infer,
                   .run = eye_run};
