/* Integer GEMM: exact integers from every entry of qgemm.def (whole products against a plain loop
 * in 64 bits, all zero points and signs), float and requantized results, quantization of arrays. */
#include "kernels.h"
#include "provider/cpu/qgemm/qgemm.h"
#include "provider/cpu/qgemm/qgemm_kernel.h"
#include "provider/cpu/qgemm/qwide.h"

/* Kinds 8 to 10: the zero point is the lowest number, where sums may start high (MRT_QSHIFT).
 * Exactly the sum as a float times the factor, rounded. */
static int lowest_result(const mrt_qgemm_epilogue *e, int32_t sum, float scale) {
  const float unit = 1.0f / e->out_scale;
  float v = (float)sum * (scale * unit);
  v = fminf(fmaxf(v, 0), 255);
  if (e->act.op == MRT_EW_CLIP)
    v = fminf(fmaxf(v, e->act.p[0] / e->out_scale), e->act.p[1] / e->out_scale);
  return (int)rintf(v);
}

/* as, bs: signed; zeros: 0 none, 1 of A, 2 of B too, 3 per column. */
static void check_product(int64_t m, int64_t n, int64_t k, bool as, bool bs, bool trans, int zeros,
                          int extreme) {
  const mrt_par all = {.threads = 0};
  const int64_t lda = k + 1, ldb = (trans ? k : n) + 2, ldc = n + 3;
  guarded ga = guarded_new((size_t)(m * lda + 1), 1),
          gb = guarded_new((size_t)((trans ? n : k) * ldb + 1), 3);
  guarded gp = guarded_new(mrt_qgemm_packed_size(n, k), 0),
          gs = guarded_new(mrt_qgemm_scratch_size(&all, m, n, k), 0);
  for (size_t i = 0; i < ga.bytes; ++i) ga.data[i] = extreme ? (as ? 0x80 : 0xff) : (uint8_t)rng();
  for (size_t i = 0; i < gb.bytes; ++i) gb.data[i] = extreme ? (bs ? 0x80 : 0xff) : (uint8_t)rng();
  int32_t *bzero = malloc((size_t)n * 8 + 8), *bias = bzero + n;
  for (int64_t i = 0; i < n; ++i)
    bzero[i] = (int32_t)rng_below(100) - (bs ? 50 : 0), bias[i] = (int32_t)rng_below(999);
  float *scale = malloc((size_t)n * 8 + 8), *fbias = scale + n;
  for (int64_t i = 0; i < n; ++i) scale[i] = 1e-4f * (1.5f + rng_float()), fbias[i] = rng_float();
  mrt_qgemm_pack_b(&all, gb.data, bs, ldb, trans, k, n, gp.data);
  int32_t *want = malloc((size_t)(m * n) * 4 + 4);
  const int32_t za = zeros ? (as ? -7 : 121) : 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      int64_t s = 0;
      const int32_t zb = zeros == 2 ? bzero[0] : zeros == 3 ? bzero[j] : 0;
      for (int64_t q = 0; q < k; ++q) {
        const uint8_t x = ga.data[i * lda + q], y = gb.data[trans ? j * ldb + q : q * ldb + j];
        s += ((as ? (int8_t)x : x) - za) * ((bs ? (int8_t)y : y) - zb);
      }
      want[i * n + j] = (int32_t)s + bias[j];
    }
  mrt_qgemm g = {m,          n,    k,   ga.data, lda, as, za, gp.data, zeros >= 2 ? bzero : NULL,
                 zeros == 3, NULL, ldc, NULL};
  for (int kind = 0; kind < 11; ++kind) {
    mrt_qgemm_epilogue e = {.out = kind < 4    ? (mrt_q_out)kind
                                   : kind < 6  ? MRT_Q_U8
                                   : kind < 8  ? MRT_Q_F32
                                   : kind == 9 ? MRT_Q_S8
                                               : MRT_Q_U8,
                            .bias_s32 = bias,
                            .scale = scale,
                            .scale_per_col = kind % 2,
                            .bias = kind == 2 || kind == 6 ? fbias : NULL,
                            .out_scale = 0.05f,
                            .out_zero = kind == 3   ? -3
                                        : kind < 8  ? 11
                                        : kind == 9 ? -128
                                                    : 0};
    if (kind == 4 || kind == 7) e.act.op = MRT_EW_RELU;
    if (kind == 5 || kind == 6) e.act.op = MRT_EW_SILU;
    if (kind == 10) e.act = (mrt_act){MRT_EW_CLIP, {0.31f, 6.2f}};
    const size_t es = e.out == MRT_Q_S32 || e.out == MRT_Q_F32 ? 4 : 1;
    guarded gc = guarded_new((size_t)(m * ldc) * es, es);
    memset(gc.data, 0x5a, gc.bytes);
    g.c = gc.data, g.epi = &e;
    mrt_qgemm_run(&all, &g, bs, gs.data);
    int64_t bad = 0;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < ldc; ++j) {
        const int64_t at = i * ldc + j;
        if (j >= n) {
          for (size_t q = 0; q < es; ++q) bad += gc.data[(size_t)at * es + q] != 0x5a;
          continue;
        }
        double v =
            (double)want[i * n + j] * scale[e.scale_per_col ? j : 0] + (e.bias ? fbias[j] : 0);
        if (e.act.op == MRT_EW_RELU) v = fmax(v, 0);
        if (e.act.op == MRT_EW_SILU) v = v / (1 + exp(-v));
        double q = fmin(fmax(v / e.out_scale + e.out_zero, e.out == MRT_Q_S8 ? -128 : 0),
                        e.out == MRT_Q_S8 ? 127 : 255);
        if (kind >= 8)
          bad += (uint8_t)(gc.data[at] - e.out_zero) !=
                 lowest_result(&e, want[i * n + j], scale[e.scale_per_col ? j : 0]);
        else if (e.out == MRT_Q_S32)
          bad += ((int32_t *)gc.data)[at] != want[i * n + j];
        else if (e.out == MRT_Q_F32)
          bad += !(fabs(((float *)gc.data)[at] - v) <= 1e-6 + 1e-5 * fabs(v));
        else if (e.out == MRT_Q_S8)
          bad += fabs((int8_t)gc.data[at] - q) > 0.501;
        else
          bad += fabs(gc.data[at] - q) > 0.501;
      }
    if (bad)
      fprintf(stderr, "%lldx%lldx%lld as %d bs %d trans %d zeros %d kind %d: %lld wrong\n",
              (long long)m, (long long)n, (long long)k, as, bs, trans, zeros, kind, (long long)bad);
    CHECK_EQ_I(bad, 0);
    CHECK(guarded_done(&gc));
  }
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gp) && guarded_done(&gs));
  free(bzero), free(scale), free(want);
}

static void test_arrays(void) {
  const mrt_par all = {.threads = 0};
  for (int n = 0; n < 70; ++n)
    for (int s = 0; s < 2; ++s) {
      guarded gx, gq, gy;
      float *x = guarded_floats(&gx, n, 4), *y = guarded_floats(&gy, n, 4);
      gq = guarded_new((size_t)n, 1);
      for (int i = 0; i < n; ++i) x[i] = i % 9 == 8 ? (i % 2 ? 1e30f : NAN) : x[i] * 20;
      const int32_t zero = s ? -5 : 100;
      mrt_quantize_u8(&all, x, n, 0.1f, zero, s, gq.data);
      mrt_dequantize_u8(&all, gq.data, n, 0.1f, zero, s, y);
      for (int i = 0; i < n; ++i) {
        const int q = s ? (int8_t)gq.data[i] : gq.data[i];
        const float v = isnan(x[i]) ? -1e9f : x[i] / 0.1f;
        const float want =
            fminf(fmaxf(rintf(fminf(v, 1e6f)) + (float)zero, s ? -128 : 0), s ? 127 : 255);
        CHECK_EQ_I(q, (int)want);
        CHECK(y[i] == (float)(q - zero) * 0.1f);
      }
      float lo, hi, wl = 0, wh = 0;
      mrt_quantize_range(&all, x, n, &lo, &hi);
      for (int i = 0; i < n; ++i) wl = x[i] < wl ? x[i] : wl, wh = x[i] > wh ? x[i] : wh;
      CHECK(lo == wl && hi == wh);
      CHECK(guarded_done(&gx) && guarded_done(&gq) && guarded_done(&gy));
    }
}

extern const mrt_qgemm_kernels mrt_qgemm_model;

/* Kernels for tiles of AMX, on their model: the same integers wherever this runs. */
static void test_model(void) {
  mrt_qgemm_kernels_set(&mrt_qgemm_model);
  static const int64_t sizes[] = {1, 3, 15, 16, 17, 31, 33, 64, 65, 130};
  for (int i = 0; i < 40; ++i)
    check_product(sizes[rng_below(8)], sizes[rng_below(8)], sizes[rng_below(10)], rng() & 1,
                  rng() & 1, rng() & 1, (int)rng_below(4), i % 10 == 0);
  mrt_qgemm_kernels_set(NULL);
}

/* An image without rows has no byte that may be read: all that is filtered is padding. windows: the
 * expansion reads 3 x 3 pixels, and makes two rows of padding. */
static void check_no_rows(bool windows) {
  enum { K = 16, WIDE = 32, W = 40, ROWS = 2 };
  mrt_qconv expand = mrt_qconv_pointwise(1, windows ? 3 : K, WIDE),
            depth = mrt_qconv_pointwise(WIDE, 1, WIDE);
  depth.kh = depth.kw = 3, depth.pad_top = depth.pad_left = 2;
  if (windows) expand.kh = expand.kw = 3, expand.pad_top = 2, expand.pad_left = 1;
  mrt_qconv_plan(&expand, NULL);
  mrt_qconv_plan(&depth, NULL);
  if (!mrt_qwide_fits(&expand, &depth)) return;
  mrt_qfold fold;
  mrt_qfold_init(&fold, 3, 3, 0);
  guarded tables = guarded_new(mrt_qwide_tables_size(&expand), 0),
          space = guarded_new((size_t)mrt_qwide_space(&expand, &depth, W, W, W, ROWS), 0),
          out = guarded_new(ROWS * W * WIDE, 0);
  memset(tables.data, 0, tables.bytes);
  memset(space.data, 1, space.bytes);
  const mrt_qwide q = {.expand = &expand,
                       .depth = &depth,
                       .wide = WIDE,
                       .tables = tables.data,
                       .xw = W,
                       .h = windows ? 2 : 0,
                       .w = W,
                       .ow = W,
                       .fold = windows ? &fold : NULL,
                       .zero = {7, 9},
                       .hi = {255, 255},
                       .space = space.data};
  mrt_qwide_begin(&q, 0);
  mrt_qwide_run(&q, 0, ROWS, out.data);
  for (size_t i = 0; i < out.bytes; ++i) CHECK_EQ_I(out.data[i], 9); /* weights and sums are 0 */
  CHECK(guarded_done(&tables) && guarded_done(&space) && guarded_done(&out));
}

static void body(void) {
  check_no_rows(false);
  check_no_rows(true);
  test_model();
  static const int64_t sizes[] = {1, 2, 3, 5, 7, 13, 14, 15, 16, 17, 31, 32, 33, 47, 64, 65};
  for (int i = 0; i < 500; ++i)
    check_product(sizes[rng_below(16)], sizes[rng_below(16)], sizes[rng_below(16)], rng() & 1,
                  rng() & 1, rng() & 1, (int)rng_below(4), i % 25 == 0);
  static const int64_t shapes[][3] = {
      {1, 300, 1025}, {9, 70, 4100}, {128, 96, 300}, {300, 33, 65}, {33, 129, 511}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
    for (int z = 0; z < 4; ++z)
      check_product(shapes[i][0], shapes[i][1], shapes[i][2], z & 1, !(z & 1), z & 2, z, z == 3);
  check_product(3, 40, 0, true, true, false, 3, 0);
  test_arrays();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"amx", "avx512vnni", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
