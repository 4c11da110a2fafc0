/* The row kernels for avx512. */
#include "provider/cpu/rows/rows.h"
#include "provider/cpu/simd/simd_avx512.h"

#define TABLE      mrt_rows_f32_avx512
#define TABLE_NAME "avx512"
#include "provider/cpu/rows/rows_simd.inl"
