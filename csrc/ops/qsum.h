/* The sum of QLinearAdd, for reference and vector kernels, alone and behind a convolution. */
#ifndef MRT_OPS_QSUM_H
#define MRT_OPS_QSUM_H

#include <stdint.h>
#include <string.h>

/* a * ra + b * rb with |a|, |b| < 2^16 whole numbers: the second product is rounded to float32, the
 * first is not (fused multiply-add), so that every instruction set gives the same bits. */
static inline float mrt_qsum(float a, float ra, float b, float rb) {
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
  return __builtin_fmaf(a, ra, b * rb);
#else
  /* The product is exact in double. The sum is rounded to odd, so that it rounds to float as the
   * exact one would. */
  const double x = (double)a * ra, y = b * rb;
  double s = x + y;
  const double t = s - x, rest = (x - (s - t)) + (y - t);
  uint64_t u;
  memcpy(&u, &s, sizeof u);
  if (rest != 0 && !(u & 1)) u = (rest > 0) == (s > 0) ? u + 1 : u - 1;
  memcpy(&s, &u, sizeof u);
  return (float)s;
#endif
}

#endif
