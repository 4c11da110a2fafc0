/* See band.h. A unit of work is (image, band, part). Within it: for one or two groups of 32 wide
 * channels at a time, for each step of a few output rows: expand the input rows that are new and
 * depthwise, group by group, then project, both groups at once: what is loaded and stored of the
 * sums is a matter of passes over them. */
#include "provider/cpu/band/band.h"

#include <string.h>

#include "provider/cpu/band/band_job.h"

typedef mrt_band_plan plan;
typedef mrt_band_job job;
typedef mrt_band_place place;

enum {
  PANEL = MRT_BAND_PANEL,
  TEAM = 2,               /* groups that are projected at once, at most */
  HALVES = 2,             /* parts of the sums of an image, if there are any */
  STEP_PIXELS = 112,      /* of output in a step, about */
  RING_FLOATS = 10 << 10, /* of a group, if it can be helped: L1 */
  BAND_ROWS = 14,         /* of output in a band, at most */
  /* Images up to this size are cut into parts, not bands: bands would expand rows twice. With a
   * stride that is one row of many. */
  PART_AREA = 256,
  PART_CHANNELS = 64, /* wide channels of a part at least */
  PAGE_FLOATS = 1024,
  /* Between workers: a core fetches a little more than it reads, and what it takes from its
   * neighbour makes the depthwise rows there half as slow again. */
  GAP_FLOATS = 2 * PAGE_FLOATS,
  TEAM_BYTES = 128 << 10 /* of ring and rows for two groups at a time at most */
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

/* ---- pairs ---- */
/* A block of which 8 columns or fewer are there, alone or after a whole one. */
static bool in_pairs(int64_t k, int64_t columns) {
  return k % 2 == 0 && columns % 16 > 0 && columns % 16 <= 8;
}

bool mrt_band_pairs_ok(const mrt_conv *p) {
  const mrt_conv_kernels *kernels = mrt_conv_kernels_get();
  return kernels->pixel_tile && kernels->pixel_tile(16, 16) && in_pairs(p->cin, p->cout);
}

void mrt_band_pair_weights(const mrt_conv *p, float *packed) {
  if (!mrt_band_pairs_ok(p)) return;
  float *at = packed + p->cout / PANEL * PANEL * p->cin, two[2 * PANEL];
  for (int64_t k = 0; k < p->cin; k += 2, at += 2 * PANEL) {
    for (int64_t i = 0; i < PANEL; ++i) two[2 * i] = at[i], two[2 * i + 1] = at[PANEL + i];
    memcpy(at, two, sizeof two);
  }
}

/* What a panel's weights from column n on want of tiles. */
static int pair_flag(const mrt_band *b, int64_t n, int64_t k, int64_t columns) {
  return b->pairs && n + PANEL > columns && in_pairs(k, columns) ? MRT_TILE_PAIRS : 0;
}

/* ---- how the work is cut ---- */
/* Bands of an image, if any number gives the same bits: no more than there are workers, since each
 * expands rows of its neighbours once more. Tiles of gemm/ add up in another order where they have
 * few rows, and which pixels those are follows from the bands. */
static int64_t fewer_bands(const mrt_par *par, int64_t n, int64_t bands) {
  const mrt_conv_kernels *kernels = mrt_conv_kernels_get();
  const int64_t workers = mrt_par_workers(par);
  if (!kernels->pixel_tile || !kernels->pixel_tile(16, 16)) return bands;
  return n % workers == 0 ? 1 : min_i64(bands, workers);
}

static plan make_plan(const mrt_par *par, const mrt_band *b, int64_t n, int64_t h, int64_t w) {
  const mrt_conv *d = &b->depthwise;
  plan p = {.wide = d->cin, .groups = ceil_div(d->cin, PANEL)};
  p.oh = mrt_conv_out(h, d->kh, d->stride_h, 1, d->pad_top, d->pad_bottom);
  p.ow = mrt_conv_out(w, d->kw, d->stride_w, 1, d->pad_left, d->pad_right);
  p.out_channels = b->projects ? b->cout : p.wide;
  p.out_blocks = mrt_c16_blocks(p.out_channels);
  p.bands = p.parts = 1;
  if (p.oh <= 0 || p.ow <= 0) return p;
  if (p.oh == 1 || (p.oh * p.ow <= PART_AREA && (d->stride_h == 1 || p.oh < BAND_ROWS)))
    p.parts = max_i64(1, min_i64(b->projects ? HALVES : 8, p.wide / PART_CHANNELS));
  else
    p.bands = max_i64(2, ceil_div(p.oh, BAND_ROWS));
  p.step = min_i64(max_i64(1, STEP_PIXELS / p.ow), ceil_div(p.oh, p.bands));
  while (p.step > 1 && b->expands && ((p.step - 1) * d->stride_h + d->kh) * w * PANEL > RING_FLOATS)
    --p.step;
  p.steps = ceil_div(ceil_div(p.oh, p.bands), p.step);
  p.ring_rows = b->expands ? min_i64(h, (p.step - 1) * d->stride_h + d->kh) : 0;
  p.ring_block = p.ring_rows * w * 16;
  p.rows_block = p.step * p.ow * 16;
  mrt_band_split_plan(b, h, w, &p);
  const int64_t group_floats = 2 * (p.ring_block + p.rows_block);
  p.team =
      b->projects && !p.split && p.groups / p.parts > 1 && group_floats * 4 * TEAM <= TEAM_BYTES
          ? TEAM
          : 1;
  /* What tiles of parts use begins behind the rows, over the ring that float32 tiles fill after
   * them. */
  const int64_t split_floats = p.split ? 2 * p.rows_block + p.split_bytes / 4 : 0;
  p.worker_floats =
      ceil_div(max_i64(p.team * group_floats, split_floats), PAGE_FLOATS) * PAGE_FLOATS +
      GAP_FLOATS;
  p.image_floats = p.out_blocks * 16 * p.oh * p.ow;
  if (b->expands && !p.split && p.parts == 1) p.bands = fewer_bands(par, n, p.bands);
  return p;
}

/* Are the sums of an image formed by two workers? */
static bool is_halved(const mrt_band *b, const plan *p) { return b->projects && p->parts > 1; }

/* Floats of scratch for an image: its sums, and a counter for each step and half of them. */
static int64_t sums_floats(const mrt_band *b, const plan *p) {
  return is_halved(b, p) ? p->image_floats + (p->steps * HALVES + 15) / 16 * 16 : 0;
}

bool mrt_band_scratch_size(const mrt_par *par, const mrt_band *b, int64_t n, int64_t h, int64_t w,
                           size_t *bytes) {
  const plan p = make_plan(par, b, n, h, w);
  size_t sums, work;
  if (!mrt_size_mul((size_t)sums_floats(b, &p) * sizeof(float), (size_t)n, &sums)) return false;
  return mrt_size_mul((size_t)p.worker_floats * sizeof(float), (size_t)mrt_par_workers(par),
                      &work) &&
         mrt_size_add(work, sums, &work) &&
         mrt_size_add(work, PAGE_FLOATS * sizeof(float), bytes); /* for alignment */
}

/* ---- a unit ---- */
/* Tiles of `pixels` neighbouring pixels and 1..32 columns. t: a, b, c and bias of the first.
 */
static void run_tiles(const job *j, mrt_tile *t, int64_t cols, int64_t pixels) {
  if (j->tile) {
    t->cols = (int)cols;
    j->tile(t, pixels);
    return;
  }
  const int64_t pieces = ceil_div(pixels, j->kern->max_rows), nr = j->kern->nr;
  const mrt_tile base = *t;
  cols = ceil_div(cols, 16) * 16; /* whole blocks are written */
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

/* While these weights are used, fetch the `floats` at next into L2, if they belong to the part: how
 * many lines each block of 16 k of each tile has to ask for. */
static void fetch_ahead(const place *at, mrt_tile *t, int64_t group, const float *next,
                        int64_t floats, int64_t pixels) {
  const int64_t asks = ceil_div(pixels, 14) * t->n_blocks;
  if (group >= at->end || at->y0 != at->begin || !asks) return;
  t->ahead = next;
  t->ahead_lines = (int)ceil_div(floats / 16, asks);
}

void mrt_band_activate(const job *j, int which, float *at, int64_t floats) {
  if (j->act[which]) j->act[which](at, at, NULL, NULL, j->b->act[which].p, floats);
}

void mrt_band_expand_rows(const job *j, const place *at, int64_t r0, int64_t r1) {
  const mrt_band_args *a = j->a;
  const int64_t w = a->w, in_blocks = mrt_c16_blocks(j->b->cin);
  const int64_t cols = at->channels, blocks = ceil_div(cols, 16);
  mrt_tile t = j->expand;
  t.a = a->x + (at->image * in_blocks * a->h + r0) * w * 16;
  t.b = a->weights[0] + at->group * PANEL * j->b->cin;
  t.bias = a->bias[0] ? a->bias[0] + at->group * PANEL : NULL;
  t.c = at->ring + r0 % j->p.ring_rows * w * 16;
  t.flags |= pair_flag(j->b, at->group * PANEL, j->b->cin, j->p.wide);
  float *const first = t.c;
  fetch_ahead(at, &t, at->group + j->p.team, t.b + j->p.team * PANEL * j->b->cin, PANEL * j->b->cin,
              (r1 - r0) * w);
  run_tiles(j, &t, cols, (r1 - r0) * w);
  for (int64_t c = 0; c < blocks; ++c)
    mrt_band_activate(j, 0, first + c * j->p.ring_block, (r1 - r0) * w * 16);
}

/* Input rows [*have, want) are new. */
static void fill_ring(const job *j, const place *at, int64_t *have, int64_t want) {
  const int64_t ring = j->p.ring_rows;
  while (*have < want) {
    const int64_t end = min_i64(want, (*have / ring + 1) * ring);
    mrt_band_expand_rows(j, at, *have, end);
    *have = end;
  }
}

/* The window rows lie in the ring from `slot` on. */
static void ring_rows(const plan *p, const float *ring, int64_t pitch, int64_t slot,
                      mrt_dw_row *r) {
  for (int k = 0; k < r->n_rows; ++k) {
    r->rows[k] = ring + slot * pitch;
    if (++slot == p->ring_rows) slot = 0;
  }
}

void mrt_band_depthwise_rows(const job *j, const place *at, int64_t c) {
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
  int64_t top = at->y0 * d->stride_h - d->pad_top;
  int64_t slot = p->ring_rows ? max_i64(0, top) % p->ring_rows : 0; /* of the first window row */
  for (int64_t y = at->y0; y < at->y1; ++y, out += p->ow * 16) {
    r.out = out;
    mrt_conv_dw_rows(d, j->a->h, x, pitch, weights, y, &r);
    if (j->b->expands) ring_rows(p, at->ring + c * p->ring_block, pitch, slot, &r);
    j->dw(&r);
    const int64_t next = top + d->stride_h;
    slot += max_i64(0, next) - max_i64(0, top);
    while (p->ring_rows && slot >= p->ring_rows) slot -= p->ring_rows; /* 0: an empty image */
    top = next;
  }
  mrt_band_activate(j, 1, first, (at->y1 - at->y0) * p->ow * 16);
}

/* ---- sums of two parts ---- */

int64_t mrt_band_halves(const plan *p) { return p->parts > 1 ? HALVES : 1; }

static int64_t half_begin(const plan *p, int64_t half) {
  return min_i64(p->out_blocks, mrt_par_begin(ceil_div(p->out_blocks, 2), HALVES, half) * 2);
}

int64_t mrt_band_half(const plan *p, const place *at, int64_t turn, int64_t *begin, int64_t *end) {
  const bool parts = p->parts > 1;
  const int64_t half = parts ? (at->part + 1 + turn) % HALVES : 0;
  *begin = parts ? half_begin(p, half) : 0;
  *end = parts ? half_begin(p, half + 1) : p->out_blocks;
  return half;
}

static atomic_int *met_at(const job *j, const place *at, int64_t half) {
  return j->met + (at->image * j->p.steps + at->y0 / j->p.step) * HALVES + half;
}

mrt_band_sums mrt_band_sums_at(const job *j, place *at, int64_t c) {
  const plan *p = &j->p;
  const mrt_band_args *a = j->a;
  const int64_t first = at->image * p->image_floats + c * p->oh * p->ow * 16 + at->y0 * p->ow * 16;
  const float *z = a->z ? a->z + first : NULL;
  if (p->parts == 1) return (mrt_band_sums){a->y + first, z, true, true};
  if ((c < half_begin(p, 1)) != (at->part == 0)) /* z goes where the bias does not */
    return (mrt_band_sums){j->sums + first, z, false, false};
  if (at->last && c < at->joined &&
      atomic_load_explicit(met_at(j, at, at->part), memory_order_acquire) > 0)
    at->joined = c;
  const bool join = c >= at->joined;
  return (mrt_band_sums){a->y + first, join ? j->sums + first : NULL, true, join};
}

void mrt_band_meet(const job *j, place *at, int64_t half) {
  const plan *p = &j->p;
  const int64_t block = p->oh * p->ow * 16, floats = (at->y1 - at->y0) * p->ow * 16;
  const float none[2] = {0}, bounds[2] = {j->project.lo, j->project.hi};
  int64_t end = half_begin(p, half + 1);
  if (half == at->part && at->joined < end)
    end = at->joined; /* the other part came while this one was at it */
  else if (atomic_fetch_add_explicit(met_at(j, at, half), 1, memory_order_acq_rel) == 0)
    return;
  for (int64_t c = half_begin(p, half); c < end; ++c) {
    const int64_t first = at->image * p->image_floats + c * block + at->y0 * p->ow * 16;
    float *y = j->a->y + first;
    j->add(y, y, j->sums + first, NULL, none, floats);
    if (j->project.flags & MRT_TILE_CLIP) j->clip(y, y, NULL, NULL, bounds, floats);
    mrt_band_activate(j, 2, y, floats);
  }
}

/* Output columns [n0, n1), of which the first is a panel's. */
static void project_panels(const job *j, place *at, const mrt_tile *base, int64_t n0, int64_t n1) {
  const plan *p = &j->p;
  const int64_t channels = min_i64(PANEL * at->count, p->wide - at->lead * PANEL),
                pixels = (at->y1 - at->y0) * p->ow, after = at->lead + at->count;
  for (int64_t n = n0; n < n1; n += PANEL) {
    const int64_t cols = min_i64(PANEL, n1 - n);
    const mrt_band_sums sums = mrt_band_sums_at(j, at, n / 16);
    mrt_tile t = *base;
    t.b = j->a->weights[2] + (n * p->wide + at->lead * PANEL * PANEL);
    t.c = sums.at;
    t.residual = sums.residual;
    t.bias = j->a->bias[2] && sums.own ? j->a->bias[2] + n : NULL;
    t.flags = (at->first ? 0 : MRT_TILE_LOAD) | pair_flag(j->b, n, p->wide, p->out_channels);
    if (at->last) t.flags |= MRT_TILE_FINAL | (sums.whole ? j->project.flags : 0);
    fetch_ahead(at, &t, after, t.b + channels * PANEL,
                min_i64(PANEL * p->team, p->wide - after * PANEL) * PANEL, pixels);
    run_tiles(j, &t, cols, pixels);
    if (at->last && sums.whole)
      for (int64_t c = 0; c < ceil_div(cols, 16); ++c)
        mrt_band_activate(j, 2, sums.at + c * p->oh * p->ow * 16, pixels * 16);
  }
}

static void project_rows(const job *j, place *at) {
  const plan *p = &j->p;
  const int64_t channels = min_i64(PANEL * at->count, p->wide - at->lead * PANEL);
  mrt_kblock blocks[2 * TEAM];
  mrt_tile t = j->project;
  t.a = at->memory + p->team * 2 * p->ring_block;
  t.blocks = blocks;
  t.n_blocks = ceil_div(channels, 16);
  for (int64_t i = 0; i < t.n_blocks; ++i)
    blocks[i] = (mrt_kblock){(int32_t)(i * p->rows_block), (int32_t)min_i64(16, channels - i * 16)};
  at->joined = p->out_blocks;
  for (int64_t turn = 0; turn < mrt_band_halves(p); ++turn) {
    int64_t begin, end;
    const int64_t half = mrt_band_half(p, at, turn, &begin, &end);
    if (p->parts > 1 && at->given && half != at->part) continue;
    project_panels(j, at, &t, begin * 16, min_i64(end * 16, p->out_channels));
    if (at->last && p->parts > 1) mrt_band_meet(j, at, half);
  }
}

/* ---- a unit ---- */
static void run_team(const job *j, place *at, int64_t y0, int64_t y1) {
  const mrt_conv *d = &j->b->depthwise;
  const plan *p = &j->p;
  const int64_t from = max_i64(0, y0 * d->stride_h - d->pad_top);
  int64_t have[TEAM] = {from, from};
  at->begin = y0;
  for (at->y0 = y0; at->y0 < y1; at->y0 = at->y1) {
    at->y1 = min_i64(y1, at->y0 + p->step);
    for (int64_t i = 0; i < at->count; ++i) {
      at->group = at->lead + i;
      at->channels = min_i64(PANEL, p->wide - at->group * PANEL);
      at->ring = at->memory + i * 2 * p->ring_block;
      at->rows = at->memory + 2 * (p->team * p->ring_block + i * p->rows_block);
      if (j->b->expands)
        fill_ring(j, at, have + i,
                  min_i64(j->a->h, (at->y1 - 1) * d->stride_h - d->pad_top + d->kh));
      for (int64_t c = 0; c < ceil_div(at->channels, 16); ++c) mrt_band_depthwise_rows(j, at, c);
    }
    if (j->b->projects) project_rows(j, at);
  }
}

static void run_part(const job *j, place *at, int64_t y0, int64_t y1) {
  const plan *p = &j->p;
  if (p->split && mrt_band_split_unit(j, at, y0, y1)) return;
  at->lead = mrt_par_begin(p->groups, p->parts, at->part);
  at->first = true;
  for (; at->lead < at->end; at->lead += at->count, at->first = false) {
    at->count = min_i64(p->team, at->end - at->lead);
    at->last = at->lead + at->count == at->end;
    run_team(j, at, y0, y1);
  }
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  const plan *p = &j->p;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end && !mrt_par_stop(); ++u) {
    const int64_t band = u / p->parts % p->bands;
    place at = {.image = u / p->parts / p->bands, .part = u % p->parts};
    at.memory = j->work + worker * p->worker_floats;
    at.split = at.memory + 2 * p->rows_block;
    at.end = mrt_par_begin(p->groups, p->parts, at.part + 1);
    run_part(j, &at, mrt_par_begin(p->oh, p->bands, band),
             mrt_par_begin(p->oh, p->bands, band + 1));
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
  job j = {
      .b = b, .a = a, .p = make_plan(par, b, a->n, a->h, a->w), .kern = mrt_gemm_kernels_get()};
  const mrt_conv_kernels *kernels = mrt_conv_kernels_get();
  j.tile = kernels->pixel_tile ? kernels->pixel_tile(16, 16) : NULL;
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
  j.work =
      (float *)(((uintptr_t)scratch + PAGE_FLOATS * 4 - 1) & ~(uintptr_t)(PAGE_FLOATS * 4 - 1));
  j.sums = j.work + p->worker_floats * mrt_par_workers(par);
  if (is_halved(b, p)) {
    j.met = (atomic_int *)(void *)(j.sums + a->n * p->image_floats);
    for (int64_t i = 0; i < a->n * p->steps * HALVES; ++i) atomic_init(j.met + i, 0);
    j.add = mrt_ew_find(MRT_EW_ADD), j.clip = mrt_ew_find(MRT_EW_CLIP);
  }
  j.units = a->n * p->bands * p->parts;
  j.chunks = mrt_par_chunks(j.units, cost_ns(&j));
  mrt_par_run(par, j.chunks, run_chunk, &j);
}
