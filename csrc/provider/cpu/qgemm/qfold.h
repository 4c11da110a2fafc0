/* Images of few channels for convolutions of several rows: the rows of a window side by side, pixel
 * by pixel, so that a window is one run of bytes, [kw][kh][c]:
 *
 *   to[pixel][kernel row][channel] = row[kernel row][pixel][channel] ^ flip */
#ifndef MRT_PROVIDER_CPU_QFOLD_H
#define MRT_PROVIDER_CPU_QFOLD_H

#include <stdbool.h>
#include <stdint.h>

enum { MRT_QFOLD_ROWS = 8, MRT_QFOLD_CHANNELS = 8 };

typedef struct mrt_qfold {
  int64_t rows, c;
  uint8_t flip;
  int64_t pixels; /* of a step of the vector loop; 0: none here */
  /* bytes of a row, 16 at most, to a step's 64 */
  uint8_t from[MRT_QFOLD_ROWS][64];
} mrt_qfold;

/* Windows that are shorter like this in units of 64 bytes. */
bool mrt_qfold_pays(int64_t kh, int64_t kw, int64_t c);
void mrt_qfold_init(mrt_qfold *f, int64_t rows, int64_t c, uint8_t flip);
/* Up to 64 bytes behind the result may be overwritten. */
void mrt_qfold_run(const mrt_qfold *f, const uint8_t *const *row, int64_t pixels, uint8_t *to);
/* The vector loop; returns the pixels that it did. */
int64_t mrt_qfold_avx512vnni(const mrt_qfold *f, const uint8_t *const *row, int64_t pixels,
                             uint8_t *to);

#endif
