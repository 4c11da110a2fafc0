/* Recurrent layers of float32 (LSTM, GRU with linear_before_reset, simple RNN) with the usual
 * activations. Inputs of all steps are multiplied at once; then each step multiplies the state with
 * packed weights, block of units by block of units. */
#ifndef MRT_PROVIDER_CPU_RECURRENT_H
#define MRT_PROVIDER_CPU_RECURRENT_H

#include "base/alloc.h"
#include "base/threads.h"
#include "provider/cpu/recurrent/recurrent_kernel.h"

/* A layer, and where its parts lie in one packed block. */
typedef struct mrt_rnn_weights {
  mrt_rnn_kind kind;
  int gates, dirs;
  int64_t in, hidden, padded;
  size_t bytes;   /* of the block */
  const float *w; /* [dirs]: mrt_gemm_pack_b of W's first gate, then of the others, whose columns of
                     a block stand together */
  const float *bias; /* [dirs], the same order: Wb + Rb (GRU: Wb alone in the third) */
  const float *r;    /* [dirs][blocks][hidden][gates][16] */
  const float *rb;   /* GRU: [dirs][padded]; else NULL */
} mrt_rnn_weights;

/* Sizes; MRT_OUT_OF_MEMORY when they cannot be counted. */
mrt_status *mrt_rnn_describe(mrt_rnn_kind kind, int dirs, int64_t in, int64_t hidden,
                             mrt_rnn_weights *out) MRT_MUST_CHECK;
/* Writes the block (64-byte aligned). w: [dirs, gates * hidden, in], r: [dirs, gates * hidden,
 * hidden], b: [dirs, 2 * gates * hidden] or NULL: floats at any alignment. */
mrt_status *mrt_rnn_pack(const mrt_rnn_weights *p, const void *w, const void *r, const void *b,
                         void *block) MRT_MUST_CHECK;
void mrt_rnn_place(mrt_rnn_weights *p, const void *block); /* which lives as long as p is used */

typedef struct mrt_rnn_run {
  const mrt_rnn_weights *w;
  int64_t seq, batch;
  bool reverse;         /* of a single direction; the second one of two always is */
  const float *x;       /* [seq, batch, in] */
  const float *h0, *c0; /* [dirs, batch, hidden]; NULL: zeros */
  float *y;             /* [seq, dirs, batch, hidden] or NULL */
  float *yh, *yc;       /* [dirs, batch, hidden] or NULL */
} mrt_rnn_run;

/* Bytes of scratch, 64-byte aligned; SIZE_MAX when they cannot be counted. A function of where q
 * has y, too: what the input gives the first gate may wait there for its step. */
size_t mrt_rnn_scratch_size(const mrt_par *par, const mrt_rnn_run *q);
void mrt_rnn_run_layer(const mrt_par *par, const mrt_rnn_run *q, void *scratch);

#endif
