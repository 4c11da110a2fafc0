/* Partition: every node gets the first provider, in the user's order, that claims it. */
#include "plan/plan.h"

static mrt_status *walk(mrt_graph *g, mrt_provider *const *providers, int n, mrt_str *missing,
                        int *n_missing, int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  for (mrt_node *node = g->first; node; node = node->next) {
    mrt_str why;
    mrt_str_init(&why, g->model->alloc);
    node->provider = -1;
    for (int i = 0; i < n && node->provider < 0; ++i)
      if (providers[i]->v->claims(providers[i], node, &why)) node->provider = i;
    mrt_str_deinit(&why);
    if (node->provider < 0 && ++*n_missing <= 50)
      mrt_str_addf(missing, "%s%s%s%s(%d) node with name '%s'", *n_missing > 1 ? ", " : "",
                   node->domain, *node->domain ? "." : "", node->op_type,
                   node->orig_version ? node->orig_version : node->version, node->name);
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(node, subs, 64);
    for (int i = 0; i < k && i < 64; ++i)
      MRT_TRY(walk(subs[i], providers, n, missing, n_missing, depth + 1));
  }
  return NULL;
}

mrt_status *mrt_partition(mrt_graph *g, mrt_provider *const *providers, int n_providers) {
  mrt_str missing;
  mrt_str_init(&missing, g->model->alloc);
  int n_missing = 0;
  mrt_status *st = walk(g, providers, n_providers, &missing, &n_missing, 0);
  if (!st) st = mrt_str_check(&missing);
  if (!st && n_missing)
    st = MRT_ERR(MRT_NOT_IMPLEMENTED, "Could not find an implementation for %s",
                 mrt_str_cstr(&missing));
  mrt_str_deinit(&missing);
  return st;
}
