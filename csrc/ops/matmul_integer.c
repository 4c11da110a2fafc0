/* MatMulInteger, QLinearMatMul and com.microsoft's QGemm, MatMulIntegerToFloat and
 * DynamicQuantizeMatMul: one integer product, five ways to say what becomes of its sums. */
#include "ops/matmul_integer.h"

static const mrt_iproduct_parts all[] = {
    /*                        a  as  az  b  bs  bz  ys  yz bias */
    {"MatMulInteger", 0, -1, 2, 1, -1, 3, -1, -1, -1, false},
    {"QLinearMatMul", 0, 1, 2, 3, 4, 5, 6, 7, -1, false},
    {"QGemm", 0, 1, 2, 3, 4, 5, 7, 8, 6, false},
    {"MatMulIntegerToFloat", 0, 2, 4, 1, 3, 5, -1, -1, 6, false},
    {"DynamicQuantizeMatMul", 0, -1, -1, 1, 2, 3, -1, -1, 4, true},
};
const mrt_iproduct_parts *mrt_iproduct_find(const char *op_type) {
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
    if (strcmp(all[i].op, op_type) == 0) return &all[i];
  return NULL;
}

static const mrt_tensor *part(const mrt_kctx *c, int i) { return i < 0 ? NULL : mrt_in(c, i); }

/* Zero points and scales: one, one per row (column), or one per row (column) of every matrix. */
static mrt_status *check_count(const mrt_tensor *t, int64_t n, int64_t batches, const char *what) {
  int64_t count = t ? mrt_tensor_count(t) : 1;
  if (count == 1 || count == n || count == n * batches) return NULL;
  return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %lld elements; 1 or %lld are needed", what,
                 (long long)count, (long long)n);
}

mrt_status *mrt_iproduct_read(mrt_kctx *c, const mrt_iproduct_parts *q, mrt_iproduct *p) {
  *p = (mrt_iproduct){.a = part(c, q->a),
                      .a_scale = part(c, q->a_scale),
                      .a_zero = part(c, q->a_zero),
                      .b = part(c, q->b),
                      .b_scale = part(c, q->b_scale),
                      .b_zero = part(c, q->b_zero),
                      .y_scale = part(c, q->y_scale),
                      .y_zero = part(c, q->y_zero),
                      .bias = part(c, q->bias),
                      .y = mrt_out(c, 0),
                      .alpha = 1};
  static const int64_t none = 0;
  if (!p->y) return NULL;
  if (strcmp(q->op, "QGemm") == 0) {
    p->trans_a = mrt_node_int(c->node, "transA") != 0;
    p->trans_b = mrt_node_int(c->node, "transB") != 0;
    p->alpha = mrt_node_float(c->node, "alpha");
    p->d =
        (mrt_matmul_dims){p->y->dims[0], p->y->dims[1], p->a->dims[!p->trans_a], 1, &none, &none};
    if (p->d.k != p->b->dims[p->trans_b])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "GEMM: Dimension mismatch");
  } else {
    MRT_TRY(mrt_matmul_read(c, p->a, p->b, p->y, &p->d));
  }
  const mrt_matmul_dims *d = &p->d;
  if (mrt_dtype_is_float((mrt_dtype)p->b->dtype)) return mrt_no_type(q->op, p->b->dtype);
  if (p->y_scale) MRT_TRY(mrt_quant_bounds(c->node, (mrt_dtype)p->y->dtype, &p->lo, &p->hi));
  MRT_TRY(check_count(p->a_zero, d->m, d->batches, "a_zero_point"));
  MRT_TRY(check_count(p->b_zero, d->n, d->batches, "b_zero_point"));
  MRT_TRY(check_count(p->a_scale, 1, 1, "a_scale"));
  MRT_TRY(check_count(p->b_scale, d->n, 1, "b_scale"));
  MRT_TRY(check_count(p->y_scale, 1, 1, "y_scale"));
  MRT_TRY(check_count(p->y_zero, 1, 1, "y_zero_point"));
  return check_count(p->bias, d->n, 1, "bias");
}

static float f32_at(const mrt_tensor *t, int64_t i) {
  return (float)mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, mrt_tensor_count(t) == 1 ? 0 : i);
}
float mrt_iproduct_scale(const mrt_iproduct *p, int64_t j) {
  float s = p->a_scale ? f32_at(p->a_scale, 0) * p->alpha : p->alpha;
  if (p->b_scale) s *= f32_at(p->b_scale, j);
  return p->y_scale ? s / f32_at(p->y_scale, 0) : s;
}

/* Zero point of row or column i of a batch. */
static int32_t zero_at(const mrt_tensor *t, int64_t batch, int64_t n, int64_t i) {
  if (!t) return 0;
  int64_t count = mrt_tensor_count(t), at = count == 1 ? 0 : count == n ? i : batch * n + i;
  return (int32_t)mrt_elem_get_i64((mrt_dtype)t->dtype, t->data, at);
}

typedef struct job {
  const mrt_iproduct *p;
  int32_t *acc; /* [batches * m, n] */
  int32_t y_lo, y_hi, y_zero;
} job;

static void row_sums(const job *j, int64_t batch, int64_t i, int32_t *acc) {
  const mrt_iproduct *p = j->p;
  const mrt_matmul_dims *d = &p->d;
  const bool as = p->a->dtype == MRT_INT8, bs = p->b->dtype == MRT_INT8;
  const uint8_t *a = (const uint8_t *)p->a->data + d->a_off[batch] + i * (p->trans_a ? 1 : d->k),
                *b = (const uint8_t *)p->b->data + d->b_off[batch];
  const int64_t a_step = p->trans_a ? d->m : 1, b_row = p->trans_b ? 1 : d->n,
                b_col = p->trans_b ? d->k : 1;
  const int32_t az = zero_at(p->a_zero, batch, d->m, i);
  uint32_t a_sum = 0;
  memset(acc, 0, (size_t)d->n * 4);
  for (int64_t k = 0; k < d->k; ++k) {
    const uint8_t raw = a[k * a_step];
    const int32_t v = (as ? (int8_t)raw : raw) - az;
    const uint8_t *row = b + k * b_row;
    a_sum += (uint32_t)v;
    for (int64_t q = 0; q < d->n; ++q) {
      const int32_t w = bs ? (int8_t)row[q * b_col] : row[q * b_col];
      acc[q] = (int32_t)((uint32_t)acc[q] + (uint32_t)(v * w));
    }
  }
  for (int64_t q = 0; q < d->n; ++q)
    acc[q] = (int32_t)((uint32_t)acc[q] - a_sum * (uint32_t)zero_at(p->b_zero, batch, d->n, q));
}

static void rows(void *arg, int64_t begin, int64_t end) {
  const job *j = arg;
  const mrt_iproduct *p = j->p;
  const mrt_matmul_dims *d = &p->d;
  for (int64_t r = begin; r < end; ++r) {
    int32_t *acc = j->acc + r * d->n;
    row_sums(j, r / d->m, r % d->m, acc);
    if (p->y->dtype == MRT_INT32) continue;
    for (int64_t q = 0; q < d->n; ++q) {
      if (p->bias && p->bias->dtype == MRT_INT32)
        acc[q] =
            (int32_t)((uint32_t)acc[q] +
                      (uint32_t)((int32_t *)p->bias->data)[mrt_tensor_count(p->bias) == 1 ? 0 : q]);
      float v = (float)acc[q] * mrt_iproduct_scale(p, q);
      if (p->bias && p->bias->dtype != MRT_INT32) v += f32_at(p->bias, q);
      if (p->y_scale)
        mrt_elem_set_i64((mrt_dtype)p->y->dtype, p->y->data, r * d->n + q,
                         mrt_quant_value(v, 1, j->y_zero, j->y_lo, j->y_hi));
      else
        ((float *)p->y->data)[r * d->n + q] = v;
    }
  }
}

/* Quantises a float input to uint8 over its own range, as DynamicQuantizeLinear does. */
typedef struct quantized {
  mrt_tensor x, scale, zero;
  float scale_value;
  uint8_t zero_value;
} quantized;
static mrt_status *quantize(mrt_kctx *c, const mrt_tensor *a, quantized *q) {
  const float *p = a->data;
  int64_t n = mrt_tensor_count(a);
  uint8_t *data;
  float lo = 0, hi = 0;
  int32_t zero;
  MRT_TRY(mrt_scratch(c, (size_t)n, (void **)&data));
  for (int64_t i = 0; i < n; ++i) {
    lo = p[i] < lo ? p[i] : lo;
    hi = p[i] > hi ? p[i] : hi;
  }
  mrt_quant_params_u8(lo, hi, &q->scale_value, &zero);
  q->zero_value = (uint8_t)zero;
  for (int64_t i = 0; i < n; ++i)
    data[i] = (uint8_t)mrt_quant_value(p[i], q->scale_value, zero, 0, 255);
  mrt_tensor_init_view(&q->x, MRT_UINT8, a->rank, a->dims, data, (size_t)n, MRT_HOST);
  mrt_tensor_init_view(&q->scale, MRT_FLOAT, 0, NULL, &q->scale_value, 4, MRT_HOST);
  mrt_tensor_init_view(&q->zero, MRT_UINT8, 0, NULL, &q->zero_value, 1, MRT_HOST);
  return NULL;
}

mrt_status *mrt_iproduct_run(mrt_kctx *c) {
  const mrt_iproduct_parts *parts = mrt_iproduct_find(c->node->op_type);
  mrt_iproduct p;
  quantized q;
  MRT_TRY(mrt_iproduct_read(c, parts, &p));
  if (!p.y) return NULL;
  job j = {.p = &p, .y_zero = mrt_scalar_i32(p.y_zero, 0)};
  if (parts->dynamic) {
    MRT_TRY(quantize(c, p.a, &q));
    p.a = &q.x;
    p.a_scale = &q.scale;
    p.a_zero = &q.zero;
  }
  int64_t total = p.d.batches * p.d.m * p.d.n;
  if (p.y->dtype == MRT_INT32)
    j.acc = p.y->data;
  else
    MRT_TRY(mrt_scratch(c, (size_t)total * 4, (void **)&j.acc));
  j.y_lo = p.lo, j.y_hi = p.hi;
  mrt_par_range(&c->par, p.d.batches * p.d.m, (double)p.d.n * (double)p.d.k * 0.3, rows, &j);
  return NULL;
}

mrt_status *mrt_iproduct_infer(mrt_infer *c) {
  const mrt_iproduct_parts *q = mrt_iproduct_find(c->node->op_type);
  mrt_dtype t = q->y_zero >= 0 && mrt_infer_has(c, q->y_zero) ? mrt_infer_dtype(c, q->y_zero)
                : q->b_scale >= 0                             ? MRT_FLOAT
                                                              : MRT_INT32;
  return mrt_infer_matmul(c, q->a, q->b, t);
}
mrt_status *mrt_iproduct_gemm_infer(mrt_infer *c) {
  bool ta = mrt_node_int(c->node, "transA") != 0, tb = mrt_node_int(c->node, "transB") != 0;
  mrt_dtype t = mrt_infer_has(c, 8) ? mrt_infer_dtype(c, 8) : MRT_FLOAT;
  if (mrt_infer_has(c, 8) != mrt_infer_has(c, 7))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "y_scale and y_zero_point are needed both, or neither");
  if (mrt_infer_rank(c, 0) < 0 || mrt_infer_rank(c, 3) < 0) return mrt_infer_out(c, 0, t, -1, NULL);
  if (mrt_infer_rank(c, 0) != 2 || mrt_infer_rank(c, 3) != 2)
    return MRT_ERR(MRT_FAIL, "QGemm needs matrices");
  const mrt_expr *dims[2] = {mrt_infer_dim(c, 0, ta), mrt_infer_dim(c, 3, !tb)}, *unused;
  MRT_TRY(mrt_infer_same_dim(c, mrt_infer_dim(c, 0, !ta), mrt_infer_dim(c, 3, tb),
                             "GEMM: Dimension mismatch", &unused));
  return mrt_infer_out(c, 0, t, 2, dims);
}

static const mrt_op_version v10[] = {{10}, {0}}, v21[] = {{10}, {21}, {0}}, v1[] = {{1}, {0}};
#define BYTES "A=int8,uint8;B=int8,uint8;"
#define WITH_8                                                                             \
  "A=int8,uint8," MRT_T_FLOAT8 ";B=int8,uint8," MRT_T_FLOAT8 ";Y=int8,uint8," MRT_T_FLOAT8 \
  ";S=float,float16,bfloat16"
MRT_OP(MatMulInteger) = {.domain = "",
                         .name = "MatMulInteger",
                         .doc = "matrix product of 8-bit integers, as int32",
                         .in = "A:A, B:B, a_zero_point:A?, b_zero_point:B?",
                         .out = "Y:Y",
                         .types = BYTES "Y=int32",
                         .versions = v10,
                         .infer = mrt_iproduct_infer,
                         .run = mrt_iproduct_run};
MRT_OP(QLinearMatMul) = {.domain = "",
                         .name = "QLinearMatMul",
                         .doc = "matrix product of quantised numbers, quantised again",
                         .in =
                             "a:A, a_scale:S, a_zero_point:A, b:B, b_scale:S, b_zero_point:B, "
                             "y_scale:S, y_zero_point:Y",
                         .out = "y:Y",
                         .types = WITH_8,
                         .versions = v21,
                         .infer = mrt_iproduct_infer,
                         .run = mrt_iproduct_run};
MRT_OP_IN(ms, QGemm) = {.domain = "com.microsoft",
                        .name = "QGemm",
                        .doc = "alpha * A' * B' + C of quantised numbers",
                        .in =
                            "A:A, a_scale:S, a_zero_point:A, B:B, b_scale:S, b_zero_point:B, "
                            "C:C?, y_scale:S?, y_zero_point:Y?",
                        .out = "Y:any",
                        .types = BYTES "S=float;C=int32;Y=int8,uint8",
                        .attrs = "alpha:float=1.0 transA:int=0 transB:int=0",
                        .versions = v1,
                        .infer = mrt_iproduct_gemm_infer,
                        .run = mrt_iproduct_run};
MRT_OP_IN(ms, MatMulIntegerToFloat) = {
    .domain = "com.microsoft",
    .name = "MatMulIntegerToFloat",
    .doc = "matrix product of 8-bit integers, scaled to float",
    .in = "A:A, B:B, a_scale:S, b_scale:S, a_zero_point:A?, b_zero_point:B?, bias:S?",
    .out = "Y:S",
    .types = BYTES "S=float",
    .versions = v1,
    .infer = mrt_iproduct_infer,
    .run = mrt_iproduct_run};
MRT_OP_IN(ms, DynamicQuantizeMatMul) = {
    .domain = "com.microsoft",
    .name = "DynamicQuantizeMatMul",
    .doc = "A is quantised over its own range, then as MatMulIntegerToFloat",
    .in = "A:S, B:B, b_scale:S, b_zero_point:B?, bias:S?",
    .out = "Y:S",
    .types = "B=int8,uint8;S=float",
    .versions = v1,
    .infer = mrt_iproduct_infer,
    .run = mrt_iproduct_run};
