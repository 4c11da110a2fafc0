/* base/fork: a child never finds a guarded mutex locked by a thread that it does not have; runs of
 * the pool work in the child. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fork.h"
#include "base/threads.h"
#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int inside; /* odd while somebody is in the critical section */
static atomic_int stop;

static void *busy(void *unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    pthread_mutex_lock(&mutex);
    ++inside;
    for (volatile int i = 0; i < 200; ++i) continue;
    ++inside;
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static void add(void *arg, int64_t chunk, int worker) {
  (void)worker;
  atomic_fetch_add((atomic_llong *)arg, chunk);
}

static int in_child(void) {
  atomic_llong sum = 0;
  mrt_par par = {0};
  alarm(20);
  pthread_mutex_lock(&mutex);
  int odd = inside % 2;
  pthread_mutex_unlock(&mutex);
  mrt_par_run(&par, 100, add, &sum);
  return odd || sum != 4950;
}

int main(void) {
  mrt_fork_guard guard = {0}, other = {0}, never = {0};
  pthread_mutex_t second = PTHREAD_MUTEX_INITIALIZER;
  pthread_t thread;
  atomic_llong sum = 0;
  mrt_par par = {0};
  mrt_fork_guard_add(&guard, &mutex);
  mrt_fork_guard_add(&other, &second);
  mrt_fork_guard_remove(&never);
  mrt_par_run(&par, 100, add, &sum);
  CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
  for (int i = 0; i < 100; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(in_child());
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_EQ_I(status, 0);
  }
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  mrt_fork_guard_remove(&guard);
  mrt_fork_guard_remove(&other);
  mrt_fork_guard_remove(&other);
  mrt_threads_shutdown();
  return CHECK_DONE();
}
