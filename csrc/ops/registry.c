/* The built-in operators: the build lists every row of this folder, sorted by id. Ids are plain
 * names in ai.onnx and carry a tag elsewhere (ml ai.onnx.ml, mp ai.onnx.preview, mpt
 * ai.onnx.preview.training, ms com.microsoft, mt macart), so that their order is the order by
 * (domain, name) that mrt_op_find needs. */
#include "ir/op.h"

#define MRT_OP_ENTRY(id) extern const mrt_op_def mrt_op_##id;
#include "gen/op_table.def"
#undef MRT_OP_ENTRY
static const mrt_op_def *const table[] = {
#define MRT_OP_ENTRY(id) &mrt_op_##id,
#include "gen/op_table.def"
#undef MRT_OP_ENTRY
};

const mrt_op_table *mrt_ops_builtin(void) {
  static const mrt_op_table builtin = {NULL, table, sizeof table / sizeof *table};
  return &builtin;
}
