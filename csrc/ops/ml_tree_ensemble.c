/* TreeEnsemble (ai.onnx.ml 5): each row walks every tree to a leaf; the weights of the leaves are
 * added up per target (or averaged, or the least or greatest taken), then transformed. */
#include "ops/common.h"

enum { LEQ, LT, GTE, GT, EQ, NEQ, MEMBER };
enum { AVERAGE, SUM, MIN, MAX };

typedef struct forest {
  const uint8_t *modes;
  const int64_t *feature, *yes, *no, *yes_leaf, *no_leaf, *missing, *roots, *target;
  const mrt_tensor *split, *weight, *members;
  int n_nodes, n_leaves, n_roots;
  int64_t *set; /* [n_nodes]: first member of a MEMBER node; ends at NaN or the end */
  int64_t targets, features;
} forest;

static mrt_status *ints(const mrt_node *node, const char *name, int count, const int64_t **out) {
  int n;
  *out = mrt_node_ints(node, name, &n);
  return n == count ? NULL
                    : MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %d entries, not %d", name, n, count);
}
static mrt_status *tensor(const mrt_node *node, const char *name, int64_t count,
                          const mrt_tensor **out) {
  const mrt_attr *a = mrt_node_attr(node, name);
  *out = a ? a->tensor : NULL;
  if (*out && count >= 0 && mrt_tensor_count(*out) != count)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %lld entries, not %lld", name,
                   (long long)mrt_tensor_count(*out), (long long)count);
  return *out || count < 0 ? NULL : MRT_ERR(MRT_INVALID_ARGUMENT, "%s is missing", name);
}

static mrt_status *check_links(const forest *f) {
  for (int i = 0; i < f->n_nodes; ++i) {
    bool ok = f->modes[i] <= MEMBER && f->feature[i] >= 0 && f->feature[i] < f->features;
    ok = ok && f->yes[i] >= 0 && f->yes[i] < (f->yes_leaf[i] ? f->n_leaves : f->n_nodes);
    ok = ok && f->no[i] >= 0 && f->no[i] < (f->no_leaf[i] ? f->n_leaves : f->n_nodes);
    if (!ok || (f->modes[i] == MEMBER && !f->members))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "tree node %d is not valid", i);
  }
  for (int i = 0; i < f->n_roots; ++i)
    if (f->roots[i] < 0 || f->roots[i] >= f->n_nodes)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "tree root %d is not valid", i);
  for (int i = 0; i < f->n_leaves; ++i)
    if (f->target[i] < 0 || f->target[i] >= f->targets)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "target of leaf %d is not valid", i);
  return NULL;
}

static double number(const mrt_tensor *t, int64_t i) {
  return mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, i);
}

static mrt_status *load(mrt_kctx *c, forest *f) {
  const mrt_node *n = c->node;
  const mrt_tensor *modes;
  mrt_node_ints(n, "nodes_featureids", &f->n_nodes);
  mrt_node_ints(n, "leaf_targetids", &f->n_leaves);
  f->roots = mrt_node_ints(n, "tree_roots", &f->n_roots);
  MRT_TRY(ints(n, "nodes_featureids", f->n_nodes, &f->feature));
  MRT_TRY(ints(n, "nodes_truenodeids", f->n_nodes, &f->yes));
  MRT_TRY(ints(n, "nodes_falsenodeids", f->n_nodes, &f->no));
  MRT_TRY(ints(n, "nodes_trueleafs", f->n_nodes, &f->yes_leaf));
  MRT_TRY(ints(n, "nodes_falseleafs", f->n_nodes, &f->no_leaf));
  MRT_TRY(ints(n, "leaf_targetids", f->n_leaves, &f->target));
  if (mrt_node_attr(n, "nodes_missing_value_tracks_true"))
    MRT_TRY(ints(n, "nodes_missing_value_tracks_true", f->n_nodes, &f->missing));
  MRT_TRY(tensor(n, "nodes_modes", f->n_nodes, &modes));
  MRT_TRY(tensor(n, "nodes_splits", f->n_nodes, &f->split));
  MRT_TRY(tensor(n, "leaf_weights", f->n_leaves, &f->weight));
  MRT_TRY(tensor(n, "membership_values", -1, &f->members));
  if (modes->dtype != MRT_UINT8) return MRT_ERR(MRT_INVALID_ARGUMENT, "nodes_modes must be uint8");
  f->modes = modes->data;
  f->targets = mrt_node_int(n, "n_targets");
  MRT_TRY(check_links(f));
  MRT_TRY(mrt_scratch(c, ((size_t)f->n_nodes + 1) * sizeof *f->set, (void **)&f->set));
  int64_t at = 0, all = f->members ? mrt_tensor_count(f->members) : 0;
  for (int i = 0; i < f->n_nodes; ++i) {
    if (f->modes[i] != MEMBER) continue;
    f->set[i] = at;
    while (at < all && !isnan(number(f->members, at))) ++at;
    ++at; /* behind the NaN */
  }
  return NULL;
}

static bool holds(const forest *f, int64_t i, double v) {
  if (isnan(v) && f->missing && f->missing[i]) return true;
  double s = f->modes[i] == MEMBER ? 0 : number(f->split, i);
  switch (f->modes[i]) {
    case LEQ: return v <= s;
    case LT: return v < s;
    case GTE: return v >= s;
    case GT: return v > s;
    case EQ: return v == s;
    case NEQ: return v != s;
    default: break;
  }
  int64_t all = mrt_tensor_count(f->members);
  for (int64_t k = f->set[i]; k < all && !isnan(number(f->members, k)); ++k)
    if (number(f->members, k) == v) return true;
  return false;
}
/* The leaf that a row reaches; a walk longer than the number of nodes goes in a circle. */
static mrt_status *walk(const forest *f, int64_t node, const mrt_tensor *x, int64_t row,
                        int64_t *leaf) {
  /* a tree of one leaf: both ways lead to it */
  for (int step = 0; step <= f->n_nodes; ++step) {
    bool yes = holds(f, node, number(x, row * f->features + f->feature[node]));
    int64_t next = yes ? f->yes[node] : f->no[node];
    if (yes ? f->yes_leaf[node] : f->no_leaf[node]) {
      *leaf = next;
      return NULL;
    }
    node = next;
  }
  return MRT_ERR(MRT_INVALID_ARGUMENT, "the tree has a cycle");
}

static void transform(int64_t how, double *v, int64_t n) {
  double top = -INFINITY, sum = 0;
  if (how == 2) /* LOGISTIC */
    for (int64_t i = 0; i < n; ++i) v[i] = 1 / (1 + exp(-v[i]));
  if (how != 1 && how != 3) return; /* SOFTMAX, SOFTMAX_ZERO: zeros stay zero */
  for (int64_t i = 0; i < n; ++i) top = v[i] > top ? v[i] : top;
  for (int64_t i = 0; i < n; ++i) {
    v[i] = how == 3 && v[i] == 0 ? 0 : exp(v[i] - top);
    sum += v[i];
  }
  for (int64_t i = 0; i < n && sum > 0; ++i) v[i] /= sum;
}

static mrt_status *infer(mrt_infer *c) {
  int64_t n = mrt_node_int(c->node, "n_targets");
  const mrt_expr *dims[2] = {mrt_infer_dim(c, 0, 0), mrt_expr_const(c->sym, n)};
  if (n < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "n_targets must be positive");
  if (mrt_infer_rank(c, 0) >= 0 && mrt_infer_rank(c, 0) != 2)
    return MRT_ERR(MRT_FAIL, "the input must be [N, F]");
  return mrt_infer_out(c, 0, mrt_infer_dtype(c, 0), 2, dims);
}
static mrt_status *run(mrt_kctx *c) {
  const mrt_tensor *x = mrt_in(c, 0);
  mrt_tensor *y = mrt_out(c, 0);
  forest f = {.features = x->rank == 2 ? x->dims[1] : 0};
  int64_t how = mrt_node_int(c->node, "aggregate_function"),
          post = mrt_node_int(c->node, "post_transform");
  double *sum;
  if (!y) return NULL;
  if (how < AVERAGE || how > MAX)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "aggregate_function %lld", (long long)how);
  if (post < 0 || post > 3)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "TreeEnsemble: post_transform %lld", (long long)post);
  MRT_TRY(load(c, &f));
  MRT_TRY(mrt_scratch(c, (size_t)f.targets * sizeof *sum, (void **)&sum));
  mrt_dtype d = (mrt_dtype)y->dtype;
  for (int64_t r = 0; r < x->dims[0]; ++r) {
    for (int64_t t = 0; t < f.targets; ++t)
      sum[t] = how == MIN ? INFINITY : how == MAX ? -INFINITY : 0;
    for (int k = 0; k < f.n_roots; ++k) {
      int64_t leaf = 0;
      MRT_TRY(walk(&f, f.roots[k], x, r, &leaf));
      double w = number(f.weight, leaf), *s = &sum[f.target[leaf]];
      *s = how == MIN ? fmin(*s, w) : how == MAX ? fmax(*s, w) : *s + w;
    }
    for (int64_t t = 0; t < f.targets; ++t) {
      if (how == AVERAGE) sum[t] /= f.n_roots;
      if (isinf(sum[t]) && (how == MIN || how == MAX)) sum[t] = 0; /* no tree has this target */
    }
    transform(post, sum, f.targets);
    for (int64_t t = 0; t < f.targets; ++t) mrt_elem_set_f64(d, y->data, r * f.targets + t, sum[t]);
  }
  return NULL;
}

static const mrt_op_version versions[] = {{5}, {0}};
MRT_OP_IN(ml, TreeEnsemble) = {
    .domain = "ai.onnx.ml",
    .name = "TreeEnsemble",
    .doc = "decision trees, their leaves added up per target",
    .in = "X:T",
    .out = "Y:T",
    .types = "T=float,double,float16",
    .attrs =
        "aggregate_function:int=1 leaf_targetids:ints! leaf_weights:tensor! "
        "membership_values:tensor n_targets:int nodes_falseleafs:ints! "
        "nodes_falsenodeids:ints! nodes_featureids:ints! nodes_hitrates:tensor "
        "nodes_missing_value_tracks_true:ints nodes_modes:tensor! nodes_splits:tensor! "
        "nodes_trueleafs:ints! nodes_truenodeids:ints! post_transform:int=0 tree_roots:ints!",
    .versions = versions,
    .infer = infer,
    .run = run};
