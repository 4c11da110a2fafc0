/* float32 GEMM beside the FMA peak. Arguments: threads (default 1), precision (0 highest, 1 high, 2
 * medium), then optionally m n k. */
#include "bench.h"

#include "provider/cpu/gemm/gemm.h"

typedef struct job {
  mrt_par par;
  mrt_gemm g;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  mrt_gemm_run(&j->par, &j->g, j->scratch);
}

static mrt_precision precision;

static void shape(int threads, int64_t m, int64_t n, int64_t k, mrt_ew_op act) {
  job j = {.par = {.threads = threads}};
  float *a = bench_floats((size_t)(m * k)), *b = bench_floats((size_t)(n * k));
  float *c = bench_floats((size_t)(m * n)), *bias = bench_floats((size_t)n);
  float *packed = aligned_alloc(64, mrt_gemm_packed_size(n, k));
  mrt_gemm_epilogue epi = {.alpha = 1.0f, .bias = bias, .act = {.op = act}};
  mrt_gemm_pack_b(&j.par, b, n, false, k, n, packed);
  j.g = (mrt_gemm){m, n, k, a, k, false, packed, c, n, &epi, precision};
  j.scratch = aligned_alloc(64, mrt_gemm_scratch_size(&j.par, m, n, k, false) / 64 * 64 + 64);
  mrt_threads_run_begin(&j.par);
  const bench_result r = bench_run(run, &j, 0.15, 0);
  mrt_threads_run_end(&j.par);
  char name[80];
  snprintf(name, sizeof name, "%lld x %lld x %lld %s", (long long)m, (long long)n, (long long)k,
           act == MRT_EW_COPY ? "" : mrt_ew_op_name(act));
  bench_print(name, 2.0 * (double)m * (double)n * (double)k, r, threads);
  free(a), free(b), free(c), free(bias), free(packed), free(j.scratch);
}

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  precision = (mrt_precision)(argc > 2 ? atoi(argv[2]) : 0);
  if (argc > 5) {
    shape(threads, atoll(argv[3]), atoll(argv[4]), atoll(argv[5]), MRT_EW_COPY);
    return 0;
  }
  static const int64_t shapes[][3] = {
      {8, 8, 8},        {32, 32, 32},       {64, 64, 64},       {128, 128, 128},  {256, 256, 256},
      {512, 512, 512},  {1024, 1024, 1024}, {2048, 2048, 2048}, {128, 768, 768},  {128, 3072, 768},
      {128, 768, 3072}, {384, 768, 768},    {8, 768, 768},      {32, 768, 768},   {1, 768, 768},
      {1, 4096, 4096},  {8, 4096, 4096},    {197, 768, 768},    {100, 300, 500},  {33, 129, 1000},
      {127, 255, 511},  {3136, 64, 64},     {784, 512, 128},    {196, 256, 1024}, {49, 512, 2048}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
    shape(threads, shapes[i][0], shapes[i][1], shapes[i][2], MRT_EW_COPY);
  shape(threads, 128, 3072, 768, MRT_EW_GELU);
  shape(threads, 128, 3072, 768, MRT_EW_RELU);
  return 0;
}
