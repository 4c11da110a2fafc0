/* Arrays of ml_dtypes' element types in and out. Those types hold one element a byte (bfloat16:
 * two), tensors pack the narrow ones: crossing copies. */
#include "python/ml_types.h"

#include <string.h>

static const char prefix[] = "ml_dtypes.";
static const char *ml_name(mrt_dtype d) { /* NULL: a type of numpy's own */
  const char *name = mrt_dtype_numpy_name(d);
  return strncmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : NULL;
}

mrt_dtype mrt_ml_dtype(PyObject *descr) {
  PyObject *name = PyObject_GetAttrString(descr, "name");
  const char *text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
  mrt_dtype found = MRT_UNDEFINED;
  for (int d = 1; text && d < MRT_DTYPE_COUNT && !found; ++d) {
    const char *own = ml_name((mrt_dtype)d);
    if (own && strcmp(own, text) == 0) found = (mrt_dtype)d;
  }
  Py_XDECREF(name);
  PyErr_Clear();
  return found;
}

/* The unsigned type of equal width, whose elements are the bit patterns. */
static mrt_dtype bits_type(mrt_dtype d) {
  switch (mrt_dtype_bits(d)) {
    case 2: return MRT_UINT2;
    case 4: return MRT_UINT4;
    case 8: return MRT_UINT8;
    default: return MRT_UINT16;
  }
}

mrt_status *mrt_ml_pack(mrt_dtype dtype, int rank, const int64_t *dims, const uint8_t *bytes,
                        mrt_tensor **out) {
  *out = NULL;
  MRT_TRY(mrt_tensor_create(mrt_alloc_default(), dtype, rank, dims, out));
  int64_t n = mrt_tensor_count(*out);
  memset((*out)->data, 0, (*out)->bytes);
  for (int64_t i = 0; i < n; ++i) mrt_elem_set_i64(bits_type(dtype), (*out)->data, i, bytes[i]);
  return NULL;
}

/* Element i as ml_dtypes keeps it in a byte: signed types sign-extended. */
static uint8_t as_byte(mrt_dtype d, const void *data, int64_t i) {
  mrt_dtype t = d == MRT_INT4 || d == MRT_INT2 ? d : bits_type(d);
  return (uint8_t)mrt_elem_get_i64(t, data, i);
}

static PyObject *raw_bytes(const mrt_tensor *t) {
  int64_t n = mrt_tensor_count(t);
  if (mrt_dtype_bits((mrt_dtype)t->dtype) >= 8)
    return PyBytes_FromStringAndSize(t->data, (Py_ssize_t)t->bytes);
  PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
  uint8_t *p = bytes ? (uint8_t *)PyBytes_AS_STRING(bytes) : NULL;
  for (int64_t i = 0; p && i < n; ++i) p[i] = as_byte((mrt_dtype)t->dtype, t->data, i);
  return bytes;
}

/* The ml_dtypes type, or the name of a raw numpy type. */
static PyObject *array_type(mrt_dtype d) {
  PyObject *package = PyImport_ImportModule("ml_dtypes");
  PyObject *type = package ? PyObject_GetAttrString(package, ml_name(d)) : NULL;
  Py_XDECREF(package);
  if (type) return type;
  if (!PyErr_ExceptionMatches(PyExc_ImportError) && !PyErr_ExceptionMatches(PyExc_AttributeError))
    return NULL;
  PyErr_Clear();
  return PyUnicode_FromString(mrt_dtype_bits(d) == 16          ? "uint16"
                              : d == MRT_INT4 || d == MRT_INT2 ? "int8"
                                                               : "uint8");
}

PyObject *mrt_ml_array(const mrt_tensor *t) {
  mrt_dtype d = (mrt_dtype)t->dtype;
  if (!ml_name(d))
    return PyErr_Format(PyExc_NotImplementedError, "numpy outputs of %s", mrt_dtype_name(d));
  PyObject *numpy = PyImport_ImportModule("numpy"), *type = array_type(d), *bytes = raw_bytes(t),
           *shape = PyTuple_New(t->rank), *mutable = NULL, *flat = NULL, *array = NULL;
  for (int i = 0; shape && i < t->rank; ++i)
    PyTuple_SET_ITEM(shape, i, PyLong_FromLongLong(t->dims[i]));
  if (bytes) mutable = PyByteArray_FromObject(bytes);
  if (numpy && type && mutable && shape && !PyErr_Occurred())
    flat = mrt_tensor_count(t) ? PyObject_CallMethod(numpy, "frombuffer", "OO", mutable, type)
                               : PyObject_CallMethod(numpy, "zeros", "iO", 0, type);
  if (flat) array = PyObject_CallMethod(flat, "reshape", "(O)", shape);
  Py_XDECREF(flat);
  Py_XDECREF(mutable);
  Py_XDECREF(shape);
  Py_XDECREF(bytes);
  Py_XDECREF(type);
  Py_XDECREF(numpy);
  return array;
}
