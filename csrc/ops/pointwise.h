/* macart.Pointwise: a list of float32 point-wise operators over one iteration space, as a CPU
 * provider makes it. Values are numbered: the node's inputs first, then the result of each step.
 *
 *   ops     strings, the ONNX operator of each step
 *   counts  ints, how many operands each step has
 *   args    ints, the operands' numbers, step after step
 *   params  floats, two for each step (ops/pointwise.def says which)
 * The last step's result is the output. */
#ifndef MRT_OPS_POINTWISE_H
#define MRT_OPS_POINTWISE_H

#include "ir/op.h"

enum { MRT_PW_MAX_ARGS = 8, MRT_PW_MAX_STEPS = 64, MRT_PW_MAX_INPUTS = 14 };

typedef struct mrt_pw_row {
  const char *op;
  int min_args, max_args;
  const char *attr[2];
} mrt_pw_row;

typedef struct mrt_pw_step {
  int row; /* in mrt_pw_rows */
  int n_args;
  int args[MRT_PW_MAX_ARGS];
  float p[2];
} mrt_pw_step;

const mrt_pw_row *mrt_pw_rows(int *n);
/* The step of one plain ONNX node (args 0, 1, ...); false if it is not such a node: another
 * operator, a form or a dtype (as far as known) that no step says. */
bool mrt_pw_step_of(const mrt_node *node, mrt_pw_step *out);
/* The steps of a macart.Pointwise node; INVALID_GRAPH when the attributes do not fit together. */
mrt_status *mrt_pw_read(const mrt_node *node, mrt_pw_step *steps, int *n_steps) MRT_MUST_CHECK;
/* Writes the attributes. */
mrt_status *mrt_pw_write(mrt_node *node, const mrt_pw_step *steps, int n_steps) MRT_MUST_CHECK;

#endif
