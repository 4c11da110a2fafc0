/* TensorProto to tensor. Raw payloads are used where they lie in the file when they are aligned;
 * typed fields (float_data, int32_data, ...) are unpacked. External data is mapped; its path must
 * stay under the model's folder. Field numbers: onnx.proto, message TensorProto. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/onnx_internal.h"

enum {
  T_DIMS = 1,
  T_TYPE = 2,
  T_FLOAT = 4,
  T_INT32 = 5,
  T_STRING = 6,
  T_INT64 = 7,
  T_NAME = 8,
  T_RAW = 9,
  T_DOUBLE = 10,
  T_UINT64 = 11,
  T_EXTERNAL = 13,
  T_LOCATION = 14
};

static void release_blob(void *ctx, mrt_tensor *t) {
  (void)t;
  mrt_blob_release(ctx);
}

/* Over the blob's memory where alignment allows, else a copy. */
static mrt_status *over_bytes(mrt_onnx *l, mrt_blob *blob, const uint8_t *p, size_t n,
                              mrt_dtype dtype, int rank, const int64_t *dims, mrt_tensor **out) {
  size_t bytes, align = (size_t)mrt_dtype_bits(dtype) / 8;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  if (n != bytes)
    return MRT_ERR(MRT_INVALID_PROTOBUF, "the payload has %zu bytes, its shape needs %zu", n,
                   bytes);
  if (align > 8) align = 8;
  if (bytes >= 256 && (align < 2 || (uintptr_t)p % align == 0)) {
    mrt_blob_retain(blob);
    mrt_status *st = mrt_tensor_wrap(l->alloc, dtype, rank, dims, NULL, (void *)p, MRT_HOST,
                                     release_blob, blob, out);
    if (st) mrt_blob_release(blob);
    return st;
  }
  MRT_TRY(mrt_tensor_create(l->alloc, dtype, rank, dims, out));
  if (bytes) memcpy((*out)->data, p, bytes);
  return NULL;
}

typedef struct proto {
  int64_t dims[MRT_MAX_RANK];
  int rank;
  int64_t dtype, location;
  const char *name;
  mrt_wire raw, external[8];
  bool has_raw;
  int n_external;
  mrt_wire whole; /* read again for typed fields */
} proto;

static mrt_status *push_dim(proto *p, uint64_t v) {
  if (p->rank == MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank above %d", MRT_MAX_RANK);
  p->dims[p->rank++] = (int64_t)v;
  return NULL;
}

static mrt_status *scan(mrt_onnx *l, mrt_wire w, proto *p) {
  mrt_field f;
  int more;
  *p = (proto){.whole = w, .name = ""};
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (f.number == T_DIMS && f.type == 0) {
      MRT_TRY(push_dim(p, f.value));
    } else if (f.number == T_DIMS && f.type == 2) {
      uint64_t v;
      while (f.bytes.p < f.bytes.end) {
        if (!mrt_wire_varint(&f.bytes, &v)) return mrt_onnx_malformed();
        MRT_TRY(push_dim(p, v));
      }
    } else if (f.number == T_TYPE) {
      p->dtype = (int64_t)f.value;
    } else if (f.number == T_NAME && f.type == 2) {
      MRT_TRY(mrt_onnx_string(l, f.bytes, &p->name));
    } else if (f.number == T_RAW && f.type == 2) {
      p->raw = f.bytes;
      p->has_raw = true;
    } else if (f.number == T_EXTERNAL && f.type == 2) {
      if (p->n_external == 8) return mrt_onnx_malformed();
      p->external[p->n_external++] = f.bytes;
    } else if (f.number == T_LOCATION) {
      p->location = (int64_t)f.value;
    }
  }
  return more < 0 ? mrt_onnx_malformed() : NULL;
}

typedef struct filler {
  mrt_tensor *t;
  int64_t n, count;
} filler;

static mrt_status *put_int(filler *x, uint64_t v) {
  if (x->n >= x->count) return MRT_ERR(MRT_INVALID_PROTOBUF, "more elements than the shape has");
  mrt_dtype d = (mrt_dtype)x->t->dtype;
  int bits = mrt_dtype_bits(d);
  if (bits < 8) { /* int32_data holds packed bytes */
    ((uint8_t *)x->t->data)[x->n * bits / 8] = (uint8_t)v;
    x->n += 8 / bits;
    if (x->n > x->count) x->n = x->count;
    return NULL;
  }
  switch (bits) { /* float16, bfloat16, float8 come as their bits */
    case 8: ((uint8_t *)x->t->data)[x->n++] = (uint8_t)v; break;
    case 16: ((uint16_t *)x->t->data)[x->n++] = (uint16_t)v; break;
    case 32: ((uint32_t *)x->t->data)[x->n++] = (uint32_t)v; break;
    default: ((uint64_t *)x->t->data)[x->n++] = v;
  }
  return NULL;
}

static mrt_status *put_fixed(filler *x, const uint8_t *p, size_t size) {
  int64_t i = x->n++;
  bool complex = x->t->dtype == MRT_COMPLEX64 || x->t->dtype == MRT_COMPLEX128;
  size_t have = x->t->bytes;
  if ((size_t)(i + 1) * size > have || (!complex && i >= x->count))
    return MRT_ERR(MRT_INVALID_PROTOBUF, "more elements than the shape has");
  memcpy((uint8_t *)x->t->data + (size_t)i * size, p, size);
  return NULL;
}

static mrt_status *typed_field(filler *x, const mrt_field *f) {
  mrt_wire b = f->bytes;
  uint64_t v;
  mrt_dtype d = (mrt_dtype)x->t->dtype;
  size_t size = f->number == T_DOUBLE ? 8 : 4;
  bool fixed = f->number == T_FLOAT || f->number == T_DOUBLE;
  if (f->number == T_STRING && d == MRT_STRING && f->type == 2) {
    if (x->n >= x->count) return MRT_ERR(MRT_INVALID_PROTOBUF, "more elements than the shape has");
    return mrt_string_create(NULL, (const char *)b.p, mrt_wire_size(b),
                             &((mrt_string **)x->t->data)[x->n++]);
  }
  if (d == MRT_STRING || (f->number == T_FLOAT && d != MRT_FLOAT && d != MRT_COMPLEX64) ||
      (f->number == T_DOUBLE && d != MRT_DOUBLE && d != MRT_COMPLEX128))
    return NULL; /* a field that this type does not use */
  if (f->type != 2) {
    if (!fixed) return put_int(x, f->value);
    return put_fixed(x, (const uint8_t *)&f->value, size);
  }
  if (fixed) {
    if (mrt_wire_size(b) % size) return mrt_onnx_malformed();
    for (; b.p < b.end; b.p += size) MRT_TRY(put_fixed(x, b.p, size));
    return NULL;
  }
  while (b.p < b.end) {
    if (!mrt_wire_varint(&b, &v)) return mrt_onnx_malformed();
    MRT_TRY(put_int(x, v));
  }
  return NULL;
}

static mrt_status *from_typed(mrt_onnx *l, const proto *p, mrt_tensor **out) {
  mrt_wire w = p->whole;
  mrt_field f;
  size_t bytes;
  MRT_TRY(mrt_shape_bytes((mrt_dtype)p->dtype, p->rank, p->dims, &bytes));
  /* Every element costs at least a byte of file, but for packed small ones. */
  if (p->dtype != MRT_STRING && bytes / 16 > mrt_wire_size(w))
    return MRT_ERR(MRT_INVALID_PROTOBUF, "the shape needs %zu bytes, the tensor has only %zu",
                   bytes, mrt_wire_size(w));
  if (p->dtype == MRT_STRING && bytes / 8 > mrt_wire_size(w))
    return MRT_ERR(MRT_INVALID_PROTOBUF, "the shape has more strings than the tensor");
  MRT_TRY(mrt_tensor_create(l->alloc, (mrt_dtype)p->dtype, p->rank, p->dims, out));
  filler x = {.t = *out, .count = mrt_tensor_count(*out)};
  mrt_status *st = NULL;
  while (!st && mrt_wire_next(&w, &f) > 0)
    if ((f.number >= T_FLOAT && f.number <= T_INT64) || f.number == T_DOUBLE ||
        f.number == T_UINT64)
      st = typed_field(&x, &f);
  bool complex = p->dtype == MRT_COMPLEX64 || p->dtype == MRT_COMPLEX128;
  if (!st && x.n != x.count * (complex ? 2 : 1))
    st = MRT_ERR(MRT_INVALID_PROTOBUF, "%lld elements, the shape has %lld", (long long)x.n,
                 (long long)x.count);
  if (st) {
    mrt_tensor_release(*out);
    *out = NULL;
  }
  return st;
}

/* The data file must really lie under the folder of the model, or of the model's real path. */
static mrt_status *check_under(mrt_onnx *l, const char *model, const char *file) {
  char *real = NULL, *folder = NULL;
  mrt_status *st = mrt_path_real(l->alloc, file, &real);
  bool ok = false;
  for (int pass = 0; !st && pass < 2 && !ok; ++pass) {
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", model);
    if (pass) { /* symlinked caches: the folder where the model file really is */
      mrt_mem_free(l->alloc, folder);
      folder = NULL;
      st = mrt_path_real(l->alloc, model, &folder);
      if (st) break;
      snprintf(dir, sizeof dir, "%s", folder);
    }
    char *slash = strrchr(dir, '/');
    if (slash)
      *slash = 0;
    else
      strcpy(dir, ".");
    mrt_mem_free(l->alloc, folder);
    folder = NULL;
    st = mrt_path_real(l->alloc, *dir ? dir : "/", &folder);
    if (st) break;
    size_t n = strlen(folder);
    ok = strncmp(real, folder, n) == 0 && (real[n] == '/' || n == 1);
  }
  if (!st && !ok)
    st = MRT_ERR(MRT_INVALID_ARGUMENT, "external data '%s' lies outside the model's folder", file);
  mrt_mem_free(l->alloc, real);
  mrt_mem_free(l->alloc, folder);
  return st;
}

static mrt_status *open_external(mrt_onnx *l, const char *location, mrt_blob **out) {
  *out = mrt_map_get(&l->files, location);
  if (*out) return NULL;
  if (!*l->model->path)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "external data '%s' of a model loaded from bytes",
                   location);
  if (*location == '/' || !*location)
    return MRT_ERR(MRT_INVALID_ARGUMENT, "external data path '%s' is not relative", location);
  const char *slash = strrchr(l->model->path, '/');
  char *file = slash ? mrt_arena_printf(l->model->arena, "%.*s/%s", (int)(slash - l->model->path),
                                        l->model->path, location)
                     : mrt_arena_printf(l->model->arena, "%s", location);
  if (!file) return mrt_status_oom();
  MRT_TRY(check_under(l, l->model->path, file));
  MRT_TRY(mrt_blob_from_file(l->alloc, file, MRT_FILE_MAP, out));
  mrt_status *st = mrt_map_set(&l->files, location, *out);
  if (st) mrt_blob_release(*out);
  return st;
}

static mrt_status *from_external(mrt_onnx *l, const proto *p, mrt_tensor **out) {
  const char *location = "", *key, *value;
  long long offset = 0, length = -1;
  for (int i = 0; i < p->n_external; ++i) {
    MRT_TRY(mrt_onnx_entry(l, p->external[i], &key, &value));
    if (strcmp(key, "location") == 0) location = value;
    if (strcmp(key, "offset") == 0) offset = strtoll(value, NULL, 10);
    if (strcmp(key, "length") == 0) length = strtoll(value, NULL, 10);
  }
  mrt_blob *blob;
  size_t bytes, size;
  MRT_TRY(open_external(l, location, &blob));
  MRT_TRY(mrt_shape_bytes((mrt_dtype)p->dtype, p->rank, p->dims, &bytes));
  size = mrt_blob_size(blob);
  if (offset < 0 || (unsigned long long)offset > size || bytes > size - (size_t)offset ||
      (length >= 0 && (unsigned long long)length != bytes))
    return MRT_ERR(MRT_INVALID_ARGUMENT,
                   "external data '%s': offset %lld and length %lld do not fit a file of %zu bytes "
                   "and a tensor of %zu bytes",
                   location, offset, length, size, bytes);
  return over_bytes(l, blob, mrt_blob_data(blob) + offset, bytes, (mrt_dtype)p->dtype, p->rank,
                    p->dims, out);
}

mrt_status *mrt_onnx_tensor(mrt_onnx *l, mrt_wire w, const char **out_name, mrt_tensor **out) {
  proto p;
  *out = NULL;
  MRT_TRY(scan(l, w, &p));
  if (out_name) *out_name = p.name;
  if (!mrt_dtype_valid((int)p.dtype) || p.dtype > 1000)
    return MRT_ERR(MRT_INVALID_PROTOBUF, "tensor '%s': unknown element type %lld", p.name,
                   (long long)p.dtype);
  mrt_status *st;
  if (p.location == 1)
    st = from_external(l, &p, out);
  else if (p.has_raw && p.dtype != MRT_STRING)
    st = over_bytes(l, l->blob, p.raw.p, mrt_wire_size(p.raw), (mrt_dtype)p.dtype, p.rank, p.dims,
                    out);
  else
    st = from_typed(l, &p, out);
  return mrt_status_wrap(st, "tensor '%s'", p.name);
}
