// SPDX-License-Identifier: MIT
// The functions of tools.c, for the module's table.
#ifndef BRIM_PYTHON_SRC_TOOLS_H_
#define BRIM_PYTHON_SRC_TOOLS_H_

#include "python/src/module.h"

Method tool_info, tool_dump, tool_verify, tool_resize;
PyObject* tool_list_segments(PyObject* module, PyObject* unused);

#endif  // BRIM_PYTHON_SRC_TOOLS_H_
