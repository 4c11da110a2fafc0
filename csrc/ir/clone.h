/* Copies the nodes of one graph into another (functions, branches): every var of the source gets a
 * var of its own, subgraphs are copied with their nodes, attribute references are resolved. */
#ifndef MRT_IR_CLONE_H
#define MRT_IR_CLONE_H

#include "base/str.h"
#include "ir/ir.h"

typedef struct mrt_clone {
  mrt_graph *into;
  mrt_node *before;   /* NULL: at the end */
  const char *prefix; /* of the names of nodes and vars: "call/" */
  /* The attribute that a reference (MRT_ATTR_REF) means; NULL when the caller gave none. */
  const mrt_attr *(*resolve)(void *ctx, const char *name);
  void *ctx;
  size_t n_nodes, max_nodes; /* counts up; beyond max_nodes MRT_INVALID_GRAPH */
  mrt_map vars;              /* var of the source -> its copy */
} mrt_clone;

void mrt_clone_init(mrt_clone *c, mrt_graph *into, mrt_node *before, const char *prefix);
void mrt_clone_deinit(mrt_clone *c);
/* `from` becomes `to` (NULL: an absent operand) wherever the copied nodes name it. */
mrt_status *mrt_clone_map(mrt_clone *c, mrt_var *from, mrt_var *to) MRT_MUST_CHECK;
/* Vars that belong neither to `from` nor to its subgraphs stay themselves (captures). */
mrt_status *mrt_clone_nodes(mrt_clone *c, const mrt_graph *from) MRT_MUST_CHECK;

#endif
