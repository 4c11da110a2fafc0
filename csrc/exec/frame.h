/* A frame is the mutable state of one run of one plan: slots, one block of memory per segment,
 * scratch. Frames are reused; when the symbol values repeat, nothing in them is set up again. */
#ifndef MRT_EXEC_FRAME_H
#define MRT_EXEC_FRAME_H

#include "base/trace.h"
#include "exec/outputs.h"
#include "plan/plan.h"

typedef struct mrt_frame mrt_frame;
typedef struct mrt_run { /* shared by the frames of one run */
  const mrt_alloc *alloc;
  mrt_par par;
  const atomic_int *terminate;
  mrt_value *const *bound; /* by graph output of the main plan: memory to write into; may be NULL */
  mrt_trace *trace;
  mrt_outputs *outputs; /* the session's pool */
  void **streams;       /* [n_providers], of the root frame; NULL: no provider has queues */
} mrt_run;

struct mrt_frame {
  mrt_plan *plan;
  mrt_frame *parent; /* during a run */
  mrt_frame *next;   /* in the plan's list of free frames */
  const mrt_run *run;
  mrt_slot *slots;
  mrt_tensor *tensors; /* of the slots that have dims in the plan; constants need none */
  uint8_t *owned;      /* [n_slots]: value is a reference of this frame */
  mrt_slot **ptrs;     /* parallel to plan->refs */
  mrt_kctx *steps;
  mrt_eval **evals; /* [n_segments] bound now; NULL none */
  struct mrt_block {
    void *data;
    size_t size;
    size_t spare;   /* addresses behind it, for scratch; no memory until they are used */
    size_t touched; /* of spare */
  } * blocks;       /* [n_segments * n_memories] */
  void **streams;   /* [n_providers]; made for root frames when a provider has queues */
  int64_t *symbols; /* [n_symbols]; -1 unbound */
  bool concrete;    /* this run does not trust the plan's sizes */
  void **scratch;   /* growing blocks; [0] is reused, all are freed back to one at step end */
  size_t *scratch_size;
  size_t n_scratch, cap_scratch, scratch_used, scratch_need, scratch_peak; /* peak: of this run */
  char *gap, *gap_end; /* what the running step has left of its gap in the block; NULL: all */
  unsigned since;      /* end of its last run */
};

mrt_status *mrt_frame_acquire(mrt_plan *plan, mrt_frame **out) MRT_MUST_CHECK; /* pooled */
/* The queues of this frame as root of a run, made on first use; *out NULL when there are none. */
mrt_status *mrt_frame_streams(mrt_frame *f, void ***out) MRT_MUST_CHECK;
/* Waits for all of them; the first error. */
mrt_status *mrt_frame_sync(mrt_frame *f) MRT_MUST_CHECK;
void mrt_frame_recycle(mrt_frame *f);    /* drops what the run left, gives it back to the pool */
void mrt_frames_destroy(mrt_plan *plan); /* all pooled frames, children too */
/* Scratch of the running step. */
mrt_status *mrt_frame_scratch(mrt_frame *f, const mrt_step *step, size_t bytes,
                              void **out) MRT_MUST_CHECK;
void mrt_frame_scratch_reset(mrt_frame *f);

/* Runs the plan in the frame. in[plan->n_inputs] borrowed; out[plan->n_outputs] owned references
 * (entries whose want[] is 0 stay NULL; want NULL: all). */
mrt_status *mrt_frame_run(mrt_frame *f, const mrt_run *run, mrt_frame *parent, mrt_value *const *in,
                          const uint8_t *want, mrt_value **out) MRT_MUST_CHECK;

/* Block i = segment * n_memories + memory; new: replaces what was there. */
mrt_status *mrt_frame_block_new(mrt_frame *f, int i, size_t bytes) MRT_MUST_CHECK;
void mrt_frame_block_free(mrt_frame *f, int i);
/* What the plan's free frames keep, in bytes; those of subgraphs too. */
void mrt_frames_count(mrt_plan *plan, size_t *blocks, size_t *scratch);
/* A tensor in the memory where the slot's value lives; a graph output's comes from the pool. */
mrt_status *mrt_frame_tensor(const mrt_frame *f, int slot, mrt_dtype dtype, int rank,
                             const int64_t *dims, mrt_tensor **out) MRT_MUST_CHECK;

/* Concrete inference before a step: allocates its outputs. */
mrt_status *mrt_frame_concrete(mrt_frame *f, int step) MRT_MUST_CHECK;

extern const mrt_kctx_vtbl mrt_frame_vtbl;

#endif
