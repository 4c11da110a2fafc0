/* TopK: the k largest or smallest along an axis with their indices, sorted (also when the model
 * does not ask for it). */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/topk.inl"
#include "tensor/each_number.h"

typedef void (*topk_fn)(const void *x, int64_t n, int64_t stride, int64_t k, bool largest,
                        void *heap, void *values, int64_t *index);
static const topk_fn table[MRT_DTYPE_COUNT] = {
    [MRT_FLOAT] = topk_f32,  [MRT_DOUBLE] = topk_f64, [MRT_INT8] = topk_i8,
    [MRT_INT16] = topk_i16,  [MRT_INT32] = topk_i32,  [MRT_INT64] = topk_i64,
    [MRT_UINT8] = topk_u8,   [MRT_UINT16] = topk_u16, [MRT_UINT32] = topk_u32,
    [MRT_UINT64] = topk_u64, [MRT_BOOL] = topk_u8};
#define ITEM 16 /* bytes of the widest heap item */

static mrt_status *infer(mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0), axis, n;
  int64_t v, d;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) {
    MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL));
    return mrt_infer_out(c, 1, MRT_INT64, -1, NULL);
  }
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int i = 0; i < rank; ++i) dims[i] = mrt_infer_dim(c, 0, i);
  const mrt_expr *const *k = mrt_infer_ints(c, 1, &n);
  if (k && n != 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "k tensor should be a 1D tensor of size 1");
  if (k && mrt_expr_is_const(k[0], &v)) {
    if (v < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "value of k must not be negative");
    if (mrt_expr_is_const(dims[axis], &d) && v > d)
      return MRT_ERR(MRT_INVALID_ARGUMENT,
                     "k argument [%lld] should not be greater than specified axis dim value [%lld]",
                     (long long)v, (long long)d);
  }
  dims[axis] = k ? k[0] : NULL;
  MRT_TRY(mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims));
  return mrt_infer_out(c, 1, MRT_INT64, rank, dims);
}

typedef struct job {
  const char *x;
  char *values;
  int64_t *index;
  char *heaps;
  topk_fn fn;
  size_t size;
  int64_t n, k, inner, lines, parts;
  bool largest;
} job;

static void chunk(void *arg, int64_t i, int worker) {
  const job *j = arg;
  int64_t end = mrt_par_begin(j->lines, j->parts, i + 1);
  char *heap = j->heaps + (size_t)worker * (size_t)j->k * ITEM;
  for (int64_t l = mrt_par_begin(j->lines, j->parts, i); l < end; ++l) {
    int64_t o = l / j->inner, r = l % j->inner, to = o * j->k * j->inner + r;
    j->fn(j->x + (size_t)(o * j->n * j->inner + r) * j->size, j->n, j->inner, j->k, j->largest,
          heap, j->values ? j->values + (size_t)to * j->size : NULL,
          j->index ? j->index + to : NULL);
  }
}

static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *values = mrt_out(c, 0), *index = mrt_out(c, 1), *some = values ? values : index;
  mrt_dtype d = (mrt_dtype)x->dtype;
  bool half = d == MRT_FLOAT16 || d == MRT_BFLOAT16;
  int axis;
  if (!some) return NULL;
  if (!x->rank) return MRT_ERR(MRT_INVALID_ARGUMENT, "TopK of a scalar");
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  job j = {.x = x->data,
           .values = values ? values->data : NULL,
           .index = index ? index->data : NULL,
           .fn = table[half ? MRT_FLOAT : d],
           .size = half ? 4 : (size_t)mrt_dtype_bits(d) / 8,
           .n = x->dims[axis],
           .k = some->dims[axis],
           .inner = mrt_dims_product(x->dims, axis + 1, x->rank),
           .largest = mrt_node_int(c->node, "largest") != 0};
  if (!j.fn) return mrt_no_type("TopK", d);
  if (j.k > j.n)
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "k argument [%lld] should not be greater than specified axis dim value [%lld]",
                   (long long)j.k, (long long)j.n);
  j.lines = mrt_dims_product(x->dims, 0, axis) * j.inner;
  int64_t total = mrt_tensor_count(x), made = mrt_tensor_count(some);
  if (!made) return NULL;
  void *wide = NULL, *out = NULL, *heaps;
  if (half) {
    MRT_TRY(mrt_scratch(c, (size_t)total * 4, &wide));
    MRT_TRY(mrt_scratch(c, (size_t)made * 4, &out));
    mrt_convert_to_f32(d, x->data, 0, total, wide);
    j.x = wide;
    if (values) j.values = out;
  }
  size_t bytes;
  if (!mrt_size_mul((size_t)mrt_par_workers(&c->par) * ITEM, (size_t)j.k, &bytes))
    return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, &heaps));
  j.heaps = heaps;
  j.parts = mrt_par_chunks(j.lines, (double)total * 2);
  mrt_par_run(&c->par, j.parts, chunk, &j);
  if (half && values) mrt_convert_from_f32(d, values->data, 0, made, out);
  return NULL;
}
static mrt_status *up1(mrt_node *node) { return mrt_node_attr_to_input(node, "k", 1); }

static const mrt_op_version versions[] = {{1, up1}, {10}, {11}, {24}, {0}};
MRT_OP(TopK) = {.domain = "",
                .name = "TopK",
                .doc = "the k largest or smallest along an axis",
                .in = "X:T, K:int64",
                .out = "Values:T?, Indices:int64?",
                .types = "T=" MRT_T_NUMERIC,
                .attrs = "axis:int=-1 largest:int=1 sorted:int=1",
                .versions = versions,
                .infer = infer,
                .run = run};
