/* Writing the body of an operator that is defined by others (mrt_op_def.expand). Errors stick:
 * calls after a failure do nothing, mrt_compose_end reports the first. */
#ifndef MRT_OPS_COMPOSE_H
#define MRT_OPS_COMPOSE_H

#include "ir/op.h"

typedef struct mrt_compose {
  mrt_node *node; /* to be replaced */
  const mrt_op_table *ops;
  mrt_status *st;
  mrt_node *last; /* made by the last mrt_compose_op */
  bool pending;   /* it waits for its attributes */
} mrt_compose;

static inline mrt_compose mrt_compose_begin(mrt_node *node, const mrt_op_table *ops) {
  return (mrt_compose){.node = node, .ops = ops};
}
mrt_var *mrt_compose_in(const mrt_compose *b, int i);  /* input i of the node; NULL: absent */
bool mrt_compose_wants(const mrt_compose *b, int out); /* somebody reads output `out` */
/* Output 0 of a new node of ai.onnx (or of `domain`); inputs may be NULL. */
mrt_var *mrt_compose_op(mrt_compose *b, const char *op, int n_in, mrt_var *const *in);
mrt_var *mrt_compose_op_of(mrt_compose *b, const char *domain, const char *op, int n_in,
                           mrt_var *const *in);
mrt_var *mrt_compose_1(mrt_compose *b, const char *op, mrt_var *x);
mrt_var *mrt_compose_2(mrt_compose *b, const char *op, mrt_var *x, mrt_var *y);
/* Another output of the last node. */
mrt_var *mrt_compose_out(mrt_compose *b, int i);
/* Attributes of the last node. */
void mrt_compose_int(mrt_compose *b, const char *name, int64_t v);
void mrt_compose_float(mrt_compose *b, const char *name, float v);
void mrt_compose_str(mrt_compose *b, const char *name, const char *v);
void mrt_compose_copy_attr(mrt_compose *b, const char *name); /* of the node, if it is there */
mrt_var *mrt_compose_ints(mrt_compose *b, int n, const int64_t *v); /* a constant int64 tensor */
mrt_var *mrt_compose_f32(mrt_compose *b, float v);                  /* a float scalar */
void mrt_compose_fail(mrt_compose *b, const char *what);            /* NOT_IMPLEMENTED */
/* Output `out` of the node is this value from now on. */
void mrt_compose_set(mrt_compose *b, int out, mrt_var *v);
mrt_status *mrt_compose_end(mrt_compose *b) MRT_MUST_CHECK; /* removes the node */

#endif
