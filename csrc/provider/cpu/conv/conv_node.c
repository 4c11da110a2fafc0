/* Conv and macart.Conv as kernels. How a convolution is computed may differ by precision: each
 * precision has a variant, whose constant weights are packed when it first runs (that of the
 * session's precision when the kernel is made). Inputs and outputs are plain or c16, as the layout
 * pass decided; plain ones are reordered here, except that up to 16 channels are read in place.
 * Groups that do not fill channel blocks are run one after the other between reordered slices of
 * plain tensors. */
#include <stdatomic.h>
#include <string.h>

#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/gemm/precision.h"
#include "provider/cpu/half/narrow.h"
#include "provider/cpu/weights/packed.h"

enum { PRECISIONS = MRT_PRECISION_MEDIUM + 1 };

typedef struct variant {
  mrt_conv p;
  size_t piece; /* bytes of one group's packed weights */
  int same;     /* the first precision with this variant: that one has the weights */
  int gives;    /* parts that the next convolution wants, see wanted_parts; 0: floats */
  _Atomic(mrt_packed *) packed; /* NULL: not yet, or weights are not constant */
} variant;

typedef struct conv_kernel {
  mrt_kernel k;
  mrt_conv p;   /* what all variants share */
  int64_t loop; /* see mrt_conv_node_read */
  variant variants[PRECISIONS];
  int precision; /* mrt_precision, or -1: the process default */
  bool constant; /* weights can be packed for good */
  /* Winograd and split parts may be used. They bound the weights' range, which is looked at when
   * the first variant is packed: weights from the cache were looked at then. */
  bool special;
  mrt_act act;
  mrt_window win; /* as the node says */
  bool in_c16, out_c16;
} conv_kernel;

/* ---- the node's constants ---- */

/* Dims of the weights, from the constant or its type; false if not known. */
static bool weight_dims(const mrt_node *node, int rank, int64_t *dims) {
  const mrt_type *t = node->in[1].var->type;
  if (!t || t->rank != rank) return false;
  for (int i = 0; i < rank; ++i)
    if (!mrt_expr_is_const(t->dims[i], &dims[i])) return false;
  return true;
}

static void set_geometry(mrt_conv *p, const mrt_window *w) {
  const int x = w->n - 1;
  p->kw = w->kernel[x], p->stride_w = w->stride[x], p->dil_w = w->dilation[x];
  p->pad_left = w->begin[x], p->pad_right = w->end[x];
  p->kh = p->stride_h = p->dil_h = 1;
  p->pad_top = p->pad_bottom = 0;
  if (w->n == 1) return;
  p->kh = w->kernel[0], p->stride_h = w->stride[0], p->dil_h = w->dilation[0];
  p->pad_top = w->begin[0], p->pad_bottom = w->end[0];
}

static bool read_all(const mrt_node *node, mrt_conv *p, int64_t *loop, mrt_window *w) {
  int64_t dims[4];
  const int rank = mrt_node_in_rank(node, 0);
  if (node->n_in < 2 || (rank != 3 && rank != 4) || mrt_node_in_dtype(node, 0) != MRT_FLOAT ||
      mrt_node_in_dtype(node, 1) != MRT_FLOAT || !weight_dims(node, rank, dims))
    return false;
  mrt_status *st = mrt_window_read(node, rank - 2, dims + 2, w);
  const int64_t groups = mrt_node_int(node, "group");
  bool ok = !st && groups >= 1 && dims[0] > 0 && dims[1] > 0 && dims[0] % groups == 0;
  mrt_status_free(st);
  for (int i = 0; i < rank - 2 && ok; ++i) /* padding that cuts off is for the reference kernel */
    ok = w->kernel[i] == dims[i + 2] && w->begin[i] >= 0 && w->end[i] >= 0;
  if (!ok || dims[1] > INT32_MAX / groups) return false;
  *p = (mrt_conv){.cin = dims[1] * groups, .cout = dims[0], .groups = groups};
  set_geometry(p, w);
  if (p->kh * p->kw > MRT_POOL_MAX_TAPS || p->cin / groups > INT32_MAX / (p->kh * p->kw))
    return false;
  *loop = 1;
  st = mrt_conv_check(p);
  if (st) { /* groups that do not fill blocks */
    mrt_status_free(st);
    *loop = groups;
    p->cin /= groups, p->cout /= groups, p->groups = 1;
  }
  return true;
}

bool mrt_conv_node_read(const mrt_node *node, mrt_conv *p, int64_t *loop) {
  mrt_window w;
  return read_all(node, p, loop, &w);
}

mrt_conv_narrow mrt_conv_node_narrow(const mrt_conv *p, const mrt_tensor *w, bool known) {
  enum { LEAST = 1 << 13 };
  const int64_t count = mrt_tensor_count(w);
  mrt_narrow_kind kind;
  if (count < LEAST || (p->groups > 1 && p->groups == p->cin)) return MRT_CONV_WIDE;
  if (w->narrow) return w->narrow == MRT_FLOAT16 ? MRT_CONV_F16 : MRT_CONV_BF16;
  if (known || !mrt_narrow_kind_of(w->data, count, &kind)) return MRT_CONV_WIDE;
  return kind == MRT_NARROW_F16 ? MRT_CONV_F16 : MRT_CONV_BF16;
}

void mrt_conv_node_image(const mrt_node *node, int64_t size[2]) {
  const mrt_type *t = node->in[0].var->type;
  size[0] = 1;
  for (int i = t->rank > 3 ? 0 : 1; i < 2; ++i)
    if (!t->dims[t->rank - 2 + i] || !mrt_expr_is_const(t->dims[t->rank - 2 + i], &size[i]))
      size[i] = 64;
}

/* ---- a run ---- */

typedef struct conv_call {
  const conv_kernel *q;
  mrt_kctx *c;
  mrt_conv p;   /* with this run's padding */
  size_t piece; /* bytes of one group's packed weights */
  mrt_planes in, out;
  const float *x, *bias, *residual;
  float *y;
  const void *packed;
  int in_parts, out_parts;
} conv_call;

/* Floats of a c16 copy; checked, and addressable by the tiles' 32-bit offsets. */
static mrt_status *c16_scratch(mrt_kctx *c, const mrt_planes *s, int64_t channels, float **out) {
  const int64_t dims[4] = {s->n, channels, s->h, s->w};
  size_t bytes;
  MRT_TRY(mrt_layout_bytes(MRT_FLOAT, MRT_LAYOUT_C16, 4, dims, &bytes));
  return mrt_scratch(c, bytes, (void **)out);
}

static mrt_status *check_call(const conv_call *v) {
  const conv_kernel *q = v->q;
  int64_t floats;
  if (v->in.c != q->p.cin * q->loop)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "X has %lld channels, W is for %lld", (long long)v->in.c,
                   (long long)(q->p.cin * q->loop));
  const int64_t h = v->in.h + v->p.pad_top + v->p.pad_bottom,
                w = v->in.w + v->p.pad_left + v->p.pad_right;
  if (!mrt_i64_mul(h, w + 1, &floats) ||
      !mrt_i64_mul(floats, mrt_c16_blocks(v->in.c) * 16, &floats) || floats > INT32_MAX)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Conv over an image of more than 2^31 values");
  const mrt_tensor *b = mrt_in(v->c, 2);
  if (b && mrt_tensor_count(b) != v->out.c)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "bias has %lld elements for %lld channels",
                   (long long)mrt_tensor_count(b), (long long)v->out.c);
  return NULL;
}

typedef struct pack_arg {
  const conv_kernel *q;
  const variant *v;
} pack_arg;

/* What Winograd and split parts ask of weights, whatever the variants here: another session may map
 * what this one packs. What is asked depends on strides and dilations too, and is part of the key,
 * so that packed weights which were asked less (or nothing) are not taken for good ones. */
static int asked(const conv_kernel *q) {
  if (!q->special) return 0;
  return 1 + 2 * mrt_conv_winograd_ok(&q->p, NULL) + 4 * mrt_conv_split_ok(&q->p, NULL);
}
static bool in_range(const conv_kernel *q, const float *weights) {
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

/* The constant weights of a variant from the store, packed there if need be. */
static mrt_status *packed_weights(const conv_kernel *q, variant *v, const mrt_tensor *w,
                                  const void **out) {
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

static variant *variant_now(const conv_kernel *q, int *gives) {
  const variant *v = &q->variants[mrt_precision_now(q->precision)];
  if (gives) *gives = v->gives;
  return (variant *)&q->variants[v->same];
}

/* Weights that are not constant are packed at each run. */
static mrt_status *get_weights(conv_call *v, variant *now) {
  const conv_kernel *q = v->q;
  const mrt_tensor *w = mrt_in(v->c, 1);
  char *dst;
  size_t bytes;
  if (q->constant) return packed_weights(q, now, w, &v->packed);
  if (!mrt_size_mul(now->piece, (size_t)q->loop, &bytes)) return mrt_status_oom();
  MRT_TRY(mrt_scratch(v->c, bytes, (void **)&dst));
  const int64_t one = mrt_tensor_count(w) / q->loop;
  for (int64_t g = 0; g < q->loop; ++g)
    mrt_conv_pack(&v->c->par, &now->p, (const float *)w->data + g * one,
                  dst + (size_t)g * now->piece);
  v->packed = dst;
  return NULL;
}

static mrt_status *run_all(const conv_call *v) {
  const conv_kernel *q = v->q;
  const mrt_par *par = &v->c->par;
  const mrt_planes *i = &v->in, *o = &v->out;
  mrt_conv_args a = {.n = i->n,
                     .h = i->h,
                     .w = i->w,
                     .input = v->x,
                     .weights = v->packed,
                     .bias = v->bias,
                     .residual = v->residual,
                     .act = q->act,
                     .output = v->y,
                     .in_parts = v->in_parts,
                     .out_parts = v->out_parts};
  float *tmp;
  void *scratch;
  if (!q->in_c16 && !v->p.input_nchw) {
    MRT_TRY(c16_scratch(v->c, i, i->c, &tmp));
    mrt_c16_from_nchw(par, v->x, i->n, i->c, i->h, i->w, tmp);
    a.input = tmp;
  }
  mrt_conv p = v->p;
  p.output_nchw = !q->out_c16 && p.parts && !v->residual;
  const bool copy = !q->out_c16 && !p.output_nchw;
  if (copy) {
    MRT_TRY(c16_scratch(v->c, o, o->c, &a.output));
    if (v->residual) {
      mrt_c16_from_nchw(par, v->residual, o->n, o->c, o->h, o->w, a.output);
      a.residual = a.output;
    }
  }
  MRT_TRY(mrt_scratch(v->c, mrt_conv_scratch_size(par, &p, i->h, i->w), &scratch));
  mrt_conv_run(par, &p, &a, scratch);
  if (copy) mrt_c16_to_nchw(par, a.output, o->n, o->c, o->h, o->w, v->y);
  return NULL;
}

/* ---- long rows ----
 * A row of a plain signal is cut into pieces, so that its channel blocks and bf16 parts do not take
 * several times the memory of the values themselves. */
enum { PIECE_BYTES = 4 << 20, LEAST_PIECE = 256 };

/* Outputs of a piece, a function of the shape; 0: the row is not cut. */
static int64_t piece_of(const conv_call *v) {
  const mrt_conv *p = &v->p;
  if (p->input_nchw || v->in.h != 1 || p->kh != 1 || v->out.h != 1) return 0;
  const int64_t span = (p->kw - 1) * p->dil_w + 1;
  if (p->pad_left >= span || p->pad_right >= span) return 0; /* a piece may have no input */
  /* What it takes in one piece, on two threads. */
  const mrt_par serial = {.threads = 1};
  const double uncut = 2.0 * (double)mrt_conv_scratch_size(&serial, p, 1, v->in.w) +
                       (v->q->in_c16 ? 0 : 4.0 * (double)(v->in.w * p->cin)) +
                       (v->q->out_c16 ? 0 : 4.0 * (double)(v->out.w * p->cout));
  if (uncut < 2 * PIECE_BYTES) return 0;
  const double one = 4.0 * (2.5 * (double)(p->stride_w * p->cin) + (double)p->cout);
  int64_t most = (int64_t)(PIECE_BYTES / one);
  if (most < LEAST_PIECE) most = LEAST_PIECE;
  if (v->out.w <= most) return 0;
  const int64_t pieces = (v->out.w + most - 1) / most, each = (v->out.w + pieces - 1) / pieces;
  return (each + 31) / 32 * 32;
}

/* Where outputs [o0, o1) find their input: p gets the padding that is left. */
static void input_of(const conv_call *v, int64_t o0, int64_t o1, mrt_conv *p, int64_t *i0,
                     int64_t *i1) {
  const int64_t span = (p->kw - 1) * p->dil_w + 1;
  *i0 = o0 * p->stride_w - v->p.pad_left;
  *i1 = (o1 - 1) * p->stride_w - v->p.pad_left + span;
  p->pad_left = *i0 < 0 ? -*i0 : 0;
  p->pad_right = *i1 > v->in.w ? *i1 - v->in.w : 0;
  *i0 += p->pad_left;
  *i1 -= p->pad_right;
}

/* The most that any piece needs. */
static size_t pieces_scratch(const conv_call *v, int64_t piece) {
  int64_t before = -1;
  size_t most = 0;
  for (int64_t o0 = 0; o0 < v->out.w; o0 += piece) {
    const int64_t o1 = o0 + piece < v->out.w ? o0 + piece : v->out.w;
    int64_t i0, i1;
    mrt_conv p = v->p;
    input_of(v, o0, o1, &p, &i0, &i1);
    if (!p.pad_left && !p.pad_right && i1 - i0 == before) continue; /* one of many */
    if (!p.pad_left && !p.pad_right) before = i1 - i0;
    const size_t one = mrt_conv_scratch_size(&v->c->par, &p, 1, i1 - i0);
    most = one > most ? one : most;
  }
  return most;
}

typedef struct move_job {
  const float *from;
  float *to;
  int64_t from_block, to_block, floats;
} move_job;
static void move_blocks(void *arg, int64_t begin, int64_t end) {
  const move_job *j = arg;
  for (int64_t b = begin; b < end; ++b)
    memcpy(j->to + b * j->to_block, j->from + b * j->from_block, (size_t)j->floats * sizeof(float));
}

/* `pixels` from `first` on of a row of c channels, w long, to c16; or (`back`) from there. */
static void move_line(const conv_call *v, bool c16, bool back, const float *from, float *to,
                      int64_t image, int64_t c, int64_t w, int64_t first, int64_t pixels) {
  const mrt_par *par = &v->c->par;
  const int64_t blocks = mrt_c16_blocks(c);
  const int64_t at = c16 ? (image * blocks * w + first) * 16 : image * c * w + first;
  if (!c16 && !back) {
    mrt_c16_from_line(par, from + at, w, c, pixels, to);
  } else if (!c16) {
    mrt_c16_to_line(par, from, w, c, pixels, to + at);
  } else {
    move_job j = {from + (back ? 0 : at), to + (back ? at : 0), w * 16, pixels * 16, pixels * 16};
    if (back) j.from_block = pixels * 16, j.to_block = w * 16;
    mrt_par_range(par, blocks, (double)pixels * 2, move_blocks, &j);
  }
}

static mrt_status *run_pieces(const conv_call *v, int64_t piece) {
  const mrt_par *par = &v->c->par;
  const mrt_planes *i = &v->in, *o = &v->out;
  const int64_t most = (piece - 1) * v->p.stride_w + (v->p.kw - 1) * v->p.dil_w + 1;
  const mrt_planes xi = {1, i->c, 1, most < i->w ? most : i->w}, yo = {1, o->c, 1, piece};
  float *x, *y;
  void *scratch;
  MRT_TRY(c16_scratch(v->c, &xi, i->c, &x));
  MRT_TRY(c16_scratch(v->c, &yo, o->c, &y));
  MRT_TRY(mrt_scratch(v->c, pieces_scratch(v, piece), &scratch));
  for (int64_t at = 0; at < i->n * o->w && !mrt_cancelled(par);) {
    const int64_t image = at / o->w, o0 = at % o->w;
    const int64_t o1 = o0 + piece < o->w ? o0 + piece : o->w;
    int64_t i0, i1;
    mrt_conv p = v->p;
    input_of(v, o0, o1, &p, &i0, &i1);
    const mrt_conv_args a = {.n = 1,
                             .h = 1,
                             .w = i1 - i0,
                             .input = x,
                             .weights = v->packed,
                             .bias = v->bias,
                             .residual = v->residual ? y : NULL,
                             .act = v->q->act,
                             .output = y};
    const bool out16 = v->q->out_c16;
    move_line(v, v->q->in_c16, false, v->x, x, image, i->c, i->w, i0, i1 - i0);
    if (v->residual) move_line(v, out16, false, v->residual, y, image, o->c, o->w, o0, o1 - o0);
    mrt_conv_run(par, &p, &a, scratch);
    move_line(v, out16, true, y, v->y, image, o->c, o->w, o0, o1 - o0);
    at += o1 - o0;
  }
  return NULL;
}

/* Group by group, image by image, between plain slices. */
static mrt_status *run_groups(const conv_call *v) {
  const conv_kernel *q = v->q;
  const mrt_par *par = &v->c->par;
  const mrt_planes *i = &v->in, *o = &v->out;
  const int64_t ci = v->p.cin, co = v->p.cout, in_area = i->h * i->w, out_area = o->h * o->w;
  float *x = NULL, *y;
  void *scratch;
  const mrt_planes xi = {1, ci, i->h, i->w}, yo = {1, co, o->h, o->w};
  if (!v->p.input_nchw) MRT_TRY(c16_scratch(v->c, &xi, ci, &x));
  MRT_TRY(c16_scratch(v->c, &yo, co, &y));
  MRT_TRY(mrt_scratch(v->c, mrt_conv_scratch_size(par, &v->p, i->h, i->w), &scratch));
  for (int64_t u = 0; u < i->n * q->loop; ++u) {
    const int64_t g = u % q->loop;
    const float *src = v->x + u * ci * in_area;
    mrt_conv_args a = {.n = 1,
                       .h = i->h,
                       .w = i->w,
                       .input = x ? x : src,
                       .weights = (const char *)v->packed + (size_t)g * v->piece,
                       .bias = v->bias ? v->bias + g * co : NULL,
                       .act = q->act,
                       .output = y};
    if (x) mrt_c16_from_nchw(par, src, 1, ci, i->h, i->w, x);
    if (v->residual) {
      mrt_c16_from_nchw(par, v->residual + u * co * out_area, 1, co, o->h, o->w, y);
      a.residual = y;
    }
    mrt_conv_run(par, &v->p, &a, scratch);
    mrt_c16_to_nchw(par, y, 1, co, o->h, o->w, v->y + u * co * out_area);
    if (mrt_cancelled(par)) return NULL;
  }
  return NULL;
}

/* Input that the convolution before has made of parts, as floats where this one does not take it so
 * (the process's precision was changed in between, or the weights are out of range). */
static mrt_status *take_parts(conv_call *v, int parts, bool whole) {
  const mrt_planes *i = &v->in;
  float *tmp;
  if (!parts || (whole && v->p.parts == parts)) {
    v->in_parts = parts;
    return NULL;
  }
  MRT_TRY(c16_scratch(v->c, i, i->c, &tmp));
  mrt_conv_split_join(&v->c->par, parts, v->x, i->n, i->c, i->h * i->w, tmp);
  v->x = tmp;
  return NULL;
}

static mrt_status *run(const mrt_kernel *k, mrt_kctx *c) {
  const conv_kernel *q = (const conv_kernel *)k;
  const mrt_tensor *x = mrt_in(c, 0), *b = mrt_in(c, 2), *r = mrt_in(c, 3);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  int gives;
  variant *now = variant_now(q, &gives);
  conv_call v = {.q = q,
                 .c = c,
                 .p = now->p,
                 .piece = now->piece,
                 .in = mrt_planes_of(x),
                 .out = mrt_planes_of(y)};
  if (q->win.same) {
    mrt_window w = q->win;
    mrt_window_resolve_same(&w, x->dims + 2, y->dims + 2);
    set_geometry(&v.p, &w);
  }
  v.x = x->data, v.y = y->data, v.bias = b ? b->data : NULL;
  if (r && !mrt_shape_equal(r->rank, r->dims, y->rank, y->dims))
    return MRT_ERR(MRT_INVALID_ARGUMENT, "the residual's shape is not that of the output");
  v.residual = r ? r->data : NULL;
  MRT_TRY(check_call(&v));
  MRT_TRY(get_weights(&v, now));
  const int64_t piece = q->loop > 1 ? 0 : piece_of(&v);
  MRT_TRY(take_parts(&v, x->parts, q->loop == 1 && !piece));
  y->parts = 0;
  if (q->loop > 1) return run_groups(&v);
  if (!piece && q->out_c16 && mrt_conv_split_gives(&v.p, &q->act, gives))
    y->parts = (uint8_t)(v.out_parts = gives);
  return piece ? run_pieces(&v, piece) : run_all(&v);
}

/* ---- creation ---- */

static bool match(const mrt_provider *p, const mrt_node *node) {
  (void)p;
  mrt_conv conv;
  mrt_act act;
  int64_t loop;
  return mrt_conv_node_read(node, &conv, &loop) && mrt_conv_node_act(node, &act) &&
         (loop == 1 || mrt_node_is_plain(node));
}

static void destroy(mrt_kernel *k) {
  conv_kernel *q = (conv_kernel *)k;
  for (int i = 0; i < PRECISIONS; ++i) mrt_packed_release(atomic_load(&q->variants[i].packed));
  mrt_kernel_free(k);
}

/* The largest form of Winograd that conv_budget.c leaves to the node. */
static int most_winograd(const mrt_node *node, int precision) {
  int n;
  const int64_t *most = mrt_node_ints(node, "winograd", &n);
  return most && precision < n ? (int)most[precision] : 4;
}

/* Fills in the variants. */
static void choose(conv_kernel *q, const mrt_provider *p, const mrt_node *node) {
  const char *value = p->env->config(p->env->config_ctx, "session.macart.winograd");
  const mrt_type *t = node->in[0].var->type;
  const bool winograd = !value || strcmp(value, "0") != 0;
  const bool usable = q->constant && q->loop == 1 && t->rank >= 3 && q->special;
  int64_t size[2] = {1, 64};
  if (usable) mrt_conv_node_image(node, size);
  const bool wino = usable && winograd && t->rank == 4 && mrt_conv_winograd_ok(&q->p, NULL);
  const bool split = usable && mrt_conv_split_ok(&q->p, NULL);
  for (int i = 0; i < PRECISIONS; ++i) {
    variant *v = &q->variants[i];
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

/* What the node says. `known`: see mrt_conv_node_narrow. */
static bool describe(conv_kernel *q, const mrt_provider *p, const mrt_node *node, bool known) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  if (!read_all(node, &q->p, &q->loop, &q->win) || !mrt_conv_node_act(node, &q->act)) return false;
  q->in_c16 = mrt_is_c16(node->in[0].var);
  q->out_c16 = mrt_is_c16(node->out[0]);
  q->p.input_nchw = !q->in_c16 && q->p.cin <= 16 && q->p.groups == 1;
  q->constant = w && !w->strided && mrt_tensor_count(w);
  q->special = q->constant;
  if (q->constant) q->p.narrow = mrt_conv_node_narrow(&q->p, w, known);
  choose(q, p, node);
  return true;
}

/* Is it faster to read `parts` than floats? Where they need not be copied into bands, and where one
 * part is half of what an image takes that leaves L2. */
static bool parts_pay(const mrt_conv *p, const mrt_node *node, int parts) {
  enum { LARGE = 3 << 20 };
  int64_t size[2];
  mrt_conv_node_image(node, size);
  return mrt_conv_split_in_place(p) ||
         (parts == 1 && (double)(p->cin * 4) * (double)size[0] * (double)size[1] >= LARGE);
}

/* Values that one other convolution reads, and nothing else, are handed over as the bf16 parts that
 * it would make of them (conv_split.h): the same ones, made while the sums are at hand. */
static void wanted_parts(conv_kernel *q, const mrt_provider *p, const mrt_node *node) {
  const mrt_var *y = node->out[0];
  const mrt_use *use = y->uses;
  conv_kernel next = {.k = q->k};
  if (!q->out_c16 || y->n_uses != 1 || y->n_graph_outputs || use->index != 0 ||
      use->node->graph != node->graph || use->node->provider != node->provider ||
      strcmp(use->node->op_type, "Conv") != 0 ||
      (*use->node->domain && strcmp(use->node->domain, "macart") != 0) ||
      (node->n_in > 3 && node->in[3].var) || !match(p, use->node) ||
      !describe(&next, p, use->node, true) || next.loop != 1)
    return;
  for (int i = 0; i < PRECISIONS; ++i) {
    const int parts = next.variants[i].p.parts;
    if (mrt_conv_split_gives(&q->variants[i].p, &q->act, parts) &&
        parts_pay(&next.variants[i].p, use->node, parts))
      q->variants[i].gives = parts;
  }
}

static mrt_status *fill(conv_kernel *q, const mrt_provider *p, const mrt_node *node) {
  const mrt_tensor *w = mrt_node_in_const(node, 1);
  const void *packed;
  MRT_TRY(mrt_precision_option(p->env, &q->precision));
  if (!describe(q, p, node, false)) return MRT_ERR(MRT_FAIL, "not a convolution of this kernel");
  mrt_status *st = q->constant ? packed_weights(q, variant_now(q, NULL), w, &packed) : NULL;
  if (q->special && mrt_status_code(st) == MRT_NOT_IMPLEMENTED) {
    mrt_status_free(st);
    q->special = false;
    choose(q, p, node);
    st = packed_weights(q, variant_now(q, NULL), w, &packed);
  }
  wanted_parts(q, p, node);
  if (variant_now(q, NULL)->p.winograd) q->k.name = "conv_winograd_f32";
  if (variant_now(q, NULL)->p.parts) q->k.name = "conv_split_f32";
  if (q->constant) q->k.any_align = 1 << 1; /* other precisions may need it again */
  return st;
}

static mrt_status *create(const mrt_provider *p, const mrt_node *node, mrt_kernel **out) {
  conv_kernel *q;
  *out = NULL;
  MRT_TRY(mrt_kernel_new(p->env->alloc, sizeof *q, "conv_f32", run, destroy, &q));
  mrt_status *st = fill(q, p, node);
  if (st)
    destroy(&q->k);
  else
    *out = &q->k;
  return st;
}

MRT_CPU_KERNEL(conv_f32) = {.domain = "",
                            .op = "Conv",
                            .match = match,
                            .create = create,
                            .layouts = true,
                            .packs_misaligned = mrt_cpu_packs_input1};
MRT_CPU_KERNEL(fused_conv_f32) = {.domain = "macart",
                                  .op = "Conv",
                                  .match = match,
                                  .create = create,
                                  .layouts = true,
                                  .packs_misaligned = mrt_cpu_packs_input1};
