/* See band.h. A unit of work is (image, band, part). Within it: for each group of 32 wide channels,
 * for each step of a few output rows: expand the input rows that are new, depthwise, project. */
#include "provider/cpu/conv/band.h"

#include <string.h>

#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/gemm/gemm_kernel.h"

enum {
  PANEL = 32,
  STEP_PIXELS = 64,  /* of output in a step, about */
  BAND_ROWS = 14,    /* of output in a band, at most */
  PART_AREA = 256,   /* images up to this size are cut into parts, not bands */
  PART_CHANNELS = 64 /* wide channels of a part at least */
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

bool mrt_band_ok(const mrt_conv *p) {
  const mrt_act none = {0};
  mrt_dw_row row;
  return mrt_conv_is_depthwise(p) && p->dil_h == 1 && p->dil_w == 1 && p->stride_h <= p->kh &&
         p->pad_top < p->kh && p->pad_bottom < p->kh && mrt_conv_dw_find(p, &none, &row) != NULL;
}

mrt_conv mrt_band_expand(const mrt_band *b) { return mrt_conv_pointwise(b->cin, b->depthwise.cin); }
mrt_conv mrt_band_project(const mrt_band *b) {
  return mrt_conv_pointwise(b->depthwise.cin, b->cout);
}

/* ---- how the work is cut ---- */
typedef struct plan {
  int64_t oh, ow, wide, groups; /* wide channels, in groups of 32 */
  int64_t out_blocks;
  int64_t bands, parts;
  int64_t step, ring_rows;        /* output rows of a step, input rows kept */
  int64_t ring_block, rows_block; /* floats of a channel block of the ring, of a step's output */
  int64_t worker_floats, image_floats;
} plan;

static plan make_plan(const mrt_band *b, int64_t h, int64_t w) {
  const mrt_conv *d = &b->depthwise;
  plan p = {.wide = d->cin, .groups = ceil_div(d->cin, PANEL)};
  p.oh = mrt_conv_out(h, d->kh, d->stride_h, 1, d->pad_top, d->pad_bottom);
  p.ow = mrt_conv_out(w, d->kw, d->stride_w, 1, d->pad_left, d->pad_right);
  p.out_blocks = mrt_c16_blocks(b->projects ? b->cout : p.wide);
  p.bands = p.parts = 1;
  if (p.oh <= 0 || p.ow <= 0) return p;
  if (p.oh * p.ow <= PART_AREA || p.oh == 1)
    p.parts = max_i64(1, min_i64(b->projects ? 2 : 8, p.wide / PART_CHANNELS));
  else
    p.bands = ceil_div(p.oh, BAND_ROWS);
  p.step = min_i64(max_i64(1, STEP_PIXELS / p.ow), ceil_div(p.oh, p.bands));
  p.ring_rows = b->expands ? min_i64(h, (p.step - 1) * d->stride_h + d->kh) : 0;
  p.ring_block = p.ring_rows * w * 16;
  p.rows_block = p.step * p.ow * 16;
  p.worker_floats = 2 * (p.ring_block + p.rows_block);
  p.image_floats = p.out_blocks * 16 * p.oh * p.ow;
  return p;
}

bool mrt_band_scratch_size(const mrt_par *par, const mrt_band *b, int64_t n, int64_t h, int64_t w,
                           size_t *bytes) {
  const plan p = make_plan(b, h, w);
  size_t sums = 0, work;
  if (b->projects && p.parts > 1 &&
      (!mrt_size_mul((size_t)p.image_floats * sizeof(float), (size_t)(p.parts - 1), &sums) ||
       !mrt_size_mul(sums, (size_t)n, &sums)))
    return false;
  return mrt_size_mul((size_t)p.worker_floats * sizeof(float), (size_t)mrt_par_workers(par),
                      &work) &&
         mrt_size_add(work, sums, bytes);
}

/* ---- a unit ---- */
typedef struct job {
  const mrt_band *b;
  const mrt_band_args *a;
  plan p;
  const mrt_gemm_kernels *kern;
  void (*tile)(const mrt_tile *t, int64_t pixels); /* NULL: kern's */
  mrt_dw_fn dw;
  mrt_dw_row row;
  mrt_tile expand, project; /* what is the same for all tiles */
  mrt_ew_fn act[3];         /* NULL: none, or a clip */
  const mrt_kblock *blocks; /* of x */
  float *work, *sums;
  int64_t units, chunks;
} job;

/* Where a unit is. */
typedef struct place {
  int64_t image, part, group, channels; /* channels of the group: 1..32 */
  int64_t y0, y1, begin;                /* output rows of this step; of all: where they begin */
  bool first, last;                     /* group of the part */
  float *ring, *rows;
} place;

/* Tiles of `pixels` neighbouring pixels and 32 or fewer columns. t: a, b, c and bias of the first.
 */
static void run_tiles(const job *j, mrt_tile *t, int64_t cols, int64_t pixels) {
  if (j->tile) {
    t->cols = (int)cols;
    j->tile(t, pixels);
    return;
  }
  const int64_t pieces = ceil_div(pixels, j->kern->max_rows), nr = j->kern->nr;
  const mrt_tile base = *t;
  for (int64_t n = 0; n < cols; n += nr) {
    t->cols = (int)min_i64(nr, cols - n);
    const mrt_tile_fn *fns = t->cols <= 16 && nr > 16 ? j->kern->narrow : j->kern->wide;
    t->b = base.b + n;
    t->bias = base.bias ? base.bias + n : NULL;
    for (int64_t i = 0; i < pieces; ++i) {
      const int64_t begin = mrt_par_begin(pixels, pieces, i),
                    rows = mrt_par_begin(pixels, pieces, i + 1) - begin;
      t->a = base.a + begin * 16;
      t->a_hi = t->a + (int64_t)j->kern->split * 16;
      t->c = base.c + n / 16 * t->c_col16 + begin * 16;
      if (base.residual) t->residual = base.residual + n / 16 * t->r_col16 + begin * 16;
      fns[rows](t);
    }
  }
}

/* While these weights are used, fetch the same `floats` of the next group into L2: how many lines
 * each block of 16 k of each tile has to ask for. */
static void fetch_ahead(const job *j, const place *at, mrt_tile *t, const float *next,
                        int64_t floats, int64_t pixels) {
  const int64_t asks = ceil_div(pixels, 14) * t->n_blocks;
  if (at->group + 1 >= j->p.groups || at->y0 != at->begin) return;
  t->ahead = next;
  t->ahead_lines = (int)ceil_div(floats / 16, asks);
}

static void activate(const job *j, int which, float *at, int64_t floats) {
  if (j->act[which]) j->act[which](at, at, NULL, NULL, j->b->act[which].p, floats);
}

/* Input rows [r0, r1), which lie in the ring without a break. */
static void expand_rows(const job *j, const place *at, int64_t r0, int64_t r1) {
  const mrt_band_args *a = j->a;
  const int64_t w = a->w, in_blocks = mrt_c16_blocks(j->b->cin);
  const int64_t cols = ceil_div(at->channels, 16) * 16;
  mrt_tile t = j->expand;
  t.a = a->x + (at->image * in_blocks * a->h + r0) * w * 16;
  t.b = a->weights[0] + at->group * PANEL * j->b->cin;
  t.bias = a->bias[0] ? a->bias[0] + at->group * PANEL : NULL;
  t.c = at->ring + r0 % j->p.ring_rows * w * 16;
  float *const first = t.c;
  fetch_ahead(j, at, &t, t.b + PANEL * j->b->cin, PANEL * j->b->cin, (r1 - r0) * w);
  run_tiles(j, &t, cols, (r1 - r0) * w);
  for (int64_t c = 0; c < cols / 16; ++c)
    activate(j, 0, first + c * j->p.ring_block, (r1 - r0) * w * 16);
}

/* Input rows [*have, want) are new. */
static void fill_ring(const job *j, const place *at, int64_t *have, int64_t want) {
  const int64_t ring = j->p.ring_rows;
  while (*have < want) {
    const int64_t end = min_i64(want, (*have / ring + 1) * ring);
    expand_rows(j, at, *have, end);
    *have = end;
  }
}

/* The depthwise rows of the step, of channel block c of the group. */
static void depthwise_rows(const job *j, const place *at, int64_t c) {
  const mrt_conv *d = &j->b->depthwise;
  const plan *p = &j->p;
  const int64_t block = at->group * (PANEL / 16) + c, pitch = j->a->w * 16;
  const int64_t wide_blocks = mrt_c16_blocks(p->wide);
  const float *x = j->a->x + (at->image * wide_blocks + block) * j->a->h * pitch;
  const float *weights = j->a->weights[1] + block * d->kh * d->kw * 16;
  mrt_dw_row r = j->row;
  float *out = j->b->projects
                   ? at->rows + c * p->rows_block
                   : j->a->y + ((at->image * wide_blocks + block) * p->oh + at->y0) * p->ow * 16;
  float *const first = out;
  r.bias = j->a->bias[1] ? j->a->bias[1] + block * 16 : NULL;
  for (int64_t y = at->y0; y < at->y1; ++y, out += p->ow * 16) {
    const int64_t top = y * d->stride_h - d->pad_top;
    r.out = out;
    mrt_conv_dw_rows(d, j->a->h, x, pitch, weights, y, &r);
    if (j->b->expands)
      for (int k = 0; k < r.n_rows; ++k)
        r.rows[k] = at->ring + c * p->ring_block + (max_i64(0, top) + k) % p->ring_rows * pitch;
    j->dw(&r);
  }
  activate(j, 1, first, (at->y1 - at->y0) * p->ow * 16);
}

static void project_rows(const job *j, const place *at) {
  const plan *p = &j->p;
  const mrt_band_args *a = j->a;
  const mrt_kblock blocks[2] = {{0, (int32_t)min_i64(16, at->channels)},
                                {(int32_t)p->rows_block, (int32_t)(at->channels - 16)}};
  const int64_t pixel = at->y0 * p->ow * 16, block = p->oh * p->ow * 16;
  const bool whole = p->parts == 1;
  float *sums = a->y + at->image * p->image_floats;
  if (at->part > 0) sums = j->sums + (at->image * (p->parts - 1) + at->part - 1) * p->image_floats;
  mrt_tile t = j->project;
  t.blocks = blocks;
  t.n_blocks = at->channels > 16 ? 2 : 1;
  t.flags = at->first ? 0 : MRT_TILE_LOAD;
  if (at->last && at->part == 0) t.flags |= MRT_TILE_FINAL | (whole ? j->project.flags : 0);
  for (int64_t n = 0; n < p->out_blocks * 16; n += PANEL) {
    const int64_t cols = min_i64(PANEL, p->out_blocks * 16 - n);
    t.a = at->rows;
    t.b = a->weights[2] + (n * p->wide + at->group * PANEL * PANEL);
    t.bias = a->bias[2] && at->part == 0 ? a->bias[2] + n : NULL;
    t.c = sums + n / 16 * block + pixel;
    t.residual = a->z ? a->z + at->image * p->image_floats + n / 16 * block + pixel : NULL;
    float *const first = t.c;
    fetch_ahead(j, at, &t, t.b + PANEL * PANEL, PANEL * PANEL, (at->y1 - at->y0) * p->ow);
    run_tiles(j, &t, cols, (at->y1 - at->y0) * p->ow);
    if (at->last && whole)
      for (int64_t c = 0; c < cols / 16; ++c)
        activate(j, 2, first + c * block, (at->y1 - at->y0) * p->ow * 16);
  }
}

static void run_group(const job *j, place *at, int64_t y0, int64_t y1) {
  const mrt_conv *d = &j->b->depthwise;
  int64_t have = max_i64(0, y0 * d->stride_h - d->pad_top);
  at->begin = y0;
  for (at->y0 = y0; at->y0 < y1; at->y0 = at->y1) {
    at->y1 = min_i64(y1, at->y0 + j->p.step);
    if (j->b->expands)
      fill_ring(j, at, &have, min_i64(j->a->h, (at->y1 - 1) * d->stride_h - d->pad_top + d->kh));
    for (int64_t c = 0; c < ceil_div(at->channels, 16); ++c) depthwise_rows(j, at, c);
    if (j->b->projects) project_rows(j, at);
  }
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  const plan *p = &j->p;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end && !mrt_par_stop(); ++u) {
    const int64_t band = u / p->parts % p->bands;
    place at = {.image = u / p->parts / p->bands, .part = u % p->parts};
    at.ring = j->work + worker * p->worker_floats;
    at.rows = at.ring + 2 * p->ring_block;
    const int64_t g0 = mrt_par_begin(p->groups, p->parts, at.part),
                  g1 = mrt_par_begin(p->groups, p->parts, at.part + 1);
    for (at.group = g0; at.group < g1; ++at.group) {
      at.channels = min_i64(PANEL, p->wide - at.group * PANEL);
      at.first = at.group == g0, at.last = at.group + 1 == g1;
      run_group(j, &at, mrt_par_begin(p->oh, p->bands, band),
                mrt_par_begin(p->oh, p->bands, band + 1));
    }
  }
}

/* ---- the sums of parts ---- */
/* Units: (image, channel block). */
static void add_parts_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const job *j = arg;
  const plan *p = &j->p;
  const int64_t units = j->a->n * p->out_blocks, area = p->oh * p->ow * 16;
  const int64_t end = mrt_par_begin(units, j->chunks, chunk + 1);
  const mrt_ew_fn add = mrt_ew_find(MRT_EW_ADD), clip = mrt_ew_find(MRT_EW_CLIP);
  const float none[2] = {0}, bounds[2] = {j->project.lo, j->project.hi};
  for (int64_t u = mrt_par_begin(units, j->chunks, chunk); u < end; ++u) {
    const int64_t image = u / p->out_blocks, block = u % p->out_blocks;
    float *y = j->a->y + u * area;
    for (int64_t s = 0; s + 1 < p->parts; ++s)
      add(y, y, j->sums + (image * (p->parts - 1) + s) * p->image_floats + block * area, NULL, none,
          area);
    if (j->project.flags & MRT_TILE_CLIP) clip(y, y, NULL, NULL, bounds, area);
    activate(j, 2, y, area);
  }
}

/* ---- a run ---- */
/* What tiles of a product share: the activation as far as it is a clip. */
static mrt_tile tile_base(const mrt_act *act, int64_t c_col16, mrt_ew_fn *fn) {
  mrt_tile t = {.a_row = 16,
                .c_row = 16,
                .c_col16 = c_col16,
                .r_row = 16,
                .r_col16 = c_col16,
                .alpha = 1.0f,
                .beta = 1.0f};
  if (act->op == MRT_EW_RELU || act->op == MRT_EW_CLIP) {
    t.flags = MRT_TILE_CLIP;
    t.lo = act->op == MRT_EW_RELU ? 0.0f : act->p[0];
    t.hi = act->op == MRT_EW_RELU ? __builtin_inff() : act->p[1];
  } else if (act->op != MRT_EW_COPY) {
    *fn = mrt_ew_find(act->op);
  }
  return t;
}

static double cost_ns(const job *j) { /* 60 multiply-adds a nanosecond */
  const mrt_band *b = j->b;
  const double in = (double)(j->a->n * j->a->h * j->a->w),
               out = (double)(j->a->n * j->p.oh * j->p.ow);
  const double taps = (double)(b->depthwise.kh * b->depthwise.kw);
  return (double)j->p.wide *
         (in * (double)(b->expands ? b->cin : 0) + out * taps * 2 +
          out * (double)(b->projects ? b->cout : 0)) /
         60.0;
}

void mrt_band_run(const mrt_par *par, const mrt_band *b, const mrt_band_args *a, void *scratch) {
  job j = {.b = b,
           .a = a,
           .p = make_plan(b, a->h, a->w),
           .kern = mrt_gemm_kernels_get(),
           .tile = mrt_conv_kernels_get()->c16_tile};
  const plan *p = &j.p;
  mrt_kblock blocks[MRT_BAND_MAX_BLOCKS];
  if (a->n <= 0 || p->oh <= 0 || p->ow <= 0) return;
  j.dw = mrt_conv_dw_find(&b->depthwise, &b->act[1], &j.row);
  j.row.w = a->w, j.row.ow = p->ow;
  if (!j.row.clip && b->act[1].op != MRT_EW_COPY) j.act[1] = mrt_ew_find(b->act[1].op);
  j.expand = tile_base(&b->act[0], p->ring_block, &j.act[0]);
  j.expand.flags |= MRT_TILE_FINAL;
  j.project = tile_base(&b->act[2], p->oh * p->ow * 16, &j.act[2]);
  if (b->expands) {
    j.expand.n_blocks = mrt_c16_blocks(b->cin);
    for (int64_t i = 0; i < j.expand.n_blocks; ++i)
      blocks[i] =
          (mrt_kblock){(int32_t)(i * a->h * a->w * 16), (int32_t)min_i64(16, b->cin - i * 16)};
    j.expand.blocks = blocks;
  }
  j.work = scratch;
  j.sums = j.work + p->worker_floats * mrt_par_workers(par);
  j.units = a->n * p->bands * p->parts;
  j.chunks = mrt_par_chunks(j.units, cost_ns(&j));
  mrt_par_run(par, j.chunks, run_chunk, &j);
  if (!b->projects || p->parts == 1 || mrt_cancelled(par)) return;
  j.chunks = mrt_par_chunks(a->n * p->out_blocks,
                            (double)(a->n * p->image_floats) * 0.1 * (double)p->parts);
  mrt_par_run(par, j.chunks, add_parts_chunk, &j);
}
