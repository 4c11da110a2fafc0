/* The loops on 512-bit vectors. */
#include "provider/cpu/resize/resize.h"

#include "provider/cpu/resize/resize_simd.inl"

const mrt_resize_kernels mrt_resize_f32_avx512 = {
    .name = "avx512", .rows = rows, .pixels16 = pixels16, .pixels1 = pixels1};
