// SPDX-License-Identifier: MIT
// Decision, Ticket and Rate: what calls return. Nobody can change one, or make one by hand.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "python/src/module.h"

static void free_plain(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(type);
}

// ------------------------------------------------------------------------------------ Decision

Decision* new_decision(State* state) {
  Decision* decision = PyObject_New(Decision, state->decision);
  if (decision != NULL) decision->value = (brim_decision)BRIM_DECISION_INIT;
  return decision;
}

static const brim_decision* value_of(PyObject* self) { return &((Decision*)self)->value; }

static int decision_true(PyObject* self) { return value_of(self)->admitted; }

enum { kRetryAfter, kResetAfter, kDelay };

static PyObject* get_seconds(PyObject* self, void* which) {
  const brim_decision* value = value_of(self);
  return seconds_of(which == (void*)kRetryAfter   ? value->retry_after_ns
                    : which == (void*)kResetAfter ? value->reset_after_ns
                                                  : value->delay_ns);
}

static PyObject* decision_repr(PyObject* self) {
  const brim_decision* value = value_of(self);
  char text[320];
  snprintf(text, sizeof(text),
           "<brim.Decision %s remaining=%u retry_after_ns=%lld reset_after_ns=%lld delay_ns=%lld "
           "verdict=%u reason=%u part=%u granted=%u>",
           value->admitted ? "admitted" : "refused", value->remaining,
           (long long)value->retry_after_ns, (long long)value->reset_after_ns,
           (long long)value->delay_ns, value->verdict, value->reason, value->part, value->granted);
  return PyUnicode_FromString(text);
}

#define FIELD(field) (Py_ssize_t)(offsetof(Decision, value) + offsetof(brim_decision, field))
static PyMemberDef decision_members[] = {
    {"admitted", T_BOOL, FIELD(admitted), READONLY, "The request may pass."},
    {"remaining", T_UINT, FIELD(remaining), READONLY,
     "The largest cost that would pass right after this call."},
    {"retry_after_ns", T_LONGLONG, FIELD(retry_after_ns), READONLY,
     "ns; 0 if admitted, NEVER_NS if no wait will help."},
    {"reset_after_ns", T_LONGLONG, FIELD(reset_after_ns), READONLY,
     "ns until the key is as if never seen."},
    {"delay_ns", T_LONGLONG, FIELD(delay_ns), READONLY, "ns to wait before the start."},
    {"verdict", T_UBYTE, FIELD(verdict), READONLY, "A brim.Verdict."},
    {"reason", T_UBYTE, FIELD(reason), READONLY, "A brim.Reason."},
    {"part", T_UBYTE, FIELD(part), READONLY,
     "Which rate of the policy, or ask of the call, this is about."},
    {"granted", T_UINT, FIELD(granted), READONLY, "Permits taken."},
    {NULL, 0, 0, 0, NULL}};
#undef FIELD

static PyGetSetDef decision_getters[] = {
    {"retry_after", get_seconds, NULL,
     "Seconds after which the call would pass; 0.0 if admitted, inf if no wait will help.",
     (void*)kRetryAfter},
    {"reset_after", get_seconds, NULL, "Seconds until the key is as if never seen.",
     (void*)kResetAfter},
    {"delay", get_seconds, NULL, "Seconds to wait before the start, if admitted.", (void*)kDelay},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot decision_slots[] = {
    {Py_tp_doc, "The answer to one call; true if the request may pass. Immutable."},
    {Py_tp_dealloc, (void*)free_plain},
    {Py_tp_repr, (void*)decision_repr},
    {Py_nb_bool, (void*)decision_true},
    {Py_tp_members, decision_members},
    {Py_tp_getset, decision_getters},
    {0, NULL}};
static PyType_Spec decision_spec = {
    "brim._brim.Decision", sizeof(Decision), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    decision_slots};

// The same decision once its delay is over.
PyObject* started(PyObject* module, PyObject* decision) {
  State* state = PyModule_GetState(module);
  if (!Py_IS_TYPE(decision, state->decision)) {
    PyErr_SetString(PyExc_TypeError, "not a Decision");
    return NULL;
  }
  if (value_of(decision)->delay_ns == 0) return Py_NewRef(decision);
  Decision* copy = new_decision(state);
  if (copy == NULL) return NULL;
  copy->value = *value_of(decision);
  copy->value.delay_ns = 0;
  return (PyObject*)copy;
}

// -------------------------------------------------------------------------------------- Ticket

static void ticket_dealloc(PyObject* self) {
  Py_XDECREF((PyObject*)((Ticket*)self)->decision);
  free_plain(self);
}

static int ticket_true(PyObject* self) { return ((Ticket*)self)->decision->value.admitted; }

static PyMemberDef ticket_members[] = {
    {"decision", T_OBJECT_EX, offsetof(Ticket, decision), READONLY,
     "The answer; its delay says when to start."},
    {"cost", T_UINT, (Py_ssize_t)(offsetof(Ticket, value) + offsetof(brim_ticket, cost)), READONLY,
     "Permits booked."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot ticket_slots[] = {
    {Py_tp_doc, "A booking of Policy.reserve(); true if it was made. Start after decision.delay."},
    {Py_tp_dealloc, (void*)ticket_dealloc},
    {Py_nb_bool, (void*)ticket_true},
    {Py_tp_members, ticket_members},
    {0, NULL}};
static PyType_Spec ticket_spec = {
    "brim._brim.Ticket", sizeof(Ticket), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    ticket_slots};

// ---------------------------------------------------------------------------------------- Rate

typedef struct Rate {
  PyObject_HEAD brim_rate value;
} Rate;

static const char* const kAlgorithms[] = {"",
                                          "gcra",
                                          "token-bucket",
                                          "leaky-bucket",
                                          "queue",
                                          "fixed-window",
                                          "calendar-window",
                                          "sliding-log",
                                          "sliding-counter",
                                          "concurrency",
                                          "unlimited",
                                          "deny"};
static const char* const kCalendars[] = {"", "hour", "day", "week", "month", "year"};

static PyObject* get_algorithm(PyObject* self, void* unused) {
  (void)unused;
  const uint8_t algorithm = ((Rate*)self)->value.algorithm;
  return PyUnicode_FromString(algorithm < COUNT(kAlgorithms) ? kAlgorithms[algorithm] : "");
}

static PyObject* get_calendar(PyObject* self, void* unused) {
  (void)unused;
  const uint8_t calendar = ((Rate*)self)->value.calendar;
  return PyUnicode_FromString(calendar < COUNT(kCalendars) ? kCalendars[calendar] : "");
}

#define FIELD(field) (Py_ssize_t)(offsetof(Rate, value) + offsetof(brim_rate, field))
static PyMemberDef rate_members[] = {
    {"limit", T_UINT, FIELD(limit), READONLY, "Permits a period, or leases at once."},
    {"period_ns", T_LONGLONG, FIELD(period_ns), READONLY, "ns; of calendar windows 0."},
    {"burst", T_UINT, FIELD(burst), READONLY, "The most permits at one instant, from idle."},
    {"debt", T_UINT, FIELD(debt), READONLY, "Permits below zero that are let through."},
    {"utc_offset_s", T_INT, FIELD(utc_offset_s), READONLY, "Of calendar windows, in seconds."},
    {NULL, 0, 0, 0, NULL}};
#undef FIELD

static PyGetSetDef rate_getters[] = {
    {"algorithm", get_algorithm, NULL, "\"gcra\", \"token-bucket\", ...", NULL},
    {"calendar", get_calendar, NULL, "\"\", \"hour\", \"day\", \"week\", \"month\" or \"year\".",
     NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot rate_slots[] = {{Py_tp_doc, "One rate of a policy. Immutable."},
                                   {Py_tp_dealloc, (void*)free_plain},
                                   {Py_tp_members, rate_members},
                                   {Py_tp_getset, rate_getters},
                                   {0, NULL}};
static PyType_Spec rate_spec = {
    "brim._brim.Rate", sizeof(Rate), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, rate_slots};

PyObject* rates_of(State* state, const char* text, PyObject** canonical) {
  enum { kMost = 16 };  // more than a policy can have
  brim_rate rates[kMost];
  memset(rates, 0, sizeof(rates));
  for (int i = 0; i < kMost; ++i) rates[i].struct_size = sizeof(brim_rate);
  char buffer[4096];
  size_t length = 0;
  size_t count = 0;
  const int code = brim_parse_policy(text, buffer, sizeof(buffer), &length, rates, kMost, &count);
  if (code < 0) return raise_last(state, code);
  PyObject* tuple = PyTuple_New((Py_ssize_t)count);
  for (size_t i = 0; tuple != NULL && i < count; ++i) {
    Rate* rate = PyObject_New(Rate, state->rate);
    if (rate == NULL) {
      Py_DECREF(tuple);
      return NULL;
    }
    rate->value = rates[i];
    PyTuple_SetItem(tuple, (Py_ssize_t)i, (PyObject*)rate);
  }
  if (tuple != NULL && canonical != NULL) {
    *canonical = PyUnicode_FromStringAndSize(buffer, (Py_ssize_t)length);
    if (*canonical == NULL) Py_CLEAR(tuple);
  }
  return tuple;
}

SIGNATURE(kParsePolicy, "parse_policy", 1, 1, "text");

PyObject* parse_policy(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  State* state = PyModule_GetState(module);
  PyObject* text_object = NULL;
  if (!parse(&kParsePolicy, args, count, names, &text_object)) return NULL;
  const char* text = text_from(state, text_object, "text");
  if (text == NULL) return NULL;
  PyObject* canonical = NULL;
  PyObject* rates = rates_of(state, text, &canonical);
  return rates != NULL ? Py_BuildValue("(NN)", canonical, rates) : NULL;
}

bool add_values(PyObject* module, State* state) {
  state->decision = add_type(module, &decision_spec);
  state->ticket = add_type(module, &ticket_spec);
  state->rate = add_type(module, &rate_spec);
  return state->decision != NULL && state->ticket != NULL && state->rate != NULL;
}
