/* The row kernels for scalar. */
#include "provider/cpu/rows/rows.h"
#include "provider/cpu/simd/simd_scalar.h"

#define TABLE      mrt_rows_f32_scalar
#define TABLE_NAME "scalar"
#include "provider/cpu/rows/rows_simd.inl"
