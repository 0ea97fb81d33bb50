// SPDX-License-Identifier: MIT
#include "src/override_list.h"

#include "shm/names.h"
#include "src/overrides.h"

namespace brim {

using internal::Engine;

namespace {

// The text of the entry at `place`, if it is that entry's.
void read_text(const Engine& engine, uint64_t place, ListedOverride& entry) {
  const shm::OverrideText* const texts = engine.segment->override_texts();
  if (texts == nullptr) return;
  uint64_t unused = 0;
  const shm::NameEntry copy =
      shm::load_name(&texts[place].entry, shm::kOverrideTextBytes, entry.key, unused);
  if (copy.length != 0 &&
      override_check(engine, entry.hash.low, copy.length, entry.key) == copy.check) {
    entry.key_length = copy.length;
  } else {
    entry.key.clear();
  }
}

}  // namespace

uint64_t override_check(const Engine& engine, uint64_t low, uint64_t length,
                        std::string_view stored) noexcept {
  return name_check(engine.secret, low, length, 0, stored);
}

bool is_network(std::string_view text, Cidr& cidr) {
  if (text.find('/') == std::string_view::npos) return false;
  const absl::StatusOr<Cidr> parsed = parse_cidr(text);
  if (!parsed.ok() || cidr_text(*parsed).view() != text) return false;
  cidr = *parsed;
  return true;
}

std::vector<ListedOverride> list_overrides(const Engine& engine) {
  std::vector<ListedOverride> list;
  const int64_t now = engine.clock.now();
  engine.overrides.for_each([&](uint64_t place, shm::OverrideHash hash, const shm::Override& what) {
    if (shm::has_ended(what, shm::override_now(now))) return;
    ListedOverride entry;
    entry.hash = hash;
    entry.what = what;
    entry.policy = what.from == shm::kAnyPolicy ? "*" : engine.registry.name(what.from);
    entry.use = override_use(what, engine.registry.name(what.to));
    entry.ban = what.action == static_cast<uint8_t>(OverrideKind::kBan);
    if (entry.ban) entry.left_ns = override_left(what.end, now);
    if (entry.policy.empty() || entry.use.empty()) return;
    read_text(engine, place, entry);
    if (entry.key_length != 0 && entry.key.size() == entry.key_length) {
      const Hash128 whole = hash_key(engine.secret, entry.key);
      entry.hash = {whole.low, whole.high};
    }
    list.push_back(std::move(entry));
  });
  return list;
}

}  // namespace brim
