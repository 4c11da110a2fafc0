/* The product of attention for avx2: 6 rows at a time. */
#include "provider/cpu/attention/attention_kernel.h"
#include "provider/cpu/simd/simd_avx2.h"

#define TABLE      mrt_attn_f32_avx2
#define TABLE_NAME "avx2"
#define ROWS       6
#define REPEAT     REPEAT_6
#include "provider/cpu/attention/attention_simd.inl"
