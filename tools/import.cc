// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "audit.h"
#include "cli.h"
#include "commands.h"
#include "export.h"
#include "output.h"
#include "repeat.h"

namespace brim::tools {

namespace {

constexpr uint64_t kMostComplaints = 20;

struct ImportArgs : Trust {
  std::string name;
  std::string file = "-";
  bool define = false;
};

// Lines of a file or of standard input; of one that is too long only that.
class LineReader {
 public:
  LineReader() = default;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() {
    if (fd_ > STDIN_FILENO) close(fd_);
  }

  absl::Status open(const std::string& path) {
    path_ = path;
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    return fd_ >= 0 ? absl::OkStatus() : unreadable();
  }

  // False at the end, and when it can not be read any more: see status().
  bool next(std::string& line) {
    line.clear();
    bool any = false;
    while (at_ != end_ || fill()) {
      any = true;
      const char* const begin = buffer_ + at_;
      const void* const found = std::memchr(begin, '\n', end_ - at_);
      const char* const stop = found != nullptr ? static_cast<const char*>(found) : buffer_ + end_;
      const auto size = static_cast<size_t>(stop - begin);
      // One byte more than a line may have is enough to know it for too long.
      line.append(begin, std::min(size, kMostExportLine + 1 - line.size()));
      at_ += size + (found != nullptr ? 1 : 0);
      if (found != nullptr) return true;
    }
    return any && status_.ok();
  }

  const absl::Status& status() const { return status_; }

 private:
  bool fill() {
    ssize_t n = 0;
    do {
      n = read(fd_, buffer_, sizeof(buffer_));
    } while (n < 0 && errno == EINTR);
    if (n < 0) status_ = unreadable();
    at_ = 0;
    end_ = n > 0 ? static_cast<size_t>(n) : 0;
    return n > 0;
  }
  absl::Status unreadable() const {
    return absl::UnavailableError(
        join("import_unreadable: '", escape_text(path_), "': ", std::strerror(errno)));
  }

  std::string path_;
  int fd_ = -1;
  size_t at_ = 0;
  size_t end_ = 0;
  absl::Status status_;
  char buffer_[65536];
};

class Import {
 public:
  Import(const Changed& segment, SegmentState own, bool define)
      : segment_(segment), own_(std::move(own)), define_(define) {}

  // Not OK: nothing can be made of the rest either.
  absl::Status line(uint64_t number, const std::string& text) {
    const absl::StatusOr<ExportLine> parsed = parse_export_line(text);
    const auto* const head = parsed.ok() ? std::get_if<ExportHead>(&*parsed) : nullptr;
    if (number == 1) return begin(head);
    if (!parsed.ok()) {
      damaged(number, std::string(parsed.status().message()));
    } else if (end_.has_value()) {
      damaged(number, "it comes after the last line");
    } else if (head != nullptr) {
      damaged(number, "it is a second first line");
    } else if (const auto* const policy = std::get_if<ExportPolicy>(&*parsed)) {
      put(number, *policy);
    } else if (const auto* const entry = std::get_if<ExportOverride>(&*parsed)) {
      put(number, *entry);
    } else if (const auto* const key = std::get_if<ExportKey>(&*parsed)) {
      return put(number, *key);
    } else if (const auto* const end = std::get_if<ExportEnd>(&*parsed)) {
      end_ = *end;
    }
    return absl::OkStatus();
  }

  // What came in, however the import ended.
  void note_end() const {
    segment_.note(join("import ended: ", merged_, " keys, ", overrides_, " overrides, ", factors_,
                       " policies looked at"));
  }

  int finish(const std::string& name) {
    if (damaged_ > kMostComplaints) {
      complain(join("import_damaged: ", damaged_ - kMostComplaints, " more damaged lines"));
    }
    const bool whole = end_.has_value() && end_->keys == keys_ &&
                       end_->policies == seen_policies_ && end_->overrides == seen_overrides_;
    if (!whole && damaged_ == 0) {
      complain("import_incomplete: lines are missing, so this is not all of an export");
    }
    if (no_policy_ != 0 && !define_) {
      complain("import_no_policy: policies are missing here; --define defines them");
    }
    note_end();
    std::string text = join("imported ", merged_, " keys into ", escape_text(name));
    const struct {
      uint64_t count;
      const char* what;
    } others[] = {{defined_, "policies defined"},
                  {overrides_, "overrides"},
                  {idle_, "owed nothing any more"},
                  {no_policy_, "of policies that are not here"},
                  {no_key_, "without their whole key"},
                  {unfit_, "of policies that keep no such state"},
                  {failed_, "not imported: table full or contended"},
                  {overrides_lost_, "overrides not imported"},
                  {policies_lost_, "policies not defined"},
                  {damaged_, "damaged lines"}};
    for (const auto& other : others) {
      if (other.count != 0) text += join("; ", other.count, " ", other.what);
    }
    emit(text + "\n");
    const bool good =
        whole && damaged_ == 0 && failed_ == 0 && overrides_lost_ == 0 && policies_lost_ == 0;
    return tools::finish(good ? kExitOk : kExitFailure);
  }

 private:
  absl::Status begin(const ExportHead* head) {
    if (head == nullptr) {
      return absl::InvalidArgumentError(
          "import_invalid: line 1 is not the first line of a brim export");
    }
    if (head->version != kExportVersion) {
      return absl::FailedPreconditionError(
          join("import_version: format ", head->version, "; this brim reads ", kExportVersion));
    }
    const int64_t wall = wall_ns();
    age_ns_ = std::max<int64_t>(wall - head->wall_ns, 0);
    if (head->wall_ns > wall) {
      complain("the wall clock is before the export: no time is counted as passed");
    }
    segment_.note(join("import of segment ", escape_text(head->uuid), " begins"));
    from_.uuid = head->uuid;
    from_.hash_seed = head->uuid == own_.uuid ? own_.hash_seed : head->hash_key;
    return absl::OkStatus();
  }

  void damaged(uint64_t number, const std::string& what) {
    if (++damaged_ <= kMostComplaints) {
      complain(join("import_damaged: line ", number, ": ", what));
    }
  }

  void put(uint64_t number, const ExportPolicy& line) {
    ++seen_policies_;
    PolicyState policy = line.state;
    const auto [at, fresh] = numbers_.try_emplace(policy.name, policies_.size());
    if (!fresh) return damaged(number, "it is a policy's second line");
    if (policies_.size() == kMostExportPolicies) {
      numbers_.erase(at);
      return damaged(number, "there are more policies than a segment can have");
    }
    if (define_ && absl::IsNotFound(segment_->policy(policy.name).status())) {
      const absl::Status status = segment_->define(policy.name, policy.text).status();
      if (!status.ok()) {
        ++policies_lost_;
        complain(join("import_policy: line ", number, ": ", std::string(status.message())));
      } else {
        ++defined_;
        segment_.note(
            join("define policy ", escape_text(policy.name), ": ", escape_text(policy.text)));
      }
    }
    policy.number = static_cast<uint16_t>(policies_.size());
    for (RateState& rate : policy.rates) rate.policy = policy.number;
    policy.text.clear();  // not needed any more, and as long as its line
    policies_.push_back(std::move(policy));
    writer_.reset();
  }

  // Ready for the policies so far.
  absl::Status open_writer() {
    if (writer_.has_value()) return absl::OkStatus();
    absl::StatusOr<StateWriter> writer = StateWriter::open(segment_.limiter(), from_, policies_);
    if (!writer.ok()) return writer.status();
    writer_ = *std::move(writer);
    for (; factors_ != policies_.size(); ++factors_) writer_->put_factor(policies_[factors_], true);
    return absl::OkStatus();
  }

  void put(uint64_t number, const ExportOverride& line) {
    ++seen_overrides_;
    absl::Status status = open_writer();
    if (status.ok()) status = writer_->put_override(line.state, elapsed(line.after_ns));
    if (status.ok()) {
      ++overrides_;
      const OverrideState& entry = line.state;
      segment_.note(join("import override ", noted_key(entry.key), " policy ",
                         escape_text(entry.policy), " use ",
                         entry.ban ? "banned" : escape_text(entry.use)));
      return;
    }
    if (++overrides_lost_ <= kMostComplaints) {
      complain(join("import_override: line ", number, ": ", std::string(status.message())));
    }
  }

  absl::Status put(uint64_t number, const ExportKey& line) {
    ++keys_;
    const auto known = numbers_.find(line.policy);
    if (known == numbers_.end()) {
      damaged(number, "there is no line of its policy before it");
      return absl::OkStatus();
    }
    if (const absl::Status status = open_writer(); !status.ok()) return status;
    KeyState state = line.state;
    state.policy = static_cast<uint16_t>(known->second);
    const std::vector<RateState>& rates = policies_[known->second].rates;
    const bool counted = std::any_of(rates.begin(), rates.end(), [&](const RateState& rate) {
      return rate.part == state.part && rate.kind == state.kind;
    });
    if (!counted) {
      damaged(number, "its policy's line has no such rate");
      return absl::OkStatus();
    }
    count(writer_->put(state, elapsed(state.as_of_ns)));
    return absl::OkStatus();
  }

  int64_t elapsed(int64_t after_ns) const { return std::max<int64_t>(age_ns_ - after_ns, 0); }

  void count(PutResult result) {
    switch (result) {
      case PutResult::kMerged:
        ++merged_;
        return;
      case PutResult::kIdle:
        ++idle_;
        return;
      case PutResult::kNoPolicy:
        ++no_policy_;
        return;
      case PutResult::kNoKey:
        ++no_key_;
        return;
      case PutResult::kUnfit:
        ++unfit_;
        return;
      case PutResult::kFull:
      case PutResult::kContended:
        ++failed_;
        return;
    }
  }

  const Changed& segment_;
  SegmentState own_;
  bool define_;
  SegmentState from_;
  std::vector<PolicyState> policies_;
  std::map<std::string, size_t> numbers_;
  std::optional<StateWriter> writer_;
  size_t factors_ = 0;
  std::optional<ExportEnd> end_;
  int64_t age_ns_ = 0;
  uint64_t keys_ = 0;
  uint64_t seen_policies_ = 0;
  uint64_t seen_overrides_ = 0;
  uint64_t merged_ = 0;
  uint64_t idle_ = 0;
  uint64_t no_policy_ = 0;
  uint64_t no_key_ = 0;
  uint64_t unfit_ = 0;
  uint64_t failed_ = 0;
  uint64_t defined_ = 0;
  uint64_t overrides_ = 0;
  uint64_t overrides_lost_ = 0;
  uint64_t policies_lost_ = 0;
  uint64_t damaged_ = 0;
};

absl::StatusOr<SegmentState> state_of(const ImportArgs& args) {
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return options.status();
  const absl::StatusOr<StateReader> reader = StateReader::attach(args.name, *options);
  if (!reader.ok()) return reader.status();
  return reader->segment();
}

int run_import(const ImportArgs& args) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const absl::StatusOr<SegmentState> own = state_of(args);
  if (!own.ok()) return report(own.status());
  LineReader lines;
  if (const absl::Status status = lines.open(args.file); !status.ok()) return report(status);
  Import import(*segment, *own, args.define);
  std::string text;
  uint64_t number = 0;
  while (lines.next(text)) {
    if (const absl::Status status = import.line(++number, text); !status.ok()) {
      if (number > 1) import.note_end();
      return report(status);
    }
  }
  if (!lines.status().ok()) report(lines.status());
  if (number == 0) return report(import.line(1, ""));
  return import.finish(args.name);
}

}  // namespace

void add_import_command(Command& brim) {
  const auto args = std::make_shared<ImportArgs>();
  Command command =
      brim.add("import", "Give a live segment what an export holds: the stricter state wins");
  command.segment(*args);
  command.option("FILE", args->file, "What `brim export` wrote; - or none for standard input");
  command.flag("--define", args->define, "Define the policies that the segment does not have");
  command.trust(*args);
  command.footer(
      "Examples:\n  brim import api api.jsonl\n  brim export api | brim import larger --define");
  command.action([args] { return run_import(*args); });
}

}  // namespace brim::tools
