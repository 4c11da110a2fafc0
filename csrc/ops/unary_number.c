/* Relu, Neg, Abs, Sign: functions of one tensor of any number type; Not, IsNaN, IsInf. */
#include "ops/common.h"

#define MRT_TEMPLATE "ops/unary_number.inl"
#include "tensor/each_number.h"

typedef void (*unary_fn)(const void *x, void *y, int64_t n);
#define TABLE(f)                                                       \
  {                                                                    \
    [MRT_FLOAT] = (unary_fn)f##_f32, [MRT_DOUBLE] = (unary_fn)f##_f64, \
    [MRT_INT8] = (unary_fn)f##_i8, [MRT_INT16] = (unary_fn)f##_i16,    \
    [MRT_INT32] = (unary_fn)f##_i32, [MRT_INT64] = (unary_fn)f##_i64,  \
    [MRT_UINT8] = (unary_fn)f##_u8, [MRT_UINT16] = (unary_fn)f##_u16,  \
    [MRT_UINT32] = (unary_fn)f##_u32, [MRT_UINT64] = (unary_fn)f##_u64 \
  }
static const unary_fn relu_table[MRT_DTYPE_COUNT] = TABLE(relu);
static const unary_fn neg_table[MRT_DTYPE_COUNT] = TABLE(neg);
static const unary_fn abs_table[MRT_DTYPE_COUNT] = TABLE(absolute);
static const unary_fn sign_table[MRT_DTYPE_COUNT] = TABLE(sign);

typedef struct job {
  unary_fn fn;
  const mrt_tensor *x;
  mrt_tensor *y;
  size_t size;
} job;
static void part(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  if (j->size) {
    j->fn((const char *)j->x->data + (size_t)begin * j->size,
          (char *)j->y->data + (size_t)begin * j->size, end - begin);
    return;
  }
  float b[256];
  for (int64_t i = begin; i < end; i += 256) { /* half types through float */
    int64_t n = end - i < 256 ? end - i : 256;
    mrt_convert_to_f32((mrt_dtype)j->x->dtype, j->x->data, i, n, b);
    j->fn(b, b, n);
    mrt_convert_from_f32((mrt_dtype)j->y->dtype, j->y->data, i, n, b);
  }
}
static mrt_status *run_table(mrt_kctx *c, const unary_fn *table) {
  job j = {.x = mrt_in(c, 0), .y = mrt_out(c, 0)};
  if (!j.y) return NULL;
  mrt_dtype t = (mrt_dtype)j.x->dtype;
  bool half = t == MRT_FLOAT16 || t == MRT_BFLOAT16;
  j.fn = half ? table[MRT_FLOAT] : table[t];
  j.size = half ? 0 : (size_t)mrt_dtype_bits(t) / 8;
  if (!j.fn) return mrt_no_type(c->node->op_type, t);
  mrt_par_range(&c->par, mrt_tensor_count(j.x), 0.3, part, &j);
  return NULL;
}
static mrt_status *relu_run(mrt_kctx *c) { return run_table(c, relu_table); }
static mrt_status *neg_run(mrt_kctx *c) { return run_table(c, neg_table); }
static mrt_status *abs_run(mrt_kctx *c) { return run_table(c, abs_table); }
static mrt_status *sign_run(mrt_kctx *c) { return run_table(c, sign_table); }

static mrt_status *drop_legacy(mrt_node *node) {
  mrt_node_del_attr(node, "consumed_inputs");
  return NULL;
}
static const mrt_op_version v14[] = {{1, drop_legacy}, {6}, {13}, {14}, {0}};
static const mrt_op_version v13[] = {{1, drop_legacy}, {6}, {13}, {0}};
static const mrt_op_version v9[] = {{9}, {13}, {0}};
#define ROW                                                             \
  .domain = "", .in = "X:T", .out = "Y:T", .types = "T=" MRT_T_NUMERIC, \
  .flags = MRT_OP_ELEMENTWISE, .inplace = {{1, 0}}, .infer = mrt_infer_same_shape
MRT_OP(Relu) = {ROW, .name = "Relu", .doc = "max(x, 0)", .versions = v14, .run = relu_run};
MRT_OP(Neg) = {ROW, .name = "Neg", .doc = "-x", .versions = v13, .run = neg_run};
MRT_OP(Abs) = {ROW, .name = "Abs", .doc = "|x|", .versions = v13, .run = abs_run};
MRT_OP(Sign) = {ROW, .name = "Sign", .doc = "-1, 0 or 1", .versions = v9, .run = sign_run};

static mrt_status *not_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i) ((uint8_t *)y->data)[i] = !((const uint8_t *)x->data)[i];
  return NULL;
}
static const mrt_op_version v1[] = {{1}, {0}};
MRT_OP(Not) = {.domain = "",
               .name = "Not",
               .doc = "logical not",
               .in = "X:bool",
               .out = "Y:bool",
               .versions = v1,
               .flags = MRT_OP_ELEMENTWISE,
               .infer = mrt_infer_same_shape,
               .run = not_run};

static mrt_status *bool_infer(mrt_infer *c) { return mrt_infer_out_like(c, 0, 0, MRT_BOOL); }
static mrt_status *isnan_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t n = mrt_tensor_count(x);
  for (int64_t i = 0; i < n; ++i)
    ((uint8_t *)y->data)[i] = isnan(mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, i)) != 0;
  return NULL;
}
static mrt_status *isinf_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  int64_t n = mrt_tensor_count(x);
  bool pos = mrt_node_int(c->node, "detect_positive") != 0;
  bool neg = mrt_node_int(c->node, "detect_negative") != 0;
  for (int64_t i = 0; i < n; ++i) {
    double v = mrt_elem_get_f64((mrt_dtype)x->dtype, x->data, i);
    ((uint8_t *)y->data)[i] = isinf(v) && (v > 0 ? pos : neg);
  }
  return NULL;
}
static const mrt_op_version isnan_v[] = {{9}, {13}, {20}, {0}};
static const mrt_op_version isinf_v[] = {{10}, {20}, {0}};
MRT_OP(IsNaN) = {.domain = "",
                 .name = "IsNaN",
                 .doc = "is x not a number",
                 .in = "X:T",
                 .out = "Y:bool",
                 .types = "T=" MRT_T_FLOATS "," MRT_T_FLOAT8,
                 .versions = isnan_v,
                 .flags = MRT_OP_ELEMENTWISE,
                 .infer = bool_infer,
                 .run = isnan_run};
MRT_OP(IsInf) = {.domain = "",
                 .name = "IsInf",
                 .doc = "is x infinite",
                 .in = "X:T",
                 .out = "Y:bool",
                 .types = "T=" MRT_T_FLOATS "," MRT_T_FLOAT8,
                 .attrs = "detect_negative:int=1 detect_positive:int=1",
                 .versions = isinf_v,
                 .flags = MRT_OP_ELEMENTWISE,
                 .infer = bool_infer,
                 .run = isinf_run};
