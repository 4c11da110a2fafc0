/* Tensors: creation, views, copies. */
#include "tensor/strided.h"

#include <string.h>

int64_t mrt_tensor_count(const mrt_tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; ++i) n *= t->dims[i];
  return n;
}

bool mrt_tensor_is_contiguous(const mrt_tensor *t) {
  if (!t->strided) return true;
  int64_t step = 1;
  for (int i = t->rank - 1; i >= 0; --i) {
    if (t->dims[i] == 0) return true;
    if (t->dims[i] != 1 && t->strides[i] != step) return false;
    step *= t->dims[i];
  }
  return true;
}

static void free_strings(mrt_tensor *t) {
  mrt_string **s = t->data;
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) mrt_string_release(s[i]);
}

static void release_own(void *ctx, mrt_tensor *t) {
  (void)ctx;
  if (t->dtype == MRT_STRING) free_strings(t);
  mrt_mem_free(t->alloc, t->data);
}

mrt_status *mrt_tensor_create(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                              const int64_t *dims, mrt_tensor **out) {
  size_t bytes;
  void *data = NULL;
  *out = NULL;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  MRT_TRY(mrt_mem_new_aligned(alloc, bytes, MRT_ALIGN, &data));
  if (dtype == MRT_STRING) memset(data, 0, bytes);
  mrt_status *st =
      mrt_tensor_wrap(alloc, dtype, rank, dims, NULL, data, MRT_HOST, release_own, NULL, out);
  if (st) mrt_mem_free(alloc, data);
  return st;
}

mrt_status *mrt_tensor_create_in(const mrt_alloc *alloc, mrt_dtype dtype, mrt_layout layout,
                                 int rank, const int64_t *dims, mrt_tensor **out) {
  size_t bytes;
  void *data = NULL;
  *out = NULL;
  if (layout == MRT_LAYOUT_PLAIN) return mrt_tensor_create(alloc, dtype, rank, dims, out);
  MRT_TRY(mrt_layout_bytes(dtype, layout, rank, dims, &bytes));
  MRT_TRY(mrt_mem_new_aligned(alloc, bytes, MRT_ALIGN, &data));
  mrt_status *st =
      mrt_tensor_wrap(alloc, dtype, rank, dims, NULL, data, MRT_HOST, release_own, NULL, out);
  if (st) {
    mrt_mem_free(alloc, data);
    return st;
  }
  (*out)->bytes = bytes;
  (*out)->layout = (uint8_t)layout;
  return NULL;
}

/* Bytes of a tensor's struct that mean something; a few dims are always there. */
static size_t struct_size(int rank, bool strided) {
  const size_t dims = rank < 4 ? 4 : (size_t)rank;
  return strided ? sizeof(mrt_tensor) : offsetof(mrt_tensor, dims) + dims * sizeof(int64_t);
}

void mrt_tensor_look(mrt_tensor *out, const mrt_tensor *t) {
  memcpy(out, t, struct_size(t->rank, t->strided));
}

mrt_status *mrt_tensor_wrap(const mrt_alloc *alloc, mrt_dtype dtype, int rank, const int64_t *dims,
                            const int64_t *strides, void *data, mrt_device device,
                            void (*release)(void *ctx, mrt_tensor *tensor), void *ctx,
                            mrt_tensor **out) {
  size_t bytes;
  mrt_tensor *t = NULL;
  *out = NULL;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  MRT_TRY(mrt_mem_new(alloc, struct_size(rank, strides != NULL), (void **)&t));
  mrt_tensor_init_view(t, dtype, rank, dims, data, bytes, device);
  t->base.flags = 0;
  if (strides) {
    memcpy(t->strides, strides, (size_t)rank * sizeof *strides);
    t->strided = true;
    if (mrt_tensor_is_contiguous(t)) t->strided = false;
  }
  t->release = release;
  t->ctx = ctx;
  t->alloc = alloc;
  *out = t;
  return NULL;
}

static void release_blob(void *ctx, mrt_tensor *t) {
  (void)t;
  mrt_blob_release(ctx);
}

mrt_status *mrt_tensor_over_blob(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                 const int64_t *dims, mrt_blob *blob, const void *data, size_t n,
                                 mrt_tensor **out) {
  size_t bytes;
  *out = NULL;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  if (n != bytes)
    return MRT_ERR(MRT_FAIL, "the payload has %zu bytes, its shape needs %zu", n, bytes);
  mrt_blob_retain(blob);
  mrt_status *st = mrt_tensor_wrap(alloc, dtype, rank, dims, NULL, (void *)data, MRT_HOST,
                                   release_blob, blob, out);
  if (st) mrt_blob_release(blob);
  return st;
}

/* ---- copied from a blob ---- */
typedef struct origin {
  mrt_blob *blob;
  const uint8_t *at;
} origin;

static void release_copy(void *ctx, mrt_tensor *t) {
  origin *o = ctx;
  mrt_blob_release(o->blob);
  mrt_mem_free(t->alloc, t->data);
  mrt_mem_free(t->alloc, o);
}

mrt_status *mrt_tensor_from_blob(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                 const int64_t *dims, mrt_blob *blob, const void *data, size_t n,
                                 mrt_tensor **out) {
  mrt_tensor *t = NULL;
  origin *o = NULL;
  void *copy = NULL;
  *out = NULL;
  MRT_TRY(mrt_tensor_over_blob(alloc, dtype, rank, dims, blob, data, n, &t));
  mrt_status *st = mrt_mem_new(alloc, sizeof *o, (void **)&o);
  if (!st) st = mrt_mem_new_aligned(alloc, n, MRT_ALIGN, &copy);
  if (st) {
    mrt_mem_free(alloc, o);
    mrt_tensor_release(t);
    return st;
  }
  if (n) memcpy(copy, data, n);
  *o = (origin){blob, data};
  t->data = copy;
  t->release = release_copy;
  t->ctx = o;
  *out = t;
  return NULL;
}

/* From now on it is what lies in the blob. */
static void drop_copy(mrt_tensor *t) {
  origin *o = t->ctx;
  if (atomic_load(&t->base.refs) != 1) return;
  mrt_mem_free(t->alloc, t->data);
  t->data = (void *)o->at;
  t->release = release_blob;
  t->ctx = o->blob;
  mrt_mem_free(t->alloc, o);
}

bool mrt_tensor_is_aligned(const mrt_tensor *t) {
  size_t align = (size_t)mrt_dtype_bits((mrt_dtype)t->dtype) / 8;
  if (align > 8) align = 8; /* complex128 is two doubles */
  if (mrt_tensor_is_forgotten(t)) return false;
  return !mrt_device_is_host(t->device) || align < 2 || (uintptr_t)t->data % align == 0;
}

static void free_contents(mrt_tensor *t) {
  if (t->release != release_own || t->dtype == MRT_STRING || atomic_load(&t->base.refs) != 1)
    return;
  mrt_mem_free(t->alloc, t->data);
  t->data = NULL;
  t->base.flags |= MRT_VALUE_FORGOTTEN;
}

void mrt_tensor_forget(mrt_tensor *t) {
  if (atomic_load(&t->base.refs) != 1 || mrt_tensor_is_forgotten(t)) return;
  mrt_tensor_unload(t);
  if (!(t->base.flags & MRT_VALUE_INGREDIENT)) free_contents(t);
}

void mrt_tensor_is_ingredient(mrt_tensor *t) { t->base.flags |= MRT_VALUE_INGREDIENT; }

static size_t offset_in(const mrt_blob *b, const mrt_tensor *t) {
  return (size_t)((const uint8_t *)t->data - mrt_blob_data(b));
}

void mrt_tensor_unload(mrt_tensor *t) {
  if (t->recipe && !mrt_tensor_is_forgotten(t) && t->recipe->intact(t->recipe)) free_contents(t);
  if (t->release == release_copy) drop_copy(t);
  if (t->release != release_blob) return;
  mrt_tensor_drop_pages(t);
  t->base.flags |= MRT_VALUE_UNLOADED;
}

/* A fault on a file's page may bring megabytes of neighbours. */
#define KEEP_BELOW ((size_t)256 << 10)

mrt_status *mrt_tensor_keep(const mrt_tensor *t) {
  if (t->release != release_blob || (t->base.flags & MRT_VALUE_UNLOADED)) return NULL;
  mrt_blob *b = t->ctx;
  if (!mrt_blob_keeps_all(b) && t->bytes >= KEEP_BELOW) return NULL;
  return mrt_blob_keep(b, offset_in(b, t), t->bytes);
}

mrt_status *mrt_tensor_settle(const mrt_tensor *t) {
  return t->release == release_blob ? mrt_blob_settle(t->ctx) : NULL;
}

bool mrt_tensor_is_intact(const mrt_tensor *t) {
  if (mrt_tensor_is_forgotten(t)) return t->recipe && t->recipe->intact(t->recipe);
  return t->release != release_blob || mrt_blob_is_intact(t->ctx);
}

mrt_status *mrt_tensor_again(const mrt_alloc *alloc, const mrt_tensor *t, mrt_tensor **out) {
  *out = NULL;
  if (!mrt_tensor_is_intact(t))
    return MRT_ERR(MRT_FAIL, "the model file has changed: weights cannot be packed again");
  if (mrt_tensor_is_forgotten(t)) {
    MRT_TRY(t->recipe->make(t->recipe, alloc, out));
    if (atomic_load(&(*out)->base.refs) == 1) (*out)->recipe = t->recipe; /* not what it reads */
    if ((*out)->dtype == t->dtype && mrt_shape_equal((*out)->rank, (*out)->dims, t->rank, t->dims))
      return NULL;
    mrt_tensor_release(*out);
    *out = NULL;
    return MRT_ERR(MRT_FAIL, "a folded constant has another type than it was inferred to have");
  }
  mrt_status *st = mrt_tensor_copy(alloc, t, out);
  mrt_tensor_drop_pages(t);
  return st;
}

#define LATER_FROM ((size_t)64 << 10)

bool mrt_tensor_may_be_later(mrt_dtype dtype, int rank, const int64_t *dims) {
  int64_t count = 1;
  size_t bytes;
  int wide = 0;
  for (int i = 0; i < rank; ++i) {
    if (!mrt_i64_mul(count, dims[i], &count)) return false;
    wide += dims[i] > 1;
  }
  return dtype == MRT_FLOAT && wide > 1 && mrt_dtype_bytes(dtype, count, &bytes) &&
         bytes >= LATER_FROM;
}

mrt_status *mrt_tensor_create_later(const mrt_alloc *alloc, mrt_dtype dtype, int rank,
                                    const int64_t *dims, const mrt_recipe *recipe,
                                    mrt_tensor **out) {
  MRT_TRY(mrt_tensor_wrap(alloc, dtype, rank, dims, NULL, NULL, MRT_HOST, NULL, NULL, out));
  (*out)->base.flags |= MRT_VALUE_FORGOTTEN;
  (*out)->recipe = recipe;
  return NULL;
}

void mrt_tensor_drop_pages(const mrt_tensor *t) {
  if (t->release != release_blob) return;
  mrt_blob *b = t->ctx;
  mrt_blob_drop_pages(b, offset_in(b, t), t->bytes);
}

bool mrt_tensor_file_place(const mrt_tensor *t, mrt_file_place *out) {
  if (t->release == release_copy) {
    const origin *o = t->ctx;
    return mrt_blob_place(o->blob, (size_t)(o->at - mrt_blob_data(o->blob)), t->bytes, out);
  }
  if (t->release != release_blob) return false;
  const mrt_blob *b = t->ctx;
  return mrt_blob_place(b, offset_in(b, t), t->bytes, out);
}

bool mrt_tensor_origin(const mrt_tensor *t, mrt_str *out) {
  enum { FEW = 16 << 10 }; /* bytes that are taken themselves */
  mrt_file_place where;
  const int64_t head[4] = {t->dtype, t->rank, (int64_t)t->bytes, t->narrow};
  mrt_str_addn(out, (const char *)head, sizeof head);
  mrt_str_addn(out, (const char *)t->dims, (size_t)t->rank * sizeof *t->dims);
  if (t->strided || t->dtype == MRT_STRING || !mrt_device_is_host(t->device)) return false;
  const bool in_file = mrt_tensor_file_place(t, &where);
  mrt_str_addf(out, "%s", in_file ? "file" : t->recipe ? "made" : "bytes");
  if (in_file) mrt_str_addn(out, (const char *)&where, sizeof where);
  if (in_file) return true;
  if (t->recipe) return t->recipe->origin && t->recipe->origin(t->recipe, out);
  if (t->bytes > FEW || mrt_tensor_is_forgotten(t)) return false;
  mrt_str_addn(out, t->data, t->bytes);
  return true;
}

void mrt_tensor_init_view(mrt_tensor *t, mrt_dtype dtype, int rank, const int64_t *dims, void *data,
                          size_t bytes, mrt_device device) {
  atomic_init(&t->base.refs, 1);
  t->base.kind = MRT_KIND_TENSOR;
  t->base.flags = MRT_VALUE_BORROWED;
  t->dtype = (uint8_t)dtype;
  t->layout = MRT_LAYOUT_PLAIN;
  t->strided = false;
  t->readers = 0;
  t->narrow = 0;
  t->parts = 0;
  t->rank = rank;
  if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
  t->data = data;
  t->bytes = bytes;
  t->device = device;
  t->release = NULL;
  t->ctx = NULL;
  t->alloc = NULL;
  t->recipe = NULL;
}

mrt_status *mrt_tensor_copy_into(mrt_tensor *dst, const mrt_tensor *src) {
  if (dst->dtype != src->dtype || !mrt_shape_equal(dst->rank, dst->dims, src->rank, src->dims)) {
    char a[160], b[160];
    return MRT_ERR(
        MRT_INVALID_ARGUMENT, "copy from %s %s to %s %s", mrt_dtype_name((mrt_dtype)src->dtype),
        mrt_shape_format(a, sizeof a, src->rank, src->dims), mrt_dtype_name((mrt_dtype)dst->dtype),
        mrt_shape_format(b, sizeof b, dst->rank, dst->dims));
  }
  if (!mrt_device_is_host(src->device) || !mrt_device_is_host(dst->device))
    return MRT_ERR(MRT_FAIL, "copy of device memory without its provider");
  if (dst == src) return NULL;
  if (dst->dtype == MRT_STRING && dst->strided)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "copy of strings into a strided tensor");
  if (dst->dtype == MRT_STRING) free_strings(dst);
  if (!src->strided && !dst->strided) {
    if (src->bytes) memcpy(dst->data, src->data, src->bytes);
  } else {
    int bits = mrt_dtype_bits((mrt_dtype)src->dtype);
    if (bits < 8) return MRT_ERR(MRT_NOT_IMPLEMENTED, "strided tensors of sub-byte elements");
    int64_t plain[MRT_MAX_RANK]; /* sub-byte types are contiguous only */
    mrt_contiguous_strides(dst->rank, dst->dims, plain);
    mrt_strided_copy(NULL, (size_t)bits / 8, dst->rank, dst->dims, dst->data,
                     dst->strided ? dst->strides : plain, src->data,
                     src->strided ? src->strides : plain);
  }
  if (dst->dtype == MRT_STRING) mrt_tensor_retain_strings(dst);
  return NULL;
}

mrt_status *mrt_tensor_copy(const mrt_alloc *alloc, const mrt_tensor *src, mrt_tensor **out) {
  MRT_TRY(mrt_tensor_create(alloc, (mrt_dtype)src->dtype, src->rank, src->dims, out));
  mrt_status *st = mrt_tensor_copy_into(*out, src);
  if (st) {
    mrt_tensor_release(*out);
    *out = NULL;
  }
  return st;
}

void mrt_tensor_retain_strings(mrt_tensor *t) {
  if (t->dtype != MRT_STRING) return;
  mrt_string **s = t->data;
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) mrt_string_retain(s[i]);
}
