/* Arrays in and out: the only file that includes numpy. Arrays are read where they lie and results
 * are arrays over the tensor's own memory; copies are made only for strings, for elements narrower
 * than a byte (numpy gives each a byte, ONNX packs them), and for odd strides. */
#include "python/python.h"

#include <numpy/arrayobject.h>
#include <string.h>

#include "python/ml_types.h"

int mrt_py_numpy_init(void) { return _import_array(); }
bool mrt_py_is_array(PyObject *o) { return PyArray_Check(o); }

/* ---- element types ---- */
static const struct {
  int npy;
  mrt_dtype dtype;
} native_types[] = {
    {NPY_FLOAT, MRT_FLOAT},      {NPY_DOUBLE, MRT_DOUBLE},      {NPY_HALF, MRT_FLOAT16},
    {NPY_INT8, MRT_INT8},        {NPY_INT16, MRT_INT16},        {NPY_INT32, MRT_INT32},
    {NPY_INT64, MRT_INT64},      {NPY_UINT8, MRT_UINT8},        {NPY_UINT16, MRT_UINT16},
    {NPY_UINT32, MRT_UINT32},    {NPY_UINT64, MRT_UINT64},      {NPY_BOOL, MRT_BOOL},
    {NPY_CFLOAT, MRT_COMPLEX64}, {NPY_CDOUBLE, MRT_COMPLEX128}, {NPY_LONGLONG, MRT_INT64},
    {NPY_ULONGLONG, MRT_UINT64}};
#define N_TYPES (sizeof native_types / sizeof *native_types)

static mrt_dtype native_dtype(int npy) {
  for (size_t k = 0; k < N_TYPES; ++k)
    if (native_types[k].npy == npy) return native_types[k].dtype;
  return MRT_UNDEFINED;
}
static int native_number(mrt_dtype dtype) {
  for (size_t k = 0; k < N_TYPES; ++k)
    if (native_types[k].dtype == dtype) return native_types[k].npy;
  return -1;
}
static bool is_text(int npy) {
  return npy == NPY_UNICODE || npy == NPY_STRING || npy == NPY_OBJECT || npy == NPY_VOID;
}

static mrt_dtype dtype_of(PyArray_Descr *d) {
  mrt_dtype t = native_dtype(d->type_num);
  if (t == MRT_UNDEFINED) t = is_text(d->type_num) ? MRT_STRING : mrt_ml_dtype((PyObject *)d);
  return t;
}

/* A new reference. */
static PyArray_Descr *descr_of(mrt_py_state *state, mrt_dtype dtype) {
  int npy = dtype == MRT_STRING ? NPY_OBJECT : native_number(dtype);
  if (npy >= 0) return PyArray_DescrFromType(npy);
  PyObject **cached = &state->extra_types[dtype];
  if (!*cached) {
    PyObject *type = mrt_ml_type(dtype);
    PyArray_Descr *d = NULL;
    if (type && PyArray_DescrConverter(type, &d)) *cached = (PyObject *)d;
    Py_XDECREF(type);
    if (!*cached) return NULL;
  }
  return (PyArray_Descr *)Py_NewRef(*cached);
}

mrt_dtype mrt_py_dtype(mrt_py_state *state, PyObject *o) {
  (void)state;
  mrt_dtype dtype = MRT_UNDEFINED;
  if (PyLong_Check(o)) {
    long n = PyLong_AsLong(o);
    if (n == -1 && PyErr_Occurred()) return MRT_UNDEFINED;
    if (n <= INT_MAX && n > 0 && mrt_dtype_valid((int)n)) dtype = (mrt_dtype)n;
  } else {
    PyArray_Descr *d = NULL;
    if (!PyArray_DescrConverter(o, &d)) return MRT_UNDEFINED;
    dtype = dtype_of(d);
    Py_DECREF(d);
  }
  if (dtype == MRT_UNDEFINED) PyErr_Format(PyExc_ValueError, "%R is no element type of ONNX", o);
  return dtype;
}

int mrt_py_shape(PyObject *o, int64_t dims[MRT_MAX_RANK]) {
  PyObject *list = PySequence_Fast(o, "a shape is a sequence of integers");
  if (!list) return -1;
  Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
  if (n > MRT_MAX_RANK)
    PyErr_Format(PyExc_ValueError, "a shape of %zd dimensions; at most %d", n, MRT_MAX_RANK);
  for (Py_ssize_t i = 0; i < n && !PyErr_Occurred(); ++i) {
    PyObject *index = PyNumber_Index(PySequence_Fast_GET_ITEM(list, i));
    dims[i] = index ? PyLong_AsLongLong(index) : -1;
    Py_XDECREF(index);
    if (!PyErr_Occurred() && dims[i] < 0)
      PyErr_Format(PyExc_ValueError, "a shape with the negative dimension %lld",
                   (long long)dims[i]);
  }
  Py_DECREF(list);
  return PyErr_Occurred() ? -1 : (int)n;
}

/* ---- in ---- */
static void release_array(void *ctx, mrt_tensor *t) {
  (void)t;
  if (!Py_IsInitialized()) return;
  PyGILState_STATE g = PyGILState_Ensure();
  Py_DECREF((PyObject *)ctx);
  PyGILState_Release(g);
}

/* The text of one element: str and bytes as they are, anything else as str() says. */
static mrt_status *put_string(PyObject *item, mrt_string **out) {
  Py_ssize_t n = 0;
  const char *p = NULL;
  PyObject *text =
      PyBytes_Check(item) || PyUnicode_Check(item) ? Py_NewRef(item) : PyObject_Str(item);
  mrt_status *st = NULL;
  if (text && PyBytes_Check(text)) {
    p = PyBytes_AS_STRING(text);
    n = PyBytes_GET_SIZE(text);
  } else if (text) {
    p = PyUnicode_AsUTF8AndSize(text, &n);
    if (!p) { /* lone surrogates: bytes of a string that was not UTF-8 */
      PyErr_Clear();
      PyObject *raw = PyUnicode_AsEncodedString(text, "utf-8", "surrogateescape");
      Py_SETREF(text, raw);
      if (raw) {
        p = PyBytes_AS_STRING(raw);
        n = PyBytes_GET_SIZE(raw);
      }
    }
  }
  if (p) st = mrt_string_create(NULL, p, (size_t)n, out);
  Py_XDECREF(text);
  return st;
}

/* Fixed-width raw elements (void): their bytes up to the trailing zeros, as for bytes. */
static PyObject *void_item(PyArrayObject *flat, Py_ssize_t i) {
  const char *p = PyArray_GETPTR1(flat, i);
  Py_ssize_t n = PyArray_ITEMSIZE(flat);
  while (n && !p[n - 1]) --n;
  return PyBytes_FromStringAndSize(p, n);
}

static mrt_tensor *strings_from_array(mrt_py_state *state, PyArrayObject *a, const int64_t *dims) {
  mrt_tensor *t = NULL;
  PyArrayObject *flat = (PyArrayObject *)PyArray_Ravel(a, NPY_CORDER);
  if (!flat) return NULL;
  mrt_status *st = mrt_tensor_create(mrt_alloc_default(), MRT_STRING, PyArray_NDIM(a), dims, &t);
  bool raw = PyArray_TYPE(flat) == NPY_VOID;
  for (npy_intp i = 0; !st && i < PyArray_SIZE(flat); ++i) {
    PyObject *item = raw ? void_item(flat, i) : PyArray_GETITEM(flat, PyArray_GETPTR1(flat, i));
    if (item) st = put_string(item, &((mrt_string **)t->data)[i]);
    Py_XDECREF(item);
    if (PyErr_Occurred()) break;
  }
  Py_DECREF(flat);
  if (st) mrt_py_raise(state, st);
  if (!PyErr_Occurred()) return t;
  mrt_tensor_release(t);
  return NULL;
}

/* numpy spends a byte on each narrow element: pack them. */
static mrt_tensor *pack_array(mrt_py_state *state, PyArrayObject *a, mrt_dtype dtype,
                              const int64_t *dims) {
  mrt_tensor *t = NULL;
  PyArrayObject *plain = (PyArrayObject *)PyArray_GETCONTIGUOUS(a);
  if (!plain) return NULL;
  mrt_status *st = mrt_ml_pack(dtype, PyArray_NDIM(a), dims, PyArray_DATA(plain), &t);
  Py_DECREF(plain);
  return st ? mrt_py_raise(state, st) : t;
}

bool mrt_py_array_view(PyObject *obj, mrt_tensor *out) {
  if (!PyArray_Check(obj)) return false;
  PyArrayObject *a = (PyArrayObject *)obj;
  int rank = PyArray_NDIM(a);
  if (!PyArray_ISCARRAY_RO(a) || rank > MRT_MAX_RANK) return false;
  mrt_dtype dtype = native_dtype(PyArray_TYPE(a));
  if (dtype == MRT_UNDEFINED) return false;
  int64_t dims[MRT_MAX_RANK];
  for (int i = 0; i < rank; ++i) dims[i] = PyArray_DIM(a, i);
  mrt_tensor_init_view(out, dtype, rank, dims, PyArray_DATA(a), (size_t)PyArray_NBYTES(a),
                       MRT_HOST);
  out->base.flags |= MRT_VALUE_READONLY;
  return true;
}

mrt_tensor *mrt_py_from_array(mrt_py_state *state, PyObject *obj, mrt_dtype as) {
  if (!PyArray_Check(obj)) {
    PyErr_Format(PyExc_TypeError, "expected a numpy array, got %s", Py_TYPE(obj)->tp_name);
    return NULL;
  }
  PyArrayObject *a = (PyArrayObject *)obj;
  int rank = PyArray_NDIM(a);
  int64_t dims[MRT_MAX_RANK], strides[MRT_MAX_RANK];
  if (rank > MRT_MAX_RANK)
    return mrt_py_raise(state,
                        MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d; at most %d", rank, MRT_MAX_RANK));
  for (int i = 0; i < rank; ++i) dims[i] = PyArray_DIM(a, i);
  mrt_dtype dtype = dtype_of(PyArray_DESCR(a));
  if (dtype == MRT_UNDEFINED) {
    PyErr_Format(PyExc_RuntimeError, "Numpy_type %d can't be converted to MLDataType.",
                 PyArray_TYPE(a));
    return NULL;
  }
  if (dtype == MRT_STRING) return strings_from_array(state, a, dims);
  if (mrt_dtype_bits(dtype) < 8) return pack_array(state, a, dtype, dims);
  npy_intp size = PyArray_ITEMSIZE(a);
  bool whole = PyArray_ISALIGNED(a) && PyArray_ISNOTSWAPPED(a);
  for (int i = 0; i < rank; ++i) {
    whole = whole && PyArray_STRIDE(a, i) % size == 0;
    strides[i] = PyArray_STRIDE(a, i) / size;
  }
  PyArray_Descr *native = PyArray_DescrFromType(PyArray_TYPE(a));
  PyObject *owner = NULL;
  if (whole) {
    Py_XDECREF(native);
    owner = Py_NewRef(obj);
  } else if (native) {
    owner = PyArray_FromArray(a, native, NPY_ARRAY_DEFAULT | NPY_ARRAY_ENSURECOPY);
  }
  if (!owner) return NULL;
  mrt_tensor *t = NULL;
  if (as == MRT_UNDEFINED) as = dtype;
  mrt_status *st =
      mrt_tensor_wrap(mrt_alloc_default(), as, rank, dims, whole ? strides : NULL,
                      PyArray_DATA((PyArrayObject *)owner), MRT_HOST, release_array, owner, &t);
  if (st) {
    Py_DECREF(owner);
    return mrt_py_raise(state, st);
  }
  if (!PyArray_ISWRITEABLE((PyArrayObject *)owner)) t->base.flags |= MRT_VALUE_READONLY;
  return t;
}

PyObject *mrt_py_as_array(mrt_py_state *state, PyObject *o, mrt_dtype dtype) {
  PyArray_Descr *d = NULL;
  if (dtype != MRT_UNDEFINED && !(d = descr_of(state, dtype))) return NULL;
  return PyArray_FromAny(o, d, 0, 0, 0, NULL);
}

/* ---- out ---- */
static PyObject *strings_to_array(const mrt_tensor *t, npy_intp *dims) {
  PyObject *out = PyArray_SimpleNew(t->rank, dims, NPY_OBJECT);
  if (!out) return NULL;
  PyObject **items = PyArray_DATA((PyArrayObject *)out);
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) {
    const mrt_string *s = ((mrt_string **)t->data)[i];
    PyObject *u =
        PyUnicode_DecodeUTF8(mrt_string_bytes(s), (Py_ssize_t)mrt_string_len(s), "surrogateescape");
    if (!u) {
      Py_DECREF(out);
      return NULL;
    }
    Py_XSETREF(items[i], u);
  }
  return out;
}

static PyObject *unpack_tensor(PyArray_Descr *d, const mrt_tensor *t, npy_intp *dims) {
  PyObject *out = PyArray_NewFromDescr(&PyArray_Type, d, t->rank, dims, NULL, NULL, 0, NULL);
  if (!out) return NULL;
  mrt_ml_unpack(t, PyArray_DATA((PyArrayObject *)out));
  return out;
}

/* An array over the tensor, whose base keeps it alive. */
static PyObject *array_over(mrt_py_state *state, PyArray_Descr *d, mrt_tensor *take,
                            npy_intp *dims) {
  npy_intp steps[MRT_MAX_RANK];
  npy_intp size = mrt_dtype_bits((mrt_dtype)take->dtype) / 8;
  for (int i = 0; i < take->rank && take->strided; ++i)
    steps[i] = (npy_intp)take->strides[i] * size;
  int flags = take->base.flags & MRT_VALUE_READONLY ? 0 : NPY_ARRAY_WRITEABLE;
  PyObject *a = PyArray_NewFromDescr(&PyArray_Type, d, take->rank, dims,
                                     take->strided ? steps : NULL, take->data, flags, NULL);
  PyObject *base = mrt_py_value_new(state, &take->base);
  if (!a || !base) {
    Py_XDECREF(a);
    Py_XDECREF(base);
    return NULL;
  }
  if (PyArray_SetBaseObject((PyArrayObject *)a, base) < 0) Py_CLEAR(a);
  return a;
}

PyObject *mrt_py_to_array(mrt_py_state *state, mrt_tensor *take) {
  npy_intp dims[MRT_MAX_RANK];
  PyObject *out = NULL;
  for (int i = 0; i < take->rank; ++i) dims[i] = take->dims[i];
  mrt_dtype dtype = (mrt_dtype)take->dtype;
  if (!mrt_device_is_host(take->device)) {
    mrt_tensor_release(take);
    return mrt_py_raise(state, MRT_ERR(MRT_NOT_IMPLEMENTED, "arrays over device memory"));
  }
  if (dtype == MRT_STRING) {
    out = strings_to_array(take, dims);
    mrt_tensor_release(take);
    return out;
  }
  PyArray_Descr *d = descr_of(state, dtype); /* stolen below */
  if (d && mrt_dtype_bits(dtype) >= 8) return array_over(state, d, take, dims);
  if (d) out = unpack_tensor(d, take, dims);
  mrt_tensor_release(take);
  return out;
}
