// SPDX-License-Identifier: MIT
// Handles of the C interface: one for each segment of a process, and for each of its policies.
#include <pthread.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "src/base/text.h"
#include "src/c_api.h"
#include "src/c_api_options.h"
#include "src/engine.h"

namespace brim {

namespace c_api {

namespace {

using internal::Engine;
using internal::EngineOf;

constexpr size_t kMostOpenings = 8;  // kept for each handle

// The handles that are open. The mutex is held across fork(), so a child finds it unlocked; nothing
// is called under it that takes another lock, so its order among the locks of a fork is no matter.
class Handles {
 public:
  static Handles& instance() {
    static Handles* const all = new Handles;  // lives as long as the process
    return *all;
  }

  std::unique_lock<std::mutex> hold() { return std::unique_lock<std::mutex>(mutex_); }

  // All REQUIRE: hold().
  std::vector<std::unique_ptr<brim_limiter>>& all() { return all_; }

  brim_limiter* opened_as(const std::string& key) {
    for (const auto& each : all_) {
      const auto& keys = each->opened_as;
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) return each.get();
    }
    return nullptr;
  }

 private:
  Handles() {
    pthread_atfork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                   [] { instance().mutex_.unlock(); });
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<brim_limiter>> all_;
};

using Open = absl::StatusOr<Limiter> (*)(std::string_view, const Options&);

// Everything that a call says, as bytes: an equal call has the same answer.
std::string call_key(const char* name, const brim_options& options, bool read_only) {
  brim_options plain = options;
  plain.group = nullptr;
  plain.policies = nullptr;
  std::string key(reinterpret_cast<const char*>(&plain), sizeof(plain));
  const auto add = [&](const char* text) { key.append(text, strlen(text) + 1); };
  key += read_only ? 'r' : 'w';
  add(name);
  add(options.group == nullptr ? "" : options.group);
  for (size_t i = 0; i < options.policy_count; ++i) {
    add(options.policies[i].name);
    add(options.policies[i].text);
  }
  return key;
}

void remember(brim_limiter& handle, std::string key) {
  if (handle.opened_as.size() == kMostOpenings) handle.opened_as.pop_front();
  handle.opened_as.push_back(std::move(key));
}

// The handle of an equal call, if the name still leads to its segment, and the call's policies are
// there.
brim_limiter* find_opened(const std::string& key, const brim_options& options) {
  brim_limiter* found = nullptr;
  {
    const auto hold = Handles::instance().hold();
    found = Handles::instance().opened_as(key);
    if (found == nullptr) return nullptr;
    ++found->openings;
  }
  const auto has = [&](const brim_named_policy& policy) {
    return EngineOf::of(found->limiter).current().registry.find(policy.name) >= 0;
  };
  if (found->limiter.linked() &&
      (found->read_only ||
       std::all_of(options.policies, options.policies + options.policy_count, has))) {
    return found;
  }
  {
    const auto hold = Handles::instance().hold();
    std::erase(found->opened_as, key);
  }
  brim_close(found);
  return nullptr;
}

bool same_clock(const brim_options& a, const brim_options& b) noexcept {
  return a.clock == b.clock && a.manual_clock_ns == b.manual_clock_ns;
}

// Handles that made no call since a resize learn of the new table. That takes locks of other parts.
void follow_resizes() {
  std::vector<brim_limiter*> behind;
  {
    const auto hold = Handles::instance().hold();
    behind.reserve(Handles::instance().all().size());
    for (const auto& each : Handles::instance().all()) {
      if (!EngineOf::of(each->limiter).furthest()->superseded()) continue;
      ++each->openings;
      behind.push_back(each.get());
    }
  }
  for (brim_limiter* const each : behind) {
    EngineOf::of(each->limiter).current();
    brim_close(each);
  }
}

// The handle that has the segment already, or a new one.
brim_limiter* handle_for(Limiter limiter, const brim_options& options, bool read_only,
                         std::string key) {
  // What may have to be allocated is, before anything is changed.
  auto fresh = std::make_unique<brim_limiter>();
  remember(*fresh, std::move(key));
  fresh->read_only = read_only;
  fresh->clock.clock = options.clock;
  fresh->clock.manual_clock_ns = options.manual_clock_ns;
  const shm::Segment* const segment = EngineOf::of(limiter).current().segment.get();
  fresh->limiter = std::move(limiter);
  follow_resizes();
  const auto hold = Handles::instance().hold();
  for (const auto& each : Handles::instance().all()) {
    const Engine& engine = EngineOf::of(each->limiter);
    if (each->read_only != read_only || !same_clock(each->clock, fresh->clock) ||
        (engine.segment.get() != segment && engine.furthest()->segment.get() != segment)) {
      continue;
    }
    if (each->opened_as.size() == kMostOpenings) each->opened_as.pop_front();
    each->opened_as.splice(each->opened_as.end(), fresh->opened_as);
    ++each->openings;
    return each.get();
  }
  Handles::instance().all().push_back(std::move(fresh));
  return Handles::instance().all().back().get();
}

int open_handle(Open open, bool reuse, bool read_only, const char* name,
                const brim_options* options, brim_limiter** limiter) noexcept {
  if (name == nullptr || limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] {
    Options asked;
    brim_options read = {};
    if (const int code = read_options(options, asked, read); code < 0) return code;
    std::string key = call_key(name, read, read_only);
    if (brim_limiter* const known = reuse ? find_opened(key, read) : nullptr; known != nullptr) {
      *limiter = known;
      return 0;
    }
    absl::StatusOr<Limiter> opened = open(name, asked);
    if (!opened.ok()) return fail(opened.status());
    *limiter = handle_for(*std::move(opened), read, read_only, std::move(key));
    return 0;
  });
}

// The one handle of this policy.
const brim_policy* policy_for(brim_limiter& limiter, PolicyHandle handle) {
  std::list<brim_policy> fresh;
  fresh.push_back({std::move(handle), &limiter});
  const auto hold = Handles::instance().hold();
  for (const brim_policy& each : limiter.policies) {
    if (each.handle.number() == fresh.front().handle.number()) return &each;
  }
  limiter.policies.splice(limiter.policies.begin(), fresh);
  return &limiter.policies.front();
}

int give_policy(brim_limiter& limiter, absl::StatusOr<PolicyHandle> found,
                const brim_policy** policy) {
  if (!found.ok()) return fail(found.status());
  *policy = policy_for(limiter, *std::move(found));
  return 0;
}

}  // namespace
}  // namespace c_api
}  // namespace brim

using brim::Limiter;
using namespace brim::c_api;

extern "C" {

int brim_open(const char* name, const brim_options* options, brim_limiter** limiter) {
  return open_handle(Limiter::open, true, false, name, options, limiter);
}

int brim_create(const char* name, const brim_options* options, brim_limiter** limiter) {
  return open_handle(Limiter::create, false, false, name, options, limiter);
}

int brim_attach(const char* name, const brim_options* options, brim_limiter** limiter) {
  return open_handle(Limiter::attach, true, false, name, options, limiter);
}

int brim_attach_read_only(const char* name, const brim_options* options, brim_limiter** limiter) {
  return open_handle(Limiter::attach_read_only, true, true, name, options, limiter);
}

void brim_close(brim_limiter* limiter) {
  if (limiter == nullptr) return;
  const brim::NoCancel whole;
  std::unique_ptr<brim_limiter> last;  // ends without the lock: unmapping takes another one
  const auto hold = Handles::instance().hold();
  if (--limiter->openings != 0) return;
  auto& all = Handles::instance().all();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.get() == limiter; });
  if (found == all.end()) return;
  last = std::move(*found);
  all.erase(found);
}

int brim_unlink(const char* name) {
  if (name == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] { return result(Limiter::unlink(name)); });
}

int brim_linked(const brim_limiter* limiter) {
  if (limiter == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] { return limiter->limiter.linked() ? 1 : 0; });
}

const char* brim_name(const brim_limiter* limiter) {
  return limiter == nullptr ? "" : limiter->limiter.name().c_str();
}

int brim_policy_get(brim_limiter* limiter, const char* name, const brim_policy** policy) {
  if (limiter == nullptr || name == nullptr || policy == nullptr) return fail(BRIM_E_INVALID);
  return guarded([&] { return give_policy(*limiter, limiter->limiter.policy(name), policy); });
}

int brim_define(brim_limiter* limiter, const char* name, const char* text,
                const brim_policy** policy) {
  if (limiter == nullptr || name == nullptr || text == nullptr || policy == nullptr) {
    return fail(BRIM_E_INVALID);
  }
  return guarded(
      [&] { return give_policy(*limiter, limiter->limiter.define(name, text), policy); });
}

}  // extern "C"
