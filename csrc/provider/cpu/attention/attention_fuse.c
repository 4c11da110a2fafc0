/* Finds attention as exporters write it, from its Softmax: scores from a MatMul, scaled before or
 * after it, a mask added, the result multiplied by v. Transposes that only bring heads to the front
 * are read through; one that puts them back is taken in. */
#include <string.h>

#include "provider/cpu/cpu.h"

typedef struct found {
  mrt_node *nodes[20]; /* all nodes that go, last first */
  int n;
  mrt_var *q, *k, *v, *mask;
  mrt_node *cache[2]; /* Concats of past and new keys and values; both or none */
  const char *q_layout, *k_layout, *v_layout, *out_layout;
  float scale;
} found;

static mrt_node *maker(const mrt_var *v, const char *op, int index) {
  mrt_node *n = v ? v->producer : NULL;
  return n && n->graph == v->graph && n->provider == index && !*n->domain &&
                 strcmp(n->op_type, op) == 0
             ? n
             : NULL;
}

static bool single_use(const mrt_var *v) { return v->n_uses == 1 && v->n_graph_outputs == 0; }

static const mrt_type *f32_type(const mrt_var *v) {
  const mrt_type *t = v ? v->type : NULL;
  return t && t->kind == MRT_KIND_TENSOR && t->dtype == MRT_FLOAT && t->rank >= 0 ? t : NULL;
}

static bool same_dims(const mrt_var *a, const mrt_var *b) {
  const mrt_type *x = f32_type(a), *y = f32_type(b);
  if (!x || !y || x->rank != y->rank) return false;
  for (int i = 0; i < x->rank; ++i)
    if (!x->dims[i] || x->dims[i] != y->dims[i]) return false;
  return true;
}

static bool scalar(const mrt_var *v, float *out) {
  const mrt_tensor *t = v ? v->constant : NULL;
  if (!t || t->dtype != MRT_FLOAT || t->strided || mrt_tensor_count(t) != 1) return false;
  *out = *(const float *)t->data;
  return true;
}

static bool perm_is(const mrt_node *n, int a, int b, int c, int d) {
  const int64_t want[4] = {a, b, c, d};
  int k;
  const int64_t *perm = mrt_node_ints(n, "perm", &k);
  return k == 4 && memcmp(perm, want, sizeof want) == 0;
}

/* v = x * c or x / c with a known c: x, and the factor multiplied in. NULL: it is not so. */
static mrt_var *unscaled(mrt_var *v, int index, float *scale, mrt_node **node) {
  float c;
  if (!v || !single_use(v)) return NULL;
  for (int div = 0; div < 2; ++div) {
    mrt_node *n = maker(v, div ? "Div" : "Mul", index);
    if (!n || n->n_in != 2) continue;
    for (int i = 0; i < 2 - div; ++i)
      if (scalar(n->in[1 - i].var, &c) && same_dims(n->in[i].var, v)) {
        if (div && c == 0) return NULL;
        *scale = div ? *scale / c : *scale * c;
        *node = n;
        return n->in[i].var;
      }
  }
  return NULL;
}

/* Scale factors in front of the product (torch splits the scale between q and k). */
static mrt_var *peel_scale(mrt_var *v, int index, found *f) {
  mrt_node *n;
  mrt_var *x = unscaled(v, index, &f->scale, &n);
  if (!x || f->n >= 15) return v;
  f->nodes[f->n++] = n;
  return x;
}

/* Reads through Transposes; `layout` in: of v itself. They go when nobody else reads them, which
 * dead code removal cannot do any more at this point. */
static mrt_var *peel_transpose(mrt_var *v, int index, const char **layout, found *f) {
  for (int round = 0; round < 2; ++round) {
    mrt_node *n = maker(v, "Transpose", index);
    const char *next = NULL;
    if (!n || !f32_type(n->in[0].var) || f32_type(n->in[0].var)->rank != 4) return v;
    if (strcmp(*layout, "BHSD") == 0) {
      if (perm_is(n, 0, 2, 1, 3)) next = "BSHD";
      if (perm_is(n, 0, 1, 3, 2)) next = "BHDS";
    } else if (strcmp(*layout, "BHDS") == 0) {
      if (perm_is(n, 0, 2, 3, 1)) next = "BSHD";
      if (perm_is(n, 0, 1, 3, 2)) next = "BHSD";
    }
    if (!next || f->n >= 15) return v;
    *layout = next;
    if (single_use(v)) f->nodes[f->n++] = n;
    v = n->in[0].var;
  }
  return v;
}

/* From the Softmax's input up to q, k and the mask. */
static bool find_scores(mrt_var *x, int index, found *f) {
  mrt_node *n = maker(x, "Add", index);
  mrt_var *scores = x;
  if (!single_use(x)) return false;
  if (n && n->n_in == 2) {
    for (int i = 0; i < 2 && !f->mask; ++i) {
      float unused = 1;
      mrt_node *node;
      mrt_var *v = n->in[i].var, *bare = unscaled(v, index, &unused, &node);
      const mrt_type *m = f32_type(n->in[1 - i].var);
      const mrt_type *s = f32_type(v);
      if (!m || !s || m->rank > s->rank || !single_use(v)) continue;
      if (!maker(v, "MatMul", index) && !(bare && maker(bare, "MatMul", index))) continue;
      f->mask = n->in[1 - i].var;
      scores = v;
    }
    if (!f->mask) return false;
    f->nodes[f->n++] = n;
  }
  scores = peel_scale(scores, index, f);
  n = maker(scores, "MatMul", index);
  if (!n || !single_use(scores)) return false;
  f->nodes[f->n++] = n;
  f->q = n->in[0].var;
  f->k = n->in[1].var;
  return true;
}

static bool operands_fit(const found *f, const mrt_var *out) {
  const mrt_type *q = f32_type(f->q), *k = f32_type(f->k), *v = f32_type(f->v), *y = f32_type(out);
  if (!q || !k || !v || !y || q->rank != k->rank || q->rank != v->rank) return false;
  return (q->rank == 4 || q->rank == 3) && y->rank == q->rank;
}

/* Leading dims of q, k and v must be equal: this operator does not broadcast them. */
static bool same_heads(const mrt_var *q, const mrt_var *k, const mrt_var *v) {
  const mrt_type *a = f32_type(q), *b = f32_type(k), *c = f32_type(v);
  if (!a || !b || !c || a->rank != b->rank || a->rank != c->rank || a->rank < 3) return false;
  for (int i = 0; i < a->rank - 2; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i] || a->dims[i] != c->dims[i]) return false;
  return true;
}

/* Fills f for the attention around this Softmax. */
static bool find_attention(mrt_node *soft, int index, found *f) {
  const mrt_type *t = f32_type(soft->out[0]);
  *f = (found){
      .scale = 1, .q_layout = "BHSD", .k_layout = "BHDS", .v_layout = "BHSD", .out_layout = "BHSD"};
  if (!t || mrt_node_int(soft, "_flatten") || !single_use(soft->out[0])) return false;
  const int64_t axis = mrt_node_int(soft, "axis");
  if (axis != -1 && axis != t->rank - 1) return false;
  mrt_node *mix = soft->out[0]->uses[0].node;
  if (soft->out[0]->uses[0].index != 0 || mix->graph != soft->graph || mix->provider != index ||
      *mix->domain || strcmp(mix->op_type, "MatMul") != 0)
    return false;
  mrt_var *out = mix->out[0];
  mrt_node *back = single_use(out) ? out->uses[0].node : NULL;
  if (back && back->graph == soft->graph && back->provider == index &&
      maker(back->out[0], "Transpose", index) && perm_is(back, 0, 2, 1, 3)) {
    f->nodes[f->n++] = back;
    f->out_layout = "BSHD";
  }
  f->nodes[f->n++] = mix;
  f->nodes[f->n++] = soft;
  f->v = mix->in[1].var;
  if (!find_scores(soft->in[0].var, index, f) || !same_heads(f->q, f->k, f->v)) return false;
  f->q = peel_scale(f->q, index, f);
  f->k = peel_scale(f->k, index, f);
  f->q = peel_transpose(f->q, index, &f->q_layout, f);
  if (strcmp(f->q_layout, "BHDS") == 0) return false;
  f->k = peel_transpose(f->k, index, &f->k_layout, f);
  f->q = peel_scale(f->q, index, f); /* Transposes sink through point-wise nodes */
  f->k = peel_scale(f->k, index, f);
  f->v = peel_transpose(f->v, index, &f->v_layout, f);
  return operands_fit(f, f->nodes[0]->out[0]);
}

/* The Concat of past and new positions that makes keys or values, which nothing else in the graph
 * reads before the attention; NULL. */
static mrt_node *cache_of(const found *f, mrt_var *v, int index) {
  mrt_node *n = maker(v, "Concat", index);
  const mrt_type *t = f32_type(v);
  if (!n || n->n_in != 2 || !t || t->rank != 4 || v->n_uses != 1) return NULL;
  const int64_t axis = mrt_node_int(n, "axis");
  if (axis != 2 && axis != -2) return NULL;
  for (int i = 0; i < 2; ++i)
    if (!f32_type(n->in[i].var) || f32_type(n->in[i].var)->rank != 4) return NULL;
  for (int i = 0; i < f->n; ++i)
    if (f->nodes[i] == v->uses[0].node) return n;
  return NULL;
}

static void find_cache(found *f, int index) {
  mrt_node *k = cache_of(f, f->k, index), *v = cache_of(f, f->v, index);
  if (!k || !v || k == v || strcmp(f->k_layout, "BHSD") != 0 || strcmp(f->v_layout, "BHSD") != 0)
    return;
  f->cache[0] = k;
  f->cache[1] = v;
  f->nodes[f->n++] = k;
  f->nodes[f->n++] = v;
  f->k = peel_transpose(k->in[1].var, index, &f->k_layout, f);
  f->v = peel_transpose(v->in[1].var, index, &f->v_layout, f);
}

static mrt_status *replace(const mrt_provider *p, const found *f) {
  mrt_node *last = f->nodes[0], *n;
  mrt_var *in[6] = {f->q, f->k, f->v, f->mask}, *out, *present;
  for (int i = 0; i < 2 && f->cache[i]; ++i) in[4 + i] = f->cache[i]->in[0].var;
  MRT_TRY(mrt_graph_insert(last->graph, last, p->env->ops, "macart", "Attention",
                           f->cache[0] ? 6
                           : f->mask   ? 4
                                       : 3,
                           in, last->out[0]->type, &n, &out));
  MRT_TRY(mrt_node_set_str(n, "q_layout", f->q_layout));
  MRT_TRY(mrt_node_set_str(n, "k_layout", f->k_layout));
  MRT_TRY(mrt_node_set_str(n, "v_layout", f->v_layout));
  MRT_TRY(mrt_node_set_str(n, "out_layout", f->out_layout));
  MRT_TRY(mrt_node_set_float(n, "scale", f->scale));
  MRT_TRY(mrt_var_replace(last->out[0], out));
  for (int i = 0; i < 2 && f->cache[i]; ++i) {
    mrt_var *old = f->cache[i]->out[0];
    MRT_TRY(mrt_graph_add_var(last->graph, NULL, old->type, &present));
    MRT_TRY(mrt_node_set_output(n, 1 + i, present));
    MRT_TRY(mrt_var_replace(old, present));
  }
  for (int i = 0; i < f->n; ++i) mrt_node_remove(f->nodes[i]);
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    found f;
    next = n->next;
    if (n->provider != index || *n->domain || strcmp(n->op_type, "Softmax") != 0 ||
        !find_attention(n, index, &f))
      continue;
    find_cache(&f, index);
    while (next) { /* go on behind everything that goes */
      int i = 0;
      while (i < f.n && f.nodes[i] != next) ++i;
      if (i == f.n) break;
      next = next->next;
    }
    MRT_TRY(replace(p, &f));
    ++*fired;
  }
  return NULL;
}

MRT_FUSION(attention) = {.name = "attention",
                         .doc = "MatMul, scale, mask, Softmax, MatMul and their Transposes",
                         .order = 5,
                         .level = 2,
                         .run = run};
