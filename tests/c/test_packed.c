/* The store of packed weights and its cache folder (weights/packed.c, weights/cache.c): sharing by
 * contents and by place, second starts, damaged files, size limit, several processes, killed ones,
 * a full disk. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "kernels.h"
#include "provider/cpu/weights/cache.h"
#include "provider/cpu/weights/slab.h"

enum { N = 40000, LARGE = 2 * N }; /* files of N bytes are read, larger ones mapped */
static char folder[] = "/tmp/macart-packed-XXXXXX";

static mrt_status *pack(const void *arg, const mrt_tensor *source, void *dst) {
  const uint8_t add = *(const uint8_t *)arg, *from = source->data;
  for (size_t i = 0; i < source->bytes; ++i) ((uint8_t *)dst)[i] = (uint8_t)(from[i] + add);
  return NULL;
}
static mrt_status *cannot(const void *arg, const mrt_tensor *source, void *dst) {
  (void)arg, (void)source, (void)dst;
  return MRT_ERR(MRT_FAIL, "cannot");
}
static const uint8_t add1 = 1, add2 = 2;
static const mrt_packer one = {.format = "test.1", .bytes = N, .pack = pack, .arg = &add1};
static const mrt_packer two = {.format = "test.2", .bytes = N, .pack = pack, .arg = &add2};

static mrt_tensor *tensor_of_size(uint8_t *data, int64_t n) {
  const int64_t dims[1] = {n};
  mrt_tensor *t = NULL;
  CHECK_OK(mrt_tensor_wrap(mrt_alloc_default(), MRT_UINT8, 1, dims, NULL, data, MRT_HOST, NULL,
                           NULL, &t));
  return t;
}
static mrt_tensor *tensor_of(uint8_t *data) { return tensor_of_size(data, N); }
static mrt_packed *get(const mrt_tensor *t, const mrt_packer *q) {
  mrt_packed *p = NULL;
  CHECK_OK(mrt_packed_get(t, q, &p));
  return p;
}
/* What the last get did: 'p'acked, 's'hared, 'c'ached. */
static char did(void) {
  static mrt_packed_counts old;
  const mrt_packed_counts now = mrt_packed_count(), was = old;
  old = now;
  CHECK_EQ_I(now.packed + now.shared + now.cached - was.packed - was.shared - was.cached, 1);
  return now.packed > was.packed ? 'p' : now.shared > was.shared ? 's' : 'c';
}
static void check_size(const mrt_packed *p, const uint8_t *from, uint8_t add, int n) {
  const uint8_t *got = mrt_packed_data(p);
  int64_t bad = 0;
  for (int i = 0; i < n; ++i) bad += got[i] != (uint8_t)(from[i] + add);
  CHECK_EQ_I(bad, 0);
  CHECK_EQ_I((uintptr_t)got % 64, 0);
}
static void check_contents(const mrt_packed *p, const uint8_t *from, uint8_t add) {
  check_size(p, from, add, N);
}
static void fill(uint8_t *data) {
  for (int i = 0; i < N; ++i) data[i] = (uint8_t)rng();
}

/* Blocks of every size, in slabs and alone: apart, aligned, theirs until they are freed. */
static void test_slabs(void) {
  enum { BLOCKS = 60 };
  const int64_t live = mrt_alloc_live_bytes();
  void *block[BLOCKS] = {0};
  size_t size[BLOCKS];
  for (int i = 0; i < 4 * BLOCKS; ++i) {
    const int k = (int)(rng() % BLOCKS);
    if (block[k]) {
      const uint8_t *b = block[k];
      CHECK(b[0] == k && b[size[k] - 1] == k && b[size[k] / 2] == k);
      mrt_slab_free(block[k]);
    }
    size[k] = (size_t)1 << rng() % 22;
    size[k] += rng() % size[k];
    CHECK_OK(mrt_slab_new(size[k], &block[k]));
    CHECK_EQ_I((uintptr_t)block[k] % 64, 0);
    memset(block[k], k, size[k]);
  }
  for (int k = 0; k < BLOCKS; ++k) mrt_slab_free(block[k]);
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
}

/* What a block held is no longer memory when it is freed, whoever else lives in the slab. */
static void test_slab_pages(void) {
  enum { SIZE = 1 << 20, PAGE = 4096 };
  void *first, *second;
  unsigned char in[SIZE / PAGE] = {0};
  CHECK_OK(mrt_slab_new(SIZE, &first));
  CHECK_OK(mrt_slab_new(SIZE, &second));
  memset(first, 1, SIZE), memset(second, 2, SIZE);
  char *const from = (char *)(((uintptr_t)first + 4 * PAGE) / PAGE * PAGE);
  mrt_slab_free(first);
  CHECK_EQ_I(mincore(from, SIZE - 8 * PAGE, in), 0);
  int held = 0;
  for (int i = 0; i < SIZE / PAGE - 8; ++i) held += in[i] & 1;
  CHECK_EQ_I(held, 0);
  for (int i = 0; i < SIZE; ++i) CHECK(((char *)second)[i] == 2);
  mrt_slab_free(second);
}

static void test_failure(void) {
  static uint8_t a[N];
  mrt_tensor *t = tensor_of(a);
  mrt_packed *p = NULL;
  mrt_packer q = {.format = "bad", .bytes = N, .pack = cannot};
  for (int i = 0; i < 2; ++i, q.bytes = 100) { /* shared kind and small kind */
    mrt_status *st = mrt_packed_get(t, &q, &p);
    CHECK(st != NULL && p == NULL);
    mrt_status_free(st);
  }
  mrt_tensor_release(t);
}

static void test_sharing(void) {
  static uint8_t a[N], b[N];
  fill(a);
  memcpy(b, a, N);
  mrt_tensor *ta = tensor_of(a), *tb = tensor_of(b);
  mrt_packed *p = get(ta, &one);
  CHECK_EQ_I(did(), 'p');
  mrt_packed *q = get(tb, &one); /* equal contents elsewhere */
  CHECK_EQ_I(did(), 's');
  CHECK(p == q);
  mrt_packed *r = get(ta, &two); /* another form */
  CHECK_EQ_I(did(), 'p');
  check_contents(p, a, 1);
  check_contents(r, a, 2);
  b[N - 1] ^= 1; /* other contents */
  mrt_packed *s = get(tb, &one);
  CHECK_EQ_I(did(), 'p');
  check_contents(s, b, 1);
  mrt_packed_release(p);
  check_contents(q, a, 1); /* still held */
  mrt_packed_release(q);
  mrt_packed_release(get(ta, &one)); /* nobody holds it: packed again */
  CHECK_EQ_I(did(), 'p');
  mrt_packed_release(r);
  mrt_packed_release(s);
  mrt_packed *t = get(ta, &(mrt_packer){.format = "x", .bytes = N, .pack = pack, .arg = &add1});
  CHECK_EQ_I(did(), 'p');
  mrt_packed_release(t);
  mrt_tensor_release(ta);
  mrt_tensor_release(tb);
}

/* One bit anywhere changes both halves of the hash. */
static void test_hash(void) {
  static uint8_t data[200];
  const mrt_weight_key seed = {1, 2};
  for (size_t n = 0; n < sizeof data; n += 7) {
    const mrt_weight_key h = mrt_weight_hash(data, n, seed);
    for (size_t bit = 0; bit < n * 8; bit += 3) {
      data[bit / 8] ^= (uint8_t)(1 << bit % 8);
      const mrt_weight_key g = mrt_weight_hash(data, n, seed);
      CHECK(g.a != h.a && g.b != h.b);
      data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    const mrt_weight_key longer = mrt_weight_hash(data, n + 1, seed);
    CHECK(longer.a != h.a && longer.b != h.b);
  }
}

static int entries(const char *ending, char *first) {
  DIR *d = opendir(folder);
  int n = 0;
  for (struct dirent *e; d && (e = readdir(d));)
    if (strstr(e->d_name, ending) && n++ == 0 && first)
      snprintf(first, 300, "%s/%s", folder, e->d_name);
  if (d) closedir(d);
  return n;
}
static void empty_folder(void) {
  char path[300];
  while (entries(".mrt", path)) unlink(path);
}

static void test_folder(int n) {
  static uint8_t a[LARGE];
  char path[300];
  mrt_packer q = one;
  q.bytes = (size_t)n;
  fill(a), fill(a + N);
  mrt_tensor *t = tensor_of_size(a, n);
  mrt_packed_release(get(t, &q));
  CHECK_EQ_I(did(), 'p');
  CHECK_EQ_I(entries(".mrtw", path), 1);
  CHECK_EQ_I(entries(".tmp", NULL), 0);
  mrt_packed *p = get(t, &q);
  CHECK_EQ_I(did(), 'c');
  check_size(p, a, 1, n);
  mrt_packed_release(p);
  mrt_tensor_release(t);
  empty_folder();
}

/* Damaged entries are found, removed and written anew. */
static void test_damage(int n) {
  static uint8_t a[LARGE];
  char path[300];
  mrt_packer q = one;
  q.bytes = (size_t)n;
  fill(a), fill(a + N);
  mrt_tensor *t = tensor_of_size(a, n);
  for (int kind = 0; kind < 4; ++kind) {
    mrt_packed_release(get(t, &q));
    CHECK_EQ_I(did(), 'p');
    CHECK_EQ_I(entries(".mrtw", path), 1);
    const int fd = open(path, O_RDWR);
    uint8_t x = 0;
    const off_t at = kind == 0 ? 9 : kind == 1 ? MRT_CACHE_HEADER : MRT_CACHE_HEADER + n - 1;
    CHECK(pread(fd, &x, 1, at) == 1);
    x ^= 0x10;
    if (kind < 3) CHECK(pwrite(fd, &x, 1, at) == 1);
    if (kind == 3) CHECK(ftruncate(fd, 100) == 0);
    close(fd);
    mrt_packed *p = get(t, &q);
    CHECK_EQ_I(did(), 'p');
    check_size(p, a, 1, n);
    mrt_packed_release(p);
    empty_folder();
  }
  mrt_tensor_release(t);
}

/* Constants in a file: known by place, in the process and in the folder. */
static void test_place(void) {
  static uint8_t a[2 * N];
  char file[] = "/tmp/macart-weights-XXXXXX";
  fill(a), fill(a + N);
  close(mkstemp(file));
  CHECK_OK(mrt_file_write(mrt_alloc_default(), file, a, sizeof a));
  const int64_t dims[1] = {N};
  for (int round = 0; round < 3; ++round) {
    mrt_blob *blob = NULL;
    mrt_tensor *t[2] = {NULL, NULL};
    CHECK_OK(
        mrt_blob_from_file(mrt_alloc_default(), file, round ? MRT_FILE_MAP : MRT_FILE_READ, &blob));
    for (int i = 0; i < 2; ++i)
      CHECK_OK(mrt_tensor_over_blob(mrt_alloc_default(), MRT_UINT8, 1, dims, blob,
                                    mrt_blob_data(blob) + i * N, N, &t[i]));
    mrt_packed *p[2];
    for (int i = 0; i < 2; ++i) {
      p[i] = get(t[i], &one);
      CHECK_EQ_I(did(), round == 1 ? 'c' : 'p');
      check_contents(p[i], a + i * N, 1);
    }
    mrt_packed *again = get(t[1], &one);
    CHECK_EQ_I(did(), 's');
    CHECK(again == p[1]);
    mrt_packed_release(again);
    for (int i = 0; i < 2; ++i) mrt_packed_release(p[i]), mrt_tensor_release(t[i]);
    mrt_blob_release(blob);
    CHECK_EQ_I(entries(".mrti", NULL), round == 2 ? 4 : 2);
    if (round == 1) { /* the file changes: its old place says nothing any more */
      fill(a), fill(a + N);
      CHECK_OK(mrt_file_write(mrt_alloc_default(), file, a, sizeof a));
    }
  }
  unlink(file);
  empty_folder();
}

/* A copy of a file's bytes is dropped when it is unloaded: what lies in the file takes its place.
 */
static void test_copy_of_file(void) {
  enum { FROM = 3, COUNT = 500 };
  static uint8_t a[2 << 20];
  char file[] = "/tmp/macart-weights-XXXXXX";
  for (size_t i = 0; i < sizeof a; ++i) a[i] = (uint8_t)rng();
  close(mkstemp(file));
  CHECK_OK(mrt_file_write(mrt_alloc_default(), file, a, sizeof a));
  const int64_t dims[1] = {COUNT};
  mrt_blob *blob = NULL;
  mrt_tensor *t = NULL, *again = NULL;
  mrt_file_place before, after;
  CHECK_OK(mrt_blob_from_file(mrt_alloc_default(), file, MRT_FILE_MAP, &blob));
  const uint8_t *at = mrt_blob_data(blob) + FROM;
  CHECK_OK(mrt_tensor_from_blob(mrt_alloc_default(), MRT_FLOAT, 1, dims, blob, at, 4 * COUNT, &t));
  CHECK(mrt_tensor_file_place(t, &before) && before.offset == FROM);
  CHECK(t->data != at && mrt_tensor_is_aligned(t) && !memcmp(t->data, a + FROM, 4 * COUNT));
  mrt_tensor_retain(t);
  mrt_tensor_unload(t); /* somebody else may read it */
  CHECK(t->data != at);
  mrt_tensor_release(t);
  mrt_tensor_unload(t);
  CHECK(t->data == at && !mrt_tensor_is_aligned(t) && mrt_tensor_is_intact(t));
  CHECK(mrt_tensor_file_place(t, &after) && !memcmp(&before, &after, sizeof after));
  CHECK_OK(mrt_tensor_again(mrt_alloc_default(), t, &again));
  CHECK(!memcmp(again->data, a + FROM, 4 * COUNT));
  mrt_tensor_release(again);
  mrt_tensor_release(t);
  CHECK_OK(mrt_tensor_from_blob(mrt_alloc_default(), MRT_FLOAT, 1, dims, blob, at, 4 * COUNT, &t));
  mrt_tensor_release(t); /* not unloaded */
  mrt_blob_release(blob);
  unlink(file);
}

/* A file that became shorter after its pages were given back: an error, no SIGBUS. */
static void test_shrunk(void) {
  enum { BIG = 2 << 20 };
  static uint8_t a[BIG];
  char file[] = "/tmp/macart-weights-XXXXXX";
  close(mkstemp(file));
  CHECK_OK(mrt_file_write(mrt_alloc_default(), file, a, sizeof a));
  const int64_t dims[1] = {N};
  mrt_blob *blob = NULL;
  mrt_tensor *t = NULL;
  mrt_packed *p = NULL;
  CHECK_OK(mrt_blob_from_file(mrt_alloc_default(), file, MRT_FILE_AUTO, &blob));
  CHECK_OK(mrt_tensor_over_blob(mrt_alloc_default(), MRT_UINT8, 1, dims, blob,
                                mrt_blob_data(blob) + BIG / 2, N, &t));
  mrt_tensor_unload(t);
  CHECK(truncate(file, 100) == 0);
  mrt_status *st = mrt_packed_get(t, &one, &p);
  CHECK_EQ_I(mrt_status_code(st), MRT_FAIL);
  mrt_status_free(st);
  mrt_tensor_release(t);
  mrt_blob_release(blob);
  unlink(file);
  empty_folder();
}

/* Temporary files that somebody else writes just now are not touched. */
static void test_names_in_use(void) {
  char file[] = "/tmp/macart-file-XXXXXX", other[80];
  close(mkstemp(file));
  for (int i = 0; i < 400; ++i) {
    snprintf(other, sizeof other, "%s.%d.%d.tmp", file, (int)getpid(), i);
    FILE *f = fopen(other, "w");
    CHECK(f && fputs("theirs", f) >= 0 && fclose(f) == 0);
  }
  CHECK_OK(mrt_file_write(mrt_alloc_default(), file, "ours", 4));
  for (int i = -1; i < 400; ++i) {
    char text[16] = {0};
    snprintf(other, sizeof other, i < 0 ? "%s" : "%s.%d.%d.tmp", file, (int)getpid(), i);
    FILE *f = fopen(other, "r");
    CHECK(f && fread(text, 1, 15, f) && strcmp(text, i < 0 ? "ours" : "theirs") == 0);
    if (f) fclose(f);
    unlink(other);
  }
}

static void test_limit(void) {
  static uint8_t a[N];
  setenv("MRT_CACHE_LIMIT", "1", 1); /* MiB: 22 files of about 44 KB */
  for (int i = 0; i < 40; ++i) {
    fill(a);
    mrt_tensor *t = tensor_of(a);
    mrt_packed_release(get(t, &one));
    CHECK_EQ_I(did(), 'p');
    mrt_packed_release(get(t, &one)); /* the newest stays */
    CHECK_EQ_I(did(), 'c');
    mrt_tensor_release(t);
  }
  const int left = entries(".mrtw", NULL);
  CHECK(left >= 20 && left <= 24);
  unsetenv("MRT_CACHE_LIMIT");
  empty_folder();
}

/* Processes that pack the same at once: all get the right bytes, one file is left. */
static void test_processes(void) {
  static uint8_t a[N];
  pid_t pids[4];
  fill(a);
  for (int i = 0; i < 4; ++i) {
    pids[i] = fork();
    if (pids[i]) continue;
    mrt_tensor *t = tensor_of(a);
    for (int k = 0; k < 20; ++k) {
      mrt_packed *p = get(t, &one);
      check_contents(p, a, 1);
      mrt_packed_release(p);
      if (k % 5 == i) empty_folder();
    }
    _exit(check_failures != 0);
  }
  for (int i = 0; i < 4; ++i) {
    int status = 1;
    CHECK(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
  }
  CHECK_EQ_I(entries(".tmp", NULL), 0);
  empty_folder();
}

/* A full disk: packed in memory, and nothing is left in the folder. */
static void test_full_disk(void) {
  static uint8_t a[N];
  struct rlimit old, none;
  fill(a);
  mrt_tensor *t = tensor_of(a);
  getrlimit(RLIMIT_FSIZE, &old);
  none = old;
  none.rlim_cur = N / 2;
  signal(SIGXFSZ, SIG_IGN); /* writes fail with EFBIG then */
  CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
  mrt_packed *p = get(t, &one);
  CHECK_EQ_I(did(), 'p');
  check_contents(p, a, 1);
  CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
  signal(SIGXFSZ, SIG_DFL);
  CHECK_EQ_I(entries("mrt", NULL), 0);
  mrt_packed_release(p);
  mrt_tensor_release(t);
}

/* Processes killed while they write: no name shows half a file, and what they leave goes. */
static void test_killed(void) {
  enum { BIG = 4 << 20 };
  static uint8_t a[BIG];
  const int64_t dims[1] = {BIG};
  const mrt_packer big = {.format = "big", .bytes = BIG, .pack = pack, .arg = &add1};
  mrt_tensor *t = NULL;
  char path[300];
  CHECK_OK(
      mrt_tensor_wrap(mrt_alloc_default(), MRT_UINT8, 1, dims, NULL, a, MRT_HOST, NULL, NULL, &t));
  for (int round = 0; round < 12; ++round) {
    const pid_t pid = fork();
    if (!pid)
      for (;;) {
        ++a[0]; /* one file after the other */
        mrt_packed_release(get(t, &big));
      }
    for (int i = 0; i < 5000 && !entries(".tmp", NULL); ++i) usleep(200);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int k = 0; k < 40; ++k) { /* the names that it may have written */
      a[0] = (uint8_t)k;
      mrt_packed *p = get(t, &big);
      const char how = did();
      CHECK(how == 'p' || how == 'c');
      CHECK_EQ_I(((const uint8_t *)mrt_packed_data(p))[0], (uint8_t)(k + 1));
      CHECK_EQ_I(((const uint8_t *)mrt_packed_data(p))[BIG - 1], 1);
      mrt_packed_release(p);
      if (how == 'p') break;
    }
    a[0] = 0;
  }
  const struct timespec past[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
  while (entries(".tmp", path)) { /* old ones go with the next write */
    CHECK(utimensat(AT_FDCWD, path, past, 0) == 0);
    a[0] = (uint8_t)(a[0] + 1);
    mrt_packed_release(get(t, &big));
    if (did() == 'p') CHECK(access(path, F_OK) != 0);
  }
  mrt_tensor_release(t);
  empty_folder();
}

/* Other constants that are packed in count too; a misaligned source is copied when asked. */
static mrt_status *sum2(const void *arg, const mrt_tensor *source, void *dst) {
  const mrt_tensor *more = arg;
  const float *from = source->data;
  CHECK_EQ_I((uintptr_t)from % sizeof *from, 0);
  for (size_t i = 0; i < N / 4; ++i) ((float *)dst)[i] = from[i] + *(const float *)more->data;
  return NULL;
}
static void test_more(void) {
  static uint8_t a[N + 8];
  float add = 1;
  const int64_t dims[1] = {N / 4}, single[1] = {1};
  mrt_tensor *t = NULL, *s = NULL;
  uint8_t *at = a + 1;
  for (int i = 0; i < N / 4; ++i) memcpy(at + 4 * i, &(float){(float)i}, 4);
  CHECK_OK(
      mrt_tensor_wrap(mrt_alloc_default(), MRT_FLOAT, 1, dims, NULL, at, MRT_HOST, NULL, NULL, &t));
  CHECK_OK(mrt_tensor_wrap(mrt_alloc_default(), MRT_FLOAT, 1, single, NULL, &add, MRT_HOST, NULL,
                           NULL, &s));
  const mrt_packer q = {
      .format = "sum", .bytes = N, .more = {s}, .align_source = true, .pack = sum2, .arg = s};
  mrt_packed *p = get(t, &q);
  CHECK_EQ_I(did(), 'p');
  CHECK(((const float *)mrt_packed_data(p))[100] == 101);
  mrt_packed *again = get(t, &q);
  CHECK_EQ_I(did(), 's');
  add = 2;
  mrt_packed *other = get(t, &q);
  CHECK_EQ_I(did(), 'p');
  CHECK(((const float *)mrt_packed_data(other))[100] == 102);
  mrt_packed_release(p);
  mrt_packed_release(again);
  mrt_packed_release(other);
  mrt_tensor_release(t);
  mrt_tensor_release(s);
}

/* A folder that cannot be made: packed in memory. */
static void test_no_folder(void) {
  static uint8_t a[N];
  fill(a);
  setenv("MRT_CACHE_DIR", "/proc/no/such/folder", 1);
  mrt_log_set_default_level(MRT_FATAL);
  mrt_tensor *t = tensor_of(a);
  mrt_packed *p = get(t, &one);
  CHECK_EQ_I(did(), 'p');
  check_contents(p, a, 1);
  mrt_packed_release(p);
  mrt_tensor_release(t);
}

int main(void) {
  const int64_t live = mrt_alloc_live_bytes();
  unsetenv("MRT_CACHE_DIR");
  test_slabs();
  test_slab_pages();
  test_sharing();
  test_failure();
  test_more();
  test_hash();
  if (!mkdtemp(folder)) return 1;
  setenv("MRT_CACHE_DIR", folder, 1);
  mrt_log_set_default_level(MRT_FATAL);
  for (int n = N; n <= LARGE; n += N) {
    test_folder(n);
    test_damage(n);
  }
  test_place();
  test_shrunk();
  test_copy_of_file();
  test_names_in_use();
  test_limit();
  test_processes();
  test_full_disk();
  test_killed();
  rmdir(folder);
  test_no_folder();
  CHECK_EQ_I(mrt_alloc_live_bytes(), live);
  return CHECK_DONE();
}
