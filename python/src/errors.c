// SPDX-License-Identifier: MIT
// Exceptions, from brim.h's codes.
#include <stdarg.h>
#include <string.h>

#include "python/src/module.h"

static const struct {
  const char* name;
  const char* doc;
} kErrors[kErrorCount] = {
    {"brim._brim.Error",
     "A set-up or administrative call failed; a call that decides raises it only for wrong\n"
     "arguments and closed limiters. `name` is stable (\"segment_not_found\"), `code` is brim.h's\n"
     "(BRIM_E_...), str() says what happened."},
    {"brim._brim.InvalidArgument", "An argument is wrong: correct the call."},
    {"brim._brim.NotFound", "There is no segment, policy, override or file of that name."},
    {"brim._brim.AlreadyExists", "The name is taken, or means something else."},
    {"brim._brim.PermissionDenied", "The system refuses, or the owner is not trusted."},
    {"brim._brim.Unfit", "Not in this state: read-only, closed, another version, not this policy."},
    {"brim._brim.Busy", "Another process is at it: try again."},
    {"brim._brim.Full", "There is no room: memory, a table, a file system."},
    {"brim._brim.Damaged", "A segment or file is damaged."},
};

static int class_of(int code) {
  switch (code) {
    case BRIM_E_INVALID:
    case BRIM_E_STRUCT_SIZE:
      return kInvalidArgument;
    case BRIM_E_NOT_FOUND:
      return kNotFound;
    case BRIM_E_EXISTS:
      return kAlreadyExists;
    case BRIM_E_PERMISSION:
      return kPermissionDenied;
    case BRIM_E_UNFIT:
      return kUnfit;
    case BRIM_E_BUSY:
      return kBusy;
    case BRIM_E_FULL:
    case BRIM_E_NO_MEMORY:
      return kFull;
    case BRIM_E_DAMAGED:
      return kDamaged;
    default:
      return kError;
  }
}

// Steals both.
static bool set_attribute(PyObject* object, const char* name, PyObject* value) {
  const bool done = value != NULL && PyObject_SetAttrString(object, name, value) == 0;
  Py_XDECREF(value);
  return done;
}

// Steals the message.
static PyObject* raise(State* state, int code, PyObject* message) {
  if (message == NULL) return NULL;
  PyObject* type = state->errors[class_of(code)];
  PyObject* error = PyObject_CallFunctionObjArgs(type, message, NULL);
  if (error == NULL) {
    Py_DECREF(message);
    return NULL;
  }
  // What stands before the first colon, if it looks like a name.
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(message, &size);
  const size_t length = text != NULL ? strspn(text, "abcdefghijklmnopqrstuvwxyz_") : 0;
  if (text == NULL) PyErr_Clear();  // what a str of the caller's holds is no UTF-8
  const bool named = text != NULL && text[length] == ':';
  if (set_attribute(error, "name", PyUnicode_FromStringAndSize(text, named ? (int)length : 0)) &&
      set_attribute(error, "code", PyLong_FromLong(code))) {
    PyErr_SetObject(type, error);
  }
  Py_DECREF(error);
  Py_DECREF(message);
  return NULL;
}

PyObject* raise_last(State* state, int code) {
  const char* text = brim_last_error();
  if (*text == '\0') text = brim_strerror(code);
  return raise(state, code, PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"));
}

PyObject* raise_invalid(State* state, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PyObject* message = PyUnicode_FromFormatV(format, arguments);
  va_end(arguments);
  return raise(state, BRIM_E_INVALID, message);
}

PyObject* raise_closed(State* state, PyObject* name) {
  return raise(state, BRIM_E_UNFIT,
               PyUnicode_FromFormat("not_open: this handle of %R was closed", name));
}

bool add_errors(PyObject* module, State* state) {
  PyObject* const other[kErrorCount] = {
      [kError] = PyExc_Exception,
      [kInvalidArgument] = PyExc_ValueError,
      [kNotFound] = PyExc_LookupError,
      [kPermissionDenied] = PyExc_PermissionError,
  };
  for (int i = 0; i < kErrorCount; ++i) {
    PyObject* bases = i == kError        ? PyTuple_Pack(1, other[i])
                      : other[i] != NULL ? PyTuple_Pack(2, state->errors[kError], other[i])
                                         : PyTuple_Pack(1, state->errors[kError]);
    if (bases == NULL) return false;
    state->errors[i] = PyErr_NewExceptionWithDoc(kErrors[i].name, kErrors[i].doc, bases, NULL);
    Py_DECREF(bases);
    if (state->errors[i] == NULL ||
        PyModule_AddObjectRef(module, strrchr(kErrors[i].name, '.') + 1, state->errors[i]) < 0) {
      return false;
    }
  }
  // For an error that was made by hand.
  return set_attribute(state->errors[kError], "name", PyUnicode_FromString("")) &&
         set_attribute(state->errors[kError], "code", PyLong_FromLong(BRIM_E_INTERNAL));
}

bool import_errors(State* state) {
  PyObject* module = PyImport_ImportModule("brim._brim");
  for (int i = 0; module != NULL && i < kErrorCount; ++i) {
    state->errors[i] = PyObject_GetAttrString(module, strrchr(kErrors[i].name, '.') + 1);
    if (state->errors[i] == NULL) Py_CLEAR(module);
  }
  Py_XDECREF(module);
  return PyErr_Occurred() == NULL;
}
