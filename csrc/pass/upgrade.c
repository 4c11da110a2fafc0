/* The first pass: every node is rewritten into the newest form of its operator, each by its own
 * file (the upgrade functions of its row), then resolved against the newest schema. Operators that
 * nobody knows are collected and reported at once. */
#include <string.h>

#include "base/str.h"
#include "pass/pass.h"

#define MAX_LISTED 50

static bool standard_domain(const char *d) {
  return !*d || strcmp(d, "ai.onnx.ml") == 0 || strcmp(d, "com.microsoft") == 0 ||
         strcmp(d, "ai.onnx.training") == 0;
}

/* Rewrites a node form by form. An upgrade may rename the operator: then the walk goes on with the
 * successor's rows, from the version that the node had reached. */
static mrt_status *upgrade_node(mrt_pass_ctx *ctx, mrt_node *node, int *fired) {
  for (int guard = 0; guard < 16; ++guard) {
    const mrt_op_def *def = mrt_op_find(ctx->ops, node->domain, node->op_type);
    if (!def || !def->versions) return NULL;
    int row = -1;
    for (int i = 0; def->versions[i].since; ++i)
      if (def->versions[i].since <= node->version) row = i;
    if (row < 0)
      return MRT_ERR(MRT_INVALID_GRAPH, "No Op registered for %s with domain_version of %d",
                     node->op_type, node->version);
    bool renamed = false;
    for (; def->versions[row].since; ++row) {
      if (!def->versions[row].upgrade) continue;
      const char *op = node->op_type;
      MRT_TRY_CTX(def->versions[row].upgrade(node), "upgrading from version %d",
                  def->versions[row].since);
      ++*fired;
      if (def->versions[row + 1].since) node->version = def->versions[row + 1].since;
      if (strcmp(op, node->op_type) != 0) {
        renamed = true;
        break;
      }
    }
    if (!renamed) return NULL;
  }
  return MRT_ERR(MRT_FAIL, "operator renamed too often");
}

static mrt_status *run(mrt_pass_ctx *ctx, mrt_graph *g, int *fired) {
  mrt_str missing;
  mrt_str_init(&missing, ctx->model->alloc);
  int n_missing = 0;
  mrt_status *st = NULL;
  mrt_code code = MRT_INVALID_GRAPH;
  for (mrt_node *n = g->first, *next; n; n = next) {
    next = n->next;
    char buf[256];
    if (!mrt_op_find(ctx->ops, n->domain, n->op_type)) {
      if (!mrt_model_opset(ctx->model, n->domain) && *n->domain) {
        st = MRT_ERR(MRT_INVALID_GRAPH,
                     "This is an invalid model. Error No opset import for domain '%s'", n->domain);
        goto done;
      }
      if (++n_missing <= MAX_LISTED) {
        if (standard_domain(n->domain)) {
          mrt_str_addf(&missing,
                       "%sIn Node, (\"%s\", %s, \"%s\", -1), Error No Op registered for %s "
                       "with domain_version of %d",
                       n_missing > 1 ? "; " : "", n->name, n->op_type, n->domain, n->op_type,
                       n->version);
        } else {
          code = MRT_FAIL;
          mrt_str_addf(&missing, "%sFatal error: %s:%s(-1) is not a registered function/op",
                       n_missing > 1 ? "; " : "", n->domain, n->op_type);
        }
      }
      continue;
    }
    MRT_TRY_GOTO(st, done, upgrade_node(ctx, n, fired));
    if ((st = mrt_node_resolve(n, ctx->ops))) {
      st = mrt_status_wrap(st, "%s", mrt_node_describe(n, buf, sizeof buf));
      goto done;
    }
  }
  if (n_missing > 0) {
    st = mrt_str_check(&missing);
    if (!st) st = MRT_ERR(code, "This is an invalid model. %s", mrt_str_cstr(&missing));
  }
done:
  mrt_str_deinit(&missing);
  return st;
}

MRT_PASS(upgrade) = {
    .name = "upgrade", .doc = "newest form of every operator", .level = 0, .run = run};
