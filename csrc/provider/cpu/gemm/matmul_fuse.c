/* MatMul or Gemm with what surrounds it as one macart.MatMul: transposed operands are read in
 * place, scale, bias, residual sum and activation are done on each tile of the product. A Gemm
 * between Reshapes that only flatten leading dims is a product of the value as it is.
 * macart.MatMulQ8, which has neither transposed operands nor a scale, takes the rest likewise. */
#include <string.h>

#include "ir/pattern.h"
#include "provider/cpu/conv/conv_node.h"

enum { MAX_DROP = 16 };

typedef struct fused {
  mrt_node *product, *last; /* last: the node whose output the fused one takes over */
  mrt_node *drop[MAX_DROP]; /* all that go */
  int n_drop, index;
  mrt_var *a, *b, *bias, *residual;
  mrt_var *scale; /* of int8 weights; NULL: b is float */
  bool trans_a, trans_b;
  float alpha;
  mrt_act act;
  bool flat; /* the Reshapes around a Gemm went */
} fused;

static bool is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}
/* The only reader of v, if it may be taken. */
static mrt_node *only_user(const fused *f, const mrt_var *v) {
  if (v->n_uses != 1 || v->n_graph_outputs || v->uses[0].node->graph != v->graph) return NULL;
  return v->uses[0].node->provider == f->index ? v->uses[0].node : NULL;
}
static mrt_var *tail(const fused *f) { return f->last->out[0]; }
static void take(fused *f, mrt_node *n) {
  f->drop[f->n_drop++] = n;
  f->last = n;
}
static const mrt_type *tensor_type(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT && t->rank >= 0 ? t : NULL;
}
static bool same_dims(const mrt_type *a, const mrt_type *b, int n) {
  for (int i = 0; i < n; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

/* A Transpose of the last two dims in front of an operand is read in place. */
static void take_transpose(fused *f, mrt_var **v, bool *trans) {
  mrt_node *t = (*v)->producer;
  if (!is_op(t, "Transpose") || t->graph != f->product->graph || only_user(f, *v) != f->product ||
      t->provider != f->index || !tensor_type(t->in[0].var))
    return;
  int n;
  const int64_t *perm = mrt_node_ints(t, "perm", &n);
  const int rank = t->in[0].var->type->rank;
  for (int i = 0; i < rank; ++i) {
    const int want = i < rank - 2 ? i : 2 * rank - 3 - i;
    if ((perm ? perm[i] : rank - 1 - i) != want) return;
  }
  f->drop[f->n_drop++] = t;
  *v = t->in[0].var;
  *trans = !*trans;
}

static bool scalar(const mrt_var *v, float *out) {
  if (!v || !v->constant || v->constant->dtype != MRT_FLOAT || v->constant->rank > 1 ||
      mrt_tensor_count(v->constant) != 1)
    return false;
  *out = (float)mrt_elem_get_f64(MRT_FLOAT, v->constant->data, 0);
  return true;
}

/* The other input of a two-input node that reads v. */
static mrt_var *other_input(const mrt_node *n, const mrt_var *v) {
  return n->in[0].var == v ? n->in[1].var : n->in[0].var;
}

static void take_scale(fused *f) {
  mrt_node *n = only_user(f, tail(f));
  float s;
  if (f->bias || !n || n->n_in != 2) return;
  if (is_op(n, "Mul") && scalar(other_input(n, tail(f)), &s))
    f->alpha *= s;
  else if (is_op(n, "Div") && n->in[0].var == tail(f) && scalar(n->in[1].var, &s) && s != 0)
    f->alpha /= s;
  else
    return;
  take(f, n);
}

/* A row of the product's last dim, the same for all rows. */
static bool is_row(const mrt_var *v, const mrt_type *out) {
  const mrt_type *t = tensor_type(v);
  int64_t one;
  if (!t || t->rank < 1 || t->rank > out->rank) return false;
  if (!t->dims[t->rank - 1] || t->dims[t->rank - 1] != out->dims[out->rank - 1]) return false;
  for (int i = 0; i < t->rank - 1; ++i)
    if (!t->dims[i] || !mrt_expr_is_const(t->dims[i], &one) || one != 1) return false;
  return true;
}

static void take_sum(fused *f, bool row) {
  mrt_node *add = only_user(f, tail(f));
  const mrt_type *out = tensor_type(tail(f));
  if (!is_op(add, "Add") || !out || (row ? f->bias : f->residual)) return;
  mrt_var *other = other_input(add, tail(f));
  const mrt_type *t = tensor_type(other);
  if (!t || other == tail(f)) return;
  if (row ? !is_row(other, out) : t->rank != out->rank || !same_dims(t, out, t->rank)) return;
  *(row ? &f->bias : &f->residual) = other;
  take(f, add);
}

/* Gelu as exporters write it: x is read by the tree alone. */
static bool take_gelu(fused *f) {
  static const char *const trees[] = {"Mul(Mul(x, Add(Erf(Div(x, 1.41421356)), 1)), 0.5)",
                                      "Mul(Mul(x, Add(Erf(Mul(x, 0.70710678)), 1)), 0.5)",
                                      "Mul(x, Mul(Add(Erf(Div(x, 1.41421356)), 1), 0.5))",
                                      "Mul(x, Mul(Add(Erf(Mul(x, 0.70710678)), 1), 0.5))",
                                      "Mul(Mul(x, 0.5), Add(Erf(Div(x, 1.41421356)), 1))",
                                      "Mul(Mul(x, 0.5), Add(Erf(Mul(x, 0.70710678)), 1))"};
  mrt_var *x = tail(f);
  if (x->n_uses != 2 || x->n_graph_outputs) return false;
  for (int u = 0; u < 2; ++u) {
    mrt_node *n = x->uses[u].node; /* up to four readers below one of the uses stands the root */
    for (int depth = 0; n && depth < 5; ++depth) {
      mrt_match m;
      for (size_t i = 0; i < sizeof trees / sizeof *trees && is_op(n, "Mul"); ++i) {
        if (!mrt_pattern_match(trees[i], n, &m) || mrt_match_var(&m, "x") != x) continue;
        for (int k = 0; k < m.n_nodes; ++k)
          if (m.nodes[k]->provider != f->index || m.nodes[k]->graph != x->graph) return false;
        for (int k = m.n_nodes; k-- > 1;) f->drop[f->n_drop++] = m.nodes[k];
        f->act.op = MRT_EW_GELU;
        take(f, m.nodes[0]);
        return true;
      }
      n = n->n_out == 1 && n->out[0] ? only_user(f, n->out[0]) : NULL;
    }
  }
  return false;
}

/* x * sigmoid(x) */
static bool take_silu(fused *f) {
  mrt_var *x = tail(f);
  if (x->n_uses != 2 || x->n_graph_outputs) return false;
  for (int i = 0; i < 2; ++i) {
    mrt_node *gate = x->uses[i].node, *mul = x->uses[1 - i].node;
    if (!is_op(gate, "Sigmoid") || !is_op(mul, "Mul") || gate->graph != x->graph ||
        gate->provider != f->index || only_user(f, gate->out[0]) != mul)
      continue;
    f->act.op = MRT_EW_SILU;
    f->drop[f->n_drop++] = gate;
    take(f, mul);
    return true;
  }
  return false;
}

static void take_activation(fused *f) {
  mrt_act act;
  if (take_gelu(f) || take_silu(f)) return;
  mrt_node *n = only_user(f, tail(f));
  if (!n || !mrt_unary_node_act(n, &act) || n->in[0].var != tail(f) || !mrt_act_name(&act)) return;
  f->act = act;
  take(f, n);
}

/* Shapes for which one batched call does it: B is one matrix, or both have the same batch. */
static bool regular(const mrt_var *a, const mrt_var *b) {
  const mrt_type *x = tensor_type(a), *y = tensor_type(b);
  if (!x || !y || x->rank < 2 || y->rank < 2) return false;
  return y->rank == 2 || (x->rank == y->rank && same_dims(x, y, x->rank - 2));
}

static bool is_q8(const mrt_node *n) {
  return strcmp(n->domain, "macart") == 0 && strcmp(n->op_type, "MatMulQ8") == 0;
}

static bool start(fused *f, mrt_node *n, int index) {
  *f = (fused){.product = n, .last = n, .drop = {n}, .n_drop = 1, .index = index, .alpha = 1};
  const bool gemm = is_op(n, "Gemm");
  if (is_q8(n) && n->provider == index && n->out[0]) {
    const mrt_type *y = tensor_type(n->out[0]);
    f->a = n->in[0].var;
    f->b = n->in[1].var;
    f->scale = n->in[2].var;
    return n->n_in == 3 && y && y->rank >= 2;
  }
  if ((!gemm && !is_op(n, "MatMul")) || n->provider != index || !n->out[0]) return false;
  f->a = n->in[0].var;
  f->b = n->in[1].var;
  if (!tensor_type(n->out[0]) || !regular(f->a, f->b)) return false;
  if (!gemm) return true;
  f->alpha = mrt_node_float(n, "alpha");
  f->trans_a = mrt_node_int(n, "transA") != 0;
  f->trans_b = mrt_node_int(n, "transB") != 0;
  f->bias = n->n_in > 2 ? n->in[2].var : NULL;
  if (f->bias && mrt_node_float(n, "beta") == 0) f->bias = NULL;
  return !f->bias || (mrt_node_float(n, "beta") == 1 && is_row(f->bias, n->out[0]->type));
}

/* A product that reads x [.., k] as rows, and whose result goes back to x's leading dims. */
static void take_reshapes(fused *f) {
  mrt_node *front = f->a->producer, *back = only_user(f, tail(f));
  if ((!is_op(f->product, "Gemm") && !f->scale) || f->trans_a || !is_op(front, "Reshape") ||
      !is_op(back, "Reshape") || back->in[0].var != tail(f) || front->graph != f->product->graph ||
      front->provider != f->index || f->residual)
    return;
  const mrt_type *x = tensor_type(front->in[0].var), *a = tensor_type(f->a),
                 *y = tensor_type(back->out[0]), *rows = tensor_type(tail(f));
  if (!x || !a || !y || !rows || x->rank < 2 || y->rank != x->rank || a->rank != 2 ||
      !same_dims(x, y, x->rank - 1) || !x->dims[x->rank - 1] ||
      x->dims[x->rank - 1] != a->dims[1] || !rows->dims[1] || y->dims[y->rank - 1] != rows->dims[1])
    return;
  if (f->a->n_uses == 1 && !f->a->n_graph_outputs) f->drop[f->n_drop++] = front;
  f->a = front->in[0].var;
  f->flat = true;
  take(f, back);
}

/* Nodes whose results nobody wants: the shapes that Reshapes were given. */
static void sweep(mrt_graph *g, int index) {
  for (mrt_node *n = g->last, *prev; n; n = prev) {
    bool wanted = n->provider != index;
    prev = n->prev;
    for (int i = 0; i < n->n_out; ++i)
      wanted |= n->out[i] && (n->out[i]->n_uses || n->out[i]->n_graph_outputs);
    if (!wanted) mrt_node_remove(n);
  }
}

static mrt_status *set_product_attrs(const fused *f, mrt_node *n) {
  MRT_TRY(mrt_node_set_int(n, "transA", f->trans_a));
  MRT_TRY(mrt_node_set_int(n, "transB", f->trans_b));
  return mrt_node_set_float(n, "alpha", f->alpha);
}

static mrt_status *replace(fused *f, const mrt_op_table *ops) {
  const mrt_node *product = f->product;
  mrt_var *in[5] = {f->a, f->b}, *out;
  mrt_node *n;
  int n_in = 2;
  if (f->scale) in[n_in++] = f->scale;
  in[n_in] = f->bias;
  in[n_in + 1] = f->residual;
  n_in += f->residual ? 2 : f->bias ? 1 : 0;
  MRT_TRY(mrt_graph_insert(product->graph, f->last, ops, "macart", f->scale ? "MatMulQ8" : "MatMul",
                           n_in, in, tail(f)->type, &n, &out));
  n->name = product->name;
  n->orig_op = product->orig_op;
  n->orig_version = product->orig_version;
  if (!f->scale) MRT_TRY(set_product_attrs(f, n));
  if (f->act.op != MRT_EW_COPY) {
    const mrt_attr params = {.name = "activation_params",
                             .kind = MRT_ATTR_FLOATS,
                             .n = (size_t)mrt_ew_op_params(f->act.op),
                             .floats = f->act.p};
    MRT_TRY(mrt_node_set_str(n, "activation", mrt_act_name(&f->act)));
    MRT_TRY(mrt_node_set_attr(n, &params));
  }
  MRT_TRY(mrt_var_replace(tail(f), out));
  /* Readers before what they read. */
  for (int left = f->n_drop; left > 0;)
    for (int i = 0; i < f->n_drop; ++i) {
      mrt_node *d = f->drop[i];
      if (!d || (d->out[0] && d->out[0]->n_uses)) continue;
      mrt_node_remove(d);
      f->drop[i] = NULL;
      --left;
    }
  return NULL;
}

static void take_product_operands(fused *f) {
  take_transpose(f, &f->a, &f->trans_a);
  take_transpose(f, &f->b, &f->trans_b);
  take_scale(f);
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  bool flat = false;
  for (mrt_node *n = g->first, *next; n; n = next) {
    fused f;
    next = n->next;
    if (!start(&f, n, index)) continue;
    if (f.scale) take_sum(&f, true);
    take_reshapes(&f);
    if (!f.scale) take_product_operands(&f);
    take_sum(&f, true);
    take_sum(&f, false);
    take_sum(&f, true);
    take_activation(&f);
    if (f.n_drop == 1) continue;
    for (int i = 0; next && i < f.n_drop;) { /* go on behind everything that goes */
      if (f.drop[i] == next)
        next = next->next, i = 0;
      else
        ++i;
    }
    MRT_TRY(replace(&f, p->env->ops));
    flat |= f.flat;
    ++*fired;
  }
  if (flat) sweep(g, index);
  return NULL;
}

MRT_FUSION(matmul_epilogue) = {
    .name = "matmul_epilogue",
    .doc = "products with Transpose, scale, bias, residual sum and activation",
    .order = 20,
    .level = 2,
    .run = run};
