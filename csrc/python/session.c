/* macart._core.Session: a loaded model. Immutable after creation, so any number of threads may run
 * it at once; loading happens without the GIL. Running is run.c. */
#include "python/python.h"

#include <stddef.h>
#include <string.h>

#define KEYWORDS(f) (PyCFunction)(void (*)(void))(f)

/* ---- life ---- */

static int session_traverse(PyObject *self, visitproc visit, void *arg) {
  mrt_py_session *o = (mrt_py_session *)self; /* names are strings: no cycle goes through them */
  (void)o;
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void session_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  mrt_py_session *o = (mrt_py_session *)self;
  PyObject_GC_UnTrack(self);
  mrt_session *s = o->s;
  Py_BEGIN_ALLOW_THREADS mrt_session_release(s);
  Py_END_ALLOW_THREADS for (int i = 0; o->names && i < o->n_inputs + o->n_outputs; ++i)
      Py_XDECREF(o->names[i]);
  PyMem_Free(o->names);
  type->tp_free(self);
  Py_DECREF(type);
}

static int intern_names(mrt_py_session *o) {
  const mrt_session *s = o->s;
  o->n_required = mrt_session_n_inputs(s);
  o->n_inputs = o->n_required + mrt_session_n_overridable(s);
  o->n_outputs = mrt_session_n_outputs(s);
  size_t n = (size_t)o->n_inputs + (size_t)o->n_outputs + 1;
  o->names = PyMem_Calloc(n, sizeof *o->names);
  if (!o->names) return PyErr_NoMemory(), -1;
  for (int i = 0; i < o->n_inputs + o->n_outputs; ++i) {
    const mrt_io_info *info = i < o->n_required ? mrt_session_input(s, i)
                              : i < o->n_inputs ? mrt_session_overridable(s, i - o->n_required)
                                                : mrt_session_output(s, i - o->n_inputs);
    o->names[i] =
        PyUnicode_DecodeUTF8(info->name, (Py_ssize_t)strlen(info->name), "surrogateescape");
    if (!o->names[i]) return -1;
    PyUnicode_InternInPlace(&o->names[i]);
  }
  return 0;
}

/* Bytes of Python that the model's weights point into: given back when the last weight goes. */
typedef struct lent {
  Py_buffer buffer;
} lent;
static void give_back(void *ctx) {
  if (!Py_IsInitialized()) return;
  PyGILState_STATE g = PyGILState_Ensure();
  PyBuffer_Release(&((lent *)ctx)->buffer);
  PyMem_Free(ctx);
  PyGILState_Release(g);
}

static int lend(mrt_py_state *state, PyObject *data, mrt_blob **out) {
  lent *l = PyMem_Calloc(1, sizeof *l);
  if (!l) return PyErr_NoMemory(), -1;
  if (PyObject_GetBuffer(data, &l->buffer, PyBUF_SIMPLE) < 0) {
    PyMem_Free(l);
    return -1;
  }
  mrt_status *st = mrt_blob_from_memory(mrt_alloc_default(), l->buffer.buf, (size_t)l->buffer.len,
                                        give_back, l, out);
  if (!st) return 0;
  PyBuffer_Release(&l->buffer);
  PyMem_Free(l);
  mrt_py_raise(state, st);
  return -1;
}

/* ---- creation ---- */

/* Texts of a list, borrowed from it. */
static const char **texts(PyObject *list, int *n) {
  Py_ssize_t count = PyList_GET_SIZE(list);
  const char **out = PyMem_Calloc((size_t)count + 1, sizeof *out);
  if (!out) return (void *)PyErr_NoMemory();
  for (Py_ssize_t i = 0; i < count; ++i)
    if (!(out[i] = PyUnicode_AsUTF8(PyList_GET_ITEM(list, i)))) {
      PyMem_Free(out);
      return NULL;
    }
  *n = (int)count;
  return out;
}

static mrt_dim_override *overrides(PyObject *list, int *n) {
  Py_ssize_t count = PyList_GET_SIZE(list);
  mrt_dim_override *out = PyMem_Calloc((size_t)count + 1, sizeof *out);
  if (!out) return (void *)PyErr_NoMemory();
  for (Py_ssize_t i = 0; i < count; ++i) {
    long long v = 0;
    PyObject *row = PyList_GET_ITEM(list, i);
    if (!PyTuple_Check(row))
      PyErr_SetString(PyExc_TypeError, "an override is a tuple (name, value)");
    if (!PyTuple_Check(row) || !PyArg_ParseTuple(row, "sL", &out[i].name, &v)) {
      PyMem_Free(out);
      return NULL;
    }
    out[i].value = v;
  }
  *n = (int)count;
  return out;
}

/* [(name, OrtValue)]: plain host tensors; borrowed. */
static mrt_named_tensor *tensors(mrt_py_state *state, PyObject *list, int *n) {
  Py_ssize_t count = PyList_GET_SIZE(list);
  mrt_named_tensor *out = PyMem_Calloc((size_t)count + 1, sizeof *out);
  if (!out) return (void *)PyErr_NoMemory();
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *value;
    bool ok =
        PyArg_ParseTuple(PyList_GET_ITEM(list, i), "sO!", &out[i].name, state->value_type, &value);
    if (ok) out[i].tensor = mrt_value_tensor(((mrt_py_value *)value)->v);
    if (ok && (!out[i].tensor || out[i].tensor->strided)) {
      PyErr_Format(PyExc_ValueError, "initializer '%s' is no plain tensor", out[i].name);
      ok = false;
    }
    if (!ok) {
      PyMem_Free(out);
      return NULL;
    }
  }
  *n = (int)count;
  return out;
}

static PyObject *create(PyTypeObject *type, const mrt_session_options *options, const char *path,
                        PyObject *data) {
  mrt_py_state *state = PyType_GetModuleState(type);
  mrt_source src = {.path = path};
  if (!path && lend(state, data, &src.bytes) < 0) return NULL;
  mrt_session *s = NULL;
  mrt_status *st;
  Py_BEGIN_ALLOW_THREADS st = mrt_session_create(options, &src, &s);
  mrt_blob_release(src.bytes);
  Py_END_ALLOW_THREADS if (st) return mrt_py_raise(state, st);
  mrt_py_session *self = (mrt_py_session *)type->tp_alloc(type, 0);
  if (!self) {
    mrt_session_release(s);
    return NULL;
  }
  self->s = s;
  if (intern_names(self) < 0) Py_CLEAR(self);
  return (PyObject *)self;
}

/* Keywords only, as in _core.pyi; config is key, value, key, value. */
static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"path",    "data",      "level",  "threads",      "log_level",
                          "logid",   "providers", "config", "by_name",      "by_denotation",
                          "profile", "optimized", "cancel", "initializers", NULL};
  const char *path, *logid, *profile, *optimized;
  PyObject *data, *providers, *config, *by_name, *by_denotation, *cancel, *inits, *self = NULL;
  mrt_session_options o = {0};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$yOiiisO!O!O!O!zzOO!", names, &path, &data,
                                   &o.level, &o.intra_op_threads, &o.log_level, &logid,
                                   &PyList_Type, &providers, &PyList_Type, &config, &PyList_Type,
                                   &by_name, &PyList_Type, &by_denotation, &profile, &optimized,
                                   &cancel, &PyList_Type, &inits))
    return NULL;
  o.logid = logid;
  o.profile_prefix = profile;
  o.optimized_path = optimized;
  o.cancel = mrt_py_flag_get(cancel);
  if (PyErr_Occurred()) return NULL;
  const char **provider_names = texts(providers, &o.n_providers);
  const char **pairs = provider_names ? texts(config, &o.n_config) : NULL;
  mrt_dim_override *named = pairs ? overrides(by_name, &o.n_overrides_by_name) : NULL;
  mrt_dim_override *denoted = named ? overrides(by_denotation, &o.n_overrides_by_denotation) : NULL;
  mrt_named_tensor *given =
      denoted ? tensors(PyType_GetModuleState(type), inits, &o.n_initializers) : NULL;
  if (given) {
    o.providers = provider_names;
    o.config = pairs;
    o.n_config /= 2;
    o.overrides_by_name = named;
    o.overrides_by_denotation = denoted;
    o.initializers = given;
    self = create(type, &o, *path ? path : NULL, data);
  }
  PyMem_Free(provider_names);
  PyMem_Free(pairs);
  PyMem_Free(named);
  PyMem_Free(denoted);
  PyMem_Free(given);
  return self;
}

/* ---- the rest ---- */

static PyObject *session_end_profiling(PyObject *self, PyObject *unused) {
  const char *path;
  (void)unused;
  mrt_session *s = ((mrt_py_session *)self)->s;
  mrt_status *st;
  Py_BEGIN_ALLOW_THREADS st = mrt_session_end_profiling(s, &path);
  Py_END_ALLOW_THREADS return st ? mrt_py_raise(mrt_py_state_of(self), st)
                                 : PyUnicode_DecodeFSDefault(path);
}

static PyObject *session_stats(PyObject *self, PyObject *unused) {
  (void)unused;
  mrt_session *s = ((mrt_py_session *)self)->s;
  const mrt_session_memory m = mrt_session_memory_now(s);
  return Py_BuildValue("{sLsLsKsnsnsnsn}", "plan_evals", (long long)mrt_session_plan_evals(s),
                       "plan_eval_ns", (long long)mrt_session_plan_eval_ns(s), "profiling_start_ns",
                       (unsigned long long)mrt_session_profiling_start_ns(s), "weight_bytes",
                       (Py_ssize_t)m.weights, "plan_bytes", (Py_ssize_t)m.blocks, "scratch_bytes",
                       (Py_ssize_t)m.scratch, "output_pool_bytes", (Py_ssize_t)m.outputs);
}

static PyMethodDef methods[] = {
    {"run", KEYWORDS(mrt_py_session_run), METH_FASTCALL,
     "run(output_names, feeds, flag=None) -> list"},
    {"run_values", KEYWORDS(mrt_py_session_run_values), METH_FASTCALL,
     "run(output_names, feeds, flag=None) -> list of OrtValue"},
    {"describe", mrt_py_session_describe, METH_NOARGS, "inputs, outputs, metadata, providers"},
    {"end_profiling", session_end_profiling, METH_NOARGS, "writes the profile, returns its path"},
    {"stats", session_stats, METH_NOARGS, "counters"},
    {"text", mrt_py_session_text, METH_O, "text(max_elems): the optimized graph"},
    {"fired", mrt_py_session_fired, METH_NOARGS, "{pass or fusion: how often it fired}"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot slots[] = {{Py_tp_new, session_new},
                              {Py_tp_dealloc, session_dealloc},
                              {Py_tp_traverse, session_traverse},
                              {Py_tp_methods, methods},
                              {Py_tp_doc, "A loaded model. Use macart.InferenceSession."},
                              {0, NULL}};
PyType_Spec mrt_py_session_spec = {
    "macart._core.Session", sizeof(mrt_py_session), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE, slots};
