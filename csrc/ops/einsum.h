/* The equation of an Einsum: every dim of every operand has a label. */
#ifndef MRT_OPS_EINSUM_H
#define MRT_OPS_EINSUM_H

#include "ops/common.h"

#define ES_MAX_INPUTS 32
#define ES_ELLIPSIS   52 /* labels 0..51 are A-Z a-z, the dims of "..." follow */
#define ES_MAX_LABELS (ES_ELLIPSIS + MRT_MAX_RANK)

typedef struct es_equation {
  int n_in, n_out;
  int rank[ES_MAX_INPUTS];
  int in[ES_MAX_INPUTS][MRT_MAX_RANK]; /* label of each dim */
  int out[MRT_MAX_RANK];
} es_equation;

/* Parses with the ranks of the operands; errors say what is wrong with the equation. */
mrt_status *mrt_einsum_parse(const char *equation, int n_in, const int *ranks,
                             es_equation *out) MRT_MUST_CHECK;

#endif
