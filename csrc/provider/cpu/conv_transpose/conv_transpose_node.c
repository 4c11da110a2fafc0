/* ConvTranspose of float32 with constant weights, one group and no dilation, on one or two spatial
 * dims, in either layout. Weights are packed in the form that the precision wants when the kernel
 * is made, in another one when a run first wants that. */
#include <stdatomic.h>
#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/conv_transpose/conv_transpose.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/weights/packed.h"

enum { PRECISIONS = MRT_PRECISION_MEDIUM + 1, MOST_PARTS = 3 };

typedef struct convt_kernel {
  mrt_kernel k;
  mrt_convt p;           /* padding as the node says; see resolve. No parts: */
  int parts[PRECISIONS]; /* of each precision */
  _Atomic(mrt_packed *) packed[MOST_PARTS + 1]; /* by parts; NULL: not yet */
  int precision;                                /* mrt_precision, or -1: the process default */
  mrt_window win;
  int64_t extra[MRT_MAX_SPATIAL]; /* output_padding */
  bool by_size, upper;            /* padding follows from the output's size; who gets the odd one */
  bool in_c16, out_c16;
} convt_kernel;

/* Padding along the dims of a run whose output size was given. */
static void resolve(const convt_kernel *q, const mrt_tensor *x, const mrt_tensor *y, mrt_convt *p) {
  int64_t begin[2] = {0};
  for (int i = 0; i < q->win.n; ++i) {
    int64_t total =
        (x->dims[i + 2] - 1) * q->win.stride[i] + q->extra[i] + q->win.kernel[i] - y->dims[i + 2];
    if (total < 0) total = 0;
    begin[i] = q->upper ? total / 2 : total - total / 2;
  }
  p->pad_left = begin[q->win.n - 1];
  p->pad_top = q->win.n == 2 ? begin[0] : 0;
}

static bool read_node(const mrt_node *node, convt_kernel *q) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  const int rank = mrt_node_in_rank(node, 0), n = rank - 2;
  int k;
  if (!w || w->strided || w->dtype != MRT_FLOAT || mrt_node_in_dtype(node, 0) != MRT_FLOAT ||
      (rank != 3 && rank != 4) || w->rank != rank || mrt_node_int(node, "group") != 1)
    return false;
  mrt_status *st = mrt_window_read(node, n, w->dims + 2, &q->win);
  bool ok = !st;
  mrt_status_free(st);
  for (int i = 0; i < n && ok; ++i)
    ok = q->win.dilation[i] == 1 && q->win.kernel[i] == w->dims[i + 2];
  if (!ok) return false;
  const int64_t *extra = mrt_node_ints(node, "output_padding", &k);
  if (k && k != n) return false;
  for (int i = 0; i < n; ++i) q->extra[i] = k ? extra[i] : 0;
  (void)mrt_node_ints(node, "output_shape", &k);
  q->by_size = k > 0 || q->win.same;
  q->upper = strcmp(mrt_node_str(node, "auto_pad"), "SAME_UPPER") == 0;
  q->p = (mrt_convt){.cin = w->dims[0],
                     .cout = w->dims[1],
                     .kh = n == 2 ? q->win.kernel[0] : 1,
                     .kw = q->win.kernel[n - 1],
                     .stride_h = n == 2 ? q->win.stride[0] : 1,
                     .stride_w = q->win.stride[n - 1],
                     .pad_top = n == 2 ? q->win.begin[0] : 0,
                     .pad_left = q->win.begin[n - 1]};
  if (!q->by_size) return mrt_convt_ok(&q->p);
  /* Padding of a run is at most what makes an output of the input's size times the stride. */
  mrt_convt most = q->p;
  most.pad_top = (most.kh - most.stride_h + 1) / 2,
  most.pad_left = (most.kw - most.stride_w + 1) / 2;
  return q->win.same && k == 0 && mrt_convt_ok(&most);
}
bool mrt_convt_node_ok(const mrt_node *node) {
  convt_kernel q;
  return read_node(node, &q);
}
static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  return mrt_convt_node_ok(node);
}

static mrt_status *blocked(mrt_kctx *c, const mrt_planes *s, float **out) {
  const int64_t dims[4] = {s->n, s->c, s->h, s->w};
  size_t bytes;
  MRT_TRY(mrt_layout_bytes(MRT_FLOAT, MRT_LAYOUT_C16, 4, dims, &bytes));
  if (bytes / sizeof(float) > INT32_MAX)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "ConvTranspose over an image of more than 2^31 values");
  return mrt_scratch(c, bytes, (void **)out);
}
static mrt_status *check(const convt_kernel *q, const mrt_tensor *x, const mrt_tensor *b,
                         const mrt_planes *in, const mrt_convt *p) {
  int64_t floats;
  if (in->c != q->p.cin)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has %lld channels, W is for %lld", (long long)in->c,
                   (long long)q->p.cin);
  if (b && mrt_tensor_count(b) != q->p.cout)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                   (long long)mrt_tensor_count(b), (long long)q->p.cout);
  if (!mrt_i64_mul(in->h + p->kh, in->w + p->kw + 1, &floats) ||
      !mrt_i64_mul(floats, mrt_c16_blocks(in->c) * 16, &floats) || floats > INT32_MAX)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "ConvTranspose over an image of more than 2^31 values");
  return mrt_convt_ok(p)
             ? NULL
             : MRT_ERR(MRT_INVALID_ARGUMENT, "ConvTranspose: rank %d: too much padding", x->rank);
}
static mrt_status *pack(const void *arg, const mrt_tensor *w, void *dst) {
  const mrt_convt *p = arg;
  memset(dst, 0, mrt_convt_packed_size(p));
  return mrt_convt_pack(mrt_alloc_default(), p, w->data, dst);
}

static mrt_status *get_weights(const convt_kernel *q, int parts, const mrt_tensor *w,
                               const float **out) {
  _Atomic(mrt_packed *) *at = (_Atomic(mrt_packed *) *)&q->packed[parts];
  mrt_packed *have = atomic_load(at), *none = NULL;
  mrt_convt p = q->p;
  p.parts = parts;
  if (!have) {
    const mrt_packer packer = {
        .format = "convt.f32.1",
        .params = {p.cin, p.cout, p.kh << 32 | p.kw, p.stride_h << 32 | p.stride_w,
                   p.pad_top << 32 | p.pad_left, p.parts, mrt_cpu_get()->isa},
        .bytes = mrt_convt_packed_size(&p),
        .align_source = true,
        .pack = pack,
        .arg = &p};
    MRT_TRY(mrt_packed_get(w, &packer, &have));
    if (!atomic_compare_exchange_strong(at, &none, have)) { /* another run was faster */
      mrt_packed_release(have);
      have = none;
    }
  }
  *out = mrt_packed_data(have);
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const convt_kernel *q = (const convt_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0), *b = mrt_in(c, 2);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  const mrt_planes in = mrt_planes_of(x), out = mrt_planes_of(y);
  mrt_convt p = q->p;
  p.parts = q->parts[mrt_precision_now(q->precision)];
  if (q->by_size) resolve(q, x, y, &p);
  MRT_TRY(check(q, x, b, &in, &p));
  const bool plain = mrt_convt_plain(&p);
  mrt_convt_args a = {.n = in.n,
                      .h = in.h,
                      .w = in.w,
                      .oh = out.h,
                      .ow = out.w,
                      .input = x->data,
                      .bias = b ? b->data : NULL,
                      .output = y->data};
  float *tmp;
  void *scratch;
  MRT_TRY(get_weights(q, p.parts, mrt_in(c, 1), &a.weights));
  if (!q->in_c16) {
    MRT_TRY(blocked(c, &in, &tmp));
    mrt_c16_from_nchw(&c->par, x->data, in.n, in.c, in.h, in.w, tmp);
    a.input = tmp;
  }
  if (plain && q->out_c16) {
    const size_t bytes = (size_t)(out.n * out.c * out.h * out.w) * sizeof(float);
    MRT_TRY(mrt_scratch(c, bytes, (void **)&a.output));
  } else if (!plain && !q->out_c16) {
    MRT_TRY(blocked(c, &out, &a.output));
  }
  MRT_TRY(mrt_scratch(c, mrt_convt_scratch_size(&c->par, &p, &a), &scratch));
  mrt_convt_run(&c->par, &p, &a, scratch);
  if (plain && q->out_c16)
    mrt_c16_from_nchw(&c->par, a.output, out.n, out.c, out.h, out.w, y->data);
  else if (!plain && !q->out_c16)
    mrt_c16_to_nchw(&c->par, a.output, out.n, out.c, out.h, out.w, y->data);
  return NULL;
}

/* Sizes that are not known count as 64. */
static void choose(const mrt_node *node, convt_kernel *q) {
  const mrt_type *t = node->in[0].var->type;
  int64_t size[2] = {1, 64};
  for (int i = 2 - q->win.n; i < 2; ++i)
    if (!t || !t->dims[t->rank - 2 + i] || !mrt_expr_is_const(t->dims[t->rank - 2 + i], &size[i]))
      size[i] = 64;
  for (int i = 0; i < q->win.n; ++i)
    if (q->extra[i] || q->win.end[i] || q->by_size) return;
  for (int i = 0; i < PRECISIONS; ++i) {
    mrt_convt p = q->p;
    mrt_convt_choose(&p, (mrt_precision)i, mrt_node_in_const(node, 1)->data, size[0], size[1]);
    q->parts[i] = p.parts;
  }
}

static void destroy(mrt_kernel *k) {
  convt_kernel *q = (convt_kernel *)k;
  for (int i = 0; i <= MOST_PARTS; ++i) mrt_packed_release(atomic_load(&q->packed[i]));
  mrt_kernel_free(k);
}
static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  convt_kernel *q;
  mrt_status *st = NULL;
  const float *packed;
  int precision;
  *out = NULL;
  MRT_TRY(mrt_precision_option(p->env, &precision));
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "conv_transpose_f32", run, destroy, &q));
  if (!read_node(node, q)) st = MRT_ERR(MRT_FAIL, "not a ConvTranspose of this kernel");
  q->in_c16 = mrt_is_c16(node->in[0].var);
  q->out_c16 = mrt_is_c16(node->out[0]);
  q->precision = precision;
  if (!st) choose(node, q);
  const int parts = q->parts[mrt_precision_now(precision)];
  if (parts) q->k.name = "conv_transpose_split_f32";
  if (!st) st = get_weights(q, parts, mrt_node_in_const(node, 1), &packed);
  q->k.any_align = 1 << 1;
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

MRT_CPU_KERNEL(conv_transpose_f32) = {
    .domain = "", .op = "ConvTranspose", .match = match, .create = create, .layouts = true};
