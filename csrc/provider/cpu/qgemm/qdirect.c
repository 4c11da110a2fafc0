/* See qdirect.h. */
#include "provider/cpu/qgemm/qdirect.h"

#include <string.h>

#include "provider/cpu/qgemm/qbytes.h"
#include "provider/cpu/qgemm/qfold.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"

/* BAND: bytes of a copied band, FOLDED: of a folded one; IN_PLACE: of a matrix read in place.
 * B_PART: of the weights that one sweep over the rows uses. Weights beyond it leave L2 between
 * sweeps: B_BESIDE of them stay beside a band then, and MANY rows at least have to share a reading.
 */
enum { PANEL = 32, UNIT = 64, BAND = 256 << 10, B_PART = 1 << 20, MAX_SEGMENTS = 64 };
enum { FOLDED = 16 << 10, IN_PLACE = 1 << 20, B_BESIDE = 512 << 10, MANY = 256 };
enum { FEW_ROWS = 4 };
enum { LEAST_COST = 2000, REMOTE = 2 }; /* ns; time of a byte from the other core, of a weight 1 */

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }

int64_t mrt_qdirect_run(int64_t c, int64_t kw, int64_t dil_w) { return dil_w == 1 ? kw * c : c; }
bool mrt_qdirect_flips(void) { return !mrt_qgemm_kernels_get()->reads_s8; }

/* How the work is cut. */
typedef struct direct_plan {
  const mrt_qgemm_kernels *kern;
  bool copy;                  /* the image goes through a buffer */
  bool flat;                  /* a matrix: rows of all images are one sequence */
  bool beyond;                /* a matrix whose weights do not stay in L2 */
  bool joined;                /* the output rows of a band are one sequence, `wide` apart */
  int64_t wide;               /* pixels of an image row as tiles see it */
  int64_t run, blocks, reach; /* reach: bytes read from the start of a row of A */
  int64_t unit_rows;          /* of a matrix: rows that stay together */
  int64_t a_row, units, panels, part_panels, band, parts_m, parts_n;
  int64_t blocks_bytes, copy_bytes, half_bytes, pad_bytes, worker_bytes, total;
} direct_plan;

/* Image rows of a band; folded ones belong to one output row each. */
static int64_t rows_in(const mrt_qdirect *d, int64_t lines) {
  if (d->folds) return lines;
  return (lines - 1) * d->stride_h + (d->kh - 1) * d->dil_h + 1;
}

/* Joining rows saves tiles where rows are short, and computes what lies between them. */
static bool join_rows(const mrt_qdirect *d, const direct_plan *p, int64_t lines) {
  const int64_t rows = p->kern->max_rows, grain = p->kern->by_sixteen ? 16 : 1;
  if (d->stride_h != 1 || d->stride_w != 1 || d->folds) return false;
  const int64_t joined = (lines - 1) * p->wide + d->ow,
                one = ceil_div(joined, grain) * grain + ceil_div(joined, rows) * 2,
                each = lines * (ceil_div(d->ow, grain) * grain + ceil_div(d->ow, rows) * 2);
  return one < each;
}

/* Chunk i of n starts at this unit: halves fall on halves whatever n is, so that a core finds in
 * its cache what it wrote for the layer before. */
static inline int64_t share(int64_t units, int64_t n, int64_t i) { return units * i / n; }

/* Even a small layer is shared: half of its image lies in the other core's cache, and fetching it
 * from there costs more than the start of a section. */
static void plan_shares(direct_plan *p, const mrt_qdirect *d) {
  const double rows = (double)(d->n * d->oh * d->ow), k = (double)(p->blocks * UNIT);
  const double cost = rows * (double)d->cout * k / p->kern->macs_per_ns +
                      rows * (double)d->cout * 0.06 + k * (double)d->cout / 20.0;
  int64_t total = cost < LEAST_COST ? 1 : max_i64(2, mrt_par_chunks(p->units * p->panels, cost));
  const int64_t least = p->flat && p->kern->by_sixteen ? 4 : 1; /* units: whole tiles */
  p->parts_m = max_i64(min_i64(2, total), min_i64(p->units / least, total));
  if (p->beyond) p->parts_m = max_i64(2, min_i64(p->parts_m, p->units * p->unit_rows / MANY));
  p->parts_m = mrt_even_chunks(min_i64(p->units, p->parts_m));
  p->parts_n = 1;
  /* Sharing out rows, each core reads all weights; sharing out columns, it fetches half of the
   * image that the other core wrote, and leaves it half of its own to fetch, which is slower. */
  if ((double)d->cout * k >
      REMOTE * ((double)(d->n * d->h * d->w) * (double)d->c + rows * (double)d->cout)) {
    if (p->copy) total = min_i64(total, 8);
    p->parts_n = mrt_even_chunks(min_i64(p->panels, total));
    p->parts_m = min_i64(p->units, total / p->parts_n);
  } else if (p->parts_m < 2 && p->parts_m < total) {
    p->parts_n = mrt_even_chunks(min_i64(p->panels, total / p->parts_m));
  }
}

/* Few rows are bound by reading weights, which tile loads do not fetch ahead. */
static const mrt_qgemm_kernels *kernels_for(const mrt_qdirect *d) {
  const mrt_qgemm_kernels *kern = mrt_qgemm_kernels_get();
#if defined(MRT_HAVE_AMX) && defined(MRT_HAVE_AVX512VNNI)
  if (kern == &mrt_qgemm_amx && !d->x_signed && d->n * d->oh * d->ow <= FEW_ROWS)
    return &mrt_qgemm_avx512vnni;
#endif
  (void)d;
  return kern;
}

static void plan_make(direct_plan *p, const mrt_qdirect *d, const mrt_par *par) {
  *p = (direct_plan){.kern = kernels_for(d), .run = mrt_qdirect_run(d->c, d->kw, d->dil_w)};
  const int64_t k = d->kh * d->kw * d->c, pixel = d->folds ? d->kh * d->c : d->c,
                need_w = (d->ow - 1) * d->stride_w + (d->kw - 1) * d->dil_w + 1;
  const bool point = d->kh == 1 && d->kw == 1 && d->stride_h == 1 && d->stride_w == 1;
  const bool inside =
      d->pad_top == 0 && d->pad_left == 0 && rows_in(d, d->oh) <= d->h && need_w <= d->w;
  if (d->folds) p->run = k;
  p->copy = d->folds || !inside || d->pitch != d->c || (d->x_signed && !p->kern->reads_s8);
  p->flat = point && inside && !d->folds && d->oh == d->h && d->ow == d->w;
  p->wide = p->copy ? need_w : d->w;
  p->a_row = d->stride_w * pixel;
  p->blocks = k / p->run * ceil_div(p->run, UNIT);
  p->panels = ceil_div(d->cout, PANEL);
  p->unit_rows = p->kern->by_sixteen ? 16 : p->kern->max_rows;
  p->units = p->flat ? ceil_div(d->n * d->oh * d->ow, p->unit_rows) : d->n * d->oh;
  const int64_t row = p->wide * pixel;
  const int64_t last_tap = p->run == d->c ? (d->kw - 1) * d->dil_w : 0;
  p->reach = (d->folds ? 0 : ((d->kh - 1) * d->dil_h * p->wide + last_tap) * d->c) +
             (p->kern->by_sixteen ? round64(p->run) : (p->run + 3) / 4 * 4);
  p->beyond = p->kern->by_sixteen && p->flat && p->panels * p->blocks > B_PART / (UNIT * PANEL);
  plan_shares(p, d);
  const bool wide = p->beyond && !p->copy;
  p->part_panels = max_i64(1, (wide ? B_BESIDE : B_PART) / (p->blocks * UNIT * PANEL + 1));
  const int64_t half = p->kern->by_sixteen ? 16 : p->kern->max_rows;
  p->half_bytes = (half - 1) * p->a_row + p->reach;
  if (p->flat) {
    const int64_t most = p->unit_rows * ceil_div(p->units, p->parts_m);
    p->band = max_i64(1, min_i64(most, (wide ? IN_PLACE : BAND) / (d->c + 1)));
    p->band = ceil_div(p->band, p->kern->max_rows) * p->kern->max_rows;
    p->copy_bytes = p->copy ? p->band * d->c : 0;
  } else {
    p->band = ceil_div(p->units, p->parts_m);
    const int64_t most = d->folds ? FOLDED : BAND;
    while (p->copy && p->band > 1 && rows_in(d, p->band) * row > most) p->band = (p->band + 1) / 2;
    p->joined = join_rows(d, p, p->band);
    p->copy_bytes = p->copy ? rows_in(d, p->band) * row : 0;
  }
  if (p->copy) p->copy_bytes = round64(p->copy_bytes + 2 * half * p->a_row + p->reach + UNIT);
  p->pad_bytes = d->folds ? round64(d->w * d->c) : 0; /* a row outside of the image */
  p->blocks_bytes = round64(p->blocks * (int64_t)sizeof(mrt_qblock));
  p->worker_bytes = (int64_t)mrt_worker_pitch(
      (size_t)(p->copy_bytes + 2 * round64(p->half_bytes) + p->pad_bytes));
  p->total = p->blocks_bytes + p->worker_bytes * mrt_par_workers(par) + MRT_WORKER_PAGE;
}

size_t mrt_qdirect_scratch(const mrt_par *par, const mrt_qdirect *d) {
  direct_plan p;
  plan_make(&p, d, par);
  return (size_t)p.total;
}

typedef struct direct_job {
  direct_plan p;
  const mrt_qdirect *d;
  mrt_qblock *blocks;
  uint8_t *workers;
  mrt_qtile tile; /* what is the same for all */
  mrt_qfold fold;
  void (*copy)(uint8_t *dst, const uint8_t *src, int64_t pixels, int64_t c, int64_t step,
               uint8_t flip);
} direct_job;

/* ---- one band: rows of A, and where their results go ---- */
typedef struct band {
  const uint8_t *a, *end;      /* nothing is read at or behind `end` */
  int64_t lines, line_bytes;   /* sequences of rows, and from one to the next */
  int64_t rows, period, valid; /* of a line; of `period` rows the first `valid` are stored */
  int64_t out;                 /* output pixel of the first row */
  uint8_t *halves;             /* buffers of half a tile */
} band;

static uint8_t flip_of(const direct_job *j) {
  return j->d->x_signed && !j->p.kern->reads_s8 ? 0x80 : 0;
}

/* Pixels [first, first + n) of an image row; those outside of it are zero points. */
static void copy_row(const direct_job *j, const uint8_t *row, int64_t first, int64_t n,
                     uint8_t *dst) {
  const mrt_qdirect *d = j->d;
  const uint8_t flip = flip_of(j);
  const uint8_t pad = (uint8_t)d->x_zero ^ flip;
  const int64_t lo = row ? min_i64(max_i64(-first, 0), n) : n,
                hi = row ? max_i64(lo, min_i64(n, d->w - first)) : n, c = d->c;
  memset(dst, pad, (size_t)(lo * c));
  if (hi > lo) j->copy(dst + lo * c, row + (first + lo) * d->pitch, hi - lo, c, d->pitch, flip);
  memset(dst + hi * c, pad, (size_t)((n - hi) * c));
}

/* The rows of output line y's windows, folded. pad: a row outside of the image. */
static void fold_line(const direct_job *j, const uint8_t *image, int64_t y, const uint8_t *pad,
                      uint8_t *dst) {
  const mrt_qdirect *d = j->d;
  const uint8_t *row[MRT_QFOLD_ROWS];
  const int64_t n = j->p.wide, pixel = d->kh * d->c, lo = min_i64(max_i64(d->pad_left, 0), n),
                hi = max_i64(lo, min_i64(n, d->w + d->pad_left)), from = lo - d->pad_left;
  for (int64_t k = 0; k < d->kh; ++k) {
    const int64_t iy = y * d->stride_h - d->pad_top + k * d->dil_h;
    row[k] = iy >= 0 && iy < d->h ? image + (iy * d->w + from) * d->pitch : pad;
  }
  memset(dst, pad[0] ^ j->fold.flip, (size_t)(lo * pixel));
  mrt_qfold_run(&j->fold, row, hi - lo, dst + lo * pixel);
  memset(dst + hi * pixel, pad[0] ^ j->fold.flip, (size_t)((n - hi) * pixel));
}

/* Output lines [y0, y0 + lines) of image n; a matrix: rows [y0, y0 + lines). */
static void band_make(const direct_job *j, int64_t n, int64_t y0, int64_t lines, uint8_t *space,
                      band *b) {
  const mrt_qdirect *d = j->d;
  const direct_plan *p = &j->p;
  const int64_t row = p->wide * (d->folds ? d->kh * d->c : d->c);
  *b = (band){.halves = space + p->copy_bytes, .end = space + p->copy_bytes, .a = space};
  if (p->flat) {
    b->lines = 1, b->rows = b->period = b->valid = lines, b->out = y0;
    if (p->copy) {
      j->copy(space, d->x + y0 * d->pitch, lines, d->c, d->pitch, flip_of(j));
      return;
    }
    b->a = d->x + y0 * d->c;
    b->end = d->x_end;
    return;
  }
  b->lines = p->joined ? 1 : lines;
  b->rows = p->joined ? (lines - 1) * p->wide + d->ow : d->ow;
  b->period = p->joined ? p->wide : d->ow;
  b->valid = d->ow;
  b->line_bytes = d->folds ? row : d->stride_h * row;
  b->out = (n * d->oh + y0) * d->ow;
  const int64_t iy = y0 * d->stride_h - d->pad_top;
  const uint8_t *image = d->x + n * d->h * d->w * d->pitch;
  if (!p->copy) {
    b->a = image + iy * row;
    b->end = d->x_end;
    return;
  }
  if (d->folds) {
    uint8_t *pad = space + p->copy_bytes + 2 * round64(p->half_bytes);
    memset(pad, (uint8_t)d->x_zero, (size_t)(d->w * d->c));
    for (int64_t i = 0; i < lines; ++i) fold_line(j, image, y0 + i, pad, space + i * row);
    return;
  }
  for (int64_t i = 0; i < rows_in(d, lines); ++i)
    copy_row(j, iy + i >= 0 && iy + i < d->h ? image + (iy + i) * d->w * d->pitch : NULL,
             -d->pad_left, p->wide, space + i * row);
}

/* Half a tile at `a`; copied if a tile would read beyond the end. */
static const uint8_t *half_at(const direct_job *j, const band *b, const uint8_t *a, int which) {
  const int64_t left = b->end - a;
  if (left >= j->p.half_bytes) return a;
  uint8_t *to = b->halves + which * round64(j->p.half_bytes);
  memcpy(to, a, (size_t)left);
  return to;
}

static int add_segments(const band *b, int64_t ldy, int64_t line, int64_t r0, int64_t rows,
                        int first, mrt_qsegment *out) {
  int n = 0;
  for (int64_t r = r0; r < r0 + rows;) {
    const int64_t in = r % b->period, left = min_i64(b->period - in, r0 + rows - r),
                  keep = min_i64(left, b->valid - in);
    if (keep > 0)
      out[n++] = (mrt_qsegment){first + (int)(r - r0), (int)keep,
                                (b->out + (line + r / b->period) * b->valid + in) * ldy};
    r += left;
  }
  return n;
}

static size_t out_bytes(mrt_q_out out) { return out == MRT_Q_S32 || out == MRT_Q_F32 ? 4 : 1; }

static void sweep(const direct_job *j, mrt_qtile *t, int rows, int64_t p0, int64_t p1) {
  const mrt_qdirect *d = j->d;
  const mrt_qgemm_kernels *k = j->p.kern;
  const size_t size = out_bytes(d->epi->out);
  const int64_t end = min_i64(p1 * PANEL, d->cout);
  for (int64_t n = p0 * PANEL; n < end; n += k->nr) {
    t->cols = (int)min_i64(k->nr, end - n);
    t->b = (const int8_t *)d->packed + n / PANEL * j->p.blocks * UNIT * PANEL + n % PANEL * 4;
    t->col = d->tables->col + n;
    t->scale = d->tables->scale + n;
    t->bias = mrt_qtables_bias(d->tables, n);
    t->c = (uint8_t *)d->y + (size_t)n * size;
    if (d->epi->residual)
      t->residual = d->epi->residual + t->residual_row * d->epi->residual_ld + n;
    if (d->epi->add) t->add = d->epi->add + n;
    (t->cols <= 16 && k->nr > 16 ? k->narrow : k->wide)[rows](t);
  }
}

/* All tiles of a band against panels [p0, p1). */
static void band_tiles(const direct_job *j, const band *b, mrt_qtile *t, mrt_qsegment *segments,
                       int64_t p0, int64_t p1) {
  const direct_plan *p = &j->p;
  const mrt_qgemm_kernels *k = p->kern;
  for (int64_t line = 0; line < b->lines; ++line) {
    const uint8_t *a = b->a + line * b->line_bytes;
    if (b->rows <= k->split && k->split + b->rows <= k->max_rows &&
        (k->by_sixteen || b->rows > k->split / 2) && line + 1 < b->lines) {
      /* two lines, which share the loads of the weights */
      t->a = half_at(j, b, a, 0);
      t->a_hi = half_at(j, b, a + b->line_bytes, 1);
      t->n_segments = add_segments(b, j->d->ldy, line, 0, b->rows, 0, segments);
      t->n_segments +=
          add_segments(b, j->d->ldy, line + 1, 0, b->rows, k->split, segments + t->n_segments);
      sweep(j, t, k->split + (int)b->rows, p0, p1);
      ++line;
      continue;
    }
    const int64_t tiles = ceil_div(b->rows, k->max_rows);
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t r0 = k->by_sixteen ? i * k->max_rows : mrt_par_begin(b->rows, tiles, i),
                    r1 = k->by_sixteen ? min_i64(b->rows, r0 + k->max_rows)
                                       : mrt_par_begin(b->rows, tiles, i + 1);
      t->a = half_at(j, b, a + r0 * p->a_row, 0);
      t->a_hi = r1 - r0 > k->split ? half_at(j, b, a + (r0 + k->split) * p->a_row, 1) : t->a;
      t->n_segments = add_segments(b, j->d->ldy, line, r0, r1 - r0, 0, segments);
      t->residual_row = b->out + r0; /* of matrices only */
      if (t->n_segments) sweep(j, t, (int)(r1 - r0), p0, p1);
    }
  }
}

static void chunk(void *arg, int64_t index, int worker) {
  const direct_job *j = arg;
  const direct_plan *p = &j->p;
  const mrt_qdirect *d = j->d;
  const int64_t pm = index % p->parts_m, pn = index / p->parts_m,
                n0 = share(p->panels, p->parts_n, pn), n1 = share(p->panels, p->parts_n, pn + 1);
  int64_t u = share(p->units, p->parts_m, pm), end = share(p->units, p->parts_m, pm + 1);
  if (p->flat) u *= p->unit_rows, end = min_i64(end * p->unit_rows, d->n * d->oh * d->ow);
  mrt_qsegment segments[MAX_SEGMENTS];
  mrt_qtile t = j->tile;
  t.segments = segments;
  if (p->kern->begin) p->kern->begin();
  while (u < end) {
    band b;
    const int64_t image = p->flat ? 0 : u / d->oh;
    const int64_t stop = p->flat ? end : min_i64(end, (image + 1) * d->oh),
                  lines = min_i64(p->band, stop - u);
    band_make(j, image, p->flat ? u : u % d->oh, lines, j->workers + worker * p->worker_bytes, &b);
    for (int64_t n = n0; n < n1; n += p->part_panels)
      band_tiles(j, &b, &t, segments, n, min_i64(n1, n + p->part_panels));
    u += lines;
  }
  if (p->kern->end) p->kern->end();
}

void mrt_qdirect_go(const mrt_par *par, const mrt_qdirect *d, void *scratch) {
  direct_job j = {.d = d, .copy = mrt_qbytes_get()->copy};
  plan_make(&j.p, d, par);
  j.blocks = scratch;
  j.workers = mrt_worker_first((uint8_t *)scratch + j.p.blocks_bytes);
  j.tile = (mrt_qtile){.a_row = j.p.a_row,
                       .blocks = j.blocks,
                       .n_blocks = j.p.blocks,
                       .c_row = d->ldy,
                       .a_signed = d->x_signed && j.p.kern->reads_s8,
                       .in_range = d->tables->in_range,
                       .shifted = d->tables->shifted};
  mrt_qtile_epilogue(d->epi, &j.tile);
  mrt_qblock *b = j.blocks;
  const int64_t per_row = j.p.run == d->c ? d->kw : 1;
  if (d->folds) mrt_qfold_init(&j.fold, d->kh, d->c, flip_of(&j));
  for (int64_t y = 0; y < (d->folds ? 1 : d->kh); ++y)
    for (int64_t x = 0; x < per_row; ++x)
      for (int64_t q = 0; q < j.p.run; q += UNIT)
        *b++ = (mrt_qblock){(y * d->dil_h * j.p.wide + x * d->dil_w) * d->c + q,
                            (int32_t)ceil_div(min_i64(UNIT, j.p.run - q), 4)};
  mrt_par_run(par, j.p.parts_m * j.p.parts_n, chunk, &j);
}
