/* Recurrent steps for avx512. */
#include "provider/cpu/recurrent/recurrent_kernel.h"
#include "provider/cpu/simd/simd_avx512.h"

#define TABLE      mrt_rnn_f32_avx512
#define TABLE_NAME "avx512"
#define ROWS       4 /* batch rows that share one reading of R */
#include "provider/cpu/recurrent/recurrent_simd.inl"
