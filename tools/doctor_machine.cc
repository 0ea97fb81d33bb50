// SPDX-License-Identifier: MIT
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "doctor.h"
#include "output.h"

namespace brim::tools {

namespace {

constexpr char kMachine[] = "machine";
constexpr uint64_t kSmallShm = uint64_t{256} << 20;

// The beginning of a file, "" if it can not be read.
std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(size_t{1} << 20, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  for (size_t at = line.find_first_not_of(" \t"); at != std::string::npos;) {
    const size_t end = std::min(line.find_first_of(" \t", at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(" \t", end);
  }
  return words;
}

void add(Findings& findings, Level level, const char* check, std::string found,
         std::string remedy = "") {
  findings.push_back({level, kMachine, check, std::move(found), std::move(remedy)});
}

void examine_shm(const std::string& root, Findings& findings) {
  std::string type;
  std::string options;
  for (const std::string& line : lines_of(contents(root + "/proc/self/mounts"))) {
    const std::vector<std::string> words = words_of(line);
    if (words.size() >= 4 && words[1] == "/dev/shm") {
      type = words[2];
      options = words[3];
    }
  }
  if (type.empty()) {
    add(findings, Level::kWarning, "shm_mount", "/dev/shm is not a mount of its own",
        "mount a tmpfs there (mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm): on a disk "
        "every segment is written back");
  } else if (type != "tmpfs") {
    add(findings, Level::kWarning, "shm_mount", join("/dev/shm is a ", escape_text(type)),
        "mount a tmpfs there: the kernel writes a segment back to other file systems");
  } else if (("," + options + ",").find(",ro,") != std::string::npos) {
    add(findings, Level::kError, "shm_mount", "/dev/shm is mounted read-only",
        "mount -o remount,rw /dev/shm");
  } else {
    add(findings, Level::kOk, "shm_mount", "/dev/shm is a tmpfs");
  }
  struct statvfs space {};
  if (statvfs((root + "/dev/shm").c_str(), &space) != 0) return;
  const uint64_t size = space.f_blocks * space.f_frsize;
  const uint64_t left = space.f_bavail * space.f_frsize;
  const std::string found = join(human_bytes(left), " of ", human_bytes(size), " are free");
  if (size != 0 && left < size / 10) {
    add(findings, Level::kWarning, "shm_space", found,
        "remove segments that nobody needs (brim list), or mount -o remount,size=... /dev/shm");
  } else if (size != 0 && size < kSmallShm) {
    add(findings, Level::kNote, "shm_space", found,
        "containers get 64 MiB unless told otherwise (docker run --shm-size): a million keys with "
        "their texts need 80 MiB");
  } else {
    add(findings, Level::kOk, "shm_space", found);
  }
}

// The last RemoveIPC= of logind's files; "yes" is what it does when none says anything.
std::string remove_ipc(const std::string& root) {
  std::vector<std::string> files = {root + "/etc/systemd/logind.conf"};
  for (const char* const folder :
       {"/usr/lib/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"}) {
    std::error_code error;
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(root + folder, error)) {
      if (entry.path().extension() == ".conf") found.push_back(entry.path().string());
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  std::string value = "yes";
  for (const std::string& file : files) {
    for (const std::string& line : lines_of(contents(file))) {
      if (line.starts_with("RemoveIPC=")) value = line.substr(line.find('=') + 1);
    }
  }
  return value;
}

void examine_remove_ipc(const std::string& root, Findings& findings) {
  if (!std::filesystem::exists(root + "/run/systemd/system")) {
    add(findings, Level::kOk, "remove_ipc", "systemd does not run here");
    return;
  }
  const std::string value = remove_ipc(root);
  if (value == "no" || value == "false" || value == "0" || value == "off") {
    add(findings, Level::kOk, "remove_ipc", "logind leaves segments alone (RemoveIPC=no)");
    return;
  }
  add(findings, Level::kNote, "remove_ipc",
      "logind removes the segments of a user without sessions (RemoveIPC=yes)",
      "run the service as a system user (uid below 1000), or set RemoveIPC=no in "
      "/etc/systemd/logind.conf");
}

void examine_clock(const std::string& root, Findings& findings) {
  const std::string source =
      contents(root + "/sys/devices/system/clocksource/clocksource0/current_clocksource");
  if (source == "tsc") {
    add(findings, Level::kOk, "clocksource", "tsc");
  } else if (source.empty()) {
    add(findings, Level::kNote, "clocksource", "unknown: /sys does not tell",
        "none is needed; where it is not tsc a decision takes longer");
  } else {
    add(findings, Level::kNote, "clocksource", escape_text(source),
        "a decision reads the clock by a slower way; if the CPU has invariant TSC boot with "
        "tsc=reliable");
  }
}

void examine_cpu(const std::string& root, Findings& findings) {
  for (const std::string& line : lines_of(contents(root + "/proc/cpuinfo"))) {
    if (!line.starts_with("flags")) continue;
    const std::vector<std::string> flags = words_of(line);
    if (std::find(flags.begin(), flags.end(), "cx16") == flags.end()) {
      add(findings, Level::kError, "cpu", "no cmpxchg16b (cx16)",
          "brim needs a CPU, or a virtual machine's CPU model, that has it");
    } else {
      add(findings, Level::kOk, "cpu", "cmpxchg16b is there");
    }
    return;
  }
}

void examine_huge_pages(const std::string& root, Findings& findings) {
  const std::string text = contents(root + "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const size_t from = text.find('[');
  const size_t to = text.find(']');
  const std::string mode = from == std::string::npos || to == std::string::npos || to < from
                               ? ""
                               : text.substr(from + 1, to - from - 1);
  if (mode == "always" || mode == "advise" || mode == "within_size" || mode == "force") {
    add(findings, Level::kOk, "huge_pages", join("shmem_enabled is ", mode));
    return;
  }
  add(findings, Level::kNote, "huge_pages",
      mode.empty() ? "this kernel does not tell" : join("shmem_enabled is ", escape_text(mode)),
      "--huge-pages does nothing here; for tables beyond some 10 M keys echo advise > "
      "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

void examine_memory(const std::string& root, Findings& findings) {
  // Of this process's own group, or the nearest above that has a limit.
  std::string group;
  for (const std::string& line : lines_of(contents(root + "/proc/self/cgroup"))) {
    if (line.starts_with("0::/")) group = line.substr(4);
  }
  std::string most;
  for (;;) {
    most = contents(root + "/sys/fs/cgroup/" + group + "/memory.max");
    if ((!most.empty() && most != "max") || group.empty()) break;
    group =
        group.substr(0, group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
  }
  uint64_t limit = 0;
  const auto parsed = std::from_chars(most.data(), most.data() + most.size(), limit);
  if (most.empty() || most == "max" || parsed.ec != std::errc()) {
    add(findings, Level::kOk, "memory_limit", "none on this control group");
    return;
  }
  add(findings, Level::kNote, "memory_limit",
      join("this control group may use ", human_bytes(limit)),
      "a segment counts as memory of the group that touched its pages first; leave room for it");
}

}  // namespace

void examine_machine(const std::string& root, Findings& findings) {
  const std::string kernel = contents(root + "/proc/sys/kernel/osrelease");
  add(findings, Level::kOk, "versions",
      join("brim ", BRIM_VERSION, ", Linux ", kernel.empty() ? "unknown" : escape_text(kernel)));
  examine_cpu(root, findings);
  examine_clock(root, findings);
  examine_shm(root, findings);
  examine_memory(root, findings);
  examine_remove_ipc(root, findings);
  examine_huge_pages(root, findings);
}

}  // namespace brim::tools
