/* What the fused operators of the CPU provider share. */
#ifndef MRT_OPS_FUSED_H
#define MRT_OPS_FUSED_H

#include "ops/common.h"

/* Inserts, before the node, the nodes that its attributes `activation` and `activation_params`
 * stand for, applied to *value; *value becomes their result (itself when there is no activation).
 */
mrt_status *mrt_fused_activation(mrt_node *node, const mrt_op_table *ops,
                                 mrt_var **value) MRT_MUST_CHECK;

#endif
