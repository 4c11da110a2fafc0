/* The meaning of a tile in plain C: what the vector kernels are tested against, and the kernel of
 * machines without a faster one. Works on 4 x 16, which compilers turn into decent code. */
#include <string.h>

#include "provider/cpu/gemm/gemm_kernel.h"

enum { ROWS = 4, COLS = 16 };

static void finish(const mrt_tile *t, int rows, float acc[ROWS][COLS]) {
  for (int i = 0; i < rows; ++i) {
    float *c = t->c + i * t->c_row;
    for (int j = 0; j < t->cols; ++j) {
      float x = acc[i][j];
      if (t->flags & MRT_TILE_LOAD) x += c[j];
      if (t->flags & MRT_TILE_FINAL) {
        x = x * t->alpha + (t->bias ? t->bias[j] : 0.0f);
        if (t->row_bias) x += t->row_bias[i];
        if (t->residual) x += t->beta * t->residual[i * t->r_row + j];
        if (t->flags & MRT_TILE_CLIP) {
          x = x < t->lo ? t->lo : x;
          x = x > t->hi ? t->hi : x;
        }
      }
      c[j] = x;
    }
  }
}

static inline void tile(const mrt_tile *t, int rows) {
  float acc[ROWS][COLS] = {{0}};
  const float *b = t->b;
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const float *row[ROWS];
    for (int i = 0; i < rows; ++i)
      row[i] = (i < 2 ? t->a + i * t->a_row : t->a_hi + (i - 2) * t->a_row) + t->blocks[kb].off;
    for (int k = 0; k < t->blocks[kb].len; ++k, b += 32)
      for (int i = 0; i < rows; ++i) {
        const float x = row[i][k];
        for (int j = 0; j < COLS; ++j) acc[i][j] += x * b[j];
      }
  }
  finish(t, rows, acc);
}

static void tile_1(const mrt_tile *t) { tile(t, 1); }
static void tile_2(const mrt_tile *t) { tile(t, 2); }
static void tile_3(const mrt_tile *t) { tile(t, 3); }
static void tile_4(const mrt_tile *t) { tile(t, 4); }

/* src may be misaligned: weights are packed from where they lie in a file. */
static inline float load(const float *src, int64_t at) {
  float x;
  memcpy(&x, (const char *)src + at * 4, 4);
  return x;
}

void mrt_gemm_pack_b_trans_scalar(const float *src, int64_t ld, int64_t k, int cols, float *dst) {
  /* 16 k at a time: 32 source lines and 16 target lines stay in L1. */
  for (int64_t k0 = 0; k0 < k; k0 += 16) {
    const int64_t k1 = k0 + 16 < k ? k0 + 16 : k;
    for (int j = 0; j < 32; ++j)
      for (int64_t kk = k0; kk < k1; ++kk)
        dst[kk * 32 + j] = j < cols ? load(src, j * ld + kk) : 0.0f;
  }
}

void mrt_gemm_pack_a_scalar(const float *src, int64_t ld, int64_t k, int rows, int pitch,
                            float *dst) {
  for (int r = 0; r < rows; ++r, src += ld, dst += 16) {
    float *to = dst;
    int64_t i = 0;
    for (; i + 16 <= k; i += 16, to += pitch * 16) memcpy(to, src + i, 64);
    if (i < k) memcpy(to, src + i, (size_t)(k - i) * sizeof *src);
  }
}

void mrt_gemm_pack_a_trans_scalar(const float *src, int64_t ld, int64_t k, int rows, int pitch,
                                  float *dst) {
  for (int64_t kk = 0; kk < k; ++kk)
    for (int r = 0; r < rows; ++r) dst[(kk / 16 * pitch + r) * 16 + kk % 16] = src[kk * ld + r];
}

const mrt_gemm_kernels mrt_gemm_f32_scalar = {
    .name = "scalar",
    .max_rows = ROWS,
    .nr = COLS,
    .split = 2,
    .wide = {0, tile_1, tile_2, tile_3, tile_4},
    .pack_b_trans = mrt_gemm_pack_b_trans_scalar,
    .pack_a = mrt_gemm_pack_a_scalar,
    .pack_a_trans = mrt_gemm_pack_a_trans_scalar,
};
