/* com.microsoft.MultiHeadAttention as heads read by stride: what its kernels share. */
#ifndef MRT_OPS_MS_ATTENTION_H
#define MRT_OPS_MS_ATTENTION_H

#include "ops/common.h"

/* One operand: element (b, h, s, i) stands at data[b * batch + h * head + s * row + i]. */
typedef struct mrt_heads {
  const float *data;
  int64_t batch, head, row;
} mrt_heads;

/* out = softmax(scale * q k' + mask) v; causal: query i sees keys 0 .. i + past, but the last sees
 * all (onnxruntime's way where there are more keys than past + queries). */
typedef struct mrt_sdpa {
  int64_t batch, heads, sq, sk, past, d, dv;
  mrt_heads q, k, v, out; /* out.data is written */
  const float *mask;      /* NULL: none; the last step is 1 */
  int64_t mask_batch, mask_head, mask_row;
  float scale;
  bool causal;
} mrt_sdpa;

/* Reads a MultiHeadAttention call: adds biases, joins past and new keys and values (into the
 * present outputs), makes one mask of all. */
mrt_status *mrt_mha_read(mrt_kctx *c, mrt_sdpa *p) MRT_MUST_CHECK;

#endif
