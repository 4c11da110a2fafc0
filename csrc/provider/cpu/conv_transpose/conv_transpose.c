/* Transposed convolution by phases: see conv_transpose.h. Along one dim, with p = pad, s = stride:
 * output o = s * q + r - p (0 <= r < s) is the sum over j of w[r + s * j] * x[q - j]. */
#include "provider/cpu/conv_transpose/conv_transpose.h"

#include <string.h>

#include "provider/cpu/conv/conv_split.h"

enum { FEW = 4 }; /* output channels that are not worth a block of their own */

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }

/* One phase along one dim. */
typedef struct phase {
  int64_t taps;       /* j = 0 .. taps - 1 */
  int64_t first, out; /* position of the first output, number of outputs */
  int64_t pad;        /* of the convolution, before */
  int64_t pad_end;    /* behind; negative: input that nobody reads */
} phase;
static phase phase_of(int64_t r, int64_t k, int64_t s, int64_t p, int64_t in, int64_t out) {
  phase f = {.taps = ceil_div(k - r, s)};
  const int64_t q = r >= p ? 0 : ceil_div(p - r, s); /* smallest q with an output */
  f.first = s * q + r - p;
  f.out = f.first < out ? (out - 1 - f.first) / s + 1 : 0;
  f.pad = f.taps - 1 - q;
  f.pad_end = f.out - 1 + f.taps - f.pad - in;
  return f;
}

bool mrt_convt_ok(const mrt_convt *p) {
  if (p->cin < 1 || p->cout < 1 || p->kh < p->stride_h || p->kw < p->stride_w) return false;
  if (p->pad_top < 0 || p->pad_left < 0 || p->pad_top > p->kh - p->stride_h ||
      p->pad_left > p->kw - p->stride_w)
    return false;
  return p->kh * p->kw <= MRT_POOL_MAX_TAPS && p->stride_h * p->stride_w <= MRT_POOL_MAX_TAPS &&
         p->cout <= INT32_MAX / (p->kh * p->kw) && p->cin <= INT32_MAX / (p->kh * p->kw);
}
bool mrt_convt_plain(const mrt_convt *p) {
  return p->cout <= FEW && p->kh == p->stride_h && p->kw == p->stride_w && p->pad_top == 0 &&
         p->pad_left == 0;
}

/* The convolution of phase (ry, rx); paddings are those of the sizes given (0: only the weights).
 */
static mrt_conv phase_conv(const mrt_convt *p, int64_t i, const mrt_convt_args *a, phase *y,
                           phase *x) {
  const int64_t ry = i / p->stride_w, rx = i % p->stride_w;
  *y = phase_of(ry, p->kh, p->stride_h, p->pad_top, a ? a->h : 1, a ? a->oh : 1);
  *x = phase_of(rx, p->kw, p->stride_w, p->pad_left, a ? a->w : 1, a ? a->ow : 1);
  return (mrt_conv){.cin = p->cin,
                    .cout = p->cout,
                    .groups = 1,
                    .kh = y->taps,
                    .kw = x->taps,
                    .stride_h = 1,
                    .stride_w = 1,
                    .dil_h = 1,
                    .dil_w = 1,
                    .pad_top = y->pad,
                    .pad_left = x->pad,
                    .pad_bottom = y->pad_end,
                    .pad_right = x->pad_end,
                    .spread = true};
}
/* All phases as channels (m, ry, rx) of a 1x1 convolution. */
static mrt_conv plain_conv(const mrt_convt *p) {
  return mrt_conv_pointwise(p->cin, p->cout * p->kh * p->kw);
}

/* All phases as fans of a 1x1 convolution. */
static mrt_conv fan_conv(const mrt_convt *p) {
  mrt_conv c = plain_conv(p);
  c.cout = p->cout;
  c.spread = true;
  c.fan_h = (int)p->kh, c.fan_w = (int)p->kw;
  c.parts = p->parts;
  c.raw = p->parts == 3;
  return c;
}

void mrt_convt_choose(mrt_convt *p, mrt_precision precision, const float *weights, int64_t h,
                      int64_t w) {
  p->parts = 0;
  mrt_conv all = plain_conv(p), c = fan_conv(p);
  all.cout = p->cin, all.cin = p->cout * p->kh * p->kw; /* as the weights lie */
  if (p->kh != p->stride_h || p->kw != p->stride_w || p->pad_top || p->pad_left ||
      mrt_convt_plain(p) || !mrt_conv_split_ok(&all, weights))
    return;
  mrt_conv_split_choose(&c, precision, h, w);
  p->parts = c.parts;
}

size_t mrt_convt_packed_size(const mrt_convt *p) {
  size_t total = 0;
  phase y, x;
  if (p->parts) {
    const mrt_conv c = fan_conv(p);
    return mrt_conv_packed_size(&c);
  }
  if (mrt_convt_plain(p)) {
    const mrt_conv c = plain_conv(p);
    return mrt_conv_packed_size(&c);
  }
  for (int64_t i = 0; i < p->stride_h * p->stride_w; ++i) {
    const mrt_conv c = phase_conv(p, i, NULL, &y, &x);
    total += align64(mrt_conv_packed_size(&c));
  }
  return total;
}

/* Weights of one phase as [cout][cin][taps y][taps x], flipped. */
static void phase_weights(const mrt_convt *p, const mrt_conv *c, int64_t ry, int64_t rx,
                          const float *w, float *out) {
  for (int64_t m = 0; m < p->cout; ++m)
    for (int64_t k = 0; k < p->cin; ++k)
      for (int64_t y = c->kh - 1; y >= 0; --y)
        for (int64_t x = c->kw - 1; x >= 0; --x)
          *out++ =
              w[((k * p->cout + m) * p->kh + ry + y * p->stride_h) * p->kw + rx + x * p->stride_w];
}
mrt_status *mrt_convt_pack(const mrt_alloc *alloc, const mrt_convt *p, const float *weights,
                           float *dst) {
  const mrt_par par = {.threads = 1};
  const int64_t taps = p->kh * p->kw, n = p->cin * p->cout * taps;
  float *tmp;
  phase y, x;
  MRT_TRY(mrt_mem_new(alloc, (size_t)n * sizeof *tmp, (void **)&tmp));
  if (mrt_convt_plain(p)) {
    const mrt_conv c = plain_conv(p);
    for (int64_t o = 0; o < p->cout * taps; ++o)
      for (int64_t k = 0; k < p->cin; ++k) tmp[o * p->cin + k] = weights[k * p->cout * taps + o];
    mrt_conv_pack(&par, &c, tmp, dst);
  } else if (p->parts) {
    const mrt_conv c = fan_conv(p);
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t m = 0; m < p->cout; ++m)
        for (int64_t k = 0; k < p->cin; ++k)
          tmp[(t * p->cout + m) * p->cin + k] = weights[(k * p->cout + m) * taps + t];
    mrt_conv_pack(&par, &c, tmp, dst);
  } else {
    for (int64_t i = 0; i < p->stride_h * p->stride_w; ++i) {
      const mrt_conv c = phase_conv(p, i, NULL, &y, &x);
      phase_weights(p, &c, i / p->stride_w, i % p->stride_w, weights, tmp);
      mrt_conv_pack(&par, &c, tmp, dst);
      dst += align64(mrt_conv_packed_size(&c)) / sizeof *dst;
    }
  }
  mrt_mem_free(alloc, tmp);
  return NULL;
}

size_t mrt_convt_scratch_size(const mrt_par *par, const mrt_convt *p, const mrt_convt_args *a) {
  size_t most = 0;
  phase y, x;
  if (mrt_convt_plain(p)) {
    const mrt_conv c = plain_conv(p);
    return align64(mrt_conv_scratch_size(par, &c, a->h, a->w)) +
           (size_t)(mrt_c16_size(a->n, c.cout, a->h, a->w) + p->cout * p->kh * p->kw) *
               sizeof(float);
  }
  if (p->parts) {
    const mrt_conv c = fan_conv(p);
    return mrt_conv_scratch_size(par, &c, a->h, a->w);
  }
  for (int64_t i = 0; i < p->stride_h * p->stride_w; ++i) {
    const mrt_conv c = phase_conv(p, i, a, &y, &x);
    const size_t need = mrt_conv_scratch_size(par, &c, a->h, a->w);
    most = need > most ? need : most;
  }
  return most;
}

/* ---- phases as channels ---- */
typedef struct apart_job {
  const mrt_convt *p;
  const mrt_convt_args *a;
  const float *in; /* c16 */
  int64_t units, chunks;
} apart_job;
/* What no input reaches (output_padding) of the output rows of input row iy is the bias. */
static void apart_rest(const apart_job *j, int64_t iy, float bias, float *plane) {
  const mrt_convt_args *a = j->a;
  const int64_t kh = j->p->kh, begin = iy * kh, next = begin + kh < a->oh ? begin + kh : a->oh,
                end = iy + 1 == a->h ? a->oh : next;
  for (int64_t y = begin; y < end; ++y)
    for (int64_t x = y < a->h * kh ? a->w * j->p->kw : 0; x < a->ow; ++x)
      plane[y * a->ow + x] = bias;
}
/* Units: (image, output channel, input row): kh output rows. */
static void apart_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const apart_job *j = arg;
  const mrt_convt *p = j->p;
  const mrt_convt_args *a = j->a;
  const int64_t taps = p->kh * p->kw, blocks = mrt_c16_blocks(p->cout * taps),
                end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    const int64_t iy = u % a->h, m = u / a->h % p->cout, n = u / a->h / p->cout;
    apart_rest(j, iy, a->bias ? a->bias[m] : 0, a->output + (n * p->cout + m) * a->oh * a->ow);
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t c = m * taps + t, oy = iy * p->kh + t / p->kw, ox = t % p->kw;
      const float *src = j->in + ((n * blocks + c / 16) * a->h + iy) * a->w * 16 + c % 16;
      float *dst = a->output + ((n * p->cout + m) * a->oh + oy) * a->ow + ox;
      if (oy >= a->oh) continue;
      for (int64_t i = 0; i < a->w && ox + i * p->kw < a->ow; ++i) dst[i * p->kw] = src[i * 16];
    }
  }
}
static void run_plain(const mrt_par *par, const mrt_convt *p, const mrt_convt_args *a,
                      void *scratch) {
  const mrt_conv c = plain_conv(p);
  const int64_t taps = p->kh * p->kw, size = mrt_c16_size(a->n, c.cout, a->h, a->w);
  float *mid = scratch, *bias = mid + size;
  char *rest = (char *)scratch + align64((size_t)(size + c.cout) * sizeof(float));
  for (int64_t i = 0; a->bias && i < c.cout; ++i) bias[i] = a->bias[i / taps];
  const mrt_conv_args v = {.n = a->n,
                           .h = a->h,
                           .w = a->w,
                           .input = a->input,
                           .weights = a->weights,
                           .bias = a->bias ? bias : NULL,
                           .output = mid};
  mrt_conv_run(par, &c, &v, rest);
  apart_job j = {p, a, mid, a->n * p->cout * a->h, 1};
  j.chunks = mrt_par_chunks(j.units, (double)(j.units * a->w * taps));
  mrt_par_run(par, j.chunks, apart_chunk, &j);
}

void mrt_convt_run(const mrt_par *par, const mrt_convt *p, const mrt_convt_args *a, void *scratch) {
  const float *weights = a->weights;
  phase y, x;
  if (mrt_convt_plain(p)) {
    run_plain(par, p, a, scratch);
    return;
  }
  if (p->parts) {
    const mrt_conv c = fan_conv(p);
    const mrt_conv_args v = {.n = a->n,
                             .h = a->h,
                             .w = a->w,
                             .input = a->input,
                             .weights = weights,
                             .bias = a->bias,
                             .output = a->output,
                             .out_pixel = p->kw * 16,
                             .out_row = p->kh * a->ow * 16,
                             .out_block = a->oh * a->ow * 16,
                             .out_image = mrt_c16_blocks(p->cout) * a->oh * a->ow * 16};
    mrt_conv_run(par, &c, &v, scratch);
    return;
  }
  for (int64_t i = 0; i < p->stride_h * p->stride_w; ++i) {
    const mrt_conv c = phase_conv(p, i, a, &y, &x);
    const mrt_conv_args v = {.n = a->n,
                             .h = a->h,
                             .w = a->w,
                             .input = a->input,
                             .weights = weights,
                             .bias = a->bias,
                             .output = a->output + (y.first * a->ow + x.first) * 16,
                             .out_pixel = p->stride_w * 16,
                             .out_row = p->stride_h * a->ow * 16,
                             .out_block = a->oh * a->ow * 16,
                             .out_image = mrt_c16_blocks(p->cout) * a->oh * a->ow * 16};
    weights += align64(mrt_conv_packed_size(&c)) / sizeof *weights;
    if (y.out > 0 && x.out > 0) mrt_conv_run(par, &c, &v, scratch);
  }
}
