/* Memory of packed weights. Blocks below a huge page are cut from slabs of huge pages, which are
 * read 1.5 times as fast as small pages: a network's weights are streamed at every run. A slab's
 * addresses go when its last block does, the pages of a block at once. */
#ifndef MRT_PROVIDER_CPU_WEIGHTS_SLAB_H
#define MRT_PROVIDER_CPU_WEIGHTS_SLAB_H

#include "base/alloc.h"

/* 64-byte aligned, not zeroed. Any thread. */
mrt_status *mrt_slab_new(size_t bytes, void **out) MRT_MUST_CHECK;
void mrt_slab_free(void *block); /* NULL is fine */

#endif
