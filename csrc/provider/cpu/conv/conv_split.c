/* Split convolutions (conv_split.h): which ones, and how their weights are packed. */
#include "provider/cpu/conv/conv_split.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"

enum { PANEL = 32, MAX_STRIDE = 4 };

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

const mrt_conv_split_kernels *mrt_conv_split_kernels_get(void) {
#ifdef MRT_HAVE_AMX
  if (mrt_cpu_get()->isa & MRT_ISA_AMX) return &mrt_conv_split_amx;
#endif
  return NULL;
}

/* ---- which ---- */

/* Parts flush below 2^-126 and overflow above bf16's largest: the largest weight of each panel
 * stays away from both. */
bool mrt_conv_split_ok(const mrt_conv *p, const float *weights) {
  if (p->groups != 1 || p->input_nchw || p->spread || p->stride_h > MAX_STRIDE ||
      p->stride_w > MAX_STRIDE)
    return false;
  const int64_t k = p->cin * p->kh * p->kw;
  for (int64_t o = 0; o < p->cout; o += PANEL) {
    float most = 0;
    const int64_t n = min_i64(PANEL, p->cout - o) * k;
    for (int64_t i = 0; i < n; ++i) {
      const float x = fabsf(weights[o * k + i]);
      if (!(x < 0x1p60f)) return false;
      most = x > most ? x : most;
    }
    if (most != 0 && most < 0x1p-60f) return false;
  }
  return true;
}

/* Nanoseconds of float32 arithmetic at the clock that a core keeps while tiles are in use. */
static double float_cost(const mrt_conv *p, int64_t h, int64_t w) {
  const int64_t oh = mrt_conv_out(h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  const int64_t ow = mrt_conv_out(w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  const double work = 2.0 * (double)(oh * ow * p->kh * p->kw) * (double)p->cin *
                      (double)(mrt_c16_blocks(p->cout) * 16);
  const double rate = !p->winograd ? 180 : p->cin < 64 ? 260 : p->cin < 128 ? 320 : 360;
  return work / rate;
}

void mrt_conv_split_choose(mrt_conv *p, mrt_precision precision, int64_t h, int64_t w) {
  static const int first[] = {3, 2, 1};
  if (!mrt_conv_split_kernels_get()) return;
  double least = float_cost(p, h, w);
  mrt_conv best = *p, q = *p;
  q.winograd = false;
  for (q.parts = first[precision]; q.parts <= 3; ++q.parts) {
    const double cost = mrt_conv_split_cost(&q, h, w);
    if (cost >= least) continue;
    least = cost;
    best = q;
  }
  *p = best;
}

/* ---- weights ---- */
static int64_t panel_groups(const mrt_conv *p) { return ceil_div(p->cin, 32) * p->kh * p->kw; }

size_t mrt_conv_split_packed_size(const mrt_conv *p) {
  return (size_t)(ceil_div(p->cout, PANEL) * panel_groups(p) * p->parts * MRT_SPLIT_GROUP_PART) * 2;
}

typedef struct pack_job {
  const mrt_conv_split_kernels *kern;
  const mrt_conv *p;
  const float *weights;
  uint16_t *dst;
  int64_t panels, chunks;
} pack_job;

/* One panel, group by group of 32 k through a block of floats. */
static void pack_panel(const pack_job *j, int64_t panel) {
  const mrt_conv *p = j->p;
  const int64_t taps = p->kh * p->kw, in_groups = ceil_div(p->cin, 32);
  const int64_t o0 = panel * PANEL, cols = min_i64(PANEL, p->cout - o0);
  float block[32 * PANEL] __attribute__((aligned(64)));
  uint16_t *dst = j->dst + panel * panel_groups(p) * p->parts * MRT_SPLIT_GROUP_PART;
  for (int64_t t = 0; t < taps; ++t)
    for (int64_t g = 0; g < in_groups; ++g) {
      memset(block, 0, sizeof block);
      for (int64_t o = 0; o < cols; ++o)
        for (int64_t c = g * 32; c < min_i64(p->cin, g * 32 + 32); ++c)
          block[(c - g * 32) * PANEL + o] = j->weights[((o0 + o) * p->cin + c) * taps + t];
      j->kern->gemm->split_b(block, 32, PANEL, p->parts, dst);
      dst += p->parts * MRT_SPLIT_GROUP_PART;
    }
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const int64_t end = mrt_par_begin(j->panels, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(j->panels, j->chunks, chunk); i < end; ++i) pack_panel(j, i);
}

void mrt_conv_split_pack(const mrt_conv_split_kernels *kern, const mrt_par *par, const mrt_conv *p,
                         const float *weights, void *dst) {
  pack_job j = {kern, p, weights, dst, ceil_div(p->cout, PANEL), 1};
  j.chunks = mrt_par_chunks(j.panels, (double)(j.panels * panel_groups(p)) * 2000);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}
