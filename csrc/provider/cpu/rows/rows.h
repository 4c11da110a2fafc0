/* Kernels over one contiguous row of float32: what Softmax, the normalizations, reductions and
 * attention are made of. One table per instruction set; the order of every sum depends on the
 * length alone. */
#ifndef MRT_PROVIDER_CPU_ROWS_H
#define MRT_PROVIDER_CPU_ROWS_H

#include <stdbool.h>
#include <stdint.h>

/* A row to be normalized. y may be x or add. */
typedef struct mrt_row_norm {
  int64_t n;
  float eps;
  bool rms;          /* no mean is subtracted: x / sqrt(mean(x^2) + eps) */
  const float *gain; /* [n]; NULL: 1 */
  const float *bias; /* [n]; NULL: 0 */
} mrt_row_norm;

typedef struct mrt_row_kernels {
  const char *name;
  /* y[i] = e^(scale x[i] + mask[i] - max), returns the sum of them. mask may be NULL; y may be x.
   * A row of -infinity, or with a NaN, gives NaN, as the formula does. n = 0 gives 0. */
  float (*exp_sum)(float *y, const float *x, const float *mask, float scale, int64_t n);
  /* y = norm(x) * gain + bias; *mean and *inv (1 / standard deviation) may be wanted or NULL. */
  void (*norm)(const mrt_row_norm *r, float *y, const float *x, float *mean, float *inv);
  float (*sum)(const float *x, int64_t n);
  float (*sum_square)(const float *x, int64_t n);
  float (*sum_abs)(const float *x, int64_t n);
  float (*max)(const float *x, int64_t n); /* -infinity for n = 0; NaN when there is one */
  float (*min)(const float *x, int64_t n);
  void (*scale)(float *y, const float *x, float a, int64_t n); /* y = a x */
  float (*dot)(const float *a, const float *b, int64_t n);
  void (*axpy)(float *y, float a, const float *x, int64_t n); /* y += a x */
  /* A copy that goes around the caches; another thread sees it after a store fence of this one. */
  void (*copy_around)(float *to, const float *from, int64_t n);
} mrt_row_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_row_kernels symbol;
#include "provider/cpu/rows/rows.def"
#undef MRT_KERNEL

/* The best table of this machine. */
const mrt_row_kernels *mrt_row_kernels_get(void);

#endif
