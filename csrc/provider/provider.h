/* The contract of an execution provider: it claims nodes, may rewrite the region it was given
 * (fuse), makes a kernel per node (which may pack constant weights), and owns memory, copies and
 * order of its device. Nothing outside a provider touches memory of a device that is not the host.
 *
 * Kernels are immutable after creation: any number of threads run one at once. Work may be queued
 * on the stream: run may return before it is done. */
#ifndef MRT_PROVIDER_PROVIDER_H
#define MRT_PROVIDER_PROVIDER_H

#include "base/log.h"
#include "base/tally.h"
#include "ir/op.h"

typedef struct mrt_provider mrt_provider;
typedef struct mrt_kernel mrt_kernel;

/* What a session tells its providers; outlives them. */
typedef struct mrt_provider_env {
  const mrt_alloc *alloc;
  const mrt_logger *logger;
  const mrt_op_table *ops;
  int level;                                         /* GraphOptimizationLevel */
  mrt_tally *tally;                                  /* fusions that fired */
  const char *disabled;                              /* fusions to leave out, "-a,-b" */
  size_t weight_bytes;                               /* of all constants, as loaded; from fuse on */
  const char *(*config)(void *ctx, const char *key); /* session config entry or NULL */
  void *config_ctx;
} mrt_provider_env;

struct mrt_kernel {
  const char *name; /* for profiles: "gemm_f32_avx512", "reference" */
  mrt_status *(*run)(const mrt_kernel *k, mrt_kctx *c);
  void (*destroy)(mrt_kernel *k);
  const mrt_alloc *alloc;
  /* Bit i: input i, when it is a constant, is not read as elements by run: it was packed when the
   * kernel was made, or is moved as bytes. Such constants may stay misaligned in their file. */
  uint32_t any_align;
  bool strided_inputs; /* reads strides; else the engine hands contiguous tensors */
  /* > 0: output 0 is all inputs one behind the other wherever its first joins - 1 dims are 1. The
   * engine may lay inputs there from the beginning; run leaves what is in its place already. */
  uint8_t joins;
};

#define MRT_OPERANDS_MAX 64 /* operands past this number are never in host_operands */

enum { MRT_PACKS_LATER = 1 << 30 }; /* see packs_misaligned */

typedef struct mrt_provider_vtbl {
  /* Can it run this node (types known as far as inference went)? why: appended reason if not. */
  bool (*claims)(const mrt_provider *p, const mrt_node *node, mrt_str *why);
  /* Rewrites nodes whose provider field is `index`; NULL: nothing to fuse. */
  mrt_status *(*fuse)(const mrt_provider *p, mrt_model *model, int index, int *fired);
  bool (*has_fusion)(const mrt_provider *p, const char *name); /* a name of MRT_PASSES; NULL: no */
  mrt_status *(*kernel_create)(const mrt_provider *p, const mrt_node *node, mrt_kernel **out);
  /* Bit i: kernel_create takes the constant of input i as it lies in its file, also misaligned, and
   * run does not read it. NULL: none. Others are copied to aligned memory while it runs. With
   * MRT_PACKS_LATER those may be forgotten (mrt_tensor_is_forgotten): it makes them if it must. */
  uint32_t (*packs_misaligned)(const mrt_provider *p, const mrt_node *node);
  /* Operands of a claimed node that stay in host memory (a shape that a kernel reads at launch):
   * bit k is input (output) k. NULL: none. Constants among them are not copied to the device. */
  uint64_t (*host_operands)(const mrt_provider *p, const mrt_node *node, bool outputs);
  /* Device memory; NULL: the provider works in host memory. mem_free and destroy may be called
   * after the session is gone (a result outlives it): they use p->alloc, not p->env. */
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
  const mrt_provider_env *env; /* gone with the session */
  const mrt_alloc *alloc;
  atomic_int refs;
};
/* Fills the common part of a provider's object; one reference. */
void mrt_provider_init(mrt_provider *p, const mrt_provider_vtbl *v, const char *name,
                       mrt_device device, const mrt_provider_env *env);
void mrt_provider_release(mrt_provider *p); /* NULL is fine */
static inline bool mrt_provider_has_memory(const mrt_provider *p) { return p->v->mem_alloc; }

/* A contiguous tensor in the provider's memory (host memory if it has none of its own); keeps the
 * provider alive. Strings have no device form: MRT_NOT_IMPLEMENTED. */
mrt_status *mrt_provider_tensor(mrt_provider *p, mrt_dtype dtype, int rank, const int64_t *dims,
                                mrt_tensor **out) MRT_MUST_CHECK;
/* A copy of src (contiguous) in host memory (to NULL) or in the memory of `to`, through the
 * provider that owns the device side; complete on return. */
mrt_status *mrt_provider_transfer(const mrt_alloc *alloc, mrt_provider *from, mrt_provider *to,
                                  const mrt_tensor *src, mrt_tensor **out) MRT_MUST_CHECK;
/* Which of providers[n] owns the memory of that device; -1: host, or nobody. */
int mrt_provider_of_device(mrt_provider *const *providers, int n, mrt_device device);
/* The kernel of a macart.Copy node whose device side is p's. */
mrt_status *mrt_copy_kernel_create(const mrt_provider *p, mrt_kernel **out) MRT_MUST_CHECK;

/* Rows of providers that this build has, best first; NULL ends. */
typedef struct mrt_provider_row {
  const char *name;
  mrt_status *(*create)(const mrt_provider_env *env, mrt_provider **out);
  bool listed; /* in get_available_providers */
} mrt_provider_row;
const mrt_provider_row *mrt_provider_rows(void);
const mrt_provider_row *mrt_provider_find(const char *name);

mrt_status *mrt_cpu_provider_create(const mrt_provider_env *env, mrt_provider **out) MRT_MUST_CHECK;
/* provider/test: memory that the host may not touch; proves partition, copies and subgraphs. */
mrt_status *mrt_test_provider_create(const mrt_provider_env *env,
                                     mrt_provider **out) MRT_MUST_CHECK;

#endif
