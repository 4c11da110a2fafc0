/* Files as counted blobs: read whole or mapped. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/writer.h"

#define MAP_FROM  ((off_t)1 << 20)
#define MAP_ABOVE ((off_t)64 << 20)
#define PIECE     ((size_t)1 << 20) /* settled at once: the file's pages are there meanwhile, */
#define AROUND    ((size_t)2 << 20) /* and so much in front of them and behind */

enum { PAGE_FILE, PAGE_WANTED, PAGE_KEPT };

struct mrt_blob {
  const mrt_alloc *alloc;
  atomic_int refs;
  const uint8_t *data;
  size_t size;
  bool mapped, own;
  bool keeps_all;      /* of mapped ones: see mrt_blob_keeps_all */
  bool wants;          /* a page is PAGE_WANTED */
  char *path;          /* of mapped ones */
  uint8_t *pages;      /* of mapped ones, of each page: PAGE_ */
  mrt_file_place file; /* inode 0: not a file */
  void (*release)(void *ctx);
  void *ctx;
};

mrt_status *mrt_blob_from_memory(const mrt_alloc *alloc, const void *data, size_t size,
                                 void (*release)(void *ctx), void *ctx, mrt_blob **out) {
  mrt_blob *b = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, sizeof *b, (void **)&b));
  b->alloc = alloc;
  atomic_init(&b->refs, 1);
  b->data = data;
  b->size = size;
  b->release = release;
  b->ctx = ctx;
  *out = b;
  return NULL;
}

static mrt_status *read_all(int fd, const char *path, uint8_t *data, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t n = read(fd, data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return MRT_ERR(MRT_FAIL, "reading '%s': %s", path, strerror(errno));
    if (n == 0) return MRT_ERR(MRT_FAIL, "reading '%s': the file became shorter", path);
    done += (size_t)n;
  }
  return NULL;
}

static uint64_t nanoseconds(struct timespec t) {
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* *done = false: this file cannot be mapped. */
static mrt_status *map_file(mrt_blob *b, int fd, const char *path, bool *done) {
  const size_t n = strlen(path) + 1;
  void *p = mmap(NULL, b->size, PROT_READ, MAP_PRIVATE, fd, 0);
  *done = p != MAP_FAILED;
  if (!*done) return NULL;
  b->data = p;
  b->mapped = true;
  MRT_TRY(mrt_mem_new(b->alloc, n, (void **)&b->path));
  memcpy(b->path, path, n);
  return mrt_mem_new_zero(b->alloc, b->size / page_size() + 1, (void **)&b->pages);
}

static mrt_status *fill(mrt_blob *b, int fd, const char *path, mrt_file_mode mode) {
  struct stat s;
  if (fstat(fd, &s) != 0) return MRT_ERR(MRT_FAIL, "'%s': %s", path, strerror(errno));
  if (!S_ISREG(s.st_mode)) return MRT_ERR(MRT_FAIL, "'%s' is not a regular file", path);
  b->size = (size_t)s.st_size;
  b->file = (mrt_file_place){.device = (uint64_t)s.st_dev,
                             .inode = (uint64_t)s.st_ino,
                             .size = (uint64_t)s.st_size,
                             .mtime_ns = nanoseconds(s.st_mtim),
                             .ctime_ns = nanoseconds(s.st_ctim)};
  const off_t from = mode == MRT_FILE_AUTO ? MAP_FROM : mode == MRT_FILE_MAP ? 1 : INT64_MAX;
  if (s.st_size >= from) {
    b->keeps_all = mode == MRT_FILE_AUTO && s.st_size <= MAP_ABOVE;
    bool done;
    mrt_status *st = map_file(b, fd, path, &done);
    if (st || done) return st;
  }
  void *data = NULL;
  MRT_TRY(mrt_mem_new_aligned(b->alloc, b->size, MRT_ALIGN, &data));
  b->own = true;
  b->data = data;
  return read_all(fd, path, data, b->size);
}

mrt_status *mrt_blob_from_file(const mrt_alloc *alloc, const char *path, mrt_file_mode mode,
                               mrt_blob **out) {
  *out = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block here */
  if (fd < 0)
    return errno == ENOENT || errno == ENOTDIR
               ? MRT_ERR(MRT_NO_SUCHFILE, "%s failed. File doesn't exist", path)
               : MRT_ERR(MRT_FAIL, "opening '%s': %s", path, strerror(errno));
  mrt_blob *b = NULL;
  mrt_status *st = mrt_blob_from_memory(alloc, NULL, 0, NULL, NULL, &b);
  if (!st) st = fill(b, fd, path, mode);
  close(fd);
  if (st) {
    mrt_blob_release(b);
    return st;
  }
  *out = b;
  return NULL;
}

mrt_blob *mrt_blob_retain(mrt_blob *blob) {
  atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
  return blob;
}

void mrt_blob_release(mrt_blob *b) {
  if (!b || atomic_fetch_sub(&b->refs, 1) != 1) return;
  if (b->mapped) munmap((void *)b->data, b->size);
  mrt_mem_free(b->alloc, b->path);
  mrt_mem_free(b->alloc, b->pages);
  if (b->own) mrt_mem_free(b->alloc, (void *)b->data);
  if (b->release) b->release(b->ctx);
  mrt_mem_free(b->alloc, b);
}

const uint8_t *mrt_blob_data(const mrt_blob *blob) { return blob->data; }
size_t mrt_blob_size(const mrt_blob *blob) { return blob->size; }
bool mrt_blob_is_mapped(const mrt_blob *blob) { return blob->mapped; }

bool mrt_blob_place(const mrt_blob *b, size_t offset, size_t bytes, mrt_file_place *out) {
  *out = b->file;
  out->offset = offset;
  out->bytes = bytes;
  return b->file.inode != 0;
}

static bool in_map(const mrt_blob *b, size_t offset, size_t size) {
  return b->mapped && offset <= b->size && size <= b->size - offset;
}

void mrt_blob_drop_pages(mrt_blob *b, size_t offset, size_t size) {
  if (!in_map(b, offset, size)) return;
  const size_t page = page_size(), end = (offset + size) / page;
  for (size_t i = (offset + page - 1) / page; i < end;) {
    size_t j = i;
    while (j < end && b->pages[j] != PAGE_KEPT) ++j;
    if (j > i) madvise((uint8_t *)b->data + i * page, (j - i) * page, MADV_DONTNEED);
    i = j + 1;
  }
}

mrt_status *mrt_blob_keep(mrt_blob *b, size_t offset, size_t size) {
  if (!in_map(b, offset, size) || !size) return NULL;
  const size_t page = page_size(), last = (offset + size - 1) / page;
  for (size_t i = offset / page; i <= last; ++i)
    if (b->pages[i] == PAGE_FILE) b->pages[i] = PAGE_WANTED, b->wants = true;
  return NULL;
}

/* Anonymous memory with the same contents takes the place of some pages. */
static mrt_status *replace(mrt_blob *b, size_t at, size_t size) {
  uint8_t *old = (uint8_t *)b->data + at;
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return mrt_status_oom();
  memcpy(p, old, at + size < b->size ? size : b->size - at);
  if (mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, old) == old) return NULL;
  munmap(p, size);
  return MRT_ERR(MRT_FAIL, "'%s': mremap: %s", b->path, strerror(errno));
}

mrt_status *mrt_blob_settle(mrt_blob *b) {
  if (!b->wants) return NULL; /* asked once for each tensor, answered by the first */
  b->wants = false;
  const size_t page = page_size(), n = (b->size + page - 1) / page;
  for (size_t i = 0; i < n;) {
    size_t j = i;
    while (j < n && j - i < PIECE / page && b->pages[j] == PAGE_WANTED) ++j;
    if (j > i) {
      MRT_TRY(replace(b, i * page, (j - i) * page));
      memset(b->pages + i, PAGE_KEPT, j - i);
      const size_t from = i * page < AROUND ? 0 : i * page - AROUND, end = j * page + AROUND;
      mrt_blob_drop_pages(b, from, (end < b->size ? end : b->size) - from);
    }
    i = j > i ? j : i + 1;
  }
  return NULL;
}

bool mrt_blob_keeps_all(const mrt_blob *b) { return b->keeps_all; }

bool mrt_blob_is_intact(const mrt_blob *b) {
  struct stat s;
  if (!b->mapped) return true;
  if (stat(b->path, &s) != 0) return true; /* removed: the mapping holds it */
  if (b->file.device != (uint64_t)s.st_dev || b->file.inode != (uint64_t)s.st_ino) return true;
  return b->file.size == (uint64_t)s.st_size && b->file.mtime_ns == nanoseconds(s.st_mtim);
}

mrt_status *mrt_path_real(const mrt_alloc *alloc, const char *path, char **out) {
  *out = NULL;
  char *real = realpath(path, NULL);
  if (!real)
    return MRT_ERR(errno == ENOENT ? MRT_NO_SUCHFILE : MRT_FAIL, "'%s': %s", path, strerror(errno));
  size_t n = strlen(real) + 1;
  mrt_status *st = mrt_mem_new(alloc, n, (void **)out);
  if (!st) memcpy(*out, real, n);
  free(real);
  return st;
}

mrt_status *mrt_file_write(const mrt_alloc *alloc, const char *path, const void *data,
                           size_t size) {
  mrt_writer *w;
  MRT_TRY(mrt_writer_create(alloc, path, &w));
  mrt_writer_add(w, data, size);
  return mrt_writer_commit(w);
}
