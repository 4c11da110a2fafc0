/* Matching small trees of nodes, written as text, against a graph:
 *
 *   "y=Mul(Mul(x, Add(Erf(Div(x, 1.41421)), 1)), 0.5)"
 *
 * Matching starts at the node that makes the root and follows inputs. Capitalised words are
 * operators ("com.microsoft.Gelu" with its domain; "Relu|Clip" either); lower-case words bind
 * values: the same word again must be the same value. In front of an operator, "name=" binds the
 * node. Operands: `_` anything or absent, `c:const` a constant, a number a constant scalar (or
 * tensor of one element) that is equal up to float32 rounding, `...` any further inputs. Operators
 * flagged MRT_OP_COMMUTATIVE match their two inputs in either order.
 *
 * Inner nodes must be used by the pattern alone (one use, no graph output), so that the tree may be
 * removed; "!Op" lifts that for one node. All nodes of a match stand in one graph. */
#ifndef MRT_IR_PATTERN_H
#define MRT_IR_PATTERN_H

#include "ir/op.h"

#define MRT_PATTERN_MAX 24 /* names, and nodes, in one pattern */

typedef struct mrt_match {
  struct mrt_match_name {
    const char *name; /* in the pattern's text */
    size_t len;
    mrt_var *var;   /* a value, or */
    mrt_node *node; /* a node */
  } names[MRT_PATTERN_MAX];
  int n_names;
  mrt_node *nodes[MRT_PATTERN_MAX]; /* all nodes of the tree, root first */
  int n_nodes;
} mrt_match;

/* Does the tree that ends in `root` look like that? A malformed pattern is a bug: it never matches
 * and debug builds stop there. */
bool mrt_pattern_match(const char *pattern, mrt_node *root, mrt_match *out);
mrt_var *mrt_match_var(const mrt_match *m, const char *name); /* NULL: not bound */
mrt_node *mrt_match_node(const mrt_match *m, const char *name);
/* Removes the tree's nodes, root first; the root's outputs must have no uses any more. */
void mrt_match_remove(const mrt_match *m);

#endif
