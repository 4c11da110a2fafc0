/* Peaks of this machine in this minute: a server that answers "KIND THREADS SECONDS" lines with
 * operations per second (multiply and add count as two), summed over the threads.
 *
 *   fma       float32 fused multiply-add (AVX-512, or AVX2, or scalar)
 *   bf16      vdpbf16ps        vnni      vpdpbusd
 *   amx_bf16  tdpbf16ps        amx_int8  tdpbusd
 *   dram      bytes per second read from 256 MiB
 * A kind that this CPU cannot run answers 0. Build: cc -O2 -pthread calibrate.c */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef double (*burst_fn)(long rounds); /* runs, returns operations done */

#if defined(__x86_64__)
#define REPEAT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define ZERO(i)   "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n"
#define CLOBBER                                                                                  \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm30", "xmm31"
/* Twelve independent accumulators cover the latency of every one of these instructions. */
#define BURST(name, isa, instruction, flops)                                                      \
  __attribute__((noinline, target(isa))) static double name(long rounds) {                        \
    long n = rounds;                                                                              \
    __asm__ volatile(REPEAT(ZERO) ZERO(30) ZERO(31) "1:\n" REPEAT(instruction) "dec %0\njnz 1b\n" \
                     : "+r"(n)::CLOBBER);                                                         \
    return (double)rounds * 12 * (flops);                                                         \
  }
#define I_FMA(i)  "vfmadd231ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define I_BF16(i) "vdpbf16ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define I_VNNI(i) "vpdpbusd %%zmm30,%%zmm31,%%zmm" #i "\n"
BURST(burst_fma512, "avx512f", I_FMA, 32)
BURST(burst_bf16, "avx512f", I_BF16, 64)
BURST(burst_vnni, "avx512f", I_VNNI, 128)

__attribute__((noinline, target("avx2,fma"))) static double burst_fma256(long rounds) {
  __m256 a[12];
  for (int i = 0; i < 12; ++i) a[i] = _mm256_setzero_ps();
  const __m256 x = _mm256_set1_ps(0.5f);
  for (long n = rounds; n > 0; --n) {
    for (int i = 0; i < 12; ++i) a[i] = _mm256_fmadd_ps(x, x, a[i]);
    __asm__ volatile("" ::: "memory");
  }
  volatile float sink = 0;
  for (int i = 0; i < 12; ++i) sink += _mm256_cvtss_f32(a[i]);
  return (double)rounds * 12 * 16;
}

typedef struct tile_config {
  unsigned char palette, start_row, reserved[14];
  unsigned short cols[16];
  unsigned char rows[16];
} tile_config;

#define TILE_EACH(f) \
  f(0);              \
  f(1);              \
  f(2);              \
  f(3);              \
  f(4);              \
  f(5);              \
  f(6);              \
  f(7);
#define TILES(name, op)                                                               \
  __attribute__((noinline, target("amx-tile,amx-int8,amx-bf16"))) static double name( \
      long rounds) {                                                                  \
    static const tile_config c = {.palette = 1,                                       \
                                  .cols = {64, 64, 64, 64, 64, 64, 64, 64},           \
                                  .rows = {16, 16, 16, 16, 16, 16, 16, 16}};          \
    _tile_loadconfig(&c);                                                             \
    TILE_EACH(_tile_zero)                                                             \
    for (long n = rounds; n > 0; --n) {                                               \
      op(0, 4, 6);                                                                    \
      op(1, 4, 7);                                                                    \
      op(2, 5, 6);                                                                    \
      op(3, 5, 7);                                                                    \
    }                                                                                 \
    _tile_release();                                                                  \
    return (double)rounds * 4;                                                        \
  }
TILES(tiles_bf16, _tile_dpbf16ps)
TILES(tiles_int8, _tile_dpbusd)
static double burst_amx_bf16(long n) { return tiles_bf16(n) * 16 * 16 * 32 * 2; }
static double burst_amx_int8(long n) { return tiles_int8(n) * 16 * 16 * 64 * 2; }

/* The kernel gives tile memory to a process on request only. */
static int amx_allowed(void) {
  static int answer = -1;
  if (answer < 0) answer = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return answer;
}

static unsigned leaf7_edx(void) {
  unsigned a = 7, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return d;
}
static unsigned leaf7_1_eax(void) {
  unsigned a = 7, b, c = 1, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return a;
}

static burst_fn find(const char *kind) {
  int z = __builtin_cpu_supports("avx512f");
  if (strcmp(kind, "fma") == 0)
    return z ? burst_fma512 : __builtin_cpu_supports("fma") ? burst_fma256 : NULL;
  if (strcmp(kind, "vnni") == 0) return __builtin_cpu_supports("avx512vnni") ? burst_vnni : NULL;
  if (strcmp(kind, "bf16") == 0) return z && (leaf7_1_eax() >> 5 & 1) ? burst_bf16 : NULL;
  if (strcmp(kind, "amx_bf16") == 0)
    return (leaf7_edx() >> 22 & 1) && amx_allowed() ? burst_amx_bf16 : NULL;
  if (strcmp(kind, "amx_int8") == 0)
    return (leaf7_edx() >> 25 & 1) && amx_allowed() ? burst_amx_int8 : NULL;
  return NULL;
}
#else
static burst_fn find(const char *kind) {
  (void)kind;
  return NULL;
}
#endif

#define DRAM_BYTES ((size_t)256 << 20)
static unsigned long *dram;
static double burst_dram(long rounds) {
  unsigned long sum = 0;
  (void)rounds;
  for (size_t i = 0; i < DRAM_BYTES / 8; i += 8) /* one load a line: the bus is the limit */
    sum += dram[i];
  __asm__ volatile("" ::"r"(sum));
  return (double)DRAM_BYTES;
}

typedef struct job {
  burst_fn fn;
  long rounds;
  double seconds, rate;
} job;

static void *work(void *arg) {
  job *j = arg;
  double done = 0, t0 = now(), t;
  do {
    done += j->fn(j->rounds);
    t = now() - t0;
  } while (t < j->seconds);
  j->rate = done / t;
  return NULL;
}

int main(void) {
  char kind[32];
  int threads;
  double seconds;
  while (scanf("%31s %d %lf", kind, &threads, &seconds) == 3) {
    int is_dram = strcmp(kind, "dram") == 0;
    burst_fn fn = is_dram ? burst_dram : find(kind);
    double sum = 0;
    if (is_dram && !dram) {
      dram = malloc(DRAM_BYTES);
      if (dram) memset(dram, 1, DRAM_BYTES);
    }
    if (fn && threads >= 1 && threads <= 64 && (!is_dram || dram)) {
      pthread_t t[64];
      job j[64];
      for (int i = 0; i < threads; ++i) {
        j[i] = (job){fn, 20000, seconds, 0};
        if (i) pthread_create(&t[i], NULL, work, &j[i]);
      }
      work(&j[0]);
      for (int i = 1; i < threads; ++i) pthread_join(t[i], NULL);
      for (int i = 0; i < threads; ++i) sum += j[i].rate;
    }
    printf("%.6g\n", sum);
    fflush(stdout);
  }
  return 0;
}
