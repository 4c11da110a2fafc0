/* Conv and macart.Conv as kernels: a run. How a convolution is computed is conv_variants.c's
 * choice; inputs and outputs are plain or c16, as the layout pass decided; plain ones are reordered
 * here, except that up to 16 channels are read in place. Groups that do not fill channel blocks are
 * run one after the other between reordered slices of plain tensors. */
#include <string.h>

#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/conv/conv_variants.h"

typedef struct conv_kernel {
  mrt_kernel k;
  mrt_conv_choice choice;
} conv_kernel;

typedef struct conv_call {
  const mrt_conv_choice *q;
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
  const mrt_conv_choice *q = v->q;
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

/* Weights that are not constant are packed at each run. */
static mrt_status *get_weights(conv_call *v, mrt_conv_variant *now) {
  const mrt_conv_choice *q = v->q;
  const mrt_tensor *w = mrt_in(v->c, 1);
  char *dst;
  size_t bytes;
  if (q->constant) return mrt_conv_variant_weights(q, now, w, &v->packed);
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
  const mrt_conv_choice *q = v->q;
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
  p.images = i->n;
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
  const mrt_conv_choice *q = v->q;
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
  const mrt_conv_choice *q = &((const conv_kernel *)k)->choice;
  const mrt_tensor *x = mrt_in(c, 0), *b = mrt_in(c, 2), *r = mrt_in(c, 3);
  mrt_tensor *y = mrt_out(c, 0);
  if (!y || !mrt_tensor_count(y)) return NULL;
  int gives;
  mrt_conv_variant *now = mrt_conv_variant_now(q, &gives);
  conv_call v = {.q = q,
                 .c = c,
                 .p = now->p,
                 .piece = now->piece,
                 .in = mrt_planes_of(x),
                 .out = mrt_planes_of(y)};
  if (q->win.same) {
    mrt_window w = q->win;
    mrt_window_resolve_same(&w, x->dims + 2, y->dims + 2);
    mrt_conv_node_window(&v.p, &w);
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
  mrt_conv_choice_free(&((conv_kernel *)k)->choice);
  mrt_kernel_free(k);
}

static mrt_status *fill(conv_kernel *k, const mrt_provider *p, const mrt_node *node) {
  mrt_conv_choice *q = &k->choice;
  MRT_TRY(mrt_precision_option(p->env, &q->precision));
  if (!mrt_conv_choice_read(q, p, node, false))
    return MRT_ERR(MRT_FAIL, "not a convolution of this kernel");
  MRT_TRY(mrt_conv_choice_prepare(q, p, node));
  mrt_conv_choice_meet(q, p, node);
  const mrt_conv_variant *now = mrt_conv_variant_now(q, NULL);
  if (now->p.winograd) k->k.name = "conv_winograd_f32";
  if (now->p.parts) k->k.name = "conv_split_f32";
  if (q->constant) k->k.any_align = 1 << 1; /* other precisions may need it again */
  return NULL;
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
