/* One run of a split convolution (conv_split.h): where everything lies, for conv_split_input.c and
 * conv_split_run.c. */
#ifndef MRT_PROVIDER_CPU_CONV_SPLIT_JOB_H
#define MRT_PROVIDER_CPU_CONV_SPLIT_JOB_H

#include "provider/cpu/conv/conv_split.h"

enum { MRT_SPLIT_MAX_STRIDE = 4 };

/* One direction of the phases. */
typedef struct mrt_split_phases {
  int n;                              /* that taps use */
  int rest[MRT_SPLIT_MAX_STRIDE];     /* remainder of phase i */
  int of[MRT_SPLIT_MAX_STRIDE];       /* and back */
  int64_t left[MRT_SPLIT_MAX_STRIDE]; /* zeros before the first value */
  int64_t far;                        /* largest offset of a tap */
} mrt_split_phases;

typedef struct mrt_split_job {
  const mrt_conv_split_kernels *kern;
  const mrt_conv *p;
  const mrt_conv_args *a;
  int parts, b_parts;
  int64_t h, w, oh, ow, in_blocks, out_blocks;
  mrt_split_phases y, x;
  bool in_place;              /* the input is parts and is read where it lies */
  int64_t in_groups, groups;  /* of 32 channels; of k */
  int64_t slice, slices;      /* groups of a slice; of a panel */
  int64_t panels, each;       /* of all fans; of one */
  int64_t group_bytes;        /* of weights */
  int64_t pitch, rows, plane; /* pixels of a row; output rows of a band; pixels of a phase */
  int64_t part, group;        /* halves */
  int64_t bands, blocks;
  size_t band_bytes; /* split input of a band of one image */
  int64_t together;  /* images of a unit of work */
  /* a run */
  int64_t out_pixel, out_row, out_block, out_image; /* floats */
  const float *bias;                                /* [each][32] */
  int64_t *offsets;
  bool clip;
  float lo, hi;
  mrt_ew_fn act;
  char *scratch;
  int64_t image, band, units, chunks, parts_n, parts_m, workers;
  int64_t *held; /* per worker: the unit whose input it has split, -1: none */
} mrt_split_job;

/* The geometry, all that stands in front of "a run"; oh or ow <= 0: there is no output, and nothing
 * else is set. */
void mrt_split_job_make(mrt_split_job *j, const mrt_conv *p, int64_t h, int64_t w);
/* How many images a unit has, when they come p->images at a time. */
void mrt_split_job_together(mrt_split_job *j, int64_t workers);
/* offsets, once memory for them is there. */
void mrt_split_job_offsets(const mrt_split_job *j);

/* Output rows y0 and on of `images` images, each in `blocks` blocks of 32 pixels. */
typedef struct mrt_split_band {
  int64_t image, images, y0, rows, blocks;
} mrt_split_band;
int64_t mrt_split_job_least(const mrt_split_job *j); /* pixels of the smallest band */
mrt_split_band mrt_split_job_band(const mrt_split_job *j, int64_t image, int64_t i);

typedef struct mrt_split_memory {
  float *acc;
  float *tile; /* with a plain output: a finished block, [2][32 pixels][16] */
  int64_t *rows;
  float *lines;
  uint16_t *weights, *a;
} mrt_split_memory;
mrt_split_memory mrt_split_job_memory(const mrt_split_job *j, int worker);

/* Row r of the band's input, channel group `group`, as parts into the band at a. */
void mrt_split_job_input_row(const mrt_split_job *j, const mrt_split_band *b, int64_t group,
                             int64_t r, float *lines, uint16_t *a);

/* Nanoseconds on one core (Sapphire Rapids): products of a band, with what stores of the output
 * cost; splitting its input. Only ratios matter. */
double mrt_split_job_product_ns(const mrt_split_job *j, int64_t blocks);
double mrt_split_job_split_ns(const mrt_split_job *j);

#endif
