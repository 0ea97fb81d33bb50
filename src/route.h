// SPDX-License-Identifier: MIT
// Where a call is decided if its own segment does not say it at once: admitted because the segment
// is paused, or decided in the table that took this one's place. The argument that no permit gets
// lost on the way is in docs/design/0009-resize.md.
#ifndef BRIM_SRC_ROUTE_H_
#define BRIM_SRC_ROUTE_H_

#include <cstdint>
#include <string_view>

#include "src/call.h"

namespace brim {

//   for (Route route(engine, policy); route.open(key);) {
//     decision = ... on route.engine();
//     if (!route.engine().superseded()) return decision;
//   }
//   return route.decided();
class Route {
 public:
  // `counts`: the answers of a pause, and failures, are counted.
  Route(const Engine& start, uint16_t policy, bool counts = true) noexcept
      : start_(start), engine_(&start), policy_(policy), counts_(counts) {}

  // True: engine() is to decide, and holds all that is remembered of the key. False: decided().
  bool open(std::string_view key) noexcept { return find() && carry(policy_, key); }
  // The two halves of it, for calls on several keys, and for those that write nothing.
  bool find() noexcept;
  bool carry(uint16_t policy, std::string_view key) noexcept;

  const Engine& engine() const noexcept { return *engine_; }
  // The table that engine() takes over from; null: it has got everything.
  const Engine* from() const noexcept { return from_; }
  const Decision& decided() const noexcept { return decided_; }
  // decided() is the answer of a pause; engine() is there.
  bool paused() const noexcept { return decided_.reason == Reason::kPaused; }

 private:
  bool fail(Reason why) noexcept;

  const Engine& start_;
  const Engine* engine_;
  const Engine* from_ = nullptr;
  uint16_t policy_;
  bool counts_;
  Decision decided_;
};

}  // namespace brim

#endif  // BRIM_SRC_ROUTE_H_
