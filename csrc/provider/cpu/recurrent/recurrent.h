/* Recurrent layers of float32 (LSTM, GRU with linear_before_reset, simple RNN) with the usual
 * activations. Inputs of all steps are multiplied at once; then each step multiplies the state with
 * packed weights, block of units by block of units. */
#ifndef MRT_PROVIDER_CPU_RECURRENT_H
#define MRT_PROVIDER_CPU_RECURRENT_H

#include "base/alloc.h"
#include "base/threads.h"
#include "provider/cpu/recurrent/recurrent_kernel.h"

/* Weights of a layer as ONNX gives them, packed. */
typedef struct mrt_rnn_weights {
  mrt_rnn_kind kind;
  int gates, dirs;
  int64_t in, hidden, padded;
  float *w;    /* mrt_gemm_pack_b of all directions' W, gates of a block together */
  float *bias; /* [dirs, padded * gates], the same order: Wb + Rb (GRU: Wb alone in the third) */
  float *r;    /* [dirs][blocks][hidden][gates][16] */
  float *rb;   /* GRU: [dirs][padded]; else NULL */
} mrt_rnn_weights;

/* w: [dirs, gates * hidden, in], r: [dirs, gates * hidden, hidden], b: [dirs, 2 * gates * hidden]
 * or NULL. */
mrt_status *mrt_rnn_pack(const mrt_alloc *alloc, mrt_rnn_kind kind, int dirs, int64_t in,
                         int64_t hidden, const float *w, const float *r, const float *b,
                         mrt_rnn_weights *out) MRT_MUST_CHECK;
void mrt_rnn_free(const mrt_alloc *alloc, mrt_rnn_weights *w);

typedef struct mrt_rnn_run {
  const mrt_rnn_weights *w;
  int64_t seq, batch;
  bool reverse;         /* of a single direction; the second one of two always is */
  const float *x;       /* [seq, batch, in] */
  const float *h0, *c0; /* [dirs, batch, hidden]; NULL: zeros */
  float *y;             /* [seq, dirs, batch, hidden] or NULL */
  float *yh, *yc;       /* [dirs, batch, hidden] or NULL */
} mrt_rnn_run;

/* Bytes of scratch, 64-byte aligned; SIZE_MAX when they cannot be counted. */
size_t mrt_rnn_scratch_size(const mrt_par *par, const mrt_rnn_run *q);
void mrt_rnn_run_layer(const mrt_par *par, const mrt_rnn_run *q, void *scratch);

#endif
