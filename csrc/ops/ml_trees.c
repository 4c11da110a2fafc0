/* TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml before 5).
 *
 * The model names nodes by (tree, node) pairs; when it is loaded these become numbers, kept as
 * private attributes: `_mode`, `_yes` and `_no` per node, `_roots`, and for leaves the range
 * `_first` of `_item`, positions in the lists of weights. */
#include "base/str.h"
#include "ops/ml_common.h"

enum { LEQ, LT, GTE, GT, EQ, NEQ, LEAF };

/* ---- loading ---- */
typedef struct loader {
  mrt_node *node;
  const char *prefix; /* "target" or "class" */
  int n, n_items;
  const int64_t *tree, *id, *yes, *no, *item_tree, *item_id;
  int64_t (*keys)[2]; /* (tree, node) of each node */
  int64_t *out;       /* scratch of n + 1 or n_items */
  mrt_map map;
} loader;

static mrt_status *ints_of(const mrt_node *node, const char *name, int n, const int64_t **out) {
  int have;
  *out = mrt_node_ints(node, name, &have);
  if (n >= 0 && have != n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "%s has %d entries, not %d", name, have, n);
  return NULL;
}
static const char *named(char *buf, const char *prefix, const char *rest) {
  size_t k = strlen(prefix);
  memcpy(buf, prefix, k);
  memcpy(buf + k, rest, strlen(rest) + 1);
  return buf;
}
static int64_t find(loader *l, int64_t tree, int64_t id) { /* -1: no such node */
  int64_t key[2] = {tree, id};
  return (intptr_t)mrt_map_getn(&l->map, key, sizeof key) - 1;
}
static mrt_status *read_lists(loader *l) {
  char name[64];
  mrt_node *n = l->node;
  mrt_node_ints(n, "nodes_nodeids", &l->n);
  mrt_node_ints(n, named(name, l->prefix, "_nodeids"), &l->n_items);
  MRT_TRY(ints_of(n, "nodes_nodeids", l->n, &l->id));
  MRT_TRY(ints_of(n, "nodes_treeids", l->n, &l->tree));
  MRT_TRY(ints_of(n, "nodes_truenodeids", l->n, &l->yes));
  MRT_TRY(ints_of(n, "nodes_falsenodeids", l->n, &l->no));
  MRT_TRY(ints_of(n, named(name, l->prefix, "_nodeids"), l->n_items, &l->item_id));
  MRT_TRY(ints_of(n, named(name, l->prefix, "_treeids"), l->n_items, &l->item_tree));
  mrt_arena *a = n->graph->model->arena;
  size_t most = (size_t)(l->n > l->n_items ? l->n : l->n_items) + 2;
  l->keys = mrt_arena_alloc(a, most * sizeof *l->keys);
  l->out = mrt_arena_alloc(a, most * sizeof *l->out);
  if (!l->keys || !l->out) return mrt_status_oom();
  for (int i = 0; i < l->n; ++i) {
    l->keys[i][0] = l->tree[i];
    l->keys[i][1] = l->id[i];
    if (find(l, l->tree[i], l->id[i]) >= 0)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "Node %lld in tree %lld is already there.",
                     (long long)l->id[i], (long long)l->tree[i]);
    MRT_TRY(mrt_map_setn(&l->map, l->keys[i], sizeof l->keys[i], (void *)(intptr_t)(i + 1)));
  }
  return NULL;
}
static mrt_status *set_modes(loader *l) {
  static const char *const words[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE", "BRANCH_GT",
                                      "BRANCH_EQ",  "BRANCH_NEQ", "LEAF"};
  const mrt_attr *a = mrt_node_attr(l->node, "nodes_modes");
  if (!a || a->n != (size_t)l->n)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "nodes_modes must have %d entries", l->n);
  for (int i = 0; i < l->n; ++i) {
    int k = 0;
    while (k < 7 && strcmp(a->strings[i], words[k]) != 0) ++k;
    if (k == 7) return MRT_ERR(MRT_INVALID_ARGUMENT, "tree mode '%s' is not known", a->strings[i]);
    l->out[i] = k;
  }
  return mrt_node_set_ints(l->node, "_mode", l->n, l->out);
}
/* Children as numbers; 0 for leaves. Marks the nodes that are a child of some other. */
static mrt_status *set_children(loader *l, const char *name, const int64_t *ids, uint8_t *child) {
  const int64_t *mode;
  MRT_TRY(ints_of(l->node, "_mode", l->n, &mode));
  for (int i = 0; i < l->n; ++i) {
    l->out[i] = 0;
    if (mode[i] == LEAF) continue;
    l->out[i] = find(l, l->tree[i], ids[i]);
    if (l->out[i] < 0 || l->out[i] == i)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "tree %lld has no node %lld", (long long)l->tree[i],
                     (long long)ids[i]);
    child[l->out[i]] = 1;
  }
  return mrt_node_set_ints(l->node, name, l->n, l->out);
}
/* Weights sorted by leaf (counting sort: in their order for each leaf). */
static mrt_status *set_items(loader *l) {
  mrt_arena *a = l->node->graph->model->arena;
  int64_t *first = mrt_arena_alloc(a, ((size_t)l->n + 2) * sizeof *first);
  if (!first) return mrt_status_oom();
  for (int i = 0; i < l->n_items; ++i) {
    int64_t at = find(l, l->item_tree[i], l->item_id[i]);
    if (at < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "weight %d belongs to no node", i);
    ++first[at + 2];
  }
  for (int i = 2; i < l->n + 2; ++i) first[i] += first[i - 1];
  for (int i = 0; i < l->n_items; ++i)
    l->out[first[find(l, l->item_tree[i], l->item_id[i]) + 1]++] = i;
  MRT_TRY(mrt_node_set_ints(l->node, "_item", l->n_items, l->out));
  return mrt_node_set_ints(l->node, "_first", l->n + 1, first);
}
static mrt_status *number(loader *l) {
  MRT_TRY(read_lists(l));
  uint8_t *child = mrt_arena_alloc(l->node->graph->model->arena, (size_t)l->n + 1);
  if (!child) return mrt_status_oom();
  MRT_TRY(set_modes(l));
  MRT_TRY(set_children(l, "_yes", l->yes, child));
  MRT_TRY(set_children(l, "_no", l->no, child));
  int n = 0;
  for (int i = 0; i < l->n; ++i)
    if (!child[i]) l->out[n++] = i;
  MRT_TRY(mrt_node_set_ints(l->node, "_roots", n, l->out));
  return set_items(l);
}
static mrt_status *load(mrt_node *node, const char *prefix) {
  loader l = {.node = node, .prefix = prefix};
  mrt_map_init(&l.map, node->graph->model->alloc);
  mrt_status *st = number(&l);
  mrt_map_deinit(&l.map);
  return st;
}
static mrt_status *load_regressor(mrt_node *node) { return load(node, "target"); }
static mrt_status *load_classifier(mrt_node *node) { return load(node, "class"); }

/* ---- running ---- */
/* A list of numbers: attribute NAME, or tensor NAME_as_tensor. */
typedef struct numbers {
  const float *f;
  const mrt_tensor *t;
  int64_t n;
} numbers;
static numbers numbers_of(const mrt_node *node, const char *name) {
  char buf[80];
  numbers out = {0};
  int n;
  const mrt_attr *a = mrt_node_attr(node, named(buf, name, "_as_tensor"));
  if (a && a->tensor) {
    out.t = a->tensor;
    out.n = mrt_tensor_count(a->tensor);
  } else {
    out.f = mrt_node_floats(node, name, &n);
    out.n = out.f ? n : 0;
  }
  return out;
}
static double at(const numbers *v, int64_t i) {
  return v->t ? mrt_elem_get_f64((mrt_dtype)v->t->dtype, v->t->data, i) : v->f[i];
}

typedef struct trees {
  const int64_t *mode, *yes, *no, *roots, *first, *item, *feature, *missing, *target;
  numbers split, weight, base;
  int n, n_roots, n_items;
  int64_t targets, features;
  const mrt_tensor *x;
  enum { SUM, AVERAGE, MIN, MAX } how;
} trees;

static mrt_status *open(const mrt_kctx *c, const char *prefix, const char *ids, trees *t) {
  const mrt_node *n = c->node;
  char name[64];
  t->x = mrt_in(c, 0);
  t->mode = mrt_node_ints(n, "_mode", &t->n);
  t->roots = mrt_node_ints(n, "_roots", &t->n_roots);
  t->item = mrt_node_ints(n, "_item", &t->n_items);
  MRT_TRY(ints_of(n, "_yes", t->n, &t->yes));
  MRT_TRY(ints_of(n, "_no", t->n, &t->no));
  MRT_TRY(ints_of(n, "_first", t->n + 1, &t->first));
  MRT_TRY(ints_of(n, "nodes_featureids", t->n, &t->feature));
  MRT_TRY(ints_of(n, named(name, prefix, ids), t->n_items, &t->target));
  int n_missing;
  t->missing = mrt_node_ints(n, "nodes_missing_value_tracks_true", &n_missing);
  if (n_missing != t->n) t->missing = NULL;
  t->split = numbers_of(n, "nodes_values");
  t->weight = numbers_of(n, named(name, prefix, "_weights"));
  t->base = numbers_of(n, "base_values");
  if (t->x->rank < 1 || t->x->rank > 2)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "Input shape needs to be [N, F] or [F].");
  t->features = t->x->dims[t->x->rank - 1];
  if (t->split.n != t->n || t->weight.n != t->n_items)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "nodes_values or weights are not as long as their ids");
  for (int i = 0; i < t->n; ++i)
    if (t->mode[i] != LEAF && (t->feature[i] < 0 || t->feature[i] >= t->features))
      return MRT_ERR(MRT_INVALID_ARGUMENT, "tree node %d reads feature %lld of %lld", i,
                     (long long)t->feature[i], (long long)t->features);
  for (int i = 0; i < t->n_items; ++i)
    if (t->target[i] < 0 || t->target[i] >= t->targets)
      return MRT_ERR(MRT_INVALID_ARGUMENT, "weight %d has target %lld of %lld", i,
                     (long long)t->target[i], (long long)t->targets);
  return NULL;
}

/* The leaf of a row in one tree; -1 if the walk goes in a circle. */
static int64_t walk(const trees *t, int64_t node, int64_t row) {
  for (int step = 0; step <= t->n; ++step) {
    if (t->mode[node] == LEAF) return node;
    double v =
        mrt_elem_get_f64((mrt_dtype)t->x->dtype, t->x->data, row * t->features + t->feature[node]);
    double s = at(&t->split, node);
    bool yes = false;
    switch (t->mode[node]) {
      case LEQ: yes = v <= s; break;
      case LT: yes = v < s; break;
      case GTE: yes = v >= s; break;
      case GT: yes = v > s; break;
      case EQ: yes = v == s; break;
      default: yes = v != s;
    }
    if (isnan(v) && t->missing && t->missing[node]) yes = true;
    node = yes ? t->yes[node] : t->no[node];
  }
  return -1;
}
/* Adds up the leaves of one row; has[k]: some leaf spoke of target k. */
static mrt_status *scores(const trees *t, int64_t row, double *sum, uint8_t *has) {
  for (int64_t k = 0; k < t->targets; ++k) sum[k] = 0;
  memset(has, 0, (size_t)t->targets);
  for (int r = 0; r < t->n_roots; ++r) {
    int64_t leaf = walk(t, t->roots[r], row);
    if (leaf < 0) return MRT_ERR(MRT_INVALID_ARGUMENT, "tree %d has a cycle", r);
    for (int64_t i = t->first[leaf]; i < t->first[leaf + 1]; ++i) {
      int64_t item = t->item[i], k = t->target[item];
      double w = at(&t->weight, item);
      if (t->how == MIN || t->how == MAX)
        sum[k] = !has[k] || (t->how == MIN ? w < sum[k] : w > sum[k]) ? w : sum[k];
      else
        sum[k] += w;
      has[k] = 1;
    }
  }
  for (int64_t k = 0; k < t->targets && t->how == AVERAGE; ++k) sum[k] /= t->n_roots;
  return NULL;
}

static const mrt_expr *rows_of(const mrt_infer *c) {
  int rank = mrt_infer_rank(c, 0);
  return rank == 2 ? mrt_infer_dim(c, 0, 0) : rank == 1 ? mrt_expr_const(c->sym, 1) : NULL;
}
static mrt_status *regressor_infer(mrt_infer *c) {
  const mrt_expr *dims[2] = {rows_of(c),
                             mrt_expr_const(c->sym, mrt_node_int(c->node, "n_targets"))};
  return mrt_infer_out(c, 0, MRT_FLOAT, 2, dims);
}
static mrt_status *regressor_run(mrt_kctx *c) {
  static const char *const words[] = {"SUM", "AVERAGE", "MIN", "MAX"};
  const char *how = mrt_node_str(c->node, "aggregate_function");
  mrt_tensor *y = mrt_out(c, 0);
  trees t = {.targets = mrt_node_int(c->node, "n_targets")};
  mrt_ml_post post;
  double *sum;
  uint8_t *has;
  int k = 0;
  if (!y) return NULL;
  while (k < 4 && strcmp(how, words[k]) != 0) ++k;
  if (k == 4) return MRT_ERR(MRT_INVALID_ARGUMENT, "aggregate_function '%s'", how);
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(open(c, "target", "_ids", &t));
  t.how = k;
  if (t.base.n && t.base.n != t.targets)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "base_values has %lld entries", (long long)t.base.n);
  MRT_TRY(mrt_scratch(c, (size_t)t.targets * sizeof *sum, (void **)&sum));
  MRT_TRY(mrt_scratch(c, (size_t)t.targets + 1, (void **)&has));
  for (int64_t r = 0; r < y->dims[0]; ++r) {
    MRT_TRY(scores(&t, r, sum, has));
    for (int64_t i = 0; i < t.base.n; ++i) sum[i] += at(&t.base, i);
    mrt_ml_transform(post, sum, t.targets);
    for (int64_t i = 0; i < t.targets; ++i) ((float *)y->data)[r * t.targets + i] = (float)sum[i];
  }
  return NULL;
}

/* ---- the classifier: one score per class, or one for two classes ---- */
typedef struct classes {
  mrt_ml_labels labels;
  bool single;   /* two classes, all weights speak of one of them */
  bool positive; /* no weight is negative */
} classes;
static classes classes_of(const mrt_node *node, const int64_t *ids, int n, const numbers *weight) {
  classes k = {.labels = mrt_ml_labels_of(node, "classlabels_int64s", "classlabels_strings"),
               .single = true,
               .positive = true};
  for (int i = 0; i < n; ++i) {
    k.single = k.single && ids[i] == ids[0];
    if (weight) k.positive = k.positive && at(weight, i) >= 0;
  }
  k.single = k.single && k.labels.n == 2;
  return k;
}
static mrt_status *classifier_infer(mrt_infer *c) {
  int n;
  const int64_t *ids = mrt_node_ints(c->node, "class_ids", &n);
  classes k = classes_of(c->node, ids, n, NULL);
  const mrt_expr *dims[2] = {rows_of(c), mrt_expr_const(c->sym, k.labels.n)};
  MRT_TRY(mrt_infer_out(c, 0, k.labels.strings ? MRT_STRING : MRT_INT64, 1, dims));
  return mrt_infer_out(c, 1, MRT_FLOAT, 2, dims);
}
/* Two classes, as ONNX Runtime decides between them: the sign (or a half) of one score tells, even
 * where both classes have one; base values of both are taken for one score and its opposite. */
static bool decide_two(const trees *t, const classes *k, mrt_ml_post post, double *s,
                       uint8_t *has) {
  if (t->base.n == 2 && has[1]) {
    s[1] = at(&t->base, 1) + s[0];
    s[0] = -s[1];
  } else if (t->base.n == 2) {
    s[1] += at(&t->base, 1);
    s[0] += at(&t->base, 0);
    has[0] = 1;
  } else if (t->base.n == 1) {
    s[0] += at(&t->base, 0);
  }
  double weight = has[1] ? s[1] : has[0] ? s[0] : 0;
  bool yes = weight > (k->single && k->positive ? 0.5 : 0);
  if (t->base.n < 2 && !has[1]) { /* one score */
    mrt_ml_binary(post, !(k->single && k->positive), s);
    return yes;
  }
  for (int i = 0; i < 2; ++i)
    if (!has[i]) s[i] = 0;
  mrt_ml_transform(post, s, 2);
  return yes;
}
/* Scores of a row with the base values; the winning class. */
static int64_t decide(const trees *t, const classes *k, mrt_ml_post post, double *s, uint8_t *has) {
  int64_t n = t->targets, best = 0;
  if (n == 2) return decide_two(t, k, post, s, has);
  for (int64_t i = 0; i < n && i < t->base.n; ++i) s[i] += at(&t->base, i);
  for (int64_t i = 1; i < n; ++i) best = s[i] > s[best] ? i : best;
  mrt_ml_transform(post, s, n);
  return best;
}
static mrt_status *classifier_run(mrt_kctx *c) {
  mrt_tensor *y = mrt_out(c, 0), *z = mrt_out(c, 1);
  trees t = {0};
  mrt_ml_post post;
  double *sum;
  uint8_t *has;
  int n;
  const int64_t *ids = mrt_node_ints(c->node, "class_ids", &n);
  classes k = classes_of(c->node, ids, n, NULL);
  t.targets = k.labels.n;
  MRT_TRY(mrt_ml_post_of(c->node, &post));
  MRT_TRY(open(c, "class", "_ids", &t));
  k = classes_of(c->node, ids, n, &t.weight);
  if (t.targets < 1) return MRT_ERR(MRT_INVALID_ARGUMENT, "there are no class labels");
  MRT_TRY(mrt_scratch(c, ((size_t)t.targets + 1) * sizeof *sum, (void **)&sum));
  MRT_TRY(mrt_scratch(c, (size_t)t.targets + 1, (void **)&has));
  int64_t rows = t.x->rank == 2 ? t.x->dims[0] : 1;
  for (int64_t r = 0; r < rows; ++r) {
    MRT_TRY(scores(&t, r, sum, has));
    int64_t best = decide(&t, &k, post, sum, has);
    /* With scores for both of two classes the numbers 0 and 1 stand for integer labels. */
    bool plain = t.targets == 2 && !k.single && !k.labels.strings;
    if (y) MRT_TRY(mrt_ml_put_label(plain ? &(mrt_ml_labels){0} : &k.labels, best, y, r));
    for (int64_t i = 0; i < t.targets && z; ++i)
      ((float *)z->data)[r * t.targets + i] = (float)sum[i];
  }
  return NULL;
}

static const mrt_op_version regressor_v[] = {{1}, {3, load_regressor}, {0}};
static const mrt_op_version classifier_v[] = {{1}, {3, load_classifier}, {0}};
#define NODES                                                                                    \
  "base_values:floats base_values_as_tensor:tensor nodes_falsenodeids:ints "                     \
  "nodes_featureids:ints nodes_hitrates:floats nodes_hitrates_as_tensor:tensor "                 \
  "nodes_missing_value_tracks_true:ints nodes_modes:strings nodes_nodeids:ints "                 \
  "nodes_treeids:ints nodes_truenodeids:ints nodes_values:floats nodes_values_as_tensor:tensor " \
  "post_transform:string=NONE "
MRT_OP_IN(ml, TreeEnsembleRegressor) = {
    .domain = "ai.onnx.ml",
    .name = "TreeEnsembleRegressor",
    .doc = "decision trees, their leaves added up per target",
    .in = "X:T",
    .out = "Y:float",
    .types = "T=" MRT_T_ML,
    .attrs = NODES
    "aggregate_function:string=SUM n_targets:int target_ids:ints "
    "target_nodeids:ints target_treeids:ints target_weights:floats "
    "target_weights_as_tensor:tensor",
    .versions = regressor_v,
    .infer = regressor_infer,
    .run = regressor_run};
MRT_OP_IN(ml, TreeEnsembleClassifier) = {
    .domain = "ai.onnx.ml",
    .name = "TreeEnsembleClassifier",
    .doc = "decision trees, their leaves added up per class",
    .in = "X:T",
    .out = "Y:U, Z:float",
    .types = "T=" MRT_T_ML ";U=string,int64",
    .attrs = NODES
    "class_ids:ints class_nodeids:ints class_treeids:ints class_weights:floats "
    "class_weights_as_tensor:tensor classlabels_int64s:ints "
    "classlabels_strings:strings",
    .versions = classifier_v,
    .infer = classifier_infer,
    .run = classifier_run};
