/* What the files of python/ share. The module macart._core holds sealed C types; the classes that
 * users see are Python (macart/). State lives in the module, no statics that hold objects.
 *
 * Every call that computes has three parts: Python to C views while the GIL is held, the work
 * without it, and back. Only numpy.c knows numpy's headers. */
#ifndef MRT_PYTHON_PYTHON_H
#define MRT_PYTHON_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "exec/session.h"

typedef struct mrt_py_state {
  PyObject *make_error; /* macart._errors.make(code, name, class, message) -> exception */
  PyTypeObject *session_type, *value_type, *binding_type;
  PyObject *extra_types[MRT_DTYPE_COUNT]; /* numpy dtypes of ml_dtypes, looked up on first use */
  PyObject *s_ortvalue, *s_dlpack, *s_max_version; /* interned names */
} mrt_py_state;

/* Sealed types only: they cannot have subclasses. */
static inline mrt_py_state *mrt_py_state_of(PyObject *self) {
  return PyType_GetModuleState(Py_TYPE(self));
}

/* ---- errors.c ---- */
/* Status to exception; frees the status. Returns NULL. A pending Python exception stays. */
void *mrt_py_raise(mrt_py_state *state, mrt_status *st);

/* Two small integers of a tuple; false with a TypeError (named after `what`) otherwise. */
bool mrt_py_pair(PyObject *o, const char *what, long *a, long *b);

/* ---- value.c ---- */
typedef struct mrt_py_value {
  PyObject_HEAD mrt_value *v; /* owned; NULL: no value */
} mrt_py_value;
PyObject *mrt_py_value_new(mrt_py_state *state, mrt_value *take); /* takes, also on failure */
extern PyType_Spec mrt_py_value_spec;
/* "tensor(float)", "seq(tensor(int64))", ... */
PyObject *mrt_py_value_type_text(const mrt_value *v);

/* ---- convert.c: any Python object to a value and back ---- */
/* type NULL: not known. A new reference, NULL with an exception. */
mrt_value *mrt_py_to_value(mrt_py_state *state, PyObject *o, const mrt_type *type,
                           const char *name);
/* Takes the value. Tensors become arrays over their memory, sequences lists, maps dicts, optionals
 * their item or None. */
PyObject *mrt_py_from_value(mrt_py_state *state, mrt_value *take);

/* ---- numpy.c ---- */
int mrt_py_numpy_init(void);
bool mrt_py_is_array(PyObject *o);
/* Fills a view of a plain array (native numbers, aligned, C-contiguous) that is good while the
 * array lives; false: the array needs mrt_py_from_array. */
bool mrt_py_array_view(PyObject *array, mrt_tensor *out);
/* A tensor over the array's memory (any strides that are whole elements), else over a copy.
 * as: reinterpret elements of the same size (MRT_UNDEFINED: as they are). */
mrt_tensor *mrt_py_from_array(mrt_py_state *state, PyObject *array, mrt_dtype as);
/* Takes the tensor: an array over its memory (a copy for strings and sub-byte elements). */
PyObject *mrt_py_to_array(mrt_py_state *state, mrt_tensor *take);
/* numpy.asarray(o, dtype): a new reference. */
PyObject *mrt_py_as_array(mrt_py_state *state, PyObject *o, mrt_dtype dtype);
/* An element type as users name it: ONNX's number, a numpy dtype or type. MRT_UNDEFINED with an
 * exception if there is none. */
mrt_dtype mrt_py_dtype(mrt_py_state *state, PyObject *o);
/* dims of a shape given as any sequence of integers; rank, -1 with an exception. */
int mrt_py_shape(PyObject *o, int64_t dims[MRT_MAX_RANK]);

/* ---- dlpack.c ---- */
PyObject *mrt_py_dlpack_export(mrt_py_state *state, mrt_value *v, PyObject *max_version, bool copy);
/* From a capsule, or an object with __dlpack__. */
mrt_tensor *mrt_py_dlpack_import(mrt_py_state *state, PyObject *o);

/* ---- session.c, run.c, describe.c, binding.c, flag.c ---- */
typedef struct mrt_py_session {
  PyObject_HEAD mrt_session *s;
  PyObject **names;                    /* interned: inputs, overridable initializers, outputs */
  int n_inputs, n_outputs, n_required; /* inputs with overridable ones behind */
} mrt_py_session;
extern PyType_Spec mrt_py_session_spec, mrt_py_binding_spec;
PyObject *mrt_py_session_describe(PyObject *self, PyObject *unused);
/* run(output_names, feeds, flag=None): a list of arrays (OrtValues) */
PyObject *mrt_py_session_run(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *mrt_py_session_run_values(PyObject *self, PyObject *const *args, Py_ssize_t n);
/* Position of a name among the inputs (outputs); -1: none, -2: exception. */
int mrt_py_session_find(const mrt_py_session *s, PyObject *name, bool output);
/* Runs without the GIL; Ctrl-C stops it. flag: a capsule of flag.c or None. -1 with an exception.
 */
int mrt_py_session_call(mrt_py_session *s, PyObject *flag, int n_feeds, const int *feed_index,
                        mrt_value *const *feeds, int n_fetch, const int *fetch_index,
                        mrt_value **out);

PyObject *mrt_py_flag_new(PyObject *module, PyObject *unused);
PyObject *mrt_py_flag_set(PyObject *module, PyObject *args);
const atomic_int *mrt_py_flag_get(PyObject *flag); /* NULL with an exception; None: NULL without */

/* ---- text.c: the text form of models ---- */
PyObject *mrt_py_run_passes(PyObject *module, PyObject *args); /* (text, passes, max_elems) */
PyObject *mrt_py_passes(PyObject *module, PyObject *unused);   /* their names */
PyObject *mrt_py_session_text(PyObject *self, PyObject *max_elems);
PyObject *mrt_py_session_fired(PyObject *self, PyObject *unused);

/* ---- interrupt.c ---- */
/* Ctrl-C: `poll` is called between steps and chunks on the thread that runs; on the main thread it
 * takes the GIL every 50 ms and asks Python for signals. */
typedef struct mrt_py_interrupt {
  mrt_poll poll;
  PyThreadState *thread; /* of the caller, released */
  bool raised;           /* a Python exception is pending */
} mrt_py_interrupt;
void mrt_py_interrupt_init(void);                 /* remembers the main thread */
bool mrt_py_interrupt_begin(mrt_py_interrupt *i); /* releases the GIL; false: not main thread */
void mrt_py_interrupt_end(mrt_py_interrupt *i);   /* takes the GIL back */

#endif
