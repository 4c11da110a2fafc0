/* Blocking and sharing out of the float32 product. Loops, outermost first:
 *   chunk (a range of row tiles x a range of panels, one thread at a time)
 *   k-block (kc: a panel's piece of B and a block of A fit L2 together)
 *   row block (mc rows of A, packed to [kc/16][rows][16] when that pays)
 *   panel of B (read from L2 for the first tile), column half for 16-wide kernels
 *   row tile (A from L1 / L2)
 * Everything is chosen from the shape alone. */
#include "provider/cpu/gemm/gemm.h"

#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/gemm/gemm_epilogue.h"
#include "provider/cpu/gemm/gemm_split.h"

enum {
  KC_MAX = 1152,   /* k-block when A is reused; 147 KB of a panel */
  KC_GEMV = 16384, /* and when B is only streamed */
  FEW_ROWS = 8,    /* up to here B is what takes time */
  FEW_CHUNKS = 192,
  MC_FLOATS = 96 << 10, /* row block: 384 KB of A */
  SMALL = 40000         /* m n k below which sharing or packing cannot pay */
};

const mrt_gemm_kernels *mrt_gemm_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/gemm/gemm.def"
#undef MRT_KERNEL
}

const char *mrt_gemm_isa_name(void) { return mrt_gemm_kernels_get()->name; }

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- the plan of one shape ---- */
typedef struct gemm_plan {
  const mrt_gemm_kernels *kern;
  int64_t tiles, pitch; /* row tiles of nearly equal height, the highest of them */
  int64_t panels;
  int64_t kc;               /* k-block, a multiple of 16 unless it is all of k */
  int64_t mc;               /* row tiles in a row block */
  int64_t parts_m, parts_n; /* chunks of one product */
  bool pack_a, share_a;     /* A is packed; by all threads before the product */
} gemm_plan;

/* Rows whose lines fall into few sets of L1. */
static bool aliases(int64_t ld) {
  const int64_t off = ld * 4 % 4096;
  return off < 128 || off > 4096 - 128;
}

static void plan_make(gemm_plan *p, const mrt_par *par, int64_t m, int64_t n, int64_t k,
                      int64_t batch, bool a_trans, int64_t lda) {
  p->kern = mrt_gemm_kernels_get();
  p->tiles = ceil_div(m, p->kern->max_rows);
  p->pitch = p->tiles ? ceil_div(m, p->tiles) : 0;
  p->panels = ceil_div(n, MRT_GEMM_PANEL);
  const int64_t kc_max = m <= p->kern->max_rows ? KC_GEMV : KC_MAX;
  const int64_t k_blocks = ceil_div(k, kc_max);
  p->kc = k_blocks <= 1 ? k : ceil_div(ceil_div(k, k_blocks), 16) * 16;
  const double work = (double)m * (double)n * (double)k;
  p->pack_a = a_trans || (work > SMALL && ((m > 8 && n > 64) || (m > 4 && aliases(lda))));
  p->mc = p->kc ? MC_FLOATS / (p->pitch * (p->kc + 15)) : 1;
  if (p->mc < 1) p->mc = 1;
  p->parts_m = p->parts_n = 1;
  p->share_a = false;
  if (par->threads == 1 || work * (double)batch <= SMALL || m == 0) return;
  /* Cost: 60 multiply-adds a nanosecond, but B must at least be read (20 bytes a nanosecond). */
  double cost = work / 60.0;
  const double read = (double)n * (double)k * 4.0 / 20.0;
  if (cost < read) cost = read;
  const int64_t total = mrt_par_chunks(p->tiles * p->panels * batch, cost * (double)batch);
  const int64_t each = ceil_div(total, batch);
  if (each <= 1) return;
  if (m <= FEW_ROWS && batch == 1) { /* bound by memory: both ends of the work meet to a panel */
    p->parts_n = min_i64(p->panels, FEW_CHUNKS);
    return;
  }
  if (n > m) { /* B outweighs A: every thread reads its own part of B */
    p->parts_n = min_i64(p->panels, each);
    p->parts_m = min_i64(p->tiles, ceil_div(each, p->parts_n));
  } else {
    p->parts_m = min_i64(p->tiles, each);
    p->parts_n = min_i64(p->panels, ceil_div(each, p->parts_m));
  }
  p->share_a = p->pack_a && batch == 1 && p->parts_n > 1;
}

static int64_t round16(int64_t k) { return (k + 15) & ~(int64_t)15; }

/* Floats from one worker's block to the next, or of all of A when shared. */
static int64_t pack_floats(const gemm_plan *p, int64_t k) {
  if (!p->pack_a) return 0;
  if (p->share_a) return p->tiles * p->pitch * round16(k);
  const int64_t block = min_i64(p->mc, p->tiles) * p->pitch * round16(p->kc);
  return (int64_t)(mrt_worker_pitch((size_t)block * sizeof(float)) / sizeof(float));
}

static size_t plan_scratch(const gemm_plan *p, const mrt_par *par, int64_t k) {
  const int64_t workers = p->share_a || p->parts_m * p->parts_n == 0 ? 1 : mrt_par_workers(par);
  const size_t floats = (size_t)(pack_floats(p, k) * workers);
  return floats ? floats * sizeof(float) + MRT_WORKER_PAGE : 0;
}

size_t mrt_gemm_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans) {
  gemm_plan p;
  if (m <= 0 || n <= 0 || k <= 0) return 0;
  /* The row stride is not known yet: the aliasing case packs most, a batch shares least. */
  plan_make(&p, par, m, n, k, 1, a_trans, 1024);
  const size_t one = plan_scratch(&p, par, k);
  plan_make(&p, par, m, n, k, 2, a_trans, 1024);
  p.share_a = false;
  size_t most = plan_scratch(&p, par, k);
  if (one > most) most = one;
  if (mrt_gemm_split_parts(MRT_PRECISION_MEDIUM, m, n, k)) {
    const size_t split = mrt_gemm_split_scratch(par, m, n, k, a_trans);
    if (split > most) most = split;
  }
  return most;
}

/* ---- packing ---- */
size_t mrt_gemm_packed_size(int64_t n, int64_t k) {
  return (size_t)(ceil_div(n, MRT_GEMM_PANEL) * MRT_GEMM_PANEL * k) * sizeof(float);
}

typedef struct pack_job {
  const float *b;
  int64_t ldb, k, n, chunks;
  bool trans;
  float *dst;
} pack_job;

static void pack_panel(const pack_job *j, int64_t panel) {
  const int64_t n0 = panel * MRT_GEMM_PANEL;
  const int cols = (int)min_i64(j->n - n0, MRT_GEMM_PANEL);
  float *dst = j->dst + n0 * j->k;
  if (j->trans) {
    mrt_gemm_kernels_get()->pack_b_trans(j->b + n0 * j->ldb, j->ldb, j->k, cols, dst);
    return;
  }
  const float *src = j->b + n0;
  if (cols == MRT_GEMM_PANEL) {
    for (int64_t k = 0; k < j->k; ++k, dst += 32) memcpy(dst, src + k * j->ldb, 128);
    return;
  }
  for (int64_t k = 0; k < j->k; ++k, dst += 32) {
    memcpy(dst, src + k * j->ldb, (size_t)cols * 4);
    memset(dst + cols, 0, (size_t)(32 - cols) * 4);
  }
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const int64_t panels = ceil_div(j->n, MRT_GEMM_PANEL);
  const int64_t end = mrt_par_begin(panels, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(panels, j->chunks, chunk); i < end; ++i) pack_panel(j, i);
}

void mrt_gemm_pack_b(const mrt_par *par, const float *b, int64_t ldb, bool trans, int64_t k,
                     int64_t n, float *dst) {
  if (n <= 0 || k <= 0) return;
  pack_job j = {b, ldb, k, n, 1, trans, dst};
  j.chunks = mrt_par_chunks(ceil_div(n, MRT_GEMM_PANEL), (double)n * (double)k * 0.5);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
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
  float *scratch;
  int64_t worker_floats;
  int64_t pack_chunks;
} gemm_job;

static inline int64_t tile_begin(const gemm_job *j, int64_t tile) {
  return mrt_par_begin(j->g.m, j->p.tiles, tile);
}

/* Packs rows of tiles [t0, t1), k in [k0, k0 + kn), to dst: tile i at dst + i * tile_floats. */
static void pack_a(const gemm_job *j, const float *a, int64_t t0, int64_t t1, int64_t k0,
                   int64_t kn, int64_t tile_floats, float *dst) {
  const int64_t pitch = j->p.pitch, lda = j->g.lda;
  for (int64_t t = t0; t < t1; ++t, dst += tile_floats) {
    const int64_t r0 = tile_begin(j, t), rows = tile_begin(j, t + 1) - r0;
    if (j->g.a_trans) {
      j->p.kern->pack_a_trans(a + k0 * lda + r0, lda, kn, (int)rows, (int)pitch, dst);
      continue;
    }
    j->p.kern->pack_a(a + r0 * lda + k0, lda, kn, (int)rows, (int)pitch, dst);
  }
}

static void pack_a_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const gemm_job *j = arg;
  const int64_t t0 = mrt_par_begin(j->p.tiles, j->pack_chunks, chunk);
  const int64_t t1 = mrt_par_begin(j->p.tiles, j->pack_chunks, chunk + 1);
  const int64_t tile_floats = j->p.pitch * round16(j->g.k);
  pack_a(j, j->g.a, t0, t1, 0, j->g.k, tile_floats, j->scratch + t0 * tile_floats);
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

typedef struct gemm_block { /* one row block x k-block of one product */
  const float *a;           /* first row tile; packed or in place */
  int64_t b, c;             /* where the product begins in the sides' B and C */
  const float *residual;
  int64_t t0, t1, p0, p1, k0, kn, tile_floats;
  bool last;
} gemm_block;

/* What the epilogue does after this block of k. When C is its own residual and there are several
 * blocks, the first one adds it, before it is overwritten. */
static const float *block_epilogue(const gemm_job *j, const gemm_block *k, mrt_tile *t) {
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

/* All row tiles of one block x the columns from n on of a right side. */
static void run_columns(const gemm_job *j, const gemm_block *k, const mrt_gemm_side *s, int64_t n,
                        const float *residual, mrt_tile *t) {
  const mrt_gemm_kernels *kern = j->p.kern;
  t->cols = (int)min_i64(kern->nr, s->n - n);
  const mrt_tile_fn *fns = t->cols <= 16 && kern->nr > 16 ? kern->narrow : kern->wide;
  t->b = s->b + k->b + n / 32 * 32 * j->g.k + k->k0 * 32 + n % 32;
  t->bias = k->last && s->bias ? s->bias + n : NULL;
  t->c_row = s->ldc;
  for (int64_t i = k->t0; i < k->t1; ++i) {
    const int64_t r0 = tile_begin(j, i), rows = tile_begin(j, i + 1) - r0;
    t->a = j->p.pack_a ? k->a + (i - k->t0) * k->tile_floats : k->a + r0 * j->g.lda + k->k0;
    t->a_hi = t->a + kern->split * t->a_row;
    t->c = s->c + k->c + r0 * s->ldc + n;
    t->row_bias = k->last && j->epi.row_bias ? j->epi.row_bias + r0 : NULL;
    t->residual = residual ? residual + r0 * t->r_row + n : NULL;
    fns[rows](t);
    if (j->act && k->last) mrt_gemm_activate(j->act, &j->epi.act, t, rows);
  }
}

/* All panels and row tiles of one block. */
static void run_block(const gemm_job *j, const gemm_block *k, mrt_tile *t) {
  const float *residual = block_epilogue(j, k, t);
  for (int64_t p = k->p0; p < k->p1; ++p) {
    int64_t own = p;
    const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &own);
    const int64_t n0 = own * MRT_GEMM_PANEL, n1 = min_i64(n0 + MRT_GEMM_PANEL, s->n);
    for (int64_t n = n0; n < n1; n += j->p.kern->nr) run_columns(j, k, s, n, residual, t);
  }
}

/* Row tiles [t0, t1) x panels [p0, p1) of product `item`. */
static void run_range(const gemm_job *j, int64_t item, int64_t t0, int64_t t1, int64_t p0,
                      int64_t p1, int worker) {
  const gemm_plan *p = &j->p;
  const mrt_gemm *g = &j->g;
  mrt_kblock blocks[KC_GEMV / 16 + 1];
  mrt_tile t = {.a_row = p->pack_a ? 16 : g->lda,
                .blocks = blocks,
                .c_col16 = 16,
                .r_row = j->epi.residual_ld,
                .r_col16 = 16,
                .alpha = j->tile.alpha,
                .beta = j->tile.beta,
                .lo = j->tile.lo,
                .hi = j->tile.hi};
  const float *a = g->a + item * j->batch.a;
  gemm_block k = {.b = item * j->batch.b, .c = item * j->batch.c, .p0 = p0, .p1 = p1};
  if (j->epi.residual) k.residual = j->epi.residual + item * j->batch.residual;
  int64_t k0 = 0;
  do {
    k.k0 = k0;
    k.kn = min_i64(p->kc, g->k - k0);
    k.last = k0 + k.kn >= g->k;
    t.n_blocks = fill_blocks(p, k.kn, blocks);
    const int64_t step = p->pack_a && !p->share_a ? p->mc : t1 - t0;
    for (int64_t i = t0; i < t1; i += p->share_a ? p->mc : step) {
      if (mrt_par_stop()) return;
      k.t0 = i;
      k.t1 = min_i64(t1, i + (p->share_a ? p->mc : step));
      if (p->share_a) {
        k.tile_floats = p->pitch * round16(g->k);
        k.a = j->scratch + i * k.tile_floats + k0 * p->pitch;
      } else if (p->pack_a) {
        float *dst = j->scratch + worker * j->worker_floats;
        k.tile_floats = p->pitch * round16(k.kn);
        pack_a(j, a, i, k.t1, k0, k.kn, k.tile_floats, dst);
        k.a = dst;
      } else {
        k.a = a;
      }
      run_block(j, &k, &t);
    }
    k0 += k.kn;
  } while (k0 < g->k);
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  const gemm_job *j = arg;
  const gemm_plan *p = &j->p;
  const int64_t each = p->parts_m * p->parts_n;
  const int64_t item = chunk / each, part = chunk % each;
  const int64_t pm = part % p->parts_m, pn = part / p->parts_m;
  run_range(j, item, mrt_par_begin(p->tiles, p->parts_m, pm),
            mrt_par_begin(p->tiles, p->parts_m, pm + 1), mrt_par_begin(p->panels, p->parts_n, pn),
            mrt_par_begin(p->panels, p->parts_n, pn + 1), worker);
}

typedef struct batch_job {
  const gemm_job *job;
  int64_t chunks;
} batch_job;

/* Whole products, several per chunk. */
static void batch_chunk(void *arg, int64_t chunk, int worker) {
  const batch_job *b = arg;
  const gemm_plan *p = &b->job->p;
  const int64_t end = mrt_par_begin(b->job->batch.batch, b->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(b->job->batch.batch, b->chunks, chunk); i < end; ++i)
    run_range(b->job, i, 0, p->tiles, 0, p->panels, worker);
}

void mrt_gemm_run_batch(const mrt_par *par, const mrt_gemm *g, const mrt_gemm_batch *batch,
                        void *scratch) {
  if (g->m <= 0 || g->n <= 0 || batch->batch <= 0) return;
  const int parts = mrt_gemm_split_parts(g->precision, g->m, g->n, g->k);
  if (parts) {
    mrt_gemm_split_run(mrt_split_kernels_get(), parts, par, g, batch, scratch);
    return;
  }
  gemm_job j = {.g = *g, .batch = *batch, .scratch = scratch};
  plan_make(&j.p, par, g->m, g->n, g->k, batch->batch, g->a_trans, g->lda);
  if (g->k <= 0) j.p.pack_a = j.p.share_a = false;
  j.epi = g->epi ? *g->epi : MRT_GEMM_EPILOGUE_NONE;
  j.only = mrt_gemm_side_of(g);
  if (!g->sides) j.g.sides = &j.only;
  j.act = mrt_gemm_epilogue_tile(&j.epi, &j.tile);
  const int64_t each = j.p.parts_m * j.p.parts_n;
  if (j.p.share_a) {
    j.pack_chunks = mrt_par_chunks(j.p.tiles, (double)g->m * (double)g->k * 0.15);
    mrt_par_run(par, j.pack_chunks, pack_a_chunk, &j);
  } else {
    j.worker_floats = pack_floats(&j.p, g->k);
    if (j.worker_floats) j.scratch = mrt_worker_first(j.scratch);
  }
  if (each > 1) {
    mrt_par_run(par, each * batch->batch, run_chunk, &j);
    return;
  }
  if (batch->batch == 1) {
    run_range(&j, 0, 0, j.p.tiles, 0, j.p.panels, 0);
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
