/* Which nodes can work on channel blocks: the one answer that the layout pass and the kernel rows
 * share. */
#ifndef MRT_PROVIDER_CPU_C16_C16_H
#define MRT_PROVIDER_CPU_C16_C16_H

#include "provider/cpu/conv/conv_node.h"

typedef enum mrt_c16_role {
  MRT_C16_NEVER, /* plain values only */
  MRT_C16_FLOW,  /* output 0 and the data inputs must be in the same layout, any */
  MRT_C16_ENDS,  /* input 0 and output 0 may each be in either layout; c16 saves a reorder */
  MRT_C16_READS, /* input 0 may be in either layout at the same cost; the output is plain */
  MRT_C16_MAKES, /* output 0 may be in either layout at the same cost; the input is plain */
} mrt_c16_role;

/* *data: bit i is set when input i is a data input (the others are constants in plain layout).
 * Nodes with more than 64 inputs never take part. */
mrt_c16_role mrt_c16_node(const mrt_node *node, uint64_t *data);

/* A float tensor of rank 3 or 4 with a known number of channels. */
bool mrt_c16_type_ok(const mrt_type *t);

/* How an operand of a point-wise node with two inputs lies against the output. */
typedef enum mrt_c16_operand {
  MRT_C16_OTHER,
  MRT_C16_SAME,    /* same shape, same layout */
  MRT_C16_PIXEL,   /* [N, C, 1, 1] in the same layout */
  MRT_C16_CHANNEL, /* constant, one value a channel */
  MRT_C16_SCALAR,  /* constant, one value */
} mrt_c16_operand;
mrt_c16_operand mrt_c16_operand_of(const mrt_node *node, int i);
/* ADD, SUB, MUL, DIV, MIN, MAX of a two-input node; MRT_EW_COPY: none of them. */
mrt_ew_op mrt_c16_binary(const mrt_node *node);
/* Constant per-channel vector spread over whole blocks (spare lanes 0). count: 1 or channels. */
void mrt_c16_spread(const mrt_tensor *t, int64_t channels, float *dst);

#endif
