/* The extension module macart._core: multi-phase initialisation, all objects in the module's state.
 * What users see is made of it by macart/. */
#include "python/python.h"

#include "base/cpu.h"
#include "ir/op.h"
#include "ops/random.h"
#include "plan/plan.h"
#include "provider/cpu/gemm/precision.h"

static PyObject *set_log_level(PyObject *m, PyObject *arg) {
  (void)m;
  int v = (int)PyLong_AsLong(arg);
  if (PyErr_Occurred()) return NULL;
  mrt_log_set_default_level(v);
  Py_RETURN_NONE;
}

static PyObject *set_seed(PyObject *m, PyObject *arg) {
  (void)m;
  long long v = PyLong_AsLongLong(arg);
  if (PyErr_Occurred()) return NULL;
  mrt_random_seed(v);
  Py_RETURN_NONE;
}

static PyObject *set_precision(PyObject *m, PyObject *arg) {
  (void)m;
  mrt_precision p;
  const char *name = PyUnicode_AsUTF8(arg);
  if (!name) return NULL;
  if (!mrt_precision_parse(name, &p))
    return PyErr_Format(PyExc_ValueError, "'%s' is not highest, high or medium", name);
  mrt_precision_set_default(p);
  Py_RETURN_NONE;
}

static PyObject *get_precision(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  return PyUnicode_FromString(mrt_precision_name(mrt_precision_default()));
}

/* Names of the instruction sets in use. */
static PyObject *isa_names(uint32_t isa) {
  PyObject *list = PyList_New(0);
  for (int i = 0; list && i < 32; ++i) {
    if (!(isa >> i & 1)) continue;
    PyObject *name = PyUnicode_FromString(mrt_isa_name((uint32_t)1 << i));
    if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  return list;
}

static PyObject *info(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  const mrt_cpu *c = mrt_cpu_get();
  PyObject *names = isa_names(c->isa);
  if (!names) return NULL;
  return Py_BuildValue("{sssIsNsisLsL}", "cpu", c->name, "isa", (unsigned)c->isa, "isa_names",
                       names, "threads", mrt_threads_count(), "live_bytes",
                       (long long)mrt_alloc_live_bytes(), "plan_builds",
                       (long long)mrt_plan_build_count());
}

static PyObject *version_list(const mrt_op_def *d) {
  PyObject *since = PyList_New(0);
  for (int k = 0; since && d->versions && d->versions[k].since; ++k) {
    PyObject *v = PyLong_FromLong(d->versions[k].since);
    if (!v || PyList_Append(since, v) < 0) Py_CLEAR(since);
    Py_XDECREF(v);
  }
  return since;
}

static PyObject *operators(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  const mrt_op_table *t = mrt_ops_builtin();
  PyObject *list = PyList_New((Py_ssize_t)t->n_rows);
  for (size_t i = 0; list && i < t->n_rows; ++i) {
    const mrt_op_def *d = t->rows[i];
    PyObject *row = Py_BuildValue("(ssszzzN)", d->domain, d->name, d->doc ? d->doc : "", d->in,
                                  d->out, d->types, version_list(d));
    if (!row)
      Py_CLEAR(list);
    else
      PyList_SET_ITEM(list, (Py_ssize_t)i, row);
  }
  return list;
}

/* Names of the providers in this build. */
static PyObject *provider_names(PyObject *m, PyObject *unused) {
  (void)m;
  (void)unused;
  PyObject *list = PyList_New(0);
  for (const mrt_provider_row *row = mrt_provider_rows(); list && row->name; ++row) {
    PyObject *name = row->listed ? PyUnicode_FromString(row->name) : NULL;
    if (name && PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  return list;
}

/* Also for providers that are not listed: the one for tests. */
static PyObject *has_provider(PyObject *m, PyObject *name) {
  (void)m;
  const char *text = PyUnicode_AsUTF8(name);
  return text ? PyBool_FromLong(mrt_provider_find(text) != NULL) : NULL;
}

/* Names of the environment variables that the engine reads (MRT_ENV lines). */
static PyObject *environment(PyObject *m, PyObject *unused) {
  static const char *const names[] = {
#define MRT_ENV_ENTRY(name) #name,
#include "gen/environment.def"
#undef MRT_ENV_ENTRY
  };
  (void)m;
  (void)unused;
  PyObject *list = PyList_New(0);
  for (size_t i = 0; list && i < sizeof names / sizeof *names; ++i) {
    PyObject *name = PyUnicode_FromString(names[i]);
    if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  return list;
}

static PyMethodDef methods[] = {
    {"make_flag", mrt_py_flag_new, METH_NOARGS, "a new stop flag"},
    {"set_flag", mrt_py_flag_set, METH_VARARGS, "set_flag(flag, on)"},
    {"set_log_level", set_log_level, METH_O, "default severity"},
    {"set_precision", set_precision, METH_O, "default precision of float32 products"},
    {"get_precision", get_precision, METH_NOARGS, "the same"},
    {"set_seed", set_seed, METH_O, "starts the streams of random operators anew"},
    {"info", info, METH_NOARGS, "cpu, instruction sets, threads, live bytes, plan builds"},
    {"operators", operators, METH_NOARGS,
     "[(domain, name, doc, inputs, outputs, types, [since versions])]"},
    {"providers", provider_names, METH_NOARGS, "names of the providers in this build"},
    {"run_passes", mrt_py_run_passes, METH_VARARGS,
     "run_passes(text, passes, max_elems) -> (text, how often they fired)"},
    {"environment", environment, METH_NOARGS, "names of the environment variables that are read"},
    {"passes", mrt_py_passes, METH_NOARGS, "names of the passes"},
    {"has_provider", has_provider, METH_O, "whether this build has the provider"},
    {NULL, NULL, 0, NULL}};

static int add_type(PyObject *m, PyType_Spec *spec, PyTypeObject **out) {
  *out = (PyTypeObject *)PyType_FromModuleAndSpec(m, spec, NULL);
  return *out ? PyModule_AddType(m, *out) : -1;
}

static int add_names(mrt_py_state *state) {
  state->s_ortvalue = PyUnicode_InternFromString("_ortvalue");
  state->s_dlpack = PyUnicode_InternFromString("__dlpack__");
  state->s_max_version = PyUnicode_InternFromString("max_version");
  return state->s_ortvalue && state->s_dlpack && state->s_max_version ? 0 : -1;
}

static int module_exec(PyObject *m) {
  mrt_py_state *state = PyModule_GetState(m);
  if (mrt_py_numpy_init() < 0 || add_names(state) < 0) return -1;
  PyObject *errors = PyImport_ImportModule("macart._errors");
  if (!errors) return -1;
  state->make_error = PyObject_GetAttrString(errors, "make");
  Py_DECREF(errors);
  if (!state->make_error) return -1;
  mrt_py_interrupt_init();
  if (PyErr_Occurred()) return -1;
  if (add_type(m, &mrt_py_value_spec, &state->value_type) < 0 ||
      add_type(m, &mrt_py_session_spec, &state->session_type) < 0 ||
      add_type(m, &mrt_py_binding_spec, &state->binding_type) < 0)
    return -1;
  return PyModule_AddStringConstant(m, "version", MRT_VERSION);
}

static int module_traverse(PyObject *m, visitproc visit, void *arg) {
  mrt_py_state *state = PyModule_GetState(m);
  Py_VISIT(state->make_error);
  Py_VISIT(state->session_type);
  Py_VISIT(state->value_type);
  Py_VISIT(state->binding_type);
  for (int i = 0; i < MRT_DTYPE_COUNT; ++i) Py_VISIT(state->extra_types[i]);
  return 0;
}

static int module_clear(PyObject *m) {
  mrt_py_state *state = PyModule_GetState(m);
  Py_CLEAR(state->make_error);
  Py_CLEAR(state->session_type);
  Py_CLEAR(state->value_type);
  Py_CLEAR(state->binding_type);
  for (int i = 0; i < MRT_DTYPE_COUNT; ++i) Py_CLEAR(state->extra_types[i]);
  Py_CLEAR(state->s_ortvalue);
  Py_CLEAR(state->s_dlpack);
  Py_CLEAR(state->s_max_version);
  return 0;
}

static void module_free(void *m) { (void)module_clear(m); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000 /* numpy, which we import, allows no more */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL}};
static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,   .m_name = "_core",    .m_size = sizeof(mrt_py_state),
    .m_methods = methods,    .m_slots = slots,     .m_traverse = module_traverse,
    .m_clear = module_clear, .m_free = module_free};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module_def); }
