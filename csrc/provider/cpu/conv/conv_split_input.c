/* Geometry of split convolutions (conv_split_job.h), their memory and cost, and the input: bands of
 * image rows become parts. */
#include <string.h>

#include "provider/cpu/conv/conv_split_job.h"

enum {
  BAND_BYTES = 768 << 10, /* split input of a band, */
  SMALL_BAND_BYTES = 256 << 10,
  SMALL_WEIGHTS = 1 << 20,
  LEAST_BLOCKS = 10,  /* of a band, if it can be helped: weights are read for each */
  LEAST_BLOCKS_1 = 3, /* the same for one part and two bands */
  LEAST_BLOCKS_3 = 6, /* and for four instead of three, one of which two workers would share */
  EVEN_BANDS = 4,
  TOGETHER_BYTES = 1 << 20, /* split input of images that are multiplied together, */
  MANY_WEIGHTS = 3 << 19,   /* if weights take more than this */
  SLICE_BYTES = 192 << 10,  /* split weights: 32 groups of k in three parts */
  PANEL = 32
};

/* What scratch of two threads may take of a small network's weights, and of input and output. */
#define SCRATCH 0.06

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t align16(int64_t n) { return (n + 15) & ~(int64_t)15; }

/* ---- geometry ---- */
static void phases_make(mrt_split_phases *q, int64_t k, int64_t stride, int64_t dil, int64_t pad) {
  *q = (mrt_split_phases){0};
  for (int r = 0; r < stride; ++r)
    for (int64_t t = 0; t < k; ++t)
      if (t * dil % stride == r) {
        q->of[r] = q->n;
        q->left[q->n] = pad > r ? ceil_div(pad - r, stride) : 0;
        q->rest[q->n++] = r;
        break;
      }
  q->far = (k - 1) * dil / stride;
}

/* Values of a row in phase i: from source column *x0 on, every stride-th. */
static int64_t row_values(const mrt_split_job *j, int i, int64_t *x0) {
  const int64_t s = j->p->stride_w;
  *x0 = j->x.rest[i] + j->x.left[i] * s - j->p->pad_left;
  const int64_t n = *x0 < j->w ? (j->w - 1 - *x0) / s + 1 : 0;
  return max_i64(0, min_i64(n, j->ow + j->x.far - j->x.left[i]));
}

static void band_make(mrt_split_job *j, int64_t rows) {
  j->bands = ceil_div(j->oh, rows);
  j->rows = ceil_div(j->oh, j->bands);
  const int64_t q = (j->rows - 1) * j->pitch + j->ow;
  j->blocks = ceil_div(q, MRT_STRIP);
  int64_t left = 0;
  for (int i = 0; i < j->x.n; ++i) left = max_i64(left, j->x.left[i]);
  const int64_t written = (j->rows + j->y.far) * j->pitch + left;
  j->plane = max_i64(written, j->blocks * MRT_STRIP + j->y.far * j->pitch + j->x.far) |
             1; /* no aliasing */
  j->part = j->plane * j->y.n * j->x.n * MRT_SPLIT_PIXEL;
  j->group = j->part * j->parts;
  j->band_bytes = (size_t)(j->in_groups * j->group) * 2;
}

static void set_columns(mrt_split_job *j) {
  const mrt_conv *p = j->p;
  phases_make(&j->x, p->kw, p->stride_w, p->dil_w, p->pad_left);
  j->pitch = j->ow;
  for (int i = 0; i < j->x.n; ++i) {
    int64_t x0;
    const int64_t n = row_values(j, i, &x0);
    j->pitch = max_i64(j->pitch, j->x.left[i] + n);
    j->pitch = max_i64(j->pitch, j->ow + j->x.far - j->x.left[i]);
  }
}

static size_t slices_bytes(const mrt_split_job *j) {
  return j->p->raw ? (size_t)(2 * j->slice * j->b_parts * MRT_SPLIT_GROUP_PART) * 2 : 0;
}

/* Bands of as many rows as fit `most` bytes, and share out well. */
static void share_bands(mrt_split_job *j, size_t most) {
  int64_t fit = 1;
  while (fit < j->oh) {
    band_make(j, fit + 1);
    if (j->band_bytes > most) break;
    ++fit;
  }
  band_make(j, fit);
  /* A number of bands that shares out well. */
  int64_t even = ceil_div(j->bands, EVEN_BANDS) * EVEN_BANDS;
  const int64_t pixels = j->oh * j->pitch;
  if (pixels < LEAST_BLOCKS * MRT_STRIP * even && j->bands <= 2) even = 2;
  const int64_t least = even == 2 && j->parts == 1 ? LEAST_BLOCKS_1
                        : j->bands == 3            ? LEAST_BLOCKS_3
                                                   : LEAST_BLOCKS;
  if (even <= j->oh && pixels >= least * MRT_STRIP * even) band_make(j, ceil_div(j->oh, even));
}

void mrt_split_job_make(mrt_split_job *j, const mrt_conv *p, int64_t h, int64_t w) {
  *j = (mrt_split_job){.p = p, .parts = p->parts, .h = h, .w = w};
  j->oh = mrt_conv_out(h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  j->ow = mrt_conv_out(w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  if (j->oh <= 0 || j->ow <= 0) return;
  j->in_blocks = mrt_c16_blocks(p->cin);
  j->out_blocks = mrt_c16_blocks(p->cout);
  j->in_groups = ceil_div(p->cin, 32);
  j->groups = p->input_nchw ? p->kh : j->in_groups * p->kh * p->kw;
  j->each = ceil_div(p->cout, PANEL);
  j->panels = j->each * (p->fan_h ? (int64_t)p->fan_h * p->fan_w : 1);
  j->b_parts = mrt_conv_split_b_parts(p);
  j->group_bytes = mrt_conv_split_group_bytes(p);
  j->slices = 1;
  if (p->raw)
    j->slices = ceil_div(j->groups, SLICE_BYTES / (2 * j->b_parts * MRT_SPLIT_GROUP_PART));
  j->slice = ceil_div(j->groups, j->slices);
  j->slices = ceil_div(j->groups, j->slice);
  phases_make(&j->y, p->kh, p->stride_h, p->dil_h, p->pad_top);
  if (p->input_nchw) { /* columns are gathered */
    j->x = (mrt_split_phases){.n = 1};
    j->pitch = j->ow;
  } else {
    set_columns(j);
  }
  share_bands(j, BAND_BYTES);
  const double values = (double)(j->in_blocks * h * w + j->out_blocks * j->oh * j->ow) * 64;
  const double all = (double)(j->band_bytes + slices_bytes(j)) * 2;           /* of two threads */
  const bool cheap = j->panels * j->groups * j->group_bytes <= SMALL_WEIGHTS; /* once more a band */
  if (p->network_bytes && cheap && all > SCRATCH * ((double)p->network_bytes + values))
    share_bands(j, SMALL_BAND_BYTES);
}

/* Weights that leave L2 are read once for all images of a unit. A share of the workers' number of
 * images, so that each has as many. */
void mrt_split_job_together(mrt_split_job *j, int64_t workers) {
  const int64_t n = j->p->images, fit = TOGETHER_BYTES / (int64_t)(j->band_bytes + 1);
  j->together = 1;
  if (j->bands > 1 || min_i64(fit, n / workers) < 2 ||
      j->panels * j->groups * j->group_bytes < MANY_WEIGHTS)
    return;
  const int64_t units = ceil_div(ceil_div(n, min_i64(fit, n / workers)), workers) * workers;
  j->together = ceil_div(n, units);
}

mrt_split_band mrt_split_job_band(const mrt_split_job *j, int64_t image, int64_t i) {
  mrt_split_band b = {.image = image, .images = 1, .y0 = mrt_par_begin(j->oh, j->bands, i)};
  b.rows = mrt_par_begin(j->oh, j->bands, i + 1) - b.y0;
  b.blocks = ceil_div((b.rows - 1) * j->pitch + j->ow, MRT_STRIP);
  return b;
}

int64_t mrt_split_job_least(const mrt_split_job *j) {
  return (j->oh / j->bands - 1) * j->pitch + j->ow;
}

/* Memory of a worker, in whole pages: sums (of all blocks, if k is cut), a block of plain output,
 * output rows of a band and of its last block, lines of plain input, two slices of split weights,
 * the split input of a band. A page is left free behind it: hardware that fetches ahead of the
 * input's end would take the next worker's sums away from the other core's cache, again and again
 * (a third of the time of small images). */
static size_t acc_bytes(const mrt_split_job *j) {
  return (size_t)(j->slices > 1 ? j->blocks * j->together : 2) * MRT_STRIP * MRT_STRIP *
         sizeof(float);
}
static size_t tile_bytes(const mrt_split_job *j) {
  return j->p->output_nchw ? MRT_STRIP * MRT_STRIP * sizeof(float) : 0;
}
static size_t rows_bytes(const mrt_split_job *j) {
  return (size_t)((j->blocks + 1) * MRT_STRIP) * 8;
}
static int64_t line_pixels(const mrt_split_job *j) {
  return (j->ow - 1) * j->p->stride_w + j->p->kw;
}
static size_t lines_bytes(const mrt_split_job *j) {
  return j->p->input_nchw ? (size_t)align16(j->p->cin * line_pixels(j)) * 4 : 0;
}
static size_t worker_bytes(const mrt_split_job *j) {
  return mrt_worker_pitch(acc_bytes(j) + tile_bytes(j) + rows_bytes(j) + lines_bytes(j) +
                          slices_bytes(j) + j->band_bytes * (size_t)j->together);
}

size_t mrt_conv_split_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w) {
  mrt_split_job j;
  mrt_split_job_make(&j, p, h, w);
  if (j.oh <= 0 || j.ow <= 0) return 0;
  const int64_t workers = mrt_par_workers(par);
  mrt_split_job_together(&j, workers);
  const int64_t fixed = j.each * PANEL * 4 + (align16(j.groups) + align16(workers)) * 8;
  return (size_t)fixed + 2 * MRT_WORKER_PAGE + worker_bytes(&j) * (size_t)workers;
}

mrt_split_memory mrt_split_job_memory(const mrt_split_job *j, int worker) {
  char *at = j->scratch + (size_t)worker * worker_bytes(j);
  mrt_split_memory m = {.acc = (float *)at};
  m.tile = (float *)(at += acc_bytes(j));
  m.rows = (int64_t *)(at += tile_bytes(j));
  m.lines = (float *)(at += rows_bytes(j));
  m.weights = (uint16_t *)(at += lines_bytes(j));
  m.a = (uint16_t *)(at + slices_bytes(j));
  return m;
}

/* ---- cost: nanoseconds on one core (Sapphire Rapids); only ratios matter ---- */

static const mrt_conv_split_kernels *costs(void) {
  const mrt_conv_split_kernels *kern = mrt_conv_split_kernels_get();
  return kern ? kern : &mrt_conv_split_model;
}
double mrt_split_job_product_ns(const mrt_split_job *j, int64_t blocks) {
  const mrt_conv_split_kernels *k = costs();
  return (double)(blocks * j->panels) *
         (k->block_ns + (double)j->groups * k->product_ns[j->parts][j->b_parts]);
}
double mrt_split_job_split_ns(const mrt_split_job *j) {
  const int64_t pixels = j->in_groups * j->plane * j->y.n * j->x.n;
  return 500 + (double)pixels * costs()->pixel_ns[j->parts];
}
/* Weights come from memory beyond L2, once for each band. */
static double weights_ns(const mrt_split_job *j) {
  return (double)(j->panels * j->groups * j->group_bytes) / 25;
}

double mrt_conv_split_cost(const mrt_conv *p, int64_t h, int64_t w) {
  mrt_split_job j;
  mrt_split_job_make(&j, p, h, w);
  if (j.oh <= 0 || j.ow <= 0) return 0;
  const double products = mrt_split_job_product_ns(&j, j.blocks), weights = weights_ns(&j);
  return (double)j.bands * (mrt_split_job_split_ns(&j) + (products > weights ? products : weights));
}

/* ---- input ---- */
static void zero(const mrt_split_job *j, uint16_t *dst, int64_t count) {
  for (int p = 0; p < j->parts; ++p)
    memset(dst + p * j->part, 0, (size_t)(count * MRT_SPLIT_PIXEL) * 2);
}

/* Colours of `n` pixels, a loop that compilers make vectors of. */
static void interleave_3(const float *restrict in, int64_t area, int64_t n, float *restrict out) {
  const float *r = in, *g = in + area, *b = in + 2 * area;
  for (int64_t x = 0; x < n; ++x) {
    out[3 * x] = r[x];
    out[3 * x + 1] = g[x];
    out[3 * x + 2] = b[x];
  }
}

/* Row r of plain input: its channels side by side in a line with zeros around, where a window row
 * is kw * cin neighbours. */
static void window_row(const mrt_split_job *j, const mrt_split_band *b, int64_t r, float *line,
                       uint16_t *a) {
  const mrt_conv *p = j->p;
  const int64_t left = min_i64(p->pad_left, line_pixels(j));
  const int64_t body = min_i64(j->w, line_pixels(j) - left), area = j->h * j->w;
  for (int fy = 0; fy < j->y.n; ++fy) {
    const int64_t y = (b->y0 + r) * p->stride_h + j->y.rest[fy] - p->pad_top;
    uint16_t *dst = a + (fy * j->plane + r * j->pitch) * MRT_SPLIT_PIXEL;
    if (y < 0 || y >= j->h) {
      zero(j, dst, j->pitch);
      continue;
    }
    const float *in = j->a->input + b->image * p->cin * area + y * j->w;
    memset(line, 0, (size_t)(line_pixels(j) * p->cin) * 4);
    if (p->cin == 3)
      interleave_3(in, area, body, line + left * 3);
    else
      for (int64_t c = 0; c < p->cin; ++c)
        for (int64_t x = 0; x < body; ++x) line[(left + x) * p->cin + c] = in[c * area + x];
    const mrt_split_line l = {.src = line,
                              .step = p->stride_w * p->cin,
                              .block = 16,
                              .channels = (int)(p->cin * p->kw),
                              .count = j->ow,
                              .dst = dst,
                              .part = j->part};
    j->kern->split_line(&l, j->parts);
  }
}

/* `count` pixels of input that is parts already, from column x0 of row y on. */
static void copy_line(const mrt_split_job *j, const mrt_split_band *b, int64_t group, int64_t y,
                      int64_t x0, int64_t count, uint16_t *dst) {
  enum { BYTES = MRT_SPLIT_PIXEL * 2 };
  const int64_t area = j->h * j->w, step = j->p->stride_w * MRT_SPLIT_PIXEL;
  const uint16_t *in = (const uint16_t *)(const void *)j->a->input;
  for (int p = 0; p < j->parts; ++p, dst += j->part) {
    const int64_t plane = (b->image * j->in_groups + group) * j->parts + p;
    const uint16_t *src = in + (plane * area + y * j->w + x0) * MRT_SPLIT_PIXEL;
    if (step == MRT_SPLIT_PIXEL)
      memcpy(dst, src, (size_t)count * BYTES);
    else
      for (int64_t i = 0; i < count; ++i) memcpy(dst + i * MRT_SPLIT_PIXEL, src + i * step, BYTES);
  }
}

/* Row r (of the band's phase planes) of one channel group. */
static void split_row(const mrt_split_job *j, const mrt_split_band *b, int64_t group, int64_t r,
                      uint16_t *a) {
  const mrt_conv *p = j->p;
  const int64_t area = j->h * j->w * 16, first = group * 2;
  const float *in = j->a->input + (b->image * j->in_blocks + first) * area;
  for (int fy = 0; fy < j->y.n; ++fy)
    for (int fx = 0; fx < j->x.n; ++fx) {
      const int64_t y = (b->y0 + r) * p->stride_h + j->y.rest[fy] - p->pad_top;
      const int64_t left = j->x.left[fx], end = j->pitch + left;
      const int64_t plane = (fy * j->x.n + fx) * j->plane;
      uint16_t *dst = a + group * j->group + (plane + r * j->pitch) * MRT_SPLIT_PIXEL;
      int64_t x0, n = row_values(j, fx, &x0);
      if (y < 0 || y >= j->h) n = 0;
      if (r == 0) zero(j, dst, left);
      if (n > 0 && j->a->in_parts) {
        copy_line(j, b, group, y, x0, n, dst + left * MRT_SPLIT_PIXEL);
      } else if (n > 0) {
        const mrt_split_line l = {.src = in + (y * j->w + x0) * 16,
                                  .step = p->stride_w * 16,
                                  .block = area,
                                  .channels = (int)min_i64(32, p->cin - group * 32),
                                  .count = n,
                                  .dst = dst + left * MRT_SPLIT_PIXEL,
                                  .part = j->part};
        j->kern->split_line(&l, j->parts);
      }
      zero(j, dst + (left + n) * MRT_SPLIT_PIXEL, end - left - n);
    }
}

void mrt_split_job_input_row(const mrt_split_job *j, const mrt_split_band *b, int64_t group,
                             int64_t r, float *lines, uint16_t *a) {
  if (j->p->input_nchw)
    window_row(j, b, r, lines, a);
  else
    split_row(j, b, group, r, a);
}

/* Where tap and channel group of each group of k lie. */
void mrt_split_job_offsets(const mrt_split_job *j) {
  const mrt_conv *p = j->p;
  const int64_t columns = p->input_nchw ? 1 : p->kw;
  int64_t *o = j->offsets;
  for (int64_t g = 0; g < j->in_groups; ++g)
    for (int64_t t = 0; t < p->kh * columns; ++t) {
      const int64_t y = t / columns * p->dil_h, x = t % columns * p->dil_w;
      const int64_t plane = j->y.of[y % p->stride_h] * j->x.n + j->x.of[x % p->stride_w];
      const int64_t at = plane * j->plane + y / p->stride_h * j->pitch + x / p->stride_w;
      *o++ = g * j->group + at * MRT_SPLIT_PIXEL;
    }
}
