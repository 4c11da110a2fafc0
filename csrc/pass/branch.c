/* An If whose condition is a constant gives way to the nodes of its branch. They move as they are,
 * with their values: branches hold weights, of which there must not be two for a while. Folding
 * runs this pass, on each graph before the graphs in it: nothing is folded in the other branch. */
#include <string.h>

#include "pass/pass.h"

static mrt_graph *taken(const mrt_node *n) {
  if (*n->domain || strcmp(n->op_type, "If") != 0 || n->n_in < 1 || !n->in[0].var) return NULL;
  const mrt_tensor *c = n->in[0].var->constant;
  if (!c || c->dtype != MRT_BOOL || !c->data || mrt_tensor_count(c) != 1) return NULL;
  mrt_graph *g = mrt_node_graph(n, *(const uint8_t *)c->data ? "then_branch" : "else_branch");
  return g && !g->n_inputs && g->n_outputs >= n->n_out ? g : NULL;
}

/* A graph output stays a value of its own graph that a node makes. */
static bool may_stand_for(const mrt_var *v, const mrt_var *old) {
  return !old->n_graph_outputs || (v->producer && v->graph == old->graph && !v->n_graph_outputs);
}

static mrt_status *hand_over(mrt_pass_ctx *ctx, mrt_node *n, int i, mrt_var *v) {
  mrt_var *old = n->out[i];
  mrt_node *copy;
  if (!old) return NULL;
  if (may_stand_for(v, old)) return mrt_var_replace(old, v);
  MRT_TRY(mrt_node_set_output(n, i, NULL));
  MRT_TRY(mrt_graph_add_node(n->graph, n, "", "Identity", n->name, 1, &v, 1, &old, &copy));
  return mrt_node_resolve(copy, ctx->ops);
}

static mrt_status *unfold(mrt_pass_ctx *ctx, mrt_node *n, mrt_graph *body) {
  MRT_TRY(mrt_graph_splice(n, body));
  for (int i = 0; i < body->n_outputs; ++i) --body->outputs[i]->n_graph_outputs;
  const int n_outputs = body->n_outputs;
  body->n_outputs = 0;
  for (int i = 0; i < n->n_out && i < n_outputs; ++i)
    MRT_TRY(hand_over(ctx, n, i, body->outputs[i]));
  mrt_node_remove(n);
  return NULL;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    mrt_graph *body = taken(n);
    if (!body) continue;
    MRT_TRY(unfold(ctx, n, body));
    ++*fired;
  }
  return NULL;
}

MRT_PASS(branch) = {.name = "branch", .doc = "If of a constant condition", .level = 1, .run = run};
