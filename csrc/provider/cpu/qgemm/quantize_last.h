/* Floats in planes to bytes of pixels: y[p * channels + c] = quantised x[c * area + p]. */
#ifndef MRT_PROVIDER_CPU_QUANTIZE_LAST_H
#define MRT_PROVIDER_CPU_QUANTIZE_LAST_H

#include <stdbool.h>
#include <stdint.h>

enum { MRT_QUANTIZE_LAST_CHANNELS = 4 }; /* at most */

typedef struct mrt_quantize_last {
  const float *x;
  int64_t area; /* elements from plane to plane */
  int channels;
  float scale;
  int32_t zero;
  bool is_signed;
  uint8_t *y;
} mrt_quantize_last;

/* Pixels [p0, p1). */
void mrt_quantize_last_avx512vnni(const mrt_quantize_last *q, int64_t p0, int64_t p1);

#endif
