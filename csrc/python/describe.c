/* What a session tells of its model, as plain Python objects: made once per session. */
#include "python/python.h"

#include <string.h>

static PyObject *text(const char *s) {
  return PyUnicode_DecodeUTF8(s ? s : "", s ? (Py_ssize_t)strlen(s) : 0, "surrogateescape");
}

static PyObject *type_text(const mrt_type *t) {
  mrt_str out;
  mrt_str_init(&out, mrt_alloc_default());
  mrt_type_format(t, &out);
  PyObject *o = out.failed ? PyErr_NoMemory() : text(mrt_str_cstr(&out));
  mrt_str_deinit(&out);
  return o;
}

/* An int, the name of a symbolic dim, or None. */
static PyObject *dim(const mrt_type *t, int i) {
  int64_t v;
  if (mrt_expr_is_const(t->dims[i], &v)) return PyLong_FromLongLong(v);
  if (t->dim_names && t->dim_names[i]) return text(t->dim_names[i]);
  return Py_NewRef(Py_None);
}

/* (name, type, shape) of one input or output. */
static PyObject *io_tuple(const mrt_io_info *info, PyObject *name) {
  const mrt_type *t = info->type;
  int rank = t && t->kind == MRT_KIND_TENSOR && t->rank > 0 ? t->rank : 0;
  PyObject *shape = PyList_New(rank);
  for (int i = 0; shape && i < rank; ++i) {
    PyObject *d = dim(t, i);
    if (d)
      PyList_SET_ITEM(shape, i, d);
    else
      Py_CLEAR(shape);
  }
  PyObject *type = shape ? type_text(t) : NULL;
  if (!type) {
    Py_XDECREF(shape);
    return NULL;
  }
  return Py_BuildValue("(ONN)", name, type, shape);
}

typedef const mrt_io_info *info_fn(const mrt_session *s, int i);

static PyObject *io_list(const mrt_py_session *o, info_fn *get, int n, int first_name) {
  PyObject *list = PyList_New(n);
  for (int i = 0; list && i < n; ++i) {
    PyObject *t = io_tuple(get(o->s, i), o->names[first_name + i]);
    if (t)
      PyList_SET_ITEM(list, i, t);
    else
      Py_CLEAR(list);
  }
  return list;
}

static PyObject *metadata(const mrt_model *m) {
  PyObject *dict = PyDict_New();
  for (int i = 0; dict && i < m->n_metadata; ++i) {
    PyObject *k = text(m->metadata[i].key), *v = text(m->metadata[i].value);
    if (!k || !v || PyDict_SetItem(dict, k, v) < 0) Py_CLEAR(dict);
    Py_XDECREF(k);
    Py_XDECREF(v);
  }
  return dict;
}

static PyObject *providers(const mrt_session *s) {
  int n = mrt_session_n_providers(s);
  PyObject *list = PyList_New(n);
  for (int i = 0; list && i < n; ++i) {
    PyObject *v = text(mrt_session_provider(s, i));
    if (v)
      PyList_SET_ITEM(list, i, v);
    else
      Py_CLEAR(list);
  }
  return list;
}

/* dict[key] = value, taking the reference. */
static int put(PyObject *dict, const char *key, PyObject *take) {
  int rc = take ? PyDict_SetItemString(dict, key, take) : -1;
  Py_XDECREF(take);
  return rc;
}

PyObject *mrt_py_session_describe(PyObject *self, PyObject *unused) {
  const mrt_py_session *o = (mrt_py_session *)self;
  const mrt_model *m = mrt_session_model(o->s);
  PyObject *d = PyDict_New();
  (void)unused;
  if (!d) return NULL;
  if (put(d, "inputs", io_list(o, mrt_session_input, o->n_required, 0)) < 0 ||
      put(d, "overridable",
          io_list(o, mrt_session_overridable, o->n_inputs - o->n_required, o->n_required)) < 0 ||
      put(d, "outputs", io_list(o, mrt_session_output, o->n_outputs, o->n_inputs)) < 0 ||
      put(d, "metadata", metadata(m)) < 0 || put(d, "providers", providers(o->s)) < 0 ||
      put(d, "producer_name", text(m->producer_name)) < 0 ||
      put(d, "graph_name", text(m->graph->name)) < 0 || put(d, "domain", text(m->domain)) < 0 ||
      put(d, "description", text(m->doc)) < 0 ||
      put(d, "graph_description", text(m->graph->doc)) < 0 ||
      put(d, "version", PyLong_FromLongLong(m->model_version)) < 0)
    Py_CLEAR(d);
  return d;
}
