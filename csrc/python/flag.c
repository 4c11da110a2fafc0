/* The stop flag of RunOptions: an atomic int in a capsule, set from any thread. */
#include "python/python.h"

#define NAME "macart.flag"

static void flag_free(PyObject *capsule) { PyMem_RawFree(PyCapsule_GetPointer(capsule, NAME)); }

PyObject *mrt_py_flag_new(PyObject *module, PyObject *unused) {
  (void)module;
  (void)unused;
  atomic_int *flag = PyMem_RawMalloc(sizeof *flag);
  if (!flag) return PyErr_NoMemory();
  atomic_init(flag, 0);
  PyObject *capsule = PyCapsule_New(flag, NAME, flag_free);
  if (!capsule) PyMem_RawFree(flag);
  return capsule;
}

PyObject *mrt_py_flag_set(PyObject *module, PyObject *args) {
  PyObject *capsule;
  int v;
  (void)module;
  if (!PyArg_ParseTuple(args, "Op", &capsule, &v)) return NULL;
  atomic_int *flag = PyCapsule_GetPointer(capsule, NAME);
  if (!flag) return NULL;
  atomic_store(flag, v);
  Py_RETURN_NONE;
}

const atomic_int *mrt_py_flag_get(PyObject *flag) {
  return flag == Py_None ? NULL : PyCapsule_GetPointer(flag, NAME);
}
