/* Constants that nothing in the graph reads any more: weights from before a fold or a
 * transposition, what fusions took in. Their memory goes before kernels are made. Readers are
 * counted on the tensors themselves; one with more than one reference has an owner elsewhere and is
 * left alone. Those that only subgraphs read are marked. */
#include "ir/ir.h"

enum { MANY = MRT_MANY_READERS };

static bool ours(const mrt_tensor *t) { return t && atomic_load(&t->base.refs) == 1; }

static void count(mrt_tensor *t, size_t n) {
  if (ours(t)) t->readers = (uint8_t)(n + t->readers < MANY ? n + t->readers : MANY);
}

static void count_attrs(const mrt_node *node) {
  for (int i = 0; i < node->n_attrs; ++i) {
    const mrt_attr *a = &node->attrs[i];
    if (a->kind == MRT_ATTR_TENSOR) count(a->tensor, MANY);
    for (size_t k = 0; a->kind == MRT_ATTR_TENSORS && k < a->n; ++k) count(a->tensors[k], MANY);
  }
}

/* Does a node outside of subgraphs read it? */
static bool is_read_outside(const mrt_var *v) {
  for (size_t i = 0; i < v->n_uses; ++i)
    if (!v->uses[i].node->graph->owner) return true;
  return false;
}

static void count_graph(mrt_graph *g, int depth) {
  for (size_t i = 0; i < g->n_vars; ++i) {
    const mrt_var *v = g->vars[i];
    count(v->constant, v->n_graph_outputs || v->is_input ? MANY : v->n_uses);
    if (ours(v->constant) && is_read_outside(v))
      v->constant->base.flags &= (uint8_t)~MRT_VALUE_NESTED;
  }
  for (const mrt_node *node = g->first; node; node = node->next) {
    mrt_graph *subs[64];
    count_attrs(node);
    const int k = mrt_node_subgraphs(node, subs, 64);
    for (int i = 0; i < k && i < 64 && depth < 64; ++i) count_graph(subs[i], depth + 1);
  }
}

mrt_status *mrt_model_sweep(mrt_model *m, mrt_tensor *const *keep, int n_keep) {
  size_t n;
  MRT_TRY(mrt_model_own_once(m));
  mrt_value *const *owned = mrt_model_owned(m, &n);
  for (size_t i = 0; i < n; ++i) {
    mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (!ours(t)) continue;
    t->readers = 0;
    t->base.flags |= MRT_VALUE_NESTED;
  }
  count_graph(m->graph, 0);
  for (int i = 0; i < n_keep; ++i) count(keep[i], MANY);
  for (size_t i = 0; i < n; ++i) {
    mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (ours(t) && !t->readers) mrt_tensor_forget(t);
  }
  return NULL;
}

/* Made again by the kernels' side, one at a time. */
static bool can_wait(const mrt_tensor *t) {
  return t && ours(t) && t->recipe && !mrt_tensor_is_forgotten(t) && t->readers &&
         t->readers < MANY && !t->strided &&
         mrt_tensor_may_be_later((mrt_dtype)t->dtype, t->rank, t->dims);
}

void mrt_model_postpone(mrt_model *m, size_t most) {
  size_t n, bytes = 0;
  mrt_value *const *owned = mrt_model_owned(m, &n);
  for (size_t i = 0; i < n && bytes <= most; ++i) {
    const mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (can_wait(t)) bytes += t->bytes; /* sums of what is in memory */
  }
  for (size_t i = 0; i < n && bytes <= most; ++i) {
    mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (can_wait(t)) mrt_tensor_unload(t);
  }
}

mrt_status *mrt_model_settle(mrt_model *m) {
  size_t n;
  mrt_value *const *owned = mrt_model_owned(m, &n);
  for (size_t i = 0; i < n; ++i) {
    const mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (t) MRT_TRY(mrt_tensor_keep(t));
  }
  for (size_t i = 0; i < n; ++i) {
    const mrt_tensor *t = mrt_value_tensor(owned[i]);
    if (t) MRT_TRY(mrt_tensor_settle(t));
  }
  return NULL;
}
