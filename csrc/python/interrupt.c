/* Ctrl-C during a run. The thread that called keeps computing (no thread is started for it); at
 * its polling points it takes the GIL now and then and lets Python run its signal handlers. Python
 * runs them on the main thread only, so other threads do not poll at all. */
#include "python/python.h"

#include <pthread.h>

#define PERIOD_NS 50000000u

static _Atomic unsigned long main_thread;

static void after_fork(void) { main_thread = PyThread_get_thread_ident(); }

void mrt_py_interrupt_init(void) {
  unsigned long none = 0;
  PyObject *threading = PyImport_ImportModule("threading");
  PyObject *main = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
  PyObject *ident = main ? PyObject_GetAttrString(main, "ident") : NULL;
  unsigned long id = ident ? PyLong_AsUnsignedLong(ident) : 0;
  Py_XDECREF(ident);
  Py_XDECREF(main);
  Py_XDECREF(threading);
  if (PyErr_Occurred()) PyErr_Clear(); /* no polling then */
  if (atomic_compare_exchange_strong(&main_thread, &none, id) && id)
    (void)pthread_atfork(NULL, NULL, after_fork); /* the forking thread is the child's main one */
}

static bool check(mrt_poll *poll) {
  mrt_py_interrupt *i = (mrt_py_interrupt *)poll;
  PyEval_RestoreThread(i->thread);
  i->raised = PyErr_CheckSignals() < 0;
  i->thread = PyEval_SaveThread();
  return i->raised;
}

bool mrt_py_interrupt_begin(mrt_py_interrupt *i) {
  bool main = PyThread_get_thread_ident() == main_thread;
  i->raised = false;
  mrt_poll_init(&i->poll, check, PERIOD_NS);
  i->thread = PyEval_SaveThread();
  return main;
}

void mrt_py_interrupt_end(mrt_py_interrupt *i) { PyEval_RestoreThread(i->thread); }
