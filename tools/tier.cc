// SPDX-License-Identifier: MIT
#include "tier.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "audit.h"
#include "cli.h"
#include "commands.h"
#include "output.h"
#include "snapshot.h"
#include "tier_view.h"

namespace brim::tools {

namespace {

constexpr char kUrlVariable[] = "BRIM_TIER_URL";
constexpr char kPasswordVariable[] = "BRIM_TIER_PASSWORD";
constexpr size_t kMostUrl = 4096;

// The first line of a file, whose text is never told: a password may be in it.
absl::StatusOr<std::string> read_url(const std::string& path) {
  errno = 0;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                             std::fclose);
  char line[kMostUrl + 1];
  if (file == nullptr || std::fgets(line, sizeof(line), file.get()) == nullptr) {
    return absl::InvalidArgumentError(join("invalid_option: --tier-url-file '", escape_text(path),
                                           "': ", errno == 0 ? "it is empty" : std::strerror(errno),
                                           "; give a file with the URL"));
  }
  std::string url = line;
  while (!url.empty() && (url.back() == '\n' || url.back() == '\r' || url.back() == ' ')) {
    url.pop_back();
  }
  return url;
}

// Whether the part before the hosts has a password.
bool has_password(const std::string& url) {
  const size_t begin = url.find("://");
  if (begin == std::string::npos) return false;
  if (url.find("sentinel_password=", begin) != std::string::npos) return true;
  const std::string_view rest = std::string_view(url).substr(begin + 3);
  const std::string_view hosts = rest.substr(0, rest.find('/'));
  const size_t at = hosts.rfind('@');
  return at != std::string_view::npos && hosts.substr(0, at).find(':') != std::string_view::npos;
}

absl::StatusOr<std::string> url_of(const StoreArgs& args) {
  if (!args.url.empty()) {
    if (has_password(args.url)) {
      complain(
          "the password in --tier can be seen by every user of this machine; give it by "
          "--tier-password-file or BRIM_TIER_PASSWORD, or the URL by --tier-url-file");
    }
    return args.url;
  }
  if (!args.url_file.empty()) return read_url(args.url_file);
  if (const char* const url = std::getenv(kUrlVariable); url != nullptr) return std::string(url);
  return absl::InvalidArgumentError(
      "invalid_option: where the store is; give --tier URL, --tier-url-file FILE or BRIM_TIER_URL "
      "in the environment");
}

absl::Status take_time(const char* option, const std::optional<std::string>& text, int64_t least,
                       int64_t& ns) {
  if (!text.has_value()) return absl::OkStatus();
  const absl::StatusOr<int64_t> parsed = parse_duration(option, *text, least);
  if (parsed.ok()) ns = *parsed;
  return parsed.status();
}

// "25%" or "33.3%".
absl::Status take_share(const std::optional<std::string>& text, uint32_t& ppm) {
  if (!text.has_value()) return absl::OkStatus();
  std::string digits = *text;
  if (!digits.empty() && digits.back() == '%') digits.pop_back();
  double percent = 0;
  int read = 0;
  if (digits.size() <= 8 && digits.find_first_not_of("0123456789.") == std::string::npos &&
      std::sscanf(digits.c_str(), "%lf%n", &percent, &read) == 1 &&
      static_cast<size_t>(read) == digits.size() && percent >= 0.0001 && percent <= 100) {
    ppm = static_cast<uint32_t>(percent * 10000 + 0.5);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(join("invalid_option: --tier-share is '",
                                         escape_text(text->substr(0, 40)),
                                         "'; give a part of the rates, such as 25%"));
}

struct StatusArgs : Trust {
  std::string name;
  std::string format = "table";
};

int run_status(const StatusArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<TierLook> look = TierLook::at(args.name, *options);
  if (!look.ok()) return report(look.status());
  if (!look->status().kept) {
    return report(absl::FailedPreconditionError(
        join("cluster_not_kept: segment ", escape_text(args.name),
             " has no room for what nodes share; give it room: brim resize ",
             escape_text(args.name), " --cluster")));
  }
  if (*format == Format::kJson) {
    JsonWriter json;
    json.begin('{').field("version", 1).field("segment", args.name).name("tier");
    write_tier(json, *look);
    emit(json.end('}').take() + "\n");
  } else if (*format == Format::kCsv) {
    emit(csv_row({"field", "value"}));
    for (const TierFact& fact : tier_facts(*look)) {
      emit(csv_row({fact.name, fact.raw == "null" ? "" : escape_text(fact.raw)}));
    }
  } else {
    std::vector<std::vector<std::string>> rows = {{"TIER", escape_text(args.name)}};
    for (const TierFact& fact : tier_facts(*look)) {
      if (fact.label != nullptr) rows.push_back({fact.label, fact.human});
    }
    emit(table(rows));
  }
  return finish(look->state() == TierState::kUp ? kExitOk : kExitFailure);
}

struct NodesArgs : StoreArgs, Trust {
  std::string name;
  std::string format = "table";
};

int run_nodes(const NodesArgs& args) {
  const absl::StatusOr<Format> format = parse_format(args.format);
  if (!format.ok()) return report(format.status());
  absl::StatusOr<TierOptions> options = store_options(args);
  if (!options.ok()) return report(options.status());
  const absl::StatusOr<Options> trusting = trusting_options(args.owner, args.group);
  if (!trusting.ok()) return report(trusting.status());
  options->attach = *trusting;
  const absl::StatusOr<std::vector<TierNode>> nodes = tier_nodes(args.name, *options);
  if (!nodes.ok()) return report(nodes.status());
  if (*format == Format::kJson) {
    JsonWriter json;
    json.begin('{').field("version", 1).field("segment", args.name).name("nodes").begin('[');
    for (const TierNode& node : *nodes) {
      json.line().begin('{').field("uuid", node.uuid).field("name", node.name);
      json.field("seen_ago_ns", node.seen_ago_ns).field("self", node.self).end('}');
    }
    emit(json.line().end(']').end('}').take() + "\n");
    return finish();
  }
  if (*format == Format::kCsv) {
    emit(csv_row({"uuid", "name", "seen_ago_ns", "self"}));
    for (const TierNode& node : *nodes) {
      emit(csv_row({escape_text(node.uuid), escape_text(node.name), join(node.seen_ago_ns),
                    node.self ? "true" : "false"}));
    }
    return finish();
  }
  std::vector<std::vector<std::string>> rows = {{"NODE", "SEEN", "", "NAME"}};
  for (const TierNode& node : *nodes) {
    rows.push_back({escape_text(node.uuid), join(human_duration(node.seen_ago_ns), " ago"),
                    node.self ? "this one" : "", escape_text(node.name)});
  }
  emit(table(rows));
  return finish();
}

struct RemoveArgs : StoreArgs {
  std::string uuid;
};

int run_remove(const RemoveArgs& args) {
  const absl::StatusOr<TierOptions> options = store_options(args);
  if (!options.ok()) return report(options.status());
  const absl::Status removed = remove_tier_node(*options, args.uuid);
  if (!removed.ok()) return report(removed);
  emit(join("node ", escape_text(args.uuid), " is removed\n"));
  return finish();
}

}  // namespace

bool names_store(const StoreArgs& args) {
  return !args.url.empty() || !args.url_file.empty() || std::getenv(kUrlVariable) != nullptr;
}

absl::StatusOr<TierOptions> store_options(const StoreArgs& args) {
  absl::StatusOr<std::string> url = url_of(args);
  if (!url.ok()) return url.status();
  TierOptions options;
  options.url = *std::move(url);
  options.user = args.user;
  if (!args.password_file.empty()) {
    options.password = join("file:", args.password_file);
  } else if (std::getenv(kPasswordVariable) != nullptr) {
    options.password = join("env:", kPasswordVariable);
  }
  options.ca_file = args.ca_file;
  options.cert_file = args.cert_file;
  options.key_file = args.key_file;
  options.insecure = args.insecure;
  if (args.prefix.has_value()) options.prefix = *args.prefix;
  const absl::Status status =
      take_time("--tier-timeout", args.timeout, 1000000, options.timeout_ns);
  if (!status.ok()) return status;
  return options;
}

absl::StatusOr<TierOptions> tier_options(const TierArgs& args) {
  absl::StatusOr<TierOptions> options = store_options(args);
  if (!options.ok()) return options.status();
  options->node_name = args.node_name;
  options->texts = args.texts;
  absl::Status status = take_time("--tier-interval", args.interval, 1000000, options->interval_ns);
  if (status.ok()) status = take_time("--tier-hold", args.hold, 0, options->hold_ns);
  if (status.ok()) status = take_time("--tier-forget", args.forget, 1000000000, options->forget_ns);
  if (status.ok()) status = take_share(args.share, options->share_ppm);
  if (!status.ok()) return status;
  return options;
}

void add_store_options(Command& command, StoreArgs& args) {
  command.option("--tier", args.url,
                 "The store that nodes share: redis://HOST:PORT/DB, rediss:// for TLS, "
                 "unix:///PATH; default: BRIM_TIER_URL");
  command.option("--tier-url-file", args.url_file, "Read that URL from this file");
  command.option("--tier-user", args.user, "User of the store");
  command.option("--tier-password-file", args.password_file,
                 "Read the password from this file; default: BRIM_TIER_PASSWORD");
  command.option("--tier-ca", args.ca_file, "Certificates that are trusted, for TLS");
  command.option("--tier-cert", args.cert_file, "The certificate to show, for TLS");
  command.option("--tier-key", args.key_file, "Its private key");
  command.flag("--tier-insecure", args.insecure, "TLS without looking at the certificate");
  command.option("--tier-prefix", args.prefix, "Of all names in the store (default brim)");
  command.option("--tier-timeout", args.timeout, "Of one exchange (default 500ms)");
}

void add_tier_options(Command& command, TierArgs& args) {
  add_store_options(command, args);
  command.option("--tier-interval", args.interval,
                 "Longest time between two exchanges of a key that matters (default 200ms)");
  command.option("--tier-hold", args.hold,
                 "The store is away: so long the others are taken to go on as they did "
                 "(default 10s)");
  command.option("--tier-share", args.share,
                 "Then this part of each rate, such as 25% (default: one of as many as nodes)");
  command.option("--tier-forget", args.forget,
                 "A node that is not heard of for so long is gone (default 30s)");
  command.option("--tier-node", args.node_name,
                 "This node's name, for people (default: host and segment)");
  command.flag("--tier-texts", args.texts, "Keep keys' texts in the store, for people");
}

void add_tier_command(Command& brim) {
  Command tier = brim.add("tier", "Show what a segment shares with other nodes, and who they are");
  const auto status = std::make_shared<StatusArgs>();
  Command show = tier.add("status", "Tell how the exchange goes; needs no store");
  show.segment(*status);
  show.option("--format", status->format, kFormatHelp);
  show.trust(*status);
  show.footer(
      "Exit status 0: up; 1: the store does not answer, or no agent is at work.\n"
      "Examples:\n  brim tier status api\n  brim tier status api --format json | jq .tier.state");
  show.action([status] { return run_status(*status); });
  const auto nodes = std::make_shared<NodesArgs>();
  Command list = tier.add("nodes", "Ask the store who is there");
  list.segment(*nodes);
  add_store_options(list, *nodes);
  list.option("--format", nodes->format, kFormatHelp);
  list.trust(*nodes);
  list.footer("Examples:\n  brim tier nodes api --tier redis://10.0.0.5");
  list.action([nodes] { return run_nodes(*nodes); });
  const auto gone = std::make_shared<RemoveArgs>();
  Command remove = tier.add("remove", "Take a node that will not come back out, at once");
  remove.option("UUID", gone->uuid, "The node, as `brim tier nodes` shows it").required();
  add_store_options(remove, *gone);
  remove.footer(
      "Examples:\n  brim tier remove 0123456789abcdef0123456789abcdef \\\n"
      "    --tier-url-file /etc/brim/tier-url");
  remove.action([gone] { return run_remove(*gone); });
}

}  // namespace brim::tools
