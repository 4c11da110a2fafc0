/* Small pieces are gathered in a buffer, large ones go to the file as they are. */
#include "base/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)1 << 16)
#define TRIES  1000

struct mrt_writer {
  const mrt_alloc *alloc;
  char *path, *tmp;
  int fd, error; /* error: errno of the first failure */
  uint64_t size;
  size_t used;
  char buffer[BUFFER];
};

static void destroy(mrt_writer *w) {
  if (w->fd >= 0) close(w->fd);
  if (w->tmp) unlink(w->tmp);
  mrt_mem_free(w->alloc, w->path);
  mrt_mem_free(w->alloc, w->tmp);
  mrt_mem_free(w->alloc, w);
}

/* A file that nobody else has: processes in different containers may have the same number. */
static mrt_status *open_file(mrt_writer *w, const char *path) {
  static atomic_uint serial;
  size_t n = strlen(path) + 1;
  MRT_TRY(mrt_mem_new(w->alloc, n, (void **)&w->path));
  memcpy(w->path, path, n);
  MRT_TRY(mrt_mem_new(w->alloc, n + 40, (void **)&w->tmp));
  for (int i = 0; i < TRIES && w->fd < 0 && (!i || errno == EEXIST); ++i) {
    snprintf(w->tmp, n + 40, "%s.%d.%u.tmp", path, (int)getpid(), atomic_fetch_add(&serial, 1));
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (w->fd >= 0) return NULL;
  mrt_status *st = MRT_ERR(MRT_FAIL, "writing '%s': %s", path, strerror(errno));
  mrt_mem_free(w->alloc, w->tmp); /* not ours to remove */
  w->tmp = NULL;
  return st;
}

mrt_status *mrt_writer_create(const mrt_alloc *alloc, const char *path, mrt_writer **out) {
  mrt_writer *w = NULL;
  *out = NULL;
  MRT_TRY(mrt_mem_new(alloc, sizeof *w, (void **)&w));
  memset(w, 0, offsetof(mrt_writer, buffer));
  w->alloc = alloc;
  w->fd = -1;
  mrt_status *st = open_file(w, path);
  if (st) {
    destroy(w);
    return st;
  }
  *out = w;
  return NULL;
}

static void put(mrt_writer *w, const char *p, size_t n) {
  while (n && !w->error) {
    ssize_t k = write(w->fd, p, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) {
      w->error = errno;
    } else {
      p += k;
      n -= (size_t)k;
    }
  }
}

static void flush(mrt_writer *w) {
  put(w, w->buffer, w->used);
  w->used = 0;
}

void mrt_writer_add(mrt_writer *w, const void *data, size_t size) {
  w->size += size;
  if (size > BUFFER - w->used) flush(w);
  if (size > BUFFER) {
    put(w, data, size);
    return;
  }
  if (size) memcpy(w->buffer + w->used, data, size);
  w->used += size;
}

void mrt_writer_pad(mrt_writer *w, size_t align) {
  static const char zeros[4096];
  mrt_writer_add(w, zeros, (size_t)((align - w->size % align) % align));
}

uint64_t mrt_writer_size(const mrt_writer *w) { return w->size; }

mrt_status *mrt_writer_commit(mrt_writer *w) {
  flush(w);
  if (!w->error && fsync(w->fd) != 0) w->error = errno;
  if (!w->error && rename(w->tmp, w->path) != 0) w->error = errno;
  mrt_status *st = NULL;
  if (w->error) {
    st = MRT_ERR(MRT_FAIL, "writing '%s': %s", w->path, strerror(w->error));
  } else {
    mrt_mem_free(w->alloc, w->tmp); /* renamed: nothing to remove */
    w->tmp = NULL;
  }
  destroy(w);
  return st;
}

void mrt_writer_abandon(mrt_writer *w) {
  if (w) destroy(w);
}
