/* macart.MatMulSides on the packed GEMM: right sides are packed one by one, in the form that the
 * whole product wants, and multiplied as one (mrt_gemm.sides). */
#include "ops/common.h"
#include "ops/fused_matmul_sides.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/gemm_split.h"
#include "provider/cpu/gemm/matmul_pack.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/half/narrow.h"

typedef struct sides_kernel {
  mrt_kernel k;
  mrt_matmul_pack weights[MRT_SIDES_MAX]; /* of constant matrices; batch 0: packed by each run */
  int64_t columns;                        /* of the whole product */
  bool trans;
  int precision; /* mrt_precision, or -1: the process default */
} sides_kernel;

/* What one run multiplies: those sides whose result is wanted. */
typedef struct sides_run {
  const mrt_tensor *b[MRT_SIDES_MAX];
  const mrt_matmul_pack *w[MRT_SIDES_MAX];
  mrt_gemm_side side[MRT_SIDES_MAX];
  int n;
} sides_run;

static mrt_status *read_sides(const sides_kernel *q, mrt_kctx *c, int64_t k, sides_run *r) {
  for (int i = 0; i < MRT_SIDES_MAX; ++i) {
    const mrt_tensor *b = mrt_in(c, MRT_SIDE_B(i)), *bias = mrt_in(c, MRT_SIDE_BIAS(i));
    mrt_tensor *y = mrt_out(c, i);
    if (!y || !b || !mrt_tensor_count(y)) continue;
    const int64_t n = b->dims[q->trans ? 0 : 1];
    if (b->dims[q->trans ? 1 : 0] != k || (bias && mrt_tensor_count(bias) != n))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
    r->b[r->n] = b;
    r->w[r->n] = &q->weights[i];
    r->side[r->n++] =
        (mrt_gemm_side){.n = n, .c = y->data, .ldc = n, .bias = bias ? bias->data : NULL};
  }
  return NULL;
}

/* bf16 parts of all matrices; *all false: one of them has no such form. */
static mrt_status *get_parts(sides_run *r, int parts, bool *all) {
  *all = true;
  for (int i = 0; i < r->n && *all; ++i) {
    *all = r->w[i]->batch == 1;
    if (*all) MRT_TRY(mrt_matmul_pack_bf16(r->w[i], r->b[i], parts, &r->side[i].b16));
    *all = r->side[i].b16 != NULL;
  }
  return NULL;
}

/* Few rows, one side after the other, by the bf16 weights of tiles; *done: false where that is not
 * so. */
static mrt_status *run_few(mrt_kctx *c, const mrt_gemm *whole, sides_run *r, bool *done) {
  void *scratch = NULL;
  *done = mrt_matmul_few(whole);
  if (*done) MRT_TRY(get_parts(r, 1, done));
  if (!*done) return NULL;
  const size_t bytes = mrt_narrow_scratch_size(&c->par, whole->m, whole->n, whole->k, false);
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  for (int i = 0; i < r->n; ++i) {
    const mrt_gemm_side *s = &r->side[i];
    const mrt_narrow tiles = {.kind = MRT_NARROW_TILES, .b = s->b16};
    const mrt_gemm_epilogue e = {.alpha = 1, .bias = s->bias};
    mrt_gemm g = *whole;
    g.sides = NULL;
    g.n = s->n, g.c = s->c, g.ldc = s->ldc, g.epi = &e;
    mrt_narrow_run(&c->par, &g, &tiles, scratch);
  }
  return NULL;
}

static mrt_status *get_floats(const sides_kernel *q, mrt_kctx *c, sides_run *r, int64_t k) {
  for (int i = 0; i < r->n; ++i) {
    float *dst;
    r->side[i].b16 = NULL;
    if (r->w[i]->batch == 1) {
      MRT_TRY(mrt_matmul_pack_f32(r->w[i], r->b[i], &r->side[i].b));
      continue;
    }
    const int64_t n = r->side[i].n;
    MRT_TRY(mrt_scratch(c, mrt_gemm_packed_size(n, k), (void **)&dst));
    mrt_gemm_pack_b(&c->par, r->b[i]->data, q->trans ? k : n, q->trans, k, n, dst);
    r->side[i].b = dst;
  }
  return NULL;
}

static mrt_status *run(const mrt_kernel *kernel, mrt_kctx *c) {
  const sides_kernel *q = (const sides_kernel *)kernel;
  const mrt_tensor *a = mrt_in(c, 0);
  sides_run r = {.n = 0};
  const int64_t k = a->dims[a->rank - 1];
  MRT_TRY(read_sides(q, c, k, &r));
  if (!r.n) return NULL;
  mrt_gemm g = {.m = 1,
                .n = mrt_gemm_sides_columns(r.side, r.n),
                .k = k,
                .a = a->data,
                .lda = k,
                .precision = mrt_precision_now(q->precision),
                .sides = r.side};
  for (int i = 0; i < a->rank - 1; ++i) g.m *= a->dims[i];
  bool tiles = false, done;
  MRT_TRY(run_few(c, &g, &r, &done));
  if (done) return NULL;
  g.b16_parts = mrt_gemm_split_parts(g.precision, g.m, g.n, k);
  if (g.b16_parts == 1 || g.b16_parts == 2) MRT_TRY(get_parts(&r, g.b16_parts, &tiles));
  if (!tiles) MRT_TRY(get_floats(q, c, &r, k));
  void *scratch = NULL;
  const size_t bytes = mrt_gemm_scratch_size(&c->par, g.m, g.n, k, false);
  if (bytes) MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_gemm_run(&c->par, &g, scratch);
  return NULL;
}

static void destroy(mrt_kernel *k) {
  for (int i = 0; i < MRT_SIDES_MAX; ++i) mrt_matmul_pack_free(&((sides_kernel *)k)->weights[i]);
  mrt_kernel_free(k);
}

/* A matrix that is packed when the kernel is made. */
static const mrt_tensor *packed_side(const mrt_node *node, int i) {
  const mrt_tensor *b = mrt_node_in_const(node, MRT_SIDE_B(i));
  return b && !b->strided && b->rank == 2 && mrt_tensor_count(b) ? b : NULL;
}

static uint32_t packs_misaligned(const mrt_node *node) {
  uint32_t bits = 0;
  for (int i = 0; i < MRT_SIDES_MAX; ++i)
    if (packed_side(node, i)) bits |= 1u << MRT_SIDE_B(i);
  return bits;
}

static mrt_status *pack(sides_kernel *q, const mrt_node *node) {
  int64_t columns = 0;
  for (int i = 0; i < MRT_SIDES_MAX; ++i) {
    const mrt_tensor *b = packed_side(node, i);
    if (b) columns += b->dims[q->trans ? 0 : 1];
  }
  for (int i = 0; i < MRT_SIDES_MAX; ++i) {
    const mrt_tensor *b = packed_side(node, i);
    if (b) MRT_TRY(mrt_matmul_pack_init(&q->weights[i], b, q->trans, q->precision, columns));
  }
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  sides_kernel *q;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "gemm_f32", run, destroy, &q));
  q->trans = mrt_node_int(node, "transB") != 0;
  q->precision = precision;
  mrt_status *st = pack(q, node);
  if (st) {
    destroy(&q->k);
    return st;
  }
  q->k.any_align = packs_misaligned(node);
  *out = &q->k;
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  if (mrt_node_in_dtype(node, 0) != MRT_FLOAT || mrt_node_in_rank(node, 0) < 2) return false;
  for (int i = 0; i < node->n_out; ++i)
    if (MRT_SIDE_B(i) >= node->n_in || mrt_node_in_dtype(node, MRT_SIDE_B(i)) != MRT_FLOAT ||
        mrt_node_in_rank(node, MRT_SIDE_B(i)) != 2)
      return false;
  return true;
}

MRT_CPU_KERNEL(matmul_sides) = {.domain = "macart",
                                .op = "MatMulSides",
                                .match = match,
                                .create = create,
                                .packs_misaligned = packs_misaligned};
