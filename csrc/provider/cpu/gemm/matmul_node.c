/* MatMul, Gemm and macart.MatMul of float32 on the packed GEMM. Constant right sides are packed
 * once, in the form that the precision wants when the kernel is made, in another one when a run
 * first wants that; others are packed into scratch at each run. */
#include <stdatomic.h>
#include <string.h>

#include "ops/common.h"
#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/gemm/gemm_split.h"
#include "provider/cpu/gemm/matmul_pack.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/half/narrow.h"

typedef struct matmul_kernel {
  mrt_kernel k;
  mrt_matmul_pack weights; /* of a constant B */
  mrt_packed *narrow_b;    /* the same in 2 bytes each, for few rows; NULL: it does not fit them */
  mrt_narrow narrow;
  float alpha, beta;
  bool trans_a, trans_b, gemm, fused;
  int precision; /* mrt_precision, or -1: the process default */
  mrt_act act;
} matmul_kernel;

static bool match(const mrt_provider *p, const mrt_node *node) {
  mrt_act act;
  (void)p;
  return mrt_conv_node_act(node, &act) && mrt_node_in_dtype(node, 0) == MRT_FLOAT &&
         mrt_node_in_dtype(node, 1) == MRT_FLOAT && mrt_node_in_rank(node, 0) >= 2 &&
         mrt_node_in_rank(node, 1) >= 2;
}

/* float16 or bfloat16 on both sides: computed in float32. A bf16 product is exact then; three
 * products of parts are more than a float16 holds. */
static bool match_half(const mrt_provider *p, const mrt_node *node) {
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  (void)p;
  return (t == MRT_FLOAT16 || t == MRT_BFLOAT16) && mrt_node_in_dtype(node, 1) == t &&
         mrt_node_in_rank(node, 0) >= 2 && mrt_node_in_rank(node, 1) >= 2;
}

typedef struct narrow_job {
  const float *from;
  mrt_tensor *t;
} narrow_job;
static void narrow_range(void *arg, int64_t begin, int64_t end) {
  const narrow_job *j = arg;
  mrt_convert_from_f32((mrt_dtype)j->t->dtype, j->t->data, begin, end - begin, j->from + begin);
}

static void destroy(mrt_kernel *k) {
  mrt_matmul_pack_free(&((matmul_kernel *)k)->weights);
  mrt_packed_release(((matmul_kernel *)k)->narrow_b);
  mrt_kernel_free(k);
}

typedef struct shapes {
  int64_t m, n, k, batch, sa, sb; /* sa, sb: elements from one batch to the next */
  bool regular;                   /* batches step evenly: one batched call does it */
} shapes;

static mrt_status *read_shapes(const matmul_kernel *q, const mrt_tensor *a, const mrt_tensor *b,
                               const mrt_tensor *y, shapes *s) {
  int64_t kb = b->dims[b->rank - (q->trans_b ? 1 : 2)];
  s->m = a->dims[a->rank - (q->trans_a ? 1 : 2)];
  s->k = a->dims[a->rank - (q->trans_a ? 2 : 1)];
  s->n = b->dims[b->rank - (q->trans_b ? 2 : 1)];
  if (s->k != kb) return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
  int64_t na = mrt_tensor_count(a), nb = mrt_tensor_count(b), one_a = s->m * s->k,
          one_b = s->k * s->n;
  s->batch = 1;
  for (int i = 0; i < y->rank - 2; ++i) s->batch *= y->dims[i];
  int64_t ba = one_a ? na / one_a : s->batch, bb = one_b ? nb / one_b : s->batch;
  s->regular = (ba == s->batch || ba == 1) && (bb == s->batch || bb == 1);
  s->sa = ba == 1 ? 0 : one_a;
  s->sb = bb == 1 ? 0 : one_b;
  if (bb == 1 && ba == s->batch && !q->trans_a) { /* one tall product */
    s->m *= s->batch;
    s->batch = 1;
  }
  return NULL;
}

/* Gemm's C: a row vector becomes the bias, all else a residual. */
static mrt_status *gemm_bias(mrt_kctx *c, const matmul_kernel *q, const mrt_tensor *y,
                             mrt_gemm_epilogue *e) {
  const mrt_tensor *b = mrt_in(c, 2);
  int64_t m = y->dims[0], n = y->dims[1];
  mrt_bcast bc;
  e->alpha = q->alpha;
  if (!b || q->beta == 0) return NULL;
  MRT_TRY(mrt_bcast_init(&bc, 1, &b, 2, y->dims));
  int64_t count = mrt_tensor_count(b);
  bool row = b->rank >= 1 && b->dims[b->rank - 1] == n && count == n;
  if (row && q->beta == 1) {
    e->bias = b->data;
    return NULL;
  }
  e->beta = q->beta;
  if (row || count == m * n) {
    e->residual = b->data;
    e->residual_ld = count == n && m != 1 ? 0 : n;
    return NULL;
  }
  float *full; /* a scalar or a column: spread it out */
  MRT_TRY(mrt_scratch(c, (size_t)(m * n) * 4, (void **)&full));
  for (int64_t i = 0; i < m * n; ++i) full[i] = ((const float *)b->data)[count == 1 ? 0 : i / n];
  e->residual = full;
  e->residual_ld = n;
  return NULL;
}

/* Operands of macart.MatMul behind the product. */
static mrt_status *fused_epilogue(mrt_kctx *c, const matmul_kernel *q, const mrt_tensor *y,
                                  mrt_gemm_epilogue *e) {
  const mrt_tensor *bias = mrt_in(c, 2), *residual = mrt_in(c, 3);
  const int64_t n = y->dims[y->rank - 1];
  e->alpha = q->alpha;
  e->act = q->act;
  if (bias && mrt_tensor_count(bias) != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul: bias has %lld elements, the product %lld columns",
                   (long long)mrt_tensor_count(bias), (long long)n);
  if (residual && mrt_tensor_count(residual) != mrt_tensor_count(y))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul: the residual's shape is not the product's");
  e->bias = bias ? bias->data : NULL;
  if (residual) {
    e->residual = residual->data;
    e->residual_ld = n;
    e->beta = 1;
  }
  return NULL;
}

/* B for the product, from the constant (source, in its own type) or packed now. */
static mrt_status *get_b(const matmul_kernel *q, mrt_kctx *c, const mrt_tensor *source,
                         const mrt_tensor *b, const shapes *s, mrt_gemm *g) {
  const size_t panel = mrt_gemm_packed_size(s->n, s->k) / sizeof(float);
  const int64_t copies = s->sb ? s->batch : 1;
  const mrt_matmul_pack *w = &q->weights;
  if (w->batch == copies && w->k == s->k && w->n == s->n) {
    const int parts = copies == 1 ? mrt_gemm_split_parts(g->precision, s->m, s->n, s->k) : 0;
    if (parts == 1 || parts == 2) MRT_TRY(mrt_matmul_pack_bf16(w, source, parts, &g->b16));
    g->b16_parts = parts;
    return g->b16 ? NULL : mrt_matmul_pack_f32(w, source, &g->b);
  }
  float *dst;
  MRT_TRY(mrt_scratch(c, panel * (size_t)copies * sizeof(float), (void **)&dst));
  for (int64_t i = 0; i < copies; ++i)
    mrt_gemm_pack_b(&c->par, (const float *)b->data + i * s->sb, q->trans_b ? s->k : s->n,
                    q->trans_b, s->k, s->n, dst + (size_t)i * panel);
  g->b = dst;
  return NULL;
}

/* Few rows by the bf16 weights of tiles; *done: false where that is not so. */
static mrt_status *run_few(const matmul_kernel *q, mrt_kctx *c, const mrt_tensor *source,
                           const mrt_gemm *g, bool *done) {
  const mrt_matmul_pack *w = &q->weights;
  mrt_narrow tiles = {.kind = MRT_NARROW_TILES};
  const uint16_t *b = NULL;
  void *scratch = NULL;
  *done = false;
  if (w->batch != 1 || w->k != g->k || w->n != g->n || !mrt_matmul_few(g)) return NULL;
  MRT_TRY(mrt_matmul_pack_bf16(w, source, 1, &b));
  if (!b) return NULL;
  const size_t bytes = mrt_narrow_scratch_size(&c->par, g->m, g->n, g->k, false);
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  tiles.b = b;
  mrt_narrow_run(&c->par, g, &tiles, scratch);
  *done = true;
  return NULL;
}

static mrt_status *run_with(const matmul_kernel *q, mrt_kctx *c, const mrt_tensor *source) {
  const mrt_tensor *a = mrt_in(c, 0), *b = mrt_in(c, 1);
  mrt_tensor *y = mrt_out(c, 0);
  shapes s = {0};
  if (!y || !mrt_tensor_count(y)) return NULL;
  MRT_TRY(read_shapes(q, a, b, y, &s));
  if (!s.regular) { /* uneven broadcasting: the reference */
    if (c->node->def->run) return c->node->def->run(c);
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "macart.MatMul with batch dims that differ");
  }
  mrt_gemm_epilogue e = MRT_GEMM_EPILOGUE_NONE;
  if (q->gemm) MRT_TRY(gemm_bias(c, q, y, &e));
  if (q->fused) MRT_TRY(fused_epilogue(c, q, y, &e));
  void *scratch = NULL;
  const bool narrow = q->narrow_b && s.batch == 1 && s.m <= MRT_NARROW_ROWS && !q->trans_a &&
                      q->weights.n == s.n && q->weights.k == s.k;
  size_t bytes = narrow ? mrt_narrow_scratch_size(&c->par, s.m, s.n, s.k, false)
                        : mrt_gemm_scratch_size(&c->par, s.m, s.n, s.k, q->trans_a);
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_gemm g = {.m = s.m,
                .n = s.n,
                .k = s.k,
                .a = a->data,
                .lda = q->trans_a ? s.m : s.k,
                .a_trans = q->trans_a,
                .c = y->data,
                .ldc = s.n,
                .epi = &e,
                .precision = mrt_precision_now(q->precision)};
  if (narrow) {
    mrt_narrow_run(&c->par, &g, &q->narrow, scratch);
    return NULL;
  }
  bool done = false;
  if (s.batch == 1) MRT_TRY(run_few(q, c, source, &g, &done));
  if (done) return NULL;
  MRT_TRY(get_b(q, c, source, b, &s, &g));
  mrt_gemm_batch batch = {.batch = s.batch,
                          .a = s.sa,
                          .b = s.sb ? (int64_t)(mrt_gemm_packed_size(s.n, s.k) / sizeof(float)) : 0,
                          .c = s.m * s.n,
                          .residual = s.m * s.n};
  if (s.batch == 1)
    mrt_gemm_run(&c->par, &g, scratch);
  else
    mrt_gemm_run_batch(&c->par, &g, &batch, scratch);
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  return run_with((const matmul_kernel *)k, c, mrt_in(c, 1));
}

/* The same on half floats: operands are widened, the result is rounded once. */
static mrt_status *run_half(const mrt_kernel *k, mrt_kctx *c) {
  const matmul_kernel *q = (const matmul_kernel *)k;
  mrt_slot slots[4], *in[3], *out[1];
  mrt_tensor views[4];
  mrt_tensor *y = mrt_out(c, 0);
  mrt_kctx wide = *c;
  if (!y) return NULL;
  for (int i = 0; i < 4; ++i) {
    const mrt_tensor *t = i == 3 ? y : mrt_in(c, i);
    mrt_slot **at = i == 3 ? &out[0] : &in[i];
    void *data = NULL;
    *at = NULL;
    if (!t) continue;
    const int64_t n = mrt_tensor_count(t);
    if (i != 1 || q->weights.batch != 1) MRT_TRY(mrt_scratch(c, (size_t)n * sizeof(float), &data));
    if (i < 3 && data) mrt_matmul_widen(&c->par, t, 0, n, data);
    mrt_tensor_init_view(&views[i], MRT_FLOAT, t->rank, t->dims, data, (size_t)n * sizeof(float),
                         MRT_HOST);
    slots[i] = (mrt_slot){.value = &views[i].base};
    *at = &slots[i];
  }
  wide.in = in;
  wide.out = out;
  wide.n_in = c->n_in < 3 ? c->n_in : 3;
  wide.n_out = 1;
  MRT_TRY(run_with(q, &wide, mrt_in(c, 1)));
  narrow_job j = {views[3].data, y};
  mrt_par_range(&c->par, mrt_tensor_count(y), 1.0, narrow_range, &j);
  return NULL;
}

/* Are the weights numbers of 2 bytes, and may there be few rows? */
static bool find_narrow(const mrt_node *node, bool trans_a, const mrt_tensor *b,
                        mrt_narrow_kind *kind) {
  enum { LEAST = 1 << 16 };
  const mrt_type *t = node->in[0].var->type;
  int64_t rows = 1, dim;
  for (int i = 0; t && i < t->rank; ++i)
    if (i != t->rank - 1 && mrt_expr_is_const(t->dims[i], &dim)) rows *= dim;
  const int64_t count = mrt_tensor_count(b);
  if (trans_a || b->rank != 2 || count < LEAST || rows > MRT_NARROW_ROWS) return false;
  *kind = b->dtype == MRT_BFLOAT16 ? MRT_NARROW_BF16 : MRT_NARROW_F16;
  return b->dtype != MRT_FLOAT || mrt_narrow_kind_of(b->data, count, kind);
}

static mrt_status *pack_narrow(const void *arg, const mrt_tensor *b, void *dst) {
  const matmul_kernel *q = arg;
  const mrt_par par = {0};
  const int64_t n = q->weights.n, k = q->weights.k;
  float *wide = NULL;
  if (b->dtype != MRT_FLOAT) {
    MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), (size_t)(n * k) * sizeof(float), MRT_ALIGN,
                                (void **)&wide));
    mrt_matmul_widen(&par, b, 0, n * k, wide);
  }
  mrt_narrow_pack(q->narrow.kind, wide ? wide : b->data, q->trans_b ? k : n, q->trans_b, k, n, dst);
  mrt_mem_free(mrt_alloc_default(), wide);
  return NULL;
}

/* Narrow weights now; the wide forms when many rows ask for them. */
static mrt_status *get_narrow(matmul_kernel *q, const mrt_tensor *b) {
  mrt_matmul_pack_describe(&q->weights, b, q->trans_b);
  const mrt_packer packer = {
      .format = q->narrow.kind == MRT_NARROW_F16 ? "gemm.f16.panel32.1" : "gemm.bf16.panel32.1",
      .params = {1, q->weights.k, q->weights.n, q->trans_b},
      .bytes = mrt_narrow_packed_size(q->narrow.kind, q->weights.n, q->weights.k),
      .pack = pack_narrow,
      .arg = q};
  if (!q->weights.batch) return NULL;
  MRT_TRY(mrt_packed_get(b, &packer, &q->narrow_b));
  q->narrow.b = mrt_packed_data(q->narrow_b);
  return NULL;
}

/* B that is packed when the kernel is made may lie anywhere. Several matrices may broadcast
 * unevenly: they are read at run. */
static uint32_t packs_misaligned(const mrt_node *node) {
  const mrt_tensor *b = mrt_node_in_const(node, 1);
  return b && !b->strided && b->rank == 2 && mrt_tensor_count(b) ? 1 << 1 : 0;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  matmul_kernel *q;
  const mrt_tensor *b = mrt_node_in_const(node, 1);
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  const mrt_dtype t = mrt_node_in_dtype(node, 0);
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, t == MRT_FLOAT ? "gemm_f32" : "gemm_half",
                         t == MRT_FLOAT ? run : run_half, destroy, &q));
  q->gemm = strcmp(node->op_type, "Gemm") == 0;
  q->fused = *node->domain != 0;
  q->alpha = q->gemm || q->fused ? mrt_node_float(node, "alpha") : 1;
  q->beta = q->gemm ? mrt_node_float(node, "beta") : 0;
  q->trans_a = (q->gemm || q->fused) && mrt_node_int(node, "transA");
  q->trans_b = (q->gemm || q->fused) && mrt_node_int(node, "transB");
  q->precision = t == MRT_FLOAT      ? precision
                 : t == MRT_BFLOAT16 ? MRT_PRECISION_MEDIUM
                                     : MRT_PRECISION_HIGH;
  mrt_conv_node_act(node, &q->act); /* match has seen that it is known */
  *out = &q->k;
  if (!b || b->strided) return NULL;
  mrt_status *st = find_narrow(node, q->trans_a, b, &q->narrow.kind)
                       ? get_narrow(q, b)
                       : mrt_matmul_pack_init(&q->weights, b, q->trans_b, q->precision, 0);
  if (st) {
    destroy(&q->k);
    *out = NULL;
    return st;
  }
  q->k.any_align = packs_misaligned(node);
  return NULL;
}

MRT_CPU_KERNEL(matmul_f32) = {.domain = "",
                              .op = "MatMul",
                              .match = match,
                              .create = create,
                              .packs_misaligned = packs_misaligned};
MRT_CPU_KERNEL(matmul_half) = {.domain = "", .op = "MatMul", .match = match_half, .create = create};
MRT_CPU_KERNEL(gemm_half) = {.domain = "", .op = "Gemm", .match = match_half, .create = create};
MRT_CPU_KERNEL(fused_matmul_f32) = {.domain = "macart",
                                    .op = "MatMul",
                                    .match = match,
                                    .create = create,
                                    .packs_misaligned = packs_misaligned};
MRT_CPU_KERNEL(gemm_f32) = {.domain = "",
                            .op = "Gemm",
                            .match = match,
                            .create = create,
                            .packs_misaligned = packs_misaligned};
