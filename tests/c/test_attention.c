/* Attention against a loop in double: layouts, grouped heads, masks, causal, sizes around blocks
 * and panels, caches; threads do not change a bit. */
#include "kernels.h"
#include "provider/cpu/attention/attention.h"
#include "provider/cpu/attention/attention_split.h"

typedef struct entry {
  uint32_t isa;
  const mrt_attn_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/attention/attention.def"
#undef MRT_KERNEL
};

static void panels(const mrt_attn_kernels *k) {
  for (int64_t m = 1; m < 30; ++m)
    for (int64_t depth = 0; depth < 40; depth += 13) {
      guarded ga, gb, gc;
      const float *a = guarded_floats(&ga, m * (depth + 3), 4);
      const float *b = guarded_floats(&gb, depth * 32, 0);
      float *c = guarded_floats(&gc, (m - 1) * 35 + 32, 8);
      k->panel(c, 35, a, depth + 3, b, m, depth);
      int bad = 0;
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < 32; ++j) {
          double want = 0;
          for (int64_t p = 0; p < depth; ++p)
            want += (double)a[i * (depth + 3) + p] * b[p * 32 + j];
          bad += !(fabs(c[i * 35 + j] - want) <= 1e-5);
        }
      CHECK_EQ_I(bad, 0);
      CHECK(guarded_done(&ga) && guarded_done(&gb) && guarded_done(&gc));
    }
}

/* A product on tiles (real ones and their model) against double; with `special`, infinities and NaN
 * where float arithmetic has them. */
static void on_tiles(const mrt_split_kernels *kern, int parts, int64_t m, int64_t k, int64_t cols,
                     bool special) {
  static const double bound[] = {0, 1.0 / 128, 2e-5, 5e-7}; /* of sum |a b| */
  const int64_t wide = (cols + 31) / 32 * 32, used = k - k / 5;
  size_t split, own;
  guarded ga, gp, gc, gs, gt;
  float *a = guarded_floats(&ga, m * (k + 3), 4), *panels = guarded_floats(&gp, k * wide, 0);
  float *c = guarded_floats(&gc, m * wide, 0);
  CHECK(mrt_attn_side_size(parts, k, wide, &split) && mrt_attn_tiles_size(parts, k, &own));
  gs = guarded_new(split, 0), gt = guarded_new(own, 0);
  for (int64_t i = 0; i < k * wide; ++i)
    if (i / (k * 32) * 32 + i % 32 >= cols) panels[i] = 0;
  if (special) a[0] = INFINITY, a[(m - 1) * (k + 3)] = 3e38f, panels[1] = NAN;
  const mrt_attn_kernels *fma = &mrt_attn_f32_scalar;
  const mrt_attn_tiles t = {kern, fma, parts, gt.data};
  const mrt_attn_side b = {panels, (uint16_t *)gs.data, k, wide};
  mrt_attn_side_split(&t, &b);
  kern->begin();
  mrt_attn_tiles_run(&t, c, wide, a, k + 3, &b, m, used, wide);
  kern->end();
  int bad = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < wide; ++j) {
      double want = 0, size = 0;
      for (int64_t p = 0; p < used; ++p) {
        const double x = (double)a[i * (k + 3) + p] * panels[j / 32 * k * 32 + p * 32 + j % 32];
        want += x;
        size += fabs(x);
      }
      const double got = c[i * wide + j];
      bad += isfinite(want) ? !(fabs(got - want) <= bound[parts] * size) : isfinite(got);
    }
  CHECK_EQ_I(bad, 0);
  CHECK(guarded_done(&ga) && guarded_done(&gp) && guarded_done(&gc) && guarded_done(&gs) &&
        guarded_done(&gt));
}

static float element(const mrt_attn_view *v, int64_t b, int64_t h, int64_t i, int64_t d) {
  return v->data[b * v->batch + h * v->head + i * v->row + d * v->col];
}

/* Largest error of one query row; NaN counts as right where the formula gives it. */
static double row_error(const mrt_attn *a, int64_t b, int64_t h, int64_t i) {
  static double p[700];
  const int64_t hk = h / (a->heads / a->kv_heads);
  int64_t n = i < a->causal_rows ? i + a->causal_offset + 1 : a->sk;
  double top = -INFINITY, sum = 0, worst = 0;
  if (n > a->sk) n = a->sk;
  for (int64_t j = 0; j < n; ++j) {
    p[j] = 0;
    for (int64_t d = 0; d < a->d; ++d)
      p[j] += (double)element(&a->q, b, h, i, d) * element(&a->k, b, hk, j, d);
    p[j] *= a->scale;
    if (a->mask)
      p[j] += a->mask[b * a->mask_batch + h * a->mask_head + i * a->mask_row + j * a->mask_col];
    top = fmax(top, p[j]);
  }
  for (int64_t j = 0; j < n; ++j) sum += p[j] = exp(p[j] - top);
  for (int64_t d = 0; d < a->dv; ++d) {
    double want = 0;
    for (int64_t j = 0; j < n; ++j) want += p[j] / sum * element(&a->v, b, hk, j, d);
    const double got = a->out[b * a->out_batch + h * a->out_head + i * a->out_row + d];
    if (fabs(got - want) > worst) worst = fabs(got - want);
    if (isnan(got)) worst = 1;
  }
  return worst;
}

static double error_of(const mrt_attn *a) {
  double worst = 0;
  for (int64_t b = 0; b < a->batch; ++b)
    for (int64_t h = 0; h < a->heads; ++h)
      for (int64_t i = 0; i < a->sq; ++i) worst = fmax(worst, row_error(a, b, h, i));
  return worst;
}

typedef struct shape {
  int64_t batch, heads, kv_heads, sq, sk, d, dv;
} shape;

/* kind 0: heads first; 1: positions first (BSHD); 2: as 0 with k and v transposed. */
static void lay(mrt_attn_view *v, int kind, int64_t h, int64_t s, int64_t d) {
  v->batch = h * s * d;
  v->head = kind == 1 ? d : s * d;
  v->row = kind == 1 ? h * d : kind == 2 ? 1 : d;
  v->col = kind == 2 ? s : 1;
}

/* Of outputs below about 1: bf16's is 2^-9 for q, k (in the exponent: scores reach 5) and v. */
static const double bounds[] = {2e-6, 2e-5, 3e-2};

/* The first n of a view's positions as a cache holds them: [batch, heads, n, size]. */
static float *cached(const mrt_attn_view *v, const shape *s, int64_t n, int64_t size, guarded *g) {
  float *to = guarded_floats(g, s->batch * s->kv_heads * n * size, 4);
  for (int64_t i = 0; i < s->batch * s->kv_heads * n * size; ++i)
    to[i] =
        element(v, i / size / n / s->kv_heads, i / size / n % s->kv_heads, i / size % n, i % size);
  return to;
}

/* Some positions come from caches: the same bits, and both sides by side afterwards. */
static void with_cache(const shape *s, const mrt_attn *plain, const float *want, size_t bytes) {
  guarded gk, gv, pk, pv, wk, wv, gs;
  mrt_attn a = *plain;
  a.past = rng_below(s->sk);
  a.k_cache.past = cached(&a.k, s, a.past, s->d, &gk);
  a.v_cache.past = cached(&a.v, s, a.past, s->dv, &gv);
  const int64_t nk = s->batch * s->kv_heads * s->sk * s->d,
                nv = s->batch * s->kv_heads * s->sk * s->dv;
  const float *all_k = cached(&a.k, s, s->sk, s->d, &wk),
              *all_v = cached(&a.v, s, s->sk, s->dv, &wv);
  a.k_cache.present = guarded_floats(&pk, nk, rng_below(2) ? 0 : 4);
  a.v_cache.present = guarded_floats(&pv, nv, 0);
  a.k.data += a.past * a.k.row;
  a.v.data += a.past * a.v.row;
  for (int threads = 1; threads <= 2; ++threads) {
    const mrt_par par = {.threads = threads};
    gs = guarded_new(mrt_attn_scratch_size(&par, &a), 0);
    memset(a.out, 0, bytes), memset(a.k_cache.present, 0, (size_t)nk * 4);
    mrt_attn_run(&par, &a, gs.data);
    CHECK(guarded_done(&gs));
    CHECK(memcmp(a.out, want, bytes) == 0);
    CHECK(memcmp(a.k_cache.present, all_k, (size_t)nk * 4) == 0);
    CHECK(memcmp(a.v_cache.present, all_v, (size_t)nv * 4) == 0);
  }
  CHECK(guarded_done(&gk) && guarded_done(&gv) && guarded_done(&pk) && guarded_done(&pv) &&
        guarded_done(&wk) && guarded_done(&wv));
}

static void one(const shape *s, int kind, int mask, bool causal, mrt_precision precision) {
  guarded gq, gk, gv, gm, go;
  mrt_attn a = {.batch = s->batch,
                .heads = s->heads,
                .kv_heads = s->kv_heads,
                .sq = s->sq,
                .sk = s->sk,
                .d = s->d,
                .dv = s->dv,
                .scale = 0.3f,
                .causal_rows = causal ? s->sq : 0,
                .precision = precision,
                .causal_offset = s->sk - s->sq};
  lay(&a.q, kind == 2 ? 0 : kind, s->heads, s->sq, s->d);
  lay(&a.k, kind, s->kv_heads, s->sk, s->d);
  lay(&a.v, kind, s->kv_heads, s->sk, s->dv);
  a.q.data = guarded_floats(&gq, s->batch * s->heads * s->sq * s->d, 4);
  a.k.data = guarded_floats(&gk, s->batch * s->kv_heads * s->sk * s->d, 8);
  a.v.data = guarded_floats(&gv, s->batch * s->kv_heads * s->sk * s->dv, 12);
  a.out = guarded_floats(&go, s->batch * s->heads * s->sq * s->dv, 4);
  float *m = guarded_floats(&gm, s->batch * s->sq * s->sk, 0);
  for (int64_t i = 0; i < s->batch * s->sq * s->sk; ++i)
    if (i % s->sk && rng_below(3) == 0) m[i] = -INFINITY;
  if (mask) a.mask = m;
  a.mask_batch = mask == 1 ? s->sq * s->sk : mask == 2 ? s->sk : 0;
  a.mask_row = mask == 1 ? s->sk : mask == 3 ? 1 : 0;
  a.mask_col = mask != 3;
  if (mask == 3)
    for (int64_t i = 0; i < s->sq; ++i) m[i] = (float)i;
  a.out_batch = s->heads * s->sq * s->dv;
  a.out_head = kind == 1 ? s->dv : s->sq * s->dv;
  a.out_row = kind == 1 ? s->heads * s->dv : s->dv;
  const size_t n = (size_t)(s->batch * s->heads * s->sq * s->dv) * sizeof(float);
  float *first = malloc(n + 1);
  for (int threads = 1; threads <= 2; ++threads) {
    const mrt_par par = {.threads = threads};
    guarded gs = guarded_new(mrt_attn_scratch_size(&par, &a), 0);
    mrt_attn_run(&par, &a, gs.data);
    CHECK(guarded_done(&gs));
    if (threads == 1) memcpy(first, a.out, n);
  }
  CHECK(memcmp(first, a.out, n) == 0);
  if (kind != 2) with_cache(s, &a, first, n);
  free(first);
  const double e = error_of(&a);
  if (!(e < bounds[precision])) {
    fprintf(stderr, "sq %d sk %d d %d kind %d mask %d causal %d precision %d: %g ", (int)s->sq,
            (int)s->sk, (int)s->d, kind, mask, causal, (int)precision, e);
    CHECK(e < bounds[precision]);
  }
  CHECK(guarded_done(&gq) && guarded_done(&gk) && guarded_done(&gv) && guarded_done(&go) &&
        guarded_done(&gm));
}

static void tiles_body(const mrt_split_kernels *kern) {
  static const int64_t sizes[][3] = {{1, 64, 64}, {40, 33, 20}, {70, 70, 97}, {32, 32, 32}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i)
    for (int parts = 1; parts <= kern->most_parts; ++parts)
      for (int special = 0; special < 2; ++special)
        on_tiles(kern, parts, sizes[i][0], sizes[i][1], sizes[i][2], special);
}

static void body(void) {
  static const shape shapes[] = {
      {1, 2, 2, 7, 5, 8, 8},     {2, 4, 2, 1, 77, 64, 64},    {1, 12, 12, 128, 128, 64, 64},
      {2, 3, 1, 97, 33, 40, 20}, {1, 1, 1, 300, 600, 16, 32}, {1, 6, 3, 4, 64, 24, 33},
      {2, 4, 4, 1, 300, 32, 32}, {1, 2, 2, 13, 1, 5, 1},      {3, 8, 8, 5, 31, 32, 96}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i)
    for (int kind = 0; kind < 3; ++kind)
      for (int mask = 0; mask < 4; ++mask)
        for (int p = 0; p < 3; ++p)
          one(&shapes[i], kind, mask, mask == 0 && kind == 1, (mrt_precision)p);
  for (size_t e = 0; e < sizeof entries / sizeof *entries; ++e)
    if ((mrt_cpu_get()->isa & entries[e].isa) == entries[e].isa) panels(entries[e].kern);
  tiles_body(&mrt_gemm_split_model);
  if (mrt_split_kernels_get()) tiles_body(mrt_split_kernels_get());
}

int main(int argc, char **argv) {
  static const char *const isas[] = {"scalar", "avx2", "avx512", "avx512bf16", NULL};
  (void)argc;
  setenv("MRT_BF16_DOT", "1", 1);
  return run_per_isa(argv, isas, body);
}
