/* See qband.h. */
#include "provider/cpu/qgemm/qband.h"

#include <string.h>

#include "base/alloc.h"
#include "provider/cpu/qgemm/qdepth.h"
#include "provider/cpu/qgemm/qdirect.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qplanes.h"

enum {
  PANEL = 32,
  UNIT = 64,
  SLICE = 64,
  BAND_ROWS = 14,    /* of output in a band, at most */
  RING = 40 << 10,   /* bytes of a slice of a band: L1 */
  STEPS = 64 << 10,  /* of a ring of all channels */
  STEP_PIXELS = 112, /* of output in a step, about */
  PAIR_PIXELS = 112, /* the same on qwide.h */
  FREE_PIXELS = 448, /* without a ring: what was just filtered is read with a delay */
  HALVES = 192,      /* k of expansions whose last block may be a half */
  SHORT = 24,        /* sums that are not for tiles */
  SMALL = 64         /* pixels of an image that is not cut by rows */
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t round64(int64_t n) { return (n + 63) / 64 * 64; }

bool mrt_qband_fits(const mrt_qband *b) {
  const mrt_qconv *d = &b->conv[1], *e = &b->conv[0], *p = &b->conv[2];
  const bool machine = !b->is_signed || mrt_qgemm_kernels_get()->reads_s8;
  if (b->expands && e->kh * e->kw > 1 && !(mrt_qband_wants_wide(b) && mrt_qband_only_wide(b)))
    return false;
  return machine && mrt_qdepth_fits(d) && mrt_qplanes_fits(d) && p->direct && d->pad_top < d->kh &&
         (!b->expands || e->direct);
}

bool mrt_qband_wants_wide(const mrt_qband *b) {
  int64_t most = MRT_QWIDE_K;
#ifdef MRT_HAVE_AMX
  if (mrt_qgemm_kernels_get() == &mrt_qgemm_amx) most = SHORT; /* longer sums: tiles */
#endif
  return b->expands && !b->is_signed && (b->conv[0].cin <= most || b->conv[0].folds) &&
         mrt_qwide_fits(&b->conv[0], &b->conv[1]);
}

/* Half a block is a sixth or more of the weights there. */
bool mrt_qband_halves(const mrt_qconv *e) {
  const int64_t rest = e->cin % UNIT;
  return e->kh * e->kw == 1 && e->cin > UNIT && e->cin <= HALVES && rest > 0 && rest <= UNIT / 2;
}

bool mrt_qband_only_wide(const mrt_qband *b) { return mrt_qplanes_slices(&b->conv[1]) == 1; }

/* ---- how the work is cut ---- */
typedef struct plan {
  int64_t wide, slices;
  bool small;          /* cut by wide channels */
  bool by_slice;       /* a band's ring holds one slice at a time, whole */
  bool by_pairs;       /* on qwide.h, whose memory the ring is */
  int64_t bands, rows; /* of an image; output rows of the longest */
  int64_t step, ring;  /* output rows of a step; input rows in the ring */
  int64_t chunks;      /* of slices, where images are small */
  int64_t ring_bytes, deep_bytes, planes_bytes, half_bytes; /* of a worker */
  int64_t padded_bytes;                                     /* of rows of x with padded pixels */
  int64_t worker_bytes, blocks_bytes, shared_bytes;
} plan;

static int64_t blocks_of(int64_t k) { return ceil_div(k, UNIT); }
/* What half a tile reads from rows of k bytes. */
static int64_t half_of(int64_t k) {
  const mrt_qgemm_kernels *kern = mrt_qgemm_kernels_get();
  return kern->by_sixteen ? 15 * k + round64(k) : (kern->max_rows - 1) * k + (k + 3) / 4 * 4;
}

static void plan_ring(plan *p, const mrt_qband *b, const mrt_qband_args *a) {
  const mrt_qconv *d = &b->conv[1];
  const int64_t row = a->w * SLICE;
  p->ring = (p->rows - 1) * d->stride_h + d->kh;
  p->by_slice = p->wide % SLICE == 0 && (p->small || p->ring * row <= RING);
  p->step = p->rows;
  if (!p->by_slice) {
    const int64_t pixels = b->expands ? STEP_PIXELS : FREE_PIXELS;
    p->step = min_i64(p->rows, max_i64(2, pixels / a->ow)); /* rows in twos */
    while (b->expands && p->step > 1 &&
           ((p->step - 1) * d->stride_h + d->kh) * a->w * p->wide > STEPS)
      p->step /= 2;
    p->ring = (p->step - 1) * d->stride_h + d->kh;
  }
  const int64_t width = p->by_slice ? SLICE : p->wide;
  p->ring_bytes = b->expands ? round64(p->ring * a->w * width) + SLICE : 0;
}

/* Bands are as long as workers allow: the rows between them are expanded twice. */
static void plan_pairs(plan *p, const mrt_qband *b, const mrt_qband_args *a, int workers) {
  const int64_t at_once = mrt_qwide_step(&b->conv[1]);
  p->bands = min_i64(max_i64(min_i64(2, a->oh), ceil_div(a->oh, BAND_ROWS)), workers);
  p->rows = ceil_div(a->oh, p->bands);
  p->by_slice = false;
  p->step = ceil_div(max_i64(1, PAIR_PIXELS / a->ow), at_once) * at_once;
  p->ring_bytes = mrt_qwide_space(&b->conv[0], &b->conv[1], a->xw, a->w, a->ow, p->step);
}

/* Tiles read whole blocks of x: where weights end with half a block, 32 zeros behind pixels. */
static bool pads(const mrt_qband *b) {
  return b->expands && b->conv[0].halves && mrt_qgemm_kernels_get()->by_sixteen;
}

static plan make_plan(const mrt_par *par, const mrt_qband *b, const mrt_qband_args *a) {
  plan p = {.wide = b->conv[1].cout, .slices = mrt_qplanes_slices(&b->conv[1])};
  p.small = p.slices > 1 && a->oh * a->ow <= SMALL;
  p.bands = p.small ? 1 : min_i64(a->oh, max_i64(2, ceil_div(a->oh, BAND_ROWS)));
  p.rows = ceil_div(a->oh, p.bands);
  plan_ring(&p, b, a);
  p.by_pairs = b->wide && !p.small;
  if (p.by_pairs) plan_pairs(&p, b, a, mrt_par_workers(par));
  p.chunks = p.small ? a->n * mrt_even_chunks(min_i64(p.slices, 8)) : a->n * p.bands;
  const int64_t slack = half_of(p.wide);
  p.deep_bytes = p.small ? 0 : round64((p.by_slice ? p.rows : p.step) * a->ow * p.wide + slack);
  p.shared_bytes = p.small ? round64(a->n * a->oh * a->ow * p.wide + slack) : 0;
  p.planes_bytes = (int64_t)mrt_qplanes_worker_bytes(&b->conv[1], a->ow);
  p.half_bytes = round64(b->expands ? half_of(b->conv[0].cin) : 0);
  if (pads(b)) p.padded_bytes = (p.ring * a->w + 16) * round64(b->conv[0].cin);
  p.worker_bytes =
      (int64_t)mrt_worker_pitch((size_t)(p.ring_bytes + p.deep_bytes + round64(p.planes_bytes) +
                                         2 * p.half_bytes + p.padded_bytes));
  p.blocks_bytes =
      round64((blocks_of(b->conv[0].cin) + blocks_of(p.wide)) * (int64_t)sizeof(mrt_qblock));
  return p;
}

bool mrt_qband_scratch_size(const mrt_par *par, const mrt_qband *b, const mrt_qband_args *a,
                            size_t *out) {
  int64_t all, in;
  if (!mrt_i64_mul(a->n, a->oh + 2, &all) || !mrt_i64_mul(all, a->ow, &all) ||
      !mrt_i64_mul(all, b->conv[1].cout, &all) || !mrt_i64_mul(a->h + 2, a->w, &in) ||
      !mrt_i64_mul(in, b->conv[1].cout, &in) || all > INT64_MAX / 64 || in > INT64_MAX / 64)
    return false;
  const plan p = make_plan(par, b, a);
  size_t workers;
  return mrt_size_mul((size_t)p.worker_bytes, (size_t)mrt_par_workers(par), &workers) &&
         mrt_size_add(workers, (size_t)(p.blocks_bytes + p.shared_bytes) + MRT_WORKER_PAGE, out);
}

/* ---- products ---- */
typedef struct product {
  const mrt_qgemm_kernels *kern;
  const mrt_qtables *tables;
  const int8_t *b;
  int64_t n, k, panel; /* panel: bytes of one of B */
  mrt_qtile t;         /* what is the same for all tiles */
} product;

/* Sums so short are better made where they are rounded: a tile would have to be loaded with zeros,
 * stored, and would slow down the vector unit. */
static const mrt_qgemm_kernels *kernels_for(int64_t k, int64_t n, bool is_signed) {
  const mrt_qgemm_kernels *kern = mrt_qgemm_kernels_get();
#if defined(MRT_HAVE_AMX) && defined(MRT_HAVE_AVX512VNNI)
  if (kern == &mrt_qgemm_amx && !is_signed && (k <= SHORT || (k <= 32 && n <= 16)))
    return &mrt_qgemm_avx512vnni;
#endif
  (void)k, (void)n, (void)is_signed;
  return kern;
}

static product product_of(const mrt_qband *b, const mrt_qband_args *a, int which,
                          mrt_qblock *blocks) {
  product q = {.kern = kernels_for(b->conv[which].cin, b->conv[which].cout, b->is_signed),
               .tables = mrt_qconv_tables(a->prepared[which]),
               .b = a->packed[which],
               .n = b->conv[which].cout,
               .k = b->conv[which].cin};
  q.panel = mrt_qpack_panel_bytes(q.k, b->conv[which].halves ? MRT_QPACK_HALVES : q.k);
  for (int64_t i = 0; i < blocks_of(q.k); ++i)
    blocks[i] = (mrt_qblock){i * UNIT, (int32_t)ceil_div(min_i64(UNIT, q.k - i * UNIT), 4)};
  q.t = (mrt_qtile){.a_row = which == 0 && pads(b) ? round64(q.k) : q.k,
                    .blocks = blocks,
                    .n_blocks = blocks_of(q.k),
                    .a_signed = b->is_signed,
                    .in_range = q.tables->in_range,
                    .shifted = q.tables->shifted};
  mrt_qtile_epilogue(a->epi[which], &q.t);
  return q;
}

/* A's rows and where they end, if nothing may be read behind that; buffers for two halves then. */
typedef struct rows {
  const uint8_t *a, *end;
  int64_t count;
  uint8_t *halves;
  int64_t half_bytes;
} rows;

static const uint8_t *half_at(const product *q, const rows *r, const uint8_t *a, int which) {
  const int64_t left = r->end ? r->end - a : INT64_MAX;
  if (left >= half_of(q->k)) return a;
  uint8_t *to = r->halves + which * r->half_bytes;
  memcpy(to, a, (size_t)left);
  return to;
}

/* Columns [n0, n1); c and add: of column n0, c_row apart. */
static void run_product(const product *q, const rows *r, int64_t n0, int64_t n1, uint8_t *c,
                        const uint8_t *add, int64_t c_row) {
  const mrt_qgemm_kernels *k = q->kern;
  mrt_qsegment all = {0, 0, 0};
  mrt_qtile t = q->t;
  t.c_row = c_row;
  t.segments = &all;
  t.n_segments = 1;
  const int64_t tiles = ceil_div(r->count, k->max_rows);
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t r0 = k->by_sixteen ? i * k->max_rows : mrt_par_begin(r->count, tiles, i),
                  r1 = k->by_sixteen ? min_i64(r->count, r0 + k->max_rows)
                                     : mrt_par_begin(r->count, tiles, i + 1);
    all.count = (int)(r1 - r0);
    t.a = half_at(q, r, r->a + r0 * t.a_row, 0);
    t.a_hi = r1 - r0 > k->split ? half_at(q, r, r->a + (r0 + k->split) * t.a_row, 1) : t.a;
    for (int64_t n = n0; n < n1; n += k->nr) {
      t.cols = (int)min_i64(k->nr, n1 - n);
      t.b = q->b + n / PANEL * q->panel + n % PANEL * 4;
      t.col = q->tables->col + n;
      t.scale = q->tables->scale + n;
      t.bias = mrt_qtables_bias(q->tables, n);
      t.c = c + r0 * c_row + n - n0;
      t.add = add ? add + r0 * c_row + n - n0 : NULL;
      (t.cols <= 16 && k->nr > 16 ? k->narrow : k->wide)[r1 - r0](&t);
    }
  }
}

/* ---- a run ---- */
typedef struct job {
  plan p;
  const mrt_qband *b;
  const mrt_qband_args *a;
  const mrt_qgemm_kernels *kern; /* whose tiles are set up */
  product expand, project;
  mrt_qdepth_rows depth;
  mrt_qfold fold;
  uint8_t *workers, *deep; /* deep: filtered bytes of all small images */
  int64_t chunks;
} job;

typedef struct space { /* of a worker */
  uint8_t *ring, *deep, *planes, *halves, *padded;
} space;

static space space_of(const job *j, int worker) {
  space s = {.ring = j->workers + worker * j->p.worker_bytes};
  s.deep = s.ring + j->p.ring_bytes;
  s.planes = s.deep + j->p.deep_bytes;
  s.halves = s.planes + round64(j->p.planes_bytes);
  s.padded = s.halves + 2 * j->p.half_bytes;
  return s;
}

/* Rows of pixels, with zeros behind each: the last 32 of whole blocks. */
static const uint8_t *pad_rows(const rows *r, int64_t k, uint8_t *to) {
  const int64_t pitch = round64(k);
  const uint8_t *from = r->a;
  uint8_t *at = to;
  for (int64_t i = 0; i < r->count; ++i, from += k, at += pitch) {
    if (r->end - from >= pitch)
      for (int64_t q = 0; q < pitch; q += 64) memcpy(at + q, from + q, 64);
    else
      memcpy(at, from, (size_t)k);
    memset(at + pitch - 32, 0, 32);
  }
  return to;
}

/* Rows of an image that are expanded. */
static rows rows_of(const job *j, const space *s, int64_t image, int64_t r0, int64_t r1) {
  const mrt_qband_args *a = j->a;
  rows r = {.a = a->x + ((image * a->h + r0) * a->w) * j->expand.k,
            .end = a->x_end,
            .count = (r1 - r0) * a->w,
            .halves = s->halves,
            .half_bytes = j->p.half_bytes};
  if (j->p.padded_bytes) r.a = pad_rows(&r, j->expand.k, s->padded), r.end = NULL;
  return r;
}

/* Columns [n0, n1) of rows, to the ring at `to`, `pitch` from pixel to pixel. */
static void expand(const job *j, const rows *r, int64_t n0, int64_t n1, uint8_t *to,
                   int64_t pitch) {
  run_product(&j->expand, r, n0, n1, to, NULL, pitch);
}

static mrt_qplanes_image image_of(const job *j, const space *s, int64_t image) {
  const mrt_qband_args *a = j->a;
  mrt_qplanes_image x = {.h = a->h,
                         .w = a->w,
                         .pitch = j->p.wide,
                         .slice = -1,
                         .is_signed = j->b->is_signed,
                         .zero = a->zero[1]};
  x.x = a->x + image * a->h * a->w * j->p.wide;
  x.end = a->x_end;
  if (j->b->expands) x.x = s->ring, x.end = s->ring + j->p.ring_bytes;
  return x;
}

/* Input rows of output rows [y0, y1). */
static void window(const job *j, int64_t y0, int64_t y1, int64_t *r0, int64_t *r1) {
  const mrt_qconv *d = &j->b->conv[1];
  *r0 = min_i64(j->a->h, max_i64(0, y0 * d->stride_h - d->pad_top));
  *r1 = max_i64(*r0, min_i64(j->a->h, (y1 - 1) * d->stride_h - d->pad_top + d->kh));
}

/* Slices [s0, s1), one after the other, of output rows [y0, y1), to `deep`. */
static void by_slices(const job *j, const space *s, int64_t image, int64_t y0, int64_t y1,
                      int64_t s0, int64_t s1, uint8_t *deep) {
  mrt_qplanes_image x = image_of(j, s, image);
  int64_t r0, r1;
  window(j, y0, y1, &r0, &r1);
  rows r = {0};
  if (j->b->expands) r = rows_of(j, s, image, r0, r1);
  for (int64_t i = s0; i < s1; ++i) {
    if (j->b->expands) {
      expand(j, &r, i * SLICE, (i + 1) * SLICE, s->ring, SLICE);
      x.pitch = SLICE, x.first = r0, x.slice = i;
    }
    mrt_qplanes_run(&j->b->conv[1], &x, &j->depth, j->a->ow, y0, y1, i, i + 1, deep, s->planes);
  }
}

/* Rows of `deep` become output rows from y0 on. */
static void project(const job *j, int64_t image, int64_t y0, int64_t y1, const uint8_t *deep) {
  const mrt_qband_args *a = j->a;
  const rows r = {.a = deep, .count = (y1 - y0) * a->ow};
  const int64_t n = j->project.n, at = (image * a->oh + y0) * a->ow * n;
  const uint8_t *add = a->epi[2]->add;
  run_product(&j->project, &r, 0, n, a->y + at, add ? add + at : NULL, n);
}

/* A few output rows at a time, all channels. */
static void by_steps(const job *j, const space *s, int64_t image, int64_t y0, int64_t y1) {
  const plan *p = &j->p;
  mrt_qplanes_image x = image_of(j, s, image);
  int64_t have = -1;
  x.ring = j->b->expands ? p->ring : 0;
  for (int64_t y = y0, end; y < y1; y = end) {
    int64_t r0, r1;
    end = min_i64(y1, y + p->step);
    window(j, y, end, &r0, &r1);
    for (int64_t r = max_i64(have, r0), stop; j->b->expands && r < r1; r = stop) {
      stop = min_i64(r1, (r / p->ring + 1) * p->ring);
      const rows all = rows_of(j, s, image, r, stop);
      expand(j, &all, 0, p->wide, s->ring + r % p->ring * j->a->w * p->wide, p->wide);
    }
    have = r1;
    mrt_qplanes_run(&j->b->conv[1], &x, &j->depth, j->a->ow, y, end, 0, p->slices, s->deep,
                    s->planes);
    project(j, image, y, end, s->deep);
  }
}

static int32_t bound_of(float x, int32_t zero) { return (int32_t)__builtin_rintf(x) + zero; }

/* The same on qwide.h: output rows [y0, y1). */
static void by_pairs(const job *j, const space *s, int64_t image, int64_t y0, int64_t y1) {
  const mrt_qband_args *a = j->a;
  const int32_t zero = a->epi[0]->out_zero;
  float lo, hi;
  mrt_qtile_bounds(a->epi[0], &lo, &hi);
  const mrt_qwide q = {.expand = &j->b->conv[0],
                       .depth = &j->b->conv[1],
                       .wide = j->p.wide,
                       .tables = j->b->wide,
                       .x = a->x + image * a->xh * a->xw * j->b->conv[0].cin,
                       .xh = a->xh,
                       .xw = a->xw,
                       .fold = j->b->conv[0].folds ? &j->fold : NULL,
                       .x_zero = a->zero[0],
                       .h = a->h,
                       .w = a->w,
                       .ow = a->ow,
                       .shifted = {j->b->wide_shifted[0], j->b->wide_shifted[1]},
                       .zero = {zero, j->depth.zero},
                       .lo = {bound_of(lo, zero), j->depth.lo},
                       .hi = {bound_of(hi, zero), j->depth.hi},
                       .space = s->ring};
  mrt_qwide_begin(&q, y0);
  for (int64_t y = y0, end; y < y1; y = end) {
    end = min_i64(y1, y + j->p.step);
    mrt_qwide_run(&q, y, end, s->deep);
    project(j, image, y, end, s->deep);
  }
}

static void band_chunk(void *arg, int64_t index, int worker) {
  const job *j = arg;
  const space s = space_of(j, worker);
  const int64_t image = index / j->p.bands, band = index % j->p.bands,
                y0 = j->a->oh * band / j->p.bands, y1 = j->a->oh * (band + 1) / j->p.bands;
  if (j->kern->begin) j->kern->begin();
  if (j->p.by_pairs) {
    by_pairs(j, &s, image, y0, y1);
  } else if (j->p.by_slice) {
    by_slices(j, &s, image, y0, y1, 0, j->p.slices, s.deep);
    project(j, image, y0, y1, s.deep);
  } else {
    by_steps(j, &s, image, y0, y1);
  }
  if (j->kern->end) j->kern->end();
}

static void slices_chunk(void *arg, int64_t index, int worker) {
  const job *j = arg;
  const space s = space_of(j, worker);
  const int64_t per = j->p.chunks / j->a->n, image = index / per, part = index % per;
  if (j->kern->begin) j->kern->begin();
  by_slices(j, &s, image, 0, j->a->oh, j->p.slices * part / per, j->p.slices * (part + 1) / per,
            j->deep + image * j->a->oh * j->a->ow * j->p.wide);
  if (j->kern->end) j->kern->end();
}

static void columns_chunk(void *arg, int64_t index, int worker) {
  const job *j = arg;
  const int64_t n = j->project.n, panels = ceil_div(n, PANEL),
                n0 = panels * index / j->chunks * PANEL,
                n1 = min_i64(n, panels * (index + 1) / j->chunks * PANEL);
  const rows r = {.a = j->deep, .count = j->a->n * j->a->oh * j->a->ow};
  const uint8_t *add = j->a->epi[2]->add;
  (void)worker;
  if (j->kern->begin) j->kern->begin();
  run_product(&j->project, &r, n0, n1, j->a->y + n0, add ? add + n0 : NULL, n);
  if (j->kern->end) j->kern->end();
}

void mrt_qband_run(const mrt_par *par, const mrt_qband *b, const mrt_qband_args *a, void *scratch) {
  job j = {.p = make_plan(par, b, a), .b = b, .a = a, .kern = mrt_qgemm_kernels_get()};
  mrt_qblock *blocks = scratch;
  if (b->expands && !j.p.by_pairs) j.expand = product_of(b, a, 0, blocks);
  j.project = product_of(b, a, 2, blocks + blocks_of(b->conv[0].cin));
  if (b->conv[0].folds) mrt_qfold_init(&j.fold, b->conv[0].kh, b->conv[0].cin, 0);
  const mrt_qconv *d = &b->conv[1];
  mrt_qdepth_rows_of(d, a->epi[1], j.p.by_pairs ? NULL : mrt_qconv_depth_weights(d, a->packed[1]),
                     j.p.by_pairs ? NULL : mrt_qconv_depth_tables(a->prepared[1]), a->ow, &j.depth);
  j.deep = (uint8_t *)scratch + j.p.blocks_bytes;
  j.workers = mrt_worker_first(j.deep + j.p.shared_bytes);
  mrt_par_run(par, j.p.chunks, j.p.small ? slices_chunk : band_chunk, &j);
  if (!j.p.small) return;
  j.chunks = mrt_even_chunks(min_i64(ceil_div(j.project.n, PANEL), 8));
  mrt_par_run(par, j.chunks, columns_chunk, &j);
}
