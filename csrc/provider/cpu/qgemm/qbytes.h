/* Loops over quantised bytes, one set per instruction set: depthwise windows, sums and products of
 * two arrays, the larger of two. Signed bytes are flipped (^ 0x80) to unsigned on the way in;
 * zero points include the 128 then. */
#ifndef MRT_PROVIDER_CPU_QBYTES_H
#define MRT_PROVIDER_CPU_QBYTES_H

#include "ops/qsum.h"
#include "provider/cpu/qgemm/qgemm.h"

/* One output pixel of a depthwise window: `taps` rows of bytes against w [taps][channels].
 * y = clamp(round((col + sum) * scale), lo, hi) + zero, or the sum itself (MRT_Q_S32). */
typedef struct mrt_qdepth {
  const uint8_t *const *tap;
  const int16_t *w;
  int64_t taps, channels;
  const int32_t *col; /* [channels] added to the sums */
  const float *scale; /* [channels] */
  mrt_q_out out;
  uint8_t flip; /* 0x80: x is signed */
  float lo, hi;
  int32_t zero;
  void *y;
} mrt_qdepth;

/* y[i] = clamp(round(f(a[i], b[i])), lo, hi) + zero; f: (a - az) * ra + (b - bz) * rb, or
 * (a - az) * (b - bz) * ra. */
typedef struct mrt_qbinary {
  const uint8_t *a, *b;
  uint8_t *y;
  int64_t n;
  bool b_one;   /* b is one byte for all */
  bool swapped; /* b stands first in the sum */
  uint8_t flip;
  int32_t az, bz, zero;
  float ra, rb, lo, hi;
} mrt_qbinary;

typedef struct mrt_qbytes {
  void (*depth)(const mrt_qdepth *d);
  void (*add)(const mrt_qbinary *p);
  void (*mul)(const mrt_qbinary *p);
  /* y[i] = the largest of tap[..][i], compared after flipping. */
  void (*max)(const uint8_t *const *tap, int64_t taps, int64_t n, uint8_t flip, uint8_t *y);
  /* sum[i] += x[r][i] after flipping, over rows of `pitch` bytes. */
  void (*sum)(const uint8_t *x, int64_t rows, int64_t pitch, int64_t n, uint8_t flip, int32_t *sum);
  /* out[i][j] = q[i][j] * scale[j] over [rows][32]. */
  void (*widen)(const int8_t *q, int64_t rows, const float *scale, float *out);
  /* dst[p][i] = src[p * step + i] ^ flip, over pixels of c bytes. */
  void (*copy)(uint8_t *dst, const uint8_t *src, int64_t pixels, int64_t c, int64_t step,
               uint8_t flip);
} mrt_qbytes;
extern const mrt_qbytes mrt_qbytes_avx512vnni, mrt_qbytes_avx2, mrt_qbytes_scalar;
const mrt_qbytes *mrt_qbytes_get(void);

/* A number of chunks that two cores share evenly: three would take as long as four. */
static inline int64_t mrt_even_chunks(int64_t n) { return n > 1 ? n & ~(int64_t)1 : n; }

#endif
