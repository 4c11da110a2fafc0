/* The walk over time. Threads share a step in slices of units. A worker takes its own slices first,
 * so that the weights of a slice stay in one core's cache, and then any slice that nobody has
 * begun: whoever has begun a slice is running, so waiting for the step always ends, on one thread
 * as on many. */
#include <sched.h>
#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/recurrent/recurrent_weights.h"

enum {
  BLOCK = MRT_RNN_BLOCK,
  MAX_SLICES = 4,
  SHARED_STEP_NS = 1500, /* a step from here on is worth a hand-off */
  AHEAD_FLOATS = 4096    /* of the state, fetched at once where another thread wrote it */
};

static const mrt_rnn_kernels *kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/recurrent/recurrent.def"
#undef MRT_KERNEL
}

/* Slices of a worker that are done, on a cache line that the others poll: slice i counts steps. */
typedef struct progress {
  _Alignas(64) atomic_llong done[MAX_SLICES];
} progress;
typedef struct claim {
  _Alignas(64) atomic_llong steps; /* that somebody has begun the slice for */
} claim;

typedef struct walk {
  const mrt_rnn_run *q;
  const mrt_rnn_kernels *kern;
  float *x0;            /* what the input gives the first gate: [seq, batch, dirs, padded], or y */
  float *x;             /* and the others: [seq, batch, dirs, padded * (gates - 1)] */
  float *h[2];          /* [dirs, batch, padded] each */
  float *cell;          /* the same */
  int slices, first, n; /* of one direction; the first and the number of those walked now */
  int workers;
  int64_t mid; /* the first unit of the second half of a direction's slices */
  bool halves; /* a worker's own slices are one half of the state */
  atomic_int arrived[2 * MAX_SLICES]; /* by worker */
  progress progress[2 * MAX_SLICES];
  claim begun[2 * MAX_SLICES];
} walk;

/* Rows of y are just as long as those of the first gate: that may wait there, since a step reads
 * its part of a row before it writes it. */
static bool waits_in_y(const mrt_rnn_run *q) {
  return q->y && q->w->dirs == 1 && q->w->hidden == q->w->padded;
}

/* first: of the first gate, unless it is in y. */
static bool count_floats(const mrt_rnn_run *q, size_t *first, size_t *x, size_t *state) {
  const size_t dirs = (size_t)q->w->dirs, padded = (size_t)q->w->padded;
  size_t rows, all;
  if (!mrt_size_mul((size_t)q->seq, (size_t)q->batch, &rows) ||
      !mrt_size_mul(rows, dirs * padded * (size_t)q->w->gates, &all) ||
      !mrt_size_mul((size_t)q->batch, dirs * padded, state) || all >= SIZE_MAX / 64 ||
      *state >= SIZE_MAX / 64)
    return false;
  *first = waits_in_y(q) ? 0 : rows * dirs * padded;
  *x = rows * dirs * padded * (size_t)(q->w->gates - 1);
  return true;
}

/* The right sides of the product of the inputs, up to 4; n: their columns. */
static int sides_of(const walk *w, mrt_gemm_side *sides, int64_t *n) {
  const mrt_rnn_weights *p = w->q->w;
  const float *at = p->w, *bias = p->bias;
  int count = 0;
  for (int d = 0; d < p->dirs; ++d)
    for (int others = 0; others < 2 && mrt_rnn_columns(p, others); ++others) {
      const int64_t columns = mrt_rnn_columns(p, others);
      float *c = others ? w->x : w->x0;
      sides[count++] = (mrt_gemm_side){.n = columns,
                                       .b = at,
                                       .c = c ? c + d * columns : NULL,
                                       .ldc = p->dirs * columns,
                                       .bias = bias};
      at += mrt_rnn_w_floats(p, others);
      bias += columns;
    }
  *n = mrt_gemm_sides_columns(sides, count);
  return count;
}

size_t mrt_rnn_scratch_size(const mrt_par *par, const mrt_rnn_run *q) {
  size_t first, x, state, bytes;
  int64_t n;
  mrt_gemm_side sides[2 * 2];
  const walk w = {.q = q};
  sides_of(&w, sides, &n);
  if (!count_floats(q, &first, &x, &state) ||
      !mrt_size_add((first + x + 3 * state) * sizeof(float) + MRT_ALIGN,
                    mrt_gemm_lean_scratch_size(par, q->seq * q->batch, n, q->w->in), &bytes))
    return SIZE_MAX;
  return bytes;
}

static mrt_rnn_step step_of(const walk *w, int64_t t, int k) {
  const mrt_rnn_run *q = w->q;
  const mrt_rnn_weights *p = q->w;
  const int64_t d = k / w->slices, wide = p->padded * p->gates;
  const int64_t at = q->reverse || d == 1 ? q->seq - 1 - t : t;
  const int64_t state = d * q->batch * p->padded, row = at * q->batch * p->dirs + d;
  return (mrt_rnn_step){.hidden = p->hidden,
                        .padded = p->padded,
                        .batch = q->batch,
                        .r = p->r + d * wide * p->hidden,
                        .first = w->x0 + row * p->padded,
                        .x = w->x + row * mrt_rnn_columns(p, 1),
                        .first_step = p->dirs * p->padded,
                        .x_step = p->dirs * mrt_rnn_columns(p, 1),
                        .rb = p->rb ? p->rb + d * p->padded : NULL,
                        .h = w->h[t & 1] + state,
                        .next = w->h[(t + 1) & 1] + state,
                        .cell = p->kind == MRT_RNN_LSTM ? w->cell + state : NULL,
                        .y = q->y ? q->y + (at * p->dirs + d) * q->batch * p->hidden : NULL,
                        .mid = w->mid};
}

/* Blocks of units of a slice in the order of step t: back and forth, since what the last step read
 * last is still in the cache. */
typedef struct order {
  int64_t first, n, step;
} order;
static order order_of(const walk *w, int64_t t, int k) {
  const int64_t blocks = w->q->w->padded / BLOCK, part = k % w->slices;
  const int64_t k0 = mrt_par_begin(blocks, w->slices, part);
  const int64_t n = mrt_par_begin(blocks, w->slices, part + 1) - k0;
  return t & 1 ? (order){k0 + n - 1, n, -1} : (order){k0, n, 1};
}

/* The state comes from other cores' caches: all of it at once rather than line after line. */
static void fetch_state(const walk *w, const float *h) {
  const int64_t n = w->q->batch * w->q->w->padded;
  if (w->workers > 1 && n <= AHEAD_FLOATS)
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(h + i);
}

static void blocks_from(const walk *w, const mrt_rnn_step *s, const order *o, int64_t i) {
  for (; i < o->n; ++i) {
    const int64_t block = o->first + i * o->step;
    w->kern->step[w->q->w->kind](s, block, block + 1);
  }
}

/* Slice k of step t when all of the step before is done. */
static void slice(const walk *w, int64_t t, int k) {
  const mrt_rnn_step s = step_of(w, t, k);
  const order o = order_of(w, t, k);
  fetch_state(w, s.h);
  blocks_from(w, &s, &o, 0);
}

/* Every step of the chosen slices on this thread. */
static void alone(const walk *w) {
  for (int64_t t = 0; t < w->q->seq && !mrt_par_stop(); ++t)
    for (int i = 0; i < w->n; ++i) slice(w, t, w->first + (t & 1 ? w->n - 1 - i : i));
}

static int owner_begin(const walk *w, int worker) { return worker * w->n / w->workers; }

/* Slice k of step t is this worker's now, unless somebody has begun it. */
static bool claim_slice(walk *w, int64_t t, int k) {
  long long before = t;
  return atomic_compare_exchange_strong_explicit(&w->begun[k].steps, &before, t + 1,
                                                 memory_order_relaxed, memory_order_relaxed);
}
static void tell_done(walk *w, int64_t t, int worker, int k) {
  atomic_store_explicit(&w->progress[worker].done[k - owner_begin(w, worker)], t + 1,
                        memory_order_release);
}

static bool is_done(walk *w, int64_t t, int worker) {
  const int n = owner_begin(w, worker + 1) - owner_begin(w, worker);
  for (int i = 0; i < n; ++i)
    if (atomic_load_explicit(&w->progress[worker].done[i], memory_order_acquire) <= t) return false;
  return true;
}

/* Waits for another worker's slices of step t; does those that nobody has begun when that worker is
 * not there or seems to have lost its core. All of the step before is done. */
static void wait_for(walk *w, int64_t t, int worker) {
  for (int spins = 0; !is_done(w, t, worker); ++spins) {
    const bool absent = !atomic_load_explicit(&w->arrived[worker], memory_order_relaxed);
    if (absent || spins % 4096 == 4095)
      for (int k = owner_begin(w, worker); k < owner_begin(w, worker + 1); ++k)
        if (claim_slice(w, t, k)) {
          slice(w, t, w->first + k);
          tell_done(w, t, worker, k);
        }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    if (spins > 20000) sched_yield(); /* a worker lost its core */
  }
}
static void wait_for_all(walk *w, int64_t t) {
  for (int i = 0; i < w->workers; ++i) wait_for(w, t, i);
}

/* The first slice of a worker's step begins with what needs his own half of the state only, while
 * the other half is on its way. */
static void early_slice(walk *w, int64_t t, int self, int k) {
  enum { EARLY = 2 };
  _Alignas(64) float sums[EARLY][4 * BLOCK];
  const order o = order_of(w, t, w->first + k);
  const int64_t n = o.n < EARLY ? o.n : EARLY;
  const mrt_rnn_kind kind = w->q->w->kind;
  mrt_rnn_step s = step_of(w, t, w->first + k);
  wait_for(w, t - 1, self); /* somebody else may have begun them */
  s.have = k >= w->slices / 2;
  w->kern->half[kind](&s, o.first, s.have, sums[0]);
  wait_for_all(w, t - 1);
  fetch_state(w, s.h);
  for (int64_t i = 1; i < n; ++i) w->kern->half[kind](&s, o.first + i * o.step, s.have, sums[i]);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t block = o.first + i * o.step;
    s.sums = sums[i];
    w->kern->step[kind](&s, block, block + 1);
  }
  s.sums = NULL;
  blocks_from(w, &s, &o, n);
}

/* Step t of a worker's own slices. */
static void own_step(walk *w, int64_t t, int self) {
  const int first = owner_begin(w, self), end = owner_begin(w, self + 1);
  bool waited = t == 0;
  for (int i = first; i < end; ++i) {
    const int k = t & 1 ? end - 1 - (i - first) : i;
    if (!claim_slice(w, t, k)) continue;
    if (!waited && w->halves) {
      early_slice(w, t, self, k);
    } else {
      if (!waited) wait_for_all(w, t - 1);
      slice(w, t, w->first + k);
    }
    waited = true;
    tell_done(w, t, self, k);
  }
  if (!waited) wait_for_all(w, t - 1);
}

static void take_part(void *arg, int64_t chunk, int worker) {
  walk *w = arg;
  (void)worker;
  const int self = (int)chunk;
  int64_t t = 0;
  atomic_store_explicit(&w->arrived[self], 1, memory_order_relaxed);
  /* Who stops has begun no slice that he leaves undone: the others stop too, or do without him. */
  for (; t < w->q->seq && !mrt_par_stop(); ++t) own_step(w, t, self);
  if (t == w->q->seq) wait_for_all(w, t - 1);
}

/* The steps of `dirs` directions from `dir` on, side by side. */
static void walk_steps(const mrt_par *par, walk *w, int dir, int dirs) {
  w->first = dir * w->slices;
  w->n = dirs * w->slices;
  if (w->workers > w->n) w->workers = w->n;
  if (w->workers <= 1) {
    alone(w);
    return;
  }
  w->halves = w->q->batch == 1 && dirs == 1 && w->workers == 2 && w->slices % 2 == 0;
  for (int i = 0; i < w->n; ++i) {
    atomic_init(&w->arrived[i], 0);
    atomic_init(&w->begun[i].steps, 0);
    for (int k = 0; k < MAX_SLICES; ++k) atomic_init(&w->progress[i].done[k], 0);
  }
  mrt_par_run(par, w->workers, take_part, w);
}

static void one_direction(void *arg, int64_t dir, int worker) {
  walk w = *(const walk *)arg;
  (void)worker;
  w.first = (int)dir * w.slices;
  w.n = w.slices;
  alone(&w);
}

/* How the threads share the layer. Two directions at once need no hand-offs, but all of their
 * weights stay in use: that pays when a thread's share of them stays in its cache. Else a direction
 * after the other, each with all threads. */
static void walk_all(const mrt_par *par, walk *w) {
  const mrt_rnn_weights *p = w->q->w;
  const double weights = (double)p->padded * p->gates * (double)p->hidden;
  const double step_ns = weights * (double)w->q->batch / 30;
  const int workers = mrt_par_workers(par);
  const bool fits = weights * 4 * p->dirs < 0.8 * (double)mrt_cpu_get()->l2 * workers;
  const bool shared = step_ns >= SHARED_STEP_NS && workers > 1;
  if (p->dirs == 2 && workers > 1 && (fits || !shared) && (workers < 4 || !shared)) {
    const double all_ns = step_ns * 2 * (double)w->q->seq;
    if (mrt_par_chunks(2, all_ns) == 2) {
      mrt_par_run(par, 2, one_direction, w);
      return;
    }
  }
  w->workers = shared ? workers : 1;
  if (fits && shared) {
    walk_steps(par, w, 0, p->dirs);
    return;
  }
  for (int d = 0; d < p->dirs; ++d) walk_steps(par, w, d, 1);
}

/* [dirs, batch, hidden] to or from rows of `padded`. */
static void copy_rows(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t n,
                      int64_t rows) {
  for (int64_t i = 0; i < rows && to && from; ++i)
    memcpy(to + i * to_step, from + i * from_step, (size_t)n * sizeof(float));
}

void mrt_rnn_run_layer(const mrt_par *par, const mrt_rnn_run *q, void *scratch) {
  const mrt_rnn_weights *p = q->w;
  const int64_t rows = p->dirs * q->batch;
  size_t first, nx, ns;
  if (!count_floats(q, &first, &nx, &ns)) return;
  walk w = {.q = q, .kern = kernels_get(), .x0 = first ? scratch : q->y};
  w.x = (float *)scratch + first;
  w.h[0] = w.x + nx;
  w.h[1] = w.h[0] + ns;
  w.cell = w.h[1] + ns;
  void *rest = (void *)(((uintptr_t)(w.cell + ns) + MRT_ALIGN - 1) & ~(uintptr_t)(MRT_ALIGN - 1));
  memset(w.h[0], 0, 3 * ns * sizeof(float));
  copy_rows(w.h[0], p->padded, q->h0, p->hidden, p->hidden, rows);
  copy_rows(w.cell, p->padded, q->c0, p->hidden, p->hidden, rows);
  mrt_gemm_side sides[2 * 2];
  mrt_gemm g = {
      .m = q->seq * q->batch, .k = p->in, .a = q->x, .lda = p->in, .sides = sides, .lean = true};
  sides_of(&w, sides, &g.n);
  if (rows) mrt_gemm_run(par, &g, rest);
  const int64_t blocks = p->padded / BLOCK;
  w.slices = blocks < MAX_SLICES ? (int)blocks : MAX_SLICES;
  w.mid = w.slices > 1 ? mrt_par_begin(blocks, w.slices, w.slices / 2) * BLOCK : p->hidden / 2;
  if (rows) walk_all(par, &w);
  copy_rows(q->yh, p->hidden, w.h[q->seq & 1], p->padded, p->hidden, rows);
  copy_rows(q->yc, p->hidden, w.cell, p->padded, p->hidden, rows);
}
