/* The layout pass: decides once over a graph which values are kept in channel blocks (c16).
 *
 * Values joined by nodes that do not care (point-wise, Concat, ...) must agree: they are sets. A
 * set goes to c16 when the reorders that convolutions and pools at its ends then need no more
 * outweigh those that appear where plain nodes read or make its values. A value that some want
 * plain and some blocked exists twice, with one macart.Reorder between. */
#include <string.h>

#include "provider/cpu/c16/c16.h"

typedef struct value {
  mrt_var *var;
  mrt_c16_role maker; /* of the producer */
  int parent;         /* set */
  double gain;        /* of the set, at its root */
  bool c16;
  mrt_var *twin; /* the blocked form; NULL: none (yet) */
} value;

typedef struct layouts {
  const mrt_provider *p;
  mrt_graph *g;
  int index;
  value *values; /* parallel to g->vars as they were */
  int n;
} layouts;

static mrt_c16_role role(const layouts *l, const mrt_node *n, uint64_t *data) {
  *data = 0;
  return n->graph == l->g && n->provider == l->index ? mrt_c16_node(n, data) : MRT_C16_NEVER;
}

static int find(layouts *l, int i) {
  while (l->values[i].parent != i) i = l->values[i].parent = l->values[l->values[i].parent].parent;
  return i;
}
static void join(layouts *l, int a, int b) { l->values[find(l, a)].parent = find(l, b); }

/* Relative cost of a reorder. Symbols count as one image of middling size. */
static double weight(const mrt_type *t) {
  double size = 1;
  for (int i = 0; i < t->rank; ++i) {
    int64_t d;
    if (t->dims[i] && mrt_expr_is_const(t->dims[i], &d))
      size *= (double)d;
    else if (i > 0)
      size *= 32;
  }
  return size;
}

/* May v be made blocked by its producer? */
static bool can_be_made(const value *v) {
  return v->maker != MRT_C16_NEVER && !v->var->constant && !v->var->is_input;
}

/* A convolution reads few plain channels in place, a transpose or a mean any. */
static bool reads_plain(const mrt_node *n, int i) {
  mrt_conv p;
  int64_t loop;
  if (strcmp(n->op_type, "Transpose") == 0 || strcmp(n->op_type, "ReduceMean") == 0) return true;
  return i == 0 && strcmp(n->op_type, "Conv") == 0 && mrt_conv_node_read(n, &p, &loop) &&
         p.cin <= 16 && p.groups == 1;
}

static void gather_sets(layouts *l) {
  for (mrt_node *n = l->g->first; n; n = n->next) {
    uint64_t data;
    const mrt_c16_role r = role(l, n, &data);
    if (r == MRT_C16_NEVER || r == MRT_C16_READS) continue;
    const int out = n->out[0]->id;
    l->values[out].maker = r;
    for (int i = 0; i < n->n_in && i < 64; ++i) {
      if (!(data >> i & 1)) continue;
      const bool residual = r == MRT_C16_ENDS && i == 3;
      const int in = n->in[i].var->graph == l->g ? n->in[i].var->id : -1;
      if (in >= 0 && (r == MRT_C16_FLOW || residual) && can_be_made(&l->values[in]))
        join(l, in, out);
    }
  }
}

static bool data_use(const layouts *l, const mrt_use *u, mrt_c16_role *r) {
  uint64_t data;
  *r = role(l, u->node, &data);
  return *r != MRT_C16_NEVER && u->index < 64 && (data >> u->index & 1);
}

static void weigh(layouts *l) {
  for (int k = 0; k < l->n; ++k) {
    value *v = &l->values[k];
    if (!mrt_c16_type_ok(v->var->type)) continue;
    const double w = weight(v->var->type);
    const bool made = can_be_made(v);
    bool ends = false, plain = v->var->n_graph_outputs > 0;
    for (size_t i = 0; i < v->var->n_uses; ++i) {
      mrt_c16_role r;
      const mrt_use *u = &v->var->uses[i];
      if (!data_use(l, u, &r))
        plain = true;
      else if ((r == MRT_C16_ENDS && u->index == 0) || r == MRT_C16_READS)
        ends = ends || !reads_plain(u->node, 0);
      else if (!made) /* a blocked reader of a value that is plain */
        l->values[find(l, u->node->out[0]->id)].gain -= w;
    }
    if (!made) continue;
    l->values[find(l, k)].gain +=
        (v->maker != MRT_C16_FLOW ? w : 0) + (ends ? w : 0) - (plain ? w : 0);
  }
  for (int k = 0; k < l->n; ++k) {
    value *v = &l->values[k];
    v->c16 = can_be_made(v) && mrt_c16_type_ok(v->var->type) && l->values[find(l, k)].gain > 0;
  }
}

static mrt_status *add_reorder(const layouts *l, mrt_node *before, mrt_var *in, mrt_node **out) {
  mrt_var *v;
  MRT_TRY(mrt_graph_insert(l->g, before, l->p->env->ops, "macart", "Reorder", 1, &in, in->type, out,
                           &v));
  (*out)->provider = l->index;
  return NULL;
}

/* Blocked readers of v get its twin; is there any? Asks only, when twin is NULL. */
static mrt_status *redirect(const layouts *l, const value *v, mrt_var *twin, bool *any) {
  *any = false;
  for (size_t i = v->var->n_uses; i-- > 0;) {
    const mrt_use u = v->var->uses[i];
    mrt_c16_role r;
    if (!data_use(l, &u, &r)) continue;
    const mrt_var *out = u.node->out[0];
    const bool free_input = (r == MRT_C16_ENDS && u.index == 0) || r == MRT_C16_READS;
    if (free_input ? !v->c16 && reads_plain(u.node, 0) : !l->values[out->id].c16) continue;
    *any = true;
    if (twin) MRT_TRY(mrt_node_set_input(u.node, u.index, twin));
  }
  return NULL;
}

/* A value made blocked: the producer writes the twin; a plain copy is made if anybody reads it. */
static mrt_status *make_blocked(const layouts *l, value *v) {
  mrt_node *maker = v->var->producer, *reorder;
  bool any;
  MRT_TRY(mrt_graph_add_var(l->g, NULL, v->var->type, &v->twin));
  v->twin->layout = MRT_LAYOUT_C16;
  v->twin->id = v->var->id;
  MRT_TRY(mrt_node_set_output(maker, 0, v->twin));
  MRT_TRY(redirect(l, v, v->twin, &any));
  if (!v->var->n_uses && !v->var->n_graph_outputs) return NULL;
  mrt_var *made = NULL;
  MRT_TRY(mrt_graph_insert(l->g, maker->next, l->p->env->ops, "macart", "Reorder", 1, &v->twin,
                           v->var->type, &reorder, &made));
  reorder->provider = l->index;
  return mrt_node_set_output(reorder, 0, v->var);
}

/* A value that stays plain: those who read blocks get a blocked copy. */
static mrt_status *copy_blocked(const layouts *l, value *v) {
  mrt_node *maker = v->var->producer, *reorder;
  bool any;
  MRT_TRY(redirect(l, v, NULL, &any));
  if (!any) return NULL;
  MRT_TRY(add_reorder(l, maker ? maker->next : l->g->first, v->var, &reorder));
  v->twin = reorder->out[0];
  v->twin->layout = MRT_LAYOUT_C16;
  v->twin->id = v->var->id;
  return redirect(l, v, v->twin, &any);
}

static mrt_status *apply(layouts *l, int *fired) {
  for (int k = 0; k < l->n; ++k) {
    value *v = &l->values[k];
    if (!mrt_c16_type_ok(v->var->type) || v->var->layout != MRT_LAYOUT_PLAIN) continue;
    MRT_TRY(v->c16 ? make_blocked(l, v) : copy_blocked(l, v));
    *fired += v->twin != NULL;
  }
  return NULL;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  layouts l = {.p = p, .g = g, .index = index, .n = (int)g->n_vars};
  if (!g->first || !g->n_vars) return NULL;
  MRT_TRY(mrt_mem_new_zero(p->env->alloc, g->n_vars * sizeof *l.values, (void **)&l.values));
  for (int i = 0; i < l.n; ++i) {
    g->vars[i]->id = i;
    l.values[i] = (value){.var = g->vars[i], .parent = i};
  }
  gather_sets(&l);
  weigh(&l);
  mrt_status *st = apply(&l, fired);
  mrt_mem_free(p->env->alloc, l.values);
  return st;
}

MRT_FUSION(layout) = {.name = "layout",
                      .doc = "values in channel blocks, reordered at the borders",
                      .order = 80,
                      .level = 2,
                      .run = run};
