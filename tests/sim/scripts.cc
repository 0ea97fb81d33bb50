// SPDX-License-Identifier: MIT
#include "tests/sim/scripts.h"

#include "tests/sim/run.h"

namespace brim::sim {
namespace {

struct Entry {
  const char* name;
  Script script;
  Bounds bounds;
  bool large = false;
};

constexpr Rule kAcquire = Rule::kAcquire;
constexpr int64_t kSoon = 600;            // 's' is idle then, and a permit nearly flows back
constexpr int64_t kPermit = 1100;         // a permit flows back
constexpr int64_t kExpires = 1100000000;  // a tentative may be taken
const ScriptOp kFirst = {kAcquire, 0, 1};
const ScriptOp kSecond = {kAcquire, 1, 1};
const ScriptOp kRefunds = {Rule::kRefund, 0, 1};
const ScriptOp kResets = {Rule::kReset, 0, 1};

std::vector<Entry> entries() {
  return {
      {"insert, insert: one key", {"....", {{kFirst}, {kFirst}}}, {1, {kPermit}}},
      {"insert, insert: two slots open", {"LsLLf...", {{kFirst}, {kFirst}}, 2, 1, 1}, {1, {kSoon}}},
      {"insert twice each: two slots open",
       {"LsLLf...", {{kFirst, kFirst}, {kFirst, kFirst}}, 1, 1, 1},
       {1, {kSoon}},
       true},
      {"insert, insert: the last slot", {"LLfL", {{kFirst}, {kSecond}}}, {1, {kPermit}}},
      {"insert, insert: the last slot, again",
       {"LLfL", {{kFirst, kFirst}, {kSecond, kSecond}}},
       {1, {kPermit, kPermit}}},
      {"insert, insert: two keys, two slots",
       {"LsLLf...", {{kFirst, kSecond}, {kSecond}}, 2, 1, 1},
       {1, {kSoon}}},
      {"insert, its key comes and goes",
       {"LsLLf...", {{kFirst}, {kFirst, kSecond}}, 2, 1, 1},
       {1, {kSoon, kPermit}}},
      {"insert, update", {"L.LL", {{kFirst, kFirst}, {kFirst}}, 1, 2}, {1, {kPermit}}},
      {"update, update", {"LALL", {{kFirst, kFirst}, {kFirst, kFirst}}, 1, 3}, {1, {kPermit}}},
      {"insert, insert: dead tentative before", {"TLfL", {{kFirst}, {kFirst}}, 1}, {1, {kExpires}}},
      {"insert, insert: dead tentative after", {"sLLT", {{kFirst}, {kFirst}}, 1}, {1, {kSoon}}},
      {"insert, insert: dead tentative expires", {"LTLL", {{kFirst}, {kSecond}}}, {1, {kExpires}}},
      {"insert, insert: two dead tentatives", {"LTfT", {{kFirst}, {kFirst}}, 1}, {1, {kSoon}}},
      {"reclaim, its key returns", {"LLaL", {{kSecond}, {kFirst}}}, {1, {kPermit}}},
      {"reclaim, its key returns, twice",
       {"LLaL", {{kSecond, kFirst}, {kFirst, kSecond}}},
       {1, {kPermit, kPermit}},
       true},
      {"reclaim, its key becomes idle", {"LLAL", {{kSecond}, {kFirst}}}, {1, {kPermit, kPermit}}},
      {"eviction, update", {"LLAL", {{kSecond}, {kFirst}}, 2, 2, 0, true}, {1, {kSoon}}},
      {"eviction, eviction",
       {"LLAL", {{kSecond, kFirst}, {kFirst, kSecond}}, 2, 2, 0, true},
       {1, {kSoon}},
       true},
      {"eviction, its key returns",
       {"LLAL", {{kSecond, kFirst}, {kFirst}}, 2, 2, 0, true},
       {1, {kSoon}}},
      {"reach raise, one key", {"LLLLff..", {{kFirst}, {kFirst}}, 1}, {1, {kSoon}}},
      {"reach raise, a slot opens", {"LLsLff..", {{kFirst}, {kFirst}}, 1}, {1, {kSoon}}},
      {"reach raise, two keys", {"LLsLf...", {{kFirst, kSecond}, {kSecond}}}, {1, {kSoon}}},
      {"refund, update", {"LALL", {{kRefunds}, {kFirst, kFirst}}, 1, 2}, {1, {kPermit}}},
      {"reset, update", {"LALL", {{kResets}, {kFirst, kFirst}}, 1, 2}, {1, {kPermit}}},
      {"refund, insert", {"L.LL", {{kFirst, kRefunds}, {kFirst}}, 1, 1}, {1, {kPermit}}},
      {"reset, reclaim", {"LALL", {{kResets, kFirst}, {kSecond}}}, {1, {kPermit}}},
      {"three inserts of one key",
       {"LsLLf...", {{kFirst}, {kFirst}, {kFirst}}, 1, 1, 1},
       {1, {kSoon}},
       true},
      {"three keys, one slot",
       {"LLfL", {{kFirst}, {kSecond}, {{kAcquire, 2, 1}}}, 3},
       {1, {kExpires}},
       true},
      {"three calls, dead tentative after",
       {"sLfT", {{kFirst}, {kFirst}, {kSecond}}},
       {1, {kSoon}},
       true},
      {"insert thrice each: two slots open",
       {"LsfL", {{kFirst, kFirst, kFirst}, {kFirst, kFirst, kFirst}}, 1},
       {1, {kSoon, kPermit, kExpires}},
       true},
  };
}

}  // namespace

std::vector<Scenario> table_scenarios(const Weakness& weakness) {
  std::vector<Scenario> all;
  for (const Entry& entry : entries()) {
    all.push_back({entry.name, entry.bounds,
                   [script = entry.script, &weakness](Director& director) {
                     return run_script(script, weakness, director);
                   },
                   add_run_to, entry.large});
  }
  return all;
}

}  // namespace brim::sim
