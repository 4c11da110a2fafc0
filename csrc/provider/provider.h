/* The contract of an execution provider: it claims nodes, may rewrite the region it was given
 * (fuse), makes a kernel per node (which may pack constant weights), and owns memory, copies and
 * order of its device. Nothing outside a provider touches memory of a device that is not the host.
 *
 * Kernels are immutable after creation: any number of threads run one at once. Work may be queued
 * on the stream: run may return before it is done. */
#ifndef MRT_PROVIDER_PROVIDER_H
#define MRT_PROVIDER_PROVIDER_H

#include "base/log.h"
#include "ir/op.h"

typedef struct mrt_provider mrt_provider;
typedef struct mrt_kernel mrt_kernel;

/* What a session tells its providers; outlives them. */
typedef struct mrt_provider_env {
  const mrt_alloc *alloc;
  const mrt_logger *logger;
  const mrt_op_table *ops;
  int level;                                         /* GraphOptimizationLevel */
  const char *(*config)(void *ctx, const char *key); /* session config entry or NULL */
  void *config_ctx;
} mrt_provider_env;

struct mrt_kernel {
  const char *name; /* for profiles: "gemm_f32_avx512", "reference" */
  mrt_status *(*run)(const mrt_kernel *k, mrt_kctx *c);
  void (*destroy)(mrt_kernel *k);
  const mrt_alloc *alloc;
  bool strided_inputs; /* reads strides; else the engine hands contiguous tensors */
};

typedef struct mrt_provider_vtbl {
  /* Can it run this node (types known as far as inference went)? why: appended reason if not. */
  bool (*claims)(const mrt_provider *p, const mrt_node *node, mrt_str *why);
  /* Rewrites nodes whose provider field is `index`; NULL: nothing to fuse. */
  mrt_status *(*fuse)(const mrt_provider *p, mrt_model *model, int index, int *fired);
  mrt_status *(*kernel_create)(const mrt_provider *p, const mrt_node *node, mrt_kernel **out);
  /* Device memory; NULL: host memory from env->alloc. */
  mrt_status *(*mem_alloc)(const mrt_provider *p, size_t bytes, void **out);
  void (*mem_free)(const mrt_provider *p, void *ptr);
  /* Contiguous copy, either side host or this device; ordered on the stream. */
  mrt_status *(*copy)(const mrt_provider *p, mrt_tensor *dst, const mrt_tensor *src, void *stream);
  mrt_status *(*stream_create)(const mrt_provider *p, void **out);
  mrt_status *(*stream_sync)(const mrt_provider *p, void *stream);
  void (*stream_destroy)(const mrt_provider *p, void *stream);
  void (*destroy)(mrt_provider *p);
} mrt_provider_vtbl;

struct mrt_provider {
  const mrt_provider_vtbl *v;
  const char *name; /* "CPUExecutionProvider" */
  mrt_device device;
  const mrt_provider_env *env;
};

/* Rows of providers that this build has, best first; NULL ends. */
typedef struct mrt_provider_row {
  const char *name;
  mrt_status *(*create)(const mrt_provider_env *env, mrt_provider **out);
  bool listed; /* in get_available_providers */
} mrt_provider_row;
const mrt_provider_row *mrt_provider_rows(void);
const mrt_provider_row *mrt_provider_find(const char *name);

mrt_status *mrt_cpu_provider_create(const mrt_provider_env *env, mrt_provider **out) MRT_MUST_CHECK;

#endif
