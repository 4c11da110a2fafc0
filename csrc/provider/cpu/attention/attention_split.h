/* The two products of attention on bf16 tiles (gemm/gemm_split.h): keys and values are split once a
 * head, query rows and probabilities a strip of 32 rows at a time. What tiles cannot do (blocks
 * with infinities, NaN or tiny sums) is computed again in float32. */
#ifndef MRT_PROVIDER_CPU_ATTENTION_SPLIT_H
#define MRT_PROVIDER_CPU_ATTENTION_SPLIT_H

#include "provider/cpu/attention/attention_kernel.h"
#include "provider/cpu/gemm/gemm_split.h"

typedef struct mrt_attn_tiles {
  const mrt_split_kernels *kern;
  const mrt_attn_kernels *fma;
  int parts; /* 1 .. 3 */
  void *own; /* mrt_attn_tiles_size bytes, 64-byte aligned */
} mrt_attn_tiles;

/* One right side: packed panels of 32 columns, and the same split. */
typedef struct mrt_attn_side {
  const float *panels; /* [cols/32][k][32] from mrt_gemm_pack_b */
  uint16_t *split;     /* mrt_attn_side_size bytes, 64-byte aligned */
  int64_t k, cols;     /* cols: rounded up to whole panels */
} mrt_attn_side;

/* Nanoseconds of both products of one head on tiles of so many parts, 0: as fused multiply-adds. */
double mrt_attn_tiles_cost(int parts, int64_t sq, int64_t sk, int64_t d, int64_t dv);

/* Bytes for sums and one strip of at most k; of a split side. false: too large. */
bool mrt_attn_tiles_size(int parts, int64_t k, size_t *bytes);
bool mrt_attn_side_size(int parts, int64_t k, int64_t cols, size_t *bytes);

void mrt_attn_side_split(const mrt_attn_tiles *t, const mrt_attn_side *b);
/* c[m, cols] = a[m, k] b for the first k rows and `cols` columns (whole panels) of b. Between the
 * kernel's begin and end. */
void mrt_attn_tiles_run(const mrt_attn_tiles *t, float *c, int64_t ldc, const float *a, int64_t lda,
                        const mrt_attn_side *b, int64_t m, int64_t k, int64_t cols);

#endif
