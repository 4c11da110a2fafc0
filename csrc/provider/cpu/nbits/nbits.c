/* Driver of the block-quantised products. Few rows of A read every weight once, straight into the
 * sums; many rows expand a slab of B into panels of the float32 product and leave the rest to it.
 */
#include "provider/cpu/nbits/nbits.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "provider/cpu/nbits/nbits_exact.h"

enum {
  FEW = 8,
  CHUNKS = 4, /* times the usual number */
  PANEL = MRT_NBITS_PANEL,
  SLAB_FLOATS = 1 << 22 /* of expanded weights: they stay in the caches until they are used */
};

const mrt_nbits_kernels *mrt_nbits_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL
}

const mrt_nbits_exact *mrt_nbits_exact_get(void) {
#if defined MRT_HAVE_AVX512VNNI && defined MRT_HAVE_AMX
  const uint32_t want = MRT_ISA_AVX512VNNI | MRT_ISA_AMX;
  if ((mrt_cpu_get()->isa & want) == want) return &mrt_nbits_exact_avx512vnni;
#endif
  return NULL;
}

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- packing ---- */

size_t mrt_nbits_packed_size(int64_t n, int64_t k, int64_t block, int bits) {
  size_t bytes;
  const size_t padded = (size_t)ceil_div(k, block) * (size_t)block;
  if (!mrt_size_mul(padded / 8 * (size_t)bits, (size_t)ceil_div(n, PANEL) * PANEL, &bytes) ||
      !mrt_size_add(bytes, MRT_ALIGN, &bytes)) /* what kernels read past the end */
    return SIZE_MAX;
  return bytes;
}

size_t mrt_nbits_scales_count(int64_t n, int64_t k, int64_t block) {
  size_t count;
  if (!mrt_size_mul((size_t)ceil_div(n, PANEL) * PANEL, (size_t)ceil_div(k, block), &count) ||
      count > PTRDIFF_MAX / sizeof(float))
    return SIZE_MAX;
  return count;
}

/* Four 4-bit values to the low halves of four bytes. */
static uint32_t spread(uint32_t x) {
  x = (x | x << 8) & 0x00ff00ff;
  return (x | x << 4) & 0x0f0f0f0f;
}

void mrt_nbits_pack(const uint8_t *b, int64_t n, int64_t k, int64_t block, int bits,
                    uint32_t *dst) {
  const int64_t words = ceil_div(k, block) * block * bits / 32, padded_n = ceil_div(n, PANEL);
  for (int64_t p = 0; p < padded_n; ++p)
    for (int64_t i = 0; i < words; ++i)
      for (int64_t c = 0; c < PANEL; ++c) {
        uint32_t x = 0;
        if (p * PANEL + c < n) {
          const uint8_t *at = b + ((p * PANEL + c) * words + i) * 4;
          x = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        }
        *dst++ = bits == 8 ? x : spread(x & 0xffff) | spread(x >> 16) << 4;
      }
  memset(dst, 0, MRT_ALIGN);
}

void mrt_nbits_pack_scales(const float *src, int64_t n, int64_t k, int64_t block, float *dst) {
  const int64_t blocks = ceil_div(k, block);
  for (int64_t p = 0; p < ceil_div(n, PANEL); ++p)
    for (int64_t b = 0; b < blocks; ++b)
      for (int64_t c = 0; c < PANEL; ++c)
        *dst++ = p * PANEL + c < n ? src[(p * PANEL + c) * blocks + b] : 0;
}

/* ---- few rows ---- */

typedef struct job {
  const mrt_nbits *p;
  const mrt_nbits_kernels *kern;
  int64_t blocks, padded, panels, chunks;
  mrt_nbits_rows rows;
  const mrt_nbits_exact *exact; /* NULL: not that way */
  mrt_nbits_exact_row row;
  int64_t first; /* panel of the slab */
  float *slab;
} job;

static job job_of(const mrt_nbits *p) {
  job j = {.p = p, .kern = mrt_nbits_kernels_get()};
  j.blocks = ceil_div(p->k, p->block);
  j.padded = j.blocks * p->block;
  j.panels = ceil_div(p->n, PANEL);
  if (p->m == 1 && p->bits == 4 && !p->bytes && !p->zeros && p->block <= MRT_NBITS_EXACT_BLOCK)
    j.exact = mrt_nbits_exact_get();
  return j;
}

static mrt_nbits_panel panel_of(const job *j, int64_t i) {
  const mrt_nbits *p = j->p;
  const int64_t at = i * j->blocks * PANEL;
  return (mrt_nbits_panel){.q = p->b + i * (j->padded * p->bits),
                           .scales = p->scales + at,
                           .zeros = p->zeros ? p->zeros + at : NULL,
                           .blocks = j->blocks,
                           .block = p->block,
                           .bits = p->bits};
}

static void few_rows(const job *j, int64_t panel) {
  const mrt_nbits *p = j->p;
  const mrt_nbits_panel b = panel_of(j, panel);
  const int64_t n0 = panel * PANEL, cols = min_i64(PANEL, p->n - n0);
  for (int64_t m = 0; m < p->m; m += MRT_NBITS_ROWS) {
    _Alignas(64) float y[MRT_NBITS_ROWS * PANEL];
    const int rows = (int)min_i64(MRT_NBITS_ROWS, p->m - m);
    mrt_nbits_rows a = j->rows;
    a.a += m * j->padded;
    if (p->bytes) {
      a.q += m * j->padded;
      a.scales += m * j->blocks;
      a.sums += m * j->blocks;
    }
    if (j->exact)
      j->exact->dot(&b, &j->row, a.a, y);
    else
      (p->bytes ? j->kern->dot_s8 : j->kern->dot_f32)(&b, &a, rows, y);
    for (int r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        p->c[(m + r) * p->n + n0 + c] = y[r * PANEL + c] + (p->bias ? p->bias[n0 + c] : 0);
  }
}

static void few_chunk(void *arg, int64_t i, int worker) {
  const job *j = arg;
  (void)worker;
  const int64_t end = mrt_par_begin(j->panels, j->chunks, i + 1);
  for (int64_t u = mrt_par_begin(j->panels, j->chunks, i); u < end; ++u) few_rows(j, u);
}

/* Scratch of few rows: A padded, its bytes, scales and sums, or its digits, units and starts. */
static size_t few_size(const job *j) {
  const size_t rows = (size_t)j->p->m, k = (size_t)j->padded, blocks = (size_t)j->blocks;
  const size_t exact = blocks * (sizeof(float) + MRT_NBITS_DIGITS * sizeof(int32_t)) +
                       k * MRT_NBITS_DIGITS + MRT_NBITS_EXACT_SLACK;
  return (j->exact ? exact : 0) + rows * (j->padded == j->p->k ? 0 : k * sizeof(float)) +
         (j->p->bytes ? rows * (k + 2 * blocks * sizeof(float)) : 0);
}

static void run_few(const mrt_par *par, job *j, char *scratch) {
  const mrt_nbits *p = j->p;
  j->rows.a = p->a;
  if (j->padded != p->k) {
    float *to = (float *)scratch;
    j->rows.a = to;
    for (int64_t m = 0; m < p->m; ++m, to += j->padded) {
      memcpy(to, p->a + m * p->k, (size_t)p->k * sizeof *to);
      memset(to + p->k, 0, (size_t)(j->padded - p->k) * sizeof *to);
    }
    scratch = (char *)to;
  }
  if (p->bytes) {
    float *scales = (float *)scratch;
    int32_t *sums = (int32_t *)(scales + p->m * j->blocks);
    int8_t *q = (int8_t *)(sums + p->m * j->blocks);
    for (int64_t m = 0; m < p->m; ++m)
      j->kern->quantize(j->rows.a + m * j->padded, j->blocks, p->block, q + m * j->padded,
                        scales + m * j->blocks, sums + m * j->blocks);
    j->rows.q = q;
    j->rows.scales = scales;
    j->rows.sums = sums;
  }
  if (j->exact) {
    j->row.units = (float *)scratch;
    j->row.starts = (int32_t *)(j->row.units + j->blocks);
    j->row.digits = (int8_t *)(j->row.starts + j->blocks * MRT_NBITS_DIGITS);
    j->exact->split(j->rows.a, j->blocks, p->block, &j->row);
  }
  const double work = (double)p->n * (double)p->k;
  j->chunks = mrt_par_chunks(j->panels, work * (0.02 + 0.01 * (double)p->m));
  /* Small ones: workers come to their end together. */
  if (j->chunks > 1) j->chunks = min_i64(j->panels, CHUNKS * j->chunks);
  mrt_par_run(par, j->chunks, few_chunk, j);
}

/* ---- many rows ---- */

static int64_t slab_panels(const job *j) {
  const int64_t fit = SLAB_FLOATS / (PANEL * j->padded);
  return min_i64(j->panels, fit < 2 ? 2 : fit);
}

size_t mrt_nbits_scratch_size(const mrt_par *par, const mrt_nbits *p) {
  const job j = job_of(p);
  size_t bytes, gemm;
  if (p->m <= FEW) return few_size(&j);
  const int64_t n = slab_panels(&j) * PANEL;
  gemm = mrt_gemm_scratch_size(par, p->m, n, p->k, false);
  const int64_t last = p->n % n; /* a narrow rest may be cut in another way */
  if (last) {
    const size_t other = mrt_gemm_scratch_size(par, p->m, last, p->k, false);
    if (other > gemm) gemm = other;
  }
  /* Panels are k rows long; the last one is expanded to whole blocks. */
  if (!mrt_size_mul((size_t)(n / PANEL * p->k + j.padded) * PANEL, sizeof(float), &bytes) ||
      !mrt_size_add(bytes, gemm, &bytes))
    return SIZE_MAX;
  return bytes;
}

static void expand_chunk(void *arg, int64_t i, int worker) {
  const job *j = arg;
  (void)worker;
  const mrt_nbits_panel b = panel_of(j, j->first + i);
  j->kern->expand(&b, j->slab + i * j->p->k * PANEL);
}

static void run_many(const mrt_par *par, job *j, char *scratch) {
  const mrt_nbits *p = j->p;
  const int64_t slab = slab_panels(j);
  j->slab = (float *)scratch;
  float *rest = j->slab + (slab * p->k + j->padded) * PANEL;
  for (j->first = 0; j->first < j->panels; j->first += slab) {
    const int64_t n0 = j->first * PANEL, panels = min_i64(slab, j->panels - j->first);
    if (j->padded == p->k) /* else panels overlap: in order */
      mrt_par_run(par, panels, expand_chunk, j);
    else
      for (int64_t i = 0; i < panels; ++i) expand_chunk(j, i, 0);
    const mrt_gemm_epilogue e = {.alpha = 1, .bias = p->bias ? p->bias + n0 : NULL};
    const mrt_gemm g = {.m = p->m,
                        .n = min_i64(panels * PANEL, p->n - n0),
                        .k = p->k,
                        .a = p->a,
                        .lda = p->k,
                        .b = j->slab,
                        .c = p->c + n0,
                        .ldc = p->n,
                        .epi = &e,
                        .precision = p->precision};
    mrt_gemm_run(par, &g, rest);
  }
}

void mrt_nbits_run(const mrt_par *par, const mrt_nbits *p, void *scratch) {
  if (p->m <= 0 || p->n <= 0 || p->k <= 0) return;
  job j = job_of(p);
  if (p->m <= FEW)
    run_few(par, &j, scratch);
  else
    run_many(par, &j, scratch);
}
