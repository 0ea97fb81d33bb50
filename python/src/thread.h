// SPDX-License-Identifier: MIT
// A thread of brim's that tells a callable of Python what happens.
#ifndef BRIM_PYTHON_SRC_THREAD_H_
#define BRIM_PYTHON_SRC_THREAD_H_

#include "python/src/module.h"

typedef struct Thread {
  PyObject_HEAD void* handle;  // NULL: stopped, or never started
  void (*stop)(void* handle);
  PyObject* say;
} Thread;

// The type, under that name; held by the module.
PyTypeObject* add_thread(PyObject* module, const char* name);
// One without a handle yet, or NULL and an exception.
Thread* new_thread(PyTypeObject* type, void (*stop)(void* handle), PyObject* say);
// For brim.h: the context is the callable. Nothing is said once the thread was stopped, and the
// package stops every one before the interpreter ends.
void say_in_python(void* context, int level, const char* what);

#endif  // BRIM_PYTHON_SRC_THREAD_H_
