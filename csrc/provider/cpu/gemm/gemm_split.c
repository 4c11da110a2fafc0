/* Driver of the split products. Loops, outermost first:
 *   super-block of strips of A: its parts fit L2 (split once, reused by every panel)
 *   panel of B
 *   slice of k: its parts of the panel are split into L1
 *   strip: slice x strip on the tiles, sums in a 4 KB block per strip
 * and when the last slice is done, check and epilogue per strip. Two ways to share out: many rows:
 * each thread takes whole super-blocks; else all threads split one super-block, then take panels.
 */
#include "provider/cpu/gemm/gemm_split.h"

#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/gemm/gemm_epilogue.h"

enum {
  A_SHARED = 768 << 10, /* bytes of split A when threads share it */
  A_OWN = 512 << 10,    /* and when each has its own */
  MAX_STRIPS = 32,      /* in a super-block: 128 KB of sums */
  ROWS_STRIPS = 64,     /* from here on threads take rows */
  LONG = 10             /* times the usual work in a chunk */
};

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

const mrt_split_kernels *mrt_split_kernels_get(void) {
#ifdef MRT_HAVE_AMX
  if (mrt_cpu_get()->isa & MRT_ISA_AMX) return &mrt_gemm_split_amx;
#endif
  return NULL;
}

/* ---- which way ---------------------------------------------------------------------------------
 */
/* Nanoseconds on one core, from measurements (Sapphire Rapids); only ratios matter. Per group of k:
 * products of a 32 x 32 block, splitting of a panel (once per super-block) and of a strip. */
static double cost_split(int parts, int64_t m, int64_t n, int64_t k) {
  static const double product[] = {0, 40, 85, 158}, split_b[] = {0, 140, 180, 230},
                      split_a[] = {0, 110, 170, 220};
  const double groups = (double)ceil_div(k, 32), strips = (double)ceil_div(m, 16) / 2,
               panels = (double)ceil_div(n, 16) / 2, bytes = 2048.0 * groups * strips * parts,
               supers = bytes > A_SHARED ? bytes / A_SHARED : 1;
  return 300.0 + 300.0 * strips * panels +
         groups * (strips * panels * product[parts] + panels * supers * split_b[parts] +
                   strips * split_a[parts]);
}
static double cost_fma(int64_t m, int64_t n, int64_t k) {
  const double panels = (double)ceil_div(n, 32) * 32;
  return 20.0 + panels * (double)k * ((double)m < 4 ? 4.0 : (double)m) / 95.0;
}

int mrt_gemm_split_parts(mrt_precision precision, int64_t m, int64_t n, int64_t k) {
  static const int first[] = {3, 2, 1};
  if (m < 8 || n < 16 || k < 32 || !mrt_split_kernels_get()) return 0;
  int best = 0;
  double cost = cost_fma(m, n, k);
  for (int parts = first[precision]; parts <= 3; ++parts) {
    const double c = cost_split(parts, m, n, k);
    if (c < cost) {
      cost = c;
      best = parts;
    }
  }
  return best;
}

/* ---- the plan ----------------------------------------------------------------------------------
 */
typedef struct layout {
  int64_t groups, strips, panels;
  int64_t super, slice;     /* strips in a super-block; groups in a slice of k */
  size_t a, b, acc, gather; /* bytes: split A; a split slice of B; sums; transposed rows */
  size_t worker;            /* b + acc + gather (+ a of its own) */
} layout;

static size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }

static void layout_make(layout *l, int parts, bool shared, int64_t m, int64_t n, int64_t k,
                        bool a_trans) {
  l->groups = ceil_div(k, MRT_SPLIT_GROUP);
  l->strips = ceil_div(m, MRT_STRIP);
  l->panels = ceil_div(n, MRT_GEMM_PANEL);
  const int64_t strip_bytes = l->groups * parts * 2 * MRT_SPLIT_GROUP_PART;
  int64_t fit = (shared ? A_SHARED : A_OWN) / max_i64(1, strip_bytes);
  fit = min_i64(max_i64(fit, 1), MAX_STRIPS);
  if (!shared && l->strips >= ROWS_STRIPS) fit = min_i64(fit, ceil_div(l->strips, 8));
  l->super = ceil_div(l->strips, ceil_div(l->strips, fit));
  l->a = (size_t)(l->super * strip_bytes);
  /* One part: its slice stays in L1. More: enough products per byte that L2 will do. */
  l->slice = ceil_div(l->groups, max_i64(1, ceil_div(l->groups, parts == 1 ? 8 : 32)));
  l->b = (size_t)(l->slice * parts * 2 * MRT_SPLIT_GROUP_PART);
  l->acc = (size_t)l->super * MRT_STRIP * MRT_STRIP * sizeof(float);
  l->gather = a_trans ? align64((size_t)(l->groups * 32 * MRT_STRIP) * sizeof(float)) : 0;
  l->worker = l->b + l->acc + l->gather + (shared ? 0 : l->a);
}

size_t mrt_gemm_split_scratch(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans) {
  size_t most = 0;
  for (int parts = 1; parts <= 3; ++parts)
    for (int shared = 0; shared < 2; ++shared) {
      layout l;
      layout_make(&l, parts, shared != 0, m, n, k, a_trans);
      const size_t bytes = (size_t)mrt_par_workers(par) * l.worker + (shared ? l.a : 0);
      if (bytes > most) most = bytes;
    }
  return most;
}

/* ---- the product -------------------------------------------------------------------------------
 */
typedef struct split_job {
  const mrt_split_kernels *kern;
  const mrt_gemm_kernels *fma;
  mrt_gemm g;
  mrt_gemm_batch batch;
  mrt_gemm_epilogue epi;
  mrt_tile tile; /* the epilogue's constants */
  mrt_ew_fn act;
  int parts;
  layout l;
  bool shared;
  char *scratch;
  int64_t item, super0, super1; /* shared: what is being worked on, strips */
  int64_t chunks, parts_m, parts_n;
} split_job;

static char *worker_scratch(const split_job *j, int worker) {
  return j->scratch + (j->shared ? j->l.a : 0) + (size_t)worker * j->l.worker;
}
static uint16_t *own_a(const split_job *j, int worker) {
  return (uint16_t *)(worker_scratch(j, worker) + j->l.b + j->l.acc + j->l.gather);
}

static int64_t strip_rows(const split_job *j, int64_t strip) {
  return min_i64(MRT_STRIP, j->g.m - strip * MRT_STRIP);
}

/* Splits one strip of A to dst. */
static void split_strip(const split_job *j, int64_t item, int64_t strip, int worker,
                        uint16_t *dst) {
  const mrt_gemm *g = &j->g;
  const float *a = g->a + item * j->batch.a;
  const int64_t r0 = strip * MRT_STRIP, rows = strip_rows(j, strip);
  const mrt_kblock whole = {0, (int32_t)g->k};
  mrt_split_rows src = {.rows = (int)rows, .blocks = &whole, .n_blocks = 1};
  if (!g->a_trans) {
    for (int64_t r = 0; r < rows; ++r) src.row[r] = a + (r0 + r) * g->lda;
    j->kern->split_a(&src, j->parts, dst);
    return;
  }
  /* Transposed in pieces of k that stay in L1: [k/16][32][16]. */
  float *tmp = (float *)(worker_scratch(j, worker) + j->l.b + j->l.acc);
  for (int64_t r = 0; r < rows; ++r) src.row[r] = tmp + r * 16;
  for (int64_t k0 = 0; k0 < g->k; k0 += 128) {
    const int64_t kn = min_i64(128, g->k - k0);
    mrt_kblock blocks[8];
    src.blocks = blocks;
    src.n_blocks = 0;
    for (int64_t k = 0; k < kn; k += 16)
      blocks[src.n_blocks++] = (mrt_kblock){(int32_t)(k * MRT_STRIP), (int32_t)min_i64(16, kn - k)};
    for (int64_t r = 0; r < rows; r += j->fma->max_rows)
      j->fma->pack_a_trans(a + k0 * g->lda + r0 + r, g->lda, kn,
                           (int)min_i64(j->fma->max_rows, rows - r), MRT_STRIP, tmp + r * 16);
    j->kern->split_a(&src, j->parts, dst + k0 / 32 * j->parts * MRT_SPLIT_GROUP_PART);
  }
}

/* The block in float32 arithmetic, row by row: for what tiles cannot do. */
static void recompute(const split_job *j, int64_t item, int64_t strip, int64_t panel, int cols,
                      int worker, float *acc) {
  const mrt_gemm *g = &j->g;
  const float *a = g->a + item * j->batch.a;
  float *tmp = (float *)(worker_scratch(j, worker) + j->l.b + j->l.acc);
  const mrt_kblock whole = {0, (int32_t)g->k};
  const float *b = g->b + item * j->batch.b + panel * MRT_GEMM_PANEL * g->k;
  mrt_tile t = {
      .a_row = g->lda, .blocks = &whole, .n_blocks = 1, .c_row = MRT_STRIP, .c_col16 = 16};
  for (int64_t r = 0; r < strip_rows(j, strip); ++r) {
    const int64_t row = strip * MRT_STRIP + r;
    t.a = a + row * g->lda;
    if (g->a_trans) {
      for (int64_t k = 0; k < g->k; ++k) tmp[k] = a[k * g->lda + row];
      t.a = tmp;
    }
    t.a_hi = t.a;
    for (int n = 0; n < cols; n += j->fma->nr) {
      t.b = b + n;
      t.c = acc + r * MRT_STRIP + n;
      t.cols = (int)min_i64(j->fma->nr, cols - n);
      (t.cols <= 16 && j->fma->nr > 16 ? j->fma->narrow : j->fma->wide)[1](&t);
    }
  }
}

static void finish_strip(const split_job *j, int64_t item, int64_t strip, int64_t panel, int worker,
                         float *acc) {
  const mrt_gemm *g = &j->g;
  const int64_t r0 = strip * MRT_STRIP, n0 = panel * MRT_GEMM_PANEL;
  const int rows = (int)strip_rows(j, strip), cols = (int)min_i64(MRT_GEMM_PANEL, g->n - n0);
  if (j->kern->suspicious(acc, rows, cols)) recompute(j, item, strip, panel, cols, worker, acc);
  mrt_tile t = j->tile;
  t.cols = cols;
  t.c = g->c + item * j->batch.c + r0 * g->ldc + n0;
  if (j->epi.bias) t.bias = j->epi.bias + n0;
  if (j->epi.row_bias) t.row_bias = j->epi.row_bias + r0;
  if (j->epi.residual)
    t.residual = j->epi.residual + item * j->batch.residual + r0 * j->epi.residual_ld + n0;
  j->kern->finish(acc, rows, &t);
  if (j->act) mrt_gemm_activate(j->act, &j->epi.act, &t, rows);
}

/* Strips [s0, s1) of the super-block whose parts are at a (its first strip is `base`), panels
 * [p0, p1). */
static void run_panels(const split_job *j, int64_t item, const uint16_t *a, int64_t base,
                       int64_t s0, int64_t s1, int64_t p0, int64_t p1, int worker) {
  const mrt_gemm *g = &j->g;
  uint16_t *b = (uint16_t *)worker_scratch(j, worker);
  float *acc = (float *)(worker_scratch(j, worker) + j->l.b);
  const int64_t group_size = (int64_t)j->parts * MRT_SPLIT_GROUP_PART;
  const float *src = g->b + item * j->batch.b + p0 * MRT_GEMM_PANEL * g->k;
  j->kern->begin();
  for (int64_t p = p0; p < p1; ++p) {
    const int cols = (int)min_i64(MRT_GEMM_PANEL, g->n - p * MRT_GEMM_PANEL);
    for (int64_t g0 = 0; g0 < j->l.groups; g0 += j->l.slice) {
      const int64_t gn = min_i64(j->l.slice, j->l.groups - g0);
      const int64_t k = min_i64(gn * MRT_SPLIT_GROUP, g->k - g0 * MRT_SPLIT_GROUP);
      j->kern->split_b(src, k, cols, j->parts, b);
      src += k * MRT_GEMM_PANEL;
      for (int64_t s = s0; s < s1; ++s)
        j->kern->multiply(a + ((s - base) * j->l.groups + g0) * group_size, b, gn, j->parts,
                          (int)strip_rows(j, s), cols, g0 > 0,
                          acc + (s - s0) * MRT_STRIP * MRT_STRIP);
    }
    for (int64_t s = s0; s < s1; ++s)
      finish_strip(j, item, s, p, worker, acc + (s - s0) * MRT_STRIP * MRT_STRIP);
  }
  j->kern->end();
}

/* Strips [s0, s1) of one product on one thread. */
static void run_rows(const split_job *j, int64_t item, int64_t s0, int64_t s1, int worker) {
  const int64_t strip_size = j->l.groups * j->parts * MRT_SPLIT_GROUP_PART;
  uint16_t *a = own_a(j, worker);
  for (int64_t b0 = s0; b0 < s1; b0 += j->l.super) {
    const int64_t b1 = min_i64(s1, b0 + j->l.super);
    for (int64_t s = b0; s < b1; ++s) split_strip(j, item, s, worker, a + (s - b0) * strip_size);
    run_panels(j, item, a, b0, b0, b1, 0, j->l.panels, worker);
  }
}

static void rows_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t supers = ceil_div(j->l.strips, j->l.super);
  const int64_t s0 = mrt_par_begin(supers, j->chunks, chunk) * j->l.super;
  const int64_t s1 = mrt_par_begin(supers, j->chunks, chunk + 1) * j->l.super;
  run_rows(j, j->item, s0, min_i64(s1, j->l.strips), worker);
}

static void items_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t end = mrt_par_begin(j->batch.batch, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(j->batch.batch, j->chunks, chunk); i < end; ++i)
    run_rows(j, i, 0, j->l.strips, worker);
}

static void split_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t n = j->super1 - j->super0;
  const int64_t strip_size = j->l.groups * j->parts * MRT_SPLIT_GROUP_PART;
  const int64_t end = mrt_par_begin(n, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(n, j->chunks, chunk); i < end; ++i)
    split_strip(j, j->item, j->super0 + i, worker, (uint16_t *)j->scratch + i * strip_size);
}

static void panels_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t pm = chunk % j->parts_m, pn = chunk / j->parts_m;
  const int64_t n = j->super1 - j->super0;
  run_panels(j, j->item, (const uint16_t *)j->scratch, j->super0,
             j->super0 + mrt_par_begin(n, j->parts_m, pm),
             j->super0 + mrt_par_begin(n, j->parts_m, pm + 1),
             mrt_par_begin(j->l.panels, j->parts_n, pn),
             mrt_par_begin(j->l.panels, j->parts_n, pn + 1), worker);
}

/* One product: all threads split a super-block of A, then share out its panels. */
static void run_shared(split_job *j, const mrt_par *par, double cost) {
  for (int64_t s = 0; s < j->l.strips; s += j->l.super) {
    j->super0 = s;
    j->super1 = min_i64(j->l.strips, s + j->l.super);
    const int64_t n = j->super1 - j->super0;
    j->chunks = mrt_par_chunks(n, (double)(n * MRT_STRIP * j->g.k) * 0.25);
    mrt_par_run(par, j->chunks, split_chunk, j);
    /* Long chunks: splitting the first panel of each hides behind nothing. */
    const int64_t want =
        mrt_par_chunks(j->l.panels * n, cost * (double)n / (double)j->l.strips / LONG);
    j->parts_n = min_i64(j->l.panels, want);
    j->parts_m = min_i64(n, ceil_div(want, j->parts_n));
    mrt_par_run(par, j->parts_n * j->parts_m, panels_chunk, j);
  }
}

void mrt_gemm_split_run(const mrt_split_kernels *kern, int parts, const mrt_par *par,
                        const mrt_gemm *g, const mrt_gemm_batch *batch, void *scratch) {
  if (g->m <= 0 || g->n <= 0 || batch->batch <= 0) return;
  split_job j = {.kern = kern,
                 .fma = mrt_gemm_kernels_get(),
                 .g = *g,
                 .batch = *batch,
                 .epi = g->epi ? *g->epi : MRT_GEMM_EPILOGUE_NONE,
                 .parts = parts,
                 .scratch = scratch};
  j.act = mrt_gemm_epilogue_tile(&j.epi, &j.tile);
  j.tile.c_row = g->ldc;
  j.tile.c_col16 = j.tile.r_col16 = 16;
  j.tile.r_row = j.epi.residual_ld;
  const double cost = cost_split(parts, g->m, g->n, g->k);
  const int64_t strips = ceil_div(g->m, MRT_STRIP);
  /* Many products: whole ones per chunk, unless one alone feeds all threads. */
  const bool items = batch->batch > 1 && (batch->batch >= 16 || cost < 400e3);
  j.shared = !items && strips < ROWS_STRIPS;
  layout_make(&j.l, parts, j.shared, g->m, g->n, g->k, g->a_trans);
  if (items) {
    j.chunks = mrt_par_chunks(batch->batch, cost * (double)batch->batch);
    mrt_par_run(par, j.chunks, items_chunk, &j);
    return;
  }
  for (j.item = 0; j.item < batch->batch; ++j.item) {
    if (j.shared) {
      run_shared(&j, par, cost);
    } else {
      j.chunks = mrt_par_chunks(ceil_div(j.l.strips, j.l.super), cost);
      mrt_par_run(par, j.chunks, rows_chunk, &j);
    }
  }
}
