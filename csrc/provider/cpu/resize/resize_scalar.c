/* The loops in plain C. */
#include "provider/cpu/resize/resize.h"

#include "provider/cpu/resize/resize_simd.inl"

const mrt_resize_kernels mrt_resize_f32_scalar = {
    .name = "scalar", .rows = rows, .pixels16 = pixels16, .pixels1 = pixels1};
