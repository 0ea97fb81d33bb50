// SPDX-License-Identifier: MIT
// Goal: whatever the bytes of a segment are, the commands that look into one neither crash nor
// hang, and what they print is plain ASCII, and JSON where it says so (F44, P15). Method: a damaged
// segment (segment_file.h), then each command with its output caught.
// Input: the damage; its length chooses the format.
#include <nlohmann/json.hpp>

#include "audit.h"
#include "cli.h"
#include "commands.h"
#include "dump.h"
#include "export.h"
#include "output.h"
#include "override.h"
#include "policy.h"
#include "tests/fuzz/segment_file.h"
#include "verify.h"

namespace brim::fuzz {
namespace {

SegmentFile* file;

int info(const std::string& format) {
  return tools::run_info({.name = file->path(), .owner = "", .group = "", .format = format});
}

int dump(const std::string& format) {
  tools::DumpArgs args;
  args.name = file->path();
  args.state = "all";
  args.format = format;
  return tools::run_dump(args);
}

int dump_one_policy(const std::string& format) {
  tools::DumpArgs args;
  args.name = file->path();
  args.policy = "several";
  args.limit = "3";
  args.format = format;
  return tools::run_dump(args);
}

int peek(const std::string& format) {
  tools::TryArgs args;
  args.name = file->path();
  args.key = "key-1";
  args.policy = "window";
  args.peek = true;
  args.format = format;
  return tools::run_try(args);
}

int verify(const std::string& format) {
  tools::VerifyArgs args;
  args.name = file->path();
  args.format = format;
  return tools::run_verify(args);
}

int list(const std::string& format) {
  return file->alone() ? tools::run_list({.format = format}) : 0;
}

int run(std::vector<std::string> words) {
  words.insert(words.begin(), "brim");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return tools::run_command_line(static_cast<int>(argv.size()), argv.data(),
                                 [](tools::Command& brim) {
                                   tools::add_log_command(brim);
                                   tools::add_policy_commands(brim);
                                   tools::add_override_commands(brim);
                                   tools::add_export_command(brim);
                                 });
}

int log(const std::string& format) { return run({"log", file->path(), "--format", format}); }
int policies(const std::string& format) {
  return run({"policy", "list", file->path(), "--format", format});
}
int policy(const std::string& format) {
  return run({"policy", "show", file->path(), "several", "--format", format});
}
int overrides(const std::string& format) {
  return run({"override", "list", file->path(), "--format", format});
}

// Each takes the format, prints, and returns the exit code. A new command that reads a segment
// belongs here.
constexpr int (*kCommands[])(const std::string& format) = {
    info, dump, dump_one_policy, peek, verify, list, log, policies, policy, overrides};

void require_clean(const std::string& format, const std::string& out, const std::string& error) {
  require(printable_ascii(out, format == "csv" ? "\r\n" : "\n"), "a byte that is no text", out);
  require(printable_ascii(error), "a byte that is no text, in a message", error);
  if (format == "json" && !out.empty()) {
    require(nlohmann::json::accept(out), "JSON that does not parse", out);
  }
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("NO_COLOR", "1", 1);
  static brim::fuzz::SegmentFile made;
  brim::fuzz::file = &made;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  Input input(data, size);
  file->damage(input);
  // One format an input: most of the cost is in the attaching.
  constexpr const char* kFormats[] = {"json", "table", "csv"};
  const std::string format = kFormats[size % 3];
  for (const auto& command : kCommands) {
    std::string out;
    std::string error;
    int code = 0;
    {
      Captured captured;
      code = command(format);
      out = captured.take();
      error = captured.take_error();
    }
    require_clean(format, out, error);
    // What verify finds is its answer, not an error.
    const bool told = !error.empty() || (command == verify && !out.empty());
    require(code == 0 || code == 75 || told, "an error without a word");
  }
  return 0;
}
