/* Chooses the variants of a Conv node, one a precision, packs their weights, and agrees with the
 * convolution behind on what lies between the two. */
#include <stdatomic.h>
#include <string.h>

#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/conv/conv_variants.h"

/* Bytes of weights: below, scratch is bounded by them. */
enum { SMALL_NETWORK = 32 << 20 };

/* ---- weights ---- */

typedef struct pack_arg {
  const mrt_conv_choice *q;
  const mrt_conv_variant *v;
} pack_arg;

/* What Winograd and split parts ask of weights, whatever the variants here: another session may map
 * what this one packs. What is asked depends on strides and dilations too, and is part of the key,
 * so that packed weights which were asked less (or nothing) are not taken for good ones. */
static int asked(const mrt_conv_choice *q) {
  if (!q->special) return 0;
  return 1 + 2 * mrt_conv_winograd_ok(&q->p, NULL) + 4 * mrt_conv_split_ok(&q->p, NULL);
}
static bool in_range(const mrt_conv_choice *q, const float *weights) {
  const int what = asked(q);
  return (!(what & 2) || mrt_conv_winograd_ok(&q->p, weights)) &&
         (!(what & 4) || mrt_conv_split_ok(&q->p, weights));
}

static mrt_status *pack(const void *arg, const mrt_tensor *w, void *dst) {
  const pack_arg *a = arg;
  const mrt_par par = {0};
  const int64_t one = mrt_tensor_count(w) / a->q->loop;
  if (!in_range(a->q, w->data))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "weights out of the range of Winograd or bf16 parts");
  for (int64_t g = 0; g < a->q->loop; ++g)
    mrt_conv_pack(&par, &a->v->p, (const float *)w->data + g * one,
                  (char *)dst + (size_t)g * a->v->piece);
  return NULL;
}

mrt_status *mrt_conv_variant_weights(const mrt_conv_choice *q, mrt_conv_variant *v,
                                     const mrt_tensor *w, const void **out) {
  const mrt_conv *p = &v->p;
  mrt_packed *have = atomic_load(&v->packed), *none = NULL;
  if (!have) {
    const pack_arg arg = {q, v};
    const int form = p->raw        ? 8
                     : p->winograd ? 3 + p->winograd / 2
                     : p->parts    ? mrt_conv_split_b_parts(p)
                                   : 0;
    static const char *const formats[] = {"conv.f32.2", "conv.bf16.1", "conv.f16.1"};
    mrt_packer packer = {.format = formats[p->narrow],
                         .params = {p->cin, p->cout, p->groups, p->kh, p->kw, q->loop,
                                    p->input_nchw, form + 16 * asked(q)},
                         .align_source = true,
                         .pack = pack,
                         .arg = &arg};
    if (!mrt_size_mul(v->piece, (size_t)q->loop, &packer.bytes)) return mrt_status_oom();
    MRT_TRY(mrt_packed_get(w, &packer, &have));
    if (!atomic_compare_exchange_strong(&v->packed, &none, have)) { /* another run was faster */
      mrt_packed_release(have);
      have = none;
    }
  }
  *out = mrt_packed_data(have);
  return NULL;
}

/* ---- choice ---- */

/* The largest form of Winograd that conv_budget.c leaves to the node. */
static int most_winograd(const mrt_node *node, int precision) {
  int n;
  const int64_t *most = mrt_node_ints(node, "winograd", &n);
  return most && precision < n ? (int)most[precision] : 4;
}

/* Fills in the variants. */
static void choose(mrt_conv_choice *q, const mrt_provider *p, const mrt_node *node) {
  const char *value = p->env->config(p->env->config_ctx, "session.macart.winograd");
  const mrt_type *t = node->in[0].var->type;
  const bool winograd = !value || strcmp(value, "0") != 0;
  const bool usable = q->constant && q->loop == 1 && t->rank >= 3 && q->special;
  int64_t size[2] = {1, 64};
  if (usable) mrt_conv_node_image(node, size);
  const bool wino = usable && winograd && t->rank == 4 && mrt_conv_winograd_ok(&q->p, NULL);
  const bool split = usable && mrt_conv_split_ok(&q->p, NULL);
  for (int i = 0; i < MRT_CONV_VARIANTS; ++i) {
    mrt_conv_variant *v = &q->variants[i];
    const int most = most_winograd(node, i);
    v->p = q->p;
    v->p.winograd = 0;
    if (wino)
      v->p.winograd =
          mrt_conv_winograd_pays(&q->p, size[0], size[1], i >= MRT_PRECISION_HIGH && most == 4);
    if (v->p.winograd > most) v->p.winograd = 0;
    mrt_conv_choose(&v->p, (mrt_precision)i, size[0], size[1], split);
    v->piece = mrt_conv_packed_size(&v->p);
    for (v->same = 0; q->variants[v->same].p.winograd != v->p.winograd ||
                      q->variants[v->same].p.parts != v->p.parts;)
      ++v->same;
  }
}

bool mrt_conv_choice_read(mrt_conv_choice *q, const mrt_provider *p, const mrt_node *node,
                          bool known) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  if (!mrt_conv_node_read_window(node, &q->p, &q->loop, &q->win) ||
      !mrt_conv_node_act(node, &q->act))
    return false;
  q->in_c16 = mrt_is_c16(node->in[0].var);
  q->out_c16 = mrt_is_c16(node->out[0]);
  q->p.input_nchw = !q->in_c16 && q->p.cin <= 16 && q->p.groups == 1;
  q->constant = w && !w->strided && mrt_tensor_count(w);
  q->special = q->constant;
  if (q->constant) q->p.narrow = mrt_conv_node_narrow(&q->p, w, known);
  if (p->env->weight_bytes < SMALL_NETWORK) q->p.network_bytes = (int64_t)p->env->weight_bytes;
  choose(q, p, node);
  return true;
}

mrt_status *mrt_conv_choice_prepare(mrt_conv_choice *q, const mrt_provider *p,
                                    const mrt_node *node) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  const void *packed;
  if (!q->constant) return NULL;
  mrt_status *st = mrt_conv_variant_weights(q, mrt_conv_variant_now(q, NULL), w, &packed);
  if (!q->special || mrt_status_code(st) != MRT_NOT_IMPLEMENTED) return st;
  mrt_status_free(st);
  q->special = false;
  choose(q, p, node);
  return mrt_conv_variant_weights(q, mrt_conv_variant_now(q, NULL), w, &packed);
}

void mrt_conv_choice_free(mrt_conv_choice *q) {
  for (int i = 0; i < MRT_CONV_VARIANTS; ++i)
    mrt_packed_release(atomic_load(&q->variants[i].packed));
}

/* ---- values between two convolutions ---- */

/* Is it faster to read `parts` than floats? Where they need not be copied into bands, and where one
 * part is half of what an image takes that leaves L2. */
static bool parts_pay(const mrt_conv *p, const mrt_node *node, int parts) {
  enum { LARGE = 3 << 20 };
  int64_t size[2];
  mrt_conv_node_image(node, size);
  return mrt_conv_split_in_place(p) ||
         (parts == 1 && (double)(p->cin * 4) * (double)size[0] * (double)size[1] >= LARGE);
}

void mrt_conv_choice_meet(mrt_conv_choice *q, const mrt_provider *p, const mrt_node *node) {
  const mrt_var *y = node->out[0];
  const mrt_use *use = y->uses;
  mrt_conv_choice next = {0};
  if (!q->out_c16 || y->n_uses != 1 || y->n_graph_outputs || use->index != 0 ||
      use->node->graph != node->graph || use->node->provider != node->provider ||
      strcmp(use->node->op_type, "Conv") != 0 ||
      (*use->node->domain && strcmp(use->node->domain, "macart") != 0) ||
      (node->n_in > 3 && node->in[3].var) || !mrt_conv_choice_read(&next, p, use->node, true) ||
      next.loop != 1)
    return;
  for (int i = 0; i < MRT_CONV_VARIANTS; ++i) {
    const int parts = next.variants[i].p.parts;
    if (mrt_conv_split_gives(&q->variants[i].p, &q->act, parts) &&
        parts_pay(&next.variants[i].p, use->node, parts))
      q->variants[i].gives = parts;
  }
}
