/* Point-wise functions: the scalar table against libm in double, every other table against the
 * scalar one at all tail lengths, special values, guard bytes; then programs over broadcast,
 * strided and in-place arrays against a plain loop. */
#include "kernels.h"
#include "provider/cpu/elementwise/elementwise.h"
#include "provider/cpu/elementwise/elementwise_kernel.h"

typedef struct entry {
  uint32_t isa;
  const mrt_ew_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/elementwise/elementwise.def"
#undef MRT_KERNEL
};

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* The exact value where it is not just arithmetic; *slack is an absolute error that the formula's
 * own float steps excuse: cancellation in 1 + erf, a sigmoid in the denormal range times a. */
static int exact(mrt_ew_op op, double a, const float *p, double *y, double *slack) {
  *slack = 0;
  switch (op) {
    case MRT_EW_SIGMOID: *y = sigmoid(a); return 1;
    case MRT_EW_TANH: *y = tanh(a); return 1;
    case MRT_EW_GELU:
      *y = 0.5 * a * (1 + erf(a * 0.70710678118654752));
      *slack = 1.5e-7 * fabs(a);
      return 1;
    case MRT_EW_GELU_TANH:
      *y = a * sigmoid(1.5957691216057308 * (a + 0.044715 * a * a * a));
      *slack = 1e-6 * fabs(*y) * fabs(a * a * a) + 1.2e-38 * fabs(a);
      return 1;
    case MRT_EW_QUICK_GELU:
      *y = a * sigmoid((double)p[0] * a);
      *slack = 2e-7 * fabs(a * *y) + 1.2e-38 * fabs(a);
      return 1;
    case MRT_EW_SILU:
      *y = a * sigmoid(a);
      *slack = 1.2e-38 * fabs(a);
      return 1;
    case MRT_EW_SOFTPLUS: *y = fmax(a, 0) + log1p(exp(-fabs(a))); return 1;
    case MRT_EW_MISH: *y = a * tanh(log1p(exp(a))); return 1;
    case MRT_EW_ELU: *y = a < 0 ? p[0] * expm1(a) : a; return 1;
    case MRT_EW_EXP: *y = exp(a); return 1;
    case MRT_EW_EXPM1: *y = expm1(a); return 1;
    case MRT_EW_LOG: *y = log(a); return 1;
    case MRT_EW_LOG1P: *y = log1p(a); return 1;
    case MRT_EW_ERF: *y = erf(a); return 1;
    case MRT_EW_SIN:
      *y = sin(a);
      *slack = 1e-7;
      return fabs(a) < 5000;
    case MRT_EW_COS:
      *y = cos(a);
      *slack = 1e-7;
      return fabs(a) < 5000;
    case MRT_EW_SQRT: *y = sqrt(a); return 1;
    case MRT_EW_RSQRT: *y = 1 / sqrt(a); return 1;
    default: return 0;
  }
}

static int near(double got, double want, double slack) {
  if (isnan(want)) return isnan(got);
  if (isinf((float)want)) return got == (float)want || (isinf(want) ? 0 : got > 3.40e38);
  return fabs(got - want) <= 1e-6 * fabs(want) + slack + 1.2e-38; /* below: denormals may be lost */
}

static const float special[] = {0.0f,   -0.0f,   1.0f,   -1.0f,       INFINITY,   -INFINITY, NAN,
                                1e-40f, -1e-40f, 1e-20f, 3e38f,       -3e38f,     88.72f,    88.73f,
                                89.5f,  -87.3f,  -88.0f, -103.9f,     -110.0f,    0.5f,      1.5f,
                                2.5f,   -0.5f,   -1.5f,  16777216.0f, 4.0f,       -4.0f,     10.0f,
                                -10.0f, 20.0f,   9.01f,  1.0000001f,  0.99999994f};
enum { SPECIALS = sizeof special / sizeof *special };

static void test_accuracy(const mrt_ew_kernels *kern) {
  enum { N = 20000 + SPECIALS };
  static float x[N], y[N];
  static const float p[2] = {0.7f, 0.3f};
  for (int i = 0; i < N; ++i)
    x[i] = i < SPECIALS ? special[i]
                        : rng_float() * (i % 3 == 0   ? 100.0f
                                         : i % 3 == 1 ? 10.0f
                                                      : 1.5f);
  for (int op = 0; op < MRT_EW_OP_COUNT; ++op) {
    double want, slack;
    if (!exact(op, 1.0, p, &want, &slack)) continue;
    kern->fn[op](y, x, NULL, NULL, p, N);
    int bad = 0;
    for (int i = 0; i < N; ++i) {
      if (!exact(op, x[i], p, &want, &slack) || near(y[i], want, slack)) continue;
      /* At infinities some of the formulas above are inf * 0; the float formula may differ. */
      if (isinf(x[i]) && isnan(want)) continue;
      if (bad++ < 3)
        fprintf(stderr, "%s %s(%.9g) = %.9g, not %.9g\n", kern->name, mrt_ew_op_name(op), x[i],
                y[i], want);
    }
    CHECK_EQ_I(bad, 0);
  }
}

/* Every 4099th float: what the rational functions promise, and where they saturate. */
static void test_bounds(const mrt_ew_kernels *kern) {
  static const mrt_ew_op fns[] = {MRT_EW_SIGMOID, MRT_EW_TANH, MRT_EW_ERF, MRT_EW_GELU};
  enum { N = 4096 };
  static float x[N], y[N];
  for (int k = 0; k < 4; ++k) {
    double worst = 0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
      int n = 0;
      for (; n < N && bits < (uint64_t)1 << 32; bits += 4099) {
        const uint32_t b = (uint32_t)bits;
        memcpy(&x[n], &b, 4);
        n += !isnan(x[n]) && !isinf(x[n]);
      }
      kern->fn[fns[k]](y, x, NULL, NULL, NULL, n);
      for (int i = 0; i < n; ++i) {
        const double a = x[i], half = 0.70710678118654752;
        const double want = k == 0   ? sigmoid(a)
                            : k == 1 ? tanh(a)
                            : k == 2 ? erf(a)
                                     : 0.5 * a * erfc(-a * half);
        const double e = fabs(y[i] - want) - 1.2e-38; /* GELU: of a, it cancels below 0 */
        if (e > 0) worst = fmax(worst, e / fabs(k == 3 ? 2 * a : want));
        if (k < 3) CHECK(fabsf(y[i]) <= 1.0f);
        if (k == 3 && fabsf(x[i]) > 6) CHECK(y[i] == (x[i] > 0 ? x[i] : 0.0f));
      }
    }
    if (worst >= 4e-7) fprintf(stderr, "%s %s: %g\n", kern->name, mrt_ew_op_name(fns[k]), worst);
    CHECK(worst < 4e-7);
  }
}

/* Two functions of one instruction agree to a few ulp, and to the kind of special value. */
static int alike(float a, float b) {
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
  if (isinf(a) || isinf(b)) return a == b || (fabsf(a) > 3.40e38f && fabsf(b) > 3.40e38f);
  return fabsf(a - b) <= 2e-6f * fabsf(b) + 3e-7f * (fabsf(b) < 1.0f) + 1.2e-38f;
}

static void test_table(const mrt_ew_kernels *kern) {
  static const float p[2] = {0.2f, 0.6f};
  for (int op = 0; op < MRT_EW_OP_COUNT; ++op)
    for (int n = 0; n <= 70; ++n)
      for (int kind = 0; kind < 3; ++kind) {
        guarded g[5];
        float *v[5];
        for (int i = 0; i < 5; ++i) v[i] = guarded_floats(&g[i], n, (size_t)(4 * (n % 5)));
        for (int i = 0; i < n; ++i)
          for (int k = 0; k < 3; ++k)
            v[k][i] = kind == 0   ? v[k][i] * 3
                      : kind == 1 ? floorf(v[k][i] * 3)
                                  : special[rng() % SPECIALS];
        const int big = op == MRT_EW_SIN || op == MRT_EW_COS;
        for (int i = 0; i < n && big; ++i)
          if (fabsf(v[0][i]) > 5000) v[0][i] = 1;
        kern->fn[op](v[3], v[0], v[1], v[2], p, n);
        mrt_ew_f32_scalar.fn[op](v[4], v[0], v[1], v[2], p, n);
        for (int i = 0; i < n; ++i) {
          const int special_fma = kind == 2 && (op == MRT_EW_FMA || op == MRT_EW_GELU_TANH);
          const int tail = op == MRT_EW_GELU && /* both lose 1.5e-7 a to cancellation */
                           fabsf(v[3][i] - v[4][i]) <= 3e-7f * fabsf(v[0][i]);
          if (alike(v[3][i], v[4][i]) || special_fma || tail) continue;
          ++check_failures;
          fprintf(stderr, "%s %s(%g, %g, %g) = %.9g, scalar %.9g\n", kern->name, mrt_ew_op_name(op),
                  v[0][i], v[1][i], v[2][i], v[3][i], v[4][i]);
        }
        for (int i = 0; i < 5; ++i) CHECK(guarded_done(&g[i]));
      }
}

/* y0 = silu(a + b) * c, y1 = a + b, over [d0, d1, d2]; which strides are 0 is given by masks. */
static void check_program(const int64_t *d, unsigned mask_b, unsigned mask_c, bool in_place,
                          int threads) {
  static const mrt_ew_instr instrs[] = {
      {MRT_EW_ADD, 3, 0, 1}, {MRT_EW_SILU, 4, 3}, {MRT_EW_MUL, 4, 4, 2}};
  const mrt_ew_program prog = {instrs, 3, 3, 2, {4, 3}};
  CHECK_OK(mrt_ew_program_check(&prog));
  const mrt_par par = {.threads = threads};
  const int64_t n = d[0] * d[1] * d[2];
  guarded ga, gb, gc, g0, g1;
  float *a = guarded_floats(&ga, n, 4), *b = guarded_floats(&gb, n, 4),
        *c = guarded_floats(&gc, 2 * n, 4);
  float *y0 = guarded_floats(&g0, n, 4), *y1 = guarded_floats(&g1, n, 4);
  float *want0 = malloc((size_t)n * 8 + 8), *want1 = want0 + n;
  mrt_ew_array io[5] = {{a}, {b}, {c}, {in_place ? a : y0}, {y1}};
  int64_t step = 1;
  for (int k = 2; k >= 0; --k) {
    for (int i = 0; i < 5; ++i) io[i].strides[k] = step;
    if (mask_b >> k & 1) io[1].strides[k] = 0;
    io[2].strides[k] = mask_c >> k & 1 ? 0 : 2 * step; /* c: every second element */
    step *= d[k];
  }
  for (int64_t x = 0; x < n; ++x) {
    const int64_t i[3] = {x / (d[1] * d[2]), x / d[2] % d[1], x % d[2]};
    int64_t ob = 0, oc = 0;
    for (int k = 0; k < 3; ++k) ob += i[k] * io[1].strides[k], oc += i[k] * io[2].strides[k];
    want1[x] = a[x] + b[ob];
    want0[x] = want1[x] / (1 + expf(-want1[x])) * c[oc];
  }
  void *scratch = aligned_alloc(64, mrt_ew_scratch_size(&par, &prog));
  mrt_ew_run(&par, &prog, 3, d, io, scratch);
  int bad = 0;
  for (int64_t x = 0; x < n; ++x) bad += !alike(io[3].data[x], want0[x]) || !alike(y1[x], want1[x]);
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gc) && guarded_done(&g0) &&
        guarded_done(&g1));
  free(want0);
  free(scratch);
}

/* In place while the input is read again after the output was written. */
static void test_hazard(void) {
  static const mrt_ew_instr instrs[] = {{MRT_EW_NEG, 1, 0}, {MRT_EW_MUL, 2, 0, 1}};
  const mrt_ew_program prog = {instrs, 2, 1, 3, {1, 2, 0}};
  const mrt_par par = {.threads = 1};
  CHECK_OK(mrt_ew_program_check(&prog));
  float a[100], y[100], z[100];
  for (int i = 0; i < 100; ++i) a[i] = (float)i;
  const mrt_ew_array io[4] = {{a, {1}}, {a, {1}}, {y, {1}}, {z, {1}}};
  const int64_t dims[1] = {100};
  void *scratch = aligned_alloc(64, mrt_ew_scratch_size(&par, &prog));
  mrt_ew_run(&par, &prog, 1, dims, io, scratch);
  for (int i = 0; i < 100; ++i)
    CHECK(a[i] == (float)-i && y[i] == (float)(-i * i) && z[i] == (float)i);
  free(scratch);
}

static void test_check(void) {
  mrt_ew_instr bad = {MRT_EW_ADD, 1, 0, 5};
  const mrt_ew_program p = {&bad, 1, 1, 1, {1}};
  mrt_status *st = mrt_ew_program_check(&p);
  CHECK_EQ_I(mrt_status_code(st), MRT_INVALID_ARGUMENT);
  mrt_status_free(st);
  bad = (mrt_ew_instr){MRT_EW_NEG, 0, 0};
  st = mrt_ew_program_check(&p);
  CHECK_EQ_I(mrt_status_code(st), MRT_INVALID_ARGUMENT);
  mrt_status_free(st);
}

static void body(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i) {
    if ((have & entries[i].isa) != entries[i].isa) continue;
    test_accuracy(entries[i].kern);
    test_bounds(entries[i].kern);
    test_table(entries[i].kern);
  }
  static const int64_t dims[][3] = {{1, 1, 1},    {1, 1, 1000}, {3, 5, 7},   {2, 3, 600},
                                    {4, 100, 16}, {7, 1, 63},   {2, 65, 64}, {40, 1, 1},
                                    {5, 49, 33},  {3, 300, 129}};
  for (size_t i = 0; i < sizeof dims / sizeof *dims; ++i)
    for (unsigned m = 0; m < 64; ++m) check_program(dims[i], m & 7, m >> 3, m & 1, (int)(m & 2));
  test_hazard();
  test_check();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
