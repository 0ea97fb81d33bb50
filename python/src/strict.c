// SPDX-License-Identifier: MIT
// Policies `scope cluster strict`: a call that asks the store gives up the GIL while it waits. Only
// the core knows that it will ask (the policy may be changed, or another one's by an override), so
// it is given up from within, and taken back after the call: a thread that asks for the GIL when
// the interpreter has ended is unwound, which the core's frames do not bear.
#include "python/src/decider.h"
#include "python/src/module.h"

THREAD_OWN Limiter* deciding;
THREAD_OWN PyThreadState* without;

void give_up_gil(void) {
  if (deciding == NULL || without != NULL) return;
  stay(deciding);
  without = PyEval_SaveThread();
}

void take_back(Limiter* limiter) {
  PyThreadState* own = without;
  without = NULL;
  PyEval_RestoreThread(own);
  leave(limiter);
}

// _decide_by(limiter, decider): a capsule of this release's brim._tier.
PyObject* decide_by(PyObject* module, PyObject* const* args, Py_ssize_t count) {
  State* state = PyModule_GetState(module);
  if (count != 2 || PyObject_IsInstance(args[0], (PyObject*)state->limiter) != 1) {
    PyErr_SetString(PyExc_TypeError, "limiter must be a Limiter");
    return NULL;
  }
  const void* decider = PyCapsule_GetPointer(args[1], brim_version());
  Limiter* limiter = (Limiter*)args[0];
  if (decider == NULL || !is_open(limiter)) return NULL;
  const int code = use_decider(limiter->handle, decider);
  if (code < 0) return raise_last(state, code);
  Py_RETURN_NONE;
}
