/* The order of W's packed columns: what packing and the walk share. */
#ifndef MRT_PROVIDER_CPU_RECURRENT_WEIGHTS_H
#define MRT_PROVIDER_CPU_RECURRENT_WEIGHTS_H

#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/recurrent/recurrent.h"

/* Columns of the first gate of a direction, and of the others. */
static inline int64_t mrt_rnn_columns(const mrt_rnn_weights *p, int others) {
  return others ? p->padded * (p->gates - 1) : p->padded;
}
/* Floats of their packed weights. */
static inline size_t mrt_rnn_w_floats(const mrt_rnn_weights *p, int others) {
  const int64_t n = mrt_rnn_columns(p, others);
  return n ? mrt_gemm_packed_size(n, p->in) / sizeof(float) : 0;
}

#endif
