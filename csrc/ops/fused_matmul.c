/* macart.MatMul: what the CPU provider makes of a product and what follows it. Without a reference
 * kernel: decompose says what it means in ONNX. */
#include "ops/fused.h"
#include "ops/matmul.h"

/* The type of an operand with its last two dims swapped. */
static mrt_status *swapped(mrt_infer *c, int i, const mrt_type **out) {
  const int rank = mrt_infer_rank(c, i);
  const mrt_expr *dims[MRT_MAX_RANK];
  for (int d = 0; d < rank; ++d) dims[d] = mrt_infer_dim(c, i, d < rank - 2 ? d : 2 * rank - 3 - d);
  *out = mrt_type_tensor(c->model, mrt_infer_dtype(c, i), rank, dims);
  return *out ? NULL : mrt_status_oom();
}

static mrt_status *infer(mrt_infer *c) {
  static const char *const names[] = {"transA", "transB"};
  const mrt_type *types[2] = {c->in_types[0], c->in_types[1]};
  for (int i = 0; i < 2; ++i) {
    if (mrt_infer_rank(c, i) < 2) return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), -1, NULL);
    if (mrt_node_int(c->node, names[i])) MRT_TRY(swapped(c, i, &types[i]));
  }
  mrt_infer plain = *c; /* a MatMul of the swapped types */
  plain.in_types = types;
  return mrt_infer_matmul(&plain, 0, 1, mrt_infer_dtype(c, 0));
}

typedef struct expander {
  mrt_node *node;
  const mrt_op_table *ops;
} expander;

static mrt_status *append(const expander *e, const char *op, mrt_var *a, mrt_var *b,
                          mrt_node **out_node, mrt_var **out) {
  mrt_var *in[2] = {a, b};
  return mrt_graph_insert(e->node->graph, e->node, e->ops, "", op, b ? 2 : 1, in,
                          e->node->out[0]->type, out_node, out);
}

/* Operand i as MatMul wants it. */
static mrt_status *operand(const expander *e, int i, const char *attr, mrt_var **out) {
  mrt_var *v = e->node->in[i].var;
  *out = v;
  if (!mrt_node_int(e->node, attr)) return NULL;
  if (!v->type || v->type->rank < 2)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "MatMul: %s of unknown rank", attr);
  const int rank = v->type->rank;
  const mrt_expr *dims[MRT_MAX_RANK];
  int64_t perm[MRT_MAX_RANK];
  for (int d = 0; d < rank; ++d) {
    perm[d] = d < rank - 2 ? d : 2 * rank - 3 - d;
    dims[d] = v->type->dims[perm[d]];
  }
  mrt_node *n;
  const mrt_type *type = mrt_type_tensor(e->node->graph->model, v->type->dtype, rank, dims);
  if (!type) return mrt_status_oom();
  MRT_TRY(mrt_graph_insert(e->node->graph, e->node, e->ops, "", "Transpose", 1, &v, type, &n, out));
  return mrt_node_set_ints(n, "perm", rank, perm);
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  const expander e = {node, ops};
  mrt_var *a, *b, *y;
  mrt_node *n;
  MRT_TRY(operand(&e, 0, "transA", &a));
  MRT_TRY(operand(&e, 1, "transB", &b));
  MRT_TRY(append(&e, "MatMul", a, b, &n, &y));
  if (mrt_node_float(node, "alpha") != 1) {
    mrt_var *alpha;
    MRT_TRY(mrt_graph_const_f32(node->graph, mrt_node_float(node, "alpha"), &alpha));
    MRT_TRY(append(&e, "Mul", y, alpha, &n, &y));
  }
  for (int i = 2; i < 4; ++i)
    if (i < node->n_in && node->in[i].var) MRT_TRY(append(&e, "Add", y, node->in[i].var, &n, &y));
  MRT_TRY(mrt_fused_activation(node, ops, &y));
  MRT_TRY(mrt_var_replace(node->out[0], y));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version first[] = {{1}, {0}};
MRT_OP_IN(mt, MatMul) = {
    .domain = "macart",
    .name = "MatMul",
    .doc = "activation(alpha * A' * B' + bias + Z): bias [n], Z of the product's shape",
    .in = "A:T, B:T, bias:T?, Z:T?",
    .out = "Y:T",
    .types = "T=float",
    .attrs =
        "alpha:float=1.0 transA:int=0 transB:int=0 activation:string= activation_params:floats",
    .versions = first,
    .infer = infer,
    .decompose = decompose};
