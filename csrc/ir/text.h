/* The text form of a model: what MRT_PRINT_IR shows, what tests of passes are written in, and what
 * `python -m macart opt` reads. Printing and parsing are inverse as long as no constant is elided.
 *
 *   model opset 21, com.microsoft 1
 *   graph main(%x: float[N, 4]) {
 *     @w: float[4] = [1, 2, 3, 4]
 *     %y: float[N, 4], _ = Op(%x, @w, _) {axis = -1, mode = "a", eps = 1e-05f} "node name"
 *     %z: float[2*N] = com.microsoft.Gelu(%y)
 *     return %z
 *   }
 *
 * %value, @constant, _ absent; names that are no identifiers stand in quotes: %"a b". Dims are
 * expressions (ir/expr.h), "?" is unknown, float[*] an unknown rank. Attributes: 1 int, 1f float,
 * "s" string, ints[1, 2], floats[1f], strings["a"], tensor float[2] [1, 2], graph body(...) {...},
 * type float[N]. Comments run from # to the end of the line. */
#ifndef MRT_IR_TEXT_H
#define MRT_IR_TEXT_H

#include "ir/op.h"

/* Constants of more than max_elems elements are elided as "..." (< 0: none are). */
mrt_status *mrt_model_print(const mrt_model *model, int64_t max_elems, mrt_str *out) MRT_MUST_CHECK;

/* Nodes are resolved in `ops` and stand in their newest form. MRT_INVALID_ARGUMENT with the line
 * and what was expected there. */
mrt_status *mrt_model_parse(const mrt_alloc *alloc, const mrt_op_table *ops, const char *text,
                            mrt_model **out) MRT_MUST_CHECK;

#endif
