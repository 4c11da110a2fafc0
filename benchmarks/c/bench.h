/* Timing of kernels: best and median of many windows, beside the FMA (or VNNI) peak of the same
 * minute, because clocks of shared machines move. */
#ifndef MRT_BENCH_H
#define MRT_BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Peak of one core, operations per second: 16 independent accumulators. Of multiply-adds, of
 * products of bytes, of bf16 dot products. */
enum { BENCH_FMA, BENCH_VNNI, BENCH_DOT };
#if defined(__x86_64__)
#define BENCH_ALL(X) \
  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define BENCH_Z(i) "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n"
#define BENCH_F(i) "vfmadd231ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define BENCH_V(i) "vpdpbusd %%zmm30,%%zmm31,%%zmm" #i "\n"
#define BENCH_D(i) "vdpbf16ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define BENCH_CLOBBER                                                                            \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm30", "xmm31"
__attribute__((noinline, target("avx512f,avx512bw"))) static double bench_peak(int kind) {
  double best = 0;
  for (double t0 = bench_now(); bench_now() - t0 < 0.02;) {
    long m = 20000;
    const double t = bench_now();
    if (kind == BENCH_DOT)
      __asm__ volatile(BENCH_ALL(BENCH_Z) BENCH_Z(30)
                           BENCH_Z(31) "1:\n" BENCH_ALL(BENCH_D) "dec %0\njnz 1b\n"
                       : "+r"(m)::BENCH_CLOBBER);
    else if (kind == BENCH_VNNI)
      __asm__ volatile(BENCH_ALL(BENCH_Z) BENCH_Z(30)
                           BENCH_Z(31) "1:\n" BENCH_ALL(BENCH_V) "dec %0\njnz 1b\n"
                       : "+r"(m)::BENCH_CLOBBER);
    else
      __asm__ volatile(BENCH_ALL(BENCH_Z) BENCH_Z(30)
                           BENCH_Z(31) "1:\n" BENCH_ALL(BENCH_F) "dec %0\njnz 1b\n"
                       : "+r"(m)::BENCH_CLOBBER);
    const double rate = 20000.0 * 16 *
                        (kind == BENCH_VNNI  ? 128
                         : kind == BENCH_DOT ? 64
                                             : 32) /
                        (bench_now() - t);
    if (rate > best) best = rate;
  }
  return best;
}
#else
static double bench_peak(int kind) {
  (void)kind;
  return 0.0;
}
#endif

typedef struct bench_result {
  double best, median, peak; /* seconds, seconds, operations per second */
} bench_result;

static int bench_order(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* Runs fn(arg) for about `seconds`, in windows of at least 50 us. */
static inline bench_result bench_run(void (*fn)(void *), void *arg, double seconds, int vnni) {
  static double windows[4096];
  bench_result r = {.best = 1e9, .peak = bench_peak(vnni)};
  fn(arg);
  double t = bench_now();
  fn(arg);
  const double once = bench_now() - t;
  const int reps = once > 50e-6 ? 1 : (int)(50e-6 / (once + 1e-9)) + 1;
  int n = 0;
  for (double t0 = bench_now(); n < 4096 && (n < 5 || bench_now() - t0 < seconds); ++n) {
    t = bench_now();
    for (int i = 0; i < reps; ++i) fn(arg);
    windows[n] = (bench_now() - t) / reps;
  }
  qsort(windows, (size_t)n, sizeof *windows, bench_order);
  r.best = windows[0];
  r.median = windows[n / 2];
  const double after = bench_peak(vnni);
  if (after > r.peak) r.peak = after;
  return r;
}

static inline void bench_print(const char *name, double ops, bench_result r, int threads) {
  printf("%-34s best %9.2f us  median %9.2f us  %7.1f G/s  peak %6.1f  %3.0f%% (median %3.0f%%)\n",
         name, r.best * 1e6, r.median * 1e6, ops / r.best / 1e9, r.peak * threads / 1e9,
         100 * ops / r.best / (r.peak * threads), 100 * ops / r.median / (r.peak * threads));
  fflush(stdout);
}

static inline float *bench_floats(size_t n) {
  float *p = aligned_alloc(64, (n * 4 + 127) / 64 * 64);
  for (size_t i = 0; i < n; ++i) p[i] = (float)((i * 2654435761u >> 7) % 2001) * 1e-3f - 1.0f;
  return p;
}

#endif
