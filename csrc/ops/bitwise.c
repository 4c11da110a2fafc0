/* BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot, BitShift on integers; BitCast: the same bits read
 * as another type. */
#include "ops/binary.h"

#define MRT_TEMPLATE "ops/bitwise.inl"
#include "tensor/each_int.h"

#define UNSIGNED(f)                                                 \
  [MRT_UINT8] = (mrt_row2)f##_u8, [MRT_UINT16] = (mrt_row2)f##_u16, \
  [MRT_UINT32] = (mrt_row2)f##_u32, [MRT_UINT64] = (mrt_row2)f##_u64
#define SIGNED(f)                                                                                  \
  [MRT_INT8] = (mrt_row2)f##_i8, [MRT_INT16] = (mrt_row2)f##_i16, [MRT_INT32] = (mrt_row2)f##_i32, \
  [MRT_INT64] = (mrt_row2)f##_i64
static const mrt_row2 and_table[MRT_DTYPE_COUNT] = {UNSIGNED(band), SIGNED(band)};
static const mrt_row2 or_table[MRT_DTYPE_COUNT] = {UNSIGNED(bor), SIGNED(bor)};
static const mrt_row2 xor_table[MRT_DTYPE_COUNT] = {UNSIGNED(bxor), SIGNED(bxor)};
static const mrt_row2 left_table[MRT_DTYPE_COUNT] = {UNSIGNED(lshift), SIGNED(lshift)};
static const mrt_row2 right_table[MRT_DTYPE_COUNT] = {UNSIGNED(rshift), SIGNED(rshift)};

static mrt_status *and_run(mrt_kctx *c) { return mrt_run_pair(c, and_table); }
static mrt_status *or_run(mrt_kctx *c) { return mrt_run_pair(c, or_table); }
static mrt_status *xor_run(mrt_kctx *c) { return mrt_run_pair(c, xor_table); }

static mrt_status *shift_run(mrt_kctx *c) {
  const char *d = mrt_node_str(c->node, "direction");
  if (strcmp(d, "LEFT") == 0) return mrt_run_pair(c, left_table);
  if (strcmp(d, "RIGHT") == 0) return mrt_run_pair(c, right_table);
  return MRT_ERR(MRT_INVALID_ARGUMENT,
                 "Invalid direction value of '%s'. Valid values are 'LEFT' or 'RIGHT'.", d);
}

static mrt_status *not_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  const uint8_t *from = x->data;
  uint8_t *to = y->data;
  for (size_t i = 0; i < x->bytes; ++i) to[i] = (uint8_t)~from[i];
  return NULL;
}

static mrt_status *cast_infer(mrt_infer *c) {
  int64_t to = mrt_node_int(c->node, "to");
  mrt_dtype d = mrt_infer_dtype(c, 0);
  if (to <= 0 || to >= MRT_DTYPE_COUNT || !mrt_dtype_valid((int)to) || to == MRT_STRING)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "BitCast to type %lld", (long long)to);
  if (d && mrt_dtype_bits(d) != mrt_dtype_bits((mrt_dtype)to))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "BitCast from %s to %s: the sizes differ",
                   mrt_dtype_name(d), mrt_dtype_name((mrt_dtype)to));
  return mrt_infer_out_like(c, 0, 0, (mrt_dtype)to);
}
static mrt_status *cast_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y) return NULL;
  if (x->bytes != y->bytes || x->dtype == MRT_STRING)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "BitCast: the sizes differ");
  if (x->bytes && x->data != y->data) memcpy(y->data, x->data, x->bytes);
  return NULL;
}

static const mrt_op_version bitwise_v[] = {{18}, {0}};
static const mrt_op_version shift_v[] = {{11}, {0}};
static const mrt_op_version cast_v[] = {{26}, {0}};
#define PAIR                                                                                     \
  .domain = "", .in = "A:T, B:T", .out = "C:T", .types = "T=" MRT_T_INTS, .versions = bitwise_v, \
  .flags = MRT_OP_ELEMENTWISE, .inplace = {{1, 0}, {2, 0}}, .infer = mrt_infer_elementwise
MRT_OP(BitwiseAnd) = {PAIR, .name = "BitwiseAnd", .doc = "a & b", .run = and_run};
MRT_OP(BitwiseOr) = {PAIR, .name = "BitwiseOr", .doc = "a | b", .run = or_run};
MRT_OP(BitwiseXor) = {PAIR, .name = "BitwiseXor", .doc = "a ^ b", .run = xor_run};
MRT_OP(BitwiseNot) = {.domain = "",
                      .name = "BitwiseNot",
                      .doc = "~x",
                      .in = "X:T",
                      .out = "Y:T",
                      .types = "T=" MRT_T_INTS,
                      .versions = bitwise_v,
                      .flags = MRT_OP_ELEMENTWISE,
                      .inplace = {{1, 0}},
                      .infer = mrt_infer_same_shape,
                      .run = not_run};
MRT_OP(BitShift) = {.domain = "",
                    .name = "BitShift",
                    .doc = "x << y or x >> y",
                    .in = "X:T, Y:T",
                    .out = "Z:T",
                    .types = "T=uint8,uint16,uint32,uint64",
                    .attrs = "direction:string!",
                    .versions = shift_v,
                    .flags = MRT_OP_ELEMENTWISE,
                    .infer = mrt_infer_elementwise,
                    .run = shift_run};
MRT_OP(BitCast) = {.domain = "",
                   .name = "BitCast",
                   .doc = "the same bits as another type",
                   .in = "input:T",
                   .out = "output:U",
                   .types = "T=" MRT_T_ANY ";U=" MRT_T_ANY,
                   .attrs = "to:int!",
                   .versions = cast_v,
                   .infer = cast_infer,
                   .run = cast_run};
