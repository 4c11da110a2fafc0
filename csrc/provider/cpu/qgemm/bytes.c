/* Transposition of byte matrices, 8 x 8 at a time in registers of 64 bits. */
#include <string.h>

#include "provider/cpu/qgemm/qconv.h"

typedef struct transpose_job {
  const uint8_t *x;
  uint8_t *y;
  int64_t rows, cols, bands, units, chunks; /* unit: 64 columns of one matrix */
} transpose_job;

/* Swaps blocks of 4 x 4, 2 x 2 and 1 x 1 bytes across the diagonal. */
static inline void transpose8(uint64_t r[8]) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t a = r[i], b = r[i + 4];
    r[i] = (a & 0xffffffffu) | b << 32;
    r[i + 4] = a >> 32 | (b & 0xffffffff00000000u);
  }
  for (int k = 0; k < 8; k += 4)
    for (int i = k; i < k + 2; ++i) {
      const uint64_t a = r[i], b = r[i + 2], m = 0x0000ffff0000ffffu;
      r[i] = (a & m) | (b & m) << 16;
      r[i + 2] = (a >> 16 & m) | (b & ~m);
    }
  for (int i = 0; i < 8; i += 2) {
    const uint64_t a = r[i], b = r[i + 1], m = 0x00ff00ff00ff00ffu;
    r[i] = (a & m) | (b & m) << 8;
    r[i + 1] = (a >> 8 & m) | (b & ~m);
  }
}

static void edge(const uint8_t *x, int64_t cols, uint8_t *y, int64_t rows, int64_t nr, int64_t nc) {
  for (int64_t i = 0; i < nr; ++i)
    for (int64_t j = 0; j < nc; ++j) y[j * rows + i] = x[i * cols + j];
}

static void one_unit(const transpose_job *j, int64_t unit) {
  const int64_t matrix = unit / j->bands, c0 = unit % j->bands * 64,
                c1 = c0 + 64 < j->cols ? c0 + 64 : j->cols;
  const uint8_t *x = j->x + matrix * j->rows * j->cols;
  uint8_t *y = j->y + matrix * j->rows * j->cols;
  for (int64_t r = 0; r < j->rows; r += 8)
    for (int64_t c = c0; c < c1; c += 8) {
      const int64_t nr = j->rows - r < 8 ? j->rows - r : 8, nc = c1 - c < 8 ? c1 - c : 8;
      if (nr < 8 || nc < 8) {
        edge(x + r * j->cols + c, j->cols, y + c * j->rows + r, j->rows, nr, nc);
        continue;
      }
      uint64_t block[8];
      for (int i = 0; i < 8; ++i) memcpy(&block[i], x + (r + i) * j->cols + c, 8);
      transpose8(block);
      for (int i = 0; i < 8; ++i) memcpy(y + (c + i) * j->rows + r, &block[i], 8);
    }
}

static void transpose_chunk(void *arg, int64_t chunk, int worker) {
  (void)worker;
  const transpose_job *j = arg;
  const int64_t end = mrt_par_begin(j->units, j->chunks, chunk + 1);
  for (int64_t u = mrt_par_begin(j->units, j->chunks, chunk); u < end; ++u) one_unit(j, u);
}

void mrt_bytes_transpose(const mrt_par *par, const uint8_t *x, int64_t n, int64_t rows,
                         int64_t cols, uint8_t *y) {
  if (n <= 0 || rows <= 0 || cols <= 0) return;
  if (rows == 1 || cols == 1) {
    memcpy(y, x, (size_t)(n * rows * cols));
    return;
  }
  transpose_job j = {.x = x, .y = y, .rows = rows, .cols = cols, .bands = (cols + 63) / 64};
  j.units = n * j.bands;
  j.chunks = mrt_par_chunks(j.units, (double)(n * rows * cols) * 0.3);
  mrt_par_run(par, j.chunks, transpose_chunk, &j);
}
