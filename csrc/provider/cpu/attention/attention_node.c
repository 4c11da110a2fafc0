/* The kernel of macart.Attention: layouts become strides. */
#include <string.h>

#include "provider/cpu/attention/attention.h"
#include "provider/cpu/cpu.h"

typedef struct attention_kernel {
  mrt_kernel k;
  char layout[4][5]; /* of q, k, v, out */
  float scale;
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

static mrt_attn_view view(const mrt_tensor *t, const axes *a) {
  return (mrt_attn_view){t->data, a->step_b, a->step_h, a->step_s, a->step_d};
}

static mrt_status *read_mask(const mrt_tensor *m, mrt_attn *a) {
  if (!m) return NULL;
  const int64_t want[4] = {a->batch, a->heads, a->sq, a->sk};
  int64_t *const to[4] = {&a->mask_batch, &a->mask_head, &a->mask_row, &a->mask_col};
  int64_t step = 1;
  if (m->rank > 4) return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: mask of rank %d", m->rank);
  for (int i = 3; i >= 0; --i) {
    const int k = i - (4 - m->rank);
    const int64_t d = k < 0 ? 1 : m->dims[k];
    if (d != 1 && d != want[i])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: dim %d of the mask is %lld, not %lld", k,
                     (long long)d, (long long)want[i]);
    *to[i] = d == 1 ? 0 : step;
    step *= d;
  }
  a->mask = m->data;
  return NULL;
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
  if (q.b != k.b || k.b != v.b || k.h != v.h || !k.h || q.h % k.h || q.d != k.d || k.s != v.s ||
      o.b != q.b || o.h != q.h || o.s != q.s || o.d != v.d)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Attention: shapes do not fit together");
  mrt_attn a = {.batch = q.b,
                .heads = q.h,
                .kv_heads = k.h,
                .sq = q.s,
                .sk = k.s,
                .d = q.d,
                .dv = v.d,
                .q = view(tq, &q),
                .k = view(tk, &k),
                .v = view(tv, &v),
                .out = y->data,
                .out_batch = o.step_b,
                .out_head = o.step_h,
                .out_row = o.step_s,
                .scale = p->scale};
  MRT_TRY(read_mask(mrt_in(c, 3), &a));
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
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "attention_f32", run, NULL, &q));
  for (int i = 0; i < 4; ++i) strncpy(q->layout[i], mrt_node_str(node, names[i]), 4);
  q->scale = mrt_node_float(node, "scale");
  *out = &q->k;
  return NULL;
}

MRT_CPU_KERNEL(attention) = {.domain = "macart", .op = "Attention", .create = create};
