/* Tables of instruction functions, one per instruction set; elementwise.def lists them. */
#ifndef MRT_PROVIDER_CPU_ELEMENTWISE_KERNEL_H
#define MRT_PROVIDER_CPU_ELEMENTWISE_KERNEL_H

#include "provider/cpu/elementwise/elementwise.h"

typedef struct mrt_ew_kernels {
  const char *name;
  mrt_ew_fn fn[MRT_EW_OP_COUNT];
} mrt_ew_kernels;

#define MRT_KERNEL(isa, symbol) extern const mrt_ew_kernels symbol;
#include "provider/cpu/elementwise/elementwise.def"
#undef MRT_KERNEL

const mrt_ew_kernels *mrt_ew_kernels_get(void);

#endif
