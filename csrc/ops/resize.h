/* What Resize does along one axis: filled by resize_plan.c, used by the kernels. */
#ifndef MRT_OPS_RESIZE_H
#define MRT_OPS_RESIZE_H

#include "ops/work.h"

typedef enum mrt_resize_mode { MRT_NEAREST, MRT_LINEAR, MRT_CUBIC } mrt_resize_mode;

typedef struct resize_axis {
  int64_t in, out;
  float scale;
  double roi_start, roi_end;
  bool identity;  /* every output position is the input position */
  int64_t taps;   /* of the widest window */
  int64_t *start; /* [out] first input position; nearest: the position, -1 outside */
  int32_t *count; /* [out] taps used; -1: outside, takes the extrapolation value */
  void *weight;   /* [out * taps] in the working type */
} resize_axis;

mrt_resize_mode mrt_resize_mode_of(const mrt_node *node);
/* Axes of the attribute (all of them when absent), made non-negative; *n of them. */
mrt_status *mrt_resize_axes(const mrt_node *node, int rank, int *axes, int *n) MRT_MUST_CHECK;
/* Output size for a scale, as ONNX and ONNX Runtime compute it (in float). */
int64_t mrt_resize_scaled(int64_t in, float scale);
/* Sizes and scale of the axes for given sizes, by keep_aspect_ratio_policy. in, out: by position in
 * the list of n axes; sizes are changed in place. scale 0 entries: not given by the policy. */
mrt_status *mrt_resize_policy(const mrt_node *node, int n, const int64_t *in, int64_t *sizes,
                              float *scale) MRT_MUST_CHECK;
/* Fills all rank axes for input x and output y (whose shape is known). */
mrt_status *mrt_resize_plan(mrt_kctx *c, const mrt_tensor *x, const mrt_tensor *y, mrt_dtype work,
                            resize_axis *axes) MRT_MUST_CHECK;

#endif
