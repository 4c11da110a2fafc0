/* What a model keeps beside its arena, for the files of ir/ only. */
#ifndef MRT_IR_MODEL_INTERNAL_H
#define MRT_IR_MODEL_INTERNAL_H

#include "ir/ir.h"

typedef struct mrt_model_state { /* what the arena cannot free */
  mrt_value **owned;
  size_t n, cap;
  mrt_graph **graphs;
  size_t n_graphs, cap_graphs;
} mrt_model_state;

/* The lists of a graph and its vars, which are of the allocator. */
void mrt_graph_free_arrays(mrt_graph *g);

#endif
