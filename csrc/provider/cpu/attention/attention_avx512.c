/* The product of attention for avx512: 12 rows at a time. */
#include "provider/cpu/attention/attention_kernel.h"
#include "provider/cpu/simd/simd_avx512.h"

#define TABLE      mrt_attn_f32_avx512
#define TABLE_NAME "avx512"
#define ROWS       12
#define REPEAT     REPEAT_12
#include "provider/cpu/attention/attention_simd.inl"
