/* Everything that works on one channel block at a time: depthwise convolution, pooling, reordering.
 * A row of output pixels has an interior, where all taps of the window lie inside the image, and a
 * few border pixels, each with its own shorter list of taps. */
#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/conv/conv_kernel.h"

enum { MAX_TAPS = MRT_POOL_MAX_TAPS };

const mrt_conv_kernels *mrt_conv_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/conv/conv.def"
#undef MRT_KERNEL
}

/* ---- windows ---- */
typedef struct window {
  int64_t kh, kw, stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  int64_t h, w; /* input */
} window;

typedef struct range {
  int64_t begin, end;
} range;

/* Window positions k in [0, kernel) with 0 <= start + k * dil < size. */
static range valid_taps(int64_t start, int64_t kernel, int64_t dil, int64_t size) {
  range r = {0, kernel};
  while (r.begin < kernel && start + r.begin * dil < 0) ++r.begin;
  while (r.end > r.begin && start + (r.end - 1) * dil >= size) --r.end;
  return r;
}

/* Output positions whose whole window lies inside. */
static range interior(int64_t out, int64_t kernel, int64_t stride, int64_t dil, int64_t pad,
                      int64_t size) {
  range r;
  r.begin = (pad + stride - 1) / stride;
  const int64_t last = size + pad - (kernel - 1) * dil - 1; /* biggest start + pad */
  r.end = last < 0 ? 0 : last / stride + 1;
  if (r.end > out) r.end = out;
  if (r.begin > r.end) r.begin = r.end;
  return r;
}

/* Taps ky in y, kx in x, relative to the pixel of (y.begin, x.begin). */
static int list_taps(const window *win, range y, range x, mrt_tap *taps) {
  int n = 0;
  for (int64_t ky = y.begin; ky < y.end; ++ky)
    for (int64_t kx = x.begin; kx < x.end; ++kx, ++n)
      taps[n] = (mrt_tap){
          (int32_t)((((ky - y.begin) * win->dil_h) * win->w + (kx - x.begin) * win->dil_w) * 16),
          (int32_t)(ky * win->kw + kx)};
  return n;
}

typedef void (*row_fn)(const mrt_pixel_row *row);

/* How many positions a mean divides by, when it counts padding: those inside the padded image. */
typedef struct mean_count {
  bool padded;
  int64_t pad_bottom, pad_right;
} mean_count;

static float mean_scale(const window *win, const mean_count *mc, int64_t y0, int64_t x0, range y,
                        range x) {
  int64_t n = (y.end - y.begin) * (x.end - x.begin);
  if (mc->padded) {
    const range py =
        valid_taps(y0 + win->pad_top, win->kh, win->dil_h, win->h + win->pad_top + mc->pad_bottom);
    const range px =
        valid_taps(x0 + win->pad_left, win->kw, win->dil_w, win->w + win->pad_left + mc->pad_right);
    n = (py.end - py.begin) * (px.end - px.begin);
  }
  return n > 0 ? 1.0f / (float)n : 0.0f;
}

/* Tap lists of a row whose windows are whole in y: those of the pixels inside, which are alike, and
 * of each pixel at the borders. */
enum { BORDER_PIXELS = 8, BORDER_TAPS = 64 };
typedef struct row_plan {
  range mid;
  bool borders; /* the lists of border pixels are there */
  int n_border[BORDER_PIXELS];
  mrt_tap border[BORDER_PIXELS][BORDER_TAPS];
  mrt_tap full[MAX_TAPS];
} row_plan;

static void plan_row(const window *win, int64_t ow, row_plan *p) {
  const range all = {0, win->kh}, x = {0, win->kw};
  p->mid = interior(ow, win->kw, win->stride_w, win->dil_w, win->pad_left, win->w);
  list_taps(win, all, x, p->full);
  p->borders =
      ow - (p->mid.end - p->mid.begin) <= BORDER_PIXELS && win->kh * win->kw <= BORDER_TAPS;
  int n = 0;
  for (int64_t ox = 0; ox < ow && p->borders; ++ox) {
    if (ox >= p->mid.begin && ox < p->mid.end) ox = p->mid.end;
    if (ox >= ow) break;
    const range bx = valid_taps(ox * win->stride_w - win->pad_left, win->kw, win->dil_w, win->w);
    p->n_border[n] = list_taps(win, all, bx, p->border[n]);
    ++n;
  }
}

typedef struct row_at {
  const window *win;
  const row_plan *plan;
  const mean_count *mc;
  row_fn fn;
  mrt_tap *taps; /* room for a list */
} row_at;

/* The border pixel ox of a row. */
static void border_pixel(const row_at *a, const mrt_pixel_row *base, const float *in,
                         const float *row, int64_t y0, range y, int64_t ox, int nth) {
  const window *win = a->win;
  mrt_pixel_row r = *base;
  const int64_t x0 = ox * win->stride_w - win->pad_left;
  const range x = valid_taps(x0, win->kw, win->dil_w, win->w);
  r.count = 1;
  if (nth >= 0) {
    r.taps = a->plan->border[nth];
    r.n_taps = a->plan->n_border[nth];
  } else {
    r.taps = a->taps;
    r.n_taps = list_taps(win, y, x, a->taps);
  }
  r.in = r.n_taps ? row + (x0 + x.begin * win->dil_w) * 16 : in;
  r.out = base->out + ox * 16;
  if (base->residual) r.residual = base->residual + ox * 16;
  if (a->mc) r.scale = mean_scale(win, a->mc, y0, x0, y, x);
  a->fn(&r);
}

/* One output row of one channel block. `in` is the block's plane; base holds what does not change.
 */
static void run_row(const row_at *a, mrt_pixel_row base, const float *in, int64_t oy, int64_t ow) {
  const window *win = a->win;
  const range mid = a->plan->mid;
  const int64_t y0 = oy * win->stride_h - win->pad_top;
  const range y = valid_taps(y0, win->kh, win->dil_h, win->h);
  const bool whole = y.begin == 0 && y.end == win->kh, lists = whole && a->plan->borders;
  const float *row = y.begin == y.end ? in : in + (y0 + y.begin * win->dil_h) * win->w * 16;
  base.step = win->stride_w * 16;
  int nth = 0;
  for (int64_t ox = 0; ox < mid.begin; ++ox)
    border_pixel(a, &base, in, row, y0, y, ox, lists ? nth++ : -1);
  if (mid.end > mid.begin) {
    mrt_pixel_row r = base;
    const int64_t x0 = mid.begin * win->stride_w - win->pad_left;
    const range x = {0, win->kw};
    r.count = mid.end - mid.begin;
    r.taps = whole ? a->plan->full : a->taps;
    r.n_taps = whole ? (int)(win->kh * win->kw) : list_taps(win, y, x, a->taps);
    r.in = r.n_taps ? row + x0 * 16 : in;
    r.out = base.out + mid.begin * 16;
    if (base.residual) r.residual = base.residual + mid.begin * 16;
    if (a->mc) r.scale = mean_scale(win, a->mc, y0, x0, y, x);
    a->fn(&r);
  }
  for (int64_t ox = mid.end; ox < ow; ++ox)
    border_pixel(a, &base, in, row, y0, y, ox, lists ? nth++ : -1);
}

/* ---- depthwise ---- */
void mrt_conv_depthwise_pack(const mrt_conv *p, const float *weights, float *dst) {
  const int64_t taps = p->kh * p->kw;
  memset(dst, 0, mrt_conv_packed_size(p));
  for (int64_t c = 0; c < p->cout; ++c)
    for (int64_t t = 0; t < taps; ++t)
      dst[((c / 16) * taps + t) * 16 + c % 16] = weights[c * taps + t];
}

/* Bounds of an activation that is a clip; false: it is another one, or none. */
static bool act_clip(const mrt_act *act, float *lo, float *hi) {
  if (act->op != MRT_EW_RELU && act->op != MRT_EW_CLIP) return false;
  *lo = act->op == MRT_EW_RELU ? 0.0f : act->p[0];
  *hi = act->op == MRT_EW_RELU ? __builtin_inff() : act->p[1];
  return true;
}

mrt_dw_fn mrt_conv_dw_find(const mrt_conv *p, const mrt_act *act, mrt_dw_row *row) {
  *row = (mrt_dw_row){.kw = (int)p->kw, .stride = (int)p->stride_w, .pad = (int)p->pad_left};
  row->clip = act_clip(act, &row->lo, &row->hi);
  if (p->dil_w != 1 || p->kh > MRT_DW_MAX_ROWS || p->pad_left >= p->kw || p->pad_right >= p->kw)
    return NULL;
  return mrt_conv_kernels_get()->depthwise_row(p->kw, p->stride_w);
}

void mrt_conv_dw_rows(const mrt_conv *p, int64_t h, const float *plane, int64_t pitch,
                      const float *weights, int64_t oy, mrt_dw_row *row) {
  const int64_t y0 = oy * p->stride_h - p->pad_top;
  const range y = valid_taps(y0, p->kh, p->dil_h, h);
  row->n_rows = (int)(y.end - y.begin);
  row->weights = weights + y.begin * p->kw * 16;
  for (int64_t k = y.begin; k < y.end; ++k)
    row->rows[k - y.begin] = plane + (y0 + k * p->dil_h) * pitch;
}

typedef struct rows_job {
  window win;
  row_fn fn;
  mrt_pixel_row base;
  mean_count mean;
  bool is_mean;
  int64_t blocks, planes, oh, ow, units, chunks; /* channel blocks, n * blocks */
  const row_plan *plan;
  const float *in, *weights, *bias, *residual;
  float *out;
  mrt_ew_fn act;
  mrt_act act_spec;
  mrt_dw_fn dw; /* depthwise by whole rows; NULL: by tap lists */
  mrt_dw_row dw_row;
  const mrt_conv *conv;
} rows_job;

/* run_plane for dw. */
static void run_dw_plane(const rows_job *j, int64_t plane, int64_t y0, int64_t y1) {
  const int64_t block = plane % j->blocks, pitch = j->win.w * 16;
  const float *in = j->in + plane * j->win.h * pitch;
  const float *weights = j->weights + block * j->win.kh * j->win.kw * 16;
  mrt_dw_row r = j->dw_row;
  r.bias = j->bias ? j->bias + block * 16 : NULL;
  r.w = j->win.w, r.ow = j->ow;
  for (int64_t oy = y0; oy < y1; ++oy) {
    const int64_t at = (plane * j->oh + oy) * j->ow * 16;
    r.out = j->out + at;
    r.residual = j->residual ? j->residual + at : NULL;
    mrt_conv_dw_rows(j->conv, j->win.h, in, pitch, weights, oy, &r);
    j->dw(&r);
    if (j->act) j->act(r.out, r.out, NULL, NULL, j->act_spec.p, j->ow * 16);
  }
}

/* One plane's output rows [y0, y1). */
static void run_plane(const rows_job *j, int64_t plane, int64_t y0, int64_t y1, mrt_tap *taps) {
  if (j->dw) {
    run_dw_plane(j, plane, y0, y1);
    return;
  }
  const int64_t block = plane % j->blocks, area = j->win.h * j->win.w;
  const row_at a = {&j->win, j->plan, j->is_mean ? &j->mean : NULL, j->fn, taps};
  mrt_pixel_row r = j->base;
  if (j->weights) r.weights = j->weights + block * j->win.kh * j->win.kw * 16;
  if (j->bias) r.bias = j->bias + block * 16;
  for (int64_t oy = y0; oy < y1; ++oy) {
    const int64_t at = (plane * j->oh + oy) * j->ow * 16;
    r.out = j->out + at;
    if (j->residual) r.residual = j->residual + at;
    run_row(&a, r, j->in + plane * area * 16, oy, j->ow);
    if (j->act) j->act(r.out, r.out, NULL, NULL, j->act_spec.p, j->ow * 16);
  }
}

/* Units are (image, output row), all channels: as dense convolutions share out their work. */
static void rows_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const rows_job *j = arg;
  mrt_tap taps[MAX_TAPS];
  int64_t u = mrt_par_begin(j->units, j->chunks, chunk);
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  while (u < end) {
    const int64_t image = u / j->oh, y0 = u % j->oh;
    const int64_t y1 = y0 + end - u < j->oh ? y0 + end - u : j->oh;
    for (int64_t b = 0; b < j->blocks; ++b) run_plane(j, image * j->blocks + b, y0, y1, taps);
    u += y1 - y0;
  }
}

/* A single row: channel blocks are shared out. */
static void planes_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const rows_job *j = arg;
  mrt_tap taps[MAX_TAPS];
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u)
    run_plane(j, u, 0, j->oh, taps);
}

static void rows_run(const mrt_par *par, rows_job *j) {
  if (j->planes <= 0 || j->oh <= 0 || j->ow <= 0) return;
  const double pixel = 2.0 + 0.25 * (double)(j->win.kh * j->win.kw); /* nanoseconds */
  const double cost = (double)(j->planes * j->oh * j->ow) * pixel;
  const int64_t images = j->planes / j->blocks;
  row_plan plan;
  plan_row(&j->win, j->ow, &plan);
  j->plan = &plan;
  const bool by_rows = images * j->oh >= 4;
  j->units = by_rows ? images * j->oh : j->planes;
  j->chunks = mrt_par_chunks(j->units, cost);
  mrt_par_run(par, j->chunks, by_rows ? rows_chunk : planes_chunk, j);
}

void mrt_conv_depthwise_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *a,
                            float *scratch) {
  const int64_t blocks = mrt_c16_blocks(p->cout);
  rows_job j = {.win = {p->kh, p->kw, p->stride_h, p->stride_w, p->dil_h, p->dil_w, p->pad_top,
                        p->pad_left, a->h, a->w},
                .fn = mrt_conv_kernels_get()->depthwise,
                .blocks = blocks,
                .planes = a->n * blocks,
                .oh = mrt_conv_out(a->h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom),
                .ow = mrt_conv_out(a->w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right),
                .in = a->input,
                .weights = a->weights,
                .bias = a->bias,
                .residual = a->residual,
                .out = a->output,
                .act_spec = a->act,
                .conv = p};
  j.dw = mrt_conv_dw_find(p, &a->act, &j.dw_row);
  j.base.clip = act_clip(&a->act, &j.base.lo, &j.base.hi);
  if (!j.base.clip && a->act.op != MRT_EW_COPY) j.act = mrt_ew_find(a->act.op);
  if (a->bias && p->cout % 16) { /* the kernels read whole blocks */
    memset(scratch, 0, (size_t)blocks * 64);
    memcpy(scratch, a->bias, (size_t)p->cout * 4);
    j.bias = scratch;
  }
  rows_run(par, &j);
}

/* ---- pooling ---- */
void mrt_pool_run(const mrt_par *par, const mrt_pool *p, int64_t n, int64_t c, int64_t h, int64_t w,
                  const float *in, int64_t oh, int64_t ow, float *out) {
  const mrt_conv_kernels *kern = mrt_conv_kernels_get();
  const int64_t blocks = mrt_c16_blocks(c);
  rows_job j = {.win = {p->kh, p->kw, p->stride_h, p->stride_w, p->dil_h, p->dil_w, p->pad_top,
                        p->pad_left, h, w},
                .fn = p->kind == MRT_POOL_MAX ? kern->max : kern->mean,
                .mean = {p->kind == MRT_POOL_AVG_INCLUDE_PAD, p->pad_bottom, p->pad_right},
                .is_mean = p->kind != MRT_POOL_MAX,
                .blocks = blocks,
                .planes = n * blocks,
                .oh = oh,
                .ow = ow,
                .in = in,
                .out = out};
  rows_run(par, &j);
}

typedef struct global_job {
  const float *in;
  float *out;
  int64_t n, c, area, units, chunks;
  bool is_max, out_c16;
} global_job;

/* Long sums are made of parts, so that few digits are lost. */
static void mean_pixels(const mrt_conv_kernels *kern, const float *x, int64_t area, float *y) {
  enum { PART = 1024 };
  double sums[16] = {0};
  for (int64_t i = 0; i < area; i += PART) {
    kern->reduce_sum(x + i * 16, area - i < PART ? area - i : PART, y);
    for (int l = 0; l < 16; ++l) sums[l] += y[l];
  }
  for (int l = 0; l < 16; ++l) y[l] = (float)(sums[l] / (double)area);
}

static void global_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const global_job *j = arg;
  const mrt_conv_kernels *kern = mrt_conv_kernels_get();
  const int64_t blocks = mrt_c16_blocks(j->c), end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    float y[16];
    const float *x = j->in + u * j->area * 16;
    if (j->is_max)
      kern->reduce_max(x, j->area, y);
    else
      mean_pixels(kern, x, j->area, y);
    const int64_t c0 = u % blocks * 16;
    float *out = j->out + (j->out_c16 ? u * 16 : u / blocks * j->c + c0);
    for (int64_t l = 0; l < 16 && (j->out_c16 || c0 + l < j->c); ++l) out[l] = y[l];
  }
}

void mrt_pool_global(const mrt_par *par, mrt_pool_kind kind, int64_t n, int64_t c, int64_t h,
                     int64_t w, const float *in, float *out, bool out_c16) {
  global_job j = {in, out, n, c, h * w, n * mrt_c16_blocks(c), 1, kind == MRT_POOL_MAX, out_c16};
  j.chunks = mrt_par_chunks(j.units, (double)j.units * (double)(h * w) * 2.5);
  if (j.units > 0) mrt_par_run(par, j.chunks, global_chunk, &j);
}

/* ---- plain <-> c16 ---- */
enum { REORDER_PIXELS = 1024 }; /* a unit: one block of channels x this many pixels */

typedef struct reorder_job {
  const float *src;
  float *dst;
  int64_t c, area, plane; /* pixels, and floats from one plain channel to the next */
  int64_t blocks, pieces, units, chunks;
  bool to_c16;
} reorder_job;

static void reorder_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const reorder_job *j = arg;
  const mrt_conv_kernels *kern = mrt_conv_kernels_get();
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) {
    const int64_t plane = u / j->pieces, p0 = u % j->pieces * REORDER_PIXELS;
    const int64_t block = plane % j->blocks, image = plane / j->blocks;
    const int64_t left = j->area - p0, pixels = left < REORDER_PIXELS ? left : REORDER_PIXELS;
    const int channels = (int)(j->c - block * 16 < 16 ? j->c - block * 16 : 16);
    const int64_t plain = (image * j->c + block * 16) * j->plane + p0;
    const int64_t blocked = (plane * j->area + p0) * 16;
    if (j->to_c16)
      kern->to_c16(j->src + plain, j->plane, channels, pixels, j->dst + blocked);
    else
      kern->from_c16(j->src + blocked, j->plane, channels, pixels, j->dst + plain);
  }
}

static void reorder(const mrt_par *par, const float *src, int64_t n, int64_t c, int64_t area,
                    int64_t plane, float *dst, bool to_c16) {
  const int64_t blocks = mrt_c16_blocks(c), pieces = (area + REORDER_PIXELS - 1) / REORDER_PIXELS;
  reorder_job j = {src, dst, c, area, plane, blocks, pieces, n * blocks * pieces, 1, to_c16};
  if (j.units <= 0) return;
  j.chunks = mrt_par_chunks(j.units, (double)(n * blocks * area) * 4.0);
  mrt_par_run(par, j.chunks, reorder_chunk, &j);
}

void mrt_c16_from_nchw(const mrt_par *par, const float *src, int64_t n, int64_t c, int64_t h,
                       int64_t w, float *dst) {
  reorder(par, src, n, c, h * w, h * w, dst, true);
}

void mrt_c16_to_nchw(const mrt_par *par, const float *src, int64_t n, int64_t c, int64_t h,
                     int64_t w, float *dst) {
  reorder(par, src, n, c, h * w, h * w, dst, false);
}

void mrt_c16_from_line(const mrt_par *par, const float *src, int64_t plane, int64_t c,
                       int64_t pixels, float *dst) {
  reorder(par, src, 1, c, pixels, plane, dst, true);
}

void mrt_c16_to_line(const mrt_par *par, const float *src, int64_t plane, int64_t c, int64_t pixels,
                     float *dst) {
  reorder(par, src, 1, c, pixels, plane, dst, false);
}
