/* 2-d float32 convolution and pooling on channel blocks.
 *
 * Layout c16 ("NCHWc16"): [n][ceil(c/16)][h][w][16]. Lanes past c in the last block are unknown to
 * readers, even NaN: kernels here never let them reach a result. A tensor of c16 needs
 * mrt_c16_size(n, c, h, w) floats. 1-d problems use h = 1.
 *
 * A convolution is an implicit product: the pixels of an output row are the rows of A, read in
 * place or from a zero-padded copy of a band of input rows; packed weights are B. The microkernels
 * are those of gemm/. Sums run over (ky, kx, channel) whatever the number of threads.
 *
 * Not here: 3-d; transposed convolution is conv_transpose/. mrt_conv_check says what it cannot do.
 */
#ifndef MRT_PROVIDER_CPU_CONV_H
#define MRT_PROVIDER_CPU_CONV_H

#include "base/alloc.h"
#include "base/threads.h"
#include "provider/cpu/elementwise/elementwise.h"

static inline int64_t mrt_c16_blocks(int64_t c) { return (c + 15) / 16; }
static inline int64_t mrt_c16_size(int64_t n, int64_t c, int64_t h, int64_t w) {
  return n * mrt_c16_blocks(c) * 16 * h * w;
}

/* Plain [n][c][h][w] to c16 (spare lanes 0) and back. 64-byte aligned c16 side. */
void mrt_c16_from_nchw(const mrt_par *par, const float *src, int64_t n, int64_t c, int64_t h,
                       int64_t w, float *dst);
void mrt_c16_to_nchw(const mrt_par *par, const float *src, int64_t n, int64_t c, int64_t h,
                     int64_t w, float *dst);

/* The same of some pixels of plain channels that lie `plane` floats apart. */
void mrt_c16_from_line(const mrt_par *par, const float *src, int64_t plane, int64_t c,
                       int64_t pixels, float *dst);
void mrt_c16_to_line(const mrt_par *par, const float *src, int64_t plane, int64_t c, int64_t pixels,
                     float *dst);

/* How packed weights are kept: as floats, or in 2 bytes each, where those hold them exactly. */
typedef enum mrt_conv_narrow { MRT_CONV_WIDE, MRT_CONV_BF16, MRT_CONV_F16 } mrt_conv_narrow;

/* Elements of packed weights from floats, which are such numbers. */
void mrt_conv_narrow_to(mrt_conv_narrow narrow, const float *src, int64_t n, void *dst);

/* The constant part of a convolution. Groups: 1, or depthwise (groups == cin == cout), or any
 * number for which cin/groups and cout/groups are multiples of 16. */
typedef struct mrt_conv {
  int64_t cin, cout, groups;
  int64_t kh, kw, stride_h, stride_w, dil_h, dil_w;
  int64_t pad_top, pad_left, pad_bottom, pad_right;
  bool input_nchw;  /* the input is plain NCHW (first layers, cin <= 16, groups 1) */
  bool output_nchw; /* so is the output, else it is c16: only with parts; no residual, no spread */
  int winograd;     /* 2 or 4: by F(2x2, 3x3) or F(4x4, 3x3), see mrt_conv_winograd_ok; 0: not */
  int parts;        /* 1 .. 3: out of products of bf16 parts on tiles (conv_split.h); 0: float32 */
  bool raw;         /* with parts: weights are kept as numbers and split at run */
  /* With parts: bytes of all weights around, scratch is bounded by them; 0: many. */
  int64_t network_bytes;
  /* With parts: so many images come at a time, and small ones may be multiplied together, for more
   * scratch; 0: 1. Results are the same. */
  int64_t images;
  mrt_conv_narrow narrow; /* not depthwise, not by Winograd */
  bool spread; /* output pixels lie apart (mrt_conv_args.out_*); not depthwise, no Winograd */
  /* With parts and spread: so many convolutions on one input, weights [fan_h * fan_w][cout]...,
   * number (i, j) written to the pixels (i, j) of the gaps that out_* leaves. 0 is 1. */
  int fan_h, fan_w;
} mrt_conv;

/* 1x1, stride 1, no padding. */
static inline mrt_conv mrt_conv_pointwise(int64_t cin, int64_t cout) {
  return (mrt_conv){.cin = cin,
                    .cout = cout,
                    .groups = 1,
                    .kh = 1,
                    .kw = 1,
                    .stride_h = 1,
                    .stride_w = 1,
                    .dil_h = 1,
                    .dil_w = 1};
}

static inline int64_t mrt_conv_out(int64_t in, int64_t k, int64_t stride, int64_t dil,
                                   int64_t pad_a, int64_t pad_b) {
  int64_t span = in + pad_a + pad_b - ((k - 1) * dil + 1);
  return span < 0 ? 0 : span / stride + 1;
}

/* NULL if this family can run it, else NOT_IMPLEMENTED saying why. */
mrt_status *mrt_conv_check(const mrt_conv *p) MRT_MUST_CHECK;

/* May p be run by Winograd's F(2x2, 3x3) or F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308)? 3x3,
 * stride 1, no dilation, one group, c16 input, and weights that are finite with room to spare. The
 * error is taken against the maximum of sum |x w| over the outputs of a tile: that of F(2x2, 3x3)
 * stays below that of direct summation, that of F(4x4, 3x3) within a few times it; tiles with
 * outputs that are not finite are computed again directly. Set p->winograd before packing. weights
 * NULL: asks about the shape only. */
bool mrt_conv_winograd_ok(const mrt_conv *p, const float *weights);
/* Which is likely to be fastest for images of this size: 0 (neither), 2 or, if `four`, 4. */
int mrt_conv_winograd_pays(const mrt_conv *p, int64_t h, int64_t w, bool four);

/* Bytes of packed weights, and packing of plain [cout][cin/groups][kh][kw]. dst: 64-byte aligned.
 * Where p->narrow, weights are such numbers. */
size_t mrt_conv_packed_size(const mrt_conv *p);
void mrt_conv_pack(const mrt_par *par, const mrt_conv *p, const float *weights, void *dst);

typedef struct mrt_conv_args {
  int64_t n, h, w;       /* of the input */
  const float *input;    /* c16 (or NCHW: input_nchw), 64-byte aligned if c16 */
  const void *weights;   /* packed */
  const float *bias;     /* [cout] plain, or NULL */
  const float *residual; /* c16, shape of the output, added before the activation; NULL; may be
                            the output */
  mrt_act act;
  float *output; /* c16, 64-byte aligned; or NCHW: output_nchw */
  /* Not 0: the input is so many bf16 parts (as many as mrt_conv.parts), the output becomes 1 or 2
   * (mrt_conv_split_gives): conv_split.h, "values". */
  int in_parts, out_parts;
  /* With mrt_conv.spread: floats from one output pixel, row, channel block, image to the next (a
   * phase of a transposed convolution fills every other pixel of every other row). */
  int64_t out_pixel, out_row, out_block, out_image;
} mrt_conv_args;

/* Scratch bytes (64-byte aligned), a function of the shape and the number of workers. */
size_t mrt_conv_scratch_size(const mrt_par *par, const mrt_conv *p, int64_t h, int64_t w);
void mrt_conv_run(const mrt_par *par, const mrt_conv *p, const mrt_conv_args *args, void *scratch);

/* ---- pooling on c16 ---- */
enum { MRT_POOL_MAX_TAPS = 4096 }; /* kh * kw of pooling and of depthwise convolution at most */
typedef enum mrt_pool_kind { MRT_POOL_MAX, MRT_POOL_AVG, MRT_POOL_AVG_INCLUDE_PAD } mrt_pool_kind;
typedef struct mrt_pool {
  mrt_pool_kind kind;
  int64_t kh, kw, stride_h, stride_w, dil_h, dil_w;
  int64_t pad_top, pad_left;     /* bottom and right follow from the output size given */
  int64_t pad_bottom, pad_right; /* only counted by MRT_POOL_AVG_INCLUDE_PAD */
} mrt_pool;
/* in: c16 [n, c, h, w]; out: c16 [n, c, oh, ow] (oh, ow from the caller: ceil_mode is its choice).
 * Max of NaN is NaN if it is the first of its window (as ONNX Runtime); an empty window gives -inf.
 */
void mrt_pool_run(const mrt_par *par, const mrt_pool *p, int64_t n, int64_t c, int64_t h, int64_t w,
                  const float *in, int64_t oh, int64_t ow, float *out);
/* Mean or maximum over h x w of c16 into plain [n][c], or into c16 of 1x1 (spare lanes hold what
 * the input's gave). */
void mrt_pool_global(const mrt_par *par, mrt_pool_kind kind, int64_t n, int64_t c, int64_t h,
                     int64_t w, const float *in, float *out, bool out_c16);

#endif
