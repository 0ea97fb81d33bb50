// SPDX-License-Identifier: MIT
// The extension module brim._tier: brim/brim_tier.h. Apart from _brim, so that nobody who only
// decides loads a client of Redis. It has a core of its own and meets _brim's by the segment's
// name, and in the decider that _brim asks (decider.h).
#include <stddef.h>

#include "brim/brim_tier.h"
#include "python/src/decider.h"
#include "python/src/open.h"
#include "python/src/rows.h"
#include "python/src/thread.h"

// All calls but status() take the same.
SIGNATURE(kStart, "start", 2, 2, "name", "url", "user", "password", "ca_file", "cert_file",
          "key_file", "prefix", "secret", "node_name", "insecure", "texts", "interval", "timeout",
          "hold", "forget", "share", "say", TRUST_NAMES);
enum {
  kName,
  kUrl,
  kUser,
  kPassword,
  kCaFile,
  kCertFile,
  kKeyFile,
  kPrefix,
  kSecret,
  kNodeName,
  kInsecure,
  kTexts,
  kInterval,
  kTimeout,
  kHold,
  kForget,
  kShare,
  kSay,
  kTrust,
  kAll = kTrust + 3
};

static bool given(PyObject* const* arg, int which) {
  return arg[which] != NULL && arg[which] != Py_None;
}

static bool texts_from(State* state, PyObject* const* arg, brim_tier_options* options) {
  const char** const fields[] = {&options->url,     &options->user,      &options->password,
                                 &options->ca_file, &options->cert_file, &options->key_file,
                                 &options->prefix,  &options->secret,    &options->node_name};
  for (int i = 0; i < COUNT(fields); ++i) {
    const int which = kUrl + i;
    if (!given(arg, which)) continue;
    *fields[i] = text_from(state, arg[which], kStart_names[which]);
    if (*fields[i] == NULL) return false;
  }
  return true;
}

static bool spans_from(State* state, PyObject* const* arg, brim_tier_options* options) {
  int64_t* const fields[] = {&options->interval_ns, &options->timeout_ns, &options->hold_ns,
                             &options->forget_ns};
  for (int i = 0; i < COUNT(fields); ++i) {
    const int which = kInterval + i;
    if (!given(arg, which)) continue;
    if (!ns_from(state, arg[which], kStart_names[which], fields[i])) return false;
    if (*fields[i] == 0 && which == kHold) *fields[i] = 1;  // 0 is no default here
    if (*fields[i] == 0) {
      raise_invalid(state, "invalid_argument: %s must be more than 0 seconds", kStart_names[which]);
      return false;
    }
  }
  return true;
}

static bool share_from(State* state, PyObject* const* arg, brim_tier_options* options) {
  if (!given(arg, kShare)) return true;
  const double share = PyFloat_AsDouble(arg[kShare]);
  if (share == -1.0 && PyErr_Occurred() != NULL) return false;
  if (!(share > 0.0 && share <= 1.0)) {
    raise_invalid(state, "invalid_argument: share must be more than 0 and at most 1");
    return false;
  }
  options->share_ppm = share < 1e-6 ? 1 : (uint32_t)(share * 1e6 + 0.5);
  return true;
}

static bool flag_from(PyObject* object, uint8_t* value) {
  const int truth = object != NULL ? PyObject_IsTrue(object) : 0;
  *value = truth > 0;
  return truth >= 0;
}

// The name of the segment, and the options.
static const char* options_from(State* state, PyObject* const* args, Py_ssize_t count,
                                PyObject* names, PyObject** arg, brim_tier_options* options,
                                brim_options* trust) {
  *options = (brim_tier_options){.struct_size = sizeof(*options), .attach = trust};
  if (!parse(&kStart, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[kName], "name");
  if (name == NULL || !texts_from(state, arg, options) || !spans_from(state, arg, options) ||
      !share_from(state, arg, options) || !flag_from(arg[kInsecure], &options->insecure) ||
      !flag_from(arg[kTexts], &options->texts) || !trust_from(state, arg + kTrust, trust)) {
    return NULL;
  }
  if (options->url == NULL) raise_invalid(state, "invalid_argument: url must be a str");
  return options->url != NULL ? name : NULL;
}

static void stop(void* handle) { brim_tier_thread_stop(handle); }

static PyObject* start(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  ThreadModule* own = PyModule_GetState(module);
  PyObject* arg[kAll] = {NULL};
  brim_tier_options options;
  brim_options trust;
  const char* name = options_from(&own->state, args, count, names, arg, &options, &trust);
  Thread* thread = name != NULL ? new_thread(own->thread, stop, arg[kSay]) : NULL;
  if (thread == NULL) return NULL;
  options.say = say_in_python;
  options.say_context = arg[kSay];
  int code = 0;
  brim_tier_thread* handle = NULL;
  Py_BEGIN_ALLOW_THREADS code = brim_tier_thread_start(name, &options, &handle);
  Py_END_ALLOW_THREADS thread->handle = code >= 0 ? handle : NULL;
  if (code >= 0) return (PyObject*)thread;
  Py_DECREF((PyObject*)thread);
  return raise_last(&own->state, code);
}

static void free_capsule(PyObject* capsule) {
  free_decider(PyCapsule_GetPointer(capsule, brim_version()));
}

// What brim._brim._decide_by() takes.
static PyObject* decider(PyObject* module, PyObject* const* args, Py_ssize_t count,
                         PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[kAll] = {NULL};
  brim_tier_options options;
  brim_options trust;
  const char* name = options_from(state, args, count, names, arg, &options, &trust);
  if (name == NULL) return NULL;
  void* made = NULL;
  brim_limiter* limiter = NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_attach(name, &trust, &limiter);
  if (code >= 0) {
    code = new_decider(limiter, &options, &made);
    brim_close(limiter);
  }
  Py_END_ALLOW_THREADS if (code < 0) return raise_last(state, code);
  PyObject* capsule = PyCapsule_New(made, brim_version(), free_capsule);
  if (capsule == NULL) free_decider(made);
  return capsule;
}

static const Field kStatusFields[] = {AT(brim_tier_report, kept, kFlag),
                                      AT(brim_tier_report, up, kFlag),
                                      AT(brim_tier_report, agent_pid, kLong),
                                      AT(brim_tier_report, alive_ns, kSigned),
                                      AT(brim_tier_report, exchanged_ns, kSigned),
                                      AT(brim_tier_report, down_since_ns, kSigned),
                                      AT(brim_tier_report, lag_ns, kSigned),
                                      AT(brim_tier_report, round_trip_ns, kSigned),
                                      AT(brim_tier_report, nodes, kLong),
                                      AT(brim_tier_report, calls, kLong),
                                      AT(brim_tier_report, pushes, kLong),
                                      AT(brim_tier_report, errors, kLong),
                                      AT(brim_tier_report, unknown, kLong),
                                      AT(brim_tier_report, healed, kLong),
                                      AT(brim_tier_report, overshoot_permits, kLong),
                                      AT(brim_tier_report, keys_near, kLong),
                                      AT(brim_tier_report, strict_calls, kLong),
                                      AT(brim_tier_report, strict_errors, kLong),
                                      AT(brim_tier_report, share_ppm, kInt),
                                      END};

SIGNATURE(kStatus, "status", 1, 1, "name", TRUST_NAMES);

static PyObject* status(PyObject* module, PyObject* const* args, Py_ssize_t count,
                        PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[4] = {NULL};
  brim_options trust;
  if (!parse(&kStatus, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "name");
  if (name == NULL || !trust_from(state, arg + 1, &trust)) return NULL;
  brim_tier_report report = {.struct_size = sizeof(report)};
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_tier_status(name, &trust, &report);
  Py_END_ALLOW_THREADS if (code < 0) return raise_last(state, code);
  PyObject* row = row_of(&report, kStatusFields);
  if (row != NULL &&
      !(put(row, "store", text_of(report.store)) && put(row, "error", text_of(report.error)))) {
    Py_CLEAR(row);
  }
  return row;
}

static const Field kNodeFields[] = {
    AT(brim_tier_node, uuid, kText), AT(brim_tier_node, name, kText),
    AT(brim_tier_node, seen_ago_ns, kSigned), AT(brim_tier_node, self, kInt), END};

static int visit_node(void* context, const brim_tier_node* node) { return keep_row(context, node); }

static PyObject* nodes(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[kAll] = {NULL};
  brim_tier_options options;
  brim_options trust;
  const char* name = options_from(state, args, count, names, arg, &options, &trust);
  if (name == NULL) return NULL;
  Rows rows = {.fields = kNodeFields, .size = sizeof(brim_tier_node)};
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_tier_nodes(name, &options, visit_node, &rows);
  Py_END_ALLOW_THREADS return list_of(&rows, state, code);
}

// remove_node(uuid, url, ...)
static PyObject* remove_node(PyObject* module, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[kAll] = {NULL};
  brim_tier_options options;
  brim_options trust;
  const char* uuid = options_from(state, args, count, names, arg, &options, &trust);
  if (uuid == NULL) return NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_tier_remove_node(&options, uuid);
  Py_END_ALLOW_THREADS if (code < 0) return raise_last(state, code);
  Py_RETURN_NONE;
}

// ------------------------------------------------------------------------------------ the module

static PyMethodDef methods[] = {FAST("start", start, NULL),
                                FAST("decider", decider, NULL),
                                FAST("status", status, NULL),
                                FAST("nodes", nodes, NULL),
                                FAST("remove_node", remove_node, NULL),
                                {NULL, NULL, 0, NULL}};

static int module_exec(PyObject* module) { return thread_module_exec(module, "brim._tier.Thread"); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)module_exec}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "brim._tier",
    .m_doc = "What brim_tier.h gives C, for brim.tier.",
    .m_size = sizeof(ThreadModule),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = thread_module_traverse,
    .m_clear = thread_module_clear,
    .m_free = thread_module_free,
};

PyMODINIT_FUNC PyInit__tier(void) { return PyModuleDef_Init(&definition); }
