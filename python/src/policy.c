// SPDX-License-Identifier: MIT
// The type Policy: its attributes, and the table of its methods.
#include <stddef.h>

#include "python/src/module.h"

PyObject* new_policy(Limiter* limiter, const brim_policy* handle, PyObject* name) {
  State* state = limiter->state;
  Policy* policy = PyObject_GC_New(Policy, state->policy);
  if (policy == NULL) return NULL;
  policy->state = state;
  policy->limiter = (Limiter*)Py_NewRef((PyObject*)limiter);
  policy->handle = handle;
  policy->name = Py_NewRef(name);
  PyObject_GC_Track((PyObject*)policy);
  return (PyObject*)policy;
}

static int policy_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(((Policy*)self)->limiter);
  Py_VISIT(Py_TYPE(self));
  return 0;
}

static void policy_dealloc(PyObject* self) {
  Policy* policy = (Policy*)self;
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  Py_DECREF(policy->limiter);
  Py_DECREF(policy->name);
  PyObject_GC_Del(self);
  Py_DECREF(type);
}

static PyObject* policy_repr(PyObject* self) {
  const Policy* policy = (Policy*)self;
  return PyUnicode_FromFormat("<brim.Policy %R of %R>", policy->name, policy->limiter->name);
}

// The text as it is stored now; a change may make it longer between two calls.
static PyObject* get_text(PyObject* self, void* unused) {
  (void)unused;
  const Policy* policy = (Policy*)self;
  if (!is_open(policy->limiter)) return NULL;
  for (size_t size = 256;; size *= 4) {
    char* buffer = PyMem_Malloc(size);
    if (buffer == NULL) return PyErr_NoMemory();
    size_t length = 0;
    const int code = brim_policy_text(policy->handle, buffer, size, &length);
    PyObject* text = NULL;
    if (code == BRIM_OK) {
      text = PyUnicode_DecodeUTF8(buffer, (Py_ssize_t)length, "replace");
    } else if (code != BRIM_E_BUFFER || size > (1 << 20)) {
      raise_last(policy->state, code);
    }
    PyMem_Free(buffer);
    if (text != NULL || PyErr_Occurred() != NULL) return text;
  }
}

static PyObject* get_rates(PyObject* self, void* unused) {
  PyObject* text = get_text(self, unused);
  if (text == NULL) return NULL;
  State* state = ((Policy*)self)->state;
  const char* bytes = text_from(state, text, "text");
  PyObject* rates = bytes != NULL ? rates_of(state, bytes, NULL) : NULL;
  Py_DECREF(text);
  return rates;
}

static PyObject* get_scope(PyObject* self, void* unused) {
  static const char* const kScopes[] = {"node", "cluster", "strict"};
  (void)unused;
  const Policy* policy = (Policy*)self;
  if (!is_open(policy->limiter)) return NULL;
  const int scope = brim_policy_scope(policy->handle);
  return scope < 0 ? raise_last(policy->state, scope) : PyUnicode_InternFromString(kScopes[scope]);
}

static PyMemberDef policy_members[] = {
    {"limiter", T_OBJECT_EX, offsetof(Policy, limiter), READONLY, "The Limiter it is of."},
    {"name", T_OBJECT_EX, offsetof(Policy, name), READONLY, "Its name."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef policy_getters[] = {
    {"text", get_text, NULL, "The policy's text, as it is stored now.", NULL},
    {"rates", get_rates, NULL, "The rates of that text, a tuple of Rate.", NULL},
    {"scope", get_scope, NULL,
     "Whose requests it counts now: \"node\", \"cluster\", or \"strict\", whose calls wait for\n"
     "the store that the nodes share: see brim.tier.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

// Limiter.policy(limiter, name): the other process looks the name up.
static PyObject* policy_reduce(PyObject* self, PyObject* unused) {
  (void)unused;
  const Policy* policy = (Policy*)self;
  PyObject* look_up = PyObject_GetAttrString((PyObject*)policy->state->limiter, "policy");
  if (look_up == NULL) return NULL;
  return Py_BuildValue("(N(OO))", look_up, (PyObject*)policy->limiter, policy->name);
}

static PyMethodDef policy_methods[] = {
    FAST("try_acquire", policy_try_acquire,
         "try_acquire($self, /, key, cost=1, priority=1)\n--\n\n"
         "Takes `cost` permits for `key`, or none.\n\n"
         "key: str (as UTF-8) or bytes, any of them. cost: 0 to 2**31; 0 only looks. priority: a\n"
         "brim.Priority; it counts if the policy has classes. Never blocks, makes no system call,\n"
         "keeps the GIL (but see brim.tier.answer_strict()); safe in any thread, and in a child\n"
         "after fork().\n"
         "Raises TypeError, InvalidArgument, UnicodeEncodeError (a lone surrogate in the key),\n"
         "Unfit (closed); never for what goes wrong in the segment: see Verdict.UNAVAILABLE."),
    FAST("try_acquire_at", policy_try_acquire_at,
         "try_acquire_at($self, /, now_ns, key, cost=1)\n--\n\n"
         "try_acquire() with the caller's time.monotonic_ns(), at most 1 ms ahead of the clock."),
    FAST("try_acquire_up_to", policy_try_acquire_up_to,
         "try_acquire_up_to($self, /, key, least, most)\n--\n\n"
         "Takes as many permits as there are, at least `least` and at most `most`, or none;\n"
         "Decision.granted says how many."),
    FAST("try_acquire_batch", policy_try_acquire_batch,
         "try_acquire_batch($self, /, keys)\n--\n\n"
         "Takes one permit for each of the keys; a list of their decisions, in their order. Each\n"
         "key is decided by itself. A key of a wrong type raises before any is decided."),
    FAST("peek", policy_peek,
         "peek($self, /, key, cost=0)\n--\n\n"
         "What try_acquire(key, cost) would answer now. Writes nothing; works read-only."),
    FAST(
        "wait", policy_wait,
        "wait($self, /, key, cost=1, timeout=None)\n--\n\n"
        "Takes `cost` permits for `key`, sleeping until they are there.\n\n"
        "timeout: seconds; None: for ever, 0: one attempt. A wait that would be longer is refused\n"
        "at once. Where the policy takes bookings (one bucket or queue) places are given in "
        "order,\n"
        "with one sleep; elsewhere it tries again when the policy says. A signal whose handler\n"
        "raises ends it, and gives its place back to the end of the line. Gives up the GIL while "
        "it\n"
        "sleeps. Not for event loops: await acquire() there."),
    FAST("acquire", policy_acquire,
         "acquire($self, /, key, cost=1, timeout=None)\n--\n\n"
         "wait() for asyncio: an awaitable that sleeps in the event loop. When it is cancelled it\n"
         "gives its place back to the end of the line: who waits behind it does not come sooner."),
    FAST("reserve", policy_reserve,
         "reserve($self, /, key, cost=1, max_delay=60.0)\n--\n\n"
         "Books `cost` permits for a start within max_delay seconds from now, first come first\n"
         "served; a Ticket, whose decision.delay says when. Buckets and queues of one rate only\n"
         "(Reason.UNSUPPORTED)."),
    FAST("cancel", policy_cancel,
         "cancel($self, /, key, ticket)\n--\n\n"
         "Gives a booking back. False if nothing was left of it."),
    FAST("commit", policy_commit,
         "commit($self, /, key, held, actual)\n--\n\n"
         "Settles what a call that took `held` permits did cost: gives the rest back, or charges\n"
         "the difference without asking. False if that could not be done in full."),
    FAST("refund", policy_refund,
         "refund($self, /, key, cost=1)\n--\n\n"
         "Gives back up to `cost` permits. False if the key owed nothing."),
    FAST("reset", policy_reset,
         "reset($self, /, key)\n--\n\n"
         "Forgets what the key owes and the bans that this policy made. False if there was none."),
    FAST("acquire_lease", acquire_lease,
         "acquire_lease($self, /, key, ttl=None)\n--\n\n"
         "One of the leases of a policy `concurrency`, for ttl seconds (None: the policy's): a\n"
         "Lease, false if none is free. It ends by release(), when its time is over, or when this\n"
         "process is proven dead."),
    {"__reduce__", policy_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyType_Slot policy_slots[] = {
    {Py_tp_doc,
     "A policy of one segment. Safe in any thread, and in a child after fork(). Pickles by name:\n"
     "the other process attaches the segment and looks the policy up."},
    {Py_tp_dealloc, (void*)policy_dealloc},
    {Py_tp_traverse, (void*)policy_traverse},
    {Py_tp_repr, (void*)policy_repr},
    {Py_tp_methods, policy_methods},
    {Py_tp_members, policy_members},
    {Py_tp_getset, policy_getters},
    {0, NULL}};
static PyType_Spec policy_spec = {"brim._brim.Policy", sizeof(Policy), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
                                      Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                                  policy_slots};

bool add_policy(PyObject* module, State* state) {
  state->policy = add_type(module, &policy_spec);
  return state->policy != NULL;
}
