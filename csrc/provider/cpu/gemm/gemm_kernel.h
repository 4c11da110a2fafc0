/* The register-tile microkernel behind gemm/ and conv/: C[rows][cols] = epilogue(A B) for up to
 * max_rows x nr of C, with A read by stride through a table of k-blocks and B from one packed
 * panel.
 *
 * A row of A is a "pixel": for a plain product a matrix row, for a convolution an output position.
 * Element k of row r lies at  a(r) + blocks[j].off + (k within block j), where a(r) = a + r * a_row
 * for r < split and a_hi + (r - split) * a_row from there on, so that one tile can span two image
 * rows. The same kernel therefore serves row-major A, packed A ([k/16][rows][16]), NCHWc16 and the
 * taps of a convolution. */
#ifndef MRT_PROVIDER_CPU_GEMM_KERNEL_H
#define MRT_PROVIDER_CPU_GEMM_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mrt_kblock {
  int32_t off; /* floats from a(r) */
  int32_t len; /* consecutive k */
} mrt_kblock;

enum {
  MRT_TILE_LOAD = 1,  /* start from C instead of 0 (second and later blocks of k) */
  MRT_TILE_FINAL = 2, /* last block of k: apply the epilogue; else store the bare sum */
  MRT_TILE_CLIP = 4,  /* in the epilogue: min(max(x, lo), hi), NaN stays */
  MRT_TILE_PAIRS =
      8, /* B is [k/2][32][2], cols 1..24: only for mrt_conv_kernels.pixel_tile(16, 16) */
};

/* Strides in floats. Columns 16..31 of C and residual lie c_col16 / r_col16 after column 0: 16 for
 * a matrix, one channel block for c16. */
typedef struct mrt_tile {
  const float *a, *a_hi;
  int64_t a_row;
  const mrt_kblock *blocks;
  int64_t n_blocks;
  const float *b; /* panel [k][32], from the first of these 16 or 32 columns */
  float *c;
  int64_t c_row, c_col16;
  const float *bias;     /* [cols] or NULL */
  const float *row_bias; /* [rows] or NULL */
  const float *residual; /* or NULL */
  int64_t r_row, r_col16;
  /* Weights that come next, to be fetched into L2 on the way: ahead_lines cache lines for every 4
   * k. NULL, or a kernel that does not care: nothing is fetched. May point past the end. */
  const float *ahead;
  int ahead_lines;
  float alpha, beta, lo, hi;
  int cols; /* 1..nr: only these are read and written in C, bias and residual */
  int flags;
} mrt_tile;

typedef void (*mrt_tile_fn)(const mrt_tile *t);

enum { MRT_TILE_MAX_ROWS = 16 };

/* One instruction set's kernels. */
typedef struct mrt_gemm_kernels {
  const char *name;
  int max_rows;                              /* tiles of 1 .. max_rows rows */
  int nr;                                    /* 16 or 32 columns at a time */
  int split;                                 /* rows from here on are addressed from a_hi */
  mrt_tile_fn wide[MRT_TILE_MAX_ROWS + 1];   /* [rows]: cols in 17..32 (nr 32) or 1..16 (nr 16) */
  mrt_tile_fn narrow[MRT_TILE_MAX_ROWS + 1]; /* [rows]: cols in 1..16; NULL entries if nr is 16 */
  /* dst[kk][j] = src[j * ld + kk] for kk < k, j < cols (<= 32); columns from cols on get 0. */
  void (*pack_b_trans)(const float *src, int64_t ld, int64_t k, int cols, float *dst);
  /* dst[kb][r][16] = src[r * ld + kb * 16 + kk]: pitch rows of 16 floats in a block of k. Rows and
   * k that are missing are not written. */
  void (*pack_a)(const float *src, int64_t ld, int64_t k, int rows, int pitch, float *dst);
  /* dst[kb][r][16] = src[(kb * 16 + kk) * ld + r]: k-major A; rows pitch apart are 16 floats. */
  void (*pack_a_trans)(const float *src, int64_t ld, int64_t k, int rows, int pitch, float *dst);
} mrt_gemm_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_gemm_kernels symbol;
#include "provider/cpu/gemm/gemm.def"
#undef MRT_KERNEL

/* The best set for this machine, honouring MRT_CPU_ISA. */
const mrt_gemm_kernels *mrt_gemm_kernels_get(void);

/* Portable forms of the packers, for sets without a faster one. */
void mrt_gemm_pack_b_trans_scalar(const float *src, int64_t ld, int64_t k, int cols, float *dst);
void mrt_gemm_pack_a_scalar(const float *src, int64_t ld, int64_t k, int rows, int pitch,
                            float *dst);
void mrt_gemm_pack_a_trans_scalar(const float *src, int64_t ld, int64_t k, int rows, int pitch,
                                  float *dst);

#endif
