/* Recurrent layers (recurrent, recurrent_pack) against a loop in double: kinds, directions,
 * batches, sizes around blocks; with one thread and with two, the same bits. */
#include "kernels.h"
#include "provider/cpu/recurrent/recurrent.h"
#include "provider/cpu/recurrent/recurrent_kernel.h"

enum { WIDEST = 160 };

typedef struct shape {
  int64_t seq, batch, in, hidden;
  int dirs;
  bool reverse;
} shape;

static const mrt_rnn_kernels *const tables[] = {
#define MRT_KERNEL(isa, symbol) &symbol,
#include "provider/cpu/recurrent/recurrent.def"
#undef MRT_KERNEL
};

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

typedef struct layer {
  mrt_rnn_kind kind;
  int gates;
  const shape *s;
  const float *w, *r, *b, *x;
} layer;

/* Gate g of unit u: what x gives and what h gives, with their biases. */
static void gate(const layer *l, int64_t d, int64_t g, int64_t u, const float *x, const double *h,
                 double *wx, double *rh) {
  const int64_t H = l->s->hidden, I = l->s->in, row = (d * l->gates + g) * H + u;
  *wx = l->b[d * 2 * l->gates * H + g * H + u];
  *rh = l->b[d * 2 * l->gates * H + (l->gates + g) * H + u];
  for (int64_t k = 0; k < I; ++k) *wx += (double)l->w[row * I + k] * x[k];
  for (int64_t k = 0; k < H; ++k) *rh += (double)l->r[row * H + k] * h[k];
}

static void step(const layer *l, int64_t d, const float *x, double *h, double *c) {
  double next[WIDEST], wx[4], rh[4];
  for (int64_t u = 0; u < l->s->hidden; ++u) {
    for (int g = 0; g < l->gates; ++g) gate(l, d, g, u, x, h, &wx[g], &rh[g]);
    if (l->kind == MRT_RNN_LSTM) {
      c[u] = sigmoid(wx[2] + rh[2]) * c[u] + sigmoid(wx[0] + rh[0]) * tanh(wx[3] + rh[3]);
      next[u] = sigmoid(wx[1] + rh[1]) * tanh(c[u]);
    } else if (l->kind == MRT_RNN_GRU) {
      const double z = sigmoid(wx[0] + rh[0]), n = tanh(wx[2] + sigmoid(wx[1] + rh[1]) * rh[2]);
      next[u] = (1 - z) * n + z * h[u];
    } else {
      next[u] = l->kind == MRT_RNN_TANH ? tanh(wx[0] + rh[0]) : fmax(0, wx[0] + rh[0]);
    }
  }
  memcpy(h, next, (size_t)l->s->hidden * sizeof *h);
}

/* The larger error; not a number is the largest. */
static double worse(double a, double b) { return isnan(a) || a >= b ? a : b; }

static double error_of(const layer *l, const float *h0, const float *c0, const float *y,
                       const float *yh, const float *yc) {
  const shape *s = l->s;
  double worst = 0;
  for (int64_t d = 0; d < s->dirs; ++d)
    for (int64_t b = 0; b < s->batch; ++b) {
      double h[WIDEST], c[WIDEST];
      const int64_t at = (d * s->batch + b) * s->hidden;
      for (int64_t u = 0; u < s->hidden; ++u) {
        h[u] = h0 ? h0[at + u] : 0;
        c[u] = c0 ? c0[at + u] : 0;
      }
      for (int64_t i = 0; i < s->seq; ++i) {
        const int64_t t = s->reverse || d ? s->seq - 1 - i : i;
        step(l, d, l->x + (t * s->batch + b) * s->in, h, c);
        for (int64_t u = 0; u < s->hidden; ++u)
          worst = worse(worst, fabs(y[((t * s->dirs + d) * s->batch + b) * s->hidden + u] - h[u]));
      }
      for (int64_t u = 0; u < s->hidden; ++u) {
        worst = worse(worst, fabs(yh[at + u] - h[u]));
        if (l->kind == MRT_RNN_LSTM) worst = worse(worst, fabs(yc[at + u] - c[u]));
      }
    }
  return worst;
}

static float *floats(int64_t n, float scale) {
  float *p = malloc((size_t)(n + 1) * sizeof *p);
  for (int64_t i = 0; i < n; ++i) p[i] = scale * rng_float();
  return p;
}

static void one(mrt_rnn_kind kind, const shape *s, bool state) {
  const int gates = kind == MRT_RNN_LSTM ? 4 : kind == MRT_RNN_GRU ? 3 : 1;
  const int64_t H = s->hidden, n_state = s->dirs * s->batch * H, n_y = s->seq * n_state;
  float *w = floats(s->dirs * gates * H * s->in, 0.5f),
        *r = floats(s->dirs * gates * H * H, 1.5f / (float)H);
  float *b = floats(s->dirs * 2 * gates * H, 0.2f), *x = floats(s->seq * s->batch * s->in, 1);
  float *h0 = floats(n_state, 1), *c0 = floats(n_state, 1), *first = floats(n_y, 0);
  guarded gy, gh, gc;
  float *y = guarded_floats(&gy, n_y, 4), *yh = guarded_floats(&gh, n_state, 8);
  float *yc = guarded_floats(&gc, n_state, 12);
  mrt_rnn_weights packed;
  void *block = NULL;
  CHECK_OK(mrt_rnn_describe(kind, s->dirs, s->in, H, &packed));
  CHECK_OK(mrt_mem_new_aligned(mrt_alloc_default(), packed.bytes, MRT_ALIGN, &block));
  CHECK_OK(mrt_rnn_pack(&packed, w, r, b, block));
  mrt_rnn_place(&packed, block);
  const mrt_rnn_run q = {.w = &packed,
                         .seq = s->seq,
                         .batch = s->batch,
                         .reverse = s->reverse,
                         .x = x,
                         .h0 = state ? h0 : NULL,
                         .c0 = state ? c0 : NULL,
                         .y = y,
                         .yh = yh,
                         .yc = kind == MRT_RNN_LSTM ? yc : NULL};
  for (int threads = 1; threads <= 2; ++threads) {
    const mrt_par par = {.threads = threads};
    guarded gs = guarded_new(mrt_rnn_scratch_size(&par, &q), 0);
    mrt_rnn_run_layer(&par, &q, gs.data);
    CHECK(guarded_done(&gs));
    if (threads == 1) memcpy(first, y, (size_t)n_y * sizeof *y);
  }
  CHECK(memcmp(first, y, (size_t)n_y * sizeof *y) == 0);
  mrt_rnn_run no_y = q; /* in which nothing can wait: the same state in the end */
  no_y.y = NULL;
  no_y.yh = floats(n_state, 0);
  const mrt_par alone = {.threads = 1};
  guarded gs = guarded_new(mrt_rnn_scratch_size(&alone, &no_y), 0);
  mrt_rnn_run_layer(&alone, &no_y, gs.data);
  CHECK(guarded_done(&gs));
  CHECK(memcmp(no_y.yh, yh, (size_t)n_state * sizeof *yh) == 0);
  free(no_y.yh);
  const layer l = {kind, gates, s, w, r, b, x};
  CHECK(error_of(&l, q.h0, q.c0, y, yh, yc) < 3e-6);
  CHECK(guarded_done(&gy) && guarded_done(&gh) && guarded_done(&gc));
  mrt_mem_free(mrt_alloc_default(), block);
  float *all[] = {w, r, b, x, h0, c0, first};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) free(all[i]);
}

static void body(void) {
  for (size_t i = 0; i < sizeof tables / sizeof *tables; ++i)
    for (int kind = MRT_RNN_TANH; kind <= MRT_RNN_LSTM; ++kind)
      CHECK(tables[i]->step[kind] != NULL);
  static const shape shapes[] = {
      {5, 1, 7, 16, 1, false},  {9, 1, 3, 33, 2, false},  {4, 6, 20, 17, 1, true},
      {1, 9, 1, 1, 2, false},   {0, 2, 4, 8, 1, false},   {12, 30, 5, 64, 2, false},
      {6, 7, 5, 50, 1, false},  {3, 2, 9, 40, 2, false},  {40, 1, 36, 64, 1, true},
      {9, 4, 70, 48, 1, false}, {30, 1, 5, 150, 1, true}, {25, 1, 3, 160, 1, false},
      {6, 1, 4, 130, 2, false}, {5, 5, 3, 120, 1, false}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
    for (int kind = MRT_RNN_TANH; kind <= MRT_RNN_LSTM; ++kind) {
      one((mrt_rnn_kind)kind, &shapes[i], false);
      one((mrt_rnn_kind)kind, &shapes[i], true);
    }
}

int main(int argc, char **argv) {
  static const char *const isas[] = {"scalar", "avx2", "avx512", NULL};
  (void)argc;
  return run_per_isa(argv, isas, body);
}
