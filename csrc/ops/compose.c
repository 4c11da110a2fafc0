/* See compose.h. */
#include "ops/compose.h"

static void note(mrt_compose *b, mrt_status *st) {
  if (b->st)
    mrt_status_free(st);
  else
    b->st = st;
}

mrt_var *mrt_compose_in(const mrt_compose *b, int i) {
  return i < b->node->n_in ? b->node->in[i].var : NULL;
}
bool mrt_compose_wants(const mrt_compose *b, int out) {
  const mrt_var *v = out < b->node->n_out ? b->node->out[out] : NULL;
  return v && (v->n_uses > 0 || v->n_graph_outputs > 0);
}

/* Attributes of the last node are complete: it is resolved. */
static void flush(mrt_compose *b) {
  if (b->pending && !b->st) note(b, mrt_node_resolve(b->last, b->ops));
  b->pending = false;
}

mrt_var *mrt_compose_op_of(mrt_compose *b, const char *domain, const char *op, int n_in,
                           mrt_var *const *in) {
  mrt_var *out = NULL;
  mrt_graph *g = b->node->graph;
  flush(b);
  if (b->st) return NULL;
  while (n_in > 0 && !in[n_in - 1]) --n_in;
  note(b, mrt_graph_add_var(g, NULL, NULL, &out));
  if (!b->st)
    note(b, mrt_graph_add_node(g, b->node, domain, op, b->node->name, n_in, in, 1, &out, &b->last));
  b->pending = !b->st;
  return b->st ? NULL : out;
}
mrt_var *mrt_compose_op(mrt_compose *b, const char *op, int n_in, mrt_var *const *in) {
  return mrt_compose_op_of(b, "", op, n_in, in);
}
mrt_var *mrt_compose_1(mrt_compose *b, const char *op, mrt_var *x) {
  return mrt_compose_op(b, op, 1, &x);
}
mrt_var *mrt_compose_2(mrt_compose *b, const char *op, mrt_var *x, mrt_var *y) {
  return mrt_compose_op(b, op, 2, (mrt_var *[]){x, y});
}
mrt_var *mrt_compose_out(mrt_compose *b, int i) {
  mrt_var *v = NULL;
  if (b->st) return NULL;
  note(b, mrt_graph_add_var(b->node->graph, NULL, NULL, &v));
  if (!b->st) note(b, mrt_node_set_output(b->last, i, v));
  return b->st ? NULL : v;
}
void mrt_compose_int(mrt_compose *b, const char *name, int64_t v) {
  if (!b->st) note(b, mrt_node_set_int(b->last, name, v));
}
void mrt_compose_float(mrt_compose *b, const char *name, float v) {
  if (!b->st) note(b, mrt_node_set_float(b->last, name, v));
}
void mrt_compose_str(mrt_compose *b, const char *name, const char *v) {
  if (!b->st) note(b, mrt_node_set_str(b->last, name, v));
}
void mrt_compose_copy_attr(mrt_compose *b, const char *name) {
  const mrt_attr *a = b->st ? NULL : mrt_node_attr(b->node, name);
  if (a) note(b, mrt_node_set_attr(b->last, a));
}
mrt_var *mrt_compose_ints(mrt_compose *b, int n, const int64_t *v) {
  mrt_var *out = NULL;
  if (!b->st) note(b, mrt_graph_const_i64(b->node->graph, n, v, &out));
  return out;
}
mrt_var *mrt_compose_f32(mrt_compose *b, float v) {
  mrt_var *out = NULL;
  if (!b->st) note(b, mrt_graph_const_f32(b->node->graph, v, &out));
  return out;
}
void mrt_compose_fail(mrt_compose *b, const char *what) {
  note(b, MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: %s", b->node->op_type, what));
}
void mrt_compose_set(mrt_compose *b, int out, mrt_var *v) {
  flush(b);
  if (b->st || !v || out >= b->node->n_out || !b->node->out[out]) return;
  note(b, mrt_var_replace(b->node->out[out], v));
}
mrt_status *mrt_compose_end(mrt_compose *b) {
  flush(b);
  if (!b->st) mrt_node_remove(b->node);
  return b->st;
}
