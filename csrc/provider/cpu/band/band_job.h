/* What band.c (float32 tiles) and band_split.c (tiles of bf16 parts) share of a run. */
#ifndef MRT_PROVIDER_CPU_BAND_BAND_JOB_H
#define MRT_PROVIDER_CPU_BAND_BAND_JOB_H

#include <stdatomic.h>

#include "provider/cpu/band/band.h"
#include "provider/cpu/conv/conv_kernel.h"
#include "provider/cpu/gemm/gemm_kernel.h"

enum { MRT_BAND_PANEL = 32 }; /* wide channels of a group */

/* How the work is cut. */
typedef struct mrt_band_plan {
  int64_t oh, ow, wide, groups; /* wide channels, in groups of 32 */
  int64_t out_channels, out_blocks;
  int64_t bands, parts;
  int64_t team;                   /* groups that are projected at once: 1 or 2 */
  int64_t step, steps, ring_rows; /* output rows of a step, input rows kept */
  int64_t ring_block, rows_block; /* floats of a channel block of the ring, of a step's output */
  int64_t worker_floats, image_floats;
  /* On tiles of bf16 parts (band_split.c). */
  bool split;
  int64_t split_bytes; /* of a worker */
} mrt_band_plan;

/* A run. */
typedef struct mrt_band_job {
  const mrt_band *b;
  const mrt_band_args *a;
  mrt_band_plan p;
  const mrt_gemm_kernels *kern;
  void (*tile)(const mrt_tile *t, int64_t pixels); /* NULL: kern's */
  mrt_dw_fn dw;
  mrt_dw_row row;
  mrt_tile expand, project; /* what is the same for all tiles */
  mrt_ew_fn act[3];         /* NULL: none, or a clip */
  const mrt_kblock *blocks; /* of x */
  float *work, *sums;
  atomic_int *met; /* [image][step][half]: how many of its two sums are complete */
  mrt_ew_fn add, clip;
  int64_t units, chunks;
} mrt_band_job;

/* Where a unit is. */
typedef struct mrt_band_place {
  int64_t image, part, end; /* end: of the part's groups */
  int64_t lead, count;      /* the groups at work */
  int64_t group, channels;  /* one of them; its channels: 1..32 */
  int64_t y0, y1, begin;    /* output rows of this step; of all: where they begin */
  bool first, last;         /* groups of the part */
  bool given;               /* the other part's half of the sums, once and for all */
  int64_t joined;           /* of this part's half: blocks from here on have the other's sums */
  float *memory;            /* of the worker */
  void *split;              /* of the worker, for band_split.c */
  float *ring, *rows;       /* of the group */
} mrt_band_place;

/* Expands input rows [r0, r1) of at->group, which lie in the ring without a break. */
void mrt_band_expand_rows(const mrt_band_job *j, const mrt_band_place *at, int64_t r0, int64_t r1);
/* The depthwise rows of the step, of channel block c of the group. */
void mrt_band_depthwise_rows(const mrt_band_job *j, const mrt_band_place *at, int64_t c);
/* Activation `which`, if it is not a clip. */
void mrt_band_activate(const mrt_band_job *j, int which, float *at, int64_t floats);

/* Sums of two parts. Each part owns a half of the outputs, whose sums it forms in y, and forms
 * those of the other half elsewhere, first. Whoever has finished its sums of a half second adds
 * those of the first, so nobody waits: nearly always the owner, which then adds them in its tiles.
 */
int64_t mrt_band_halves(const mrt_band_plan *p); /* 1: there is one part */
/* The half that comes as number `turn`, and its channel blocks. */
int64_t mrt_band_half(const mrt_band_plan *p, const mrt_band_place *at, int64_t turn,
                      int64_t *begin, int64_t *end);
/* Where the sums of a panel from channel block c on go, and what is added to finished ones. */
typedef struct mrt_band_sums {
  float *at;
  const float *residual; /* or NULL */
  bool own;              /* the bias is added */
  bool whole;            /* if they are finished: with the activation */
} mrt_band_sums;
mrt_band_sums mrt_band_sums_at(const mrt_band_job *j, mrt_band_place *at, int64_t c);
/* The sums of this step are complete in this part, those of `half`. */
void mrt_band_meet(const mrt_band_job *j, mrt_band_place *at, int64_t half);

/* band_split.c: sets p->split and p->split_bytes, if that pays for images of h x w. */
void mrt_band_split_plan(const mrt_band *b, int64_t h, int64_t w, mrt_band_plan *p);
/* Part at->part of output rows [y0, y1). False: something that tiles cannot do, nothing counts. */
bool mrt_band_split_unit(const mrt_band_job *j, mrt_band_place *at, int64_t y0, int64_t y1);

#endif
