/* The point-wise functions on 256-bit vectors. */
#include "provider/cpu/elementwise/elementwise_kernel.h"
#include "provider/cpu/simd/simd_avx2.h"

#define TABLE      mrt_ew_f32_avx2
#define TABLE_NAME "avx2"
#include "provider/cpu/elementwise/elementwise_simd.inl"
