/* Discrete Fourier transforms of any length in double: radix 2 where the length is a power of two,
 * Bluestein's chirp transform (as a convolution of such a length) elsewhere. */
#ifndef MRT_OPS_FFT_H
#define MRT_OPS_FFT_H

#include "ops/work.h"

typedef struct mrt_fft {
  int64_t n, m;          /* length; length of the radix-2 transforms */
  const double *twiddle; /* [m / 2] complex: e^(-2 pi i k / m) */
  const double *chirp;   /* [n] complex: e^(-pi i k^2 / n); NULL if n is a power of two */
  const double *filter;  /* [m] complex: transform of the conjugate chirp */
} mrt_fft;

/* Tables for length n >= 1, in the kernel's scratch memory. */
mrt_status *mrt_fft_plan(mrt_kctx *c, int64_t n, mrt_fft *f) MRT_MUST_CHECK;
/* Doubles that one caller of mrt_fft_run needs as scratch. */
int64_t mrt_fft_scratch(const mrt_fft *f);
/* x: n complex numbers, transformed in place. inverse: conjugate exponents, not divided by n. */
void mrt_fft_run(const mrt_fft *f, double *x, double *scratch, bool inverse);

#endif
