/* Products with few rows and weights that come from memory: packed matrices of 512 MiB in all, used
 * one after the other. Arguments: threads (default 1), then optionally n k. GB/s of weights. */
#include "bench.h"

#include "base/alloc.h"
#include "provider/cpu/gemm/gemm.h"

typedef struct job {
  mrt_par par;
  mrt_gemm g;
  void *weights[1024];
  size_t bytes;
  int at, n;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  j->g.b = j->weights[j->at];
  j->at = (j->at + 1) % j->n;
  mrt_gemm_run(&j->par, &j->g, j->scratch);
}

static void shape(int threads, int64_t m, int64_t n, int64_t k) {
  job j = {.par = {.threads = threads}, .g = {.m = m, .n = n, .k = k, .lda = k, .ldc = n}};
  j.bytes = mrt_gemm_packed_size(n, k);
  for (; j.n < 1024 && j.bytes * (size_t)j.n < (size_t)512 << 20; ++j.n) {
    if (mrt_mem_new_aligned(mrt_alloc_default(), j.bytes, MRT_ALIGN, &j.weights[j.n])) exit(1);
    memset(j.weights[j.n], 0, j.bytes);
  }
  j.g.a = bench_floats((size_t)(m * k));
  j.g.c = bench_floats((size_t)(m * n));
  j.scratch = aligned_alloc(64, (mrt_gemm_scratch_size(&j.par, m, n, k, false) + 127) / 64 * 64);
  const bench_result r = bench_run(run, &j, 0.4, 0);
  printf("m %2d n %5d k %5d: %8.1f us (median %8.1f), %5.1f GB/s (median %5.1f)\n", (int)m, (int)n,
         (int)k, r.best * 1e6, r.median * 1e6, (double)j.bytes / r.best * 1e-9,
         (double)j.bytes / r.median * 1e-9);
  for (int i = 0; i < j.n; ++i) mrt_mem_free(mrt_alloc_default(), j.weights[i]);
  free((void *)j.g.a), free(j.g.c), free(j.scratch);
}

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const int64_t n = argc > 3 ? atoi(argv[2]) : 4096, k = argc > 3 ? atoi(argv[3]) : 4096;
  static const int rows[] = {1, 2, 4, 8};
  for (int i = 0; i < 4; ++i) shape(threads, rows[i], n, k);
  return 0;
}
