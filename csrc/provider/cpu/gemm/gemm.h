/* float32 matrix product C = act(alpha * A B + bias + beta * R) with B packed in panels of 32
 * columns: [ceil(n/32)][k][32], the last panel filled with zeros. One format for all instruction
 * sets, so packed weights can be stored and shared.
 *
 * Every output element is summed over k in an order that depends on the shape alone: the number of
 * threads never changes a bit. Any m, n, k >= 0; k = 0 gives act(bias + beta * R). */
#ifndef MRT_PROVIDER_CPU_GEMM_H
#define MRT_PROVIDER_CPU_GEMM_H

#include "base/threads.h"
#include "provider/cpu/elementwise/elementwise.h"
#include <stddef.h>

enum { MRT_GEMM_PANEL = 32 };

/* What happens to a tile of C while it is still in registers or L1. {0} with alpha 1 is a plain
 * product: use MRT_GEMM_EPILOGUE_NONE. Pointers may be NULL. */
typedef struct mrt_gemm_epilogue {
  float alpha;           /* scales A B */
  float beta;            /* scales residual */
  const float *bias;     /* [n], added to every row */
  const float *row_bias; /* [m], added to every column */
  const float *residual; /* [m, n] with row stride residual_ld (0 broadcasts one row). May be C,
                          * if alpha is not 0. */
  int64_t residual_ld;
  mrt_act act; /* last */
} mrt_gemm_epilogue;
#define MRT_GEMM_EPILOGUE_NONE ((mrt_gemm_epilogue){.alpha = 1.0f})

/* What a product of float32 promises (PyTorch's words for float32 matmul precision). Error of an
 * element as max |e| / sum |a b|: HIGHEST not above that of a float32 loop of fused multiply-adds;
 * HIGH 3 to 6 times it for long sums, up to 15 times for k near 100 (its own error hardly grows
 * with k, the loop's does); MEDIUM that of bf16 inputs. Infinities, NaN and overflow are those of
 * float32 arithmetic in all of them. */
typedef enum mrt_precision {
  MRT_PRECISION_HIGHEST = 0,
  MRT_PRECISION_HIGH,
  MRT_PRECISION_MEDIUM
} mrt_precision;

/* A right side of several that share A, and where its product goes: fields as in mrt_gemm and its
 * epilogue. */
typedef struct mrt_gemm_side {
  int64_t n;
  const float *b;
  const uint16_t *b16;
  float *c;
  int64_t ldc;
  const float *bias;
} mrt_gemm_side;

/* One matrix A or C. Row-major with ld elements from row to row. a_trans: A is stored [k, m], ld
 * from one k to the next. */
typedef struct mrt_gemm {
  int64_t m, n, k;
  const float *a;
  int64_t lda;
  bool a_trans;
  const float *b; /* from mrt_gemm_pack_b */
  float *c;
  int64_t ldc;
  const mrt_gemm_epilogue *epi; /* NULL: none */
  mrt_precision precision;      /* the least that is promised; the fastest way is taken */
  /* B in the form of mrt_gemm_packed16_size for b16_parts (1 or 2), or NULL. With it b may be NULL
   * where mrt_gemm_split_parts(precision, m, n, k) is b16_parts and the batch shares B. */
  const uint16_t *b16;
  int b16_parts;
  /* Several products with the same A and k as one, which reads A once; NULL: one, and what follows
   * does not hold. n is mrt_gemm_sides_columns; b, b16, c, ldc and the epilogue's bias are those of
   * the sides, all of which have b16 or none has; no residual, no batch. */
  const mrt_gemm_side *sides;
  /* Less scratch where the product is split into bf16 parts, for some microseconds more: A is split
   * once for all threads, B a little at a time. mrt_gemm_lean_scratch_size says how much then. */
  bool lean;
} mrt_gemm;

/* Columns of n_sides right sides one behind the other, each from a panel's first column on. */
int64_t mrt_gemm_sides_columns(const mrt_gemm_side *sides, int n_sides);

/* Bytes of packed B (64-byte aligned memory). */
size_t mrt_gemm_packed_size(int64_t n, int64_t k);
/* Packs B: [k, n] with row stride ldb, or, when trans, stored [n, k] with row stride ldb. Weights
 * once at preparation; also fast enough for B that is only known at run time. dst: 64-byte aligned;
 * b: any alignment.
 */
void mrt_gemm_pack_b(const mrt_par *par, const float *b, int64_t ldb, bool trans, int64_t k,
                     int64_t n, float *dst);

/* Scratch of mrt_gemm_run / mrt_gemm_run_batch (64-byte aligned; contents do not matter; may be 0
 * bytes and NULL). Depends on the shape and the number of workers; enough for every precision. */
size_t mrt_gemm_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k, bool a_trans);
/* The same for one product with g->lean, A not transposed. */
size_t mrt_gemm_lean_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k);

/* Computes one product. C must not overlap A or B; C may be the residual. No alignment needed
 * but that of float for A, C, bias and residual. m <= 8 runs at memory bandwidth. */
void mrt_gemm_run(const mrt_par *par, const mrt_gemm *g, void *scratch);

/* `batch` products of one shape: pointers of product i are those of g plus i times a stride (in
 * elements; 0 shares). Batches and tiles are shared out together, so many small products scale. */
typedef struct mrt_gemm_batch {
  int64_t batch;
  int64_t a, b, c, residual; /* strides; b of packed B: mrt_gemm_packed_size / sizeof(float) */
} mrt_gemm_batch;
void mrt_gemm_run_batch(const mrt_par *par, const mrt_gemm *g, const mrt_gemm_batch *batch,
                        void *scratch);

/* Name of the kernel set in use ("avx512"), for macart.cpu_info. */
const char *mrt_gemm_isa_name(void);

#endif
