/* Products of the same value with constant weights (query, key and value of an attention) as one
 * macart.MatMulSides, which reads and packs that value once and has more columns to share out. The
 * weights stay what they are: they are packed, shared and cached one by one. */
#include <string.h>

#include "ops/fused_matmul_sides.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/half/narrow.h"

/* So far apart may the first and the last product stand: results that are made earlier than they
 * are wanted take memory. */
enum { REACH = 24 };

typedef struct product {
  mrt_node *node;
  mrt_var *b, *bias;
  bool trans;
} product;

static bool is_op(const mrt_node *n, const char *domain, const char *op) {
  return strcmp(n->domain, domain) == 0 && strcmp(n->op_type, op) == 0;
}

/* Nothing but A B + bias; *bias: the input that holds it, -1 if none can. */
static bool plain(const mrt_node *n, int *bias) {
  *bias = -1;
  if (is_op(n, "", "MatMul")) return true;
  *bias = 2;
  const bool none = n->n_in < 3 || !n->in[2].var;
  if (is_op(n, "", "Gemm"))
    return !mrt_node_int(n, "transA") && mrt_node_float(n, "alpha") == 1 &&
           (none || mrt_node_float(n, "beta") == 1);
  return is_op(n, "macart", "MatMul") && !mrt_node_int(n, "transA") &&
         mrt_node_float(n, "alpha") == 1 && !*mrt_node_str(n, "activation") &&
         (n->n_in < 4 || !n->in[3].var);
}

static bool is_row(const mrt_tensor *t, int64_t n) {
  return t && t->dtype == MRT_FLOAT && !t->strided && t->rank > 0 && t->dims[t->rank - 1] == n &&
         mrt_tensor_count(t) == n;
}

/* Is node a product of a with weights that may be packed? Those that fit 2 bytes a number are read
 * in half the time by a kernel of their own. */
static bool read_product(mrt_node *node, const mrt_var *a, int index, product *p) {
  int bias;
  mrt_narrow_kind kind;
  *p = (product){.node = node};
  if (node->graph != a->graph || node->provider != index || node->n_in < 2 ||
      node->in[0].var != a || !plain(node, &bias))
    return false;
  const mrt_tensor *b = mrt_node_in_const(node, 1);
  if (!b || b->dtype != MRT_FLOAT || b->rank != 2 || b->strided || !mrt_tensor_count(b) ||
      !node->out[0] || mrt_tensor_is_forgotten(b) || /* widened later, from 16 bits */
      mrt_narrow_kind_of(b->data, mrt_tensor_count(b), &kind))
    return false;
  p->b = node->in[1].var;
  p->trans = bias > 0 && mrt_node_int(node, "transB");
  if (bias > 0 && bias < node->n_in) p->bias = node->in[bias].var;
  return !p->bias || is_row(p->bias->constant, b->dims[p->trans ? 0 : 1]);
}

/* The products of a from `first` on that may become one with it, in the graph's order. */
static int collect(mrt_node *first, int index, product *p) {
  int n = 0;
  mrt_node *at = first;
  for (int far = 0; at && far < REACH && n < MRT_SIDES_MAX; ++far, at = at->next)
    if (read_product(at, first->in[0].var, index, &p[n]) && p[n].trans == p[0].trans) ++n;
  return n;
}

static mrt_status *replace(const product *p, int n, const mrt_op_table *ops) {
  const mrt_node *first = p[0].node;
  mrt_var *in[1 + 2 * MRT_SIDES_MAX] = {first->in[0].var}, *out;
  mrt_node *merged;
  for (int i = 0; i < n; ++i) {
    in[MRT_SIDE_B(i)] = p[i].b;
    in[MRT_SIDE_BIAS(i)] = p[i].bias;
  }
  MRT_TRY(mrt_graph_insert(first->graph, p[0].node, ops, "macart", "MatMulSides", 1 + 2 * n, in,
                           first->out[0]->type, &merged, &out));
  merged->orig_op = first->orig_op;
  merged->orig_version = first->orig_version;
  MRT_TRY(mrt_node_set_int(merged, "transB", p[0].trans));
  for (int i = 0; i < n; ++i) {
    mrt_var *old = p[i].node->out[0];
    if (i) {
      MRT_TRY(mrt_graph_add_var(first->graph, NULL, old->type, &out));
      MRT_TRY(mrt_node_set_output(merged, i, out));
    }
    MRT_TRY(mrt_var_replace(old, out));
    mrt_node_remove(p[i].node);
  }
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    product sides[MRT_SIDES_MAX + 1];
    const mrt_type *t = n->n_in > 0 && n->in[0].var ? n->in[0].var->type : NULL;
    const bool start = t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT && t->rank >= 2 &&
                       n->in[0].var->n_uses > 1 && read_product(n, n->in[0].var, index, &sides[0]);
    const int count = start ? collect(n, index, sides) : 0;
    next = n->next;
    if (count < 2) continue;
    for (int i = 1; i < count && next; ++i) /* go on behind what goes */
      if (sides[i].node == next) next = next->next;
    MRT_TRY(replace(sides, count, p->env->ops));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(matmul_sides) = {.name = "matmul_sides",
                            .doc = "products of one value with several constant matrices as one",
                            .order = 21,
                            .level = 2,
                            .run = run};
