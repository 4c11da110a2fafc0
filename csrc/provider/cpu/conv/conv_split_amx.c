/* Split convolution on AMX tiles; splitting in AVX-512. conv_split_model.c says what it computes.
 */
#include "provider/cpu/amx/tile.h"
#include "provider/cpu/conv/conv_split_simd.inl"

INLINE void split_pair(const float *raw, uint16_t *dst, int64_t pair) {
  const int64_t group = pair / 32, i = pair % 32 / 2, half = pair % 2;
  const float *x = raw + group * 1024 + i * 32 + half * 16;
  split_two(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 512), 3, _mm512_loadu_si512(interleave),
            dst + group * 3072 + half * 512 + i * 32, 1024);
}

#include "provider/cpu/conv/conv_split.inl"

const mrt_conv_split_kernels mrt_conv_split_amx = {.name = "amx",
                                                   .gemm = &mrt_gemm_split_amx,
                                                   .few = 4,
                                                   .product_ns = {0, 24, 64, 129},
                                                   .pixel_ns = {0, 5, 7, 9.5},
                                                   .block_ns = 150,
                                                   .split_line = split_line,
                                                   .split_pairs = split_pairs,
                                                   .multiply = multiply,
                                                   .finish = finish};
