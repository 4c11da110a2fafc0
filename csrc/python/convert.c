/* Any Python object to a value and back. Arrays go the short way; lists, dicts, DLPack producers
 * and our own OrtValue (recognised by its attribute, as ONNX Runtime does) are asked for what they
 * are. What a list means depends on the input's type: a sequence, or rows of a tensor. */
#include "python/python.h"

/* ---- in ---- */

static mrt_value *no_conversion(PyObject *o, const char *name) {
  PyErr_Format(PyExc_RuntimeError, "Unable to handle object of type %R (%s)",
               (PyObject *)Py_TYPE(o), name);
  return NULL;
}

static mrt_value *sequence_from(mrt_py_state *state, PyObject *o, const mrt_type *elem,
                                const char *name) {
  mrt_sequence *q = NULL;
  PyObject *it = PyObject_GetIter(o), *item = NULL;
  if (!it) return NULL;
  mrt_status *st = mrt_sequence_create(mrt_alloc_default(), elem ? elem->dtype : MRT_UNDEFINED, &q);
  while (!st && (item = PyIter_Next(it))) {
    mrt_value *v = mrt_py_to_value(state, item, elem, name);
    Py_DECREF(item);
    if (!v) break;
    if (!elem && mrt_value_tensor(v)) q->elem_dtype = mrt_value_tensor(v)->dtype;
    st = mrt_sequence_append(q, v);
  }
  Py_DECREF(it);
  if (st) mrt_py_raise(state, st);
  if (q && !PyErr_Occurred()) return &q->base;
  mrt_value_release(q ? &q->base : NULL);
  return NULL;
}

static mrt_value *map_from(mrt_py_state *state, PyObject *o, const mrt_type *type,
                           const char *name) {
  mrt_mapping *m = NULL;
  PyObject *keys = PyDict_Keys(o), *values = PyDict_Values(o);
  PyObject *first = keys && PyList_GET_SIZE(keys) ? PyList_GET_ITEM(keys, 0) : NULL;
  mrt_dtype key = type    ? type->key_dtype
                  : first ? (PyLong_Check(first) ? MRT_INT64 : MRT_STRING)
                          : MRT_INT64;
  mrt_dtype of = type ? type->dtype : MRT_FLOAT;
  PyObject *k = keys && values ? mrt_py_as_array(state, keys, key) : NULL;
  PyObject *v = k ? mrt_py_as_array(state, values, of) : NULL;
  mrt_tensor *kt = v ? mrt_py_from_array(state, k, MRT_UNDEFINED) : NULL;
  mrt_tensor *vt = kt ? mrt_py_from_array(state, v, MRT_UNDEFINED) : NULL;
  if (vt && (kt->rank != 1 || vt->rank != 1)) {
    mrt_tensor_release(vt);
    vt = NULL;
    no_conversion(o, name);
  }
  if (vt) {
    mrt_status *st = mrt_mapping_create(mrt_alloc_default(), kt, vt, &m);
    if (st) mrt_py_raise(state, st);
  } else {
    mrt_tensor_release(kt);
  }
  Py_XDECREF(keys);
  Py_XDECREF(values);
  Py_XDECREF(k);
  Py_XDECREF(v);
  return m ? &m->base : NULL;
}

/* The value of an OrtValue: ours, or a wrapper's that has one in _ortvalue. */
static mrt_value *unwrap(mrt_py_state *state, PyObject *o) {
  if (Py_IS_TYPE(o, state->value_type)) return mrt_value_retain(((mrt_py_value *)o)->v);
  PyObject *inner = PyObject_GetAttr(o, state->s_ortvalue);
  if (!inner) {
    PyErr_Clear();
    return NULL;
  }
  mrt_value *v =
      Py_IS_TYPE(inner, state->value_type) ? mrt_value_retain(((mrt_py_value *)inner)->v) : NULL;
  Py_DECREF(inner);
  return v;
}

static bool has_dlpack(mrt_py_state *state, PyObject *o) {
  PyObject *f = PyObject_GetAttr((PyObject *)Py_TYPE(o), state->s_dlpack);
  if (!f) PyErr_Clear();
  Py_XDECREF(f);
  return f != NULL;
}

static mrt_value *tensor_from_array(mrt_py_state *state, PyObject *array) {
  mrt_tensor *t = mrt_py_from_array(state, array, MRT_UNDEFINED);
  return t ? &t->base : NULL;
}

/* A list of numbers, of strings, of lists: numpy's reading of it, in the input's element type. */
static mrt_value *tensor_from_list(mrt_py_state *state, PyObject *o, const mrt_type *type) {
  mrt_dtype dtype = type && type->kind == MRT_KIND_TENSOR ? type->dtype : MRT_UNDEFINED;
  PyObject *array = mrt_py_as_array(state, o, dtype);
  mrt_value *v = array ? tensor_from_array(state, array) : NULL;
  Py_XDECREF(array);
  return v;
}

mrt_value *mrt_py_to_value(mrt_py_state *state, PyObject *o, const mrt_type *type,
                           const char *name) {
  if (type && type->kind == MRT_KIND_OPTIONAL) type = type->elem;
  bool sequence = type && type->kind == MRT_KIND_SEQUENCE;
  if (mrt_py_is_array(o) && !sequence) return tensor_from_array(state, o);
  mrt_value *v = unwrap(state, o);
  if (v) return v;
  if (PyDict_Check(o)) return map_from(state, o, type && !sequence ? type : NULL, name);
  if (sequence || (!type && PyList_Check(o)))
    return sequence_from(state, o, sequence ? type->elem : NULL, name);
  if (PyList_Check(o) || PyTuple_Check(o)) return tensor_from_list(state, o, type);
  if (has_dlpack(state, o)) {
    mrt_tensor *t = mrt_py_dlpack_import(state, o);
    return t ? &t->base : NULL;
  }
  if (PyMemoryView_Check(o) || PyByteArray_Check(o)) return tensor_from_list(state, o, NULL);
  return no_conversion(o, name);
}

/* ---- out ---- */

static PyObject *list_from(mrt_py_state *state, const mrt_sequence *q) {
  PyObject *list = PyList_New((Py_ssize_t)q->n);
  for (size_t i = 0; list && i < q->n; ++i) {
    PyObject *item = mrt_py_from_value(state, mrt_value_retain(q->items[i]));
    if (item)
      PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    else
      Py_CLEAR(list);
  }
  return list;
}

/* dict of plain Python numbers and strings. */
static PyObject *dict_from(mrt_py_state *state, const mrt_mapping *m) {
  mrt_tensor_retain(m->keys);
  PyObject *k = mrt_py_to_array(state, m->keys), *v = NULL, *dict = NULL;
  if (k) {
    mrt_tensor_retain(m->values);
    v = mrt_py_to_array(state, m->values);
  }
  PyObject *keys = v ? PyObject_CallMethod(k, "tolist", NULL) : NULL;
  PyObject *values = keys ? PyObject_CallMethod(v, "tolist", NULL) : NULL;
  if (values && PyList_Check(keys) && PyList_Check(values)) dict = PyDict_New();
  for (Py_ssize_t i = 0; dict && i < PyList_GET_SIZE(keys) && i < PyList_GET_SIZE(values); ++i)
    if (PyDict_SetItem(dict, PyList_GET_ITEM(keys, i), PyList_GET_ITEM(values, i)) < 0)
      Py_CLEAR(dict);
  Py_XDECREF(keys);
  Py_XDECREF(values);
  Py_XDECREF(k);
  Py_XDECREF(v);
  return dict;
}

PyObject *mrt_py_from_value(mrt_py_state *state, mrt_value *take) {
  PyObject *out = NULL;
  if (!take) Py_RETURN_NONE;
  switch (take->kind) {
    case MRT_KIND_TENSOR: return mrt_py_to_array(state, (mrt_tensor *)take);
    case MRT_KIND_SEQUENCE: out = list_from(state, (mrt_sequence *)take); break;
    case MRT_KIND_MAP: out = dict_from(state, (mrt_mapping *)take); break;
    case MRT_KIND_OPTIONAL:
      out = mrt_py_from_value(state, mrt_value_retain(((mrt_optional *)take)->item));
      break;
    default: mrt_py_raise(state, MRT_ERR(MRT_NOT_IMPLEMENTED, "outputs that are sparse tensors"));
  }
  mrt_value_release(take);
  return out;
}
