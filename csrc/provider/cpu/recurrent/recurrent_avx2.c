/* Recurrent steps for avx2. */
#include "provider/cpu/recurrent/recurrent_kernel.h"
#include "provider/cpu/simd/simd_avx2.h"

#define TABLE      mrt_rnn_f32_avx2
#define TABLE_NAME "avx2"
#define ROWS       1 /* batch rows that share one reading of R */
#include "provider/cpu/recurrent/recurrent_simd.inl"
