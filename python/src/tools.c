// SPDX-License-Identifier: MIT
// What tools ask of a segment, from outside: brim/brim_inspect.h. All of it without the GIL, which
// the functions of Python that are told of keys and findings have.
#include "python/src/tools.h"

#include <stddef.h>
#include <string.h>

#include "brim/brim_inspect.h"
#include "python/src/open.h"
#include "python/src/rows.h"

// ----------------------------------------------------------------------------------------- info

static const char* const kHashes[] = {"default", "siphash", "xxh3", NULL};
static const char* const kFulls[] = {"default", "evict", "allow", "deny", NULL};
static const Field kInfoFields[] = {AT(brim_segment_info, name, kText),
                                    AT(brim_segment_info, path, kText),
                                    AT(brim_segment_info, uuid, kText),
                                    AT(brim_segment_info, layout_version, kInt),
                                    AT(brim_segment_info, size_bytes, kLong),
                                    AT(brim_segment_info, capacity, kLong),
                                    AT(brim_segment_info, slots, kLong),
                                    AT(brim_segment_info, probe_limit, kInt),
                                    AT(brim_segment_info, groups_in_use, kInt),
                                    AT(brim_segment_info, name_bytes, kInt),
                                    AT(brim_segment_info, max_policies, kInt),
                                    AT(brim_segment_info, mode, kInt),
                                    AT(brim_segment_info, owner_uid, kInt),
                                    AT(brim_segment_info, group_gid, kInt),
                                    AT(brim_segment_info, creator_pid, kInt),
                                    AT(brim_segment_info, created_wall_ns, kSigned),
                                    WORD(brim_segment_info, hash, kHashes),
                                    WORD(brim_segment_info, on_full, kFulls),
                                    AT(brim_segment_info, linked, kFlag),
                                    AT(brim_segment_info, paused, kFlag),
                                    AT(brim_segment_info, superseded, kFlag),
                                    AT(brim_segment_info, filling, kFlag),
                                    AT(brim_segment_info, generation, kLong),
                                    AT(brim_segment_info, snapshot_generation, kLong),
                                    AT(brim_segment_info, snapshot_age_ns, kSigned),
                                    AT(brim_segment_info, snapshot_duration_ns, kSigned),
                                    AT(brim_segment_info, snapshot_rows, kLong),
                                    AT(brim_segment_info, snapshot_failures, kLong),
                                    END};
static const Field kOccupancyFields[] = {
    AT(brim_occupancy, virgin, kLong),    AT(brim_occupancy, free, kLong),
    AT(brim_occupancy, live, kLong),      AT(brim_occupancy, idle, kLong),
    AT(brim_occupancy, tentative, kLong), END};
static const Field kPolicyFields[] = {
    AT(brim_policy_info, number, kInt), AT(brim_policy_info, name, kText),
    AT(brim_policy_info, text, kText), AT(brim_policy_info, factor_ppm, kInt), END};
static const Field kCounterFields[] = {AT(brim_counter, name, kText),
                                       AT(brim_counter, value, kLong),
                                       AT(brim_counter, description, kText), END};
static const Field kAttachedFields[] = {
    AT(brim_attached, pid, kInt), AT(brim_attached, attached_for_ns, kSigned),
    AT(brim_attached, same_namespace, kFlag), AT(brim_attached, alive, kFlag), END};
static const Field kOverrideFields[] = {
    AT(brim_override_info, policy, kText),           AT(brim_override_info, use, kText),
    AT(brim_override_info, network, kFlag),          AT(brim_override_info, ban, kFlag),
    BYTES(brim_override_info, "key", key, key_size), AT(brim_override_info, key_length, kLong),
    AT(brim_override_info, ends_in_ns, kSigned),     END};
static const Field kAuditFields[] = {
    AT(brim_audit_entry, sequence, kLong), AT(brim_audit_entry, wall_ns, kSigned),
    AT(brim_audit_entry, pid, kInt),       AT(brim_audit_entry, uid, kInt),
    AT(brim_audit_entry, what, kText),     END};

#define VISIT(function, type) \
  static int function(void* context, const type* values) { return keep_row(context, values); }
VISIT(visit_policy, brim_policy_info)
VISIT(visit_counter, brim_counter)
VISIT(visit_attached, brim_attached)
VISIT(visit_audit, brim_audit_entry)
VISIT(visit_override, brim_override_info)

#define ROWS(type, fields) \
  { (fields), sizeof(type), NULL, NULL, 0, false }
// The structs of one walk as a new list; NULL and an exception. `call` visits with &rows.
#define LIST(list, state, type, fields, call)                \
  do {                                                       \
    Rows rows = ROWS(type, fields);                          \
    int code = 0;                                            \
    Py_BEGIN_ALLOW_THREADS code = call;                      \
    Py_END_ALLOW_THREADS list = list_of(&rows, state, code); \
  } while (false)

// Each policy's row gets its counters.
static bool add_counters(State* state, brim_inspector* inspector, PyObject* policies) {
  const Py_ssize_t count = policies != NULL ? PyList_Size(policies) : 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* row = PyList_GetItem(policies, i);
    PyObject* name_object = PyDict_GetItemString(row, "name");
    if (name_object == NULL) {  // it is there, so it was the look that failed
      PyErr_NoMemory();
      return false;
    }
    const char* name = text_from(state, name_object, "name");
    PyObject* counters = NULL;
    if (name != NULL) {
      Rows rows = ROWS(brim_counter, kCounterFields);
      int code = 0;
      Py_BEGIN_ALLOW_THREADS code = brim_inspect_counters(inspector, name, visit_counter, &rows);
      Py_END_ALLOW_THREADS if (code == BRIM_E_NOT_FOUND) code = 0;  // removed meanwhile
      counters = list_of(&rows, state, code);
    }
    if (!put(row, "counters", counters)) return false;
  }
  return policies != NULL;
}

static bool add_lists(State* state, brim_inspector* inspector, PyObject* row) {
  PyObject* list = NULL;
  LIST(list, state, brim_policy_info, kPolicyFields,
       brim_inspect_policies(inspector, visit_policy, &rows));
  const bool counted = add_counters(state, inspector, list);
  if (!counted) {
    Py_XDECREF(list);
    return false;
  }
  if (!put(row, "policies", list)) return false;
  LIST(list, state, brim_counter, kCounterFields,
       brim_inspect_counters(inspector, NULL, visit_counter, &rows));
  if (!put(row, "counters", list)) return false;
  LIST(list, state, brim_attached, kAttachedFields,
       brim_inspect_attached(inspector, visit_attached, &rows));
  if (!put(row, "attached", list)) return false;
  LIST(list, state, brim_override_info, kOverrideFields,
       brim_inspect_overrides(inspector, visit_override, &rows));
  if (!put(row, "overrides", list)) return false;
  LIST(list, state, brim_audit_entry, kAuditFields,
       brim_inspect_audit(inspector, visit_audit, &rows));
  return put(row, "audit", list);
}

static PyObject* info_of(State* state, brim_inspector* inspector) {
  brim_segment_info info = {.struct_size = sizeof(info)};
  brim_occupancy occupancy = {.struct_size = sizeof(occupancy)};
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_inspect_info(inspector, &info);
  if (code >= 0) code = brim_inspect_occupancy(inspector, &occupancy);
  Py_END_ALLOW_THREADS if (code < 0) return raise_last(state, code);
  PyObject* row = row_of(&info, kInfoFields);
  if (row == NULL) return NULL;
  if (!put(row, "occupancy", row_of(&occupancy, kOccupancyFields)) ||
      !add_lists(state, inspector, row)) {
    Py_CLEAR(row);
  }
  return row;
}

static brim_inspector* inspect(State* state, PyObject* name_object, PyObject* const* trust) {
  brim_options options;
  const char* name = text_from(state, name_object, "name");
  if (name == NULL || !trust_from(state, trust, &options)) return NULL;
  brim_inspector* inspector = NULL;
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_inspect(name, &options, &inspector);
  Py_END_ALLOW_THREADS if (code < 0) raise_last(state, code);
  return code < 0 ? NULL : inspector;
}

static void inspect_end(brim_inspector* inspector) {
  Py_BEGIN_ALLOW_THREADS brim_inspect_end(inspector);
  Py_END_ALLOW_THREADS
}

SIGNATURE(kInfo, "info", 1, 1, "name", TRUST_NAMES);

PyObject* tool_info(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[4] = {NULL, NULL, NULL, NULL};
  if (!parse(&kInfo, args, count, names, arg)) return NULL;
  brim_inspector* inspector = inspect(state, arg[0], arg + 1);
  if (inspector == NULL) return NULL;
  PyObject* info = info_of(state, inspector);
  inspect_end(inspector);
  return info;
}

// ----------------------------------------------------------------------------------------- dump

static const char* const kStates[] = {"free", "live", "idle", "tentative", NULL};
static const Field kKeyFields[] = {
    BYTES(brim_key_info, "key", name, name_size),
    AT(brim_key_info, part, kByte),
    WORD(brim_key_info, state, kStates),
    AT(brim_key_info, slot, kLong),
    AT(brim_key_info, fingerprint, kLong),
    {"key_length", kLong, offsetof(brim_key_info, name_length), NULL, 0},
    AT(brim_key_info, retry_after_ns, kSigned),
    END};

typedef struct Key {
  brim_key_info info;  // its decision is the one here
  brim_decision decision;
} Key;

// The walk is left for Python after so many, and taken up again behind them.
enum { kKeysAtOnce = 256 };

static int visit_key(void* context, const brim_key_info* info) {
  Rows* const rows = context;
  const Key key = {*info, *info->decision};
  return keep_row(rows, &key) != 0 || rows->count == kKeysAtOnce;
}

// The policies' names by their numbers.
static PyObject* names_of(State* state, brim_inspector* inspector) {
  Rows rows = ROWS(brim_policy_info, kPolicyFields);
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_inspect_policies(inspector, visit_policy, &rows);
  Py_END_ALLOW_THREADS PyObject* names = kept(&rows, state, code) ? PyDict_New() : NULL;
  for (const Row* row = rows.first; names != NULL && row != NULL; row = row->next) {
    const brim_policy_info* policy = values_of(row);
    PyObject* number = PyLong_FromUnsignedLong(policy->number);
    PyObject* name =
        PyUnicode_DecodeUTF8(policy->name, (Py_ssize_t)strlen(policy->name), "replace");
    if (number == NULL || name == NULL || PyDict_SetItem(names, number, name) < 0) Py_CLEAR(names);
    Py_XDECREF(number);
    Py_XDECREF(name);
  }
  free_rows(&rows);
  return names;
}

// The name, or the number if the policy was removed.
static PyObject* name_of(PyObject* names, uint16_t number) {
  PyObject* key = PyLong_FromLong(number);
  if (key == NULL) return NULL;
  PyObject* name = PyDict_GetItemWithError(names, key);
  if (name == NULL) return key;
  Py_DECREF(key);
  return Py_NewRef(name);
}

static PyObject* key_row(State* state, const Key* key, PyObject* names) {
  PyObject* row = row_of(key, kKeyFields);
  if (row == NULL) return NULL;
  Decision* decision = new_decision(state);
  if (decision != NULL) decision->value = key->decision;
  if (!put(row, "decision", (PyObject*)decision) ||
      !put(row, "policy", name_of(names, key->info.policy))) {
    Py_CLEAR(row);
  }
  return row;
}

// Gives the row to the function, and steals it. 1 to go on, 0 if that is enough, -1 an exception.
static int give(PyObject* visit, PyObject* row) {
  PyObject* answer = row != NULL ? PyObject_CallFunctionObjArgs(visit, row, NULL) : NULL;
  Py_XDECREF(row);
  if (answer == NULL) return -1;
  const int more = !Py_IsFalse(answer);
  Py_DECREF(answer);
  return more;
}

// From the slot on; then it is the next one. 1 if there may be more, 0 at the end, -1 an exception.
static int dump_some(State* state, brim_inspector* inspector, PyObject* names, PyObject* visit,
                     uint64_t* slot) {
  Rows rows = ROWS(Key, kKeyFields);
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_inspect_keys_from(inspector, *slot, visit_key, &rows);
  Py_END_ALLOW_THREADS int more = kept(&rows, state, code) && PyErr_CheckSignals() == 0 ? 1 : -1;
  const size_t count = rows.count;
  for (const Row* row = rows.first; more > 0 && row != NULL; row = row->next) {
    const Key* key = values_of(row);
    *slot = key->info.slot + 1;
    more = give(visit, key_row(state, key, names));
  }
  free_rows(&rows);
  return more > 0 && count < kKeysAtOnce ? 0 : more;
}

SIGNATURE(kDump, "dump", 2, 2, "name", "visit", TRUST_NAMES);

PyObject* tool_dump(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[5] = {NULL, NULL, NULL, NULL, NULL};
  if (!parse(&kDump, args, count, names, arg)) return NULL;
  if (!PyCallable_Check(arg[1])) {
    PyErr_SetString(PyExc_TypeError, "visit must be callable");
    return NULL;
  }
  brim_inspector* inspector = inspect(state, arg[0], arg + 2);
  if (inspector == NULL) return NULL;
  PyObject* policies = names_of(state, inspector);
  uint64_t slot = 0;
  int more = policies != NULL ? 1 : -1;
  while (more > 0) more = dump_some(state, inspector, policies, arg[1], &slot);
  Py_XDECREF(policies);
  inspect_end(inspector);
  if (more < 0) return NULL;
  Py_RETURN_NONE;
}

// ---------------------------------------------------------------------------------------- others

static const Field kListedFields[] = {AT(brim_listed_segment, name, kText),
                                      AT(brim_listed_segment, message, kText),
                                      AT(brim_listed_segment, size_bytes, kLong),
                                      AT(brim_listed_segment, owner_uid, kInt),
                                      AT(brim_listed_segment, mode, kInt),
                                      AT(brim_listed_segment, created_wall_ns, kSigned),
                                      AT(brim_listed_segment, attached, kInt),
                                      AT(brim_listed_segment, attached_elsewhere, kInt),
                                      END};
VISIT(visit_listed, brim_listed_segment)

PyObject* tool_list_segments(PyObject* module, PyObject* unused) {
  (void)unused;
  State* state = PyModule_GetState(module);
  PyObject* list = NULL;
  LIST(list, state, brim_listed_segment, kListedFields, brim_list_segments(visit_listed, &rows));
  return list;
}

static const char* const kSeverities[] = {"", "note", "warning", "error", NULL};
static const Field kFindingFields[] = {WORD(brim_finding, severity, kSeverities),
                                       AT(brim_finding, part, kByte),
                                       AT(brim_finding, repaired, kFlag),
                                       AT(brim_finding, slot, kLong),
                                       AT(brim_finding, fingerprint, kLong),
                                       AT(brim_finding, name, kText),
                                       AT(brim_finding, policy, kText),
                                       AT(brim_finding, value, kText),
                                       AT(brim_finding, remedy, kText),
                                       BYTES(brim_finding, "key", key, key_size),
                                       END};
static const Field kVerifyFields[] = {AT(brim_verify_report, slots, kLong),
                                      AT(brim_verify_report, used, kLong),
                                      AT(brim_verify_report, tentative, kLong),
                                      AT(brim_verify_report, checked, kLong),
                                      AT(brim_verify_report, errors, kLong),
                                      AT(brim_verify_report, warnings, kLong),
                                      AT(brim_verify_report, notes, kLong),
                                      AT(brim_verify_report, repaired, kLong),
                                      AT(brim_verify_report, errors_remaining, kLong),
                                      AT(brim_verify_report, warnings_remaining, kLong),
                                      END};

VISIT(visit_finding, brim_finding)

// All of them, once the walk is over.
static bool give_findings(const Rows* rows, PyObject* visit) {
  int more = 1;
  for (const Row* each = rows->first; more > 0 && each != NULL; each = each->next) {
    const brim_finding* finding = values_of(each);
    PyObject* row = row_of(finding, kFindingFields);
    if (row != NULL && finding->slot == BRIM_NO_SLOT && !put(row, "slot", Py_NewRef(Py_None))) {
      Py_CLEAR(row);
    }
    more = give(visit, row);
  }
  return more >= 0;
}

SIGNATURE(kVerify, "verify", 1, 3, "name", "repair", "visit", TRUST_NAMES);

PyObject* tool_verify(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
  if (!parse(&kVerify, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "name");
  const int repair = arg[1] != NULL ? PyObject_IsTrue(arg[1]) : 0;
  brim_options trust;
  if (name == NULL || repair < 0 || !trust_from(state, arg + 3, &trust)) return NULL;
  const bool visited = arg[2] != NULL && arg[2] != Py_None;
  if (visited && !PyCallable_Check(arg[2])) {
    PyErr_SetString(PyExc_TypeError, "visit must be callable");
    return NULL;
  }
  const brim_verify_options options = {
      .struct_size = sizeof(options), .repair = (uint32_t)repair, .attach = &trust};
  brim_verify_report report = {.struct_size = sizeof(report)};
  Rows rows = ROWS(brim_finding, kFindingFields);
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code =
      brim_verify(name, &options, visited ? visit_finding : NULL, &rows, &report);
  Py_END_ALLOW_THREADS const bool done = kept(&rows, state, code) && give_findings(&rows, arg[2]);
  free_rows(&rows);
  return done ? row_of(&report, kVerifyFields) : NULL;
}

static const Field kResizeFields[] = {
    AT(brim_resize_report, finished_earlier, kInt), AT(brim_resize_report, keys, kLong),
    AT(brim_resize_report, slots_before, kLong),    AT(brim_resize_report, slots_after, kLong),
    AT(brim_resize_report, generation, kLong),      AT(brim_resize_report, evicted, kLong),
    AT(brim_resize_report, moving_ns, kSigned),     END};
SIGNATURE(kResize, "resize", 1, 1, "name", "capacity", "name_bytes", "max_policies",
          "cells_per_key", "overrides", "probe_limit", "cluster", TRUST_NAMES);

PyObject* tool_resize(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* arg[11] = {NULL};
  brim_options trust;
  if (!parse(&kResize, args, count, names, arg)) return NULL;
  const char* name = text_from(state, arg[0], "name");
  if (name == NULL || !trust_from(state, arg + 8, &trust)) return NULL;
  int64_t size[8] = {0};
  for (int i = 1; i < 8; ++i) {
    const int64_t most = i == 1 ? INT64_MAX : i == 7 ? 1 : UINT32_MAX;
    if (arg[i] != NULL && !count_from(state, arg[i], kResize_names[i], 0, most, &size[i]))
      return NULL;
  }
  const brim_resize_options options = {.struct_size = sizeof(options),
                                       .capacity = (uint64_t)size[1],
                                       .name_bytes = (uint32_t)size[2],
                                       .max_policies = (uint32_t)size[3],
                                       .cells_per_key = (uint32_t)size[4],
                                       .overrides = (uint32_t)size[5],
                                       .probe_limit = (uint32_t)size[6],
                                       .cluster = (uint32_t)size[7],
                                       .attach = &trust};
  brim_resize_report report = {.struct_size = sizeof(report)};
  int code = 0;
  Py_BEGIN_ALLOW_THREADS code = brim_resize(name, &options, &report);
  Py_END_ALLOW_THREADS return code < 0 ? raise_last(state, code) : row_of(&report, kResizeFields);
}
