/* A plan is one graph made ready to run: a flat list of kernel calls, a slot for every value,
 * lifetimes fixed once, and sizes as expressions over symbols. It is immutable after it is built
 * (its caches are guarded), shared by all runs of a session.
 *
 * Sizes: a value is PLANNED when its shape can be evaluated before its segment starts. A step that
 * makes data-dependent shapes ends a segment: its outputs bind new symbols, and the next segment is
 * evaluated with them. Evaluation turns symbol values into dims, sizes and offsets in one block per
 * segment (best fit over lifetimes) and is kept in a bounded LRU. What a block has free while a
 * step runs may be that step's scratch (exec/frame.c).
 *
 * When symbolic assumptions do not hold for a run (a guard fails, one symbol has two values), that
 * run uses concrete inference before each step instead: slower, and right. */
#ifndef MRT_PLAN_PLAN_H
#define MRT_PLAN_PLAN_H

#include <pthread.h>

#include "base/fork.h"
#include "ir/guard.h"
#include "provider/provider.h"

typedef struct mrt_plan mrt_plan;

typedef enum mrt_slot_kind {
  MRT_SLOT_INPUT,   /* the caller's value */
  MRT_SLOT_CONST,   /* a weight */
  MRT_SLOT_CAPTURE, /* a value of the enclosing run */
  MRT_SLOT_PLANNED, /* in the segment's block */
  MRT_SLOT_OUTPUT,  /* own buffer, allocated before its step, handed to the caller */
  MRT_SLOT_ALIAS,   /* bytes of another slot under another shape */
  MRT_SLOT_DYNAMIC, /* made by its kernel, or after concrete inference */
} mrt_slot_kind;

typedef struct mrt_slot_info {
  mrt_slot_kind kind;
  const mrt_var *var;
  int root;        /* slot that owns the bytes (itself if not an alias / in-place successor) */
  int segment;     /* PLANNED, OUTPUT: where it is evaluated */
  int first, last; /* steps; of the root: the whole lifetime */
  int dims;        /* PLANNED, OUTPUT, ALIAS: index of the first dim in plan->dims; else -1 */
  int index;       /* position in its segment's slot list; -1 */
  int memory;      /* 0: host; k + 1: memory of provider k */
  /* 1 + the step that puts this root and others one behind the other (mrt_kernel.joins), so that
   * they may lie in its output from the beginning; the same of that output; 0: none. */
  int join;
  bool is_graph_output;
} mrt_slot_info;

typedef struct mrt_step {
  const mrt_node *node;
  mrt_kernel *kernel;
  int in, n_in; /* range in plan->refs: slot numbers, -1 absent */
  int out, n_out;
  int segment;
  int release, n_release; /* range in plan->refs: DYNAMIC roots that die after this step */
  bool alias;             /* planned run: output 0 is a view of input 0, the kernel is not called */
  bool concrete;          /* some output needs concrete inference before the step */
  bool check;             /* outputs made at run time: compare with their types, bind symbols */
  mrt_plan **children;    /* plans of the node's subgraphs */
  int n_children;
  atomic_ullong draws; /* see mrt_kctx */
} mrt_step;

typedef struct mrt_segment {
  int first_step, n_steps;
  int *slots; /* PLANNED, OUTPUT (and known ALIAS) slots evaluated here, in order of first use */
  int n_slots;
  int *guards; /* indices into plan->guards */
  int n_guards;
} mrt_segment;

/* What the host block has free while a step runs, in units of MRT_ALIGN: its largest hole, and all
 * from `tail` on. */
typedef struct mrt_gap {
  uint32_t offset, size, tail;
} mrt_gap;

/* Result of evaluating one segment for some symbol values. Counted; immutable. */
typedef struct mrt_eval {
  atomic_int refs;
  const mrt_alloc *alloc;
  int segment;
  int64_t *key;    /* symbol values, n_symbols of them */
  int64_t *dims;   /* of the segment's slots, in order, rank each */
  size_t *offsets; /* of the segment's slots; SIZE_MAX where not in the block */
  size_t *bytes;
  size_t *blocks; /* [n_memories]: size of the block in each memory */
  mrt_gap *gaps;  /* of the segment's steps: room for their scratch */
  bool guards_hold;
} mrt_eval;

#define MRT_EVAL_CACHE 16

struct mrt_plan {
  const mrt_alloc *alloc;
  mrt_arena *arena;
  mrt_graph *graph;
  mrt_plan *parent;
  mrt_provider *const *providers; /* the session's; outlive the plan */
  int n_providers, n_memories;    /* memories: 1 when all providers work in host memory */
  mrt_slot_info *slots;
  int n_slots;
  mrt_step *steps;
  int n_steps;
  int *refs;
  int n_refs;
  const mrt_expr **dims; /* pool of dim expressions, see mrt_slot_info.dims */
  int n_dims;
  mrt_segment *segments;
  int n_segments;
  mrt_guard *guards;
  int n_guards;
  int *inputs, *outputs; /* slot numbers */
  int n_inputs, n_outputs;
  int *captures;     /* slot numbers of captured vars */
  int *capture_from; /* slot of the parent plan */
  int n_captures;
  int *symbols; /* symbols that this plan's expressions read, ascending */
  int n_key_symbols;
  int n_symbols;        /* of the model */
  mrt_fork_guard guard; /* of lock */
  pthread_mutex_t lock; /* guards what follows */
  mrt_eval *cache[MRT_EVAL_CACHE];
  int n_cache, next_victim;
  void *frames; /* free frames, kept by exec */
  int n_frames;
  unsigned clock;       /* runs so far, for the age of free frames */
  atomic_llong n_evals; /* evaluations done: a counter for tests and profiles */
  atomic_llong eval_ns; /* time they took */
};

/* Graph: verified, inferred, partitioned. providers[node->provider] makes the kernels. */
mrt_status *mrt_plan_build(const mrt_alloc *alloc, mrt_graph *g, mrt_provider *const *providers,
                           int n_providers, const mrt_guards *guards,
                           mrt_plan **out) MRT_MUST_CHECK;
void mrt_plan_destroy(mrt_plan *plan);
/* Counts full plan builds in this process (not evaluations). */
int64_t mrt_plan_build_count(void);

/* Evaluates a segment for the symbol values (all n_symbols; < 0 unbound), or finds it in the cache.
 */
mrt_status *mrt_plan_eval(mrt_plan *plan, int segment, const int64_t *values,
                          mrt_eval **out) MRT_MUST_CHECK;
void mrt_eval_release(mrt_eval *eval);

/* kernel_create with the node's constants aligned; those that the kernel reads again stay aligned
 * copies, the others go back to where they lie in the model file. plan/align.c */
mrt_status *mrt_aligned_kernel_create(const mrt_provider *p, mrt_node *node,
                                      mrt_kernel **out) MRT_MUST_CHECK;

/* Assigns providers to nodes, first one that claims; nodes that none can run are reported all at
 * once as MRT_NOT_IMPLEMENTED. Subgraphs too. */
mrt_status *mrt_partition(mrt_graph *g, mrt_provider *const *providers,
                          int n_providers) MRT_MUST_CHECK;

/* Gives every value a home and puts macart.Copy nodes where a consumer reads it elsewhere. After
 * partition and fusion, before the last inference. */
mrt_status *mrt_place(mrt_graph *g, mrt_provider *const *providers, int n_providers,
                      const mrt_op_table *ops) MRT_MUST_CHECK;

#endif
