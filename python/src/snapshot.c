// SPDX-License-Identifier: MIT
// The extension module brim._snapshot: brim/brim_snapshot.h. Apart from _brim, so that nobody who
// only decides loads a database. It has a core of its own and meets _brim's by the segment's name.
#include <stddef.h>
#include <string.h>

#include "brim/brim_snapshot.h"
#include "python/src/open.h"
#include "python/src/rows.h"

typedef struct Module {
  State state;  // the errors; first, for parse() and the like
  PyTypeObject* thread;
} Module;

typedef struct Thread {
  PyObject_HEAD brim_snapshot_thread* handle;
  PyObject* say;
} Thread;

// ---------------------------------------------------------------------------------------- options

SIGNATURE(kStart, "start", 2, 2, "name", "file", "interval", "synchronous", "keep", "busy_timeout",
          "sweep_idle", "restore", "say", TRUST_NAMES);
enum {
  kName,
  kFile,
  kInterval,
  kSync,
  kKeep,
  kWaitBusy,
  kSweep,
  kRestore,
  kSay,
  kTrust,
  kAll = kTrust + 3
};

static const char* const kSyncs[] = {"full", "normal", "off", NULL};

static bool span(State* state, PyObject* const* arg, int which, int64_t* ns) {
  return arg[which] == NULL || ns_from(state, arg[which], kStart_names[which], ns);
}

static bool options_from(State* state, PyObject* const* arg, brim_snapshot_options* options,
                         brim_options* trust) {
  *options = (brim_snapshot_options){.struct_size = sizeof(*options), .attach = trust};
  options->file = text_from(state, arg[kFile], "file");
  int64_t keep = 0;
  const int restore = arg[kRestore] != NULL ? PyObject_IsTrue(arg[kRestore]) : 0;
  if (options->file == NULL || restore < 0 || !span(state, arg, kInterval, &options->interval_ns) ||
      !span(state, arg, kWaitBusy, &options->busy_timeout_ns) ||
      !span(state, arg, kSweep, &options->sweep_idle_ns) ||
      (arg[kSync] != NULL &&
       !word_from(state, arg[kSync], "synchronous", kSyncs, &options->synchronous)) ||
      (arg[kKeep] != NULL && !count_from(state, arg[kKeep], "keep", 0, 1000, &keep)) ||
      !trust_from(state, arg + kTrust, trust)) {
    return false;
  }
  // 0 is no default here.
  if (arg[kInterval] != NULL && options->interval_ns == 0) {
    raise_invalid(state, "invalid_argument: interval must be more than 0 seconds");
    return false;
  }
  if (arg[kWaitBusy] != NULL && options->busy_timeout_ns == 0) options->busy_timeout_ns = 1;
  options->keep = (uint32_t)keep;
  options->restore = (uint8_t)restore;
  return true;
}

// ----------------------------------------------------------------------------------------- thread

// From the thread of the snapshots, which Python does not know. Nothing is said once the thread was
// stopped, and brim.snapshot stops every one before the interpreter ends.
static void say(void* context, int level, const char* what) {
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

static PyObject* start(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Module* own = PyModule_GetState(module);
  State* state = &own->state;
  PyObject* arg[kAll] = {NULL};
  brim_snapshot_options options;
  brim_options trust;
  if (!parse(&kStart, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[kName], "name");
  if (name == NULL || !options_from(state, arg, &options, &trust)) return NULL;
  if (arg[kSay] == NULL || !PyCallable_Check(arg[kSay])) {
    PyErr_SetString(PyExc_TypeError, "say must be callable");
    return NULL;
  }
  Thread* thread = PyObject_GC_New(Thread, own->thread);
  if (thread == NULL) return NULL;
  thread->handle = NULL;
  thread->say = Py_NewRef(arg[kSay]);
  PyObject_GC_Track((PyObject*)thread);
  options.say = say;
  options.say_context = arg[kSay];
  int code = 0;
  brim_snapshot_thread* handle = NULL;
  Py_BEGIN_ALLOW_THREADS code = brim_snapshot_start(name, &options, &handle);
  Py_END_ALLOW_THREADS thread->handle = code >= 0 ? handle : NULL;
  if (code >= 0) return (PyObject*)thread;
  Py_DECREF((PyObject*)thread);
  return raise_last(state, code);
}

static void end_thread(PyObject* self) {
  brim_snapshot_thread* handle = ((Thread*)self)->handle;
  ((Thread*)self)->handle = NULL;
  if (handle == NULL) return;
  Py_BEGIN_ALLOW_THREADS brim_snapshot_stop(handle);
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
     "stop($self, /)\n--\n\nTakes a last snapshot, if this process is the one that writes."},
    {NULL, NULL, 0, NULL}};
static PyType_Slot thread_slots[] = {{Py_tp_doc, "A thread that writes snapshots."},
                                     {Py_tp_dealloc, (void*)thread_dealloc},
                                     {Py_tp_finalize, (void*)end_thread},
                                     {Py_tp_traverse, (void*)thread_traverse},
                                     {Py_tp_clear, (void*)thread_clear},
                                     {Py_tp_methods, thread_methods},
                                     {0, NULL}};
static PyType_Spec thread_spec = {"brim._snapshot.Thread", sizeof(Thread), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                      Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                                  thread_slots};

// ---------------------------------------------------------------------------------- single calls

static const Field kSnapshotFields[] = {
    AT(brim_snapshot_report, full, kInt),           AT(brim_snapshot_report, generation, kLong),
    AT(brim_snapshot_report, written, kLong),       AT(brim_snapshot_report, removed, kLong),
    AT(brim_snapshot_report, rows, kLong),          AT(brim_snapshot_report, restored, kLong),
    AT(brim_snapshot_report, duration_ns, kSigned), END};
static const Field kRestoreFields[] = {
    AT(brim_restore_report, clock_behind, kInt),    AT(brim_restore_report, generation, kLong),
    AT(brim_restore_report, elapsed_ns, kSigned),   AT(brim_restore_report, merged, kLong),
    AT(brim_restore_report, idle, kLong),           AT(brim_restore_report, no_policy, kLong),
    AT(brim_restore_report, no_key, kLong),         AT(brim_restore_report, unfit, kLong),
    AT(brim_restore_report, failed, kLong),         AT(brim_restore_report, overrides, kLong),
    AT(brim_restore_report, overrides_lost, kLong), END};

static PyObject* once(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[kAll] = {NULL};
  brim_snapshot_options options;
  brim_options trust;
  if (!parse(&kStart, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[kName], "name");
  if (name == NULL || !options_from(state, arg, &options, &trust)) return NULL;
  brim_snapshot_report report = {.struct_size = sizeof(report)};
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_snapshot_once(name, &options, &report);
  Py_END_ALLOW_THREADS return code < 0 ? raise_last(state, code) : row_of(&report, kSnapshotFields);
}

SIGNATURE(kRestoreInto, "restore", 2, 2, "name", "file", TRUST_NAMES);

static PyObject* restore(PyObject* module, PyObject* const* args, Py_ssize_t count,
                         PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[5] = {NULL, NULL, NULL, NULL, NULL};
  if (!parse(&kRestoreInto, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "name");
  const char* file = name != NULL ? text_from(state, arg[1], "file") : NULL;
  brim_options trust;
  if (file == NULL || !trust_from(state, arg + 2, &trust)) return NULL;
  brim_restore_report report = {.struct_size = sizeof(report)};
  brim_limiter* limiter = NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_attach(name, &trust, &limiter);
  if (code >= 0) {
    code = brim_restore(limiter, file, &report);
    brim_close(limiter);
  }
  Py_END_ALLOW_THREADS return code < 0 ? raise_last(state, code) : row_of(&report, kRestoreFields);
}

typedef struct Note {
  const char* file;
  char text[1024];
} Note;

static void keep_note(void* context, int level, const char* what) {
  (void)level;
  Note* note = context;
  strncpy(note->text, what, sizeof(note->text) - 1);
}

static int open_from_file(void* context, const char* name, const brim_options* options,
                          brim_limiter** limiter) {
  Note* note = context;
  return brim_open_restored(name, options, note->file, keep_note, note, limiter);
}

// open_restored(file, name, ...): what is to be told, or None. The segment stays.
static PyObject* open_restored(PyObject* module, PyObject* const* args, Py_ssize_t count,
                               PyObject* names) {
  State* state = PyModule_GetState(module);
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "open_restored() takes a file and a name");
    return NULL;
  }
  Note note = {text_from(state, args[0], "file"), ""};
  if (note.file == NULL) return NULL;
  PyObject* trust = NULL;
  brim_limiter* limiter =
      open_segment(state, false, args + 1, count - 1, names, open_from_file, &note, &trust);
  if (limiter == NULL) return NULL;
  Py_DECREF(trust);
  Py_BEGIN_ALLOW_THREADS brim_close(limiter);
  Py_END_ALLOW_THREADS if (note.text[0] == '\0') Py_RETURN_NONE;
  return PyUnicode_DecodeUTF8(note.text, (Py_ssize_t)strlen(note.text), "replace");
}

// ------------------------------------------------------------------------------------ the module

static PyMethodDef methods[] = {FAST("start", start, NULL),
                                FAST("once", once, NULL),
                                FAST("restore", restore, NULL),
                                FAST("open_restored", open_restored, NULL),
                                {NULL, NULL, 0, NULL}};

static int module_exec(PyObject* module) {
  Module* own = PyModule_GetState(module);
  own->thread = (PyTypeObject*)PyType_FromModuleAndSpec(module, &thread_spec, NULL);
  return own->thread != NULL && PyModule_AddType(module, own->thread) == 0 &&
                 import_errors(&own->state)
             ? 0
             : -1;
}

static int module_traverse(PyObject* module, visitproc visit, void* arg) {
  Module* own = PyModule_GetState(module);
  if (own == NULL) return 0;
  Py_VISIT(own->thread);
  for (int i = 0; i < kErrorCount; ++i) Py_VISIT(own->state.errors[i]);
  return 0;
}

static int module_clear(PyObject* module) {
  Module* own = PyModule_GetState(module);
  if (own == NULL) return 0;
  Py_CLEAR(own->thread);
  for (int i = 0; i < kErrorCount; ++i) Py_CLEAR(own->state.errors[i]);
  return 0;
}

static void module_free(void* module) { module_clear(module); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)module_exec}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "brim._snapshot",
    .m_doc = "What brim_snapshot.h gives C, for brim.snapshot.",
    .m_size = sizeof(Module),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__snapshot(void) { return PyModuleDef_Init(&definition); }
