/* Integer matrix product: A (u8 or s8, [m, k]) times B (s8 or u8, packed), 32-bit accumulation,
 * zero points of both sides, result as s32, as float, or requantised to u8 / s8.
 *
 *   acc[m, n] = sum_k (A[m, k] - a_zero) * (B[k, n] - b_zero[n])
 *
 * exactly (all instruction sets give the same integers; overflow of s32 is the caller's: k < 2^15).
 * Packed B is [ceil(n/32)][blocks of 64 k][16][32][4] bytes of s8 (u8 weights are stored minus
 * 128), then per column the sum over k, so that zero points cost one addition per output. Where the
 * tile takes u8 only, s8 activations are computed as u8 by +128, corrected by the same sums. */
#ifndef MRT_PROVIDER_CPU_QGEMM_H
#define MRT_PROVIDER_CPU_QGEMM_H

#include "base/threads.h"
#include "provider/cpu/elementwise/elementwise.h"
#include <stddef.h>

typedef enum mrt_q_out { MRT_Q_S32, MRT_Q_F32, MRT_Q_U8, MRT_Q_S8 } mrt_q_out;

/* What is made of acc. MRT_Q_S32: acc. Otherwise v = acc * scale[n] (* a_scale) + bias[n]
 * (+ residual), v = act(v); F32 stores v; U8 / S8 store clamp(round_half_even(v / out_scale) +
 * out_zero). */
typedef struct mrt_qgemm_epilogue {
  mrt_q_out out;
  const float *scale; /* [n] or [1]: a_scale * b_scale[n] */
  bool scale_per_col;
  const float *bias;       /* [n] float, or NULL */
  const int32_t *bias_s32; /* [n], added to acc, or NULL (QLinearConv) */
  const float *residual;   /* [m, n] float, F32 only, or NULL */
  int64_t residual_ld;
  mrt_act act;
  float out_scale;
  int32_t out_zero;
  /* A QLinearAdd behind (U8 and S8): the result q becomes
   * clamp(round((q - out_zero) * ra + (add - add_zero) * rb), add_lo, add_hi) + add_out. */
  const uint8_t *add; /* laid out as the result, same type; NULL: none */
  float ra, rb, add_lo, add_hi;
  int32_t add_zero, add_out;
} mrt_qgemm_epilogue;

/* What each column needs, for whole panels of 32: made once where all of it is constant. */
typedef struct mrt_qtables {
  int32_t *col;    /* what zero points and the integer bias add */
  int32_t *b_zero; /* zero points of packed B; NULL: 0 */
  float *scale;    /* in units of the output's scale */
  float *bias;     /* likewise; NULL: 0 */
  bool has_b_zero, in_range;
  bool shifted; /* see MRT_QSHIFT in qgemm_kernel.h */
} mrt_qtables;

typedef struct mrt_qgemm {
  int64_t m, n, k;
  const void *a; /* u8 or s8, row-major */
  int64_t lda;
  bool a_signed;
  int32_t a_zero;        /* in A's own range */
  const void *b;         /* packed */
  const int32_t *b_zero; /* in B's own range; NULL: 0 */
  bool b_zero_per_col;
  void *c;
  int64_t ldc; /* elements of the output type */
  const mrt_qgemm_epilogue *epi;
  /* A by rows, instead of `a`: writes the k bytes of a row. NULL: `a` is read. */
  void (*gather)(const void *ctx, int64_t row, uint8_t *dst);
  const void *gather_ctx;
  const mrt_qtables *tables; /* made before, a_flips as mrt_qdirect_flips; NULL: at each run */
} mrt_qgemm;

size_t mrt_qgemm_packed_size(int64_t n, int64_t k);
/* k is cut into runs that start new blocks: pieces of A that are apart in memory. HALVES: one run,
 * whose last block ends with k, rounded up to 32: what tiles read behind that is not zero. */
enum { MRT_QPACK_HALVES = -1 };
int64_t mrt_qpack_panel_bytes(int64_t k, int64_t run); /* of 32 columns */
size_t mrt_qpack_size(int64_t n, int64_t k, int64_t run);
void mrt_qpack(const mrt_par *par, const void *b, bool b_signed, int64_t ldb, bool trans, int64_t k,
               int64_t n, int64_t run, void *dst);
size_t mrt_qtables_size(int64_t n);
size_t mrt_qtables_plain_size(int64_t n); /* signed B without zero points, no float bias */
/* Of g: n, k, a_signed, a_zero, b, b_zero, epi (of add: whether it is there). a_flips: A is
 * computed as u8. `at`: that many bytes for the tables. */
void mrt_qtables_fill(const mrt_qgemm *g, bool b_signed, int64_t run, bool a_flips, void *at,
                      mrt_qtables *out);
/* b: [k, n] (ldb) or, when trans, [n, k]. b_signed false: u8 weights. dst: 64-byte aligned. */
void mrt_qgemm_pack_b(const mrt_par *par, const void *b, bool b_signed, int64_t ldb, bool trans,
                      int64_t k, int64_t n, void *dst);
size_t mrt_qgemm_scratch_size(const mrt_par *par, int64_t m, int64_t n, int64_t k);
/* b_signed as at packing. */
void mrt_qgemm_run(const mrt_par *par, const mrt_qgemm *g, bool b_signed, void *scratch);

/* y[i] = clamp(round_half_even(x[i] / scale) + zero) to u8 (or s8), and back. */
void mrt_quantize_u8(const mrt_par *par, const float *x, int64_t n, float scale, int32_t zero,
                     bool is_signed, void *y);
void mrt_dequantize_u8(const mrt_par *par, const void *x, int64_t n, float scale, int32_t zero,
                       bool is_signed, float *y);
/* min(x, 0) and max(x, 0) over all of x, for DynamicQuantizeLinear. NaN is ignored. */
void mrt_quantize_range(const mrt_par *par, const float *x, int64_t n, float *out_min,
                        float *out_max);

#endif
