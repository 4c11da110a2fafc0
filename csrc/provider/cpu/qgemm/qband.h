/* Inverted residuals of bytes in one pass:
 *
 *   y = add(project(depthwise(expand(x))), other)      (expand and add are optional; expand may
 *                                                        be a window, where qwide.h takes it)
 *
 * with the kernels, and so the bits, of the convolutions one by one: the wide bytes between them
 * exist for a band of output rows, in L1 where they are taken 64 channels at a time, else a few
 * rows at a time in a ring; or, where sums are short, as the depthwise loop reads them (qwide.h).
 * The filtered bytes of a band stay in L2 until they are projected.
 *
 * Work is cut into bands of rows; small images, where the weights outweigh the pixels, by wide
 * channels, and then by columns of the projection. */
#ifndef MRT_PROVIDER_CPU_QBAND_H
#define MRT_PROVIDER_CPU_QBAND_H

#include "provider/cpu/qgemm/qconv.h"
#include "provider/cpu/qgemm/qwide.h"

typedef struct mrt_qband {
  mrt_qconv conv[3]; /* expand, depthwise, project; planned */
  bool expands, is_signed;
  const void *wide;     /* tables of qwide.h for the first two, or NULL */
  bool wide_shifted[2]; /* with them: sums of the first two are */
} mrt_qband;

typedef struct mrt_qband_args {
  int64_t n, xh, xw, h, w, oh, ow; /* x, what depthwise reads, y */
  const uint8_t *x, *x_end;        /* x_end: end of what may be read */
  int32_t zero[3];                 /* of what each convolution reads */
  const void *packed[3];           /* mrt_qconv_pack */
  const void *prepared[3];         /* mrt_qconv_prepare */
  const mrt_qgemm_epilogue *epi[3];
  uint8_t *y;
} mrt_qband_args;

/* Shapes and machine. */
bool mrt_qband_fits(const mrt_qband *b);
bool mrt_qband_wants_wide(const mrt_qband *b);
/* With `wide` no image is computed otherwise: packed and prepared of the first two may be NULL. */
bool mrt_qband_only_wide(const mrt_qband *b);
/* Is the expansion packed with mrt_qconv.halves? */
bool mrt_qband_halves(const mrt_qconv *expand);
bool mrt_qband_scratch_size(const mrt_par *par, const mrt_qband *b, const mrt_qband_args *a,
                            size_t *out); /* false: overflow */
void mrt_qband_run(const mrt_par *par, const mrt_qband *b, const mrt_qband_args *a, void *scratch);

#endif
