/* u8 x s8 GEMM beside the VNNI peak. Argument: threads (default 1). */
#include "bench.h"

#include "provider/cpu/qgemm/qgemm.h"

typedef struct job {
  mrt_par par;
  mrt_qgemm g;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  mrt_qgemm_run(&j->par, &j->g, true, j->scratch);
}

static void shape(int threads, int64_t m, int64_t n, int64_t k, mrt_q_out out) {
  job j = {.par = {.threads = threads}};
  float *a = bench_floats((size_t)(m * k)), *b = bench_floats((size_t)(n * k));
  float *c = bench_floats((size_t)(m * n)), *bias = bench_floats((size_t)n), scale = 0.01f;
  void *packed = aligned_alloc(64, mrt_qgemm_packed_size(n, k) / 64 * 64 + 64);
  mrt_qgemm_epilogue epi = {
      .out = out, .scale = &scale, .bias = bias, .out_scale = 0.1f, .out_zero = 3};
  mrt_qgemm_pack_b(&j.par, b, true, n, false, k, n, packed);
  j.g = (mrt_qgemm){m, n, k, a, k, false, 7, packed, NULL, false, c, n, &epi};
  j.scratch = aligned_alloc(64, mrt_qgemm_scratch_size(&j.par, m, n, k) / 64 * 64 + 64);
  mrt_threads_run_begin(&j.par);
  const bench_result r = bench_run(run, &j, 0.1, 1);
  mrt_threads_run_end(&j.par);
  char name[80];
  snprintf(name, sizeof name, "%lld x %lld x %lld %s", (long long)m, (long long)n, (long long)k,
           out == MRT_Q_U8 ? "u8" : "f32");
  bench_print(name, 2.0 * (double)m * (double)n * (double)k, r, threads);
  free(a), free(b), free(c), free(bias), free(packed), free(j.scratch);
}

int main(int argc, char **argv) {
  const int t = argc > 1 ? atoi(argv[1]) : 1;
  static const int64_t shapes[][3] = {
      {1, 4096, 4096},  {8, 768, 768},   {32, 768, 768},     {128, 768, 768}, {128, 3072, 768},
      {128, 768, 3072}, {512, 512, 512}, {1024, 1024, 1024}, {3136, 256, 64}, {196, 1024, 256}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i) {
    shape(t, shapes[i][0], shapes[i][1], shapes[i][2], MRT_Q_F32);
    shape(t, shapes[i][0], shapes[i][1], shapes[i][2], MRT_Q_U8);
  }
  return 0;
}
