/* macart.QuantizeToLast, and the fusion that makes it: an image of few channels that enters a
 * quantised network is quantised and turned to NHWC in one pass. */
#include "base/cpu.h"
#include "ops/quant.h"
#include "provider/cpu/qgemm/qbytes.h"
#include "provider/cpu/qgemm/qdq.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/quantize_last.h"

enum { PIECE = 512 };

typedef struct last_job {
  mrt_quantize_last q;
  int64_t images, chunks;
} last_job;

/* Any machine: a piece of a plane at a time. */
static void pieces(const mrt_quantize_last *q, int64_t p0, int64_t p1) {
  const mrt_qgemm_kernels *k = mrt_qgemm_kernels_get();
  uint8_t t[PIECE];
  for (int64_t p = p0; p < p1; p += PIECE) {
    const int64_t n = p1 - p < PIECE ? p1 - p : PIECE;
    for (int c = 0; c < q->channels; ++c) {
      uint8_t *y = q->y + p * q->channels + c;
      k->quantize(q->x + c * q->area + p, n, q->scale, q->zero, q->is_signed, t);
      for (int64_t i = 0; i < n; ++i) y[i * q->channels] = t[i];
    }
  }
}

static void chunk(void *arg, int64_t index, int worker) {
  (void)worker;
  const last_job *j = arg;
  const int64_t area = j->q.area, all = j->images * area;
  /* halves fall on halves, as in qdirect.c */
  const int64_t end = all / 16 * (index + 1) / j->chunks * 16;
  for (int64_t at = all / 16 * index / j->chunks * 16, stop = index + 1 == j->chunks ? all : end;
       at < stop;) {
    mrt_quantize_last q = j->q;
    const int64_t image = at / area, p0 = at % area,
                  n = stop - at < area - p0 ? stop - at : area - p0;
    q.x += image * q.channels * area;
    q.y += image * q.channels * area;
#ifdef MRT_HAVE_AVX512VNNI
    if (mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI)
      mrt_quantize_last_avx512vnni(&q, p0, p0 + n);
    else
#endif
      pieces(&q, p0, p0 + n);
    at += n;
  }
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  (void)k;
  const mrt_tensor *x = mrt_in(c, 0), *scale = mrt_in(c, 1), *zero = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  if (mrt_tensor_count(scale) != 1 || mrt_tensor_count(zero) != 1)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "QuantizeToLast: one scale and one zero point");
  if (x->dims[1] > MRT_QUANTIZE_LAST_CHANNELS)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "QuantizeToLast of %lld channels", (long long)x->dims[1]);
  last_job j = {.q = {.x = x->data,
                      .area = x->dims[2] * x->dims[3],
                      .channels = (int)x->dims[1],
                      .scale = mrt_scalar_f32(scale, 1),
                      .zero = mrt_scalar_i32(zero, 0),
                      .is_signed = y->dtype == MRT_INT8,
                      .y = y->data},
                .images = x->dims[0]};
  const int64_t n = j.images * j.q.area;
  j.chunks = mrt_even_chunks(mrt_par_chunks(n / 16, (double)n * (double)j.q.channels * 0.15));
  mrt_par_run(&c->par, j.chunks, chunk, &j);
  return NULL;
}

/* Channels of the image, if they are known and few; 0: not so. */
static int64_t few_channels(const mrt_var *x) {
  const mrt_type *t = x ? x->type : NULL;
  int64_t c = 0;
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank != 4 || t->dtype != MRT_FLOAT ||
      !mrt_expr_is_const(t->dims[1], &c))
    return 0;
  return c <= MRT_QUANTIZE_LAST_CHANNELS ? c : 0;
}
static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return few_channels(node->in[0].var) > 0;
}
static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  (void)node;
  return mrt_kernel_new(p->env->alloc, sizeof(mrt_kernel), "quantize_last", run, NULL, out);
}
MRT_CPU_KERNEL(quantize_to_last) = {"macart", "QuantizeToLast", match, create};

/* ---- the fusion ---- */
static bool moves_to_last(const mrt_node *n) {
  static const int64_t to_last[4] = {0, 2, 3, 1};
  const mrt_attr *a = mrt_node_attr(n, "perm");
  if (!mrt_is_op(n, "Transpose") || !a || a->n != 4) return false;
  for (int i = 0; i < 4; ++i)
    if (a->ints[i] != to_last[i]) return false;
  return true;
}

/* The quantisation in front of n, if only n reads it; what other fusions left unread goes later. */
static mrt_node *quantisation(const mrt_node *n, int index, mrt_qval *out) {
  const mrt_var *v = n->in[0].var;
  mrt_node *q = v ? v->producer : NULL;
  if (!q || q->provider != index || v->n_graph_outputs || !mrt_qval_result(q, index, out))
    return NULL;
  for (size_t i = 0; i < v->n_uses; ++i) {
    const mrt_node *user = v->uses[i].node;
    for (int k = 0; user != n && k < user->n_out; ++k)
      if (user->out[k] && (user->out[k]->n_uses || user->out[k]->n_graph_outputs)) return NULL;
  }
  return few_channels(q->in[0].var) ? q : NULL;
}

static mrt_status *fuse(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_qval y;
    mrt_var *zero;
    if (n->provider != index || !moves_to_last(n)) continue;
    mrt_node *q = quantisation(n, index, &y);
    if (!q) continue;
    MRT_TRY(mrt_qval_zero_var(g, &y, &zero));
    mrt_node_del_attr(n, "perm");
    MRT_TRY(mrt_node_set_op(n, "macart", "QuantizeToLast"));
    MRT_TRY(mrt_node_set_n_inputs(n, 3));
    MRT_TRY(mrt_node_set_input(n, 0, q->in[0].var));
    MRT_TRY(mrt_node_set_input(n, 1, y.scale));
    MRT_TRY(mrt_node_set_input(n, 2, zero));
    MRT_TRY(mrt_node_resolve(n, p->env->ops));
    ++*fired;
  }
  return NULL;
}
MRT_FUSION(quantize_to_last) = {.name = "quantize_to_last",
                                .doc = "QuantizeLinear and the turn to channels-last in one pass",
                                .order = 71,
                                .level = 2,
                                .run = fuse};
