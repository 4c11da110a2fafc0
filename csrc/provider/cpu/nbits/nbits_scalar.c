/* The meaning of the block-quantised products in plain C. Sixteen sums side by side, so that
 * compilers vectorise and the order is fixed. */
#include "provider/cpu/nbits/nbits.h"

static inline float weight(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                           int64_t block, int bits) {
  const int v = bits == 8 ? q[k] : q[k / 2] >> (k % 2 * 4) & 15;
  const float zero = zeros ? zeros[k / block] : (float)(1 << (bits - 1));
  return ((float)v - zero) * scales[k / block];
}

static void dot(const uint8_t *q, const float *scales, const float *zeros, int64_t k, int64_t block,
                const float *a, int64_t lda, int rows, float *y, int bits) {
  for (int r = 0; r < rows; ++r) {
    float s[16] = {0}, total = 0;
    for (int64_t i = 0; i < k; ++i)
      s[i % 16] += weight(q, scales, zeros, i, block, bits) * a[r * lda + i];
    for (int i = 0; i < 16; ++i) total += s[i];
    y[r] = total;
  }
}
static void expand(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                   int64_t block, float *out, int bits) {
  for (int64_t i = 0; i < k; ++i) out[i] = weight(q, scales, zeros, i, block, bits);
}

static void dot4(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                 int64_t block, const float *a, int64_t lda, int rows, float *y) {
  dot(q, scales, zeros, k, block, a, lda, rows, y, 4);
}
static void dot8(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                 int64_t block, const float *a, int64_t lda, int rows, float *y) {
  dot(q, scales, zeros, k, block, a, lda, rows, y, 8);
}
static void expand4(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                    int64_t block, float *out) {
  expand(q, scales, zeros, k, block, out, 4);
}
static void expand8(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                    int64_t block, float *out) {
  expand(q, scales, zeros, k, block, out, 8);
}

const mrt_nbits_kernels mrt_nbits_scalar = {"scalar", dot4, dot8, expand4, expand8};
