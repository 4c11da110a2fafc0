/* The integer product: A is packed for all threads first (rows in units of 64 bytes, s8 turned into
 * u8 by +128, with its row sums when B has zero points), then row blocks x panels are shared out.
 * The whole of k is one block: a panel of int8 fits L2 for any usual k. */
#include "provider/cpu/qgemm/qgemm.h"

#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/qgemm/qdirect.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"

/* SLACK: whole tiles of 16 rows may be loaded beyond the last row of A; B has whole blocks. */
enum { PANEL = 32, UNIT = 64, ROW_BLOCK = 256 << 10, SLACK = 2048 };

static const mrt_qgemm_kernels *chosen; /* by a test */
void mrt_qgemm_kernels_set(const mrt_qgemm_kernels *k) { chosen = k; }
const mrt_qgemm_kernels *mrt_qgemm_kernels_get(void) {
  if (chosen) return chosen;
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/qgemm/qgemm.def"
#undef MRT_KERNEL
}

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- packed B: [panels][blocks][16][32][4], then [panels * 32] sums over k ---- */
int64_t mrt_qpack_panel_bytes(int64_t k, int64_t run) {
  if (run == MRT_QPACK_HALVES) return ceil_div(k, UNIT / 2) * (UNIT / 2) * PANEL;
  return run ? k / run * ceil_div(run, UNIT) * UNIT * PANEL : 0;
}
static const int32_t *column_sums(const void *packed, int64_t n, int64_t panel) {
  return (const int32_t *)((const int8_t *)packed + ceil_div(n, PANEL) * panel);
}

/* Behind the sums: a tile reads half a block beyond the last panel that ends with a half. */
static int64_t slack(int64_t n, int64_t run) {
  return run == MRT_QPACK_HALVES ? max_i64(0, UNIT / 2 * PANEL - ceil_div(n, PANEL) * PANEL * 4)
                                 : 0;
}
size_t mrt_qpack_size(int64_t n, int64_t k, int64_t run) {
  return (size_t)(ceil_div(n, PANEL) * (mrt_qpack_panel_bytes(k, run) + PANEL * 4) + slack(n, run));
}
size_t mrt_qgemm_packed_size(int64_t n, int64_t k) { return mrt_qpack_size(n, k, k); }

typedef struct pack_job {
  const uint8_t *b;
  int64_t row, col;                 /* bytes from k to k, from column to column */
  int64_t k, n, run, panel, chunks; /* panel: bytes */
  uint8_t flip;                     /* u8 to s8: minus 128 */
  int8_t *dst;
} pack_job;

static void pack_panel(const pack_job *j, int64_t panel) {
  const int64_t n0 = panel * PANEL, cols = min_i64(PANEL, j->n - n0);
  int8_t *dst = j->dst + panel * j->panel;
  int32_t *sums = (int32_t *)column_sums(j->dst, j->n, j->panel) + n0, sum[PANEL] = {0};
  memset(dst, 0, (size_t)j->panel);
  for (int64_t k = 0, at = 0, in_run = 0; k < j->k; ++k, ++at) {
    if (in_run++ == j->run) at = ceil_div(at, UNIT) * UNIT, in_run = 1;
    const uint8_t *src = j->b + k * j->row + n0 * j->col;
    int8_t *to = dst + at / 4 * 128 + at % 4;
    for (int64_t c = 0; c < cols; ++c) {
      const int8_t v = (int8_t)(src[c * j->col] ^ j->flip);
      to[c * 4] = v;
      sum[c] += v;
    }
  }
  memcpy(sums, sum, sizeof sum);
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const int64_t panels = ceil_div(j->n, PANEL), end = mrt_par_begin(panels, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(panels, j->chunks, chunk); i < end; ++i) pack_panel(j, i);
}

void mrt_qgemm_pack_b(const mrt_par *par, const void *b, bool b_signed, int64_t ldb, bool trans,
                      int64_t k, int64_t n, void *dst) {
  mrt_qpack(par, b, b_signed, ldb, trans, k, n, k, dst);
}
void mrt_qpack(const mrt_par *par, const void *b, bool b_signed, int64_t ldb, bool trans, int64_t k,
               int64_t n, int64_t run, void *dst) {
  pack_job j = {.b = b,
                .row = trans ? 1 : ldb,
                .col = trans ? ldb : 1,
                .k = k,
                .n = n,
                .run = run,
                .panel = mrt_qpack_panel_bytes(k, run),
                .flip = b_signed ? 0 : 0x80,
                .dst = dst};
  if (n <= 0) return;
  const int64_t end = (int64_t)mrt_qpack_size(n, k, run);
  memset(j.dst + end - slack(n, run), 0, (size_t)slack(n, run));
  j.chunks = mrt_par_chunks(ceil_div(n, PANEL), (double)n * (double)k);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}

/* ---- tables of columns ---- */
static bool plain_act(const mrt_qgemm_epilogue *e) {
  return e->out == MRT_Q_S32 || e->act.op == MRT_EW_COPY || e->act.op == MRT_EW_RELU ||
         e->act.op == MRT_EW_CLIP;
}
size_t mrt_qtables_size(int64_t n) { return 2 * mrt_qtables_plain_size(n); }
size_t mrt_qtables_plain_size(int64_t n) { return (size_t)(ceil_div(n, PANEL) * PANEL * 8); }

const float mrt_qtile_no_bias[PANEL] = {0};

/* Can sums be shifted (MRT_QSHIFT)? */
static bool may_shift(const mrt_qgemm *g, const mrt_qtables *t) {
  const mrt_qgemm_epilogue *e = g->epi;
  const bool lowest = e->out == MRT_Q_U8 ? e->out_zero == 0 : e->out_zero == -128;
  if (!mrt_qgemm_kernels_get()->shifts || !(e->out == MRT_Q_U8 || e->out == MRT_Q_S8) || !lowest ||
      !plain_act(e) || t->bias || e->add || g->k > MRT_QSHIFT_K)
    return false;
  const int64_t most = (1 << 23) - g->k * 255 * 128;
  bool fits = true;
  for (int64_t i = 0; i < g->n; ++i)
    fits = fits && t->scale[i] >= 0 && t->col[i] < most && t->col[i] > -most;
  return fits;
}

/* Without zero points of B: plain loops, since dynamic products make their tables at each run. */
static void fill_plain(const mrt_qgemm *g, const int32_t *sums, int32_t za, float unit,
                       int64_t columns, mrt_qtables *t) {
  const mrt_qgemm_epilogue *e = g->epi;
  const int64_t n = g->n;
  const bool scaled = e->out != MRT_Q_S32;
  for (int64_t i = 0; i < columns; ++i)
    t->col[i] = (int32_t)(0u - (uint32_t)za * (uint32_t)sums[i]);
  for (int64_t i = 0; e->bias_s32 && i < n; ++i)
    t->col[i] = (int32_t)((uint32_t)t->col[i] + (uint32_t)e->bias_s32[i]);
  memset(t->scale + n, 0, (size_t)(columns - n) * 4);
  if (t->bias) memset(t->bias + n, 0, (size_t)(columns - n) * 4);
  for (int64_t i = 0; i < n; ++i)
    t->scale[i] = scaled ? e->scale[e->scale_per_col ? i : 0] * unit : 0.0f;
  bool fits = true;
  for (int64_t i = 0; i < n; ++i) fits = fits && __builtin_fabsf(t->scale[i]) < 0.9f;
  for (int64_t i = 0; t->bias && i < n; ++i) {
    t->bias[i] = e->bias[i] * unit;
    fits = fits && __builtin_fabsf(t->bias[i]) < 1e6f;
  }
  t->in_range = fits;
  if (fits && may_shift(g, t)) {
    t->shifted = true;
    for (int64_t i = 0; i < columns; ++i) t->col[i] += MRT_QSHIFT;
  }
}

void mrt_qtables_fill(const mrt_qgemm *g, bool b_signed, int64_t run, bool a_flips, void *at,
                      mrt_qtables *out) {
  const mrt_qgemm_epilogue *e = g->epi;
  const int64_t columns = ceil_div(g->n, PANEL) * PANEL;
  const int32_t za = g->a_zero + (g->a_signed && a_flips ? 128 : 0);
  const int32_t *sums = column_sums(g->b, g->n, mrt_qpack_panel_bytes(g->k, run));
  const bool quantized = e->out == MRT_Q_U8 || e->out == MRT_Q_S8;
  const float unit = quantized && plain_act(e) ? 1.0f / e->out_scale : 1.0f;
  mrt_qtables t = {.col = at, .in_range = true};
  t.scale = (float *)(t.col + columns);
  t.bias = e->bias ? t.scale + columns : NULL;
  if (!g->b_zero && b_signed) {
    fill_plain(g, sums, za, unit, columns, &t);
    *out = t;
    return;
  }
  t.b_zero = (int32_t *)(t.scale + 2 * columns);
  for (int64_t n = 0; n < columns; ++n) {
    const bool real = n < g->n;
    int32_t zb = 0;
    if (g->b_zero && real)
      zb = g->b_zero[g->b_zero_per_col ? n : 0] - (b_signed ? 0 : 128);
    else if (!b_signed)
      zb = -128;
    if (zb != 0 && real) t.has_b_zero = true;
    t.b_zero[n] = zb;
    uint32_t c = (uint32_t)(int32_t)g->k * (uint32_t)za * (uint32_t)zb;
    c -= (uint32_t)za * (uint32_t)sums[n];
    if (e->bias_s32 && real) c += (uint32_t)e->bias_s32[n];
    t.col[n] = (int32_t)c;
    t.scale[n] = e->out != MRT_Q_S32 && real ? e->scale[e->scale_per_col ? n : 0] * unit : 0.0f;
    const float bias = e->bias && real ? e->bias[n] * unit : 0.0f;
    if (t.bias) t.bias[n] = bias;
    if (!(__builtin_fabsf(t.scale[n]) < 0.9f && __builtin_fabsf(bias) < 1e6f)) t.in_range = false;
  }
  *out = t;
}

/* ---- the plan ---- */
typedef struct qgemm_plan {
  const mrt_qgemm_kernels *kern;
  int64_t tiles, pitch, panels, units;              /* units of 64 k */
  int64_t tile_bytes;                               /* packed A */
  int64_t tables_at, sums_at, a_at, rows_at, total; /* scratch offsets */
} qgemm_plan;

static void plan_make(qgemm_plan *p, const mrt_par *par, int64_t m, int64_t n, int64_t k) {
  p->kern = mrt_qgemm_kernels_get();
  p->tiles = ceil_div(m, p->kern->max_rows);
  p->pitch = p->tiles ? ceil_div(m, p->tiles) : 0;
  p->panels = ceil_div(n, PANEL);
  p->units = ceil_div(k, UNIT);
  p->tile_bytes = p->pitch * p->units * UNIT;
  p->tables_at = 0;
  p->sums_at = p->panels * PANEL * 4 * 4;
  const int64_t table = ceil_div(p->units * (int64_t)sizeof(mrt_qblock), 64) * 64;
  p->a_at = p->sums_at + ceil_div(m * 4, 64) * 64 + table;
  p->rows_at = p->a_at + p->tiles * p->tile_bytes; /* one gathered row per worker */
  p->total = p->rows_at + ceil_div(k, 64) * 64 * mrt_par_workers(par) + SLACK;
}

/* The product as a convolution of one line of m pixels, where nothing needs packed rows of A. */
static bool direct_of(const mrt_qgemm *g, bool b_signed, mrt_qdirect *out) {
  if (!b_signed || g->gather || g->k < 1 || !plain_act(g->epi)) return false;
  for (int64_t i = 0; g->b_zero && i < (g->b_zero_per_col ? g->n : 1); ++i)
    if (g->b_zero[i]) return false;
  *out = (mrt_qdirect){.n = 1,
                       .h = 1,
                       .w = g->m,
                       .c = g->k,
                       .pitch = g->lda,
                       .oh = 1,
                       .ow = g->m,
                       .kh = 1,
                       .kw = 1,
                       .stride_h = 1,
                       .stride_w = 1,
                       .dil_h = 1,
                       .dil_w = 1,
                       .x = g->a,
                       .x_end = (const uint8_t *)g->a + (g->m - 1) * g->lda + g->k,
                       .x_signed = g->a_signed,
                       .x_zero = g->a_zero,
                       .packed = g->b,
                       .cout = g->n,
                       .tables = g->tables,
                       .y = g->c,
                       .ldy = g->ldc,
                       .epi = g->epi};
  return true;
}

/* lda may be more than k: then rows are copied, which needs the most. */
size_t mrt_qgemm_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k) {
  qgemm_plan p;
  if (m <= 0 || n <= 0) return 0;
  plan_make(&p, par, m, n, k);
  const mrt_qgemm_epilogue e = {.out = MRT_Q_S32};
  const mrt_qgemm g = {.m = m, .n = n, .k = k, .lda = k + 1, .a_signed = true, .epi = &e};
  mrt_qdirect d;
  const size_t tables = (mrt_qtables_size(n) + 63) / 64 * 64,
               direct = direct_of(&g, true, &d) ? tables + mrt_qdirect_scratch(par, &d) : 0;
  return direct > (size_t)p.total ? direct : (size_t)p.total;
}

/* ---- one run ---- */
typedef struct qgemm_job {
  qgemm_plan p;
  const mrt_qgemm *g;
  const mrt_qgemm_epilogue *e;
  mrt_qtables t;
  int32_t *a_sum;
  mrt_qblock *blocks;
  uint8_t *a, *rows;
  float lo, hi;
  mrt_ew_fn act; /* when not folded into lo and hi */
  int64_t chunks, parts_m, parts_n;
} qgemm_job;

/* Clamp bounds: the activation's, and the range of the output type, in units of its scale. */
void mrt_qtile_bounds(const mrt_qgemm_epilogue *e, float *out_lo, float *out_hi) {
  const float inf = __builtin_inff();
  float l = -inf, h = inf;
  if (e->act.op == MRT_EW_RELU)
    l = 0.0f;
  else if (e->act.op == MRT_EW_CLIP)
    l = e->act.p[0], h = e->act.p[1];
  if ((e->out == MRT_Q_U8 || e->out == MRT_Q_S8) && plain_act(e)) {
    const bool s = e->out == MRT_Q_S8;
    const float lo = (float)((s ? -128 : 0) - e->out_zero),
                hi = (float)((s ? 127 : 255) - e->out_zero);
    l = __builtin_fminf(__builtin_fmaxf(l / e->out_scale, lo), hi);
    h = __builtin_fminf(__builtin_fmaxf(h / e->out_scale, lo), hi);
  }
  *out_lo = l;
  *out_hi = h;
}

static void pack_row(const qgemm_job *j, const uint8_t *src, uint8_t *dst, int32_t *out_sum) {
  const int64_t k = j->g->k, step = j->p.pitch * UNIT;
  const uint64_t flip = j->g->a_signed ? 0x8080808080808080u : 0;
  int64_t i = 0;
  for (; i + UNIT <= k; i += UNIT, dst += step)
    for (int q = 0; q < UNIT; q += 8) {
      uint64_t x;
      memcpy(&x, src + i + q, 8);
      x ^= flip;
      memcpy(dst + q, &x, 8);
    }
  for (int64_t q = 0; q < UNIT && i < k; ++q) dst[q] = i + q < k ? src[i + q] ^ (uint8_t)flip : 0;
  if (!j->t.has_b_zero) return;
  int32_t sum = 0;
  for (i = 0; i < k; ++i) sum += src[i] ^ (uint8_t)flip;
  *out_sum = sum;
}

static void pack_a_chunk(void *arg, int64_t chunk, int worker) {
  const qgemm_job *j = arg;
  uint8_t *row = j->rows + (int64_t)worker * ceil_div(j->g->k, 64) * 64;
  const qgemm_plan *p = &j->p;
  const int64_t end = mrt_par_begin(p->tiles, j->chunks, chunk + 1);
  for (int64_t t = mrt_par_begin(p->tiles, j->chunks, chunk); t < end; ++t) {
    const int64_t r0 = mrt_par_begin(j->g->m, p->tiles, t),
                  r1 = mrt_par_begin(j->g->m, p->tiles, t + 1);
    for (int64_t r = r0; r < r1; ++r) {
      const uint8_t *src = row;
      if (j->g->gather)
        j->g->gather(j->g->gather_ctx, r, row);
      else
        src = (const uint8_t *)j->g->a + r * j->g->lda;
      pack_row(j, src, j->a + t * p->tile_bytes + (r - r0) * UNIT, j->a_sum + r);
    }
  }
}

static size_t out_bytes(mrt_q_out out) { return out == MRT_Q_S32 || out == MRT_Q_F32 ? 4 : 1; }

/* A tile whose activation is not a clamp: floats first, in a buffer when they are to be quantized.
 */
static void run_activated(const qgemm_job *j, mrt_qtile *t, mrt_qtile_fn fn, int64_t rows,
                          int64_t r0, int64_t n) {
  const mrt_qgemm_epilogue *e = j->e;
  float buffer[32 * PANEL];
  const mrt_qtile saved = *t;
  t->out = MRT_Q_F32;
  if (e->out != MRT_Q_F32) {
    t->c = buffer;
    t->c_row = PANEL;
  }
  fn(t);
  for (int64_t r = 0; r < rows; ++r) {
    float *y = (float *)t->c + r * t->c_row;
    j->act(y, y, NULL, NULL, e->act.p, t->cols);
    if (e->out == MRT_Q_F32) continue;
    uint8_t *to = (uint8_t *)j->g->c + (r0 + r) * j->g->ldc + n;
    j->p.kern->quantize(y, t->cols, e->out_scale, e->out_zero, e->out == MRT_Q_S8, to);
  }
  *t = saved;
}

static void run_tiles(const qgemm_job *j, int64_t t0, int64_t t1, int64_t p0, int64_t p1) {
  const qgemm_plan *p = &j->p;
  const mrt_qgemm *g = j->g;
  const mrt_qgemm_epilogue *e = j->e;
  mrt_qsegment all = {0, 0, 0};
  mrt_qtile t = {.a_row = UNIT,
                 .blocks = j->blocks,
                 .n_blocks = p->units,
                 .c_row = g->ldc,
                 .segments = &all,
                 .n_segments = 1,
                 .in_range = j->t.in_range,
                 .shifted = j->t.shifted,
                 .r_row = e->residual_ld,
                 .lo = j->lo,
                 .hi = j->hi,
                 .zero = e->out_zero,
                 .out = e->out};
  for (int64_t n = p0 * PANEL; n < min_i64(p1 * PANEL, g->n); n += p->kern->nr) {
    t.cols = (int)min_i64(p->kern->nr, g->n - n);
    const mrt_qtile_fn *fns = t.cols <= 16 && p->kern->nr > 16 ? p->kern->narrow : p->kern->wide;
    t.b = (const int8_t *)g->b + n / PANEL * p->units * UNIT * PANEL + n % PANEL * 4;
    t.col = j->t.col + n;
    t.scale = j->t.scale + n;
    t.bias = mrt_qtables_bias(&j->t, n);
    for (int64_t i = t0; i < t1; ++i) {
      const int64_t r0 = mrt_par_begin(g->m, p->tiles, i),
                    rows = mrt_par_begin(g->m, p->tiles, i + 1) - r0;
      all.count = (int)rows;
      t.a = j->a + i * p->tile_bytes;
      t.a_hi = t.a + p->kern->split * UNIT;
      t.c = (uint8_t *)g->c + (size_t)(r0 * g->ldc + n) * out_bytes(e->out);
      if (j->t.has_b_zero) t.b_zero = j->t.b_zero + n, t.a_sum = j->a_sum + r0;
      if (e->residual) t.residual = e->residual + r0 * e->residual_ld + n;
      if (j->act)
        run_activated(j, &t, fns[rows], rows, r0, n);
      else
        fns[rows](&t);
    }
  }
}

static void run_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const qgemm_job *j = arg;
  const int64_t pm = chunk % j->parts_m, pn = chunk / j->parts_m;
  const int64_t end = mrt_par_begin(j->p.tiles, j->parts_m, pm + 1);
  if (j->p.kern->begin) j->p.kern->begin();
  const int64_t step = max_i64(1, ROW_BLOCK / max_i64(1, j->p.tile_bytes));
  for (int64_t t = mrt_par_begin(j->p.tiles, j->parts_m, pm); t < end; t += step)
    run_tiles(j, t, min_i64(end, t + step), mrt_par_begin(j->p.panels, j->parts_n, pn),
              mrt_par_begin(j->p.panels, j->parts_n, pn + 1));
  if (j->p.kern->end) j->p.kern->end();
}

void mrt_qgemm_run(const mrt_par *par, const mrt_qgemm *g, bool b_signed, void *scratch) {
  if (g->m <= 0 || g->n <= 0) return;
  mrt_qdirect d;
  mrt_qtables made;
  if (direct_of(g, b_signed, &d)) {
    if (!d.tables) {
      mrt_qtables_fill(g, true, g->k, mrt_qdirect_flips(), scratch, &made);
      d.tables = &made;
      scratch = (uint8_t *)scratch + (mrt_qtables_size(g->n) + 63) / 64 * 64;
    }
    mrt_qdirect_go(par, &d, scratch);
    return;
  }
  qgemm_job j = {.g = g, .e = g->epi};
  plan_make(&j.p, par, g->m, g->n, g->k);
  uint8_t *at = scratch;
  j.a_sum = (int32_t *)(at + j.p.sums_at);
  j.blocks = (mrt_qblock *)(at + j.p.sums_at + ceil_div(g->m * 4, 64) * 64);
  j.a = at + j.p.a_at;
  j.rows = at + j.p.rows_at;
  if (!plain_act(g->epi)) j.act = mrt_ew_find(g->epi->act.op);
  mrt_qtile_bounds(g->epi, &j.lo, &j.hi);
  mrt_qtables_fill(g, b_signed, g->k, true, at, &j.t);
  for (int64_t u = 0; u < j.p.units; ++u) /* the last unit stops where B does */
    j.blocks[u] =
        (mrt_qblock){u * j.p.pitch * UNIT, (int32_t)ceil_div(min_i64(UNIT, g->k - u * UNIT), 4)};
  j.chunks = mrt_par_chunks(j.p.tiles, (double)g->m * (double)g->k * 0.05);
  mrt_par_run(par, j.chunks, pack_a_chunk, &j);
  /* 240 multiply-adds a nanosecond, but B must at least be read. */
  const double work = (double)g->m * (double)g->n * (double)g->k / 240.0;
  const double read = (double)g->n * (double)g->k / 20.0,
               store = (double)g->m * (double)g->n * 0.05;
  const int64_t total = mrt_par_chunks(j.p.tiles * j.p.panels, (work > read ? work : read) + store);
  if (g->n >= g->m) {
    j.parts_n = min_i64(j.p.panels, total);
    j.parts_m = min_i64(j.p.tiles, ceil_div(total, j.parts_n));
  } else {
    j.parts_m = min_i64(j.p.tiles, total);
    j.parts_n = min_i64(j.p.panels, ceil_div(total, j.parts_m));
  }
  mrt_par_run(par, j.parts_m * j.parts_n, run_chunk, &j);
}
