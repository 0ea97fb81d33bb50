// SPDX-License-Identifier: MIT
// Runs a target over files, those named and all those of the directories named, and then over
// random changes of them: with any compiler, as a test. A failure names the file and the seed.
//
// usage: fuzz_NAME_replay [-mutate=ROUNDS] [-seed=N] [-keep=FILE] FILE|DIRECTORY...
// -keep writes each changed input to FILE before it is run: with -mutate=1, the one that fails.
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

constexpr unsigned kSecondsPerInput = 120;  // far above what a loaded machine needs: a hang is ever

char current[4096];  // what is being run; read by the signal handler

void name_the_input(int signal) {
  constexpr char kWords[] = "\nfuzz input: ";
  ssize_t ignored = write(STDERR_FILENO, kWords, sizeof(kWords) - 1);
  ignored = write(STDERR_FILENO, current, std::strlen(current));
  ignored = write(STDERR_FILENO, "\n", 1);
  static_cast<void>(ignored);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void guard() {
  for (const int signal : {SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGALRM}) {
    struct sigaction old {};
    sigaction(signal, nullptr, &old);
    // A sanitizer's own handler says more than this one.
    if (old.sa_handler == SIG_DFL) std::signal(signal, name_the_input);
  }
}

struct Arguments {
  uint64_t rounds = 0;
  uint64_t seed = 1;
  std::string keep;
  std::vector<std::string> files;  // in an order that does not depend on the directory
};

Arguments arguments_of(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view text = argv[i];
    if (text.starts_with("-mutate=")) {
      arguments.rounds = std::strtoull(argv[i] + 8, nullptr, 10);
    } else if (text.starts_with("-seed=")) {
      arguments.seed = std::strtoull(argv[i] + 6, nullptr, 10);
    } else if (text.starts_with("-keep=")) {
      arguments.keep = text.substr(6);
    } else if (!std::filesystem::is_directory(text)) {
      arguments.files.emplace_back(text);
    } else {
      for (const auto& entry : std::filesystem::directory_iterator(text)) {
        if (entry.is_regular_file()) arguments.files.push_back(entry.path().string());
      }
    }
  }
  std::sort(arguments.files.begin(), arguments.files.end());
  return arguments;
}

// splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// One to four small changes: bits, bytes, words near a border, a piece of another input.
void mutate(std::string& bytes, const std::vector<std::string>& others, Random& random) {
  for (uint64_t n = random() % 4 + 1; n != 0; --n) {
    const uint64_t r = random();
    const size_t at = bytes.empty() ? 0 : (r >> 8) % bytes.size();
    const std::string& other = others[(r >> 16) % others.size()];
    const size_t from = other.empty() ? 0 : (r >> 40) % other.size();
    switch (bytes.empty() ? 4 : r % 7) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << (r >> 40) % 8));
        break;
      case 1:
        bytes[at] = static_cast<char>(r >> 40);
        break;
      case 2: {
        const uint64_t word = (uint64_t{1} << (r >> 40) % 64) + (r >> 48) % 3 - 1;
        std::memcpy(bytes.data() + at, &word, std::min<size_t>(8, bytes.size() - at));
        break;
      }
      case 3:
        bytes.erase(at, (r >> 40) % 8 + 1);
        break;
      case 4:
        bytes.insert(at, other, from, (r >> 52) % 32);
        break;
      case 5:
        bytes.replace(at, (r >> 52) % 32, other, from, (r >> 52) % 32);
        break;
      default:
        bytes.insert(at, 1, static_cast<char>(r >> 40));
        break;
    }
  }
}

void run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = arguments_of(argc, argv);
  if (arguments.files.empty()) {
    std::fprintf(stderr, "usage: %s [-mutate=ROUNDS] [-seed=N] [-keep=FILE] FILE|DIRECTORY...\n",
                 argv[0]);
    return 2;
  }
  LLVMFuzzerInitialize(&argc, &argv);
  guard();
  std::vector<std::string> inputs;
  for (const std::string& file : arguments.files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
      std::fprintf(stderr, "can not read %s\n", file.c_str());
      return 2;
    }
    inputs.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    std::snprintf(current, sizeof(current), "%s", file.c_str());
    alarm(kSecondsPerInput);
    run(inputs.back());
  }
  std::string bytes;
  for (uint64_t round = 0; round < arguments.rounds; ++round) {
    // Each round has a seed of its own: one that fails is run again alone.
    const uint64_t seed = arguments.seed + round;
    Random random(seed);
    alarm(kSecondsPerInput);
    std::snprintf(current, sizeof(current), "-mutate=1 -seed=%llu",
                  static_cast<unsigned long long>(seed));
    bytes = inputs[random() % inputs.size()];
    mutate(bytes, inputs, random);
    if (!arguments.keep.empty()) std::ofstream(arguments.keep, std::ios::binary) << bytes;
    run(bytes);
  }
  alarm(0);
  std::printf("%zu inputs, %llu changes of them\n", inputs.size(),
              static_cast<unsigned long long>(arguments.rounds));
  return 0;
}
