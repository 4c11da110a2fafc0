/* macart.MatMulQ8: weights stay int8 in the panels of the float32 GEMM ([n / 32][k][32]) and are
 * widened a block of columns at a time, into a buffer that fits the L2 cache. The numbers are those
 * of Cast and Mul, so the product is that of the wide weights.
 *
 * The fusion here makes it of MatMul with int8 weights behind Cast and Mul, or behind
 * DequantizeLinear with zero points of 0. */
#include <string.h>

#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/qgemm/qbytes.h"
#include "provider/cpu/qgemm/qdq.h"

enum { PANEL = MRT_GEMM_PANEL, BLOCK_BYTES = 1 << 20, SMALL = 4096 };

typedef struct q8_kernel {
  mrt_kernel k;
  int8_t *packed; /* [panels][rows][32] */
  float *scale;   /* [panels * 32] */
  int64_t rows, cols, panels;
} q8_kernel;

static void destroy(mrt_kernel *k) {
  q8_kernel *q = (q8_kernel *)k;
  mrt_mem_free(k->alloc, q->packed);
  mrt_mem_free(k->alloc, q->scale);
  mrt_kernel_free(k);
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_tensor *b = mrt_node_in_const(node, 1), *s = mrt_node_in_const(node, 2);
  if (!b || !s || b->strided || s->strided || b->rank != 2 || !b->dims[0] || !b->dims[1])
    return false;
  const int64_t n = mrt_tensor_count(s);
  return mrt_node_in_rank(node, 0) >= 1 && (n == 1 || n == b->dims[1]);
}

static mrt_status *pack(const mrt_alloc *alloc, q8_kernel *q, const mrt_tensor *b,
                        const mrt_tensor *s) {
  size_t bytes;
  q->rows = b->dims[0];
  q->cols = b->dims[1];
  q->panels = (q->cols + PANEL - 1) / PANEL;
  if (!mrt_size_mul((size_t)q->panels * PANEL, (size_t)q->rows, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_mem_new_aligned(alloc, bytes, MRT_ALIGN, (void **)&q->packed));
  MRT_TRY(mrt_mem_new_zero(alloc, (size_t)q->panels * PANEL * 4, (void **)&q->scale));
  const float *scale = s->data;
  const bool one = mrt_tensor_count(s) == 1;
  for (int64_t n = 0; n < q->cols; ++n) q->scale[n] = scale[one ? 0 : n];
  int8_t *to = q->packed;
  for (int64_t p = 0; p < q->panels; ++p)
    for (int64_t k = 0; k < q->rows; ++k, to += PANEL) {
      const int64_t left = q->cols - p * PANEL, n = left < PANEL ? left : PANEL;
      memset(to, 0, PANEL);
      memcpy(to, (const int8_t *)b->data + k * q->cols + p * PANEL, (size_t)n);
    }
  return NULL;
}

typedef struct widen_job {
  const q8_kernel *q;
  int64_t first, count, chunks; /* panels */
  float *to;
} widen_job;
static void widen(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const widen_job *j = arg;
  const q8_kernel *q = j->q;
  const int64_t end = mrt_par_begin(j->count, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(j->count, j->chunks, chunk); i < end; ++i)
    mrt_qbytes_get()->widen(q->packed + (j->first + i) * q->rows * PANEL, q->rows,
                            q->scale + (j->first + i) * PANEL, j->to + i * q->rows * PANEL);
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const q8_kernel *q = (const q8_kernel *)k;
  const mrt_tensor *a = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  if (a->dims[a->rank - 1] != q->rows)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "MatMul dimension mismatch");
  const int64_t m = mrt_tensor_count(a) / q->rows;
  int64_t step = BLOCK_BYTES / (q->rows * PANEL * 4);
  step = step < 1 ? 1 : step > q->panels ? q->panels : step;
  float *wide;
  void *scratch;
  size_t bytes;
  if (!mrt_size_mul((size_t)(step * PANEL * 4), (size_t)q->rows, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, (void **)&wide));
  const size_t work = mrt_gemm_scratch_size(&c->par, m, step * PANEL, q->rows, false);
  MRT_TRY(mrt_scratch(c, work + 64, &scratch));
  for (int64_t p = 0; p < q->panels; p += step) {
    widen_job j = {
        .q = q, .first = p, .count = q->panels - p < step ? q->panels - p : step, .to = wide};
    j.chunks = mrt_par_chunks(j.count, (double)(j.count * q->rows * PANEL) * 0.1);
    mrt_par_run(&c->par, j.chunks, widen, &j);
    const int64_t left = q->cols - p * PANEL;
    const mrt_gemm g = {.m = m,
                        .n = left < j.count * PANEL ? left : j.count * PANEL,
                        .k = q->rows,
                        .a = a->data,
                        .lda = q->rows,
                        .b = wide,
                        .c = (float *)y->data + p * PANEL,
                        .ldc = q->cols};
    mrt_gemm_run(&c->par, &g, scratch);
  }
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  q8_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "gemm_q8", run, destroy, &q));
  mrt_status *st = pack(p->env->alloc, q, mrt_node_in_const(node, 1), mrt_node_in_const(node, 2));
  if (st) {
    destroy(&q->k);
    return st;
  }
  *out = &q->k;
  return NULL;
}
MRT_CPU_KERNEL(matmul_q8) = {
    .domain = "macart", .op = "MatMulQ8", .match = match, .create = create};

/* ---- the fusion ---- */

/* int8 weights [k, n] and their scale (one, or n) behind v; false: something else. */
static bool read_weights(const mrt_var *v, int index, mrt_var **w, mrt_var **scale) {
  const mrt_node *mul = v ? v->producer : NULL;
  mrt_qval q;
  if (!mul || mul->provider != index) return false;
  if (mrt_qval_weight(v, index, &q)) {
    const mrt_tensor *z = q.zero ? q.zero->constant : NULL;
    for (int64_t i = 0; z && i < mrt_tensor_count(z); ++i)
      if (mrt_elem_get_i64((mrt_dtype)z->dtype, z->data, i)) return false;
    *w = q.q;
    *scale = q.scale;
    return q.dtype == MRT_INT8 && q.q->constant->rank == 2 &&
           (q.scales == 1 || (q.axis == 1 && q.scales == q.q->constant->dims[1]));
  }
  for (int i = 0; i < 2 && mrt_is_op(mul, "Mul"); ++i) {
    const mrt_node *cast = mul->in[i].var ? mul->in[i].var->producer : NULL;
    *scale = mul->in[1 - i].var;
    const mrt_tensor *b = cast ? mrt_node_in_const(cast, 0) : NULL,
                     *s = *scale ? (*scale)->constant : NULL;
    if (!mrt_is_op(cast, "Cast") || mrt_node_int(cast, "to") != MRT_FLOAT || !b || !s) continue;
    const int64_t n = mrt_tensor_count(s);
    *w = cast->in[0].var;
    if (b->dtype == MRT_INT8 && b->rank == 2 && s->dtype == MRT_FLOAT && s->rank <= 2 &&
        (n == 1 || (n == b->dims[1] && s->dims[s->rank - 1] == n)))
      return true;
  }
  return false;
}

static mrt_status *fuse(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_var *w, *scale;
    if (n->provider != index || !mrt_is_op(n, "MatMul") || mrt_node_in_dtype(n, 0) != MRT_FLOAT ||
        mrt_node_in_rank(n, 0) < 1 || !read_weights(n->in[1].var, index, &w, &scale) ||
        mrt_tensor_count(w->constant) < SMALL)
      continue;
    MRT_TRY(mrt_node_set_op(n, "macart", "MatMulQ8"));
    MRT_TRY(mrt_node_set_input(n, 1, w));
    MRT_TRY(mrt_node_set_input(n, 2, scale));
    MRT_TRY(mrt_node_resolve(n, p->env->ops));
    ++*fired;
  }
  return NULL;
}
MRT_FUSION(matmul_q8) = {.name = "matmul_q8",
                         .doc = "int8 weights behind Cast and Mul stay int8",
                         .order = 4,
                         .level = 2,
                         .run = fuse};
