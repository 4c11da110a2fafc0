/* Packing and sharing out of products with narrow weights. */
#include "provider/cpu/half/narrow.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"

enum {
  FEW = MRT_NARROW_ROWS,
  STRIDED = 4, /* rows that are read where they lie; more are put side by side */
  PANEL = MRT_GEMM_PANEL,
  SLAB_FLOATS = 1 << 20, /* of widened weights: they stay in the caches until they are used */
  FEW_CHUNKS = 192,
  GROUP = 8,   /* panels whose sums are finished together */
  MIDDLE = 64, /* rows up to which a worker widens for itself, into its L2 */
  OWN_FLOATS = 128 << 10
};

const mrt_narrow_kernels *mrt_narrow_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/half/narrow.def"
#undef MRT_KERNEL
}

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t panels_of(int64_t n) { return (n + PANEL - 1) / PANEL; }
static size_t width_of(mrt_narrow_kind kind) { return kind == MRT_NARROW_S8 ? 1 : 2; }
/* Of a panel. */
static int64_t rows_of(mrt_narrow_kind kind, int64_t k) {
  return kind == MRT_NARROW_TILES ? (k + 31) / 32 * 32 : k;
}

/* ---- packing ---- */

static uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
/* Weights lie in a model's file, at any alignment. */
static float float_at(const void *p, int64_t i) {
  float x;
  memcpy(&x, (const char *)p + i * (int64_t)sizeof x, sizeof x);
  return x;
}

/* Normal numbers of float16 by their bits; the rest by conversion. */
static bool is_f16(float x) {
  const uint32_t u = bits_of(x), exponent = u >> 23 & 255;
  if (u & 0x1fff) return exponent < 113 && bits_of(mrt_f16_to_f32(mrt_f32_to_f16(x))) == u;
  if (exponent >= 113 && exponent <= 142) return true;
  return bits_of(mrt_f16_to_f32(mrt_f32_to_f16(x))) == u;
}

/* In blocks, so that most weights are done with after the first. */
bool mrt_narrow_kind_of(const void *w, int64_t count, mrt_narrow_kind *out) {
  enum { BLOCK = 1024 };
  bool bf16 = true, f16 = true;
  for (int64_t i = 0; i < count && (bf16 || f16); i += BLOCK) {
    const int64_t end = min_i64(count, i + BLOCK);
    uint32_t low = 0;
    for (int64_t k = i; k < end; ++k) low |= bits_of(float_at(w, k));
    bf16 = bf16 && !(low & 0xffff);
    for (int64_t k = i; k < end && f16; ++k) f16 = is_f16(float_at(w, k));
  }
  *out = bf16 ? MRT_NARROW_BF16 : MRT_NARROW_F16;
  return bf16 || f16;
}

size_t mrt_narrow_packed_size(mrt_narrow_kind kind, int64_t n, int64_t k) {
  size_t bytes;
  return mrt_size_mul((size_t)panels_of(n) * PANEL * width_of(kind), (size_t)rows_of(kind, k),
                      &bytes)
             ? bytes
             : SIZE_MAX;
}

typedef struct pack_job {
  mrt_narrow_kind kind;
  const void *b;
  int64_t ldb, k, n, chunks;
  bool trans;
  uint16_t *dst;
} pack_job;

/* Where element (i, c) of a panel is. */
static int64_t place_of(mrt_narrow_kind kind, int64_t i, int64_t c) {
  if (kind != MRT_NARROW_TILES) return i * PANEL + c;
  return i / 32 * 1024 + c / 16 * 512 + i % 16 * 32 + c % 16 * 2 + i % 32 / 16;
}

static void pack_panel(const pack_job *j, int64_t panel) {
  const int64_t rows = rows_of(j->kind, j->k);
  uint16_t *dst = j->dst + panel * PANEL * rows;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < PANEL; ++c) {
      const int64_t n = panel * PANEL + c;
      const bool none = n >= j->n || i >= j->k;
      const float x = none ? 0 : float_at(j->b, j->trans ? n * j->ldb + i : i * j->ldb + n);
      dst[place_of(j->kind, i, c)] =
          j->kind == MRT_NARROW_F16 ? mrt_f32_to_f16(x) : (uint16_t)(bits_of(x) >> 16);
    }
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  const pack_job *j = arg;
  (void)worker;
  const int64_t end = mrt_par_begin(panels_of(j->n), j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(panels_of(j->n), j->chunks, chunk); i < end; ++i) pack_panel(j, i);
}

void mrt_narrow_pack(mrt_narrow_kind kind, const void *b, int64_t ldb, bool trans, int64_t k,
                     int64_t n, void *dst) {
  pack_job j = {.kind = kind, .b = b, .ldb = ldb, .trans = trans, .k = k, .n = n, .dst = dst};
  const mrt_par par = {0};
  j.chunks = mrt_par_chunks(panels_of(n), 2.0 * (double)n * (double)k);
  mrt_par_run(&par, j.chunks, pack_chunk, &j);
}

/* ---- few rows ---- */

typedef struct job {
  const mrt_gemm *g;
  const mrt_narrow *w;
  const mrt_narrow_kernels *kern;
  mrt_gemm_epilogue e;
  mrt_ew_fn act; /* NULL: none */
  int64_t panels, chunks;
  const float *side_by_side; /* A, [k][8]; NULL: where it lies */
  int64_t first;             /* panel that is widened to dst */
  float *dst;
  size_t widened, own; /* bytes of a worker's scratch: widened panels, all */
  char *scratch;
} job;

static job job_of(const mrt_gemm *g, const mrt_narrow *w) {
  job j = {.g = g, .w = w, .kern = mrt_narrow_kernels_get(), .panels = panels_of(g->n)};
  j.e = g->epi ? *g->epi : MRT_GEMM_EPILOGUE_NONE;
  if (j.e.act.op != MRT_EW_COPY) j.act = mrt_ew_find(j.e.act.op);
  return j;
}

static const char *panel_at(const job *j, int64_t panel) {
  const mrt_narrow_kind kind = j->w->kind;
  return (const char *)j->w->b + (size_t)(panel * PANEL * rows_of(kind, j->g->k)) * width_of(kind);
}

/* Row m of C from column n on, `cols` of them. */
static void finish(const job *j, const float *sums, int64_t m, int64_t n, int64_t cols) {
  const mrt_gemm_epilogue *e = &j->e;
  const mrt_narrow_row row = {.sums = sums,
                              .scale = j->w->scale ? j->w->scale + n : NULL,
                              .bias = e->bias ? e->bias + n : NULL,
                              .residual = e->residual ? e->residual + m * e->residual_ld + n : NULL,
                              .alpha = e->alpha,
                              .beta = e->beta,
                              .row_bias = e->row_bias ? e->row_bias[m] : 0,
                              .c = j->g->c + m * j->g->ldc + n,
                              .cols = (int)cols};
  j->kern->finish(&row);
  if (j->act) j->act(row.c, row.c, NULL, NULL, e->act.p, cols);
}

/* Panels [p, end): sums first, then what is added to them and where they go, whose lines are missed
 * together and not one at a time between two panels. */
static void few_panels(const job *j, int64_t p, int64_t end) {
  const mrt_gemm *g = j->g;
  const float *a = j->side_by_side ? j->side_by_side : g->a;
  const int rows = j->side_by_side ? MRT_NARROW_ROWS : (int)g->m;
  _Alignas(64) float sums[GROUP][MRT_NARROW_ROWS * PANEL];
  for (int64_t i = p; i < end; ++i)
    j->kern->sums[j->w->kind](panel_at(j, i), g->k, a, g->lda, rows, sums[i - p]);
  for (int64_t r = 0; r < g->m; ++r)
    for (int64_t i = p; i < end; ++i)
      finish(j, sums[i - p] + r * PANEL, r, i * PANEL, min_i64(PANEL, g->n - i * PANEL));
}

static void few_chunk(void *arg, int64_t chunk, int worker) {
  const job *j = arg;
  (void)worker;
  const int64_t end = mrt_par_begin(j->panels, j->chunks, chunk + 1);
  for (int64_t p = mrt_par_begin(j->panels, j->chunks, chunk); p < end; p += GROUP)
    few_panels(j, p, min_i64(end, p + GROUP));
}

/* ---- many rows ---- */

static int64_t slab_panels(int64_t n, int64_t k) {
  const int64_t fit = SLAB_FLOATS / (PANEL * (k ? k : 1));
  return min_i64(panels_of(n), fit < 2 ? 2 : fit);
}

static bool is_few(int64_t m, bool a_trans) { return m <= FEW && !a_trans; }

/* Panels that a worker widens and multiplies at a time: a function of the shape. */
static int64_t own_panels(int64_t n, int64_t k) {
  const int64_t fit = OWN_FLOATS / (PANEL * (k ? k : 1)), share = (panels_of(n) + 7) / 8;
  return fit < 1 ? 1 : min_i64(fit, share);
}

static const mrt_par alone = {.threads = 1};

/* Floats of one worker's widened panels, to a line; its scratch of the product follows them. */
static bool own_scratch(int64_t m, int64_t n, int64_t k, size_t *widened, size_t *all) {
  const int64_t cols = own_panels(n, k) * PANEL, last = n % cols;
  size_t gemm = mrt_gemm_scratch_size(&alone, m, cols, k, false);
  const size_t rest = last ? mrt_gemm_scratch_size(&alone, m, last, k, false) : 0;
  if (rest > gemm) gemm = rest;
  return mrt_size_mul((size_t)cols * sizeof(float), (size_t)k, widened) &&
         mrt_size_add(*widened, (gemm + 63) & ~(size_t)63, all);
}

size_t mrt_narrow_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans) {
  size_t bytes;
  if (m <= 0 || n <= 0) return 0;
  if (is_few(m, a_trans)) {
    if (m <= STRIDED) return 0;
    return mrt_size_mul(MRT_NARROW_ROWS * sizeof(float), (size_t)k, &bytes) ? bytes : SIZE_MAX;
  }
  if (m <= MIDDLE && !a_trans) {
    size_t widened;
    return own_scratch(m, n, k, &widened, &bytes) &&
                   mrt_size_mul(bytes, (size_t)mrt_par_workers(par), &bytes)
               ? bytes
               : SIZE_MAX;
  }
  const int64_t slab = slab_panels(n, k) * PANEL, last = n % slab;
  size_t gemm = mrt_gemm_scratch_size(par, m, slab, k, a_trans);
  const size_t rest = last ? mrt_gemm_scratch_size(par, m, last, k, a_trans) : 0;
  if (rest > gemm) gemm = rest; /* a narrow rest may be cut in another way */
  if (!mrt_size_mul((size_t)slab * sizeof(float), (size_t)k, &bytes) ||
      !mrt_size_add(bytes, gemm, &bytes))
    return SIZE_MAX;
  return bytes;
}

static void widen_chunk(void *arg, int64_t i, int worker) {
  const job *j = arg;
  (void)worker;
  const int64_t panel = j->first + i;
  j->kern->widen[j->w->kind](panel_at(j, panel), j->g->k,
                             j->w->scale ? j->w->scale + panel * PANEL : NULL,
                             j->dst + i * PANEL * j->g->k);
}

void mrt_narrow_widen(const mrt_par *par, const mrt_narrow *w, int64_t n, int64_t k, float *dst) {
  const mrt_gemm g = {.n = n, .k = k};
  job j = job_of(&g, w);
  j.dst = dst;
  mrt_par_run(par, j.panels, widen_chunk, &j);
}

static void own_chunk(void *arg, int64_t chunk, int worker) {
  job j = *(const job *)arg;
  mrt_gemm_epilogue e = j.e;
  mrt_gemm g = *j.g;
  const int64_t group = own_panels(g.n, g.k), n = chunk * group * PANEL;
  char *scratch = j.scratch + (size_t)worker * j.own;
  j.first = chunk * group;
  j.dst = (float *)scratch;
  for (int64_t i = 0; i < min_i64(group, j.panels - j.first); ++i) widen_chunk(&j, i, worker);
  g.n = min_i64(group * PANEL, g.n - n);
  g.b = j.dst;
  g.c += n;
  g.epi = &e;
  if (e.bias) e.bias += n;
  if (e.residual) e.residual += n;
  mrt_gemm_run(&alone, &g, scratch + j.widened);
}

static void run_middle(const mrt_par *par, job *j, void *scratch) {
  const int64_t group = own_panels(j->g->n, j->g->k);
  j->scratch = scratch;
  if (own_scratch(j->g->m, j->g->n, j->g->k, &j->widened, &j->own))
    mrt_par_run(par, (j->panels + group - 1) / group, own_chunk, j);
}

static void run_many(const mrt_par *par, job *j, void *scratch) {
  const int64_t slab = slab_panels(j->g->n, j->g->k);
  mrt_gemm_epilogue e = j->e;
  mrt_gemm g = *j->g;
  j->dst = scratch;
  g.epi = &e;
  g.b = scratch;
  for (j->first = 0; j->first < j->panels; j->first += slab) {
    const int64_t n = j->first * PANEL, panels = min_i64(slab, j->panels - j->first);
    mrt_par_run(par, panels, widen_chunk, j);
    g.n = min_i64(panels * PANEL, j->g->n - n);
    g.c = j->g->c + n;
    e.bias = j->e.bias ? j->e.bias + n : NULL;
    e.residual = j->e.residual ? j->e.residual + n : NULL;
    mrt_gemm_run(par, &g, (float *)scratch + slab * PANEL * j->g->k);
  }
}

/* [k][8], rows from m on are zeros. */
static const float *side_by_side(const mrt_gemm *g, float *to) {
  for (int64_t i = 0; i < g->k; ++i)
    for (int64_t r = 0; r < MRT_NARROW_ROWS; ++r)
      to[i * MRT_NARROW_ROWS + r] = r < g->m ? g->a[r * g->lda + i] : 0;
  return to;
}

void mrt_narrow_run(const mrt_par *par, const mrt_gemm *g, const mrt_narrow *w, void *scratch) {
  if (g->m <= 0 || g->n <= 0) return;
  job j = job_of(g, w);
  if (!is_few(g->m, g->a_trans)) {
    if (g->m <= MIDDLE && !g->a_trans)
      run_middle(par, &j, scratch);
    else
      run_many(par, &j, scratch);
    return;
  }
  if (g->m > STRIDED) j.side_by_side = side_by_side(g, scratch);
  j.chunks = mrt_par_chunks(j.panels, (double)g->n * (double)g->k * 0.1);
  if (j.chunks > 1) j.chunks = min_i64(j.panels, FEW_CHUNKS); /* both ends meet to a panel */
  mrt_par_run(par, j.chunks, few_chunk, &j);
}
