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

// The state of a module that has no other type.
typedef struct ThreadModule {
  State state;  // the errors; first, for parse() and the like
  PyTypeObject* thread;
} ThreadModule;
// Its type under that name, and the errors of _brim.
int thread_module_exec(PyObject* module, const char* name);
int thread_module_traverse(PyObject* module, visitproc visit, void* arg);
int thread_module_clear(PyObject* module);
void thread_module_free(void* module);

// One without a handle yet, or NULL and an exception.
Thread* new_thread(PyTypeObject* type, void (*stop)(void* handle), PyObject* say);
// For brim.h: the context is the callable. Nothing is said once the thread was stopped, and the
// package stops every one before the interpreter ends.
void say_in_python(void* context, int level, const char* what);

#endif  // BRIM_PYTHON_SRC_THREAD_H_
