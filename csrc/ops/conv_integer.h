/* Convolutions of 8-bit integers: which input of which operator plays which part. */
#ifndef MRT_OPS_CONV_INTEGER_H
#define MRT_OPS_CONV_INTEGER_H

#include "ops/qlinear.h"
#include "ops/window.h"

/* y = sum (x - x_zero)(w - w_zero) as int32 (ConvInteger), or with an int32 bias added and
 * requantised (QLinearConv of ai.onnx, and of com.microsoft with channels_last). Padding is x_zero.
 * x [n, c, spatial..], w [m, c / group, spatial..]; channels_last: x and y [n, spatial.., c]. */
typedef struct mrt_iconv {
  const mrt_tensor *x, *x_scale, *x_zero, *w, *w_scale, *w_zero, *y_scale, *y_zero, *bias;
  mrt_tensor *y;
  int32_t lo, hi; /* of y, where it is quantised */
  bool last;      /* channels last */
  mrt_window win;
  int64_t n, group, cin, cout; /* cin: of one group; cout: of all */
  int64_t in[MRT_MAX_SPATIAL], out[MRT_MAX_SPATIAL], in_size, out_size, taps;
} mrt_iconv;
int mrt_iconv_weights(const char *op_type); /* input number of w */
/* Fills in tensors and geometry of this call; checks shapes, counts of scales and zero points. */
mrt_status *mrt_iconv_read(mrt_kctx *c, mrt_iconv *p) MRT_MUST_CHECK;
/* x_scale * w_scale[m] / y_scale. */
float mrt_iconv_scale(const mrt_iconv *p, int64_t m);
mrt_status *mrt_iconv_infer(mrt_infer *c) MRT_MUST_CHECK;
/* The reference kernel. */
mrt_status *mrt_iconv_run(mrt_kctx *c) MRT_MUST_CHECK;

#endif
