// SPDX-License-Identifier: MIT
// Arguments of Python to those of brim.h. By hand: a generic parser costs more than a decision.
#include <math.h>
#include <string.h>

#include "python/src/module.h"

static int place_of(const Signature* signature, PyObject* name) {
  for (int i = 0; i < signature->count; ++i) {
    if (PyUnicode_CompareWithASCIIString(name, signature->names[i]) == 0) return i;
  }
  return -1;
}

bool parse(const Signature* signature, PyObject* const* args, Py_ssize_t positional,
           PyObject* keywords, PyObject** out) {
  const char* function = signature->function;
  if (positional > signature->positional) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                 function, signature->positional, positional);
    return false;
  }
  for (Py_ssize_t i = 0; i < positional; ++i) out[i] = args[i];
  const Py_ssize_t named = keywords != NULL ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GetItem(keywords, i);
    const int place = place_of(signature, name);
    if (place < 0) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function, name);
      return false;
    }
    if (out[place] != NULL) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument %R", function, name);
      return false;
    }
    out[place] = args[positional + i];
  }
  for (int i = 0; i < signature->required; ++i) {
    if (out[i] != NULL) continue;
    PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", function,
                 signature->names[i]);
    return false;
  }
  return true;
}

bool key_from(PyObject* object, brim_key* key) {
  Py_ssize_t size = 0;
  if (PyUnicode_Check(object)) {
    // The string's own bytes if it is ASCII, else a copy that stays with it. A lone surrogate is a
    // UnicodeEncodeError: two keys must not become one.
    key->bytes = PyUnicode_AsUTF8AndSize(object, &size);
    if (key->bytes == NULL) return false;
  } else if (PyBytes_Check(object)) {
    char* bytes = NULL;
    if (PyBytes_AsStringAndSize(object, &bytes, &size) < 0) return false;
    key->bytes = bytes;
  } else {
    PyErr_Format(PyExc_TypeError, "a key must be str or bytes, not %R", (PyObject*)Py_TYPE(object));
    return false;
  }
  key->length = (size_t)size;
  return true;
}

const char* text_from(State* state, PyObject* object, const char* what) {
  if (!PyUnicode_Check(object)) {
    PyErr_Format(PyExc_TypeError, "%s must be str, not %R", what, (PyObject*)Py_TYPE(object));
    return NULL;
  }
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text != NULL && strlen(text) != (size_t)size) {
    raise_invalid(state, "invalid_argument: %s holds a zero byte", what);
    return NULL;
  }
  return text;
}

bool count_from(State* state, PyObject* object, const char* what, int64_t least, int64_t most,
                int64_t* count) {
  int overflow = 0;
  long long value = 0;
  if (PyLong_Check(object)) {
    value = PyLong_AsLongLongAndOverflow(object, &overflow);
  } else {
    PyObject* index = PyNumber_Index(object);
    if (index == NULL) {
      if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "%s must be int, not %R", what, (PyObject*)Py_TYPE(object));
      }
      return false;
    }
    value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
  }
  if (overflow != 0 || value < least || value > most) {
    raise_invalid(state, "invalid_argument: %s must be %lld to %lld", what, (long long)least,
                  (long long)most);
    return false;
  }
  *count = value;
  return true;
}

bool cost_from(State* state, PyObject* object, uint32_t* cost) {
  if (object == NULL) return true;
  int64_t value = 0;
  if (!count_from(state, object, "cost", 0, BRIM_MAX_COST, &value)) return false;
  *cost = (uint32_t)value;
  return true;
}

bool ns_from(State* state, PyObject* object, const char* what, int64_t* ns) {
  const double seconds = PyFloat_AsDouble(object);
  if (seconds == -1.0 && PyErr_Occurred() != NULL) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {  // an int beyond any float
      PyErr_Clear();
      raise_invalid(state, "invalid_argument: %s is too large a number", what);
    } else if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Format(PyExc_TypeError, "%s must be seconds, not %R", what, (PyObject*)Py_TYPE(object));
    }
    return false;
  }
  if (!(seconds >= 0)) {
    raise_invalid(state, "invalid_argument: %s must be 0 seconds or more", what);
    return false;
  }
  const double value = ceil(seconds * 1e9);
  *ns = value < 9223372036854775807.0 ? (int64_t)value : BRIM_NEVER;
  return true;
}

bool word_from(State* state, PyObject* object, const char* what, const char* const* words,
               uint8_t* place) {
  const char* text = text_from(state, object, what);
  if (text == NULL) return false;
  char known[128] = "";
  for (uint8_t i = 0; words[i] != NULL; ++i) {
    if (strcmp(words[i], text) == 0) {
      *place = i;
      return true;
    }
    if (i > 0) strncat(known, ", ", sizeof(known) - strlen(known) - 1);
    strncat(known, words[i], sizeof(known) - strlen(known) - 1);
  }
  raise_invalid(state, "invalid_argument: %s is one of %s, not %R", what, known, object);
  return false;
}

PyObject* seconds_of(int64_t ns) {
  return PyFloat_FromDouble(ns == BRIM_NEVER ? HUGE_VAL : (double)ns / 1e9);
}
