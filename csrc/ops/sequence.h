/* Reading sequences and positions in them, for the operators on sequences. */
#ifndef MRT_OPS_SEQUENCE_H
#define MRT_OPS_SEQUENCE_H

#include "ops/common.h"

/* Input i as a sequence (also inside an optional); an error if it is something else. */
mrt_status *mrt_in_sequence(const mrt_kctx *c, int i, const mrt_sequence **out) MRT_MUST_CHECK;
/* Input i as a position in [-n, n - 1 + past]; def if the input is absent. */
mrt_status *mrt_in_position(const mrt_kctx *c, int i, size_t n, int past, size_t def,
                            size_t *out) MRT_MUST_CHECK;
/* Element type of input i: of a sequence, or of an optional sequence; NULL unknown. */
const mrt_type *mrt_sequence_elem_type(const mrt_infer *c, int i);
#define MRT_T_SEQUENCE "T=" MRT_T_NUMERIC ",bool,string,complex64,complex128;I=int32,int64"

#endif
