/* Reading quantised regions of a graph: what the fusions of this folder share. */
#ifndef MRT_PROVIDER_CPU_QDQ_H
#define MRT_PROVIDER_CPU_QDQ_H

#include "provider/cpu/cpu.h"

/* A quantised value with its scale and zero point (constants). */
typedef struct mrt_qval {
  mrt_var *q, *scale, *zero; /* zero NULL: 0 */
  mrt_dtype dtype;
  int64_t scales; /* elements of scale */
  int axis;       /* of scales > 1 */
} mrt_qval;

bool mrt_is_op(const mrt_node *n, const char *op); /* of ai.onnx */
mrt_node *mrt_sole_user(const mrt_var *v);         /* its only reader, here; NULL: none such */
mrt_node *mrt_sole_producer(const mrt_var *v,
                            int index); /* of a value read once; NULL: none such */
/* v = DequantizeLinear of one scale of a value of 8 bits. */
bool mrt_qval_activation(const mrt_var *v, int index, mrt_qval *out);
/* v = DequantizeLinear of a constant of 8 bits, one scale or one per entry of an axis. */
bool mrt_qval_weight(const mrt_var *v, int index, mrt_qval *out);
/* y = QuantizeLinear of one scale to 8 bits; out->q is its result. */
bool mrt_qval_result(const mrt_node *n, int index, mrt_qval *out);
bool mrt_qval_same(const mrt_qval *a, const mrt_qval *b); /* scale, zero point and type agree */
float mrt_qval_scale(const mrt_qval *v, int64_t i);
int32_t mrt_qval_zero(const mrt_qval *v);
/* A bias of n elements in units of the sums of x and w, as int32: as it stands behind
 * DequantizeLinear with their scale, or made of other constants. v NULL: *out NULL. *ok false:
 * something else. */
mrt_status *mrt_qval_bias(mrt_graph *g, const mrt_var *v, int64_t n, const mrt_qval *x,
                          const mrt_qval *w, mrt_var **out, bool *ok) MRT_MUST_CHECK;
/* The zero point as a value: that of v, or a new constant 0 of `count` elements. */
mrt_status *mrt_qval_zero_var(mrt_graph *g, const mrt_qval *v, mrt_var **out) MRT_MUST_CHECK;
/* Nobody reads what the node gives, looking so many nodes ahead: left over from other fusions. */
bool mrt_node_is_dead(const mrt_node *n, int depth);
/* Removes the node with all that reads what it gives. */
void mrt_node_remove_dead(mrt_node *n);
/* A constant of the graph; gives the tensor away, also on failure. */
mrt_status *mrt_graph_constant(mrt_graph *g, mrt_tensor *take, mrt_var **out) MRT_MUST_CHECK;

#endif
