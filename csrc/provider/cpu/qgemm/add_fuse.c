/* QLinearAdd behind a QLinearConv whose result nobody else reads: macart.QLinearConvAdd, the sum
 * made while the convolution's results are in registers. After the images have become NHWC. */
#include <string.h>

#include "provider/cpu/qgemm/qdq.h"

static bool same_dims(const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a->kind != MRT_KIND_TENSOR || b->kind != MRT_KIND_TENSOR || a->rank != b->rank ||
      a->rank != 4 || a->dtype != b->dtype)
    return false;
  for (int i = 0; i < 4; ++i)
    if (a->dims[i] != b->dims[i]) return false;
  return true;
}
static bool is_one(const mrt_node *n, int i) {
  const mrt_tensor *t = mrt_node_in_const(n, i);
  return t && mrt_tensor_count(t) == 1;
}

/* A dense convolution with int8 weights without zero points: what qdirect.h computes. */
static bool fits(const mrt_node *conv) {
  if (strcmp(conv->op_type, "QLinearConv") != 0 || !mrt_node_int(conv, "channels_last") ||
      mrt_node_int(conv, "group") != 1 || !is_one(conv, 6) || !is_one(conv, 7))
    return false;
  const mrt_tensor *w = mrt_node_in_const(conv, 3), *z = mrt_node_in_const(conv, 5);
  if (!w || w->dtype != MRT_INT8 || w->rank != 4 || !z || z->strided) return false;
  for (int64_t i = 0; i < mrt_tensor_count(z); ++i)
    if (mrt_elem_get_i64((mrt_dtype)z->dtype, z->data, i)) return false;
  return true;
}

/* Nobody reads what it gives: left over from other fusions, the dead code goes later. */
bool mrt_node_is_dead(const mrt_node *n, int depth) {
  for (int i = 0; i < n->n_out; ++i) {
    const mrt_var *v = n->out[i];
    if (!v) continue;
    if (v->n_graph_outputs || depth == 0) return false;
    for (size_t k = 0; k < v->n_uses; ++k)
      if (!mrt_node_is_dead(v->uses[k].node, depth - 1)) return false;
  }
  return true;
}
void mrt_node_remove_dead(mrt_node *n) {
  for (int i = 0; i < n->n_out; ++i)
    while (n->out[i] && n->out[i]->n_uses) mrt_node_remove_dead(n->out[i]->uses[0].node);
  mrt_node_remove(n);
}
/* The producer of v if, the dead aside, only `add` reads it. */
static mrt_node *producer_for(const mrt_var *v, const mrt_node *add, int index) {
  if (!v->producer || v->producer->provider != index || v->n_graph_outputs) return NULL;
  for (size_t k = 0; k < v->n_uses; ++k)
    if (v->uses[k].node != add && !mrt_node_is_dead(v->uses[k].node, 4)) return NULL;
  return add->in[0].var == add->in[3].var ? NULL : v->producer;
}

/* The convolution in front of operand 0 or 3; *other: the other operand. */
static mrt_node *convolution(const mrt_node *add, int index, int *other) {
  for (int i = 0; i < 2; ++i) {
    mrt_node *conv = producer_for(add->in[3 * i].var, add, index);
    if (!conv || !fits(conv)) continue;
    if (conv->in[6].var->constant->dtype != MRT_FLOAT ||
        *(const float *)conv->in[6].var->constant->data !=
            *(const float *)add->in[3 * i + 1].var->constant->data ||
        mrt_elem_get_i64((mrt_dtype)conv->in[7].var->constant->dtype,
                         conv->in[7].var->constant->data,
                         0) != mrt_elem_get_i64((mrt_dtype)add->in[3 * i + 2].var->constant->dtype,
                                                add->in[3 * i + 2].var->constant->data, 0))
      continue;
    *other = 3 * (1 - i);
    return conv;
  }
  return NULL;
}

static bool is_sum(const mrt_node *n, int index) {
  if (n->provider != index || strcmp(n->op_type, "QLinearAdd") != 0 || n->n_in != 8 ||
      (strcmp(n->domain, "macart") != 0 && strcmp(n->domain, "com.microsoft") != 0))
    return false;
  for (int i = 0; i < 8; ++i)
    if (!n->in[i].var || (i != 0 && i != 3 && !is_one(n, i))) return false;
  return mrt_node_in_dtype(n, 1) == MRT_FLOAT && same_dims(n->in[0].var->type, n->out[0]->type) &&
         same_dims(n->in[3].var->type, n->out[0]->type);
}

static mrt_status *fuse(const mrt_provider *p, mrt_node *add, mrt_node *conv, int other) {
  const mrt_attr *ends[2] = {mrt_node_attr(add, "lo"), mrt_node_attr(add, "hi")};
  mrt_var *in[5] = {add->in[other].var, add->in[other + 1].var, add->in[other + 2].var,
                    add->in[6].var, add->in[7].var};
  mrt_var *out = add->out[0], *was = conv->out[0], *sum;
  if (conv->n_in < 9) MRT_TRY(mrt_node_set_n_inputs(conv, 9));
  for (int i = 0; i < 5; ++i) MRT_TRY(mrt_node_set_input(conv, 9 + i, in[i]));
  MRT_TRY(mrt_node_set_op(conv, "macart", "QLinearConvAdd"));
  if (ends[0] && ends[1]) {
    MRT_TRY(mrt_node_set_int(conv, "add_lo", ends[0]->i));
    MRT_TRY(mrt_node_set_int(conv, "add_hi", ends[1]->i));
  }
  MRT_TRY(mrt_graph_add_var(add->graph, NULL, out->type, &sum));
  MRT_TRY(mrt_node_set_output(conv, 0, sum));
  MRT_TRY(mrt_var_replace(out, sum));
  mrt_node_move_before(conv, add);
  mrt_node_remove(add);
  while (was->n_uses) mrt_node_remove_dead(was->uses[0].node);
  return mrt_node_resolve(conv, p->env->ops);
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    int other = 0;
    next = n->next;
    mrt_node *conv = is_sum(n, index) ? convolution(n, index, &other) : NULL;
    if (!conv) continue;
    MRT_TRY(fuse(p, n, conv, other));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(conv_add) = {.name = "conv_add",
                        .doc = "QLinearAdd behind a QLinearConv as its last step",
                        .order = 72,
                        .level = 2,
                        .run = run};
