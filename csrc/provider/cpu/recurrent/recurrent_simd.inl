/* A block's gates are accumulated in registers over k, then turned into the new state on the spot.
 * A single row has two sums (recurrent_kernel.h). */
#include <stddef.h>
#include <string.h>

enum { BLOCK = MRT_RNN_BLOCK, NV = BLOCK / VW };

/* acc[row][vector] = sum over k of h[row][k] r[k][vector]; n is gates * NV. rows and n are
 * constants where this is inlined. */
INLINE void products(vf *acc, const float *r, const float *h, int64_t h_step, int64_t k_max,
                     const int rows, const int n) {
#pragma GCC unroll 64
  for (int i = 0; i < rows * n; ++i) acc[i] = v_set(0.0f);
  for (int64_t k = 0; k < k_max; ++k) {
#pragma GCC unroll 64
    for (int i = 0; i < n; ++i) {
      const vf w = v_load(r + (k * n + i) * VW);
#pragma GCC unroll 8
      for (int row = 0; row < rows; ++row)
        acc[row * n + i] = v_fma(v_set(h[row * h_step + k]), w, acc[row * n + i]);
    }
  }
}

/* Adds the sums over k in [k0, k1) of one row. */
INLINE void more(vf *acc, const float *r, const float *h, int64_t k0, int64_t k1, const int n) {
  for (int64_t k = k0; k < k1; ++k) {
    const vf s = v_set(h[k]);
#pragma GCC unroll 64
    for (int i = 0; i < n; ++i) acc[i] = v_fma(s, v_load(r + (k * n + i) * VW), acc[i]);
  }
}

/* The sums of one row: those of both halves. Where registers allow, side by side, for the latency
 * of FMA. */
INLINE void one_row(vf *acc, const mrt_rnn_step *s, const float *r, const float *h, const int n) {
  const int64_t mid = s->mid, k_max = s->hidden;
  vf other[64];
#pragma GCC unroll 64
  for (int i = 0; i < n; ++i) acc[i] = other[i] = v_set(0.0f);
  if (s->sums) {
    more(acc, r, h, s->have ? 0 : mid, s->have ? mid : k_max, n);
#pragma GCC unroll 64
    for (int i = 0; i < n; ++i) other[i] = v_load(s->sums + i * VW);
  } else if (n <= 4) {
    const int64_t both = mid < k_max - mid ? mid : k_max - mid;
    const float *r1 = r + mid * n * VW, *h1 = h + mid;
    for (int64_t k = 0; k < both; ++k) {
      const vf s0 = v_set(h[k]), s1 = v_set(h1[k]);
#pragma GCC unroll 64
      for (int i = 0; i < n; ++i) {
        acc[i] = v_fma(s0, v_load(r + (k * n + i) * VW), acc[i]);
        other[i] = v_fma(s1, v_load(r1 + (k * n + i) * VW), other[i]);
      }
    }
    more(acc, r, h, both, mid, n);
    more(other, r1, h1, both, k_max - mid, n);
  } else {
    more(acc, r, h, 0, mid, n);
#pragma GCC unroll 64
    for (int i = 0; i < n; ++i) other[i] = acc[i], acc[i] = v_set(0.0f);
    more(acc, r, h, mid, k_max, n);
  }
#pragma GCC unroll 64
  for (int i = 0; i < n; ++i) acc[i] = acc[i] + other[i];
}

/* The new state of one row: acc holds R h of all gates, x0 and x what the input gives the first one
 * and the others. */
INLINE vf new_tanh(const vf *acc, const float *x0, const float *x, const float *h, const float *rb,
                   float *cell, int v) {
  (void)x, (void)h, (void)rb, (void)cell;
  return v_tanh(acc[v] + v_load(x0 + v * VW));
}
INLINE vf new_relu(const vf *acc, const float *x0, const float *x, const float *h, const float *rb,
                   float *cell, int v) {
  (void)x, (void)h, (void)rb, (void)cell;
  return v_max(v_set(0.0f), acc[v] + v_load(x0 + v * VW));
}
INLINE vf new_gru(const vf *acc, const float *x0, const float *x, const float *h, const float *rb,
                  float *cell, int v) {
  (void)cell;
  const vf z = v_sigmoid(acc[v] + v_load(x0 + v * VW));
  const vf r = v_sigmoid(acc[NV + v] + v_load(x + v * VW));
  const vf g = v_tanh(v_fma(r, acc[2 * NV + v] + v_load(rb + v * VW), v_load(x + BLOCK + v * VW)));
  return v_fma(z, v_load(h + v * VW) - g, g);
}
INLINE vf new_lstm(const vf *acc, const float *x0, const float *x, const float *h, const float *rb,
                   float *cell, int v) {
  (void)h, (void)rb;
  const vf i = v_sigmoid(acc[v] + v_load(x0 + v * VW));
  const vf o = v_sigmoid(acc[NV + v] + v_load(x + v * VW));
  const vf f = v_sigmoid(acc[2 * NV + v] + v_load(x + BLOCK + v * VW));
  const vf g = v_tanh(acc[3 * NV + v] + v_load(x + 2 * BLOCK + v * VW));
  const vf c = v_fma(f, v_load(cell + v * VW), i * g);
  v_store(cell + v * VW, c);
  return o * v_tanh(c);
}

#define FINISH(name, gates)                                                                   \
  for (int row = 0; row < rows; ++row) {                                                      \
    const int64_t at = (b + row) * s->padded + u;                                             \
    const float *x0 = s->first + (b + row) * s->first_step + u;                               \
    const float *x = s->x + (b + row) * s->x_step + u * ((gates)-1);                          \
    _Pragma("GCC unroll 16") for (int v = 0; v < NV; ++v)                                     \
        v_store(s->next + at + v * VW,                                                        \
                new_##name(acc + row * (gates)*NV, x0, x, s->h + at, s->rb + (s->rb ? u : 0), \
                           s->cell + (s->cell ? at : 0), v));                                 \
    const int64_t left = s->hidden - u < BLOCK ? s->hidden - u : BLOCK;                       \
    if (s->y)                                                                                 \
      memcpy(s->y + (b + row) * s->hidden + u, s->next + at, (size_t)left * sizeof(float));   \
  }

#define STEP(name, gates)                                                                       \
  INLINE void rows_##name(const mrt_rnn_step *s, int64_t u, int64_t b, const float *r,          \
                          const int rows) {                                                     \
    vf acc[ROWS * (gates)*NV];                                                                  \
    for (int row = 0; row < rows; ++row) { /* used at the end */                                \
      __builtin_prefetch(s->first + (b + row) * s->first_step + u);                             \
      for (int i = 0; i < (gates)-1; ++i)                                                       \
        __builtin_prefetch(s->x + (b + row) * s->x_step + u * ((gates)-1) + i * BLOCK);         \
    }                                                                                           \
    if (rows == 1)                                                                              \
      one_row(acc, s, r, s->h + b * s->padded, (gates)*NV);                                     \
    else                                                                                        \
      products(acc, r, s->h + b * s->padded, s->padded, s->hidden, rows, (gates)*NV);           \
    FINISH(name, gates)                                                                         \
  }                                                                                             \
  static void step_##name(const mrt_rnn_step *s, int64_t block0, int64_t block1) {              \
    for (int64_t k = block0; k < block1; ++k) {                                                 \
      const float *r = s->r + k * s->hidden * (gates)*BLOCK;                                    \
      int64_t b = 0;                                                                            \
      for (; ROWS > 1 && b + ROWS <= s->batch; b += ROWS) rows_##name(s, k *BLOCK, b, r, ROWS); \
      if (ROWS > 3 && s->batch - b == 3) rows_##name(s, k *BLOCK, b, r, 3), b += 3;             \
      if (ROWS > 2 && s->batch - b == 2) rows_##name(s, k *BLOCK, b, r, 2), b += 2;             \
      for (; b < s->batch; ++b) rows_##name(s, k *BLOCK, b, r, 1);                              \
    }                                                                                           \
  }                                                                                             \
  static void half_##name(const mrt_rnn_step *s, int64_t block, int half, float *sums) {        \
    vf acc[(gates)*NV];                                                                         \
    for (int i = 0; i < (gates)*NV; ++i) acc[i] = v_set(0.0f);                                  \
    more(acc, s->r + block * s->hidden * (gates)*BLOCK, s->h, half ? s->mid : 0,                \
         half ? s->hidden : s->mid, (gates)*NV);                                                \
    for (int i = 0; i < (gates)*NV; ++i) v_store(sums + i * VW, acc[i]);                        \
  }
STEP(tanh, 1)
STEP(relu, 1)
STEP(gru, 3)
STEP(lstm, 4)

const mrt_rnn_kernels TABLE = {.name = TABLE_NAME,
                               .step = {[MRT_RNN_TANH] = step_tanh,
                                        [MRT_RNN_RELU] = step_relu,
                                        [MRT_RNN_GRU] = step_gru,
                                        [MRT_RNN_LSTM] = step_lstm},
                               .half = {[MRT_RNN_TANH] = half_tanh,
                                        [MRT_RNN_RELU] = half_relu,
                                        [MRT_RNN_GRU] = half_gru,
                                        [MRT_RNN_LSTM] = half_lstm}};
