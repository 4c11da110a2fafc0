/* The kernel of macart.Attention: layouts become strides. */
#include <string.h>

#include "provider/cpu/attention/attention.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/precision.h"

enum { PAST_K = 4, PAST_V };

typedef struct attention_kernel {
  mrt_kernel k;
  char layout[4][5]; /* of q, k, v, out */
  float scale;
  int precision; /* mrt_precision, or -1: the process default */
} attention_kernel;

typedef struct axes { /* length and step of each letter; B may be absent */
  int64_t b, h, s, d, step_b, step_h, step_s, step_d;
} axes;

static mrt_status *read_axes(const mrt_tensor *t, const char *layout, axes *out) {
  int64_t step = 1;
  if (t->rank != 3 && t->rank != 4)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: an operand of rank %d", t->rank);
  *out = (axes){.b = 1};
  for (int i = 3; i >= 4 - t->rank; --i) {
    const int64_t d = t->dims[i - (4 - t->rank)];
    switch (layout[i]) {
      case 'B': out->b = d, out->step_b = step; break;
      case 'H': out->h = d, out->step_h = step; break;
      case 'S': out->s = d, out->step_s = step; break;
      default: out->d = d, out->step_d = step;
    }
    step *= d;
  }
  return NULL;
}

/* n and m as one dim of a broadcast; false: they do not fit. */
static bool widen(int64_t *n, int64_t m) {
  if (*n != m && *n != 1 && m != 1) return false;
  if (*n == 1) *n = m;
  return true;
}

static mrt_attn_view view(const mrt_tensor *t, const axes *a, int64_t heads, int64_t positions) {
  return (mrt_attn_view){t->data, a->b == 1 ? 0 : a->step_b, a->h == 1 && heads > 1 ? 0 : a->step_h,
                         a->s == 1 && positions > 1 ? 0 : a->step_s, a->step_d};
}

/* The mask's dims as [B, H, Sq, Sk], missing ones 1. */
static mrt_status *mask_dims(const mrt_tensor *m, int64_t *dims) {
  for (int i = 0; i < 4; ++i) dims[i] = 1;
  if (!m) return NULL;
  if (m->rank > 4) return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: mask of rank %d", m->rank);
  for (int i = 0; i < m->rank; ++i) dims[4 - m->rank + i] = m->dims[i];
  return NULL;
}

static void set_mask(mrt_attn *a, const mrt_tensor *m, const int64_t *dims) {
  int64_t *const to[4] = {&a->mask_batch, &a->mask_head, &a->mask_row, &a->mask_col};
  int64_t step = 1;
  for (int i = 3; i >= 0; --i) {
    *to[i] = dims[i] == 1 ? 0 : step;
    step *= dims[i];
  }
  a->mask = m ? m->data : NULL;
}

/* Sizes of the whole, each a broadcast; false: shapes do not fit together. */
static bool set_sizes(mrt_attn *a, const axes *q, const axes *k, const axes *v, const axes *o,
                      const int64_t *mask) {
  a->batch = q->b;
  a->heads = q->h;
  a->kv_heads = k->h;
  a->sq = q->s;
  a->sk = k->s;
  a->d = q->d;
  a->dv = v->d;
  return widen(&a->batch, k->b) && widen(&a->batch, v->b) && widen(&a->batch, mask[0]) &&
         widen(&a->heads, mask[1]) && widen(&a->sq, mask[2]) && widen(&a->sk, mask[3]) &&
         q->d == k->d && a->sk == v->s && k->h == v->h && k->h && a->heads % k->h == 0 &&
         o->b == a->batch && o->h == a->heads && o->s == a->sq && o->d == v->d;
}

/* Keys and values of earlier calls: positions of k and v count them from here on. */
static bool set_cache(mrt_kctx *c, mrt_attn *a, axes *k, axes *v) {
  const mrt_tensor *past[2] = {mrt_in(c, PAST_K), mrt_in(c, PAST_V)};
  axes *const now[2] = {k, v};
  mrt_attn_cache *const to[2] = {&a->k_cache, &a->v_cache};
  if (!past[0] && !past[1]) return true;
  for (int i = 0; i < 2; ++i) {
    mrt_tensor *present = mrt_out(c, 1 + i);
    if (!past[i] || past[i]->rank != 4 || !present || now[i]->step_d != 1) return false;
    const int64_t *d = past[i]->dims, want[4] = {now[i]->b, now[i]->h, d[2] + now[i]->s, now[i]->d};
    if (d[0] != want[0] || d[1] != want[1] || d[3] != want[3] ||
        !mrt_shape_equal(present->rank, present->dims, 4, want))
      return false;
    *to[i] = (mrt_attn_cache){past[i]->data, present->data};
    now[i]->s = want[2];
    a->past = d[2];
  }
  return past[0]->dims[2] == past[1]->dims[2];
}

static mrt_status *run(const mrt_kernel *kernel, mrt_kctx *c) {
  const attention_kernel *p = (const attention_kernel *)kernel;
  const mrt_tensor *tq = mrt_in(c, 0), *tk = mrt_in(c, 1), *tv = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  axes q, k, v, o;
  if (!y || (!y->bytes && !mrt_in(c, PAST_K))) return NULL;
  MRT_TRY(read_axes(tq, p->layout[0], &q));
  MRT_TRY(read_axes(tk, p->layout[1], &k));
  MRT_TRY(read_axes(tv, p->layout[2], &v));
  MRT_TRY(read_axes(y, p->layout[3], &o));
  int64_t mask[4];
  MRT_TRY(mask_dims(mrt_in(c, 3), mask));
  mrt_attn a = {.out = y->data,
                .out_batch = o.step_b,
                .out_head = o.step_h,
                .out_row = o.step_s,
                .scale = p->scale,
                .precision = mrt_precision_now(p->precision)};
  const int64_t new_k = k.s, new_v = v.s;
  if (!set_cache(c, &a, &k, &v) || !set_sizes(&a, &q, &k, &v, &o, mask) ||
      (a.k_cache.present && (a.sk != k.s || a.batch != k.b || a.batch != v.b)))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: shapes do not fit together");
  k.s = new_k, v.s = new_v;
  a.q = view(tq, &q, a.heads, a.sq);
  a.k = view(tk, &k, a.kv_heads, a.k_cache.present ? new_k : a.sk);
  a.v = view(tv, &v, a.kv_heads, a.k_cache.present ? new_v : a.sk);
  set_mask(&a, mrt_in(c, 3), mask);
  const size_t bytes = mrt_attn_scratch_size(&c->par, &a);
  void *scratch;
  if (bytes == SIZE_MAX) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_attn_run(&c->par, &a, scratch);
  return NULL;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  static const char *const names[4] = {"q_layout", "k_layout", "v_layout", "out_layout"};
  attention_kernel *q;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "attention_f32", run, NULL, &q));
  for (int i = 0; i < 4; ++i) strncpy(q->layout[i], mrt_node_str(node, names[i]), 4);
  q->scale = mrt_node_float(node, "scale");
  q->precision = precision;
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(attention) = {.domain = "macart", .op = "Attention", .create = create};
