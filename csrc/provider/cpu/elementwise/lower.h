/* From point-wise nodes to programs of the interpreter. */
#ifndef MRT_PROVIDER_CPU_LOWER_H
#define MRT_PROVIDER_CPU_LOWER_H

#include "ir/op.h"
#include "provider/cpu/elementwise/elementwise.h"

typedef struct mrt_ew_built {
  mrt_ew_program prog; /* prog.instrs is set by whoever places the object for good */
  mrt_ew_instr instrs[256];
  int input[MRT_EW_MAX_IO]; /* which input of the node the program's input is */
} mrt_ew_built;

/* Builds the program of a plain ONNX node (mrt_pw_step_of) or of macart.Pointwise. Inputs that are
 * constant scalars become parameters where an instruction has room for them. NOT_IMPLEMENTED when
 * it needs more registers, inputs or instructions than there are. */
mrt_status *mrt_ew_lower(const mrt_node *node, mrt_ew_built *out) MRT_MUST_CHECK;

#endif
