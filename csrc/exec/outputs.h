/* The pool behind a session's outputs. A fresh large buffer costs a page fault for every page at
 * every run, often more than the run; so buffers come back here when the caller lets go of a
 * result, and serve again. Blocks stand in a few slots that are taken and filled by atomic
 * exchange: no lock. What no run has asked for in a while is given back to the system, so a peak
 * passes; and the pool never holds more than MRT_OUTPUTS_MAX bytes. */
#ifndef MRT_EXEC_OUTPUTS_H
#define MRT_EXEC_OUTPUTS_H

#include "tensor/tensor.h"

typedef struct mrt_outputs mrt_outputs;

enum { MRT_OUTPUTS_MIN = 16 << 10 }; /* bytes: smaller tensors are plain ones */
#define MRT_OUTPUTS_MAX ((size_t)256 << 20)

mrt_status *mrt_outputs_create(const mrt_alloc *alloc, mrt_outputs **out) MRT_MUST_CHECK;
/* Of the session; tensors that are still out keep what they need. NULL is fine. */
void mrt_outputs_release(mrt_outputs *pool);
/* Like mrt_tensor_create, its memory from the pool where that pays. Thread safe. */
mrt_status *mrt_outputs_tensor(mrt_outputs *pool, mrt_dtype dtype, int rank, const int64_t *dims,
                               mrt_tensor **out) MRT_MUST_CHECK;
size_t mrt_outputs_held(const mrt_outputs *pool); /* bytes of free blocks, for statistics */

#endif
