/* Products with narrow weights (half/narrow): every kernel against a double loop over k tails and
 * row counts, packing, what counts as narrow, then whole products with every part of the epilogue,
 * with equal bits for any threads. */
#include "kernels.h"
#include "provider/cpu/half/narrow.h"

typedef struct entry {
  uint32_t isa;
  const mrt_narrow_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/half/narrow.def"
#undef MRT_KERNEL
};

/* A number that the kind holds. */
static float narrow_float(mrt_narrow_kind kind) {
  const float x = 3 * rng_float();
  return kind == MRT_NARROW_BF16 || kind == MRT_NARROW_TILES ? mrt_bf16_to_f32(mrt_f32_to_bf16(x))
         : kind == MRT_NARROW_F16                            ? mrt_f16_to_f32(mrt_f32_to_f16(x))
                                                             : (float)(int8_t)rng();
}

/* [k, n] packed; bytes by hand, the others by the packer (also from [n, k]). */
static guarded pack(mrt_narrow_kind kind, const float *w, int64_t k, int64_t n, bool trans) {
  guarded g = guarded_new(mrt_narrow_packed_size(kind, n, k), 0);
  if (kind != MRT_NARROW_S8) {
    float *t = malloc((size_t)(n * k) * sizeof *t);
    for (int64_t i = 0; i < n * k; ++i) t[i] = w[i % k * n + i / k];
    mrt_narrow_pack(kind, trans ? t : w, trans ? k : n, trans, k, n, g.data);
    free(t);
    return g;
  }
  for (int64_t i = 0; i < (int64_t)g.bytes; ++i) {
    const int64_t col = i / (32 * k) * 32 + i % 32, row = i / 32 % k;
    ((int8_t *)g.data)[i] = col < n ? (int8_t)w[row * n + col] : 0;
  }
  return g;
}

static void check_kernel(const mrt_narrow_kernels *kern, mrt_narrow_kind kind, int64_t k,
                         int rows) {
  const int64_t lda = k + 3;
  guarded ga, gs, gc, go;
  float *w = malloc((size_t)(32 * k) * sizeof *w);
  for (int64_t i = 0; i < 32 * k; ++i) w[i] = narrow_float(kind);
  guarded gw = pack(kind, w, k, 32, k & 1);
  const int64_t n_a = rows == 8 ? 8 * k : (rows - 1) * lda + k;
  float *a = guarded_floats(&ga, n_a, 4), *sums = guarded_floats(&gs, rows * 32, 0);
  float *scale = guarded_floats(&gc, 32, 0), *out = guarded_floats(&go, 32 * k, 0);
  kern->sums[kind](gw.data, k, a, lda, rows, sums);
  kern->widen[kind](gw.data, k, k % 3 ? scale : NULL, out);
  for (int64_t i = 0; i < 32 * k; ++i) CHECK(out[i] == w[i] * (k % 3 ? scale[i % 32] : 1.0f));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < 32; ++c) {
      double x = 0, mass = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double p = (double)w[i * 32 + c] * (double)a[rows == 8 ? i * 8 + r : r * lda + i];
        x += p, mass += fabs(p);
      }
      CHECK(fabs((double)sums[r * 32 + c] - x) <= 6e-8 * (4 + 0.2 * (double)k) * mass);
    }
  CHECK(guarded_done(&gw) && guarded_done(&ga) && guarded_done(&gs) && guarded_done(&gc) &&
        guarded_done(&go));
  free(w);
}

static double expected(const mrt_gemm *g, const float *w, const float *scale, int64_t m, int64_t n,
                       double *mass) {
  const mrt_gemm_epilogue *e = g->epi;
  double x = 0;
  *mass = 1;
  for (int64_t i = 0; i < g->k; ++i) {
    const double p = (double)g->a[g->a_trans ? i * g->lda + m : m * g->lda + i] *
                     (double)w[i * g->n + n] * (scale ? (double)scale[n] : 1);
    x += p, *mass += fabs(p);
  }
  x *= (double)e->alpha;
  if (e->bias) x += (double)e->bias[n];
  if (e->row_bias) x += (double)e->row_bias[m];
  if (e->residual) x += (double)e->beta * (double)e->residual[m * e->residual_ld + n];
  return e->act.op == MRT_EW_RELU ? fmax(x, 0) : e->act.op == MRT_EW_TANH ? tanh(x) : x;
}

static void check_product(mrt_narrow_kind kind, int64_t m, int64_t n, int64_t k, int what) {
  const mrt_par one = {.threads = 1}, all = {0};
  float *w = malloc((size_t)(n * k + 1) * sizeof *w), *scale = calloc((size_t)n + 32, sizeof *w);
  for (int64_t i = 0; i < n * k; ++i) w[i] = narrow_float(kind) / (float)k;
  if (kind == MRT_NARROW_S8)
    for (int64_t i = 0; i < n * k; ++i) w[i] = (float)(int8_t)rng();
  else
    for (int64_t i = 0; i < n * k; ++i) w[i] = narrow_float(kind);
  for (int64_t i = 0; i < n; ++i) scale[i] = 0.01f * rng_float();
  guarded gw = pack(kind, w, k, n, what & 1), ga, gb, gr, gm, gc[2];
  const mrt_narrow narrow = {kind, gw.data, kind == MRT_NARROW_S8 ? scale : NULL};
  mrt_gemm_epilogue e = {.alpha = what & 1 ? 0.5f : 1, .beta = 2};
  float *bias = guarded_floats(&gb, n, 4), *res = guarded_floats(&gr, m * n, 4);
  float *row = guarded_floats(&gm, m, 4);
  if (what & 2) e.bias = bias;
  if (what & 4) e.residual = res, e.residual_ld = n;
  if (what & 8) e.row_bias = row;
  if (what & 16) e.act.op = what & 1 ? MRT_EW_TANH : MRT_EW_RELU;
  mrt_gemm g = {.m = m, .n = n, .k = k, .a_trans = what & 32, .ldc = n, .epi = &e};
  g.lda = g.a_trans ? m + 1 : k + 2;
  g.a = guarded_floats(&ga, g.a_trans ? k * g.lda : m * g.lda, 4);
  for (int i = 0; i < 2; ++i) {
    const mrt_par *par = i ? &one : &all;
    guarded scratch = guarded_new(mrt_narrow_scratch_size(par, m, n, k, g.a_trans), 0);
    g.c = guarded_floats(&gc[i], m * n, 4);
    mrt_narrow_run(par, &g, &narrow, scratch.data);
    CHECK(guarded_done(&scratch));
  }
  CHECK(memcmp(gc[0].data, gc[1].data, (size_t)(m * n) * sizeof *w) == 0);
  for (int64_t i = 0; i < m * n; ++i) {
    double mass;
    const double x = expected(&g, w, narrow.scale, i / n, i % n, &mass);
    CHECK(fabs((double)((float *)gc[0].data)[i] - x) <= 6e-8 * (8 + (double)k) * mass);
  }
  CHECK(guarded_done(&gw) && guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gr) &&
        guarded_done(&gm) && guarded_done(&gc[0]) && guarded_done(&gc[1]));
  free(w), free(scale);
}

static void check_kinds(void) {
  float w[3000];
  mrt_narrow_kind kind;
  for (int i = 0; i < 3000; ++i) w[i] = mrt_bf16_to_f32(mrt_f32_to_bf16(rng_float()));
  CHECK(mrt_narrow_kind_of(w, 3000, &kind) && kind == MRT_NARROW_BF16);
  w[2999] = 1 + 0x1p-9f; /* float16 has it, bfloat16 has not; the others are too small for it */
  w[7] = 0x1p-40f;
  CHECK(!mrt_narrow_kind_of(w, 3000, &kind));
  for (int i = 0; i < 3000; ++i) w[i] = mrt_f16_to_f32((uint16_t)(rng() & 0xfbff));
  CHECK(mrt_narrow_kind_of(w, 3000, &kind) && kind == MRT_NARROW_F16);
  w[5] = 65536;
  CHECK(!mrt_narrow_kind_of(w, 3000, &kind));
  w[5] = 0x1p-24f;
  CHECK(mrt_narrow_kind_of(w, 3000, &kind) && kind == MRT_NARROW_F16);
  w[5] = 0x1.8p-24f; /* between two denormal ones */
  CHECK(!mrt_narrow_kind_of(w, 3000, &kind));
}

static void body(void) {
  static const int64_t ks[] = {1, 3, 4, 5, 16, 61, 200};
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    for (int k = 0; k < 7 && (have & entries[i].isa) == entries[i].isa; ++k)
      for (int rows = 1; rows <= 8; rows += rows == 4 ? 4 : 1)
        for (int kind = 0; kind < MRT_NARROW_KINDS; ++kind)
          check_kernel(entries[i].kern, (mrt_narrow_kind)kind, ks[k], rows);
  check_kinds();
  for (int kind = 0; kind < MRT_NARROW_KINDS; ++kind) {
    for (int what = 0; what < 64; ++what)
      check_product((mrt_narrow_kind)kind, 1 + what % 11, 33 + what, 40 + what, what);
    check_product((mrt_narrow_kind)kind, 8, 900, 512, 2);   /* shared out */
    check_product((mrt_narrow_kind)kind, 20, 790, 1000, 6); /* a few panels a worker */
    check_product((mrt_narrow_kind)kind, 64, 333, 5000, 2); /* one */
    check_product((mrt_narrow_kind)kind, 65, 90, 20000, 6); /* several slabs */
    check_product((mrt_narrow_kind)kind, 3, 5, 0, 2);
    check_product((mrt_narrow_kind)kind, 20, 40, 0, 2);
  }
}

int main(int argc, char **argv) {
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  (void)argc;
  return run_per_isa(argv, isas, body);
}
