/* The tile loop of band_split.c: sums of pixels in bf16 parts (as conv_split.h lays them out: a
 * pixel of one part and group of 32 channels is one cache line) with one panel of weights, six
 * products of three parts. All blocks of 32 pixels are one call, and what the vector units have to
 * do runs beside the products: the finish of the block before, the splitting of weights to come,
 * and fetching: the pixels of the next group into L1, further weights into L2. */
#ifndef MRT_PROVIDER_CPU_BAND_BAND_TILES_H
#define MRT_PROVIDER_CPU_BAND_BAND_TILES_H

#include <stdbool.h>
#include <stdint.h>

enum { MRT_BAND_TILE = 32, MRT_BAND_SUMS = 32 * 32 /* floats of a block of sums: [2][32][16] */ };

typedef struct mrt_band_tiles {
  /* Group g of part p of pixel i lies at a + offsets[g] + p * part + i * 32. Blocks of 32 (16)
   * pixels are read whole. */
  const uint16_t *a;
  const int64_t *offsets;
  int64_t groups, part, pixels;
  const uint16_t *b; /* [groups][3][2][16][32] */
  int cols;          /* 1 .. 16 or 17 .. 32 */
  float *acc;        /* room for two blocks of sums */
  /* Like out, where sums of whole blocks lie from one call to the next, those of the last block, if
   * it is not whole, in acc. NULL: sums are only made to be finished. */
  float *sums;
  bool load; /* sums are added to */
  /* Where finished sums go, 16 floats a pixel; NULL: they are not yet. y = clip(sum + bias + z),
   * columns 16 .. 31 col16 floats behind the others (in sums, too). */
  float *out;
  const float *residual; /* or NULL */
  int64_t col16;
  const float *bias; /* [32] */
  float lo, hi;      /* infinite: no clip */
  /* Beside the products: pairs [pair, pair_end) of weights (as mrt_split_block's), pair_step at a
   * time; ahead_lines cache lines at a time. All move on. */
  const float *raw;
  uint16_t *split;
  int64_t pair, pair_end, pair_step;
  const char *ahead;
  int64_t ahead_lines;
  /* Of finished sums, by column: the largest magnitude, and the smallest but for 0, minus 1, as
   * bits. */
  uint32_t most[32], least[32];
} mrt_band_tiles;

typedef void (*mrt_band_tiles_fn)(mrt_band_tiles *t);
void mrt_band_tiles_amx(mrt_band_tiles *t);
void mrt_band_tiles_model(mrt_band_tiles *t);

#endif
