/* Runs split convolutions (conv_split.h). Loops, outermost first:
 *   band of output rows, whose split input fits L2
 *   panel of 32 output channels
 *   slice of k: all of it, unless weights are split at run, beside the products of the slice before
 *   block of 32 output pixels: the products; the block before is finished meanwhile
 * Work is shared out by bands if there are enough of them, else also by panels: each worker splits
 * the band for itself then, since that takes less time than reading what another core has just
 * written. Only many workers split one band together. */
#include <string.h>

#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/conv/conv_split_job.h"
#include "tensor/dtype.h"

enum {
  FIRST_BYTES = 256 << 10, /* of weights fetched while the input is split */
  ONCE_BYTES = 36 << 10,   /* of weights beside which pixels pass by L1, for each of their parts */
  PANEL = 32
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t align16(int64_t n) { return (n + 15) & ~(int64_t)15; }

/* ---- output ---- */

/* Pixels that the last block of a band begins before its own, so that its tiles end with the
 * band: input that is read where it lies may have nothing behind it. */
static int64_t shift_of(const mrt_split_job *j, const mrt_split_band *b) {
  const int64_t total = (b->rows - 1) * j->pitch + j->ow;
  return j->in_place ? -total & 15 : 0;
}

/* The rows of that block, behind those of all: first none for the pixels of the block before. */
static void fill_last(const mrt_split_job *j, const mrt_split_band *b, int64_t *rows) {
  const int64_t shift = shift_of(j, b), first = (b->blocks - 1) * MRT_STRIP - shift;
  int64_t *last = rows + b->blocks * MRT_STRIP;
  for (int64_t i = 0; i < MRT_STRIP && shift; ++i) {
    last[i] = i < shift ? -1 : rows[first + i];
    if (last[i] >= 0 && j->p->output_nchw) last[i] = i * 16;
  }
}

/* Offsets of the band's output pixels from its first one (with a plain output: in the tile of their
 * block); there may be no room behind the last. */
static void fill_rows(const mrt_split_job *j, const mrt_split_band *b, int64_t *rows) {
  int64_t q = 0;
  for (int64_t y = 0; y < b->rows; ++y)
    for (int64_t x = 0; x < (y + 1 < b->rows ? j->pitch : j->ow); ++x)
      rows[q++] = x < j->ow ? y * j->out_row + x * j->out_pixel : -1;
  while (q < b->blocks * MRT_STRIP) rows[q++] = -1;
  for (int64_t i = 0; i < q && j->p->output_nchw; ++i)
    if (rows[i] >= 0) rows[i] = i % MRT_STRIP * 16;
  fill_last(j, b, rows);
}

/* Weights of input k of a group and a whole panel, as floats. */
static void weights_of(const mrt_split_job *j, int64_t panel, int64_t group, int64_t k, float *w) {
  const char *at = (const char *)j->a->weights + (panel * j->groups + group) * j->group_bytes;
  if (j->p->raw) {
    if (j->p->narrow)
      for (int n = 0; n < PANEL; ++n)
        w[n] = mrt_f16_to_f32(((const uint16_t *)(const void *)at)[k * PANEL + n]);
    else
      memcpy(w, at + k * PANEL * 4, PANEL * 4);
    return;
  }
  const uint16_t *half = (const uint16_t *)(const void *)at + k % 16 * 32 + k / 16;
  for (int n = 0; n < PANEL; ++n) {
    w[n] = 0;
    for (int part = j->b_parts; part-- > 0;) {
      const uint32_t u = (uint32_t)half[part * MRT_SPLIT_GROUP_PART + n / 16 * 512 + n % 16 * 2]
                         << 16;
      float q;
      memcpy(&q, &u, 4);
      w[n] += q;
    }
  }
}

/* Of blocked input. */
static float input_value(const mrt_split_job *j, int64_t image, int64_t c, int64_t at) {
  const int64_t area = j->h * j->w;
  if (!j->a->in_parts)
    return j->a->input[((image * j->in_blocks + c / 16) * area + at) * 16 + c % 16];
  const uint16_t *in = (const uint16_t *)(const void *)j->a->input;
  const int64_t plane = (image * j->in_groups + c / 32) * j->parts;
  return mrt_conv_split_value(in + (plane * area + at) * MRT_SPLIT_PIXEL + c % 16 * 2 + c % 32 / 16,
                              j->parts, area * MRT_SPLIT_PIXEL);
}

/* Sums of one pixel and a panel in float arithmetic: for what tiles cannot do. */
static void direct_pixel(const mrt_split_job *j, int64_t image, int64_t oy, int64_t ox,
                         int64_t panel, float *sum) {
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
        v = input_value(j, image, c, y * j->w + x);
        weights_of(j, panel, c / 32 * p->kh * p->kw + t, c % 32, w);
      }
      for (int n = 0; n < PANEL; ++n) sum[n] += v * w[n];
    }
  }
}

/* Element c of the pixel at o->halves + 2 * at. */
static void put_parts(const mrt_split_job *j, const mrt_split_out *o, int64_t at, int c, float x) {
  float line[32] __attribute__((aligned(64))) = {x};
  uint16_t to[2 * MRT_SPLIT_PIXEL] __attribute__((aligned(64)));
  const mrt_split_line l = {
      .src = line, .block = 16, .channels = 32, .count = 1, .dst = to, .part = MRT_SPLIT_PIXEL};
  j->kern->split_line(&l, o->parts);
  for (int p = 0; p < o->parts; ++p)
    o->halves[2 * at + p * o->part + c % 16 * 2 + c / 16] = to[p * MRT_SPLIT_PIXEL];
}

/* Elements that the tiles may have got wrong. */
static void mend(const mrt_split_job *j, const mrt_split_band *b, int64_t panel,
                 const mrt_split_out *o) {
  for (int r = 0; r < MRT_STRIP; ++r) {
    if (!o->bad[r]) continue;
    float sum[PANEL];
    const int64_t q = o->first + r;
    direct_pixel(j, b->image, b->y0 + q / j->pitch, q % j->pitch, panel, sum);
    for (int c = 0; c < PANEL; ++c) {
      if (!(o->bad[r] >> c & 1)) continue;
      const int64_t at = o->rows[r] + (o->parts ? 0 : c / 16 * o->col16 + c % 16);
      float x = sum[c] + o->bias[c];
      if (o->residual) x += o->residual[at];
      if (o->clip) {
        x = x < o->lo ? o->lo : x;
        x = x > o->hi ? o->hi : x;
      }
      if (o->parts)
        put_parts(j, o, at, c, x);
      else
        o->out[at] = x;
    }
  }
}

/* A block's pixels from the tile into the planes of a plain output. */
static void write_planes(const mrt_split_job *j, const mrt_split_band *b, int64_t panel,
                         const mrt_split_out *o) {
  const mrt_conv_kernels *kern = mrt_conv_kernels_get();
  const int64_t area = j->oh * j->ow, cout = j->p->cout, first = o->first;
  for (int r = 0; r < MRT_STRIP;) {
    int n = 1;
    while (r + n < MRT_STRIP && (o->rows[r + n] < 0) == (o->rows[r] < 0)) ++n;
    const int64_t y = (first + r) / j->pitch, x = (first + r) % j->pitch;
    for (int64_t c = panel * PANEL; o->rows[r] >= 0 && c < min_i64(cout, (panel + 1) * PANEL);
         c += 16)
      kern->from_c16(o->out + o->rows[r] + (c / 16 % 2) * o->col16, area,
                     (int)min_i64(16, cout - c), n,
                     j->a->output + (b->image * cout + c) * area + (b->y0 + y) * j->ow + x);
    r += n;
  }
}

/* What is left to do for a block whose rows have been finished. */
static void complete(const mrt_split_job *j, const mrt_split_band *b, int64_t panel,
                     const mrt_split_out *o) {
  if (o->any) mend(j, b, panel, o);
  for (int r = 0; r < MRT_STRIP && j->act;) { /* pixels that follow each other at once */
    int n = 1;
    while (r + n < MRT_STRIP && o->rows[r] >= 0 && o->rows[r + n] == o->rows[r] + n * 16) ++n;
    for (int half = 0; half < (o->col16 ? 2 : 1) && o->rows[r] >= 0; ++half) {
      float *y = o->out + o->rows[r] + half * o->col16;
      j->act(y, y, NULL, NULL, j->a->act.p, n * 16);
    }
    r += n;
  }
  if (j->p->output_nchw) write_planes(j, b, panel, o);
}

static mrt_split_out out_of(const mrt_split_job *j, const mrt_split_band *b,
                            const mrt_split_memory *mem, int64_t panel, int64_t block,
                            const float *acc, uint32_t *bad) {
  const mrt_conv *p = j->p;
  const int64_t fan = panel / j->each, c = panel % j->each; /* c: pair of channel blocks */
  int64_t at = b->image * j->out_image + c * 2 * j->out_block + b->y0 * j->out_row;
  const bool plain = p->output_nchw;
  if (p->fan_h) at += fan / p->fan_w * (j->out_row / p->fan_h) + fan % p->fan_w * 16;
  const int64_t shift = block + 1 == b->blocks ? shift_of(j, b) : 0, part = j->oh * j->ow * 32;
  uint16_t *halves = (uint16_t *)(void *)j->a->output;
  if (j->a->out_parts)
    halves += (b->image * j->each + c) * j->a->out_parts * part + b->y0 * j->ow * 32;
  return (mrt_split_out){.acc = acc,
                         .first = block * MRT_STRIP - shift,
                         .rows = mem->rows + (block + (shift != 0)) * MRT_STRIP,
                         .halves = halves,
                         .part = part,
                         .parts = j->a->out_parts,
                         .out = plain ? mem->tile : j->a->output + at,
                         .residual = j->a->residual ? j->a->residual + at : NULL,
                         .col16 = c * 2 + 1 >= j->out_blocks ? 0
                                  : plain                    ? MRT_STRIP * 16
                                                             : j->out_block,
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
static slice slice_of(const mrt_split_job *j, int64_t p0, int64_t i) {
  const int64_t first = i % j->slices * j->slice;
  return (slice){p0 + i / j->slices, first, min_i64(j->slice, j->groups - first)};
}
static const char *slice_weights(const mrt_split_job *j, slice s) {
  return (const char *)j->a->weights + (s.panel * j->groups + s.first) * j->group_bytes;
}
static uint16_t *slice_memory(const mrt_split_job *j, const mrt_split_memory *mem, int64_t i) {
  return mem->weights + i % 2 * j->slice * j->b_parts * MRT_SPLIT_GROUP_PART;
}

/* Panels [p0, p1) and blocks [m0, m1) (those of one image after the other) of a band whose parts
 * are at a; `more`: the worker goes on with the panels that follow. */
typedef struct stretch {
  const mrt_split_band *band;
  const mrt_split_memory *mem;
  const uint16_t *a;
  int64_t p0, p1, m0, m1;
  bool more;
} stretch;
static int64_t steps_of(const mrt_split_job *j, const stretch *w) {
  return (w->p1 - w->p0) * j->slices;
}

/* What the blocks of a step have in common. They do something for the steps that follow, too: each
 * fetches its share of the next one's weights, or splits that and fetches of the one after. */
typedef struct step {
  mrt_split_block t;
  int64_t i, pairs, ahead; /* all pairs to split; cache lines of a share to fetch */
} step;

static step step_of(const mrt_split_job *j, const stretch *w, slice s, int64_t i) {
  const bool raw = j->p->raw;
  const int64_t steps = steps_of(j, w), after = i + (raw ? 2 : 1);
  const char *weights = raw ? (const char *)slice_memory(j, w->mem, i) : slice_weights(j, s);
  step q = {.i = i};
  q.t = (mrt_split_block){
      .b = (const uint16_t *)(const void *)weights,
      .b_parts = j->b_parts,
      .offsets = j->offsets + s.first,
      .groups = s.groups,
      .part = j->part,
      .cols = (int)min_i64(PANEL, j->out_blocks * 16 - s.panel % j->each * PANEL),
      .load = s.first > 0,
      .once = j->p->kh * j->p->kw == 1 && j->slice * j->group_bytes <= j->parts * ONCE_BYTES};
  if (raw && i + 1 < steps) {
    const slice next = slice_of(j, w->p0, i + 1);
    q.t.raw = slice_weights(j, next);
    q.t.raw_f16 = j->p->narrow == MRT_CONV_F16;
    q.t.split = slice_memory(j, w->mem, i + 1);
    q.pairs = next.groups * 32;
  }
  if (after < steps + (w->more ? 2 : 0)) {
    const slice next = slice_of(j, w->p0, after);
    const int64_t products = s.groups * mrt_split_products(j->parts, j->b_parts);
    const int64_t lines = next.groups * j->group_bytes / 64;
    q.ahead = lines / (w->m1 - w->m0);
    q.t.ahead = slice_weights(j, next);
    q.t.ahead_lines = (int)ceil_div(q.ahead, products);
    /* One part is small, and its products have little time to spare (ResNet-50: 2 % slower). */
    if (j->b_parts > 1) q.t.ahead_turns = lines & ~(int64_t)255;
  }
  return q;
}

/* The halves of an image's band. */
static int64_t image_halves(const mrt_split_job *j) { return j->in_groups * j->group; }

static mrt_split_block block_of(const mrt_split_job *j, const stretch *w, const step *q,
                                int64_t m) {
  const int64_t total = (w->band->rows - 1) * j->pitch + j->ow, block = m % w->band->blocks;
  const int64_t share = m - w->m0, count = w->m1 - w->m0;
  const int64_t sums = j->slices > 1 ? share : (q->i * count + share) % 2;
  mrt_split_block t = q->t;
  const int64_t shift = block + 1 == w->band->blocks ? shift_of(j, w->band) : 0;
  t.a =
      w->a + m / w->band->blocks * image_halves(j) + (block * MRT_STRIP - shift) * MRT_SPLIT_PIXEL;
  t.rows = (int)min_i64(MRT_STRIP, total - block * MRT_STRIP + shift);
  t.acc = w->mem->acc + sums * MRT_STRIP * MRT_STRIP;
  t.ahead_line = share * q->ahead;
  t.pair = mrt_par_begin(q->pairs, count, share);
  t.pair_end = mrt_par_begin(q->pairs, count, share + 1);
  return t;
}

static void run_panels(const mrt_split_job *j, const stretch *w) {
  const int64_t steps = steps_of(j, w);
  uint32_t bad[MRT_STRIP];
  mrt_split_out out;
  mrt_split_band band; /* of the image of that block */
  int64_t waits = -1;  /* panel of the block in `out`, whose sums wait for their end */
  if (w->m1 <= w->m0 || steps <= 0) return;
  if (j->p->raw) {
    const slice s = slice_of(j, w->p0, 0);
    j->kern->split_pairs(slice_weights(j, s), j->p->narrow == MRT_CONV_F16,
                         slice_memory(j, w->mem, 0), 0, s.groups * 32);
  }
  j->kern->gemm->begin();
  for (int64_t i = 0; i < steps; ++i) {
    const slice s = slice_of(j, w->p0, i);
    const step q = step_of(j, w, s, i);
    for (int64_t m = w->m0; m < w->m1; ++m) {
      const mrt_split_block t = block_of(j, w, &q, m);
      j->kern->multiply(&t, j->parts, waits >= 0 ? &out : NULL);
      if (waits >= 0) complete(j, &band, waits, &out);
      waits = -1;
      if (i % j->slices + 1 < j->slices) continue;
      band = *w->band;
      band.image += m / band.blocks;
      out = out_of(j, &band, w->mem, s.panel, m % band.blocks, t.acc, bad);
      waits = s.panel;
    }
  }
  j->kern->gemm->end();
  j->kern->finish(&out);
  complete(j, &band, waits, &out);
}

/* ---- sharing out ---- */

/* Where a band's parts are: with the worker that splits them, or in the input. */
static const uint16_t *band_at(const mrt_split_job *j, const mrt_split_band *b,
                               const mrt_split_memory *mem) {
  const uint16_t *in = (const uint16_t *)(const void *)j->a->input;
  if (!j->in_place) return mem->a;
  return in + b->image * image_halves(j) + b->y0 * j->w * MRT_SPLIT_PIXEL;
}

/* The input of a band by one worker; meanwhile the first weights are fetched. */
static void split_band(const mrt_split_job *j, const mrt_split_band *b, int64_t panel,
                       const mrt_split_memory *mem) {
  const int64_t rows = b->rows + j->y.far, each = j->in_groups * rows, n = each * b->images;
  mrt_split_band one = *b;
  const char *weights = slice_weights(j, slice_of(j, panel, 0));
  const int64_t lines = min_i64(j->slice * j->group_bytes, FIRST_BYTES) / 64;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t l = mrt_par_begin(lines, n, i); l < mrt_par_begin(lines, n, i + 1); ++l)
      __builtin_prefetch(weights + l * 64, 0, 2);
    one.image = b->image + i / each;
    if (!j->in_place)
      mrt_split_job_input_row(j, &one, i % each / rows, i % rows, mem->lines,
                              mem->a + i / each * image_halves(j));
  }
  fill_rows(j, b, mem->rows);
}

/* The bands of each worker's range, last one first: the input of the convolutions before, often the
 * residual now, was read forwards, so that its last bands are those that are still in L2; and the
 * next convolution begins with the bands that are written last here. */
static int64_t backwards(const mrt_split_job *j, int64_t chunk) {
  for (int64_t w = 0; w < j->workers; ++w) {
    const int64_t end = mrt_par_begin(j->units, j->workers, w + 1);
    if (chunk < end) return mrt_par_begin(j->units, j->workers, w) + end - 1 - chunk;
  }
  return chunk;
}

/* Chunk: a unit (image, band) and a part of its panels, done from end to end by one worker. Workers
 * take neighbouring chunks: each finds in its cache what it wrote in the layer before. */
static void unit_chunk(void *arg, int64_t chunk, int worker) {
  const mrt_split_job *j = arg;
  if (j->a->residual && j->parts_n == 1) chunk = backwards(j, chunk);
  const mrt_split_memory mem = mrt_split_job_memory(j, worker);
  const int64_t u = chunk / j->parts_n, part = chunk % j->parts_n;
  const int64_t range_end = mrt_par_begin(j->units * j->parts_n, j->workers, worker + 1);
  mrt_split_band b = mrt_split_job_band(j, u / j->bands * j->together, u % j->bands);
  b.images = min_i64(j->together, j->a->n - b.image);
  const stretch w = {.band = &b,
                     .mem = &mem,
                     .a = band_at(j, &b, &mem),
                     .p0 = mrt_par_begin(j->panels, j->parts_n, part),
                     .p1 = mrt_par_begin(j->panels, j->parts_n, part + 1),
                     .m1 = b.blocks * b.images,
                     .more = part + 1 < j->parts_n && chunk + 1 != range_end};
  if (j->held[worker] != u) split_band(j, &b, w.p0, &mem);
  j->held[worker] = u;
  run_panels(j, &w);
}

/* Many workers share one band; first its input, then panels and blocks. */
static void split_chunk(void *arg, int64_t chunk, int worker) {
  const mrt_split_job *j = arg;
  const mrt_split_band b = mrt_split_job_band(j, j->image, j->band);
  const int64_t rows = b.rows + j->y.far, end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u)
    mrt_split_job_input_row(j, &b, u / rows, u % rows, mrt_split_job_memory(j, worker).lines,
                            mrt_split_job_memory(j, 0).a);
}
static void panel_chunk(void *arg, int64_t chunk, int worker) {
  const mrt_split_job *j = arg;
  const mrt_split_band b = mrt_split_job_band(j, j->image, j->band);
  const int64_t n = chunk / j->parts_m, m = chunk % j->parts_m;
  const mrt_split_memory mem = mrt_split_job_memory(j, worker), shared = mrt_split_job_memory(j, 0);
  fill_rows(j, &b, mem.rows);
  run_panels(j, &(stretch){.band = &b,
                           .mem = &mem,
                           .a = band_at(j, &b, &shared),
                           .p0 = mrt_par_begin(j->panels, j->parts_n, n),
                           .p1 = mrt_par_begin(j->panels, j->parts_n, n + 1),
                           .m0 = mrt_par_begin(b.blocks, j->parts_m, m),
                           .m1 = mrt_par_begin(b.blocks, j->parts_m, m + 1)});
}

static void run_shared(const mrt_par *par, mrt_split_job *j) {
  for (int64_t i = 0; i < j->a->n * j->bands && !mrt_cancelled(par); ++i) {
    j->image = i / j->bands;
    j->band = i % j->bands;
    const mrt_split_band b = mrt_split_job_band(j, j->image, j->band);
    j->units = j->in_groups * (b.rows + j->y.far);
    j->chunks = mrt_par_chunks(j->units, mrt_split_job_split_ns(j));
    if (!j->in_place) mrt_par_run(par, j->chunks, split_chunk, j);
    const int64_t want =
        mrt_par_chunks(j->panels * b.blocks, mrt_split_job_product_ns(j, b.blocks));
    j->parts_n = min_i64(j->panels, want);
    j->parts_m = min_i64(b.blocks, ceil_div(want, j->parts_n));
    mrt_par_run(par, j->parts_n * j->parts_m, panel_chunk, j);
  }
}

static void run_units(const mrt_par *par, mrt_split_job *j) {
  const int64_t workers = mrt_par_workers(par);
  const double cost = (mrt_split_job_product_ns(j, j->blocks) + mrt_split_job_split_ns(j)) *
                      (double)(j->a->n * j->bands);
  const int64_t parts_per = j->p->raw ? 1 : 2;
  j->workers = workers;
  j->parts_n = 1;
  if (j->units < 2 * workers && j->units % workers) /* the first weights of a part come late */
    j->parts_n = min_i64(j->panels, parts_per * workers);
  if (mrt_par_chunks(16, cost) == 1) { /* too little to share */
    for (int64_t i = 0; i < j->units * j->parts_n; ++i) unit_chunk(j, i, 0);
    return;
  }
  mrt_par_run(par, j->units * j->parts_n, unit_chunk, j);
}

static void set_epilogue(mrt_split_job *j, float *bias) {
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

/* Parts are read where they lie if a band is long enough for its last tiles (shift_of). */
static void set_input(mrt_split_job *j) {
  const int64_t least = mrt_split_job_least(j);
  j->in_place = j->a->in_parts && mrt_conv_split_in_place(j->p) && least >= MRT_STRIP;
  if (!j->in_place) return;
  j->part = j->h * j->w * MRT_SPLIT_PIXEL;
  j->group = j->part * j->parts;
}

static void set_output(mrt_split_job *j) {
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
  mrt_split_job j;
  mrt_split_job_make(&j, p, args->h, args->w);
  if (args->n <= 0 || j.oh <= 0 || j.ow <= 0) return;
  const int64_t workers = mrt_par_workers(par);
  mrt_split_job_together(&j, workers);
  j.kern = kern;
  j.a = args;
  set_epilogue(&j, scratch);
  set_output(&j);
  set_input(&j);
  j.offsets = (int64_t *)((float *)scratch + j.each * PANEL);
  j.held = j.offsets + align16(j.groups);
  j.scratch = mrt_worker_first((char *)(j.held + align16(workers)) + MRT_WORKER_PAGE);
  for (int64_t i = 0; i < workers; ++i) j.held[i] = -1;
  mrt_split_job_offsets(&j);
  j.units = ceil_div(args->n, j.together) * j.bands;
  if (workers > kern->few && j.units < 2 * workers)
    run_shared(par, &j);
  else
    run_units(par, &j);
}
