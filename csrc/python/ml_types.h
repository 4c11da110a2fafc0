/* Element types that numpy lacks (bfloat16, float8, int4, ...): arrays of the package ml_dtypes,
 * known by their dtype's name, so that nothing here depends on the package. */
#ifndef MRT_PYTHON_ML_TYPES_H
#define MRT_PYTHON_ML_TYPES_H

#include <Python.h>

#include "tensor/tensor.h"

/* The element type of a numpy dtype object of that package; MRT_UNDEFINED for all others. */
mrt_dtype mrt_ml_dtype(PyObject *descr);
/* A contiguous byte-per-element array of a sub-byte type as a packed tensor of its own memory.
 * bytes: n elements. */
mrt_status *mrt_ml_pack(mrt_dtype dtype, int rank, const int64_t *dims, const uint8_t *bytes,
                        mrt_tensor **out) MRT_MUST_CHECK;
/* The way back: one byte an element, signed ones sign-extended. bytes: room for all elements. */
void mrt_ml_unpack(const mrt_tensor *t, uint8_t *bytes);
/* What numpy.dtype() takes: the type of ml_dtypes where that package can be imported (it is not
 * before it is needed), else the name of a raw type ("uint16" for bfloat16, a byte for the others).
 * NULL with a Python exception; NotImplementedError for types that are not of this kind. */
PyObject *mrt_ml_type(mrt_dtype d);

#endif
