/* The kernel of macart.Attention: layouts become strides. */
#include <string.h>

#include "provider/cpu/attention/attention.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/gemm/precision.h"

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

static mrt_status *run(const mrt_kernel *kernel, mrt_kctx *c) {
  const attention_kernel *p = (const attention_kernel *)kernel;
  const mrt_tensor *tq = mrt_in(c, 0), *tk = mrt_in(c, 1), *tv = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  axes q, k, v, o;
  if (!y || !y->bytes) return NULL;
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
  if (!set_sizes(&a, &q, &k, &v, &o, mask))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: shapes do not fit together");
  a.q = view(tq, &q, a.heads, a.sq);
  a.k = view(tk, &k, a.kv_heads, a.sk);
  a.v = view(tv, &v, a.kv_heads, a.sk);
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
