/* Inputs of macart.MatMulSides: A, then B and its bias for each output. */
#ifndef MRT_OPS_FUSED_MATMUL_SIDES_H
#define MRT_OPS_FUSED_MATMUL_SIDES_H

enum { MRT_SIDES_MAX = 4 };
#define MRT_SIDE_B(i)    (1 + 2 * (i))
#define MRT_SIDE_BIAS(i) (2 + 2 * (i))

#endif
