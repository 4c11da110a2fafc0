/* Helpers of the kernel tests: random data, buffers with guard bytes, and running the whole program
 * once per instruction set of this machine (MRT_CPU_ISA caps the choice). */
#ifndef MRT_TESTS_KERNELS_H
#define MRT_TESTS_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cpu.h"
#include "check.h"

static uint64_t rng_state = 88172645463325252ull;
/* MRT_TEST_SEED=n: another stream. */
static inline void rng_start(void) {
  const char *seed = getenv("MRT_TEST_SEED");
  if (seed) rng_state += strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15ull;
  if (!rng_state) rng_state = 1;
}
static inline uint32_t rng(void) {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return (uint32_t)(rng_state >> 32);
}
static inline float rng_float(void) { return (float)rng() * (2.0f / 4294967296.0f) - 1.0f; }
static inline int64_t rng_below(int64_t n) { return (int64_t)(rng() % (uint64_t)n); }

static inline float wide_float(void) { /* many magnitudes, now and then something special */
  static const float special[] = {INFINITY, -INFINITY, NAN, 3.4e38f, 1e-40f, -0.0f, 0x1p-120f};
  const uint32_t r = rng();
  if (r % 97 == 0) return special[r / 97 % 7];
  return ldexpf(rng_float(), (int)(r >> 8) % 40 - 20);
}

/* NaN may carry any sign and payload. */
static inline int same_bits(const float *a, const float *b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!(isnan(a[i]) && isnan(b[i])) && memcmp(a + i, b + i, 4) != 0) return 0;
  return 1;
}
static inline int same_halves(const uint16_t *a, const uint16_t *b, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (a[i] != b[i] && !((a[i] & 0x7fff) > 0x7f80 && (b[i] & 0x7fff) > 0x7f80)) return 0;
  return 1;
}

/* `bytes` of memory at 64 * n + misalign, between two guard zones. */
enum { GUARD = 256 };
typedef struct guarded {
  uint8_t *base, *data;
  size_t bytes, total;
} guarded;

static inline guarded guarded_new(size_t bytes, size_t misalign) {
  guarded g = {.bytes = bytes, .total = (bytes + misalign + 2 * GUARD + 63) / 64 * 64};
  g.base = aligned_alloc(64, g.total);
  memset(g.base, 0xa5, g.total);
  g.data = g.base + GUARD + misalign;
  return g;
}
/* True if nothing outside [data, data + bytes) was written; frees. */
static inline int guarded_done(guarded *g) {
  int ok = 1;
  for (uint8_t *p = g->base; p < g->base + g->total; ++p)
    if ((p < g->data || p >= g->data + g->bytes) && *p != 0xa5) ok = 0;
  free(g->base);
  return ok;
}
static inline float *guarded_floats(guarded *g, int64_t n, size_t misalign) {
  *g = guarded_new((size_t)n * sizeof(float), misalign);
  float *p = (float *)g->data;
  for (int64_t i = 0; i < n; ++i) p[i] = rng_float();
  return p;
}

/* Runs `body` in this process if MRT_CPU_ISA is set, else the program once per instruction set. */
static inline int run_per_isa(char **argv, const char *const *isas, void (*body)(void)) {
  if (getenv("MRT_CPU_ISA")) {
    rng_start();
    body();
    if (check_failures) fprintf(stderr, "(MRT_CPU_ISA=%s)\n", getenv("MRT_CPU_ISA"));
    return CHECK_DONE();
  }
  int failed = 0;
  for (; *isas; ++isas) {
    const pid_t pid = fork();
    if (pid == 0) {
      setenv("MRT_CPU_ISA", *isas, 1);
      execv("/proc/self/exe", argv);
      _exit(127);
    }
    int status = 1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) failed = 1;
  }
  return failed;
}

#endif
