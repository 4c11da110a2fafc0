/* macart.Attention: softmax(scale * q k^T + mask) v, with heads read where they lie. An operand's
 * layout says how its dims are ordered: "BHSD", "BSHD", or "BHDS" (k and v only); rank 3 is
 * without B. Batch, heads and positions broadcast as they do in the nodes that it stands for (a
 * mask may be what gives them their size); heads of q may also be a multiple of those of k and v.
 * Keys and values of earlier calls, [B, H, S, D], stand before those of this one; present is both.
 */
#include "ops/common.h"

typedef struct shape {
  const mrt_expr *b, *h, *s, *d;
} shape;

static bool read_shape(const mrt_infer *c, int i, const char *layout, shape *out) {
  const int rank = mrt_infer_rank(c, i), first = 4 - rank;
  if (rank != 3 && rank != 4) return false;
  *out = (shape){.b = mrt_expr_const(c->sym, 1)};
  for (int k = first; k < 4; ++k) {
    const mrt_expr *d = mrt_infer_dim(c, i, k - first);
    if (layout[k] == 'B') out->b = d;
    if (layout[k] == 'H') out->h = d;
    if (layout[k] == 'S') out->s = d;
    if (layout[k] == 'D') out->d = d;
  }
  return true;
}

static bool known_layout(const char *s) {
  return strcmp(s, "BHSD") == 0 || strcmp(s, "BSHD") == 0 || strcmp(s, "BHDS") == 0;
}

/* Positions of past keys and values join those of the call. */
static mrt_status *infer_cache(mrt_infer *c, shape *k, shape *v) {
  shape *const now[2] = {k, v};
  for (int i = 0; i < 2; ++i) {
    const int past = 4 + i;
    if (!mrt_infer_has(c, past)) continue;
    if (mrt_infer_rank(c, past) != 4) return MRT_ERR(MRT_FAIL, "past must have rank 4");
    MRT_TRY(mrt_infer_same_dim(c, now[i]->b, mrt_infer_dim(c, past, 0), "batch of past", NULL));
    MRT_TRY(mrt_infer_same_dim(c, now[i]->h, mrt_infer_dim(c, past, 1), "heads of past", NULL));
    MRT_TRY(mrt_infer_same_dim(c, now[i]->d, mrt_infer_dim(c, past, 3), "features of past", NULL));
    now[i]->s = mrt_expr_add(c->sym, mrt_infer_dim(c, past, 2), now[i]->s);
    const mrt_expr *dims[4] = {now[i]->b, now[i]->h, now[i]->s, now[i]->d};
    MRT_TRY(mrt_infer_out(c, 1 + i, MRT_FLOAT, 4, dims));
  }
  return NULL;
}

static mrt_status *infer(mrt_infer *c) {
  static const char *const names[4] = {"q_layout", "k_layout", "v_layout", "out_layout"};
  const char *layout[4];
  shape q, k, v;
  for (int i = 0; i < 4; ++i) {
    layout[i] = mrt_node_str(c->node, names[i]);
    if (!known_layout(layout[i]) || ((i == 0 || i == 3) && strcmp(layout[i], "BHDS") == 0))
      return MRT_ERR(MRT_FAIL, "%s is '%s'", names[i], layout[i]);
  }
  if (!read_shape(c, 0, layout[0], &q) || !read_shape(c, 1, layout[1], &k) ||
      !read_shape(c, 2, layout[2], &v))
    return MRT_ERR(MRT_FAIL, "q, k and v must have rank 3 or 4");
  MRT_TRY(infer_cache(c, &k, &v));
  MRT_TRY(mrt_infer_same_dim(c, q.d, k.d, "features of q and k", NULL));
  MRT_TRY(mrt_infer_same_dim(c, k.h, v.h, "heads of k and v", NULL));
  MRT_TRY(mrt_infer_broadcast_dim(c, q.b, k.b, &q.b));
  MRT_TRY(mrt_infer_broadcast_dim(c, q.b, v.b, &q.b));
  const int rm = mrt_infer_rank(c, 3);
  if (rm > 4 || rm > mrt_infer_rank(c, 0)) return MRT_ERR(MRT_FAIL, "a mask of rank %d", rm);
  const mrt_expr **grown[3] = {&q.b, &q.h, &q.s};
  for (int i = 0; i < 3; ++i)
    if (rm >= 4 - i)
      MRT_TRY(mrt_infer_broadcast_dim(c, *grown[i], mrt_infer_dim(c, 3, i - (4 - rm)), grown[i]));
  if (rm >= 1) MRT_TRY(mrt_infer_broadcast_dim(c, k.s, mrt_infer_dim(c, 3, rm - 1), &k.s));
  MRT_TRY(mrt_infer_same_dim(c, k.s, v.s, "positions of k and v", NULL));
  const bool bshd = strcmp(layout[3], "BSHD") == 0;
  const mrt_expr *dims[4] = {q.b, bshd ? q.s : q.h, bshd ? q.h : q.s, v.d};
  const int rank = mrt_infer_rank(c, 0);
  return mrt_infer_out(c, 0, MRT_FLOAT, rank, dims + (4 - rank));
}

/* ---- as ONNX nodes ---- */

static mrt_status *transposed(mrt_node *node, const mrt_op_table *ops, mrt_var *v, int rank,
                              const char *from, const char *to, mrt_var **out) {
  int64_t perm[4];
  mrt_node *n;
  *out = v;
  if (strcmp(from, to) == 0) return NULL;
  const int first = 4 - rank;
  for (int i = first; i < 4; ++i) perm[i] = strchr(from, to[i]) - from - first;
  MRT_TRY(mrt_graph_insert(node->graph, node, ops, "", "Transpose", 1, &v, NULL, &n, out));
  return mrt_node_set_ints(n, "perm", rank, perm + first);
}

/* Keys (0) or values (1) of the call behind those of earlier ones, in `layout`. */
static mrt_status *joined(mrt_node *node, const mrt_op_table *ops, int which, const char *layout,
                          mrt_var **out) {
  const char *from = mrt_node_str(node, which ? "v_layout" : "k_layout");
  const int rank = node->in[0].var->type->rank;
  mrt_var *parts[2] = {4 + which < node->n_in ? node->in[4 + which].var : NULL,
                       node->in[1 + which].var};
  mrt_var *present = 1 + which < node->n_out ? node->out[1 + which] : NULL, *all;
  mrt_node *n;
  if (!parts[0]) return transposed(node, ops, parts[1], rank, from, layout, out);
  MRT_TRY(transposed(node, ops, parts[1], rank, from, "BHSD", &parts[1]));
  MRT_TRY(mrt_graph_add_var(node->graph, NULL, present ? present->type : NULL, &all));
  MRT_TRY(mrt_graph_add_node(node->graph, node, "", "Concat", node->name, 2, parts, 1, &all, &n));
  MRT_TRY(mrt_node_set_int(n, "axis", 2));
  MRT_TRY(mrt_node_resolve(n, ops));
  if (present) MRT_TRY(mrt_var_replace(present, all));
  return transposed(node, ops, all, rank, "BHSD", layout, out);
}

static mrt_status *decompose(mrt_node *node, const mrt_op_table *ops) {
  const mrt_type *t = node->in[0].var->type;
  mrt_graph *g = node->graph;
  mrt_var *q, *k, *v, *s, *scale, *out;
  if (!t || t->kind != MRT_KIND_TENSOR || t->rank < 3)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "Attention of unknown rank");
  MRT_TRY(
      transposed(node, ops, node->in[0].var, t->rank, mrt_node_str(node, "q_layout"), "BHSD", &q));
  MRT_TRY(joined(node, ops, 0, "BHDS", &k));
  MRT_TRY(joined(node, ops, 1, "BHSD", &v));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "MatMul", 2, (mrt_var *[]){q, k}, NULL, NULL, &s));
  MRT_TRY(mrt_graph_const_f32(g, mrt_node_float(node, "scale"), &scale));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Mul", 2, (mrt_var *[]){s, scale}, NULL, NULL, &s));
  if (node->n_in > 3 && node->in[3].var)
    MRT_TRY(mrt_graph_insert(g, node, ops, "", "Add", 2, (mrt_var *[]){s, node->in[3].var}, NULL,
                             NULL, &s));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "Softmax", 1, &s, NULL, NULL, &s));
  MRT_TRY(mrt_graph_insert(g, node, ops, "", "MatMul", 2, (mrt_var *[]){s, v}, NULL, NULL, &s));
  MRT_TRY(transposed(node, ops, s, t->rank, "BHSD", mrt_node_str(node, "out_layout"), &out));
  MRT_TRY(mrt_var_replace(node->out[0], out));
  mrt_node_remove(node);
  return NULL;
}

static const mrt_op_version versions[] = {{1}, {0}};
MRT_OP_IN(mt, Attention) = {.domain = "macart",
                            .name = "Attention",
                            .doc = "softmax(scale q k^T + mask) v over heads read by stride",
                            .in = "q:T, k:T, v:T, mask:T?, past_k:T?, past_v:T?",
                            .out = "output:T, present_k:T?, present_v:T?",
                            .types = "T=float",
                            .attrs =
                                "q_layout:string=BHSD k_layout:string=BHSD v_layout:string=BHSD "
                                "out_layout:string=BHSD scale:float=1",
                            .versions = versions,
                            .infer = infer,
                            .decompose = decompose};
