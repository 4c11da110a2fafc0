/* Block-quantised products alone. Arguments: threads (default 1), then optionally n k. GB/s: packed
 * weights and scales once a run. */
#include "bench.h"

#include "base/alloc.h"
#include "provider/cpu/nbits/nbits.h"

typedef struct job {
  mrt_par par;
  mrt_nbits p;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  mrt_nbits_run(&j->par, &j->p, j->scratch);
}

static void shape(int threads, int64_t m, int64_t n, int64_t k, int bits, bool bytes) {
  const int64_t block = 32, raw = n * k * bits / 8;
  const size_t packed = mrt_nbits_packed_size(n, k, block, bits);
  const size_t scales = mrt_nbits_scales_count(n, k, block);
  uint8_t *b = malloc((size_t)raw);
  for (int64_t i = 0; i < raw; ++i) b[i] = (uint8_t)(i * 2654435761u >> 7);
  void *dst = NULL;
  if (mrt_mem_new_aligned(mrt_alloc_default(), packed, MRT_ALIGN, &dst)) exit(1);
  mrt_nbits_pack(b, n, k, block, bits, dst);
  job j = {.par = {.threads = threads},
           .p = {.m = m, .n = n, .k = k, .block = block, .bits = bits, .bytes = bytes}};
  j.p.precision = bytes ? MRT_PRECISION_MEDIUM : MRT_PRECISION_HIGHEST;
  j.p.b = dst;
  j.p.scales = bench_floats(scales);
  j.p.a = bench_floats((size_t)(m * k));
  j.p.c = bench_floats((size_t)(m * n));
  j.scratch = aligned_alloc(64, (mrt_nbits_scratch_size(&j.par, &j.p) + 127) / 64 * 64);
  const bench_result r = bench_run(run, &j, 0.3, 0);
  char name[80];
  snprintf(name, sizeof name, "%d bits, A %s, m %d", bits, bytes ? "bytes" : "f32", (int)m);
  bench_print(name, 2.0 * (double)(m * n * k), r, threads);
  printf("   %.1f GB/s (median %.1f)\n", (double)(packed + scales * 4) / r.best * 1e-9,
         (double)(packed + scales * 4) / r.median * 1e-9);
  mrt_mem_free(mrt_alloc_default(), dst);
  free(b), free((void *)j.p.scales), free((void *)j.p.a), free(j.p.c), free(j.scratch);
}

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const int64_t n = argc > 3 ? atoi(argv[2]) : 4096, k = argc > 3 ? atoi(argv[3]) : 4096;
  static const int rows[] = {1, 2, 4, 8, 32, 128};
  for (int bits = 4; bits <= 8; bits += 4)
    for (int bytes = 0; bytes <= 1; ++bytes)
      for (int i = 0; i < 6; ++i) shape(threads, rows[i], n, k, bits, bytes);
  return 0;
}
