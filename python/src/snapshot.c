// SPDX-License-Identifier: MIT
// The extension module brim._snapshot: brim/brim_snapshot.h. Apart from _brim, so that nobody who
// only decides loads a database. It has a core of its own and meets _brim's by the segment's name.
#include <stddef.h>
#include <string.h>

#include "brim/brim_snapshot.h"
#include "python/src/open.h"
#include "python/src/rows.h"
#include "python/src/thread.h"

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

static void stop(void* handle) { brim_snapshot_stop(handle); }

static PyObject* start(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  ThreadModule* own = PyModule_GetState(module);
  State* state = &own->state;
  PyObject* arg[kAll] = {NULL};
  brim_snapshot_options options;
  brim_options trust;
  if (!parse(&kStart, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[kName], "name");
  if (name == NULL || !options_from(state, arg, &options, &trust)) return NULL;
  Thread* thread = new_thread(own->thread, stop, arg[kSay]);
  if (thread == NULL) return NULL;
  options.say = say_in_python;
  options.say_context = arg[kSay];
  int code = 0;
  brim_snapshot_thread* handle = NULL;
  Py_BEGIN_ALLOW_THREADS code = brim_snapshot_start(name, &options, &handle);
  Py_END_ALLOW_THREADS thread->handle = code >= 0 ? handle : NULL;
  if (code >= 0) return (PyObject*)thread;
  Py_DECREF((PyObject*)thread);
  return raise_last(state, code);
}

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
  return thread_module_exec(module, "brim._snapshot.Thread");
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)module_exec}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "brim._snapshot",
    .m_doc = "What brim_snapshot.h gives C, for brim.snapshot.",
    .m_size = sizeof(ThreadModule),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = thread_module_traverse,
    .m_clear = thread_module_clear,
    .m_free = thread_module_free,
};

PyMODINIT_FUNC PyInit__snapshot(void) { return PyModuleDef_Init(&definition); }
