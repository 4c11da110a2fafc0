/* Running a session from Python objects: the hot path. Names are found by identity first (they are
 * interned on both sides), and plain arrays are looked at where they lie, through views on this
 * stack: nothing is allocated for a feed. The engine runs without the GIL. */
#include "python/python.h"

#include <limits.h>
#include <string.h>

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
  int n_feeds, n_fetch;
  Py_ssize_t room; /* for feeds */
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
  c->room = n_feeds;
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

/* Conversions run code of the objects, which may change the dict and the list of names. */
static int changed(const char *what) {
  PyErr_Format(PyExc_RuntimeError, "%s changed while it was read", what);
  return -1;
}

static int add_feed(call *c, int index, PyObject *value) {
  int k = c->n_feeds;
  if (k >= c->room) return changed("the input feed");
  c->held[k] = Py_NewRef(value);
  if (mrt_py_array_view(value, &c->views[k])) {
    c->feeds[k] = &c->views[k].base;
  } else {
    const mrt_io_info *info = input_info(c->o, index);
    c->feeds[k] = mrt_py_to_value(c->state, value, info->type, info->name);
    if (!c->feeds[k]) return Py_DECREF(c->held[k]), -1;
  }
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
  int required = 0, st = 0;
  while (!st && PyDict_Next(feed, &pos, &name, &value)) {
    int index = mrt_py_session_find(c->o, name, false);
    if (index == -1) Py_XSETREF(unknown, Py_NewRef(name));
    if (index < 0) {
      st = index == -1 ? 0 : -1;
      continue;
    }
    required += index < c->o->n_required && value != Py_None;
    if (value != Py_None) st = add_feed(c, index, value);
  }
  if (!st && required < c->o->n_required) st = missing(c, feed);
  const char *text = !st && unknown ? PyUnicode_AsUTF8(unknown) : NULL;
  if (text) mrt_py_raise(c->state, MRT_ERR(MRT_INVALID_ARGUMENT, "Invalid input name: %s", text));
  if (unknown) st = -1;
  Py_XDECREF(unknown);
  return st;
}

static int parse_fetches(call *c, PyObject *names, Py_ssize_t n) {
  for (Py_ssize_t i = 0; i < n; ++i) {
    c->out[i] = NULL;
    c->fetch_index[i] = (int)i;
    if (names && PySequence_Fast_GET_SIZE(names) != n) return changed("the list of output names");
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

PyObject *mrt_py_session_run(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  return run_any(self, args, n, false);
}
PyObject *mrt_py_session_run_values(PyObject *self, PyObject *const *args, Py_ssize_t n) {
  return run_any(self, args, n, true);
}
