// SPDX-License-Identifier: MIT
#include "tests/sim/cells_ghost.h"

#include <algorithm>

#include "src/base/word.h"

namespace brim::sim::cells {
namespace {

using ull = unsigned long long;  // for printf
constexpr uint64_t kTop = uint64_t{1} << 63;

uint64_t clock_now() { return static_cast<uint64_t>(world.clock()); }

}  // namespace

void Ghost::reset(const Config& config) {
  config_ = config;
  for (shm::AtomicSlot& slot : memory_.slots) slot = {};
  std::fill(std::begin(memory_.cells), std::end(memory_.cells), 0);
  // Relaxed: nothing runs yet.
  memory_.reach.store(config.groups - 1, std::memory_order_relaxed);
  changed_ = new_seen_ = false;
  dead_ = 0;
  event_ = 1;
  calls_ = units_ = leases_ = 0;
  std::fill(std::begin(current_), std::end(current_), kNone);
  std::fill(std::begin(cell_fence_), std::end(cell_fence_), 0);
  std::fill(std::begin(key_fence_), std::end(key_fence_), 0);
}

void Ghost::add_to(Digest& digest) const {
  digest.add(memory_.slots);
  digest.add(memory_.cells);
  digest.add(changed_);
  digest.add(new_seen_);
  digest.add(dead_);
  digest.add(event_);
  digest.add(calls_);
  digest.add(current_);
  digest.add(cell_fence_);
  digest.add(key_fence_);
  digest.add(unit_, units_);
  digest.add(lease_, leases_);
}

void Ghost::begin(Call& call, Action action, uint32_t key, uint32_t cost) {
  call = Call{};
  call.action = action;
  call.key = key;
  call.cost = cost;
  call.id = id(key);
  call.begin = event_;
  call.number = calls_++;
  call.version = changed_ ? 1 : 0;
  const auto kind = static_cast<uint32_t>(config_.kind[key]);
  if (kind < 2) call.limit = config_.limit[kind][call.version];
  new_seen_ = new_seen_ || changed_;
  ++stats_.calls;
}

void Ghost::on_slot(uint32_t slot, const shm::Slot& old, const shm::Slot& now) {
  if (is_tentative(old.word) || old.id <= shm::kFreeId) return;
  const uint16_t policy = shm::id_policy(old.id);
  if (old.id == now.id) {
    if (policy < 2 && now.word < old.word) world.fail("idle_at of slot %u was lowered", slot);
    return;
  }
  ++stats_.takeovers;
  if (policy < 2 && old.word > clock_now()) world.fail("slot %u was live and was taken", slot);
}

void Ghost::take_permit(const Call& call, uint32_t cell, uint64_t old, uint64_t now) {
  if (units_ == kUnitsMax) return world.fail("too many permits for the ghost");
  const uint64_t at = now - config_.span[0] - (config_.inclusive ? 1 : 0);
  const Held* const held = find_lease((cell & 1) != 0 ? old : memory_.cells[cell | 1]);
  if (held != nullptr && held->cell == (cell & ~1u) && held->gone == kEver &&
      held->expiry > clock_now()) {
    return world.fail("cell %u: a live lease was overwritten", cell);
  }
  Unit& unit = unit_[units_];
  unit = {call.key, call.number,    cell,  call.version, at,    now,
          kEver,    current_[cell], false, false,        false, call.version == 0 && new_seen_};
  stats_.late += unit.late;
  if (unit.previous != kNone) {
    Unit& before = unit_[unit.previous];
    before.gone = std::min(before.gone, event_);
  }
  current_[cell] = units_++;
}

void Ghost::on_cell(const Call& call, uint32_t cell, uint64_t old, uint64_t now) {
  ++event_;
  const bool gives = call.action == Action::kRefund || call.action == Action::kReset;
  // What is undone may be a holder from before.
  if (!gives && (now & kTop) == 0 && (now > old || (old & kTop) != 0)) {
    return take_permit(call, cell, old, now);
  }
  const uint32_t index = current_[cell];
  if (index == kNone) return world.fail("cell %u: nobody took what is given back", cell);
  Unit& unit = unit_[index];
  unit.gone = event_;
  current_[cell] = unit.previous;
  if (!gives) {
    unit.undone = unit.call == call.number;
    if (unit.previous != kNone && unit_[unit.previous].expiry == now) {
      unit_[unit.previous].gone = kEver;  // live to whom has a slower clock
    }
    ++stats_.undone;
  } else {
    unit.refunded = true;
    ++stats_.refunds;
    ++const_cast<Call&>(call).given;
  }
  if (unit.key != call.key || unit.expiry != old) world.fail("cell %u: another key's permit", cell);
}

void Ghost::end_log(const Call& call, bool admitted, uint64_t timestamp) {
  uint32_t taken = 0, left = 0, explained = 0;
  for (uint32_t i = units_; i-- != 0;) {
    Unit& unit = unit_[i];
    if (unit.key != call.key) continue;
    if (unit.expiry > timestamp && unit.gone > call.begin) ++explained;
    if (unit.call != call.number) continue;
    // One that aged out may come back when its successor is undone, and is nobody's charge.
    left += current_[unit.cell] == i && unit.gone == kEver &&
            unit.expiry > clock_now() + static_cast<uint64_t>(config_.skew);
    // The last ones; others, of a round before, were given back.
    if (admitted && taken < call.cost && unit.at == timestamp && !unit.undone) {
      unit.admitted = true;
      ++taken;
    }
  }
  if (!admitted) {
    ++stats_.refused;
    if (left != 0) world.fail("key %u: a refused call kept %u permits", call.key, left);
    if (explained + call.cost <= call.limit) {
      world.fail("key %u: spurious refusal of %u, %u live of %u", call.key, call.cost, explained,
                 call.limit);
    }
    return;
  }
  ++stats_.admitted;
  // A refunded permit whose cell was taken by an equal one may be undone by its first owner.
  if (taken != call.cost && !config_.gives_back) {
    world.fail("key %u: admitted for %u, took %u", call.key, call.cost, taken);
  }
}

void Ghost::end_refund(const Call& call, uint32_t given) {
  if (given != call.given) world.fail("%u permits were given back, not %u", call.given, given);
}

uint32_t Ghost::live_permits(uint32_t key, uint64_t time) const {
  uint32_t live = 0;
  for (uint32_t i = 0; i < units_; ++i) {
    live += unit_[i].key == key && unit_[i].expiry > time && current_[unit_[i].cell] == i;
  }
  return live;
}

// What may be live together: of calls with the old limit only, or of both.
uint32_t Ghost::bound(uint32_t kind, uint32_t only_old, uint32_t late) const {
  const uint32_t before = config_.limit[kind][0];
  const uint32_t after = config_.limit[kind][1];
  return only_old != 0 ? before : std::min(std::max(before, after), after + late);
}

void Ghost::check_windows(uint32_t key) {
  if (config_.kind[key] != Kind::kLog) return;
  const uint64_t span = config_.span[0] + (config_.inclusive ? 1 : 0);
  uint32_t forgiven = 0;
  for (uint32_t i = 0; i < units_; ++i) {
    forgiven += unit_[i].key == key && unit_[i].refunded && !unit_[i].admitted;
  }
  for (uint32_t i = 0; i < units_; ++i) {
    if (unit_[i].key != key || !unit_[i].admitted) continue;
    uint32_t count = 0, late = 0, only_old = 1;
    for (uint32_t k = 0; k < units_; ++k) {
      const Unit& unit = unit_[k];
      if (unit.key != key || !unit.admitted || unit.refunded) continue;
      if (unit.at < unit_[i].at || unit.at - unit_[i].at >= span) continue;
      ++count;
      late += unit.late;
      if (unit.version != 0) only_old = 0;
    }
    const uint32_t most = bound(0, only_old, late) + forgiven;
    if (count > most) {
      world.fail("key %u: %u permits in the window that begins at %llu, at most %u", key, count,
                 static_cast<ull>(unit_[i].at), most);
    }
  }
}

uint64_t Ghost::new_holder(uint32_t player) const {
  return kTop | uint64_t{1} << 62 | uint64_t{player + 1} << 40 | (leases_ + 1);
}

bool Ghost::is_dead(uint64_t holder) const {
  return (dead_ >> ((holder >> 40 & 0x3fffff) - 1) & 1) != 0;
}

Held* Ghost::find_lease(uint64_t holder) {
  for (uint32_t i = leases_; i-- != 0;) {
    if (lease_[i].holder == holder) return &lease_[i];
  }
  return nullptr;
}

void Ghost::on_pair(Call& call, uint32_t cell, const shm::Pair& old, const shm::Pair& now) {
  ++event_;
  Held* const before = (old.high & kTop) != 0 ? find_lease(old.high) : nullptr;
  for (uint32_t half = cell; half < cell + 2; ++half) {
    const uint32_t permit = current_[half];
    if (permit == kNone || unit_[permit].expiry <= clock_now()) continue;
    if (unit_[permit].expiry == (half == cell ? old.low : old.high)) {
      return world.fail("cell %u: a live permit was overwritten", half);
    }
  }
  if ((now.high & kTop) == 0 || now.high == old.high) {
    // A log that had the slot in between may have changed the half of an expired one.
    const bool live = before != nullptr && before->expiry > clock_now();
    if (before == nullptr || (live && (before->gone != kEver || before->expiry != old.low))) {
      return world.fail("cell %u: a lease that is not there was changed", cell);
    }
    if (now.high == old.high) {
      if (before->holder != call.holder) world.fail("somebody else's lease was renewed");
      before->expiry = now.low;
      ++stats_.renewed;
      return check_leases(before->key);
    }
    before->gone = event_;
    const bool expired = before->expiry <= static_cast<uint64_t>(call.now);
    stats_.retired += call.action == Action::kAcquire;
    if (call.action == Action::kRelease ? before->holder != call.holder
        : call.action == Action::kReap  ? !is_dead(before->holder)
                                        : !expired) {
      world.fail("cell %u: a lease was ended by who may not", cell);
    }
    // A reap does not know the fence: two of them within its margin may give one number twice.
    if (call.action == Action::kReap) {
      cell_fence_[cell] = std::min(cell_fence_[cell], now.low);
      key_fence_[before->key] = std::min(key_fence_[before->key], now.low);
    }
    return;
  }
  if (before != nullptr && before->gone == kEver) {
    if (before->expiry > static_cast<uint64_t>(call.now)) world.fail("a live lease was taken");
    before->gone = event_;
  }
  if (leases_ == kLeasesMax) return world.fail("too many leases for the ghost");
  const uint64_t fence = std::max(now.low - config_.span[1], old.low + 1);
  lease_[leases_++] = {call.key, cell,  call.version, now.high,
                       now.low,  fence, kEver,        call.version == 0 && new_seen_};
  // The cells may have been a log's in between; a stopped call's stamps have no fence.
  if (fence <= cell_fence_[cell]) world.fail("cell %u: the fence did not grow", cell);
  cell_fence_[cell] = fence;
  const bool single = config_.limit[1][0] == 1 && config_.limit[1][1] == 1;
  // One that has expired on arrival is nobody's lease any more.
  if (single && now.low > clock_now() && config_.skew == 0) {
    if (fence <= key_fence_[call.key]) world.fail("key %u: the fence did not grow", call.key);
    key_fence_[call.key] = fence;
  }
  check_leases(call.key);
}

void Ghost::check_leases(uint32_t key) {
  const uint64_t time = clock_now() + static_cast<uint64_t>(config_.skew);
  uint32_t live = 0, late = 0, only_old = 1;
  for (uint32_t i = 0; i < leases_; ++i) {
    const Held& lease = lease_[i];
    if (lease.key != key || lease.gone != kEver || lease.expiry <= time) continue;
    ++live;
    late += lease.late;
    if (lease.version != 0) only_old = 0;
  }
  const uint32_t most = bound(1, only_old, late);
  if (live > most) world.fail("key %u: %u unexpired leases of %u", key, live, most);
}

uint32_t Ghost::live_leases(uint32_t key, uint64_t time) const {
  uint32_t live = 0;
  for (uint32_t i = 0; i < leases_; ++i) {
    live += lease_[i].key == key && lease_[i].gone == kEver && lease_[i].expiry > time;
  }
  return live;
}

void Ghost::end_lease(const Call& call, bool admitted, uint64_t timestamp, uint64_t fence) {
  if (admitted) {
    ++stats_.leases;
    const Held* const held = find_lease(call.holder);
    if (held == nullptr || held->fence != fence) world.fail("a lease or its fence is wrong");
    return;
  }
  ++stats_.refused;
  uint32_t explained = 0;
  for (uint32_t i = 0; i < leases_; ++i) {
    const Held& lease = lease_[i];
    explained += lease.key == call.key && lease.expiry > timestamp && lease.gone > call.begin;
  }
  if (explained < call.limit) {
    world.fail("key %u: spurious refusal, %u leases of %u", call.key, explained, call.limit);
  }
}

}  // namespace brim::sim::cells
