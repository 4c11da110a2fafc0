/* float32 products out of bf16 tile products. A float is split into 1, 2 or 3 bf16 parts, and of
 * the products of parts the largest 1, 3 or 6 are summed in float32 tiles. The first part is the
 * nearest bf16, so that what is left has a random sign; the last of two parts is rounded too, but
 * three are exact, so their second and third are cut off: parts 1   bf16 accuracy (precision
 * "medium") parts 2   hi*lo + lo*hi + hi*hi: a few times a float loop's error (precision "high")
 *   parts 3   six products: below a float loop's error                (precision "highest")
 *
 * The steps, so that convolution and others can drive them with their own loops:
 *   split_a     a strip of up to 32 rows, read through row pointers and a table of k-blocks
 *   split_b     a range of k of a panel of 32 columns (from mrt_gemm_pack_b)
 *   multiply    strip x panel range into a 32 x 32 block of float sums, optionally added to it
 *   suspicious  the block holds something that tiles may have got wrong: recompute it by FMA
 *   finish      epilogue, from the block to C
 * multiply runs between begin and end (tile configuration, per thread and stretch of work).
 *
 * Range: parts of numbers beyond bf16's become infinite or NaN and show up in the sums, as do
 * infinities and NaN of the inputs; tiles flush denormals, so sums below 2^-90 are suspicious too.
 * A suspicious block is computed again in float32 arithmetic, which gives what that gives. */
#ifndef MRT_PROVIDER_CPU_GEMM_SPLIT_H
#define MRT_PROVIDER_CPU_GEMM_SPLIT_H

#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/gemm/gemm_kernel.h"

enum {
  MRT_STRIP = 32,                /* rows of a strip, columns of a panel */
  MRT_SPLIT_GROUP = 32,          /* k per group: one tile of A is 16 rows x 32 k */
  MRT_SPLIT_GROUP_PART = 2 * 512 /* bf16 numbers of one part of one group (two tiles) */
};

/* Rows of A: element k of row r lies at row[r] + blocks[j].off + (k within block j). */
typedef struct mrt_split_rows {
  const float *row[MRT_STRIP];
  int rows; /* 1 .. 32 */
  const mrt_kblock *blocks;
  int64_t n_blocks;
} mrt_split_rows;

/* A block whose sums are complete: check and epilogue, a few rows at a time between the products of
 * the next block, whose tiles do not need the vector units. */
typedef struct mrt_split_late {
  const float *acc; /* [32][32] */
  mrt_tile tile;    /* as finish's; c, residual and row_bias move on with the rows */
  mrt_ew_fn fn;     /* activation, NULL: none */
  mrt_act act;
  int rows, row; /* there are, done */
  int burst;     /* rows after each product of two parts */
  bool bad;      /* something was suspicious */
} mrt_split_late;

/* The next slice of B, split a little at a time between the products of this one: tiles and vectors
 * are different units. Counted in pairs of rows (k = i and i + 16 of a group), 16 a group; only
 * whole groups can be done so. */
typedef struct mrt_split_ahead {
  const float *panel; /* as split_b's; NULL: nothing to split, only to fetch */
  uint16_t *dst;
  const char *fetch; /* memory that is wanted in L2 soon, `lines` cache lines a pair; or NULL */
  const char *then;  /* the same from pair `turn` on */
  int64_t first, then_first; /* line that pair 0 would begin with, of each */
  int64_t whole;             /* so many lines are fetched four pages at a time */
  int64_t at, end;           /* pairs done, pairs there are */
  int64_t turn;
  int burst; /* pairs after each product of two parts */
  int lines;
  mrt_split_late *late; /* or NULL */
} mrt_split_ahead;

/* Line p of what is fetched. Four pages take turns: the prefetcher of L2 runs ahead in each of
 * them, which keeps more lines on their way than one stream or the few buffers of L1 can. Cold
 * weights came 1.3 times as fast so, behind the same products (Sapphire Rapids). */
static inline const char *mrt_split_fetch_at(const char *base, int64_t p, int64_t whole) {
  if (p < whole) p = (p & ~(int64_t)255) | (p & 3) << 6 | (p & 255) >> 2;
  return base + p * 64;
}

/* Nanoseconds on a core beside a rate of 115 multiply-adds a nanosecond for float32, by parts; only
 * ratios matter. Per group of k: products of a 32 x 32 block, splitting of a panel (the first of a
 * range alone, the others mostly behind products) and of a strip. Per block: its end. Rows
 * come in multiples of `rows`. */
typedef struct mrt_split_costs {
  double product[4], split_b[4], split_a[4], block;
  int rows;
} mrt_split_costs;

typedef struct mrt_split_kernels {
  const char *name;
  int most_parts; /* that multiply knows: 1 or 3 */
  mrt_split_costs costs;
  /* dst: [groups][parts][2][16 rows][16][2]; groups = ceil(sum of len / 32); k and k + 16 of a
   * group stand side by side. Rows and k beyond the end become zero (the second tile only if
   * rows > 16). */
  void (*split_a)(const mrt_split_rows *src, int parts, uint16_t *dst);
  /* panel: [k][32] floats. dst: [groups][parts][2][16][16 columns][2]: row i holds k = i and
   * i + 16; the second tile only if cols > 16. */
  void (*split_b)(const float *panel, int64_t k, int cols, int parts, uint16_t *dst);
  /* acc: [32][32]; with load it is added to. */
  void (*multiply)(const uint16_t *a, const uint16_t *b, int64_t groups, int parts, int rows,
                   int cols, bool load, float *acc);
  /* The same, and moves `ahead` on. */
  void (*multiply_ahead)(const uint16_t *a, const uint16_t *b, int64_t groups, int parts, int rows,
                         int cols, bool load, float *acc, mrt_split_ahead *ahead);
  bool (*suspicious)(const float *acc, int rows, int cols);
  /* t: c, bias, residual ... as for a tile of `rows` x t->cols; a and b are not used. Flags: FINAL
   * is implied, CLIP honoured. */
  void (*finish)(const float *acc, int rows, const mrt_tile *t);
  /* The next n rows of a block that is finished late, as far as there are any. */
  void (*late)(mrt_split_late *l, int n);
  void (*begin)(void);
  void (*end)(void);
} mrt_split_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_split_kernels symbol;
#include "provider/cpu/gemm/gemm_split.def"
#undef MRT_KERNEL

/* The kernels of this machine, NULL if it has none that pay: AMX tiles, or bf16 dot products where
 * mrt_cpu.dot_bf16 says that these are faster than multiply-adds. */
const mrt_split_kernels *mrt_split_kernels_get(void);

/* How many parts a product of this shape should use (0: plain FMA): the fastest way that keeps the
 * precision's promise. A function of the shape and the machine, not of the number of threads. */
int mrt_gemm_split_parts(mrt_precision precision, int64_t m, int64_t n, int64_t k);

/* Bytes of scratch for one product or a batch, for the most parts that the machine would choose.
 * lean: as mrt_gemm's. */
size_t mrt_gemm_split_scratch(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans,
                              bool lean);

/* B as 1 or 2 bf16 parts (g->b16), ready for products: 2 bytes each, [ceil(n/32)] panels as
 * split_b makes them. Packed from what mrt_gemm_pack_b makes, one panel at a time. */
size_t mrt_gemm_packed16_size(int parts, int64_t n, int64_t k); /* 0: too large */
void mrt_gemm_pack_panel16(const mrt_split_kernels *kern, int parts, const float *panel, int64_t k,
                           int64_t index, uint16_t *dst);

/* mrt_gemm_run_batch with given kernels and parts (1 .. 3). */
void mrt_gemm_split_run(const mrt_split_kernels *kern, int parts, const mrt_par *par,
                        const mrt_gemm *g, const mrt_gemm_batch *batch, void *scratch);

#endif
