// SPDX-License-Identifier: MIT
#include "commands.h"

#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "audit.h"
#include "brim/inspect.h"
#include "brim/policy.h"
#include "output.h"
#include "snapshot.h"

namespace brim::tools {

namespace {

constexpr uint64_t kMaxCapacity = uint64_t{1} << 34;
constexpr uint64_t kMaxKeyBytes = uint64_t{64} << 20;

absl::Status bad_option(std::string_view option, std::string_view value, std::string_view remedy) {
  return absl::InvalidArgumentError(
      join("invalid_option: ", option, " is '", escape_text(value), "'; give ", remedy));
}

// Stores the count of an option that was given.
template <class Number>
absl::Status take_count(const char* option, const std::optional<std::string>& text, uint64_t least,
                        uint64_t most, Number& number) {
  if (!text.has_value()) return absl::OkStatus();
  const absl::StatusOr<uint64_t> count = parse_count(option, *text, least, most);
  if (count.ok()) number = static_cast<Number>(*count);
  return count.status();
}

absl::Status take_sizes(const CreateArgs& args, Options& options) {
  absl::Status status = take_count("--capacity", args.capacity, 1, kMaxCapacity, options.capacity);
  if (status.ok())
    status = take_count("--name-bytes", args.name_bytes, 0, 65520, options.name_bytes);
  if (status.ok()) {
    status = take_count("--max-policies", args.max_policies, 1, 4096, options.max_policies);
  }
  if (status.ok())
    status = take_count("--probe-limit", args.probe_limit, 1, 255, options.probe_limit);
  if (status.ok() && args.name_bytes.has_value() && options.name_bytes == 0) {
    options.name_bytes = Options::kNoNames;
  }
  return status;
}

absl::Status take_kinds(const CreateArgs& args, Options& options) {
  if (args.hash == "siphash") {
    options.hash = HashKind::kSipHash;
  } else if (args.hash == "xxh3") {
    options.hash = HashKind::kXxh3;
  } else if (args.hash.has_value()) {
    return bad_option("--hash", *args.hash, "siphash or xxh3");
  }
  if (args.on_full == "evict") {
    options.on_full = OnFull::kEvictLeast;
  } else if (args.on_full == "allow") {
    options.on_full = OnFull::kAllow;
  } else if (args.on_full == "deny") {
    options.on_full = OnFull::kDeny;
  } else if (args.on_full.has_value()) {
    return bad_option("--on-full", *args.on_full, "evict, allow or deny");
  }
  return absl::OkStatus();
}

absl::Status take_access(const CreateArgs& args, Options& options) {
  options.group = args.group;
  options.huge_pages = args.huge_pages;
  options.cluster = args.cluster;
  options.replace = args.recreate;
  options.mode = args.group.empty() ? 0600 : 0660;
  if (!args.mode.has_value()) return absl::OkStatus();
  for (const auto& [text, mode] : {std::pair("600", 0600u), {"640", 0640u}, {"660", 0660u}}) {
    options.mode = mode;
    if (*args.mode != text && *args.mode != join("0", text)) continue;
    if ((mode & 0070) == 0 || !args.group.empty()) return absl::OkStatus();
    return bad_option(
        "--mode", *args.mode,
        "--group too, to name the group that shares the segment: no process writes to "
        "a segment of a group that it was not told to trust");
  }
  return bad_option("--mode", *args.mode,
                    "0600, or 0660 with --group: others must not read the hash key");
}

// Checked here, before anything is made: a wrong policy must not leave half a segment behind.
absl::Status take_policies(const CreateArgs& args, Options& options) {
  for (const std::string& given : args.policies) {
    const size_t equals = given.find('=');
    if (equals == std::string::npos) {
      return bad_option("--policy", given, "NAME=RATE, as in 'per_ip=100/m burst 20'");
    }
    NamedPolicy policy{given.substr(0, equals), given.substr(equals + 1)};
    if (!valid_policy_name(policy.name)) {
      return absl::InvalidArgumentError(join("invalid_policy_name: '", escape_text(policy.name),
                                             "' in --policy '", escape_text(given),
                                             "'; give 1 to 47 characters of A-Z a-z 0-9 . _ -"));
    }
    if (auto parsed = parse_policy(policy.text); !parsed.ok()) return parsed.status();
    const auto same = [&policy](const NamedPolicy& other) { return other.name == policy.name; };
    if (std::any_of(options.policies.begin(), options.policies.end(), same)) {
      return bad_option("--policy", given, join("each name once: '", policy.name, "' came before"));
    }
    options.policies.push_back(std::move(policy));
  }
  const uint32_t room = options.max_policies == 0 ? 64 : options.max_policies;
  if (options.policies.size() > room) {
    return bad_option("--max-policies", std::to_string(room),
                      join("at least ", options.policies.size(), " for these policies"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Options> create_options(const CreateArgs& args) {
  Options options;
  absl::Status status = take_sizes(args, options);
  if (status.ok()) status = take_kinds(args, options);
  if (status.ok()) status = take_access(args, options);
  if (status.ok()) status = take_policies(args, options);
  if (!status.ok()) return status;
  return options;
}

int print_created(const std::string& name, const Options& options, bool existed) {
  const absl::StatusOr<Inspector> inspector = Inspector::attach(name, options);
  if (!inspector.ok()) return report(inspector.status());
  const SegmentInfo info = inspector->info();
  const uint64_t tenths = info.size_bytes * 10 / std::max<uint64_t>(info.slots, 1);
  emit(join(existed ? "exists " : "created ", escape_text(info.path), ": ", info.slots,
            " slots for ", info.capacity, " keys, ", human_bytes(info.size_bytes), " (",
            info.size_bytes, " bytes), ", tenths / 10, ".", tenths % 10, " bytes/key\n"));
  for (const PolicyInfo& policy : inspector->policies()) {
    emit(join("policy ", escape_text(policy.name), ": ", escape_text(policy.text), "\n"));
  }
  return finish();
}

// The policy to ask: the one named, or the only one there is.
absl::StatusOr<std::string> choose_policy(const TryArgs& args, const Options& options) {
  if (args.policy.has_value()) return *args.policy;
  const absl::StatusOr<Inspector> inspector = Inspector::attach(args.name, options);
  if (!inspector.ok()) return inspector.status();
  const std::vector<PolicyInfo> policies = inspector->policies();
  if (policies.size() == 1) return policies.front().name;
  const std::string path = escape_text(inspector->info().path);
  if (policies.empty()) {
    return absl::FailedPreconditionError(
        join("no_policy: segment ", path,
             " has no policy; add one: brim create NAME --if-missing --policy per_ip=100/m"));
  }
  std::string known;
  for (const PolicyInfo& policy : policies) {
    known += join(known.empty() ? "" : ", ", escape_text(policy.name));
  }
  return absl::InvalidArgumentError(join("policy_needed: segment ", path, " has the policies ",
                                         known, "; say which one with --policy"));
}

int print_decision(const TryArgs& args, Format format, const std::string& policy,
                   const Decision& decision) {
  const std::string_view verdict = verdict_text(decision.verdict);
  const std::string_view reason = reason_text(decision.reason);
  if (format == Format::kJson) {
    JsonWriter json;
    json.begin('{').field("version", 1).field("segment", args.name).field("policy", policy);
    json.field("verdict", verdict).field("reason", reason).field("admitted", decision.admitted);
    json.field("remaining", decision.remaining);
    json.name("retry_after_ns").duration(decision.retry_after_ns);
    json.name("reset_after_ns").duration(decision.reset_after_ns);
    json.field("delay_ns", decision.delay_ns).field("part", unsigned{decision.part});
    emit(json.end('}').take() + "\n");
  } else if (format == Format::kCsv) {
    const auto ns = [](int64_t span) { return span == kNever ? "" : std::to_string(span); };
    emit(csv_row({"policy", "verdict", "reason", "admitted", "remaining", "retry_after_ns",
                  "reset_after_ns", "delay_ns", "part"}));
    emit(csv_row({escape_key(policy), verdict, reason, decision.admitted ? "true" : "false",
                  std::to_string(decision.remaining), ns(decision.retry_after_ns),
                  ns(decision.reset_after_ns), std::to_string(decision.delay_ns),
                  std::to_string(decision.part)}));
  } else {
    std::string words(verdict);
    if (decision.reason != Reason::kNone) words += join(" (", reason, ")");
    if (decision.verdict == Verdict::kUnavailable || decision.reason == Reason::kShadow) {
      words += decision.admitted ? ", admitted" : ", not admitted";
    }
    const std::string delay = decision.delay_ns == 0
                                  ? ""
                                  : join("start after  ", human_duration(decision.delay_ns), "\n");
    emit(join("verdict      ", words, "\nremaining    ", decision.remaining, "\nretry after  ",
              human_duration(decision.retry_after_ns), "\nreset after  ",
              human_duration(decision.reset_after_ns), "\n", delay));
  }
  return finish(decision.allowed() ? kExitOk : kExitRefused);
}

}  // namespace

std::string_view reason_text(Reason reason) {
  switch (reason) {
    case Reason::kNone:
      return "none";
    case Reason::kCostAboveBurst:
      return "cost_above_burst";
    case Reason::kFull:
      return "full";
    case Reason::kContended:
      return "contended";
    case Reason::kReadOnly:
      return "read_only";
    case Reason::kNoPolicy:
      return "no_policy";
    case Reason::kBarred:
      return "barred";
    case Reason::kShadow:
      return "shadow";
    case Reason::kExempt:
      return "exempt";
    case Reason::kBlocked:
      return "blocked";
    case Reason::kUnsupported:
      return "unsupported";
    case Reason::kTooLate:
      return "too_late";
    case Reason::kPaused:
      return "paused";
    case Reason::kMoved:
      return "moved";
    case Reason::kTierUnavailable:
      return "tier_unavailable";
  }
  return "unknown";
}

std::string_view verdict_text(Verdict verdict) {
  return verdict == Verdict::kAllowed  ? "allowed"
         : verdict == Verdict::kDenied ? "denied"
                                       : "unavailable";
}

absl::StatusOr<std::string> read_key(const std::string& path) {
  const bool from_stdin = path == "-";
  const int fd = from_stdin ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string key;
  char buffer[65536];
  ssize_t n = fd < 0 ? -1 : 1;
  while (n > 0 && key.size() <= kMaxKeyBytes) {
    n = read(fd, buffer, sizeof(buffer));
    if (n > 0) key.append(buffer, static_cast<size_t>(n));
    if (n < 0 && errno == EINTR) n = 1;
  }
  const int error = errno;
  if (fd >= 0 && !from_stdin) close(fd);
  if (n < 0) {
    return absl::UnavailableError(join("key_unreadable: --key-file '", escape_text(path),
                                       "': ", std::strerror(error),
                                       "; give a readable file, or - for standard input"));
  }
  if (key.size() > kMaxKeyBytes) {
    return absl::InvalidArgumentError(join("invalid_key: --key-file '", escape_text(path),
                                           "' holds more than ", kMaxKeyBytes,
                                           " bytes; give a shorter key, or a hash of it"));
  }
  return key;
}

// Defines the policies that are missing there, and notes them.
absl::StatusOr<Limiter> open_existing(const std::string& name, const Options& options) {
  Options as_it_is = options;
  as_it_is.policies.clear();
  const absl::StatusOr<Limiter> before = Limiter::open(name, as_it_is);
  if (!before.ok()) return before.status();
  const std::vector<std::string> known = before->policy_names();
  absl::StatusOr<Limiter> limiter = Limiter::open(name, options);
  if (!limiter.ok()) return limiter.status();
  const Changed segment(*limiter);
  for (const NamedPolicy& policy : options.policies) {
    if (std::find(known.begin(), known.end(), policy.name) == known.end()) {
      segment.note(
          join("define policy ", escape_text(policy.name), ": ", escape_text(policy.text)));
    }
  }
  return limiter;
}

int run_create(const CreateArgs& args) {
  const absl::StatusOr<Options> options = create_options(args);
  if (!options.ok()) return report(options.status());
  if (args.recreate) {
    // A damaged segment is replaced; a file that never was one is not.
    const absl::Status old = Inspector::attach(args.name).status();
    if (status_name(old) == "segment_bad_magic") return report(old);
  }
  RestoreReport restored;
  absl::StatusOr<Limiter> limiter =
      args.restore.empty() ? Limiter::create(args.name, *options)
                           : create_restored(args.name, *options, args.restore, &restored);
  if (limiter.ok() && !args.restore.empty()) emit(restore_text(restored));
  const bool existed = args.if_missing && absl::IsAlreadyExists(limiter.status());
  if (existed) limiter = open_existing(args.name, *options);
  if (!limiter.ok()) return report(limiter.status());
  return print_created(args.name, *options, existed);
}

int run_try(const TryArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<uint64_t> cost = parse_count("--cost", args.cost, 0, UINT32_MAX);
  if (!cost.ok()) return report(cost.status());
  if (args.key.has_value() == args.key_file.has_value()) {
    return report(absl::InvalidArgumentError(
        "invalid_key: give a KEY after the segment's name, or --key-file FILE, and not both"));
  }
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<std::string> key =
      args.key.has_value() ? *args.key : read_key(*args.key_file);
  if (!key.ok()) return report(key.status());
  const absl::StatusOr<std::string> policy = choose_policy(args, *options);
  if (!policy.ok()) return report(policy.status());
  const absl::StatusOr<Limiter> limiter = args.peek ? Limiter::attach_read_only(args.name, *options)
                                                    : Limiter::attach(args.name, *options);
  if (!limiter.ok()) return report(limiter.status());
  const absl::StatusOr<PolicyHandle> handle = limiter->policy(*policy);
  if (!handle.ok()) return report(handle.status());
  const auto permits = static_cast<uint32_t>(*cost);
  const Decision decision =
      args.peek ? handle->peek(*key, permits) : handle->try_acquire(*key, permits);
  return print_decision(args, *format, *policy, decision);
}

int run_unlink(const UnlinkArgs& args) {
  int code = kExitOk;
  for (const std::string& name : args.names) {
    if (const absl::Status status = Limiter::unlink(name); !status.ok()) {
      const int failed = report(status);
      if (code == kExitOk) code = failed;
    }
  }
  return code;
}

absl::StatusOr<Options> trusting_options(const std::string& owner, const std::string& group) {
  Options options;
  options.group = group;
  if (owner.empty()) return options;
  if (owner.find_first_not_of("0123456789") == std::string::npos) {
    const absl::StatusOr<uint64_t> uid = parse_count("--owner", owner, 0, UINT32_MAX);
    if (!uid.ok()) return uid.status();
    options.owner_uid = static_cast<int64_t>(*uid);
    return options;
  }
  const struct passwd* const user = getpwnam(owner.c_str());
  if (user == nullptr) {
    return bad_option("--owner", owner, "the name or number of a user on this machine");
  }
  options.owner_uid = user->pw_uid;
  return options;
}

}  // namespace brim::tools
