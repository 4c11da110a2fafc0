/* Allocators. Every object remembers the allocator that made it; nothing calls malloc directly
 * except mrt_alloc_default, so tests can count live bytes and fail the k-th allocation.
 *
 * Sizes are products of untrusted dimensions: always through mrt_size_mul / mrt_size_add. */
#ifndef MRT_BASE_ALLOC_H
#define MRT_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Built with AddressSanitizer, which watches the heap. gcc and clang say so in different ways. */
#if defined(__SANITIZE_ADDRESS__)
#define MRT_ASAN true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MRT_ASAN true
#endif
#endif
#ifndef MRT_ASAN
#define MRT_ASAN false
#endif

#define MRT_ALIGN     64                /* tensors and scratch: one cache line, one zmm */
#define MRT_ALIGN_MAP ((size_t)1 << 21) /* a mapping of its own: what is freed is gone at once */

typedef struct mrt_alloc {
  /* align is a power of two; returns NULL on failure. size 0 gives a unique freeable pointer. */
  void *(*alloc)(void *ctx, size_t size, size_t align);
  void (*free)(void *ctx, void *ptr); /* NULL is fine */
  void *ctx;
} mrt_alloc;

/* The process allocator (malloc family; large blocks get huge-page advice). Thread safe. */
const mrt_alloc *mrt_alloc_default(void);
/* Bytes now live in mrt_alloc_default. */
int64_t mrt_alloc_live_bytes(void);
/* Resident memory of the process that no file backs, KiB; -1: the system does not say. Slow. */
int64_t mrt_alloc_anonymous_kib(void);
/* Gives freed memory back to the system: after work that used much more than it leaves. */
void mrt_alloc_trim(void);

/* For tests: forwards to `parent`, counts, and fails allocation number `fail_at` (0-based; < 0
 * never). Thread safe. */
typedef struct mrt_alloc_failing {
  mrt_alloc alloc; /* pass &f.alloc */
  const mrt_alloc *parent;
  _Atomic int64_t count;
  _Atomic int64_t live;
  int64_t fail_at;
} mrt_alloc_failing;
void mrt_alloc_failing_init(mrt_alloc_failing *f, const mrt_alloc *parent, int64_t fail_at);

/* Uninitialised / zeroed memory of natural (16-byte) alignment. */
mrt_status *mrt_mem_new(const mrt_alloc *alloc, size_t size, void **out) MRT_MUST_CHECK;
mrt_status *mrt_mem_new_zero(const mrt_alloc *alloc, size_t size, void **out) MRT_MUST_CHECK;
mrt_status *mrt_mem_new_aligned(const mrt_alloc *alloc, size_t size, size_t align,
                                void **out) MRT_MUST_CHECK;
void mrt_mem_free(const mrt_alloc *alloc, void *ptr);
/* Grows an array to hold at least `need` elements of elem_size (doubling); *ptr and *cap change.
 * The old contents (`*cap` elements) are kept. */
mrt_status *mrt_mem_grow(const mrt_alloc *alloc, void **ptr, size_t *cap, size_t need,
                         size_t elem_size) MRT_MUST_CHECK;

/* false on overflow. */
bool mrt_size_mul(size_t a, size_t b, size_t *out);
bool mrt_size_add(size_t a, size_t b, size_t *out);
bool mrt_i64_mul(int64_t a, int64_t b, int64_t *out);
bool mrt_i64_add(int64_t a, int64_t b, int64_t *out);

/* Bump arena: many small objects, one release. Owned by one object; not thread safe. */
typedef struct mrt_arena mrt_arena;
mrt_status *mrt_arena_create(const mrt_alloc *alloc, mrt_arena **out) MRT_MUST_CHECK;
void mrt_arena_destroy(mrt_arena *arena); /* NULL is fine */
/* Zeroed, 16-byte aligned. NULL when out of memory: wrap as mrt_status_oom(). */
void *mrt_arena_alloc(mrt_arena *arena, size_t size);
char *mrt_arena_strdup(mrt_arena *arena, const char *s);            /* NULL on no memory */
char *mrt_arena_strndup(mrt_arena *arena, const char *s, size_t n); /* adds the final 0 */
char *mrt_arena_printf(mrt_arena *arena, const char *fmt, ...) MRT_PRINTF(2, 3);
void *mrt_arena_memdup(mrt_arena *arena, const void *p, size_t n);
void mrt_arena_reset(mrt_arena *arena); /* frees contents, keeps the first block */
bool mrt_arena_holds(const mrt_arena *arena, const void *p); /* does p lie in it? */

#endif
