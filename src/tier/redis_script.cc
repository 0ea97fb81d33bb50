// SPDX-License-Identifier: MIT
#include "src/tier/redis_script.h"

#include <openssl/evp.h>
#include <string.h>

#include "src/base/text.h"

namespace brim::tier {

namespace {

// Numbers are doubles: all levels are whole and at most 2^52, and so are microseconds since 1970.
// Written with %.0f, as Lua's own way to text keeps 14 digits only.
//
// All is read before anything is written: a script that fails has changed nothing.
//
// What has drained is whole too: `at` moves on by just the time that it took, so that a fraction
// of a unit is not lost however often somebody looks. A clock that stepped back (another master)
// drains nothing for a second, or until it is there again if that is sooner.
//
// Fields of a bucket: l its level, at when it had it, p its units of a permit, s the number
// of its last change, k the key's text, UUID.NONCE what was told. Cells come and go, and a busy
// bucket stays: beyond 1000 fields all that was told is dropped, and each node's next total heals
// it.
constexpr char kExchange[] = R"lua(
local kMost, kTold = 4503599627370496, 1099511627776
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, keep, text = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local lost, fits, rates = 0, cost > 0, {}

local function number(value, most)
  value = tonumber(value)
  if value and value >= 0 and value <= most then return math.floor(value) end
end

-- As many permits as before, rounded up: where the product is not exact, by a little more.
local function rescaled(level, before, permit)
  if not before or before == permit or before == 0 then return level end
  local product = level * permit
  local slack = product < 2 ^ 53 and 1 or 1 + 2 ^ -51
  return math.min(kMost, math.ceil(product / before * slack))
end

for i = 1, #KEYS do
  local a = 8 * i - 4
  local r = {field = ARGV[a], permit = tonumber(ARGV[a + 2]), speed = tonumber(ARGV[a + 5]),
             total = tonumber(ARGV[a + 6]), at = now}
  local floor, acked = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 7])
  local found = redis.call('HMGET', KEYS[i], 'l', 'at', r.field, 'p', 's')
  local level, at = number(found[1], kMost), number(found[2], kMost)
  local told = r.field ~= '' and number(found[3], kTold - 1) or nil
  r.fresh = r.field ~= '' and not told
  r.before, r.changes = now, now + 1  -- it begins: as no other did
  if not level or not at then
    level = floor
    if acked ~= 0 then lost = 1 end
  else
    level, at = rescaled(level, number(found[4], kMost), r.permit), math.min(at, now + 1000000)
    r.before = number(found[5], kMost - 2) or now
    r.changes = r.before
    local drained = math.floor(math.max(0, now - at) * r.speed)
    if drained < level then
      level, r.at = level - drained, at + drained / r.speed
    else
      level, r.at = 0, math.max(now, at)
    end
    if r.field ~= '' then
      local more = (r.total - (told or acked)) % kTold
      if more >= kTold / 2 then more = more - kTold end
      if more ~= 0 then r.changes = r.changes + 1 end
      level = math.min(kMost, level + more * r.permit)
      local least = 0
      if not told and acked ~= 0 then least, lost = floor, 1 end
      if level <= least then level, r.at = least, math.max(now, at) end
    end
  end
  local owed = cost * r.permit
  if ARGV[a + 4] == '1' then owed = 0 end
  fits = fits and level + owed <= tonumber(ARGV[a + 3])
  r.level = level
  rates[i] = r
end

local answer = {fits and 1 or 0, lost}
for i, r in ipairs(rates) do
  if fits then
    r.level, r.changes = math.min(kMost, r.level + cost * r.permit), r.changes + 1
  end
  if r.fresh and redis.call('HLEN', KEYS[i]) >= 1000 then
    for _, name in ipairs(redis.call('HKEYS', KEYS[i])) do
      if string.find(name, '.', 1, true) then redis.call('HDEL', KEYS[i], name) end
    end
  end
  local fields = {'l', string.format('%.0f', r.level), 'at', string.format('%.0f', r.at),
                  'p', string.format('%.0f', r.permit), 's', string.format('%.0f', r.changes)}
  if r.field ~= '' then
    fields[#fields + 1] = r.field
    fields[#fields + 1] = string.format('%.0f', r.total)
  end
  if text ~= '' then
    fields[#fields + 1] = 'k'
    fields[#fields + 1] = text
  end
  redis.call('HSET', KEYS[i], unpack(fields))
  local ms = math.min(kMost, math.ceil(r.level / r.speed / 1000) + keep)
  redis.call('PEXPIRE', KEYS[i], string.format('%.0f', ms))
  answer[i + 2] = r.level
end
answer[#answer + 1] = rates[1].before
answer[#answer + 1] = rates[1].changes
return answer
)lua";

constexpr char kMeet[] = R"lua(
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local uuid, name, keep = ARGV[1], ARGV[2], tonumber(ARGV[3])
local nodes, gone = {}, {}
if ARGV[4] == '1' then
  gone[1] = uuid
else
  nodes[1] = {uuid, name, 0}
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen, called = string.match(all[i + 1], '^(%d+) (.*)$')
  local ago = math.max(0, now - (tonumber(seen) or 0))
  if ago > keep then
    gone[#gone + 1] = all[i]
  elseif all[i] ~= uuid and #nodes < 1000 then
    nodes[#nodes + 1] = {all[i], called, ago}
  end
end
for _, old in ipairs(gone) do
  redis.call('HDEL', KEYS[1], old)
end
if ARGV[4] ~= '1' then
  redis.call('HSET', KEYS[1], uuid, string.format('%.0f ', now) .. name)
  local ms = math.min(4503599627370496, 2 * math.ceil(keep / 1000) + 86400000)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ms))
end
local answer = {}
for _, node in ipairs(nodes) do
  answer[#answer + 1] = node[1]
  answer[#answer + 1] = node[2]
  answer[#answer + 1] = node[3]
end
return answer
)lua";

constexpr char kSecret[] = R"lua(
local there = redis.call('GET', KEYS[1])
if there and string.match(there, '^%x+$') and #there == 32 then return there end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
)lua";

Script make(const char* source) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  // Where SHA-1 is forbidden the name stays empty: no server knows it, and the source is sent.
  if (EVP_Digest(source, strlen(source), digest, &size, EVP_sha1(), nullptr) != 1) size = 0;
  return {source, hex_bytes(digest, size)};
}

}  // namespace

const Script& exchange_script() {
  static const Script script = make(kExchange);
  return script;
}

const Script& meet_script() {
  static const Script script = make(kMeet);
  return script;
}

const Script& secret_script() {
  static const Script script = make(kSecret);
  return script;
}

}  // namespace brim::tier
