/* Element types of ml_dtypes, by name. Those types hold one element a byte (bfloat16: two), tensors
 * pack the narrow ones: those are copied when they cross, the others are not. */
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

void mrt_ml_unpack(const mrt_tensor *t, uint8_t *bytes) {
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) bytes[i] = as_byte((mrt_dtype)t->dtype, t->data, i);
}

PyObject *mrt_ml_type(mrt_dtype d) {
  if (!ml_name(d))
    return PyErr_Format(PyExc_NotImplementedError, "arrays of %s", mrt_dtype_name(d));
  PyObject *package = PyImport_ImportModule("ml_dtypes");
  PyObject *type = package ? PyObject_GetAttrString(package, ml_name(d)) : NULL;
  Py_XDECREF(package);
  if (type) return type;
  if (!PyErr_ExceptionMatches(PyExc_ImportError) && !PyErr_ExceptionMatches(PyExc_AttributeError))
    return NULL;
  PyErr_Clear();
  /* Without that package: integers hold the same numbers; two types are bytes, as in ONNX Runtime;
   * for the others integers would only look like a result. */
  if (mrt_dtype_is_int(d))
    return PyUnicode_FromString(d == MRT_INT4 || d == MRT_INT2 ? "int8" : "uint8");
  if (d == MRT_FLOAT8E4M3FN || d == MRT_FLOAT4E2M1) return PyUnicode_FromString("uint8");
  return PyErr_Format(
      PyExc_RuntimeError,
      "No corresponding Numpy type for Tensor Type. %s needs the package ml_dtypes: "
      "pip install ml_dtypes",
      mrt_dtype_name(d));
}
