/* Quantised images go channels-last through the graph. Every QLinearConv is turned to NHWC; sums,
 * products, pools and tables follow where an input of theirs is NHWC already. What others read is
 * transposed back, once for all of them. */
#include <string.h>

#include "provider/cpu/qgemm/qdq.h"

static const int64_t to_last[4] = {0, 2, 3, 1}, to_first[4] = {0, 3, 1, 2};

typedef struct walk {
  const mrt_provider *p;
  mrt_graph *g;
  int index;
  mrt_var **twin; /* by var->id: the NHWC form; NULL: none */
  size_t n;       /* vars of the graph as they were */
} walk;

static const mrt_type *permuted(mrt_graph *g, const mrt_type *t, const int64_t *perm) {
  const mrt_expr *dims[4];
  for (int i = 0; i < 4; ++i) dims[i] = t->dims[perm[i]];
  return mrt_type_tensor(g->model, t->dtype, 4, dims);
}
static bool is_image(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->rank == 4 &&
         (t->dtype == MRT_INT8 || t->dtype == MRT_UINT8);
}
static mrt_var *twin_of(const walk *w, const mrt_var *v) {
  return v && v->graph == w->g && (size_t)v->id < w->n && w->g->vars[v->id] == v ? w->twin[v->id]
                                                                                 : NULL;
}

static mrt_status *transpose(const walk *w, mrt_node *before, mrt_var *in, const int64_t *perm,
                             mrt_node **node, mrt_var **out) {
  const mrt_type *t = permuted(w->g, in->type, perm);
  if (!t) return mrt_status_oom();
  MRT_TRY(mrt_graph_insert(w->g, before, w->p->env->ops, "", "Transpose", 1, &in, t, node, out));
  (*node)->provider = w->index;
  return mrt_node_set_ints(*node, "perm", 4, perm);
}

/* Input i of the node in NHWC: the twin, or a transposed copy that becomes the twin. */
static mrt_status *turn_input(walk *w, mrt_node *n, int i) {
  mrt_var *v = n->in[i].var, *twin = twin_of(w, v);
  mrt_node *made;
  if (!twin) {
    MRT_TRY(transpose(w, n, v, to_last, &made, &twin));
    if (v->graph == w->g && (size_t)v->id < w->n && w->g->vars[v->id] == v) w->twin[v->id] = twin;
  }
  return mrt_node_set_input(n, i, twin);
}
static mrt_status *turn_output(walk *w, mrt_node *n) {
  mrt_var *old = n->out[0], *twin;
  const mrt_type *t = permuted(w->g, old->type, to_last);
  if (!t) return mrt_status_oom();
  MRT_TRY(mrt_graph_add_var(w->g, NULL, t, &twin));
  MRT_TRY(mrt_node_set_output(n, 0, twin));
  w->twin[old->id] = twin;
  return NULL;
}

/* Images among the inputs, as bits; 0: the node stays as it is. *follows: only if one of them is
 * NHWC. */
static uint64_t images_of(const mrt_node *n, bool *follows) {
  static const char *const tables[] = {"QLinearSigmoid", "QLinearLeakyRelu",
                                       "QLinearGlobalAveragePool"};
  const bool ours = strcmp(n->domain, "com.microsoft") == 0 || strcmp(n->domain, "macart") == 0;
  uint64_t bits = 0;
  *follows = true;
  if (n->n_out < 1 || !n->out[0] || !is_image(n->out[0]) || (n->n_out > 1 && n->out[1])) return 0;
  if (strcmp(n->op_type, "QLinearConv") == 0 && (ours || !*n->domain)) {
    *follows = false;
    return is_image(n->in[0].var) && !mrt_node_int(n, "channels_last");
  }
  if (mrt_is_op(n, "MaxPool")) return is_image(n->in[0].var);
  if (!ours) return 0;
  for (size_t i = 0; i < sizeof tables / sizeof *tables; ++i)
    if (strcmp(n->op_type, tables[i]) == 0)
      return is_image(n->in[0].var) && !mrt_node_int(n, "channels_last");
  if (strcmp(n->op_type, "QLinearAdd") == 0 || strcmp(n->op_type, "QLinearMul") == 0)
    return is_image(n->in[0].var) && is_image(n->in[3].var) ? 1 | 1 << 3 : 0;
  if (strcmp(n->op_type, "QLinearConcat") == 0) {
    for (int i = 2; i < n->n_in; i += 3) {
      if (!is_image(n->in[i].var) || i > 60) return 0;
      bits |= (uint64_t)1 << i;
    }
  }
  return bits;
}

/* What makes the node work on NHWC, besides its inputs and its output. */
static mrt_status *turn_node(walk *w, mrt_node *n) {
  if (strcmp(n->op_type, "QLinearConv") == 0) {
    if (!*n->domain) MRT_TRY(mrt_node_set_op(n, "com.microsoft", "QLinearConv"));
    MRT_TRY(mrt_node_set_int(n, "channels_last", 1));
  } else if (strcmp(n->op_type, "QLinearGlobalAveragePool") == 0) {
    MRT_TRY(mrt_node_set_int(n, "channels_last", 1));
  } else if (strcmp(n->op_type, "MaxPool") == 0) {
    mrt_node_del_attr(n, "storage_order");
    MRT_TRY(mrt_node_set_op(n, "com.microsoft", "NhwcMaxPool"));
  } else if (strcmp(n->op_type, "QLinearConcat") == 0) {
    const int64_t axis = mrt_node_int(n, "axis"), at = axis < 0 ? axis + 4 : axis;
    for (int i = 0; i < 4; ++i)
      if (to_last[i] == at) MRT_TRY(mrt_node_set_int(n, "axis", i));
  }
  return n->def ? NULL : mrt_node_resolve(n, w->p->env->ops);
}

static mrt_status *turn(walk *w, mrt_node *n, int *fired) {
  bool follows, any = false;
  const uint64_t bits = n->provider == w->index ? images_of(n, &follows) : 0;
  if (!bits) return NULL;
  for (int i = 0; i < n->n_in && i < 64; ++i)
    any = any || ((bits >> i & 1) && twin_of(w, n->in[i].var));
  if (follows && !any) return NULL;
  for (int i = 0; i < n->n_in && i < 64; ++i)
    if (bits >> i & 1) MRT_TRY(turn_input(w, n, i));
  MRT_TRY(turn_node(w, n));
  ++*fired;
  return turn_output(w, n);
}

static mrt_status *turn_back(const walk *w) {
  for (size_t i = 0; i < w->n; ++i) {
    mrt_var *v = w->g->vars[i], *twin = w->twin[i], *made;
    mrt_node *node;
    if (!twin || v->producer || v->is_input || v->constant || (!v->n_uses && !v->n_graph_outputs))
      continue;
    MRT_TRY(transpose(w, twin->producer->next, twin, to_first, &node, &made));
    MRT_TRY(mrt_node_set_output(node, 0, v));
  }
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  walk w = {.p = p, .g = g, .index = index, .n = g->n_vars};
  mrt_status *st = NULL;
  if (!g->first || !g->n_vars) return NULL;
  MRT_TRY(mrt_mem_new_zero(p->env->alloc, g->n_vars * sizeof *w.twin, (void **)&w.twin));
  for (size_t i = 0; i < w.n; ++i) g->vars[i]->id = (int)i;
  for (mrt_node *n = g->first, *next; n && !st; n = next) {
    next = n->next;
    st = turn(&w, n, fired);
  }
  if (!st) st = turn_back(&w);
  mrt_mem_free(p->env->alloc, w.twin);
  return st;
}

MRT_FUSION(nhwc) = {.name = "nhwc",
                    .doc = "quantised images channels-last from convolution to convolution",
                    .order = 70,
                    .level = 2,
                    .run = run};
