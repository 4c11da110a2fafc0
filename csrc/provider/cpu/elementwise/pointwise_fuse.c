/* Groups of point-wise float32 nodes become one macart.Pointwise. A group grows from its last node
 * upwards: it takes the producer of a value when that value has the group's shape and nobody else
 * reads it. So a group has one output and no way round it, and stays where its last node stood. */
#include <stdlib.h>
#include <string.h>

#include "ops/pointwise.h"
#include "provider/cpu/cpu.h"
#include "provider/cpu/elementwise/lower.h"

enum { MAX_GROUP = MRT_PW_MAX_STEPS };

typedef struct member {
  mrt_node *node;
  mrt_pw_step step;
} member;

typedef struct group {
  member m[MAX_GROUP];
  int n;
  mrt_var *inputs[MRT_PW_MAX_INPUTS + 1];
  int n_inputs;
} group;

static bool same_shape(const mrt_type *a, const mrt_type *b) {
  if (!a || !b || a->rank < 0 || a->rank != b->rank || a->rank > MRT_EW_MAX_RANK) return false;
  for (int i = 0; i < a->rank; ++i)
    if (!a->dims[i] || a->dims[i] != b->dims[i]) return false;
  return true;
}

static bool eligible(const mrt_node *n, int index, mrt_pw_step *s) {
  if (!n || n->provider != index || !mrt_pw_step_of(n, s)) return false;
  if (n->out[0]->layout != MRT_LAYOUT_PLAIN || n->n_out != 1) return false;
  for (int i = 0; i < s->n_args; ++i)
    if (n->in[i].var->layout != MRT_LAYOUT_PLAIN) return false;
  return same_shape(n->out[0]->type, n->out[0]->type);
}

static int find(const group *g, const mrt_node *n) {
  for (int i = 0; i < g->n; ++i)
    if (g->m[i].node == n) return i;
  return -1;
}

static bool only_used_inside(const group *g, const mrt_var *v) {
  if (v->n_graph_outputs) return false;
  for (size_t i = 0; i < v->n_uses; ++i)
    if (find(g, v->uses[i].node) < 0) return false;
  return v->n_uses > 0;
}

static void grow(group *g, int index) {
  const mrt_type *shape = g->m[0].node->out[0]->type;
  for (bool changed = true; changed;) {
    changed = false;
    for (int i = 0; i < g->n; ++i)
      for (int k = 0; k < g->m[i].step.n_args && g->n < MAX_GROUP; ++k) {
        mrt_var *v = g->m[i].node->in[k].var;
        member *next = &g->m[g->n];
        if (!v->producer || v->graph != g->m[i].node->graph || find(g, v->producer) >= 0 ||
            !eligible(v->producer, index, &next->step) || !same_shape(v->type, shape) ||
            !only_used_inside(g, v))
          continue;
        next->node = v->producer;
        ++g->n;
        changed = true;
      }
  }
}

/* The values that come from outside; false: too many. */
static bool collect_inputs(group *g) {
  g->n_inputs = 0;
  for (int i = 0; i < g->n; ++i)
    for (int k = 0; k < g->m[i].step.n_args; ++k) {
      mrt_var *v = g->m[i].node->in[k].var;
      int j = 0;
      if (v->producer && find(g, v->producer) >= 0) continue;
      while (j < g->n_inputs && g->inputs[j] != v) ++j;
      if (j < g->n_inputs) continue;
      if (j >= MRT_PW_MAX_INPUTS) return false;
      g->inputs[g->n_inputs++] = v;
    }
  return true;
}

static int by_order(const void *a, const void *b) {
  const int x = ((const member *)a)->node->order, y = ((const member *)b)->node->order;
  return (x > y) - (x < y);
}

/* Numbers the operands: inputs first, then members in order. */
static void number(const group *g, mrt_pw_step *steps) {
  for (int i = 0; i < g->n; ++i) {
    steps[i] = g->m[i].step;
    for (int k = 0; k < steps[i].n_args; ++k) {
      const mrt_var *v = g->m[i].node->in[k].var;
      const int from = v->producer ? find(g, v->producer) : -1;
      int j = 0;
      while (from < 0 && g->inputs[j] != v) ++j;
      steps[i].args[k] = from >= 0 ? g->n_inputs + from : j;
    }
  }
}

static mrt_status *replace(const mrt_provider *p, group *g, int *fired) {
  mrt_pw_step steps[MAX_GROUP];
  mrt_ew_built *built = NULL;
  mrt_node *root = g->m[0].node, *fused;
  mrt_var *out;
  MRT_TRY(mrt_mem_new(p->env->alloc, sizeof *built, (void **)&built));
  mrt_status *st = NULL;
  for (; g->n > 1; --g->n) { /* the last one taken goes first when the program is too large */
    group sorted = *g;
    if (!collect_inputs(&sorted)) continue;
    qsort(sorted.m, (size_t)sorted.n, sizeof *sorted.m, by_order);
    number(&sorted, steps);
    MRT_TRY_GOTO(
        st, done,
        mrt_graph_insert(root->graph, root, p->env->ops, "macart", "Pointwise", sorted.n_inputs,
                         sorted.inputs, root->out[0]->type, &fused, &out));
    MRT_TRY_GOTO(st, done, mrt_pw_write(fused, steps, sorted.n));
    st = mrt_ew_lower(fused, built);
    if (st) {
      mrt_node_remove(fused);
      if (mrt_status_code(st) != MRT_NOT_IMPLEMENTED) goto done;
      mrt_status_free(st);
      st = NULL;
      continue;
    }
    MRT_TRY_GOTO(st, done, mrt_var_replace(root->out[0], out));
    for (int i = sorted.n - 1; i >= 0; --i) mrt_node_remove(sorted.m[i].node);
    ++*fired;
    break;
  }
done:
  mrt_mem_free(p->env->alloc, built);
  return st;
}

static mrt_status *run(const mrt_provider *p, mrt_graph *g, int index, int *fired) {
  group *grp = NULL;
  mrt_graph_number(g);
  MRT_TRY(mrt_mem_new(p->env->alloc, sizeof *grp, (void **)&grp));
  mrt_status *st = NULL;
  for (mrt_node *n = g->last, *prev; n && !st; n = prev) {
    grp->n = 0;
    if (eligible(n, index, &grp->m[0].step)) {
      grp->m[grp->n++].node = n;
      grow(grp, index);
    }
    /* Everything that leaves stood at or before n; what stays before n is visited later. */
    prev = n->prev;
    while (prev && find(grp, prev) >= 0) prev = prev->prev;
    if (grp->n > 1) st = replace(p, grp, fired);
  }
  mrt_mem_free(p->env->alloc, grp);
  return st;
}

MRT_FUSION(pointwise) = {.name = "pointwise",
                         .doc = "point-wise float32 nodes of one shape, run tile by tile",
                         .order = 90,
                         .level = 2,
                         .run = run};
