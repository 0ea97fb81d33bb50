// SPDX-License-Identifier: MIT
// Opening a segment: the keyword arguments of Limiter.open() and its kin to brim_options.
#include "python/src/open.h"

#include "python/src/module.h"

enum {
  kName,
  kPolicies,
  kCapacity,
  kNameBytes,
  kMaxPolicies,
  kCellsPerKey,
  kOverrides,
  kProbeLimit,
  kHash,
  kOnFull,
  kClock,
  kAcceptStored,
  kHugePages,
  kMode,
  kGroup,
  kOwnerUid,
  kCluster,
  kReplace,
  kArguments
};
#define OPTION_NAMES                                                                             \
  "name", "policies", "capacity", "name_bytes", "max_policies", "cells_per_key", "overrides",    \
      "probe_limit", "hash", "on_full", "clock", "accept_stored", "huge_pages", "mode", "group", \
      "owner_uid", "cluster"
SIGNATURE(kOpen, "open", 1, 1, OPTION_NAMES);
SIGNATURE(kCreate, "create", 1, 1, OPTION_NAMES, "replace");

static const char* const kHashes[] = {"default", "siphash", "xxh3", NULL};
static const char* const kFulls[] = {"default", "evict", "allow", "deny", NULL};
static const char* const kClocks[] = {"auto", "monotonic", NULL};

static bool number(State* state, PyObject* const* arg, int which, int64_t least, int64_t most,
                   int64_t* value) {
  *value = 0;
  if (arg[which] == NULL || arg[which] == Py_None) return true;
  return count_from(state, arg[which], kCreate_names[which], least, most, value);
}

static bool sizes_from(State* state, PyObject* const* arg, brim_options* options) {
  int64_t value = 0;
  if (!number(state, arg, kCapacity, 0, INT64_MAX, &value)) return false;
  options->capacity = (uint64_t)value;
  if (!number(state, arg, kNameBytes, 0, UINT32_MAX, &value)) return false;
  const bool given = arg[kNameBytes] != NULL && arg[kNameBytes] != Py_None;
  options->name_bytes = given && value == 0 ? BRIM_NO_NAMES : (uint32_t)value;
  const struct {
    int which;
    uint32_t* field;
  } rest[] = {{kMaxPolicies, &options->max_policies},
              {kCellsPerKey, &options->cells_per_key},
              {kOverrides, &options->overrides},
              {kProbeLimit, &options->probe_limit},
              {kMode, &options->mode},
              {kOwnerUid, &options->owner_uid}};
  for (int i = 0; i < COUNT(rest); ++i) {
    if (!number(state, arg, rest[i].which, 0, UINT32_MAX, &value)) return false;
    *rest[i].field = (uint32_t)value;
  }
  return true;
}

static bool flag(PyObject* object, uint8_t* value) {
  const int truth = object != NULL ? PyObject_IsTrue(object) : 0;
  *value = truth > 0;
  return truth >= 0;
}

static bool words_from(State* state, PyObject* const* arg, brim_options* options) {
  uint8_t cluster = 0;
  if (!flag(arg[kCluster], &cluster)) return false;
  options->cluster = cluster;
  if (arg[kGroup] != NULL && arg[kGroup] != Py_None) {
    options->group = text_from(state, arg[kGroup], "group");
    if (options->group == NULL) return false;
  }
  return (arg[kHash] == NULL || word_from(state, arg[kHash], "hash", kHashes, &options->hash)) &&
         (arg[kOnFull] == NULL ||
          word_from(state, arg[kOnFull], "on_full", kFulls, &options->on_full)) &&
         (arg[kClock] == NULL ||
          word_from(state, arg[kClock], "clock", kClocks, &options->clock)) &&
         flag(arg[kAcceptStored], &options->accept_stored) &&
         flag(arg[kHugePages], &options->huge_pages) && flag(arg[kReplace], &options->replace);
}

// Pairs of name and text out of the mapping's items, which hold the bytes.
static bool policies_from(State* state, PyObject* items, brim_options* options,
                          brim_named_policy** policies) {
  const Py_ssize_t count = PyList_Size(items);
  *policies = PyMem_Calloc((size_t)count + 1, sizeof(**policies));
  if (*policies == NULL) {
    PyErr_NoMemory();
    return false;
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* pair = PyList_GetItem(items, i);
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
      PyErr_SetString(PyExc_TypeError, "policies must map names to texts");
      return false;
    }
    brim_named_policy* policy = &(*policies)[i];
    policy->name = text_from(state, PyTuple_GetItem(pair, 0), "a policy's name");
    policy->text =
        policy->name == NULL ? NULL : text_from(state, PyTuple_GetItem(pair, 1), "a policy's text");
    if (policy->text == NULL) return false;
  }
  options->policies = *policies;
  options->policy_count = (size_t)count;
  return true;
}

static brim_limiter* open_with(State* state, PyObject* const* arg, PyObject* items, Opener* opener,
                               void* context) {
  brim_options options = BRIM_OPTIONS_INIT;
  brim_named_policy* policies = NULL;
  brim_limiter* handle = NULL;
  const char* name = text_from(state, arg[kName], "name");
  if (name != NULL && sizes_from(state, arg, &options) && words_from(state, arg, &options) &&
      (items == NULL || policies_from(state, items, &options, &policies))) {
    int code = 0;
    Py_BEGIN_ALLOW_THREADS code = opener(context, name, &options, &handle);
    Py_END_ALLOW_THREADS if (code < 0) {
      handle = NULL;
      raise_last(state, code);
    }
  }
  PyMem_Free(policies);
  return handle;
}

// What decides whether a segment of another user or group is trusted, and how it is read.
static PyObject* trust_of(PyObject* const* arg) {
  static const int kKept[] = {kClock, kAcceptStored, kMode, kGroup, kOwnerUid};
  PyObject* trust = PyDict_New();
  for (int i = 0; trust != NULL && i < COUNT(kKept); ++i) {
    const int which = kKept[i];
    if (arg[which] != NULL && PyDict_SetItemString(trust, kCreate_names[which], arg[which]) < 0) {
      Py_CLEAR(trust);
    }
  }
  return trust;
}

brim_limiter* open_segment(State* state, bool may_replace, PyObject* const* args, Py_ssize_t count,
                           PyObject* names, Opener* opener, void* context, PyObject** trust) {
  PyObject* arg[kArguments] = {NULL};
  if (!parse(may_replace ? &kCreate : &kOpen, args, count, names, arg)) return NULL;
  PyObject* items = NULL;
  if (arg[kPolicies] != NULL && arg[kPolicies] != Py_None) {
    items = PyMapping_Items(arg[kPolicies]);
    if (items == NULL) {
      if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_SetString(PyExc_TypeError, "policies must map names to texts");
      }
      return NULL;
    }
  }
  brim_limiter* handle = NULL;
  *trust = trust_of(arg);
  if (*trust != NULL) handle = open_with(state, arg, items, opener, context);
  if (handle == NULL) Py_CLEAR(*trust);
  Py_XDECREF(items);
  return handle;
}

bool trust_from(State* state, PyObject* const* trust, brim_options* options) {
  *options = (brim_options)BRIM_OPTIONS_INIT;
  if (trust[0] != NULL && trust[0] != Py_None) {
    options->group = text_from(state, trust[0], "group");
    if (options->group == NULL) return false;
  }
  uint32_t* const fields[] = {&options->owner_uid, &options->mode};
  static const char* const kNames[] = {"owner_uid", "mode"};
  for (int i = 0; i < COUNT(fields); ++i) {
    int64_t value = 0;
    if (trust[i + 1] != NULL && trust[i + 1] != Py_None &&
        !count_from(state, trust[i + 1], kNames[i], 0, UINT32_MAX, &value)) {
      return false;
    }
    *fields[i] = (uint32_t)value;
  }
  return true;
}
