/* The text form of models from Python: passes run on text, a session's graph printed. For tests,
 * `python -m macart` and people who look inside. */
#include "python/python.h"

#include "ir/text.h"
#include "pass/pass.h"

static mrt_py_state *module_state(PyObject *module) { return PyModule_GetState(module); }

static PyObject *to_text(const mrt_str *s) {
  return PyUnicode_DecodeUTF8(mrt_str_cstr(s), (Py_ssize_t)s->len, "surrogateescape");
}

PyObject *mrt_py_run_passes(PyObject *module, PyObject *args) {
  const char *text, *passes;
  long long max_elems;
  int fired = 0;
  mrt_str out;
  if (!PyArg_ParseTuple(args, "ssL", &text, &passes, &max_elems)) return NULL;
  mrt_str_init(&out, mrt_alloc_default());
  mrt_status *st;
  Py_BEGIN_ALLOW_THREADS st = mrt_pass_run_text(mrt_alloc_default(), mrt_ops_builtin(), text,
                                                passes, max_elems, &fired, &out);
  Py_END_ALLOW_THREADS PyObject *result =
      st ? mrt_py_raise(module_state(module), st) : Py_BuildValue("(Ni)", to_text(&out), fired);
  mrt_str_deinit(&out);
  return result;
}

PyObject *mrt_py_passes(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  PyObject *list = PyList_New(0);
  const mrt_pass *pass;
  for (size_t i = 0; list && (pass = mrt_pass_at(i)); ++i) {
    PyObject *name = PyUnicode_FromString(pass->name);
    if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  return list;
}

PyObject *mrt_py_session_text(PyObject *self, PyObject *max_elems) {
  long long n = PyLong_AsLongLong(max_elems);
  mrt_str out;
  if (n == -1 && PyErr_Occurred()) return NULL;
  mrt_str_init(&out, mrt_alloc_default());
  mrt_status *st = mrt_session_print(((mrt_py_session *)self)->s, n, &out);
  PyObject *result = st ? mrt_py_raise(mrt_py_state_of(self), st) : to_text(&out);
  mrt_str_deinit(&out);
  return result;
}

PyObject *mrt_py_session_fired(PyObject *self, PyObject *unused) {
  (void)unused;
  const mrt_tally *t = mrt_session_tally(((mrt_py_session *)self)->s);
  PyObject *dict = PyDict_New();
  for (int i = 0; dict && i < t->n_rows; ++i) {
    PyObject *n = PyLong_FromLongLong(t->rows[i].n);
    if (!n || PyDict_SetItemString(dict, t->rows[i].name, n) < 0) Py_CLEAR(dict);
    Py_XDECREF(n);
  }
  return dict;
}
