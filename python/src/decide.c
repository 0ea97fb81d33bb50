// SPDX-License-Identifier: MIT
// The calls that decide. None of them gives up the GIL: a decision takes less time than that, and
// with several threads giving it up costs four fifths of the calls. So nobody else can close the
// limiter between is_open() and the call. (In a call that asks a store, strict.c gives it up.)
#include <string.h>

#include "python/src/module.h"

// The decision, or the error of `code`; steals it.
static PyObject* answer(State* state, Decision* decision, int code) {
  if (code >= 0) return (PyObject*)decision;
  Py_DECREF(decision);
  return raise_last(state, code);
}

SIGNATURE(kTryAcquire, "try_acquire", 1, 3, "key", "cost", "priority");

PyObject* policy_try_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kTryAcquire, args, count, names, arg)) return NULL;
  brim_key key;
  uint32_t cost = 1;
  int64_t priority = BRIM_NORMAL;
  if (!key_from(arg[0], &key) || !cost_from(state, arg[1], &cost)) return NULL;
  if (arg[2] != NULL &&
      !count_from(state, arg[2], "priority", BRIM_LOW, BRIM_CRITICAL, &priority)) {
    return NULL;
  }
  if (!is_open(policy->limiter)) return NULL;
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  const int code =
      DECIDE(policy->limiter,
             arg[2] == NULL
                 ? brim_try_acquire(policy->handle, key.bytes, key.length, cost, &decision->value)
                 : brim_try_acquire_priority(policy->handle, key.bytes, key.length, cost,
                                             (int)priority, &decision->value));
  return answer(state, decision, code);
}

SIGNATURE(kTryAcquireAt, "try_acquire_at", 2, 3, "now_ns", "key", "cost");

PyObject* policy_try_acquire_at(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kTryAcquireAt, args, count, names, arg)) return NULL;
  brim_key key;
  uint32_t cost = 1;
  int64_t now = 0;
  if (!count_from(state, arg[0], "now_ns", 0, INT64_MAX, &now) || !key_from(arg[1], &key) ||
      !cost_from(state, arg[2], &cost) || !is_open(policy->limiter)) {
    return NULL;
  }
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  return answer(state, decision,
                DECIDE(policy->limiter, brim_try_acquire_at(policy->handle, now, key.bytes,
                                                            key.length, cost, &decision->value)));
}

SIGNATURE(kTryAcquireUpTo, "try_acquire_up_to", 3, 3, "key", "least", "most");

PyObject* policy_try_acquire_up_to(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                   PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kTryAcquireUpTo, args, count, names, arg)) return NULL;
  brim_key key;
  int64_t least = 0;
  int64_t most = 0;
  if (!key_from(arg[0], &key) || !count_from(state, arg[1], "least", 0, BRIM_MAX_COST, &least) ||
      !count_from(state, arg[2], "most", least, BRIM_MAX_COST, &most) ||
      !is_open(policy->limiter)) {
    return NULL;
  }
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  const int code = DECIDE(
      policy->limiter, brim_try_acquire_up_to(policy->handle, key.bytes, key.length,
                                              (uint32_t)least, (uint32_t)most, &decision->value));
  return answer(state, decision, code);
}

SIGNATURE(kPeek, "peek", 1, 2, "key", "cost");

PyObject* policy_peek(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kPeek, args, count, names, arg)) return NULL;
  brim_key key;
  uint32_t cost = 0;
  if (!key_from(arg[0], &key) || !cost_from(state, arg[1], &cost) || !is_open(policy->limiter)) {
    return NULL;
  }
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  return answer(state, decision,
                brim_peek(policy->handle, key.bytes, key.length, cost, &decision->value));
}

// Appends the decisions to the list.
static bool append(State* state, PyObject* list, const brim_decision* values, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    Decision* decision = new_decision(state);
    if (decision == NULL) return false;
    decision->value = values[i];
    const int failed = PyList_Append(list, (PyObject*)decision);
    Py_DECREF(decision);
    if (failed < 0) return false;
  }
  return true;
}

// All keys are read before the first is decided, so that a wrong one takes no permit of any.
static bool decide_batch(Policy* policy, PyObject* keys, PyObject* list) {
  enum { kMost = 64 };
  State* state = policy->state;
  const Py_ssize_t total = PyTuple_Size(keys);
  brim_key key[kMost];
  for (Py_ssize_t i = 0; i < total; ++i) {
    if (!key_from(PyTuple_GetItem(keys, i), &key[0])) return false;
  }
  brim_decision values[kMost];
  for (Py_ssize_t begin = 0; begin < total; begin += kMost) {
    const Py_ssize_t count = total - begin < kMost ? total - begin : kMost;
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!key_from(PyTuple_GetItem(keys, begin + i), &key[i])) return false;
      values[i] = (brim_decision)BRIM_DECISION_INIT;
    }
    if (!is_open(policy->limiter)) return false;
    const int code =
        DECIDE(policy->limiter, brim_try_acquire_batch(policy->handle, key, (size_t)count, values));
    if (code < 0) return raise_last(state, code) != NULL;
    if (!append(state, list, values, count)) return false;
  }
  return true;
}

SIGNATURE(kTryAcquireBatch, "try_acquire_batch", 1, 1, "keys");

PyObject* policy_try_acquire_batch(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                   PyObject* names) {
  Policy* policy = (Policy*)self;
  PyObject* keys = NULL;
  if (!parse(&kTryAcquireBatch, args, count, names, &keys)) return NULL;
  if (PyUnicode_Check(keys) || PyBytes_Check(keys)) {
    PyErr_SetString(PyExc_TypeError, "keys must be a sequence of keys, not one key");
    return NULL;
  }
  PyObject* tuple = PySequence_Tuple(keys);  // holds the keys while their bytes are used
  if (tuple == NULL) return NULL;
  PyObject* list = PyList_New(0);
  if (list != NULL && !(is_open(policy->limiter) && decide_batch(policy, tuple, list))) {
    Py_CLEAR(list);
  }
  Py_DECREF(tuple);
  return list;
}

// (policy, key) or (policy, key, cost). The tuple outlives the ask.
static bool ask_from(State* state, PyObject* tuple, brim_ask* ask) {
  const Py_ssize_t size = PyTuple_Check(tuple) ? PyTuple_Size(tuple) : 0;
  if (size < 2 || size > 3 || !Py_IS_TYPE(PyTuple_GetItem(tuple, 0), state->policy)) {
    PyErr_SetString(PyExc_TypeError, "an ask must be (Policy, key) or (Policy, key, cost)");
    return false;
  }
  Policy* policy = (Policy*)PyTuple_GetItem(tuple, 0);
  ask->policy = policy->handle;
  ask->cost = 1;
  return key_from(PyTuple_GetItem(tuple, 1), &ask->key) &&
         cost_from(state, size == 3 ? PyTuple_GetItem(tuple, 2) : NULL, &ask->cost);
}

static PyObject* try_acquire_all(Limiter* limiter, PyObject* tuple) {
  State* state = limiter->state;
  const Py_ssize_t count = PyTuple_Size(tuple);
  if (count > BRIM_MAX_ASKS) {
    return raise_invalid(state, "invalid_argument: at most %d asks, not %zd", BRIM_MAX_ASKS, count);
  }
  brim_ask asks[BRIM_MAX_ASKS];
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!ask_from(state, PyTuple_GetItem(tuple, i), &asks[i])) return NULL;
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    Limiter* owner = ((Policy*)PyTuple_GetItem(PyTuple_GetItem(tuple, i), 0))->limiter;
    if (!is_open(owner)) return NULL;
  }
  if (!is_open(limiter)) return NULL;
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  // Of several asks none may be strict: so it is the first one's segment that has to stay.
  Limiter* first =
      count > 0 ? ((Policy*)PyTuple_GetItem(PyTuple_GetItem(tuple, 0), 0))->limiter : limiter;
  return answer(state, decision,
                DECIDE(first, brim_try_acquire_all(asks, (size_t)count, &decision->value)));
}

SIGNATURE(kTryAcquireAll, "try_acquire_all", 1, 1, "asks");

PyObject* limiter_try_acquire_all(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                  PyObject* names) {
  PyObject* asks = NULL;
  if (!parse(&kTryAcquireAll, args, count, names, &asks)) return NULL;
  PyObject* tuple = PySequence_Tuple(asks);
  if (tuple == NULL) return NULL;
  PyObject* decision = try_acquire_all((Limiter*)self, tuple);
  Py_DECREF(tuple);
  return decision;
}

SIGNATURE(kTryAcquireNamed, "try_acquire", 2, 3, "policy", "key", "cost");

PyObject* limiter_try_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count,
                              PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  State* state = limiter->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kTryAcquireNamed, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "policy");
  brim_key key;
  uint32_t cost = 1;
  if (name == NULL || !key_from(arg[1], &key) || !cost_from(state, arg[2], &cost) ||
      !is_open(limiter)) {
    return NULL;
  }
  const brim_policy* policy = NULL;
  const int code = brim_policy_get(limiter->handle, name, &policy);
  if (code < 0) return raise_last(state, code);
  Decision* decision = new_decision(state);
  if (decision == NULL) return NULL;
  return answer(
      state, decision,
      DECIDE(limiter, brim_try_acquire(policy, key.bytes, key.length, cost, &decision->value)));
}

// --------------------------------------------------------------------- bookings and settlements

SIGNATURE(kReserve, "reserve", 1, 3, "key", "cost", "max_delay");

PyObject* policy_reserve(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kReserve, args, count, names, arg)) return NULL;
  brim_key key;
  uint32_t cost = 1;
  int64_t most = INT64_C(60000000000);
  if (!key_from(arg[0], &key) || !cost_from(state, arg[1], &cost) ||
      (arg[2] != NULL && !ns_from(state, arg[2], "max_delay", &most)) ||
      !is_open(policy->limiter)) {
    return NULL;
  }
  Ticket* ticket = PyObject_New(Ticket, state->ticket);
  if (ticket == NULL) return NULL;
  ticket->value = (brim_ticket){.struct_size = sizeof(brim_ticket)};
  ticket->decision = new_decision(state);
  if (ticket->decision == NULL) {
    Py_DECREF(ticket);
    return NULL;
  }
  const int code = brim_reserve(policy->handle, key.bytes, key.length, cost, most, &ticket->value,
                                &ticket->decision->value);
  if (code >= 0) return (PyObject*)ticket;
  Py_DECREF(ticket);
  return raise_last(state, code);
}

// True if done, False if there was nothing to do, which brim.h calls BRIM_E_UNFIT.
static PyObject* done(State* state, int code) {
  if (code < 0 && code != BRIM_E_UNFIT) return raise_last(state, code);
  return PyBool_FromLong(code >= 0);
}

SIGNATURE(kCancel, "cancel", 2, 2, "key", "ticket");

PyObject* policy_cancel(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kCancel, args, count, names, arg)) return NULL;
  brim_key key;
  if (!key_from(arg[0], &key)) return NULL;
  if (!Py_IS_TYPE(arg[1], policy->state->ticket)) {
    PyErr_SetString(PyExc_TypeError, "ticket must be a Ticket");
    return NULL;
  }
  if (!is_open(policy->limiter)) return NULL;
  const Ticket* ticket = (Ticket*)arg[1];
  if (!ticket->decision->value.admitted) Py_RETURN_FALSE;
  return done(policy->state, brim_cancel(policy->handle, key.bytes, key.length, &ticket->value));
}

SIGNATURE(kCommit, "commit", 3, 3, "key", "held", "actual");

PyObject* policy_commit(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  State* state = policy->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kCommit, args, count, names, arg)) return NULL;
  brim_key key;
  int64_t held = 0;
  int64_t actual = 0;
  if (!key_from(arg[0], &key) || !count_from(state, arg[1], "held", 0, BRIM_MAX_COST, &held) ||
      !count_from(state, arg[2], "actual", 0, BRIM_MAX_COST, &actual) ||
      !is_open(policy->limiter)) {
    return NULL;
  }
  return done(state, DECIDE(policy->limiter, brim_commit(policy->handle, key.bytes, key.length,
                                                         (uint32_t)held, (uint32_t)actual)));
}

SIGNATURE(kRefund, "refund", 1, 2, "key", "cost");

PyObject* policy_refund(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kRefund, args, count, names, arg)) return NULL;
  brim_key key;
  uint32_t cost = 1;
  if (!key_from(arg[0], &key) || !cost_from(policy->state, arg[1], &cost) ||
      !is_open(policy->limiter)) {
    return NULL;
  }
  return done(policy->state,
              DECIDE(policy->limiter, brim_refund(policy->handle, key.bytes, key.length, cost)));
}

SIGNATURE(kReset, "reset", 1, 1, "key");

PyObject* policy_reset(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  PyObject* arg = NULL;
  brim_key key;
  if (!parse(&kReset, args, count, names, &arg) || !key_from(arg, &key) ||
      !is_open(policy->limiter)) {
    return NULL;
  }
  return done(policy->state, brim_reset(policy->handle, key.bytes, key.length));
}
