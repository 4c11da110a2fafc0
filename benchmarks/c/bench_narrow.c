/* Products with few rows and narrow weights that come from memory: packed matrices of 512 MiB in
 * all, used one after the other. Arguments: threads (default 1), then optionally n k. */
#include "bench.h"

#include "base/alloc.h"
#include "provider/cpu/half/narrow.h"

typedef struct job {
  mrt_par par;
  mrt_gemm g;
  mrt_narrow w;
  void *weights[2048];
  int at, n;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  j->w.b = j->weights[j->at];
  j->at = (j->at + 1) % j->n;
  mrt_narrow_run(&j->par, &j->g, &j->w, j->scratch);
}

static void shape(int threads, mrt_narrow_kind kind, int64_t m, int64_t n, int64_t k) {
  static const char *const names[] = {"bf16", "f16", "s8"};
  static job j;
  memset(&j, 0, sizeof j);
  j.par.threads = threads;
  j.g = (mrt_gemm){.m = m, .n = n, .k = k, .lda = k, .ldc = n};
  j.w.kind = kind;
  const size_t bytes = mrt_narrow_packed_size(kind, n, k);
  for (; j.n < 2048 && bytes * (size_t)j.n < (size_t)512 << 20; ++j.n) {
    if (mrt_mem_new_aligned(mrt_alloc_default(), bytes, MRT_ALIGN, &j.weights[j.n])) exit(1);
    memset(j.weights[j.n], 0, bytes);
  }
  j.g.a = bench_floats((size_t)(m * k));
  j.g.c = bench_floats((size_t)(m * n));
  j.w.scale = kind == MRT_NARROW_S8 ? bench_floats((size_t)n + 32) : NULL;
  j.scratch = aligned_alloc(64, (mrt_narrow_scratch_size(&j.par, m, n, k, false) + 127) / 64 * 64);
  const bench_result r = bench_run(run, &j, 0.3, 0);
  printf("%4s m %2d n %5d k %5d: %8.1f us (median %8.1f), %5.1f GB/s (median %5.1f)\n", names[kind],
         (int)m, (int)n, (int)k, r.best * 1e6, r.median * 1e6, (double)bytes / r.best * 1e-9,
         (double)bytes / r.median * 1e-9);
  for (int i = 0; i < j.n; ++i) mrt_mem_free(mrt_alloc_default(), j.weights[i]);
  free((void *)j.g.a), free(j.g.c), free((void *)j.w.scale), free(j.scratch);
}

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const int64_t n = argc > 3 ? atoi(argv[2]) : 4096, k = argc > 3 ? atoi(argv[3]) : 4096;
  static const int rows[] = {1, 4, 8, 64};
  for (int kind = 0; kind < MRT_NARROW_KINDS; ++kind)
    for (int i = 0; i < 4; ++i) shape(threads, (mrt_narrow_kind)kind, rows[i], n, k);
  return 0;
}
