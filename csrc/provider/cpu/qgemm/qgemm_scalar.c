/* The meaning of an integer tile in plain C. */
#include "provider/cpu/qgemm/qgemm_kernel.h"

enum { ROWS = 2, COLS = 16 };

static inline void tile(const mrt_qtile *t, int rows) {
  int32_t acc[ROWS][COLS];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < COLS; ++j) acc[i][j] = t->col[j];
  for (int64_t kb = 0; kb < t->n_blocks; ++kb) {
    const int8_t *b = t->b + kb * 2048;
    const uint8_t *row[ROWS] = {t->a + t->blocks[kb].off, t->a_hi + t->blocks[kb].off};
    for (int k = 0; k < t->blocks[kb].len; ++k, b += 128)
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < COLS; ++j)
          for (int q = 0; q < 4; ++q) acc[i][j] += row[i][k * 4 + q] * b[j * 4 + q];
  }
  mrt_qtile_finish(t, acc[0], COLS);
}
static void tile_1(const mrt_qtile *t) { tile(t, 1); }
static void tile_2(const mrt_qtile *t) { tile(t, 2); }

static void quantize(const float *x, int64_t n, float scale, int32_t zero, bool is_signed,
                     uint8_t *y) {
  mrt_quantize_loop(x, n, scale, zero, is_signed, y);
}
static void dequantize(const uint8_t *x, int64_t n, float scale, int32_t zero, bool is_signed,
                       float *y) {
  mrt_dequantize_loop(x, n, scale, zero, is_signed, y);
}
static void range(const float *x, int64_t n, float *io_min, float *io_max) {
  mrt_range_loop(x, n, io_min, io_max);
}

const mrt_qgemm_kernels mrt_qgemm_scalar = {.name = "scalar",
                                            .macs_per_ns = 2,
                                            .max_rows = ROWS,
                                            .nr = COLS,
                                            .split = 1,
                                            .wide = {0, tile_1, tile_2},
                                            .quantize = quantize,
                                            .dequantize = dequantize,
                                            .range = range};
