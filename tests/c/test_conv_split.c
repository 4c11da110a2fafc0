/* Split convolutions (conv_split.h, conv_split_input.c): the steps of this machine's kernels
 * against their model bit for bit; whole convolutions, by model and tiles, against double with the
 * error that each number of parts promises; values that tiles cannot do; equal bits for any number
 * of threads. */
#include <float.h>

#include "kernels.h"
#include "provider/cpu/conv/conv_split.h"
#include "tensor/dtype.h"

typedef struct entry {
  uint32_t isa;
  const mrt_conv_split_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/conv/conv_split.def"
#undef MRT_KERNEL
};

/* Dot products add in another order than tiles. */
static bool like_tiles(const mrt_conv_split_kernels *kern) { return kern->gemm->most_parts > 1; }

static void check_line(const mrt_conv_split_kernels *kern, int channels, int64_t step, int parts) {
  enum { COUNT = 9 };
  const int64_t part = COUNT * 32 + 64;
  guarded gx, gd[2];
  float *x = guarded_floats(&gx, 2000 + COUNT * step, 0);
  for (int64_t i = 0; i < 2000 + COUNT * step; ++i) x[i] = wide_float();
  for (int i = 0; i < 2; ++i) {
    gd[i] = guarded_new((size_t)(part * parts) * 2, 0);
    memset(gd[i].data, 7, (size_t)(part * parts) * 2);
    const mrt_split_line l = {x, step, 1600, channels, COUNT, (uint16_t *)gd[i].data, part};
    (i ? &mrt_conv_split_model : kern)->split_line(&l, parts);
  }
  CHECK(same_halves((uint16_t *)gd[0].data, (uint16_t *)gd[1].data, part * parts));
  CHECK(guarded_done(&gx) && guarded_done(&gd[0]) && guarded_done(&gd[1]));
}

/* A block, finishing another: every size of the edge, odd and in-between rows missing. */
static void check_block(const mrt_conv_split_kernels *kern, int rows, int cols, int parts,
                        int variant) {
  enum { GROUPS = 3, RAW = 2 };
  const int64_t part = 32 * 32 + 32;
  const bool raw_too = (variant & 4) && like_tiles(kern), f16 = (variant & 8) != 0;
  const int gives = !(variant & 4) && cols > 16 ? variant / 8 % 3 : 0; /* parts of the output */
  const int b_parts = 1 + variant / 2 % parts;                         /* B has room for all */
  const int64_t offsets[GROUPS] = {0, part * parts, part * parts * 2 + 32};
  const int64_t na = part * parts * GROUPS + 2048, nb = GROUPS * parts * 1024;
  guarded ga, gb, go[2], gr, gc[2];
  uint16_t *a, *b;
  ga = guarded_new((size_t)na * 2, 0), gb = guarded_new((size_t)nb * 2, 0);
  a = (uint16_t *)ga.data, b = (uint16_t *)gb.data;
  for (int64_t i = 0; i < na; ++i) a[i] = (uint16_t)(0x3f00 + (rng() & 0x80ff));
  for (int64_t i = 0; i < nb; ++i) b[i] = (uint16_t)(0x3f00 + (rng() & 0x80ff));
  float old[1024] __attribute__((aligned(64))), bias[32];
  int64_t at[32];
  for (int i = 0; i < 1024; ++i) old[i] = variant & 1 ? wide_float() : rng_float();
  for (int i = 0; i < 32; ++i) bias[i] = rng_float(), at[i] = i % 5 == 4 ? -1 : i * 16;
  float *res = guarded_floats(&gr, 1024, 0);
  guarded gw, gs[2];
  float *raw = guarded_floats(&gw, RAW * 1024, 0);
  for (int i = 0; i < RAW * 1024; ++i) {
    raw[i] = wide_float();
    if (f16) ((uint16_t *)(void *)raw)[i] = mrt_f32_to_f16(8 * rng_float());
  }
  uint32_t bad[2][32];
  mrt_split_out out[2];
  for (int i = 0; i < 2; ++i) {
    float *c = guarded_floats(&gc[i], 1024, 0), *y = guarded_floats(&go[i], 1024, 0);
    for (int k = 0; k < 1024; ++k) c[k] = y[k] = 3;
    gs[i] = guarded_new(RAW * 3072 * 2, 0);
    memset(gs[i].data, 9, RAW * 3072 * 2);
    const mrt_split_block t = {.a = a,
                               .b = b,
                               .offsets = offsets,
                               .groups = GROUPS,
                               .part = part,
                               .rows = rows,
                               .cols = cols,
                               .load = (variant & 3) == 3,
                               .acc = c,
                               .b_parts = variant & 32 ? 0 : b_parts,
                               .raw = raw_too ? raw : NULL,
                               .raw_f16 = f16,
                               .split = (uint16_t *)gs[i].data,
                               .pair = variant,
                               .pair_end = raw_too ? RAW * 32 - variant % 5 : 0,
                               .ahead = (const char *)b,
                               .ahead_lines = variant & 2};
    out[i] = (mrt_split_out){.acc = old,
                             .rows = at,
                             .out = y,
                             .halves = (uint16_t *)y,
                             .part = 1024,
                             .parts = gives,
                             .residual = variant & 4 ? res : NULL,
                             .col16 = cols > 16 ? 512 : 0,
                             .bias = bias,
                             .lo = -0.25f,
                             .hi = 0.5f,
                             .clip = (variant & 8) != 0,
                             .bad = bad[i]};
    const mrt_conv_split_kernels *q = i ? &mrt_conv_split_model : kern;
    q->gemm->begin();
    q->multiply(&t, parts, variant & 16 ? NULL : &out[i]);
    q->gemm->end();
    if (variant & 16) q->finish(&out[i]);
    if (q->split_pairs && like_tiles(kern)) q->split_pairs(raw, f16, (uint16_t *)gs[i].data, 0, 7);
  }
  const float *sums[] = {(float *)gc[0].data, (float *)gc[1].data};
  if (like_tiles(kern)) {
    CHECK(same_bits(sums[0], sums[1], 1024));
  } else {
    const int tall = rows > 16 ? 32 : 16, wide = cols > 16 ? 32 : 16;
    for (int r = 0; r < 32; ++r)
      for (int c = 0; c < 32; ++c) {
        const float x = sums[0][r * 32 + c], y = sums[1][r * 32 + c];
        if (r < rows && c < cols) CHECK(fabsf(x - y) < 1e-4f);
        if (r >= tall || c >= wide) CHECK(x == 3);
      }
  }
  CHECK(gives || same_bits((float *)go[0].data, (float *)go[1].data, 1024));
  for (int64_t i = 0; i < 2048 && gives; ++i) { /* what is marked may be anything */
    const int64_t r = i % 1024 / 32, c = i % 32 / 2 + i % 2 * 16;
    const uint16_t *y[] = {(uint16_t *)go[0].data + i, (uint16_t *)go[1].data + i};
    CHECK(*y[0] == *y[1] || (bad[0][r] >> c & 1));
    if (at[r] < 0 || i / 1024 >= gives) CHECK(*y[0] == (i % 2 ? 0x4040 : 0));
  }
  CHECK(memcmp(bad[0], bad[1], sizeof bad[0]) == 0 && out[0].any == out[1].any);
  CHECK(same_halves((uint16_t *)gs[0].data, (uint16_t *)gs[1].data, RAW * 3072));
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gr) && guarded_done(&gw));
  for (int i = 0; i < 2; ++i)
    CHECK(guarded_done(&go[i]) && guarded_done(&gc[i]) && guarded_done(&gs[i]));
}

/* ---- whole convolutions ---- */
typedef struct sample {
  mrt_conv p;
  int64_t n, h, w, oh, ow;
  int kind; /* 1 bias, 2 residual, 4 relu, 8 silu, 16 the residual is the output */
  float *x, *weights, *bias, *in, *res, *out, *out2;
} sample;

static float lane_of(const sample *s, const float *v, int64_t im, int64_t ch, int64_t i) {
  return v[((im * mrt_c16_blocks(s->p.cout) + ch / 16) * s->oh * s->ow + i) * 16 + ch % 16];
}

/* A float16 number, some of them denormal, or a bfloat16. */
static float narrowed(mrt_conv_narrow kind, float x) {
  if (kind == MRT_CONV_BF16) return mrt_bf16_to_f32(mrt_f32_to_bf16(x));
  return mrt_f16_to_f32(mrt_f32_to_f16(rng_below(16) ? x : x * 1e-6f));
}

static void sample_make(sample *s, float (*value)(void)) {
  const mrt_conv *p = &s->p;
  s->oh = mrt_conv_out(s->h, p->kh, p->stride_h, p->dil_h, p->pad_top, p->pad_bottom);
  s->ow = mrt_conv_out(s->w, p->kw, p->stride_w, p->dil_w, p->pad_left, p->pad_right);
  const int64_t nx = s->n * p->cin * s->h * s->w, nw = p->cout * p->cin * p->kh * p->kw,
                ni = mrt_c16_size(s->n, p->cin, s->h, s->w),
                no = mrt_c16_size(s->n, p->cout, s->oh, s->ow), area = s->h * s->w;
  float **all[] = {&s->x, &s->weights, &s->bias, &s->in, &s->res, &s->out, &s->out2};
  const int64_t sizes[] = {nx, nw, p->cout, ni, no, no, no};
  for (int i = 0; i < 7; ++i) {
    *all[i] = aligned_alloc(64, (size_t)(sizes[i] * 4 + 127) / 64 * 64);
    for (int64_t k = 0; k < sizes[i]; ++k) (*all[i])[k] = i == 0 ? value() : rng_float();
  }
  for (int64_t i = 0; i < nw && p->narrow; ++i) s->weights[i] = narrowed(p->narrow, s->weights[i]);
  for (int64_t i = 0; i < ni; ++i) { /* unknown in the spare lanes */
    const int64_t blocks = mrt_c16_blocks(p->cin), lane = i % 16, x = i / 16 % area,
                  b = i / 16 / area % blocks, im = i / 16 / area / blocks;
    s->in[i] = b * 16 + lane < p->cin ? s->x[(im * p->cin + b * 16 + lane) * area + x] : NAN;
  }
}
static void sample_free(sample *s) {
  free(s->x), free(s->weights), free(s->bias), free(s->in), free(s->res), free(s->out);
  free(s->out2);
}

/* Plain output, to the last bit what the blocked one holds. */
static void sample_plain(const sample *s, const mrt_conv_split_kernels *kern, const mrt_par *par,
                         mrt_conv_args a) {
  mrt_conv p = s->p;
  p.output_nchw = true;
  guarded gs = guarded_new(mrt_conv_split_scratch_size(par, &p, s->h, s->w), 0), gy;
  a.output = guarded_floats(&gy, s->n * p.cout * s->oh * s->ow, 0);
  mrt_conv_split_run(kern, par, &p, &a, gs.data);
  for (int64_t k = 0; k < s->n * p.cout * s->oh * s->ow; ++k) {
    const int64_t area = s->oh * s->ow;
    const float want = lane_of(s, s->out, k / area / p.cout, k / area % p.cout, k % area);
    CHECK(same_bits(&a.output[k], &want, 1));
  }
  CHECK(guarded_done(&gs) && guarded_done(&gy));
}

static int smaller; /* samples that a small network runs in less scratch */

/* In a small network: to the last bit the same, in no more scratch. */
static void sample_bounded(const sample *s, const mrt_conv_split_kernels *kern, const mrt_par *par,
                           mrt_conv_args a) {
  mrt_conv p = s->p;
  const size_t most = mrt_conv_split_scratch_size(par, &p, s->h, s->w);
  p.network_bytes = 1;
  const size_t bytes = mrt_conv_split_scratch_size(par, &p, s->h, s->w);
  CHECK(bytes <= most);
  if (bytes == most) return;
  ++smaller;
  guarded gs = guarded_new(bytes, 0);
  guarded gy = guarded_new((size_t)mrt_c16_size(s->n, p.cout, s->oh, s->ow) * 4, 0);
  a.output = (float *)gy.data;
  mrt_conv_split_run(kern, par, &p, &a, gs.data);
  for (int64_t im = 0; im < s->n; ++im)
    for (int64_t o = 0; o < p.cout; ++o)
      for (int64_t i = 0; i < s->oh * s->ow; ++i) {
        const float x = lane_of(s, s->out, im, o, i), y = lane_of(s, a.output, im, o, i);
        CHECK(same_bits(&x, &y, 1));
      }
  CHECK(guarded_done(&gs) && guarded_done(&gy));
}

static void sample_run(sample *s, const mrt_conv_split_kernels *kern) {
  const mrt_conv *p = &s->p;
  const int64_t no = mrt_c16_size(s->n, p->cout, s->oh, s->ow);
  guarded gp = guarded_new(mrt_conv_split_packed_size(p), 0);
  const mrt_par pars[3] = {{.threads = 0}, {.threads = 1}, {.threads = 0}};
  mrt_conv_split_pack(kern, &pars[0], p, s->weights, gp.data);
  for (int i = 0; i < 2; ++i) {
    float *out = i ? s->out2 : s->out;
    if (s->kind & 16) memcpy(out, s->res, (size_t)no * 4);
    mrt_conv_args a = {.n = s->n,
                       .h = s->h,
                       .w = s->w,
                       .input = p->input_nchw ? s->x : s->in,
                       .weights = (float *)gp.data,
                       .bias = s->kind & 1 ? s->bias : NULL,
                       .residual = s->kind & 16  ? out
                                   : s->kind & 2 ? s->res
                                                 : NULL,
                       .output = out};
    if (s->kind & 4) a.act.op = MRT_EW_RELU;
    if (s->kind & 8) a.act.op = MRT_EW_SILU;
    guarded gs = guarded_new(mrt_conv_split_scratch_size(&pars[i], p, s->h, s->w), 0);
    mrt_conv_split_run(kern, &pars[i], p, &a, gs.data);
    CHECK(guarded_done(&gs));
    if (!a.residual) sample_plain(s, kern, &pars[i], a);
    if (!a.residual && !i) sample_bounded(s, kern, &pars[i], a);
  }
  for (int64_t im = 0; im < s->n; ++im)
    for (int64_t o = 0; o < p->cout; ++o)
      for (int64_t i = 0; i < s->oh * s->ow; ++i) {
        const float x = lane_of(s, s->out, im, o, i), y = lane_of(s, s->out2, im, o, i);
        CHECK(same_bits(&x, &y, 1));
      }
  CHECK(guarded_done(&gp));
}

/* One output in double and by a float loop; the sum of magnitudes and how many there are. */
static double one_output(const sample *s, int64_t im, int64_t o, int64_t i, float *loop,
                         double *mass, int *terms) {
  const mrt_conv *p = &s->p;
  double sum = 0;
  *loop = 0, *mass = 0, *terms = 0;
  for (int64_t c = 0; c < p->cin; ++c)
    for (int64_t k = 0; k < p->kh * p->kw; ++k) {
      const int64_t y = i / s->ow * p->stride_h - p->pad_top + k / p->kw * p->dil_h;
      const int64_t x = i % s->ow * p->stride_w - p->pad_left + k % p->kw * p->dil_w;
      if (y < 0 || y >= s->h || x < 0 || x >= s->w) continue;
      const float v = s->x[((im * p->cin + c) * s->h + y) * s->w + x],
                  w = s->weights[(o * p->cin + c) * p->kh * p->kw + k];
      sum += (double)v * w;
      *mass += fabs((double)v * w);
      *loop = fmaf(v, w, *loop);
      ++*terms;
    }
  return sum;
}

/* What follows the sum y, in double or as float arithmetic rounds it. */
static double after(const sample *s, double y, bool rounds, int64_t im, int64_t o, int64_t i) {
  y += s->kind & 1 ? s->bias[o] : 0;
  if (rounds) y = (float)y;
  y += s->kind & 18 ? lane_of(s, s->res, im, o, i) : 0;
  if (rounds) y = (float)y;
  if ((s->kind & 12) == 4) y = fmax(y, 0);
  if (s->kind & 8) y = y / (1 + exp(-y));
  return rounds ? (float)y : y;
}

/* How far a sum of products may be from the exact one, as a share of the sum of their magnitudes.
 * u = 2^-24 is what rounding to float32 costs at most.
 *
 * Parts. The first is the nearest bf16 (8 bits), so what is left of a is r1 <= 2^-8 |a|, and again
 * the second leaves r2 <= 2^-8 r1 <= 2^-16 |a|; the third is exact, for r2 has no more than 8 of
 * the 24 bits. Three parts and six products miss a1 b2 + a2 b1 + a2 b2: (2^-23 + 2^-32) |a b| and
 * that 2^-8 of it that a1 may be larger than r1. Two parts and three products miss a1 b1, and what
 * is left of a and of b: 3 * 2^-16, with the same 2^-8; one part misses 2^-7 + 2^-16.
 *
 * Sums. A tile instruction sums the 16 products of each half of a group of 32 by fused multiply-add
 * (15 roundings, the first product is exact), the halves are added (1), and that to the float
 * sum: once for each group and each product of parts. The magnitudes that are rounded are at most
 * those of all products so far. So (16 + groups * products) u, 2^-7 more for the magnitudes of
 * smaller parts. Dot products round twice for each pair of k instead, in one chain.
 *
 * `again`: sums too small for tiles are computed by a float loop over what the parts of the weights
 * hold, one rounding for each k. */
static double sum_error(const sample *s, bool tiles, bool again) {
  static const double missed[] = {0, 0x1p-7 + 0x1p-16, 0x3p-16, 0x1p-23 + 0x1p-32};
  static const int products[] = {0, 1, 3, 6};
  const mrt_conv *p = &s->p;
  const double taps = (double)(p->kh * p->kw);
  /* Plain input has all columns of the window in one group. */
  const double groups = p->input_nchw ? (double)p->kh : taps * (double)((p->cin + 31) / 32);
  const double roundings = again   ? taps * (double)p->cin
                           : tiles ? 16 + groups * products[p->parts]
                                   : groups * 32;
  return (1 + 0x1p-7) * ((again && p->parts == 3 ? 0 : missed[p->parts]) + roundings * 0x1p-24);
}

/* And what follows: a rounding each for bias and residual; SiLU, whose slope is below 1.1, to four
 * units in the last place. */
static double error_bound(const sample *s, double share, double mass, int64_t im, int64_t o,
                          int64_t i) {
  const double bias = s->kind & 1 ? fabs(s->bias[o]) : 0;
  const double res = s->kind & 18 ? fabs(lane_of(s, s->res, im, o, i)) : 0;
  const double bound = share * mass + 0x1p-23 * (mass + bias + res);
  return s->kind & 8 ? 1.1 * bound + 4 * 0x1p-23 * (mass + bias + res) : bound;
}

/* The promise of two and of three parts (docs/performance.md): the error against that of a float
 * loop, as root mean squares over all sums of many terms. (Up to 15 for two; few sums vary.) */
static const double promise[] = {0, 0, 20, 1};
enum { MANY = 256 };
static double total_error[4], total_loop[4];

static void check_errors(const sample *s, const mrt_conv_split_kernels *kern, bool again) {
  const double share = sum_error(s, like_tiles(kern), again);
  double worst = 0;
  for (int64_t im = 0; im < s->n; ++im)
    for (int64_t o = 0; o < s->p.cout; ++o)
      for (int64_t i = 0; i < s->oh * s->ow; ++i) {
        float loop;
        int terms;
        double mass, x = one_output(s, im, o, i, &loop, &mass, &terms);
        const double want = after(s, x, false, im, o, i), got = lane_of(s, s->out, im, o, i),
                     off = fabs(got - want), bound = error_bound(s, share, mass, im, o, i),
                     loops = fabs(after(s, loop, true, im, o, i) - want);
        if (!(off <= bound)) worst = fmax(worst, isnan(got) ? INFINITY : off / bound);
        if (again || terms < MANY) continue;
        total_error[s->p.parts] += off * off / (mass * mass);
        total_loop[s->p.parts] += loops * loops / (mass * mass);
      }
  if (worst)
    fprintf(stderr,
            "%s parts %d %lldx%lldx%lld c %lld>%lld k %lldx%lld s %lld,%lld kind %d: %g x bound\n",
            kern->name, s->p.parts, (long long)s->n, (long long)s->h, (long long)s->w,
            (long long)s->p.cin, (long long)s->p.cout, (long long)s->p.kh, (long long)s->p.kw,
            (long long)s->p.stride_h, (long long)s->p.stride_w, s->kind, worst);
  CHECK(worst == 0);
}

static void check_promises(void) {
  for (int parts = 2; parts < 4; ++parts) {
    CHECK(total_loop[parts] > 0);
    CHECK(sqrt(total_error[parts] / total_loop[parts]) <= promise[parts]);
  }
}

/* Output as parts: those of the floats, to the last bit; and back to floats. */
static void check_gives(const sample *s, const mrt_conv_split_kernels *kern, const mrt_par *par,
                        const void *weights, uint16_t *halves) {
  const mrt_conv *p = &s->p;
  const int64_t area = s->oh * s->ow, part = area * 32, groups = s->n * p->cout / 32;
  mrt_conv_args a = {.n = s->n,
                     .h = s->h,
                     .w = s->w,
                     .input = s->in,
                     .weights = weights,
                     .bias = s->kind & 1 ? s->bias : NULL,
                     .out_parts = p->parts,
                     .output = (float *)(void *)halves};
  if (s->kind & 4) a.act.op = MRT_EW_RELU;
  guarded gs = guarded_new(mrt_conv_split_scratch_size(par, p, s->h, s->w), 0);
  mrt_conv_split_run(kern, par, p, &a, gs.data);
  CHECK(guarded_done(&gs));
  float *line = aligned_alloc(64, (size_t)part * 4), *back = aligned_alloc(64, (size_t)area * 128);
  uint16_t *want = aligned_alloc(64, (size_t)part * 4);
  for (int64_t g = 0; g < groups; ++g) {
    const mrt_split_line l = {s->out + g * part, 16, area * 16, 32, area, want, part};
    kern->split_line(&l, p->parts);
    CHECK(same_halves(want, halves + g * part * p->parts, part * p->parts));
    mrt_conv_split_join(par, p->parts, halves + g * part * p->parts, 1, 32, area, back);
    for (int64_t i = 0; i < part; ++i) {
      const float x = s->out[g * part + i];
      CHECK(isnan(x) || isinf(x) ? memcmp(&x, back + i, 4) == 0 || isnan(back[i])
                                 : fabsf(x - back[i]) <= fabsf(x) * 0x1p-8f);
    }
  }
  free(line), free(back), free(want);
}

/* A second convolution gives the same bits for the first one's parts as for its floats. */
static void check_takes(const sample *s, const mrt_conv_split_kernels *kern, const mrt_par *par,
                        const mrt_conv *q, const uint16_t *halves) {
  const int64_t oh = mrt_conv_out(s->oh, q->kh, q->stride_h, q->dil_h, q->pad_top, q->pad_bottom),
                ow = mrt_conv_out(s->ow, q->kw, q->stride_w, q->dil_w, q->pad_left, q->pad_right),
                no = mrt_c16_size(s->n, q->cout, oh, ow), nw = q->cout * q->cin * q->kh * q->kw;
  float *weights = malloc((size_t)nw * 4), *res = malloc((size_t)no * 4);
  for (int64_t i = 0; i < nw; ++i) weights[i] = rng_float();
  for (int64_t i = 0; i < no; ++i) res[i] = rng_float();
  guarded gp = guarded_new(mrt_conv_split_packed_size(q), 0), gy[2];
  mrt_conv_split_pack(kern, par, q, weights, gp.data);
  const int64_t bytes = s->n * s->oh * s->ow * q->cin * 2 * q->parts;
  guarded gx = guarded_new((size_t)bytes, 0); /* with nothing behind it */
  memcpy(gx.data, halves, (size_t)bytes);
  for (int i = 0; i < 2; ++i) {
    mrt_conv_args a = {.n = s->n,
                       .h = s->oh,
                       .w = s->ow,
                       .input = i ? (float *)gx.data : s->out,
                       .in_parts = i ? q->parts : 0,
                       .weights = gp.data};
    a.output = guarded_floats(&gy[i], no, 0);
    memcpy(a.output, res, (size_t)no * 4);
    a.residual = a.output;
    guarded gs = guarded_new(mrt_conv_split_scratch_size(par, q, s->oh, s->ow), 0);
    mrt_conv_split_run(kern, par, q, &a, gs.data);
    CHECK(guarded_done(&gs));
  }
  for (int64_t i = 0; i < no; ++i) {
    const float *y[] = {(float *)gy[0].data + i, (float *)gy[1].data + i};
    CHECK(memcmp(y[0], y[1], 4) == 0 || (isnan(*y[0]) && isnan(*y[1])));
  }
  CHECK(guarded_done(&gp) && guarded_done(&gx) && guarded_done(&gy[0]) && guarded_done(&gy[1]));
  free(weights), free(res);
}

static void check_pair(const mrt_conv_split_kernels *kern, const mrt_conv *p, const mrt_conv *q,
                       int64_t n, int64_t h, int64_t w, int kind, bool special) {
  const mrt_par pars[2] = {{.threads = 0}, {.threads = 1}};
  sample s = {.p = *p, .n = n, .h = h, .w = w, .kind = kind};
  sample_make(&s, rng_float);
  if (special) s.in[1] = INFINITY, s.in[5] = -INFINITY, s.in[9] = NAN, s.x[0] = 0;
  sample_run(&s, kern);
  guarded gp = guarded_new(mrt_conv_split_packed_size(p), 0);
  mrt_conv_split_pack(kern, &pars[0], p, s.weights, gp.data);
  guarded gh = guarded_new((size_t)(s.n * s.oh * s.ow * p->cout * 2 * p->parts), 0);
  uint16_t *halves = (uint16_t *)gh.data;
  for (int i = 0; i < 2; ++i) check_gives(&s, kern, &pars[i], gp.data, halves);
  for (int i = 0; i < 2; ++i) check_takes(&s, kern, &pars[i], q, halves);
  CHECK(guarded_done(&gp) && guarded_done(&gh));
  sample_free(&s);
}

/* Weights of 2 bytes give the bits of the same ones as floats. */
static void check_like_wide(const sample *s, const mrt_conv_split_kernels *kern) {
  sample w = *s;
  const int64_t no = mrt_c16_size(s->n, s->p.cout, s->oh, s->ow);
  w.p.narrow = MRT_CONV_WIDE, w.p.raw = s->p.parts == 3;
  w.out = aligned_alloc(64, (size_t)no * 4), w.out2 = aligned_alloc(64, (size_t)no * 4);
  sample_run(&w, kern);
  for (int64_t im = 0; im < s->n; ++im)
    for (int64_t o = 0; o < s->p.cout; ++o)
      for (int64_t i = 0; i < s->oh * s->ow; ++i)
        CHECK(lane_of(s, s->out, im, o, i) == lane_of(&w, w.out, im, o, i));
  free(w.out), free(w.out2);
}

static void check_conv(mrt_conv p, int64_t n, int64_t h, int64_t w, int kind, bool model) {
  for (size_t e = 0; e < sizeof entries / sizeof *entries; ++e) {
    const mrt_conv_split_kernels *kern = entries[e].kern;
    if ((mrt_cpu_get()->isa & entries[e].isa) != entries[e].isa) continue;
    if ((kern == &mrt_conv_split_model && !model) || p.parts > kern->gemm->most_parts) continue;
    sample s = {.p = p, .n = n, .h = h, .w = w, .kind = kind};
    sample_make(&s, rng_float);
    CHECK(mrt_conv_split_ok(&p, s.weights));
    sample_run(&s, kern);
    check_errors(&s, kern, false);
    if (p.narrow) check_like_wide(&s, kern);
    sample_free(&s);
  }
}

static mrt_conv conv_of(int64_t cin, int64_t cout, int64_t k, int64_t stride, int64_t pad) {
  return (mrt_conv){.cin = cin,
                    .cout = cout,
                    .groups = 1,
                    .kh = k,
                    .kw = k,
                    .stride_h = stride,
                    .stride_w = stride,
                    .dil_h = 1,
                    .dil_w = 1,
                    .pad_top = pad,
                    .pad_left = pad,
                    .pad_bottom = pad,
                    .pad_right = pad};
}

/* Weights as floats; plain input. */
static void test_forms(void) {
  for (int i = 0; i < 40; ++i) {
    mrt_conv p = conv_of(33 + rng_below(70), 1 + rng_below(70), 1 + rng_below(3), 1, 0);
    p.pad_top = p.pad_left = rng_below(p.kh);
    p.stride_h = p.stride_w = 1 + rng_below(2);
    p.parts = 3, p.raw = true;
    check_conv(p, 1 + rng_below(2), 5 + rng_below(12), 5 + rng_below(12), (int)rng_below(32),
               i == 0);
    p = conv_of(1 + rng_below(3), 1 + rng_below(70), 1 + rng_below(7), 1, 0);
    p.pad_top = rng_below(p.kh), p.pad_left = rng_below(p.kw), p.pad_right = rng_below(p.kw);
    p.kw += rng_below(3), p.dil_h = 1 + rng_below(2);
    p.stride_h = 1 + rng_below(3), p.stride_w = 1 + rng_below(3);
    p.parts = 1 + i % 3, p.input_nchw = true;
    check_conv(p, 1 + rng_below(2), 13 + rng_below(12), 10 + rng_below(12), (int)rng_below(32),
               i == 0);
  }
  mrt_conv p = conv_of(520, 96, 3, 1, 1); /* several slices of k */
  p.parts = 3, p.raw = true;
  check_conv(p, 1, 7, 7, 7, false);
  check_conv(p, 1, 14, 14, 2, false);
  p = conv_of(3, 64, 7, 2, 3);
  p.parts = 3, p.input_nchw = true;
  check_conv(p, 1, 100, 120, 5, false);
  CHECK(p.cin * p.kw <= 32);
}

/* Weights of 2 bytes: bf16 as tiles of one part, float16 split at run. */
static void set_narrow(mrt_conv *p, mrt_conv_narrow narrow) {
  p->narrow = narrow;
  p->raw = narrow == MRT_CONV_F16 && p->parts > 1;
}
static void test_narrow(void) {
  for (int i = 0; i < 60; ++i) {
    mrt_conv p = conv_of(16 + rng_below(70), 1 + rng_below(70), 1 + rng_below(3), 1, 0);
    p.pad_top = p.pad_left = rng_below(p.kh);
    p.stride_h = p.stride_w = 1 + rng_below(2);
    p.parts = 1 + i % 3;
    if (i % 5 == 0) p.cin = 1 + rng_below(8), p.input_nchw = true;
    set_narrow(&p, i / 3 % 2 ? MRT_CONV_F16 : MRT_CONV_BF16);
    check_conv(p, 1 + rng_below(2), 5 + rng_below(12), 5 + rng_below(12), (int)rng_below(32),
               i < 6);
  }
  for (int i = 0; i < 6; ++i) { /* several slices of k, panels */
    mrt_conv p = conv_of(520, 96, 3, 1, 1);
    p.parts = 1 + i % 3;
    set_narrow(&p, i < 3 ? MRT_CONV_F16 : MRT_CONV_BF16);
    CHECK_EQ_I(mrt_conv_split_packed_size(&p), 3 * 9 * 17 * 1024 * 2);
    check_conv(p, 1, 14, 14, 7, false);
  }
}

static void test_conv(void) {
  static const int64_t sizes[] = {1, 2, 3, 7, 8, 13, 14, 17, 33};
  static const int64_t channels[] = {16, 17, 31, 32, 33, 48, 64, 70};
  for (int i = 0; i < 150; ++i) {
    mrt_conv p = conv_of(channels[rng_below(8)], channels[rng_below(8)], 1 + rng_below(4), 1, 0);
    if (rng_below(3) == 0) p.kw = 1 + rng_below(3);
    p.stride_h = 1 + rng_below(3), p.stride_w = rng_below(3) ? p.stride_h : 1 + rng_below(4);
    p.dil_h = 1 + (rng_below(4) == 0), p.dil_w = 1 + (rng_below(4) == 0);
    p.pad_top = rng_below(p.kh + 1), p.pad_left = rng_below(p.kw + 2);
    p.pad_bottom = rng_below(p.kh), p.pad_right = rng_below(p.kw + 2);
    p.parts = 1 + i % 3;
    check_conv(p, 1 + rng_below(2), sizes[rng_below(9)], sizes[rng_below(9)], (int)rng_below(32),
               false);
  }
  for (int parts = 1; parts <= 3; ++parts) { /* the model is slow: few and small */
    mrt_conv p = conv_of(40, 33, 3, 1, 1);
    p.parts = parts;
    check_conv(p, 1, 5, 7, 5, true);
    p = conv_of(32, 16, 3, 2, 1);
    p.parts = parts;
    check_conv(p, 2, 6, 5, 2, true);
    p = conv_of(256, 96, 3, 1, 1); /* several bands and panels */
    p.parts = parts;
    check_conv(p, 1, 28, 28, 3, false);
    p = conv_of(64, 64, 3, 2, 1);
    p.parts = parts;
    check_conv(p, 2, 60, 57, 4, false);
    p = conv_of(600, 100, 1, 1, 0);
    p.parts = parts;
    check_conv(p, 1, 7, 7, 17, false);
  }
}

/* What float arithmetic gives for infinities, NaN, huge and tiny values; weights are normal, of
 * each width in turn. */
static void test_special(const mrt_conv_split_kernels *kern, int round) {
  const int most = kern->gemm->most_parts;
  for (int parts = 1; parts <= (most > 1 ? 4 : 1); ++parts) {
    sample s = {.p = conv_of(32, 33, 3, 1, 1), .n = 1, .h = 6, .w = 9, .kind = 1};
    s.p.parts = parts < 4 ? parts : 3;
    s.p.raw = parts == 4;
    if (round) set_narrow(&s.p, (mrt_conv_narrow)round);
    sample_make(&s, rng_float);
    const struct {
      int64_t at;
      float v;
    } put[] = {{3, INFINITY}, {130, -INFINITY}, {250, NAN}, {700, FLT_MAX}, {1000, -FLT_MAX}};
    for (int i = 0; i < 5; ++i) {
      s.x[put[i].at] = put[i].v;
      s.in[put[i].at % 54 * 16 + put[i].at / 54 / 16 * 54 * 16 + put[i].at / 54 % 16] = put[i].v;
    }
    sample_run(&s, kern);
    int special = 0;
    for (int64_t o = 0; o < 33; ++o)
      for (int64_t i = 0; i < 54; ++i) {
        float loop;
        int terms;
        double mass;
        (void)one_output(&s, 0, o, i, &loop, &mass, &terms);
        const float want = loop + s.bias[o], got = lane_of(&s, s.out, 0, o, i);
        special += !isfinite(want);
        CHECK(isnan(want) == isnan(got) && isinf(want) == isinf(got));
        CHECK(isfinite(want) || isnan(want) || want == got);
        if (isfinite(want)) CHECK(fabs(got - want) <= 8e-3 * (mass + 1));
      }
    CHECK(special > 50);
    sample_free(&s);
  }
  sample s = {.p = conv_of(32, 16, 1, 1, 0), .n = 1, .h = 1, .w = 40};
  s.p.parts = most;
  sample_make(&s, rng_float);
  for (int64_t i = 0; i < 32 * 40; ++i) s.x[i] *= 0x1p-110f, s.in[i] *= 0x1p-110f;
  sample_run(&s, kern);
  check_errors(&s, kern, true);
  sample_free(&s);
}

/* Sums of one product, where each product of parts counts. */
static void test_single(const mrt_conv_split_kernels *kern) {
  enum { CHANNEL = 9, AREA = 5 * 8 };
  for (int i = 0; i < kern->gemm->most_parts + 1; ++i) {
    sample s = {.p = conv_of(32, 40, 1, 1, 0), .n = 1, .h = 5, .w = 8};
    s.p.parts = i ? i : kern->gemm->most_parts;
    s.p.raw = !i && kern->split_pairs;
    sample_make(&s, rng_float);
    for (int64_t k = 0; k < 32 * AREA; ++k)
      if (k / AREA != CHANNEL) s.x[k] = 0;
    for (int64_t k = 0; k < 32 * AREA; ++k)
      s.in[k] = s.x[(k / 16 / AREA * 16 + k % 16) * AREA + k / 16 % AREA];
    sample_run(&s, kern);
    check_errors(&s, kern, false);
    sample_free(&s);
  }
}

/* A kernel that counts blocks in which something is to be computed again. */
static const mrt_conv_split_kernels *counted;
static int64_t mended;
static void counting_multiply(const mrt_split_block *t, int parts, mrt_split_out *before) {
  counted->multiply(t, parts, before);
  if (before && before->any) ++mended;
}
static void counting_finish(mrt_split_out *o) {
  counted->finish(o);
  if (o->any) ++mended;
}

/* Ordinary values need no second try. Pixels that just fill their blocks, so that nothing has room
 * behind the last one. */
static void test_ordinary(const mrt_conv_split_kernels *kern) {
  mrt_conv_split_kernels counting = *kern;
  counting.multiply = counting_multiply;
  counting.finish = counting_finish;
  counted = kern;
  mended = 0;
  for (int parts = 1; parts <= kern->gemm->most_parts; ++parts) {
    sample s = {.p = conv_of(32, 16, 3, 1, 1), .n = 2, .h = 1, .w = 32};
    s.p.parts = parts;
    sample_make(&s, rng_float);
    sample_run(&s, &counting);
    check_errors(&s, kern, false);
    sample_free(&s);
  }
  CHECK_EQ_I(mended, 0);
}

/* Values of parts between two convolutions: read in place with whole and broken last tiles, copied,
 * with bands, phases and padding. */
static void test_pairs(const mrt_conv_split_kernels *kern) {
  const bool model = kern == &mrt_conv_split_model;
  const int most = kern->gemm->most_parts < 2 ? kern->gemm->most_parts : 2;
  for (int i = 0; i < (model ? 4 : 60); ++i) {
    mrt_conv p = conv_of(16 + rng_below(40), 32 * (1 + rng_below(model ? 1 : 3)), 1 + rng_below(3),
                         1, rng_below(2));
    p.parts = 1 + i % most;
    mrt_conv q = conv_of(p.cout, 1 + rng_below(70), i % 3 ? 1 : 1 + rng_below(3), 1, 0);
    if (i % 3 == 0) q.stride_h = q.stride_w = 1 + rng_below(2), q.pad_top = rng_below(2);
    q.parts = p.parts;
    check_pair(kern, &p, &q, 1 + rng_below(2), 5 + rng_below(5), 5 + rng_below(9),
               (int)rng_below(2) * 4 + 1, i % 4 == 3);
  }
  mrt_conv p = conv_of(32, 64, 3, 1, 1), q = conv_of(64, 96, 1, 1, 0);
  p.parts = q.parts = most;
  if (!model) check_pair(kern, &p, &q, 1, 57, 61, 5, false); /* several bands */
}

/* Images multiplied together give the bits that each gives alone, where tiles must be mended, too.
 */
static void check_together(const mrt_conv_split_kernels *kern, mrt_conv p, int64_t n, int64_t h,
                           int64_t w, int kind, int threads, int in_parts) {
  const mrt_par par = {.threads = threads};
  sample s = {.p = p, .n = n, .h = h, .w = w, .kind = kind};
  sample_make(&s, rng_float);
  const int64_t ni = mrt_c16_size(1, p.cin, h, w), no = mrt_c16_size(1, p.cout, s.oh, s.ow);
  float *last = s.in + (n - 1) * ni;
  last[1] = INFINITY, last[5] = 3e38f, last[9] = NAN, last[17] = 1e-39f;
  for (int i = 0; i < 8 && in_parts; ++i) last[i] = s.in[i]; /* halves of anything are numbers */
  guarded gp = guarded_new(mrt_conv_split_packed_size(&p), 0);
  mrt_conv_split_pack(kern, &par, &p, s.weights, gp.data);
  mrt_conv_args a = {.n = n, .h = h, .w = w, .weights = gp.data, .in_parts = in_parts};
  a.bias = kind & 1 ? s.bias : NULL;
  for (int64_t i = -1; i < n; ++i) { /* all, then one by one */
    mrt_conv q = p;
    q.images = i < 0 ? n : 0;
    a.n = i < 0 ? n : 1;
    const int64_t im = i < 0 ? 0 : i;
    a.input = s.in + im * (in_parts == 1 ? ni / 2 : ni);
    a.residual = kind & 2 ? s.res + im * no : NULL;
    a.output = (i < 0 ? s.out : s.out2) + im * no;
    guarded gs = guarded_new(mrt_conv_split_scratch_size(&par, &q, h, w), 0);
    mrt_conv_split_run(kern, &par, &q, &a, gs.data);
    CHECK(guarded_done(&gs));
  }
  CHECK(same_bits(s.out, s.out2, n * no) && guarded_done(&gp));
  sample_free(&s);
}

static void test_together(const mrt_conv_split_kernels *kern) {
  for (int i = 0; i < 6; ++i) {
    const int parts = 1 + i % (kern->gemm->most_parts < 3 ? 1 : 3);
    mrt_conv p = conv_of(320, 288, 3, 1, 1), q = conv_of(512, 1536, 1, 1, 0);
    p.parts = q.parts = parts, p.raw = q.raw = parts == 3;
    if (i < 3) check_together(kern, p, 2 + i * 3, 3 + i % 5, 4, i, i % 2 + 1, 0);
    check_together(kern, q, 5, 5 + i % 3, 6, i & 3, i % 3, parts < 3 && i > 2 ? parts : 0);
  }
}

static void test_choice(void) {
  float w[64 * 64];
  mrt_conv p = conv_of(64, 64, 1, 1, 0);
  for (int i = 0; i < 64 * 64; ++i) w[i] = rng_float();
  CHECK(mrt_conv_split_ok(&p, w));
  w[100] = NAN;
  CHECK(!mrt_conv_split_ok(&p, w));
  w[100] = 1e30f;
  CHECK(!mrt_conv_split_ok(&p, w));
  for (int i = 0; i < 32 * 64; ++i) w[i] = 1e-35f; /* a panel of tiny ones */
  CHECK(!mrt_conv_split_ok(&p, w));
  for (int i = 0; i < 32 * 64; ++i) w[i] = 0;
  CHECK(mrt_conv_split_ok(&p, w));
  p.groups = 2;
  CHECK(!mrt_conv_split_ok(&p, w));
  const mrt_conv_split_kernels *best = mrt_conv_split_kernels_get();
  CHECK((best != NULL) == ((mrt_cpu_get()->isa & MRT_ISA_AMX) || mrt_cpu_get()->dot_bf16));
  for (int mode = 0; mode < 3; ++mode) {
    p = conv_of(512, 512, 3, 2, 1);
    mrt_conv_split_choose(&p, (mrt_precision)mode, 28, 28);
    CHECK_EQ_I(p.parts, best && 3 - mode <= best->gemm->most_parts ? 3 - mode : 0);
  }
}

static void body(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i) {
    const mrt_conv_split_kernels *kern = entries[i].kern;
    if ((have & entries[i].isa) != entries[i].isa) continue;
    for (int round = 0; round < 3; ++round) test_special(kern, round);
    test_single(kern);
    test_ordinary(kern);
    test_pairs(kern);
    if (kern == &mrt_conv_split_model) continue;
    for (int parts = 1; parts <= kern->gemm->most_parts; ++parts)
      for (int k = 0; k < 64; ++k) {
        check_line(kern, 1 + k % 32, 16 + k % 3 * 16, parts);
        check_block(kern, 1 + (int)rng_below(32), k % 2 ? 32 : 16, parts, k);
      }
  }
  test_conv();
  const mrt_conv_split_kernels *now = mrt_conv_split_kernels_get();
  CHECK(smaller || !now || now->gemm->most_parts < 3);
  test_forms();
  test_narrow();
  check_promises();
  test_choice();
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    if (entries[i].kern != &mrt_conv_split_model && (have & entries[i].isa) == entries[i].isa)
      test_together(entries[i].kern);
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"amx", "avx512bf16", "scalar", NULL};
  setenv("MRT_BF16_DOT", "1", 1);
  return run_per_isa(argv, isas, body);
}
