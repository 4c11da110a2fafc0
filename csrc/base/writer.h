/* Writing a file piece by piece. What was written becomes the file at once, when all of it is
 * there: a temporary file beside it is renamed. Failures stick; mrt_writer_commit reports the
 * first. */
#ifndef MRT_BASE_WRITER_H
#define MRT_BASE_WRITER_H

#include "base/alloc.h"

typedef struct mrt_writer mrt_writer;

mrt_status *mrt_writer_create(const mrt_alloc *alloc, const char *path,
                              mrt_writer **out) MRT_MUST_CHECK;
void mrt_writer_add(mrt_writer *w, const void *data, size_t size);
void mrt_writer_pad(mrt_writer *w, size_t align); /* zeros up to a multiple of align, <= 4096 */
uint64_t mrt_writer_size(const mrt_writer *w);    /* bytes so far */
/* Frees the writer in every case; the file is there only after success. */
mrt_status *mrt_writer_commit(mrt_writer *w) MRT_MUST_CHECK;
void mrt_writer_abandon(mrt_writer *w); /* NULL is fine */

#endif
