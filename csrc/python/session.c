/* macart._core.Session: a loaded model. Immutable after creation, so any number of threads may run
 * it at once; loading and running happen without the GIL.
 *
 * run() is the hot path. Names are found by identity first (names are interned on both sides), and
 * plain arrays are looked at where they lie through views on this stack: nothing is allocated for a
 * feed. */
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

/* ---- running ---- */

int mrt_py_session_find(const mrt_py_session *o, PyObject *name, bool output) {
  PyObject *const *names = output ? o->names + o->n_inputs : o->names;
  int n = output ? o->n_outputs : o->n_inputs;
  for (int i = 0; i < n; ++i)
    if (names[i] == name) return i;
  if (!PyUnicode_Check(name)) {
    PyErr_Format(PyExc_TypeError, "names are str, not %s", Py_TYPE(name)->tp_name);
    return -2;
  }
  const char *text = PyUnicode_AsUTF8(name);
  if (!text) return -2;
  return output ? mrt_session_find_output(o->s, text) : mrt_session_find_input(o->s, text);
}

int mrt_py_session_call(mrt_py_session *o, PyObject *flag, int n_feeds, const int *feed_index,
                        mrt_value *const *feeds, int n_fetch, const int *fetch_index,
                        mrt_value **out) {
  mrt_run_options options = {.terminate = mrt_py_flag_get(flag)};
  if (!options.terminate && flag != Py_None) return -1;
  mrt_py_interrupt interrupt;
  if (mrt_py_interrupt_begin(&interrupt)) options.poll = &interrupt.poll;
  mrt_status *st =
      mrt_session_run(o->s, &options, n_feeds, feed_index, feeds, n_fetch, fetch_index, out);
  mrt_py_interrupt_end(&interrupt);
  if (st) mrt_py_raise(mrt_py_state_of((PyObject *)o), st);
  return st || PyErr_Occurred() ? -1 : 0;
}

#define SMALL 8

/* One call: feeds and fetches, on the stack up to SMALL each. */
typedef struct call {
  mrt_py_session *o;
  mrt_py_state *state;
  int n_feeds, n_fetch, n_tensors;
  int *feed_index, *fetch_index;
  mrt_value **feeds, **out;
  mrt_tensor *views; /* of plain arrays */
  PyObject **held;   /* the feeds' objects: the dict may change while the GIL is away */
  void *heap;
  mrt_tensor small_views[SMALL];
  mrt_value *small_feeds[SMALL], *small_out[SMALL];
  PyObject *small_held[SMALL];
  int small_feed_index[SMALL], small_fetch_index[SMALL];
} call;

static int call_init(call *c, PyObject *self, Py_ssize_t n_feeds, Py_ssize_t n_fetch) {
  c->o = (mrt_py_session *)self;
  c->state = mrt_py_state_of(self);
  c->n_feeds = c->n_fetch = 0;
  c->heap = NULL;
  c->feed_index = c->small_feed_index;
  c->fetch_index = c->small_fetch_index;
  c->feeds = c->small_feeds;
  c->out = c->small_out;
  c->views = c->small_views;
  c->held = c->small_held;
  if (n_feeds <= SMALL && n_fetch <= SMALL) return 0;
  size_t a = (size_t)n_feeds, b = (size_t)n_fetch; /* both lengths of containers in memory */
  char *p = c->heap =
      PyMem_Calloc(1, a * (sizeof(mrt_tensor) + 3 * sizeof(void *)) + b * 2 * sizeof(void *) + 64);
  if (!p) return PyErr_NoMemory(), -1;
  c->views = (mrt_tensor *)p;
  c->feeds = (mrt_value **)(c->views + a);
  c->held = (PyObject **)(c->feeds + a);
  c->out = (mrt_value **)(c->held + a);
  c->feed_index = (int *)(c->out + b);
  c->fetch_index = c->feed_index + a;
  return 0;
}

static void call_clear(call *c) {
  for (int i = 0; i < c->n_feeds; ++i) {
    if (!(c->feeds[i]->flags & MRT_VALUE_BORROWED)) mrt_value_release(c->feeds[i]);
    Py_DECREF(c->held[i]);
  }
  if (c->heap) PyMem_Free(c->heap);
}

static const mrt_io_info *input_info(const mrt_py_session *o, int i) {
  return i < o->n_required ? mrt_session_input(o->s, i)
                           : mrt_session_overridable(o->s, i - o->n_required);
}

static int add_feed(call *c, int index, PyObject *value) {
  int k = c->n_feeds;
  if (mrt_py_array_view(value, &c->views[k])) {
    c->feeds[k] = &c->views[k].base;
  } else {
    const mrt_io_info *info = input_info(c->o, index);
    c->feeds[k] = mrt_py_to_value(c->state, value, info->type, info->name);
    if (!c->feeds[k]) return -1;
  }
  c->held[k] = Py_NewRef(value);
  c->feed_index[k] = index;
  ++c->n_feeds;
  return 0;
}

/* ONNX Runtime's wording: both lists as Python prints them. */
static int missing(const call *c, PyObject *feed) {
  const mrt_py_session *o = c->o;
  PyObject *lacking = PyList_New(0), *given = PyDict_Keys(feed);
  for (int i = 0; lacking && given && i < o->n_required; ++i) {
    int there = PyDict_Contains(feed, o->names[i]);
    if (there < 0 ||
        (!there && input_info(o, i)->required && PyList_Append(lacking, o->names[i]) < 0))
      Py_CLEAR(lacking);
  }
  if (lacking && given && PyList_GET_SIZE(lacking))
    PyErr_Format(PyExc_ValueError, "Required inputs (%R) are missing from input feed (%R).",
                 lacking, given);
  Py_XDECREF(lacking);
  Py_XDECREF(given);
  return PyErr_Occurred() ? -1 : 0;
}

static int parse_feeds(call *c, PyObject *feed) {
  PyObject *name, *value, *unknown = NULL;
  Py_ssize_t pos = 0;
  int required = 0;
  while (PyDict_Next(feed, &pos, &name, &value)) {
    int index = mrt_py_session_find(c->o, name, false);
    if (index == -2) return -1;
    if (index < 0) {
      unknown = name;
      continue;
    }
    required += index < c->o->n_required && value != Py_None;
    if (value != Py_None && add_feed(c, index, value) < 0) return -1;
  }
  if (required < c->o->n_required && missing(c, feed) < 0) return -1;
  if (!unknown) return 0;
  const char *text = PyUnicode_AsUTF8(unknown);
  if (text) mrt_py_raise(c->state, MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid input name: %s", text));
  return -1;
}

static int parse_fetches(call *c, PyObject *names, Py_ssize_t n) {
  for (Py_ssize_t i = 0; i < n; ++i) {
    c->out[i] = NULL;
    c->fetch_index[i] = (int)i;
    if (names) {
      PyObject *name = PySequence_Fast_GET_ITEM(names, i);
      c->fetch_index[i] = mrt_py_session_find(c->o, name, true);
      const char *text = c->fetch_index[i] == -1 ? PyUnicode_AsUTF8(name) : NULL;
      if (text)
        mrt_py_raise(c->state, MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid output name:%s", text));
      if (c->fetch_index[i] < 0) return -1;
    }
    ++c->n_fetch;
  }
  return 0;
}

/* Results to a list; releases what could not be converted. */
static PyObject *results(call *c, bool values) {
  PyObject *list = PyList_New(c->n_fetch);
  for (int i = 0; i < c->n_fetch; ++i) {
    mrt_value *v = c->out[i];
    PyObject *o = NULL;
    if (!list)
      mrt_value_release(v);
    else
      o = values ? mrt_py_value_new(c->state, v) : mrt_py_from_value(c->state, v);
    if (o)
      PyList_SET_ITEM(list, i, o);
    else
      Py_CLEAR(list);
  }
  return list;
}

static PyObject *run_call(PyObject *self, PyObject *names, PyObject *feed, PyObject *flag,
                          bool values) {
  call c;
  PyObject *list = NULL, *out = NULL;
  if (PyUnicode_Check(names) || PyBytes_Check(names)) {
    PyErr_SetString(PyExc_TypeError, "output names are a sequence of str, not one str");
    return NULL;
  }
  if (names != Py_None) {
    list = PySequence_Fast(names, "output names are a sequence of str, or None");
    if (!list) return NULL;
    if (!PySequence_Fast_GET_SIZE(list)) Py_CLEAR(list); /* empty: all */
  }
  Py_ssize_t n =
      list ? PySequence_Fast_GET_SIZE(list) : (Py_ssize_t)((mrt_py_session *)self)->n_outputs;
  if (n < INT_MAX && call_init(&c, self, PyDict_GET_SIZE(feed), n) == 0) {
    if (parse_feeds(&c, feed) == 0 && parse_fetches(&c, list, n) == 0) {
      if (mrt_py_session_call(c.o, flag, c.n_feeds, c.feed_index, c.feeds, c.n_fetch, c.fetch_index,
                              c.out) == 0)
        out = results(&c, values);
      else
        for (int i = 0; i < c.n_fetch; ++i) mrt_value_release(c.out[i]);
    }
    call_clear(&c);
  }
  Py_XDECREF(list);
  return out;
}

static PyObject *run_any(PyObject *self, PyObject *const *args, Py_ssize_t n, bool values) {
  if (n < 2 || n > 3) {
    PyErr_SetString(PyExc_TypeError, "run(output_names, input_feed, flag=None)");
    return NULL;
  }
  PyObject *flag = n > 2 ? args[2] : Py_None, *feed = args[1];
  if (PyDict_Check(feed)) return run_call(self, args[0], feed, flag, values);
  PyObject *copy = PyDict_New(); /* another mapping */
  PyObject *out = NULL;
  if (copy && PyDict_Update(copy, feed) == 0) out = run_call(self, args[0], copy, flag, values);
  Py_XDECREF(copy);
  return out;
}

static PyObject *session_run(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  return run_any(self, args, n, false);
}
static PyObject *session_run_values(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  return run_any(self, args, n, true);
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
  return Py_BuildValue("{sLsLsK}", "plan_evals", (long long)mrt_session_plan_evals(s),
                       "plan_eval_ns", (long long)mrt_session_plan_eval_ns(s), "profiling_start_ns",
                       (unsigned long long)mrt_session_profiling_start_ns(s));
}

static PyMethodDef methods[] = {
    {"run", KEYWORDS(session_run), METH_FASTCALL, "run(output_names, feeds, flag=None) -> list"},
    {"run_values", KEYWORDS(session_run_values), METH_FASTCALL,
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
