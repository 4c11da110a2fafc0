/* Packing: in which order gates and units stand, and where the parts lie in the block. */
#include <string.h>

#include "provider/cpu/recurrent/recurrent_weights.h"

enum { BLOCK = MRT_RNN_BLOCK };

/* Elements of the parts, each rounded up to a cache line. */
typedef struct parts {
  size_t w, r, bias, rb;
} parts;

static bool round_up(size_t a, size_t b, size_t *out) {
  return mrt_size_mul(a, b, out) && mrt_size_add(*out, 15, out) && ((*out &= ~(size_t)15), true);
}

static bool count_w(const mrt_rnn_weights *p, size_t *n) {
  return mrt_size_mul(mrt_rnn_w_floats(p, 0) + mrt_rnn_w_floats(p, 1), (size_t)p->dirs, n) &&
         round_up(*n, 1, n);
}

static bool count_parts(const mrt_rnn_weights *p, parts *n, size_t *bytes) {
  size_t wide, sum;
  n->rb = 0;
  return mrt_size_mul((size_t)p->padded, (size_t)p->gates * (size_t)p->dirs, &wide) &&
         count_w(p, &n->w) && round_up(wide, (size_t)p->hidden, &n->r) &&
         round_up(wide, 1, &n->bias) &&
         (p->kind != MRT_RNN_GRU || round_up((size_t)p->padded, (size_t)p->dirs, &n->rb)) &&
         mrt_size_add(n->w, n->r, &sum) && mrt_size_add(sum, n->bias, &sum) &&
         mrt_size_add(sum, n->rb, &sum) && mrt_size_mul(sum, sizeof(float), bytes);
}

static float load(const char *p, int64_t i) {
  float v;
  memcpy(&v, p + i * (int64_t)sizeof v, sizeof v);
  return v;
}

/* Column of gate g of unit u among the first gate's or the others' of a direction: those of a block
 * stand together. */
static int64_t column(int gates, int64_t g, int64_t u) {
  return g ? (u / BLOCK * (gates - 1) + g - 1) * BLOCK + u % BLOCK : u;
}

static void pack_r(const mrt_rnn_weights *p, const char *r, float *dst) {
  const int64_t H = p->hidden, wide = (int64_t)p->gates * BLOCK;
  for (int64_t g = 0; g < p->gates; ++g)
    for (int64_t u = 0; u < H; ++u) {
      const char *row = r + (g * H + u) * H * (int64_t)sizeof(float);
      float *to = dst + u / BLOCK * H * wide + g * BLOCK + u % BLOCK;
      for (int64_t k = 0; k < H; ++k) to[k * wide] = load(row, k);
    }
}

static void pack_bias(const mrt_rnn_weights *p, const char *b, int64_t d, float *bias, float *rb) {
  const int64_t H = p->hidden, wide = p->padded * p->gates;
  const int64_t wb = d * 2 * p->gates * H, rest = wb + p->gates * H;
  for (int64_t g = 0; g < p->gates; ++g)
    for (int64_t u = 0; u < H; ++u) {
      const bool inside = p->rb && g == 2;
      const float r = load(b, rest + g * H + u);
      bias[d * wide + (g ? p->padded : 0) + column(p->gates, g, u)] =
          load(b, wb + g * H + u) + (inside ? 0 : r);
      if (inside) rb[d * p->padded + u] = r;
    }
}

/* W of one direction with its rows in column order, then packed as the right sides of a product. */
static mrt_status *pack_w(const mrt_rnn_weights *p, const char *w, float *dst) {
  const int64_t H = p->hidden;
  const size_t row = (size_t)p->in * sizeof(float);
  const mrt_par par = {0};
  for (int others = 0; others < 2 && mrt_rnn_columns(p, others); ++others) {
    const int64_t n = mrt_rnn_columns(p, others);
    char *sorted = NULL;
    size_t bytes;
    if (!mrt_size_mul((size_t)n, row, &bytes)) return mrt_status_oom();
    MRT_TRY(mrt_mem_new_aligned(mrt_alloc_default(), bytes, MRT_ALIGN, (void **)&sorted));
    memset(sorted, 0, bytes);
    for (int64_t g = others; g < (others ? p->gates : 1); ++g)
      for (int64_t u = 0; u < H; ++u)
        memcpy(sorted + (size_t)column(p->gates, g, u) * row, w + (size_t)(g * H + u) * row, row);
    mrt_gemm_pack_b(&par, (const float *)(void *)sorted, p->in, true, p->in, n,
                    dst + (others ? mrt_rnn_w_floats(p, 0) : 0));
    mrt_mem_free(mrt_alloc_default(), sorted);
  }
  return NULL;
}

mrt_status *mrt_rnn_describe(mrt_rnn_kind kind, int dirs, int64_t in, int64_t hidden,
                             mrt_rnn_weights *p) {
  parts n;
  *p = (mrt_rnn_weights){.kind = kind,
                         .gates = kind == MRT_RNN_LSTM  ? 4
                                  : kind == MRT_RNN_GRU ? 3
                                                        : 1,
                         .dirs = dirs,
                         .in = in,
                         .hidden = hidden,
                         .padded = (hidden + BLOCK - 1) / BLOCK * BLOCK};
  return count_parts(p, &n, &p->bytes) ? NULL : mrt_status_oom();
}

void mrt_rnn_place(mrt_rnn_weights *p, const void *block) {
  parts n;
  size_t bytes;
  if (!count_parts(p, &n, &bytes)) return; /* describe did */
  p->w = block;
  p->r = p->w + n.w;
  p->bias = p->r + n.r;
  p->rb = n.rb ? p->bias + n.bias : NULL;
}

mrt_status *mrt_rnn_pack(const mrt_rnn_weights *described, const void *w, const void *r,
                         const void *b, void *block) {
  mrt_rnn_weights p = *described;
  mrt_rnn_place(&p, block);
  memset(block, 0, p.bytes);
  float *const begin = block;
  for (int64_t d = 0; d < p.dirs; ++d) {
    const int64_t of_w = p.gates * p.hidden * p.in * (int64_t)sizeof(float);
    MRT_TRY(pack_w(&p, (const char *)w + d * of_w,
                   begin + (size_t)d * (mrt_rnn_w_floats(&p, 0) + mrt_rnn_w_floats(&p, 1))));
    const int64_t each = p.gates * p.hidden * p.hidden * (int64_t)sizeof(float);
    pack_r(&p, (const char *)r + d * each, begin + (p.r - p.w) + d * p.padded * p.gates * p.hidden);
    if (b) pack_bias(&p, b, d, begin + (p.bias - p.w), p.rb ? begin + (p.rb - p.w) : NULL);
  }
  return NULL;
}
