/* The list of guarded mutexes, under a mutex of its own that is taken first. */
#include "base/fork.h"

#include <stddef.h>

static struct list {
  pthread_mutex_t lock;
  pthread_once_t once;
  mrt_fork_guard *first;
} list = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

static void before(void) {
  pthread_mutex_lock(&list.lock);
  for (mrt_fork_guard *g = list.first; g; g = g->next) pthread_mutex_lock(g->mutex);
}

static void after(void) {
  for (mrt_fork_guard *g = list.first; g; g = g->next) pthread_mutex_unlock(g->mutex);
  pthread_mutex_unlock(&list.lock);
}

/* Without memory for the handlers a fork at a bad moment may hang the child, nothing else. */
static void hook(void) { (void)pthread_atfork(before, after, after); }

void mrt_fork_guard_add(mrt_fork_guard *g, pthread_mutex_t *mutex) {
  pthread_once(&list.once, hook);
  g->mutex = mutex;
  g->prev = NULL;
  pthread_mutex_lock(&list.lock);
  g->next = list.first;
  if (g->next) g->next->prev = g;
  list.first = g;
  pthread_mutex_unlock(&list.lock);
}

void mrt_fork_guard_remove(mrt_fork_guard *g) {
  if (!g->mutex) return;
  pthread_mutex_lock(&list.lock);
  if (g->next) g->next->prev = g->prev;
  if (g->prev)
    g->prev->next = g->next;
  else
    list.first = g->next;
  pthread_mutex_unlock(&list.lock);
  g->mutex = NULL;
}
