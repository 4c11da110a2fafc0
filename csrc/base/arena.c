/* Bump arena: blocks in a list, each up to a quarter of all before it, so that little is left over
 * when many small things stay; large requests get a block of their own. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

typedef struct block {
  struct block *next;
  size_t size, used; /* of the bytes behind this header */
} block;
struct mrt_arena {
  const mrt_alloc *alloc;
  block *head;
  size_t next_size, total;
};

enum { LEAST = 4096, MOST = 1 << 20 }; /* bytes of a block */

#define HEADER ((sizeof(block) + 15) & ~(size_t)15)

mrt_status *mrt_arena_create(const mrt_alloc *alloc, mrt_arena **out) {
  mrt_arena *a = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *a, (void **)&a));
  a->alloc = alloc;
  a->next_size = LEAST;
  *out = a;
  return NULL;
}

void mrt_arena_destroy(mrt_arena *arena) {
  if (!arena) return;
  for (block *b = arena->head, *next; b; b = next) {
    next = b->next;
    mrt_mem_free(arena->alloc, b);
  }
  mrt_mem_free(arena->alloc, arena);
}

void *mrt_arena_alloc(mrt_arena *arena, size_t size) {
  size_t need;
  if (!mrt_size_add(size, 15, &need)) return NULL;
  need &= ~(size_t)15;
  block *b = arena->head;
  if (!b || b->size - b->used < need) {
    size_t bytes = need > arena->next_size / 4 ? need : arena->next_size, total;
    if (!mrt_size_add(bytes, HEADER, &total)) return NULL;
    b = arena->alloc->alloc(arena->alloc->ctx, total, 16);
    if (!b) return NULL;
    b->size = bytes;
    b->used = 0;
    if (arena->head && bytes == need && need != arena->next_size) {
      b->next = arena->head->next; /* an own block: the current one stays current */
      arena->head->next = b;
    } else {
      b->next = arena->head;
      arena->head = b;
      arena->total += bytes;
      if (arena->total / 4 > LEAST) arena->next_size = arena->total / 4 & ~(size_t)(LEAST - 1);
      if (arena->next_size > MOST) arena->next_size = MOST;
    }
  }
  void *p = (char *)b + HEADER + b->used;
  b->used += need;
  memset(p, 0, size);
  return p;
}

void mrt_arena_reset(mrt_arena *arena) {
  block *keep = NULL;
  for (block *b = arena->head, *next; b; b = next) {
    next = b->next;
    if (next)
      mrt_mem_free(arena->alloc, b);
    else
      keep = b;
  }
  if (keep) keep->used = 0;
  arena->head = keep;
}

bool mrt_arena_holds(const mrt_arena *arena, const void *p) {
  const uintptr_t at = (uintptr_t)p;
  for (const block *b = arena->head; b; b = b->next)
    if (at - ((uintptr_t)b + HEADER) < b->size) return true;
  return false;
}

char *mrt_arena_strndup(mrt_arena *arena, const char *s, size_t n) {
  char *p = n < SIZE_MAX ? mrt_arena_alloc(arena, n + 1) : NULL;
  if (p && n) memcpy(p, s, n);
  return p;
}
char *mrt_arena_strdup(mrt_arena *arena, const char *s) {
  return mrt_arena_strndup(arena, s, strlen(s));
}
void *mrt_arena_memdup(mrt_arena *arena, const void *p, size_t n) {
  void *q = mrt_arena_alloc(arena, n);
  if (q && n) memcpy(q, p, n);
  return q;
}
char *mrt_arena_printf(mrt_arena *arena, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  char *p = n < 0 ? NULL : mrt_arena_alloc(arena, (size_t)n + 1);
  if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  va_end(args);
  return p;
}
