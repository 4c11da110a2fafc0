/* The row kernels for avx2. */
#include "provider/cpu/rows/rows.h"
#include "provider/cpu/simd/simd_avx2.h"

#define TABLE      mrt_rows_f32_avx2
#define TABLE_NAME "avx2"
#include "provider/cpu/rows/rows_simd.inl"
