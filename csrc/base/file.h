/* Read-only files: read whole or mapped. The bytes live until the last release. */
#ifndef MRT_BASE_FILE_H
#define MRT_BASE_FILE_H

#include "base/alloc.h"

typedef enum mrt_file_mode {
  MRT_FILE_AUTO, /* below 1 MiB: read; to 64 MiB: mapped until mrt_blob_settle; larger: mapped */
  MRT_FILE_READ, /* always read into memory (others may rewrite the file) */
  MRT_FILE_MAP,
} mrt_file_mode;

/* A counted block of bytes: file contents, or foreign memory with an owner. */
typedef struct mrt_blob mrt_blob;

/* MRT_NO_SUCHFILE when absent; MRT_FAIL for other errors, naming path and errno text. */
mrt_status *mrt_blob_from_file(const mrt_alloc *alloc, const char *path, mrt_file_mode mode,
                               mrt_blob **out) MRT_MUST_CHECK;
/* Foreign memory: release(ctx) is called once, when the last reference goes; NULL: nothing. */
mrt_status *mrt_blob_from_memory(const mrt_alloc *alloc, const void *data, size_t size,
                                 void (*release)(void *ctx), void *ctx,
                                 mrt_blob **out) MRT_MUST_CHECK;
mrt_blob *mrt_blob_retain(mrt_blob *blob); /* atomic; returns blob */
void mrt_blob_release(mrt_blob *blob);     /* NULL is fine */
const uint8_t *mrt_blob_data(const mrt_blob *blob);
size_t mrt_blob_size(const mrt_blob *blob);
bool mrt_blob_is_mapped(const mrt_blob *blob);
/* Where bytes lie in a file: equal for equal contents unless somebody rewrites the file within the
 * grain of its times. No padding, so that it can be hashed. */
typedef struct mrt_file_place {
  uint64_t device, inode, size, mtime_ns, ctime_ns, offset, bytes;
} mrt_file_place;
/* Of [offset, offset + bytes) of a blob; false: it does not come from a file. */
bool mrt_blob_place(const mrt_blob *blob, size_t offset, size_t bytes, mrt_file_place *out);
/* Tells the OS that [offset, offset+size) of a mapped file is not needed soon (after packing);
 * whole pages only, none that are kept; a no-op for memory. */
void mrt_blob_drop_pages(mrt_blob *blob, size_t offset, size_t size);

/* Bytes that will be read again and again: notes their pages. */
mrt_status *mrt_blob_keep(mrt_blob *blob, size_t offset, size_t size) MRT_MUST_CHECK;
/* Copies the pages noted since to memory, in place: addresses stay, nobody may be reading. From
 * then on they do not care what becomes of the file, and bring no neighbours into memory. */
mrt_status *mrt_blob_settle(mrt_blob *blob) MRT_MUST_CHECK;
/* Which ranges to keep: true, all that are needed (a file that others may rewrite once a session
 * is made); false, small ones. */
bool mrt_blob_keeps_all(const mrt_blob *blob);
/* Is the file as it was when it was mapped? Ask before reading pages that were not kept. */
bool mrt_blob_is_intact(const mrt_blob *blob);

/* The real path (symlinks resolved), in memory from alloc. */
mrt_status *mrt_path_real(const mrt_alloc *alloc, const char *path, char **out) MRT_MUST_CHECK;
/* Writes atomically: temporary file beside it, fsync, rename. */
mrt_status *mrt_file_write(const mrt_alloc *alloc, const char *path, const void *data,
                           size_t size) MRT_MUST_CHECK;

#endif
