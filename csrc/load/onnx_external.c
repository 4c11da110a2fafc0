/* External data: files beside the model, mapped (or read, when others may rewrite them). The path
 * is relative, and where it really leads must lie under the folder of the model, or under the
 * folder of the model's real path (caches made of symbolic links); escapes are refused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "load/onnx_internal.h"

/* Replaces a path (memory from alloc) by its folder. */
static void to_folder(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash)
    strcpy(path, "."); /* a relative name has at least one byte */
  else
    slash[slash == path] = 0;
}

static bool lies_under(const char *file, const char *folder) {
  size_t n = strlen(folder);
  if (n == 1 && *folder == '/') return true;
  return strncmp(file, folder, n) == 0 && file[n] == '/';
}

/* Is the real path `real` under the real path of the folder of `model`? */
static mrt_status *under_folder_of(const mrt_alloc *alloc, const char *model, const char *real,
                                   bool *out) {
  size_t n = strlen(model) + 2;
  char *folder = NULL, *real_folder = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, n, (void **)&folder));
  memcpy(folder, model, n - 2);
  to_folder(folder);
  mrt_status *st = mrt_path_real(alloc, folder, &real_folder);
  if (!st) *out = lies_under(real, real_folder);
  mrt_mem_free(alloc, folder);
  mrt_mem_free(alloc, real_folder);
  return st;
}

/* model: "" for one from memory, whose data may lie under the working directory. */
static mrt_status *check_under(mrt_onnx *l, const char *model, const char *file) {
  char *real = NULL, *real_model = NULL;
  bool ok = false;
  mrt_status *st = mrt_path_real(l->alloc, file, &real);
  if (!st) st = under_folder_of(l->alloc, *model ? model : ".", real, &ok);
  if (!st && !ok && *model) {
    mrt_status *gone = mrt_path_real(l->alloc, model, &real_model);
    if (gone && mrt_status_code(gone) == MRT_OUT_OF_MEMORY)
      st = gone;
    else
      mrt_status_free(gone); /* bytes with a folder of their own: there is no such file */
    if (real_model) st = under_folder_of(l->alloc, real_model, real, &ok);
  }
  if (!st && !ok) st = MRT_ERR(MRT_FAIL, "External data path escapes model directory: '%s'", file);
  mrt_mem_free(l->alloc, real);
  mrt_mem_free(l->alloc, real_model);
  return st;
}

static mrt_status *open_external(mrt_onnx *l, const char *location, mrt_blob **out) {
  *out = mrt_map_get(&l->files, location);
  if (*out) return NULL;
  if (!*location) return MRT_ERR(MRT_FAIL, "External data location cannot be empty");
  if (*location == '/')
    return MRT_ERR(MRT_FAIL, "Absolute path not allowed for external data location: '%s'",
                   location);
  const char *slash = strrchr(l->model->path, '/');
  char *file = slash ? mrt_arena_printf(l->model->arena, "%.*s/%s", (int)(slash - l->model->path),
                                        l->model->path, location)
                     : mrt_arena_printf(l->model->arena, "%s", location);
  char *key = mrt_arena_strdup(l->model->arena, location);
  if (!file || !key) return mrt_status_oom();
  mrt_status *st = check_under(l, l->model->path, file);
  if (!st) st = mrt_blob_from_file(l->alloc, file, l->external, out);
  if (st && mrt_status_code(st) == MRT_NO_SUCHFILE) {
    mrt_status_free(st);
    st = MRT_ERR(MRT_FAIL, "External data path does not exist: '%s'", file);
  }
  if (st) return st;
  st = mrt_map_set(&l->files, key, *out);
  if (st) mrt_blob_release(*out);
  return st;
}

static mrt_status *number(const Onnx__StringStringEntryProto *e, uint64_t *out) {
  const char *text = mrt_onnx_str(e->value);
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (errno || end == text || *end || *text < '0' || *text > '9' || v > INT64_MAX)
    return MRT_ERR(MRT_FAIL, "external data: %s is '%s', not a number of bytes", e->key, text);
  *out = v;
  return NULL;
}

mrt_status *mrt_onnx_external(mrt_onnx *l, const Onnx__TensorProto *p, mrt_dtype dtype, int rank,
                              const int64_t *dims, mrt_tensor **out) {
  const char *location = "";
  uint64_t offset = 0, length = 0;
  bool has_length = false;
  for (size_t i = 0; i < p->n_external_data; ++i) {
    const Onnx__StringStringEntryProto *e = p->external_data[i];
    const char *key = mrt_onnx_str(e->key);
    if (strcmp(key, "location") == 0) location = mrt_onnx_str(e->value);
    if (strcmp(key, "offset") == 0) MRT_TRY(number(e, &offset));
    if (strcmp(key, "length") == 0) {
      MRT_TRY(number(e, &length));
      has_length = true;
    }
  }
  mrt_blob *blob;
  size_t bytes, size;
  MRT_TRY(open_external(l, location, &blob));
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  size = mrt_blob_size(blob);
  if (offset > size || bytes > size - offset || (has_length && length != bytes))
    return MRT_ERR(MRT_FAIL,
                   "external data '%s': offset %llu and length %llu do not fit a file of %zu bytes "
                   "and a tensor of %zu bytes",
                   location, (unsigned long long)offset,
                   (unsigned long long)(has_length ? length : bytes), size, bytes);
  return mrt_onnx_over_bytes(l, blob, mrt_blob_data(blob) + offset, bytes, dtype, rank, dims, out);
}
