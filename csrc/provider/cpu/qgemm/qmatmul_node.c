/* The five products of 8-bit integers on the packed integer GEMM. Constant right sides are packed
 * when the kernel is made, others into scratch at each run. What the GEMM cannot say (zero points
 * per row, one per matrix) runs on the reference kernel. */
#include <string.h>

#include "ops/matmul_integer.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/qgemm/qdirect.h"
#include "provider/cpu/qgemm/qgemm.h"
#include "provider/cpu/weights/packed.h"

typedef struct qmatmul_kernel {
  mrt_kernel k;
  const mrt_iproduct_parts *parts;
  mrt_packed *weights; /* NULL: B is not constant, or not one matrix */
  int64_t pk, pn;
  bool trans;
  void *prepared; /* memory of the tables; NULL: something of a column is not constant */
  mrt_qtables tables;
} qmatmul_kernel;

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_iproduct_parts *q = mrt_iproduct_find(node->op_type);
  mrt_dtype b = mrt_node_in_dtype(node, q->b), y = mrt_node_out_dtype(node, 0);
  return (b == MRT_INT8 || b == MRT_UINT8) && mrt_node_in_rank(node, q->a) >= 1 &&
         mrt_node_in_rank(node, q->b) >= 2 && y != MRT_UNDEFINED &&
         (q->op[0] != 'Q' || q->op[1] != 'G' || !mrt_node_int(node, "transA"));
}

static void destroy(mrt_kernel *k) {
  mrt_packed_release(((qmatmul_kernel *)k)->weights);
  mrt_mem_free(k->alloc, ((qmatmul_kernel *)k)->prepared);
  mrt_kernel_free(k);
}

static bool trans_b(const mrt_node *node) {
  return strcmp(node->op_type, "QGemm") == 0 && mrt_node_int(node, "transB");
}

/* Zero points of B as int32, factors of the columns, an int32 or float bias spread out. */
static mrt_status *column_tables(mrt_kctx *c, const mrt_iproduct *p, mrt_qgemm *g,
                                 mrt_qgemm_epilogue *e) {
  const int64_t n = p->d.n;
  int32_t *zero;
  float *scale, *bias;
  if (p->b_zero) {
    int64_t count = mrt_tensor_count(p->b_zero);
    MRT_TRY(mrt_scratch(c, (size_t)count * 4 + 4, (void **)&zero));
    for (int64_t i = 0; i < count; ++i)
      zero[i] = (int32_t)mrt_elem_get_i64((mrt_dtype)p->b_zero->dtype, p->b_zero->data, i);
    g->b_zero = zero;
    g->b_zero_per_col = count > 1;
  }
  if (p->y->dtype == MRT_INT32) return NULL;
  e->scale_per_col = p->b_scale && mrt_tensor_count(p->b_scale) > 1;
  const int64_t factors = e->scale_per_col ? n : 1;
  MRT_TRY(mrt_scratch(c, (size_t)factors * 4 + 4, (void **)&scale));
  if (p->b_scale && p->b_scale->dtype == MRT_FLOAT && !p->y_scale) { /* as mrt_iproduct_scale */
    const float *b = p->b_scale->data, a = mrt_scalar_f32(p->a_scale, 1) * p->alpha;
    for (int64_t i = 0; i < factors; ++i) scale[i] = a * b[i];
  } else {
    for (int64_t i = 0; i < factors; ++i) scale[i] = mrt_iproduct_scale(p, i);
  }
  e->scale = scale;
  if (!p->bias) return NULL;
  const bool one = mrt_tensor_count(p->bias) == 1;
  MRT_TRY(mrt_scratch(c, (size_t)n * 4 + 4, (void **)&bias));
  for (int64_t i = 0; i < n; ++i) memcpy(bias + i, (const float *)p->bias->data + (one ? 0 : i), 4);
  if (p->bias->dtype == MRT_INT32)
    e->bias_s32 = (const int32_t *)bias;
  else
    e->bias = bias;
  return NULL;
}

/* A as bytes: itself, or quantised over its own range. */
static mrt_status *quantize_a(mrt_kctx *c, mrt_iproduct *p, mrt_tensor *scale, float *value,
                              mrt_qgemm *g) {
  const int64_t count = mrt_tensor_count(p->a);
  uint8_t *bytes;
  float lo, hi;
  int32_t zero;
  MRT_TRY(mrt_scratch(c, (size_t)count + 1, (void **)&bytes));
  mrt_quantize_range(&c->par, p->a->data, count, &lo, &hi);
  mrt_quant_params_u8(lo, hi, value, &zero);
  mrt_quantize_u8(&c->par, p->a->data, count, *value, zero, false, bytes);
  mrt_tensor_init_view(scale, MRT_FLOAT, 0, NULL, value, 4, MRT_HOST);
  p->a_scale = scale;
  g->a = bytes;
  g->a_zero = zero;
  return NULL;
}

static mrt_status *multiply(const qmatmul_kernel *q, mrt_kctx *c, const mrt_iproduct *p,
                            mrt_qgemm *g) {
  const mrt_matmul_dims *d = &p->d;
  const bool b_signed = p->b->dtype == MRT_INT8;
  const size_t y_size = (size_t)mrt_dtype_bits((mrt_dtype)p->y->dtype) / 8;
  const int64_t b_matrices = d->k && d->n ? mrt_tensor_count(p->b) / (d->k * d->n) : 1;
  const bool tall = b_matrices == 1 && d->a_off[d->batches - 1] == (d->batches - 1) * d->m * d->k;
  const int64_t batches = tall ? 1 : d->batches;
  void *scratch, *packed = NULL;
  g->m = tall ? d->m * d->batches : d->m;
  MRT_TRY(mrt_scratch(c, mrt_qgemm_scratch_size(&c->par, g->m, d->n, d->k), &scratch));
  if (q->weights && q->pk == d->k && q->pn == d->n)
    g->b = mrt_packed_data(q->weights);
  else
    MRT_TRY(mrt_scratch(c, mrt_qgemm_packed_size(d->n, d->k) + MRT_ALIGN, &packed));
  const uint8_t *a = g->a;
  int64_t have = -1;
  for (int64_t i = 0; i < batches; ++i) {
    if (packed && d->b_off[i] != have) {
      have = d->b_off[i];
      mrt_qgemm_pack_b(&c->par, (const uint8_t *)p->b->data + have, b_signed,
                       p->trans_b ? d->k : d->n, p->trans_b, d->k, d->n, packed);
      g->b = packed;
    }
    g->a = a + d->a_off[i];
    g->c = (uint8_t *)p->y->data + (size_t)(i * d->m * d->n) * y_size;
    mrt_qgemm_run(&c->par, g, b_signed, scratch);
  }
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const qmatmul_kernel *q = (const qmatmul_kernel *)k;
  mrt_iproduct p;
  mrt_tensor scale;
  float scale_value;
  MRT_TRY(mrt_iproduct_read(c, q->parts, &p));
  if (!p.y || !mrt_tensor_count(p.y)) return NULL;
  const int64_t zeros = p.b_zero ? mrt_tensor_count(p.b_zero) : 1;
  if ((p.a_zero && mrt_tensor_count(p.a_zero) != 1) || (zeros != 1 && zeros != p.d.n))
    return mrt_cpu_run_reference(c, k->any_align);
  mrt_qgemm_epilogue e = {.out = p.y->dtype == MRT_INT32   ? MRT_Q_S32
                                 : p.y->dtype == MRT_FLOAT ? MRT_Q_F32
                                 : p.y->dtype == MRT_UINT8 ? MRT_Q_U8
                                                           : MRT_Q_S8,
                          .out_scale = 1, /* the factors hold 1 / y_scale already */
                          .out_zero = mrt_scalar_i32(p.y_zero, 0)};
  if (p.y_scale) { /* exact: rounding keeps order */
    e.act = (mrt_act){MRT_EW_CLIP, {(float)(p.lo - e.out_zero), (float)(p.hi - e.out_zero)}};
  }
  mrt_qgemm g = {.n = p.d.n,
                 .k = p.d.k,
                 .a = p.a->data,
                 .lda = p.d.k,
                 .a_signed = p.a->dtype == MRT_INT8,
                 .a_zero = mrt_scalar_i32(p.a_zero, 0),
                 .ldc = p.d.n,
                 .epi = &e};
  if (q->parts->dynamic) MRT_TRY(quantize_a(c, &p, &scale, &scale_value, &g));
  if (q->prepared && q->pk == p.d.k && q->pn == p.d.n)
    g.tables = &q->tables;
  else
    MRT_TRY(column_tables(c, &p, &g, &e));
  return multiply(q, c, &p, &g);
}

static mrt_status *pack(const void *arg, const mrt_tensor *b, void *dst) {
  const qmatmul_kernel *q = arg;
  const mrt_par par = {0};
  mrt_qgemm_pack_b(&par, b->data, b->dtype == MRT_INT8, q->trans ? q->pk : q->pn, q->trans, q->pk,
                   q->pn, dst);
  memset((char *)dst + mrt_qgemm_packed_size(q->pn, q->pk), 0, MRT_ALIGN);
  return NULL;
}

static mrt_status *get_weights(qmatmul_kernel *q, const mrt_tensor *b) {
  q->pk = b->dims[b->rank - (q->trans ? 1 : 2)];
  q->pn = b->dims[b->rank - (q->trans ? 2 : 1)];
  const mrt_packer packer = {.format = "qgemm.panel32.1",
                             .params = {q->pk, q->pn, q->trans},
                             .bytes = mrt_qgemm_packed_size(q->pn, q->pk) + MRT_ALIGN,
                             .pack = pack,
                             .arg = q};
  return mrt_packed_get(b, &packer, &q->weights);
}

/* ---- tables of columns, made once ---- */
/* Input i as a constant of one or n elements, or absent. */
static bool fixed(const mrt_node *node, int i, int64_t n, const mrt_tensor **out) {
  *out = i < 0 ? NULL : mrt_node_in_const(node, i);
  if (!*out) return i < 0 || i >= node->n_in || !node->in[i].var;
  return !(*out)->strided && (mrt_tensor_count(*out) == 1 || mrt_tensor_count(*out) == n);
}

/* All that columns need, where it is constant and nothing is subtracted from the weights. */
static bool read_columns(const mrt_node *node, const qmatmul_kernel *q, mrt_iproduct *p) {
  const mrt_iproduct_parts *parts = q->parts;
  *p = (mrt_iproduct){.alpha = 1};
  if (parts->op[0] == 'Q' && parts->op[1] == 'G') p->alpha = mrt_node_float(node, "alpha");
  if (!q->weights || mrt_node_in_dtype(node, parts->b) != MRT_INT8 || parts->dynamic ||
      !fixed(node, parts->a_scale, 1, &p->a_scale) || !fixed(node, parts->a_zero, 1, &p->a_zero) ||
      !fixed(node, parts->b_scale, q->pn, &p->b_scale) ||
      !fixed(node, parts->b_zero, q->pn, &p->b_zero) ||
      !fixed(node, parts->y_scale, 1, &p->y_scale) || !fixed(node, parts->y_zero, 1, &p->y_zero) ||
      !fixed(node, parts->bias, q->pn, &p->bias))
    return false;
  for (int64_t i = 0; p->b_zero && i < mrt_tensor_count(p->b_zero); ++i)
    if (mrt_elem_get_i64((mrt_dtype)p->b_zero->dtype, p->b_zero->data, i)) return false;
  return p->y_scale || !p->bias || p->bias->dtype == MRT_FLOAT;
}

/* scale, bias: pn numbers each, for the time of this call. */
static void fill_tables(const mrt_node *node, const mrt_iproduct *p, float *scale, void *bias,
                        qmatmul_kernel *q) {
  const mrt_dtype y = mrt_node_out_dtype(node, 0);
  mrt_qgemm_epilogue e = {.out = y == MRT_INT32   ? MRT_Q_S32
                                 : y == MRT_FLOAT ? MRT_Q_F32
                                 : y == MRT_UINT8 ? MRT_Q_U8
                                                  : MRT_Q_S8,
                          .scale = scale,
                          .scale_per_col = true,
                          .out_scale = 1,
                          .out_zero = mrt_scalar_i32(p->y_zero, 0),
                          .act = {MRT_EW_CLIP, {0, 0}}}; /* bounds are no part of the tables */
  for (int64_t i = 0; i < q->pn; ++i)
    scale[i] = mrt_iproduct_scale(p, p->b_scale && mrt_tensor_count(p->b_scale) > 1 ? i : 0);
  if (p->bias) {
    const bool one = mrt_tensor_count(p->bias) == 1;
    for (int64_t i = 0; i < q->pn; ++i)
      memcpy((float *)bias + i, (const float *)p->bias->data + (one ? 0 : i), 4);
    if (p->bias->dtype == MRT_INT32)
      e.bias_s32 = bias;
    else
      e.bias = bias;
  }
  const mrt_qgemm g = {.n = q->pn,
                       .k = q->pk,
                       .a_signed = mrt_node_in_dtype(node, q->parts->a) == MRT_INT8,
                       .a_zero = mrt_scalar_i32(p->a_zero, 0),
                       .b = mrt_packed_data(q->weights),
                       .epi = &e};
  mrt_qtables_fill(&g, true, q->pk, mrt_qdirect_flips(), q->prepared, &q->tables);
}

static mrt_status *prepare(const mrt_alloc *alloc, const mrt_node *node, qmatmul_kernel *q) {
  mrt_iproduct p;
  float *numbers;
  if (q->pn < 1 || q->pk < 1 || !read_columns(node, q, &p)) return NULL;
  MRT_TRY(mrt_mem_new(alloc, (size_t)q->pn * 8, (void **)&numbers));
  mrt_status *st =
      mrt_mem_new_aligned(alloc,
                          p.bias && p.bias->dtype == MRT_FLOAT ? mrt_qtables_size(q->pn)
                                                               : mrt_qtables_plain_size(q->pn),
                          MRT_ALIGN, &q->prepared);
  if (!st) fill_tables(node, &p, numbers, numbers + q->pn, q);
  mrt_mem_free(alloc, numbers);
  return st;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  qmatmul_kernel *q;
  const mrt_iproduct_parts *parts = mrt_iproduct_find(node->op_type);
  const mrt_tensor *b = mrt_node_in_const(node, parts->b);
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "qgemm", run, destroy, &q));
  q->parts = parts;
  q->trans = trans_b(node);
  *out = &q->k;
  if (!b || b->strided || mrt_dims_product(b->dims, 0, b->rank - 2) != 1) return NULL;
  mrt_status *st = get_weights(q, b);
  q->k.any_align = 1u << parts->b;
  if (!st) st = prepare(p->env->alloc, node, q);
  if (!st) return NULL;
  destroy(&q->k);
  *out = NULL;
  return st;
}

#define ROW(d, name) \
  { .domain = d, .op = name, .match = match, .create = create }
MRT_CPU_KERNEL(q_matmul_integer) = ROW("", "MatMulInteger");
MRT_CPU_KERNEL(q_linear_matmul) = ROW("", "QLinearMatMul");
MRT_CPU_KERNEL(q_gemm) = ROW("com.microsoft", "QGemm");
MRT_CPU_KERNEL(q_linear_matmul_mt) = ROW("macart", "QLinearMatMul");
MRT_CPU_KERNEL(q_gemm_mt) = ROW("macart", "QGemm");
MRT_CPU_KERNEL(q_matmul_to_float) = ROW("com.microsoft", "MatMulIntegerToFloat");
MRT_CPU_KERNEL(q_matmul_dynamic) = ROW("com.microsoft", "DynamicQuantizeMatMul");
