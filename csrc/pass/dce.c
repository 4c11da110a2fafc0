/* Dead code: nodes whose outputs nobody reads. */
#include "pass/pass.h"

static bool dead(const mrt_node *n) {
  if (n->def && (n->def->flags & MRT_OP_ORDERED)) return false;
  for (int i = 0; i < n->n_out; ++i)
    if (n->out[i] && (n->out[i]->n_uses > 0 || n->out[i]->n_graph_outputs > 0)) return false;
  return true;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  (void)ctx;
  for (mrt_node *n = g->last, *prev; n; n = prev) { /* backwards: one sweep is enough */
    prev = n->prev;
    if (!dead(n)) continue;
    mrt_node_remove(n);
    ++*fired;
  }
  return NULL;
}

MRT_PASS(dce) = {.name = "dce", .doc = "dead code", .level = 1, .run = run};
