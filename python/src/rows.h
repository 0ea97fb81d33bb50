// SPDX-License-Identifier: MIT
// Structs of brim.h as dicts, by tables.
#ifndef BRIM_PYTHON_SRC_ROWS_H_
#define BRIM_PYTHON_SRC_ROWS_H_

#include <stddef.h>

#include "python/src/module.h"

typedef enum Kind { kEnd, kFlag, kByte, kShort, kInt, kLong, kSigned, kText, kBytes, kWord } Kind;
typedef struct Field {
  const char* name;
  Kind kind;
  size_t offset;
  const char* const* words;  // kWord: by the byte's value; NULL ends them
  size_t size;               // kBytes: the offset of a size_t
} Field;
#define AT(type, name, kind) \
  { #name, kind, offsetof(type, name), NULL, 0 }
#define WORD(type, name, words) \
  { #name, kWord, offsetof(type, name), words, 0 }
#define BYTES(type, key, name, size) \
  { key, kBytes, offsetof(type, name), NULL, offsetof(type, size) }
#define END \
  { NULL, kEnd, 0, NULL, 0 }
// A new dict, or NULL and an exception.
PyObject* row_of(const void* values, const Field* fields);
// Names and sentences are UTF-8 unless another process wrote something else there.
PyObject* text_of(const char* text);
// Steals the value; false and an exception, also if the value is NULL.
bool put(PyObject* row, const char* name, PyObject* value);

// The structs that one call of brim visits, copied with their texts. No visit runs Python: a thread
// that asks for the GIL when the interpreter has ended is unwound, which brim's frames do not bear.
typedef struct Row {
  struct Row* next;
  // The struct follows, then its texts.
} Row;
typedef struct Rows {
  const Field* fields;
  size_t size;  // of a struct
  Row *first, *last;
  size_t count;
  bool failed;  // no memory
} Rows;
// What a visit does: 0, or 1 if it shall be the last. Without the GIL.
int keep_row(Rows* rows, const void* values);
static inline const void* values_of(const Row* row) { return row + 1; }
// False and an exception if the call that visited did not go well; `code` is what it returned.
bool kept(const Rows* rows, State* state, int code);
// A new list of dicts, or NULL and an exception. Frees the rows, as free_rows() does.
PyObject* list_of(Rows* rows, State* state, int code);
void free_rows(Rows* rows);

#endif  // BRIM_PYTHON_SRC_ROWS_H_
