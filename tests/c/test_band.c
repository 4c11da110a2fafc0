/* Depthwise convolutions with their 1x1 neighbours (band/band.c, band_split.c, band_tiles_amx.c,
 * band_tiles_model.c, c16_tile_avx512.c): against plain loops in double, with unknown (NaN) spare
 * lanes, guard bytes around every buffer, equal bits for 1 and more threads. */
#include "kernels.h"
#include "provider/cpu/band/band.h"
#include "provider/cpu/conv/conv_split.h"

typedef struct image { /* plain, double */
  int64_t c, h, w;
  double *v, *mass; /* mass: sum of magnitudes that went into v */
} image;

static image new_image(int64_t c, int64_t h, int64_t w) {
  const size_t n = (size_t)(c * h * w);
  return (image){c, h, w, calloc(n, sizeof(double)), calloc(n, sizeof(double))};
}
static void free_image(image *m) {
  free(m->v);
  free(m->mass);
}

/* A convolution of groups 1 (1x1) or depthwise, with bias and activation, in double. */
static image convolve(const mrt_conv *p, const image *x, const float *w, const float *bias,
                      const mrt_act *act) {
  const int64_t cg = p->cin / p->groups;
  image y = new_image(p->cout, mrt_conv_out(x->h, p->kh, p->stride_h, 1, p->pad_top, p->pad_bottom),
                      mrt_conv_out(x->w, p->kw, p->stride_w, 1, p->pad_left, p->pad_right));
  for (int64_t i = 0; i < y.c * y.h * y.w; ++i) {
    const int64_t o = i / y.w / y.h, oy = i / y.w % y.h, ox = i % y.w;
    double sum = bias ? bias[o] : 0, mass = 1 + fabs(sum);
    for (int64_t c = 0; c < cg; ++c)
      for (int64_t t = 0; t < p->kh * p->kw; ++t) {
        const int64_t iy = oy * p->stride_h - p->pad_top + t / p->kw;
        const int64_t ix = ox * p->stride_w - p->pad_left + t % p->kw;
        if (iy < 0 || iy >= x->h || ix < 0 || ix >= x->w) continue;
        const int64_t at = ((o / (p->cout / p->groups) * cg + c) * x->h + iy) * x->w + ix;
        const double k = w[(o * cg + c) * p->kh * p->kw + t];
        sum += k * x->v[at];
        mass += fabs(k) * x->mass[at];
      }
    if (act->op == MRT_EW_CLIP) sum = fmin(fmax(sum, act->p[0]), act->p[1]);
    if (act->op == MRT_EW_SILU) sum = sum / (1 + exp(-sum));
    y.v[i] = sum, y.mass[i] = mass;
  }
  return y;
}

/* Plain to c16 with NaN in the spare lanes. */
static void blocked(const float *src, int64_t n, int64_t c, int64_t area, float *dst) {
  const int64_t blocks = mrt_c16_blocks(c);
  for (int64_t i = 0; i < n * blocks * area * 16; ++i) {
    const int64_t lane = i % 16, x = i / 16 % area, b = i / 16 / area % blocks,
                  im = i / 16 / area / blocks;
    dst[i] = b * 16 + lane < c ? src[(im * c + b * 16 + lane) * area + x] : NAN;
  }
}

/* One case: all buffers of it. */
typedef struct band_case {
  mrt_band b;
  mrt_conv convs[3];
  bool has[3];
  float *w[3], *bias[3], *whole_bias[3];
  guarded gw[3], gb[3], gp[3], gwb[3];
} band_case;

static void make_weights(band_case *t, mrt_band_args *a) {
  const mrt_par all = {.threads = 0};
  for (int i = 0; i < 3; ++i) {
    const mrt_conv *p = &t->convs[i];
    if (!t->has[i]) continue;
    t->w[i] = guarded_floats(&t->gw[i], p->cout * (p->cin / p->groups) * p->kh * p->kw, 0);
    t->bias[i] = guarded_floats(&t->gb[i], p->cout, 0);
    t->gp[i] = guarded_new(mrt_conv_packed_size(p), 0);
    mrt_conv_pack(&all, p, t->w[i], (float *)t->gp[i].data);
    if (t->b.pairs && i != 1) mrt_band_pair_weights(p, (float *)t->gp[i].data);
    t->whole_bias[i] = guarded_floats(&t->gwb[i], mrt_c16_blocks(p->cout) * 16, 0);
    memset(t->whole_bias[i], 0, t->gwb[i].bytes);
    memcpy(t->whole_bias[i], t->bias[i], (size_t)p->cout * sizeof(float));
    a->weights[i] = (float *)t->gp[i].data;
    if (rng_below(4)) a->bias[i] = t->whole_bias[i];
  }
}

static void free_weights(band_case *t) {
  for (int i = 0; i < 3; ++i)
    if (t->has[i])
      CHECK(guarded_done(&t->gw[i]) && guarded_done(&t->gb[i]) && guarded_done(&t->gp[i]) &&
            guarded_done(&t->gwb[i]));
}

static int64_t count_bad(const band_case *t, const mrt_band_args *a, const float *x, const float *z,
                         const float *got) {
  int64_t bad = 0;
  for (int64_t im = 0; im < a->n; ++im) {
    const int64_t c = t->b.expands ? t->b.cin : t->b.depthwise.cin;
    image v = new_image(c, a->h, a->w);
    for (int64_t i = 0; i < c * a->h * a->w; ++i)
      v.v[i] = x[im * c * a->h * a->w + i], v.mass[i] = fabs(v.v[i]);
    for (int i = 0; i < 3; ++i) {
      if (!t->has[i]) continue;
      const mrt_act none = {0};
      image next = convolve(&t->convs[i], &v, t->w[i], a->bias[i] ? t->bias[i] : NULL,
                            i == 2 ? &none : &t->b.act[i]);
      free_image(&v);
      v = next;
    }
    for (int64_t i = 0; i < v.c * v.h * v.w; ++i) {
      const int64_t o = i / v.w / v.h, area = v.h * v.w;
      double want = v.v[i] + (z ? z[im * v.c * area + i] : 0);
      if (t->has[2] && t->b.act[2].op == MRT_EW_CLIP)
        want = fmin(fmax(want, t->b.act[2].p[0]), t->b.act[2].p[1]);
      if (t->has[2] && t->b.act[2].op == MRT_EW_SILU) want = want / (1 + exp(-want));
      const int64_t at = ((im * mrt_c16_blocks(v.c) + o / 16) * area + i % area) * 16 + o % 16;
      bad += !(fabs(got[at] - want) <= 4e-6 * v.mass[i]);
    }
    free_image(&v);
  }
  return bad;
}

static void check_band(mrt_band b, int64_t n, int64_t h, int64_t w, bool with_z) {
  const mrt_par one = {.threads = 1}, all = {.threads = 0};
  band_case t = {.b = b,
                 .convs = {mrt_band_expand(&b), b.depthwise, mrt_band_project(&b)},
                 .has = {b.expands, true, b.projects}};
  const mrt_conv *d = &b.depthwise;
  const int64_t c = b.expands ? b.cin : d->cin, out = b.projects ? b.cout : d->cin;
  const int64_t oh = mrt_conv_out(h, d->kh, d->stride_h, 1, d->pad_top, d->pad_bottom);
  const int64_t ow = mrt_conv_out(w, d->kw, d->stride_w, 1, d->pad_left, d->pad_right);
  guarded gx, gin, gz, gzb, gy[2], gs;
  float *x = guarded_floats(&gx, n * c * h * w, 0), *z = guarded_floats(&gz, n * out * oh * ow, 0);
  float *in = guarded_floats(&gin, mrt_c16_size(n, c, h, w), 0);
  float *zb = guarded_floats(&gzb, mrt_c16_size(n, out, oh, ow), 0), *y[2];
  size_t bytes;
  CHECK(mrt_band_ok(d));
  blocked(x, n, c, h * w, in);
  blocked(z, n, out, oh * ow, zb);
  mrt_band_args a = {.n = n, .h = h, .w = w, .x = in, .z = with_z ? zb : NULL};
  make_weights(&t, &a);
  for (int i = 0; i < 2; ++i) {
    y[i] = guarded_floats(&gy[i], mrt_c16_size(n, out, oh, ow), 0);
    CHECK(mrt_band_scratch_size(i ? &one : &all, &b, n, h, w, &bytes));
    gs = guarded_new(bytes, 0);
    a.y = y[i];
    mrt_band_run(i ? &one : &all, &b, &a, gs.data);
    CHECK(guarded_done(&gs));
  }
  int64_t bad = count_bad(&t, &a, x, a.z ? z : NULL, y[0]);
  for (int64_t i = 0; i < mrt_c16_size(n, out, oh, ow); ++i)
    bad += i / (oh * ow * 16) % mrt_c16_blocks(out) * 16 + i % 16 < out && y[0][i] != y[1][i];
  if (bad)
    fprintf(stderr, "band %lld>%lld>%lld (%d%d) at %lldx%lld, %lldx%lld stride %lld: %lld wrong\n",
            (long long)b.cin, (long long)d->cin, (long long)b.cout, b.expands, b.projects,
            (long long)h, (long long)w, (long long)d->kh, (long long)d->kw, (long long)d->stride_w,
            (long long)bad);
  CHECK_EQ_I(bad, 0);
  free_weights(&t);
  CHECK(guarded_done(&gx) && guarded_done(&gin) && guarded_done(&gz) && guarded_done(&gzb));
  CHECK(guarded_done(&gy[0]) && guarded_done(&gy[1]));
}

/* What tiles of bf16 parts cannot do comes out as from float32 tiles: infinities, NaN, values whose
 * products are denormal. */
static void check_special(float special, float scale) {
  const mrt_par all = {.threads = 0};
  const int64_t cin = 40, wide = 330, cout = 48, h = 9, w = 7;
  mrt_band b = {.cin = cin, .cout = cout, .expands = true, .projects = true};
  b.depthwise = (mrt_conv){.cin = wide, .cout = wide, .groups = wide, .kh = 3, .kw = 3};
  mrt_conv *d = &b.depthwise;
  d->dil_h = d->dil_w = d->stride_h = d->stride_w = 1;
  d->pad_top = d->pad_bottom = d->pad_left = d->pad_right = 1;
  band_case t = {.b = b,
                 .convs = {mrt_band_expand(&b), b.depthwise, mrt_band_project(&b)},
                 .has = {true, true, true}};
  guarded gx, gin, gy[3], gs;
  float *x = guarded_floats(&gx, cin * h * w, 0), *y[3];
  float *in = guarded_floats(&gin, mrt_c16_size(1, cin, h, w), 0);
  for (int64_t i = 0; i < cin * h * w; ++i) x[i] *= scale;
  x[rng_below(cin * h * w)] = special;
  blocked(x, 1, cin, h * w, in);
  mrt_band_args a = {.n = 1, .h = h, .w = w, .x = in};
  make_weights(&t, &a);
  a.bias[0] = a.bias[1] = a.bias[2] = NULL;
  int64_t bad = 0, tiny = 0;
  for (int i = 0; i < 3; ++i) {
    size_t bytes;
    b.tiles = i == 0 ? NULL : i == 1 ? &mrt_conv_split_model : mrt_conv_split_kernels_get();
    a.y = y[i] = guarded_floats(&gy[i], mrt_c16_size(1, cout, h, w), 0);
    CHECK(mrt_band_scratch_size(&all, &b, 1, h, w, &bytes));
    gs = guarded_new(bytes, 0);
    mrt_band_run(&all, &b, &a, gs.data);
    CHECK(guarded_done(&gs));
  }
  float most = 0;
  for (int64_t i = 0; i < cout * h * w; ++i)
    if (isfinite(y[0][i])) most = fmaxf(most, fabsf(y[0][i]));
  for (int64_t i = 0; i < cout * h * w; ++i) {
    const float want = y[0][i];
    tiny += want != 0 && fabsf(want) < 0x1p-100f;
    /* Where finite values overflow on the way depends on the order of a sum. */
    if (!isfinite(want) && isfinite(special)) continue;
    for (int k = 1; k < 3; ++k)
      bad += isnan(want) ? !isnan(y[k][i])
                         : !(y[k][i] == want || fabsf(y[k][i] - want) <= 4e-6f * most);
  }
  CHECK_EQ_I(bad, 0);
  CHECK(scale == 1.0f || tiny > 0);
  free_weights(&t);
  CHECK(guarded_done(&gx) && guarded_done(&gin));
  for (int i = 0; i < 3; ++i) CHECK(guarded_done(&gy[i]));
}

/* No rows, no columns: all there is to see is padding. */
static void check_empty(bool projects) {
  mrt_band b = {.cin = 24, .cout = projects ? 24 : 144, .expands = true, .projects = projects};
  b.depthwise = (mrt_conv){.cin = 144, .cout = 144, .groups = 144, .kh = 3, .kw = 3};
  mrt_conv *d = &b.depthwise;
  d->dil_h = d->dil_w = d->stride_h = d->stride_w = 1;
  d->pad_top = d->pad_bottom = d->pad_left = d->pad_right = 2;
  check_band(b, 1, 0, 20, projects);
  check_band(b, 2, 20, 0, projects);
  check_band(b, 1, 0, 0, projects);
}

/* Narrow images: few pixels at a time, in steps that depend on where bands begin. */
static void check_narrow(void) {
  for (int i = 0; i < 24; ++i) {
    mrt_band b = {.cin = 40, .cout = 24, .expands = true, .projects = i % 2};
    b.depthwise = (mrt_conv){.cin = 72, .cout = 72, .groups = 72, .kh = 3, .kw = 3};
    mrt_conv *d = &b.depthwise;
    d->dil_h = d->dil_w = 1;
    d->stride_h = d->stride_w = 1 + i / 2 % 2;
    d->pad_top = d->pad_bottom = d->pad_left = d->pad_right = 1;
    if (!b.projects) b.cout = 72;
    check_band(b, 1 + i % 3, 400 + rng_below(100), 1 + i / 4 % 3, false);
  }
}

static void body(void) {
  static const int64_t sizes[] = {1, 2, 5, 7, 8, 13, 14, 15, 16, 28, 30, 33};
  static const int64_t channels[] = {3, 8, 16, 24, 32, 40, 72, 130};
  static const int64_t kernels[] = {3, 3, 5, 7};
  static const mrt_act acts[] = {{0}, {MRT_EW_CLIP, {0, 0.7f}}, {MRT_EW_SILU, {0}}};
  for (int i = 0; i < 160; ++i) {
    const int64_t k = kernels[i % 4], wide = channels[1 + rng_below(7)];
    mrt_band b = {.cin = channels[rng_below(8)],
                  .cout = channels[rng_below(8)],
                  .expands = i % 3 != 0,
                  .projects = i % 3 != 1};
    b.depthwise = (mrt_conv){.cin = wide, .cout = wide, .groups = wide, .kh = k, .kw = k};
    mrt_conv *d = &b.depthwise;
    d->dil_h = d->dil_w = 1;
    d->stride_h = d->stride_w = k == 7 ? 1 : 1 + rng_below(2);
    d->pad_top = rng_below(k), d->pad_bottom = rng_below(k);
    d->pad_left = rng_below(k), d->pad_right = rng_below(k);
    for (int n = 0; n < 3; ++n) b.act[n] = acts[rng_below(3)];
    if (!b.expands) b.cin = wide;
    if (!b.projects) b.cout = wide;
    int64_t h = sizes[rng_below(12)], w = sizes[rng_below(12)];
    if (h + d->pad_top + d->pad_bottom < k) h = k;
    if (w + d->pad_left + d->pad_right < k) w = k;
    b.pairs = rng_below(2);
    check_band(b, 1 + rng_below(2), h, w, b.projects && rng_below(2));
    b.pairs = false;
    if (i % 3 != 2) continue;
    if (i % 5 == 0) d->cin = d->cout = d->groups = 150 + rng_below(150); /* several slices */
    b.tiles = i % 2 ? mrt_conv_split_kernels_get() : &mrt_conv_split_model;
    check_band(b, 1 + rng_below(2), h, w, rng_below(2));
  }
  check_empty(false);
  check_empty(true);
  check_narrow();
  static const float specials[] = {INFINITY, -INFINITY, NAN, 3.4e38f, -3.4e38f};
  for (int i = 0; i < 5; ++i) check_special(specials[i], 1);
  check_special(0, 0x1p-120f);
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"scalar", "avx2", "avx512", NULL};
  return run_per_isa(argv, isas, body);
}
