/* The wide half of an inverted residual of unsigned bytes: expand (1x1 or a window that qfold.h
 * makes one run of bytes, few of them: short sums) and filter (depthwise, three taps a row), 16
 * wide channels at a time, on the four-way dot product.
 *
 * Sums of two image rows are rounded in registers and stored as the depthwise loop wants them: the
 * bytes of four rows side by side for each channel. Output rows move on by two image rows, so the
 * bytes of a pair of rows are kept, two pixels in a vector, until the next pair completes its four.
 *
 * Weights of a group are copied for these loops once: [group] of mrt_qwide_group_bytes. */
#ifndef MRT_PROVIDER_CPU_QWIDE_H
#define MRT_PROVIDER_CPU_QWIDE_H

#include "provider/cpu/qgemm/qdepth.h"
#include "provider/cpu/qgemm/qfold.h"

enum { MRT_QWIDE_GROUP = 16, MRT_QWIDE_VECTOR = 64, MRT_QWIDE_TAPS = 3, MRT_QWIDE_K = 32 };

/* Shapes and machine, for images of unsigned bytes. */
bool mrt_qwide_fits(const mrt_qconv *expand, const mrt_qconv *depth);

/* A group's tables, vectors of 16 numbers: of the expansion col, scale, bias and k / 4 of weights,
 * of the filter col, scale and weights [tap], of the first output row. `at`: 64-byte aligned. */
size_t mrt_qwide_tables_size(const mrt_qconv *expand); /* 0: overflow */
void mrt_qwide_tables(const mrt_qconv *expand, const void *packed, const mrt_qtables *t,
                      const mrt_qconv *depth, const void *depth_packed, const void *depth_tables,
                      void *at);

/* ---- rows of an image ---- */
typedef struct mrt_qwide {
  const mrt_qconv *expand, *depth;
  int64_t wide; /* channels between */
  const void *tables;
  const uint8_t *x; /* the image, [xh][xw][channels] */
  int64_t xh, xw, h, w, ow;
  const mrt_qfold *fold; /* of a window; NULL: 1x1 */
  int32_t x_zero;
  bool shifted[2];               /* sums are (qgemm_kernel.h), of both */
  int32_t zero[2], lo[2], hi[2]; /* of what is expanded and of what is filtered: bounds of bytes */
  uint8_t *space;                /* of the worker, 64-byte aligned, mrt_qwide_space bytes */
} mrt_qwide;

/* step: output rows of a mrt_qwide_run, at most. */
int64_t mrt_qwide_space(const mrt_qconv *expand, const mrt_qconv *depth, int64_t xw, int64_t w,
                        int64_t ow, int64_t step);
int64_t mrt_qwide_step(const mrt_qconv *depth); /* output rows that are made at once: 2 or 1 */
/* Before rows from y on. */
void mrt_qwide_begin(const mrt_qwide *q, int64_t y);
/* Output rows [y0, y1), filtered, to out: [rows][ow][wide]. One group after the other, so that few
 * rows keep the pairs of a group in L1. */
void mrt_qwide_run(const mrt_qwide *q, int64_t y0, int64_t y1, uint8_t *out);

/* ---- the loops ---- */
typedef struct mrt_qwide_expand {
  const uint8_t *row[2]; /* two image rows, or of folded windows */
  uint8_t keep; /* bits 0, 1: that row is in the image (else: any `pixels` * pitch bytes) */
  int64_t pixels, units, pitch; /* units: of 4 k; pitch: bytes from pixel to pixel */
  const void *table;            /* of the expansion */
  uint8_t *pairs;     /* [pixels / 2][64], rounded up: the pair before, and then this one */
  uint8_t *planes[2]; /* of pixels 0 and 1; NULL: nothing is stored there */
  int64_t step;       /* of planes, from pixel i to i + 2 */
  bool shifted;
  int32_t zero, lo, hi;
} mrt_qwide_expand;
void mrt_qwide_expand_avx512vnni(const mrt_qwide_expand *e);

typedef struct mrt_qwide_dots {
  const uint8_t
      *tap[MRT_QWIDE_TAPS]; /* of output pixel 0, 64 bytes a pixel, and of 3 more pixels */
  const void *table;        /* of the filter */
  int64_t pixels, step;     /* step: bytes of y from pixel to pixel */
  uint8_t *y[2];            /* y[1] NULL: one row */
  bool shifted;
  int32_t zero, lo, hi;
} mrt_qwide_dots;
void mrt_qwide_dots_avx512vnni(const mrt_qwide_dots *d);

#endif
