/* Block-quantised products (nbits/): every kernel against a double loop, at block and k tails, with
 * guard bytes, then the whole product for few and many rows with equal bits for any threads. */
#include "kernels.h"
#include "provider/cpu/nbits/nbits_exact.h"

typedef struct entry {
  uint32_t isa;
  const mrt_nbits_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL
};

/* B as the model stores it: rows of low nibbles first. */
typedef struct source {
  int64_t n, k, block, blocks;
  int bits;
  uint8_t *q;
  float *scales, *zeros;
} source;

static source source_new(int64_t n, int64_t k, int64_t block, int bits, bool zeros) {
  source s = {.n = n, .k = k, .block = block, .blocks = (k + block - 1) / block, .bits = bits};
  const int64_t bytes = n * s.blocks * block * bits / 8, each = n * s.blocks;
  s.q = malloc((size_t)bytes);
  s.scales = malloc((size_t)each * 4);
  s.zeros = zeros ? malloc((size_t)each * 4) : NULL;
  for (int64_t i = 0; i < bytes; ++i) s.q[i] = (uint8_t)rng();
  for (int64_t i = 0; i < each; ++i) {
    s.scales[i] = rng_float();
    if (zeros) s.zeros[i] = (float)(rng() % (1u << bits));
  }
  return s;
}

static double weight(const source *s, int64_t n, int64_t k) {
  const uint8_t *q = s->q + n * s->blocks * s->block * s->bits / 8;
  const int v = s->bits == 8 ? q[k] : k % 2 ? q[k / 2] >> 4 : q[k / 2] & 15;
  const int64_t at = n * s->blocks + k / s->block;
  return ((double)v - (s->zeros ? (double)s->zeros[at] : (double)(1 << (s->bits - 1)))) *
         (double)s->scales[at];
}

/* The same, packed, in memory with guards. */
typedef struct packed {
  guarded q, scales, zeros;
} packed;

static packed packed_new(const source *s) {
  packed p = {guarded_new(mrt_nbits_packed_size(s->n, s->k, s->block, s->bits), 0), {0}, {0}};
  const int64_t count = (int64_t)mrt_nbits_scales_count(s->n, s->k, s->block);
  mrt_nbits_pack(s->q, s->n, s->k, s->block, s->bits, (uint32_t *)p.q.data);
  mrt_nbits_pack_scales(s->scales, s->n, s->k, s->block, guarded_floats(&p.scales, count, 0));
  if (s->zeros)
    mrt_nbits_pack_scales(s->zeros, s->n, s->k, s->block, guarded_floats(&p.zeros, count, 0));
  return p;
}

static void drop(source *s, packed *p) {
  CHECK(guarded_done(&p->q) && guarded_done(&p->scales));
  if (s->zeros) CHECK(guarded_done(&p->zeros));
  free(s->q), free(s->scales), free(s->zeros);
}

/* Bytes of A against the definition. */
static void check_bytes(const float *a, int64_t blocks, int64_t block, const int8_t *q,
                        const float *scales, const int32_t *sums) {
  for (int64_t b = 0; b < blocks; ++b) {
    float top = 0;
    int32_t sum = 0;
    for (int64_t i = b * block; i < (b + 1) * block; ++i) {
      top = fmaxf(top, fabsf(a[i]));
      sum += q[i];
      CHECK(fabs((double)q[i] * (double)scales[b] - (double)a[i]) <= 0.5001 * (double)scales[b]);
    }
    CHECK(fabsf(scales[b] - top / 127) <= 1e-6f * top && sums[b] == sum);
  }
}

static void check_panel(const mrt_nbits_kernels *kern, int64_t k, int64_t block, int bits,
                        int rows) {
  source s = source_new(MRT_NBITS_PANEL - 3, k, block, bits, k % 3 != 0);
  packed p = packed_new(&s);
  const int64_t padded = s.blocks * block;
  guarded ga, gq, gs, gn, gy, go;
  float *a = guarded_floats(&ga, rows * padded, 4), *y = guarded_floats(&gy, rows * 32, 0);
  float *out = guarded_floats(&go, padded * 32, 4), *as = guarded_floats(&gs, rows * s.blocks, 4);
  gq = guarded_new((size_t)(rows * padded), 1);
  gn = guarded_new((size_t)(rows * s.blocks) * 4, 4);
  for (int r = 0; r < rows; ++r) {
    for (int64_t i = k; i < padded; ++i) a[r * padded + i] = 0;
    int8_t *q = (int8_t *)gq.data + r * padded;
    int32_t *sums = (int32_t *)gn.data + r * s.blocks;
    kern->quantize(a + r * padded, s.blocks, block, q, as + r * s.blocks, sums);
    check_bytes(a + r * padded, s.blocks, block, q, as + r * s.blocks, sums);
  }
  const mrt_nbits_panel panel = {.q = (uint32_t *)p.q.data,
                                 .scales = (float *)p.scales.data,
                                 .zeros = s.zeros ? (float *)p.zeros.data : NULL,
                                 .blocks = s.blocks,
                                 .block = block,
                                 .bits = bits};
  const mrt_nbits_rows x = {a, (int8_t *)gq.data, as, (int32_t *)gn.data};
  kern->expand(&panel, out);
  for (int bytes = 0; bytes <= 1; ++bytes) {
    (bytes ? kern->dot_s8 : kern->dot_f32)(&panel, &x, rows, y);
    for (int r = 0; r < rows; ++r)
      for (int64_t n = 0; n < s.n; ++n) {
        double sum = 0, mass = 0;
        for (int64_t i = 0; i < k; ++i) {
          const double w = weight(&s, n, i);
          const double v = bytes
                               ? (double)x.q[r * padded + i] * (double)as[r * s.blocks + i / block]
                               : (double)a[r * padded + i];
          sum += w * v, mass += fabs(w * v);
          CHECK(fabs((double)out[i * 32 + n] - w) <= 1e-6 * fabs(w) + 1e-30);
        }
        /* Bytes: zeros are taken off the sum, so errors are those of numbers up to 255. */
        const double slack = bytes && s.zeros ? 200 : 8 + 0.2 * (double)k;
        CHECK(fabs((double)y[r * 32 + n] - sum) <= 6e-8 * slack * mass + 1e-5 * bytes);
      }
  }
  CHECK(guarded_done(&ga) && guarded_done(&gq) && guarded_done(&gs) && guarded_done(&gn) &&
        guarded_done(&gy) && guarded_done(&go));
  drop(&s, &p);
}

/* A block with a NaN or an infinity spoils its results, and only those. */
static void check_not_finite(const mrt_nbits_kernels *kern) {
  float a[64] = {1, NAN}, scales[2];
  int8_t q[64];
  int32_t sums[2];
  kern->quantize(a, 2, 32, q, scales, sums);
  CHECK(isnan(scales[0]) && scales[1] == 0 && sums[1] == 0);
  a[1] = -INFINITY;
  kern->quantize(a, 2, 32, q, scales, sums);
  CHECK(isnan(scales[0]) && sums[0] == 0);
}

/* Error of bytes: half a step of each number, and the sum of what that may move. */
static double byte_error(const source *s, const float *a, int64_t n) {
  double e = 0;
  for (int64_t b = 0; b < s->blocks; ++b) {
    double top = 0, mass = 0;
    for (int64_t i = b * s->block; i < (b + 1) * s->block && i < s->k; ++i)
      top = fmax(top, fabs((double)a[i])), mass += fabs(weight(s, n, i));
    e += top / 254 * mass;
  }
  return e;
}

static void check_product(int64_t m, int64_t n, int64_t k, int64_t block, int bits, bool bias,
                          bool bytes) {
  const mrt_par one = {.threads = 1}, all = {0};
  source s = source_new(n, k, block, bits, bias);
  packed b = packed_new(&s);
  guarded gc[2];
  float *a = malloc((size_t)(m * k) * 4), *add = malloc((size_t)n * 4);
  for (int64_t i = 0; i < m * k; ++i) a[i] = rng_float();
  for (int64_t i = 0; i < n; ++i) add[i] = rng_float();
  mrt_nbits p = {.m = m, .n = n, .k = k, .block = block, .bits = bits, .bytes = bytes};
  p.precision = bytes ? MRT_PRECISION_MEDIUM : MRT_PRECISION_HIGHEST;
  p.a = a;
  p.b = (uint32_t *)b.q.data;
  p.scales = (float *)b.scales.data;
  p.zeros = bias ? (float *)b.zeros.data : NULL;
  p.bias = bias ? add : NULL;
  for (int i = 0; i < 2; ++i) {
    guarded scratch = guarded_new(mrt_nbits_scratch_size(i ? &one : &all, &p), 0);
    p.c = guarded_floats(&gc[i], m * n, 4);
    mrt_nbits_run(i ? &one : &all, &p, scratch.data);
    CHECK(guarded_done(&scratch));
  }
  CHECK(memcmp(gc[0].data, gc[1].data, (size_t)(m * n) * 4) == 0);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double x = bias ? (double)add[j] : 0, mass = fabs(x);
      for (int64_t q = 0; q < k; ++q) {
        const double w = weight(&s, j, q) * (double)a[i * k + q];
        x += w, mass += fabs(w);
      }
      double bound = 6e-8 * (8 + (double)k) * mass;
      if (bytes) bound += byte_error(&s, a + i * k, j) + mass / 128;
      CHECK(fabs((double)((float *)gc[0].data)[i * n + j] - x) <= bound);
    }
  CHECK(guarded_done(&gc[0]) && guarded_done(&gc[1]));
  free(a), free(add);
  drop(&s, &b);
}

#ifdef MRT_HAVE_AVX512VNNI
/* Numbers of block b of a row. */
static float exact_case(int64_t b, int64_t i) {
  const float x = rng_float();
  switch (b % 8) {
    case 0: return i % 3 ? x : 0;
    case 1: return 0;
    case 2: return ldexpf(x, (int)(i % 40) - 20); /* for floats */
    case 3: return copysignf(ldexpf(1, (int)(i % 15)), x);
    case 4: return copysignf(ldexpf(0x1.fffffep0f, (int)(i % 15)), x);
    case 5: return ldexpf(x, -100); /* for floats */
    case 6: return ldexpf(x, 40);
    default: return x;
  }
}

/* One row as digits: sums of a block are right to the last bit or two, also beside larger blocks.
 */
static void check_exact(const mrt_nbits_exact *exact, int64_t k, int64_t block, bool poison) {
  source s = source_new(MRT_NBITS_PANEL, k, block, 4, false);
  packed p = packed_new(&s);
  guarded ga, gu, gs, gy;
  const int64_t blocks = s.blocks, padded = blocks * block;
  float *a = guarded_floats(&ga, padded, 4), *y = guarded_floats(&gy, MRT_NBITS_PANEL, 4);
  for (int64_t i = 0; i < padded; ++i) a[i] = i < k ? exact_case(i / block, i) : 0;
  if (poison) a[k / 2] = k % 2 ? INFINITY : NAN;
  guarded gd = guarded_new((size_t)padded * MRT_NBITS_DIGITS + MRT_NBITS_EXACT_SLACK, 0);
  gs = guarded_new((size_t)blocks * MRT_NBITS_DIGITS * 4, 4);
  const mrt_nbits_exact_row x = {(int8_t *)gd.data, guarded_floats(&gu, blocks, 4),
                                 (int32_t *)gs.data};
  exact->split(a, blocks, block, &x);
  for (int64_t b = 0; b < blocks && !poison && b * block + block <= k; ++b) {
    const bool floats = b % 8 == 5 || b % 8 == 2;
    if (b % 8 % 6 && b % 8 != 7 && (b % 8 != 2 || block >= 64))
      CHECK(!isnan(x.units[b]) == !floats);
    for (int64_t i = 0; i < block && !isnan(x.units[b]); ++i) {
      double v = 0;
      for (int d = MRT_NBITS_DIGITS; d-- > 0;)
        v = v * 256 + x.digits[((b * block + i) / 8 * MRT_NBITS_DIGITS + d) * 8 + i % 8];
      CHECK(v * (double)x.units[b] == (double)a[b * block + i]);
    }
  }
  const mrt_nbits_panel panel = {
      (uint32_t *)p.q.data, (float *)p.scales.data, NULL, blocks, block, 4};
  exact->dot(&panel, &x, a, y);
  for (int64_t n = 0; n < MRT_NBITS_PANEL; ++n) {
    double sum = 0, bound = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      double part = 0, mass = 0;
      for (int64_t i = b * block; i < (b + 1) * block && i < k; ++i) {
        part += weight(&s, n, i) * (double)a[i];
        mass += fabs(weight(&s, n, i) * (double)a[i]);
      }
      sum += part;
      bound += isnan(x.units[b]) ? (double)block * mass : 4 * fabs(part) + 0x1p-20 * mass;
      bound += fabs(sum);
    }
    CHECK(poison ? !isfinite(y[n]) : fabs((double)y[n] - sum) <= 6e-8 * bound);
  }
  CHECK(guarded_done(&ga) && guarded_done(&gu) && guarded_done(&gs) && guarded_done(&gy) &&
        guarded_done(&gd));
  drop(&s, &p);
}

/* Scales so small that a unit times a scale would be no float any more; results are. */
static void check_exact_scales(const mrt_nbits_exact *exact) {
  enum { N = 64 };
  float a[N], unit, y[MRT_NBITS_PANEL];
  int8_t digits[N * MRT_NBITS_DIGITS + MRT_NBITS_EXACT_SLACK];
  int32_t starts[MRT_NBITS_DIGITS];
  source s = source_new(MRT_NBITS_PANEL, N, N, 4, false);
  for (int64_t i = 0; i < MRT_NBITS_PANEL; ++i) s.scales[i] = 1e-20f * (float)(i + 1);
  packed p = packed_new(&s);
  for (int64_t i = 0; i < N; ++i) a[i] = ldexpf(rng_float(), -54);
  const mrt_nbits_exact_row x = {digits, &unit, starts};
  exact->split(a, 1, N, &x);
  const mrt_nbits_panel panel = {(uint32_t *)p.q.data, (float *)p.scales.data, NULL, 1, N, 4};
  exact->dot(&panel, &x, a, y);
  for (int64_t n = 0; n < MRT_NBITS_PANEL; ++n) {
    double sum = 0, mass = 0;
    for (int64_t i = 0; i < N; ++i) {
      sum += weight(&s, n, i) * (double)a[i];
      mass += fabs(weight(&s, n, i) * (double)a[i]);
    }
    CHECK(fabs((double)y[n] - sum) <= 1e-6 * mass);
  }
  drop(&s, &p);
}

static void check_exact_all(void) {
  if (!(mrt_cpu_get()->isa & MRT_ISA_AVX512VNNI)) return;
  check_exact_scales(&mrt_nbits_exact_avx512vnni);
  for (int64_t block = 16; block <= 256; block *= 2)
    for (int64_t k = 1; k <= 2100; k += k < 40 ? 13 : 509) {
      check_exact(&mrt_nbits_exact_avx512vnni, k, block, false);
      check_exact(&mrt_nbits_exact_avx512vnni, k, block, true);
    }
  check_exact(&mrt_nbits_exact_avx512vnni, 33000, MRT_NBITS_EXACT_BLOCK, false);
}
#else
static void check_exact_all(void) {}
#endif

static void body(void) {
  static const int64_t ks[] = {1, 15, 16, 17, 31, 32, 33, 64, 100, 256};
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    if ((have & entries[i].isa) == entries[i].isa) check_not_finite(entries[i].kern);
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    for (int k = 0; k < 10 && (have & entries[i].isa) == entries[i].isa; ++k)
      for (int64_t block = 16; block <= 128; block *= 2)
        for (int rows = 1; rows <= MRT_NBITS_ROWS; ++rows)
          for (int bits = 4; bits <= 8; bits += 4)
            check_panel(entries[i].kern, ks[k], block, bits, rows);
  check_exact_all();
  for (int64_t m = 1; m <= 40; m += m < 10 ? 1 : 13)
    for (int bits = 4; bits <= 8; bits += 4) {
      for (int bytes = 0; bytes <= 1; ++bytes) {
        check_product(m, 70, 200, 32, bits, m & 1, bytes);
        check_product(m, 33, 65, 16, bits, !(m & 1), bytes);
      }
    }
  check_product(1, 300, 1000, 128, 4, false, false);
  check_product(3, 301, 1024, 256, 4, true, true);
  check_product(9, 200, 33000, 128, 4, false, false); /* more than one slab */
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"amx", "avx512vnni", "avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
