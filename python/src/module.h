// SPDX-License-Identifier: MIT
// brim.h for Python, on the limited API of 3.11: one binary for every later CPython.
//
// The GIL guards what is here. What decides (decide.c) keeps it from its first line to its last:
// that takes less time than giving it up; only a call that asks other nodes' store does (strict.c).
// What may block (limiter.c, wait.c, admin.c) gives it up between enter() and leave(), which keep
// the segment mapped even if another thread closes it.
#ifndef BRIM_PYTHON_SRC_MODULE_H_
#define BRIM_PYTHON_SRC_MODULE_H_

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>
#include <sys/types.h>

#include "brim/brim.h"

// In the order of kErrors in errors.c.
enum {
  kError,
  kInvalidArgument,
  kNotFound,
  kAlreadyExists,
  kPermissionDenied,
  kUnfit,
  kBusy,
  kFull,
  kDamaged,
  kErrorCount
};

// What one interpreter has of the module. The types hold the module, so every object may use it.
typedef struct State {
  PyObject* errors[kErrorCount];
  PyTypeObject *decision, *ticket, *lease, *rate, *policy, *limiter;
  PyObject* aio_acquire;  // brim._aio.acquire, once somebody awaits
} State;

typedef struct Decision {
  PyObject_HEAD brim_decision value;
} Decision;

typedef struct Limiter {
  PyObject_HEAD State* state;
  brim_limiter* handle;  // NULL until opened, and when closed and unused
  PyObject* name;
  PyObject* trust;  // options for whoever attaches it after us: see limiter_reduce()
  unsigned users;   // calls that gave up the GIL
  pid_t user;       // the process that they are of
  bool closed;
  bool read_only;
} Limiter;

typedef struct Policy {
  PyObject_HEAD State* state;
  Limiter* limiter;
  const brim_policy* handle;  // valid while the limiter is open
  PyObject* name;
} Policy;

typedef struct Ticket {
  PyObject_HEAD Decision* decision;
  brim_ticket value;
} Ticket;

// errors.c. Each sets an exception and returns NULL.
bool add_errors(PyObject* module, State* state);
bool import_errors(State* state);              // for another module: those of brim._brim
PyObject* raise_last(State* state, int code);  // what brim_last_error() says
PyObject* raise_invalid(State* state, const char* format, ...);
PyObject* raise_closed(State* state, PyObject* name);

// arguments.c. Functions that return false have set an exception.
typedef struct Signature {
  const char* function;
  const char* const* names;
  int required;    // so many must be given
  int positional;  // so many may be given by position
  int count;       // of names
} Signature;
// The arguments into out[], which is all NULL; those left out stay so.
bool parse(const Signature* signature, PyObject* const* args, Py_ssize_t positional,
           PyObject* keywords, PyObject** out);
bool key_from(PyObject* object, brim_key* key);
// Valid as long as the object.
const char* text_from(State* state, PyObject* object, const char* what);
bool count_from(State* state, PyObject* object, const char* what, int64_t least, int64_t most,
                int64_t* count);
bool cost_from(State* state, PyObject* object, uint32_t* cost);  // NULL: left as it is
// Seconds to ns, rounded up; infinity is BRIM_NEVER.
bool ns_from(State* state, PyObject* object, const char* what, int64_t* ns);
// The place of a word among the words, or an error that names them.
bool word_from(State* state, PyObject* object, const char* what, const char* const* words,
               uint8_t* place);
PyObject* seconds_of(int64_t ns);

// values.c
bool add_values(PyObject* module, State* state);
Decision* new_decision(State* state);
PyObject* rates_of(State* state, const char* text, PyObject** canonical);
PyObject* parse_policy(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names);
PyObject* started(PyObject* module, PyObject* decision);

// rows.c: a type from its spec, held by the module.
PyTypeObject* add_type(PyObject* module, PyType_Spec* spec);

// policy.c, limiter.c, lease.c
bool add_policy(PyObject* module, State* state);
bool add_limiter(PyObject* module, State* state);
bool add_lease(PyObject* module, State* state);
PyObject* new_policy(Limiter* limiter, const brim_policy* handle, PyObject* name);
PyObject* reattach(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* acquire_lease(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names);

// True if the limiter is open; else an exception. Look after all arguments are read: reading them
// may run any code.
static inline bool is_open(const Limiter* limiter) {
  if (!limiter->closed) return true;
  raise_closed(limiter->state, limiter->name);
  return false;
}
// Around a call without the GIL.
bool enter(Limiter* limiter);
void leave(Limiter* limiter);
// The same for a limiter that is open.
void stay(Limiter* limiter);

// strict.c: around a call of brim.h that decides, after is_open().
#define THREAD_OWN __thread __attribute__((tls_model("initial-exec")))
extern THREAD_OWN Limiter* deciding;       // whose call it is; NULL: none
extern THREAD_OWN PyThreadState* without;  // it gave the GIL up
void take_back(Limiter* limiter);
static inline int decided(Limiter* limiter, int code) {
  deciding = NULL;
  if (without != NULL) take_back(limiter);
  return code;
}
#define DECIDE(limiter, call) (deciding = (limiter), decided((limiter), (call)))
PyObject* decide_by(PyObject* module, PyObject* const* args, Py_ssize_t count);

// decide.c and wait.c: methods.
typedef PyObject* Method(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names);
Method policy_try_acquire, policy_try_acquire_at, policy_try_acquire_up_to,
    policy_try_acquire_batch, policy_peek, policy_reserve, policy_cancel, policy_commit,
    policy_refund, policy_reset, limiter_try_acquire, limiter_try_acquire_all;
Method policy_wait, policy_acquire, limiter_wait, limiter_acquire;
// admin.c
Method limiter_change, limiter_set_factor, limiter_remove_policy, limiter_reset_policy,
    limiter_set_override, limiter_set_network_override, limiter_clear_override,
    limiter_clear_network_override, limiter_ban, limiter_ban_network, limiter_unban,
    limiter_unban_network, limiter_record, limiter_sweep;
PyObject* limiter_pause(PyObject* self, PyObject* unused);
PyObject* limiter_resume(PyObject* self, PyObject* unused);

#define FAST(name, function, doc) \
  { name, (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS, doc }
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define SIGNATURE(variable, function, required, positional, ...)                       \
  static const char* const variable##_names[] = {__VA_ARGS__};                         \
  static const Signature variable = {function, variable##_names, required, positional, \
                                     COUNT(variable##_names)}

#endif  // BRIM_PYTHON_SRC_MODULE_H_
