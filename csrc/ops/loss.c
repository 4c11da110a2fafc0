/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: a weighted pick along the class axis (1),
 * the latter after a logarithmic softmax over it. Sums are kept in double. */
#include "ops/common.h"

static bool is_none(const mrt_node *n) { return strcmp(mrt_node_str(n, "reduction"), "none") == 0; }
static mrt_status *loss_infer(mrt_infer *c) {
  mrt_dtype t = mrt_infer_dtype(c, 0);
  int rank = mrt_infer_rank(c, 0);
  MRT_TRY(mrt_infer_out_like(c, 1, 0, MRT_UNDEFINED));
  if (!is_none(c->node)) return mrt_infer_out(c, 0, t, 0, NULL);
  if (mrt_infer_rank(c, 1) >= 0) return mrt_infer_out_like(c, 0, 1, t);
  if (rank < 2) return mrt_infer_out(c, 0, t, -1, NULL);
  const mrt_expr *dims[MRT_MAX_RANK];
  for (int i = 0; i < rank - 1; ++i) dims[i] = mrt_infer_dim(c, 0, i ? i + 1 : 0);
  return mrt_infer_out(c, 0, t, rank - 1, dims);
}

typedef struct loss {
  const mrt_tensor *x, *target, *weight;
  mrt_tensor *y, *log_prob;
  int64_t classes, inner;
  bool softmax;
} loss;
static double at(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}
/* log(sum(exp(x))) over the classes, and the whole row of log_prob if that is wanted. */
static double log_sum(const loss *l, int64_t base) {
  double top = -INFINITY, sum = 0;
  for (int64_t k = 0; k < l->classes; ++k) top = fmax(top, at(l->x, base + k * l->inner));
  if (isinf(top)) top = 0;
  for (int64_t k = 0; k < l->classes; ++k) sum += exp(at(l->x, base + k * l->inner) - top);
  double lse = log(sum) + top;
  for (int64_t k = 0; l->log_prob && k < l->classes; ++k)
    mrt_elem_set_f64((mrt_dtype)l->x->dtype, l->log_prob->data, base + k * l->inner,
                     at(l->x, base + k * l->inner) - lse);
  return lse;
}
static mrt_status *setup(mrt_kctx *c, loss *l) {
  const mrt_tensor *x = l->x, *t = l->target;
  if (x->rank < 2 || t->rank != x->rank - 1 || t->dims[0] != x->dims[0])
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: input of rank %d, labels of rank %d",
                   c->node->op_type, x->rank, t->rank);
  for (int i = 2; i < x->rank; ++i)
    if (x->dims[i] != t->dims[i - 1])
      return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: input and labels differ in shape",
                     c->node->op_type);
  l->classes = x->dims[1];
  l->inner = mrt_dims_product(x->dims, 2, x->rank);
  if (l->weight && mrt_tensor_count(l->weight) != l->classes)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: %lld weights for %lld classes", c->node->op_type,
                   (long long)mrt_tensor_count(l->weight), (long long)l->classes);
  return NULL;
}
static mrt_status *loss_run(mrt_kctx *c, bool softmax) {
  loss l = {.x = mrt_in(c, 0),
            .target = mrt_in(c, 1),
            .weight = mrt_in(c, 2),
            .y = mrt_out(c, 0),
            .log_prob = softmax ? mrt_out(c, 1) : NULL,
            .softmax = softmax};
  const char *how = mrt_node_str(c->node, "reduction");
  bool none = is_none(c->node), mean = strcmp(how, "mean") == 0;
  const mrt_attr *ignore = mrt_node_attr(c->node, "ignore_index");
  double sum = 0, weights = 0;
  if (!l.y && !l.log_prob) return NULL;
  if (!none && !mean && strcmp(how, "sum") != 0)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: reduction '%s'", c->node->op_type, how);
  MRT_TRY(setup(c, &l));
  int64_t n = mrt_tensor_count(l.target);
  for (int64_t i = 0; i < n; ++i) {
    int64_t base = i / l.inner * l.classes * l.inner + i % l.inner,
            k = mrt_elem_get_i64((mrt_dtype)l.target->dtype, l.target->data, i);
    double lse = softmax ? log_sum(&l, base) : 0, v = 0;
    if (!ignore || k != ignore->i) {
      if (k < 0 || k >= l.classes)
        return MRT_ERR(MRT_INVALID_ARGUMENT, "%s: label %lld for %lld classes", c->node->op_type,
                       (long long)k, (long long)l.classes);
      double w = l.weight ? at(l.weight, k) : 1;
      v = -(at(l.x, base + k * l.inner) - lse) * w;
      weights += w;
    }
    sum += v;
    if (none && l.y) mrt_elem_set_f64((mrt_dtype)l.y->dtype, l.y->data, i, v);
  }
  if (!none && l.y)
    mrt_elem_set_f64((mrt_dtype)l.y->dtype, l.y->data, 0, mean ? sum / weights : sum);
  return NULL;
}
static mrt_status *nll_run(mrt_kctx *c) { return loss_run(c, false); }
static mrt_status *sce_run(mrt_kctx *c) { return loss_run(c, true); }
static const mrt_op_version nll_v[] = {{12}, {13}, {22}, {0}};
static const mrt_op_version sce_v[] = {{12}, {13}, {0}};
#define ROW                                                     \
  .domain = "", .types = "T=" MRT_T_FLOATS ";Tind=int32,int64", \
  .attrs = "ignore_index:int reduction:string=mean", .infer = loss_infer
MRT_OP(NegativeLogLikelihoodLoss) = {ROW,
                                     .name = "NegativeLogLikelihoodLoss",
                                     .doc = "-x[label] * weight[label], reduced",
                                     .in = "input:T, target:Tind, weight:T?",
                                     .out = "loss:T",
                                     .versions = nll_v,
                                     .run = nll_run};
MRT_OP(SoftmaxCrossEntropyLoss) = {ROW,
                                   .name = "SoftmaxCrossEntropyLoss",
                                   .doc = "NegativeLogLikelihoodLoss of LogSoftmax",
                                   .in = "scores:T, labels:Tind, weights:T?",
                                   .out = "output:T, log_prob:T?",
                                   .versions = sce_v,
                                   .run = sce_run};
