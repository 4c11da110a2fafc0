/* com.microsoft: QLinearAdd, QLinearMul, QLinearSigmoid, QLinearLeakyRelu, QLinearConcat,
 * QLinearGlobalAveragePool, QLinearSoftmax. Functions of one byte are tables of 256 entries. */
#include "ops/qlinear.h"

mrt_status *mrt_quant_bounds(const mrt_node *node, mrt_dtype dtype, int32_t *lo, int32_t *hi) {
  if (!mrt_quant_range(dtype, lo, hi)) return mrt_no_type(node->op_type, dtype);
  const mrt_attr *a = mrt_node_attr(node, "lo"), *b = mrt_node_attr(node, "hi");
  if (a && a->i > *lo) *lo = a->i < *hi ? (int32_t)a->i : *hi;
  if (b && b->i < *hi) *hi = b->i > *lo ? (int32_t)b->i : *lo;
  return NULL;
}

static int32_t byte_at(const mrt_tensor *t, int64_t i) {
  const uint8_t v = ((const uint8_t *)t->data)[i];
  return t->dtype == MRT_INT8 ? (int8_t)v : v;
}
static void put_byte(const mrt_tensor *t, int64_t i, int32_t v) {
  ((uint8_t *)t->data)[i] = (uint8_t)v;
}
static mrt_status *one_element(const mrt_kctx *c, int first, int n) {
  for (int i = first; i < first + n; ++i)
    if (mrt_in(c, i) && mrt_tensor_count(mrt_in(c, i)) != 1)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: input %d must be a scalar", c->node->op_type, i);
  return NULL;
}

/* ---- QLinearAdd, QLinearMul ---- */
mrt_status *mrt_qbinary_read(const mrt_kctx *c, mrt_qbinary_params *p) {
  MRT_TRY(one_element(c, 1, 2));
  MRT_TRY(one_element(c, 4, 4));
  const float as = mrt_scalar_f32(mrt_in(c, 1), 1), bs = mrt_scalar_f32(mrt_in(c, 4), 1),
              cs = mrt_scalar_f32(mrt_in(c, 6), 1);
  *p = (mrt_qbinary_params){.mul = strcmp(c->node->op_type, "QLinearMul") == 0,
                            .a_zero = mrt_scalar_i32(mrt_in(c, 2), 0),
                            .b_zero = mrt_scalar_i32(mrt_in(c, 5), 0),
                            .c_zero = mrt_scalar_i32(mrt_in(c, 7), 0)};
  p->ra = p->mul ? as * bs / cs : as / cs;
  p->rb = bs / cs;
  return mrt_quant_bounds(c->node, (mrt_dtype)mrt_in(c, 0)->dtype, &p->lo, &p->hi);
}

typedef struct binary_job {
  const mrt_tensor *a, *b;
  mrt_tensor *y;
  const mrt_bcast *bc;
  mrt_qbinary_params p;
} binary_job;
static void binary_row(void *arg, const int64_t *off, int64_t out, int64_t n) {
  const binary_job *j = arg;
  const mrt_qbinary_params *p = &j->p;
  const int last = j->bc->rank - 1;
  for (int64_t i = 0; i < n; ++i) {
    const float a = (float)(byte_at(j->a, off[0] + i * j->bc->strides[0][last]) - p->a_zero),
                b = (float)(byte_at(j->b, off[1] + i * j->bc->strides[1][last]) - p->b_zero);
    const float v = p->mul ? a * b * p->ra : mrt_qsum(a, p->ra, b, p->rb);
    put_byte(j->y, out + i, mrt_quant_value(v, 1, p->c_zero, p->lo, p->hi));
  }
}
mrt_status *mrt_qbinary_run(mrt_kctx *c) {
  mrt_bcast bc;
  binary_job j = {.a = mrt_in(c, 0), .b = mrt_in(c, 3), .y = mrt_out(c, 0), .bc = &bc};
  if (!j.y) return NULL;
  MRT_TRY(mrt_qbinary_read(c, &j.p));
  const mrt_tensor *in[2] = {j.a, j.b};
  MRT_TRY(mrt_bcast_init(&bc, 2, in, j.y->rank, j.y->dims));
  mrt_bcast_each_row(&bc, binary_row, &j);
  return NULL;
}
/* The broadcast of inputs 0 and 3. */
mrt_status *mrt_qbinary_infer(mrt_infer *c) {
  const mrt_type *types[2] = {c->in_types[0], c->n_in > 3 ? c->in_types[3] : NULL};
  const mrt_expr *dims[MRT_MAX_RANK];
  mrt_infer pair = *c;
  int rank;
  if (!types[0] || !types[1]) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
  pair.in_types = types;
  pair.n_in = 2;
  MRT_TRY(mrt_infer_broadcast(&pair, 0, 2, &rank, dims));
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}

/* ---- functions of one byte ---- */
static float identity(float x, float alpha) {
  (void)alpha;
  return x;
}
static float sigmoid(float x, float alpha) {
  (void)alpha;
  return 1 / (1 + expf(-x));
}
static float leaky(float x, float alpha) { return x < 0 ? alpha * x : x; }

/* table[byte] = quantised f(dequantised byte). */
static void fill_table(uint8_t *table, mrt_dtype in, float xs, int32_t xz, mrt_dtype out, float ys,
                       int32_t yz, float (*f)(float, float), float alpha) {
  int32_t lo = 0, hi = 0;
  mrt_quant_range(out, &lo, &hi);
  for (int i = 0; i < 256; ++i) {
    const int32_t q = in == MRT_INT8 ? (int8_t)i : i;
    table[i] = (uint8_t)mrt_quant_value(f((float)(q - xz) * xs, alpha), ys, yz, lo, hi);
  }
}
typedef struct table_job {
  const uint8_t *x;
  uint8_t *y;
  uint8_t table[256];
} table_job;
static void look_up(void *arg, int64_t begin, int64_t end) {
  const table_job *j = arg;
  for (int64_t i = begin; i < end; ++i) j->y[i] = j->table[j->x[i]];
}
static mrt_status *unary_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  table_job j;
  if (!y) return NULL;
  MRT_TRY(one_element(c, 1, 4));
  j.x = x->data;
  j.y = y->data;
  fill_table(j.table, (mrt_dtype)x->dtype, mrt_scalar_f32(mrt_in(c, 1), 1),
             mrt_scalar_i32(mrt_in(c, 2), 0), (mrt_dtype)y->dtype, mrt_scalar_f32(mrt_in(c, 3), 1),
             mrt_scalar_i32(mrt_in(c, 4), 0),
             strcmp(c->node->op_type, "QLinearSigmoid") == 0 ? sigmoid : leaky,
             mrt_node_float(c->node, "alpha"));
  mrt_par_range(&c->par, mrt_tensor_count(x), 0.5, look_up, &j);
  return NULL;
}

/* ---- QLinearConcat: Y_scale, Y_zero_point, (tensor, scale, zero point)* ---- */
static mrt_status *concat_infer(mrt_infer *c) {
  const int rank = mrt_infer_rank(c, 2);
  const mrt_expr *dims[MRT_MAX_RANK];
  int axis;
  mrt_dtype t = mrt_infer_dtype(c, 1);
  if (c->n_in < 5 || (c->n_in - 2) % 3)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "QLinearConcat: inputs must come in threes");
  if (rank < 0) return mrt_infer_out(c, 0, t, -1, NULL);
  MRT_TRY(mrt_infer_axis(c, mrt_node_int(c->node, "axis"), rank, &axis));
  for (int d = 0; d < rank; ++d) dims[d] = mrt_infer_dim(c, 2, d);
  for (int i = 5; i < c->n_in; i += 3) {
    if (mrt_infer_rank(c, i) < 0) return mrt_infer_out(c, 0, t, -1, NULL);
    if (mrt_infer_rank(c, i) != rank)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "QLinearConcat: inputs of different ranks");
    for (int d = 0; d < rank; ++d)
      if (d == axis)
        dims[d] = mrt_expr_add(c->sym, dims[d], mrt_infer_dim(c, i, d));
      else
        MRT_TRY(mrt_infer_same_dim(c, dims[d], mrt_infer_dim(c, i, d), "dims", &dims[d]));
  }
  return mrt_infer_out(c, 0, t, rank, dims);
}
static mrt_status *concat_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  int64_t at = 0;
  if (!y) return NULL;
  MRT_TRY(one_element(c, 0, 2));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), y->rank, &axis));
  const int64_t outer = mrt_dims_product(y->dims, 0, axis),
                whole = mrt_dims_product(y->dims, axis, y->rank);
  for (int i = 2; i + 2 < c->n_in; i += 3) {
    const mrt_tensor *x = mrt_in(c, i);
    MRT_TRY(one_element(c, i + 1, 2));
    const int64_t piece = mrt_dims_product(x->dims, axis, x->rank);
    if (x->dtype != MRT_INT8 && x->dtype != MRT_UINT8)
      return mrt_no_type("QLinearConcat", x->dtype);
    if (mrt_tensor_count(x) != outer * piece || at + piece > whole)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "QLinearConcat: input %d does not fit", i);
    table_job j;
    fill_table(j.table, (mrt_dtype)x->dtype, mrt_scalar_f32(mrt_in(c, i + 1), 1),
               mrt_scalar_i32(mrt_in(c, i + 2), 0), (mrt_dtype)y->dtype,
               mrt_scalar_f32(mrt_in(c, 0), 1), mrt_scalar_i32(mrt_in(c, 1), 0), identity, 0);
    for (int64_t o = 0; o < outer; ++o) {
      j.x = (const uint8_t *)x->data + o * piece;
      j.y = (uint8_t *)y->data + o * whole + at;
      look_up(&j, 0, piece);
    }
    at += piece;
  }
  return NULL;
}

/* ---- QLinearGlobalAveragePool ---- */
static mrt_status *pool_infer(mrt_infer *c) {
  const int rank = mrt_infer_rank(c, 0);
  const bool last = mrt_node_int(c->node, "channels_last") != 0;
  const mrt_expr *dims[MRT_MAX_RANK];
  if (rank < 0) return mrt_infer_out_like(c, 0, 0, MRT_UNDEFINED);
  if (rank < 3) return MRT_ERR(MRT_FAIL, "%s: rank %d", c->node->op_type, rank);
  for (int i = 0; i < rank; ++i)
    dims[i] =
        i == 0 || i == (last ? rank - 1 : 1) ? mrt_infer_dim(c, 0, i) : mrt_expr_const(c->sym, 1);
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), rank, dims);
}
static mrt_status *pool_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int32_t lo, hi;
  if (!y) return NULL;
  MRT_TRY(one_element(c, 1, 4));
  MRT_TRY(mrt_quant_bounds(c->node, (mrt_dtype)y->dtype, &lo, &hi));
  const bool last = mrt_node_int(c->node, "channels_last") != 0;
  const int64_t channels = x->dims[last ? x->rank - 1 : 1], n = x->dims[0],
                area = last ? mrt_dims_product(x->dims, 1, x->rank - 1)
                            : mrt_dims_product(x->dims, 2, x->rank);
  const int32_t xz = mrt_scalar_i32(mrt_in(c, 2), 0), yz = mrt_scalar_i32(mrt_in(c, 4), 0);
  const float scale =
      mrt_scalar_f32(mrt_in(c, 1), 1) / ((float)area * mrt_scalar_f32(mrt_in(c, 3), 1));
  for (int64_t i = 0; i < n * channels; ++i) {
    const int64_t base = last ? i / channels * area * channels + i % channels : i * area,
                  step = last ? channels : 1;
    int64_t sum = 0;
    for (int64_t k = 0; k < area; ++k) sum += byte_at(x, base + k * step) - xz;
    put_byte(y, i, mrt_quant_value((float)sum * scale, 1, yz, lo, hi));
  }
  return NULL;
}

/* ---- QLinearSoftmax: before opset 13 over all dims from the axis on ---- */
static mrt_status *softmax_run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  int axis;
  int32_t lo, hi;
  if (!y) return NULL;
  MRT_TRY(one_element(c, 1, 4));
  MRT_TRY(mrt_quant_bounds(c->node, (mrt_dtype)y->dtype, &lo, &hi));
  MRT_TRY(mrt_fix_axis(mrt_node_int(c->node, "axis"), x->rank, &axis));
  const bool old = mrt_node_int(c->node, "opset") < 13;
  const int64_t n = old       ? mrt_dims_product(x->dims, axis, x->rank)
                    : x->rank ? x->dims[axis]
                              : 1,
                inner = old ? 1 : mrt_dims_product(x->dims, axis + 1, x->rank),
                rows = n ? mrt_tensor_count(x) / n : 0;
  const float xs = mrt_scalar_f32(mrt_in(c, 1), 1), ys = mrt_scalar_f32(mrt_in(c, 3), 1);
  const int32_t yz = mrt_scalar_i32(mrt_in(c, 4), 0);
  float e[511];
  for (int i = 0; i < 511; ++i) e[i] = expf((float)(i - 510) * xs); /* of x - max */
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t base = r / inner * n * inner + r % inner;
    int32_t top = -128;
    float sum = 0;
    for (int64_t k = 0; k < n; ++k)
      top = byte_at(x, base + k * inner) > top ? byte_at(x, base + k * inner) : top;
    for (int64_t k = 0; k < n; ++k) sum += e[byte_at(x, base + k * inner) - top + 510];
    for (int64_t k = 0; k < n; ++k)
      put_byte(y, base + k * inner,
               mrt_quant_value(e[byte_at(x, base + k * inner) - top + 510] / sum, ys, yz, lo, hi));
  }
  return NULL;
}

static const mrt_op_version v1[] = {{1}, {0}};
#define MS    .domain = "com.microsoft", .versions = v1
#define BYTES .types = "T=int8,uint8;S=float"
#define BINARY                                                                        \
  .in =                                                                               \
      "A:T, A_scale:S, A_zero_point:T?, B:T, B_scale:S, B_zero_point:T?, C_scale:S, " \
      "C_zero_point:T?",                                                              \
  .out = "C:T", BYTES, .infer = mrt_qbinary_infer, .run = mrt_qbinary_run
#define UNARY \
  .in = "X:T, X_scale:S, X_zero_point:T?, Y_scale:S, Y_zero_point:T?", .out = "Y:T", BYTES
MRT_OP_IN(ms, QLinearAdd) = {MS, BINARY, .name = "QLinearAdd",
                             .doc = "A + B of quantised numbers, quantised again"};
MRT_OP_IN(ms, QLinearMul) = {MS, BINARY, .name = "QLinearMul",
                             .doc = "A * B of quantised numbers, quantised again"};
MRT_OP_IN(ms, QLinearSigmoid) = {MS,
                                 UNARY,
                                 .name = "QLinearSigmoid",
                                 .doc = "sigmoid of quantised numbers",
                                 .infer = mrt_infer_same_shape,
                                 .run = unary_run};
MRT_OP_IN(ms, QLinearLeakyRelu) = {MS,
                                   UNARY,
                                   .name = "QLinearLeakyRelu",
                                   .doc = "LeakyRelu of quantised numbers",
                                   .attrs = "alpha:float=0.01",
                                   .infer = mrt_infer_same_shape,
                                   .run = unary_run};
MRT_OP_IN(ms, QLinearSoftmax) = {MS,
                                 UNARY,
                                 .name = "QLinearSoftmax",
                                 .doc = "softmax of quantised numbers",
                                 .attrs = "axis:int=-1 opset:int!",
                                 .infer = mrt_infer_same_shape,
                                 .run = softmax_run};
MRT_OP_IN(ms, QLinearConcat) = {MS,
                                .name = "QLinearConcat",
                                .doc = "Concat of numbers that are brought to one scale",
                                .in = "Y_scale:S, Y_zero_point:T, inputs:any**",
                                .out = "Y:T",
                                BYTES,
                                .attrs = "axis:int!",
                                .infer = concat_infer,
                                .run = concat_run};
MRT_OP_IN(ms, QLinearGlobalAveragePool) = {MS,
                                           UNARY,
                                           .name = "QLinearGlobalAveragePool",
                                           .doc = "mean over the image of quantised numbers",
                                           .attrs = "channels_last:int=0",
                                           .infer = pool_infer,
                                           .run = pool_run};
