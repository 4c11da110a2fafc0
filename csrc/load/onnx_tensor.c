/* TensorProto to tensor. Raw payloads stay where they lie in the file, aligned or not;
 * typed fields (float_data, int32_data, ...) are read from the file, field by field, since the scan
 * left none of them in the message. */
#include <string.h>

#include "load/onnx_internal.h"

enum { /* numbers of the fields that hold elements */
       T_FLOAT = 4,
       T_INT32 = 5,
       T_STRING = 6,
       T_INT64 = 7,
       T_DOUBLE = 10,
       T_UINT64 = 11,
};

/* Small ones are copied: inference and folding read them, wherever they lie. Those from LOOSE_FROM
 * on may lie in a mapped file again when kernels have packed them. */
enum { COPY_BELOW = 4096, LOOSE_FROM = 256 };

mrt_status *mrt_onnx_over_bytes(mrt_onnx *l, mrt_blob *blob, const uint8_t *p, size_t n,
                                mrt_dtype dtype, int rank, const int64_t *dims, mrt_tensor **out) {
  mrt_tensor *t = NULL;
  if (n >= LOOSE_FROM && n < COPY_BELOW && mrt_blob_is_mapped(blob))
    return mrt_tensor_from_blob(l->alloc, dtype, rank, dims, blob, p, n, out);
  MRT_TRY(mrt_tensor_over_blob(l->alloc, dtype, rank, dims, blob, p, n, &t));
  *out = t;
  if (n >= COPY_BELOW) return NULL;
  mrt_status *st = mrt_tensor_copy(l->alloc, t, out);
  mrt_tensor_release(t);
  return st;
}

typedef struct filler {
  mrt_tensor *t;
  int64_t n, count;
} filler;

static mrt_status *put_int(filler *x, uint64_t v) {
  if (x->n >= x->count) return MRT_ERR(MRT_FAIL, "more elements than the shape has");
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
    return MRT_ERR(MRT_FAIL, "more elements than the shape has");
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
    if (x->n >= x->count) return MRT_ERR(MRT_FAIL, "more elements than the shape has");
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

static bool holds_elements(uint32_t number) {
  return (number >= T_FLOAT && number <= T_INT64) || number == T_DOUBLE || number == T_UINT64;
}

/* float_data and double_data, packed and in one piece, are what raw_data would be. */
static bool is_like_raw(mrt_wire w, mrt_dtype dtype, size_t bytes, mrt_wire *out) {
  mrt_field f;
  int n = 0, more;
  if (dtype != MRT_FLOAT && dtype != MRT_DOUBLE) return false;
  while ((more = mrt_wire_next(&w, &f)) > 0) {
    if (!holds_elements(f.number)) continue;
    if (++n > 1 || f.type != 2 || f.number != (dtype == MRT_FLOAT ? T_FLOAT : T_DOUBLE))
      return false;
    *out = f.bytes;
  }
  return n == 1 && !more && mrt_wire_size(*out) == bytes;
}

static mrt_status *from_typed(mrt_onnx *l, mrt_wire w, mrt_dtype dtype, int rank,
                              const int64_t *dims, mrt_tensor **out) {
  mrt_field f;
  mrt_wire raw = {0};
  size_t bytes;
  MRT_TRY(mrt_shape_bytes(dtype, rank, dims, &bytes));
  if (is_like_raw(w, dtype, bytes, &raw))
    return mrt_onnx_over_bytes(l, l->blob, raw.p, bytes, dtype, rank, dims, out);
  /* Every element costs at least a byte of file, but for packed small ones. */
  if (dtype != MRT_STRING && bytes / 16 > mrt_wire_size(w))
    return MRT_ERR(MRT_FAIL, "the shape needs %zu bytes, the tensor has only %zu", bytes,
                   mrt_wire_size(w));
  if (dtype == MRT_STRING && bytes / 8 > mrt_wire_size(w))
    return MRT_ERR(MRT_FAIL, "the shape has more strings than the tensor");
  MRT_TRY(mrt_tensor_create(l->alloc, dtype, rank, dims, out));
  filler x = {.t = *out, .count = mrt_tensor_count(*out)};
  mrt_status *st = NULL;
  while (!st && mrt_wire_next(&w, &f) > 0)
    if (holds_elements(f.number)) st = typed_field(&x, &f);
  bool complex = dtype == MRT_COMPLEX64 || dtype == MRT_COMPLEX128;
  if (!st && x.n != x.count * (complex ? 2 : 1))
    st = MRT_ERR(MRT_FAIL, "%lld elements, the shape has %lld", (long long)x.n, (long long)x.count);
  if (st) {
    mrt_tensor_release(*out);
    *out = NULL;
  }
  return st;
}

static mrt_status *read_tensor(mrt_onnx *l, const Onnx__TensorProto *p, mrt_tensor **out) {
  if (!mrt_dtype_valid(p->data_type))
    return MRT_ERR(MRT_FAIL, "unknown element type %d", p->data_type);
  if (p->n_dims > MRT_MAX_RANK) return MRT_ERR(MRT_NOT_IMPLEMENTED, "rank above %d", MRT_MAX_RANK);
  if (p->segment) return MRT_ERR(MRT_NOT_IMPLEMENTED, "tensors stored in segments");
  if (!p->has_macart_payload || p->macart_payload >= l->cut.n_payloads)
    return MRT_ERR(MRT_FAIL, "the payload was not noted"); /* a defect of the scan */
  mrt_dtype dtype = (mrt_dtype)p->data_type;
  int rank = (int)p->n_dims;
  const mrt_payload *payload = &l->cut.payloads[p->macart_payload];
  if (p->data_location == 1) return mrt_onnx_external(l, p, dtype, rank, p->dims, out);
  if (payload->has_raw && dtype != MRT_STRING)
    return mrt_onnx_over_bytes(l, l->blob, payload->raw.p, mrt_wire_size(payload->raw), dtype, rank,
                               p->dims, out);
  return from_typed(l, payload->body, dtype, rank, p->dims, out);
}

mrt_status *mrt_onnx_tensor(mrt_onnx *l, const Onnx__TensorProto *p, mrt_tensor **out) {
  *out = NULL;
  mrt_status *st = read_tensor(l, p, out);
  if (mrt_status_code(st) == MRT_INVALID_ARGUMENT) st = mrt_status_recode(st, MRT_FAIL);
  return mrt_status_wrap(st, "tensor '%s'", mrt_onnx_str(p->name));
}

/* Values and indices; the reader of the value checks that they agree. */
mrt_status *mrt_onnx_sparse(mrt_onnx *l, const Onnx__SparseTensorProto *p, mrt_sparse **out) {
  mrt_tensor *values = NULL, *indices = NULL;
  *out = NULL;
  if (!p->values || !p->indices)
    return MRT_ERR(MRT_FAIL, "a sparse tensor without values or indices");
  if (p->n_dims > MRT_MAX_RANK || p->n_dims == 0)
    return MRT_ERR(MRT_FAIL, "a sparse tensor of rank %zu", p->n_dims);
  MRT_TRY(mrt_onnx_tensor(l, p->values, &values));
  mrt_status *st = mrt_onnx_tensor(l, p->indices, &indices);
  if (!st && (values->rank != 1 || indices->dtype != MRT_INT64))
    st = MRT_ERR(MRT_FAIL, "a sparse tensor needs values of rank 1, int64 indices");
  if (st) {
    mrt_tensor_release(values);
    mrt_tensor_release(indices);
    return st;
  }
  return mrt_sparse_create(l->alloc, (int)p->n_dims, p->dims, values, indices, out);
}
