// SPDX-License-Identifier: MIT
// Snapshots beside the sqlite3 shell, in interleaved rounds: the same rows in the same table, in
// WAL mode and one transaction, fed as CSV (.import) or as INSERT statements; the faster of the two
// is the peer. Reading is compared with a SELECT of all rows to /dev/null. Then peak memory, and
// what an agent costs running workers. CPU time tells more than wall time on a shared machine.
//
//   bench_snapshot [--keys N] [--rounds N] [--seconds N] [--only times|memory|workers]
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <vector>

#include "benchmarks/snapshot_bench.h"

namespace brim::bench {
namespace {

struct Time {
  double wall = 0;
  double cpu = 0;  // of this process and the children it waited for
};

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

Time now() {
  timespec wall{};
  clock_gettime(CLOCK_MONOTONIC, &wall);
  Time time{static_cast<double>(wall.tv_sec) + static_cast<double>(wall.tv_nsec) * 1e-9, 0};
  for (const auto who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage used{};
    getrusage(who, &used);
    time.cpu += seconds(used.ru_utime) + seconds(used.ru_stime);
  }
  return time;
}

struct Samples {
  std::vector<Time> all;
  void take(const std::function<void()>& work) {
    const Time began = now();
    work();
    const Time ended = now();
    all.push_back({ended.wall - began.wall, ended.cpu - began.cpu});
  }
  double median(double Time::*what) const {
    std::vector<double> values;
    for (const Time& time : all) values.push_back(time.*what);
    std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
  }
};

// Runs the sqlite3 shell over a file of commands.
void shell(const std::string& database, const std::string& commands, const std::string& output) {
  const std::string line = cat("sqlite3 -bail '", database, "' <'", commands, "' >'", output, "'");
  BRIM_CHECK(std::system(line.c_str()) == 0);
}

void shell_text(const Settings& settings, const std::string& database, const std::string& text,
                const std::string& output) {
  const std::string commands = settings.file("commands.sql");
  std::ofstream(commands) << text << "\n";
  shell(database, commands, output);
}

void remove_database(const std::string& path) {
  for (const char* const tail : {"", "-wal", "-shm", ".lock"}) unlink(cat(path, tail).c_str());
}

// The statements that write the rows which `where` picks.
void write_statements(const Settings& settings, const char* verb, const std::string& where,
                      const std::string& output) {
  std::string row;
  for (const char* const column :
       {"slot", "policy", "part", "fingerprint", "key", "key_length", "place", "kind", "used",
        "before", "until_ns", "barred", "left_ns", "as_of_ns", "sum"}) {
    row += cat(row.empty() ? "" : "||','||", "quote(", column, ")");
  }
  shell_text(settings, settings.file("kept.db"),
             cat("SELECT 'BEGIN;'; SELECT '", verb, " INTO keys VALUES('||", row,
                 "||');' FROM keys ", where, "; SELECT 'COMMIT;';"),
             output);
}

void print_row(const char* what, const Samples& ours, const char* to, const Samples& peer) {
  std::printf("%-28s %9.3f %9.3f   %-22s %9.3f %9.3f   %8.2f %8.2f\n", what,
              ours.median(&Time::wall), ours.median(&Time::cpu), to, peer.median(&Time::wall),
              peer.median(&Time::cpu), ours.median(&Time::wall) / peer.median(&Time::wall),
              ours.median(&Time::cpu) / peer.median(&Time::cpu));
  std::fflush(stdout);
}

class Times {
 public:
  explicit Times(const Settings& settings)
      : settings_(settings),
        segment_(segment_name("times")),
        limiter_(filled(segment_, settings.keys)),
        kept_(snapshotter(segment_, settings.file("kept.db"))),
        change_(settings.file("change.sql")) {
    BRIM_CHECK(kept_.take().ok());
    shell_text(settings_, settings_.file("kept.db"), ".schema keys", settings_.file("schema.sql"));
    shell_text(settings_, settings_.file("kept.db"), ".mode csv\nSELECT * FROM keys;",
               settings_.file("rows.csv"));
    write_statements(settings_, "INSERT", "", settings_.file("rows.sql"));
    const std::string begin = ".read " + settings_.file("schema.sql");
    const std::string wal = "PRAGMA journal_mode = WAL;\n";
    std::ofstream(settings_.file("import.sql"))
        << wal << begin << "\n.mode csv\n.import " << settings_.file("rows.csv") << " keys\n";
    std::ofstream(settings_.file("insert.sql"))
        << wal << begin << "\n.read " << settings_.file("rows.sql") << "\n";
    std::ofstream(settings_.file("select.sql")) << "SELECT * FROM keys;\n";
  }
  ~Times() { Limiter::unlink(segment_).IgnoreError(); }

  void round() {
    full_.take([&] {
      Snapshotter writer = snapshotter(segment_, settings_.file("full.db"));
      const auto report = writer.take();
      BRIM_CHECK(report.ok() && report->full && report->rows == settings_.keys);
    });
    peer(import_, "import.sql");
    peer(insert_, "insert.sql");
    changes();
    restores();
    remove_database(settings_.file("full.db"));
  }

  void print() const {
    const bool csv = import_.median(&Time::cpu) < insert_.median(&Time::cpu);
    const Samples& peer = csv ? import_ : insert_;
    const char* const name = csv ? "shell, CSV" : "shell, INSERT";
    std::printf("%-28s %9s %9s   %-22s %9s %9s   %8s %8s\n", "seconds, medians", "wall", "CPU",
                "beside", "wall", "CPU", "x wall", "x CPU");
    print_row("full snapshot", full_, name, peer);
    print_row("full snapshot", full_, csv ? "shell, INSERT" : "shell, CSV",
              csv ? insert_ : import_);
    print_row("1 % changed", delta_, "shell, all rows", peer);
    print_row("1 % changed", delta_, "shell, those rows", replace_);
    print_row("nothing changed", nothing_, "shell, all rows", peer);
    print_row("restore, new segment", fresh_, name, peer);
    print_row("restore, new segment", fresh_, "shell, SELECT", select_);
    print_row("restore, live segment", live_, "shell, SELECT", select_);
  }

 private:
  void peer(Samples& samples, const char* commands) {
    const std::string database = settings_.file("peer.db");
    remove_database(database);
    samples.take([&] { shell(database, settings_.file(commands), "/dev/null"); });
  }

  // One key in a hundred, then none.
  void changes() {
    const auto policy = limiter_.policy("slow");
    BRIM_CHECK(policy.ok());
    const uint64_t share = std::max<uint64_t>(settings_.keys / 100, 1);
    for (uint64_t i = 0; i < share; ++i) {
      policy->try_acquire(key_text((i * 7919 + turn_) % settings_.keys));
    }
    ++turn_;
    timespec began{};
    clock_gettime(CLOCK_MONOTONIC, &began);
    const int64_t began_ns = int64_t{began.tv_sec} * 1000000000 + began.tv_nsec;
    delta_.take([&] {
      const auto report = kept_.take();
      BRIM_CHECK(report.ok() && !report->full && report->written <= share && report->written != 0);
    });
    nothing_.take([&] {
      const auto report = kept_.take();
      BRIM_CHECK(report.ok() && report->written == 0);
    });
    write_statements(settings_, "INSERT OR REPLACE", cat("WHERE as_of_ns >= ", began_ns), change_);
    replace_.take([&] { shell(settings_.file("peer.db"), change_, "/dev/null"); });
  }

  void restores() {
    const std::string name = segment_name("restored");
    const std::string file = settings_.file("full.db");
    fresh_.take([&] {
      RestoreReport report;
      const auto made = create_restored(name, {}, file, &report);
      BRIM_CHECK(made.ok() && report.merged == settings_.keys);
    });
    BRIM_CHECK(Limiter::unlink(name).ok());
    live_.take([&] {
      const auto report = restore(limiter_, file);
      BRIM_CHECK(report.ok() && report->merged == settings_.keys);
    });
    BRIM_CHECK(kept_.take().ok());  // a merge touches every key that is rounded up
    select_.take([&] { shell(file, settings_.file("select.sql"), "/dev/null"); });
  }

  const Settings& settings_;
  std::string segment_;
  Limiter limiter_;
  Snapshotter kept_;
  std::string change_;
  uint64_t turn_ = 0;
  Samples full_, import_, insert_, delta_, replace_, nothing_, fresh_, live_, select_;
};

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  using namespace brim::bench;
  Settings settings;
  std::string_view only;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg == "--keys" && i + 1 < argc) {
      settings.keys = std::max<uint64_t>(std::strtoull(argv[++i], nullptr, 10), 100);
    } else if (arg == "--rounds" && i + 1 < argc) {
      settings.rounds = std::max(std::atoi(argv[++i]), 1);
    } else if (arg == "--seconds" && i + 1 < argc) {
      settings.seconds = std::atof(argv[++i]);
    } else if (arg == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      std::fprintf(stderr,
                   "usage: bench_snapshot [--keys N] [--rounds N] [--seconds N] "
                   "[--only times|memory|workers]\n");
      return 2;
    }
  }
  settings.directory = std::filesystem::temp_directory_path() / "brim-bench-XXXXXX";
  BRIM_CHECK(mkdtemp(settings.directory.data()) != nullptr);
  std::printf("%llu keys, files in %s\n", static_cast<unsigned long long>(settings.keys),
              settings.directory.c_str());
  if (only.empty() || only == "memory") measure_memory(settings);
  if (only.empty() || only == "workers") measure_workers(settings);
  if (std::system("command -v sqlite3 >/dev/null") != 0) {
    std::printf("no comparison: the sqlite3 shell is not installed\n");
  } else if (only.empty() || only == "times") {
    Times times(settings);
    for (int round = 0; round < settings.rounds; ++round) times.round();
    times.print();
  }
  std::filesystem::remove_all(settings.directory);
  return 0;
}
