/* The session's insides, for the files of exec/ only. */
#ifndef MRT_EXEC_SESSION_INTERNAL_H
#define MRT_EXEC_SESSION_INTERNAL_H

#include "exec/frame.h"
#include "exec/session.h"
#include "pass/pass.h"

struct mrt_session {
  const mrt_alloc *alloc;
  atomic_int refs;
  mrt_arena *arena; /* options; the model has its own */
  const mrt_op_table *ops;
  mrt_model *model;
  mrt_logger logger;
  mrt_provider_env env;
  const char **config;
  int n_config, level, threads;
  mrt_provider **providers;
  int n_providers;
  mrt_plan *plan;
  mrt_outputs *pool;             /* of result buffers */
  mrt_blob *file;                /* the model's, NULL: from bytes */
  size_t weight_bytes;           /* of all constants, as they were loaded */
  mrt_io_info *inputs, *outputs; /* inputs: required ones, then overridable ones */
  mrt_tensor **defaults;         /* of the overridable ones; owned by the model */
  int n_required, n_overridable, n_outputs;
  mrt_map input_names, output_names;
  mrt_trace *trace;
  const char *profile_path;
  mrt_tally tally; /* passes and fusions that fired */
};

/* A byte count from a config entry. */
mrt_status *mrt_session_config_bytes(const mrt_session *s, const char *key, size_t fallback,
                                     size_t *out) MRT_MUST_CHECK;
/* write.c: the model as ONNX, for optimized_model_filepath; rewrites what ONNX cannot say. */
mrt_status *mrt_session_write(mrt_session *s, mrt_pass_ctx *ctx, const char *path) MRT_MUST_CHECK;

#endif
