// SPDX-License-Identifier: MIT
// The type Lease: one of at most N of a key.
#include <stddef.h>

#include "python/src/module.h"

typedef struct Lease {
  PyObject_HEAD Policy* policy;
  Decision* decision;
  brim_lease value;
} Lease;

static int lease_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(((Lease*)self)->policy);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void lease_dealloc(PyObject* self) {
  Lease* lease = (Lease*)self;
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_DECREF(lease->policy);
  Py_DECREF(lease->decision);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

static int lease_true(PyObject* self) { return ((Lease*)self)->decision->value.admitted; }

static bool ttl_from(State* state, PyObject* object, int64_t* ns) {
  *ns = 0;
  if (object == NULL || object == Py_None) return true;
  if (!ns_from(state, object, "ttl", ns)) return false;
  if (*ns > 0) return true;
  raise_invalid(state, "invalid_argument: ttl must be more than 0 seconds");
  return false;
}

// The refused call may make system calls, to find out whether a holder is dead; not many.
SIGNATURE(kAcquireLease, "acquire_lease", 1, 2, "key", "ttl");

PyObject* acquire_lease(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kAcquireLease, args, count, names, arg)) return NULL;
  brim_key key;
  int64_t ttl = 0;
  if (!key_from(arg[0], &key) || !ttl_from(state, arg[1], &ttl)) return NULL;
  Decision* decision = new_decision(state);
  Lease* lease = decision != NULL ? PyObject_GC_New(Lease, state->lease) : NULL;
  if (lease == NULL) {
    Py_XDECREF((PyObject*)decision);
    return NULL;
  }
  lease->policy = (Policy*)Py_NewRef(self);
  lease->decision = decision;
  lease->value = (brim_lease){.struct_size = sizeof(brim_lease)};
  PyObject_GC_Track((PyObject*)lease);
  // Now: to make the lease may have run the collector, and with it any code.
  if (!is_open(policy->limiter)) {
    Py_DECREF(lease);
    return NULL;
  }
  const int code = brim_acquire_lease(policy->handle, key.bytes, key.length, ttl, &lease->value,
                                      &decision->value);
  if (code >= 0) return (PyObject*)lease;
  Py_DECREF(lease);
  return raise_last(state, code);
}

SIGNATURE(kRenew, "renew", 0, 1, "ttl");

static PyObject* lease_renew(PyObject* self, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  Lease* lease = (Lease*)self;
  State* state = lease->policy->state;
  PyObject* arg = NULL;
  int64_t ttl = 0;
  if (!parse(&kRenew, args, count, names, &arg) || !ttl_from(state, arg, &ttl) ||
      !is_open(lease->policy->limiter)) {
    return NULL;
  }
  if (!lease_true(self)) Py_RETURN_FALSE;
  const int code = brim_renew(lease->policy->handle, &lease->value, ttl);
  if (code < 0 && code != BRIM_E_UNFIT) return raise_last(state, code);
  return PyBool_FromLong(code >= 0);
}

static PyObject* lease_release(PyObject* self, PyObject* unused) {
  (void)unused;
  Lease* lease = (Lease*)self;
  if (!is_open(lease->policy->limiter)) return NULL;
  if (!lease_true(self)) Py_RETURN_FALSE;
  const int code = brim_release(lease->policy->handle, &lease->value);
  if (code < 0 && code != BRIM_E_UNFIT) return raise_last(lease->policy->state, code);
  return PyBool_FromLong(code >= 0);
}

static PyObject* lease_enter(PyObject* self, PyObject* unused) {
  (void)unused;
  return Py_NewRef(self);
}

static PyObject* lease_exit(PyObject* self, PyObject* args) {
  (void)args;
  PyObject* released = lease_release(self, NULL);
  if (released == NULL) return NULL;
  Py_DECREF(released);
  Py_RETURN_NONE;
}

#define FIELD(field) (Py_ssize_t)(offsetof(Lease, value) + offsetof(brim_lease, field))
static PyMemberDef lease_members[] = {
    {"decision", T_OBJECT_EX, offsetof(Lease, decision), READONLY, "The answer."},
    {"fence", T_ULONGLONG, FIELD(fence), READONLY,
     "Grows with every lease of one place: a resource can turn a late holder away by it."},
    {"expires_ns", T_LONGLONG, FIELD(expires_ns), READONLY, "In time.monotonic_ns()."},
    {NULL, 0, 0, 0, NULL}};
#undef FIELD

static PyMethodDef lease_methods[] = {
    FAST("renew", lease_renew,
         "renew($self, /, ttl=None)\n--\n\n"
         "Prolongs it to ttl seconds from now. False: it is lost, another may have it."),
    {"release", lease_release, METH_NOARGS,
     "release($self, /)\n--\n\nGives it back. False if it had ended before. May be called again."},
    {"__enter__", lease_enter, METH_NOARGS, NULL},
    {"__exit__", lease_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot lease_slots[] = {
    {Py_tp_doc,
     "One of at most N leases of a key; true if it was given. A context manager that releases it.\n"
     "Not tied to a thread. It does not end with this object: release() it, or its time must be\n"
     "over."},
    {Py_tp_dealloc, (void*)lease_dealloc},
    {Py_tp_traverse, (void*)lease_traverse},
    {Py_nb_bool, (void*)lease_true},
    {Py_tp_methods, lease_methods},
    {Py_tp_members, lease_members},
    {0, NULL}};
static PyType_Spec lease_spec = {"brim._brim.Lease", sizeof(Lease), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                     Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                                 lease_slots};

bool add_lease(PyObject* module, State* state) {
  state->lease = add_type(module, &lease_spec);
  return state->lease != NULL;
}
