/* Operators that are defined by a function and have no reference kernel become their body. Bodies
 * are made in the newest form; operators among them that are functions too are met as the walk goes
 * on. */
#include "pass/pass.h"

#define MAX_NODES 4096 /* that one node may become: no body uses its own operator without end */

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  int left = MAX_NODES;
  mrt_node *end = NULL; /* the first node behind the one that is being expanded */
  for (mrt_node *n = g->first, *next; n; n = next) {
    char buf[256];
    next = n->next;
    if (n == end) end = NULL, left = MAX_NODES;
    if (!n->def || n->def->run || !n->def->expand) continue;
    if (!end) end = next;
    mrt_node *before = n->prev;
    const char *name = mrt_node_describe(n, buf, sizeof buf);
    if (--left == 0) return MRT_ERR(MRT_FAIL, "%s: its definition does not end", name);
    MRT_TRY_CTX(n->def->expand(n, ctx->ops), "%s: expanding the function", name);
    next = before ? before->next : g->first;
    ++*fired;
  }
  return NULL;
}

MRT_PASS(expand) = {
    .name = "expand", .doc = "operators defined by a function", .level = 0, .run = run};
