/* The CPU provider's own tables: a kernel is one row MRT_CPU_KERNEL(id) in a file of its family,
 * found by the build. A node without a row runs on its operator's reference kernel. */
#ifndef MRT_PROVIDER_CPU_CPU_H
#define MRT_PROVIDER_CPU_CPU_H

#include "provider/provider.h"

typedef struct mrt_cpu_kernel {
  const char *domain, *op;
  /* Does this row serve the node? NULL: always. Types may be unknown (var->type NULL). */
  bool (*match)(const mrt_provider *p, const mrt_node *node);
  mrt_status *(*create)(const mrt_provider *p, const mrt_node *node, mrt_kernel **out);
  /* Reads var->layout of its inputs and outputs. Rows without it, and reference kernels, are not
   * asked for nodes that touch a value in another layout than MRT_LAYOUT_PLAIN. */
  bool layouts;
  /* See packs_misaligned of mrt_provider_vtbl; NULL: none. */
  uint32_t (*packs_misaligned)(const mrt_node *node);
} mrt_cpu_kernel;
#define MRT_CPU_KERNEL(id) const mrt_cpu_kernel mrt_cpu_kernel_##id

/* Fusions of this provider: rewrite the graph's nodes that carry `index`. */
typedef struct mrt_fusion {
  const char *name, *doc;
  int order; /* ascending */
  int level; /* lowest GraphOptimizationLevel */
  mrt_status *(*run)(const mrt_provider *p, mrt_graph *g, int index, int *fired);
} mrt_fusion;
#define MRT_FUSION(id) const mrt_fusion mrt_fusion_##id

/* Zeroed kernel object of `size` bytes that begins with mrt_kernel. */
mrt_status *mrt_kernel_new(const mrt_alloc *alloc, size_t size, const char *name,
                           mrt_status *(*run)(const mrt_kernel *, mrt_kctx *),
                           void (*destroy)(mrt_kernel *), void *out) MRT_MUST_CHECK;
void mrt_kernel_free(mrt_kernel *k); /* the plain destroy: frees the object only */

/* All inputs and outputs of the node are in the plain layout. */
bool mrt_node_is_plain(const mrt_node *node);
/* dtype of input/output i, MRT_UNDEFINED if unknown or absent; helpers for match functions. */
mrt_dtype mrt_node_in_dtype(const mrt_node *node, int i);
mrt_dtype mrt_node_out_dtype(const mrt_node *node, int i);
int mrt_node_in_rank(const mrt_node *node, int i);                /* -1 unknown */
const mrt_tensor *mrt_node_in_const(const mrt_node *node, int i); /* NULL if not constant */

/* For rows whose kernels pack input 1 with align_source (weights/packed.h): packs_misaligned. */
uint32_t mrt_cpu_packs_input1(const mrt_node *node);

/* Runs the operator's reference kernel for a kernel that packed the constant inputs `packed`
 * (bits): it reads copies of them. */
mrt_status *mrt_cpu_run_reference(mrt_kctx *c, uint32_t packed) MRT_MUST_CHECK;

/* Is there a kernel row of that name, whatever it matches? */
bool mrt_cpu_has_row(const char *domain, const char *op);

#endif
