/* How near to the machine's limit float32 products come: shape, rate, share of the peak of the same
 * minute, largest error / sum |a b| against float64. Packing of the left side is timed, packing of
 * the right side is not. Kinds: fma (AVX-512 or what there is), x6, x3, x1 (six, three, one bf16
 * products on AMX: highest, high, medium; the peak of x1 is that of the tiles, of x3 a third of
 * it), dot (medium by bf16 dot products, where the CPU has them; beside their peak), i8 (bytes to
 * bytes on AMX). The clock falls under long work on numbers that change (Sapphire Rapids: FMA 3.8
 * to 3.3 GHz, tiles 3.6 to 2.9), so the peak is the median of bursts on such numbers between the
 * products; the share of the best burst on zeros, which no product can reach, is printed too.
 * Arguments: seconds per line (default 0.1), then kinds. Build: see benchmarks/README.md. */
#include "bench.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/gemm/gemm_split.h"
#include "provider/cpu/qgemm/qgemm.h"

static const int64_t shapes[][3] = {
    {128, 128, 128},    {256, 256, 256},  {512, 512, 512},   {1024, 1024, 1024},
    {2048, 2048, 2048}, {512, 512, 3072}, {512, 1024, 4096}, {128, 768, 768},
    {128, 3072, 768},   {128, 768, 3072}, {256, 1024, 4096}, {32, 768, 768},
    {197, 768, 768},    {100, 300, 500},  {127, 255, 511},   {333, 777, 1025}};

/* What multiplies; the peak is that of a tile product for all three of tiles. */
typedef enum kind { FMA, DOT, TILES, BYTES } kind;

typedef struct job {
  kind kind;
  mrt_par par;
  mrt_gemm g;
  mrt_qgemm q;
  int parts;
  void *scratch;
} job;

static void run(void *arg) {
  job *j = arg;
  const mrt_gemm_batch one = {.batch = 1};
  if (j->kind == BYTES)
    mrt_qgemm_run(&j->par, &j->q, true, j->scratch);
  else if (j->parts)
    mrt_gemm_split_run(mrt_split_kernels_get(), j->parts, &j->par, &j->g, &one, j->scratch);
  else
    mrt_gemm_run(&j->par, &j->g, j->scratch);
}

/* ---- limits ---- */
/* A burst of some 20 us on one core, operations per second; numbers as in products: both kinds of
 * units run at a lower clock when their inputs change than on zeros. */
#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((noinline, target("avx512f"))) static double vector_burst(bool dot, bool zeros) {
  float x[16] = {0}, y[16] = {0};
  for (int i = 0; i < 16 && !zeros; ++i) {
    x[i] = 0.37f + 0.11f * (float)i;
    y[i] = i & 1 ? -0.9f : 0.8f;
  }
  long m = 4000;
  const double start = bench_now();
#define BURST(instruction) \
  __asm__ volatile(BENCH_ALL(BENCH_Z) "vmovups (%1),%%zmm30\nvmovups (%2),%%zmm31\n"           \
                                      "1:\n" BENCH_ALL(instruction) "dec %0\njnz 1b\n"        \
                   : "+r"(m)                                                                   \
                   : "r"(x), "r"(y)                                                            \
                   : BENCH_CLOBBER, "memory")
  if (dot)
    BURST(BENCH_D);
  else
    BURST(BENCH_F);
  return 4000.0 * 16 * (dot ? 64 : 32) / (bench_now() - start);
}

/* Four tile products per turn on tiles of a few KB. */
__attribute__((noinline, target("amx-tile,amx-bf16,amx-int8"))) static double tile_burst(
    bool bytes, bool zeros) {
  _Alignas(64) uint16_t t[8][512] = {{0}};
  uint32_t r = 1;
  for (int i = 0; i < 8 * 512 && !zeros; ++i) {
    r = r * 1664525u + 1013904223u;
    t[i / 512][i % 512] =
        (uint16_t)((r >> 31) << 15 | (0x7e - (r >> 8) % 6) << 7 | (r >> 16 & 127));
  }
  mrt_split_kernels_get()->begin();
  const double start = bench_now();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int i = 0; i < 1000; ++i) {
    const int at = i % 2 * 4;
    _tile_loadd(4, t[at], 64);
    _tile_loadd(5, t[at + 1], 64);
    _tile_loadd(6, t[at + 2], 64);
    _tile_loadd(7, t[at + 3], 64);
    if (bytes) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  const double rate = 1000.0 * 4 * 16 * 16 * (bytes ? 64 : 32) * 2 / (bench_now() - start);
  mrt_split_kernels_get()->end();
  return rate;
}
#else
static double vector_burst(bool dot, bool zeros) { return 1 + dot + zeros; }
static double tile_burst(bool bytes, bool zeros) { return 1 + bytes + zeros; }
#endif

/* The second of two bursts a thread: the first may start at another clock. */
typedef struct peak {
  double rate[2];
  const job *job;
  bool zeros;
} peak;
static void peak_chunk(void *arg, int64_t chunk, int worker) {
  peak *p = arg;
  const job *j = p->job;
  (void)worker;
  for (int i = 0; i < 2; ++i)
    p->rate[chunk] = j->kind == FMA || j->kind == DOT
                         ? vector_burst(j->kind == DOT, p->zeros)
                         : tile_burst(j->kind == BYTES, p->zeros) / (j->parts * (j->parts + 1) / 2);
}
static double peak_beside(const job *j, bool zeros) {
  peak p = {.job = j, .zeros = zeros};
  mrt_par_run(&j->par, j->par.threads, peak_chunk, &p);
  return p.rate[0] + p.rate[1];
}

typedef struct result {
  double median, peak, zeros; /* seconds; operations per second */
} result;

/* Product and bursts in turn, so that both see the same clock. */
static result measure(job *j, double seconds) {
  static double times[20000], peaks[20000];
  run(j);
  double t = bench_now();
  run(j);
  const int reps = (int)(60e-6 / (bench_now() - t + 1e-9)) + 1;
  double zeros = 0;
  for (double t0 = bench_now(); bench_now() - t0 < 0.02;) zeros = fmax(zeros, peak_beside(j, true));
  int n = 0;
  for (double t0 = bench_now(); n < 20000 && (n < 7 || bench_now() - t0 < seconds); ++n) {
    peaks[n] = peak_beside(j, false);
    run(j);
    t = bench_now();
    for (int i = 0; i < reps; ++i) run(j);
    times[n] = (bench_now() - t) / reps;
  }
  qsort(times, (size_t)n, sizeof *times, bench_order);
  qsort(peaks, (size_t)n, sizeof *peaks, bench_order);
  return (result){times[n / 2], peaks[n / 2], zeros};
}

/* A sample of rows. */
static double error_of(const mrt_gemm *g, const float *b) {
  double worst = 0;
  for (int64_t i = 0; i < g->m; i += 1 + g->m / 7)
    for (int64_t c = 0; c < g->n; c += 1 + g->n / 61) {
      double sum = 0, mass = 1e-300;
      for (int64_t k = 0; k < g->k; ++k) {
        const double p = (double)g->a[i * g->lda + k] * b[k * g->n + c];
        sum += p;
        mass += fabs(p);
      }
      const double e = fabs(g->c[i * g->ldc + c] - sum) / mass;
      if (e > worst) worst = e;
    }
  return worst;
}

/* As the engine's own blocks: on huge pages where they are large enough. */
static void *block(size_t bytes) {
  void *p;
  if (mrt_mem_new_aligned(mrt_alloc_default(), bytes, MRT_ALIGN, &p)) exit(1);
  return p;
}
static float *floats(int64_t n) {
  float *p = block((size_t)n * sizeof(float));
  for (int64_t i = 0; i < n; ++i) p[i] = (float)((i * 2654435761 >> 7) % 2001) * 1e-3f - 1.0f;
  return p;
}

static uint16_t *bf16_tiles(const float *packed, int64_t n, int64_t k) {
  uint16_t *out = block(mrt_gemm_packed16_size(1, n, k));
  for (int64_t p = 0; p * MRT_GEMM_PANEL < n; ++p)
    mrt_gemm_pack_panel16(mrt_split_kernels_get(), 1, packed + p * MRT_GEMM_PANEL * k, k, p, out);
  return out;
}

static void print(const char *name, const job *j, const int64_t *s, result r) {
  const double rate = 2.0 * (double)s[0] * (double)s[1] * (double)s[2] / r.median;
  printf("%-4s %d threads  %4lld x %4lld x %4lld  %7.0f G/s  %3.0f%% of %5.0f  %3.0f%% of zeros",
         name, j->par.threads, (long long)s[0], (long long)s[1], (long long)s[2], rate / 1e9,
         100 * rate / r.peak, r.peak / 1e9, 100 * rate / r.zeros);
}

static void float_line(const char *name, job j, const int64_t *s, double seconds) {
  const int64_t m = s[0], n = s[1], k = s[2];
  float *a = floats(m * k), *b = floats(n * k), *c = floats(m * n);
  float *packed = block(mrt_gemm_packed_size(n, k));
  mrt_gemm_pack_b(&j.par, b, n, false, k, n, packed);
  uint16_t *tiles = j.parts == 1 ? bf16_tiles(packed, n, k) : NULL;
  j.g = (mrt_gemm){.m = m, .n = n, .k = k, .a = a, .lda = k, .b = packed, .c = c, .ldc = n};
  j.g.b16 = tiles;
  j.g.b16_parts = 1;
  size_t bytes = mrt_gemm_scratch_size(&j.par, m, n, k, false);
  const size_t split = j.parts ? mrt_gemm_split_scratch(&j.par, m, n, k, false, false) : 0;
  j.scratch = block(bytes > split ? bytes : split);
  mrt_threads_run_begin(&j.par);
  const result r = measure(&j, seconds);
  mrt_threads_run_end(&j.par);
  print(name, &j, s, r);
  printf("  error %.1e\n", error_of(&j.g, b));
  fflush(stdout);
  void *const blocks[] = {a, b, c, packed, tiles, j.scratch};
  for (int i = 0; i < 6; ++i) mrt_mem_free(mrt_alloc_default(), blocks[i]);
}

/* Bytes to bytes, scaled; sums are exact (tests/c/test_qgemm.c). */
static void byte_line(const char *name, job j, const int64_t *s, double seconds) {
  const int64_t m = s[0], n = s[1], k = s[2];
  uint8_t *a = block((size_t)(m * k)), *b = block((size_t)(n * k)), *c = block((size_t)(m * n));
  float *bias = floats(n);
  const float scale = 1e-4f;
  for (int64_t i = 0; i < m * k; ++i) a[i] = (uint8_t)(i * 2654435761 >> 9);
  for (int64_t i = 0; i < n * k; ++i) b[i] = (uint8_t)(i * 2246822519 >> 9);
  void *packed = block(mrt_qgemm_packed_size(n, k));
  mrt_qgemm_pack_b(&j.par, b, true, n, false, k, n, packed);
  const mrt_qgemm_epilogue epi = {
      .out = MRT_Q_U8, .scale = &scale, .bias = bias, .out_scale = 0.1f, .out_zero = 128};
  j.q = (mrt_qgemm){.m = m,
                    .n = n,
                    .k = k,
                    .a = a,
                    .lda = k,
                    .a_zero = 7,
                    .b = packed,
                    .c = c,
                    .ldc = n,
                    .epi = &epi};
  j.scratch = block(mrt_qgemm_scratch_size(&j.par, m, n, k) + 64);
  mrt_threads_run_begin(&j.par);
  const result r = measure(&j, seconds);
  mrt_threads_run_end(&j.par);
  print(name, &j, s, r);
  printf("\n");
  fflush(stdout);
  void *const blocks[] = {a, b, c, bias, packed, j.scratch};
  for (int i = 0; i < 6; ++i) mrt_mem_free(mrt_alloc_default(), blocks[i]);
}

/* In a process of its own: for fma and dot the tiles are switched off before anything looks at the
 * CPU. */
static void table(const char *name, double seconds) {
  job j = {.kind = *name == 'f' ? FMA : *name == 'd' ? DOT : *name == 'i' ? BYTES : TILES};
  j.parts = j.kind == FMA ? 0 : *name != 'x' ? 1 : name[1] == '6' ? 3 : name[1] == '3' ? 2 : 1;
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (j.kind == FMA || j.kind == DOT) setenv("MRT_CPU_ISA", "avx512bf16", 1);
    if (j.kind == DOT) setenv("MRT_BF16_DOT", "1", 1);
    const mrt_split_kernels *split = j.kind == FMA ? NULL : mrt_split_kernels_get();
    if (j.kind == FMA || (split && (j.kind == DOT) == (split->most_parts == 1)))
      for (j.par.threads = 1; j.par.threads <= 2; ++j.par.threads)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
          (j.kind == BYTES ? byte_line : float_line)(name, j, shapes[i], seconds);
    exit(0);
  }
  waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"fma", "dot", "x1", "x3", "x6", "i8"};
  const double seconds = argc > 1 ? atof(argv[1]) : 0.1;
  for (int k = 0; k < 6; ++k)
    for (int i = argc > 2 ? 2 : 1; i < (argc > 2 ? argc : 2); ++i)
      if (argc <= 2 || strcmp(argv[i], kinds[k]) == 0) table(kinds[k], seconds);
  return 0;
}
