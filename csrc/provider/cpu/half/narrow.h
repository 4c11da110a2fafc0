/* Float32 products whose weights are kept in 1 or 2 bytes each: bfloat16, float16, or int8 with a
 * scale for each column. Every weight is widened exactly, sums are float32, so the result is that
 * of the same product with wide weights, read from memory in a half or a quarter of the time.
 *
 * Packed B has the form of mrt_gemm_pack_b with narrow elements: [ceil(n / 32)][k][32], or is what
 * tiles multiply (mrt_gemm.b16 of one part): [ceil(n / 32)][ceil(k / 32)][2][16][16 columns][2],
 * the last of k = i and i + 16. Up to 8 rows widen weights in registers; more rows widen some
 * panels and leave the rest to the product.
 */
#ifndef MRT_PROVIDER_CPU_HALF_NARROW_H
#define MRT_PROVIDER_CPU_HALF_NARROW_H

#include "base/threads.h"
#include "provider/cpu/gemm/gemm.h"
#include "tensor/tensor.h"

typedef enum mrt_narrow_kind {
  MRT_NARROW_BF16,
  MRT_NARROW_F16,
  MRT_NARROW_S8,
  MRT_NARROW_TILES, /* bf16 */
  MRT_NARROW_KINDS
} mrt_narrow_kind;

enum { MRT_NARROW_ROWS = 8 }; /* rows of A that one pass over a panel serves, at most */

/* The end of a row's product in one panel: c = alpha * sums * scale + bias + row_bias +
 * beta * residual. Pointers to the panel's first column; NULL where there is none but c. */
typedef struct mrt_narrow_row {
  const float *sums, *scale, *bias, *residual;
  float alpha, beta, row_bias;
  float *c;
  int cols; /* 1..32 */
} mrt_narrow_row;

typedef struct mrt_narrow_kernels {
  const char *name;
  /* sums[r][32] = rows of A times a panel [k][32]. 1 to 4 rows: lda apart. 8: A is [k][8]. */
  void (*sums[MRT_NARROW_KINDS])(const void *panel, int64_t k, const float *a, int64_t lda,
                                 int rows, float *sums);
  void (*finish)(const mrt_narrow_row *row);
  /* out[i][32] = panel[i][32] * scale[32] (NULL: 1) */
  void (*widen[MRT_NARROW_KINDS])(const void *panel, int64_t k, const float *scale, float *out);
} mrt_narrow_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_narrow_kernels symbol;
#include "provider/cpu/half/narrow.def"
#undef MRT_KERNEL

const mrt_narrow_kernels *mrt_narrow_kernels_get(void);

/* Are all of these floats (at any alignment) exactly representable? The kind of 2 bytes that holds
 * them. */
bool mrt_narrow_kind_of(const void *w, int64_t count, mrt_narrow_kind *out);

size_t mrt_narrow_packed_size(mrt_narrow_kind kind, int64_t n, int64_t k); /* SIZE_MAX: too large */
/* B: floats that are numbers of the kind (not S8), as for mrt_gemm_pack_b. */
void mrt_narrow_pack(mrt_narrow_kind kind, const void *b, int64_t ldb, bool trans, int64_t k,
                     int64_t n, void *dst);

typedef struct mrt_narrow {
  mrt_narrow_kind kind;
  const void *b;      /* packed */
  const float *scale; /* [panels * 32], or NULL: 1 */
} mrt_narrow;

/* mrt_gemm_run with w in the place of g->b. */
size_t mrt_narrow_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans);
void mrt_narrow_run(const mrt_par *par, const mrt_gemm *g, const mrt_narrow *w, void *scratch);
/* All of B as mrt_gemm_pack_b makes it. */
void mrt_narrow_widen(const mrt_par *par, const mrt_narrow *w, int64_t n, int64_t k, float *dst);

#endif
