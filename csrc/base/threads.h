/* The one thread pool of the process. Helpers are started lazily by the first run that wants them,
 * spin only inside a run and for some tens of microseconds after it, then sleep; after fork() the
 * child starts without helpers and makes new ones when it needs them.
 *
 * Work is cut by its shape, never by the number of threads: results are the same bits for any
 * count. A caller that finds the pool busy computes all chunks alone. */
#ifndef MRT_BASE_THREADS_H
#define MRT_BASE_THREADS_H

#include "base/status.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A question asked now and then between steps and chunks, on the caller's thread only: "should this
 * run stop?" (a pending Ctrl-C). Asking is cheap; fn is called once per period. */
typedef struct mrt_poll mrt_poll;
struct mrt_poll {
  bool (*fn)(mrt_poll *poll); /* true: stop */
  uint64_t period_ns, due, tick;
  atomic_int stop;
};
void mrt_poll_init(mrt_poll *poll, bool (*fn)(mrt_poll *poll), uint64_t period_ns);
bool mrt_poll_ask(mrt_poll *poll); /* true: stop */

/* What one run may use. threads: cap (1 = the caller alone, 0 = all of the pool). A value, copied
 * freely; `inside` is set while a chunk runs, so that nested calls stay serial. */
typedef struct mrt_par {
  int threads;
  const atomic_int *cancel;    /* nonzero: stop soon; may be NULL. Polled between chunks. */
  mrt_poll *poll;              /* may be NULL */
  const struct mrt_par *outer; /* set by mrt_threads_run_begin */
} mrt_par;

/* chunk in [0, n_chunks); worker in [0, mrt_par_workers): index of a per-worker scratch slice. */
typedef void (*mrt_chunk_fn)(void *arg, int64_t chunk, int worker);

/* Runs fn for every chunk, in any order, on the caller (worker 0) and helpers; returns when all
 * are done. n_chunks 1 or threads 1 runs inline with no atomics. Chunks should be worth >= ~5 us
 * each; a good number is a few per thread: choose n_chunks from the shape (mrt_par_chunks). A
 * nested call from inside a chunk runs serially on the worker it is on (worker argument = that
 * worker's). When cancelled, the remaining chunks are skipped: the caller must check the flag. */
void mrt_par_run(const mrt_par *par, int64_t n_chunks, mrt_chunk_fn fn, void *arg);

/* Upper bound of the worker index + 1 for this par. */
int mrt_par_workers(const mrt_par *par);
/* How many chunks to cut `units` independent units into, when the whole costs about `cost`
 * nanoseconds on one core: 1 when the work is too small to share, at most 16, a function of
 * the shape only. */
int64_t mrt_par_chunks(int64_t units, double cost_ns);
/* Start of part `i` of `units` cut into n nearly equal parts. */
static inline int64_t mrt_par_begin(int64_t units, int64_t n, int64_t i) {
  return units / n * i + (units % n < i ? units % n : i);
}

/* Workers' slices of one block of memory: each begins a page, with a whole page and more between
 * them, because the prefetcher of one core, running past the end of what it reads, takes lines of
 * what lies next from the other core (whose next store there then waits for a trip), and stops at
 * the end of a page. Up to 1.7 times as slow was measured without. */
enum { MRT_WORKER_PAGE = 4096 };
/* Bytes from one worker's slice of `bytes` bytes to the next. */
static inline size_t mrt_worker_pitch(size_t bytes) {
  return (bytes + 2 * (size_t)MRT_WORKER_PAGE - 1) / MRT_WORKER_PAGE * MRT_WORKER_PAGE;
}
/* The first slice, in memory of MRT_WORKER_PAGE bytes more than the pitches. */
static inline void *mrt_worker_first(void *memory) {
  return (char *)memory + (-(uintptr_t)memory & (MRT_WORKER_PAGE - 1));
}

/* Pool size: affinity mask and cgroup quota; at least 1. */
int mrt_threads_count(void);
/* Around a run, on its thread; calls nest. par stays where it is in between. */
void mrt_threads_run_begin(mrt_par *par);
void mrt_threads_run_end(const mrt_par *par);
/* Should the run that this thread works for stop? For long loops inside a kernel or a chunk: ask
 * about once a millisecond. On the caller's thread this asks the poll too. The rest of the work may
 * be left out then: the run ends with a failure. */
bool mrt_par_stop(void);
/* Stops and joins helpers (module unload, tests). They restart on demand. */
void mrt_threads_shutdown(void);

static inline bool mrt_cancelled(const mrt_par *par) {
  return (par->cancel && atomic_load_explicit(par->cancel, memory_order_relaxed) != 0) ||
         (par->poll && atomic_load_explicit(&par->poll->stop, memory_order_relaxed) != 0);
}

#endif
