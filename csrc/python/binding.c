/* macart._core.SessionIOBinding: values bound to a session's inputs and outputs once, for any
 * number of runs. A bound output is written in place; an output bound without a value gets a new
 * one in each run, which stays bound as a result until the next. */
#include "python/python.h"

#include <stddef.h>

typedef struct binding {
  PyObject_HEAD mrt_py_session *session; /* a reference */
  int n_in, n_out, cap_in, cap_out;
  int *in_index, *out_index;
  mrt_value **in;     /* owned */
  mrt_value **given;  /* owned; NULL: allocated by each run */
  mrt_value **result; /* owned; of the last run */
} binding;

static int binding_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(((binding *)self)->session);
  return 0;
}

static void clear_inputs(binding *b) {
  while (b->n_in) mrt_value_release(b->in[--b->n_in]);
}
static void clear_outputs(binding *b) {
  while (b->n_out) {
    mrt_value_release(b->given[--b->n_out]);
    mrt_value_release(b->result[b->n_out]);
  }
}

static int binding_clear(PyObject *self) {
  Py_CLEAR(((binding *)self)->session);
  return 0;
}

static void binding_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  binding *b = (binding *)self;
  PyObject_GC_UnTrack(self);
  clear_inputs(b);
  clear_outputs(b);
  PyMem_Free(b->in_index);
  PyMem_Free(b->out_index);
  PyMem_Free(b->in);
  PyMem_Free(b->given);
  PyMem_Free(b->result);
  Py_XDECREF(b->session);
  type->tp_free(self);
  Py_DECREF(type);
}

static PyObject *binding_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  mrt_py_state *state = PyType_GetModuleState(type);
  PyObject *session;
  (void)kwargs;
  if (!PyArg_ParseTuple(args, "O!", state->session_type, &session)) return NULL;
  binding *b = (binding *)type->tp_alloc(type, 0);
  if (!b) return NULL;
  b->session = (mrt_py_session *)Py_NewRef(session);
  size_t in = (size_t)b->session->n_inputs + 1, out = (size_t)b->session->n_outputs + 1;
  b->in_index = PyMem_Calloc(in, sizeof(int));
  b->out_index = PyMem_Calloc(out, sizeof(int));
  b->in = PyMem_Calloc(in, sizeof(void *));
  b->given = PyMem_Calloc(out, sizeof(void *));
  b->result = PyMem_Calloc(out, sizeof(void *));
  if (!b->in_index || !b->out_index || !b->in || !b->given || !b->result) {
    Py_DECREF(b);
    return PyErr_NoMemory();
  }
  return (PyObject *)b;
}

/* ONNX Runtime's text for a name that the model does not have. */
static int find(binding *b, PyObject *name, bool output) {
  int i = mrt_py_session_find(b->session, name, output);
  if (i == -1)
    PyErr_Format(PyExc_RuntimeError, "Failed to find NodeArg with name: %U in the def list", name);
  return i < 0 ? -1 : i;
}

static mrt_py_value *value_arg(binding *b, PyObject *o) {
  mrt_py_state *state = mrt_py_state_of((PyObject *)b);
  if (Py_IS_TYPE(o, state->value_type) && ((mrt_py_value *)o)->v) return (mrt_py_value *)o;
  PyErr_Format(PyExc_TypeError, "expected an OrtValue with a value, got %s", Py_TYPE(o)->tp_name);
  return NULL;
}

static PyObject *bind_input(PyObject *self, PyObject *args) {
  binding *b = (binding *)self;
  PyObject *name, *o;
  if (!PyArg_ParseTuple(args, "OO", &name, &o)) return NULL;
  mrt_py_value *v = value_arg(b, o);
  int index = v ? find(b, name, false) : -1, k = 0;
  if (index < 0) return NULL;
  while (k < b->n_in && b->in_index[k] != index) ++k;
  if (k == b->n_in) b->in[b->n_in++] = NULL;
  b->in_index[k] = index;
  mrt_value *old = b->in[k];
  b->in[k] = mrt_value_retain(v->v);
  mrt_value_release(old); /* last: what it held may call back */
  Py_RETURN_NONE;
}

/* bind_output(name, value or None) */
static PyObject *bind_output(PyObject *self, PyObject *args) {
  binding *b = (binding *)self;
  PyObject *name, *o = Py_None;
  if (!PyArg_ParseTuple(args, "O|O", &name, &o)) return NULL;
  mrt_py_value *v = o == Py_None ? NULL : value_arg(b, o);
  int index = v || o == Py_None ? find(b, name, true) : -1, k = 0;
  if (index < 0) return NULL;
  if (v && (!mrt_value_tensor(v->v) || v->v->flags & MRT_VALUE_READONLY)) {
    PyErr_SetString(PyExc_RuntimeError, mrt_value_tensor(v->v)
                                            ? "An output cannot be bound to read-only memory"
                                            : "Only binding Tensors is currently supported");
    return NULL;
  }
  while (k < b->n_out && b->out_index[k] != index) ++k;
  if (k == b->n_out) {
    b->given[b->n_out] = b->result[b->n_out] = NULL;
    ++b->n_out;
  }
  b->out_index[k] = index;
  mrt_value *given = b->given[k], *result = b->result[k];
  b->given[k] = v ? mrt_value_retain(v->v) : NULL;
  b->result[k] = v ? mrt_value_retain(v->v) : NULL;
  mrt_value_release(given); /* last: what they held may call back */
  mrt_value_release(result);
  Py_RETURN_NONE;
}

static PyObject *binding_clear_inputs(PyObject *self, PyObject *unused) {
  (void)unused;
  clear_inputs((binding *)self);
  Py_RETURN_NONE;
}
static PyObject *binding_clear_outputs(PyObject *self, PyObject *unused) {
  (void)unused;
  clear_outputs((binding *)self);
  Py_RETURN_NONE;
}
static PyObject *synchronize(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  Py_RETURN_NONE; /* work on the CPU is done when run returns */
}

static PyObject *get_outputs(PyObject *self, PyObject *unused) {
  binding *b = (binding *)self;
  mrt_py_state *state = mrt_py_state_of(self);
  (void)unused;
  PyObject *list = PyList_New(b->n_out);
  for (int i = 0; list && i < b->n_out; ++i) {
    PyObject *o = mrt_py_value_new(state, mrt_value_retain(b->result[i]));
    if (o)
      PyList_SET_ITEM(list, i, o);
    else
      Py_CLEAR(list);
  }
  return list;
}

/* run(flag=None). A thread that changes the binding meanwhile is kept out by copies of the lists:
 * the values are retained for the run. */
static PyObject *binding_run(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  binding *b = (binding *)self;
  int n_in = b->n_in, n_out = b->n_out;
  size_t count = (size_t)n_in + (size_t)n_out;
  mrt_value **values = PyMem_Calloc(count + 1, sizeof *values);
  int *index = PyMem_Calloc(count + 1, sizeof *index);
  PyObject *result = NULL;
  if (!n_out) {
    PyErr_SetString(PyExc_RuntimeError, "At least one output should be requested.");
    goto done;
  }
  if (!values || !index) {
    PyErr_NoMemory();
    goto done;
  }
  for (int i = 0; i < n_in; ++i) {
    values[i] = mrt_value_retain(b->in[i]);
    index[i] = b->in_index[i];
  }
  for (int i = 0; i < n_out; ++i) {
    values[n_in + i] = mrt_value_retain(b->given[i]);
    index[n_in + i] = b->out_index[i];
  }
  if (mrt_py_session_call(b->session, n ? args[0] : Py_None, n_in, index, values, n_out,
                          index + n_in, values + n_in) < 0)
    goto done;
  for (int i = 0; i < n_out && i < b->n_out; ++i)
    if (b->out_index[i] == index[n_in + i]) {
      mrt_value *old = b->result[i];
      b->result[i] = values[n_in + i];
      values[n_in + i] = old;
    }
  result = Py_NewRef(Py_None);
done:
  for (size_t i = 0; values && i < count; ++i) mrt_value_release(values[i]);
  PyMem_Free(values);
  PyMem_Free(index);
  return result;
}

static PyMethodDef methods[] = {
    {"bind_ortvalue_input", bind_input, METH_VARARGS, "(name, value)"},
    {"bind_ortvalue_output", bind_output, METH_VARARGS, "(name, value or None)"},
    {"clear_binding_inputs", binding_clear_inputs, METH_NOARGS, NULL},
    {"clear_binding_outputs", binding_clear_outputs, METH_NOARGS, NULL},
    {"synchronize_inputs", synchronize, METH_NOARGS, NULL},
    {"synchronize_outputs", synchronize, METH_NOARGS, NULL},
    {"get_outputs", get_outputs, METH_NOARGS, "values of the last run, in order of binding"},
    {"run", (PyCFunction)(void (*)(void))binding_run, METH_FASTCALL, "run(flag=None)"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_new, binding_new},
                              {Py_tp_dealloc, binding_dealloc},
                              {Py_tp_traverse, binding_traverse},
                              {Py_tp_clear, binding_clear},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "Bound inputs and outputs. Use macart.IOBinding."},
                              {0, NULL}};
PyType_Spec mrt_py_binding_spec = {
    "macart._core.SessionIOBinding", sizeof(binding), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE, slots};
