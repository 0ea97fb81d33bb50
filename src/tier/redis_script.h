// SPDX-License-Identifier: MIT
// What the server does by itself, at one instant: scripts in Lua.
#ifndef BRIM_SRC_TIER_REDIS_SCRIPT_H_
#define BRIM_SRC_TIER_REDIS_SCRIPT_H_

#include <string>

namespace brim::tier {

struct Script {
  const char* source;
  std::string sha;  // 40 hexadecimal digits
};

// KEYS: a bucket of each rate, all in one slot.
// ARGV: cost, keep_ms, text, then of each rate: field (empty: tells nothing), floor, permit,
//       capacity, by debt (1, 0), units per us, total, acked.
// Answers: admitted, lost, and the level of each rate.
const Script& exchange_script();

// KEYS: the nodes. ARGV: uuid, name, us after which a node is forgotten, 1 to leave.
// Answers: of each node its uuid, its name and how many us ago it was seen.
const Script& meet_script();

// KEYS: the secret. ARGV: what it is if there is none. Answers it.
const Script& secret_script();

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_REDIS_SCRIPT_H_
