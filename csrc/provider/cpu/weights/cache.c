/* Files of the cache folder. */
#include "provider/cpu/weights/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/fork.h"
#include "base/log.h"

enum {
  PATH = 4096,
  SAMPLE = 4096,
  EVERY = 256 << 10,
  FEW = 1 << 20,   /* up to so many bytes are populated: faults cost more than their pages, */
  LARGE = 8 << 20, /* and from here on: a run would fault page after page */
  STALE = 600      /* seconds */
};

typedef struct header {
  char magic[8]; /* "MRTWGT1" */
  mrt_weight_key key;
  uint64_t bytes;
  mrt_weight_key check; /* of samples of the contents */
} header;

const char *mrt_cache_folder(void) {
  const char *dir = MRT_ENV("MRT_CACHE_DIR", "", "folder that keeps packed weights between runs");
  return *dir ? dir : NULL;
}

static bool path_of(char *buf, mrt_weight_key key, const char *ending) {
  const int n = snprintf(buf, PATH, "%s/%016" PRIx64 "%016" PRIx64 ".%s", mrt_cache_folder(), key.a,
                         key.b, ending);
  return n > 0 && n < PATH;
}

static void complain(const char *what, const char *path) {
  MRT_LOG(NULL, MRT_WARNING, "cache of packed weights: %s '%s': %s", what, path, strerror(errno));
}

/* The contents of an entry: in memory, or of a file. */
typedef struct contents {
  const uint8_t *data; /* NULL: behind the header of fd */
  int fd;
} contents;

static bool read_at(int fd, void *buf, size_t n, size_t at) {
  for (size_t done = 0; done < n;) {
    const ssize_t got = pread(fd, (char *)buf + done, n - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

static size_t sample(size_t left) { return left < SAMPLE ? left : SAMPLE; }

static bool add_sample(contents c, size_t at, size_t n, mrt_weight_key *h) {
  uint8_t buf[SAMPLE];
  if (!c.data && !read_at(c.fd, buf, n, MRT_CACHE_HEADER + at)) return false;
  *h = mrt_weight_hash(c.data ? c.data + at : buf, n, *h);
  return true;
}

/* A piece of every EVERY bytes, and the end: finds files cut short, shifted or zeroed. Pieces of a
 * file are read, not mapped: a fault may map a megabyte around itself, of weights that perhaps no
 * run reads (those of a branch). `first` is the first one. false: the file could not be read. */
static bool check_of(contents c, const uint8_t *first, size_t bytes, mrt_weight_key *h) {
  *h = mrt_weight_hash(first, sample(bytes), (mrt_weight_key){bytes, 1});
  bool ok = true;
  for (size_t at = EVERY; at < bytes && ok; at += EVERY)
    ok = add_sample(c, at, sample(bytes - at), h);
  return ok && add_sample(c, bytes - sample(bytes), sample(bytes), h);
}

static bool same_key(mrt_weight_key x, mrt_weight_key y) { return x.a == y.a && x.b == y.b; }

static bool is_header(const header *h, mrt_weight_key key, size_t bytes) {
  return memcmp(h->magic, "MRTWGT1", 8) == 0 && same_key(h->key, key) && h->bytes == bytes;
}

/* The entry's file; -1: there is none. *fits: it has the size that it should have. */
static int open_entry(mrt_weight_key key, size_t bytes, char *path, bool *fits) {
  struct stat s;
  if (!path_of(path, key, "mrtw")) return -1;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  *fits = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode) &&
          (uint64_t)s.st_size == bytes + MRT_CACHE_HEADER;
  return fd;
}

/* ok: what was read of it is what was written. */
static bool close_entry(int fd, const char *path, bool ok) {
  if (ok) futimens(fd, NULL); /* used now; a read-only folder need not let us say so */
  close(fd);
  if (ok) return true;
  MRT_LOG(NULL, MRT_WARNING, "cache of packed weights: '%s' is damaged: removed", path);
  unlink(path);
  return false;
}

static bool is_good(int fd, mrt_weight_key key, size_t bytes) {
  _Alignas(header) uint8_t front[MRT_CACHE_HEADER + SAMPLE];
  const header *h = (const void *)front;
  const uint8_t *data = front + MRT_CACHE_HEADER;
  mrt_weight_key check;
  return read_at(fd, front, MRT_CACHE_HEADER + sample(bytes), 0) && is_header(h, key, bytes) &&
         check_of((contents){NULL, fd}, data, bytes, &check) && same_key(h->check, check);
}

/* A page for each weight adds up: the header's is left out where it is one. */
static size_t left_out(void) {
  return sysconf(_SC_PAGESIZE) == MRT_CACHE_HEADER ? MRT_CACHE_HEADER : 0;
}

bool mrt_cache_open(mrt_weight_key key, size_t bytes, bool populate, void **map) {
  char path[PATH];
  bool fits;
  *map = NULL;
  const int fd = open_entry(key, bytes, path, &fits);
  if (fd < 0) return false;
  if (!fits || !is_good(fd, key, bytes)) return close_entry(fd, path, false);
  const size_t gone = left_out(), size = bytes + MRT_CACHE_HEADER - gone;
  const int now = size >= LARGE || (populate && size <= FEW) ? MAP_POPULATE : 0;
  char *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | now, fd, (off_t)gone);
  const bool ok = p != MAP_FAILED;
  if (ok)
    *map = p - gone;
  else
    complain("mapping", path); /* no room: the file may be good */
  (void)close_entry(fd, path, true);
  return ok;
}

bool mrt_cache_read(mrt_weight_key key, size_t bytes, void *dst) {
  char path[PATH];
  header h;
  mrt_weight_key check;
  bool ok;
  const int fd = open_entry(key, bytes, path, &ok);
  if (fd < 0) return false;
  ok = ok && read_at(fd, &h, sizeof h, 0) && is_header(&h, key, bytes) &&
       read_at(fd, dst, bytes, MRT_CACHE_HEADER) &&
       check_of((contents){dst, -1}, dst, bytes, &check) && same_key(h.check, check);
  return close_entry(fd, path, ok);
}

void mrt_cache_close(void *map, size_t bytes) {
  munmap((char *)map + left_out(), bytes + MRT_CACHE_HEADER - left_out());
}

/* ---- size limit ---- */
typedef struct entry {
  char name[64];
  struct timespec used;
  off_t size;
} entry;

static int by_age(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
  return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

static bool ends_with(const char *s, const char *end) {
  const size_t n = strlen(s), k = strlen(end);
  return n >= k && strcmp(s + n - k, end) == 0;
}

/* Reads the folder; *total: bytes of all packed files. Links whose file is gone are removed, and
 * half-written files of processes that died. */
static entry *list(const char *dir, size_t *n, uint64_t *total) {
  entry *items = NULL;
  size_t cap = 0;
  struct dirent *e;
  const time_t now = time(NULL);
  DIR *d = opendir(dir);
  *n = 0;
  *total = 0;
  while (d && (e = readdir(d))) {
    struct stat s;
    if (ends_with(e->d_name, ".mrti") && fstatat(dirfd(d), e->d_name, &s, 0) != 0)
      unlinkat(dirfd(d), e->d_name, 0);
    if (ends_with(e->d_name, ".tmp") && strstr(e->d_name, ".mrtw.") &&
        fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 &&
        s.st_mtim.tv_sec + STALE < now)
      unlinkat(dirfd(d), e->d_name, 0);
    if (!ends_with(e->d_name, ".mrtw") || strlen(e->d_name) >= sizeof items->name ||
        fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0)
      continue;
    mrt_status *st =
        mrt_mem_grow(mrt_alloc_default(), (void **)&items, &cap, *n + 1, sizeof *items);
    if (st) {
      mrt_status_free(st);
      break;
    }
    entry *it = &items[(*n)++];
    strcpy(it->name, e->d_name);
    it->used = s.st_mtim;
    it->size = s.st_size;
    *total += (uint64_t)s.st_size;
  }
  if (d) closedir(d);
  return items;
}

static void make_room(const char *dir) {
  const char *text = MRT_ENV("MRT_CACHE_LIMIT", "8192", "MiB that MRT_CACHE_DIR may hold");
  const uint64_t limit = strtoull(text, NULL, 10) << 20;
  size_t n;
  uint64_t total;
  entry *items = list(dir, &n, &total);
  if (total > limit) qsort(items, n, sizeof *items, by_age);
  for (size_t i = 0; i < n && total > limit; ++i) {
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/%s", dir, items[i].name) >= PATH) continue;
    if (unlink(path) == 0) total -= (uint64_t)items[i].size;
  }
  mrt_mem_free(mrt_alloc_default(), items);
}

/* ---- writing: one at a time in a process ---- */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static mrt_fork_guard writing_guard;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void guard(void) { mrt_fork_guard_add(&writing_guard, &writing); }

void mrt_cache_write(mrt_weight_key key, void *file, size_t bytes) {
  char path[PATH];
  const char *dir = mrt_cache_folder();
  if (!dir || !path_of(path, key, "mrtw")) return;
  if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
    complain("making", dir);
    return;
  }
  header h = {.magic = "MRTWGT1", .key = key, .bytes = bytes};
  const uint8_t *data = (const uint8_t *)file + MRT_CACHE_HEADER;
  (void)check_of((contents){data, -1}, data, bytes, &h.check);
  memset(file, 0, MRT_CACHE_HEADER);
  memcpy(file, &h, sizeof h);
  pthread_once(&once, guard);
  pthread_mutex_lock(&writing);
  mrt_status *st = mrt_file_write(mrt_alloc_default(), path, file, bytes + MRT_CACHE_HEADER);
  if (!st) make_room(dir);
  pthread_mutex_unlock(&writing);
  if (st) {
    MRT_LOG(NULL, MRT_WARNING, "cache of packed weights: %s", mrt_status_message(st));
    mrt_status_free(st);
  }
}

bool mrt_cache_lookup(mrt_weight_key place, mrt_weight_key *key) {
  char path[PATH], target[64];
  if (!path_of(path, place, "mrti")) return false;
  const ssize_t n = readlink(path, target, sizeof target - 1);
  if (n != 37) return false; /* 32 digits and ".mrtw" */
  target[n] = 0;
  return sscanf(target, "%16" SCNx64 "%16" SCNx64 ".mrtw", &key->a, &key->b) == 2;
}

void mrt_cache_remember(mrt_weight_key place, mrt_weight_key key) {
  char path[PATH], target[64];
  if (!path_of(path, place, "mrti")) return;
  snprintf(target, sizeof target, "%016" PRIx64 "%016" PRIx64 ".mrtw", key.a, key.b);
  if (symlink(target, path) == 0 || errno != EEXIST) return;
  mrt_weight_key old;
  if (mrt_cache_lookup(place, &old) && same_key(old, key)) return;
  if (unlink(path) != 0 || symlink(target, path) != 0) complain("linking", path);
}
