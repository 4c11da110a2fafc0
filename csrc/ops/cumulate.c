/* CumSum and CumProd: running sums and products along an axis, inclusive or exclusive, from either
 * end. Half types are accumulated in float. */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/cumulate.inl"
#include "tensor/each_number.h"

typedef void (*line_fn)(const void *x, void *y, int64_t n, int64_t inner, bool prod, bool exclusive,
                        bool reverse);
static const line_fn table[MRT_DTYPE_COUNT] = {
    [MRT_FLOAT] = cumulate_f32, [MRT_DOUBLE] = cumulate_f64, [MRT_INT32] = cumulate_i32,
    [MRT_INT64] = cumulate_i64, [MRT_UINT32] = cumulate_u32, [MRT_UINT64] = cumulate_u64,
    [MRT_INT8] = cumulate_i8,   [MRT_INT16] = cumulate_i16,  [MRT_UINT8] = cumulate_u8,
    [MRT_UINT16] = cumulate_u16};

typedef struct job {
  const char *x;
  char *y;
  line_fn fn;
  int64_t n, inner, stride; /* stride: bytes of one [n, inner] */
  bool prod, exclusive, reverse;
} job;
static void blocks(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  for (int64_t o = begin; o < end; ++o)
    j->fn(j->x + o * j->stride, j->y + o * j->stride, j->n, j->inner, j->prod, j->exclusive,
          j->reverse);
}

static mrt_status *run(mrt_kctx *c, bool prod) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int64_t axis64, total = mrt_tensor_count(x);
  int axis;
  if (!y) return NULL;
  MRT_TRY(mrt_read_int(mrt_in(c, 1), "axis", &axis64));
  if (x->rank == 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Cannot apply %s on a scalar", c->node->op_type);
  MRT_TRY(mrt_fix_axis(axis64, x->rank, &axis));
  mrt_dtype d = (mrt_dtype)x->dtype;
  bool half = d == MRT_FLOAT16 || d == MRT_BFLOAT16;
  job j = {.x = x->data,
           .y = y->data,
           .fn = table[half ? MRT_FLOAT : d],
           .n = x->dims[axis],
           .inner = mrt_dims_product(x->dims, axis + 1, x->rank),
           .prod = prod,
           .exclusive = mrt_node_int(c->node, "exclusive") != 0,
           .reverse = mrt_node_int(c->node, "reverse") != 0};
  if (!j.fn) return mrt_no_type(c->node->op_type, d);
  if (!total) return NULL;
  void *wide = NULL, *sums = NULL;
  if (half) {
    MRT_TRY(mrt_scratch(c, (size_t)total * 4, &wide));
    MRT_TRY(mrt_scratch(c, (size_t)total * 4, &sums));
    mrt_convert_to_f32(d, x->data, 0, total, wide);
    j.x = wide;
    j.y = sums;
  }
  j.stride = j.n * j.inner * (half ? 4 : mrt_dtype_bits(d) / 8);
  mrt_par_range(&c->par, mrt_dims_product(x->dims, 0, axis), (double)(j.n * j.inner), blocks, &j);
  if (half) mrt_convert_from_f32(d, y->data, 0, total, sums);
  return NULL;
}
static mrt_status *sum_run(mrt_kctx *c) { return run(c, false); }
static mrt_status *prod_run(mrt_kctx *c) { return run(c, true); }

static const mrt_op_version sum_v[] = {{11}, {14}, {0}};
static const mrt_op_version prod_v[] = {{26}, {0}};
#define COMMON                                                           \
  .domain = "", .in = "x:T, axis:I", .out = "y:T",                       \
  .types = "T=" MRT_T_FLOATS ",uint32,uint64,int32,int64;I=int32,int64", \
  .attrs = "exclusive:int=0 reverse:int=0", .infer = mrt_infer_same_shape
MRT_OP(CumSum) = {COMMON, .name = "CumSum", .doc = "running sums", .versions = sum_v,
                  .run = sum_run};
MRT_OP(CumProd) = {COMMON, .name = "CumProd", .doc = "running products", .versions = prod_v,
                   .run = prod_run};
