/* Driver of the split products. A chunk is a super-block of strips of A x a range of panels of B;
 * loops inside, outermost first:
 *   k-block (its parts of the super-block fit L2; split by each worker for itself, once)
 *   panel of B
 *   piece of it (some groups of k: split while the piece before is multiplied)
 *   slice of k (one part only: so short that most of B stays in L1)
 *   strip: strip x panel on the tiles, sums in a block of 4 KB
 * and with the last k, check and epilogue per strip, done between the products of the next one.
 * Several k-blocks: the sums of all panels of the range are kept meanwhile. */
#include "provider/cpu/gemm/gemm_split_job.h"

enum {
  NEAR = 8, /* groups of B fetched before they are split */
  BURST = 8 /* rows that are finished at once, at least */
};

static split_worker *worker_of(const split_job *j, int worker) {
  return (split_worker *)(j->scratch + (size_t)worker * split_worker_pitch(j->l.worker));
}
static char *worker_memory(split_worker *w) { return (char *)w + split_align(sizeof *w); }
static uint16_t *worker_a(const split_job *j, split_worker *w) {
  return j->shared_a ? j->shared_a : (uint16_t *)(void *)worker_memory(w);
}
static uint16_t *worker_b(const split_job *j, split_worker *w, int which) {
  return (uint16_t *)(void *)(worker_memory(w) + j->l.a + (size_t)which * (j->l.b / 2));
}
static float *worker_acc(const split_job *j, split_worker *w) {
  return (float *)(void *)(worker_memory(w) + j->l.a + j->l.b);
}
static float *worker_gather(const split_job *j, split_worker *w) {
  return (float *)((char *)worker_acc(j, w) + j->l.acc);
}

static int64_t block_groups(const split_job *j, int64_t kb) {
  return split_min(j->l.block, j->l.groups - kb * j->l.block);
}

/* Splits one strip of A, k-block kb, to dst. */
static void split_strip(const split_job *j, split_worker *w, int64_t item, int64_t strip,
                        int64_t kb, uint16_t *dst) {
  const mrt_gemm *g = &j->g;
  const int64_t r0 = strip * MRT_STRIP, rows = strip_rows(j, strip);
  const int64_t first = kb * j->l.block * MRT_SPLIT_GROUP;
  const int64_t len = split_min(block_groups(j, kb) * MRT_SPLIT_GROUP, g->k - first);
  const float *a = g->a + item * j->batch.a + first * (g->a_trans ? g->lda : 1);
  const mrt_kblock whole = {0, (int32_t)len};
  mrt_split_rows src = {.rows = (int)rows, .blocks = &whole, .n_blocks = 1};
  if (!g->a_trans) {
    for (int64_t r = 0; r < rows; ++r) src.row[r] = a + (r0 + r) * g->lda;
    j->kern->split_a(&src, j->parts, dst);
    return;
  }
  /* Transposed in pieces of k that stay in L1: [k/16][32][16]. */
  float *tmp = worker_gather(j, w);
  for (int64_t r = 0; r < rows; ++r) src.row[r] = tmp + r * 16;
  for (int64_t k0 = 0; k0 < len; k0 += 128) {
    const int64_t kn = split_min(128, len - k0);
    mrt_kblock blocks[8];
    src.blocks = blocks;
    src.n_blocks = 0;
    for (int64_t k = 0; k < kn; k += 16)
      blocks[src.n_blocks++] =
          (mrt_kblock){(int32_t)(k * MRT_STRIP), (int32_t)split_min(16, kn - k)};
    for (int64_t r = 0; r < rows; r += j->fma->max_rows)
      j->fma->pack_a_trans(a + k0 * g->lda + r0 + r, g->lda, kn,
                           (int)split_min(j->fma->max_rows, rows - r), MRT_STRIP, tmp + r * 16);
    j->kern->split_a(&src, j->parts, dst + k0 / 32 * j->parts * MRT_SPLIT_GROUP_PART);
  }
}

/* What `late` is for all blocks of a range. */
static void late_begin(const split_job *j, mrt_split_late *l) {
  l->tile = j->tile;
  l->fn = j->act;
  l->act = j->epi.act;
}

/* The block of sums that is finished next. Field by field: copies of whole structures would wait
 * for what was just written. */
static void late_set(const split_job *j, mrt_split_late *l, int64_t item, int64_t strip,
                     int64_t panel, const float *acc) {
  const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &panel);
  const int64_t r0 = strip * MRT_STRIP, n0 = panel * MRT_GEMM_PANEL;
  mrt_tile *t = &l->tile;
  t->cols = (int)split_min(MRT_GEMM_PANEL, s->n - n0);
  t->c = s->c + item * j->batch.c + r0 * s->ldc + n0;
  t->c_row = s->ldc;
  t->bias = s->bias ? s->bias + n0 : NULL;
  t->row_bias = j->epi.row_bias ? j->epi.row_bias + r0 : NULL;
  t->residual = j->epi.residual
                    ? j->epi.residual + item * j->batch.residual + r0 * j->epi.residual_ld + n0
                    : NULL;
  l->acc = acc;
  l->rows = (int)strip_rows(j, strip);
  l->row = 0;
  l->bad = false;
}

/* Brings the block that waits to its end. */
static void settle(const split_job *j, split_worker *w) {
  if (!w->late_acc) return;
  mrt_split_late *l = &w->late;
  if (l->row < l->rows) j->kern->late(l, l->rows);
  if (l->bad) {
    mrt_split_again(j, worker_gather(j, w), w->late_item, w->late_strip, w->late_panel,
                    l->tile.cols, w->late_acc);
    late_set(j, l, w->late_item, w->late_strip, w->late_panel, w->late_acc);
    j->kern->late(l, l->rows);
  }
  w->late_acc = NULL;
}

/* The sums of a block are complete. C that is its own residual is checked before it is written. */
static void finish_strip(const split_job *j, split_worker *w, int64_t item, int64_t strip,
                         int64_t panel, float *acc) {
  late_set(j, &w->late, item, strip, panel, acc);
  w->late_item = item;
  w->late_strip = strip;
  w->late_panel = panel;
  w->late_acc = acc;
  if (j->epi.residual != j->g.sides->c) return;
  if (j->kern->suspicious(acc, w->late.rows, w->late.tile.cols))
    mrt_split_again(j, worker_gather(j, w), item, strip, panel, w->late.tile.cols, acc);
  j->kern->late(&w->late, w->late.rows);
  w->late_acc = NULL;
}

/* Groups and values of k in a piece of B. */
static int64_t piece_groups(const split_job *j, split_piece b) {
  return split_min(j->l.piece, block_groups(j, b.kb) - b.first);
}
static int64_t piece_k(const split_job *j, split_piece b) {
  const int64_t first = (b.kb * j->l.block + b.first) * MRT_SPLIT_GROUP;
  return split_min(piece_groups(j, b) * MRT_SPLIT_GROUP, j->g.k - first);
}

static void want_a(const split_job *j, split_worker *w, int64_t item, int64_t super, int64_t kb) {
  if (j->shared_a || (w->a_item == item && w->a_super == super && w->a_block == kb)) return;
  const int64_t s0 = super * j->l.super, s1 = split_min(j->l.strips, s0 + j->l.super);
  const int64_t size = block_groups(j, kb) * j->parts * MRT_SPLIT_GROUP_PART;
  for (int64_t s = s0; s < s1; ++s)
    split_strip(j, w, item, s, kb, worker_a(j, w) + (s - s0) * size);
  w->a_item = item;
  w->a_super = super;
  w->a_block = kb;
}

static int panel_cols(const split_job *j, int64_t p) {
  const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &p);
  return (int)split_min(MRT_GEMM_PANEL, s->n - p * MRT_GEMM_PANEL);
}

static bool same_piece(split_piece a, split_piece b) {
  return a.p == b.p && a.kb == b.kb && a.first == b.first;
}
static void holds(split_worker *w, int64_t item, split_piece b) {
  w->b_item = item;
  w->b = b;
}

static void want_b(const split_job *j, split_worker *w, int64_t item, split_piece b) {
  if (j->b16 || (w->b_item == item && same_piece(w->b, b))) return;
  j->kern->split_b(split_floats(j, item, b), piece_k(j, b), panel_cols(j, b.p), j->parts,
                   worker_b(j, w, w->current));
  holds(w, item, b);
}

/* The piece after b in the range up to p1; one past the range is a good guess of what this worker
 * does next. */
static bool step(const split_job *j, split_piece *b, int64_t p0, int64_t p1) {
  b->first += j->l.piece;
  if (b->first < block_groups(j, b->kb)) return true;
  b->first = 0;
  if (++b->p < (j->l.blocks > 1 ? p1 : j->l.panels)) return true;
  b->p = p0;
  return ++b->kb < j->l.blocks;
}

/* Sets up what goes on behind the products of `strips` strips: splitting of b, while lines of what
 * is split a little later are fetched; or, where B needs no splitting, only fetching it. */
static mrt_split_ahead ahead_of(const split_job *j, split_worker *w, int64_t item, split_piece b,
                                int64_t p0, int64_t p1, int64_t strips) {
  static const int steps[] = {1, 1, 3, 6};
  mrt_split_ahead n = {.end = piece_k(j, b) / MRT_SPLIT_GROUP * 16,
                       .burst = (int)split_ceil(16, strips * steps[j->parts])};
  if (j->b16) {
    n.lines = 2 * j->parts;
    n.turn = n.end;
    /* One part and many rows: the products take longer than the fetching (ViT: 5 % slower). */
    if (j->parts > 1 || strips <= 5) n.whole = n.end * n.lines & ~(int64_t)255;
    n.fetch = (const char *)split_parts(j, b);
    return n;
  }
  n.lines = 4;
  n.panel = split_floats(j, item, b);
  n.dst = worker_b(j, w, !w->current);
  n.whole = n.end * n.lines & ~(int64_t)255;
  n.turn = split_max(0, n.end - NEAR * 16);
  n.fetch = (const char *)n.panel;
  n.first = NEAR * 16 * n.lines;
  if (step(j, &b, p0, p1)) n.then = (const char *)split_floats(j, item, b);
  n.then_first = -n.turn * n.lines;
  return n;
}

/* What products did not leave time for, and the last group when it is not whole. */
static void ahead_rest(const split_job *j, const mrt_split_ahead *n, split_piece b) {
  const int64_t g = n->at / 16, k = piece_k(j, b) - g * MRT_SPLIT_GROUP;
  if (k > 0)
    j->kern->split_b(n->panel + g * MRT_SPLIT_GROUP * MRT_GEMM_PANEL, k, panel_cols(j, b.p),
                     j->parts, n->dst + g * j->parts * MRT_SPLIT_GROUP_PART);
}

/* All strips of the super-block x piece. */
static void run_piece(const split_job *j, split_worker *w, int64_t item, int64_t s0, int64_t s1,
                      split_piece b, float *acc, mrt_split_ahead *next) {
  const int64_t group_size = (int64_t)j->parts * MRT_SPLIT_GROUP_PART;
  const int64_t groups = block_groups(j, b.kb), area = MRT_STRIP * MRT_STRIP;
  const int64_t end = b.first + piece_groups(j, b);
  const uint16_t *at_a = worker_a(j, w);
  const uint16_t *at_b = j->b16 ? split_parts(j, b) : worker_b(j, w, w->current);
  const int cols = panel_cols(j, b.p);
  const bool last_block = b.kb + 1 == j->l.blocks;
  static const int steps[] = {1, 1, 3, 6};
  for (int64_t g0 = b.first; g0 < end; g0 += j->l.slice) {
    const int64_t gn = split_min(j->l.slice, end - g0);
    const bool last = last_block && g0 + gn == groups;
    for (int64_t s = s0; s < s1; ++s) {
      float *sums = acc + (j->l.whole ? w->turn ^= 1 : s - s0) * area;
      next->late = w->late_acc ? &w->late : NULL;
      w->late.burst = (int)split_max(BURST, split_ceil(MRT_STRIP, gn * steps[j->parts]));
      j->kern->multiply_ahead(at_a + ((s - s0) * groups + g0) * group_size,
                              at_b + (g0 - b.first) * group_size, gn, j->parts,
                              (int)strip_rows(j, s), cols, b.kb > 0 || g0 > 0, sums, next);
      settle(j, w);
      if (last) finish_strip(j, w, item, s, b.p, sums);
    }
  }
}

/* A piece, and meanwhile the one after it. */
static void run_step(const split_job *j, split_worker *w, int64_t item, int64_t s0, int64_t s1,
                     split_piece b, int64_t p0, int64_t p1, float *acc) {
  split_piece n = b;
  want_b(j, w, item, b);
  if (!step(j, &n, p0, p1)) {
    mrt_split_ahead none = {.burst = 0};
    run_piece(j, w, item, s0, s1, b, acc, &none);
    return;
  }
  mrt_split_ahead next = ahead_of(j, w, item, n, p0, p1, s1 - s0);
  run_piece(j, w, item, s0, s1, b, acc, &next);
  if (j->b16 || (n.p == p1 && next.at < next.end)) return; /* that one is only a guess */
  ahead_rest(j, &next, n);
  w->current = !w->current;
  holds(w, item, n);
}

/* Super-block x panels [p0, p1) of one product. */
static void run_range(const split_job *j, split_worker *w, int64_t item, int64_t super, int64_t p0,
                      int64_t p1) {
  const int64_t s0 = super * j->l.super, s1 = split_min(j->l.strips, s0 + j->l.super);
  const int64_t area = (s1 - s0) * MRT_STRIP * MRT_STRIP;
  if (s0 >= s1 || p0 >= p1) return;
  late_begin(j, &w->late);
  j->kern->begin();
  for (int64_t kb = 0; kb < j->l.blocks; ++kb) {
    want_a(j, w, item, super, kb);
    for (int64_t p = p0; p < p1 && !mrt_par_stop(); ++p) {
      /* A strip alone takes turns with the one that waits, and so do all whose sums are complete at
       * once. */
      const int64_t slot = j->l.blocks > 1 ? p - p0 : s1 - s0 == 1 ? p & 1 : 0;
      float *acc = worker_acc(j, w) + (j->l.whole ? 0 : slot * area);
      for (split_piece b = {p, kb, 0}; b.first < block_groups(j, kb); b.first += j->l.piece)
        run_step(j, w, item, s0, s1, b, p0, p1, acc);
    }
  }
  settle(j, w);
  j->kern->end();
}

static void ranges_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t r = chunk % j->l.ranges, rest = chunk / j->l.ranges;
  run_range(j, worker_of(j, worker), rest / j->l.supers, rest % j->l.supers,
            mrt_par_begin(j->l.panels, j->l.ranges, r),
            mrt_par_begin(j->l.panels, j->l.ranges, r + 1));
}

/* Whole products, several per chunk. */
static void items_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  split_worker *w = worker_of(j, worker);
  const int64_t end = mrt_par_begin(j->batch.batch, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(j->batch.batch, j->chunks, chunk); i < end; ++i)
    for (int64_t u = 0; u < j->l.supers; ++u)
      for (int64_t r = 0; r < j->l.ranges; ++r)
        run_range(j, w, i, u, mrt_par_begin(j->l.panels, j->l.ranges, r),
                  mrt_par_begin(j->l.panels, j->l.ranges, r + 1));
}

/* Some strips of the A that all share. */
static void share_chunk(void *arg, int64_t chunk, int worker) {
  const split_job *j = arg;
  const int64_t end = mrt_par_begin(j->l.strips, j->chunks, chunk + 1);
  for (int64_t s = mrt_par_begin(j->l.strips, j->chunks, chunk); s < end; ++s)
    split_strip(j, worker_of(j, worker), 0, s, 0,
                j->shared_a + s * j->l.groups * j->parts * MRT_SPLIT_GROUP_PART);
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
                 .scratch = mrt_worker_first(scratch)};
  j.act = mrt_gemm_epilogue_tile(&j.epi, &j.tile);
  j.tile.c_col16 = j.tile.r_col16 = 16;
  j.tile.r_row = j.epi.residual_ld;
  j.only = mrt_gemm_side_of(g);
  if (!g->sides) j.g.sides = &j.only;
  j.b16 = j.g.sides->b16 && parts == g->b16_parts && (batch->batch == 1 || batch->b == 0);
  mrt_split_layout(&j.l, par, parts, g->m, g->n, g->k, g->a_trans, g->lean && batch->batch == 1);
  if (j.b16) j.l.piece = j.l.block;
  if (j.l.shared) {
    j.shared_a = (uint16_t *)(void *)j.scratch;
    j.scratch += j.l.shared;
    j.chunks = split_min(mrt_par_workers(par), j.l.strips);
  }
  for (int i = 0; i < mrt_par_workers(par); ++i)
    *worker_of(&j, i) = (split_worker){.a_item = -1, .b_item = -1};
  if (j.shared_a) mrt_par_run(par, j.chunks, share_chunk, &j);
  const double cost = mrt_split_cost(parts, g->m, g->n, g->k);
  if (batch->batch >= 16 || (batch->batch > 1 && cost < 400e3)) {
    j.chunks = mrt_par_chunks(batch->batch, cost * (double)batch->batch);
    mrt_par_run(par, j.chunks, items_chunk, &j);
  } else {
    mrt_par_run(par, batch->batch * j.l.supers * j.l.ranges, ranges_chunk, &j);
  }
}
