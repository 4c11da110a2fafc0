/* Back to ONNX, before a model is written: fused operators of the domain macart, and nodes whose
 * upgrade left a private form (an attribute or a mode that starts with `_`), become what their rows
 * say. Not a step of the pipeline. */
#include <string.h>

#include "pass/pass.h"

#define MAX_NODES 4096 /* that one node may become */

static bool is_private(const mrt_node *n) {
  if (strcmp(n->domain, "macart") == 0) return true;
  for (int i = 0; i < n->n_attrs; ++i) {
    const mrt_attr *a = &n->attrs[i];
    if (a->name[0] == '_' || (a->kind == MRT_ATTR_STRING && a->s[0] == '_')) return true;
  }
  return false;
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  int left = MAX_NODES;
  mrt_node *end = NULL; /* the first node behind the one that is being decomposed */
  for (mrt_node *n = g->first, *next; n; n = next) {
    char buf[256];
    next = n->next;
    if (n == end) end = NULL, left = MAX_NODES;
    if (!is_private(n)) continue;
    if (!end) end = next;
    mrt_node *before = n->prev;
    const char *name = mrt_node_describe(n, buf, sizeof buf);
    if (!n->def || !n->def->decompose)
      return MRT_ERR(MRT_NOT_IMPLEMENTED, "%s: its form (%s) cannot be written as ONNX", name,
                     n->op_type);
    if (--left == 0) return MRT_ERR(MRT_FAIL, "%s: its decomposition does not end", name);
    MRT_TRY_CTX(n->def->decompose(n, ctx->ops), "%s: decomposing", name);
    next = before ? before->next : g->first;
    ++*fired;
  }
  for (size_t i = 0; i < g->n_vars; ++i) g->vars[i]->layout = MRT_LAYOUT_PLAIN;
  return NULL;
}

MRT_PASS(decompose) = {
    .name = "decompose", .doc = "fused and private forms back to ONNX", .level = 0, .run = run};
