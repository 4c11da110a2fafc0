/* What symbolic inference took for granted: equalities of dims that only the numbers of a run can
 * show. Inference writes them down, a plan checks them for each new set of numbers. */
#ifndef MRT_IR_GUARD_H
#define MRT_IR_GUARD_H

#include "ir/ir.h"

typedef struct mrt_guard {
  const mrt_expr *a, *b;
  int kind; /* 0: a == b; 1: b == a or b == 1; 2: equal or one of them 1, none 0 */
  const mrt_node *node;
} mrt_guard;
typedef struct mrt_guards {
  const mrt_alloc *alloc;
  mrt_guard *items;
  size_t n, cap;
} mrt_guards;

#endif
