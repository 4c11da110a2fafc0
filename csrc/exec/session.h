/* The session: a model made ready, immutable after creation; any number of threads run it at once.
 * This is what every face (Python, the C API) talks to. */
#ifndef MRT_EXEC_SESSION_H
#define MRT_EXEC_SESSION_H

#include "base/file.h"
#include "base/log.h"
#include "base/threads.h"
#include "base/tally.h"
#include "base/trace.h"
#include "ir/ir.h"

typedef struct mrt_session mrt_session;

typedef struct mrt_source { /* where the model comes from: a path, or bytes */
  const char *path;         /* NULL: from `bytes` */
  mrt_blob *bytes;          /* borrowed; retained by the session as long as it needs it */
} mrt_source;

typedef struct mrt_dim_override {
  const char *name; /* dim_param (by_name) or denotation */
  int64_t value;
} mrt_dim_override;

/* A tensor that stands for the model's initializer of that name; the session keeps a reference. */
typedef struct mrt_named_tensor {
  const char *name;
  mrt_tensor *tensor; /* host, contiguous; same type and shape as the initializer */
} mrt_named_tensor;

typedef struct mrt_session_options {
  const mrt_alloc *alloc; /* NULL: the default */
  int level;              /* GraphOptimizationLevel: 0, 1, 2, 3, 99 */
  int intra_op_threads;   /* 0: all of the pool */
  int log_level;          /* -1: inherit */
  const char *logid;
  const char *const *providers; /* names, best first; the CPU is always appended */
  int n_providers;
  const char *const *config; /* key, value, key, value ... */
  int n_config;              /* pairs */
  const mrt_dim_override *overrides_by_name;
  int n_overrides_by_name;
  const mrt_dim_override *overrides_by_denotation;
  int n_overrides_by_denotation;
  const mrt_named_tensor *initializers;
  int n_initializers;
  const char *profile_prefix; /* NULL: no profiling */
  const char *optimized_path; /* NULL: do not write */
  const atomic_int *cancel;   /* nonzero: stop with MRT_MODEL_LOAD_CANCELED; may be NULL */
} mrt_session_options;

typedef struct mrt_run_options {
  const atomic_int *terminate; /* nonzero: stop with FAIL "Exiting due to terminate flag ..." */
  mrt_poll *poll;              /* asked between steps on this thread; may be NULL */
  bool keep_device; /* results stay in the memory where they were made; else they come to the host
                     */
} mrt_run_options;

mrt_status *mrt_session_create(const mrt_session_options *options, const mrt_source *source,
                               mrt_session **out) MRT_MUST_CHECK;
mrt_session *mrt_session_retain(mrt_session *s);
void mrt_session_release(mrt_session *s); /* NULL is fine */

/* The model as the user sees it: names and types of inputs, outputs and overridable initializers
 * as declared; metadata. Valid while the session lives. */
typedef struct mrt_io_info {
  const char *name;
  const mrt_type *type;
  bool required;
} mrt_io_info;
int mrt_session_n_inputs(const mrt_session *s);
int mrt_session_n_outputs(const mrt_session *s);
int mrt_session_n_overridable(const mrt_session *s);
const mrt_io_info *mrt_session_input(const mrt_session *s, int i);
const mrt_io_info *mrt_session_output(const mrt_session *s, int i);
const mrt_io_info *mrt_session_overridable(const mrt_session *s, int i);
const mrt_model *mrt_session_model(const mrt_session *s);
/* Position by name, -1 if there is none. */
int mrt_session_find_input(const mrt_session *s, const char *name);
int mrt_session_find_output(const mrt_session *s, const char *name);
int mrt_session_n_providers(const mrt_session *s);
const char *mrt_session_provider(const mrt_session *s, int i);

/* feeds[n_feeds] are borrowed values for inputs feed_index[]; missing inputs that have an
 * initializer use it. fetch_index[n_fetch] asks for outputs; out[n_fetch] receives owned
 * references: buffers of their own, never aliases of feeds, weights or each other. out[k] may come
 * in holding a tensor (a bound output, on any device of the session): the result is written into
 * it, in place where it does not overlap a feed; MRT_FAIL when shape or type differ. Feeds may lie
 * on any device of the session too. Thread safe. */
mrt_status *mrt_session_run(mrt_session *s, const mrt_run_options *options, int n_feeds,
                            const int *feed_index, mrt_value *const *feeds, int n_fetch,
                            const int *fetch_index, mrt_value **out) MRT_MUST_CHECK;

/* Ends profiling: writes the file and gives its name (valid while the session lives). */
mrt_status *mrt_session_end_profiling(mrt_session *s, const char **out_path) MRT_MUST_CHECK;
uint64_t mrt_session_profiling_start_ns(const mrt_session *s);
int64_t mrt_session_plan_evals(const mrt_session *s);
int64_t mrt_session_plan_eval_ns(const mrt_session *s); /* time spent in them */
/* Bytes: the model's constants as loaded; the planned values and the scratch of the runs that went
 * on at once so far; free output buffers. */
typedef struct mrt_session_memory {
  size_t weights, blocks, scratch, outputs;
} mrt_session_memory;
mrt_session_memory mrt_session_memory_now(const mrt_session *s);
/* The optimized graph as text (ir/text.h): fused operators, layouts' reorders and copies included.
 */
mrt_status *mrt_session_print(const mrt_session *s, int64_t max_elems, mrt_str *out) MRT_MUST_CHECK;
/* Which passes and fusions fired, and how often. */
const mrt_tally *mrt_session_tally(const mrt_session *s);

#endif
