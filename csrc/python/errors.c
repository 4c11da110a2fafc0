/* Status to exception. The table from code to class is base/status_codes.def; the classes are
 * macart/_errors.py. */
#include "python/python.h"

bool mrt_py_pair(PyObject *o, const char *what, long *a, long *b) {
  if (PyTuple_Check(o) && PyTuple_GET_SIZE(o) == 2) return PyArg_ParseTuple(o, "ll", a, b);
  PyErr_Format(PyExc_TypeError, "%s is a pair of integers, not %R", what, o);
  return false;
}

void *mrt_py_raise(mrt_py_state *state, mrt_status *st) {
  if (!PyErr_Occurred()) {
    mrt_code code = mrt_status_code(st);
    const char *text = mrt_status_message(st);
    /* Names from a hostile file need not be UTF-8. */
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
    PyObject *e = message
                      ? PyObject_CallFunction(state->make_error, "issN", (int)code,
                                              mrt_code_name(code), mrt_code_class(code), message)
                      : NULL;
    if (e) {
      PyErr_SetObject((PyObject *)Py_TYPE(e), e);
      Py_DECREF(e);
    }
  }
  mrt_status_free(st);
  return NULL;
}
