// SPDX-License-Identifier: MIT
// Goal: no command line crashes or hangs the `brim` command, none ends with an exception or an exit
// code of no meaning, and what it prints is plain ASCII (F10, F40, F44). Method: the command's own
// main(), in this process, in a /dev/shm of its own that holds a segment, a file of policies and a
// log; made anew for each input. Inputs that name a path elsewhere are passed over.
// Input: the arguments, ended by NUL.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/fuzz/segment_file.h"

int brim_main(int argc, char** argv);  // tools/main.cc

namespace brim::fuzz {
namespace {

constexpr size_t kMaxArguments = 16;
constexpr char kLimits[] =
    "[policies]\np = \"10/h\"\nlogin = \"5/m; 20/h ban 3 in 1h for 1h\"\n"
    "[[override]]\npolicy = \"p\"\ncidr = \"10.0.0.0/8\"\nuse = \"unlimited\"\n";
constexpr char kLog[] =
    "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1\n"
    "10.0.0.1 - - [10/Oct/2000:13:55:37 -0700] \"GET /a?b HTTP/1.0\" 200 1 \"-\" \"x\"\n"
    "\x1b[2J\xc2\x9b\xe2\x80\xae broken\n";

std::string segment;  // its bytes

void write_file(const char* name, std::string_view bytes) {
  const std::string path = std::string(shm::kShmDirectory) + "/" + name;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  require(fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "write a file", path);
  close(fd);
}

void make_files() {
  for (const auto& entry : std::filesystem::directory_iterator(shm::kShmDirectory)) {
    std::filesystem::remove_all(entry.path());
  }
  write_file("api", segment);
  write_file("limits.toml", kLimits);
  write_file("access.log", kLog);
}

// A path that leaves the private /dev/shm: the command would read or make files there.
bool leaves(std::string_view argument) {
  if (const size_t equals = argument.find('='); equals != std::string_view::npos) {
    if (leaves(argument.substr(equals + 1))) return true;
  }
  constexpr std::string_view kInside = "/dev/shm/";
  if (argument.find("..") != std::string_view::npos) return true;
  if (argument.starts_with('/')) return !argument.starts_with(kInside);
  return argument.find("dev/") != std::string_view::npos ||
         argument.find("proc/") != std::string_view::npos;
}

void require_clean(int code, const std::string& out, const std::string& error) {
  constexpr int kCodes[] = {0, 1, 2, 3, 4, 75};
  require(std::find(std::begin(kCodes), std::end(kCodes), code) != std::end(kCodes), "exit code");
  require(printable_ascii(out, "\r\n"), "a byte that is no text", out);
  require(printable_ascii(error), "a byte that is no text, in a message", error);
  require(error.find("unexpected: ") == std::string::npos, "an exception", error);
  require(code != 2 || !error.empty(), "wrong usage without a word");
  if (out.starts_with('{')) require(nlohmann::json::accept(out), "JSON that does not parse", out);
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace brim::fuzz;
  static SegmentFile made;
  if (!made.alone()) {
    std::fprintf(stderr, "skipped: no mount namespace, so no /dev/shm of its own\n");
    std::_Exit(77);
  }
  std::ifstream stream(made.path(), std::ios::binary);
  segment.assign(std::istreambuf_iterator<char>(stream), {});
  setenv("NO_COLOR", "1", 1);
  const int nothing = open("/dev/null", O_RDONLY);
  require(dup2(nothing, STDIN_FILENO) == STDIN_FILENO, "dup2");
  close(nothing);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  Input input(data, size);
  std::vector<std::string> arguments = {"brim"};
  while (!input.empty() && arguments.size() < kMaxArguments) {
    arguments.emplace_back(input.take_until('\0'));
    if (leaves(arguments.back())) return 0;
  }
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  make_files();
  std::string out;
  std::string error;
  int code = 0;
  {
    Captured captured;
    // Only here: libFuzzer itself keeps files there, and make_files() clears the directory.
    setenv("TMPDIR", brim::shm::kShmDirectory, 1);
    code = brim_main(static_cast<int>(arguments.size()), pointers.data());
    out = captured.take();
    error = captured.take_error();
    unsetenv("TMPDIR");
  }
  require_clean(code, out, error);
  return 0;
}
