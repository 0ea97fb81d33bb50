// SPDX-License-Identifier: MIT
// resize: a larger or smaller table for a segment in use.
#include "brim/resize.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "audit.h"
#include "brim/inspect.h"
#include "cli.h"
#include "commands.h"
#include "output.h"
#include "pause.h"

namespace brim::tools {

namespace {

struct ResizeArgs : Trust {
  std::string name;
  std::optional<std::string> capacity;
  std::optional<std::string> name_bytes;
  std::optional<std::string> max_policies;
  std::optional<std::string> cells;
  bool cluster = false;
  std::optional<std::string> overrides;
  std::optional<std::string> probe_limit;
};

// `begun`: there is a resize to be finished, which needs no option.
absl::StatusOr<ResizeOptions> options_of(const ResizeArgs& args, bool begun) {
  ResizeOptions options;
  absl::Status wrong;
  const auto take = [&wrong](const char* name, const std::optional<std::string>& text,
                             uint64_t least, uint64_t most, auto& value) {
    if (!text.has_value()) return;
    const absl::StatusOr<uint64_t> number = parse_count(name, *text, least, most);
    if (number.ok()) {
      value = static_cast<std::decay_t<decltype(value)>>(*number);
    } else if (wrong.ok()) {
      wrong = number.status();
    }
  };
  take("--capacity", args.capacity, 1, UINT64_MAX / 2, options.capacity);
  take("--name-bytes", args.name_bytes, 0, 65520, options.name_bytes);
  take("--max-policies", args.max_policies, 1, 4096, options.max_policies);
  take("--cells-per-key", args.cells, 1, 256, options.cells_per_key);
  take("--overrides", args.overrides, 1, UINT32_MAX / 2, options.overrides);
  take("--probe-limit", args.probe_limit, 1, 255, options.probe_limit);
  if (args.name_bytes.has_value() && options.name_bytes == 0) {
    options.name_bytes = Options::kNoNames;
  }
  const bool any = args.capacity.has_value() || args.name_bytes.has_value() ||
                   args.max_policies.has_value() || args.cells.has_value() ||
                   args.overrides.has_value() || args.probe_limit.has_value() || args.cluster;
  options.cluster = args.cluster;
  if (wrong.ok() && !any && !begun) {
    wrong = absl::InvalidArgumentError("invalid_option: say what to change, such as --capacity 1M");
  }
  if (!wrong.ok()) return wrong;
  return options;
}

// One line on a terminal, overwritten while keys are carried over.
class Progress {
 public:
  void show(const ResizeProgress& done) {
    if (isatty(STDERR_FILENO) == 0 || done.slots_total == 0) return;
    const auto share = static_cast<unsigned>(static_cast<double>(done.slots_done) * 100 /
                                             static_cast<double>(done.slots_total));
    if (shown_ && share == last_) return;
    last_ = share;
    shown_ = true;
    const std::string line = join("\rresizing: ", share, " %, ", done.keys, " keys");
    std::fwrite(line.data(), 1, line.size(), stderr);
  }
  void end() const {
    if (shown_) std::fputc('\n', stderr);
  }

 private:
  bool shown_ = false;
  unsigned last_ = 0;
};

// Processes besides this one that will move with their next call.
uint64_t others_attached(const Inspector& inspector) {
  uint64_t count = 0;
  for (const AttachedInfo& process : inspector.attached()) {
    const bool self = process.same_namespace && process.pid == static_cast<uint32_t>(getpid());
    count += !self && (process.alive || !process.same_namespace) ? 1 : 0;
  }
  return count;
}

int run_resize(const ResizeArgs& args) {
  const absl::StatusOr<Options> access = trusting_options(args.owner, args.group);
  if (!access.ok()) return report(access.status());
  uint64_t processes = 0;
  bool begun = false;
  {
    const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *access);
    if (!inspector.ok()) return report(inspector.status());
    processes = others_attached(*inspector);
    const SegmentInfo info = inspector->info();
    begun = info.superseded || info.filling;
  }
  absl::StatusOr<ResizeOptions> options = options_of(args, begun);
  if (!options.ok()) return report(options.status());
  Progress progress;
  options->progress = [&progress](const ResizeProgress& done) { progress.show(done); };
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::StatusOr<ResizeReport> done = resize(args.name, *options, *access);
  progress.end();
  if (status_name(done.status()) == "resize_unfinished") segment->note("resize, not finished");
  if (!done.ok()) return report(done.status());
  if (done->finished_earlier) complain("a resize that had been cut short was finished first");
  segment->note(join("resize ", done->slots_before, " to ", done->slots_after, " slots, ",
                     done->keys, " keys"));
  emit(join("segment ", escape_text(args.name), ": ", done->slots_before, " to ", done->slots_after,
            " slots, ", done->keys, " keys carried over in ", human_duration(done->moving_ns), "; ",
            processes, " processes follow with their next call\n"));
  if (done->evicted != 0) {
    complain(join("resize_evicted: ", done->evicted,
                  " live keys had to make room in the new table; give a larger --capacity"));
  }
  return finish();
}

}  // namespace

void add_resize_command(Command& brim) {
  const auto args = std::make_shared<ResizeArgs>();
  Command command =
      brim.add("resize", "Give a segment in use a larger or smaller table; nobody restarts");
  command.segment(*args);
  command.option("--capacity", args->capacity, "Keys to hold, such as 50000, 64k or 1M");
  command.option("--name-bytes", args->name_bytes,
                 "Bytes of each key's text kept for dump; 0 for none");
  command.option("--max-policies", args->max_policies, "Room for policies");
  command.option("--cells-per-key", args->cells, "Cells of logs and leases, 8 bytes each a key");
  command.flag("--cluster", args->cluster, "Room for policies of scope cluster, 32 bytes a slot");
  command.option("--overrides", args->overrides, "Room for overrides and bans made by hand");
  command.option("--probe-limit", args->probe_limit,
                 "Groups of four slots searched for a key, 1 to 255");
  command.trust(*args);
  command.footer(
      "What is not named stays as it is.\n"
      "Examples:\n  brim resize api --capacity 1M\n  brim resize api --name-bytes 16");
  command.action([args] { return run_resize(*args); });
}

}  // namespace brim::tools
