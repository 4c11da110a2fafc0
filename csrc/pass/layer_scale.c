/* A product's columns scaled by constants (ConvNeXt's layer scale): Mul(MatMul(x, W) + b, s), where
 * s is one value a column, multiplies W and b instead. What remains may be fused: bias, residual.
 */
#include <string.h>

#include "pass/pass.h"

static bool is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}
static mrt_node *only_user(const mrt_var *v) {
  return v && v->n_uses == 1 && !v->n_graph_outputs && v->uses[0].node->graph == v->graph
             ? v->uses[0].node
             : NULL;
}
/* Float32 constant of one value a column, [n] or [1, ..., n]. */
static const mrt_tensor *row_of(const mrt_var *v, int64_t n) {
  const mrt_tensor *t = v ? v->constant : NULL;
  return t && t->dtype == MRT_FLOAT && !t->strided && mrt_tensor_is_aligned(t) && t->rank > 0 &&
                 t->dims[t->rank - 1] == n && mrt_tensor_count(t) == n
             ? t
             : NULL;
}
static mrt_var *other_input(const mrt_node *n, const mrt_var *v) {
  return n->in[n->in[0].var == v ? 1 : 0].var;
}

/* Scaled weights, made now and, when they were given up after packing, again. */
typedef struct scaling {
  mrt_recipe base;
  const mrt_tensor *t;
  float *scale;
  bool rows; /* the first dim is scaled, else the last */
} scaling;

static mrt_status *make_scaled(const mrt_recipe *r, const mrt_alloc *alloc, mrt_tensor **out) {
  const scaling *s = (const scaling *)r;
  const mrt_tensor *t = s->t;
  mrt_tensor *again = NULL;
  if (!mrt_tensor_is_aligned(t)) MRT_TRY(mrt_tensor_again(alloc, t, &again));
  if (again) t = again;
  mrt_status *st = mrt_tensor_create(alloc, MRT_FLOAT, t->rank, t->dims, out);
  const int64_t n = t->dims[t->rank - 1], m = n ? mrt_tensor_count(t) / n : 0;
  for (int64_t i = 0; i < m && !st; ++i)
    for (int64_t k = 0; k < n; ++k)
      ((float *)(*out)->data)[i * n + k] =
          ((const float *)t->data)[i * n + k] * s->scale[s->rows ? i : k];
  mrt_tensor_release(again);
  mrt_tensor_drop_pages(s->t);
  return st;
}
static bool can_scale(const mrt_recipe *r) { return mrt_tensor_is_intact(((const scaling *)r)->t); }
static bool scale_origin(const mrt_recipe *r, mrt_str *out) {
  const scaling *s = (const scaling *)r;
  const int64_t n = s->t->dims[s->rows ? 0 : s->t->rank - 1];
  mrt_str_add(out, s->rows ? "rows.1" : "columns.1");
  mrt_str_addn(out, (const char *)s->scale, (size_t)n * sizeof *s->scale);
  return mrt_tensor_origin(s->t, out);
}

/* t with its last dim, or else (`rows`) its first, multiplied by scale. */
static mrt_status *scaled(mrt_graph *g, mrt_tensor *t, const mrt_tensor *scale, bool rows,
                          mrt_var **out) {
  mrt_tensor *y = NULL;
  scaling *s = mrt_model_lasting(g->model, sizeof *s);
  if (!s) return mrt_status_oom();
  *s = (scaling){
      {make_scaled, can_scale, 1 + mrt_tensor_steps(t), scale_origin}, .t = t, .rows = rows};
  s->scale = mrt_arena_memdup(g->model->lasting, scale->data, scale->bytes);
  if (!s->scale) return mrt_status_oom();
  const bool keeps = s->base.steps <= MRT_RECIPE_STEPS;
  MRT_TRY(keeps && mrt_tensor_is_forgotten(t)
              ? mrt_tensor_create_later(g->model->alloc, MRT_FLOAT, t->rank, t->dims, &s->base, &y)
              : make_scaled(&s->base, g->model->alloc, &y));
  if (keeps) {
    mrt_tensor_is_ingredient(t);
    y->recipe = &s->base;
  }
  return mrt_graph_add_constant(g, NULL, y, out);
}

/* The product's own third input and one constant sum behind it. */
typedef struct product {
  mrt_tensor *w;
  bool rows; /* columns of the product are rows of w (Gemm, transB) */
  mrt_node *add;
  int add_row; /* which input of add */
  int64_t n;
} product;

static bool read_product(const mrt_node *p, product *out) {
  const bool gemm = is_op(p, "Gemm");
  if ((!gemm && !is_op(p, "MatMul")) || p->n_in < 2 || !p->in[1].var || !p->out[0]) return false;
  mrt_tensor *w = p->in[1].var->constant;
  if (!w || w->dtype != MRT_FLOAT || w->strided || w->rank != 2 || p->in[1].var->n_uses != 1)
    return false;
  *out = (product){.w = w, .rows = gemm && mrt_node_int(p, "transB")};
  out->n = w->dims[out->rows ? 0 : 1];
  if (gemm && p->n_in > 2 && p->in[2].var && !row_of(p->in[2].var, out->n)) return false;
  mrt_node *add = only_user(p->out[0]);
  if (is_op(add, "Add") && add->out[0]) {
    const int k = add->in[0].var == p->out[0] ? 1 : 0;
    if (!row_of(add->in[k].var, out->n)) return true;
    out->add = add;
    out->add_row = k;
  }
  return true;
}

static mrt_status *try_product(mrt_node *p, int *fired) {
  product q;
  if (!read_product(p, &q)) return NULL;
  mrt_var *y = q.add ? q.add->out[0] : p->out[0], *v;
  mrt_node *mul = only_user(y);
  if (!is_op(mul, "Mul") || !mul->out[0]) return NULL;
  const mrt_tensor *s = row_of(other_input(mul, y), q.n);
  if (!s || s->rank > (y->type ? y->type->rank : 1)) return NULL;
  MRT_TRY(scaled(p->graph, q.w, s, q.rows, &v));
  MRT_TRY(mrt_node_set_input(p, 1, v));
  if (p->n_in > 2 && p->in[2].var) {
    MRT_TRY(scaled(p->graph, p->in[2].var->constant, s, false, &v));
    MRT_TRY(mrt_node_set_input(p, 2, v));
  }
  if (q.add) {
    MRT_TRY(scaled(p->graph, q.add->in[q.add_row].var->constant, s, false, &v));
    MRT_TRY(mrt_node_set_input(q.add, q.add_row, v));
  }
  MRT_TRY(mrt_var_replace(mul->out[0], y));
  mrt_node_remove(mul);
  ++*fired;
  return NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  (void)ctx;
  for (mrt_node *n = g->first; n; n = n->next) MRT_TRY(try_product(n, fired));
  return NULL;
}

MRT_PASS(layer_scale) = {.name = "layer_scale",
                         .doc = "columns of a product scaled by constants: into its weights",
                         .level = 1,
                         .run = run};
