// SPDX-License-Identifier: MIT
#include "python/src/rows.h"

#include <stdlib.h>
#include <string.h>

PyObject* text_of(const char* text) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject* value_of(const char* at, const Field* field) {
  switch (field->kind) {
    case kFlag:
      return PyBool_FromLong(*(const uint8_t*)at);
    case kByte:
      return PyLong_FromLong(*(const uint8_t*)at);
    case kShort:
      return PyLong_FromLong(*(const uint16_t*)(const void*)at);
    case kInt:
      return PyLong_FromUnsignedLong(*(const uint32_t*)(const void*)at);
    case kLong:
      return PyLong_FromUnsignedLongLong(*(const uint64_t*)(const void*)at);
    case kSigned:
      return PyLong_FromLongLong(*(const int64_t*)(const void*)at);
    case kText:
      return text_of(*(const char* const*)(const void*)at);
    case kBytes: {
      const char* bytes = *(const char* const*)(const void*)at;
      const size_t size = *(const size_t*)(const void*)(at - field->offset + field->size);
      if (bytes == NULL) return Py_NewRef(Py_None);
      return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
    }
    case kWord:
      for (uint8_t i = 0; field->words[i] != NULL; ++i) {
        if (i == *(const uint8_t*)at) return PyUnicode_FromString(field->words[i]);
      }
      return PyUnicode_FromString("unknown");
    case kEnd:
      break;
  }
  return NULL;
}

bool put(PyObject* row, const char* name, PyObject* value) {
  const bool done = value != NULL && PyDict_SetItemString(row, name, value) == 0;
  Py_XDECREF(value);
  return done;
}

PyObject* row_of(const void* values, const Field* fields) {
  PyObject* row = PyDict_New();
  for (const Field* field = fields; row != NULL && field->kind != kEnd; ++field) {
    if (!put(row, field->name, value_of((const char*)values + field->offset, field))) {
      Py_CLEAR(row);
    }
  }
  return row;
}

// Where the struct points to, and how much is there.
static const char** pointer_in(char* values, const Field* field) {
  return (const char**)(void*)(values + field->offset);
}

static size_t size_in(char* values, const Field* field) {
  const char* text = NULL;
  if (field->kind == kText || field->kind == kBytes) text = *pointer_in(values, field);
  if (text == NULL) return 0;
  return field->kind == kText ? strlen(text) + 1
                              : *(const size_t*)(const void*)(values + field->size);
}

int keep_row(Rows* rows, const void* values) {
  char* const given = (char*)values;  // NOLINT: it is only read
  size_t size = sizeof(Row) + rows->size;
  for (const Field* field = rows->fields; field->kind != kEnd; ++field) {
    size += size_in(given, field);
  }
  Row* row = malloc(size);
  rows->failed = row == NULL;
  if (row == NULL) return 1;
  row->next = NULL;
  char* const copy = (char*)(row + 1);
  memcpy(copy, values, rows->size);
  char* text = copy + rows->size;
  for (const Field* field = rows->fields; field->kind != kEnd; ++field) {
    const size_t length = size_in(copy, field);
    if (length == 0) continue;
    const char** const pointer = pointer_in(copy, field);
    memcpy(text, *pointer, length);
    *pointer = text;
    text += length;
  }
  if (rows->last == NULL) rows->first = row;
  if (rows->last != NULL) rows->last->next = row;
  rows->last = row;
  ++rows->count;
  return 0;
}

bool kept(const Rows* rows, State* state, int code) {
  if (rows->failed) {
    PyErr_NoMemory();
  } else if (code < 0) {
    raise_last(state, code);
  }
  return !rows->failed && code >= 0;
}

PyObject* list_of(Rows* rows, State* state, int code) {
  PyObject* list = kept(rows, state, code) ? PyList_New(0) : NULL;
  for (const Row* row = rows->first; list != NULL && row != NULL; row = row->next) {
    PyObject* dict = row_of(values_of(row), rows->fields);
    if (dict == NULL || PyList_Append(list, dict) < 0) Py_CLEAR(list);
    Py_XDECREF(dict);
  }
  free_rows(rows);
  return list;
}

void free_rows(Rows* rows) {
  while (rows->first != NULL) {
    Row* const row = rows->first;
    rows->first = row->next;
    free(row);
  }
  rows->last = NULL;
  rows->count = 0;
}

PyTypeObject* add_type(PyObject* module, PyType_Spec* spec) {
  PyTypeObject* type = (PyTypeObject*)PyType_FromModuleAndSpec(module, spec, NULL);
  if (type != NULL && PyModule_AddType(module, type) < 0) Py_CLEAR(type);
  return type;
}
