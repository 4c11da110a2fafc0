/* Row kernels of every instruction set against double, at all tail lengths; NaN and infinities;
 * guard bytes. */
#include "kernels.h"
#include "provider/cpu/rows/rows.h"

typedef struct entry {
  uint32_t isa;
  const mrt_row_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/rows/rows.def"
#undef MRT_KERNEL
};

static int near_to(double got, double want, double scale) {
  return fabs(got - want) <= 2e-6 * (fabs(want) + scale);
}

static void sums(const mrt_row_kernels *k, const float *x, const float *z, int64_t n) {
  double s = 0, sq = 0, ab = 0, dot = 0, top = -INFINITY, low = INFINITY;
  for (int64_t i = 0; i < n; ++i) {
    s += x[i];
    sq += (double)x[i] * x[i];
    ab += fabs((double)x[i]);
    dot += (double)x[i] * z[i];
    top = fmax(top, x[i]);
    low = fmin(low, x[i]);
  }
  CHECK(near_to(k->sum(x, n), s, ab));
  CHECK(near_to(k->sum_square(x, n), sq, 0));
  CHECK(near_to(k->sum_abs(x, n), ab, 0));
  CHECK(near_to(k->dot(x, z, n), dot, ab));
  CHECK(k->max(x, n) == (float)top);
  CHECK(k->min(x, n) == (float)low);
}

static void exponents(const mrt_row_kernels *k, const float *x, const float *mask, int64_t n) {
  guarded g;
  float *y = guarded_floats(&g, n, 4);
  double top = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; ++i) top = fmax(top, 3.0 * x[i] + (mask ? mask[i] : 0));
  for (int64_t i = 0; i < n; ++i) sum += exp(3.0 * x[i] + (mask ? mask[i] : 0) - top);
  const float got = k->exp_sum(y, x, mask, 3.0f, n);
  CHECK(near_to(got, n ? sum : 0, 0));
  int bad = 0;
  for (int64_t i = 0; i < n; ++i)
    bad += !near_to(y[i], exp(3.0 * x[i] + (mask ? mask[i] : 0) - top), 0.1);
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&g));
}

static void norms(const mrt_row_kernels *k, const float *x, const float *gain, const float *bias,
                  int64_t n, bool rms) {
  guarded g;
  float *y = guarded_floats(&g, n, 8), mean, inv;
  const mrt_row_norm r = {.n = n, .eps = 1e-5f, .rms = rms, .gain = gain, .bias = bias};
  double m = 0, v = 0;
  for (int64_t i = 0; i < n && !rms; ++i) m += (double)x[i] / (double)n;
  for (int64_t i = 0; i < n; ++i) v += (x[i] - m) * (x[i] - m) / (double)n;
  const double s = 1 / sqrt(v + 1e-5);
  k->norm(&r, y, x, &mean, &inv);
  if (n) CHECK(near_to(mean, m, 1) && near_to(inv, s, 1));
  int bad = 0;
  for (int64_t i = 0; i < n; ++i)
    bad += !near_to(y[i], (x[i] - m) * s * (gain ? gain[i] : 1) + (bias ? bias[i] : 0), s);
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&g));
}

static void updates(const mrt_row_kernels *k, const float *x, int64_t n) {
  guarded g;
  float *y = guarded_floats(&g, n, 0), old[512];
  memcpy(old, y, (size_t)n * sizeof *y);
  k->axpy(y, 0.75f, x, n);
  int bad = 0;
  for (int64_t i = 0; i < n; ++i) bad += !near_to(y[i], old[i] + 0.75 * x[i], 1);
  k->scale(y, x, -2.0f, n);
  for (int64_t i = 0; i < n; ++i) bad += y[i] != -2.0f * x[i];
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&g));
}

/* At every place in a vector; nothing beside it is written. */
static void copies(const mrt_row_kernels *k, const float *x, int64_t n) {
  for (int64_t at = 0; at < 17; ++at) {
    guarded g;
    float *y = guarded_floats(&g, n + at, 0);
    for (int64_t i = 0; i < at; ++i) y[i] = -1;
    k->copy_around(y + at, x, n);
    int bad = memcmp(y + at, x, (size_t)n * sizeof *y) != 0;
    for (int64_t i = 0; i < at; ++i) bad += y[i] != -1;
    CHECK_EQ_I(bad, 0);
    CHECK(guarded_done(&g));
  }
}

static void specials(const mrt_row_kernels *k) {
  float x[40], y[40];
  for (int at = 0; at < 40; ++at) {
    for (int i = 0; i < 40; ++i) x[i] = (float)i;
    x[at] = NAN;
    CHECK(isnan(k->max(x, 40)) && isnan(k->min(x, 40)) && isnan(k->exp_sum(y, x, NULL, 1, 40)));
    x[at] = -INFINITY; /* a masked entry weighs nothing */
    CHECK(isfinite(k->exp_sum(y, x, NULL, 1, 40)) && y[at] == 0.0f);
    CHECK(k->min(x, 40) == -INFINITY);
  }
  for (int i = 0; i < 40; ++i) x[i] = -INFINITY;
  CHECK(isnan(k->exp_sum(y, x, NULL, 1, 40)));
  CHECK(k->max(x, 0) == -INFINITY && k->min(x, 0) == INFINITY && k->sum(x, 0) == 0.0f);
}

int main(void) {
  const uint32_t have = mrt_cpu_get()->detected;
  float x[512], a[512], b[512];
  for (size_t e = 0; e < sizeof entries / sizeof *entries; ++e) {
    if ((have & entries[e].isa) != entries[e].isa) continue;
    const mrt_row_kernels *k = entries[e].kern;
    for (int64_t n = 0; n < 300; n += n < 140 ? 1 : 37) {
      for (int64_t i = 0; i < n; ++i) {
        x[i] = 4 * rng_float() + 1;
        a[i] = rng_float();
        b[i] = rng_float();
      }
      sums(k, x, a, n);
      exponents(k, x, NULL, n);
      exponents(k, x, b, n);
      norms(k, x, a, b, n, false);
      norms(k, x, NULL, NULL, n, false);
      norms(k, x, a, NULL, n, true);
      updates(k, x, n);
      copies(k, x, n);
    }
    specials(k);
  }
  CHECK(mrt_row_kernels_get() != NULL);
  return CHECK_DONE();
}
