/* A depthwise convolution with its 1x1 neighbours, in one pass over bands of rows:
 *
 *   y = project(depthwise(expand(x))) + z        (expand and project are each optional)
 *
 * The wide values between them exist for a few rows and 32 channels at a time, in L1: a ring of
 * input rows of the depthwise convolution, filled by tiles of the expanding product, and the rows
 * that it makes of them, which the projecting product adds up over the groups of 32 channels.
 *
 * Work is cut into bands of output rows (whose first rows are expanded twice) and, for small
 * images, into two parts of the wide channels, whose sums are added, step by step, by the worker
 * that comes second. Parts follow from the shape; bands too where they matter to the bits (on tiles
 * of bf16 parts, and on those of gemm/), else there are no more of them than workers. Every sum
 * runs over the channels in order, as without this operator, but for those parts.
 */
#ifndef MRT_PROVIDER_CPU_BAND_BAND_H
#define MRT_PROVIDER_CPU_BAND_BAND_H

#include "provider/cpu/conv/conv.h"

enum { MRT_BAND_MAX_BLOCKS = 64 }; /* channel blocks of x, if it is expanded, at most */

/* The constant part. All values are c16. */
typedef struct mrt_band {
  mrt_conv depthwise;     /* what mrt_band_ok says */
  int64_t cin, cout;      /* cin: of x, if it is expanded; cout: of y, if it is projected */
  bool expands, projects; /* else: the depthwise convolution reads x, writes y */
  mrt_act act[3];         /* after expand, depthwise, project */
  bool pairs; /* weights of the 1x1 convolutions went through mrt_band_pair_weights; no tiles */
  /* NULL, or tiles of bf16 parts for the 1x1 convolutions, whose weights mrt_conv_split_ok has
   * seen, where a unit of work has tiles_from pixels of x or more. */
  const struct mrt_conv_split_kernels *tiles;
  int64_t tiles_from;
} mrt_band;

/* Is it depthwise, without dilation, with a row kernel? */
bool mrt_band_ok(const mrt_conv *depthwise);
/* The 1x1 convolutions as mrt_conv_pack wants them. */
mrt_conv mrt_band_expand(const mrt_band *b);
mrt_conv mrt_band_project(const mrt_band *b);

/* Has the last panel of packed weights so few columns that pairs of k are better, and does the
 * machine have a kernel for those? */
bool mrt_band_pairs_ok(const mrt_conv *pointwise);
/* Makes such a panel [k/2][32][2]; other weights stay as they are. */
void mrt_band_pair_weights(const mrt_conv *pointwise, float *packed);

typedef struct mrt_band_args {
  int64_t n, h, w; /* of x */
  const float *x;
  const float *weights[3]; /* packed: expand, depthwise, project */
  const float *bias[3];    /* whole blocks, or NULL */
  const float *z;          /* like y, added before the last activation; NULL; not y itself */
  float *y;
} mrt_band_args;

/* Scratch bytes (64-byte aligned), a function of the shape and the number of workers. False: they
 * do not fit a size_t. */
bool mrt_band_scratch_size(const mrt_par *par, const mrt_band *b, int64_t n, int64_t h, int64_t w,
                           size_t *bytes);
void mrt_band_run(const mrt_par *par, const mrt_band *b, const mrt_band_args *a, void *scratch);

#endif
