/* float32 GEMM (gemm.c, gemm_pack.c): every tile kernel of gemm.def against a double loop, then the
 * whole product at many shapes, with every epilogue, unaligned, with guard bytes, and equal bits
 * for 1 and more threads. */
#include "kernels.h"
#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/gemm/gemm_kernel.h"

typedef struct entry {
  uint32_t isa;
  const mrt_gemm_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/gemm/gemm.def"
#undef MRT_KERNEL
};

/* Error bound of a float sum of n products whose absolute values sum to `mass`. */
static int close_to(float got, double want, double mass, int64_t n) {
  return fabs(got - want) <= 6e-8 * (4.0 + 0.5 * (double)n) * (mass + fabs(want)) + 1e-30;
}

static void check_tile(const mrt_gemm_kernels *kern, int rows, int cols, int len, int n_blocks,
                       int variant) {
  enum { LD = 150, CLD = 40 };
  guarded ga, gb, gc, gr, gbias, grb;
  const int64_t span = (int64_t)n_blocks * 20 + len + 1;
  float *a = guarded_floats(&ga, 16 * LD + span, 4);
  float *b = guarded_floats(&gb, (int64_t)n_blocks * len * 32 + 1024, 0); /* readable slack */
  float *c = guarded_floats(&gc, (int64_t)(rows - 1) * CLD + cols, 4);
  float *res = guarded_floats(&gr, (int64_t)(rows - 1) * CLD + cols, 4);
  float *bias = guarded_floats(&gbias, cols, 4), *row_bias = guarded_floats(&grb, rows, 4);
  mrt_kblock blocks[4];
  for (int i = 0; i < n_blocks; ++i) blocks[i] = (mrt_kblock){i * 20, len};
  mrt_tile t = {.a = a,
                .a_hi = a + kern->split * LD + 7,
                .a_row = LD,
                .blocks = blocks,
                .n_blocks = n_blocks,
                .b = b,
                .c = c,
                .c_row = CLD,
                .c_col16 = 16,
                .r_row = CLD,
                .r_col16 = 16,
                .alpha = 0.5f,
                .beta = 2.0f,
                .lo = -0.25f,
                .hi = 0.75f,
                .cols = cols};
  if (variant & 1) t.flags |= MRT_TILE_LOAD;
  if (variant & 2) t.flags |= MRT_TILE_FINAL, t.bias = bias;
  if (variant & 4) t.flags |= MRT_TILE_CLIP, t.residual = res;
  if (variant & 8) t.row_bias = row_bias;
  double want[16][32], mass[16][32];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) {
      const float *row = i < kern->split ? a + i * LD : t.a_hi + (i - kern->split) * LD;
      double x = 0, s = 0;
      for (int k = 0; k < n_blocks * len; ++k) {
        const double p = (double)row[k / len * 20 + k % len] * b[k * 32 + j];
        x += p, s += fabs(p);
      }
      if (t.flags & MRT_TILE_LOAD) x += c[i * CLD + j];
      if (t.flags & MRT_TILE_FINAL) {
        x = 0.5 * x + bias[j] + (t.row_bias ? row_bias[i] : 0.0f);
        if (t.residual) x += 2.0 * res[i * CLD + j];
        if (t.flags & MRT_TILE_CLIP) x = fmin(fmax(x, -0.25), 0.75);
      }
      want[i][j] = x, mass[i][j] = s + 4.0;
    }
  (cols <= 16 && kern->nr > 16 ? kern->narrow : kern->wide)[rows](&t);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j)
      CHECK(close_to(c[i * CLD + j], want[i][j], mass[i][j], n_blocks * len));
  for (int i = 0; i + 1 < rows;
       ++i) /* between the rows nothing may change: it is random, not guard */
    for (int j = cols; j < CLD; ++j) CHECK(fabsf(c[i * CLD + j]) <= 1.0f);
  CHECK(guarded_done(&gc));
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gr) && guarded_done(&gbias) &&
        guarded_done(&grb));
}

static void test_tiles(const mrt_gemm_kernels *kern) {
  static const int lens[] = {1, 2, 3, 4, 5, 7, 8, 16};
  for (int rows = 1; rows <= kern->max_rows; ++rows)
    for (int cols = 1; cols <= kern->nr; cols += cols == 15 ? 1 : cols == 1 ? 6 : 4)
      for (int l = 0; l < 8; ++l)
        check_tile(kern, rows, cols, lens[l], 1 + (int)rng_below(4), (int)rng_below(16));
  for (int rows = 1; rows <= kern->max_rows; ++rows)
    for (int v = 0; v < 16; ++v) check_tile(kern, rows, kern->nr, 5, v % 3, v);
}

static void test_packers(const mrt_gemm_kernels *kern) {
  enum { LD = 75 };
  static const int sizes[] = {1, 2, 15, 16, 17, 31, 33, 64};
  for (int s = 0; s < 8; ++s)
    for (int n = 1; n <= 32; ++n) {
      const int k = sizes[s];
      guarded gs, gd, ge;
      float *src = guarded_floats(&gs, (int64_t)(n - 1) * LD + k, 4);
      float *got = guarded_floats(&gd, (int64_t)k * 32, 0),
            *want = guarded_floats(&ge, (int64_t)k * 32, 0);
      kern->pack_b_trans(src, LD, k, n, got);
      mrt_gemm_pack_b_trans_scalar(src, LD, k, n, want);
      CHECK(memcmp(got, want, (size_t)k * 128) == 0);
      CHECK(guarded_done(&gs) && guarded_done(&gd) && guarded_done(&ge));
      if (n > kern->max_rows) continue;
      const int64_t floats = (int64_t)(k + 15) / 16 * 16 * kern->max_rows;
      src = guarded_floats(&gs, (int64_t)(k - 1) * LD + n, 4);
      got = guarded_floats(&gd, floats, 0), want = guarded_floats(&ge, floats, 0);
      kern->pack_a_trans(src, LD, k, n, kern->max_rows, got);
      mrt_gemm_pack_a_trans_scalar(src, LD, k, n, kern->max_rows, want);
      for (int r = 0; r < n; ++r)
        for (int kk = 0; kk < k; ++kk) {
          const int at = (kk / 16 * kern->max_rows + r) * 16 + kk % 16;
          CHECK(got[at] == want[at]);
        }
      CHECK(guarded_done(&gs) && guarded_done(&gd) && guarded_done(&ge));
      src = guarded_floats(&gs, (int64_t)(n - 1) * LD + k, 4);
      got = guarded_floats(&gd, floats, 0);
      kern->pack_a(src, LD, k, n, kern->max_rows, got);
      for (int r = 0; r < n; ++r)
        for (int kk = 0; kk < k; ++kk)
          CHECK(got[(kk / 16 * kern->max_rows + r) * 16 + kk % 16] == src[r * LD + kk]);
      CHECK(guarded_done(&gs) && guarded_done(&gd));
    }
}

/* One product against double; ld of a in `lda_extra` more floats than needed. */
static void check_product(int64_t m, int64_t n, int64_t k, bool a_trans, bool b_trans,
                          int64_t extra, int kind) {
  const mrt_par one = {.threads = 1}, all = {.threads = 0};
  const int64_t lda = (a_trans ? m : k) + extra, ldb = (b_trans ? k : n) + 3, ldc = n + 5;
  guarded ga, gb, gc, gd, gp, gr;
  float *a = guarded_floats(&ga, (a_trans ? k : m) * lda + 1, 4);
  float *b = guarded_floats(&gb, (b_trans ? n : k) * ldb + 1, 4);
  float *c = guarded_floats(&gc, m * ldc + 1, 4), *d = guarded_floats(&gd, m * ldc + 1, 4);
  float *bias = malloc((size_t)(n + m + 2) * 4), *row_bias = bias + n;
  for (int64_t i = 0; i < n + m; ++i) bias[i] = rng_float();
  float *res = guarded_floats(&gr, m * n + 1, 4);
  gp = guarded_new(mrt_gemm_packed_size(n, k), 0);
  mrt_gemm_pack_b(&all, b, ldb, b_trans, k, n, (float *)gp.data);
  mrt_gemm_epilogue e = {.alpha = 1.0f};
  if (kind & 1) e.bias = bias, e.alpha = -0.5f;
  if (kind & 2) e.residual = res, e.residual_ld = n, e.beta = 1.5f;
  if (kind & 4) e.row_bias = row_bias, e.act.op = MRT_EW_RELU;
  if (kind & 8) e.act.op = MRT_EW_GELU;
  mrt_gemm g = {m, n, k, a, lda, a_trans, (float *)gp.data, c, ldc, kind ? &e : NULL};
  void *scratch = aligned_alloc(64, mrt_gemm_scratch_size(&all, m, n, k, a_trans) / 64 * 64 + 64);
  for (int64_t i = 0; i <= m * ldc; ++i) c[i] = d[i] = 7.0f;
  mrt_gemm_run(&all, &g, scratch);
  g.c = d;
  mrt_gemm_run(&one, &g, scratch);
  CHECK(memcmp(c, d, (size_t)(m * ldc + 1) * 4) == 0);
  int64_t bad = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < ldc; ++j) {
      if (j >= n) {
        bad += c[i * ldc + j] != 7.0f;
        continue;
      }
      double x = 0, s = 4;
      for (int64_t kk = 0; kk < k; ++kk) {
        const double p = (double)(a_trans ? a[kk * lda + i] : a[i * lda + kk]) *
                         (b_trans ? b[j * ldb + kk] : b[kk * ldb + j]);
        x += p, s += fabs(p);
      }
      x = x * e.alpha + (e.bias ? bias[j] : 0) + (e.row_bias ? row_bias[i] : 0) +
          (e.residual ? 1.5 * res[i * n + j] : 0);
      if (e.act.op == MRT_EW_RELU) x = fmax(x, 0);
      if (e.act.op == MRT_EW_GELU) x = 0.5 * x * (1 + erf(x * 0.70710678118654752)), s += 1e-6 * k;
      bad += !close_to(c[i * ldc + j], x, s, k);
    }
  if (bad)
    fprintf(stderr, "%lld x %lld x %lld at %d bt %d kind %d: %lld wrong\n", (long long)m,
            (long long)n, (long long)k, a_trans, b_trans, kind, (long long)bad);
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&gc) && guarded_done(&gd) && guarded_done(&gp));
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gr));
  free(bias);
  free(scratch);
}

static void test_products(void) {
  static const int64_t sizes[] = {0,  1,  2,  3,  5,  8,  13, 14, 15, 16,
                                  17, 28, 31, 32, 33, 47, 48, 64, 65};
  enum { N = sizeof sizes / sizeof *sizes };
  for (int i = 0; i < N; ++i)
    for (int j = 0; j < N; ++j)
      for (int r = 0; r < 3; ++r)
        check_product(sizes[i], sizes[j], sizes[rng_below(N)], rng() & 1, rng() & 1, rng_below(3),
                      (int)rng_below(16));
  static const int64_t shapes[][3] = {{1, 1000, 2048}, {1, 33, 20000}, {7, 300, 3000},
                                      {128, 768, 64},  {33, 95, 1153}, {14, 129, 17000},
                                      {15, 97, 2305},  {191, 193, 95}, {3, 97, 1024},
                                      {9, 70, 2048},   {300, 40, 129}, {257, 129, 1200}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
    for (int t = 0; t < 4; ++t)
      check_product(shapes[i][0], shapes[i][1], shapes[i][2], t & 1, t & 2, t == 0 ? 0 : 1,
                    (int)rng_below(16));
}

static void test_batch(void) {
  enum { BATCH = 11, M = 20, N = 70, K = 33 };
  const mrt_par all = {.threads = 0}, one = {.threads = 1};
  static float a[BATCH * M * K], b[BATCH * K * N], c[2][BATCH * M * N], d[M * N];
  for (int i = 0; i < BATCH * M * K; ++i) a[i] = rng_float();
  for (int i = 0; i < BATCH * K * N; ++i) b[i] = rng_float();
  const size_t each = mrt_gemm_packed_size(N, K);
  float *packed = aligned_alloc(64, each * BATCH);
  for (int i = 0; i < BATCH; ++i)
    mrt_gemm_pack_b(&one, b + i * K * N, N, false, K, N, packed + i * each / 4);
  void *scratch = aligned_alloc(64, mrt_gemm_scratch_size(&all, M, N, K, false) / 64 * 64 + 64);
  mrt_gemm g = {M, N, K, a, K, false, packed, c[0], N, NULL};
  const mrt_gemm_batch batch = {BATCH, M * K, (int64_t)(each / 4), M * N, 0};
  mrt_gemm_run_batch(&all, &g, &batch, scratch);
  g.c = c[1];
  mrt_gemm_run_batch(&one, &g, &batch, scratch);
  CHECK(memcmp(c[0], c[1], sizeof c[0]) == 0);
  for (int i = 0; i < BATCH; ++i) {
    g.a = a + i * M * K, g.b = packed + i * each / 4, g.c = d;
    mrt_gemm_run(&one, &g, scratch);
    for (int x = 0; x < M * N; ++x) CHECK(close_to(d[x], c[0][i * M * N + x], 10, K));
  }
  free(packed);
  free(scratch);
}

/* C as its own residual, with one and several blocks of k. */
static void test_inplace_residual(void) {
  enum { M = 30, N = 40 };
  static const int64_t ks[] = {64, 2500};
  const mrt_par one = {.threads = 1};
  for (int i = 0; i < 2; ++i) {
    const int64_t k = ks[i];
    float *a = malloc((size_t)(M * k) * 4), *b = malloc((size_t)(N * k) * 4), c[M * N], res[M * N];
    for (int64_t x = 0; x < M * k; ++x) a[x] = rng_float();
    for (int64_t x = 0; x < N * k; ++x) b[x] = rng_float();
    for (int x = 0; x < M * N; ++x) c[x] = res[x] = rng_float();
    float *packed = aligned_alloc(64, mrt_gemm_packed_size(N, k));
    mrt_gemm_pack_b(&one, b, N, false, k, N, packed);
    void *scratch = aligned_alloc(64, mrt_gemm_scratch_size(&one, M, N, k, false) / 64 * 64 + 64);
    float bias[N];
    for (int x = 0; x < N; ++x) bias[x] = rng_float();
    const mrt_gemm_epilogue e = {
        .alpha = 0.25f, .beta = 3, .residual = c, .residual_ld = N, .bias = bias};
    const mrt_gemm g = {M, N, k, a, k, false, packed, c, N, &e};
    mrt_gemm_run(&one, &g, scratch);
    for (int r = 0; r < M; ++r)
      for (int j = 0; j < N; ++j) {
        double x = 0, s = 10;
        for (int64_t kk = 0; kk < k; ++kk) {
          const double p = (double)a[r * k + kk] * b[kk * N + j];
          x += p, s += fabs(p);
        }
        CHECK(close_to(c[r * N + j], 0.25 * x + bias[j] + 3.0 * res[r * N + j], s, k));
      }
    free(a), free(b), free(packed), free(scratch);
  }
}

/* Infinities and NaN pass through, and zero padding of B never meets them. */
static void test_special(void) {
  const mrt_par one = {.threads = 1};
  float a[6] = {1, INFINITY, 2, NAN, 1, 1}, b[3] = {1, 1, 1}, c[2];
  float *packed = aligned_alloc(64, mrt_gemm_packed_size(1, 3));
  mrt_gemm_pack_b(&one, b, 1, false, 3, 1, packed);
  mrt_gemm_epilogue e = {.alpha = 1.0f, .act = {.op = MRT_EW_RELU}};
  const mrt_gemm g = {2, 1, 3, a, 3, false, packed, c, 1, &e};
  mrt_gemm_run(&one, &g, NULL);
  CHECK(isinf(c[0]) && c[0] > 0);
  CHECK(isnan(c[1]));
  free(packed);
}

/* Several right sides of one A as one product, against each alone. */
static void check_sides(int64_t m, int64_t k, const int64_t *n, int n_sides) {
  const mrt_par all = {.threads = 0}, one = {.threads = 1};
  float *a = malloc((size_t)(m * k + 1) * 4);
  for (int64_t i = 0; i < m * k; ++i) a[i] = rng_float();
  mrt_gemm_side sides[4] = {0};
  guarded gp[4], gc[4];
  for (int i = 0; i < n_sides; ++i) {
    const int64_t ldc = n[i] + i;
    float *b = malloc((size_t)(n[i] * k + 1) * 4), *bias = malloc((size_t)n[i] * 4);
    for (int64_t x = 0; x < n[i] * k; ++x) b[x] = rng_float();
    for (int64_t x = 0; x < n[i]; ++x) bias[x] = rng_float();
    gp[i] = guarded_new(mrt_gemm_packed_size(n[i], k), 0);
    mrt_gemm_pack_b(&all, b, n[i], false, k, n[i], (float *)gp[i].data);
    sides[i] = (mrt_gemm_side){.n = n[i],
                               .b = (const float *)gp[i].data,
                               .c = guarded_floats(&gc[i], m * ldc, 4),
                               .ldc = ldc,
                               .bias = i == 1 ? NULL : bias};
    for (int64_t x = 0; x < m * ldc; ++x) sides[i].c[x] = 7;
    free(b);
    if (i == 1) free(bias);
  }
  mrt_gemm g = {.m = m,
                .n = mrt_gemm_sides_columns(sides, n_sides),
                .k = k,
                .a = a,
                .lda = k,
                .sides = sides};
  void *scratch = aligned_alloc(64, mrt_gemm_scratch_size(&all, m, g.n, k, false) / 64 * 64 + 64);
  mrt_gemm_run(&all, &g, scratch);
  free(scratch);
  for (int i = 0; i < n_sides; ++i) {
    const mrt_gemm_side *s = &sides[i];
    const mrt_gemm_epilogue e = {.alpha = 1, .bias = s->bias};
    float *c = malloc((size_t)(m * n[i]) * 4);
    const mrt_gemm alone = {m, n[i], k, a, k, false, s->b, c, n[i], &e};
    scratch = aligned_alloc(64, mrt_gemm_scratch_size(&one, m, n[i], k, false) / 64 * 64 + 64);
    mrt_gemm_run(&one, &alone, scratch);
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t x = 0; x < n[i]; ++x)
        CHECK(close_to(s->c[r * s->ldc + x], c[r * n[i] + x], (double)k, k));
      for (int64_t x = n[i]; x < s->ldc; ++x) CHECK(s->c[r * s->ldc + x] == 7);
    }
    CHECK(guarded_done(&gp[i]) && guarded_done(&gc[i]));
    free(scratch), free(c), free((void *)s->bias);
  }
  free(a);
}

static void test_sides(void) {
  static const int64_t rows[] = {1, 5, 9, 40, 150}, ks[] = {1, 33, 200, 1300};
  static const int64_t n[][4] = {{32, 64, 96, 32}, {1, 33, 17, 70}, {200, 5, 5, 64}};
  for (int i = 0; i < 5; ++i)
    for (int j = 0; j < 4; ++j)
      for (int v = 0; v < 3; ++v) check_sides(rows[i], ks[j], n[v], 2 + (int)rng_below(3));
}

static void body(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i) {
    if ((have & entries[i].isa) != entries[i].isa) continue;
    test_tiles(entries[i].kern);
    test_packers(entries[i].kern);
  }
  test_products();
  test_batch();
  test_sides();
  test_special();
  test_inplace_residual();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
