/* Products with weights of 4 or 8 bits in blocks along k, as com.microsoft.MatMulNBits stores them:
 * a weight is (q - zero) * scale of its block; zeros NULL: half of the range everywhere.
 *
 * Packed B is panels of 32 columns; a panel is words of 32 bits, [padded k / per][32]: 8 values of
 * 4 bits (value j of a word is k = 4 (j & 1) + j / 2 of its eight, so that both halves of all bytes
 * hold four consecutive k) or 4 values of 8 bits in order. Scales and zeros are [panel][block][32].
 * k is padded to whole blocks; columns from n on have scale 0. */
#ifndef MRT_PROVIDER_CPU_NBITS_NBITS_H
#define MRT_PROVIDER_CPU_NBITS_NBITS_H

#include "base/threads.h"
#include "provider/cpu/gemm/gemm.h"
#include <stddef.h>
#include <stdint.h>

enum {
  MRT_NBITS_PANEL = 32,
  MRT_NBITS_ROWS = 4,           /* rows of A that one pass over a panel serves */
  MRT_NBITS_MAX_S8_BLOCK = 4096 /* sums of longer blocks might not fit 32 bits */
};

typedef struct mrt_nbits_panel {
  const uint32_t *q;
  const float *scales, *zeros; /* [blocks][32]; zeros may be NULL */
  int64_t blocks, block;       /* block: a power of two, at least 16 */
  int bits;
} mrt_nbits_panel;

/* Rows of A, k padded with zeros: as they are, or as bytes with a scale and the sum of the bytes
 * for each block. */
typedef struct mrt_nbits_rows {
  const float *a; /* [rows][blocks * block], as everything here */
  const int8_t *q;
  const float *scales; /* [rows][blocks] */
  const int32_t *sums;
} mrt_nbits_rows;

typedef struct mrt_nbits_kernels {
  const char *name;
  /* y[r][32] = rows (1 .. 4) of A times the panel: float32 arithmetic on exactly those weights; or
   * on the bytes of A, exact within a block. */
  void (*dot_f32)(const mrt_nbits_panel *p, const mrt_nbits_rows *a, int rows, float *y);
  void (*dot_s8)(const mrt_nbits_panel *p, const mrt_nbits_rows *a, int rows, float *y);
  /* out[k][32]: the weights, for all of padded k. */
  void (*expand)(const mrt_nbits_panel *p, float *out);
  /* Bytes of one row: q = round(a / scale), scale = max |a| / 127 of the block. A block with an
   * infinity or a NaN gets the scale NaN. */
  void (*quantize)(const float *a, int64_t blocks, int64_t block, int8_t *q, float *scales,
                   int32_t *sums);
} mrt_nbits_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_nbits_kernels symbol;
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL

const mrt_nbits_kernels *mrt_nbits_kernels_get(void);

/* C = A B' + bias. */
typedef struct mrt_nbits {
  int64_t m, n, k, block;
  int bits;                    /* 4 or 8 */
  bool bytes;                  /* few rows of A may be rounded to bytes (accuracy_level 4) */
  mrt_precision precision;     /* of the product with many rows */
  const float *a;              /* [m, k] */
  const uint32_t *b;           /* packed */
  const float *scales, *zeros; /* packed; zeros may be NULL */
  const float *bias;           /* [n] or NULL */
  float *c;                    /* [m, n] */
} mrt_nbits;

/* Bytes of packed B (64-byte aligned memory), floats of packed scales. SIZE_MAX: too many. */
size_t mrt_nbits_packed_size(int64_t n, int64_t k, int64_t block, int bits);
size_t mrt_nbits_scales_count(int64_t n, int64_t k, int64_t block);
/* b: [n, blocks, block * bits / 8], low bits first. */
void mrt_nbits_pack(const uint8_t *b, int64_t n, int64_t k, int64_t block, int bits, uint32_t *dst);
/* src: [n, blocks] */
void mrt_nbits_pack_scales(const float *src, int64_t n, int64_t k, int64_t block, float *dst);

size_t mrt_nbits_scratch_size(const mrt_par *par, const mrt_nbits *p);
void mrt_nbits_run(const mrt_par *par, const mrt_nbits *p, void *scratch);

#endif
