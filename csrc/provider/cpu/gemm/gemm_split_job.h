/* What the files of the split product share: how one is cut (gemm_split_plan.c), what a run and its
 * workers know (gemm_split.c), and the way out for blocks that tiles cannot do
 * (gemm_split_again.c). */
#ifndef MRT_PROVIDER_CPU_GEMM_SPLIT_JOB_H
#define MRT_PROVIDER_CPU_GEMM_SPLIT_JOB_H

#include "provider/cpu/gemm/gemm_epilogue.h"
#include "provider/cpu/gemm/gemm_split.h"

static inline int64_t split_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t split_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t split_max(int64_t a, int64_t b) { return a > b ? a : b; }

/* How a product is cut. */
typedef struct split_layout {
  int64_t groups, strips, panels;
  int64_t super, supers;    /* strips in a super-block */
  int64_t block, blocks;    /* groups in a k-block */
  int64_t slice;            /* groups in a slice, which are multiplied at a time */
  int64_t piece;            /* groups of a panel of B that are split at a time: whole slices */
  bool whole;               /* sums of a strip are complete at once */
  int64_t range, ranges;    /* panels in a chunk, at most; chunks of a super-block */
  size_t a, b, acc, gather; /* bytes: split A; two pieces of split B; sums; transposed rows */
  size_t worker;            /* of one worker: all of these, but for a shared A */
  size_t shared;            /* A that all workers share, split once; 0: each has its own */
} split_layout;

/* lean: see mrt_gemm. */
void mrt_split_layout(split_layout *l, const mrt_par *par, int parts, int64_t m, int64_t n,
                      int64_t k, bool a_trans, bool lean);
/* Nanoseconds on one core. */
double mrt_split_cost(int parts, int64_t m, int64_t n, int64_t k);

/* A piece of B: groups from `first` on of k-block kb of panel p. */
typedef struct split_piece {
  int64_t p, kb, first;
} split_piece;

/* What a worker's memory holds, so that its next chunk need not split it again; -1: nothing. */
typedef struct split_worker {
  int64_t a_item, a_super, a_block;
  int64_t b_item; /* in buffer `current`, with b */
  split_piece b;
  int current;
  mrt_split_late late; /* the block before; what it is follows */
  int64_t late_item, late_strip, late_panel;
  float *late_acc; /* NULL: none waits */
  int turn;        /* 0 or 1: where the sums before lie, if they are complete at once */
} split_worker;

typedef struct split_job {
  const mrt_split_kernels *kern;
  const mrt_gemm_kernels *fma;
  mrt_gemm g; /* with sides */
  mrt_gemm_side only;
  bool b16; /* B lies there in bf16 parts */
  mrt_gemm_batch batch;
  mrt_gemm_epilogue epi;
  mrt_tile tile; /* the epilogue's constants */
  mrt_ew_fn act;
  int parts;
  split_layout l;
  uint16_t *shared_a; /* NULL: workers split A for themselves */
  char *scratch;
  int64_t chunks;
} split_job;

/* The block of `cols` columns in float32 arithmetic: for what tiles cannot do. tmp: worker_gather.
 */
void mrt_split_again(const split_job *j, float *tmp, int64_t item, int64_t strip, int64_t panel,
                     int cols, float *acc);

/* A worker's memory: a split_worker, then a, b, acc, gather. */
static inline size_t split_align(size_t n) { return (n + 63) & ~(size_t)63; }
static inline size_t split_worker_pitch(size_t bytes) {
  return mrt_worker_pitch(split_align(sizeof(split_worker)) + bytes);
}

/* A piece of B (p: of all sides), as floats, and in bf16 parts. */
static inline const float *split_floats(const split_job *j, int64_t item, split_piece b) {
  const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &b.p);
  const int64_t k = (b.kb * j->l.block + b.first) * MRT_SPLIT_GROUP;
  return s->b + item * j->batch.b + (b.p * j->g.k + k) * MRT_GEMM_PANEL;
}
static inline const uint16_t *split_parts(const split_job *j, split_piece b) {
  const mrt_gemm_side *s = mrt_gemm_side_at(&j->g, &b.p);
  const int64_t group = b.p * j->l.groups + b.kb * j->l.block + b.first;
  return s->b16 + group * j->parts * MRT_SPLIT_GROUP_PART;
}

static inline int64_t strip_rows(const split_job *j, int64_t strip) {
  return split_min(MRT_STRIP, j->g.m - strip * MRT_STRIP);
}

#endif
