/* Normalizations written as single operators: LayerNormalization as exporters wrote it before
 * opset 17, and RMSNormalization. Only over the last axis, with gain and bias of its length. */
#include <string.h>

#include "ir/pattern.h"
#include "provider/cpu/cpu.h"

typedef struct form {
  const char *tree;
  bool rms;
} form;

/* m: the mean, which is looked at afterwards; the distance from it may be one node or two. */
static const form forms[] = {
#define VARIANCE(square) "Sqrt(Add(ReduceMean(" square ", ...), e:const))"
#define CENTRED          "!Sub(x, m)"
#define LAYER(square)    "Add(Mul(Div(" CENTRED ", " VARIANCE(square) "), g:const), b:const)"
    {LAYER("Pow(!Sub(x, m), 2)"), false},
    {LAYER("Mul(!Sub(x, m), !Sub(x, m))"), false},
    {"Mul(Mul(x, Reciprocal(" VARIANCE("Pow(x, 2)") ")), g:const)", true},
    {"Mul(Mul(x, Div(1, " VARIANCE("Pow(x, 2)") ")), g:const)", true},
    {"Mul(Div(x, " VARIANCE("Pow(x, 2)") "), g:const)", true},
    {"Mul(Mul(x, Reciprocal(" VARIANCE("Mul(x, x)") ")), g:const)", true},
};

static const mrt_type *f32_type(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT && t->rank > 0 ? t : NULL;
}

/* A ReduceMean over the last axis alone that keeps it. */
static bool is_row_mean(const mrt_node *n, int index) {
  if (!n || *n->domain || strcmp(n->op_type, "ReduceMean") != 0 || n->provider != index ||
      n->n_in != 2 || !mrt_node_int(n, "keepdims"))
    return false;
  const mrt_type *t = f32_type(n->in[0].var);
  const mrt_tensor *axes = mrt_node_in_const(n, 1);
  if (!t || !axes || axes->dtype != MRT_INT64 || mrt_tensor_count(axes) != 1) return false;
  const int64_t axis = mrt_elem_get_i64(MRT_INT64, axes->data, 0);
  return axis == -1 || axis == t->rank - 1;
}

static bool is_row(const mrt_var *v, int64_t n) {
  const mrt_tensor *t = v ? v->constant : NULL;
  return t && t->dtype == MRT_FLOAT && t->rank == 1 && t->dims[0] == n;
}

typedef struct found {
  mrt_match m;
  mrt_var *x, *gain, *bias;
  float eps;
  bool rms;
} found;

static bool find(mrt_node *root, int index, found *f) {
  int64_t width;
  for (size_t i = 0; i < sizeof forms / sizeof *forms; ++i) {
    if (!mrt_pattern_match(forms[i].tree, root, &f->m)) continue;
    f->rms = forms[i].rms;
    f->x = mrt_match_var(&f->m, "x");
    f->gain = mrt_match_var(&f->m, "g");
    f->bias = mrt_match_var(&f->m, "b");
    const mrt_type *t = f32_type(f->x);
    const mrt_var *e = mrt_match_var(&f->m, "e"), *mean = mrt_match_var(&f->m, "m");
    if (!t || !mrt_expr_is_const(t->dims[t->rank - 1], &width) || !is_row(f->gain, width) ||
        (!f->rms && !is_row(f->bias, width)))
      return false;
    const mrt_tensor *eps = e->constant;
    if (eps->dtype != MRT_FLOAT || mrt_tensor_count(eps) != 1) return false;
    f->eps = *(const float *)eps->data;
    if (!f->rms && (!is_row_mean(mean->producer, index) || mean->producer->in[0].var != f->x))
      return false;
    for (int k = 0; k < f->m.n_nodes; ++k) {
      const mrt_node *n = f->m.nodes[k];
      if (n->provider != index) return false;
      if (strcmp(n->op_type, "ReduceMean") == 0 && !is_row_mean(n, index)) return false;
    }
    return true;
  }
  return false;
}

/* Removes what nobody reads any more, going up from the node; never further than the tree. */
static void remove_unread(mrt_node *n, const mrt_var *stop, int depth) {
  mrt_var *in[4];
  int n_in = n->n_in < 4 ? n->n_in : 4;
  if (depth > 12 || n->n_out != 1 || n->out[0]->n_uses || n->out[0]->n_graph_outputs) return;
  for (int i = 0; i < n_in; ++i) in[i] = n->in[i].var;
  mrt_node_remove(n);
  for (int i = 0; i < n_in; ++i)
    if (in[i] && in[i] != stop && in[i]->producer && in[i]->graph == n->graph)
      remove_unread(in[i]->producer, stop, depth + 1);
}

static mrt_status *replace(const mrt_provider *p, mrt_node *root, const found *f, mrt_node **made) {
  mrt_node *n;
  mrt_var *out, *in[3] = {f->x, f->gain, f->bias};
  MRT_TRY(mrt_graph_insert(root->graph, root, p->env->ops, "",
                           f->rms ? "RMSNormalization" : "LayerNormalization", f->rms ? 2 : 3, in,
                           root->out[0]->type, &n, &out));
  MRT_TRY(mrt_node_set_int(n, "axis", -1));
  MRT_TRY(mrt_node_set_float(n, "epsilon", f->eps));
  MRT_TRY(mrt_var_replace(root->out[0], out));
  remove_unread(root, f->x, 0);
  *made = n;
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  /* From the end: what goes stands before its root. */
  for (mrt_node *n = g->last, *prev; n; n = prev) {
    found f;
    const bool root = n->provider == index && !*n->domain && n->n_out == 1 && n->out[0] &&
                      (strcmp(n->op_type, "Add") == 0 || strcmp(n->op_type, "Mul") == 0);
    if (!root || !find(n, index, &f)) {
      prev = n->prev;
      continue;
    }
    mrt_node *made;
    MRT_TRY(replace(p, n, &f, &made));
    ++*fired;
    prev = made->prev;
  }
  return NULL;
}

MRT_FUSION(normalization) = {.name = "normalization",
                             .doc = "layer and RMS normalization written in single operators",
                             .order = 3,
                             .level = 2,
                             .run = run};
