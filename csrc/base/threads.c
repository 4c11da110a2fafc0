/* The pool. One job at a time: a caller takes the pool's lock (or computes alone), publishes the
 * job under a new generation, and works on it with the helpers. Chunks are cut into one range a
 * worker, each behind an atomic counter; who has finished his own helps with the others. So the
 * same worker gets the same part of successive jobs, and finds in its own cache what it wrote.
 *
 * A job lives on the caller's stack, so no helper may touch it after the caller returns: a helper
 * enters by incrementing `inside` and only then reads the job pointer; the caller first clears the
 * pointer, then waits until `inside` is zero. */
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define MAX_HELPERS 255
#define SPIN_NS     30000
#define MAX_RANGES  16

typedef struct range { /* a cache line each */
  _Alignas(64) atomic_llong next;
  int64_t end;
} range;

typedef struct job {
  mrt_chunk_fn fn;
  void *arg;
  int64_t n_chunks;
  const mrt_par *par;
  int max_helpers, n_ranges;
  atomic_int joined; /* helpers that took part: their worker numbers */
  range ranges[MAX_RANGES];
} job;

static struct pool {
  pthread_mutex_t lock; /* starting, sleeping */
  pthread_cond_t wake;
  atomic_int busy; /* a caller owns the pool */
  _Atomic(job *) current;
  atomic_uint generation;
  atomic_int inside;
  atomic_int sleeping;
  atomic_int stop;
  int n_helpers; /* started; guarded by lock */
  pthread_t helpers[MAX_HELPERS];
  bool hooked;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static _Thread_local int worker_index = -1;  /* >= 0: inside a chunk */
static _Thread_local const mrt_par *running; /* of the run that this thread works for */

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/* Time stamp counter where there is one: a tick is not a time, but tells when to look at the clock.
 */
static inline uint64_t ticks(void) {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return mrt_now_ns();
#endif
}
#define POLL_TICKS ((uint64_t)1 << 21) /* about a millisecond */

void mrt_poll_init(mrt_poll *p, bool (*fn)(mrt_poll *poll), uint64_t period_ns) {
  p->fn = fn;
  p->period_ns = period_ns;
  p->due = 0;
  p->tick = ticks();
  atomic_init(&p->stop, 0);
}

bool mrt_poll_ask(mrt_poll *p) {
  if (atomic_load_explicit(&p->stop, memory_order_relaxed)) return true;
  uint64_t t = ticks();
  if (t - p->tick < POLL_TICKS) return false;
  p->tick = t;
  uint64_t now = mrt_now_ns();
  if (!p->due) p->due = now + p->period_ns;
  if (now < p->due) return false;
  if (p->fn(p)) atomic_store(&p->stop, 1);
  p->due = mrt_now_ns() + p->period_ns;
  return atomic_load_explicit(&p->stop, memory_order_relaxed) != 0;
}

static void work_range(job *j, range *r, int worker) {
  for (;;) {
    if (atomic_load_explicit(&r->next, memory_order_relaxed) >= r->end) return;
    int64_t chunk = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
    if (chunk >= r->end) return;
    if (mrt_cancelled(j->par)) continue;
    j->fn(j->arg, chunk, worker);
    if (worker == 0 && j->par->poll) mrt_poll_ask(j->par->poll);
  }
}

static void work(job *j, int worker) {
  int before = worker_index;
  const mrt_par *outer = running;
  worker_index = worker;
  running = j->par;
  for (int i = 0; i < j->n_ranges; ++i)
    work_range(j, &j->ranges[(worker + i) % j->n_ranges], worker);
  worker_index = before;
  running = outer;
}

static void try_join(void) {
  atomic_fetch_add(&pool.inside, 1);
  job *j = atomic_load(&pool.current);
  if (j) {
    int id = atomic_fetch_add(&j->joined, 1);
    if (id < j->max_helpers) work(j, id + 1);
  }
  atomic_fetch_sub(&pool.inside, 1);
}

static void *helper_main(void *unused) {
  (void)unused;
  unsigned seen = 0;
  for (;;) {
    uint64_t since = mrt_now_ns();
    int polls = 0;
    while (atomic_load_explicit(&pool.generation, memory_order_acquire) == seen &&
           !atomic_load_explicit(&pool.stop, memory_order_relaxed)) {
      pause_cpu();
      if (++polls % 64 == 0 && mrt_now_ns() - since > SPIN_NS) {
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.sleeping, 1);
        while (atomic_load(&pool.generation) == seen && !atomic_load(&pool.stop))
          pthread_cond_wait(&pool.wake, &pool.lock);
        atomic_fetch_sub(&pool.sleeping, 1);
        pthread_mutex_unlock(&pool.lock);
        break;
      }
    }
    if (atomic_load(&pool.stop)) return NULL;
    seen = atomic_load_explicit(&pool.generation, memory_order_acquire);
    try_join();
  }
}

/* After fork the child has the forking thread only: start over. */
static void after_fork(void) {
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.wake, NULL);
  atomic_store(&pool.busy, 0);
  atomic_store(&pool.current, NULL);
  atomic_store(&pool.inside, 0);
  atomic_store(&pool.sleeping, 0);
  pool.n_helpers = 0;
  worker_index = -1;
  running = NULL;
}

static int quota_cpus(void) { /* cgroup v2, then v1; 0: no limit */
  long long quota = -1, period = 100000;
  FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
  if (f) {
    if (fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1;
    fclose(f);
  } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re"))) {
    if (fscanf(f, "%lld", &quota) != 1) quota = -1;
    fclose(f);
    if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re"))) {
      if (fscanf(f, "%lld", &period) != 1) period = 100000;
      fclose(f);
    }
  }
  return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int mrt_threads_count(void) {
  static atomic_int cached;
  int n = atomic_load_explicit(&cached, memory_order_relaxed);
  if (n) return n;
  cpu_set_t set;
  n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                  : (int)sysconf(_SC_NPROCESSORS_ONLN);
  int q = quota_cpus();
  if (q > 0 && q < n) n = q;
  if (n < 1) n = 1;
  if (n > MAX_HELPERS + 1) n = MAX_HELPERS + 1;
  atomic_store(&cached, n);
  return n;
}

static void start_helpers(void) { /* the caller owns the pool */
  int want = mrt_threads_count() - 1;
  if (__atomic_load_n(&pool.n_helpers, __ATOMIC_RELAXED) >= want) return;
  pthread_mutex_lock(&pool.lock);
  if (!pool.hooked) pool.hooked = pthread_atfork(NULL, NULL, after_fork) == 0;
  while (pool.n_helpers < want) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    int err = pthread_create(&pool.helpers[pool.n_helpers], &attr, helper_main, NULL);
    pthread_attr_destroy(&attr);
    if (err) break; /* fewer helpers: slower, not wrong */
    __atomic_store_n(&pool.n_helpers, pool.n_helpers + 1, __ATOMIC_RELAXED);
  }
  pthread_mutex_unlock(&pool.lock);
}

static void run_serial(const mrt_par *par, int64_t n, mrt_chunk_fn fn, void *arg, int worker) {
  for (int64_t i = 0; i < n; ++i) {
    if (i && par && mrt_cancelled(par)) return;
    fn(arg, i, worker);
    if (worker == 0 && par && par->poll) mrt_poll_ask(par->poll);
  }
}

void mrt_par_run(const mrt_par *par, int64_t n_chunks, mrt_chunk_fn fn, void *arg) {
  int helpers = mrt_par_workers(par) - 1, idle = 0;
  if (worker_index >= 0) { /* within a chunk: memory is there for par's workers, not for all */
    run_serial(par, n_chunks, fn, arg, worker_index <= helpers ? worker_index : 0);
    return;
  }
  if (n_chunks <= 1 || helpers <= 0 ||
      !atomic_compare_exchange_strong_explicit(&pool.busy, &idle, 1, memory_order_acquire,
                                               memory_order_relaxed)) {
    run_serial(par, n_chunks, fn, arg, 0);
    return;
  }
  start_helpers();
  job j = {.fn = fn,
           .arg = arg,
           .n_chunks = n_chunks,
           .par = par,
           .max_helpers = helpers < n_chunks ? helpers : (int)n_chunks - 1};
  j.n_ranges = j.max_helpers < MAX_RANGES ? j.max_helpers + 1 : MAX_RANGES;
  for (int i = 0; i < j.n_ranges; ++i) {
    atomic_init(&j.ranges[i].next, mrt_par_begin(n_chunks, j.n_ranges, i));
    j.ranges[i].end = mrt_par_begin(n_chunks, j.n_ranges, i + 1);
  }
  atomic_store(&pool.current, &j);
  atomic_fetch_add(&pool.generation, 1);
  if (atomic_load(&pool.sleeping)) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
  }
  work(&j, 0);
  atomic_store(&pool.current, NULL);
  /* In one order with the store above and both accesses of try_join: else a helper might enter
   * unseen and still find the job. */
  for (int spins = 0; atomic_load(&pool.inside); ++spins) {
    pause_cpu();
    if (spins > 4000) sched_yield(); /* the helper lost its core: let it have this one */
  }
  atomic_store_explicit(&pool.busy, 0, memory_order_release);
}

int mrt_par_workers(const mrt_par *par) {
  int n = mrt_threads_count();
  return par && par->threads > 0 && par->threads < n ? par->threads : n;
}

int64_t mrt_par_chunks(int64_t units, double cost_ns) {
  if (cost_ns < 8000 || units <= 1) return 1;
  double n = cost_ns / 4000;
  if (n > 16) n = 16;
  return units < (int64_t)n ? units : (int64_t)n;
}

/* Helpers spin for SPIN_NS after each job: enough between the steps of a run. */
void mrt_threads_run_begin(mrt_par *par) {
  par->outer = running;
  running = par;
}
void mrt_threads_run_end(const mrt_par *par) { running = par->outer; }

bool mrt_par_stop(void) {
  const mrt_par *par = running;
  if (!par) return false;
  if (par->poll && worker_index <= 0) mrt_poll_ask(par->poll);
  return mrt_cancelled(par);
}

void mrt_threads_shutdown(void) {
  pthread_mutex_lock(&pool.lock);
  int n = pool.n_helpers;
  atomic_store(&pool.stop, 1);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.lock);
  for (int i = 0; i < n; ++i) pthread_join(pool.helpers[i], NULL);
  pthread_mutex_lock(&pool.lock);
  __atomic_store_n(&pool.n_helpers, 0, __ATOMIC_RELAXED);
  atomic_store(&pool.stop, 0);
  pthread_mutex_unlock(&pool.lock);
}
