/* The geometry of operators that slide a window over spatial dims (convolutions, pools): attributes
 * in one struct, used by inference (symbolically) and by kernels. */
#ifndef MRT_OPS_WINDOW_H
#define MRT_OPS_WINDOW_H

#include "ops/common.h"

#define MRT_MAX_SPATIAL 8

typedef struct mrt_window {
  int n; /* spatial dims */
  int64_t kernel[MRT_MAX_SPATIAL], stride[MRT_MAX_SPATIAL], dilation[MRT_MAX_SPATIAL];
  int64_t begin[MRT_MAX_SPATIAL], end[MRT_MAX_SPATIAL]; /* padding */
  bool ceil_mode, same, same_lower;
} mrt_window;

/* Reads auto_pad, ceil_mode, kernel_shape, strides, dilations and pads of a node with n spatial
 * dims. kernel: used when the node has no kernel_shape (NULL: ones). SAME padding is not known yet:
 * mrt_window_resolve_same. */
mrt_status *mrt_window_read(const mrt_node *node, int n, const int64_t *kernel, mrt_window *w);
/* Output size of a convolution or pool along spatial dim i. */
const mrt_expr *mrt_window_out(mrt_infer *c, const mrt_window *w, int i, const mrt_expr *in);
/* With auto_pad SAME_*: padding for these input and output sizes. */
void mrt_window_resolve_same(mrt_window *w, const int64_t *in, const int64_t *out);
/* Range of output positions for which offset `at` (tap - padding) reads inside [0, in). */
void mrt_window_inside(int64_t at, int64_t stride, int64_t in, int64_t out, int64_t *lo,
                       int64_t *hi);
/* Tap number -> offsets (tap * dilation - padding) per dim. */
void mrt_window_tap(const mrt_window *w, int64_t tap, int64_t *offset);

/* Shape inference of Conv, and of what is fused of it: reads inputs X and W. */
mrt_status *mrt_conv_infer(mrt_infer *c);

#endif
