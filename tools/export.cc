// SPDX-License-Identifier: MIT
#include "export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "audit.h"
#include "brim/inspect.h"
#include "cli.h"
#include "commands.h"
#include "output.h"
#include "repeat.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

struct ExportArgs : Trust {
  std::string name;
  std::string output;
  std::optional<std::string> policy;
  bool cut_keys = false;
};

// Where the lines go: standard output, or a file that gets its name once it is whole.
class Sink {
 public:
  explicit Sink(const std::string& path) : path_(path) {}
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  ~Sink() {
    if (file_ == nullptr || file_ == stdout) return;
    std::fclose(file_);
    unlink(temporary_.c_str());
  }

  absl::Status open() {
    if (path_.empty()) {
      file_ = stdout;
      return absl::OkStatus();
    }
    // It tells who was limited: for its owner alone.
    temporary_ = join(path_, ".", getpid(), ".new");
    ::unlink(temporary_.c_str());  // of a process of the same number, or made by somebody else
    const int fd =
        ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return failed("open");
    file_ = fdopen(fd, "w");
    if (file_ != nullptr) return absl::OkStatus();
    close(fd);
    return failed("open");
  }

  bool put(const std::string& text) {
    return std::fwrite(text.data(), 1, text.size(), file_) == text.size();
  }

  absl::Status finish() {
    if (std::fflush(file_) != 0 || std::ferror(file_) != 0) return failed("write");
    if (file_ == stdout) return absl::OkStatus();
    if (fsync(fileno(file_)) != 0) return failed("write");
    if (rename(temporary_.c_str(), path_.c_str()) != 0) return failed("rename");
    std::fclose(file_);
    file_ = nullptr;
    return absl::OkStatus();
  }

  absl::Status failed(const char* what) const {
    if (path_.empty()) {
      return absl::UnavailableError(join("write_failed: standard output: ", std::strerror(errno)));
    }
    return absl::PermissionDeniedError(join("output_unwritable: --output '", escape_text(path_),
                                            "': ", what, ": ", std::strerror(errno),
                                            "; give a file in a directory that can be written"));
  }

 private:
  std::string path_;
  std::string temporary_;
  std::FILE* file_ = nullptr;
};

// The lines of one segment, counted.
class Lines {
 public:
  Lines(const StateReader& reader, Sink& sink) : reader_(reader), sink_(sink) {}

  void head(const SegmentState& segment, bool cut_keys) {
    begin_ns_ = reader_.now_ns();
    const int64_t wall = wall_ns();
    json_.begin('{').field("type", "export").field("format", kExportVersion);
    json_.field("segment", segment.name).field("uuid", segment.uuid);
    json_.field("time", iso_time(wall)).field("wall_ns", wall);
    if (cut_keys) json_.field("hash_key_base64", base64(segment.hash_seed));
    end_line();
  }

  void policy(const PolicyState& policy) {
    ++count_.policies;
    json_.begin('{').field("type", "policy").field("name", policy.name);
    json_.field("text", policy.text).field("factor_ppm", policy.factor_ppm);
    json_.name("rates").begin('[');
    for (const RateState& rate : policy.rates) {
      json_.begin('{').field("rate", rate.part).field("kind", kind_name(rate.kind));
      json_.field("limit", rate.limit).field("period_ns", rate.period_ns);
      json_.field("unit_shift", rate.unit_shift).field("slowest_ppm", rate.slowest_ppm);
      json_.field("most_permits", rate.most_permits).end('}');
    }
    json_.end(']');
    end_line();
  }

  void override_of(const OverrideState& entry, int64_t as_of_ns) {
    ++count_.overrides;
    json_.begin('{').field("type", "override").field("policy", entry.policy);
    json_.field("key_base64", base64(entry.key));
    if (entry.ban) {
      json_.field("ban", true);
      if (entry.ends_in_ns != kNever) json_.field("ends_in_ns", entry.ends_in_ns);
    } else {
      json_.field("use", entry.use);
    }
    json_.field("after_ns", after(as_of_ns));
    end_line();
  }

  bool key(const std::string& policy, const KeyState& state) {
    ++count_.keys;
    json_.begin('{').field("type", "key").field("policy", policy).field("rate", state.part);
    json_.field("kind", kind_name(state.kind));
    if (state.has_key) json_.field("key_base64", base64(state.key));
    if (!state.whole_key()) {
      ++cut_;
      if (state.has_key) json_.field("key_length", state.key_length);
      json_.field("fingerprint", hex_digits(state.fingerprint, 13));
      if (state.has_key) json_.field("place", hex_digits(state.place, 16));
    }
    json_.field("used", state.used).field("until_ns", std::max<int64_t>(state.until_ns, 0));
    if (state.before != 0) json_.field("before", state.before);
    if (state.barred) json_.field("barred", true);
    if (!state.left_ns.empty()) {
      json_.name("left_ns").begin('[');
      for (const int64_t left : state.left_ns) json_.value(std::max<int64_t>(left, 0));
      json_.end(']');
    }
    json_.field("after_ns", after(state.as_of_ns));
    return end_line();
  }

  void end() {
    json_.begin('{').field("type", "end").field("policies", count_.policies);
    json_.field("overrides", count_.overrides).field("keys", count_.keys);
    end_line();
  }

  uint64_t cut() const { return cut_; }
  bool good() const { return good_; }

 private:
  // A clock that differs between cores may step back by less than it is worth telling.
  int64_t after(int64_t as_of_ns) const { return std::max<int64_t>(as_of_ns - begin_ns_, 0); }
  bool end_line() {
    good_ = sink_.put(json_.end('}').take() + "\n") && good_;
    json_ = JsonWriter();
    return good_;
  }

  const StateReader& reader_;
  Sink& sink_;
  JsonWriter json_;
  ExportEnd count_;
  int64_t begin_ns_ = 0;
  uint64_t cut_ = 0;
  bool good_ = true;
};

// Overrides whose whole text is not known are left out, and counted.
uint64_t write_overrides(Lines& lines, const StateReader& reader, const std::string* policy) {
  uint64_t unknown = 0;
  const int64_t now = reader.now_ns();
  for (const OverrideState& entry : reader.overrides()) {
    if (policy != nullptr && entry.policy != *policy) continue;
    if (entry.whole_key()) {
      lines.override_of(entry, now);
    } else {
      ++unknown;
    }
  }
  return unknown;
}

int say_partial(uint64_t overrides, uint64_t keys, bool cut_keys) {
  if (keys != 0 && !cut_keys) {
    complain(join("export_cut_keys: of ", keys, " keys the text is cut or not kept (name_bytes); ",
                  "another segment can not take them; see --cut-keys"));
  }
  if (overrides == 0) return kExitOk;
  complain(join("export_partial: ", overrides,
                " overrides are left out: their whole text is not kept; set them again"));
  return kExitFailure;
}

int run_export(const ExportArgs& args) {
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, *options);
  if (!inspector.ok()) return report(inspector.status());
  // While a resize carries keys over, neither table has all of them.
  const bool moving = inspector->info().filling;
  const absl::StatusOr<StateReader> reader = StateReader::attach(args.name, *options);
  if (!reader.ok()) return report(reader.status());
  const std::vector<PolicyState> policies = reader->policies();
  std::vector<const PolicyState*> wanted;  // by number
  std::vector<std::string> names;
  for (const PolicyState& policy : policies) {
    names.push_back(policy.name);
    if (args.policy.has_value() && policy.name != *args.policy) continue;
    if (wanted.size() <= policy.number) wanted.resize(size_t{policy.number} + 1);
    wanted[policy.number] = &policy;
  }
  if (args.policy.has_value() && wanted.empty()) {
    return report(absl::NotFoundError(join("policy_not_found: segment ", escape_text(args.name),
                                           " has no policy '", escape_text(*args.policy), "'",
                                           did_you_mean(*args.policy, names))));
  }
  Sink sink(args.output);
  if (const absl::Status status = sink.open(); !status.ok()) return report(status);
  Lines lines(*reader, sink);
  lines.head(reader->segment(), args.cut_keys);
  for (const PolicyState* const policy : wanted) {
    if (policy != nullptr) lines.policy(*policy);
  }
  const uint64_t unknown =
      write_overrides(lines, *reader, args.policy.has_value() ? &*args.policy : nullptr);
  reader->for_each([&](const KeyState& state) {
    const bool asked = state.policy < wanted.size() && wanted[state.policy] != nullptr;
    return !asked || lines.key(wanted[state.policy]->name, state);
  });
  if (!lines.good()) return report(sink.failed("write"));
  // States mean something under the policies that were read with them only. Without its last line
  // an export is known to be no whole one.
  if (moving || inspector->info().superseded || reader->policies() != policies) {
    return report(absl::UnavailableError(
        join("export_changed: segment ", escape_text(args.name),
             " was resized, or a policy of it changed, meanwhile; export it again")));
  }
  lines.end();
  if (const absl::Status status = sink.finish(); !status.ok()) return report(status);
  return say_partial(unknown, lines.cut(), args.cut_keys);
}

}  // namespace

void add_export_command(Command& brim) {
  const auto args = std::make_shared<ExportArgs>();
  Command command =
      brim.add("export", "Print policies, overrides and what keys owe, as lines of JSON");
  command.segment(*args);
  command.option("--output", args->output, "Write this file, all at once, for its owner alone");
  command.option("--policy", args->policy, "Only this policy, its overrides and its keys");
  command.flag("--cut-keys", args->cut_keys,
               "Tell what finds keys whose text is cut: whoever reads it can make keys collide");
  command.trust(*args);
  command.footer(
      "Examples:\n"
      "  brim export api > api.jsonl\n"
      "  brim export api | brim import larger --define\n"
      "  brim export api | jq -r 'select(.barred) | .key_base64'");
  command.action([args] { return run_export(*args); });
}

}  // namespace brim::tools
