/* What the node of QLinearBand and the fusion that makes it share. */
#ifndef MRT_PROVIDER_CPU_QBAND_NODE_H
#define MRT_PROVIDER_CPU_QBAND_NODE_H

#include "tensor/tensor.h"

/* Are the factors of a convolution in the range of its kernels? */
bool mrt_qband_scales_fit(float x_scale, const mrt_tensor *w_scale, float y_scale);

#endif
