// SPDX-License-Identifier: MIT
// The type Limiter: one opening of a segment.
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "python/src/module.h"
#include "python/src/open.h"

static _Thread_local unsigned entered;  // calls of this thread, on whatever limiter

// A child has none of the calls that other threads of its parent were in. If the one that forked
// was in one, as the handler of a signal may be, it can not be said which are left: then it stays
// mapped.
static void count_own(Limiter* limiter) {
  const pid_t own = getpid();
  if (limiter->user != own && entered == 0) limiter->users = 0;
  limiter->user = own;
}

void stay(Limiter* limiter) {
  count_own(limiter);
  ++limiter->users;
  ++entered;
}

bool enter(Limiter* limiter) {
  if (!is_open(limiter)) return false;
  stay(limiter);
  return true;
}

static void unmap(Limiter* limiter) {
  brim_limiter* handle = limiter->handle;
  limiter->handle = NULL;
  if (handle == NULL) return;
  Py_BEGIN_ALLOW_THREADS brim_close(handle);
  Py_END_ALLOW_THREADS
}

void leave(Limiter* limiter) {
  --entered;
  if (--limiter->users == 0 && limiter->closed) unmap(limiter);
}

// ------------------------------------------------------------------------------------- openings

enum { kOpenOrCreate, kCreateNew, kAttach, kAttachReadOnly };

static int open_as(void* context, const char* name, const brim_options* options,
                   brim_limiter** limiter) {
  static int (*const kOpeners[])(const char*, const brim_options*, brim_limiter**) = {
      brim_open, brim_create, brim_attach, brim_attach_read_only};
  return kOpeners[*(const int*)context](name, options, limiter);
}

static PyObject* opened(PyObject* cls, PyTypeObject* defining, int how, PyObject* const* args,
                        Py_ssize_t count, PyObject* names) {
  State* state = PyType_GetModuleState(defining);
  PyTypeObject* type = (PyTypeObject*)cls;
  PyObject* trust = NULL;
  brim_limiter* handle =
      open_segment(state, how == kCreateNew, args, count, names, open_as, &how, &trust);
  if (handle == NULL) return NULL;
  const allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  Limiter* limiter = (Limiter*)allocate(type, 0);
  PyObject* name = PyUnicode_FromString(brim_name(handle));
  if (limiter == NULL || name == NULL) {
    brim_close(handle);
    Py_XDECREF((PyObject*)limiter);
    Py_XDECREF(name);
    Py_DECREF(trust);
    return NULL;
  }
  limiter->state = state;
  limiter->handle = handle;
  limiter->name = name;
  limiter->trust = trust;
  limiter->user = getpid();
  limiter->read_only = how == kAttachReadOnly;
  return (PyObject*)limiter;
}

#define OPENER(function, how)                                                             \
  static PyObject* function(PyObject* cls, PyTypeObject* defining, PyObject* const* args, \
                            Py_ssize_t count, PyObject* names) {                          \
    return opened(cls, defining, how, args, count, names);                                \
  }
OPENER(limiter_open, kOpenOrCreate)
OPENER(limiter_create, kCreateNew)
OPENER(limiter_attach, kAttach)
OPENER(limiter_attach_read_only, kAttachReadOnly)

static void limiter_dealloc(PyObject* self) {
  Limiter* limiter = (Limiter*)self;
  PyTypeObject* type = Py_TYPE(self);
  if (limiter->handle != NULL) brim_close(limiter->handle);
  Py_XDECREF(limiter->name);
  Py_XDECREF(limiter->trust);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

static PyObject* limiter_close(PyObject* self, PyObject* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  limiter->closed = true;
  count_own(limiter);
  if (limiter->users == 0) unmap(limiter);
  Py_RETURN_NONE;
}

static PyObject* limiter_enter(PyObject* self, PyObject* unused) {
  (void)unused;
  return is_open((Limiter*)self) ? Py_NewRef(self) : NULL;
}

static PyObject* limiter_exit(PyObject* self, PyObject* args) {
  (void)args;
  return limiter_close(self, NULL);
}

// A static method: the state comes by the defining class all the same.
static PyObject* limiter_unlink(PyObject* cls, PyTypeObject* defining, PyObject* const* args,
                                Py_ssize_t count, PyObject* names) {
  SIGNATURE(kUnlink, "unlink", 1, 1, "name");
  (void)cls;
  State* state = PyType_GetModuleState(defining);
  PyObject* arg = NULL;
  if (!parse(&kUnlink, args, count, names, &arg)) return NULL;
  const char* name = text_from(state, arg, "name");
  if (name == NULL) return NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_unlink(name);
  Py_END_ALLOW_THREADS if (code < 0) return raise_last(state, code);
  Py_RETURN_NONE;
}

// Other processes attach it, with the same options of trust. A segment that another one took the
// place of, or that is gone, is an error there, never a new segment.
static PyObject* limiter_reduce(PyObject* self, PyObject* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  if (!is_open(limiter)) return NULL;
  PyObject* module = PyImport_ImportModule("brim._brim");
  PyObject* function = module != NULL ? PyObject_GetAttrString(module, "_reattach") : NULL;
  Py_XDECREF(module);
  if (function == NULL) return NULL;
  return Py_BuildValue("(N(OsOO))", function, (PyObject*)Py_TYPE(self),
                       limiter->read_only ? "attach_read_only" : "attach", limiter->name,
                       limiter->trust);
}

// _reattach(cls, method, name, options)
PyObject* reattach(PyObject* module, PyObject* const* args, Py_ssize_t count) {
  (void)module;
  if (count != 4 || !PyUnicode_Check(args[1]) || !PyDict_Check(args[3])) {
    PyErr_SetString(PyExc_TypeError, "_reattach() is for pickle");
    return NULL;
  }
  PyObject* method = PyObject_GetAttr(args[0], args[1]);
  PyObject* tuple = method != NULL ? PyTuple_Pack(1, args[2]) : NULL;
  PyObject* limiter = tuple != NULL ? PyObject_Call(method, tuple, args[3]) : NULL;
  Py_XDECREF(tuple);
  Py_XDECREF(method);
  return limiter;
}

// ------------------------------------------------------------------------------------- policies

SIGNATURE(kPolicy, "policy", 1, 1, "name");

static PyObject* limiter_policy(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  PyObject* arg = NULL;
  if (!parse(&kPolicy, args, count, names, &arg)) return NULL;
  const char* name = text_from(limiter->state, arg, "name");
  if (name == NULL || !is_open(limiter)) return NULL;
  const brim_policy* policy = NULL;
  const int code = brim_policy_get(limiter->handle, name, &policy);
  return code < 0 ? raise_last(limiter->state, code) : new_policy(limiter, policy, arg);
}

SIGNATURE(kDefine, "define", 2, 2, "name", "text");

static PyObject* limiter_define(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                PyObject* names) {
  Limiter* limiter = (Limiter*)self;
  PyObject* arg[2] = {NULL, NULL};
  if (!parse(&kDefine, args, count, names, arg)) return NULL;
  const char* name = text_from(limiter->state, arg[0], "name");
  const char* text = name != NULL ? text_from(limiter->state, arg[1], "text") : NULL;
  if (text == NULL || !enter(limiter)) return NULL;
  const brim_policy* policy = NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_define(limiter->handle, name, text, &policy);
  Py_END_ALLOW_THREADS PyObject* result =
      code < 0 ? raise_last(limiter->state, code) : new_policy(limiter, policy, arg[0]);
  leave(limiter);
  return result;
}

// Names, each with its NUL, one after the other: no Python is run while brim calls back.
typedef struct Names {
  char* text;
  size_t size;
} Names;

static int add_name(void* context, const char* name) {
  Names* names = context;
  const size_t length = strlen(name) + 1;
  char* text = PyMem_Realloc(names->text, names->size + length);
  if (text == NULL) return 1;
  memcpy(text + names->size, name, length);
  names->text = text;
  names->size += length;
  return 0;
}

static PyObject* limiter_policy_names(PyObject* self, PyObject* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  if (!is_open(limiter)) return NULL;
  Names names = {NULL, 0};
  const int code = brim_policy_names(limiter->handle, add_name, &names);
  PyObject* list = code < 0 ? raise_last(limiter->state, code) : PyList_New(0);
  for (size_t at = 0; list != NULL && at < names.size; at += strlen(names.text + at) + 1) {
    PyObject* name = PyUnicode_FromString(names.text + at);
    if (name == NULL || PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  PyMem_Free(names.text);
  return list;
}

// ----------------------------------------------------------------------------------- attributes

static PyObject* get_linked(PyObject* self, void* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  return is_open(limiter) ? PyBool_FromLong(brim_linked(limiter->handle)) : NULL;
}

static PyObject* get_paused(PyObject* self, void* unused) {
  (void)unused;
  Limiter* limiter = (Limiter*)self;
  return is_open(limiter) ? PyBool_FromLong(brim_paused(limiter->handle)) : NULL;
}

static PyObject* limiter_repr(PyObject* self) {
  const Limiter* limiter = (Limiter*)self;
  return PyUnicode_FromFormat("<brim.Limiter %R%s>", limiter->name,
                              limiter->closed ? " closed" : "");
}

static PyMemberDef limiter_members[] = {
    {"name", T_OBJECT_EX, offsetof(Limiter, name), READONLY, "The segment's name, as given."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef limiter_getters[] = {
    {"linked", get_linked, NULL,
     "False once the name was removed, or leads to another segment: newcomers count apart then.\n"
     "One system call.",
     NULL},
    {"paused", get_paused, NULL, "True while every decision admits: see pause().", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

#include "python/src/limiter_methods.h"

static PyType_Slot limiter_slots[] = {
    {Py_tp_doc,
     "One opening of a segment, by Limiter.open(), create(), attach() or attach_read_only().\n\n"
     "Opening a name twice in a process shares one mapping. Safe in any thread, and in a child\n"
     "after fork(), which inherits it. Pickles by name: the other process attaches the segment.\n"
     "A context manager that closes it."},
    {Py_tp_dealloc, (void*)limiter_dealloc},
    {Py_tp_repr, (void*)limiter_repr},
    {Py_tp_methods, limiter_methods},
    {Py_tp_members, limiter_members},
    {Py_tp_getset, limiter_getters},
    {0, NULL}};
static PyType_Spec limiter_spec = {"brim._brim.Limiter", sizeof(Limiter), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                       Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
                                   limiter_slots};

bool add_limiter(PyObject* module, State* state) {
  state->limiter = add_type(module, &limiter_spec);
  return state->limiter != NULL;
}
