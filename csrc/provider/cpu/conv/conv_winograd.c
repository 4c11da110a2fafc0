/* 3x3 convolution with stride 1 by Winograd's F(2x2, 3x3): 16 products instead of 36 for each 2x2
 * outputs; or by F(4x4, 3x3): 36 instead of 144 for 4x4 outputs. Tiles of 4x4 (6x6) input pixels,
 * two (four) apart, are transformed; element f of all tiles is the left side of product f, with
 * transformed weights [panel][f][cin][32] as the right side; the results of a tile are transformed
 * back into output pixels.
 *
 * Work goes band by band (whole tile rows whose transformed input fits L2), panel by panel: the
 * products one after the other, so that the weights of one are read into L1 once, then back. */
#include <math.h>
#include <string.h>

#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/gemm/gemm_kernel.h"

enum {
  PANEL = 32,
  MAX_IN = 6, /* pixels of a tile's edge */
  MAX_OUT = 4,
  BAND_FLOATS = 131072, /* transformed: half a MB */
  LEAST_UNITS = 4,      /* panels times parts of a band */
  LEAST_TILES = 64,     /* of a band, if there are as many */
  LEAST_TILES_4 = 36,   /* of an image, for F(4x4, 3x3) */
  ROW_TILES = 64,
};

/* An algorithm F(out x out, 3x3): tiles of in x in pixels, in * in products. */
typedef struct form {
  int out, in, products;
  double g[MAX_IN][3]; /* weights become G g G^T */
  /* Back: the first and last rows of G pick a weight, the difference of rows 1 and 2 times `middle`
   * gives the one in the middle. */
  double middle;
} form;

static const form forms[2] = {
    {2, 4, 16, {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}, 1},
    /* At the points 0, -a, a, -b, b, infinity (winograd_simd.inl): row (1, p, p^2) / product of the
     * differences to the other points. */
    {4,
     6,
     36,
     {{1, 0, 0},
      {-1.0 / 1.5, -M_SQRT1_2 / 1.5, -0.5 / 1.5},
      {-1.0 / 1.5, M_SQRT1_2 / 1.5, -0.5 / 1.5},
      {1.0 / 6, M_SQRT2 / 6, 2.0 / 6},
      {1.0 / 6, -M_SQRT2 / 6, 2.0 / 6},
      {0, 0, 1}},
     -0.75 * M_SQRT2}};

static const form *form_of(const mrt_conv *p) { return &forms[p->winograd == 4]; }

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

bool mrt_conv_winograd_ok(const mrt_conv *p, const float *weights) {
  if (p->kh != 3 || p->kw != 3 || p->stride_h != 1 || p->stride_w != 1 || p->dil_h != 1 ||
      p->dil_w != 1 || p->groups != 1 || p->input_nchw || p->cin < 16 || p->cout < 16)
    return false;
  for (int64_t i = 0; weights && i < p->cin * p->cout * 9; ++i)
    if (!(fabsf(weights[i]) < 1e30f)) return false;
  return true;
}

int mrt_conv_winograd_pays(const mrt_conv *p, int64_t h, int64_t w, bool four) {
  const int64_t oh = mrt_conv_out(h, 3, 1, 1, p->pad_top, p->pad_bottom);
  const int64_t ow = mrt_conv_out(w, 3, 1, 1, p->pad_left, p->pad_right);
  /* Few tiles do not pay for the larger weights: 1.8 and 4 times as many bytes. */
  if (four && ceil_div(oh, 4) * ceil_div(ow, 4) >= LEAST_TILES_4) return 4;
  return ceil_div(oh, 2) * ceil_div(ow, 2) >= 24 && oh * ow >= 80 ? 2 : 0;
}

/* ---- weights ---- */
size_t mrt_conv_winograd_packed_size(const mrt_conv *p) {
  return (size_t)(ceil_div(p->cout, PANEL) * PANEL * form_of(p)->products * p->cin) * sizeof(float);
}

/* u[in][in] = G g G^T */
static void transform_weights(const form *f, const float *g, double *u) {
  double t[MAX_IN][3];
  for (int r = 0; r < f->in; ++r)
    for (int c = 0; c < 3; ++c)
      t[r][c] = f->g[r][0] * g[c] + f->g[r][1] * g[3 + c] + f->g[r][2] * g[6 + c];
  for (int r = 0; r < f->in; ++r)
    for (int c = 0; c < f->in; ++c)
      u[r * f->in + c] = t[r][0] * f->g[c][0] + t[r][1] * f->g[c][1] + t[r][2] * f->g[c][2];
}

typedef struct pack_job {
  const mrt_conv *p;
  const float *weights;
  float *dst;
  int64_t units, chunks;
} pack_job;

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const form *way = form_of(j->p);
  const int64_t cin = j->p->cin, end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t o = mrt_par_begin(j->units, j->chunks, chunk); o < end; ++o)
    for (int64_t c = 0; c < cin; ++c) {
      double u[MAX_IN * MAX_IN] = {0};
      if (o < j->p->cout) transform_weights(way, j->weights + (o * cin + c) * 9, u);
      float *dst = j->dst + (o / PANEL * way->products * cin + c) * PANEL + o % PANEL;
      for (int f = 0; f < way->products; ++f) dst[f * cin * PANEL] = (float)u[f];
    }
}

void mrt_conv_winograd_pack(const mrt_par *par, const mrt_conv *p, const float *weights,
                            float *dst) {
  pack_job j = {p, weights, dst, ceil_div(p->cout, PANEL) * PANEL, 1};
  j.chunks = mrt_par_chunks(j.units, (double)(j.units * p->cin) * 30);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}

/* ---- geometry ---- */
typedef struct wino {
  const mrt_conv *p;
  const form *way;
  const mrt_conv_args *a;
  const mrt_gemm_kernels *gemm;
  const mrt_conv_kernels *conv;
  int64_t h, w, oh, ow, in_blocks, out_blocks;
  int64_t tw, th;             /* tiles of a row, rows of tiles */
  int64_t bands, band_rows;   /* rows of tiles of the largest band */
  int64_t f_stride, v_floats; /* transformed band: floats of a frequency, of all */
  int64_t block_stride;       /* from one channel block to the next: largest band's tiles * 16 */
  int64_t parts;              /* of a band's tiles */
  int64_t m_half, m_stride, m_floats; /* results: a channel block, a product, all */
  const float *bias, *zeros;          /* whole blocks; a row of zeros, w pixels */
  float *v, *m;                       /* per worker (v: of all when shared), pitches apart */
  mrt_kblock *blocks;
  mrt_ew_fn act;
  float lo, hi;
  bool clip;
  int64_t image, band, units, chunks;
} wino;

/* Relative cost of cutting the rows of tiles into b bands: uneven shares of two workers, bands that
 * outgrow L2 or leave the microkernel few rows, and weights beyond L2 read again for each. */
static double band_cost(const wino *g, int64_t b) {
  const int64_t rows = ceil_div(g->th, b), tiles = rows * g->tw;
  const double limit =
      (double)max_i64(LEAST_TILES, BAND_FLOATS / (g->way->products * g->in_blocks * 16));
  double cost = b == 1 ? 1.08 : (double)(ceil_div(b, 2) * rows * 2) / (double)g->th;
  if ((double)tiles > limit) cost *= 1 + 0.15 * ((double)tiles / limit - 1);
  if (tiles < 56) cost *= 1 + 0.1 * (56.0 / (double)tiles - 1);
  if (g->p->cin * g->p->cout > 16384) cost *= 1 + 10.0 / (double)tiles;
  return cost;
}

static int64_t choose_bands(const wino *g) {
  int64_t best = 1;
  double least = band_cost(g, 1);
  for (int64_t b = 2; b <= g->th; ++b) {
    const double cost = band_cost(g, b);
    if (cost < least) least = cost, best = b;
  }
  return best;
}

static int64_t pitch(int64_t floats) {
  return (int64_t)(mrt_worker_pitch((size_t)floats * sizeof(float)) / sizeof(float));
}

static void geometry(wino *g, const mrt_conv *p, int64_t h, int64_t w) {
  *g = (wino){.p = p,
              .way = form_of(p),
              .gemm = mrt_gemm_kernels_get(),
              .conv = mrt_conv_kernels_get(),
              .h = h,
              .w = w,
              .in_blocks = mrt_c16_blocks(p->cin),
              .out_blocks = mrt_c16_blocks(p->cout)};
  g->oh = mrt_conv_out(h, 3, 1, 1, p->pad_top, p->pad_bottom);
  g->ow = mrt_conv_out(w, 3, 1, 1, p->pad_left, p->pad_right);
  if (g->oh <= 0 || g->ow <= 0) return;
  g->th = ceil_div(g->oh, g->way->out);
  g->tw = ceil_div(g->ow, g->way->out);
  g->bands = choose_bands(g);
  g->band_rows = ceil_div(g->th, g->bands);
  g->block_stride = g->band_rows * g->tw * 16;
  /* An odd number of cache lines: the stores of a tile fall into different sets. */
  g->f_stride = (g->block_stride / 16 * g->in_blocks | 1) * 16;
  g->v_floats = pitch(g->way->products * g->f_stride);
  /* Few panels: the band's tiles are cut as well, so that there is something to share. */
  g->parts = ceil_div(LEAST_UNITS, ceil_div(p->cout, PANEL));
  g->m_half = ceil_div(g->band_rows * g->tw, g->parts) * 16;
  g->m_stride = (g->m_half / 16 * 2 | 1) * 16;
  g->m_floats = pitch(g->way->products * g->m_stride);
}

static int64_t align16(int64_t n) { return (n + 15) & ~(int64_t)15; }

size_t mrt_conv_winograd_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w) {
  wino g;
  geometry(&g, p, h, w);
  if (g.oh <= 0 || g.ow <= 0) return 0;
  const int64_t fixed = g.out_blocks * 16 + align16(2 * g.in_blocks) + w * 16;
  return (size_t)(fixed + (g.v_floats + g.m_floats) * mrt_par_workers(par)) * sizeof(float) +
         MRT_WORKER_PAGE;
}

/* ---- input ---- */

static void transform(const wino *g, const float *const *rows, int64_t count, float *dst) {
  (g->way->out == 4 ? g->conv->wino4_input : g->conv->wino_input)(rows, count, dst, g->f_stride);
}

/* One tile that reaches over an edge: a copy with zeros outside. */
static void edge_tile(const wino *g, const float *const *rows, int64_t x0, float *dst) {
  float patch[MAX_IN][MAX_IN * 16];
  const float *r[MAX_IN];
  for (int i = 0; i < g->way->in; ++i) {
    for (int c = 0; c < g->way->in; ++c)
      if (x0 + c >= 0 && x0 + c < g->w)
        memcpy(patch[i] + c * 16, rows[i] + (x0 + c) * 16, 64);
      else
        memset(patch[i] + c * 16, 0, 64);
    r[i] = patch[i];
  }
  transform(g, r, 1, dst);
}

/* Row `row` of tiles of channel block `block`; the band begins at tile row `first`. */
static void input_row(const wino *g, int64_t image, int64_t block, int64_t row, int64_t first,
                      float *v) {
  const float *in = g->a->input + (image * g->in_blocks + block) * g->h * g->w * 16;
  const float *rows[MAX_IN], *at[MAX_IN];
  const int64_t out = g->way->out, edge = g->way->in;
  float *dst = v + block * g->block_stride + (row - first) * g->tw * 16;
  for (int i = 0; i < edge; ++i) {
    const int64_t y = out * row - g->p->pad_top + i;
    rows[i] = y >= 0 && y < g->h ? in + y * g->w * 16 : g->zeros;
  }
  for (int64_t t = 0; t < g->tw;) {
    const int64_t x0 = out * t - g->p->pad_left;
    /* Tiles from t on that lie inside. */
    const int64_t inside = x0 < 0 ? 0 : min_i64(g->tw - t, (g->w - x0 - edge) / out + 1);
    if (x0 < 0 || g->w - x0 < edge || inside <= 0) {
      edge_tile(g, rows, x0, dst + t++ * 16);
      continue;
    }
    for (int i = 0; i < edge; ++i) at[i] = rows[i] + x0 * 16;
    transform(g, at, inside, dst + t * 16);
    t += inside;
  }
}

/* ---- tiles that are not finite ---- */

/* The weights of 16 output channels and one input channel back from their transform (see form). */
static void weights_back(const form *f, const float *u, int64_t f_step, float g[9][16]) {
  const int e = f->in, pick[3] = {0, 1, e - 1};
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 3; ++c)
      for (int l = 0; l < 16; ++l) {
        const float *q = u + l;
        double x = q[(e * pick[r] + pick[c]) * f_step];
        if (r == 1) x -= q[(2 * e + pick[c]) * f_step];
        if (c == 1) x -= q[(e * pick[r] + 2) * f_step];
        if (r == 1 && c == 1) x += q[(2 * e + 2) * f_step];
        if (r == 1) x *= f->middle;
        if (c == 1) x *= f->middle;
        g[3 * r + c][l] = (float)x;
      }
}

/* Outputs (oy, ox) of 16 channels, summed directly. u: transformed weights of these channels. */
static void direct_pixel(const wino *g, int64_t image, int64_t oy, int64_t ox, const float *u,
                         float *sum) {
  for (int l = 0; l < 16; ++l) sum[l] = 0;
  for (int64_t c = 0; c < g->p->cin; ++c) {
    const float *in = g->a->input + (image * g->in_blocks + c / 16) * g->h * g->w * 16 + c % 16;
    float w[9][16];
    weights_back(g->way, u + c * PANEL, g->p->cin * PANEL, w);
    for (int k = 0; k < 9; ++k) {
      const int64_t y = oy - g->p->pad_top + k / 3, x = ox - g->p->pad_left + k % 3;
      const float v = y >= 0 && y < g->h && x >= 0 && x < g->w ? in[(y * g->w + x) * 16] : 0.0f;
      for (int l = 0; l < 16; ++l) sum[l] += v * w[k][l];
    }
  }
}

/* Lanes from `lane` on: those before it are written. */
static void direct_tile(const wino *g, int64_t image, int64_t ty, int64_t tx, int64_t block,
                        int lane, const float *u) {
  const int64_t area = g->oh * g->ow, out0 = (image * g->out_blocks + block) * area * 16;
  const int out = g->way->out;
  for (int k = 0; k < out * out; ++k) {
    const int64_t oy = out * ty + k / out, ox = out * tx + k % out;
    if (oy >= g->oh || ox >= g->ow) continue;
    const int64_t at = out0 + (oy * g->ow + ox) * 16;
    float sum[16];
    direct_pixel(g, image, oy, ox, u, sum);
    for (int l = lane; l < 16; ++l) {
      float x = sum[l] + (g->bias ? g->bias[block * 16 + l] : 0.0f);
      if (g->a->residual) x += g->a->residual[at + l];
      if (g->clip) {
        x = x < g->lo ? g->lo : x;
        x = x > g->hi ? g->hi : x;
      }
      g->a->output[at + l] = x;
    }
  }
}

/* ---- output ---- */

/* Tiles [t0, t0 + n) of one tile row (numbers within the image), one channel block. */
static void output_row(const wino *g, int64_t image, int64_t row, int64_t t0, int64_t n,
                       int64_t block, const float *m, const float *u) {
  uint8_t bad[ROW_TILES];
  const int out = g->way->out;
  const int64_t out0 = (image * g->out_blocks + block) * g->oh * g->ow * 16;
  mrt_wino_out o = {.m = m,
                    .f_stride = g->m_stride,
                    .count = n,
                    .last_cols = (int)min_i64(out, g->ow - out * (t0 + n - 1)),
                    .bias = g->bias ? g->bias + block * 16 : NULL,
                    .lo = g->lo,
                    .hi = g->hi,
                    .clip = g->clip,
                    .bad = bad};
  for (int i = 0; i < out; ++i) {
    const int64_t at = out0 + ((out * row + i) * g->ow + out * t0) * 16;
    if (out * row + i >= g->oh) continue;
    o.out[i] = g->a->output + at;
    o.residual[i] = g->a->residual ? g->a->residual + at : NULL;
  }
  (out == 4 ? g->conv->wino4_output : g->conv->wino_output)(&o);
  for (int64_t i = 0; i < n; ++i)
    if (bad[i]) direct_tile(g, image, row, t0 + i, block, bad[i] - 1, u);
  const int64_t pixels = min_i64(out * n, g->ow - out * t0);
  for (int i = 0; i < out && g->act; ++i)
    if (o.out[i]) g->act(o.out[i], o.out[i], NULL, NULL, g->a->act.p, pixels * 16);
}

/* Some tiles [t0, t1) of a band through product f of a panel, in groups of microkernel rows. */
static void run_product(const wino *g, int f, int64_t t0, int64_t t1, int64_t panel, const float *v,
                        float *m) {
  const int64_t cin = g->p->cin, nr = g->gemm->nr;
  const int64_t cols = min_i64(PANEL, g->out_blocks * 16 - panel * PANEL);
  const int64_t groups = ceil_div(t1 - t0, g->gemm->max_rows);
  const float *u = (const float *)g->a->weights + (panel * g->way->products + f) * cin * PANEL;
  mrt_tile t = {.a_row = 16,
                .blocks = g->blocks,
                .n_blocks = g->in_blocks,
                .c_row = 16,
                .c_col16 = g->m_half,
                .ahead_lines = (int)max_i64(1, ceil_div(8, groups))};
  const bool fetch = f + 1 < g->way->products || panel + 1 < ceil_div(g->p->cout, PANEL);
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t from = mrt_par_begin(t1 - t0, groups, i);
    const int64_t rows = mrt_par_begin(t1 - t0, groups, i + 1) - from;
    t.a = v + f * g->f_stride + (t0 + from) * 16;
    t.a_hi = t.a + g->gemm->split * 16;
    t.ahead = fetch && i * t.ahead_lines < 8 ? u + cin * PANEL + i * (cin / 4) * t.ahead_lines * 16
                                             : NULL;
    for (int64_t n = 0; n < cols; n += nr) {
      t.cols = (int)min_i64(nr, cols - n);
      t.b = u + n;
      t.c = m + f * g->m_stride + n / 16 * g->m_half + from * 16;
      (t.cols <= 16 && nr > 16 ? g->gemm->narrow : g->gemm->wide)[rows](&t);
    }
  }
}

static void run_tiles(const wino *g, int64_t image, int64_t first_row, int64_t t0, int64_t t1,
                      int64_t panel, const float *v, float *m) {
  const int64_t cols = min_i64(PANEL, g->out_blocks * 16 - panel * PANEL);
  const float *u = (const float *)g->a->weights + panel * g->way->products * g->p->cin * PANEL;
  for (int f = 0; f < g->way->products; ++f) run_product(g, f, t0, t1, panel, v, m);
  for (int64_t i = t0; i < t1;) { /* row by row, as many at a time as `bad` holds */
    const int64_t row = i / g->tw, x = i % g->tw;
    const int64_t n = min_i64(min_i64(t1 - i, g->tw - x), ROW_TILES);
    for (int64_t half = 0; half < cols / 16; ++half)
      output_row(g, image, first_row + row, x, n, panel * 2 + half,
                 m + half * g->m_half + (i - t0) * 16, u + half * 16);
    i += n;
  }
}

/* ---- a run ---- */
typedef struct band {
  int64_t first, rows, tiles, parts;
} band;

static band band_of(const wino *g, int64_t i) {
  band b = {.first = mrt_par_begin(g->th, g->bands, i)};
  b.rows = mrt_par_begin(g->th, g->bands, i + 1) - b.first;
  b.tiles = b.rows * g->tw;
  b.parts = min_i64(b.tiles, g->parts);
  return b;
}

/* Unit: a panel and a part of the band's tiles. */
static void run_unit(const wino *g, int64_t image, const band *b, int64_t unit, const float *v,
                     float *m) {
  const int64_t panel = unit / b->parts, part = unit % b->parts;
  run_tiles(g, image, b->first, mrt_par_begin(b->tiles, b->parts, part),
            mrt_par_begin(b->tiles, b->parts, part + 1), panel, v, m);
}

/* Units: (image, band), each done from end to end by one worker. */
static void band_chunk(void *arg, int64_t chunk, int worker) {
  const wino *g = arg;
  float *v = g->v + worker * g->v_floats, *m = g->m + worker * g->m_floats;
  const int64_t end = mrt_par_begin(g->units, g->chunks, chunk + 1);
  for (int64_t unit = mrt_par_begin(g->units, g->chunks, chunk); unit < end; ++unit) {
    const int64_t image = unit / g->bands;
    const band b = band_of(g, unit % g->bands);
    for (int64_t block = 0; block < g->in_blocks; ++block)
      for (int64_t r = b.first; r < b.first + b.rows; ++r)
        input_row(g, image, block, r, b.first, v);
    const int64_t n = ceil_div(g->p->cout, PANEL) * b.parts;
    for (int64_t k = 0; k < n; ++k) run_unit(g, image, &b, k, v, m);
  }
}

/* Few bands: all workers share one; first its input, then panels and groups of tiles. */
static void input_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const wino *g = arg;
  const band b = band_of(g, g->band);
  const int64_t end = mrt_par_begin(g->units, g->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(g->units, g->chunks, chunk); u < end; ++u)
    input_row(g, g->image, u / b.rows, b.first + u % b.rows, b.first, g->v);
}
static void group_chunk(void *arg, int64_t chunk, int worker) {
  const wino *g = arg;
  const band b = band_of(g, g->band);
  const int64_t end = mrt_par_begin(g->units, g->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(g->units, g->chunks, chunk); u < end; ++u)
    run_unit(g, g->image, &b, u, g->v, g->m + worker * g->m_floats);
}

static double cost_ns(const wino *g, int64_t tiles) {
  return (double)(tiles * g->p->cout) * (double)g->p->cin * g->way->products / 60.0;
}

static void run_shared(const mrt_par *par, wino *g) {
  for (int64_t i = 0; i < g->a->n * g->bands && !mrt_cancelled(par); ++i) {
    g->image = i / g->bands;
    g->band = i % g->bands;
    const band b = band_of(g, g->band);
    g->units = g->in_blocks * b.rows;
    g->chunks = mrt_par_chunks(g->units, (double)(g->in_blocks * b.tiles) * 20);
    mrt_par_run(par, g->chunks, input_chunk, g);
    g->units = ceil_div(g->p->cout, PANEL) * b.parts;
    g->chunks = mrt_par_chunks(g->units, cost_ns(g, b.tiles));
    mrt_par_run(par, g->chunks, group_chunk, g);
  }
}

static void set_epilogue(wino *g, float *bias) {
  const mrt_act *act = &g->a->act;
  if (act->op == MRT_EW_RELU || act->op == MRT_EW_CLIP) {
    g->clip = true;
    g->lo = act->op == MRT_EW_RELU ? 0.0f : act->p[0];
    g->hi = act->op == MRT_EW_RELU ? __builtin_inff() : act->p[1];
  } else if (act->op != MRT_EW_COPY) {
    g->act = mrt_ew_find(act->op);
  }
  g->bias = g->a->bias;
  if (!g->a->bias || g->p->cout % 16 == 0) return;
  memset(bias, 0, (size_t)(g->out_blocks * 16) * 4);
  memcpy(bias, g->a->bias, (size_t)g->p->cout * 4);
  g->bias = bias;
}

void mrt_conv_winograd_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *args,
                           float *scratch) {
  wino g;
  geometry(&g, p, args->h, args->w);
  if (args->n <= 0 || g.oh <= 0 || g.ow <= 0) return;
  g.a = args;
  set_epilogue(&g, scratch);
  g.blocks = (mrt_kblock *)(scratch + g.out_blocks * 16);
  float *zeros = scratch + g.out_blocks * 16 + align16(2 * g.in_blocks);
  memset(zeros, 0, (size_t)(g.w * 16) * 4);
  g.zeros = zeros;
  g.m = mrt_worker_first(zeros + g.w * 16);
  g.v = g.m + g.m_floats * mrt_par_workers(par);
  for (int64_t b = 0; b < g.in_blocks; ++b)
    g.blocks[b] =
        (mrt_kblock){(int32_t)(b * g.block_stride), (int32_t)min_i64(16, p->cin - b * 16)};
  g.units = args->n * g.bands;
  const int64_t workers = mrt_par_workers(par);
  if (workers > 1 && g.units < 4 * workers && g.units % workers) {
    run_shared(par, &g);
    return;
  }
  g.chunks = mrt_par_chunks(g.units, cost_ns(&g, args->n * g.th * g.tw));
  mrt_par_run(par, g.chunks, band_chunk, &g);
}
