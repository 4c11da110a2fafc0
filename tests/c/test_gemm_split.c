/* Split products (gemm_split.h): tile kernels of this machine against their model bit for bit,
 * whole products against double with the error that each number of parts promises (cut in several
 * ways by gemm_split_plan), non-finite and out-of-range values (gemm_split_again), and equal bits
 * for any number of threads. */
#include <float.h>

#include "kernels.h"
#include "provider/cpu/gemm/gemm_split.h"

typedef struct entry {
  uint32_t isa;
  const mrt_split_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/gemm/gemm_split.def"
#undef MRT_KERNEL
};

/* Dot products add in another order than tiles: check_sums says how near they come. */
static bool like_tiles(const mrt_split_kernels *kern) { return kern->most_parts > 1; }

static float half_float(uint16_t h) {
  const uint32_t u = (uint32_t)h << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

/* One part: the sums of every size of block against double; nothing else is written. */
static void check_sums(const mrt_split_kernels *kern, int rows, int cols, int64_t groups) {
  const int64_t n = groups * MRT_SPLIT_GROUP_PART;
  const int wide = cols > 16 ? 32 : 16, tall = rows > 16 ? 32 : 16;
  guarded ga, gb, gc;
  ga = guarded_new((size_t)n * 2, 0), gb = guarded_new((size_t)n * 2, 0);
  uint16_t *a = (uint16_t *)ga.data, *b = (uint16_t *)gb.data;
  float *c = guarded_floats(&gc, 1024, 0), old[1024];
  for (int64_t i = 0; i < n; ++i) a[i] = (uint16_t)(0x3e00 + (rng() & 0x81ff));
  for (int64_t i = 0; i < n; ++i) b[i] = (uint16_t)(0x3e00 + (rng() & 0x81ff));
  for (int i = 0; i < 1024; ++i) c[i] = old[i] = rng_float();
  kern->begin();
  kern->multiply(a, b, groups, 1, rows, cols, groups % 2 == 0, c);
  kern->end();
  for (int r = 0; r < 32; ++r)
    for (int j = 0; j < 32; ++j) {
      double sum = groups % 2 == 0 ? old[r * 32 + j] : 0, mass = fabs(sum);
      for (int64_t i = 0; i < groups * 32; ++i) {
        const int64_t at = i / 32 * 1024;
        const double x = (double)half_float(a[at + r * 32 + i % 32]) *
                         half_float(b[at + j / 16 * 512 + i % 32 / 2 * 32 + j % 16 * 2 + i % 2]);
        sum += x, mass += fabs(x);
      }
      if (r < rows && j < cols) CHECK(fabs(c[r * 32 + j] - sum) <= 3e-7 * mass);
      if (r >= tall || j >= wide) CHECK(c[r * 32 + j] == old[r * 32 + j]);
    }
  CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gc));
}

/* Both kernels' steps on the same data. */
static void check_steps(const mrt_split_kernels *kern, int rows, int cols, int64_t k, int parts,
                        int blocking) {
  enum { LD = 300 };
  const mrt_split_kernels *model = &mrt_gemm_split_model;
  const int64_t groups = (k + 31) / 32, halves = groups * parts * MRT_SPLIT_GROUP_PART;
  guarded ga, gp, gs[2], gb[2], gc[2];
  float *a = guarded_floats(&ga, 31 * LD + k + 8, 4), *panel = guarded_floats(&gp, k * 32, 0);
  for (int64_t i = 0; i < 31 * LD + k + 8; ++i) a[i] = wide_float();
  for (int64_t i = 0; i < k * 32; ++i) panel[i] = i % 32 < cols ? wide_float() : 0;
  mrt_kblock blocks[300];
  mrt_split_rows src = {.rows = rows, .blocks = blocks};
  for (int64_t at = 0; at < k; ++src.n_blocks) { /* whole, by 16, or ragged */
    const int64_t len = blocking == 0 ? k : blocking == 1 ? 16 : 1 + rng_below(20);
    blocks[src.n_blocks] = (mrt_kblock){(int32_t)at, (int32_t)(len < k - at ? len : k - at)};
    at += len;
  }
  for (int r = 0; r < rows; ++r) src.row[r] = a + r * LD;
  for (int i = 0; i < 2; ++i) {
    gs[i] = guarded_new((size_t)halves * 2, 0), gb[i] = guarded_new((size_t)halves * 2, 0);
    gc[i] = guarded_new(4096, 0);
    memset(gs[i].data, 0, (size_t)halves * 2), memset(gb[i].data, 0, (size_t)halves * 2);
    memset(gc[i].data, 0, 4096);
    const mrt_split_kernels *q = i ? model : kern;
    q->split_a(&src, parts, (uint16_t *)gs[i].data);
    q->split_b(panel, k, cols, parts, (uint16_t *)gb[i].data);
    q->begin();
    q->multiply((uint16_t *)gs[i].data, (uint16_t *)gb[i].data, groups, parts, rows, cols, false,
                (float *)gc[i].data);
    q->multiply((uint16_t *)gs[i].data, (uint16_t *)gb[i].data, 1, parts, rows, cols, true,
                (float *)gc[i].data);
    q->end();
  }
  CHECK(same_halves((uint16_t *)gs[0].data, (uint16_t *)gs[1].data, halves));
  CHECK(same_halves((uint16_t *)gb[0].data, (uint16_t *)gb[1].data, halves));
  if (like_tiles(kern)) CHECK(same_bits((float *)gc[0].data, (float *)gc[1].data, 1024));
  CHECK(kern->suspicious((float *)gc[1].data, rows, cols) ==
        model->suspicious((float *)gc[1].data, rows, cols));
  for (int i = 0; i < 2; ++i)
    CHECK(guarded_done(&gs[i]) && guarded_done(&gb[i]) && guarded_done(&gc[i]));
  CHECK(guarded_done(&ga) && guarded_done(&gp));
}

/* Splitting the next slice between products gives what split_b gives, a burst or all of it done. */
static void check_ahead(const mrt_split_kernels *kern, int rows, int cols, int parts, int burst) {
  enum { GROUPS = 3, HALVES = GROUPS * MRT_SPLIT_GROUP_PART };
  _Alignas(64) static uint16_t a[HALVES * 3], b[HALVES * 3], next[HALVES * 3], want[HALVES * 3];
  _Alignas(64) float sums[2][1024];
  float panel[GROUPS * 1024];
  for (int i = 0; i < HALVES * 3; ++i)
    a[i] = (uint16_t)(0x3f80 + rng_below(64)), b[i] = (uint16_t)(0xbf00 + rng_below(64));
  for (int i = 0; i < GROUPS * 1024; ++i) panel[i] = wide_float();
  memset(next, 0, sizeof next);
  kern->split_b(panel, GROUPS * 32, 32, parts, want);
  mrt_split_ahead ahead = {.panel = panel,
                           .dst = next,
                           .fetch = (const char *)panel,
                           .end = GROUPS * 16,
                           .burst = burst,
                           .lines = 4};
  kern->begin();
  kern->multiply(a, b, GROUPS, parts, rows, cols, false, sums[0]);
  for (int calls = 0; ahead.at < ahead.end && calls < 100; ++calls)
    kern->multiply_ahead(a, b, GROUPS, parts, rows, cols, false, sums[1], &ahead);
  kern->end();
  CHECK(ahead.at == ahead.end);
  CHECK(same_halves(next, want, (int64_t)GROUPS * parts * MRT_SPLIT_GROUP_PART));
  for (int r = 0; r < rows; ++r) CHECK(same_bits(sums[0] + r * 32, sums[1] + r * 32, cols));
}

/* One suspicious element in an otherwise good block. */
static void check_suspicious(const mrt_split_kernels *kern) {
  static const struct {
    float x;
    bool bad;
  } cases[] = {{0, false},        {-0.0f, false},    {1, false},         {INFINITY, true},
               {-INFINITY, true}, {NAN, true},       {FLT_MAX, false},   {0x1p-91f, true},
               {-0x1p-91f, true}, {0x1p-90f, false}, {-0x1p-90f, false}, {1e-44f, true}};
  float acc[1024];
  for (int rows = 1; rows <= 32; rows += 5)
    for (int cols = 1; cols <= 32; cols += 3)
      for (size_t c = 0; c < sizeof cases / sizeof *cases; ++c) {
        for (int i = 0; i < 1024; ++i) acc[i] = i / 32 < rows && i % 32 < cols ? 1.5f : NAN;
        acc[rng_below(rows) * 32 + rng_below(cols)] = cases[c].x;
        CHECK(kern->suspicious(acc, rows, cols) == cases[c].bad);
      }
}

static void check_finish(const mrt_split_kernels *kern, int rows, int cols, int variant) {
  enum { LD = 45 };
  float acc[1024], bias[32], row_bias[32];
  guarded gc[3], gr;
  float *res = guarded_floats(&gr, (int64_t)(rows - 1) * LD + cols, 4);
  for (int i = 0; i < 1024; ++i) acc[i] = rng_float();
  for (int i = 0; i < 32; ++i) bias[i] = rng_float(), row_bias[i] = rng_float();
  if (variant == 15) acc[0] = NAN;
  mrt_tile t = {.c_row = LD,
                .c_col16 = 16,
                .r_row = LD,
                .r_col16 = 16,
                .alpha = 0.5f,
                .beta = 2,
                .lo = -0.25f,
                .hi = 0.5f,
                .cols = cols};
  if (variant & 1) t.bias = bias;
  if (variant & 2) t.row_bias = row_bias;
  if (variant & 4) t.residual = res;
  if (variant & 8) t.flags = MRT_TILE_CLIP;
  for (int i = 0; i < 3; ++i) {
    t.c = guarded_floats(&gc[i], (int64_t)(rows - 1) * LD + cols, 4);
    for (int64_t x = 0; x < (int64_t)(rows - 1) * LD + cols; ++x) t.c[x] = 3;
    if (i < 2) (i ? &mrt_gemm_split_model : kern)->finish(acc, rows, &t);
  }
  mrt_split_late late = {.acc = acc, .tile = t, .rows = rows}; /* the same, a few rows at a time */
  while (late.row < rows) kern->late(&late, 3);
  CHECK(late.bad == kern->suspicious(acc, rows, cols));
  CHECK(same_bits((float *)gc[0].data, (float *)gc[1].data, (rows - 1) * LD + cols));
  CHECK(same_bits((float *)gc[0].data, (float *)gc[2].data, (rows - 1) * LD + cols));
  CHECK(guarded_done(&gc[0]) && guarded_done(&gc[1]) && guarded_done(&gc[2]) && guarded_done(&gr));
}

typedef struct product { /* c = a b of m x n x k, with everything around it */
  int64_t m, n, k, lda, ldc;
  bool a_trans;
  float *a, *b, *packed, *c, *d;
  void *scratch;
} product;

static float fma_loop(const product *p, int64_t i, int64_t j) {
  float s = 0;
  for (int64_t k = 0; k < p->k; ++k)
    s = fmaf(p->a[p->a_trans ? k * p->lda + i : i * p->lda + k], p->b[k * p->n + j], s);
  return s;
}

/* Largest error / sum |a b| of c, and of a float loop, over finite elements. */
static void errors(const product *p, double *worst, double *loop) {
  *worst = *loop = 0;
  for (int64_t i = 0; i < p->m; ++i)
    for (int64_t j = 0; j < p->n; ++j) {
      double x = 0, s = 1e-300;
      for (int64_t k = 0; k < p->k; ++k) {
        const double q =
            (double)p->a[p->a_trans ? k * p->lda + i : i * p->lda + k] * p->b[k * p->n + j];
        x += q, s += fabs(q);
      }
      const double e = fabs(p->c[i * p->ldc + j] - x) / s, f = fabs(fma_loop(p, i, j) - x) / s;
      if (!(e <= *worst)) *worst = isnan(e) ? INFINITY : e;
      if (f > *loop) *loop = f;
    }
}

static void product_make(product *p, int64_t m, int64_t n, int64_t k, bool a_trans,
                         float (*value)(void)) {
  const mrt_par all = {0};
  *p = (product){m, n, k, (a_trans ? m : k) + 3, n + 5, a_trans};
  const int64_t na = (a_trans ? k : m) * p->lda;
  p->a = malloc((size_t)na * 4), p->b = malloc((size_t)(n * k) * 4);
  for (int64_t i = 0; i < na; ++i) p->a[i] = value();
  for (int64_t i = 0; i < n * k; ++i) p->b[i] = value();
  p->packed = aligned_alloc(64, mrt_gemm_packed_size(n, k));
  mrt_gemm_pack_b(&all, p->b, n, false, k, n, p->packed);
  p->c = malloc((size_t)(m * p->ldc) * 4), p->d = malloc((size_t)(m * p->ldc) * 4);
  p->scratch =
      aligned_alloc(64, (mrt_gemm_split_scratch(&all, m, n, k, a_trans, false) + 63) / 64 * 64);
}
static void product_free(product *p) {
  free(p->a), free(p->b), free(p->packed), free(p->c), free(p->d), free(p->scratch);
}
/* Once with all threads into c, once with one into d, once with less scratch: the same bits. */
static void product_run(product *p, const mrt_split_kernels *kern, int parts,
                        const mrt_gemm_epilogue *epi) {
  const mrt_par all = {0}, one = {.threads = 1};
  const mrt_gemm_batch batch = {.batch = 1};
  mrt_gemm g = {p->m, p->n, p->k, p->a, p->lda, p->a_trans, p->packed, p->c, p->ldc, epi};
  for (int64_t i = 0; i < p->m * p->ldc; ++i) p->c[i] = p->d[i] = 9;
  mrt_gemm_split_run(kern, parts, &all, &g, &batch, p->scratch);
  g.c = p->d;
  mrt_gemm_split_run(kern, parts, &one, &g, &batch, p->scratch);
  CHECK(memcmp(p->c, p->d, (size_t)(p->m * p->ldc) * 4) == 0);
  guarded lean = guarded_new(mrt_gemm_split_scratch(&all, p->m, p->n, p->k, p->a_trans, true), 0);
  for (int64_t i = 0; i < p->m * p->ldc; ++i) p->d[i] = 9;
  g.lean = true;
  mrt_gemm_split_run(kern, parts, &all, &g, &batch, lean.data);
  CHECK(guarded_done(&lean));
  CHECK(memcmp(p->c, p->d, (size_t)(p->m * p->ldc) * 4) == 0);
  for (int64_t i = 0; i < p->m; ++i)
    for (int64_t j = p->n; j < p->ldc; ++j) CHECK(p->c[i * p->ldc + j] == 9);
}

static void check_product(const mrt_split_kernels *kern, int64_t m, int64_t n, int64_t k,
                          bool a_trans, int parts) {
  product p;
  double worst, loop;
  product_make(&p, m, n, k, a_trans, rng_float);
  product_run(&p, kern, parts, NULL);
  errors(&p, &worst, &loop);
  const double bound = parts == 3 ? fmax(loop, 6e-8) : parts == 2 ? 1.5e-5 : 8e-3;
  if (worst > bound)
    fprintf(stderr, "%s parts %d %lld x %lld x %lld: %g, a float loop %g\n", kern->name, parts,
            (long long)m, (long long)n, (long long)k, worst, loop);
  CHECK(worst <= bound);
  product_free(&p);
}

/* A few special values: every element equals what float arithmetic gives. */
static void check_special(const mrt_split_kernels *kern, int parts) {
  product p;
  product_make(&p, 40, 70, 100, parts == 2, rng_float);
  float *row = p.a_trans ? p.a : p.a + 0;
  const float values[] = {INFINITY, NAN, 3.39e38f, -INFINITY};
  for (int v = 0; v < 4; ++v) row[p.a_trans ? 7 * p.lda + 3 * v : 3 * v * p.lda + 7] = values[v];
  p.b[5 * 70 + 66] = INFINITY;
  for (int64_t k = 0; k < 100; ++k) { /* a row of denormals and a row of tiny numbers */
    p.a[p.a_trans ? k * p.lda + 38 : 38 * p.lda + k] = 1e-40f;
    p.a[p.a_trans ? k * p.lda + 39 : 39 * p.lda + k] = 1e-33f * rng_float();
  }
  const mrt_par one = {.threads = 1};
  mrt_gemm_pack_b(&one, p.b, 70, false, 100, 70, p.packed);
  product_run(&p, kern, parts, NULL);
  for (int64_t i = 0; i < 40; ++i)
    for (int64_t j = 0; j < 70; ++j) {
      const float want = fma_loop(&p, i, j), got = p.c[i * p.ldc + j];
      if (isnan(want)) {
        CHECK(isnan(got));
      } else if (isinf(want) || fabsf(want) > 1e37f) {
        CHECK(got == want || fabs((double)got / want - 1) < 1e-6);
      } else if (i >= 38 && j != 66) {
        double mass = 0;
        for (int64_t k = 0; k < 100; ++k)
          mass += fabs((double)p.a[p.a_trans ? k * p.lda + i : i * p.lda + k] * p.b[k * 70 + j]);
        CHECK(fabs((double)got - want) <= 1e-5 * mass + 1e-44);
      }
    }
  product_free(&p);
}

/* Epilogue and batch: against the plain product. */
static void check_epilogue(const mrt_split_kernels *kern) {
  enum { M = 37, N = 50, K = 70 };
  product p;
  float bias[N], row_bias[M], *res = malloc(M * N * 4), *plain = malloc(M * (N + 5) * 4);
  product_make(&p, M, N, K, false, rng_float);
  for (int i = 0; i < N; ++i) bias[i] = rng_float();
  for (int i = 0; i < M; ++i) row_bias[i] = rng_float();
  for (int i = 0; i < M * N; ++i) res[i] = rng_float();
  product_run(&p, kern, kern->most_parts, NULL);
  memcpy(plain, p.c, M * (N + 5) * 4);
  const mrt_gemm_epilogue e = {.alpha = 0.5f,
                               .beta = -1.5f,
                               .bias = bias,
                               .row_bias = row_bias,
                               .residual = res,
                               .residual_ld = N,
                               .act = {.op = MRT_EW_GELU}};
  product_run(&p, kern, kern->most_parts, &e);
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) {
      const double x =
          0.5 * plain[i * p.ldc + j] + bias[j] + row_bias[i] - 1.5 * (double)res[i * N + j];
      CHECK(fabs(p.c[i * p.ldc + j] - 0.5 * x * (1 + erf(x * 0.70710678118654752))) < 1e-5);
    }
  free(res), free(plain);
  product_free(&p);
}

/* Blocks that are computed again add the residual once, also where it is C itself. */
static void check_residual(const mrt_split_kernels *kern, int64_t m) {
  enum { N = 100, K = 70 };
  const mrt_par all = {0};
  const mrt_gemm_batch batch = {.batch = 1};
  const int parts = like_tiles(kern) ? 2 : 1;
  product p;
  product_make(&p, m, N, K, false, rng_float);
  p.a[3 * p.lda] = INFINITY;
  p.a[(m - 1) * p.lda + 1] = NAN;
  float *res = malloc((size_t)(m * p.ldc) * 4);
  for (int64_t i = 0; i < m * p.ldc; ++i) res[i] = p.c[i] = rng_float();
  mrt_gemm_epilogue e = {.alpha = 1, .beta = 1, .residual = p.c, .residual_ld = p.ldc};
  memcpy(res, p.c, (size_t)(m * p.ldc) * 4);
  mrt_gemm g = {m, N, K, p.a, p.lda, false, p.packed, p.c, p.ldc, &e};
  mrt_gemm_split_run(kern, parts, &all, &g, &batch, p.scratch);
  e.residual = res;
  g.c = p.d;
  mrt_gemm_split_run(kern, parts, &all, &g, &batch, p.scratch);
  for (int64_t i = 0; i < m; ++i) {
    CHECK(same_bits(p.c + i * p.ldc, p.d + i * p.ldc, N));
    for (int64_t j = 0; j < N; ++j) {
      const float want = fma_loop(&p, i, j) + res[i * p.ldc + j], got = p.c[i * p.ldc + j];
      CHECK(isfinite(want) ? fabs(got - want) < (parts > 1 ? 1e-3 : 0.3)
            : isnan(want)  ? isnan(got)
                           : got == want);
    }
  }
  free(res);
  product_free(&p);
}

static void check_batch(const mrt_split_kernels *kern, int64_t batch) {
  enum { M = 20, N = 33, K = 48 };
  const mrt_par all = {0}, one = {.threads = 1};
  const size_t each = mrt_gemm_packed_size(N, K) / 4;
  float *a = malloc((size_t)(batch * M * K) * 4), *b = malloc((size_t)(batch * N * K) * 4),
        *c = malloc((size_t)(batch * M * N) * 4), *d = malloc(M * N * 4);
  float *packed = aligned_alloc(64, each * 4 * (size_t)batch);
  for (int64_t i = 0; i < batch * M * K; ++i) a[i] = rng_float();
  for (int64_t i = 0; i < batch * N * K; ++i) b[i] = rng_float();
  for (int64_t i = 0; i < batch; ++i)
    mrt_gemm_pack_b(&one, b + i * N * K, N, false, K, N, packed + (size_t)i * each);
  void *scratch =
      aligned_alloc(64, (mrt_gemm_split_scratch(&all, M, N, K, false, false) + 63) / 64 * 64);
  mrt_gemm g = {M, N, K, a, K, false, packed, c, N, NULL};
  const mrt_gemm_batch many = {batch, M * K, (int64_t)each, M * N, 0}, single = {.batch = 1};
  mrt_gemm_split_run(kern, kern->most_parts, &all, &g, &many, scratch);
  for (int64_t i = 0; i < batch; ++i) {
    g.a = a + i * M * K, g.b = packed + (size_t)i * each, g.c = d;
    mrt_gemm_split_run(kern, kern->most_parts, &one, &g, &single, scratch);
    CHECK(memcmp(d, c + i * M * N, M * N * 4) == 0);
  }
  free(a), free(b), free(c), free(d), free(packed), free(scratch);
}

/* Several right sides of one A as one product have the bits that each has alone; floats, and kept
 * in parts. */
static void check_sides(const mrt_split_kernels *kern, int64_t m, int64_t k, int parts, bool kept) {
  enum { SIDES = 3 };
  static const int64_t n[SIDES] = {40, 7, 96};
  const mrt_par all = {0};
  const mrt_gemm_batch batch = {.batch = 1};
  product p[SIDES];
  mrt_gemm_side sides[SIDES];
  uint16_t *b16[SIDES] = {NULL};
  for (int i = 0; i < SIDES; ++i) {
    product_make(&p[i], m, n[i], k, false, rng_float);
    memcpy(p[i].a, p[0].a, (size_t)(m * p[0].lda) * 4);
    if (!kept) p[i].a[2 % m * p[i].lda] = INFINITY; /* blocks that are computed again */
    product_run(&p[i], kern, parts, NULL);
    sides[i] = (mrt_gemm_side){.n = n[i], .b = p[i].packed, .c = p[i].d, .ldc = p[i].ldc};
    for (int64_t x = 0; x < m * p[i].ldc; ++x) p[i].d[x] = 9;
    if (!kept) continue;
    b16[i] = aligned_alloc(64, mrt_gemm_packed16_size(parts, n[i], k));
    for (int64_t x = 0; x * MRT_STRIP < n[i]; ++x)
      mrt_gemm_pack_panel16(kern, parts, p[i].packed + x * MRT_STRIP * k, k, x, b16[i]);
    sides[i].b16 = b16[i];
  }
  const mrt_gemm g = {.m = m,
                      .n = mrt_gemm_sides_columns(sides, SIDES),
                      .k = k,
                      .a = p[0].a,
                      .lda = p[0].lda,
                      .b16_parts = parts,
                      .sides = sides};
  void *scratch =
      aligned_alloc(64, (mrt_gemm_split_scratch(&all, m, g.n, k, false, false) + 63) / 64 * 64);
  mrt_gemm_split_run(kern, parts, &all, &g, &batch, scratch);
  free(scratch);
  for (int i = 0; i < SIDES; ++i) {
    CHECK(same_bits(p[i].c, p[i].d, m * p[i].ldc));
    free(b16[i]);
    product_free(&p[i]);
  }
}

static void test_sides(const mrt_split_kernels *kern) {
  static const int64_t rows[] = {1, 20, 70};
  for (int i = 0; i < 3; ++i)
    for (int parts = 1; parts <= kern->most_parts; ++parts) {
      check_sides(kern, rows[i], 100, parts, false);
      if (parts < 3) check_sides(kern, rows[i], 64, parts, true);
    }
}

static void check_kernels(const mrt_split_kernels *kern) {
  static const int rows[] = {1, 15, 16, 17, 31, 32}, cols[] = {1, 16, 17, 32};
  static const int64_t ks[] = {1, 15, 16, 31, 32, 33, 48, 65};
  const int most = kern->most_parts;
  if (kern != &mrt_gemm_split_model)
    for (int r = 0; r < 6; ++r)
      for (int c = 0; c < 4; ++c)
        for (int k = 0; k < 8; ++k)
          check_steps(kern, rows[r], cols[c], ks[k], 1 + (r + c + k) % most, (int)rng_below(3));
  for (int r = 1; r <= 32; ++r)
    check_sums(kern, r, r % 3 ? 32 : 1 + (int)rng_below(32), 1 + (int64_t)rng_below(5));
  for (int i = 0; i < 24; ++i)
    check_ahead(kern, 1 + (int)rng_below(32), 1 + (int)rng_below(32), 1 + i % most, 1 + i * 3);
  check_suspicious(kern);
  for (int v = 0; v < 16; ++v)
    for (int c = 0; c < 4; ++c) check_finish(kern, rows[v % 6], cols[c], v);
  for (int parts = 1; parts <= most; ++parts) {
    check_product(kern, 33, 31, 65, false, parts);
    check_product(kern, 17, 64, 200, true, parts);
    check_product(kern, 70, 40, 129, false, parts);
    check_special(kern, parts);
  }
  check_epilogue(kern);
  check_residual(kern, 20);
  check_residual(kern, 70);
  check_batch(kern, 3);
  check_batch(kern, 20);
  test_sides(kern);
}

/* Too slow for the model: many slices, super-blocks and chunks. */
static void check_large(const mrt_split_kernels *kern) {
  static const struct {
    int64_t m, n, k;
    bool a_trans;
    int parts;
  } cases[] = {{257, 300, 1100, false, 3}, {2100, 70, 64, false, 2},   {130, 1000, 333, true, 3},
               {2081, 40, 90, true, 1},    {129, 200, 3090, false, 3}, /* several k-blocks */
               {70, 2500, 2100, true, 3},  {300, 97, 2900, false, 2},  {129, 200, 1100, true, 1},
               {70, 300, 2110, false, 1},  {100, 70, 777, false, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i)
    check_product(kern, cases[i].m, cases[i].n, cases[i].k, cases[i].a_trans,
                  cases[i].parts < kern->most_parts ? cases[i].parts : kern->most_parts);
  for (int parts = 1; parts <= kern->most_parts; ++parts)
    check_sides(kern, 300, 2900, parts, parts < 3);
}

/* The modes of a machine with tiles, with dot products that pay, with neither. */
static void check_choice(void) {
  const mrt_split_kernels *best = mrt_split_kernels_get();
  CHECK((best != NULL) == ((mrt_cpu_get()->isa & MRT_ISA_AMX) || mrt_cpu_get()->dot_bf16));
  for (int p = MRT_PRECISION_HIGHEST; p <= MRT_PRECISION_MEDIUM; ++p) {
    const int want = best && 3 - p <= best->most_parts ? 3 - p : 0;
    CHECK_EQ_I(mrt_gemm_split_parts((mrt_precision)p, 1024, 1024, 1024), want);
  }
  CHECK(mrt_gemm_split_parts(MRT_PRECISION_MEDIUM, 4, 1024, 1024) == 0);
}

/* The best kernels of this instruction set: tiles, dot products, the model. */
static void body(void) {
  const uint32_t have = mrt_cpu_get()->isa;
  const entry *e = entries;
  while ((have & e->isa) != e->isa) ++e;
  check_kernels(e->kern);
  if (e->kern != &mrt_gemm_split_model) check_large(e->kern);
  check_choice();
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"amx", "avx512bf16", "scalar", NULL};
  setenv("MRT_BF16_DOT", "1", 1);
  return run_per_isa(argv, isas, body);
}
