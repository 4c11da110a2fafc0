/* Read-only files: read whole or mapped. The bytes live until the last release. */
#ifndef MRT_BASE_FILE_H
#define MRT_BASE_FILE_H

#include "base/alloc.h"

typedef enum mrt_file_mode {
  MRT_FILE_AUTO, /* up to 64 MiB: read; larger: mapped */
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
 * whole pages only; a no-op for memory. */
void mrt_blob_drop_pages(mrt_blob *blob, size_t offset, size_t size);

/* Like mrt_blob_drop_pages, also for larger files that MRT_FILE_AUTO read: the whole pages in
 * [offset, offset + size) become pages of the file, which are read when somebody asks. For bytes
 * that are hardly needed again, since the file may be changed meanwhile: ask mrt_blob_is_intact
 * then. Nobody may be reading them. */
void mrt_blob_unload(mrt_blob *blob, size_t offset, size_t size);
bool mrt_blob_is_intact(const mrt_blob *blob);

/* The real path (symlinks resolved), in memory from alloc. */
mrt_status *mrt_path_real(const mrt_alloc *alloc, const char *path, char **out) MRT_MUST_CHECK;
/* Writes atomically: temporary file beside it, fsync, rename. */
mrt_status *mrt_file_write(const mrt_alloc *alloc, const char *path, const void *data,
                           size_t size) MRT_MUST_CHECK;

#endif
