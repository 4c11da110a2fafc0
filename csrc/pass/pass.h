/* Passes make ONNX from ONNX on ir/ only. Each stands in a file of its own as a row
 * MRT_PASS(id) = {...}; pipeline.c alone knows their order. A pass rewrites one graph and is called
 * for the main graph first, then for every subgraph. */
#ifndef MRT_PASS_PASS_H
#define MRT_PASS_PASS_H

#include "base/log.h"
#include "base/tally.h"
#include "ir/guard.h"
#include "ir/op.h"

/* The limit of folding when nobody sets one: 64 MiB, or twice what a constant is made of. */
#define MRT_FOLD_AUTO ((size_t)-1)

typedef struct mrt_pass_ctx {
  mrt_model *model;
  const mrt_op_table *ops;
  const mrt_logger *logger;
  const char *disabled; /* comma list of pass names to leave out (MRT_PASSES=-a,-b); may be NULL */
  size_t fold_limit;    /* largest constant that folding may make, bytes; or MRT_FOLD_AUTO */
  size_t n_inlined;     /* nodes that functions have become, in all graphs */
  int level;            /* GraphOptimizationLevel: 0 only what is needed to run */
  bool late;            /* providers have fused: what was kept compact for them is folded too */
  bool at_once;         /* folded constants are made now: the graph is written to a file */
  mrt_tally *tally;     /* counts what fired; may be NULL */
} mrt_pass_ctx;

typedef struct mrt_pass {
  const char *name;
  const char *doc;
  int level; /* lowest GraphOptimizationLevel at which it runs; 0: always */
  mrt_status *(*run)(mrt_pass_ctx *ctx, mrt_graph *g, int *fired);
} mrt_pass;
#define MRT_PASS(id) const mrt_pass mrt_pass_##id

/* Runs one pass over a graph and its subgraphs (depth limited). */
mrt_status *mrt_pass_run(mrt_pass_ctx *ctx, const mrt_pass *pass, mrt_graph *g,
                         int *fired) MRT_MUST_CHECK;
/* The pipeline: upgrade, infer, and what the level allows, until nothing fires (bounded). */
mrt_status *mrt_pass_pipeline(mrt_pass_ctx *ctx) MRT_MUST_CHECK;
/* After the providers' fusions: folds what was kept compact for them and drops dead nodes. */
mrt_status *mrt_pass_late(mrt_pass_ctx *ctx) MRT_MUST_CHECK;
const mrt_pass *mrt_pass_find(const char *name); /* NULL if there is none */
const mrt_pass *mrt_pass_at(size_t i);           /* all of them; NULL behind the last */

/* Types, symbolic shapes and contents of every var of a graph and its subgraphs; used by the
 * pipeline and after a provider's fusions. Unknown dims become fresh symbols. Guards that symbolic
 * equality relied on are appended to *guards (ir/guard.h; may be NULL). */
/* One node, by what is known of its inputs; no guards. For upgrades that depend on types. */
mrt_status *mrt_infer_node(mrt_model *model, mrt_node *node) MRT_MUST_CHECK;
mrt_status *mrt_infer_graph(mrt_model *model, mrt_graph *g, mrt_guards *guards) MRT_MUST_CHECK;

/* Runs a node's reference kernel on constant inputs; outs[n_out] receive owned values (NULL where
 * unwanted). MRT_NOT_IMPLEMENTED when the operator has no reference kernel or has subgraphs. */
mrt_status *mrt_eval_node(const mrt_alloc *alloc, const mrt_node *node, mrt_value *const *ins,
                          mrt_value **outs) MRT_MUST_CHECK;

/* Parses a model (ir/text.h), runs the passes (names with commas between; "" only infers) and
 * prints the result. */
mrt_status *mrt_pass_run_text(const mrt_alloc *alloc, const mrt_op_table *ops, const char *text,
                              const char *passes, int64_t max_elems, int *fired,
                              mrt_str *out) MRT_MUST_CHECK;

#endif
