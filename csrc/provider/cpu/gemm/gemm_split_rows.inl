/* What the kernels of gemm_split.h have in common whatever multiplies: a block that is finished a
 * few rows at a time, and the walk over the k-blocks of a strip. Included by each of them, which
 * define finish_checked. */
#ifndef MRT_PROVIDER_CPU_GEMM_SPLIT_ROWS
#define MRT_PROVIDER_CPU_GEMM_SPLIT_ROWS
#include "provider/cpu/gemm/gemm_epilogue.h"
#include "provider/cpu/gemm/gemm_split.h"

#undef INLINE
#define INLINE static inline __attribute__((always_inline))
/* finish; whether something was suspicious. */
static bool finish_checked(const float *acc, int rows, const mrt_tile *t);

static void late(mrt_split_late *l, int n) {
  const float *acc = l->acc + (int64_t)l->row * MRT_STRIP;
  mrt_tile *t = &l->tile;
  if (n > l->rows - l->row) n = l->rows - l->row;
  l->bad |= finish_checked(acc, n, t);
  if (l->fn) mrt_gemm_activate(l->fn, &l->act, t, n);
  l->row += n;
  t->c += n * t->c_row;
  if (t->residual) t->residual += n * t->r_row;
  if (t->row_bias) t->row_bias += n;
}

/* Walks the k-blocks of a strip in groups of 32: where the group's two halves of 16 lie, if they
 * are whole, or how to gather it. */
typedef struct group_cursor {
  const mrt_kblock *blocks;
  int64_t n_blocks, block, pos; /* pos: within the block */
} group_cursor;

/* The next 16 k. *off: floats from the row; returns how many of them are there in one piece at
 * *off, 16 in the common case; 0 at the end. The caller goes on from where that piece ends. */
INLINE int cursor_piece(group_cursor *c, int want, int64_t *off) {
  while (c->block < c->n_blocks && c->pos >= c->blocks[c->block].len) {
    ++c->block;
    c->pos = 0;
  }
  if (c->block >= c->n_blocks) return 0;
  const mrt_kblock *b = &c->blocks[c->block];
  const int64_t left = b->len - c->pos;
  const int n = left < want ? (int)left : want;
  *off = b->off + c->pos;
  c->pos += n;
  return n;
}

INLINE int64_t groups_of(const mrt_kblock *blocks, int64_t n) {
  int64_t k = 0;
  for (int64_t i = 0; i < n; ++i) k += blocks[i].len;
  return (k + 31) / 32;
}

#endif
