/* Mutexes that survive fork(): a child of a process whose other threads were in the middle of a
 * short critical section must not find it locked for ever. Guarded mutexes are all taken before a
 * fork and let go after it, on both sides.
 *
 * A guarded mutex is a leaf: its holder takes no other guarded mutex. */
#ifndef MRT_BASE_FORK_H
#define MRT_BASE_FORK_H

#include <pthread.h>

typedef struct mrt_fork_guard {
  pthread_mutex_t *mutex;
  struct mrt_fork_guard *prev, *next;
} mrt_fork_guard;

/* The mutex must stay where it is until it is removed. */
void mrt_fork_guard_add(mrt_fork_guard *guard, pthread_mutex_t *mutex);
void mrt_fork_guard_remove(mrt_fork_guard *guard); /* fine for one that was never added (zeroed) */

#endif
