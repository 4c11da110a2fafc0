/* x * clip(x + 3, 0, 6) / 6, as exporters for older opsets spell it, becomes HardSwish: one node
 * that a convolution takes into its epilogue. The division may stand before or behind the product,
 * or be a multiplication by 1/6. */
#include <math.h>
#include <string.h>

#include "pass/pass.h"

static mrt_node *made_by(const mrt_var *v, const mrt_graph *g, const char *op) {
  mrt_node *n = v ? v->producer : NULL;
  return n && n->graph == g && !*n->domain && strcmp(n->op_type, op) == 0 && n->n_out == 1 ? n
                                                                                           : NULL;
}
/* The same, of a value that nobody else reads. */
static mrt_node *inner(const mrt_var *v, const mrt_graph *g, const char *op) {
  return v && v->n_uses == 1 && v->n_graph_outputs == 0 ? made_by(v, g, op) : NULL;
}
/* A constant of one element, of no higher rank than x. */
static bool is_number(const mrt_node *n, int i, double want, const mrt_type *x) {
  const mrt_tensor *t = i < n->n_in && n->in[i].var ? n->in[i].var->constant : NULL;
  if (!t || t->strided || !mrt_dtype_is_float((mrt_dtype)t->dtype) || mrt_tensor_count(t) != 1 ||
      t->rank > x->rank)
    return false;
  return fabs(mrt_elem_get_f64((mrt_dtype)t->dtype, t->data, 0) - want) <=
         1e-3 * fabs(want) * (t->dtype == MRT_FLOAT || t->dtype == MRT_DOUBLE ? 1e-3 : 1);
}
/* n is value / 6 or value * (1/6): the value. */
static mrt_var *sixth_of(const mrt_node *n, const mrt_type *x) {
  if (n->n_in != 2) return NULL;
  if (strcmp(n->op_type, "Div") == 0) return is_number(n, 1, 6, x) ? n->in[0].var : NULL;
  if (strcmp(n->op_type, "Mul") != 0) return NULL;
  if (is_number(n, 1, 1.0 / 6, x)) return n->in[0].var;
  return is_number(n, 0, 1.0 / 6, x) ? n->in[1].var : NULL;
}

typedef struct found {
  mrt_node *drop[4]; /* the last one first */
  int n;
} found;
/* v is clip(x + 3, 0, 6)? */
static bool is_clip(const mrt_var *v, const mrt_var *x, const mrt_graph *g, found *f) {
  mrt_node *clip = inner(v, g, "Clip"), *add = clip ? inner(clip->in[0].var, g, "Add") : NULL;
  if (!add || clip->n_in != 3 || !is_number(clip, 2, 6, x->type) || !clip->in[1].var) return false;
  const mrt_tensor *low = clip->in[1].var->constant;
  if (!low || low->strided || mrt_tensor_count(low) != 1 ||
      mrt_elem_get_f64((mrt_dtype)low->dtype, low->data, 0) != 0)
    return false;
  const int k = add->in[0].var == x ? 1 : 0;
  if (add->in[1 - k].var != x || !is_number(add, k, 3, x->type)) return false;
  f->drop[f->n++] = clip;
  f->drop[f->n++] = add;
  return true;
}
/* n is x * other: x, tried at both places. */
static bool is_gate(const mrt_node *n, int k, mrt_var **x, mrt_var **other) {
  *x = n->in[k].var;
  *other = n->in[1 - k].var;
  return n->n_in == 2 && *x && *other && (*x)->type && (*x)->type->kind == MRT_KIND_TENSOR &&
         (*x)->type->rank >= 0 && mrt_dtype_is_float((*x)->type->dtype);
}
/* The whole pattern ending in n; x is what it is of. */
static bool match(mrt_node *n, const mrt_graph *g, mrt_var **x, found *f) {
  mrt_var *other;
  for (int k = 0; k < 2; ++k) {
    /* (x * clip) / 6 */
    const mrt_type *any = n->out[0]->type;
    mrt_var *product = any && any->kind == MRT_KIND_TENSOR ? sixth_of(n, any) : NULL;
    mrt_node *gate = inner(product, g, "Mul");
    *f = (found){.drop = {n, gate}, .n = 2};
    if (gate && is_gate(gate, k, x, &other) && is_clip(other, *x, g, f)) return true;
    /* x * (clip / 6) */
    *f = (found){.drop = {n}, .n = 1};
    if (strcmp(n->op_type, "Mul") != 0 || !is_gate(n, k, x, &other)) continue;
    mrt_node *scale = inner(other, g, "Div");
    if (!scale) scale = inner(other, g, "Mul");
    if (!scale) continue;
    f->drop[f->n++] = scale;
    if (is_clip(sixth_of(scale, (*x)->type), *x, g, f)) return true;
  }
  return false;
}
static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    mrt_var *x, *out;
    mrt_node *made;
    found f;
    next = n->next;
    if (*n->domain || n->n_out != 1 || !n->out[0] || n->n_in != 2 || !match(n, g, &x, &f)) continue;
    MRT_TRY(mrt_graph_insert(g, n, ctx->ops, "", "HardSwish", 1, &x, x->type, &made, &out));
    MRT_TRY(mrt_var_replace(n->out[0], out));
    for (int i = 0; i < f.n; ++i) mrt_node_remove(f.drop[i]);
    ++*fired;
  }
  return NULL;
}

MRT_PASS(hard_swish) = {
    .name = "hard_swish", .doc = "x * clip(x + 3, 0, 6) / 6 as HardSwish", .level = 2, .run = run};
