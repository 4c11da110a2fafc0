/* Slabs (slab.h): blocks are cut off the front of the newest slab. The place of one that is freed
 * is not used again before the slab goes, but its pages are given back at once, so that one small
 * block that lives on keeps an address range, not 8 MiB of memory. In front of each block a line
 * says which slab it is of. */
#include "provider/cpu/weights/slab.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fork.h"

enum {
  LINE = 64,
  LEAST = 64 << 10,   /* smaller blocks are not worth a huge page */
  MOST = 2 << 20,     /* larger ones get huge pages of their own */
  SLAB_SIZE = 8 << 20 /* what is never touched of it is not memory */
};

typedef struct slab {
  size_t used; /* from the slab's beginning */
  int blocks;
} slab;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mrt_fork_guard lock_guard;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static slab *newest;
static void guard(void) { mrt_fork_guard_add(&lock_guard, &lock); }

typedef struct label {
  slab *of;    /* NULL: a block of its own */
  size_t size; /* with the label */
} label;
static label *label_of(void *block) { return (label *)(void *)((char *)block - LINE); }

/* `size` bytes of the newest slab, or of a new one. The lock is held. */
static mrt_status *cut(size_t size, void **out) {
  if (!newest || newest->used + size > SLAB_SIZE) {
    void *memory;
    MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), SLAB_SIZE, MRT_ALIGN, &memory));
    newest = memory;
    *newest = (slab){.used = LINE};
  }
  *out = (char *)newest + newest->used + LINE;
  *label_of(*out) = (label){newest, size};
  newest->used += size;
  ++newest->blocks;
  return NULL;
}

mrt_status *mrt_slab_new(size_t bytes, void **out) {
  size_t size;
  *out = NULL;
  if (!mrt_size_add(bytes, 2 * LINE - 1, &size)) return mrt_status_oom();
  size -= size % LINE;
  /* To whole huge pages where that adds little: the end is read as often as the beginning. */
  const size_t more = bytes >= MOST ? -size % MOST : 0;
  if (more <= size / 3 && !mrt_size_add(size, more, &size)) return mrt_status_oom();
  if (bytes < LEAST || bytes >= MOST) {
    MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), size, MRT_ALIGN, out));
    *out = (char *)*out + LINE;
    *label_of(*out) = (label){NULL, size};
    return NULL;
  }
  pthread_once(&once, guard);
  pthread_mutex_lock(&lock);
  mrt_status *st = cut(size, out);
  pthread_mutex_unlock(&lock);
  return st;
}

/* Whole pages only: what lies beside them may be another block's. */
static void give_back(void *at, size_t size) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)at;
  const uintptr_t first = (from + page - 1) / page * page, end = (from + size) / page * page;
  if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

void mrt_slab_free(void *block) {
  if (!block) return;
  label *l = label_of(block);
  slab *s = l->of;
  if (!s) {
    mrt_mem_free(mrt_alloc_default(), l);
    return;
  }
  give_back(l, l->size);
  pthread_mutex_lock(&lock);
  const bool last = --s->blocks == 0;
  if (last && s == newest) newest = NULL;
  pthread_mutex_unlock(&lock);
  if (last) mrt_mem_free(mrt_alloc_default(), s);
}
