/* macart._core.OrtValue: a reference to a value. It is what OrtValue holds, what bindings hold, and
 * the base of every array that lies over a tensor's memory. Factories take a device of the form
 * (type, id) or None; memory of other devices than the host comes with their providers. */
#include "python/python.h"

#include <stddef.h>
#include <string.h>

PyObject *mrt_py_value_new(mrt_py_state *state, mrt_value *take) {
  mrt_py_value *o = (mrt_py_value *)state->value_type->tp_alloc(state->value_type, 0);
  if (!o) {
    mrt_value_release(take);
    return NULL;
  }
  o->v = take;
  return (PyObject *)o;
}

static int value_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void value_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  mrt_value_release(((mrt_py_value *)self)->v);
  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- what it is ---- */

static void type_text(const mrt_value *v, mrt_str *out) {
  if (!v) {
    mrt_str_add(out, "none");
    return;
  }
  switch (v->kind) {
    case MRT_KIND_TENSOR:
      mrt_str_addf(out, "tensor(%s)", mrt_dtype_name((mrt_dtype)((const mrt_tensor *)v)->dtype));
      break;
    case MRT_KIND_SEQUENCE: {
      const mrt_sequence *q = (const mrt_sequence *)v;
      mrt_str_add(out, "seq(");
      if (q->n)
        type_text(q->items[0], out);
      else
        mrt_str_addf(out, "tensor(%s)", mrt_dtype_name((mrt_dtype)q->elem_dtype));
      mrt_str_add(out, ")");
      break;
    }
    case MRT_KIND_MAP: {
      const mrt_mapping *m = (const mrt_mapping *)v;
      mrt_str_addf(out, "map(%s,tensor(%s))", mrt_dtype_name((mrt_dtype)m->keys->dtype),
                   mrt_dtype_name((mrt_dtype)m->values->dtype));
      break;
    }
    case MRT_KIND_OPTIONAL:
      mrt_str_add(out, "optional(");
      type_text(((const mrt_optional *)v)->item, out);
      mrt_str_add(out, ")");
      break;
    case MRT_KIND_SPARSE:
      mrt_str_addf(out, "sparse_tensor(%s)",
                   mrt_dtype_name((mrt_dtype)((const mrt_sparse *)v)->values->dtype));
      break;
    default: mrt_str_add(out, "none");
  }
}

PyObject *mrt_py_value_type_text(const mrt_value *v) {
  mrt_str text;
  mrt_str_init(&text, mrt_alloc_default());
  type_text(v, &text);
  PyObject *o = text.failed ? PyErr_NoMemory() : PyUnicode_FromString(mrt_str_cstr(&text));
  mrt_str_deinit(&text);
  return o;
}

static mrt_value *value_of(PyObject *self) {
  mrt_value *v = ((mrt_py_value *)self)->v;
  while (v && v->kind == MRT_KIND_OPTIONAL) v = ((mrt_optional *)v)->item;
  return v;
}

static mrt_tensor *tensor_of(PyObject *self) {
  mrt_tensor *t = mrt_value_tensor(value_of(self));
  if (!t)
    PyErr_SetString(PyExc_RuntimeError,
                    "Only OrtValues that are Tensors/SparseTensors are currently supported");
  return t;
}

static PyObject *value_has_value(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyBool_FromLong(value_of(self) != NULL);
}
static bool is_kind(PyObject *self, mrt_kind kind) {
  const mrt_value *v = value_of(self);
  return v && v->kind == kind;
}
static PyObject *value_is_tensor(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyBool_FromLong(is_kind(self, MRT_KIND_TENSOR));
}
static PyObject *value_is_sparse_tensor(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyBool_FromLong(is_kind(self, MRT_KIND_SPARSE));
}
static PyObject *value_is_tensor_sequence(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_value *v = value_of(self);
  if (!v || v->kind != MRT_KIND_SEQUENCE) Py_RETURN_FALSE;
  const mrt_sequence *q = (const mrt_sequence *)v;
  return PyBool_FromLong(!q->n || mrt_value_tensor(q->items[0]) != NULL);
}
static PyObject *value_data_type(PyObject *self, PyObject *unused) {
  (void)unused;
  return mrt_py_value_type_text(((mrt_py_value *)self)->v);
}
static PyObject *value_element_type(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_tensor *t = tensor_of(self);
  return t ? PyLong_FromLong(t->dtype) : NULL;
}
static PyObject *value_shape(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_value *v = value_of(self);
  const mrt_sparse *s = v && v->kind == MRT_KIND_SPARSE ? (const mrt_sparse *)v : NULL;
  const mrt_tensor *t = s ? NULL : tensor_of(self);
  if (!s && !t) return NULL;
  int rank = s ? s->rank : t->rank;
  const int64_t *dims = s ? s->dims : t->dims;
  PyObject *list = PyList_New(rank);
  for (int i = 0; list && i < rank; ++i) {
    PyObject *d = PyLong_FromLongLong(dims[i]);
    if (d)
      PyList_SET_ITEM(list, i, d);
    else
      Py_CLEAR(list);
  }
  return list;
}
static PyObject *value_data_ptr(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_tensor *t = tensor_of(self);
  if (!t) return NULL;
  return PyLong_FromVoidPtr(mrt_tensor_count(t) ? t->data : NULL);
}
static PyObject *value_bytes(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_tensor *t = tensor_of(self);
  return t ? PyLong_FromSize_t(t->bytes) : NULL;
}
/* (OrtDevice type, device id) of the memory. */
static PyObject *value_device(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_tensor *t = mrt_value_tensor(value_of(self));
  mrt_device d = t ? t->device : MRT_HOST;
  return Py_BuildValue("(ii)", d.type, d.id);
}
static PyObject *value_device_name(PyObject *self, PyObject *unused) {
  (void)unused;
  static const char *const names[] = {"cpu", "gpu", "fpga", "npu"};
  const mrt_tensor *t = mrt_value_tensor(value_of(self));
  int type = t ? t->device.type : 0;
  return PyUnicode_FromString(type < 4 ? names[type] : "test");
}

/* ---- contents ---- */

static PyObject *value_numpy(PyObject *self, PyObject *unused) {
  (void)unused;
  mrt_tensor *t = mrt_value_tensor(value_of(self));
  if (!t) {
    PyErr_SetString(PyExc_RuntimeError,
                    "Only OrtValues that are Tensors are convertible to Numpy objects");
    return NULL;
  }
  mrt_tensor_retain(t);
  return mrt_py_to_array(mrt_py_state_of(self), t);
}

static PyObject *value_to_python(PyObject *self, PyObject *unused) {
  (void)unused;
  return mrt_py_from_value(mrt_py_state_of(self), mrt_value_retain(((mrt_py_value *)self)->v));
}

static PyObject *value_update(PyObject *self, PyObject *o) {
  mrt_py_state *state = mrt_py_state_of(self);
  mrt_tensor *dst = tensor_of(self), *src = NULL;
  if (!dst) return NULL;
  mrt_value *v = mrt_py_to_value(state, o, NULL, "OrtValue");
  if (!v) return NULL;
  src = mrt_value_tensor(v);
  if (dst->base.flags & MRT_VALUE_READONLY)
    PyErr_SetString(PyExc_RuntimeError, "The OrtValue's memory is read-only.");
  else if (!src || src->dtype != dst->dtype || src->bytes != dst->bytes ||
           !mrt_shape_equal(src->rank, src->dims, dst->rank, dst->dims))
    PyErr_SetString(PyExc_RuntimeError,
                    "The input size of numpy arrays does not match the size of the OrtValue.");
  else {
    mrt_status *st;
    Py_BEGIN_ALLOW_THREADS st = mrt_tensor_copy_into(dst, src);
    Py_END_ALLOW_THREADS if (st) mrt_py_raise(state, st);
  }
  mrt_value_release(v);
  if (PyErr_Occurred()) return NULL;
  Py_RETURN_NONE;
}

static PyObject *value_dlpack(PyObject *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
  PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO", names, &stream, &version, &device,
                                   &copy))
    return NULL;
  const long none = PyLong_Check(stream) ? PyLong_AsLong(stream) : 0;
  if (stream != Py_None && (none != -1 || PyErr_Occurred())) {
    PyErr_Clear();
    PyErr_SetString(PyExc_BufferError, "memory of the CPU has no stream");
    return NULL;
  }
  if (device != Py_None) {
    long type = -1, id = -1;
    if (!mrt_py_pair(device, "dl_device", &type, &id)) return NULL;
    if (type != 1) {
      PyErr_Format(PyExc_BufferError, "cannot export to the device (%ld, %ld)", type, id);
      return NULL;
    }
  }
  mrt_tensor *t = tensor_of(self);
  return t ? mrt_py_dlpack_export(mrt_py_state_of(self), &t->base, version, copy == Py_True) : NULL;
}
static PyObject *value_to_dlpack(PyObject *self, PyObject *unused) {
  (void)unused;
  mrt_tensor *t = tensor_of(self);
  return t ? mrt_py_dlpack_export(mrt_py_state_of(self), &t->base, Py_None, false) : NULL;
}
static PyObject *value_dlpack_device(PyObject *self, PyObject *unused) {
  (void)unused;
  return tensor_of(self) ? Py_BuildValue("(ii)", 1, 0) : NULL;
}

/* ---- factories ---- */

static bool on_host(PyObject *device) {
  long type = 0, id = 0;
  if (device == Py_None) return true;
  if (!mrt_py_pair(device, "a device", &type, &id)) return false;
  if (type == MRT_DEVICE_CPU) return true;
  PyErr_SetString(PyExc_RuntimeError,
                  "Can't allocate memory on a device that this build has no provider for: only "
                  "\"cpu\" is available.");
  return false;
}

/* Over foreign memory that the caller keeps alive. */
static mrt_tensor *over_pointer(mrt_py_state *state, PyObject *args) {
  PyObject *type, *shape, *pointer;
  int64_t dims[MRT_MAX_RANK];
  if (!PyArg_ParseTuple(args, "OOO", &type, &shape, &pointer)) return NULL;
  mrt_dtype dtype = mrt_py_dtype(state, type);
  int rank = dtype ? mrt_py_shape(shape, dims) : -1;
  void *p = rank >= 0 ? PyLong_AsVoidPtr(pointer) : NULL;
  if (rank < 0 || PyErr_Occurred()) return NULL;
  if (dtype == MRT_STRING) {
    PyErr_SetString(PyExc_RuntimeError, "Only binding non-string Tensors is currently supported");
    return NULL;
  }
  mrt_tensor *t = NULL;
  mrt_status *st =
      mrt_tensor_wrap(mrt_alloc_default(), dtype, rank, dims, NULL, p, MRT_HOST, NULL, NULL, &t);
  if (!st && !p && t->bytes)
    st = MRT_ERR(MRT_INVALID_ARGUMENT, "a null pointer for %zu bytes", t->bytes);
  if (!st) return t;
  mrt_tensor_release(t);
  return mrt_py_raise(state, st);
}

/* Copy of what cannot be used in place, so that data_ptr and DLPack see plain memory. */
static mrt_tensor *compact(mrt_py_state *state, mrt_tensor *take) {
  mrt_tensor *t = NULL;
  if (!take || !take->strided) return take;
  mrt_status *st = mrt_tensor_copy(mrt_alloc_default(), take, &t);
  mrt_tensor_release(take);
  return st ? mrt_py_raise(state, st) : t;
}

static PyObject *finish(mrt_py_state *state, mrt_tensor *t) {
  return t ? mrt_py_value_new(state, &t->base) : NULL;
}

static mrt_py_state *state_of_class(PyObject *cls) {
  return PyType_GetModuleState((PyTypeObject *)cls);
}

static PyObject *from_numpy(PyObject *cls, PyObject *args) {
  PyObject *array, *device = Py_None;
  mrt_py_state *state = state_of_class(cls);
  if (!PyArg_ParseTuple(args, "O|O", &array, &device) || !on_host(device)) return NULL;
  mrt_tensor *t = mrt_py_from_array(state, array, MRT_UNDEFINED);
  if (t && t->dtype == MRT_STRING) {
    mrt_tensor_release(t);
    PyErr_SetString(
        PyExc_RuntimeError,
        "Creation of OrtValues is currently only supported from non-string numpy arrays");
    return NULL;
  }
  return finish(state, compact(state, t));
}

static PyObject *from_numpy_as(PyObject *cls, PyObject *args) {
  PyObject *array, *type;
  mrt_py_state *state = state_of_class(cls);
  if (!PyArg_ParseTuple(args, "OO", &array, &type)) return NULL;
  mrt_dtype as = mrt_py_dtype(state, type);
  mrt_tensor *t = as ? mrt_py_from_array(state, array, MRT_UNDEFINED) : NULL;
  if (!t) return NULL;
  if (mrt_dtype_bits(as) != mrt_dtype_bits((mrt_dtype)t->dtype) || as == MRT_STRING) {
    PyErr_Format(PyExc_RuntimeError,
                 "ONNX type %s and the array's type %s have elements of different size",
                 mrt_dtype_name(as), mrt_dtype_name((mrt_dtype)t->dtype));
    mrt_tensor_release(t);
    return NULL;
  }
  t = compact(state, t);
  if (t) t->dtype = (uint8_t)as;
  return finish(state, t);
}

static PyObject *from_shape(PyObject *cls, PyObject *args) {
  PyObject *shape, *type, *device = Py_None;
  mrt_py_state *state = state_of_class(cls);
  int64_t dims[MRT_MAX_RANK];
  if (!PyArg_ParseTuple(args, "OO|O", &shape, &type, &device) || !on_host(device)) return NULL;
  mrt_dtype dtype = mrt_py_dtype(state, type);
  int rank = dtype ? mrt_py_shape(shape, dims) : -1;
  if (rank < 0) return NULL;
  if (dtype == MRT_STRING) {
    PyErr_SetString(
        PyExc_RuntimeError,
        "Creation of OrtValues is currently only supported from non-string numpy arrays");
    return NULL;
  }
  mrt_tensor *t = NULL;
  mrt_status *st = mrt_tensor_create(mrt_alloc_default(), dtype, rank, dims, &t);
  return st ? mrt_py_raise(state, st) : finish(state, t);
}

static PyObject *from_pointer(PyObject *cls, PyObject *args) {
  mrt_py_state *state = state_of_class(cls);
  return finish(state, over_pointer(state, args));
}

static PyObject *from_dlpack(PyObject *cls, PyObject *args) {
  PyObject *o;
  int is_bool = 0;
  mrt_py_state *state = state_of_class(cls);
  if (!PyArg_ParseTuple(args, "O|p", &o, &is_bool)) return NULL;
  mrt_tensor *t = compact(state, mrt_py_dlpack_import(state, o));
  if (t && is_bool && t->dtype == MRT_UINT8) t->dtype = MRT_BOOL;
  return finish(state, t);
}

/* Any object that a feed may be, of an optional element type for lists. */
static PyObject *from_python(PyObject *cls, PyObject *o) {
  mrt_py_state *state = state_of_class(cls);
  mrt_value *v = mrt_py_to_value(state, o, NULL, "OrtValue");
  return v ? mrt_py_value_new(state, v) : NULL;
}

static PyObject *value_reduce(PyObject *self, PyObject *unused) {
  (void)unused;
  return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object: pickle its numpy()",
                      Py_TYPE(self)->tp_name);
}

#define STATIC      (METH_VARARGS | METH_CLASS)
#define KEYWORDS(f) (PyCFunction)(void (*)(void))(f)
static PyMethodDef methods[] = {
    {"ortvalue_from_numpy", from_numpy, STATIC, "(array, device=None): over the array's memory"},
    {"ortvalue_from_numpy_with_onnx_type", from_numpy_as, STATIC, "(array, onnx type)"},
    {"ortvalue_from_shape_and_type", from_shape, STATIC, "(shape, type, device=None)"},
    {"ortvalue_from_shape_and_onnx_type", from_shape, STATIC, "(shape, onnx type, device=None)"},
    {"from_pointer", from_pointer, STATIC, "(type, shape, address): foreign memory"},
    {"from_dlpack", from_dlpack, STATIC, "(capsule or producer, is_bool=False)"},
    {"from_python", from_python, METH_O | METH_CLASS, "(object): anything that can be a feed"},
    {"has_value", value_has_value, METH_NOARGS, "False: an empty optional"},
    {"is_tensor", value_is_tensor, METH_NOARGS, NULL},
    {"is_sparse_tensor", value_is_sparse_tensor, METH_NOARGS, NULL},
    {"is_tensor_sequence", value_is_tensor_sequence, METH_NOARGS, NULL},
    {"data_type", value_data_type, METH_NOARGS, "\"tensor(float)\""},
    {"element_type", value_element_type, METH_NOARGS, "number of TensorProto.DataType"},
    {"shape", value_shape, METH_NOARGS, "list of dimensions"},
    {"data_ptr", value_data_ptr, METH_NOARGS, "address; 0 when empty"},
    {"tensor_size_in_bytes", value_bytes, METH_NOARGS, NULL},
    {"device", value_device, METH_NOARGS, "(type, id)"},
    {"device_name", value_device_name, METH_NOARGS, "\"cpu\""},
    {"numpy", value_numpy, METH_NOARGS, "an array over the tensor's memory"},
    {"to_python", value_to_python, METH_NOARGS, "array, list or dict"},
    {"update_inplace", value_update, METH_O, "copies the contents of an array or OrtValue"},
    {"to_dlpack", value_to_dlpack, METH_NOARGS, "a capsule \"dltensor\""},
    {"__dlpack__", KEYWORDS(value_dlpack), METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", value_dlpack_device, METH_NOARGS, NULL},
    {"__reduce__", value_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_dealloc, value_dealloc},
                              {Py_tp_traverse, value_traverse},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "A reference to a value. Use macart.OrtValue."},
                              {0, NULL}};
PyType_Spec mrt_py_value_spec = {"macart._core.OrtValue", sizeof(mrt_py_value), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                     Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 slots};
