/* One time step of a recurrent layer for some blocks of 16 hidden units; recurrent.def lists the
 * instruction sets. All gates of a block stand together, so a block needs nothing of the others:
 * R is packed [block][k][gates][16], what x gives is [block][16] for the first gate and
 * [block][gates - 1][16] for the others.
 *
 * The sums of a single row of the batch are two, of the state's units before and from `mid` on,
 * which are added at the end: one of them may be made before the rest of the state is known. */
#ifndef MRT_PROVIDER_CPU_RECURRENT_KERNEL_H
#define MRT_PROVIDER_CPU_RECURRENT_KERNEL_H

#include <stdint.h>

enum { MRT_RNN_BLOCK = 16 };

typedef enum mrt_rnn_kind { MRT_RNN_TANH, MRT_RNN_RELU, MRT_RNN_GRU, MRT_RNN_LSTM } mrt_rnn_kind;

typedef struct mrt_rnn_step {
  int64_t hidden, padded, batch; /* padded: hidden rounded up to blocks */
  const float *r;                /* packed, of this direction */
  /* [batch] rows of W x + biases of the first gate (may be y: read before that is written), and of
   * the others; so many floats apart. */
  const float *first, *x;
  int64_t first_step, x_step;
  const float *rb; /* GRU: [padded], bias of R h in the third gate (inside the reset) */
  const float *h;  /* [batch, padded] before the step */
  float *next;     /* [batch, padded] after it */
  float *cell;     /* LSTM: [batch, padded], updated */
  float *y;        /* [batch, hidden]; NULL: not wanted */
  int64_t mid;
  const float
      *sums; /* [gates][16]: the sums of half `have` of the one block; NULL: none. batch 1 */
  int have;
} mrt_rnn_step;

typedef struct mrt_rnn_kernels {
  const char *name;
  void (*step[4])(const mrt_rnn_step *s, int64_t block0, int64_t block1); /* by kind */
  /* The sums of half 0 or 1 of a block. batch 1. */
  void (*half[4])(const mrt_rnn_step *s, int64_t block, int half, float *sums);
} mrt_rnn_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_rnn_kernels symbol;
#include "provider/cpu/recurrent/recurrent.def"
#undef MRT_KERNEL

#endif
