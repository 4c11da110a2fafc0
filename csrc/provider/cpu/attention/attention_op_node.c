/* ONNX Attention (opset 23 on) of float32 on the strided attention: 3-D and 4-D inputs, grouped
 * heads, causal, masks of float or bool, caches that come in as past and go out as present. Capped
 * scores, padded lengths and the scores as an output are the reference's work. */
#include <math.h>
#include <string.h>

#include "provider/cpu/attention/attention.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/precision.h"

enum { Q, K, V, MASK, PAST_K, PAST_V, VALID };

typedef struct attention_kernel {
  mrt_kernel k;
  int64_t q_heads, kv_heads;
  float scale; /* 0: 1 / sqrt(features) */
  bool causal;
  int precision; /* mrt_precision, or -1: the process default */
} attention_kernel;

typedef struct form { /* a tensor as [batch, heads, positions, features] */
  int64_t batch, heads, len, size;
  mrt_attn_view view;
} form;

static bool form_of(const mrt_tensor *t, int64_t heads, form *f) {
  const int64_t *d = t->dims;
  if (t->rank == 4) {
    *f = (form){d[0], d[1], d[2], d[3], {t->data, d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}};
    return true;
  }
  if (t->rank != 3 || heads < 1 || d[2] % heads) return false;
  const int64_t size = d[2] / heads;
  *f = (form){d[0], heads, d[1], size, {t->data, d[1] * d[2], size, d[2], 1}};
  return true;
}

/* Past and new rows go side by side into `present`: len counts both from here on. */
static bool join(form *f, const mrt_tensor *past, mrt_tensor *present, mrt_attn_cache *cache) {
  const int64_t before = past ? past->dims[2] : 0;
  const int64_t dims[4] = {f->batch, f->heads, before + f->len, f->size};
  const int64_t old[4] = {f->batch, f->heads, before, f->size};
  if (!mrt_shape_equal(present->rank, present->dims, 4, dims) ||
      (past && !mrt_shape_equal(past->rank, past->dims, 4, old)))
    return false;
  *cache = (mrt_attn_cache){past ? past->data : NULL, present->data};
  f->len = dims[2];
  return true;
}

/* false: a mask that the reference must read. */
static mrt_status *read_mask(mrt_kctx *c, mrt_attn *a, bool *fits) {
  const mrt_tensor *m = mrt_in(c, MASK);
  int64_t *const to[3] = {&a->mask_row, &a->mask_head, &a->mask_batch};
  const int64_t want[3] = {a->sq, a->heads, a->batch};
  if (!m) return NULL;
  *fits = m->rank >= 1 && m->rank <= 4 && m->dims[m->rank - 1] == a->sk;
  int64_t step = a->sk;
  for (int k = 0; k < m->rank - 1 && *fits; ++k) {
    const int64_t d = m->dims[m->rank - 2 - k];
    *fits = d == 1 || d == want[k];
    *to[k] = d == 1 ? 0 : step;
    step *= d;
  }
  if (!*fits) return NULL;
  a->mask_col = 1;
  a->mask = m->data;
  if (m->dtype != MRT_BOOL) return NULL;
  const int64_t n = mrt_tensor_count(m);
  float *spread;
  MRT_TRY(mrt_scratch(c, (size_t)n * sizeof(float), (void **)&spread));
  for (int64_t i = 0; i < n; ++i) spread[i] = ((const uint8_t *)m->data)[i] ? 0.0f : -INFINITY;
  a->mask = spread;
  return NULL;
}

static mrt_status *run(const mrt_kernel *kernel, mrt_kctx *c) {
  const attention_kernel *p = (const attention_kernel *)kernel;
  const mrt_tensor *past_k = mrt_in(c, PAST_K), *past_v = mrt_in(c, PAST_V);
  mrt_tensor *y = mrt_out(c, 0), *out_k = mrt_out(c, 1), *out_v = mrt_out(c, 2);
  mrt_attn_cache cache[2] = {{NULL, NULL}, {NULL, NULL}};
  form q, k, v;
  bool fits = y && !past_k == !past_v && (!past_k || (out_k && out_v && past_k->rank == 4)) &&
              form_of(mrt_in(c, Q), p->q_heads, &q) && form_of(mrt_in(c, K), p->kv_heads, &k) &&
              form_of(mrt_in(c, V), p->kv_heads, &v) && q.batch == k.batch && k.batch == v.batch &&
              k.heads == v.heads && k.len == v.len && q.size == k.size && k.heads > 0 &&
              q.heads % k.heads == 0;
  if (fits) fits = !out_k == !out_v; /* one alone: the reference */
  if (fits && out_k)
    fits = join(&k, past_k, out_k, &cache[0]) && join(&v, past_v, out_v, &cache[1]);
  if (!fits || !y->bytes || k.len != v.len) return c->node->def->run(c); /* which may also refuse */
  const bool flat = y->rank == 3;
  mrt_attn a = {.batch = q.batch,
                .heads = q.heads,
                .kv_heads = k.heads,
                .sq = q.len,
                .sk = k.len,
                .d = q.size,
                .dv = v.size,
                .q = q.view,
                .k = k.view,
                .v = v.view,
                .k_cache = cache[0],
                .v_cache = cache[1],
                .past = past_k ? past_k->dims[2] : 0,
                .out = y->data,
                .out_batch = q.heads * q.len * v.size,
                .out_head = flat ? v.size : q.len * v.size,
                .out_row = flat ? q.heads * v.size : v.size,
                .scale = p->scale != 0 ? p->scale : 1.0f / sqrtf((float)q.size),
                .causal_rows = p->causal ? q.len : 0,
                .causal_offset = past_k ? past_k->dims[2] : 0,
                .masked_is_zero = true,
                .precision = mrt_precision_now(p->precision)};
  MRT_TRY(read_mask(c, &a, &fits));
  if (!fits) return c->node->def->run(c);
  const size_t bytes = mrt_attn_scratch_size(&c->par, &a);
  void *scratch;
  if (bytes == SIZE_MAX) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_attn_run(&c->par, &a, scratch);
  return NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  const mrt_dtype mask = mrt_node_in_dtype(node, MASK);
  const mrt_attr *scale = mrt_node_attr(node, "scale");
  for (int i = Q; i <= V; ++i)
    if (mrt_node_in_dtype(node, i) != MRT_FLOAT) return false;
  if (node->n_in > MASK && node->in[MASK].var && mask != MRT_FLOAT && mask != MRT_BOOL)
    return false;
  if (node->n_in > VALID && node->in[VALID].var) return false;
  if (node->n_out > 3 && node->out[3]) return false;
  return node->def && node->def->run && mrt_node_float(node, "softcap") == 0 &&
         !(scale && mrt_node_float(node, "scale") == 0);
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  attention_kernel *q;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "attention_f32", run, NULL, &q));
  q->q_heads = mrt_node_int(node, "q_num_heads");
  q->kv_heads = mrt_node_int(node, "kv_num_heads");
  q->scale = mrt_node_float(node, "scale");
  q->precision = precision;
  q->causal = mrt_node_int(node, "is_causal") != 0;
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(attention_op_f32) = {
    .domain = "", .op = "Attention", .match = match, .create = create};
