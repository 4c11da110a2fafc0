/* Products with weights of 4 or 8 bits in blocks along k, as com.microsoft.MatMulNBits stores them:
 * row n of B is [blocks][block * bits / 8] bytes, low bits first; a weight is (q - zero) * scale of
 * its block; zeros NULL: half of the range everywhere. Sums are float32 of exactly those weights.
 */
#ifndef MRT_PROVIDER_CPU_NBITS_NBITS_H
#define MRT_PROVIDER_CPU_NBITS_NBITS_H

#include "base/threads.h"
#include <stddef.h>
#include <stdint.h>

enum { MRT_NBITS_ROWS = 4 }; /* rows of A that one pass over B serves */

/* y[r] = sum over k of a[r][k] * (q[k] - zero) * scale, for `rows` (1 .. 4) rows of A that are lda
 * apart. k need not be a multiple of block. */
typedef void (*mrt_nbits_dot)(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                              int64_t block, const float *a, int64_t lda, int rows, float *y);
/* out[k] = (q[k] - zero) * scale */
typedef void (*mrt_nbits_expand)(const uint8_t *q, const float *scales, const float *zeros,
                                 int64_t k, int64_t block, float *out);

typedef struct mrt_nbits_kernels {
  const char *name;
  mrt_nbits_dot dot4, dot8;
  mrt_nbits_expand expand4, expand8;
} mrt_nbits_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_nbits_kernels symbol;
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL

const mrt_nbits_kernels *mrt_nbits_kernels_get(void);

/* C = A B' + bias. */
typedef struct mrt_nbits {
  int64_t m, n, k, block;      /* block: a power of two, at least 16 */
  int bits;                    /* 4 or 8 */
  const float *a;              /* [m, k] */
  const uint8_t *b;            /* [n, ceil(k / block), block * bits / 8] */
  const float *scales, *zeros; /* [n, ceil(k / block)]; zeros may be NULL */
  const float *bias;           /* [n] or NULL */
  float *c;                    /* [m, n] */
} mrt_nbits;
size_t mrt_nbits_scratch_size(const mrt_par *par, const mrt_nbits *p);
void mrt_nbits_run(const mrt_par *par, const mrt_nbits *p, void *scratch);

#endif
