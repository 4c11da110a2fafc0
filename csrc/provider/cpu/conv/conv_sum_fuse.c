/* The sum of two 1x1 convolutions, as at the end of a residual block whose shortcut is projected,
 * is one convolution of both inputs side by side. The first one's wide result is not written and
 * read again for the sum, and the narrow inputs are mostly made where the Concat wants them
 * (mrt_kernel.joins). */
#include <string.h>

#include "provider/cpu/conv/conv_node.h"

enum { MOST_BYTES = 1 << 20 }; /* of weights, which are kept beside the file's */

typedef struct side {
  mrt_node *node;
  mrt_conv p;
  const mrt_tensor *w, *b; /* b: or NULL */
} side;

static bool is_op(const mrt_node *n, const char *op) {
  return n && !*n->domain && strcmp(n->op_type, op) == 0;
}

static bool same_type(const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a->dtype != b->dtype || a->rank != b->rank || a->rank != 4) return false;
  for (int i = 0; i < 4; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

static const mrt_tensor *floats_in(const mrt_node *n, int i) {
  const mrt_tensor *t = mrt_node_in_const(n, i);
  return t && !t->strided && t->dtype == MRT_FLOAT && !mrt_tensor_is_forgotten(t) ? t : NULL;
}

/* Is operand i of the sum a convolution of whole channel blocks that only moves pixels where they
 * are, and that nothing else reads? */
static bool read_side(const mrt_node *add, int i, side *s) {
  const mrt_var *v = add->in[i].var;
  mrt_conv *p = &s->p;
  int64_t loop;
  if (!v || v->n_uses != 1 || v->n_graph_outputs || !same_type(v->type, add->out[0]->type))
    return false;
  s->node = v->producer;
  if (!is_op(s->node, "Conv") || s->node->provider != add->provider ||
      s->node->graph != add->graph || !mrt_conv_node_read(s->node, p, &loop) || loop != 1)
    return false;
  const bool has_bias = s->node->n_in > 2 && s->node->in[2].var;
  s->w = floats_in(s->node, 1);
  s->b = has_bias ? floats_in(s->node, 2) : NULL;
  return s->w && (!has_bias || (s->b && mrt_tensor_count(s->b) == p->cout)) && p->groups == 1 &&
         p->kh * p->kw == 1 && p->stride_h * p->stride_w == 1 && p->cin % 16 == 0 &&
         !(p->pad_top | p->pad_left | p->pad_bottom | p->pad_right);
}

/* Both weights side by side, and the sum of both biases. */
static mrt_status *make_constants(mrt_graph *g, const side s[2], mrt_var **weights,
                                  mrt_var **bias) {
  const int64_t cout = s[0].p.cout, all = s[0].p.cin + s[1].p.cin;
  const int64_t dims[4] = {cout, all, 1, 1};
  mrt_tensor *t = NULL;
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_FLOAT, 4, dims, &t));
  for (int64_t o = 0; o < cout; ++o)
    for (int i = 0, at = 0; i < 2; at += (int)s[i++].p.cin)
      memcpy((float *)t->data + o * all + at, (const char *)s[i].w->data + o * s[i].p.cin * 4,
             (size_t)s[i].p.cin * 4);
  t->narrow = s[0].w->narrow == s[1].w->narrow ? s[0].w->narrow : 0;
  MRT_TRY(mrt_graph_add_constant(g, NULL, t, weights));
  MRT_TRY(mrt_tensor_create(g->model->alloc, MRT_FLOAT, 1, dims, &t));
  float *sum = t->data;
  memset(sum, 0, (size_t)cout * sizeof *sum);
  for (int i = 0; i < 2; ++i)
    for (int64_t o = 0; o < cout && s[i].b; ++o) {
      float x; /* constants may lie at any alignment */
      memcpy(&x, (const char *)s[i].b->data + o * 4, sizeof x);
      sum[o] += x;
    }
  return mrt_graph_add_constant(g, NULL, t, bias);
}

/* The Concat of both inputs, before `add`. */
static mrt_status *join_inputs(const mrt_provider *p, mrt_node *add, const side s[2],
                               mrt_var **out) {
  mrt_graph *g = add->graph;
  mrt_var *in[2] = {s[0].node->in[0].var, s[1].node->in[0].var};
  const mrt_type *x = in[0]->type;
  const mrt_expr *all = mrt_expr_const(g->model->sym, s[0].p.cin + s[1].p.cin);
  const mrt_expr *dims[4] = {x->dims[0], all, x->dims[2], x->dims[3]};
  const mrt_type *type = all ? mrt_type_tensor(g->model, MRT_FLOAT, 4, dims) : NULL;
  mrt_node *n;
  if (!type) return mrt_status_oom();
  MRT_TRY(mrt_graph_add_var(g, NULL, type, out));
  MRT_TRY(mrt_graph_add_node(g, add, "", "Concat", NULL, 2, in, 1, out, &n));
  n->name = add->name;
  n->provider = add->provider;
  MRT_TRY(mrt_node_set_int(n, "axis", 1));
  return mrt_node_resolve(n, p->env->ops);
}

static mrt_status *replace(const mrt_provider *p, mrt_node *add, const side s[2]) {
  mrt_var *operands[3], *out;
  mrt_node *conv;
  MRT_TRY(make_constants(add->graph, s, &operands[1], &operands[2]));
  MRT_TRY(join_inputs(p, add, s, &operands[0]));
  MRT_TRY(mrt_graph_insert(add->graph, add, p->env->ops, "", "Conv", 3, operands, add->out[0]->type,
                           &conv, &out));
  conv->name = s[0].node->name;
  MRT_TRY(mrt_var_replace(add->out[0], out));
  mrt_node_remove(add);
  for (int i = 0; i < 2; ++i) mrt_node_remove(s[i].node);
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    side s[2];
    next = n->next;
    if (!is_op(n, "Add") || n->provider != index || !n->out[0] || !read_side(n, 0, &s[0]) ||
        !read_side(n, 1, &s[1]))
      continue;
    const mrt_var *a = s[0].node->in[0].var, *b = s[1].node->in[0].var;
    const int64_t all = s[0].p.cin + s[1].p.cin, cout = s[0].p.cout;
    if (a == b || a->constant || b->constant || all > cout || all * cout * 4 > MOST_BYTES) continue;
    if (!a->type || !b->type || a->type->rank != 4 || b->type->rank != 4) continue;
    MRT_TRY(replace(p, n, s));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(conv_sum) = {
    .name = "conv_sum", .doc = "Conv 1x1 + Conv 1x1", .order = 9, .level = 2, .run = run};
