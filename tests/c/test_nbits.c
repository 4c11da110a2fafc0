/* Block-quantised products (nbits/): every kernel against a double loop, at block and k tails, with
 * guard bytes, then the whole product for few and many rows with equal bits for any threads. */
#include "kernels.h"
#include "provider/cpu/nbits/nbits.h"

typedef struct entry {
  uint32_t isa;
  const mrt_nbits_kernels *kern;
} entry;
static const entry entries[] = {
#define MRT_KERNEL(isa, symbol) {MRT_ISA_##isa, &symbol},
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL
};

static double weight(const uint8_t *q, const float *scales, const float *zeros, int64_t k,
                     int64_t block, int bits) {
  const int v = bits == 8 ? q[k] : k % 2 ? q[k / 2] >> 4 : q[k / 2] & 15;
  return ((double)v - (zeros ? (double)zeros[k / block] : (double)(1 << (bits - 1)))) *
         (double)scales[k / block];
}

static void check_row(const mrt_nbits_kernels *kern, int64_t k, int64_t block, int bits, int rows) {
  const int64_t blocks = (k + block - 1) / block;
  guarded gq = guarded_new((size_t)(blocks * block * bits / 8), 1), gs, gz, ga, gy, go;
  for (size_t i = 0; i < gq.bytes; ++i) gq.data[i] = (uint8_t)rng();
  float *scales = guarded_floats(&gs, blocks, 4), *zeros = guarded_floats(&gz, blocks, 4);
  for (int64_t i = 0; i < blocks; ++i) zeros[i] = (float)(rng() % (1u << bits));
  float *a = guarded_floats(&ga, (rows - 1) * (k + 3) + k, 4), *y = guarded_floats(&gy, rows, 4),
        *out = guarded_floats(&go, k, 4);
  if (k % 3 == 0) zeros = NULL;
  (bits == 4 ? kern->dot4 : kern->dot8)(gq.data, scales, zeros, k, block, a, k + 3, rows, y);
  (bits == 4 ? kern->expand4 : kern->expand8)(gq.data, scales, zeros, k, block, out);
  for (int r = 0; r < rows; ++r) {
    double x = 0, mass = 0;
    for (int64_t i = 0; i < k; ++i) {
      const double w = weight(gq.data, scales, zeros, i, block, bits), v = a[r * (k + 3) + i];
      x += w * v, mass += fabs(w * v);
      if (r == 0) CHECK(fabs(out[i] - w) <= 1e-6 * fabs(w) + 1e-30);
    }
    CHECK(fabs(y[r] - x) <= 6e-8 * (8 + 0.2 * (double)k) * mass + 1e-30);
  }
  CHECK(guarded_done(&gq) && guarded_done(&gs) && guarded_done(&gz) && guarded_done(&ga) &&
        guarded_done(&gy) && guarded_done(&go));
}

static void check_product(int64_t m, int64_t n, int64_t k, int64_t block, int bits, bool bias) {
  const mrt_par one = {.threads = 1}, all = {0};
  const int64_t blocks = (k + block - 1) / block;
  guarded gc[2];
  float *a = malloc((size_t)(m * k) * 4), *s = malloc((size_t)(n * blocks) * 4),
        *z = malloc((size_t)(n * blocks) * 4), *add = malloc((size_t)n * 4);
  uint8_t *b = malloc((size_t)(n * blocks * block * bits / 8));
  for (int64_t i = 0; i < m * k; ++i) a[i] = rng_float();
  for (int64_t i = 0; i < n * blocks; ++i) s[i] = rng_float(), z[i] = (float)(rng() % 16);
  for (int64_t i = 0; i < n * blocks * block * bits / 8; ++i) b[i] = (uint8_t)rng();
  for (int64_t i = 0; i < n; ++i) add[i] = rng_float();
  mrt_nbits p = {m, n, k, block, bits, a, b, s, bias ? z : NULL, bias ? add : NULL, NULL};
  void *scratch = aligned_alloc(64, mrt_nbits_scratch_size(&all, &p) + 64);
  for (int i = 0; i < 2; ++i) {
    p.c = guarded_floats(&gc[i], m * n, 4);
    mrt_nbits_run(i ? &one : &all, &p, scratch);
  }
  CHECK(memcmp(gc[0].data, gc[1].data, (size_t)(m * n) * 4) == 0);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double x = bias ? add[j] : 0, mass = fabs(x);
      for (int64_t q = 0; q < k; ++q) {
        const double w = weight(b + j * blocks * block * bits / 8, s + j * blocks,
                                bias ? z + j * blocks : NULL, q, block, bits) *
                         a[i * k + q];
        x += w, mass += fabs(w);
      }
      CHECK(fabs(((float *)gc[0].data)[i * n + j] - x) <= 6e-8 * (8 + (double)k) * mass);
    }
  CHECK(guarded_done(&gc[0]) && guarded_done(&gc[1]));
  free(a), free(s), free(z), free(add), free(b), free(scratch);
}

static void body(void) {
  static const int64_t ks[] = {1, 15, 16, 17, 31, 32, 33, 64, 100, 256};
  const uint32_t have = mrt_cpu_get()->isa;
  for (size_t i = 0; i < sizeof entries / sizeof *entries; ++i)
    for (int k = 0; k < 10 && (have & entries[i].isa) == entries[i].isa; ++k)
      for (int64_t block = 16; block <= 128; block *= 2)
        for (int rows = 1; rows <= MRT_NBITS_ROWS; ++rows)
          for (int bits = 4; bits <= 8; bits += 4)
            check_row(entries[i].kern, ks[k], block, bits, rows);
  for (int64_t m = 1; m <= 40; m += m < 10 ? 1 : 13)
    for (int bits = 4; bits <= 8; bits += 4) {
      check_product(m, 70, 200, 32, bits, m & 1);
      check_product(m, 33, 65, 16, bits, !(m & 1));
    }
  check_product(1, 300, 1000, 128, 4, false);
}

int main(int argc, char **argv) {
  (void)argc;
  static const char *const isas[] = {"avx512", "avx2", "scalar", NULL};
  return run_per_isa(argv, isas, body);
}
