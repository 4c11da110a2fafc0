/* Kernels over narrow weights, written over a file's vectors of VW columns:
 *   load_bf16(p), load_f16(p), load_s8(p)   VW numbers from p as floats
 *   load_first(p), load_second(p)           of VW pairs of bf16
 *   SPAN, TILE                              vectors and rows that registers hold sums for */
#include <stdbool.h>

enum {
  COLS = MRT_GEMM_PANEL,
  /* Bytes: from memory into L2, and from there into L1. One distance for both leaves a sixth to a
   * third of the bandwidth: L1 has too few fill buffers to wait for memory. */
  FAR = 8192,
  NEAR = 1024
};

INLINE vf load_one(const mrt_narrow_kind kind, const char *panel, int64_t i) {
  return kind == MRT_NARROW_S8    ? load_s8((const int8_t *)panel + i)
         : kind == MRT_NARROW_F16 ? load_f16((const uint16_t *)panel + i)
                                  : load_bf16((const uint16_t *)panel + i);
}

/* SPAN vectors of columns from `col` on. Few rows keep several sums of a column, one for each k
 * modulo `phases`, for the latency of additions. kind, rows and phases are constants here. */
INLINE void span(const mrt_narrow_kind kind, const char *panel, int64_t k, const float *a,
                 int64_t a_row, int64_t a_k, const int rows, const int phases, float *sums,
                 int col) {
  const int64_t width = kind == MRT_NARROW_S8 ? 1 : 2;
  vf acc[4][TILE][SPAN];
#pragma GCC unroll 8
  for (int p = 0; p < phases; ++p)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < SPAN; ++v) acc[p][r][v] = v_set(0.0f);
  int64_t i = 0;
  for (; i + 4 <= k; i += 4) {
#pragma GCC unroll 8
    for (int64_t line = 0; line < 4 * COLS * width; line += 64) {
      __builtin_prefetch(panel + i * COLS * width + line + FAR, 0, 2);
      __builtin_prefetch(panel + i * COLS * width + line + NEAR);
    }
#pragma GCC unroll 8
    for (int p = 0; p < 4; ++p)
#pragma GCC unroll 8
      for (int v = 0; v < SPAN; ++v) {
        const vf w = load_one(kind, panel, (i + p) * COLS + col + v * VW);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r)
          acc[p % phases][r][v] =
              v_fma(v_set(a[r * a_row + (i + p) * a_k]), w, acc[p % phases][r][v]);
      }
  }
  for (; i < k; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
      const vf w = load_one(kind, panel, i * COLS + col + v * VW);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r)
        acc[0][r][v] = v_fma(v_set(a[r * a_row + i * a_k]), w, acc[0][r][v]);
    }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
#pragma GCC unroll 8
      for (int p = 1; p < phases; ++p) acc[0][r][v] = acc[0][r][v] + acc[p][r][v];
      v_store(sums + r * COLS + col + v * VW, acc[0][r][v]);
    }
}

/* The same of tiles (narrow.h); the last group's rows of A are filled up with zeros. */
INLINE void span_tiles(const char *panel, int64_t k, const float *a, int64_t a_row, int64_t a_k,
                       const int rows, const int phases, float *sums, int col) {
  vf acc[4][TILE][SPAN];
  float rest[TILE * 32];
#pragma GCC unroll 8
  for (int p = 0; p < phases; ++p)
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < SPAN; ++v) acc[p][r][v] = v_set(0.0f);
  for (int64_t g = 0; g < k; g += 32, a += 32 * a_k, panel += 32 * COLS * 2) {
    if (k - g < 32) {
      for (int r = 0; r < rows; ++r)
        for (int i = 0; i < 32; ++i) rest[r * 32 + i] = i < k - g ? a[r * a_row + i * a_k] : 0;
      a = rest, a_row = 32, a_k = 1;
    }
    for (int i = 0; i < 16; i += 2)
#pragma GCC unroll 8
      for (int p = 0; p < 2; ++p)
#pragma GCC unroll 8
        for (int v = 0; v < SPAN; ++v) {
          const int c = col + v * VW;
          const char *at = panel + c / 16 * 1024 + (i + p) * 64 + c % 16 * 4;
          __builtin_prefetch(at + FAR, 0, 2);
          __builtin_prefetch(at + NEAR);
          const vf w0 = load_first((const uint16_t *)(const void *)at);
          const vf w1 = load_second((const uint16_t *)(const void *)at);
#pragma GCC unroll 8
          for (int r = 0; r < rows; ++r) {
            const float *x = a + r * a_row + (i + p) * a_k;
            vf *s0 = &acc[2 * p % phases][r][v], *s1 = &acc[(2 * p + 1) % phases][r][v];
            *s0 = v_fma(v_set(x[0]), w0, *s0);
            *s1 = v_fma(v_set(x[16 * a_k]), w1, *s1);
          }
        }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < SPAN; ++v) {
#pragma GCC unroll 8
      for (int p = 1; p < phases; ++p) acc[0][r][v] = acc[0][r][v] + acc[p][r][v];
      v_store(sums + r * COLS + col + v * VW, acc[0][r][v]);
    }
}

#define SPANS(kind, a, a_row, a_k, rows, phases, sums)              \
  for (int col = 0; col < COLS; col += SPAN * VW)                   \
    if (kind == MRT_NARROW_TILES)                                   \
      span_tiles(panel, k, a, a_row, a_k, rows, phases, sums, col); \
    else                                                            \
      span(kind, panel, k, a, a_row, a_k, rows, phases, sums, col);
#define SUMS(name, kind)                                                                       \
  static void sums_##name(const void *panel, int64_t k, const float *a, int64_t lda, int rows, \
                          float *sums) {                                                       \
    switch (rows) {                                                                            \
      case 1: SPANS(kind, a, lda, 1, 1, 4, sums) break;                                        \
      case 2: SPANS(kind, a, lda, 1, 2, 2, sums) break;                                        \
      case 3: SPANS(kind, a, lda, 1, 3, 1, sums) break;                                        \
      case 4: SPANS(kind, a, lda, 1, 4, 1, sums) break;                                        \
      default:                                                                                 \
        for (int r = 0; r < MRT_NARROW_ROWS; r += TILE)                                        \
          SPANS(kind, a + r, 1, MRT_NARROW_ROWS, TILE, 1, sums + r * COLS)                     \
    }                                                                                          \
  }
#define KERNELS(name, kind)                                                                \
  SUMS(name, kind)                                                                         \
  static void widen_##name(const void *panel, int64_t k, const float *scale, float *out) { \
    for (int64_t i = 0; i < k * COLS; i += COLS)                                           \
      for (int c = 0; c < COLS; c += VW)                                                   \
        v_store(out + i + c,                                                               \
                load_one(kind, panel, i + c) * (scale ? v_load(scale + c) : v_set(1.0f))); \
  }
KERNELS(bf16, MRT_NARROW_BF16)
KERNELS(f16, MRT_NARROW_F16)
KERNELS(s8, MRT_NARROW_S8)
SUMS(tiles, MRT_NARROW_TILES)
static void widen_tiles(const void *panel, int64_t k, const float *scale, float *out) {
  for (int64_t i = 0; i < k; ++i)
    for (int c = 0; c < COLS; c += VW) {
      const uint16_t *p =
          (const uint16_t *)panel + i / 32 * 1024 + c / 16 * 512 + i % 16 * 32 + c % 16 * 2;
      v_store(out + i * COLS + c, (i & 16 ? load_second(p) : load_first(p)) *
                                      (scale ? v_load(scale + c) : v_set(1.0f)));
    }
}

/* n columns from c on: a vector, or the rest of a panel. */
INLINE vf finish_load(const float *p, int n) { return n < VW ? v_load_n(p, n) : v_load(p); }
INLINE void finish_at(const mrt_narrow_row *row, int c, int n) {
  vf x = v_load(row->sums + c);
  if (row->scale) x = x * finish_load(row->scale + c, n);
  x = v_fma(x, v_set(row->alpha), v_set(row->row_bias));
  if (row->bias) x = x + finish_load(row->bias + c, n);
  if (row->residual) x = v_fma(v_set(row->beta), finish_load(row->residual + c, n), x);
  if (n < VW)
    v_store_n(row->c + c, x, n);
  else
    v_store(row->c + c, x);
}

/* Between two panels nothing comes from memory: short. */
static void finish(const mrt_narrow_row *row) {
  for (int c = 0; c < row->cols; c += VW)
    finish_at(row, c, row->cols - c < VW ? row->cols - c : VW);
}

const mrt_narrow_kernels TABLE = {TABLE_NAME,
                                  {sums_bf16, sums_f16, sums_s8, sums_tiles},
                                  finish,
                                  {widen_bf16, widen_f16, widen_s8, widen_tiles}};
