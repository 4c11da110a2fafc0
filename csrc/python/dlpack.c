/* DLPack: tensors lent to and from other libraries without a copy. Both capsule forms: "dltensor",
 * and "dltensor_versioned" (DLPack 1.x) when the consumer says that it knows it. A capsule that is
 * taken is renamed "used_..."; the deleter is then the consumer's to call, once.
 *
 * What we export owns a reference to the tensor, counted atomically: a consumer may drop it from
 * any thread, without the GIL, even after the interpreter is gone. The structs are DLPack's ABI. */
#include "python/python.h"

#include <stdlib.h>
#include <string.h>

enum { DL_CPU = 1, DL_CUDA_HOST = 3 };
enum { DL_READ_ONLY = 1, DL_COPIED = 2, DL_PADDED_SUBBYTE = 4 };
enum { DL_MAJOR = 1, DL_MINOR = 1 };

typedef struct dl_tensor {
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides; /* strides in elements; NULL: contiguous */
  uint64_t byte_offset;
} dl_tensor;
typedef struct dl_managed { /* before 1.0 */
  dl_tensor t;
  void *ctx;
  void (*deleter)(struct dl_managed *self);
} dl_managed;
typedef struct dl_versioned {
  uint32_t major, minor;
  void *ctx;
  void (*deleter)(struct dl_versioned *self);
  uint64_t flags;
  dl_tensor t;
} dl_versioned;

/* DLDataTypeCode and bits of each element type. Strings have none. */
static const struct {
  uint8_t code, bits;
  mrt_dtype dtype;
} types[] = {{0, 8, MRT_INT8},
             {0, 16, MRT_INT16},
             {0, 32, MRT_INT32},
             {0, 64, MRT_INT64},
             {1, 8, MRT_UINT8},
             {1, 16, MRT_UINT16},
             {1, 32, MRT_UINT32},
             {1, 64, MRT_UINT64},
             {2, 16, MRT_FLOAT16},
             {2, 32, MRT_FLOAT},
             {2, 64, MRT_DOUBLE},
             {4, 16, MRT_BFLOAT16},
             {5, 64, MRT_COMPLEX64},
             {5, 128, MRT_COMPLEX128},
             {6, 8, MRT_BOOL},
             {10, 8, MRT_FLOAT8E4M3FN},
             {11, 8, MRT_FLOAT8E4M3FNUZ},
             {12, 8, MRT_FLOAT8E5M2},
             {13, 8, MRT_FLOAT8E5M2FNUZ},
             {14, 8, MRT_FLOAT8E8M0},
             {17, 4, MRT_FLOAT4E2M1},
             {0, 4, MRT_INT4},
             {1, 4, MRT_UINT4},
             {0, 2, MRT_INT2},
             {1, 2, MRT_UINT2}};
#define N_TYPES (sizeof types / sizeof *types)

/* ---- out ---- */

typedef struct export {
  union {
    dl_managed old;
    dl_versioned now;
  } m;
  mrt_tensor *tensor;
  int64_t shape[MRT_MAX_RANK], strides[MRT_MAX_RANK];
}
export;

static void drop(export *e) {
  mrt_tensor_release(e->tensor);
  free(e);
}
static void drop_old(dl_managed *m) { drop(m->ctx); }
static void drop_now(dl_versioned *m) { drop(m->ctx); }

static void capsule_old(PyObject *capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor")) return; /* taken */
  dl_managed *m = PyCapsule_GetPointer(capsule, "dltensor");
  if (m->deleter) m->deleter(m);
}
static void capsule_now(PyObject *capsule) {
  if (!PyCapsule_IsValid(capsule, "dltensor_versioned")) return;
  dl_versioned *m = PyCapsule_GetPointer(capsule, "dltensor_versioned");
  if (m->deleter) m->deleter(m);
}

static mrt_status *describe(dl_tensor *d, export *e) {
  const mrt_tensor *t = e->tensor;
  size_t k = 0;
  while (k < N_TYPES && types[k].dtype != (mrt_dtype)t->dtype) ++k;
  if (k == N_TYPES)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack has no type for %s",
                   mrt_dtype_name((mrt_dtype)t->dtype));
  int64_t step = 1;
  for (int i = t->rank - 1; i >= 0; --i) {
    e->shape[i] = t->dims[i];
    e->strides[i] = t->strided ? t->strides[i] : step;
    step *= t->dims[i];
  }
  *d = (dl_tensor){.data = t->data,
                   .device_type = DL_CPU,
                   .ndim = t->rank,
                   .code = types[k].code,
                   .bits = types[k].bits,
                   .lanes = 1,
                   .shape = e->shape,
                   .strides = e->strides};
  return NULL;
}

PyObject *mrt_py_dlpack_export(mrt_py_state *state, mrt_value *v, PyObject *max_version,
                               bool copy) {
  long major = 0, minor = 0;
  mrt_tensor *t = mrt_value_tensor(v);
  if (max_version != Py_None && !mrt_py_pair(max_version, "max_version", &major, &minor))
    return NULL;
  bool read_only = t->base.flags & MRT_VALUE_READONLY && !copy;
  if (major < 1 && read_only) {
    PyErr_SetString(PyExc_BufferError,
                    "read-only memory can be exported to consumers of DLPack 1.0 and later only");
    return NULL;
  }
  export *e = calloc(1, sizeof *e);
  if (!e) return PyErr_NoMemory();
  mrt_status *st = NULL;
  if (copy)
    st = mrt_tensor_copy(mrt_alloc_default(), t, &e->tensor);
  else
    mrt_tensor_retain(e->tensor = t);
  dl_tensor *d = major < 1 ? &e->m.old.t : &e->m.now.t;
  if (!st) st = describe(d, e);
  if (st) {
    drop(e);
    return mrt_py_raise(state, st);
  }
  PyObject *capsule;
  if (major < 1) {
    e->m.old.ctx = e;
    e->m.old.deleter = drop_old;
    capsule = PyCapsule_New(&e->m.old, "dltensor", capsule_old);
  } else {
    e->m.now.major = DL_MAJOR;
    e->m.now.minor = DL_MINOR;
    e->m.now.ctx = e;
    e->m.now.deleter = drop_now;
    e->m.now.flags = (read_only ? DL_READ_ONLY : 0) | (copy ? DL_COPIED : 0);
    capsule = PyCapsule_New(&e->m.now, "dltensor_versioned", capsule_now);
  }
  if (!capsule) drop(e);
  return capsule;
}

/* ---- in ---- */

static void release_old(void *ctx, mrt_tensor *t) {
  dl_managed *m = ctx;
  (void)t;
  if (m->deleter) m->deleter(m);
}
static void release_now(void *ctx, mrt_tensor *t) {
  dl_versioned *m = ctx;
  (void)t;
  if (m->deleter) m->deleter(m);
}

static mrt_status *find_type(const dl_tensor *d, mrt_dtype *out) {
  if (d->lanes == 1)
    for (size_t k = 0; k < N_TYPES; ++k)
      if (types[k].code == d->code && types[k].bits == d->bits) {
        *out = types[k].dtype;
        return NULL;
      }
  return MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack elements of code %d, %d bits, %d lanes", d->code,
                 d->bits, d->lanes);
}

/* One byte an element (DL_PADDED_SUBBYTE) to packed. */
static mrt_status *pack(const dl_tensor *d, mrt_dtype dtype, const uint8_t *src, mrt_tensor **out) {
  MRT_TRY(mrt_tensor_create(mrt_alloc_default(), dtype, d->ndim, d->shape, out));
  mrt_dtype as = mrt_dtype_bits(dtype) == 4 ? MRT_UINT4 : MRT_UINT2;
  int64_t n = mrt_tensor_count(*out);
  memset((*out)->data, 0, (*out)->bytes);
  for (int64_t i = 0; i < n; ++i) mrt_elem_set_i64(as, (*out)->data, i, src[i]);
  return NULL;
}

static bool contiguous(const dl_tensor *d) {
  int64_t step = 1;
  for (int i = d->ndim - 1; d->strides && i >= 0; --i) {
    if (d->shape[i] != 1 && d->strides[i] != step) return false;
    step *= d->shape[i];
  }
  return true;
}

/* A tensor over the producer's memory; *copied: it was copied, the producer's may go at once. */
static mrt_status *wrap(const dl_tensor *d, uint64_t flags, void (*release)(void *, mrt_tensor *),
                        void *ctx, mrt_tensor **out, bool *copied) {
  mrt_dtype dtype = MRT_UNDEFINED;
  *out = NULL;
  *copied = true;
  if (d->device_type != DL_CPU && d->device_type != DL_CUDA_HOST)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack memory on the device (%d, %d)", d->device_type,
                   d->device_id);
  if (d->ndim < 0 || d->ndim > MRT_MAX_RANK)
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack rank %d; at most %d", d->ndim, MRT_MAX_RANK);
  MRT_TRY(find_type(d, &dtype));
  const char *data = (const char *)d->data + d->byte_offset;
  int bits = mrt_dtype_bits(dtype);
  size_t align = bits >= 64 ? 8 : bits < 8 ? 1 : (size_t)bits / 8;
  if (bits < 8 && !contiguous(d))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "strided DLPack memory of %s", mrt_dtype_name(dtype));
  if (bits < 8 && flags & DL_PADDED_SUBBYTE) return pack(d, dtype, (const uint8_t *)data, out);
  bool odd = (uintptr_t)data % align != 0;
  if (odd && !contiguous(d))
    return MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack memory that is strided and misaligned");
  if (odd) {
    MRT_TRY(mrt_tensor_create(mrt_alloc_default(), dtype, d->ndim, d->shape, out));
    if ((*out)->bytes) memcpy((*out)->data, data, (*out)->bytes);
    return NULL;
  }
  MRT_TRY(mrt_tensor_wrap(mrt_alloc_default(), dtype, d->ndim, d->shape,
                          contiguous(d) ? NULL : d->strides, (void *)data, MRT_HOST, release, ctx,
                          out));
  *copied = false;
  if (flags & DL_READ_ONLY) (*out)->base.flags |= MRT_VALUE_READONLY;
  return NULL;
}

/* Only after everything was checked the capsule is renamed: then the memory is ours to give back.
 */
static mrt_tensor *take(mrt_py_state *state, PyObject *capsule) {
  mrt_tensor *t = NULL;
  mrt_status *st = NULL;
  bool copied = false;
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    dl_versioned *m = PyCapsule_GetPointer(capsule, "dltensor_versioned");
    if (m->major > DL_MAJOR)
      st = MRT_ERR(MRT_NOT_IMPLEMENTED, "DLPack version %u.%u", m->major, m->minor);
    else
      st = wrap(&m->t, m->flags, release_now, m, &t, &copied);
    if (!st && PyCapsule_SetName(capsule, "used_dltensor_versioned") == 0 && copied)
      release_now(m, NULL);
  } else if (PyCapsule_IsValid(capsule, "dltensor")) {
    dl_managed *m = PyCapsule_GetPointer(capsule, "dltensor");
    st = wrap(&m->t, 0, release_old, m, &t, &copied);
    if (!st && PyCapsule_SetName(capsule, "used_dltensor") == 0 && copied) release_old(m, NULL);
  } else {
    PyErr_SetString(PyExc_ValueError,
                    "a DLPack capsule can be taken once, and this is none (any more)");
  }
  return st ? mrt_py_raise(state, st) : t;
}

/* obj.__dlpack__(max_version=(1, 1)); producers from before DLPack 1.0 do not know the argument. */
static PyObject *ask(mrt_py_state *state, PyObject *o) {
  PyObject *f = PyObject_GetAttr(o, state->s_dlpack);
  PyObject *kwargs = f ? Py_BuildValue("{O(ii)}", state->s_max_version, DL_MAJOR, DL_MINOR) : NULL;
  PyObject *none = PyTuple_New(0), *capsule = NULL;
  if (kwargs && none) {
    capsule = PyObject_Call(f, none, kwargs);
    if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Clear();
      capsule = PyObject_CallNoArgs(f);
    }
  }
  Py_XDECREF(none);
  Py_XDECREF(kwargs);
  Py_XDECREF(f);
  return capsule;
}

mrt_tensor *mrt_py_dlpack_import(mrt_py_state *state, PyObject *o) {
  PyObject *capsule = PyCapsule_CheckExact(o) ? Py_NewRef(o) : ask(state, o);
  if (!capsule) return NULL;
  mrt_tensor *t = take(state, capsule);
  Py_DECREF(capsule);
  return t;
}
