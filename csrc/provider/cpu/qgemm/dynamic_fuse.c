/* Products of dynamically quantised activations: MatMulInteger, Cast to float, Mul by both scales
 * and Add of a bias are one MatMulIntegerToFloat; with the DynamicQuantizeLinear in front, where
 * nobody else reads it, one DynamicQuantizeMatMul. */
#include <string.h>

#include "provider/cpu/qgemm/qdq.h"

typedef struct product {
  mrt_node *mm, *cast, *scale, *scales, *add, *quantize; /* scales: Mul of the two factors */
  mrt_var *a_scale, *b_scale, *bias;
} product;

static const mrt_tensor *constant_of(const mrt_var *v) { return v ? v->constant : NULL; }

static bool is_scalar(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  if (constant_of(v)) return mrt_tensor_count(v->constant) == 1;
  return t && t->kind == MRT_KIND_TENSOR && t->rank == 0;
}

/* A constant float vector of n elements, or of one. */
static bool is_row(const mrt_var *v, int64_t n) {
  const mrt_tensor *t = constant_of(v);
  return t && t->dtype == MRT_FLOAT &&
         (mrt_tensor_count(t) == 1 || (t->rank == 1 && t->dims[0] == n));
}

static bool read_factors(product *p, int index, int64_t n) {
  mrt_var *in[2] = {p->scale->in[0].var, p->scale->in[1].var};
  mrt_var *factors = in[in[0] == p->cast->out[0] ? 1 : 0];
  p->scales = mrt_sole_producer(factors, index);
  if (!mrt_is_op(p->scales, "Mul")) return false;
  for (int i = 0; i < 2; ++i) {
    p->a_scale = p->scales->in[i].var;
    p->b_scale = p->scales->in[1 - i].var;
    if (is_row(p->b_scale, n) && !constant_of(p->a_scale) && is_scalar(p->a_scale)) return true;
  }
  return false;
}

static void read_bias(product *p, int64_t n) {
  mrt_node *add = mrt_sole_user(p->scale->out[0]);
  if (!mrt_is_op(add, "Add") || !add->in[0].var || !add->in[1].var) return;
  mrt_var *other = add->in[add->in[0].var == p->scale->out[0] ? 1 : 0].var;
  if (!is_row(other, n) || mrt_tensor_count(other->constant) != n) return;
  p->add = add;
  p->bias = other;
}

/* The quantisation in front, if all of it is for this product. */
static void read_quantize(product *p, int index) {
  mrt_node *q = p->mm->in[0].var->producer;
  if (!mrt_is_op(q, "DynamicQuantizeLinear") || q->provider != index || q->n_out != 3) return;
  if (p->mm->n_in < 3 || q->out[1] != p->a_scale || q->out[2] != p->mm->in[2].var) return;
  for (int i = 0; i < 3; ++i)
    if (!q->out[i] || !mrt_sole_user(q->out[i])) return;
  p->quantize = q;
}

static bool read_product(mrt_node *n, int index, product *p) {
  const mrt_tensor *b = mrt_node_in_const(n, 1);
  *p = (product){.mm = n};
  if (n->provider != index || !mrt_is_op(n, "MatMulInteger") || !b || b->rank != 2) return false;
  p->cast = mrt_sole_user(n->out[0]);
  if (!mrt_is_op(p->cast, "Cast") || mrt_node_int(p->cast, "to") != MRT_FLOAT) return false;
  p->scale = mrt_sole_user(p->cast->out[0]);
  if (!mrt_is_op(p->scale, "Mul") || !p->scale->in[0].var || !p->scale->in[1].var) return false;
  const mrt_tensor *zero = mrt_node_in_const(n, 3);
  if (n->n_in > 3 && n->in[3].var && !zero) return false;
  if (n->n_in > 2 && n->in[2].var && !is_scalar(n->in[2].var)) return false;
  if (!read_factors(p, index, b->dims[1])) return false;
  read_bias(p, b->dims[1]);
  read_quantize(p, index);
  return true;
}

static mrt_status *replace(const product *p, const mrt_op_table *ops, int index) {
  mrt_node *last = p->add ? p->add : p->scale, *made;
  const mrt_node *mm = p->mm;
  mrt_var *az = mm->n_in > 2 ? mm->in[2].var : NULL, *bz = mm->n_in > 3 ? mm->in[3].var : NULL;
  mrt_var *whole[5] = {p->quantize ? p->quantize->in[0].var : NULL, mm->in[1].var, p->b_scale, bz,
                       p->bias};
  mrt_var *half[7] = {mm->in[0].var, mm->in[1].var, p->a_scale, p->b_scale, az, bz, p->bias};
  mrt_var *out;
  MRT_TRY(mrt_graph_insert(last->graph, last, ops, "com.microsoft",
                           p->quantize ? "DynamicQuantizeMatMul" : "MatMulIntegerToFloat",
                           p->quantize ? 5 : 7, p->quantize ? whole : half, last->out[0]->type,
                           &made, &out));
  made->provider = index;
  MRT_TRY(mrt_var_replace(last->out[0], out));
  mrt_node *const gone[6] = {p->add, p->scale, p->scales, p->cast, p->mm, p->quantize};
  for (int i = 0; i < 6; ++i)
    if (gone[i]) mrt_node_remove(gone[i]);
  return NULL;
}

static mrt_status *run(const mrt_provider *pr, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    product p;
    next = n->next;
    if (!read_product(n, index, &p)) continue;
    while (next && (next == p.cast || next == p.scale || next == p.scales || next == p.add))
      next = next->next;
    MRT_TRY(replace(&p, pr->env->ops, index));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(dynamic_matmul) = {.name = "dynamic_matmul",
                              .doc = "dynamically quantised products as one operator",
                              .order = 3,
                              .level = 2,
                              .run = run};
