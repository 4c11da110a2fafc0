/* Blocking and sharing out of the float32 product. Loops, outermost first:
 *   row part (so many row tiles that a k-block of them fits L2; packed by each worker for itself,
 *             kept while it stays with the part)
 *   cell (a few panels x all or some tiles of a row part: what threads share out)
 *   k-block (kc: a panel's piece of B and the part's piece of A fit L2 together)
 *   panel of B (read from L2 for the first tile), column half for 16-wide kernels
 *   row tile (A from L1 / L2)
 * A tile is packed to [kc/16][rows][16] before its first product. Everything is chosen from the
 * shape alone. */
#include "provider/cpu/gemm/gemm.h"

#include <string.h>

#include "provider/cpu/gemm/gemm_epilogue.h"
#include "provider/cpu/gemm/gemm_split.h"

enum {
  KC_MAX = 1152,   /* k-block when A is reused; 147 KB of a panel */
  KC_GEMV = 16384, /* and when B is only streamed */
  FEW_ROWS = 8,    /* up to here B is what takes time */
  FEW_CHUNKS = 192,
  MC_FLOATS = 96 << 10,    /* row part, one k-block: 384 KB of A */
  KEPT_FLOATS = 240 << 10, /* a row part with all its k-blocks, in L2 beside B */
  SMALL = 40000,           /* m n k below which sharing or packing cannot pay */
  CELLS = 32,              /* to share out, at least, if each is worth: */
  CELL_NS = 4000
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- the plan of one shape ---- */
typedef struct gemm_plan {
  const mrt_gemm_kernels *kern;
  int64_t tiles, pitch; /* row tiles of nearly equal height, the highest of them */
  int64_t panels;
  int64_t kc, blocks;       /* k-block, a multiple of 16 unless it is all of k; how many */
  int64_t parts, part;      /* row parts; tiles of the largest */
  int64_t parts_n, parts_t; /* cells of a row part: panels and tiles are cut into */
  int64_t cells;            /* of one product */
  bool pack_a, ahead;       /* the next panel is fetched while one is multiplied */
} gemm_plan;

/* Rows whose lines fall into few sets of L1. */
static bool aliases(int64_t ld) {
  const int64_t off = ld * 4 % 4096;
  return off < 128 || off > 4096 - 128;
}

/* How a row part is cut into cells. */
static void plan_cells(gemm_plan *p, int64_t m, int64_t n, int64_t k, int64_t batch) {
  p->parts_n = p->parts_t = 1;
  if (m <= FEW_ROWS && batch == 1) { /* bound by memory: both ends of the work meet to a panel */
    p->parts_n = min_i64(p->panels, FEW_CHUNKS);
    return;
  }
  /* Cost: 60 multiply-adds a nanosecond, but B must at least be read (20 bytes a nanosecond). */
  double cost = (double)m * (double)n * (double)k / 60.0;
  const double read = (double)n * (double)k * 4.0 / 20.0;
  if (cost < read) cost = read;
  const double most = cost / CELL_NS; /* cells worth their while, of one product */
  if (most * (double)batch < 2) return;
  /* Long sums: a few panels together, so that A's piece of a k-block is read more than once. */
  const int64_t range = p->part * p->pitch * k > KEPT_FLOATS ? 4 : 1;
  const int64_t fit = most < 1 ? 1 : most > 1e6 ? 1000000 : (int64_t)most;
  p->parts_n = max_i64(1, min_i64(ceil_div(p->panels, range), fit / p->parts));
  const int64_t have = p->parts * p->parts_n * batch;
  if (have < CELLS)
    p->parts_t =
        max_i64(1, min_i64(p->part, min_i64(ceil_div(CELLS, have), fit / (p->parts * p->parts_n))));
}

static void plan_make(gemm_plan *p, int64_t m, int64_t n, int64_t k, int64_t batch, bool a_trans,
                      int64_t lda) {
  p->kern = mrt_gemm_kernels_get();
  p->tiles = ceil_div(m, p->kern->max_rows);
  p->pitch = p->tiles ? ceil_div(m, p->tiles) : 0;
  p->panels = ceil_div(n, MRT_GEMM_PANEL);
  const int64_t kc_max = m <= p->kern->max_rows ? KC_GEMV : KC_MAX;
  p->blocks = max_i64(1, ceil_div(k, kc_max));
  p->kc = p->blocks <= 1 ? k : ceil_div(ceil_div(k, p->blocks), 16) * 16;
  const double work = (double)m * (double)n * (double)k;
  p->pack_a =
      k > 0 && (a_trans || (work > SMALL && ((m > 8 && n > 64) || (m > 4 && aliases(lda)))));
  const int64_t fit = p->pack_a ? max_i64(1, MC_FLOATS / (p->pitch * (p->kc + 15))) : p->tiles;
  p->parts = max_i64(1, ceil_div(p->tiles, max_i64(1, fit)));
  p->part = ceil_div(p->tiles, p->parts);
  p->ahead = work > SMALL;
  if (work * (double)batch <= SMALL)
    p->parts_n = p->parts_t = 1;
  else
    plan_cells(p, m, n, k, batch);
  p->cells = p->parts * p->parts_n * p->parts_t;
}

static int64_t round16(int64_t k) { return (k + 15) & ~(int64_t)15; }

/* A worker's memory: what it holds of A, then for each tile of the part how many k-blocks of it,
 * then the tiles, [blocks][part][tile_floats]. */
typedef struct packed_a {
  int64_t item, part; /* -1: nothing yet */
} packed_a;
static size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }
static size_t done_bytes(const gemm_plan *p) { return align64((size_t)p->part * sizeof(int64_t)); }
static int64_t tile_floats(const gemm_plan *p) { return p->pitch * round16(p->kc); }
static size_t worker_pitch(const gemm_plan *p) {
  const int64_t floats = p->blocks * p->part * tile_floats(p);
  return mrt_worker_pitch(align64(sizeof(packed_a)) + done_bytes(p) +
                          (size_t)floats * sizeof(float));
}

static size_t scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans,
                           bool lean) {
  gemm_plan p;
  if (m <= 0 || n <= 0 || k <= 0) return 0;
  /* The row stride is not known yet: the aliasing case packs most. */
  plan_make(&p, m, n, k, 1, a_trans, 1024);
  size_t most = p.pack_a ? (size_t)mrt_par_workers(par) * worker_pitch(&p) + MRT_WORKER_PAGE : 0;
  if (mrt_gemm_split_parts(MRT_PRECISION_MEDIUM, m, n, k)) {
    const size_t split = mrt_gemm_split_scratch(par, m, n, k, a_trans, lean);
    if (split > most) most = split;
  }
  return most;
}

size_t mrt_gemm_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans) {
  return scratch_size(par, m, n, k, a_trans, false);
}
size_t mrt_gemm_lean_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k) {
  return scratch_size(par, m, n, k, false, true);
}

/* ---- the product ---- */
int64_t mrt_gemm_sides_columns(const mrt_gemm_side *sides, int n_sides) {
  int64_t n = 0;
  for (int i = 0; i < n_sides; ++i) n += ceil_div(sides[i].n, MRT_GEMM_PANEL) * MRT_GEMM_PANEL;
  return n;
}

typedef struct gemm_job {
  gemm_plan p;
  mrt_gemm g; /* with sides */
  mrt_gemm_side only;
  mrt_gemm_batch batch;
  mrt_gemm_epilogue epi;
  mrt_ew_fn act; /* NULL when none or done in registers */
  mrt_tile tile; /* constants of the epilogue */
  char *scratch;
} gemm_job;

static packed_a *worker_a(const gemm_job *j, int worker) {
  return (packed_a *)(j->scratch + (size_t)worker * worker_pitch(&j->p));
}

static inline int64_t tile_begin(const gemm_job *j, int64_t tile) {
  return mrt_par_begin(j->g.m, j->p.tiles, tile);
}

/* The table of k-blocks: one long block for rows in place, 16 at a time for packed rows. */
static int64_t fill_blocks(const gemm_plan *p, int64_t kn, mrt_kblock *blocks) {
  if (!p->pack_a) {
    blocks[0] = (mrt_kblock){0, (int32_t)kn};
    return kn > 0;
  }
  int64_t n = 0;
  for (int64_t k = 0; k < kn; k += 16, ++n)
    blocks[n] = (mrt_kblock){(int32_t)(n * p->pitch * 16), (int32_t)min_i64(kn - k, 16)};
  return n;
}

typedef struct gemm_cell { /* one cell of one product, at one k-block */
  const float *a;          /* first row of the product, first k of all */
  int64_t b, c;            /* where the product begins in the sides' B and C */
  const float *residual;
  int64_t t0, t1, p0, p1, kb, k0, kn;
  bool last;
  /* Packed A: tile `first` is the first of the part. */
  int64_t first;
  int64_t *done;
  float *packed;
} gemm_cell;

/* What the epilogue does after this block of k. When C is its own residual and there are several
 * blocks, the first one adds it, before it is overwritten. */
static const float *block_epilogue(const gemm_job *j, const gemm_cell *k, mrt_tile *t) {
  const bool first = k->k0 == 0;
  t->flags = first ? 0 : MRT_TILE_LOAD;
  t->alpha = j->tile.alpha;
  t->beta = j->tile.beta;
  if (k->last) t->flags |= j->tile.flags | MRT_TILE_FINAL;
  if (!k->residual || k->residual != j->g.sides->c + k->c || (first && k->last)) return k->residual;
  if (!first) return NULL;
  t->flags = MRT_TILE_FINAL;
  t->beta /= t->alpha;
  t->alpha = 1;
  return k->residual;
}

/* Packed rows of tile i. */
static const float *want_a(const gemm_job *j, const gemm_cell *k, int64_t i, int64_t rows) {
  const mrt_gemm_kernels *kern = j->p.kern;
  const mrt_gemm *g = &j->g;
  float *at = k->packed + (k->kb * j->p.part + i - k->first) * tile_floats(&j->p);
  if (k->done[i - k->first] > k->kb) return at;
  const int64_t r0 = tile_begin(j, i);
  if (g->a_trans)
    kern->pack_a_trans(k->a + k->k0 * g->lda + r0, g->lda, k->kn, (int)rows, (int)j->p.pitch, at);
  else
    kern->pack_a(k->a + r0 * g->lda + k->k0, g->lda, k->kn, (int)rows, (int)j->p.pitch, at);
  k->done[i - k->first] = k->kb + 1;
  return at;
}

/* What this worker reads after panel p: the next one of the cell, or of its next k-block, or of the
 * cell that follows. */
static const float *next_panel(const gemm_job *j, const gemm_cell *k, int64_t p) {
  int64_t k0 = k->k0;
  if (++p >= k->p1) {
    k0 = k->last ? 0 : k0 + k->kn;
    if (!k->last) p = k->p0;
  }
  if (p >= j->p.panels) return NULL;
  const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &p);
  return s->b + k->b + (p * j->g.k + k0) * MRT_GEMM_PANEL;
}

/* Brought into L2 by the tiles of the panel before, each its share. */
static void fetch_share(const gemm_cell *k, int64_t i, const float *next, mrt_tile *t) {
  t->ahead = NULL;
  if (!next) return;
  const int64_t lines = ceil_div(8, k->t1 - k->t0); /* a panel's in 4 k: 8 */
  const int64_t at = (i - k->t0) * ((k->kn + 3) / 4) * lines * 16;
  t->ahead_lines = (int)lines;
  if (at < k->kn * MRT_GEMM_PANEL) t->ahead = next + at;
}

/* All row tiles of one cell and k-block x the columns from n on of a right side. */
static void run_columns(const gemm_job *j, const gemm_cell *k, const mrt_gemm_side *s, int64_t n,
                        const float *residual, const float *next, mrt_tile *t) {
  const mrt_gemm_kernels *kern = j->p.kern;
  t->cols = (int)min_i64(kern->nr, s->n - n);
  const mrt_tile_fn *fns = t->cols <= 16 && kern->nr > 16 ? kern->narrow : kern->wide;
  t->b = s->b + k->b + n / 32 * 32 * j->g.k + k->k0 * 32 + n % 32;
  t->bias = k->last && s->bias ? s->bias + n : NULL;
  t->c_row = s->ldc;
  int64_t r1 = tile_begin(j, k->t0);
  for (int64_t i = k->t0; i < k->t1; ++i) {
    const int64_t r0 = r1, rows = (r1 = tile_begin(j, i + 1)) - r0;
    fetch_share(k, i, next, t);
    t->a = j->p.pack_a ? want_a(j, k, i, rows) : k->a + r0 * j->g.lda + k->k0;
    t->a_hi = t->a + kern->split * t->a_row;
    t->c = s->c + k->c + r0 * s->ldc + n;
    t->row_bias = k->last && j->epi.row_bias ? j->epi.row_bias + r0 : NULL;
    t->residual = residual ? residual + r0 * t->r_row + n : NULL;
    fns[rows](t);
    if (j->act && k->last) mrt_gemm_activate(j->act, &j->epi.act, t, rows);
  }
}

/* All panels and row tiles of one cell and k-block. */
static void run_block(const gemm_job *j, const gemm_cell *k, mrt_tile *t) {
  const float *residual = block_epilogue(j, k, t);
  for (int64_t p = k->p0; p < k->p1; ++p) {
    const float *next = j->p.ahead ? next_panel(j, k, p) : NULL;
    int64_t own = p;
    const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &own);
    const int64_t n0 = own * MRT_GEMM_PANEL, n1 = min_i64(n0 + MRT_GEMM_PANEL, s->n);
    for (int64_t n = n0; n < n1; n += j->p.kern->nr) run_columns(j, k, s, n, residual, next, t);
  }
}

static void hold_part(const gemm_job *j, gemm_cell *k, int64_t item, int64_t part, int worker) {
  packed_a *w = worker_a(j, worker);
  k->first = mrt_par_begin(j->p.tiles, j->p.parts, part);
  k->done = (int64_t *)((char *)w + align64(sizeof *w));
  k->packed = (float *)((char *)k->done + done_bytes(&j->p));
  if (w->item == item && w->part == part) return;
  w->item = item;
  w->part = part;
  memset(k->done, 0, (size_t)j->p.part * sizeof *k->done);
}

/* The tiles and panels of cell `cell`; its row part. */
static int64_t cut_cell(const gemm_plan *p, int64_t cell, gemm_cell *k) {
  const int64_t part = cell / (p->parts_n * p->parts_t), in = cell % (p->parts_n * p->parts_t);
  const int64_t pn = in / p->parts_t, pt = in % p->parts_t;
  const int64_t first = mrt_par_begin(p->tiles, p->parts, part),
                tiles = mrt_par_begin(p->tiles, p->parts, part + 1) - first;
  k->t0 = first + mrt_par_begin(tiles, p->parts_t, pt);
  k->t1 = first + mrt_par_begin(tiles, p->parts_t, pt + 1);
  k->p0 = mrt_par_begin(p->panels, p->parts_n, pn);
  k->p1 = mrt_par_begin(p->panels, p->parts_n, pn + 1);
  return part;
}

/* Cell `cell` of product `item`. */
static void run_cell(const gemm_job *j, int64_t item, int64_t cell, int worker) {
  const gemm_plan *p = &j->p;
  const mrt_gemm *g = &j->g;
  gemm_cell k = {.a = g->a + item * j->batch.a,
                 .b = item * j->batch.b,
                 .c = item * j->batch.c,
                 .t1 = p->tiles,
                 .p1 = p->panels};
  const int64_t part = p->cells > 1 ? cut_cell(p, cell, &k) : 0;
  if (j->epi.residual) k.residual = j->epi.residual + item * j->batch.residual;
  if (p->pack_a) hold_part(j, &k, item, part, worker);
  mrt_kblock blocks[KC_GEMV / 16 + 1];
  mrt_tile t = {.a_row = p->pack_a ? 16 : g->lda,
                .blocks = blocks,
                .c_col16 = 16,
                .r_row = j->epi.residual_ld,
                .r_col16 = 16,
                .lo = j->tile.lo,
                .hi = j->tile.hi};
  for (; k.kb < p->blocks && !mrt_par_stop(); ++k.kb, k.k0 += k.kn) {
    k.kn = min_i64(p->kc, g->k - k.k0);
    k.last = k.k0 + k.kn >= g->k;
    t.n_blocks = fill_blocks(p, k.kn, blocks);
    run_block(j, &k, &t);
  }
}

static void cell_chunk(void *arg, int64_t chunk, int worker) {
  const gemm_job *j = arg;
  run_cell(j, chunk / j->p.cells, chunk % j->p.cells, worker);
}

typedef struct batch_job {
  const gemm_job *job;
  int64_t chunks;
} batch_job;

/* Whole products, several per chunk. */
static void batch_chunk(void *arg, int64_t chunk, int worker) {
  const batch_job *b = arg;
  const int64_t cells = b->job->p.cells;
  const int64_t end = mrt_par_begin(b->job->batch.batch, b->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(b->job->batch.batch, b->chunks, chunk); i < end; ++i)
    for (int64_t c = 0; c < cells; ++c) run_cell(b->job, i, c, worker);
}

void mrt_gemm_run_batch(const mrt_par *par, const mrt_gemm *g, const mrt_gemm_batch *batch,
                        void *scratch) {
  if (g->m <= 0 || g->n <= 0 || batch->batch <= 0) return;
  const int parts = mrt_gemm_split_parts(g->precision, g->m, g->n, g->k);
  if (parts) {
    mrt_gemm_split_run(mrt_split_kernels_get(), parts, par, g, batch, scratch);
    return;
  }
  gemm_job j = {.g = *g, .batch = *batch};
  plan_make(&j.p, g->m, g->n, g->k, batch->batch, g->a_trans, g->lda);
  j.epi = g->epi ? *g->epi : MRT_GEMM_EPILOGUE_NONE;
  j.only = mrt_gemm_side_of(g);
  if (!g->sides) j.g.sides = &j.only;
  j.act = mrt_gemm_epilogue_tile(&j.epi, &j.tile);
  if (j.p.pack_a) {
    j.scratch = mrt_worker_first(scratch);
    for (int i = 0; i < mrt_par_workers(par); ++i) *worker_a(&j, i) = (packed_a){-1, -1};
  }
  if (batch->batch == 1 && j.p.cells == 1) {
    run_cell(&j, 0, 0, 0);
    return;
  }
  if (batch->batch < CELLS && j.p.cells > 1) {
    mrt_par_run(par, j.p.cells * batch->batch, cell_chunk, &j);
    return;
  }
  batch_job b = {&j, 1};
  const double cost = (double)g->m * (double)g->n * (double)g->k / 60.0 + 30.0;
  b.chunks = mrt_par_chunks(batch->batch, cost * (double)batch->batch);
  mrt_par_run(par, b.chunks, batch_chunk, &b);
}

void mrt_gemm_run(const mrt_par *par, const mrt_gemm *g, void *scratch) {
  const mrt_gemm_batch one = {.batch = 1};
  mrt_gemm_run_batch(par, g, &one, scratch);
}
