/* Fourier transforms: see fft.h. */
#include "ops/fft.h"

#define TWO_PI 6.283185307179586476925286766559

/* In place, m a power of two. */
static void radix2(double *x, int64_t m, const double *twiddle) {
  for (int64_t i = 1, j = 0; i < m; ++i) { /* bit reversal */
    int64_t bit = m >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      double re = x[2 * i], im = x[2 * i + 1];
      x[2 * i] = x[2 * j], x[2 * i + 1] = x[2 * j + 1];
      x[2 * j] = re, x[2 * j + 1] = im;
    }
  }
  for (int64_t len = 2; len <= m; len *= 2) {
    int64_t half = len / 2, step = m / len;
    for (int64_t base = 0; base < m; base += len)
      for (int64_t k = 0; k < half; ++k) {
        const double *w = twiddle + 2 * k * step;
        double *a = x + 2 * (base + k), *b = a + 2 * half;
        double re = b[0] * w[0] - b[1] * w[1], im = b[0] * w[1] + b[1] * w[0];
        b[0] = a[0] - re, b[1] = a[1] - im;
        a[0] += re, a[1] += im;
      }
  }
}
static void swap_parts(double *x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    double t = x[2 * i];
    x[2 * i] = x[2 * i + 1];
    x[2 * i + 1] = t;
  }
}
static void multiply(double *x, const double *y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    double re = x[2 * i] * y[2 * i] - x[2 * i + 1] * y[2 * i + 1];
    x[2 * i + 1] = x[2 * i] * y[2 * i + 1] + x[2 * i + 1] * y[2 * i];
    x[2 * i] = re;
  }
}

mrt_status *mrt_fft_plan(mrt_kctx *c, int64_t n, mrt_fft *f) {
  double *twiddle, *chirp, *filter;
  if (n < 1 || n > (int64_t)1 << 40)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "a Fourier transform of length %lld", (long long)n);
  *f = (mrt_fft){.n = n, .m = 1};
  bool power = (n & (n - 1)) == 0;
  while (f->m < (power ? n : 2 * n - 1)) f->m *= 2;
  MRT_TRY(mrt_scratch_array(c, f->m + 1, sizeof *twiddle, &twiddle));
  for (int64_t k = 0; k < f->m / 2; ++k) {
    double angle = TWO_PI * (double)k / (double)f->m;
    twiddle[2 * k] = cos(angle);
    twiddle[2 * k + 1] = -sin(angle);
  }
  f->twiddle = twiddle;
  if (power) return NULL;
  MRT_TRY(mrt_scratch_array(c, 2 * n, sizeof *chirp, &chirp));
  MRT_TRY(mrt_scratch_array(c, 2 * f->m, sizeof *filter, &filter));
  memset(filter, 0, (size_t)f->m * 2 * sizeof *filter);
  for (int64_t k = 0, square = 0; k < n; ++k) { /* square: k^2 mod 2n */
    double angle = TWO_PI / 2 * (double)square / (double)n;
    chirp[2 * k] = cos(angle);
    chirp[2 * k + 1] = -sin(angle);
    int64_t mirror = k ? f->m - k : 0;
    filter[2 * k] = filter[2 * mirror] = chirp[2 * k];
    filter[2 * k + 1] = filter[2 * mirror + 1] = -chirp[2 * k + 1];
    square = (square + 2 * k + 1) % (2 * n);
  }
  radix2(filter, f->m, twiddle);
  f->chirp = chirp;
  f->filter = filter;
  return NULL;
}
int64_t mrt_fft_scratch(const mrt_fft *f) { return f->chirp ? 2 * f->m : 0; }

void mrt_fft_run(const mrt_fft *f, double *x, double *scratch, bool inverse) {
  if (inverse) swap_parts(x, f->n);
  if (!f->chirp) {
    radix2(x, f->m, f->twiddle);
  } else {
    multiply(x, f->chirp, f->n);
    memcpy(scratch, x, (size_t)f->n * 2 * sizeof *x);
    memset(scratch + 2 * f->n, 0, (size_t)(f->m - f->n) * 2 * sizeof *x);
    radix2(scratch, f->m, f->twiddle);
    multiply(scratch, f->filter, f->m);
    swap_parts(scratch, f->m); /* back, by the inverse transform */
    radix2(scratch, f->m, f->twiddle);
    swap_parts(scratch, f->m);
    for (int64_t i = 0; i < 2 * f->n; ++i) x[i] = scratch[i] / (double)f->m;
    multiply(x, f->chirp, f->n);
  }
  if (inverse) swap_parts(x, f->n);
}
