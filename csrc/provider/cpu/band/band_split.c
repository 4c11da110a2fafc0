/* The 1x1 convolutions of a band (band.h) on tiles of bf16 parts, in float32 accuracy: six products
 * of three parts each (conv_split.h). The input of a unit is split once. Then, slice by slice of
 * the wide channels: each group of 32 is expanded into a ring of all rows, what depthwise makes of
 * it is split again, and the slice is projected; sums stay in the output from slice to slice.
 * Stretches of tiles and of vector work are long on purpose: changing from one to the other costs
 * about a thousand cycles (Sapphire Rapids).
 *
 * Weights stay float32 in memory. They are items in a row, as they are used: panels of 32 wide
 * channels to expand, panels of 32 outputs of a slice. Beside the products of one item the next is
 * split and the one after it fetched.
 *
 * Values that tiles may have got wrong are computed again: expanded rows by float32 tiles, anything
 * wrong behind the projection by the whole unit in float32. */
#include <string.h>

#include "provider/cpu/band/band_job.h"
#include "provider/cpu/band/band_tiles.h"
#include "provider/cpu/conv/conv_split.h"

enum {
  PANEL = MRT_BAND_PANEL,
  PARTS = 3,
  PRODUCTS = 6,
  GROUP_HALVES = PARTS * MRT_SPLIT_GROUP_PART, /* of weights: 32 k x 32 columns */
  SLICE = 2 /* groups of wide channels that are projected at once, at most */
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Pixels, `part` halves for each part of each group of 32 channels. */
typedef struct planes {
  uint16_t *at;
  int64_t groups, part;
} planes;

/* Memory of a worker. */
typedef struct memory {
  float *acc;          /* two blocks of sums, then what is kept of each panel to project */
  float *ring;         /* of a group */
  int64_t *offsets[2]; /* of the groups of planes */
  planes x, wide;
  uint16_t *weights[2];
  int64_t bytes;
} memory;

static int64_t input_pixels(const mrt_band *b, const mrt_band_plan *p, int64_t h, int64_t w) {
  const int64_t rows = ceil_div(p->oh, p->bands);
  return min_i64(h, (rows - 1) * b->depthwise.stride_h + b->depthwise.kh) * w;
}

static void *take(char *base, int64_t *at, int64_t bytes) {
  void *p = base ? base + *at : NULL;
  *at += ceil_div(bytes, 64) * 64;
  return p;
}

/* base NULL: only the size. Tiles are 16 pixels; those of rows that begin anywhere in x may read a
 * few pixels of what lies behind it, whose sums nobody wants. */
static memory memory_at(const mrt_band *b, const mrt_band_plan *p, int64_t h, int64_t w,
                        void *base) {
  const int64_t out = ceil_div(p->oh, p->bands) * p->ow;
  memory m = {.x = {.groups = ceil_div(b->cin, 32)}, .wide = {.groups = SLICE}};
  m.x.part = ceil_div(input_pixels(b, p, h, w), 16) * 16 * MRT_SPLIT_PIXEL;
  m.wide.part = ceil_div(out, 16) * 16 * MRT_SPLIT_PIXEL;
  const int64_t most = max_i64(m.x.groups, SLICE), panels = ceil_div(p->out_blocks, 2);
  m.acc = take(base, &m.bytes, (2 + panels) * MRT_BAND_SUMS * 4);
  for (int i = 0; i < 2; ++i) {
    m.weights[i] = take(base, &m.bytes, most * GROUP_HALVES * 2);
    m.offsets[i] = take(base, &m.bytes, (i ? m.wide.groups : m.x.groups) * 8);
  }
  m.ring = take(base, &m.bytes, 2 * p->ring_block * 4);
  m.x.at = take(base, &m.bytes, m.x.groups * PARTS * m.x.part * 2);
  m.wide.at = take(base, &m.bytes, m.wide.groups * PARTS * m.wide.part * 2);
  return m;
}

void mrt_band_split_plan(const mrt_band *b, int64_t h, int64_t w, mrt_band_plan *p) {
  if (!b->tiles || !b->expands || !b->projects || input_pixels(b, p, h, w) < b->tiles_from) return;
  p->split = true;
  p->step = ceil_div(p->oh, p->bands);
  p->steps = 1;
  p->ring_rows = input_pixels(b, p, h, w) / w;
  p->ring_block = p->ring_rows * w * 16;
  p->rows_block = p->step * p->ow * 16;
  p->split_bytes = memory_at(b, p, h, w, NULL).bytes;
}

/* ---- a unit ---- */
typedef struct unit {
  const mrt_band_job *j;
  const mrt_conv_split_kernels *kern;
  mrt_band_tiles_fn multiply;
  mrt_band_place *at;
  memory m;
  int64_t lead, groups, panels; /* of the part: its first group, how many; panels of outputs */
  int64_t turned;               /* the panel that is projected first */
  int64_t slices;               /* of the part's groups, that are projected at once */
  int64_t y0, y1, r0;           /* output rows; the first input row that is split */
  int64_t item, slice;          /* of weights; the first group of the slice at work */
  mrt_band_tiles tiles;         /* what is the same for all products of the item */
} unit;

static int64_t slice_begin(const unit *u, int64_t slice) {
  return mrt_par_begin(u->groups, u->slices, slice);
}

/* Weights of an item, [k][32]; returns k, 0: there is no such item. */
static int64_t item_weights(const unit *u, int64_t item, const float **weights) {
  const mrt_band_job *j = u->j;
  const int64_t cin = j->b->cin, wide = j->p.wide;
  *weights = NULL;
  for (int64_t s = 0; s < u->slices; ++s) {
    const int64_t g = slice_begin(u, s), groups = slice_begin(u, s + 1) - g;
    if (item < groups) {
      *weights = j->a->weights[0] + (u->lead + g + item) * PANEL * cin;
      return cin;
    }
    item -= groups;
    if (item < u->panels) {
      const int64_t first = (u->lead + g) * PANEL, n = (item + u->turned) % u->panels;
      *weights = j->a->weights[2] + (n * wide + first) * PANEL;
      return min_i64(groups * PANEL, wide - first);
    }
    item -= u->panels;
  }
  return 0;
}

/* Splits what is not yet split of an item. */
static void split_weights(const unit *u, int64_t item, int64_t pair) {
  const float *raw;
  const int64_t k = item_weights(u, item, &raw), whole = k / 32;
  uint16_t *dst = u->m.weights[item & 1];
  if (pair < whole * 32) u->kern->split_pairs(raw, false, dst, pair, whole * 32);
  if (k % 32)
    u->kern->gemm->split_b(raw + whole * 32 * PANEL, k % 32, PANEL, PARTS,
                           dst + whole * GROUP_HALVES);
}

/* Makes `item`, whose weights are split, the one at work, for about `pixels` pixels. */
static void begin_item(unit *u, int64_t item, const int64_t *offsets, int64_t groups, int64_t part,
                       int64_t pixels) {
  const float *next, *after;
  const int64_t pairs = item_weights(u, item + 1, &next) / 32 * 32,
                after_k = item_weights(u, item + 2, &after),
                steps = max_i64(1, pixels / MRT_BAND_TILE) * groups * PRODUCTS;
  u->item = item;
  u->tiles = (mrt_band_tiles){.b = u->m.weights[item & 1],
                              .offsets = offsets,
                              .groups = groups,
                              .part = part,
                              .acc = u->m.acc,
                              .raw = next,
                              .split = u->m.weights[~item & 1],
                              .pair_end = pairs,
                              .pair_step = ceil_div(pairs, steps),
                              .ahead = (const char *)after,
                              .ahead_lines = ceil_div(after_k * 2, steps)};
}

static void end_item(unit *u) { split_weights(u, u->item + 1, u->tiles.pair); }

/* Sets the clip, as far as t is one, and 32 floats of bias. */
static void set_epilogue(mrt_band_tiles *t, const mrt_tile *tile, bool clips, const float *bias) {
  const bool clip = clips && (tile->flags & MRT_TILE_CLIP) != 0;
  t->lo = clip ? tile->lo : -__builtin_inff();
  t->hi = clip ? tile->hi : __builtin_inff();
  t->bias = bias;
}

/* Did tiles get something wrong, or may they have? Infinite and NaN parts show up in the sums; what
 * tiles flush as denormal counts where the sum is small (below 2^-90, but not 0) and no bias hides
 * it: channels that training has let die look like that. */
static bool is_wrong(const mrt_band_tiles *t) {
  const uint32_t low = ((127 - 90) << 23) - 1;
  uint32_t wrong = 0;
  for (int c = 0; c < (t->cols > 16 ? 32 : 16); ++c)
    wrong |= (uint32_t)(t->most[c] >= 0x7f800000u) |
             ((uint32_t)(t->least[c] < low) & (uint32_t)(__builtin_fabsf(t->bias[c]) < 0x1p-60f));
  return wrong != 0;
}

static void copy_bias(float *dst, const float *bias, int64_t first, int64_t channels) {
  memset(dst, 0, PANEL * 4);
  if (bias) memcpy(dst, bias + first, (size_t)min_i64(PANEL, channels - first) * 4);
}

/* Pixels of c16 planes, `apart` floats from block to block, to group g of dst, from pixel `at` on.
 */
static void split_pixels(const unit *u, const float *src, int64_t apart, int64_t channels,
                         int64_t pixels, const planes *dst, int64_t g, int64_t at) {
  const mrt_split_line l = {.src = src,
                            .step = 16,
                            .block = channels > 16 ? apart : 0,
                            .channels = (int)min_i64(32, channels),
                            .count = pixels,
                            .dst = dst->at + g * PARTS * dst->part + at * MRT_SPLIT_PIXEL,
                            .part = dst->part};
  u->kern->split_line(&l, PARTS);
}

static void split_input(const unit *u, int64_t r1) {
  const mrt_band_args *a = u->j->a;
  const int64_t cin = u->j->b->cin, plane = a->h * a->w * 16;
  const float *x = a->x + u->at->image * mrt_c16_blocks(cin) * plane + u->r0 * a->w * 16;
  for (int64_t g = 0; g < u->m.x.groups; ++g)
    split_pixels(u, x + 2 * g * plane, plane, cin - g * 32, (r1 - u->r0) * a->w, &u->m.x, g, 0);
}

/* ---- expansion ---- */
static void expand_rows(unit *u, int64_t r0, int64_t r1) {
  const mrt_band_job *j = u->j;
  const int64_t w = j->a->w;
  mrt_band_tiles *t = &u->tiles;
  t->a = u->m.x.at + (r0 - u->r0) * w * MRT_SPLIT_PIXEL;
  t->pixels = (r1 - r0) * w;
  t->out = u->at->ring + r0 % j->p.ring_rows * w * 16;
  u->multiply(t);
  if (is_wrong(t)) {
    mrt_band_expand_rows(j, u->at, r0, r1);
    return;
  }
  for (int64_t c = 0; c * 16 < u->at->channels; ++c)
    mrt_band_activate(j, 0, t->out + c * j->p.ring_block, t->pixels * 16);
}

/* ---- depthwise ---- */

/* All depthwise rows of the group, row by row, so that L1 has them when they are split. */
static void depthwise(unit *u) {
  const mrt_band_plan *p = &u->j->p;
  mrt_band_place *at = u->at;
  for (at->y0 = u->y0; at->y0 < u->y1; ++at->y0) {
    at->y1 = at->y0 + 1;
    for (int64_t c = 0; c * 16 < at->channels; ++c) mrt_band_depthwise_rows(u->j, at, c);
    split_pixels(u, at->rows, p->rows_block, at->channels, p->ow, &u->m.wide,
                 at->group - u->lead - u->slice, (at->y0 - u->y0) * p->ow);
  }
}

static void expand_group(unit *u, int64_t item, int64_t g, int64_t r1) {
  const mrt_band_job *j = u->j;
  const mrt_band_plan *p = &j->p;
  mrt_band_place *at = u->at;
  float bias[PANEL];
  const int64_t pixels = (r1 - u->r0) * j->a->w, ring = p->ring_rows;
  at->group = u->lead + g;
  at->channels = min_i64(PANEL, p->wide - at->group * PANEL);
  copy_bias(bias, j->a->bias[0], at->group * PANEL, ceil_div(p->wide, 16) * 16);
  begin_item(u, item, u->m.offsets[0], u->m.x.groups, u->m.x.part, pixels);
  set_epilogue(&u->tiles, &j->expand, true, bias);
  u->tiles.cols = (int)at->channels;
  u->tiles.col16 = p->ring_block;
  for (int64_t have = u->r0, end; have < r1; have = end) {
    end = min_i64(r1, (have / ring + 1) * ring);
    expand_rows(u, have, end);
  }
  end_item(u);
}

/* ---- projection ---- */
/* What the slice adds to the sums of panel n; false: they are wrong. */
static bool project_panel(unit *u, int64_t item, int64_t n, int64_t groups) {
  const mrt_band_job *j = u->j;
  const mrt_band_plan *p = &j->p;
  const int64_t c = n * 2, plane = p->oh * p->ow * 16, pixels = (u->y1 - u->y0) * p->ow;
  const bool last = u->at->last;
  const mrt_band_sums sums = mrt_band_sums_at(j, u->at, c);
  mrt_band_tiles *t = &u->tiles;
  float bias[PANEL];
  copy_bias(bias, sums.own ? j->a->bias[2] : NULL, c * 16, p->out_blocks * 16);
  begin_item(u, item, u->m.offsets[1], groups, u->m.wide.part, pixels);
  set_epilogue(t, &j->project, sums.whole, bias);
  t->a = u->m.wide.at;
  t->pixels = pixels;
  t->cols = c + 1 < p->out_blocks ? PANEL : PANEL / 2;
  t->acc = u->m.acc + (2 + n) * MRT_BAND_SUMS;
  t->sums = sums.at;
  t->load = u->slice > 0;
  t->out = last ? t->sums : NULL;
  t->col16 = plane;
  t->residual = sums.residual;
  u->multiply(t);
  end_item(u);
  if (!last) return true;
  if (is_wrong(t)) return false;
  for (int64_t i = 0; i < 2 && c + i < p->out_blocks && sums.whole; ++i)
    mrt_band_activate(j, 2, t->out + i * plane, pixels * 16);
  return true;
}

/* What the slice adds to all sums; what it has given away stays, if others come out wrong. */
static bool project(unit *u, int64_t *item, int64_t groups) {
  const mrt_band_plan *p = &u->j->p;
  mrt_band_place *at = u->at;
  at->y0 = u->y0, at->y1 = u->y1;
  at->last = u->slice + groups == u->groups;
  at->joined = p->out_blocks;
  for (int64_t turn = 0; turn < mrt_band_halves(p); ++turn) {
    int64_t begin, end;
    const int64_t half = mrt_band_half(p, at, turn, &begin, &end);
    for (int64_t n = ceil_div(begin, 2); n * 2 < end; ++n)
      if (!project_panel(u, (*item)++, n, groups)) return false;
    if (!at->last || p->parts == 1) continue;
    mrt_band_meet(u->j, at, half);
    at->given = true;
  }
  return true;
}

static bool run(unit *u) {
  const mrt_band_job *j = u->j;
  const mrt_conv *d = &j->b->depthwise;
  const int64_t r1 = min_i64(j->a->h, (u->y1 - 1) * d->stride_h - d->pad_top + d->kh);
  int64_t item = 0;
  split_input(u, r1);
  split_weights(u, 0, 0);
  for (int64_t s = 0; s < u->slices; ++s) {
    u->slice = slice_begin(u, s);
    const int64_t end = slice_begin(u, s + 1);
    for (int64_t g = u->slice; g < end; ++g) {
      expand_group(u, item++, g, r1);
      depthwise(u);
    }
    if (!project(u, &item, end - u->slice)) return false;
  }
  return true;
}

bool mrt_band_split_unit(const mrt_band_job *j, mrt_band_place *at, int64_t y0, int64_t y1) {
  const mrt_band_plan *p = &j->p;
  const int64_t lead = mrt_par_begin(p->groups, p->parts, at->part);
  unit u = {.j = j,
            .kern = j->b->tiles,
            .multiply = mrt_band_tiles_model,
            .at = at,
            .m = memory_at(j->b, p, j->a->h, j->a->w, at->split),
            .lead = lead,
            .groups = at->end - lead,
            .panels = ceil_div(p->out_blocks, 2),
            .y0 = y0,
            .y1 = y1,
            .r0 = max_i64(0, y0 * j->b->depthwise.stride_h - j->b->depthwise.pad_top)};
#ifdef MRT_HAVE_AMX
  if (u.kern == &mrt_conv_split_amx) u.multiply = mrt_band_tiles_amx;
#endif
  u.slices = ceil_div(u.groups, SLICE);
  for (int64_t g = 0; g < u.m.x.groups; ++g) u.m.offsets[0][g] = g * PARTS * u.m.x.part;
  for (int64_t g = 0; g < SLICE; ++g) u.m.offsets[1][g] = g * PARTS * u.m.wide.part;
  int64_t end;
  mrt_band_half(p, at, 0, &u.turned, &end);
  u.turned = ceil_div(u.turned, 2);
  at->begin = y0;
  at->rows = at->memory;
  at->ring = u.m.ring;
  u.kern->gemm->begin();
  const bool ok = run(&u);
  u.kern->gemm->end();
  return ok;
}
