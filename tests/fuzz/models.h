/* Shared by the fuzzer, the replay of its corpus and the tests of failing allocations: a session
 * out of bytes, and a run on feeds made from its inputs' types. */
#ifndef MRT_TESTS_FUZZ_MODELS_H
#define MRT_TESTS_FUZZ_MODELS_H

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "exec/session.h"

/* An allocator with a limit on live bytes: hostile sizes end as OUT_OF_MEMORY, not in swap. All of
 * it is heap, also large blocks, which sanitizers see so. */
typedef struct limited {
  mrt_alloc alloc;
  _Atomic int64_t live;
  int64_t limit;
} limited;

static void *limited_alloc(void *ctx, size_t size, size_t align) {
  limited *l = ctx;
  void *p;
  if (size > (size_t)l->limit || l->live + (int64_t)size > l->limit) return NULL;
  if (posix_memalign(&p, align < 16 ? 16 : align, size ? size : 1) != 0) return NULL;
  l->live += (int64_t)malloc_usable_size(p);
  return p;
}
static void limited_free(void *ctx, void *p) {
  limited *l = ctx;
  if (!p) return;
  l->live -= (int64_t)malloc_usable_size(p);
  free(p);
}
static inline void limited_init(limited *l, int64_t limit) {
  *l = (limited){.alloc = {limited_alloc, limited_free, l}, .limit = limit};
}

static inline mrt_status *model_open(const mrt_alloc *alloc, const void *data, size_t size,
                                     mrt_session **out) {
  const mrt_session_options options = {
      .alloc = alloc, .level = 99, .intra_op_threads = 1, .log_level = 4};
  mrt_blob *blob = NULL;
  *out = NULL;
  MRT_TRY(mrt_blob_from_memory(alloc, data, size, NULL, NULL, &blob));
  const mrt_source source = {.bytes = blob};
  mrt_status *st = mrt_session_create(&options, &source, out);
  mrt_blob_release(blob);
  return st;
}

/* Ones of the declared shape, 2 for a dim that is not a number. */
static inline mrt_status *model_feed(const mrt_alloc *alloc, const mrt_type *type,
                                     mrt_value **out) {
  int64_t dims[MRT_MAX_RANK];
  mrt_tensor *t = NULL;
  *out = NULL;
  if (!type || type->kind != MRT_KIND_TENSOR || type->rank < 0)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "only tensors are fed");
  for (int i = 0; i < type->rank; ++i)
    if (!type->dims[i] || !mrt_expr_is_const(type->dims[i], &dims[i])) dims[i] = 2;
  MRT_TRY(mrt_tensor_create(alloc, type->dtype, type->rank, dims, &t));
  for (int64_t i = 0; type->dtype != MRT_STRING && i < mrt_tensor_count(t); ++i)
    mrt_elem_set_f64(type->dtype, t->data, i, 1);
  *out = &t->base;
  return NULL;
}

static inline uint64_t model_hash(const mrt_value *v, uint64_t seed) {
  const mrt_tensor *t = mrt_value_tensor(v);
  if (!t || t->dtype == MRT_STRING) return seed;
  return mrt_hash_bytes(t->data, t->bytes, seed);
}

/* Runs once; feeds come from the default allocator. *hash: of the numbers that came out. */
static inline mrt_status *model_run(mrt_session *s, uint64_t *hash) {
  mrt_value *feeds[16] = {0}, *outs[16] = {0};
  int in[16], fetch[16], n_in = mrt_session_n_inputs(s), n_out = mrt_session_n_outputs(s);
  mrt_status *st = NULL;
  if (n_in > 16 || n_out > 16) return MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 16 values");
  for (int i = 0; i < n_in && !st; ++i) {
    in[i] = i;
    st = model_feed(mrt_alloc_default(), mrt_session_input(s, i)->type, &feeds[i]);
  }
  for (int i = 0; i < n_out; ++i) fetch[i] = i;
  const mrt_run_options options = {0};
  if (!st) st = mrt_session_run(s, &options, n_in, in, feeds, n_out, fetch, outs);
  for (int i = 0; i < n_in; ++i) mrt_value_release(feeds[i]);
  *hash = 0;
  for (int i = 0; i < n_out; ++i) {
    *hash = model_hash(outs[i], *hash);
    mrt_value_release(outs[i]);
  }
  return st;
}

/* Calls fn for every file of a folder whose name starts with `prefix`, in order of names. */
typedef void (*model_file_fn)(const char *name, const uint8_t *data, size_t size, void *arg);
static inline int model_files(const char *folder, const char *prefix, model_file_fn fn, void *arg) {
  struct dirent **list;
  int n = scandir(folder, &list, NULL, alphasort), called = 0;
  for (int i = 0; i < n; ++i) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
    FILE *f = *list[i]->d_name != '.' && !strncmp(list[i]->d_name, prefix, strlen(prefix))
                  ? fopen(path, "rb")
                  : NULL;
    if (f) {
      fseek(f, 0, SEEK_END);
      long size = ftell(f);
      uint8_t *data = malloc((size_t)size + 1); /* exact: ASan sees reads beyond the end */
      rewind(f);
      data = realloc(data, size ? (size_t)size : 1);
      if (fread(data, 1, (size_t)size, f) == (size_t)size) {
        fn(list[i]->d_name, data, (size_t)size, arg);
        ++called;
      }
      free(data);
      fclose(f);
    }
    free(list[i]);
  }
  if (n >= 0) free(list);
  return called;
}

#endif
