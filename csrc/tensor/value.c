/* Counted values of every kind, strings, and the containers. */
#include <string.h>

#include "tensor/tensor.h"

mrt_status *mrt_string_create(const mrt_alloc *alloc, const char *bytes, size_t len,
                              mrt_string **out) {
  *out = NULL;
  (void)alloc; /* strings move between tensors of different allocators: they use one */
  if (!len) return NULL;
  mrt_string *s = NULL;
  size_t size;
  if (!mrt_size_add(sizeof *s + 1, len, &size)) return mrt_status_oom();
  MRT_TRY(mrt_mem_new(mrt_alloc_default(), size, (void **)&s));
  atomic_init(&s->refs, 1);
  s->len = len;
  memcpy(s->bytes, bytes, len);
  s->bytes[len] = 0;
  *out = s;
  return NULL;
}
mrt_string *mrt_string_retain(mrt_string *s) {
  if (s) atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
  return s;
}
void mrt_string_release(mrt_string *s) {
  if (s && atomic_fetch_sub(&s->refs, 1) == 1) mrt_mem_free(mrt_alloc_default(), s);
}

mrt_value *mrt_value_retain(mrt_value *v) {
  if (v) atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
  return v;
}

static void destroy(mrt_value *v) {
  switch (v->kind) {
    case MRT_KIND_TENSOR: {
      mrt_tensor *t = (mrt_tensor *)v;
      if (t->release) t->release(t->ctx, t);
      mrt_mem_free(t->alloc, t);
      break;
    }
    case MRT_KIND_SEQUENCE: {
      mrt_sequence *s = (mrt_sequence *)v;
      for (size_t i = 0; i < s->n; ++i) mrt_value_release(s->items[i]);
      mrt_mem_free(s->alloc, s->items);
      mrt_mem_free(s->alloc, s);
      break;
    }
    case MRT_KIND_MAP: {
      mrt_mapping *m = (mrt_mapping *)v;
      mrt_tensor_release(m->keys);
      mrt_tensor_release(m->values);
      mrt_mem_free(m->alloc, m);
      break;
    }
    case MRT_KIND_OPTIONAL: {
      mrt_optional *o = (mrt_optional *)v;
      mrt_value_release(o->item);
      mrt_mem_free(o->alloc, o);
      break;
    }
    case MRT_KIND_SPARSE: {
      mrt_sparse *s = (mrt_sparse *)v;
      mrt_tensor_release(s->values);
      mrt_tensor_release(s->indices);
      mrt_mem_free(s->alloc, s);
      break;
    }
    default: break;
  }
}

void mrt_value_release(mrt_value *v) {
  if (!v || (v->flags & MRT_VALUE_BORROWED)) return;
  if (atomic_fetch_sub(&v->refs, 1) == 1) destroy(v);
}

mrt_status *mrt_value_keep(const mrt_alloc *alloc, mrt_value *v, mrt_value **out) {
  *out = NULL;
  if (!v) return NULL;
  if (v->flags & MRT_VALUE_BORROWED) {
    mrt_tensor *t = NULL;
    MRT_TRY(mrt_tensor_copy(alloc, (mrt_tensor *)v, &t));
    *out = &t->base;
    return NULL;
  }
  *out = mrt_value_retain(v);
  return NULL;
}

static mrt_status *new_value(const mrt_alloc *alloc, size_t size, mrt_kind kind, void *out) {
  mrt_value *v = NULL;
  *(mrt_value **)out = NULL;
  MRT_TRY(mrt_mem_new_zero(alloc, size, (void **)&v));
  atomic_init(&v->refs, 1);
  v->kind = (uint8_t)kind;
  *(mrt_value **)out = v;
  return NULL;
}

mrt_status *mrt_sequence_create(const mrt_alloc *alloc, mrt_dtype elem_dtype, mrt_sequence **out) {
  MRT_TRY(new_value(alloc, sizeof **out, MRT_KIND_SEQUENCE, out));
  (*out)->alloc = alloc;
  (*out)->elem_dtype = (uint8_t)elem_dtype;
  return NULL;
}

mrt_status *mrt_sequence_append(mrt_sequence *s, mrt_value *take) {
  mrt_status *st = mrt_mem_grow(s->alloc, (void **)&s->items, &s->cap, s->n + 1, sizeof *s->items);
  if (st) {
    mrt_value_release(take);
    return st;
  }
  s->items[s->n++] = take;
  return NULL;
}

mrt_status *mrt_mapping_create(const mrt_alloc *alloc, mrt_tensor *take_keys,
                               mrt_tensor *take_values, mrt_mapping **out) {
  mrt_status *st = new_value(alloc, sizeof **out, MRT_KIND_MAP, out);
  if (st) {
    mrt_tensor_release(take_keys);
    mrt_tensor_release(take_values);
    return st;
  }
  (*out)->alloc = alloc;
  (*out)->keys = take_keys;
  (*out)->values = take_values;
  return NULL;
}

mrt_status *mrt_optional_create(const mrt_alloc *alloc, mrt_value *take_item, mrt_optional **out) {
  mrt_status *st = new_value(alloc, sizeof **out, MRT_KIND_OPTIONAL, out);
  if (st) {
    mrt_value_release(take_item);
    return st;
  }
  (*out)->alloc = alloc;
  (*out)->item = take_item;
  return NULL;
}

mrt_status *mrt_sparse_create(const mrt_alloc *alloc, int rank, const int64_t *dims,
                              mrt_tensor *take_values, mrt_tensor *take_indices, mrt_sparse **out) {
  int64_t count;
  *out = NULL;
  mrt_status *st = mrt_shape_count(rank, dims, &count);
  if (!st) st = new_value(alloc, sizeof **out, MRT_KIND_SPARSE, out);
  if (st) {
    mrt_tensor_release(take_values);
    mrt_tensor_release(take_indices);
    return st;
  }
  (*out)->alloc = alloc;
  (*out)->rank = rank;
  memcpy((*out)->dims, dims, (size_t)rank * sizeof *dims);
  (*out)->values = take_values;
  (*out)->indices = take_indices;
  return NULL;
}

mrt_status *mrt_sparse_to_dense(const mrt_alloc *alloc, const mrt_sparse *s, mrt_tensor **out) {
  int bits = mrt_dtype_bits((mrt_dtype)s->values->dtype);
  *out = NULL;
  if (bits < 8 || s->values->dtype == MRT_STRING)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "sparse tensors of %s",
                   mrt_dtype_name((mrt_dtype)s->values->dtype));
  mrt_tensor *t = NULL;
  MRT_TRY(mrt_tensor_create(alloc, (mrt_dtype)s->values->dtype, s->rank, s->dims, &t));
  memset(t->data, 0, t->bytes);
  size_t size = (size_t)bits / 8;
  int64_t count = mrt_tensor_count(t), nnz = mrt_tensor_count(s->values);
  const int64_t *index = s->indices->data;
  bool linear = s->indices->rank == 1;
  if (s->indices->dtype != MRT_INT64 ||
      mrt_tensor_count(s->indices) != (linear ? nnz : nnz * s->rank)) {
    mrt_tensor_release(t);
    return MRT_ERR(MRT_INVALID_ARGUMENT, "sparse indices do not fit the values");
  }
  for (int64_t i = 0; i < nnz; ++i) {
    int64_t at = 0;
    bool ok = true;
    if (linear) {
      at = index[i];
    } else {
      for (int d = 0; d < s->rank; ++d) {
        int64_t k = index[i * s->rank + d];
        ok = ok && k >= 0 && k < s->dims[d];
        at = at * s->dims[d] + k;
      }
    }
    if (!ok || at < 0 || at >= count) {
      mrt_tensor_release(t);
      return MRT_ERR(MRT_INVALID_ARGUMENT, "sparse index %lld is out of bounds", (long long)i);
    }
    memcpy((char *)t->data + (size_t)at * size, (char *)s->values->data + (size_t)i * size, size);
  }
  *out = t;
  return NULL;
}
