/* Scaled dot-product attention of float32 that reads heads by stride:
 *   out = softmax(scale * q k^T + mask) v
 * for each batch entry and head. Scores exist for one block of query rows at a time. The order of
 * sums depends on the shape alone, never on the number of threads. */
#ifndef MRT_PROVIDER_CPU_ATTENTION_H
#define MRT_PROVIDER_CPU_ATTENTION_H

#include "provider/cpu/gemm/gemm.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Elements from one batch entry, head, position and feature to the next. */
typedef struct mrt_attn_view {
  const float *data;
  int64_t batch, head, row, col;
} mrt_attn_view;

/* Keys or values of earlier calls, [batch, kv_heads, past, features], and where those of this call
 * go behind them, [batch, kv_heads, sk, features]; neither overlaps anything else. */
typedef struct mrt_attn_cache {
  const float *past; /* not read where there are none */
  float *present;
} mrt_attn_cache;

typedef struct mrt_attn {
  int64_t batch, heads, kv_heads; /* heads: a multiple of kv_heads */
  int64_t sq, sk, d, dv;          /* positions of queries and keys; features */
  mrt_attn_view q, k, v;          /* q: col 1. k, v: col or row is 1 */
  /* present NULL: none. Else k and v hold the last sk - past positions, with col 1. */
  mrt_attn_cache k_cache, v_cache;
  int64_t past;
  float *out; /* features are contiguous */
  int64_t out_batch, out_head, out_row;
  const float *mask; /* NULL: none; added to the scaled scores; steps (0 broadcasts): */
  int64_t mask_batch, mask_head, mask_row, mask_col; /* mask_col: 0 or 1 */
  float scale;
  int64_t causal_rows; /* the first queries: i sees keys 0 .. i + causal_offset; sees none: 0 */
  int64_t causal_offset;
  bool masked_is_zero;     /* a row whose mask is -infinity everywhere gives 0, not NaN */
  mrt_precision precision; /* of both products; softmax is float32 arithmetic in all of them */
} mrt_attn;

/* Bytes of scratch (64-byte aligned); SIZE_MAX when they cannot be counted. */
size_t mrt_attn_scratch_size(const mrt_par *par, const mrt_attn *a);
/* How many bf16 parts the products use (gemm_split.h), 0: fused multiply-add. By shape and machine,
 * never by the number of threads. */
int mrt_attn_parts(const mrt_attn *a);
void mrt_attn_run(const mrt_par *par, const mrt_attn *a, void *scratch);

#endif
