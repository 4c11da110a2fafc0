/* Convolution, pooling and reordering on channel blocks: each against plain loops in double, with
 * unknown (NaN) spare lanes, guard bytes around every buffer, equal bits for 1 and more threads;
 * and the row kernels of conv.def against the scalar ones. */
#include "kernels.h"
#include "provider/cpu/conv/conv.h"
#include "provider/cpu/conv/conv_kernel.h"
#include "tensor/dtype.h"

typedef struct entry {
  uint32_t isa;
  const mrt_conv_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/conv/conv.def"
#undef MRT_KERNEL
};

/* Plain to c16 with NaN in the spare lanes: they must not reach any result. */
static void blocked(const float *src, int64_t n, int64_t c, int64_t area, float *dst) {
  const int64_t blocks = mrt_c16_blocks(c);
  for (int64_t i = 0; i < n * blocks * area * 16; ++i) {
    const int64_t lane = i % 16, x = i / 16 % area, b = i / 16 / area % blocks,
                  im = i / 16 / area / blocks;
    dst[i] = b * 16 + lane < c ? src[(im * c + b * 16 + lane) * area + x] : NAN;
  }
}
static float lane_of(const float *src, int64_t c, int64_t area, int64_t im, int64_t ch, int64_t x) {
  return src[((im * mrt_c16_blocks(c) + ch / 16) * area + x) * 16 + ch % 16];
}

static double one_output(const mrt_conv *p, const mrt_conv_args *a, const float *x, const float *w,
                         int64_t im, int64_t o, int64_t oy, int64_t ox, double *mass) {
  const int64_t cg = p->cin / p->groups, group = o / (p->cout / p->groups);
  double sum = 0;
  for (int64_t c = 0; c < cg; ++c)
    for (int64_t ky = 0; ky < p->kh; ++ky)
      for (int64_t kx = 0; kx < p->kw; ++kx) {
        const int64_t y = oy * p->stride_h - p->pad_top + ky * p->dil_h;
        const int64_t xx = ox * p->stride_w - p->pad_left + kx * p->dil_w;
        if (y < 0 || y >= a->h || xx < 0 || xx >= a->w) continue;
        const double v = (double)x[((im * p->cin + group * cg + c) * a->h + y) * a->w + xx] *
                         w[((o * cg + c) * p->kh + ky) * p->kw + kx];
        sum += v;
        *mass += fabs(v);
      }
  return sum;
}

/* Weights of 2 bytes. */
static void narrow_weights(mrt_conv_narrow kind, float *w, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    w[i] = kind == MRT_CONV_F16 ? mrt_f16_to_f32(mrt_f32_to_f16(w[i]))
                                : mrt_bf16_to_f32(mrt_f32_to_bf16(w[i]));
}

/* They give the bits of the same ones as floats. */
static void check_like_wide(mrt_conv p, mrt_conv_args a, const float *weights) {
  const mrt_par all = {.threads = 0};
  const int64_t oh = mrt_conv_out(a.h, p.kh, p.stride_h, p.dil_h, p.pad_top, p.pad_bottom);
  const int64_t ow = mrt_conv_out(a.w, p.kw, p.stride_w, p.dil_w, p.pad_left, p.pad_right);
  const int64_t floats = mrt_c16_size(a.n, p.cout, oh, ow);
  const float *narrow = a.output;
  guarded gout;
  const size_t bytes = mrt_conv_packed_size(&p);
  p.narrow = MRT_CONV_WIDE;
  CHECK(bytes * 2 == mrt_conv_packed_size(&p));
  guarded gp = guarded_new(mrt_conv_packed_size(&p), 0);
  guarded gs = guarded_new(mrt_conv_scratch_size(&all, &p, a.h, a.w), 0);
  a.output = guarded_floats(&gout, floats, 0);
  a.weights = gp.data;
  mrt_conv_pack(&all, &p, weights, gp.data);
  mrt_conv_run(&all, &p, &a, gs.data);
  for (int64_t i = 0; i < floats; ++i)
    if (i / 16 / (oh * ow) % mrt_c16_blocks(p.cout) * 16 + i % 16 < p.cout)
      CHECK(narrow[i] == a.output[i]);
  CHECK(guarded_done(&gp) && guarded_done(&gs) && guarded_done(&gout));
}

/* kind: 1 bias, 2 residual, 4 relu, 8 silu */
static void check_conv(mrt_conv p, int64_t n, int64_t h, int64_t w, int kind) {
  const mrt_par one = {.threads = 1}, all = {.threads = 0};
  CHECK_OK(mrt_conv_check(&p));
  const int64_t oh = mrt_conv_out(h, p.kh, p.stride_h, p.dil_h, p.pad_top, p.pad_bottom);
  const int64_t ow = mrt_conv_out(w, p.kw, p.stride_w, p.dil_w, p.pad_left, p.pad_right);
  guarded gx, gin, gw, gp, gb, gr, gout, gout2, gs;
  float *x = guarded_floats(&gx, n * p.cin * h * w, 0);
  float *weights = guarded_floats(&gw, p.cout * (p.cin / p.groups) * p.kh * p.kw, 4);
  float *bias = guarded_floats(&gb, p.cout, 4);
  float *in = guarded_floats(&gin, mrt_c16_size(n, p.cin, h, w), 0);
  float *res = guarded_floats(&gr, mrt_c16_size(n, p.cout, oh, ow), 0);
  float *out = guarded_floats(&gout, mrt_c16_size(n, p.cout, oh, ow), 0);
  float *out2 = guarded_floats(&gout2, mrt_c16_size(n, p.cout, oh, ow), 0);
  gp = guarded_new(mrt_conv_packed_size(&p), 0);
  blocked(x, n, p.cin, h * w, in);
  if (p.narrow) narrow_weights(p.narrow, weights, p.cout * (p.cin / p.groups) * p.kh * p.kw);
  mrt_conv_pack(&all, &p, weights, (float *)gp.data);
  mrt_conv_args a = {.n = n,
                     .h = h,
                     .w = w,
                     .input = p.input_nchw ? x : in,
                     .weights = (float *)gp.data,
                     .bias = kind & 1 ? bias : NULL,
                     .residual = kind & 2 ? res : NULL,
                     .output = out};
  if (kind & 4) a.act.op = MRT_EW_RELU;
  if (kind & 8) a.act.op = MRT_EW_SILU;
  gs = guarded_new(mrt_conv_scratch_size(&all, &p, h, w), 0);
  mrt_conv_run(&all, &p, &a, gs.data);
  CHECK(guarded_done(&gs));
  gs = guarded_new(mrt_conv_scratch_size(&one, &p, h, w), 0);
  a.output = out2;
  mrt_conv_run(&one, &p, &a, gs.data);
  CHECK(guarded_done(&gs));
  int64_t bad = 0;
  for (int64_t im = 0; im < n; ++im)
    for (int64_t o = 0; o < p.cout; ++o)
      for (int64_t i = 0; i < oh * ow; ++i) {
        double mass = 1, y = one_output(&p, &a, x, weights, im, o, i / ow, i % ow, &mass);
        y += (kind & 1 ? bias[o] : 0) + (kind & 2 ? lane_of(res, p.cout, oh * ow, im, o, i) : 0);
        if ((kind & 12) == 4) y = fmax(y, 0);
        if (kind & 8) y = y / (1 + exp(-y));
        const float got = lane_of(out, p.cout, oh * ow, im, o, i);
        const double tol = 6e-8 * (8 + 0.5 * (double)(p.cin / p.groups * p.kh * p.kw)) * mass;
        bad += !(fabs(got - y) <= tol);
        bad += got != lane_of(out2, p.cout, oh * ow, im, o, i);
      }
  if (bad)
    fprintf(stderr,
            "conv %lldx%lldx%lld c %lld>%lld g %lld k %lldx%lld s %lld d %lld pad %lld,%lld nchw "
            "%d kind %d: %lld wrong\n",
            (long long)n, (long long)h, (long long)w, (long long)p.cin, (long long)p.cout,
            (long long)p.groups, (long long)p.kh, (long long)p.kw, (long long)p.stride_h,
            (long long)p.dil_h, (long long)p.pad_top, (long long)p.pad_left, p.input_nchw, kind,
            (long long)bad);
  CHECK_EQ_I(bad, 0);
  if (p.narrow) check_like_wide(p, a, weights);
  /* Dense convolutions write finite spare lanes; depthwise ones pass on what the input has there.
   */
  for (int64_t i = 0; i < mrt_c16_size(n, p.cout, oh, ow); ++i)
    if (!(kind & 2) && !mrt_conv_is_depthwise(&p)) CHECK(isfinite(out[i]));
  CHECK(guarded_done(&gx) && guarded_done(&gin) && guarded_done(&gw) && guarded_done(&gp));
  CHECK(guarded_done(&gb) && guarded_done(&gr) && guarded_done(&gout) && guarded_done(&gout2));
}

static void test_conv(void) {
  static const int64_t widths[] = {1, 2, 3, 6, 7, 8, 13, 14, 15, 16, 28, 30, 33};
  static const int64_t channels[] = {1, 3, 15, 16, 17, 24, 32, 40, 64};
  for (int i = 0; i < 400; ++i) {
    mrt_conv p = {.cin = channels[rng_below(9)], .cout = channels[rng_below(9)], .groups = 1};
    p.kh = 1 + rng_below(i % 3 ? 3 : 7), p.kw = rng_below(4) ? p.kh : 1 + rng_below(5);
    p.stride_h = 1 + rng_below(2), p.stride_w = rng_below(4) ? p.stride_h : 1 + rng_below(3);
    p.dil_h = 1 + (rng_below(4) == 0), p.dil_w = 1 + (rng_below(4) == 0);
    p.pad_top = rng_below(p.kh), p.pad_left = rng_below(p.kw);
    p.pad_bottom = rng_below(p.kh), p.pad_right = rng_below(p.kw);
    if (i % 4 == 0) p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 0;
    p.input_nchw = p.cin <= 16 && i % 2;
    if (i % 5 == 0) p.cin = p.cout = p.groups = channels[1 + rng_below(8)], p.input_nchw = false;
    if (i % 11 == 0) p.groups = 3, p.cin = 96, p.cout = 48, p.input_nchw = false;
    if (!mrt_conv_is_depthwise(&p)) p.narrow = (mrt_conv_narrow)(i / 2 % 3);
    check_conv(p, 1 + rng_below(2), widths[rng_below(13)], widths[rng_below(13)],
               (int)rng_below(16));
  }
  mrt_conv p = {.cin = 256,
                .cout = 70,
                .groups = 1,
                .kh = 3,
                .kw = 3,
                .stride_h = 1,
                .stride_w = 1,
                .dil_h = 1,
                .dil_w = 1,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1};
  check_conv(p, 1, 14, 14, 5); /* bands, several slices of k */
  p.narrow = MRT_CONV_F16;
  check_conv(p, 1, 14, 14, 5);
  check_conv(p, 1, 40, 44, 0);
  p.cin = 300;
  check_conv(p, 1, 7, 7, 3);
  p.narrow = MRT_CONV_BF16;
  check_conv(p, 2, 9, 7, 3);
  p.kh = p.kw = 1, p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 0, p.cin = 2500;
  check_conv(p, 1, 5, 20, 9);
  p = (mrt_conv){.cin = 3,
                 .cout = 64,
                 .groups = 1,
                 .kh = 7,
                 .kw = 7,
                 .stride_h = 2,
                 .stride_w = 2,
                 .dil_h = 1,
                 .dil_w = 1,
                 .pad_top = 3,
                 .pad_left = 3,
                 .pad_bottom = 3,
                 .pad_right = 3,
                 .input_nchw = true};
  check_conv(p, 1, 100, 120, 5);
  for (int i = 0; i < 8; ++i) { /* first layers: 3x3, of 16 and 32 columns and odd ones */
    static const int64_t couts[] = {16, 32, 24, 70};
    p.kh = p.kw = 3, p.stride_h = p.stride_w = 1 + i / 4, p.cout = couts[i % 4];
    p.pad_top = p.pad_left = 1, p.pad_bottom = p.pad_right = i % 2;
    check_conv(p, 2, 9 + i, 40 + i, i);
  }
}

static void test_refusals(void) {
  mrt_conv p = {.cin = 24,
                .cout = 24,
                .groups = 3,
                .kh = 1,
                .kw = 1,
                .stride_h = 1,
                .stride_w = 1,
                .dil_h = 1,
                .dil_w = 1};
  mrt_status *st = mrt_conv_check(&p);
  CHECK_EQ_I(mrt_status_code(st), MRT_NOT_IMPLEMENTED);
  mrt_status_free(st);
  p.groups = 5;
  st = mrt_conv_check(&p);
  CHECK_EQ_I(mrt_status_code(st), MRT_INVALID_ARGUMENT);
  mrt_status_free(st);
}

static void check_pool(mrt_pool p, int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh,
                       int64_t ow) {
  const mrt_par all = {.threads = 0};
  guarded gx, gin, gout;
  float *x = guarded_floats(&gx, n * c * h * w, 0),
        *in = guarded_floats(&gin, mrt_c16_size(n, c, h, w), 0);
  float *out = guarded_floats(&gout, mrt_c16_size(n, c, oh, ow), 0);
  blocked(x, n, c, h * w, in);
  mrt_pool_run(&all, &p, n, c, h, w, in, oh, ow, out);
  int64_t bad = 0;
  for (int64_t i = 0; i < n * c * oh * ow; ++i) {
    const int64_t ox = i % ow, oy = i / ow % oh, ch = i / ow / oh % c, im = i / ow / oh / c;
    double top = -INFINITY, sum = 0;
    int64_t inside = 0, padded = 0;
    for (int64_t k = 0; k < p.kh * p.kw; ++k) {
      const int64_t yy = oy * p.stride_h - p.pad_top + k / p.kw * p.dil_h;
      const int64_t xx = ox * p.stride_w - p.pad_left + k % p.kw * p.dil_w;
      padded += yy < h + p.pad_bottom && xx < w + p.pad_right;
      if (yy < 0 || yy >= h || xx < 0 || xx >= w) continue;
      const double v = x[((im * c + ch) * h + yy) * w + xx];
      ++inside, sum += v, top = fmax(top, v);
    }
    const double want = p.kind == MRT_POOL_MAX   ? top
                        : p.kind == MRT_POOL_AVG ? (inside ? sum / (double)inside : 0)
                                                 : sum / (double)padded;
    const float got = lane_of(out, c, oh * ow, im, ch, oy * ow + ox);
    bad += isinf(want) ? got != want : !(fabs(got - want) <= 1e-5);
  }
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&gx) && guarded_done(&gin) && guarded_done(&gout));
}

static void test_pool(void) {
  for (int i = 0; i < 150; ++i) {
    mrt_pool p = {.kind = (mrt_pool_kind)(i % 3),
                  .kh = 1 + rng_below(5),
                  .kw = 1 + rng_below(4),
                  .stride_h = 1 + rng_below(3),
                  .stride_w = 1 + rng_below(3),
                  .dil_h = 1,
                  .dil_w = 1};
    if (i % 7 == 0) p.dil_h = 2, p.dil_w = 3;
    p.pad_top = rng_below(p.kh), p.pad_left = rng_below(p.kw);
    p.pad_bottom = rng_below(p.kh), p.pad_right = rng_below(p.kw);
    const int64_t h = 5 + rng_below(30), w = 5 + rng_below(30), c = 1 + rng_below(40);
    int64_t oh = mrt_conv_out(h, p.kh, p.stride_h, p.dil_h, p.pad_top, p.pad_bottom);
    int64_t ow = mrt_conv_out(w, p.kw, p.stride_w, p.dil_w, p.pad_left, p.pad_right);
    if (oh > 0 && ow > 0) check_pool(p, 1 + i % 2, c, h, w, oh, ow);
    const int64_t rest = (h + p.pad_top + p.pad_bottom - (p.kh - 1) * p.dil_h - 1) % p.stride_h;
    if (rest > 0 && oh > 0 && ow > 0 && oh * p.stride_h < h + p.pad_top)
      check_pool(p, 1, c, h, w, oh + 1, ow);
  }
  const mrt_par all = {.threads = 0};
  for (int64_t c = 1; c < 40; c += 5)
    for (int64_t area = 1; area < 60; area += 7) {
      const int64_t padded = mrt_c16_blocks(c) * 16;
      guarded gx, gin, gout, gout16;
      float *x = guarded_floats(&gx, 2 * c * area, 0),
            *in = guarded_floats(&gin, mrt_c16_size(2, c, 1, area), 0);
      float *out = guarded_floats(&gout, 2 * c, 4), *out16 = guarded_floats(&gout16, 2 * padded, 0);
      blocked(x, 2, c, area, in);
      for (int kind = 0; kind < 2; ++kind) {
        mrt_pool_global(&all, (mrt_pool_kind)kind, 2, c, 1, area, in, out, false);
        mrt_pool_global(&all, (mrt_pool_kind)kind, 2, c, 1, area, in, out16, true);
        for (int64_t i = 0; i < 2 * c; ++i) CHECK(out[i] == out16[i / c * padded + i % c]);
        for (int64_t i = 0; i < 2 * c; ++i) {
          double top = -INFINITY, sum = 0;
          for (int64_t k = 0; k < area; ++k)
            top = fmax(top, x[i * area + k]), sum += x[i * area + k];
          CHECK(fabs(out[i] - (kind ? sum / (double)area : top)) < 1e-5);
        }
      }
      CHECK(guarded_done(&gx) && guarded_done(&gin) && guarded_done(&gout) &&
            guarded_done(&gout16));
    }
}

static void test_reorder(void) {
  const mrt_par all = {.threads = 0};
  for (int64_t c = 1; c < 50; c += c < 4 ? 1 : 7)
    for (int64_t area = 1; area < 2200; area += area < 40 ? 1 : 717) {
      guarded gx, gb, gy;
      float *x = guarded_floats(&gx, 2 * c * area, 4),
            *b = guarded_floats(&gb, mrt_c16_size(2, c, 1, area), 0);
      float *y = guarded_floats(&gy, 2 * c * area, 4);
      mrt_c16_from_nchw(&all, x, 2, c, 1, area, b);
      int bad = 0;
      for (int64_t i = 0; i < 2 * c * area; ++i)
        bad += lane_of(b, c, area, i / area / c, i / area % c, i % area) != x[i];
      for (int64_t i = 0; i < mrt_c16_size(2, c, 1, area); ++i)
        bad += i / 16 / area % mrt_c16_blocks(c) * 16 + i % 16 >= c && b[i] != 0.0f;
      CHECK_EQ_I(bad, 0);
      mrt_c16_to_nchw(&all, b, 2, c, 1, area, y);
      CHECK(memcmp(x, y, (size_t)(2 * c * area) * 4) == 0);
      CHECK(guarded_done(&gx) && guarded_done(&gb) && guarded_done(&gy));
    }
}

/* Row kernels against the scalar ones, every count. */
static void test_rows(const mrt_conv_kernels *kern) {
  static const mrt_tap taps[] = {{0, 0}, {16, 1}, {40, 3}, {1000, 2}, {1016, 4}};
  for (int count = 0; count <= 40; ++count)
    for (int n = 0; n <= 5; ++n) {
      guarded gi, go, ge, gw, gb;
      float *in = guarded_floats(&gi, 1040 + 32 * 40, 0), *w = guarded_floats(&gw, 5 * 16, 0);
      float *got = guarded_floats(&go, count * 16, 0), *want = guarded_floats(&ge, count * 16, 0);
      float *bias = guarded_floats(&gb, 16, 4);
      mrt_pixel_row r = {.in = in,
                         .out = got,
                         .taps = taps,
                         .n_taps = n,
                         .step = 16 + count % 2 * 16,
                         .count = count,
                         .weights = w,
                         .bias = n % 2 ? bias : NULL,
                         .residual = n % 3 ? in + 3 : NULL,
                         .lo = -0.5f,
                         .hi = 0.5f,
                         .clip = n == 4,
                         .scale = 0.3f};
      mrt_pixel_row s = r;
      s.out = want;
      void (*fns[3][2])(const mrt_pixel_row *) = {{kern->depthwise, mrt_conv_f32_scalar.depthwise},
                                                  {kern->max, mrt_conv_f32_scalar.max},
                                                  {kern->mean, mrt_conv_f32_scalar.mean}};
      for (int k = 0; k < 3; ++k) {
        fns[k][0](&r);
        fns[k][1](&s);
        for (int i = 0; i < count * 16; ++i)
          CHECK(got[i] == want[i] || fabsf(got[i] - want[i]) <= 1e-5f);
      }
      CHECK(guarded_done(&gi) && guarded_done(&go) && guarded_done(&ge) && guarded_done(&gw) &&
            guarded_done(&gb));
    }
}

static void body(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    if ((have & entries[i].isa) == entries[i].isa) test_rows(entries[i].kern);
  test_reorder();
  test_pool();
  test_conv();
  test_refusals();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
