/* macart.Copy: the same tensor in another memory. The engine puts these nodes between providers
 * (plan/place.c) and makes their kernels itself; the row here says what they mean to inference and
 * to whoever writes the graph out. */
#include "ops/common.h"

static mrt_status *run(mrt_kctx *c) { return mrt_tensor_copy_into(mrt_out(c, 0), mrt_in(c, 0)); }

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  MRT_TRY(mrt_node_set_op(node, "", "Identity"));
  return mrt_node_resolve(node, ops);
}

static const mrt_op_version versions[] = {{1}, {0}};
MRT_OP_IN(mt, Copy) = {.domain = "macart",
                       .name = "Copy",
                       .doc = "the same tensor in the memory of another device",
                       .in = "X:T",
                       .out = "Y:T",
                       .types = "T=" MRT_T_ANY,
                       .versions = versions,
                       .flags = MRT_OP_TRANSFER,
                       .infer = mrt_infer_same_shape,
                       .run = run,
                       .decompose = decompose};
