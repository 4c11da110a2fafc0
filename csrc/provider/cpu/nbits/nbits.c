/* Driver of the block-quantised products: few rows of A read each weight once, straight into the
 * sums; many rows expand 32 rows of B at a time into a panel of the float32 product. */
#include "provider/cpu/nbits/nbits.h"

#include "base/cpu.h"
#include "provider/cpu/gemm/gemm.h"

enum { FEW = 8, PANEL = MRT_GEMM_PANEL };

const mrt_nbits_kernels *mrt_nbits_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/nbits/nbits.def"
#undef MRT_KERNEL
}

static int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Bytes of one worker: expanded rows, the panel, scratch of the product. */
static size_t worker_size(const mrt_nbits *p) {
  const mrt_par one = {.threads = 1};
  const size_t panel = mrt_gemm_packed_size(PANEL, p->k);
  return ((2 * panel + mrt_gemm_scratch_size(&one, p->m, PANEL, p->k, false)) + 63) & ~(size_t)63;
}

size_t mrt_nbits_scratch_size(const mrt_par *par, const mrt_nbits *p) {
  return p->m <= FEW ? 0 : worker_size(p) * (size_t)mrt_par_workers(par);
}

typedef struct job {
  const mrt_nbits *p;
  const mrt_nbits_kernels *kern;
  int64_t blocks, row_bytes, units, chunks;
  char *scratch;
  size_t worker;
} job;

static void few_rows(const job *j, int64_t n) {
  const mrt_nbits *p = j->p;
  for (int64_t m = 0; m < p->m; m += MRT_NBITS_ROWS) {
    float y[MRT_NBITS_ROWS];
    const int rows = (int)min_i64(MRT_NBITS_ROWS, p->m - m);
    (p->bits == 4 ? j->kern->dot4 : j->kern->dot8)(
        p->b + n * j->row_bytes, p->scales + n * j->blocks,
        p->zeros ? p->zeros + n * j->blocks : NULL, p->k, p->block, p->a + m * p->k, p->k, rows, y);
    for (int r = 0; r < rows; ++r) p->c[(m + r) * p->n + n] = y[r] + (p->bias ? p->bias[n] : 0);
  }
}

static void panel(const job *j, int64_t unit, int worker) {
  const mrt_nbits *p = j->p;
  const mrt_par one = {.threads = 1};
  const int64_t n0 = unit * PANEL, cols = min_i64(PANEL, p->n - n0);
  float *rows = (float *)(j->scratch + (size_t)worker * j->worker), *packed = rows + PANEL * p->k;
  for (int64_t i = 0; i < cols; ++i)
    (p->bits == 4 ? j->kern->expand4 : j->kern->expand8)(
        p->b + (n0 + i) * j->row_bytes, p->scales + (n0 + i) * j->blocks,
        p->zeros ? p->zeros + (n0 + i) * j->blocks : NULL, p->k, p->block, rows + i * p->k);
  mrt_gemm_pack_b(&one, rows, p->k, true, p->k, cols, packed);
  const mrt_gemm_epilogue e = {.alpha = 1, .bias = p->bias ? p->bias + n0 : NULL};
  const mrt_gemm g = {.m = p->m,
                      .n = cols,
                      .k = p->k,
                      .a = p->a,
                      .lda = p->k,
                      .b = packed,
                      .c = p->c + n0,
                      .ldc = p->n,
                      .epi = &e};
  mrt_gemm_run(&one, &g, packed + PANEL * p->k);
}

static void chunk(void *arg, int64_t i, int worker) {
  const job *j = arg;
  const int64_t end = mrt_par_begin(j->units, j->chunks, i + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, i); u < end; ++u)
    if (j->p->m <= FEW)
      few_rows(j, u);
    else
      panel(j, u, worker);
}

void mrt_nbits_run(const mrt_par *par, const mrt_nbits *p, void *scratch) {
  job j = {.p = p, .kern = mrt_nbits_kernels_get(), .scratch = scratch};
  if (p->m <= 0 || p->n <= 0 || p->k <= 0) return;
  j.blocks = (p->k + p->block - 1) / p->block;
  j.row_bytes = j.blocks * (p->block * p->bits / 8);
  j.units = p->m <= FEW ? p->n : (p->n + PANEL - 1) / PANEL;
  if (p->m > FEW) j.worker = worker_size(p);
  const double work = (double)p->n * (double)p->k;
  j.chunks = mrt_par_chunks(j.units, work * (0.06 + 0.02 * (double)p->m));
  mrt_par_run(par, j.chunks, chunk, &j);
}
