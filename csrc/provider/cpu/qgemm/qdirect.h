/* Integer products and convolutions whose left side is read where it lies: images in NHWC, rows of
 * matrices. The rows of a tile are neighbouring output pixels, one pixel stride apart; a kernel row
 * of taps is one run of bytes. Padded images (and signed ones where the tile takes u8) are copied
 * first, a band of rows at a time that stays in cache; then all output pixels of a band are one
 * sequence of rows, of which those in the padding are not stored. Images of few channels are
 * copied as qfold.h says, where that makes the sums shorter.
 *
 * Weights without zero points, activations that are clamps: what else there is, qgemm.h computes.
 */
#ifndef MRT_PROVIDER_CPU_QDIRECT_H
#define MRT_PROVIDER_CPU_QDIRECT_H

#include "provider/cpu/qgemm/qgemm.h"

typedef struct mrt_qdirect {
  int64_t n, h, w, c; /* x: [n][h][w][pitch], of which c channels are read */
  int64_t pitch;      /* bytes from pixel to pixel */
  int64_t oh, ow, kh, kw, stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  bool folds;               /* weights are [kw][kh][c] */
  const uint8_t *x, *x_end; /* x_end: the end of what may be read */
  bool x_signed;
  int32_t x_zero;
  const void *packed; /* mrt_qpack of [kh][kw][c] x cout with mrt_qdirect_run, or of one run */
  int64_t cout;
  const mrt_qtables *tables; /* a_flips as mrt_qdirect_flips */
  void *y;
  int64_t ldy; /* elements from pixel to pixel */
  const mrt_qgemm_epilogue *epi;
} mrt_qdirect;

/* Bytes of a run: taps of a kernel row that lie together. */
int64_t mrt_qdirect_run(int64_t c, int64_t kw, int64_t dil_w);
bool mrt_qdirect_flips(void); /* s8 is computed as u8 here */
size_t mrt_qdirect_scratch(const mrt_par *par, const mrt_qdirect *d);
void mrt_qdirect_go(const mrt_par *par, const mrt_qdirect *d, void *scratch);

#endif
