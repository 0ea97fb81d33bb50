// SPDX-License-Identifier: MIT
#include "python/src/thread.h"

#include <string.h>

// From a thread that Python does not know.
void say_in_python(void* context, int level, const char* what) {
  const PyGILState_STATE held = PyGILState_Ensure();
  PyObject* function = Py_NewRef(context);  // it may drop the thread, which has the other reference
  PyObject* text = PyUnicode_DecodeUTF8(what, (Py_ssize_t)strlen(what), "replace");
  PyObject* number = PyLong_FromLong(level);
  PyObject* answer = text != NULL && number != NULL
                         ? PyObject_CallFunctionObjArgs(function, number, text, NULL)
                         : NULL;
  if (answer == NULL) PyErr_WriteUnraisable(function);
  Py_XDECREF(answer);
  Py_XDECREF(number);
  Py_XDECREF(text);
  Py_DECREF(function);
  PyGILState_Release(held);
}

Thread* new_thread(PyTypeObject* type, void (*stop)(void* handle), PyObject* say) {
  if (say == NULL || !PyCallable_Check(say)) {
    PyErr_SetString(PyExc_TypeError, "say must be callable");
    return NULL;
  }
  Thread* thread = PyObject_GC_New(Thread, type);
  if (thread == NULL) return NULL;
  thread->handle = NULL;
  thread->stop = stop;
  thread->say = Py_NewRef(say);
  PyObject_GC_Track((PyObject*)thread);
  return thread;
}

static void end_thread(PyObject* self) {
  Thread* thread = (Thread*)self;
  void* handle = thread->handle;
  thread->handle = NULL;
  if (handle == NULL) return;
  Py_BEGIN_ALLOW_THREADS thread->stop(handle);
  Py_END_ALLOW_THREADS
}

static PyObject* thread_stop(PyObject* self, PyObject* unused) {
  (void)unused;
  end_thread(self);
  Py_RETURN_NONE;
}

static int thread_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(((Thread*)self)->say);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

// As the finalizer does it, while all that `say` needs is there; here for what came to life again.
static int thread_clear(PyObject* self) {
  end_thread(self);
  Py_CLEAR(((Thread*)self)->say);
  return 0;
}

static void thread_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  thread_clear(self);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

static PyMethodDef thread_methods[] = {
    {"stop", thread_stop, METH_NOARGS,
     "stop($self, /)\n--\n\nEnds it; what it has yet to do is done first."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot thread_slots[] = {{Py_tp_doc, "A thread of brim's."},
                                     {Py_tp_dealloc, (void*)thread_dealloc},
                                     {Py_tp_finalize, (void*)end_thread},
                                     {Py_tp_traverse, (void*)thread_traverse},
                                     {Py_tp_clear, (void*)thread_clear},
                                     {Py_tp_methods, thread_methods},
                                     {0, NULL}};

static PyTypeObject* add_thread(PyObject* module, const char* name) {
  PyType_Spec spec = {name, sizeof(Thread), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                          Py_TPFLAGS_IMMUTABLETYPE,
                      thread_slots};
  return add_type(module, &spec);
}

int thread_module_exec(PyObject* module, const char* name) {
  ThreadModule* own = PyModule_GetState(module);
  own->thread = add_thread(module, name);
  return own->thread != NULL && import_errors(&own->state) ? 0 : -1;
}

int thread_module_traverse(PyObject* module, visitproc visit, void* arg) {
  ThreadModule* own = PyModule_GetState(module);
  if (own == NULL) return 0;
  Py_VISIT(own->thread);
  for (int i = 0; i < kErrorCount; ++i) Py_VISIT(own->state.errors[i]);
  return 0;
}

int thread_module_clear(PyObject* module) {
  ThreadModule* own = PyModule_GetState(module);
  if (own == NULL) return 0;
  Py_CLEAR(own->thread);
  for (int i = 0; i < kErrorCount; ++i) Py_CLEAR(own->state.errors[i]);
  return 0;
}

void thread_module_free(void* module) { thread_module_clear(module); }
