/* Split convolutions (conv_split.h): which ones, and how their weights are packed. */
#include "provider/cpu/conv/conv_split.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "ops/common.h"

enum { PANEL = 32, MAX_STRIDE = 4 };

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

const mrt_conv_split_kernels *mrt_conv_split_kernels_get(void) {
#ifdef MRT_HAVE_AMX
  if (mrt_cpu_get()->isa & MRT_ISA_AMX) return &mrt_conv_split_amx;
#endif
#ifdef MRT_HAVE_AVX512BF16
  if (mrt_cpu_get()->dot_bf16) return &mrt_conv_split_dot;
#endif
  return NULL;
}

/* ---- which ---- */

/* Parts flush below 2^-126 and overflow above bf16's largest: the largest weight of each panel
 * stays away from both. */
bool mrt_conv_split_ok(const mrt_conv *p, const float *weights) {
  if (p->input_nchw && (p->cin * p->kw > 32 || p->dil_w != 1)) return false;
  if (p->groups != 1 || p->stride_h > MAX_STRIDE || p->stride_w > MAX_STRIDE) return false;
  const int64_t k = p->cin * p->kh * p->kw;
  for (int64_t o = 0; o < p->cout; o += PANEL) {
    float most = 0;
    const int64_t n = weights ? min_i64(PANEL, p->cout - o) * k : 0;
    for (int64_t i = 0; i < n; ++i) {
      const float x = fabsf(weights[o * k + i]);
      if (!(x < 0x1p60f)) return false;
      most = x > most ? x : most;
    }
    if (most != 0 && most < 0x1p-60f) return false;
  }
  return true;
}

/* Nanoseconds of float32 arithmetic. */
static double float_cost(const mrt_conv *p, int64_t h, int64_t w) {
  const int64_t oh = mrt_conv_out(h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  const int64_t ow = mrt_conv_out(w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  const double fan = p->fan_h ? p->fan_h * p->fan_w : 1;
  const double work = 2.0 * fan * (double)(oh * ow * p->kh * p->kw) * (double)p->cin *
                      (double)(mrt_c16_blocks(p->cout) * 16);
  /* The last row: below what one core reaches (390, 560, 610), since the weights grow fourfold. */
  static const double rates[3][3] = {{200, 200, 200}, {290, 350, 390}, {330, 450, 500}};
  return work / rates[p->winograd / 2][p->cin < 64 ? 0 : p->cin < 128 ? 1 : 2];
}

double mrt_conv_choose(mrt_conv *p, mrt_precision precision, int64_t h, int64_t w, bool split) {
  static const int first[] = {3, 2, 1};
  const mrt_conv_split_kernels *kern = split ? mrt_conv_split_kernels_get() : NULL;
  const double floats = float_cost(p, h, w);
  /* Tiles must be clearly faster: they lower the clock for what runs next to them. */
  double least = floats * 0.9;
  mrt_conv best = *p, q = *p;
  q.winograd = 0;
  for (q.parts = first[precision]; kern && q.parts <= kern->gemm->most_parts; ++q.parts) {
    q.raw = q.parts == 3 || q.narrow;
    if (mrt_conv_split_b_parts(&q) == 1) q.raw = false;
    double cost = mrt_conv_split_cost(&q, h, w);
    /* Weights that are split first come late: only products of many pixels hide that. */
    if (q.raw) cost += (double)mrt_conv_split_packed_size(&q) / 25;
    if (cost >= least) continue;
    least = cost;
    best = q;
  }
  *p = best;
  if (p->winograd) p->narrow = MRT_CONV_WIDE;
  return p->parts ? least : floats;
}

void mrt_conv_split_choose(mrt_conv *p, mrt_precision precision, int64_t h, int64_t w) {
  mrt_conv_choose(p, precision, h, w, true);
}

/* ---- values of parts ---- */

static float from_bf16(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

float mrt_conv_split_value(const uint16_t *at, int parts, int64_t part) {
  const float first = from_bf16(*at);
  if (parts == 1) return first;
  const float second = from_bf16(at[part]);
  if (isinf(first)) return second == -first ? copysignf(FLT_MAX, first) : first;
  return first + second;
}

typedef struct join_job {
  int parts;
  const uint16_t *src;
  int64_t groups, area;
  float *dst;
} join_job;

/* Groups [begin, end) of all images. */
static void join_groups(void *arg, int64_t begin, int64_t end) {
  const join_job *j = arg;
  const int64_t part = j->area * MRT_SPLIT_PIXEL;
  for (int64_t g = begin; g < end; ++g)
    for (int64_t i = 0; i < j->area; ++i)
      for (int c = 0; c < 32; ++c)
        j->dst[((g * 2 + c / 16) * j->area + i) * 16 + c % 16] = mrt_conv_split_value(
            j->src + g * j->parts * part + i * MRT_SPLIT_PIXEL + c % 16 * 2 + c / 16, j->parts,
            part);
}

void mrt_conv_split_join(const mrt_par *par, int parts, const void *src, int64_t n, int64_t c,
                         int64_t area, float *dst) {
  join_job j = {parts, src, n * (c / 32), area, dst};
  mrt_par_range(par, j.groups, (double)area * 32, join_groups, &j);
}

/* ---- weights ---- */
static int64_t panel_groups(const mrt_conv *p) {
  return p->input_nchw ? p->kh : ceil_div(p->cin, 32) * p->kh * p->kw;
}

static int64_t fan_of(const mrt_conv *p) { return p->fan_h ? (int64_t)p->fan_h * p->fan_w : 1; }
static int64_t panels_of(const mrt_conv *p) { return fan_of(p) * ceil_div(p->cout, PANEL); }

size_t mrt_conv_split_packed_size(const mrt_conv *p) {
  return (size_t)(panels_of(p) * panel_groups(p) * mrt_conv_split_group_bytes(p));
}

typedef struct pack_job {
  const mrt_conv_split_kernels *kern;
  const mrt_conv *p;
  const float *weights;
  char *dst;
  int64_t panels, chunks;
} pack_job;

/* Weight k (0 .. 31) of a group of column `lane` of a panel; false: there is none. */
static bool weight_of(const pack_job *j, int64_t panel, int64_t lane, int64_t group, int64_t k,
                      float *out) {
  const mrt_conv *p = j->p;
  const int64_t each = ceil_div(p->cout, PANEL), o = panel % each * PANEL + lane;
  const int64_t taps = p->kh * p->kw;
  int64_t c = group / taps * 32 + k, tap = group % taps;
  if (p->input_nchw) {
    c = k % p->cin;
    tap = group * p->kw + k / p->cin;
    if (k >= p->cin * p->kw) return false;
  }
  if (c >= p->cin || o >= p->cout) return false;
  *out = j->weights[((panel / each * p->cout + o) * p->cin + c) * taps + tap];
  return true;
}

/* One panel, group by group of 32 k through a block of floats. */
static void pack_panel(const pack_job *j, int64_t panel) {
  const mrt_conv *p = j->p;
  const int64_t groups = panel_groups(p);
  float block[32 * PANEL] __attribute__((aligned(64)));
  for (int64_t g = 0; g < groups; ++g) {
    char *dst = j->dst + (panel * groups + g) * mrt_conv_split_group_bytes(p);
    memset(block, 0, sizeof block);
    for (int64_t o = 0; o < PANEL; ++o)
      for (int64_t k = 0; k < 32; ++k) weight_of(j, panel, o, g, k, block + k * PANEL + o);
    if (p->raw)
      mrt_conv_narrow_to(p->narrow, block, 32 * PANEL, dst);
    else
      j->kern->gemm->split_b(block, 32, PANEL, mrt_conv_split_b_parts(p), (uint16_t *)dst);
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
  pack_job j = {kern, p, weights, dst, panels_of(p), 1};
  j.chunks = mrt_par_chunks(j.panels, (double)(j.panels * panel_groups(p)) * 2000);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}
