// SPDX-License-Identifier: MIT
// Options of a segment, out of keyword arguments.
#ifndef BRIM_PYTHON_SRC_OPEN_H_
#define BRIM_PYTHON_SRC_OPEN_H_

#include "python/src/module.h"

typedef int Opener(void* context, const char* name, const brim_options* options,
                   brim_limiter** limiter);
// Calls the opener, without the GIL, with what Limiter.open() takes; args[0] is the name. NULL and
// an exception, or the handle; then *trust is a new dict of the options that another process needs
// to attach it.
brim_limiter* open_segment(State* state, bool may_replace, PyObject* const* args, Py_ssize_t count,
                           PyObject* names, Opener* opener, void* context, PyObject** trust);
// For tools: only whom to trust, from the arguments of these names. They may be NULL.
#define TRUST_NAMES "group", "owner_uid", "mode"
bool trust_from(State* state, PyObject* const* trust, brim_options* options);

#endif  // BRIM_PYTHON_SRC_OPEN_H_
