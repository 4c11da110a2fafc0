/* macart.QLinearBand: which input is which. Behind the image and its scale and zero point stand the
 * convolutions, six inputs each, then the second operand of the sum. */
#ifndef MRT_OPS_QBAND_H
#define MRT_OPS_QBAND_H

#include "ops/window.h"

enum {
  MRT_QBAND_X,
  MRT_QBAND_X_SCALE,
  MRT_QBAND_X_ZERO,
  MRT_QBAND_CONVS, /* expand (or absent), depthwise, project */
  MRT_QBAND_PER_CONV = 6,
  MRT_QBAND_ADD = MRT_QBAND_CONVS + 3 * MRT_QBAND_PER_CONV, /* other, scale, zero, sum's two */
  MRT_QBAND_INPUTS = MRT_QBAND_ADD + 5
};
/* Of a convolution's six. */
enum {
  MRT_QBAND_W,
  MRT_QBAND_W_SCALE,
  MRT_QBAND_W_ZERO,
  MRT_QBAND_Y_SCALE,
  MRT_QBAND_Y_ZERO,
  MRT_QBAND_BIAS
};
static inline int mrt_qband_in(int conv, int which) {
  return MRT_QBAND_CONVS + conv * MRT_QBAND_PER_CONV + which;
}

/* The window of the first convolution: its attributes expand_kernel_shape, expand_strides and
 * expand_pads; 1x1 without them. */
mrt_status *mrt_qband_expand_window(const mrt_node *node, mrt_window *w) MRT_MUST_CHECK;

/* Attributes with the bounds of each convolution's result, and of the sum. */
static const char *const mrt_qband_bounds[4][2] = {
    {"expand_lo", "expand_hi"}, {"lo", "hi"}, {"project_lo", "project_hi"}, {"add_lo", "add_hi"}};

#endif
