/* optimized_model_filepath: the graph as the passes left it, before the providers fuse. */
#include <string.h>

#include "exec/session_internal.h"
#include "save/save.h"

#define EXTERNAL_KEY "session.optimized_model_external_initializers_file_name"
#define MIN_SIZE_KEY "session.optimized_model_external_initializers_min_size_in_bytes"

static const char *config(const mrt_session *s, const char *key) {
  const char *v = s->env.config(s->env.config_ctx, key);
  return v && *v ? v : NULL;
}

mrt_status *mrt_session_write(mrt_session *s, mrt_pass_ctx *ctx, const char *path) {
  mrt_graph *g = s->model->graph;
  mrt_save_options o = {.external_name = config(s, EXTERNAL_KEY)};
  const char *format = config(s, "session.save_model_format"), *dot = strrchr(path, '.');
  int fired = 0;
  if ((format && strcmp(format, "ORT") == 0) || (!format && dot && strcmp(dot, ".ort") == 0))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "writing a model in the ORT format: '%s'", path);
  MRT_TRY(mrt_session_config_bytes(s, MIN_SIZE_KEY, 1024, &o.external_min_bytes));
  MRT_TRY(mrt_pass_run(ctx, mrt_pass_find("decompose"), g, &fired));
  if (fired) {
    MRT_TRY(mrt_graph_verify(g));
    MRT_TRY(mrt_infer_graph(s->model, g, NULL));
  }
  mrt_tensor **defaults;
  MRT_TRY(
      mrt_mem_new_zero(s->alloc, ((size_t)g->n_inputs + 1) * sizeof *defaults, (void **)&defaults));
  for (int i = 0; i < s->n_overridable; ++i) defaults[s->n_required + i] = s->defaults[i];
  o.input_defaults = defaults;
  mrt_status *st = mrt_onnx_save(s->model, path, &o);
  mrt_mem_free(s->alloc, defaults);
  return st;
}
