/* The choice of the row kernels. */
#include "provider/cpu/rows/rows.h"

#include "base/cpu.h"

const mrt_row_kernels *mrt_row_kernels_get(void) {
  const uint32_t have = mrt_cpu_get()->isa;
#define MRT_KERNEL(isa, symbol) \
  if ((have & MRT_ISA_##isa) == MRT_ISA_##isa) return &symbol;
#include "provider/cpu/rows/rows.def"
#undef MRT_KERNEL
}
