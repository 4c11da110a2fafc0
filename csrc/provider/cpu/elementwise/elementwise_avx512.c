/* The point-wise functions on 512-bit vectors. */
#include "provider/cpu/elementwise/elementwise_kernel.h"
#include "provider/cpu/simd/simd_avx512.h"

#define TABLE      mrt_ew_f32_avx512
#define TABLE_NAME "avx512"
#include "provider/cpu/elementwise/elementwise_simd.inl"
