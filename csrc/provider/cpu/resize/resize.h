/* float32 interpolation of images, plain (pixels of 1 float) or in channel blocks (pixels of 16).
 * An output row is a weighted sum of input rows, then a weighted sum of pixels along the row, by
 * the tables of ops/resize.h and in the order of the taps. */
#ifndef MRT_PROVIDER_CPU_RESIZE_H
#define MRT_PROVIDER_CPU_RESIZE_H

#include "ops/resize.h"

typedef struct mrt_resize_kernels {
  const char *name;
  /* y[i] = sum over k of w[k] * x[k * step + i], i < n; taps >= 1 */
  void (*rows)(const float *x, int64_t step, const float *w, int64_t taps, int64_t n, float *y);
  /* Pixel o of y = sum over k < count[o] of weight[o * taps + k] * pixel start[o] + k of x; count
   * -1: fill. For pixels of 16 floats and of one. */
  void (*pixels16)(const resize_axis *a, const float *x, float fill, float *y);
  void (*pixels1)(const resize_axis *a, const float *x, float fill, float *y);
} mrt_resize_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_resize_kernels symbol;
#include "provider/cpu/resize/resize.def"
#undef MRT_KERNEL

/* The best set for this machine. */
const mrt_resize_kernels *mrt_resize_kernels_get(void);

#endif
