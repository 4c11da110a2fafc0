/* LSTM, GRU and RNN nodes with constant weights and the usual activations; anything else about
 * them is left to the reference. */
#include <string.h>
#include <strings.h>

#include "provider/cpu/cpu.h"
#include "provider/cpu/recurrent/recurrent.h"
#include "provider/cpu/weights/packed.h"

enum { PACKED = 1 << 1 | 1 << 2 | 1 << 3 }; /* W, R, B */

typedef struct recurrent_kernel {
  mrt_kernel k;
  mrt_rnn_weights w;
  mrt_packed *packed;
  bool reverse;
} recurrent_kernel;

static void destroy(mrt_kernel *k) {
  mrt_packed_release(((recurrent_kernel *)k)->packed);
  mrt_kernel_free(k);
}

static bool shape_is(const mrt_tensor *t, int rank, const int64_t *dims) {
  return !t || mrt_shape_equal(t->rank, t->dims, rank, dims);
}

/* Sequences that end early are the reference's work. */
static bool full_length(const mrt_tensor *lens, int64_t seq, int64_t batch) {
  if (!lens) return true;
  if (lens->dtype != MRT_INT32 || mrt_tensor_count(lens) != batch) return false;
  for (int64_t i = 0; i < batch; ++i)
    if (((const int32_t *)lens->data)[i] != seq) return false;
  return true;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const recurrent_kernel *p = (const recurrent_kernel *)k;
  const mrt_rnn_weights *w = &p->w;
  const bool lstm = w->kind == MRT_RNN_LSTM;
  const mrt_tensor *x = mrt_in(c, 0), *h0 = mrt_in(c, 5), *c0 = lstm ? mrt_in(c, 6) : NULL;
  mrt_tensor *y = mrt_out(c, 0), *yh = mrt_out(c, 1), *yc = lstm ? mrt_out(c, 2) : NULL;
  const int64_t state[3] = {w->dirs, x->rank == 3 ? x->dims[1] : 0, w->hidden};
  if (x->rank != 3 || x->dims[2] != w->in || !shape_is(h0, 3, state) || !shape_is(c0, 3, state) ||
      !full_length(mrt_in(c, 4), x->dims[0], x->dims[1]))
    return mrt_cpu_run_reference(c, PACKED);
  const mrt_rnn_run q = {.w = w,
                         .seq = x->dims[0],
                         .batch = x->dims[1],
                         .reverse = p->reverse,
                         .x = x->data,
                         .h0 = h0 ? h0->data : NULL,
                         .c0 = c0 ? c0->data : NULL,
                         .y = y ? y->data : NULL,
                         .yh = yh ? yh->data : NULL,
                         .yc = yc ? yc->data : NULL};
  const size_t bytes = mrt_rnn_scratch_size(&c->par, &q);
  void *scratch;
  if (bytes == SIZE_MAX) return mrt_status_oom();
  MRT_TRY(mrt_scratch(c, bytes, &scratch));
  mrt_rnn_run_layer(&c->par, &q, scratch);
  return NULL;
}

static bool kind_of(const mrt_node *node, mrt_rnn_kind *kind) {
  static const char *const usual[3][3] = {
      {"tanh"}, {"sigmoid", "tanh"}, {"sigmoid", "tanh", "tanh"}};
  const int which = strcmp(node->op_type, "LSTM") == 0 ? 2 : strcmp(node->op_type, "GRU") == 0;
  const mrt_attr *act = mrt_node_attr(node, "activations");
  bool relu = which == 0 && act && act->n > 0;
  for (size_t i = 0; act && i < act->n; ++i)
    relu = relu && strcasecmp(act->strings[i], "relu") == 0;
  for (size_t i = 0; act && i < act->n && !relu; ++i)
    if (strcasecmp(act->strings[i], usual[which][i % (size_t)(which + 1)]) != 0) return false;
  *kind = which == 2 ? MRT_RNN_LSTM : which == 1 ? MRT_RNN_GRU : relu ? MRT_RNN_RELU : MRT_RNN_TANH;
  return which != 1 || mrt_node_int(node, "linear_before_reset") != 0;
}

static const mrt_tensor *weight(const mrt_node *node, int i) {
  const mrt_tensor *t = mrt_node_in_const(node, i);
  return t && t->dtype == MRT_FLOAT && !t->strided ? t : NULL;
}

static bool match(const mrt_provider *p, const mrt_node *node) {
  mrt_rnn_kind kind;
  (void)p;
  const mrt_tensor *w = weight(node, 1), *r = weight(node, 2), *b = weight(node, 3);
  if (!node->def || !node->def->run || mrt_node_in_dtype(node, 0) != MRT_FLOAT) return false;
  if (!w || !r || w->rank != 3 || r->rank != 3 || !kind_of(node, &kind)) return false;
  if (mrt_node_float(node, "clip") != 0 || mrt_node_int(node, "layout") != 0) return false;
  if (kind == MRT_RNN_LSTM && mrt_node_int(node, "input_forget")) return false;
  if (node->n_in > 7 && node->in[7].var) return false; /* peepholes */
  const bool both = strcmp(mrt_node_str(node, "direction"), "bidirectional") == 0;
  const int64_t gates = kind == MRT_RNN_LSTM ? 4 : kind == MRT_RNN_GRU ? 3 : 1, dirs = both ? 2 : 1;
  const int64_t H = r->dims[2];
  if (node->n_in > 3 && node->in[3].var && !b) return false;
  return H > 0 && shape_is(w, 3, (int64_t[]){dirs, gates * H, w->dims[2]}) &&
         shape_is(r, 3, (int64_t[]){dirs, gates * H, H}) &&
         shape_is(b, 2, (int64_t[]){dirs, 2 * gates * H});
}

typedef struct pack_arg {
  const mrt_rnn_weights *p;
  const mrt_tensor *w, *b;
} pack_arg;

static mrt_status *pack(const void *arg, const mrt_tensor *r, void *dst) {
  const pack_arg *a = arg;
  return mrt_rnn_pack(a->p, a->w->data, r->data, a->b ? a->b->data : NULL, dst);
}

/* What folding makes of the file's weights (gates in another order) is made here, unless it was
 * packed at an earlier start. */
static mrt_status *contents(const mrt_provider *p, const mrt_tensor *t, mrt_tensor **out) {
  *out = NULL;
  return t && mrt_tensor_is_forgotten(t) ? mrt_tensor_again(p->env->alloc, t, out) : NULL;
}

static mrt_status *get_weights(const mrt_provider *p, recurrent_kernel *q, const mrt_node *node) {
  mrt_rnn_kind kind;
  const mrt_tensor *w = weight(node, 1), *r = weight(node, 2), *b = weight(node, 3);
  mrt_tensor *w_made = NULL, *r_made = NULL, *b_made = NULL;
  (void)kind_of(node, &kind);
  MRT_TRY(mrt_rnn_describe(kind, (int)w->dims[0], w->dims[2], r->dims[2], &q->w));
  pack_arg arg = {&q->w, w, b};
  mrt_packer packer = {.format = "rnn.f32.2",
                       .params = {kind, q->w.dirs, q->w.in, q->w.hidden},
                       .bytes = q->w.bytes,
                       .more = {w, b},
                       .pack = pack,
                       .arg = &arg};
  MRT_TRY(mrt_packed_find(r, &packer, &q->packed));
  if (!q->packed) {
    mrt_status *st = contents(p, w, &w_made);
    if (!st) st = contents(p, r, &r_made);
    if (!st) st = contents(p, b, &b_made);
    arg.w = packer.more[0] = w_made ? w_made : w;
    arg.b = packer.more[1] = b_made ? b_made : b;
    if (!st) st = mrt_packed_get(r_made ? r_made : r, &packer, &q->packed);
    mrt_tensor_release(w_made);
    mrt_tensor_release(r_made);
    mrt_tensor_release(b_made);
    MRT_TRY(st);
  }
  mrt_rnn_place(&q->w, mrt_packed_data(q->packed));
  return NULL;
}

static uint32_t packs_misaligned(const mrt_node *node) {
  (void)node;
  return PACKED | MRT_PACKS_LATER;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  recurrent_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "recurrent_f32", run, destroy, &q));
  q->reverse = strcmp(mrt_node_str(node, "direction"), "reverse") == 0;
  mrt_status *st = get_weights(p, q, node);
  if (st) {
    destroy(&q->k);
    return st;
  }
  q->k.any_align = PACKED;
  *out = &q->k;
  return NULL;
}

#define ROW(name)                                               \
  {                                                             \
    .domain = "", .op = name, .match = match, .create = create, \
    .packs_misaligned = packs_misaligned                        \
  }
MRT_CPU_KERNEL(lstm_f32) = ROW("LSTM");
MRT_CPU_KERNEL(gru_f32) = ROW("GRU");
MRT_CPU_KERNEL(rnn_f32) = ROW("RNN");
