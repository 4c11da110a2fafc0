/* The product of attention for scalar: 4 rows at a time. */
#include "provider/cpu/attention/attention_kernel.h"
#include "provider/cpu/simd/simd_scalar.h"

#define TABLE      mrt_attn_f32_scalar
#define TABLE_NAME "scalar"
#define ROWS       4
#define REPEAT     REPEAT_4
#include "provider/cpu/attention/attention_simd.inl"
