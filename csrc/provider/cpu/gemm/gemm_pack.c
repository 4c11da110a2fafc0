/* Choice of the tile kernels, and packing of B. */
#include <string.h>

#include "base/cpu.h"
#include "provider/cpu/gemm/gemm.h"
#include "provider/cpu/gemm/gemm_kernel.h"

const mrt_gemm_kernels *mrt_gemm_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/gemm/gemm.def"
#undef MRT_KERNEL
}

const char *mrt_gemm_isa_name(void) { return mrt_gemm_kernels_get()->name; }

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }

size_t mrt_gemm_packed_size(int64_t n, int64_t k) {
  return (size_t)(ceil_div(n, MRT_GEMM_PANEL) * MRT_GEMM_PANEL * k) * sizeof(float);
}

typedef struct pack_job {
  const float *b;
  int64_t ldb, k, n, chunks;
  bool trans;
  float *dst;
} pack_job;

static void pack_panel(const pack_job *j, int64_t panel) {
  const int64_t n0 = panel * MRT_GEMM_PANEL;
  const int cols = (int)min_i64(j->n - n0, MRT_GEMM_PANEL);
  float *dst = j->dst + n0 * j->k;
  if (j->trans) {
    mrt_gemm_kernels_get()->pack_b_trans(j->b + n0 * j->ldb, j->ldb, j->k, cols, dst);
    return;
  }
  const float *src = j->b + n0;
  if (cols == MRT_GEMM_PANEL) {
    for (int64_t k = 0; k < j->k; ++k, dst += 32) memcpy(dst, src + k * j->ldb, 128);
    return;
  }
  for (int64_t k = 0; k < j->k; ++k, dst += 32) {
    memcpy(dst, src + k * j->ldb, (size_t)cols * 4);
    memset(dst + cols, 0, (size_t)(32 - cols) * 4);
  }
}

static void pack_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const pack_job *j = arg;
  const int64_t panels = ceil_div(j->n, MRT_GEMM_PANEL);
  const int64_t end = mrt_par_begin(panels, j->chunks, chunk + 1);
  for (int64_t i = mrt_par_begin(panels, j->chunks, chunk); i < end; ++i) pack_panel(j, i);
}

void mrt_gemm_pack_b(const mrt_par *par, const float *b, int64_t ldb, bool trans, int64_t k,
                     int64_t n, float *dst) {
  if (n <= 0 || k <= 0) return;
  pack_job j = {b, ldb, k, n, 1, trans, dst};
  j.chunks = mrt_par_chunks(ceil_div(n, MRT_GEMM_PANEL), (double)n * (double)k * 0.5);
  mrt_par_run(par, j.chunks, pack_chunk, &j);
}
