/* Recurrent steps for scalar. */
#include "provider/cpu/recurrent/recurrent_kernel.h"
#include "provider/cpu/simd/simd_scalar.h"

#define TABLE      mrt_rnn_f32_scalar
#define TABLE_NAME "scalar"
#define ROWS       1 /* batch rows that share one reading of R */
#include "provider/cpu/recurrent/recurrent_simd.inl"
