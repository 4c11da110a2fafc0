/* The one store of packed weights. A kernel says how its constant is packed; the store gives it the
 * packed bytes: those of another session that packed the same contents the same way, those of the
 * cache folder (MRT_CACHE_DIR), or freshly packed ones.
 *
 * Contents are compared by a 128-bit hash. Where a constant lies in a file, its place there
 * (device, inode, size, times, offset) is remembered with the hash, in the process and in the cache
 * folder, so that a second start does not read the constant; the same where it is folded from such
 * constants (mrt_tensor_origin): a second start does not make it. */
#ifndef MRT_PROVIDER_CPU_WEIGHTS_PACKED_H
#define MRT_PROVIDER_CPU_WEIGHTS_PACKED_H

#include "base/threads.h"
#include "tensor/tensor.h"

typedef struct mrt_packed mrt_packed; /* counted, immutable */

enum { MRT_PACKER_MORE = 4 };
typedef struct mrt_packer {
  /* What the bytes mean: the packer's name and version, and the instruction set if it depends on
   * it ("gemm.f32.panel32.1"). Change it when the packed form changes. */
  const char *format;
  int64_t params[8]; /* of the packed form: sizes, transposition, ... */
  size_t bytes;      /* of the packed form */
  /* Further constants that are packed in (scales, zero points): contiguous host tensors at any
   * alignment, which pack() finds by itself; NULL: absent. */
  const mrt_tensor *more[MRT_PACKER_MORE];
  /* pack() gets a source whose elements are aligned, a copy if need be. */
  bool align_source;
  /* Writes all of dst (64-byte aligned). Called at most once, not at all if the packed form is
   * known; so what it finds out about the contents must not be needed elsewhere. It may refuse
   * with an error, which mrt_packed_get returns. */
  mrt_status *(*pack)(const void *arg, const mrt_tensor *source, void *dst);
  const void *arg;
} mrt_packer;

/* source: a contiguous host tensor, at any alignment, or a view of a part of one. */
mrt_status *mrt_packed_get(const mrt_tensor *source, const mrt_packer *packer,
                           mrt_packed **out) MRT_MUST_CHECK;
/* The same if that needs no contents: what is known by place, in the process or in the folder; *out
 * NULL: nothing. The source and more[] may be forgotten (mrt_tensor_is_forgotten). */
mrt_status *mrt_packed_find(const mrt_tensor *source, const mrt_packer *packer,
                            mrt_packed **out) MRT_MUST_CHECK;
const void *mrt_packed_data(const mrt_packed *p); /* 64-byte aligned */
void mrt_packed_release(mrt_packed *p);           /* NULL is fine */

/* For tests and statistics: what mrt_packed_get did since the process began. */
typedef struct mrt_packed_counts {
  int64_t packed, shared, cached; /* freshly packed; found in the process; found in the folder */
} mrt_packed_counts;
mrt_packed_counts mrt_packed_count(void);

/* ---- between the files of this folder ---- */
typedef struct mrt_weight_key {
  uint64_t a, b;
} mrt_weight_key;
mrt_weight_key mrt_weight_hash(const void *data, size_t n, mrt_weight_key seed);

#endif
