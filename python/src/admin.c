// SPDX-License-Identifier: MIT
// What operators do. These calls may wait for a lock on the segment, so they give up the GIL.
#include <math.h>

#include "python/src/module.h"

// Runs `call`, which uses `handle`, without the GIL.
#define WITHOUT_GIL(limiter, code, call)            \
  do {                                              \
    if (!enter(limiter)) return NULL;               \
    brim_limiter* const handle = (limiter)->handle; \
    Py_BEGIN_ALLOW_THREADS code = call;             \
    Py_END_ALLOW_THREADS leave(limiter);            \
  } while (false)

static PyObject* none(State* state, int code) {
  if (code < 0) return raise_last(state, code);
  Py_RETURN_NONE;
}

static const char* const kOnChange[] = {"keep", "reset", "proportional", NULL};
SIGNATURE(kChange, "change", 2, 3, "policy", "text", "on_change");

PyObject* limiter_change(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  State* state = limiter->state;
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(&kChange, args, count, names, arg)) return NULL;
  const char* policy = text_from(state, arg[0], "policy");
  const char* text = policy != NULL ? text_from(state, arg[1], "text") : NULL;
  uint8_t how = BRIM_CHANGE_KEEP;
  if (text == NULL || (arg[2] != NULL && !word_from(state, arg[2], "on_change", kOnChange, &how))) {
    return NULL;
  }
  int code = 0;
  WITHOUT_GIL(limiter, code, brim_change(handle, policy, text, how));
  return none(state, code);
}

SIGNATURE(kSetFactor, "set_factor", 2, 2, "policy", "factor");

PyObject* limiter_set_factor(PyObject* self, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  State* state = limiter->state;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kSetFactor, args, count, names, arg)) return NULL;
  const char* policy = text_from(state, arg[0], "policy");
  if (policy == NULL) return NULL;
  const double factor = PyFloat_AsDouble(arg[1]);
  if (factor == -1.0 && PyErr_Occurred() != NULL) return NULL;
  const double parts = round(factor * 1e6);
  if (!(parts >= 0 && parts <= UINT32_MAX)) {
    return raise_invalid(state, "invalid_factor: factor must be 0 or more, not %R", arg[1]);
  }
  int code = 0;
  WITHOUT_GIL(limiter, code, brim_set_factor(handle, policy, (uint32_t)parts));
  return none(state, code);
}

typedef int OfPolicy(brim_limiter* limiter, const char* policy);

static PyObject* of_text(PyObject* self, const Signature* signature, PyObject* const* args,
                         Py_ssize_t count, PyObject* names, OfPolicy* function) {
  Limiter* limiter = (Limiter*)self;
  PyObject* arg = NULL;
  if (!parse(signature, args, count, names, &arg)) return NULL;
  const char* text = text_from(limiter->state, arg, signature->names[0]);
  if (text == NULL) return NULL;
  int code = 0;
  WITHOUT_GIL(limiter, code, function(handle, text));
  return none(limiter->state, code);
}

SIGNATURE(kRemovePolicy, "remove_policy", 1, 1, "policy");
SIGNATURE(kResetPolicy, "reset_policy", 1, 1, "policy");
SIGNATURE(kRecord, "record", 1, 1, "what");

PyObject* limiter_remove_policy(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                PyObject* names) {
  return of_text(self, &kRemovePolicy, args, count, names, brim_remove_policy);
}

PyObject* limiter_reset_policy(PyObject* self, PyObject* const* args, Py_ssize_t count,
                               PyObject* names) {
  return of_text(self, &kResetPolicy, args, count, names, brim_reset_policy);
}

PyObject* limiter_record(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  return of_text(self, &kRecord, args, count, names, brim_record);
}

// --------------------------------------------------------------------------- overrides and bans

// (policy, key, use or duration), or a network in place of the key.
typedef struct Change {
  const char* policy;
  brim_key key;
  const char* network;
  const char* use;
  int64_t ns;
} Change;

static bool change_from(State* state, const Signature* signature, PyObject* const* args,
                        Py_ssize_t count, PyObject* names, Change* change) {
  PyObject* arg[3] = {NULL, NULL, NULL};
  if (!parse(signature, args, count, names, arg)) return false;
  change->policy = text_from(state, arg[0], "policy");
  if (change->policy == NULL) return false;
  if (signature->names[1][0] == 'n') {
    change->network = text_from(state, arg[1], "network");
    if (change->network == NULL) return false;
  } else if (!key_from(arg[1], &change->key)) {
    return false;
  }
  if (signature->count == 2) return true;
  if (signature->names[2][0] == 'd') return ns_from(state, arg[2], "duration", &change->ns);
  change->use = text_from(state, arg[2], "use");
  return change->use != NULL;
}

#define CHANGE(method, python_name, call, ...)                                                 \
  SIGNATURE(k_##method, python_name, COUNT(k_##method##_names), COUNT(k_##method##_names),     \
            __VA_ARGS__);                                                                      \
  PyObject* method(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) { \
    Limiter* limiter = (Limiter*)self;                                                         \
    Change c = {NULL, {NULL, 0}, NULL, NULL, 0};                                               \
    if (!change_from(limiter->state, &k_##method, args, count, names, &c)) return NULL;        \
    int code = 0;                                                                              \
    WITHOUT_GIL(limiter, code, call);                                                          \
    return none(limiter->state, code);                                                         \
  }

CHANGE(limiter_set_override, "set_override",
       brim_set_override(handle, c.policy, c.key.bytes, c.key.length, c.use), "policy", "key",
       "use")
CHANGE(limiter_set_network_override, "set_network_override",
       brim_set_network_override(handle, c.policy, c.network, c.use), "policy", "network", "use")
CHANGE(limiter_clear_override, "clear_override",
       brim_clear_override(handle, c.policy, c.key.bytes, c.key.length), "policy", "key")
CHANGE(limiter_clear_network_override, "clear_network_override",
       brim_clear_network_override(handle, c.policy, c.network), "policy", "network")
CHANGE(limiter_ban, "ban", brim_ban(handle, c.policy, c.key.bytes, c.key.length, c.ns), "policy",
       "key", "duration")
CHANGE(limiter_ban_network, "ban_network", brim_ban_network(handle, c.policy, c.network, c.ns),
       "policy", "network", "duration")
CHANGE(limiter_unban, "unban", brim_unban(handle, c.policy, c.key.bytes, c.key.length), "policy",
       "key")
CHANGE(limiter_unban_network, "unban_network", brim_unban_network(handle, c.policy, c.network),
       "policy", "network")

// ------------------------------------------------------------------------------------ the switch

PyObject* limiter_pause(PyObject* self, PyObject* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  int code = 0;
  WITHOUT_GIL(limiter, code, brim_pause(handle));
  return none(limiter->state, code);
}

PyObject* limiter_resume(PyObject* self, PyObject* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  int code = 0;
  WITHOUT_GIL(limiter, code, brim_resume(handle));
  return none(limiter->state, code);
}

SIGNATURE(kSweep, "sweep", 1, 1, "idle");

PyObject* limiter_sweep(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  PyObject* arg = NULL;
  int64_t idle = 0;
  if (!parse(&kSweep, args, count, names, &arg) || !ns_from(limiter->state, arg, "idle", &idle)) {
    return NULL;
  }
  int code = 0;
  uint64_t freed = 0;
  WITHOUT_GIL(limiter, code, brim_sweep(handle, idle, &freed));
  return code < 0 ? raise_last(limiter->state, code) : PyLong_FromUnsignedLongLong(freed);
}
