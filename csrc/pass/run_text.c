/* Passes on text: parse, infer, run the named passes, print. What tests of passes and
 * `python -m macart opt` call. */
#include <stdio.h>
#include <string.h>

#include "ir/text.h"
#include "pass/pass.h"

static mrt_status *run_one(mrt_pass_ctx *ctx, const char *name, size_t len, int *fired) {
  char buf[64];
  snprintf(buf, sizeof buf, "%.*s", (int)len, name);
  const mrt_pass *pass = mrt_pass_find(buf);
  mrt_graph *g = ctx->model->graph;
  if (!pass) return MRT_ERR(MRT_INVALID_ARGUMENT, "there is no pass '%s'", buf);
  MRT_TRY(mrt_pass_run(ctx, pass, g, fired));
  MRT_TRY(mrt_graph_verify(g));
  return mrt_infer_graph(ctx->model, g, NULL);
}

mrt_status *mrt_pass_run_text(const mrt_alloc *alloc, const mrt_op_table *ops, const char *text,
                              const char *passes, int64_t max_elems, int *fired, mrt_str *out) {
  mrt_model *model;
  mrt_status *st = NULL;
  *fired = 0;
  MRT_TRY(mrt_model_parse(alloc, ops, text, &model));
  mrt_pass_ctx ctx = {.model = model, .ops = ops, .level = 99, .fold_limit = MRT_FOLD_AUTO};
  MRT_TRY_GOTO(st, done, mrt_infer_graph(model, model->graph, NULL));
  for (const char *p = passes; *p && !st;) {
    size_t len = strcspn(p, ",");
    if (len) st = run_one(&ctx, p, len, fired);
    p += len + (p[len] == ',');
  }
  if (!st) st = mrt_model_print(model, max_elems, out);
done:
  mrt_model_destroy(model);
  return st;
}
