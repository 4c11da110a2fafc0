/* Point-wise float32 programs: small SSA-like lists of vector instructions run tile by tile, so
 * that every intermediate value stays in L1. One C function per instruction and instruction set, no
 * JIT.
 *
 * The same functions are the activations of the GEMM and convolution epilogues (mrt_act). Accuracy:
 * tanh, erf and sigmoid have a relative error below 4e-7, GELU of 1.7e-7 of its operand; exp, log
 * and what is built of them are within about 2 ulp (below 1e-6), where the result is not denormal;
 * infinities and NaN give what libm gives. */
#ifndef MRT_PROVIDER_CPU_ELEMENTWISE_H
#define MRT_PROVIDER_CPU_ELEMENTWISE_H

#include "base/status.h"
#include "base/threads.h"
#include <stdbool.h>
#include <stdint.h>

/* What an instruction computes. MRT_EW_<ID>; the list with arities is elementwise_ops.def. */
typedef enum mrt_ew_op {
#define MRT_EW_OP(id, arity, params, doc) MRT_EW_##id,
#include "provider/cpu/elementwise/elementwise_ops.def"
#undef MRT_EW_OP
  MRT_EW_OP_COUNT
} mrt_ew_op;

const char *mrt_ew_op_name(mrt_ew_op op); /* "SIGMOID" */
int mrt_ew_op_arity(mrt_ew_op op);        /* 1, 2 or 3 */
int mrt_ew_op_params(mrt_ew_op op);       /* how many of p[2] mean something */

/* An activation: a unary instruction and its parameters. {0} is "none" (a copy). */
typedef struct mrt_act {
  mrt_ew_op op;
  float p[2];
} mrt_act;

/* y[i] = op(a[i] (, b[i] (, c[i]))) for i < n. y may be a, b or c; otherwise no overlap. Unused
 * operands may be NULL. Reads and writes nothing beyond n. */
typedef void (*mrt_ew_fn)(float *y, const float *a, const float *b, const float *c, const float *p,
                          int64_t n);
/* The best function of this machine. Never NULL for op < MRT_EW_OP_COUNT. */
mrt_ew_fn mrt_ew_find(mrt_ew_op op);

/* ---- programs ----------------------------------------------------------------------------------
 * Registers are tiles of MRT_EW_TILE floats. Registers 0 .. n_inputs-1 hold the inputs and must not
 * be written; every other register is written before it is read. A register may be written more
 * than once (reuse keeps the scratch small). Outputs are registers, named in `out`; an output may
 * also be an input's register. */
enum { MRT_EW_TILE = 512, MRT_EW_MAX_REGS = 32, MRT_EW_MAX_RANK = 8, MRT_EW_MAX_IO = 16 };

typedef struct mrt_ew_instr {
  uint8_t op;      /* mrt_ew_op */
  uint8_t dst;     /* register */
  uint8_t a, b, c; /* operand registers; unused ones 0 */
  float p[2];      /* parameters (alpha, low, ...) */
} mrt_ew_instr;

typedef struct mrt_ew_program {
  const mrt_ew_instr *instrs;
  int n_instrs, n_inputs, n_outputs;
  uint8_t out[MRT_EW_MAX_IO];
} mrt_ew_program;

/* One input or output array. Strides are in elements, one per dimension of the iteration space;
 * 0 broadcasts (inputs only). Outputs must not overlap inputs, except that an output may be the
 * very same array (pointer and strides) as an input: that is how in-place works. */
typedef struct mrt_ew_array {
  float *data;
  int64_t strides[MRT_EW_MAX_RANK];
} mrt_ew_array;

/* INVALID_ARGUMENT naming the instruction when a program breaks the rules above. Call once when it
 * is made; mrt_ew_run does not check. */
mrt_status *mrt_ew_program_check(const mrt_ew_program *prog) MRT_MUST_CHECK;

/* Bytes of scratch that mrt_ew_run needs (any alignment of 64): per worker of `par`. */
size_t mrt_ew_scratch_size(const mrt_par *par, const mrt_ew_program *prog);

/* Runs prog over the index space dims[0..rank). rank 0 is one element; a zero dimension is a no-op.
 * io: n_inputs inputs, then n_outputs outputs. Dimensions are merged here, callers need not. */
void mrt_ew_run(const mrt_par *par, const mrt_ew_program *prog, int rank, const int64_t *dims,
                const mrt_ew_array *io, void *scratch);

#endif
