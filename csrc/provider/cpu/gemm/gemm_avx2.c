/* AVX2 tiles: up to 6 rows x 16 columns, 12 accumulators; a panel of 32 columns is two of them.
 * Tails of columns go through a small buffer on the stack. */
#include "provider/cpu/gemm/gemm_kernel.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { ROWS = 6, SPLIT = 3 };

INLINE void epilogue(const mrt_tile *t, __m256 c[ROWS][2], const int rows, float *y, int64_t ld,
                     const float *bias, const float *res, int64_t r_ld) {
#define EACH(i, j)                                       \
  _Pragma("GCC unroll 6") for (int i = 0; i < rows; ++i) \
      _Pragma("GCC unroll 2") for (int j = 0; j < 2; ++j)
  if (t->flags & MRT_TILE_LOAD)
    EACH(i, j) c[i][j] = _mm256_add_ps(c[i][j], _mm256_loadu_ps(y + i * ld + 8 * j));
  if (t->flags & MRT_TILE_FINAL) {
    __m256 b[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    if (bias) b[0] = _mm256_loadu_ps(bias), b[1] = _mm256_loadu_ps(bias + 8);
    const __m256 alpha = _mm256_set1_ps(t->alpha);
    EACH(i, j) c[i][j] = _mm256_fmadd_ps(c[i][j], alpha, b[j]);
    if (t->row_bias) EACH(i, j) c[i][j] = _mm256_add_ps(c[i][j], _mm256_set1_ps(t->row_bias[i]));
    if (res) {
      const __m256 beta = _mm256_set1_ps(t->beta);
      EACH(i, j) c[i][j] = _mm256_fmadd_ps(beta, _mm256_loadu_ps(res + i * r_ld + 8 * j), c[i][j]);
    }
    if (t->flags & MRT_TILE_CLIP) { /* bound first: max and min return the second when one is NaN */
      const __m256 lo = _mm256_set1_ps(t->lo), hi = _mm256_set1_ps(t->hi);
      EACH(i, j) c[i][j] = _mm256_min_ps(hi, _mm256_max_ps(lo, c[i][j]));
    }
  }
  EACH(i, j) _mm256_storeu_ps(y + i * ld + 8 * j, c[i][j]);
#undef EACH
}

/* Fewer than 16 columns: copy what the epilogue reads in, and its result out. */
static void copy_cols(const float *src, int64_t src_ld, float *dst, int64_t dst_ld, int rows,
                      int cols) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) dst[i * dst_ld + j] = src[i * src_ld + j];
}

INLINE void finish(const mrt_tile *t, __m256 c[ROWS][2], const int rows) {
  if (t->cols == 16) {
    epilogue(t, c, rows, t->c, t->c_row, t->bias, t->residual, t->r_row);
    return;
  }
  float y[ROWS * 16] = {0}, r[ROWS * 16] = {0}, bias[16] = {0};
  const bool final = t->flags & MRT_TILE_FINAL;
  if (t->flags & MRT_TILE_LOAD) copy_cols(t->c, t->c_row, y, 16, rows, t->cols);
  if (final && t->residual) copy_cols(t->residual, t->r_row, r, 16, rows, t->cols);
  if (final && t->bias) copy_cols(t->bias, 0, bias, 0, 1, t->cols);
  epilogue(t, c, rows, y, 16, t->bias ? bias : 0, t->residual ? r : 0, 16);
  copy_cols(y, 16, t->c, t->c_row, rows, t->cols);
}

INLINE void step(__m256 c[ROWS][2], const float *q0, const float *q1, int64_t s, int64_t k,
                 const float *b, const int rows) {
  const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
#pragma GCC unroll 6
  for (int i = 0; i < rows; ++i) {
    const __m256 a = _mm256_broadcast_ss((i < SPLIT ? q0 + i * s : q1 + (i - SPLIT) * s) + k);
    c[i][0] = _mm256_fmadd_ps(a, b0, c[i][0]);
    c[i][1] = _mm256_fmadd_ps(a, b1, c[i][1]);
  }
}

INLINE void tile(const mrt_tile *t, const int rows, const int phases) {
  __m256 c[4][ROWS][2];
#pragma GCC unroll 4
  for (int p = 0; p < phases; ++p)
#pragma GCC unroll 6
    for (int i = 0; i < rows; ++i) c[p][i][0] = c[p][i][1] = _mm256_setzero_ps();
  const float *b = t->b;
  const int64_t s = t->a_row;
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const int64_t len = t->blocks[kb].len;
    const float *q0 = t->a + t->blocks[kb].off, *q1 = t->a_hi + t->blocks[kb].off;
    __asm__("" : "+r"(q0), "+r"(q1));
    int64_t k = 0;
    for (; k + 4 <= len; k += 4, b += 128) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) step(c[u % phases], q0, q1, s, k + u, b + u * 32, rows);
      if (rows <= 2) /* streaming B from memory: stay ahead of it */
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) _mm_prefetch((const char *)(b + 512 + u * 32), _MM_HINT_T0);
    }
    for (; k < len; ++k, b += 32) step(c[0], q0, q1, s, k, b, rows);
  }
#pragma GCC unroll 4
  for (int q = 1; q < phases; ++q)
#pragma GCC unroll 6
    for (int i = 0; i < rows; ++i) {
      c[0][i][0] = _mm256_add_ps(c[0][i][0], c[q][i][0]);
      c[0][i][1] = _mm256_add_ps(c[0][i][1], c[q][i][1]);
    }
  finish(t, c[0], rows);
}

static void tile_1(const mrt_tile *t) { tile(t, 1, 4); }
static void tile_2(const mrt_tile *t) { tile(t, 2, 2); }
static void tile_3(const mrt_tile *t) { tile(t, 3, 2); }
static void tile_4(const mrt_tile *t) { tile(t, 4, 1); }
static void tile_5(const mrt_tile *t) { tile(t, 5, 1); }
static void tile_6(const mrt_tile *t) { tile(t, 6, 1); }

const mrt_gemm_kernels mrt_gemm_f32_avx2 = {
    .name = "avx2",
    .max_rows = ROWS,
    .nr = 16,
    .split = SPLIT,
    .wide = {0, tile_1, tile_2, tile_3, tile_4, tile_5, tile_6},
    .pack_b_trans = mrt_gemm_pack_b_trans_scalar,
    .pack_a = mrt_gemm_pack_a_scalar,
    .pack_a_trans = mrt_gemm_pack_a_trans_scalar,
};
