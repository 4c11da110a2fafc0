/* The inner product of attention, one per instruction set; attention.def lists them. */
#ifndef MRT_PROVIDER_CPU_ATTENTION_KERNEL_H
#define MRT_PROVIDER_CPU_ATTENTION_KERNEL_H

#include <stdint.h>

typedef struct mrt_attn_kernels {
  const char *name;
  /* c[m, 32] = a[m, k] b[k, 32], b packed (rows of 32 floats). Writes all 32 columns. */
  void (*panel)(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t m,
                int64_t k);
} mrt_attn_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_attn_kernels symbol;
#include "provider/cpu/attention/attention.def"
#undef MRT_KERNEL

#endif
