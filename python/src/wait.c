// SPDX-License-Identifier: MIT
// Waiting: the same steps as PolicyHandle::acquire, but the sleep gives up the GIL and a signal
// ends it. In the event loop the steps are those of brim/_aio.py.
#include <errno.h>
#include <time.h>

#include "python/src/module.h"

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t later(int64_t at, int64_t ns) { return ns > INT64_MAX - at ? INT64_MAX : at + ns; }

// Sleeps until then, without the GIL. False if the handler of a signal raised; a signal wakes the
// thread that Python handles it in, as it does time.sleep().
static bool sleep_until(int64_t until) {
  const struct timespec at = {until / 1000000000, until % 1000000000};
  for (;;) {
    int code = 0;
    Py_BEGIN_ALLOW_THREADS code = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return false;
    if (code != EINTR) return true;
  }
}

typedef struct Wait {
  Limiter* limiter;
  const brim_policy* policy;
  brim_key key;
  uint32_t cost;
  int64_t timeout_ns;
} Wait;

// True if the permits will be there in time. Asked when a booking is refused as too late, which may
// be for the caller's time or for how far ahead the policy lets anyone book, or for a ban.
static bool comes_in_time(const Wait* wait, int64_t left_ns) {
  brim_decision start = BRIM_DECISION_INIT;
  brim_peek(wait->policy, wait->key.bytes, wait->key.length, wait->cost, &start);
  return start.retry_after_ns != BRIM_NEVER && start.retry_after_ns <= left_ns;
}

// Books a place and sleeps until it comes. 1 if the decision is the answer, 0 if this policy takes
// no bookings, negative with an exception.
static int wait_booked(const Wait* wait, brim_decision* decision) {
  const int64_t deadline = later(now_ns(), wait->timeout_ns);
  brim_ticket ticket = {.struct_size = sizeof(ticket)};
  for (;;) {
    const int64_t now = now_ns();
    const int64_t left = deadline == INT64_MAX ? BRIM_NEVER : deadline > now ? deadline - now : 0;
    const int code = brim_reserve(wait->policy, wait->key.bytes, wait->key.length, wait->cost, left,
                                  &ticket, decision);
    if (code < 0) {
      raise_last(wait->limiter->state, code);
      return -1;
    }
    if (decision->reason == BRIM_REASON_UNSUPPORTED) return 0;
    if (decision->admitted) break;
    const bool passes =
        decision->reason == BRIM_REASON_TOO_LATE || decision->reason == BRIM_REASON_BARRED;
    const int64_t wait_ns = decision->retry_after_ns > 0 ? decision->retry_after_ns : 1;
    if (!passes || wait_ns > left || !comes_in_time(wait, left)) return 1;
    if (!sleep_until(later(now, wait_ns))) return -1;
  }
  if (decision->delay_ns == 0) return 1;
  // From a reading after the booking's: never before one's place.
  if (sleep_until(later(now_ns(), decision->delay_ns))) {
    decision->delay_ns = 0;
    return 1;
  }
  brim_cancel(wait->policy, wait->key.bytes, wait->key.length, &ticket);
  return -1;
}

// Tries, and sleeps as long as the policy says. The same answers.
static int wait_trying(const Wait* wait, brim_decision* decision) {
  const int64_t deadline = later(now_ns(), wait->timeout_ns);
  for (;;) {
    const int code = DECIDE(
        wait->limiter,
        brim_try_acquire(wait->policy, wait->key.bytes, wait->key.length, wait->cost, decision));
    if (code < 0) {
      raise_last(wait->limiter->state, code);
      return -1;
    }
    if (decision->admitted || decision->verdict != BRIM_DENIED ||
        decision->retry_after_ns == BRIM_NEVER || wait->timeout_ns == 0) {
      return 1;
    }
    const int64_t wait_ns = decision->retry_after_ns > 0 ? decision->retry_after_ns : 1;
    const int64_t again = later(now_ns(), wait_ns);
    if (again > deadline) return 1;
    if (!sleep_until(again)) return -1;
  }
}

static PyObject* wait_for(const Wait* wait) {
  Decision* decision = new_decision(wait->limiter->state);
  if (decision == NULL || !enter(wait->limiter)) {
    Py_XDECREF((PyObject*)decision);
    return NULL;
  }
  int done = wait->timeout_ns > 0 ? wait_booked(wait, &decision->value) : 0;
  if (done == 0) {
    decision->value = (brim_decision)BRIM_DECISION_INIT;
    done = wait_trying(wait, &decision->value);
  }
  leave(wait->limiter);
  if (done < 0) Py_CLEAR(decision);
  return (PyObject*)decision;
}

static bool timeout_from(State* state, PyObject* object, int64_t* ns) {
  *ns = BRIM_NEVER;
  return object == NULL || object == Py_None || ns_from(state, object, "timeout", ns);
}

SIGNATURE(kWait, "wait", 1, 3, "key", "cost", "timeout");

PyObject* policy_wait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Policy* policy = (Policy*)self;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kWait, args, count, names, arg)) return NULL;
  Wait wait = {.limiter = policy->limiter, .policy = policy->handle, .cost = 1};
  if (!key_from(arg[0], &wait.key) || !cost_from(policy->state, arg[1], &wait.cost) ||
      !timeout_from(policy->state, arg[2], &wait.timeout_ns)) {
    return NULL;
  }
  return wait_for(&wait);
}

SIGNATURE(kWaitNamed, "wait", 2, 4, "policy", "key", "cost", "timeout");

PyObject* limiter_wait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  State* state = limiter->state;
  PyObject* arg[4] = {NULL, NULL, NULL, NULL};
  if (!parse(&kWaitNamed, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "policy");
  Wait wait = {.limiter = limiter, .cost = 1};
  if (name == NULL || !key_from(arg[1], &wait.key) || !cost_from(state, arg[2], &wait.cost) ||
      !timeout_from(state, arg[3], &wait.timeout_ns) || !is_open(limiter)) {
    return NULL;
  }
  const int code = brim_policy_get(limiter->handle, name, &wait.policy);
  return code < 0 ? raise_last(state, code) : wait_for(&wait);
}

static PyObject* aio_acquire(State* state) {
  if (state->aio_acquire != NULL) return state->aio_acquire;
  PyObject* module = PyImport_ImportModule("brim._aio");
  if (module == NULL) return NULL;
  PyObject* function = PyObject_GetAttrString(module, "acquire");
  Py_DECREF(module);
  PyObject* old = state->aio_acquire;  // of a thread that was here meanwhile
  state->aio_acquire = function;
  Py_XDECREF(old);
  return function;
}

// The coroutine of brim._aio, which gets its timeout as None or a float.
static PyObject* acquire(State* state, PyObject* policy, PyObject* key, PyObject* cost,
                         PyObject* timeout) {
  int64_t timeout_ns = 0;
  PyObject* function = aio_acquire(state);
  if (function == NULL || !timeout_from(state, timeout, &timeout_ns)) return NULL;
  PyObject* one = cost == NULL ? PyLong_FromLong(1) : Py_NewRef(cost);
  PyObject* seconds =
      timeout_ns == BRIM_NEVER ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)timeout_ns / 1e9);
  PyObject* coroutine =
      one != NULL && seconds != NULL
          ? PyObject_CallFunctionObjArgs(function, policy, key, one, seconds, NULL)
          : NULL;
  Py_XDECREF(one);
  Py_XDECREF(seconds);
  return coroutine;
}

SIGNATURE(kAcquire, "acquire", 1, 3, "key", "cost", "timeout");

PyObject* policy_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kAcquire, args, count, names, arg)) return NULL;
  return acquire(((Policy*)self)->state, self, arg[0], arg[1], arg[2]);
}

SIGNATURE(kAcquireNamed, "acquire", 2, 4, "policy", "key", "cost", "timeout");

PyObject* limiter_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count,
                          PyObject* names) {
  PyObject* arg[4] = {NULL, NULL, NULL, NULL};
  if (!parse(&kAcquireNamed, args, count, names, arg)) return NULL;
  PyObject* policy = PyObject_CallMethod(self, "policy", "O", arg[0]);
  if (policy == NULL) return NULL;
  PyObject* coroutine = acquire(((Limiter*)self)->state, policy, arg[1], arg[2], arg[3]);
  Py_DECREF(policy);
  return coroutine;
}
