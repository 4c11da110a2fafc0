/* The split product on AMX tiles; splitting and epilogue in AVX-512. gemm_split_model.c says what
 * it computes. */
#include "provider/cpu/gemm/gemm_split_simd.inl"

#define SPLIT_STEP(next, parts) split_step(&(next), parts)
#define SPLIT_OWN(acc, two_rows) \
  for (int i = 0; i < ((two_rows) ? 64 : 32); ++i) __builtin_prefetch((acc) + i * 16, 1)
#include "provider/cpu/gemm/gemm_split.inl"

const mrt_split_kernels mrt_gemm_split_amx = {
    .name = "amx",
    .most_parts = 3,
    .costs = {.product = {0, 30, 72, 140},
              .split_b = {0, 130, 190, 250},
              .split_a = {0, 80, 115, 160},
              .block = 280,
              .rows = 16},
    .split_a = split_a,
    .split_b = split_b,
    .multiply = multiply,
    .multiply_ahead = multiply_ahead,
    .suspicious = suspicious,
    .finish = finish,
    .late = late,
    .begin = begin,
    .end = end,
};
