/* 3x3 convolution by Winograd (conv_winograd.c, winograd_simd.inl) against plain loops in double.
 * The bound is that of direct summation, taken against the largest sum |x w| of a tile of 2x2
 * (4x4: four times that) outputs. Infinities and NaN must come out where direct summation gives
 * them, and nowhere else. */
#include "kernels.h"
#include "provider/cpu/conv/conv_kernel.h"

typedef struct problem {
  mrt_conv p;
  int64_t n, h, w, oh, ow;
  float *x, *weights, *in, *res, *out, *bias;
  guarded gx, gw, gin, gr, gout, gb, gp;
  int form; /* 2 or 4 */
  int kind; /* 1 bias, 2 residual (in place), 4 relu, 8 silu */
} problem;

static int64_t c16_at(int64_t c, int64_t area, int64_t im, int64_t ch, int64_t x) {
  return ((im * mrt_c16_blocks(c) + ch / 16) * area + x) * 16 + ch % 16;
}

static double one_sum(const problem *q, int64_t im, int64_t o, int64_t oy, int64_t ox,
                      double *mass) {
  double sum = 0;
  *mass = 0;
  for (int64_t c = 0; c < q->p.cin; ++c)
    for (int k = 0; k < 9; ++k) {
      const int64_t y = oy - q->p.pad_top + k / 3, x = ox - q->p.pad_left + k % 3;
      if (y < 0 || y >= q->h || x < 0 || x >= q->w) continue;
      const double v = (double)q->x[((im * q->p.cin + c) * q->h + y) * q->w + x] *
                       q->weights[(o * q->p.cin + c) * 9 + k];
      sum += v;
      *mass += fabs(v);
    }
  return sum;
}

static void make(problem *q) {
  const int64_t area = q->h * q->w;
  q->oh = mrt_conv_out(q->h, 3, 1, 1, q->p.pad_top, q->p.pad_bottom);
  q->ow = mrt_conv_out(q->w, 3, 1, 1, q->p.pad_left, q->p.pad_right);
  q->x = guarded_floats(&q->gx, q->n * q->p.cin * area, 0);
  q->weights = guarded_floats(&q->gw, q->p.cout * q->p.cin * 9, 4);
  q->in = guarded_floats(&q->gin, mrt_c16_size(q->n, q->p.cin, q->h, q->w), 0);
  q->res = guarded_floats(&q->gr, mrt_c16_size(q->n, q->p.cout, q->oh, q->ow), 0);
  q->out = guarded_floats(&q->gout, mrt_c16_size(q->n, q->p.cout, q->oh, q->ow), 0);
  q->bias = guarded_floats(&q->gb, q->p.cout, 4);
}

static void spread(problem *q) { /* plain to c16, NaN in the spare lanes */
  const int64_t area = q->h * q->w;
  for (int64_t i = 0; i < mrt_c16_size(q->n, q->p.cin, q->h, q->w); ++i) q->in[i] = NAN;
  for (int64_t i = 0; i < q->n * q->p.cin * area; ++i)
    q->in[c16_at(q->p.cin, area, i / area / q->p.cin, i / area % q->p.cin, i % area)] = q->x[i];
}

static void run(problem *q, int threads, float *out) {
  const mrt_par par = {.threads = threads};
  guarded gp = guarded_new(mrt_conv_packed_size(&q->p), 0),
          gs = guarded_new(mrt_conv_scratch_size(&par, &q->p, q->h, q->w), 0);
  mrt_conv_pack(&par, &q->p, q->weights, (float *)gp.data);
  memcpy(out, q->res, (size_t)mrt_c16_size(q->n, q->p.cout, q->oh, q->ow) * 4);
  mrt_conv_args a = {.n = q->n,
                     .h = q->h,
                     .w = q->w,
                     .input = q->in,
                     .weights = (float *)gp.data,
                     .bias = q->kind & 1 ? q->bias : NULL,
                     .residual = q->kind & 2 ? out : NULL,
                     .output = out};
  if (q->kind & 4) a.act.op = MRT_EW_RELU;
  if (q->kind & 8) a.act.op = MRT_EW_SILU;
  mrt_conv_run(&par, &q->p, &a, gs.data);
  CHECK(guarded_done(&gp) && guarded_done(&gs));
}

static bool right(const problem *q, float got, double sum, double bias, double residual,
                  double mass) {
  double y = sum + (q->kind & 1 ? bias : 0) + (q->kind & 2 ? residual : 0);
  if (q->kind & 4) y = isnan(y) ? y : fmax(y, 0);
  if (q->kind & 8) y = y / (1 + exp(-y));
  if (isnan(y)) return isnan(got);
  if (isinf(y)) return (double)got == y;
  const double loops = q->form == 4 ? 4 : 1;
  return fabs(got - y) <= loops * 6e-8 * (8 + 0.5 * (double)(q->p.cin * 9)) * (mass + 1);
}

/* Of one plane of outputs: the sums, and for each the largest mass of its tile. */
static void plane_of(const problem *q, int64_t im, int64_t o, double *sums, double *most) {
  const int64_t area = q->oh * q->ow, f = q->form;
  double *mass = calloc((size_t)area, sizeof *mass);
  for (int64_t t = 0; t < area; ++t) sums[t] = one_sum(q, im, o, t / q->ow, t % q->ow, &mass[t]);
  for (int64_t t = 0; t < area; ++t) {
    const int64_t y0 = t / q->ow / f * f, x0 = t % q->ow / f * f;
    most[t] = mass[t];
    for (int64_t y = y0; y < y0 + f && y < q->oh; ++y)
      for (int64_t x = x0; x < x0 + f && x < q->ow; ++x) {
        const double m = mass[y * q->ow + x];
        if (isfinite(m) && m > most[t]) most[t] = m;
      }
  }
  free(mass);
}

static void check(problem *q) {
  const int64_t area = q->oh * q->ow, size = mrt_c16_size(q->n, q->p.cout, q->oh, q->ow);
  guarded g2;
  float *out2 = guarded_floats(&g2, size, 0);
  double *sums = calloc((size_t)area * 2, sizeof *sums), *most = sums + area;
  spread(q);
  CHECK(mrt_conv_winograd_ok(&q->p, q->weights));
  q->p.winograd = q->form;
  run(q, 0, q->out);
  run(q, 1, out2);
  int64_t bad = 0;
  for (int64_t im = 0; im < q->n; ++im)
    for (int64_t o = 0; o < q->p.cout; ++o) {
      plane_of(q, im, o, sums, most);
      for (int64_t t = 0; t < area; ++t) {
        const int64_t at = c16_at(q->p.cout, area, im, o, t);
        bad += !right(q, q->out[at], sums[t], q->bias[o], q->res[at], most[t]);
        bad += memcmp(&q->out[at], &out2[at], 4) != 0 && !isnan(out2[at]);
      }
    }
  if (bad)
    fprintf(stderr, "winograd %dx%d %lldx%lldx%lld c %lld>%lld pad %lld,%lld kind %d: %lld wrong\n",
            q->form, q->form, (long long)q->n, (long long)q->h, (long long)q->w,
            (long long)q->p.cin, (long long)q->p.cout, (long long)q->p.pad_top,
            (long long)q->p.pad_left, q->kind, (long long)bad);
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&g2));
  free(sums);
}

static void done(problem *q) {
  CHECK(guarded_done(&q->gx) && guarded_done(&q->gw) && guarded_done(&q->gin));
  CHECK(guarded_done(&q->gr) && guarded_done(&q->gout) && guarded_done(&q->gb));
}

static problem random_problem(int i, int form) {
  static const int64_t channels[] = {16, 24, 31, 32, 48, 64, 100};
  problem q = {.n = 1 + rng_below(2),
               .h = 1 + rng_below(20),
               .w = 1 + rng_below(20),
               .kind = i % 12,
               .form = form};
  q.p = (mrt_conv){.cin = channels[rng_below(7)],
                   .cout = channels[rng_below(7)],
                   .groups = 1,
                   .kh = 3,
                   .kw = 3,
                   .stride_h = 1,
                   .stride_w = 1,
                   .dil_h = 1,
                   .dil_w = 1,
                   .pad_top = rng_below(3),
                   .pad_left = rng_below(3),
                   .pad_bottom = rng_below(3),
                   .pad_right = rng_below(3)};
  if (q.h + q.p.pad_top + q.p.pad_bottom < 3) q.h = 3;
  if (q.w + q.p.pad_left + q.p.pad_right < 3) q.w = 3;
  return q;
}

static void test_shapes(int form) {
  for (int i = 0; i < 36; ++i) {
    problem q = random_problem(i, form);
    make(&q);
    check(&q);
    done(&q);
  }
  problem q = random_problem(5, form); /* several bands, shared and not */
  q.n = 1, q.h = 40, q.w = 60, q.p.cin = 128, q.p.cout = 32;
  make(&q);
  check(&q);
  done(&q);
}

static void test_not_finite(int form) {
  static const float odd[] = {INFINITY, -INFINITY, NAN, 2e38f, -2e38f};
  for (int i = 0; i < 25; ++i) {
    problem q = random_problem(i, form);
    make(&q);
    for (int k = 0; k <= (i % 5 < 3 ? i % 4 : 0); ++k)
      q.x[rng_below(q.n * q.p.cin * q.h * q.w)] = odd[(i % 5 + (k ? k % 3 : 0)) % (k ? 3 : 5)];
    if (i % 2) /* in place, and not only a few */
      q.kind |= 2;
    check(&q);
    done(&q);
  }
}

static void test_refusals(void) {
  mrt_conv p = random_problem(0, 2).p;
  float *w = calloc((size_t)(p.cin * p.cout * 9), 4);
  CHECK(mrt_conv_winograd_ok(&p, w));
  w[7] = INFINITY;
  CHECK(!mrt_conv_winograd_ok(&p, w));
  w[7] = 0;
  p.stride_w = 2;
  CHECK(!mrt_conv_winograd_ok(&p, w));
  free(w);
}

static void body(void) {
  for (int form = 2; form <= 4; form += 2) {
    test_shapes(form);
    test_not_finite(form);
  }
  test_refusals();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
