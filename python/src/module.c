// SPDX-License-Identifier: MIT
// The extension module brim._brim.
#include "python/src/module.h"

#include <math.h>

#include "python/src/tools.h"

SIGNATURE(kAddressKey, "address_key", 1, 3, "text", "v4_prefix", "v6_prefix");

static PyObject* address_key(PyObject* module, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kAddressKey, args, count, names, arg)) return NULL;
  int64_t v4 = 32;
  int64_t v6 = 64;
  brim_key text;
  if ((arg[1] != NULL && !count_from(state, arg[1], "v4_prefix", 1, 32, &v4)) ||
      (arg[2] != NULL && !count_from(state, arg[2], "v6_prefix", 1, 128, &v6)) ||
      !key_from(arg[0], &text)) {
    return NULL;
  }
  char buffer[128];
  size_t length = 0;
  const int code =
      brim_address_key(text.bytes, text.length, (int)v4, (int)v6, buffer, sizeof(buffer), &length);
  if (code == BRIM_E_INVALID) Py_RETURN_NONE;
  if (code < 0) return raise_last(state, code);
  return PyUnicode_FromStringAndSize(buffer, (Py_ssize_t)length);
}

SIGNATURE(kNetworkContains, "network_contains", 2, 2, "network", "address");

static PyObject* network_contains(PyObject* module, PyObject* const* args, Py_ssize_t count,
                                  PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kNetworkContains, args, count, names, arg)) return NULL;
  const char* network = text_from(state, arg[0], "network");
  brim_key address;
  if (network == NULL || !key_from(arg[1], &address)) return NULL;
  const int code = brim_network_contains(network, address.bytes, address.length);
  return code < 0 ? raise_last(state, code) : PyBool_FromLong(code);
}

static PyMethodDef methods[] = {
    FAST("parse_policy", parse_policy,
         "parse_policy($module, /, text)\n--\n\n"
         "The canonical text of a policy, and its rates. Raises InvalidArgument."),
    FAST("address_key", address_key,
         "address_key($module, /, text, v4_prefix=32, v6_prefix=64)\n--\n\n"
         "The key of a client's address: canonical, and cut to so many bits. None if the text is\n"
         "no address."),
    FAST("network_contains", network_contains,
         "network_contains($module, /, network, address)\n--\n\n"
         "True if the address is in the network, \"10.0.0.0/8\". Raises InvalidArgument."),
    {"list_segments", tool_list_segments, METH_NOARGS,
     "list_segments($module, /)\n--\n\n"
     "The segments in /dev/shm that this user may read, each a dict; message: why it can not be\n"
     "attached, or \"\"."},
    FAST("info", tool_info,
         "info($module, /, name, *, group=None, owner_uid=None, mode=None)\n--\n\n"
         "What is known of a segment, read-only: sizes, policies and counters, who is attached,\n"
         "overrides, the last changes, and in one pass over the table its occupancy. Names that\n"
         "end in _ns are ns. group, owner_uid, mode: see Limiter.open()."),
    FAST(
        "dump", tool_dump,
        "dump($module, /, name, visit, *, group=None, owner_uid=None, mode=None)\n--\n\n"
        "Calls visit(row) with a dict for every used slot, in constant memory and read-only, "
        "until\n"
        "it returns False. row: key (bytes, or None if it is not kept), key_length, policy, part,\n"
        "state, slot, fingerprint, decision (what a call of cost 0 would answer),\n"
        "retry_after_ns."),
    FAST("verify", tool_verify,
         "verify($module, /, name, repair=False, visit=None, *, group=None, owner_uid=None, "
         "mode=None)\n--\n\n"
         "Looks at every byte of a live segment that has a rule; the numbers of what it found.\n"
         "visit(finding) gets each as a dict. repair: what is safe under traffic."),
    FAST("resize", tool_resize,
         "resize($module, /, name, *, capacity=0, name_bytes=0, max_policies=0, cells_per_key=0, "
         "overrides=0, probe_limit=0, cluster=False, group=None, owner_uid=None, mode=None)\n--\n\n"
         "Makes a larger or smaller table for a segment in use; 0: as it is. What was done, as\n"
         "numbers. Runs as long as it takes to copy the keys."),
    {"_started", started, METH_O, NULL},
    {"_decide_by", (PyCFunction)(void (*)(void))decide_by, METH_FASTCALL, NULL},
    {"_reattach", (PyCFunction)(void (*)(void))reattach, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL}};

// Steals the object.
static bool add(PyObject* module, const char* name, PyObject* object) {
  const bool done = object != NULL && PyModule_AddObjectRef(module, name, object) == 0;
  Py_XDECREF(object);
  return done;
}

static bool add_constants(PyObject* module) {
  return add(module, "NEVER", PyFloat_FromDouble(HUGE_VAL)) &&
         add(module, "NEVER_NS", PyLong_FromLongLong(BRIM_NEVER)) &&
         add(module, "__version__", PyUnicode_FromString(brim_version())) &&
         // For annotations.
         add(module, "Key", PyNumber_Or((PyObject*)&PyUnicode_Type, (PyObject*)&PyBytes_Type)) &&
         add(module, "Seconds", PyNumber_Or((PyObject*)&PyFloat_Type, (PyObject*)&PyLong_Type));
}

static int module_exec(PyObject* module) {
  State* state = PyModule_GetState(module);
  return add_errors(module, state) && add_values(module, state) && add_lease(module, state) &&
                 add_policy(module, state) && add_limiter(module, state) && add_constants(module)
             ? 0
             : -1;
}

// All that the state holds.
static int visit_state(State* state, visitproc visit, void* arg) {
  for (int i = 0; i < kErrorCount; ++i) Py_VISIT(state->errors[i]);
  Py_VISIT(state->decision);
  Py_VISIT(state->ticket);
  Py_VISIT(state->lease);
  Py_VISIT(state->rate);
  Py_VISIT(state->policy);
  Py_VISIT(state->limiter);
  Py_VISIT(state->aio_acquire);
  return 0;
}

static int module_traverse(PyObject* module, visitproc visit, void* arg) {
  State* state = PyModule_GetState(module);
  return state != NULL ? visit_state(state, visit, arg) : 0;
}

static int module_clear(PyObject* module) {
  State* state = PyModule_GetState(module);
  if (state == NULL) return 0;
  for (int i = 0; i < kErrorCount; ++i) Py_CLEAR(state->errors[i]);
  Py_CLEAR(state->decision);
  Py_CLEAR(state->ticket);
  Py_CLEAR(state->lease);
  Py_CLEAR(state->rate);
  Py_CLEAR(state->policy);
  Py_CLEAR(state->limiter);
  Py_CLEAR(state->aio_acquire);
  return 0;
}

static void module_free(void* module) { module_clear(module); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)module_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "brim._brim",
    .m_doc = "What brim.h gives C, for Python. Import from `brim`.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__brim(void) { return PyModuleDef_Init(&definition); }
