/* 2-d float32 transposed convolution on channel blocks, by phases: the outputs at positions
 * (oy + pad) mod stride = r read only the taps r, r + stride, ... of the kernel, so that each of
 * the stride_h * stride_w phases is a plain convolution with stride 1 and a part of the flipped
 * kernel. It runs on conv/, which writes every stride-th pixel.
 *
 * With few output channels and stride = kernel the phases become channels of one 1x1 convolution,
 * which are then taken apart: no channel block is wasted on one or two channels. */
#ifndef MRT_PROVIDER_CPU_CONV_TRANSPOSE_H
#define MRT_PROVIDER_CPU_CONV_TRANSPOSE_H

#include "provider/cpu/conv/conv_node.h"
#include "provider/cpu/gemm/gemm.h"

typedef struct mrt_convt {
  int64_t cin, cout;
  int64_t kh, kw, stride_h, stride_w;
  int64_t pad_top, pad_left; /* the rest follows from the output's size */
  int parts; /* > 0: all phases at once out of bf16 products, see mrt_convt_choose */
} mrt_convt;

/* Can mrt_convt_run do it? Every phase must have a tap and no padding may cut an input row off. */
bool mrt_convt_ok(const mrt_convt *p);
/* For images of about this size: sets p->parts, if the kernel is as large as the stride, nothing is
 * padded (the output is exactly stride times the input) and split products (conv/conv_split.h) are
 * faster; else 0. */
void mrt_convt_choose(mrt_convt *p, mrt_precision precision, const float *weights, int64_t h,
                      int64_t w);
/* Packing of plain [cin][cout][kh][kw]. dst: 64-byte aligned. */
size_t mrt_convt_packed_size(const mrt_convt *p);
mrt_status *mrt_convt_pack(const mrt_alloc *alloc, const mrt_convt *p, const float *weights,
                           float *dst) MRT_MUST_CHECK;

typedef struct mrt_convt_args {
  int64_t n, h, w, oh, ow;
  const float *input;   /* c16 */
  const float *weights; /* packed */
  const float *bias;    /* [cout] or NULL */
  float *output;        /* c16; plain if mrt_convt_plain */
} mrt_convt_args;
/* Few output channels, stride = kernel, no padding: the output is plain. */
bool mrt_convt_plain(const mrt_convt *p);
size_t mrt_convt_scratch_size(const mrt_par *par, const mrt_convt *p, const mrt_convt_args *a);
void mrt_convt_run(const mrt_par *par, const mrt_convt *p, const mrt_convt_args *a, void *scratch);

#endif
