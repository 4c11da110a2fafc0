/* The process allocator counts live bytes by what malloc really gave; checked size arithmetic. */
#include "base/alloc.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Blocks of a huge page and more start on one and ask for them: weights stream faster, and a
 * fresh block costs fewer faults. They are mappings of their own, so that what is freed is gone,
 * with their size in front; no other block starts on a huge page. Sanitizers watch the heap
 * instead. */
#define HUGE  ((size_t)1 << 21)
#define FRONT ((size_t)1 << 16) /* a multiple of every page size; one page of it is touched */

static const bool maps = !MRT_ASAN;

static atomic_llong live;

static bool is_map(const void *p) { return maps && (uintptr_t)p % HUGE == 0; }
static size_t *front_of(const void *p) { return (size_t *)(void *)((char *)p - FRONT); }

static void *map_block(size_t size) {
  if (size > PTRDIFF_MAX - 2 * HUGE) return NULL;
  size = (size + FRONT - 1) & ~(FRONT - 1);
  const size_t all = size + HUGE + FRONT;
  char *p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  char *data = (char *)(((uintptr_t)p + FRONT + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
  const size_t before = (size_t)(data - p) - FRONT, behind = all - before - FRONT - size;
  if (before) munmap(p, before);
  if (behind) munmap(data + size, behind);
  (void)madvise(data, size & ~(HUGE - 1), MADV_HUGEPAGE); /* advice: it may fail */
  *front_of(data) = size;
  return data;
}

static void *heap_block(size_t size, size_t align) {
  void *p = NULL;
  if (align <= 16) return malloc(size ? size : 1);
  return posix_memalign(&p, align, size ? size : 1) == 0 ? p : NULL;
}

/* One that does not look like a mapping. A small block that does is never used, and never given
 * back: the heap would hand out the same address again and again. There is at most one in 2 MiB.
 * Others are held until there is a better one. */
static void *other_block(size_t size, size_t align) {
  enum { SMALL = 1024, MOST = 8 };
  void *held[MOST], *p = heap_block(size, align);
  int n = 0;
  while (p && is_map(p) && n < MOST) {
    if (size > SMALL) held[n++] = p;
    p = heap_block(size, align);
  }
  while (n) free(held[--n]);
  if (!p || !is_map(p)) return p;
  free(p);
  return map_block(size);
}

static void *default_alloc(void *ctx, size_t size, size_t align) {
  (void)ctx;
  const bool large = maps && (size >= HUGE || align >= HUGE);
  if (large && align > HUGE) return NULL;
  void *p = large ? map_block(size) : other_block(size, align);
  if (!p) return NULL;
  atomic_fetch_add_explicit(&live, (long long)(is_map(p) ? *front_of(p) : malloc_usable_size(p)),
                            memory_order_relaxed);
  return p;
}

static void default_free(void *ctx, void *ptr) {
  (void)ctx;
  if (!ptr) return;
  const size_t size = is_map(ptr) ? *front_of(ptr) : malloc_usable_size(ptr);
  atomic_fetch_sub_explicit(&live, (long long)size, memory_order_relaxed);
  if (is_map(ptr))
    munmap(front_of(ptr), size + FRONT);
  else
    free(ptr);
}

const mrt_alloc *mrt_alloc_default(void) {
  static const mrt_alloc a = {default_alloc, default_free, NULL};
  return &a;
}
int64_t mrt_alloc_live_bytes(void) { return atomic_load(&live); }
int64_t mrt_alloc_anonymous_kib(void) {
  FILE *f = fopen("/proc/self/status", "re");
  char line[128];
  long long kib = -1;
  while (f && fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %lld", &kib) != 1) kib = -1;
  if (f) fclose(f);
  return kib;
}
void mrt_alloc_trim(void) { (void)malloc_trim(0); }

static void *failing_alloc(void *ctx, size_t size, size_t align) {
  mrt_alloc_failing *f = ctx;
  int64_t k = atomic_fetch_add(&f->count, 1);
  if (f->fail_at >= 0 && k >= f->fail_at) return NULL; /* from then on: memory stays short */
  void *p = f->parent->alloc(f->parent->ctx, size, align);
  if (p) atomic_fetch_add(&f->live, 1);
  return p;
}
static void failing_free(void *ctx, void *ptr) {
  mrt_alloc_failing *f = ctx;
  if (!ptr) return;
  atomic_fetch_sub(&f->live, 1);
  f->parent->free(f->parent->ctx, ptr);
}
void mrt_alloc_failing_init(mrt_alloc_failing *f, const mrt_alloc *parent, int64_t fail_at) {
  f->alloc = (mrt_alloc){failing_alloc, failing_free, f};
  f->parent = parent;
  atomic_init(&f->count, 0);
  atomic_init(&f->live, 0);
  f->fail_at = fail_at;
}

mrt_status *mrt_mem_new_aligned(const mrt_alloc *alloc, size_t size, size_t align, void **out) {
  *out = size <= PTRDIFF_MAX ? alloc->alloc(alloc->ctx, size, align) : NULL;
  return *out ? NULL : mrt_status_oom();
}
mrt_status *mrt_mem_new(const mrt_alloc *alloc, size_t size, void **out) {
  return mrt_mem_new_aligned(alloc, size, 16, out);
}
mrt_status *mrt_mem_new_zero(const mrt_alloc *alloc, size_t size, void **out) {
  MRT_TRY(mrt_mem_new(alloc, size, out));
  memset(*out, 0, size);
  return NULL;
}
void mrt_mem_free(const mrt_alloc *alloc, void *ptr) {
  if (ptr) alloc->free(alloc->ctx, ptr);
}

mrt_status *mrt_mem_grow(const mrt_alloc *alloc, void **ptr, size_t *cap, size_t need,
                         size_t elem_size) {
  if (need <= *cap) return NULL;
  size_t n = *cap ? *cap : 4, bytes;
  while (n < need)
    if (!mrt_size_mul(n, 2, &n)) return mrt_status_oom();
  if (!mrt_size_mul(n, elem_size, &bytes)) return mrt_status_oom();
  void *bigger;
  MRT_TRY(mrt_mem_new(alloc, bytes, &bigger));
  if (*cap) memcpy(bigger, *ptr, *cap * elem_size);
  mrt_mem_free(alloc, *ptr);
  *ptr = bigger;
  *cap = n;
  return NULL;
}

bool mrt_size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool mrt_size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
bool mrt_i64_mul(int64_t a, int64_t b, int64_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool mrt_i64_add(int64_t a, int64_t b, int64_t *out) { return !__builtin_add_overflow(a, b, out); }
