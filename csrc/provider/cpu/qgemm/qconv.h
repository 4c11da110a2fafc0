/* Convolution of 8-bit images in NHWC: on qdirect.h where weights have no zero points, else rows of
 * the window go through the packing GEMM; depthwise windows on qdepth.h, or on loops of qbytes.h.
 * All padding reads x_zero.
 *
 *   x [n][h][w][group * cin], w [cout][cin][kh][kw], y [n][oh][ow][cout] */
#ifndef MRT_PROVIDER_CPU_QCONV_H
#define MRT_PROVIDER_CPU_QCONV_H

#include "provider/cpu/qgemm/qbytes.h"
#include "provider/cpu/weights/packed.h"

typedef struct mrt_qconv {
  int64_t groups, cin, cout; /* cin: of one group; cout: of all */
  int64_t kh, kw, stride_h, stride_w, dil_h, dil_w, pad_top, pad_left;
  bool w_signed;
  bool depthwise, direct, folds; /* set by mrt_qconv_plan; folds: qfold.h */
  /* Depthwise: packed for qdepth.h alone, set behind mrt_qconv_plan. For results of 8 bits, without
   * a sum, where mrt_qconv_prepare agrees; else there are weights for plain loops too. */
  bool dots_only;
  /* 1x1: the last block of k may be a half (MRT_QPACK_HALVES), set behind mrt_qconv_plan. For
   * qband.h alone, which pads what tiles read. */
  bool halves;
} mrt_qconv;

/* A 1x1 convolution of signed weights, or what a window makes another of. */
static inline mrt_qconv mrt_qconv_pointwise(int64_t groups, int64_t cin, int64_t cout) {
  return (mrt_qconv){.groups = groups,
                     .cin = cin,
                     .cout = cout,
                     .kh = 1,
                     .kw = 1,
                     .stride_h = 1,
                     .stride_w = 1,
                     .dil_h = 1,
                     .dil_w = 1,
                     .w_signed = true};
}

typedef struct mrt_qconv_args {
  int64_t n, h, w, oh, ow;
  const uint8_t *x;
  bool x_signed;
  int32_t x_zero;
  const uint8_t *x_end;  /* end of what may be read */
  const void *packed;    /* mrt_qconv_pack */
  const void *prepared;  /* mrt_qconv_prepare, or NULL: made at each run */
  const int32_t *w_zero; /* [cout], or NULL: 0 */
  void *y;
  const mrt_qgemm_epilogue *epi; /* tables over cout; CLIP or nothing; no residual, no float bias */
} mrt_qconv_args;

void mrt_qconv_plan(mrt_qconv *p, const int32_t *w_zero);
/* Depthwise: may it be packed for qdepth.h alone? */
bool mrt_qconv_has_dots(const mrt_qconv *p);
size_t mrt_qconv_packed_size(const mrt_qconv *p); /* 0: overflow */
/* w: OIHW bytes. w_zero is folded into depthwise weights here (NULL: 0). tmp: cout * cin * kh * kw
 * bytes. */
void mrt_qconv_pack(const mrt_par *par, const mrt_qconv *p, const uint8_t *w, const int32_t *w_zero,
                    uint8_t *tmp, void *dst);
/* The same through the store of packed weights; zero: w_zero as a constant, NULL without. */
mrt_status *mrt_qconv_weights(const mrt_qconv *p, const mrt_tensor *w, const mrt_tensor *zero,
                              const int32_t *w_zero, mrt_packed **out) MRT_MUST_CHECK;
/* Depthwise: the part of `packed` that qdepth.h reads; NULL: there is none. */
const void *mrt_qconv_depth_weights(const mrt_qconv *p, const void *packed);
/* What a run needs per channel: epilogue (whether there is a sum, not which), zero points,
 * signedness of x; `at` 64-byte aligned. */
size_t mrt_qconv_prepared_size(const mrt_qconv *p);
/* false: the loops run, which read the epilogue itself. */
bool mrt_qconv_prepare(const mrt_qconv *p, const mrt_qconv_args *a, void *at);
/* What was prepared: tables of a dense convolution of one group, tables of qdepth.h. */
const mrt_qtables *mrt_qconv_tables(const void *prepared);
const void *mrt_qconv_depth_tables(const void *prepared);
bool mrt_qconv_scratch_size(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a,
                            size_t *out); /* false: too large for this */
void mrt_qconv_run(const mrt_par *par, const mrt_qconv *p, const mrt_qconv_args *a, void *scratch);

/* n matrices [rows][cols] of bytes become [cols][rows]: NCHW to NHWC with rows = channels. */
void mrt_bytes_transpose(const mrt_par *par, const uint8_t *x, int64_t n, int64_t rows,
                         int64_t cols, uint8_t *y);

#endif
