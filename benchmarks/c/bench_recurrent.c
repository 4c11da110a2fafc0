/* Recurrent layers alone. Arguments: threads (default 1), then optionally hidden, in, seq, batch.
 * GB/s: recurrent weights read once a step. */
#include "bench.h"

#include "provider/cpu/recurrent/recurrent.h"

typedef struct job {
  mrt_par par;
  mrt_rnn_run q;
  void *scratch;
} job;
static void run(void *arg) {
  job *j = arg;
  mrt_rnn_run_layer(&j->par, &j->q, j->scratch);
}

static void layer(int threads, mrt_rnn_kind kind, int dirs, int64_t hidden, int64_t in, int64_t seq,
                  int64_t batch) {
  static const char *const names[] = {"tanh", "relu", "gru", "lstm"};
  static const int gates[] = {1, 1, 3, 4};
  const int64_t rows = dirs * gates[kind] * hidden;
  float *w = bench_floats((size_t)(rows * in)), *r = bench_floats((size_t)(rows * hidden));
  for (int64_t i = 0; i < rows * hidden; ++i) r[i] /= (float)hidden;
  for (int64_t i = 0; i < rows * in; ++i) w[i] /= (float)in;
  mrt_rnn_weights packed;
  if (mrt_rnn_pack(mrt_alloc_default(), kind, dirs, in, hidden, w, r, NULL, &packed)) exit(1);
  float *x = bench_floats((size_t)(seq * batch * in));
  float *y = bench_floats((size_t)(seq * batch * dirs * hidden));
  job j = {.par = {.threads = threads},
           .q = {.w = &packed, .seq = seq, .batch = batch, .x = x, .y = y}};
  j.scratch = aligned_alloc(64, (mrt_rnn_scratch_size(&j.par, &j.q) + 127) / 64 * 64);
  const bench_result b = bench_run(run, &j, 0.4, 0);
  char name[80];
  snprintf(name, sizeof name, "%s dirs %d h %d in %d t %d b %d", names[kind], dirs, (int)hidden,
           (int)in, (int)seq, (int)batch);
  const double ops = 2.0 * (double)(seq * batch * rows) * (double)(hidden + in);
  bench_print(name, ops, b, threads);
  printf("   a step: best %.3f us, median %.3f us, %.0f GB/s\n", b.best * 1e6 / (double)seq,
         b.median * 1e6 / (double)seq, 4e-9 * (double)(rows * hidden * seq) / b.best);
  mrt_rnn_free(mrt_alloc_default(), &packed);
  free(w), free(r), free(x), free(y), free(j.scratch);
}

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const int64_t hidden = argc > 2 ? atoi(argv[2]) : 512, in = argc > 3 ? atoi(argv[3]) : 512;
  const int64_t seq = argc > 4 ? atoi(argv[4]) : 100, batch = argc > 5 ? atoi(argv[5]) : 1;
  layer(threads, MRT_RNN_LSTM, 1, hidden, in, seq, batch);
  layer(threads, MRT_RNN_LSTM, 2, hidden, in, seq, batch);
  layer(threads, MRT_RNN_GRU, 1, hidden, in, seq, batch);
  layer(threads, MRT_RNN_GRU, 2, hidden, in, seq, batch);
  return 0;
}
