/* Dense convolution: an implicit product over the tiles of gemm/. Output pixels are numbered by
 * tiles: nearly equal pieces of an output row (of the whole image for 1x1 with stride 1, of two
 * rows when a row is half a tile). A tile reads its input through a table of k-blocks, one per (ky,
 * kx, channel block), from a view of the input:
 *
 *   in place   no padding is needed (1x1, or "valid" convolutions)
 *   band       a zero-padded copy of the input rows that a band of tiles needs, per worker
 *   image      a zero-padded copy of the image, shared, when the panels are split among threads
 *   edges      in place, but for the first and last tiles of a row, and rows that reach over the
 *              image's border: these read a copy of a window's rows (plain input, one panel)
 *
 * Copies are [row][channel block][x][16] (plain input: [channel][row][x]) and cost a percent or
 * two. K is cut into slices whose panel fits L2; all choices follow from the shape. */
#include <string.h>

#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/conv/conv_split.h"
#include "provider/cpu/gemm/gemm_kernel.h"
#include "provider/cpu/half/narrow.h"

enum {
  BAND_FLOATS = 64 << 10, /* input of a band: 256 KB */
  SLICE_K = 2304,         /* k of one slice: 295 KB of a panel */
  PANEL = 32
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

mrt_status *mrt_conv_check(const mrt_conv *p) {
  if (p->groups < 1 || p->cin % p->groups || p->cout % p->groups)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Conv: %lld groups do not divide %lld and %lld channels",
                   (long long)p->groups, (long long)p->cin, (long long)p->cout);
  if (mrt_conv_is_depthwise(p)) {
    if (p->kh * p->kw > MRT_POOL_MAX_TAPS)
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "depthwise Conv: window of %lld x %lld", (long long)p->kh,
                     (long long)p->kw);
    if (!p->input_nchw) return NULL;
  }
  if (p->input_nchw && (p->groups != 1 || p->cin > 16))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Conv: plain input with %lld groups and %lld channels",
                   (long long)p->groups, (long long)p->cin);
  if (p->groups > 1 && (p->cin / p->groups % 16 || p->cout / p->groups % 16))
    return MRT_ERR(
        MRT_NOT_IMPLEMENTED, "Conv: %lld groups of %lld to %lld channels, not multiples of 16",
        (long long)p->groups, (long long)(p->cin / p->groups), (long long)(p->cout / p->groups));
  return NULL;
}

/* ---- geometry ---- */
typedef struct geom {
  const mrt_gemm_kernels *kern;
  int64_t cin, cout, k;          /* of one group; k = taps * cin */
  int64_t in_blocks, out_blocks; /* channel blocks of the whole tensors */
  int64_t h, w, oh, ow;          /* ow of a flat problem: all pixels, oh 1 */
  bool flat, pair, copy;
  bool edges;                   /* only tiles at the border read a copy */
  int64_t tiles_per_row, tiles; /* per image and group */
  int64_t band_tiles, bands;
  int64_t wp, hp;     /* padded input: width, all rows */
  int64_t row_floats; /* of the copy of one group's row (plain input: all channels) */
  int64_t panels, n_blocks;
} geom;

/* The kernel for runs of neighbouring pixels that knows their strides; NULL: none fits. */
static mrt_c16_tile_fn pixel_kernel(const geom *g, const mrt_conv *p) {
  const mrt_conv_kernels *k = mrt_conv_kernels_get();
  if (!k->pixel_tile || p->spread || g->pair) return NULL;
  if (!p->input_nchw) return k->pixel_tile(p->stride_w * 16, 16);
  return p->dil_w == 1 ? k->pixel_tile(p->stride_w, p->kw) : NULL;
}

static void geom_make(geom *g, const mrt_conv *p, int64_t h, int64_t w) {
  *g = (geom){.kern = mrt_gemm_kernels_get(), .h = h, .w = w};
  g->cin = p->cin / p->groups;
  g->cout = p->cout / p->groups;
  g->k = g->cin * p->kh * p->kw;
  g->in_blocks = mrt_c16_blocks(p->cin);
  g->out_blocks = mrt_c16_blocks(p->cout);
  g->panels = ceil_div(g->cout, PANEL);
  g->oh = mrt_conv_out(h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  g->ow = mrt_conv_out(w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  if (g->oh <= 0 || g->ow <= 0) return;
  /* Rows and columns that the windows really touch. */
  g->hp = (g->oh - 1) * p->stride_h + (p->kh - 1) * p->dil_h + 1;
  g->wp = (g->ow - 1) * p->stride_w + (p->kw - 1) * p->dil_w + 1;
  g->copy = p->pad_top > 0 || p->pad_left > 0 || g->hp > h || g->wp > w;
  g->flat = !g->copy && p->kh * p->kw == 1 && p->stride_h == 1 && p->stride_w == 1 && !p->spread;
  if (g->flat) {
    g->ow *= g->oh;
    g->oh = 1;
  }
  const int rows = g->kern->max_rows;
  g->pair = !g->flat && !p->spread && g->ow == g->kern->split && 2 * g->ow == rows;
  g->tiles_per_row = g->pair ? 1 : ceil_div(g->ow, rows);
  g->tiles = g->pair ? ceil_div(g->oh, 2) : g->oh * g->tiles_per_row;
  if (g->copy && g->wp % 8 == 0) ++g->wp; /* a row of 4 KB times n would alias in L1 */
  const int64_t channels = p->input_nchw ? g->cin : mrt_c16_blocks(g->cin) * 16;
  g->row_floats = channels * (g->copy ? g->wp : g->flat ? ceil_div(g->ow, g->tiles) : w);
  /* A band: as many whole rows (tiles of a flat image) as fit. */
  const int64_t per_row = g->flat ? 1 : g->tiles_per_row, unit_rows = g->tiles / per_row;
  const int64_t step = g->row_floats * (g->flat ? 1 : p->stride_h * (g->pair ? 2 : 1));
  int64_t fit = max_i64(1, BAND_FLOATS / max_i64(1, step));
  if (p->input_nchw) fit = min_i64(fit, max_i64(1, unit_rows / 8)); /* few floats, much work */
  g->bands = ceil_div(unit_rows, fit);
  g->band_tiles = ceil_div(unit_rows, g->bands) * per_row;
  g->bands = ceil_div(g->tiles, g->band_tiles);
  g->n_blocks = p->input_nchw ? g->cin * p->kh * (p->dil_w == 1 ? 1 : p->kw)
                              : p->kh * p->kw * mrt_c16_blocks(g->cin);
  g->edges = p->input_nchw && g->copy && g->panels == 1 && p->dil_h == 1 && !p->narrow &&
             g->k <= SLICE_K && pixel_kernel(g, p) && g->cin * h * w <= INT32_MAX;
}

/* Output rows [y0, y1) of tiles [t0, t1), t0 at a row's start. */
static void band_rows(const geom *g, int64_t t0, int64_t t1, int64_t *y0, int64_t *y1) {
  const int64_t f = g->pair ? 2 : 1;
  *y0 = t0 / g->tiles_per_row * f;
  *y1 = min_i64(g->oh, ceil_div(t1, g->tiles_per_row) * f);
}

/* Floats of the copy of one band. */
static int64_t band_floats(const geom *g, const mrt_conv *p) {
  if (!g->copy) return 0;
  if (g->edges) return p->kh * g->row_floats;
  int64_t y0, y1;
  band_rows(g, 0, g->band_tiles, &y0, &y1);
  return ((y1 - y0 - 1) * p->stride_h + (p->kh - 1) * p->dil_h + 1) * g->row_floats;
}

/* Panels are split among threads when there are too few bands to go round. */
static bool splits_panels(const geom *g, const mrt_par *par, int64_t units) {
  return mrt_par_workers(par) > 1 && units < 4 * mrt_par_workers(par) && g->panels > 1;
}

static int64_t align16(int64_t n) { return (n + 15) & ~(int64_t)15; }
static int64_t table_floats(const geom *g) { return align16((g->edges ? 4 : 2) * g->n_blocks); }

/* Floats from one worker's copy of a band to the next. */
static int64_t copy_pitch(const geom *g, const mrt_conv *p) {
  const int64_t floats = max_i64(16, band_floats(g, p));
  return (int64_t)(mrt_worker_pitch((size_t)floats * sizeof(float)) / sizeof(float));
}

static int64_t slices_of(const geom *g) { return max_i64(1, ceil_div(g->k, SLICE_K)); }

/* The same of a slice of narrow weights, widened; its blocks of k are at most 16 or kw long. */
static int64_t wide_pitch(const geom *g, const mrt_conv *p) {
  if (!p->narrow) return 0;
  const int64_t blocks = ceil_div(g->n_blocks, slices_of(g)), most = max_i64(16, p->kw);
  const size_t bytes = (size_t)(min_i64(g->k, blocks * most) * PANEL) * sizeof(float);
  return (int64_t)(mrt_worker_pitch(bytes) / sizeof(float));
}

size_t mrt_conv_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w) {
  const int64_t bias = mrt_c16_blocks(p->cout) * 16;
  if (p->winograd) return mrt_conv_winograd_scratch_size(par, p, h, w);
  if (p->parts) return mrt_conv_split_scratch_size(par, p, h, w);
  if (mrt_conv_is_depthwise(p)) return (size_t)bias * sizeof(float);
  geom g;
  geom_make(&g, p, h, w);
  if (g.oh <= 0 || g.ow <= 0) return 0;
  const int64_t wide = wide_pitch(&g, p) * mrt_par_workers(par);
  int64_t copy = copy_pitch(&g, p) * mrt_par_workers(par);
  if (g.copy && splits_panels(&g, par, g.bands * p->groups))
    copy = max_i64(copy, align16(g.hp * g.row_floats * p->groups));
  return (size_t)(bias + table_floats(&g) + wide + copy) * sizeof(float) + MRT_WORKER_PAGE;
}

/* ---- one run ---- */
/* Where tiles read: float offsets between input rows, pixels of a row, channel blocks (plain input:
 * channels). base is input row 0, pixel 0 of the padded image's first row at hand. */
typedef struct view {
  const float *base;
  int64_t row, pixel, block;
  int64_t first_row; /* padded input row that base is */
} view;

typedef struct conv_job {
  geom g;
  const mrt_conv *p;
  const mrt_conv_args *a;
  const float *bias;          /* padded to whole blocks, or NULL */
  mrt_kblock *blocks, *inner; /* inner: of tiles that read in place, beside edges */
  float *copy;
  int64_t copy_floats; /* per worker; 0: shared */
  float *wide;         /* per worker: a slice of narrow weights of a panel */
  int64_t wide_floats;
  mrt_ew_fn act;
  float lo, hi;
  int flags;
  int64_t parts, m_parts;                           /* split: of the panels, of the tiles; else 0 */
  int64_t image, units, chunks;                     /* units: (image, group, band) */
  int64_t out_pixel, out_row, out_block, out_image; /* floats */
} conv_job;

/* The view's strides, which do not depend on the band. */
static view view_strides(const conv_job *j) {
  const geom *g = &j->g;
  view v = {.pixel = j->p->input_nchw ? 1 : 16};
  if (!g->copy) {
    v.row = g->w * v.pixel;
    v.block = g->h * g->w * v.pixel;
  } else if (j->p->input_nchw) {
    v.row = g->cin * g->wp; /* [row][channel][x] */
    v.block = g->wp;
  } else {
    v.row = g->row_floats;
    v.block = g->wp * 16;
  }
  return v;
}

static void fill_table(const conv_job *j, view v, mrt_kblock *b) {
  const mrt_conv *p = j->p;
  if (p->input_nchw) {
    const int64_t pieces = p->dil_w == 1 ? 1 : p->kw;
    for (int64_t c = 0; c < j->g.cin; ++c)
      for (int64_t ky = 0; ky < p->kh; ++ky)
        for (int64_t kx = 0; kx < pieces; ++kx)
          *b++ = (mrt_kblock){(int32_t)(c * v.block + ky * p->dil_h * v.row + kx * p->dil_w),
                              pieces == 1 ? (int32_t)p->kw : 1};
    return;
  }
  const int64_t blocks = mrt_c16_blocks(j->g.cin);
  for (int64_t ky = 0; ky < p->kh; ++ky)
    for (int64_t kx = 0; kx < p->kw; ++kx)
      for (int64_t c = 0; c < blocks; ++c)
        *b++ = (mrt_kblock){(int32_t)(ky * p->dil_h * v.row + kx * p->dil_w * 16 + c * v.block),
                            (int32_t)min_i64(16, j->g.cin - c * 16)};
}

/* Copies one line (w pixels of `pixel` floats) with zeros around it. src NULL: a row of padding. */
static void copy_line(const conv_job *j, const float *src, int64_t pixel, float *dst) {
  const int64_t left = min_i64(j->p->pad_left, j->g.wp);
  const int64_t body = min_i64(j->g.w, j->g.wp - left), right = j->g.wp - left - body;
  if (!src) {
    memset(dst, 0, (size_t)(j->g.wp * pixel) * 4);
    return;
  }
  memset(dst, 0, (size_t)(left * pixel) * 4);
  memcpy(dst + left * pixel, src, (size_t)(body * pixel) * 4);
  memset(dst + (left + body) * pixel, 0, (size_t)(right * pixel) * 4);
}

/* Copies padded input rows [r0, r1) of one image and group to dst (the first of them first). */
static void copy_rows(const conv_job *j, int64_t image, int64_t group, int64_t r0, int64_t r1,
                      float *dst) {
  const geom *g = &j->g;
  const int64_t pixel = j->p->input_nchw ? 1 : 16;
  const int64_t lines = j->p->input_nchw ? g->cin : mrt_c16_blocks(g->cin);
  const int64_t total = j->p->input_nchw ? g->cin : g->in_blocks;
  const float *in = j->a->input + (image * total + group * lines) * g->h * g->w * pixel;
  for (int64_t r = r0; r < r1; ++r) {
    const int64_t y = r - j->p->pad_top;
    for (int64_t b = 0; b < lines; ++b, dst += g->wp * pixel)
      copy_line(j, y >= 0 && y < g->h ? in + (b * g->h + y) * g->w * pixel : NULL, pixel, dst);
  }
}

static void activate(const conv_job *j, const mrt_tile *t, int64_t rows) {
  const int64_t pieces = j->p->spread ? rows : 1;
  for (int c = 0; c < t->cols; c += 16)
    for (int64_t i = 0; i < pieces; ++i) {
      float *y = t->c + c / 16 * t->c_col16 + i * t->c_row;
      j->act(y, y, NULL, NULL, j->a->act.p, rows / pieces * 16);
    }
}

/* Input of tile i and the offset of its output in a channel block; returns its rows. */
static int64_t tile_place(const conv_job *j, const view *v, int64_t i, mrt_tile *t, int64_t *out) {
  const geom *g = &j->g;
  const int64_t row = i / g->tiles_per_row, piece = i % g->tiles_per_row;
  const int64_t oy = g->pair ? row * 2 : row;
  const int64_t ox = mrt_par_begin(g->ow, g->tiles_per_row, piece);
  int64_t rows = mrt_par_begin(g->ow, g->tiles_per_row, piece + 1) - ox;
  t->a = v->base + (oy * j->p->stride_h - v->first_row) * v->row + ox * t->a_row;
  t->a_hi = t->a + g->kern->split * t->a_row;
  if (g->pair && oy + 1 < g->oh) {
    t->a_hi = t->a + j->p->stride_h * v->row;
    rows *= 2;
  }
  *out = oy * j->out_row + ox * j->out_pixel;
  return rows;
}

/* The panel (or slice of k) that follows: each tile fetches its share of it into L2, so that
 * weights from L3 or memory arrive while others are used. */
typedef struct ahead {
  const float *from;
  int64_t step, floats; /* of a tile, of all */
  int lines;
} ahead;

static const float *weights_at(const conv_job *j, const char *weights, int64_t element) {
  return (const float *)(const void *)(weights + (size_t)element * mrt_conv_width(j->p));
}

static ahead weights_ahead(const conv_job *j, const char *weights, int64_t n, int64_t n1,
                           int64_t p0, int64_t k0, int64_t len, int64_t tiles, bool last) {
  const geom *g = &j->g;
  ahead a = {.floats = len * PANEL / (j->p->narrow ? 2 : 1),
             .lines = (int)max_i64(1, ceil_div(8, tiles))};
  a.step = len / 4 * a.lines * 16;
  if (g->kern->nr != PANEL || a.step <= 0) return a;
  if (n + PANEL < n1)
    a.from = weights_at(j, weights, (n + PANEL) * g->k + k0 * PANEL);
  else if (!last)
    a.from = weights_at(j, weights, p0 * PANEL * g->k + (k0 + len) * PANEL);
  return a;
}

/* The panel of column n (in it) from row k0 on, `len` rows: where it lies, or widened. */
static const float *panel_of(const conv_job *j, const char *weights, int64_t n, int64_t k0,
                             int64_t len, int worker) {
  const int64_t in = n % PANEL;
  const float *at = weights_at(j, weights, (n - in) * j->g.k + k0 * PANEL);
  if (!j->p->narrow) return at + in;
  const mrt_narrow_kind kind = j->p->narrow == MRT_CONV_F16 ? MRT_NARROW_F16 : MRT_NARROW_BF16;
  float *wide = j->wide + worker * j->wide_floats;
  if (!in) mrt_narrow_kernels_get()->widen[kind](at, len, NULL, wide);
  return wide + in;
}

/* Copies what the windows of output pixels [x0, x1) of row oy read, with zeros around the image, as
 * the rows of a band that begins there. */
static void copy_window(const conv_job *j, const float *in, int64_t oy, int64_t x0, int64_t x1,
                        float *dst) {
  const geom *g = &j->g;
  const mrt_conv *p = j->p;
  const int64_t first = x0 * p->stride_w - p->pad_left, y0 = oy * p->stride_h - p->pad_top;
  const int64_t count = (x1 - x0 - 1) * p->stride_w + p->kw;
  for (int64_t ky = 0; ky < p->kh; ++ky)
    for (int64_t c = 0; c < g->cin; ++c, dst += g->wp) {
      const int64_t y = y0 + ky;
      const bool row = y >= 0 && y < g->h;
      const int64_t left = row ? min_i64(count, max_i64(0, -first)) : count,
                    end = max_i64(left, min_i64(count, g->w - first));
      const float *src = in + (c * g->h + y) * g->w + first;
      for (int64_t i = 0; i < left; ++i) dst[i] = 0;
      if (end > left) memcpy(dst + left, src + left, (size_t)(end - left) * 4);
      for (int64_t i = end; i < count; ++i) dst[i] = 0;
    }
}

/* Output pixels [x0, x1) of row oy, some of them at the border; t as for run_pixels. */
static void run_edges(const conv_job *j, const float *in, mrt_tile *t, int64_t oy, int64_t x0,
                      int64_t x1, float *copy) {
  const geom *g = &j->g;
  const mrt_conv *p = j->p;
  const mrt_c16_tile_fn run = pixel_kernel(g, p);
  const int64_t y = oy * p->stride_h - p->pad_top, rows = g->kern->max_rows;
  const bool row = y >= 0 && y + p->kh <= g->h;
  /* Where windows lie within a row, rounded to tiles. */
  const int64_t least = ceil_div(p->pad_left, p->stride_w), room = g->w - p->kw + p->pad_left,
                most = room < 0 ? 0 : room / p->stride_w + 1;
  const int64_t from = row ? ceil_div(max_i64(0, least - x0), rows) * rows + x0 : x1,
                to = most >= x1 ? x1 : (most - x0) / rows * rows + x0;
  for (int64_t x = x0, end; x < x1; x = end) {
    const bool inside = x >= from && x < to;
    end = inside ? to : x < from ? min_i64(from, x1) : x1;
    t->blocks = inside ? j->inner : j->blocks;
    t->a = inside ? in + y * g->w + x * p->stride_w - p->pad_left : copy;
    if (!inside) copy_window(j, in, oy, x, end, copy);
    run(t, end - x);
    t->c += (end - x) * 16;
    if (t->residual) t->residual += (end - x) * 16;
  }
}

/* Tiles [t0, t1) of one panel, as runs within a row (a flat image is one row). t: all but a, c,
 * residual and ahead. An activation that is no clip follows while the pixels are in L1. */
static void run_pixels(const conv_job *j, const view *v, mrt_tile *t, int64_t t0, int64_t t1,
                       int64_t out0, bool last, const ahead *next, int worker) {
  enum { ACTIVATED = 56 };
  const geom *g = &j->g;
  const mrt_c16_tile_fn run = pixel_kernel(g, j->p);
  const int64_t asks = (t1 - t0) * t->n_blocks;
  t->ahead = next->from;
  t->ahead_lines = next->from ? (int)ceil_div(next->floats / 16, max_i64(1, asks)) : 0;
  for (int64_t i = t0; i < t1;) {
    const int64_t row = i / g->tiles_per_row, end = min_i64(t1, (row + 1) * g->tiles_per_row);
    const int64_t x0 = mrt_par_begin(g->ow, g->tiles_per_row, i % g->tiles_per_row),
                  x1 = mrt_par_begin(g->ow, g->tiles_per_row, end - row * g->tiles_per_row);
    const int64_t step = j->act && last ? ACTIVATED : x1 - x0;
    int64_t out;
    tile_place(j, v, i, t, &out);
    t->c = j->a->output + out0 + out;
    t->residual = t->residual ? j->a->residual + out0 + out : NULL;
    for (int64_t x = x0; x < x1; x += step) {
      const int64_t n = min_i64(step, x1 - x);
      mrt_tile piece = *t;
      if (g->edges)
        run_edges(j, v->base, &piece, row, x, x + n, j->copy + worker * j->copy_floats);
      else
        run(t, n);
      if (j->act && last) activate(j, t, n);
      t->a += n * t->a_row, t->c += n * 16;
      if (t->residual) t->residual += n * 16;
    }
    i = end;
  }
}

/* All tiles [t0, t1) and panels [p0, p1) of one image and group, one slice of k after the other. */
static void run_tiles(const conv_job *j, const view *v, int64_t image, int64_t group, int64_t t0,
                      int64_t t1, int64_t p0, int64_t p1, int worker) {
  const geom *g = &j->g;
  const int64_t nr = g->kern->nr;
  const int64_t out0 = image * j->out_image + group * (g->cout / 16) * j->out_block;
  const char *weights =
      (const char *)weights_at(j, j->a->weights, group * mrt_conv_group_size(j->p));
  const int64_t padded = align16(g->cout), n1 = min_i64(p1 * PANEL, padded);
  mrt_tile t = {.a_row = j->p->stride_w * v->pixel,
                .c_row = j->out_pixel,
                .c_col16 = j->out_block,
                .r_row = j->out_pixel,
                .r_col16 = j->out_block,
                .alpha = 1.0f,
                .beta = 1.0f,
                .lo = j->lo,
                .hi = j->hi};
  const int64_t slices = slices_of(g);
  /* An output that is its own residual would be overwritten by the first of several slices: that
   * one starts from it instead. */
  const bool in_place = slices > 1 && j->a->residual == j->a->output;
  const bool runs = pixel_kernel(g, j->p) && !in_place;
  int64_t k0 = 0;
  for (int64_t s = 0; s < slices; ++s) {
    const int64_t b0 = mrt_par_begin(g->n_blocks, slices, s),
                  b1 = mrt_par_begin(g->n_blocks, slices, s + 1);
    const bool last = s + 1 == slices;
    t.flags = (s || in_place ? MRT_TILE_LOAD : 0) | (last ? j->flags | MRT_TILE_FINAL : 0);
    t.blocks = j->blocks + b0;
    t.n_blocks = b1 - b0;
    int64_t len = 0;
    for (int64_t b = b0; b < b1; ++b) len += j->blocks[b].len;
    for (int64_t n = p0 * PANEL; n < n1; n += nr) {
      t.cols = (int)min_i64(nr, padded - n);
      const mrt_tile_fn *fns = t.cols <= 16 && nr > 16 ? g->kern->narrow : g->kern->wide;
      t.b = panel_of(j, weights, n, k0, len, worker);
      t.bias = j->bias ? j->bias + group * g->cout + n : NULL;
      /* The panel behind the last one is the next chunk's, mostly of the same worker. */
      const ahead next =
          weights_ahead(j, weights, n, slices > 1 ? n1 : padded, p0, k0, len, t1 - t0, last);
      if (runs) {
        t.residual = j->a->residual;
        run_pixels(j, v, &t, t0, t1, out0 + n / 16 * j->out_block, last, &next, worker);
        continue;
      }
      for (int64_t i = t0; i < t1; ++i) {
        int64_t out;
        const int64_t rows = tile_place(j, v, i, &t, &out);
        t.ahead_lines = next.lines;
        t.ahead = next.from && (i - t0) * next.step < next.floats ? next.from + (i - t0) * next.step
                                                                  : NULL;
        const int64_t at = out0 + n / 16 * j->out_block + out;
        t.c = j->a->output + at;
        t.residual = j->a->residual && !in_place ? j->a->residual + at : NULL;
        fns[rows](&t);
        if (j->act && last) activate(j, &t, rows);
      }
    }
    k0 += len;
  }
}

/* The view of one band: in place, in the shared copy, or freshly copied. */
static view band_view(const conv_job *j, int64_t image, int64_t group, int64_t t0, int64_t t1,
                      int worker) {
  const geom *g = &j->g;
  view v = view_strides(j);
  if (g->edges) {
    v.base = j->a->input + image * g->cin * g->h * g->w;
    return v;
  }
  if (!g->copy) {
    const int64_t block0 =
        j->p->input_nchw ? image * g->cin : image * g->in_blocks + group * (g->cin / 16);
    v.base = j->a->input + block0 * v.block;
    return v;
  }
  if (j->copy_floats == 0) {
    v.base = j->copy + group * g->hp * g->row_floats;
    return v;
  }
  int64_t y0, y1;
  band_rows(g, t0, t1, &y0, &y1);
  float *dst = j->copy + worker * j->copy_floats;
  v.first_row = y0 * j->p->stride_h;
  copy_rows(j, image, group, v.first_row,
            (y1 - 1) * j->p->stride_h + (j->p->kh - 1) * j->p->dil_h + 1, dst);
  v.base = dst;
  return v;
}

/* Units are (image, group, band), several a chunk. */
static void conv_chunk(void *arg, int64_t chunk, int worker) {
  const conv_job *j = arg;
  const geom *g = &j->g;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end && !mrt_par_stop(); ++u) {
    const int64_t band = u % g->bands, group = u / g->bands % j->p->groups;
    const int64_t image = u / g->bands / j->p->groups;
    const int64_t t0 = band * g->band_tiles, t1 = min_i64(g->tiles, t0 + g->band_tiles);
    const view v = band_view(j, image, group, t0, t1, worker);
    run_tiles(j, &v, image, group, t0, t1, 0, g->panels, worker);
  }
}

/* Where part i of the panels begins: larger and smaller parts in turn, so that each worker's range
 * of chunks has as many panels. */
static int64_t panel_begin(const conv_job *j, int64_t i) {
  return j->g.panels / j->parts * i + j->g.panels % j->parts * i / j->parts;
}

/* A chunk is a group, a part of the image's tiles and a part of the panels. */
static void split_chunk(void *arg, int64_t chunk, int worker) {
  const conv_job *j = arg;
  const geom *g = &j->g;
  const int64_t part = chunk % j->parts, m = chunk / j->parts % j->m_parts,
                group = chunk / j->parts / j->m_parts;
  const int64_t t0 = mrt_par_begin(g->tiles, j->m_parts, m),
                t1 = mrt_par_begin(g->tiles, j->m_parts, m + 1);
  const view v = band_view(j, j->image, group, t0, t1, worker);
  run_tiles(j, &v, j->image, group, t0, t1, panel_begin(j, part), panel_begin(j, part + 1), worker);
}

/* The shared copy, cut into (group, row). */
static void copy_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const conv_job *j = arg;
  const int64_t units = j->p->groups * j->g.hp, end = mrt_par_begin(units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(units, j->chunks, chunk); u < end; ++u)
    copy_rows(j, j->image, u / j->g.hp, u % j->g.hp, u % j->g.hp + 1,
              j->copy + u * j->g.row_floats);
}

static double cost_ns(const conv_job *j, int64_t images) { /* 60 multiply-adds a nanosecond */
  return (double)(j->g.oh * j->g.ow * images) * (double)j->p->cout * (double)j->g.k / 60.0;
}

/* Few bands: image by image, panels shared out. With tiles enough, each worker first gets tiles of
 * its own: then it finds in its cache what it wrote in the layer before. */
static void run_split(const mrt_par *par, conv_job *j) {
  const geom *g = &j->g;
  j->copy_floats = 0;
  j->m_parts = g->tiles >= 4 * mrt_par_workers(par) ? mrt_par_workers(par) : 1;
  const int64_t want = mrt_par_chunks(g->tiles * j->p->groups * g->panels, cost_ns(j, 1));
  j->parts = max_i64(1, min_i64(g->panels, ceil_div(want, j->m_parts * j->p->groups)));
  for (int64_t i = 0; i < j->a->n; ++i) {
    j->image = i;
    if (g->copy) {
      j->chunks = mrt_par_chunks(g->hp * j->p->groups,
                                 (double)(g->hp * g->row_floats * j->p->groups) * 0.15);
      mrt_par_run(par, j->chunks, copy_chunk, j);
    }
    if (want > 1)
      mrt_par_run(par, j->p->groups * j->m_parts * j->parts, split_chunk, j);
    else
      for (int64_t c = 0; c < j->p->groups * j->m_parts * j->parts; ++c) split_chunk(j, c, 0);
  }
}

static void set_epilogue(conv_job *j, float *scratch) {
  const mrt_conv_args *a = j->a;
  if (a->act.op == MRT_EW_RELU || a->act.op == MRT_EW_CLIP) {
    j->flags = MRT_TILE_CLIP;
    j->lo = a->act.op == MRT_EW_RELU ? 0.0f : a->act.p[0];
    j->hi = a->act.op == MRT_EW_RELU ? __builtin_inff() : a->act.p[1];
  } else if (a->act.op != MRT_EW_COPY) {
    j->act = mrt_ew_find(a->act.op);
  }
  j->bias = a->bias;
  if (a->bias && j->p->cout % 16) { /* whole blocks are computed: bias 0 in the spare lanes */
    memset(scratch, 0, (size_t)(j->g.out_blocks * 16) * 4);
    memcpy(scratch, a->bias, (size_t)j->p->cout * 4);
    j->bias = scratch;
  }
}

static void set_output(conv_job *j) {
  const mrt_conv_args *a = j->a;
  const int64_t row = j->g.ow * 16, block = j->g.oh * row;
  const bool apart = j->p->spread;
  j->out_pixel = apart ? a->out_pixel : 16;
  j->out_row = apart ? a->out_row : row;
  j->out_block = apart ? a->out_block : block;
  j->out_image = apart ? a->out_image : j->g.out_blocks * block;
}

void mrt_conv_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *args, void *scratch) {
  if (p->winograd) {
    mrt_conv_winograd_run(par, p, args, scratch);
    return;
  }
  if (p->parts) {
    mrt_conv_split_run(mrt_conv_split_kernels_get(), par, p, args, scratch);
    return;
  }
  if (mrt_conv_is_depthwise(p)) {
    mrt_conv_depthwise_run(par, p, args, scratch);
    return;
  }
  conv_job j = {.p = p, .a = args};
  geom_make(&j.g, p, args->h, args->w);
  const geom *g = &j.g;
  if (args->n <= 0 || g->oh <= 0 || g->ow <= 0) return;
  float *at = scratch;
  set_epilogue(&j, at);
  set_output(&j);
  at += g->out_blocks * 16;
  j.blocks = (mrt_kblock *)at;
  j.wide = mrt_worker_first(at + table_floats(g));
  j.wide_floats = wide_pitch(g, p);
  j.copy = j.wide + j.wide_floats * mrt_par_workers(par);
  fill_table(&j, view_strides(&j), j.blocks);
  if (g->edges) {
    const int64_t plane = args->h * args->w;
    j.inner = j.blocks + g->n_blocks;
    fill_table(&j, (view){.row = args->w, .pixel = 1, .block = plane}, j.inner);
  }
  const int64_t units = args->n * p->groups * g->bands;
  if (splits_panels(g, par, units)) {
    run_split(par, &j);
    return;
  }
  j.copy_floats = copy_pitch(g, p);
  j.units = units;
  j.chunks = mrt_par_chunks(units, cost_ns(&j, args->n));
  mrt_par_run(par, j.chunks, conv_chunk, &j);
}
