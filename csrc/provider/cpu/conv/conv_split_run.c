/* Runs split convolutions (conv_split.h). Loops, outermost first:
 *   band of output rows, whose split input fits L2
 *   panel of 32 output channels
 *   slice of k: all of it, unless weights are split at run, beside the products of the slice before
 *   block of 32 output pixels: the products; the block before is finished meanwhile
 * Work is shared out by bands if there are enough of them, else also by panels: each worker splits
 * the band for itself then, since that takes less time than reading what another core has just
 * written. Only many workers split one band together. */
#include <string.h>

#include "provider/cpu/conv/conv_split.h"

enum {
  BAND_BYTES = 768 << 10, /* split input of a band */
  LEAST_BLOCKS = 10,      /* of a band, if it can be helped: weights are read for each */
  LEAST_BLOCKS_1 = 3,     /* the same for one part and two bands */
  EVEN_BANDS = 4,
  SLICE = 32,              /* groups of k: 192 KB of split weights */
  FIRST_BYTES = 256 << 10, /* of weights fetched while the input is split */
  PAGE = 4096,
  PANEL = 32,
  MAX_STRIDE = 4
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t align16(int64_t n) { return (n + 15) & ~(int64_t)15; }

/* One direction of the phases. */
typedef struct phases {
  int n;                    /* that taps use */
  int rest[MAX_STRIDE];     /* remainder of phase i */
  int of[MAX_STRIDE];       /* and back */
  int64_t left[MAX_STRIDE]; /* zeros before the first value */
  int64_t far;              /* largest offset of a tap */
} phases;

typedef struct job {
  const mrt_conv_split_kernels *kern;
  const mrt_conv *p;
  const mrt_conv_args *a;
  int parts;
  int64_t h, w, oh, ow, in_blocks, out_blocks;
  phases y, x;
  int64_t in_groups, groups;  /* of 32 channels; of k */
  int64_t slice, slices;      /* groups of a slice; of a panel */
  int64_t panels, each;       /* of all fans; of one */
  int64_t group_bytes;        /* of weights */
  int64_t pitch, rows, plane; /* pixels of a row; output rows of a band; pixels of a phase */
  int64_t part, group;        /* halves */
  int64_t bands, blocks;
  size_t band_bytes;
  /* a run */
  int64_t out_pixel, out_row, out_block, out_image; /* floats */
  const float *bias;                                /* [each][32] */
  int64_t *offsets;
  bool clip;
  float lo, hi;
  mrt_ew_fn act;
  char *scratch;
  int64_t image, band, units, chunks, parts_n, parts_m, stride;
  int64_t *held; /* per worker: the unit whose input it has split, -1: none */
} job;

/* ---- geometry ---- */
static void phases_make(phases *q, int64_t k, int64_t stride, int64_t dil, int64_t pad) {
  *q = (phases){0};
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
static int64_t row_values(const job *j, int i, int64_t *x0) {
  const int64_t s = j->p->stride_w;
  *x0 = j->x.rest[i] + j->x.left[i] * s - j->p->pad_left;
  const int64_t n = *x0 < j->w ? (j->w - 1 - *x0) / s + 1 : 0;
  return max_i64(0, min_i64(n, j->ow + j->x.far - j->x.left[i]));
}

static void band_make(job *j, int64_t rows) {
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

static void set_columns(job *j) {
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

static void geometry(job *j, const mrt_conv *p, int64_t h, int64_t w) {
  *j = (job){.p = p, .parts = p->parts, .h = h, .w = w};
  j->oh = mrt_conv_out(h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  j->ow = mrt_conv_out(w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  if (j->oh <= 0 || j->ow <= 0) return;
  j->in_blocks = mrt_c16_blocks(p->cin);
  j->out_blocks = mrt_c16_blocks(p->cout);
  j->in_groups = ceil_div(p->cin, 32);
  j->groups = p->input_nchw ? p->kh : j->in_groups * p->kh * p->kw;
  j->each = ceil_div(p->cout, PANEL);
  j->panels = j->each * (p->fan_h ? (int64_t)p->fan_h * p->fan_w : 1);
  j->group_bytes = p->raw ? 32 * PANEL * 4 : p->parts * MRT_SPLIT_GROUP_PART * 2;
  j->slices = p->raw ? ceil_div(j->groups, SLICE) : 1;
  j->slice = ceil_div(j->groups, j->slices);
  j->slices = ceil_div(j->groups, j->slice);
  phases_make(&j->y, p->kh, p->stride_h, p->dil_h, p->pad_top);
  if (p->input_nchw) { /* columns are gathered */
    j->x = (phases){.n = 1};
    j->pitch = j->ow;
  } else {
    set_columns(j);
  }
  int64_t fit = 1;
  while (fit < j->oh) {
    band_make(j, fit + 1);
    if (j->band_bytes > BAND_BYTES) break;
    ++fit;
  }
  band_make(j, fit);
  /* A number of bands that shares out well. */
  int64_t even = ceil_div(j->bands, EVEN_BANDS) * EVEN_BANDS;
  const int64_t pixels = j->oh * j->pitch;
  if (pixels < LEAST_BLOCKS * MRT_STRIP * even && j->bands <= 2) even = 2;
  const int64_t least = even == 2 && j->parts == 1 ? LEAST_BLOCKS_1 : LEAST_BLOCKS;
  if (even <= j->oh && pixels >= least * MRT_STRIP * even) band_make(j, ceil_div(j->oh, even));
}

/* Memory of a worker, in whole pages: sums (of all blocks, if k is cut), output rows of a band,
 * lines of plain input, two slices of split weights, the split input of a band. A page is left free
 * behind it: hardware that fetches ahead of the input's end would take the next worker's sums away
 * from the other core's cache, again and again (a third of the time of small images). */
static size_t acc_bytes(const job *j) {
  return (size_t)(j->slices > 1 ? j->blocks : 2) * MRT_STRIP * MRT_STRIP * sizeof(float);
}
static size_t rows_bytes(const job *j) { return (size_t)(j->blocks * MRT_STRIP) * 8; }
static int64_t line_pixels(const job *j) { return (j->ow - 1) * j->p->stride_w + j->p->kw; }
static size_t lines_bytes(const job *j) {
  return j->p->input_nchw ? (size_t)align16(j->p->cin * line_pixels(j)) * 4 : 0;
}
static size_t slices_bytes(const job *j) {
  return j->p->raw ? (size_t)(2 * j->slice * 3 * MRT_SPLIT_GROUP_PART) * 2 : 0;
}
static size_t worker_bytes(const job *j) {
  const size_t bytes =
      acc_bytes(j) + rows_bytes(j) + lines_bytes(j) + slices_bytes(j) + j->band_bytes;
  return (bytes + 2 * PAGE - 1) / PAGE * PAGE;
}

size_t mrt_conv_split_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w) {
  job j;
  geometry(&j, p, h, w);
  if (j.oh <= 0 || j.ow <= 0) return 0;
  const int64_t workers = mrt_par_workers(par);
  const int64_t fixed = j.each * PANEL * 4 + (align16(j.groups) + align16(workers)) * 8;
  return (size_t)fixed + 2 * PAGE + worker_bytes(&j) * (size_t)workers;
}

/* ---- input ---- */
typedef struct band {
  int64_t image, y0, rows, blocks;
} band;

static band band_of(const job *j, int64_t image, int64_t i) {
  band b = {.image = image, .y0 = mrt_par_begin(j->oh, j->bands, i)};
  b.rows = mrt_par_begin(j->oh, j->bands, i + 1) - b.y0;
  b.blocks = ceil_div((b.rows - 1) * j->pitch + j->ow, MRT_STRIP);
  return b;
}

static void zero(const job *j, uint16_t *dst, int64_t count) {
  for (int p = 0; p < j->parts; ++p)
    memset(dst + p * j->part, 0, (size_t)(count * MRT_SPLIT_PIXEL) * 2);
}

/* Row r of plain input: its channels side by side in a line with zeros around, where a window row
 * is kw * cin neighbours. */
static void window_row(const job *j, const band *b, int64_t r, float *line, uint16_t *a) {
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

/* Row r (of the band's phase planes) of one channel group. */
static void split_row(const job *j, const band *b, int64_t group, int64_t r, uint16_t *a) {
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
      if (n > 0) {
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

static void input_row(const job *j, const band *b, int64_t group, int64_t r, float *lines,
                      uint16_t *a) {
  if (j->p->input_nchw)
    window_row(j, b, r, lines, a);
  else
    split_row(j, b, group, r, a);
}

/* Where tap and channel group of each group of k lie. */
static void fill_offsets(const job *j) {
  const mrt_conv *p = j->p;
  int64_t *o = j->offsets;
  for (int64_t ky = 0; ky < p->kh; ++ky)
    for (int64_t kx = 0; kx < (p->input_nchw ? 1 : p->kw); ++kx) {
      const int64_t y = ky * p->dil_h, x = kx * p->dil_w;
      const int64_t plane = j->y.of[y % p->stride_h] * j->x.n + j->x.of[x % p->stride_w];
      const int64_t at = plane * j->plane + y / p->stride_h * j->pitch + x / p->stride_w;
      for (int64_t g = 0; g < j->in_groups; ++g) *o++ = g * j->group + at * MRT_SPLIT_PIXEL;
    }
}

/* ---- output ---- */

/* Offsets of the band's output pixels from its first one. */
static void fill_rows(const job *j, const band *b, int64_t *rows) {
  int64_t q = 0;
  for (int64_t y = 0; y < b->rows; ++y)
    for (int64_t x = 0; x < j->pitch; ++x)
      rows[q++] = x < j->ow ? y * j->out_row + x * j->out_pixel : -1;
  for (q -= j->pitch - j->ow; q < b->blocks * MRT_STRIP;) rows[q++] = -1;
}

/* Weights of input k of a group and a whole panel, as floats. */
static void weights_of(const job *j, int64_t panel, int64_t group, int64_t k, float *w) {
  const char *at = (const char *)j->a->weights + (panel * j->groups + group) * j->group_bytes;
  if (j->p->raw) {
    memcpy(w, at + k * PANEL * 4, PANEL * 4);
    return;
  }
  const uint16_t *half = (const uint16_t *)(const void *)at + k % 16 * 32 + k / 16;
  for (int n = 0; n < PANEL; ++n) {
    w[n] = 0;
    for (int part = j->parts; part-- > 0;) {
      const uint32_t u = (uint32_t)half[part * MRT_SPLIT_GROUP_PART + n / 16 * 512 + n % 16 * 2]
                         << 16;
      float q;
      memcpy(&q, &u, 4);
      w[n] += q;
    }
  }
}

/* Sums of one pixel and a panel in float arithmetic: for what tiles cannot do. */
static void direct_pixel(const job *j, int64_t image, int64_t oy, int64_t ox, int64_t panel,
                         float *sum) {
  const mrt_conv *p = j->p;
  float w[PANEL];
  for (int n = 0; n < PANEL; ++n) sum[n] = 0;
  for (int64_t t = 0; t < p->kh * p->kw; ++t) {
    const int64_t y = oy * p->stride_h - p->pad_top + t / p->kw * p->dil_h;
    const int64_t x = ox * p->stride_w - p->pad_left + t % p->kw * p->dil_w;
    if (y < 0 || y >= j->h || x < 0 || x >= j->w) continue;
    for (int64_t c = 0; c < p->cin; ++c) {
      float v;
      if (p->input_nchw) {
        v = j->a->input[((image * p->cin + c) * j->h + y) * j->w + x];
        weights_of(j, panel, t / p->kw, t % p->kw * p->cin + c, w);
      } else {
        v = j->a->input[((image * j->in_blocks + c / 16) * j->h * j->w + y * j->w + x) * 16 +
                        c % 16];
        weights_of(j, panel, t * j->in_groups + c / 32, c % 32, w);
      }
      for (int n = 0; n < PANEL; ++n) sum[n] += v * w[n];
    }
  }
}

/* Elements that the tiles may have got wrong. */
static void mend(const job *j, const band *b, const int64_t *rows, int64_t panel,
                 const mrt_split_out *o) {
  for (int r = 0; r < MRT_STRIP; ++r) {
    if (!o->bad[r]) continue;
    float sum[PANEL];
    const int64_t q = o->rows - rows + r;
    direct_pixel(j, b->image, b->y0 + q / j->pitch, q % j->pitch, panel, sum);
    for (int c = 0; c < PANEL; ++c) {
      if (!(o->bad[r] >> c & 1)) continue;
      const int64_t at = o->rows[r] + c / 16 * o->col16 + c % 16;
      float x = sum[c] + o->bias[c];
      if (o->residual) x += o->residual[at];
      if (o->clip) {
        x = x < o->lo ? o->lo : x;
        x = x > o->hi ? o->hi : x;
      }
      o->out[at] = x;
    }
  }
}

/* What is left to do for a block whose rows have been finished. */
static void complete(const job *j, const band *b, const int64_t *rows, int64_t panel,
                     const mrt_split_out *o) {
  if (o->any) mend(j, b, rows, panel, o);
  for (int r = 0; r < MRT_STRIP && j->act;) { /* pixels that follow each other at once */
    int n = 1;
    while (r + n < MRT_STRIP && o->rows[r] >= 0 && o->rows[r + n] == o->rows[r] + n * 16) ++n;
    for (int half = 0; half < (o->col16 ? 2 : 1) && o->rows[r] >= 0; ++half) {
      float *y = o->out + o->rows[r] + half * o->col16;
      j->act(y, y, NULL, NULL, j->a->act.p, n * 16);
    }
    r += n;
  }
}

typedef struct worker_memory {
  float *acc;
  int64_t *rows;
  float *lines;
  uint16_t *weights, *a;
} worker_memory;

static worker_memory memory_of(const job *j, int worker) {
  char *at = j->scratch + (size_t)worker * worker_bytes(j);
  worker_memory m = {.acc = (float *)at};
  m.rows = (int64_t *)(at += acc_bytes(j));
  m.lines = (float *)(at += rows_bytes(j));
  m.weights = (uint16_t *)(at += lines_bytes(j));
  m.a = (uint16_t *)(at + slices_bytes(j));
  return m;
}

static mrt_split_out out_of(const job *j, const band *b, const int64_t *rows, int64_t panel,
                            int64_t block, const float *acc, uint32_t *bad) {
  const mrt_conv *p = j->p;
  const int64_t fan = panel / j->each, c = panel % j->each; /* c: pair of channel blocks */
  int64_t at = b->image * j->out_image + c * 2 * j->out_block + b->y0 * j->out_row;
  if (p->fan_h) at += fan / p->fan_w * (j->out_row / p->fan_h) + fan % p->fan_w * 16;
  return (mrt_split_out){.acc = acc,
                         .rows = rows + block * MRT_STRIP,
                         .out = j->a->output + at,
                         .residual = j->a->residual ? j->a->residual + at : NULL,
                         .col16 = c * 2 + 1 < j->out_blocks ? j->out_block : 0,
                         .bias = j->bias + c * PANEL,
                         .lo = j->lo,
                         .hi = j->hi,
                         .clip = j->clip,
                         .bad = bad};
}

/* A slice of k of a panel: step `i` of a stretch of panels. */
typedef struct slice {
  int64_t panel, first, groups;
} slice;
static slice slice_of(const job *j, int64_t p0, int64_t i) {
  const int64_t first = i % j->slices * j->slice;
  return (slice){p0 + i / j->slices, first, min_i64(j->slice, j->groups - first)};
}
static const char *slice_weights(const job *j, slice s) {
  return (const char *)j->a->weights + (s.panel * j->groups + s.first) * j->group_bytes;
}
static uint16_t *slice_memory(const job *j, const worker_memory *mem, int64_t i) {
  return mem->weights + i % 2 * j->slice * 3 * MRT_SPLIT_GROUP_PART;
}

/* What block number `share` of `count` that use slice i does for the slices that follow, up to
 * `steps`: fetches its share of the next, or splits that and fetches its share of the one after. */
static void look_ahead(const job *j, const worker_memory *mem, int64_t p0, int64_t i, int64_t steps,
                       int64_t share, int64_t count, mrt_split_block *t) {
  const int64_t after = i + (j->p->raw ? 2 : 1);
  if (j->p->raw && i + 1 < steps) {
    const slice next = slice_of(j, p0, i + 1);
    t->raw = (const float *)(const void *)slice_weights(j, next);
    t->split = slice_memory(j, mem, i + 1);
    t->pair = mrt_par_begin(next.groups * 32, count, share);
    t->pair_end = mrt_par_begin(next.groups * 32, count, share + 1);
  }
  if (after < steps) {
    const slice next = slice_of(j, p0, after);
    const int64_t bytes = next.groups * j->group_bytes / count;
    const int64_t products = t->groups * j->parts * (j->parts + 1) / 2;
    t->ahead = slice_weights(j, next) + share * bytes;
    t->ahead_lines = (int)ceil_div(bytes, products * 64);
  }
}

static mrt_split_block block_of(const job *j, const band *b, const worker_memory *mem,
                                const uint16_t *a, slice s, int64_t i, int64_t m) {
  const int64_t total = (b->rows - 1) * j->pitch + j->ow;
  const char *weights = j->p->raw ? (const char *)slice_memory(j, mem, i) : slice_weights(j, s);
  return (mrt_split_block){
      .a = a + m * MRT_STRIP * MRT_SPLIT_PIXEL,
      .b = (const uint16_t *)(const void *)weights,
      .offsets = j->offsets + s.first,
      .groups = s.groups,
      .part = j->part,
      .rows = (int)min_i64(MRT_STRIP, total - m * MRT_STRIP),
      .cols = (int)min_i64(PANEL, j->out_blocks * 16 - s.panel % j->each * PANEL),
      .load = s.first > 0};
}

/* Panels [p0, p1), blocks [m0, m1) of a band whose parts are at a. */
static void run_panels(const job *j, const band *b, const uint16_t *a, const worker_memory *mem,
                       int64_t p0, int64_t p1, int64_t m0, int64_t m1) {
  const int64_t count = m1 - m0, steps = (p1 - p0) * j->slices;
  uint32_t bad[MRT_STRIP];
  mrt_split_out out;
  int64_t waits = -1; /* panel of the block in `out`, whose sums wait for their end */
  if (count <= 0 || steps <= 0) return;
  if (j->p->raw)
    j->kern->split_pairs((const float *)(const void *)slice_weights(j, slice_of(j, p0, 0)),
                         slice_memory(j, mem, 0), 0, slice_of(j, p0, 0).groups * 32);
  j->kern->gemm->begin();
  for (int64_t i = 0; i < steps; ++i)
    for (int64_t m = m0; m < m1; ++m) {
      const slice s = slice_of(j, p0, i);
      mrt_split_block t = block_of(j, b, mem, a, s, i, m);
      const int64_t sums = j->slices > 1 ? m - m0 : (i * count + m - m0) % 2;
      t.acc = mem->acc + sums * MRT_STRIP * MRT_STRIP;
      look_ahead(j, mem, p0, i, steps, m - m0, count, &t);
      j->kern->multiply(&t, j->parts, waits >= 0 ? &out : NULL);
      if (waits >= 0) complete(j, b, mem->rows, waits, &out);
      waits = -1;
      if (i % j->slices + 1 < j->slices) continue;
      out = out_of(j, b, mem->rows, s.panel, m, t.acc, bad);
      waits = s.panel;
    }
  j->kern->gemm->end();
  j->kern->finish(&out);
  complete(j, b, mem->rows, waits, &out);
}

/* ---- cost: nanoseconds on one core (Sapphire Rapids); only ratios matter ---- */

/* Products of a band, with what stores of the output cost. */
static double product_ns(const job *j, int64_t blocks) {
  static const double one[] = {0, 24, 64, 129};
  return (double)(blocks * j->panels) * (150 + (double)j->groups * one[j->parts]);
}
static double split_ns(const job *j) {
  static const double pixel[] = {0, 5, 7, 9.5};
  const int64_t pixels = j->in_groups * j->plane * j->y.n * j->x.n;
  return 500 + (double)pixels * pixel[j->parts];
}
/* Weights come from memory beyond L2, once for each band. */
static double weights_ns(const job *j) {
  return (double)(j->panels * j->groups * j->group_bytes) / 25;
}

double mrt_conv_split_cost(const mrt_conv *p, int64_t h, int64_t w) {
  job j;
  geometry(&j, p, h, w);
  if (j.oh <= 0 || j.ow <= 0) return 0;
  const double products = product_ns(&j, j.blocks), weights = weights_ns(&j);
  return (double)j.bands * (split_ns(&j) + (products > weights ? products : weights));
}

/* ---- sharing out ---- */

/* Units (image, band) in an order that gives each worker a stretch of its own: it finds in its
 * cache what it wrote in the layer before. */
static int64_t unit_at(const job *j, int64_t i) {
  const int64_t rounds = j->units / j->stride;
  return i < rounds * j->stride ? i % j->stride * rounds + i / j->stride : i;
}

/* The input of a band by one worker; meanwhile the first weights are fetched. */
static void split_band(const job *j, const band *b, int64_t panel, const worker_memory *mem) {
  const int64_t rows = b->rows + j->y.far, n = j->in_groups * rows;
  const char *weights = slice_weights(j, slice_of(j, panel, 0));
  const int64_t lines = min_i64(j->slice * j->group_bytes, FIRST_BYTES) / 64;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t l = mrt_par_begin(lines, n, i); l < mrt_par_begin(lines, n, i + 1); ++l)
      __builtin_prefetch(weights + l * 64, 0, 2);
    input_row(j, b, i / rows, i % rows, mem->lines, mem->a);
  }
  fill_rows(j, b, mem->rows);
}

/* Chunk: a unit and a part of its panels, done from end to end by one worker. */
static void unit_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  const worker_memory mem = memory_of(j, worker);
  const int64_t u = unit_at(j, chunk / j->parts_n), part = chunk % j->parts_n;
  const int64_t p0 = mrt_par_begin(j->panels, j->parts_n, part);
  const band b = band_of(j, u / j->bands, u % j->bands);
  if (j->held[worker] != u) split_band(j, &b, p0, &mem);
  j->held[worker] = u;
  run_panels(j, &b, mem.a, &mem, p0, mrt_par_begin(j->panels, j->parts_n, part + 1), 0, b.blocks);
}

/* Many workers share one band; first its input, then panels and blocks. */
static void split_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  const band b = band_of(j, j->image, j->band);
  const int64_t rows = b.rows + j->y.far, end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u)
    input_row(j, &b, u / rows, u % rows, memory_of(j, worker).lines, memory_of(j, 0).a);
}
static void panel_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  const band b = band_of(j, j->image, j->band);
  const int64_t n = chunk / j->parts_m, m = chunk % j->parts_m;
  const worker_memory mem = memory_of(j, worker);
  fill_rows(j, &b, mem.rows);
  run_panels(j, &b, memory_of(j, 0).a, &mem, mrt_par_begin(j->panels, j->parts_n, n),
             mrt_par_begin(j->panels, j->parts_n, n + 1), mrt_par_begin(b.blocks, j->parts_m, m),
             mrt_par_begin(b.blocks, j->parts_m, m + 1));
}

static void run_shared(const mrt_par *par, job *j) {
  for (int64_t i = 0; i < j->a->n * j->bands && !mrt_cancelled(par); ++i) {
    j->image = i / j->bands;
    j->band = i % j->bands;
    const band b = band_of(j, j->image, j->band);
    j->units = j->in_groups * (b.rows + j->y.far);
    j->chunks = mrt_par_chunks(j->units, split_ns(j));
    mrt_par_run(par, j->chunks, split_chunk, j);
    const int64_t want = mrt_par_chunks(j->panels * b.blocks, product_ns(j, b.blocks));
    j->parts_n = min_i64(j->panels, want);
    j->parts_m = min_i64(b.blocks, ceil_div(want, j->parts_n));
    mrt_par_run(par, j->parts_n * j->parts_m, panel_chunk, j);
  }
}

static void run_units(const mrt_par *par, job *j) {
  const int64_t workers = mrt_par_workers(par);
  const double cost = (product_ns(j, j->blocks) + split_ns(j)) * (double)j->units;
  const int64_t parts_per = j->p->raw ? 1 : 2;
  j->stride = min_i64(workers, j->units);
  j->parts_n = 1;
  if (j->units < 2 * workers && j->units % workers) /* the first weights of a part come late */
    j->parts_n = min_i64(j->panels, parts_per * workers);
  if (mrt_par_chunks(16, cost) == 1) { /* too little to share */
    for (int64_t i = 0; i < j->units * j->parts_n; ++i) unit_chunk(j, i, 0);
    return;
  }
  mrt_par_run(par, j->units * j->parts_n, unit_chunk, j);
}

static void set_epilogue(job *j, float *bias) {
  const mrt_act *act = &j->a->act;
  if (act->op == MRT_EW_RELU || act->op == MRT_EW_CLIP) {
    j->clip = true;
    j->lo = act->op == MRT_EW_RELU ? 0.0f : act->p[0];
    j->hi = act->op == MRT_EW_RELU ? __builtin_inff() : act->p[1];
  } else if (act->op != MRT_EW_COPY) {
    j->act = mrt_ew_find(act->op);
  }
  memset(bias, 0, (size_t)(j->each * PANEL) * 4);
  if (j->a->bias) memcpy(bias, j->a->bias, (size_t)j->p->cout * 4);
  j->bias = bias;
}

static void set_output(job *j) {
  const mrt_conv_args *a = j->a;
  const int64_t row = j->ow * 16, block = j->oh * row;
  const bool apart = j->p->spread;
  j->out_pixel = apart ? a->out_pixel : 16;
  j->out_row = apart ? a->out_row : row;
  j->out_block = apart ? a->out_block : block;
  j->out_image = apart ? a->out_image : j->out_blocks * block;
}

void mrt_conv_split_run(const mrt_conv_split_kernels *kern, const mrt_par *par, const mrt_conv *p,
                        const mrt_conv_args *args, void *scratch) {
  job j;
  geometry(&j, p, args->h, args->w);
  if (args->n <= 0 || j.oh <= 0 || j.ow <= 0) return;
  const int64_t workers = mrt_par_workers(par);
  j.kern = kern;
  j.a = args;
  set_epilogue(&j, scratch);
  set_output(&j);
  j.offsets = (int64_t *)((float *)scratch + j.each * PANEL);
  j.held = j.offsets + align16(j.groups);
  j.scratch = (char *)(j.held + align16(workers));
  j.scratch += 2 * PAGE - (uintptr_t)j.scratch % PAGE;
  for (int64_t i = 0; i < workers; ++i) j.held[i] = -1;
  fill_offsets(&j);
  j.units = args->n * j.bands;
  if (workers > kern->few && j.units < 2 * workers)
    run_shared(par, &j);
  else
    run_units(par, &j);
}
