/* The order of passes, and nothing else. */
#include <string.h>

#include "pass/pass.h"

#define MRT_PASS_ENTRY(id) extern const mrt_pass mrt_pass_##id;
#include "gen/passes.def"
#undef MRT_PASS_ENTRY
static const mrt_pass *const all[] = {
#define MRT_PASS_ENTRY(id) &mrt_pass_##id,
#include "gen/passes.def"
#undef MRT_PASS_ENTRY
};

#define N_ALL (sizeof all / sizeof *all)

#define MAX_ROUNDS 8
/* Repeated until a round changes nothing; inference runs between them. */
static const char *const rounds[] = {"noop",       "fold",    "cse",       "hard_swish",
                                     "transpose",  "reshape", "conv_fold", "layer_scale",
                                     "matmul_add", "dce",     NULL};

const mrt_pass *mrt_pass_find(const char *name) {
  for (size_t i = 0; i < N_ALL; ++i)
    if (strcmp(all[i]->name, name) == 0) return all[i];
  return NULL;
}

const mrt_pass *mrt_pass_at(size_t i) { return i < N_ALL ? all[i] : NULL; }

static mrt_status *run_depth(mrt_pass_ctx *ctx, const mrt_pass *pass, mrt_graph *g, int *fired,
                             int depth) {
  if (depth > 64) return MRT_ERR(MRT_INVALID_GRAPH, "subgraphs nested deeper than 64");
  MRT_TRY(pass->run(ctx, g, fired));
  for (mrt_node *n = g->first; n; n = n->next) {
    mrt_graph *subs[64];
    int k = mrt_node_subgraphs(n, subs, 64);
    for (int i = 0; i < k && i < 64; ++i) MRT_TRY(run_depth(ctx, pass, subs[i], fired, depth + 1));
  }
  return NULL;
}

mrt_status *mrt_pass_run(mrt_pass_ctx *ctx, const mrt_pass *pass, mrt_graph *g, int *fired) {
  int n = 0;
  MRT_TRY_CTX(run_depth(ctx, pass, g, &n, 0), "pass '%s'", pass->name);
  mrt_tally_add(ctx->tally, pass->name, n);
  *fired += n;
  return NULL;
}

mrt_status *mrt_pass_late(mrt_pass_ctx *ctx) {
  static const char *const last[] = {"dce", "fold", "dce"};
  int fired = 0;
  if (ctx->level < 1) return NULL;
  ctx->late = true;
  for (int i = 0; i < 3; ++i)
    if (!mrt_list_has(ctx->disabled, last[i]))
      MRT_TRY(mrt_pass_run(ctx, mrt_pass_find(last[i]), ctx->model->graph, &fired));
  return NULL;
}

mrt_status *mrt_pass_pipeline(mrt_pass_ctx *ctx) {
  mrt_graph *g = ctx->model->graph;
  int fired = 0;
  mrt_status *st = NULL;
  MRT_TRY(run_depth(ctx, mrt_pass_find("inline"), g, &fired, 0));
  /* What these refuse is the model's fault: their names would say nothing to its user. */
  MRT_TRY(run_depth(ctx, mrt_pass_find("upgrade"), g, &fired, 0));
  mrt_tally_add(ctx->tally, "upgrade", fired);
  MRT_TRY(run_depth(ctx, mrt_pass_find("expand"), g, &fired, 0));
  MRT_TRY(mrt_graph_verify(g));
  MRT_TRY(mrt_infer_graph(ctx->model, g, NULL));
  ctx->model->strict_shapes = false; /* from here on the types are inference's own */
  for (int round = 0; round < MAX_ROUNDS && ctx->level > 0; ++round) {
    fired = 0;
    for (int i = 0; rounds[i]; ++i) {
      const mrt_pass *pass = mrt_pass_find(rounds[i]);
      if (!pass || pass->level > ctx->level || mrt_list_has(ctx->disabled, pass->name)) continue;
      MRT_TRY(mrt_pass_run(ctx, pass, g, &fired));
    }
    if (!fired) break;
    MRT_TRY(mrt_graph_verify(g));
    MRT_TRY(mrt_infer_graph(ctx->model, g, NULL));
  }
  return st;
}
