/* The end of rewriting: passes leave nodes, vars, types and attributes behind that nothing reads
 * any more, several times what is left in the end. A model that only kernels and runs will read is
 * copied without them into an arena of its own, equal strings, types and lists of attributes once;
 * the old arena goes. */
#ifndef MRT_IR_COMPACT_H
#define MRT_IR_COMPACT_H

#include "ir/guard.h"

/* After mrt_model_sweep. Graphs stay where they are, nodes and vars move (the guards are told);
 * names of values are not found any more (mrt_graph_find), symbolic contents and doc strings of
 * nodes are dropped, functions too; constants without a reader are released. On failure the model
 * is as it was. */
mrt_status *mrt_model_compact(mrt_model *m, mrt_guards *guards) MRT_MUST_CHECK;

/* A deep copy of a type in an arena; NULL: no memory (or no type). */
const mrt_type *mrt_type_copy(mrt_arena *arena, const mrt_type *type);

#endif
