// SPDX-License-Identifier: MIT
#include "top.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "cli.h"
#include "hot_keys.h"
#include "output.h"
#include "repeat.h"
#include "terminal.h"
#include "top_view.h"

namespace brim::tools {

namespace {

constexpr size_t kBatchKeys = 10;  // of each list

struct TopArgs {
  std::string name;
  std::string interval = "1s";
  std::optional<std::string> count;
  std::string owner;
  std::string group;
  bool batch = false;
};

class Top {
 public:
  Top(const std::string& name, Followed& segment, Repeat repeat)
      : name_(name), segment_(segment), repeat_(repeat), view_(name) {
    keys_.begin(*segment_, monotonic_ns());
    read();
  }

  // Plain text, first after one interval: before that there are no rates.
  int batch() {
    StopSignals signals;
    int64_t next = monotonic_ns();
    for (uint64_t done = 1; signals.rest(next, repeat_.interval_ns); ++done) {
      follow(false);
      read();
      for (const ScreenLine& line : view_.lines(0, keys_, kBatchKeys)) emit(line.text + "\n");
      if (done != repeat_.count) emit("\n");
      if (!delivered() || done == repeat_.count) break;
    }
    return finish_repeat();
  }

  int screen() {
    StopSignals signals;
    Screen screen;
    int64_t next = monotonic_ns() + repeat_.interval_ns;
    int keys = Screen::keys();
    int nothing = 0;  // times in a row that there was no key after all
    for (uint64_t done = 0;;) {
      if (!draw(screen)) break;
      const StopSignals::Woken woken = signals.wait_until(next, keys);
      if (woken == StopSignals::Woken::kStop) break;
      screen.react();
      if (woken == StopSignals::Woken::kInput) {
        const int key = Screen::key();
        if (key == 'q' || key == 'Q') break;
        // A key may be lost to SIGCONT; a terminal that is gone has none for good.
        nothing = key < 0 ? nothing + 1 : 0;
        if (nothing == 5) keys = -1;
        if (key > 0) next = monotonic_ns();
      }
      if (monotonic_ns() < next) continue;
      follow(true);
      read();
      next = monotonic_ns() + repeat_.interval_ns;
      if (++done == repeat_.count) break;
    }
    return kExitOk;
  }

 private:
  // On a whole screen a line on standard error would be lost: the first line tells.
  void follow(bool quiet) {
    if (!segment_.follow(quiet)) return;
    occupancy_.forget();
    view_.forget();
    keys_.begin(*segment_, monotonic_ns());
  }

  void read() {
    TopReading reading;
    reading.at_ns = monotonic_ns();
    reading.wall_ns = wall_ns();
    reading.info = segment_->info();
    reading.policies = segment_->policies();
    reading.counters = segment_->counters();
    keys_.read(*segment_, reading.at_ns);
    reading.occupancy = occupancy_.read(*segment_);
    for (const AttachedInfo& process : segment_->attached()) {
      reading.attached += process.alive || !process.same_namespace ? 1 : 0;
    }
    if (absl::StatusOr<TierLook> tier = TierLook::at(name_, segment_.options()); tier.ok()) {
      reading.tier = *std::move(tier);
    }
    reading.gone = segment_.gone();
    view_.take(std::move(reading));
  }

  bool draw(Screen& screen) { return screen.draw(view_.lines(Screen::rows(), keys_, 0)); }

  std::string name_;
  Followed& segment_;
  Repeat repeat_;
  TopView view_;
  HotKeys keys_;
  OccupancyReader occupancy_;
};

int run_top(const TopArgs& args) {
  const absl::StatusOr<Repeat> repeat = parse_repeat(args.interval, args.count);
  if (!repeat.ok()) return report(repeat.status());
  absl::StatusOr<Followed> segment = Followed::attach(args.name, args.owner, args.group);
  if (!segment.ok()) return report(segment.status());
  Top top(args.name, *segment, *repeat);
  return args.batch || !Screen::possible() ? top.batch() : top.screen();
}

}  // namespace

void add_top_command(Command& brim) {
  const auto args = std::make_shared<TopArgs>();
  Command command = brim.add("top", "Watch rates, hot and refused keys and the table, live");
  command.segment(*args);
  command.flag("--batch", args->batch,
               "Plain text, one report after the other; so also if the output is no terminal");
  command.option("--interval", args->interval, "Time between two readings (default 1s)");
  command.option("--count", args->count, "End after so many readings (default: without end)");
  command.trust(*args);
  command.footer(
      "Keys: q quits, any other reads again. Rates of keys are estimates from samples, shown\n"
      "with ~, of the last ten seconds or so.\n"
      "Examples:\n"
      "  brim top api\n"
      "  brim top api --batch --interval 10s --count 6 > api.txt");
  command.action([args] { return run_top(*args); });
}

}  // namespace brim::tools
