/* The extension module macart._core: a sealed C type Session, which runs on numpy arrays.
 * Everything that computes releases the GIL. The classes that users see are Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <numpy/arrayobject.h>

#include "base/cpu.h"
#include "base/threads.h"
#include "exec/session.h"
#include "plan/plan.h"
#include "python/ml_types.h"

typedef struct module_state {
  PyObject *raise; /* macart._errors.make(code, name, class, message) -> exception */
  PyTypeObject *session_type;
} module_state;

static struct PyModuleDef module_def;
static module_state *state_of_type(PyTypeObject *type) {
  return PyModule_GetState(PyType_GetModuleByDef(type, &module_def));
}

/* Status to exception; frees the status. Always returns NULL when there is one. */
static PyObject *raise_status(module_state *state, mrt_status *st) {
  mrt_code code = mrt_status_code(st);
  PyObject *e = PyObject_CallFunction(state->raise, "isss", (int)code, mrt_code_name(code),
                                      mrt_code_class(code), mrt_status_message(st));
  mrt_status_free(st);
  if (e) {
    PyErr_SetObject((PyObject *)Py_TYPE(e), e);
    Py_DECREF(e);
  }
  return NULL;
}

typedef struct session {
  PyObject_HEAD mrt_session *s;
  PyObject *keep; /* bytes that the model was read from */
} session;

/* ---- numpy in and out ---- */
static const struct {
  int npy;
  mrt_dtype dtype;
} numpy_types[] = {
    {NPY_FLOAT, MRT_FLOAT},      {NPY_DOUBLE, MRT_DOUBLE},      {NPY_HALF, MRT_FLOAT16},
    {NPY_INT8, MRT_INT8},        {NPY_INT16, MRT_INT16},        {NPY_INT32, MRT_INT32},
    {NPY_INT64, MRT_INT64},      {NPY_UINT8, MRT_UINT8},        {NPY_UINT16, MRT_UINT16},
    {NPY_UINT32, MRT_UINT32},    {NPY_UINT64, MRT_UINT64},      {NPY_BOOL, MRT_BOOL},
    {NPY_CFLOAT, MRT_COMPLEX64}, {NPY_CDOUBLE, MRT_COMPLEX128}, {NPY_LONGLONG, MRT_INT64},
    {NPY_ULONGLONG, MRT_UINT64}};
#define N_TYPES (sizeof numpy_types / sizeof *numpy_types)

static void release_array(void *ctx, mrt_tensor *t) {
  (void)t;
  if (!Py_IsInitialized()) return;
  PyGILState_STATE g = PyGILState_Ensure();
  Py_DECREF((PyObject *)ctx);
  PyGILState_Release(g);
}

static mrt_tensor *strings_from_array(module_state *state, PyArrayObject *a, const int64_t *dims) {
  mrt_tensor *t = NULL;
  PyObject *flat = PyObject_CallMethod((PyObject *)a, "ravel", NULL);
  mrt_status *st =
      flat ? mrt_tensor_create(mrt_alloc_default(), MRT_STRING, PyArray_NDIM(a), dims, &t) : NULL;
  for (npy_intp i = 0; flat && !st && i < PyArray_SIZE(a); ++i) {
    PyObject *item = PySequence_GetItem(flat, i);
    PyObject *text = !item ? NULL : PyBytes_Check(item) ? Py_NewRef(item) : PyObject_Str(item);
    Py_ssize_t n = 0;
    const char *p = NULL;
    if (text && PyBytes_Check(text)) {
      p = PyBytes_AS_STRING(text);
      n = PyBytes_GET_SIZE(text);
    } else if (text) {
      p = PyUnicode_AsUTF8AndSize(text, &n);
    }
    if (p) st = mrt_string_create(NULL, p, (size_t)n, &((mrt_string **)t->data)[i]);
    Py_XDECREF(text);
    Py_XDECREF(item);
    if (!p) break;
  }
  Py_XDECREF(flat);
  if (st) raise_status(state, st);
  if (PyErr_Occurred()) {
    mrt_tensor_release(t);
    return NULL;
  }
  return t;
}

/* A tensor over the array's memory (any strides that are whole elements); holds a reference. */
static mrt_tensor *from_array(module_state *state, PyObject *obj) {
  if (!PyArray_Check(obj)) {
    PyErr_Format(PyExc_TypeError, "expected a numpy array, got %s", Py_TYPE(obj)->tp_name);
    return NULL;
  }
  PyArrayObject *a = (PyArrayObject *)obj;
  int rank = PyArray_NDIM(a), type = PyArray_TYPE(a);
  int64_t dims[MRT_MAX_RANK], strides[MRT_MAX_RANK];
  if (rank > MRT_MAX_RANK)
    return (void *)raise_status(
        state, MRT_ERR(MRT_NOT_IMPLEMENTED, "rank %d; at most %d", rank, MRT_MAX_RANK));
  for (int i = 0; i < rank; ++i) dims[i] = PyArray_DIM(a, i);
  if (type == NPY_UNICODE || type == NPY_STRING || type == NPY_OBJECT || type == NPY_VOID)
    return strings_from_array(state, a, dims);
  size_t k = 0;
  while (k < N_TYPES && numpy_types[k].npy != type) ++k;
  mrt_dtype dtype = k < N_TYPES ? numpy_types[k].dtype : mrt_ml_dtype((PyObject *)PyArray_DESCR(a));
  if (!dtype) {
    PyErr_Format(PyExc_RuntimeError, "Numpy_type %d can't be converted to MLDataType.", type);
    return NULL;
  }
  npy_intp size = PyArray_ITEMSIZE(a);
  bool narrow = mrt_dtype_bits(dtype) < 8;
  bool whole = !narrow && PyArray_ISALIGNED(a) && PyArray_ISNOTSWAPPED(a);
  for (int i = 0; i < rank; ++i) {
    whole = whole && PyArray_STRIDE(a, i) % size == 0;
    strides[i] = PyArray_STRIDE(a, i) / size;
  }
  PyObject *owner =
      whole ? Py_NewRef(obj)
            : PyArray_FromAny(obj, PyArray_DescrFromType(type), 0, 0, NPY_ARRAY_DEFAULT, NULL);
  if (!owner) return NULL;
  mrt_tensor *t = NULL;
  void *data = PyArray_DATA((PyArrayObject *)owner);
  mrt_status *st =
      narrow ? mrt_ml_pack(dtype, rank, dims, data, &t)
             : mrt_tensor_wrap(mrt_alloc_default(), dtype, rank, dims, whole ? strides : NULL, data,
                               MRT_HOST, release_array, owner, &t);
  if (st || narrow) Py_DECREF(owner);
  if (st) return (void *)raise_status(state, st);
  t->base.flags |= MRT_VALUE_READONLY;
  return t;
}

static void capsule_free(PyObject *capsule) {
  mrt_value_release(PyCapsule_GetPointer(capsule, "macart.value"));
}

static PyObject *strings_to_array(const mrt_tensor *t, npy_intp *dims) {
  PyObject *out = PyArray_SimpleNew(t->rank, dims, NPY_OBJECT);
  if (!out) return NULL;
  PyObject **items = PyArray_DATA((PyArrayObject *)out);
  int64_t n = mrt_tensor_count(t);
  for (int64_t i = 0; i < n; ++i) {
    const mrt_string *s = ((mrt_string **)t->data)[i];
    PyObject *u =
        PyUnicode_DecodeUTF8(mrt_string_bytes(s), (Py_ssize_t)mrt_string_len(s), "surrogateescape");
    if (!u) {
      Py_DECREF(out);
      return NULL;
    }
    Py_XSETREF(items[i], u);
  }
  return out;
}

/* Takes the value: an array over its memory, no copy; lists for sequences, None for empty. */
static PyObject *to_python(mrt_value *take) {
  mrt_tensor *t = mrt_value_tensor(take);
  npy_intp dims[MRT_MAX_RANK];
  if (!take) Py_RETURN_NONE;
  if (take->kind == MRT_KIND_SEQUENCE) {
    mrt_sequence *q = (mrt_sequence *)take;
    PyObject *list = PyList_New((Py_ssize_t)q->n);
    for (size_t i = 0; list && i < q->n; ++i) {
      PyObject *item = to_python(mrt_value_retain(q->items[i]));
      if (!item)
        Py_CLEAR(list);
      else
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    mrt_value_release(take);
    return list;
  }
  if (take->kind == MRT_KIND_OPTIONAL) {
    PyObject *item = to_python(mrt_value_retain(((mrt_optional *)take)->item));
    mrt_value_release(take);
    return item;
  }
  if (!t) {
    mrt_value_release(take);
    PyErr_SetString(PyExc_NotImplementedError, "outputs of this kind");
    return NULL;
  }
  for (int i = 0; i < t->rank; ++i) dims[i] = t->dims[i];
  if (t->dtype == MRT_STRING) {
    PyObject *out = strings_to_array(t, dims);
    mrt_value_release(take);
    return out;
  }
  size_t k = 0;
  while (k < N_TYPES && numpy_types[k].dtype != (mrt_dtype)t->dtype) ++k;
  if (k == N_TYPES) {
    PyObject *out = mrt_ml_array(t);
    mrt_value_release(take);
    return out;
  }
  PyObject *a = PyArray_SimpleNewFromData(t->rank, dims, numpy_types[k].npy, t->data);
  PyObject *capsule = a ? PyCapsule_New(take, "macart.value", capsule_free) : NULL;
  if (!capsule) {
    mrt_value_release(take);
    Py_XDECREF(a);
    return NULL;
  }
  if (PyArray_SetBaseObject((PyArrayObject *)a, capsule) < 0) {
    Py_DECREF(a);
    return NULL;
  }
  return a;
}

/* ---- Session ---- */
static void session_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  session *o = (session *)self;
  Py_BEGIN_ALLOW_THREADS mrt_session_release(o->s);
  Py_END_ALLOW_THREADS Py_XDECREF(o->keep);
  type->tp_free(self);
  Py_DECREF(type);
}

static int fill_strings(PyObject *list, const char **out, Py_ssize_t cap) {
  Py_ssize_t n = PySequence_Fast_GET_SIZE(list);
  if (n > cap) n = cap;
  for (Py_ssize_t i = 0; i < n; ++i) {
    out[i] = PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(list, i));
    if (!out[i]) return -1;
  }
  return (int)n;
}

/* Session(path or None, data or None, level, threads, log_level, logid, providers, config pairs as
 * a flat list, overrides as a list of (name, value), profile prefix or None, optimized path) */
static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  const char *path, *logid, *profile, *optimized;
  PyObject *data, *providers, *config, *overrides;
  int level, threads, log_level;
  (void)kwargs;
  if (!PyArg_ParseTuple(args, "zOiiisO!O!O!zs", &path, &data, &level, &threads, &log_level, &logid,
                        &PyList_Type, &providers, &PyList_Type, &config, &PyList_Type, &overrides,
                        &profile, &optimized))
    return NULL;
  const char *names[32], *pairs[256];
  mrt_dim_override dims[64];
  int n_over = 0;
  int n_names = fill_strings(providers, names, 32), n_pairs = fill_strings(config, pairs, 256);
  if (n_names < 0 || n_pairs < 0) return NULL;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(overrides) && n_over < 64; ++i) {
    long long v;
    if (!PyArg_ParseTuple(PyList_GET_ITEM(overrides, i), "sL", &dims[n_over].name, &v)) return NULL;
    dims[n_over++].value = v;
  }
  Py_buffer buffer = {0};
  if (!path && PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE) < 0) return NULL;
  module_state *state = state_of_type(type);
  mrt_session_options o = {.level = level,
                           .intra_op_threads = threads,
                           .log_level = log_level,
                           .logid = logid,
                           .providers = names,
                           .n_providers = n_names,
                           .config = pairs,
                           .n_config = n_pairs / 2,
                           .overrides_by_name = dims,
                           .n_overrides_by_name = n_over,
                           .profile_prefix = profile,
                           .optimized_path = optimized};
  mrt_source src = {.path = path};
  mrt_session *s = NULL;
  mrt_status *st = NULL;
  Py_BEGIN_ALLOW_THREADS if (!path) st = mrt_blob_from_memory(
      mrt_alloc_default(), buffer.buf, (size_t)buffer.len, NULL, NULL, &src.bytes);
  if (!st) st = mrt_session_create(&o, &src, &s);
  mrt_blob_release(src.bytes);
  Py_END_ALLOW_THREADS if (!path) PyBuffer_Release(&buffer);
  if (st) return raise_status(state, st);
  session *self = (session *)type->tp_alloc(type, 0);
  if (!self) {
    mrt_session_release(s);
    return NULL;
  }
  self->s = s;
  self->keep = path ? NULL : Py_NewRef(data); /* weights may point into it */
  return (PyObject *)self;
}

static PyObject *type_text(const mrt_type *t) {
  mrt_str text;
  mrt_str_init(&text, mrt_alloc_default());
  mrt_type_format(t, &text);
  PyObject *o = PyUnicode_FromString(mrt_str_cstr(&text));
  mrt_str_deinit(&text);
  return o;
}

/* (name, type, shape) of one input or output. */
static PyObject *io_tuple(const mrt_io_info *info) {
  const mrt_type *t = info->type;
  int rank = t && t->kind == MRT_KIND_TENSOR && t->rank > 0 ? t->rank : 0;
  PyObject *shape = PyList_New(rank);
  for (int i = 0; shape && i < rank; ++i) {
    int64_t v;
    PyObject *d = mrt_expr_is_const(t->dims[i], &v) ? PyLong_FromLongLong(v)
                  : t->dim_names && t->dim_names[i] ? PyUnicode_FromString(t->dim_names[i])
                                                    : Py_NewRef(Py_None);
    if (!d)
      Py_CLEAR(shape);
    else
      PyList_SET_ITEM(shape, i, d);
  }
  PyObject *type = shape ? type_text(t) : NULL;
  if (!type) {
    Py_XDECREF(shape);
    return NULL;
  }
  return Py_BuildValue("(sNN)", info->name, type, shape);
}

static PyObject *session_describe(PyObject *self, PyObject *unused) {
  const mrt_session *s = ((session *)self)->s;
  const mrt_model *m = mrt_session_model(s);
  (void)unused;
  PyObject *in = PyList_New(0), *out = PyList_New(0), *over = PyList_New(0), *meta = PyDict_New();
  PyObject *prov = PyList_New(0);
  bool ok = in && out && over && meta && prov;
  for (int k = 0; k < 3 && ok; ++k) {
    int n = k == 0   ? mrt_session_n_inputs(s)
            : k == 1 ? mrt_session_n_outputs(s)
                     : mrt_session_n_overridable(s);
    for (int i = 0; i < n && ok; ++i) {
      PyObject *t = io_tuple(k == 0   ? mrt_session_input(s, i)
                             : k == 1 ? mrt_session_output(s, i)
                                      : mrt_session_overridable(s, i));
      ok = t && PyList_Append(k == 0 ? in : k == 1 ? out : over, t) == 0;
      Py_XDECREF(t);
    }
  }
  for (int i = 0; i < m->n_metadata && ok; ++i) {
    PyObject *v = PyUnicode_FromString(m->metadata[i].value);
    ok = v && PyDict_SetItemString(meta, m->metadata[i].key, v) == 0;
    Py_XDECREF(v);
  }
  for (int i = 0; i < mrt_session_n_providers(s) && ok; ++i) {
    PyObject *v = PyUnicode_FromString(mrt_session_provider(s, i));
    ok = v && PyList_Append(prov, v) == 0;
    Py_XDECREF(v);
  }
  if (!ok) {
    Py_XDECREF(in);
    Py_XDECREF(out);
    Py_XDECREF(over);
    Py_XDECREF(meta);
    Py_XDECREF(prov);
    return NULL;
  }
  return Py_BuildValue("{sNsNsNsNsNsssssssssssL}", "inputs", in, "outputs", out, "overridable",
                       over, "metadata", meta, "providers", prov, "producer_name", m->producer_name,
                       "graph_name", m->graph->name, "domain", m->domain, "description", m->doc,
                       "graph_description", m->graph->doc, "version", (long long)m->model_version);
}

typedef struct run_args {
  mrt_value *feeds[256], *out[256];
  int feed_index[256], fetch_index[256], n_feeds, n_fetch;
} run_args;

static mrt_value *value_from(module_state *state, PyObject *obj) {
  if (!PyList_Check(obj)) {
    mrt_tensor *t = from_array(state, obj);
    return t ? &t->base : NULL;
  }
  mrt_sequence *q = NULL; /* a sequence: a list of arrays */
  mrt_status *st = mrt_sequence_create(mrt_alloc_default(), MRT_UNDEFINED, &q);
  if (st) return (void *)raise_status(state, st);
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(obj); ++i) {
    mrt_tensor *t = from_array(state, PyList_GET_ITEM(obj, i));
    if (t) {
      q->elem_dtype = t->dtype;
      st = mrt_sequence_append(q, &t->base);
    }
    if (!t || st) {
      mrt_value_release(&q->base);
      return st ? (void *)raise_status(state, st) : NULL;
    }
  }
  return &q->base;
}

/* run(feeds: {name: array}, fetches: [name] or None, flag: int address holder) -> list */
static PyObject *session_run(PyObject *self, PyObject *args) {
  mrt_session *s = ((session *)self)->s;
  module_state *state = state_of_type(Py_TYPE(self));
  PyObject *feeds, *fetches, *flag, *name, *value, *result = NULL;
  Py_ssize_t pos = 0;
  if (!PyArg_ParseTuple(args, "O!OO", &PyDict_Type, &feeds, &fetches, &flag)) return NULL;
  run_args a;
  a.n_feeds = a.n_fetch = 0;
  mrt_status *st = NULL;
  int n_out = fetches == Py_None ? mrt_session_n_outputs(s) : (int)PySequence_Size(fetches);
  if (PyDict_GET_SIZE(feeds) > 256 || n_out > 256)
    return raise_status(state, MRT_ERR(MRT_NOT_IMPLEMENTED, "more than 256 feeds or fetches"));
  if (PyErr_Occurred()) return NULL;
  while (PyDict_Next(feeds, &pos, &name, &value)) {
    const char *text = PyUnicode_AsUTF8(name);
    if (!text) goto done;
    a.feed_index[a.n_feeds] = mrt_session_find_input(s, text);
    if (a.feed_index[a.n_feeds] < 0) {
      st = MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid input name: %s", text);
      goto done;
    }
    a.feeds[a.n_feeds] = value_from(state, value);
    if (!a.feeds[a.n_feeds]) goto done;
    ++a.n_feeds;
  }
  for (int i = 0; i < n_out; ++i) {
    a.fetch_index[i] = i;
    a.out[i] = NULL;
    if (fetches != Py_None) {
      PyObject *item = PySequence_GetItem(fetches, i);
      const char *text = item ? PyUnicode_AsUTF8(item) : NULL;
      if (text && (a.fetch_index[i] = mrt_session_find_output(s, text)) < 0)
        st = MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid output name: %s", text);
      Py_XDECREF(item);
      if (!text || st) goto done;
    }
    ++a.n_fetch;
  }
  mrt_run_options options = {0};
  if (flag != Py_None) options.terminate = PyCapsule_GetPointer(flag, "macart.flag");
  Py_BEGIN_ALLOW_THREADS st = mrt_session_run(s, &options, a.n_feeds, a.feed_index, a.feeds,
                                              a.n_fetch, a.fetch_index, a.out);
  Py_END_ALLOW_THREADS if (st) goto done;
  result = PyList_New(a.n_fetch);
  for (int i = 0; i < a.n_fetch; ++i) {
    PyObject *o = to_python(a.out[i]);
    if (o && result)
      PyList_SET_ITEM(result, i, o);
    else {
      Py_XDECREF(o);
      Py_CLEAR(result);
    }
  }
done:
  for (int i = 0; i < a.n_feeds; ++i) mrt_value_release(a.feeds[i]);
  return st ? raise_status(state, st) : result;
}

static PyObject *session_end_profiling(PyObject *self, PyObject *unused) {
  const char *path;
  (void)unused;
  mrt_status *st = mrt_session_end_profiling(((session *)self)->s, &path);
  return st ? raise_status(state_of_type(Py_TYPE(self)), st) : PyUnicode_FromString(path);
}
static PyObject *session_stats(PyObject *self, PyObject *unused) {
  (void)unused;
  mrt_session *s = ((session *)self)->s;
  return Py_BuildValue("{sLsK}", "plan_evals", (long long)mrt_session_plan_evals(s),
                       "profiling_start_ns", (unsigned long long)mrt_session_profiling_start_ns(s));
}

static PyMethodDef session_methods[] = {
    {"run", session_run, METH_VARARGS, "run(feeds, fetches, flag) -> list of arrays"},
    {"describe", session_describe, METH_NOARGS, "inputs, outputs, metadata, providers as a dict"},
    {"end_profiling", session_end_profiling, METH_NOARGS, "writes the profile, returns its path"},
    {"stats", session_stats, METH_NOARGS, "counters"},
    {NULL, NULL, 0, NULL}};
static PyType_Slot session_slots[] = {{Py_tp_new, session_new},
                                      {Py_tp_dealloc, session_dealloc},
                                      {Py_tp_methods, session_methods},
                                      {Py_tp_doc, "A loaded model. Use macart.InferenceSession."},
                                      {0, NULL}};
static PyType_Spec session_spec = {"macart._core.Session", sizeof(session), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, session_slots};

/* ---- module ---- */
static void flag_free(PyObject *capsule) {
  PyMem_RawFree(PyCapsule_GetPointer(capsule, "macart.flag"));
}
static PyObject *make_flag(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  atomic_int *flag = PyMem_RawMalloc(sizeof *flag);
  if (!flag) return PyErr_NoMemory();
  atomic_init(flag, 0);
  return PyCapsule_New(flag, "macart.flag", flag_free);
}
static PyObject *set_flag(PyObject *m, PyObject *args) {
  PyObject *capsule;
  int v;
  (void)m;
  if (!PyArg_ParseTuple(args, "Op", &capsule, &v)) return NULL;
  atomic_int *flag = PyCapsule_GetPointer(capsule, "macart.flag");
  if (!flag) return NULL;
  atomic_store(flag, v);
  Py_RETURN_NONE;
}
static PyObject *set_log_level(PyObject *m, PyObject *arg) {
  (void)m;
  int v = (int)PyLong_AsLong(arg);
  if (PyErr_Occurred()) return NULL;
  mrt_log_set_default_level(v);
  Py_RETURN_NONE;
}
static PyObject *info(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  const mrt_cpu *c = mrt_cpu_get();
  return Py_BuildValue("{sssIsisLsL}", "cpu", c->name, "isa", (unsigned)c->isa, "threads",
                       mrt_threads_count(), "live_bytes", (long long)mrt_alloc_live_bytes(),
                       "plan_builds", (long long)mrt_plan_build_count());
}
static PyObject *operators(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  const mrt_op_table *t = mrt_ops_builtin();
  PyObject *list = PyList_New((Py_ssize_t)t->n_rows);
  for (size_t i = 0; list && i < t->n_rows; ++i) {
    const mrt_op_def *d = t->rows[i];
    PyObject *since = PyList_New(0);
    for (int k = 0; since && d->versions && d->versions[k].since; ++k) {
      PyObject *v = PyLong_FromLong(d->versions[k].since);
      if (v) PyList_Append(since, v);
      Py_XDECREF(v);
    }
    PyObject *row =
        Py_BuildValue("(ssszN)", d->domain, d->name, d->doc ? d->doc : "", d->types, since);
    if (!row)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, (Py_ssize_t)i, row);
  }
  return list;
}

static PyMethodDef module_methods[] = {
    {"make_flag", make_flag, METH_NOARGS, "a new stop flag"},
    {"set_flag", set_flag, METH_VARARGS, "set_flag(flag, on)"},
    {"set_log_level", set_log_level, METH_O, "default severity"},
    {"info", info, METH_NOARGS, "cpu, threads, live bytes, plan builds"},
    {"operators", operators, METH_NOARGS, "[(domain, name, doc, types, [since versions])]"},
    {NULL, NULL, 0, NULL}};

static int module_exec(PyObject *m) {
  module_state *state = PyModule_GetState(m);
  if (_import_array() < 0) return -1;
  PyObject *errors = PyImport_ImportModule("macart._errors");
  if (!errors) return -1;
  state->raise = PyObject_GetAttrString(errors, "make");
  Py_DECREF(errors);
  state->session_type = (PyTypeObject *)PyType_FromModuleAndSpec(m, &session_spec, NULL);
  if (!state->raise || !state->session_type) return -1;
  return PyModule_AddType(m, state->session_type);
}
static int module_traverse(PyObject *m, visitproc visit, void *arg) {
  module_state *state = PyModule_GetState(m);
  Py_VISIT(state->raise);
  Py_VISIT(state->session_type);
  return 0;
}
static int module_clear(PyObject *m) {
  module_state *state = PyModule_GetState(m);
  Py_CLEAR(state->raise);
  Py_CLEAR(state->session_type);
  return 0;
}
static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,       .m_name = "_core",       .m_size = sizeof(module_state),
    .m_methods = module_methods, .m_slots = module_slots, .m_traverse = module_traverse,
    .m_clear = module_clear};
PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module_def); }
