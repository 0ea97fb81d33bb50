// SPDX-License-Identifier: MIT
#include <sys/stat.h>

#include "doctor.h"
#include "output.h"

namespace brim::tools {

namespace {

constexpr int64_t kHourNs = int64_t{3600} * 1000000000;

uint64_t counter(const std::vector<Counter>& counters, std::string_view name) {
  for (const Counter& each : counters) {
    if (each.name == name) return each.value;
  }
  return 0;
}

void examine_table(const Inspector& inspector, const std::string& name, Findings& findings) {
  const Occupancy slots = inspector.occupancy();
  const uint64_t all = slots.virgin + slots.free + slots.live + slots.idle + slots.tentative;
  const uint64_t percent = all == 0 ? 0 : slots.live * 100 / all;
  const std::string found = join(slots.live, " of ", all, " slots are live (", percent, " %)");
  const std::string more = join("more room: brim resize ", name, " --capacity ...");
  findings.push_back(percent >= 80 ? Finding{Level::kWarning, name, "occupancy", found, more}
                                   : Finding{Level::kOk, name, "occupancy", found, ""});
  const std::vector<Counter> counters = inspector.counters();
  const uint64_t evicted = counter(counters, "evicted_live");
  if (evicted != 0) {
    findings.push_back({Level::kWarning, name, "evictions",
                        join(evicted, " keys lost their state to others since the beginning"),
                        more + ", or shorter periods, so that keys are idle sooner"});
  }
  if (const uint64_t full = counter(counters, "full"); full != 0) {
    findings.push_back({Level::kWarning, name, "table_full",
                        join(full, " requests found no slot and could not be decided"), more});
  }
}

void examine_processes(const Inspector& inspector, const std::string& name, Findings& findings) {
  uint64_t alive = 0;
  uint64_t dead = 0;
  uint64_t foreign = 0;
  for (const AttachedInfo& process : inspector.attached()) {
    ++(!process.same_namespace ? foreign : process.alive ? alive : dead);
  }
  const std::string found =
      join(alive, " processes are attached",
           foreign != 0 ? join(", ", foreign, " of other pid namespaces") : "");
  findings.push_back({Level::kOk, name, "attached", found, ""});
  if (dead != 0) {
    findings.push_back({Level::kNote, name, "stale_attachments",
                        join(dead, " entries are of processes that died without detaching"),
                        "nothing: the next process that attaches takes such an entry over"});
  }
}

void examine_policies(const Inspector& inspector, const std::string& name, Findings& findings) {
  for (const PolicyInfo& policy : inspector.policies()) {
    const uint64_t undecided = counter(policy.counters, "unavailable");
    if (undecided == 0) continue;
    findings.push_back(
        {Level::kWarning, name, "undecided",
         join(undecided, " requests of policy ", escape_text(policy.name),
              " could not be decided and were ",
              policy.policy.on_unavailable == OnUnavailable::kAllow ? "admitted" : "refused"),
         join("brim info ", name, " tells why: full, contended")});
  }
}

}  // namespace

void examine_segment(const Inspector& inspector, const std::string& name, Findings& findings) {
  const SegmentInfo info = inspector.info();
  if (!info.linked) {
    findings.push_back({Level::kError, name, "linked",
                        "the name was removed while it was looked at",
                        "workers that attach now count apart: restart the service"});
  }
  if (info.paused) {
    findings.push_back({Level::kWarning, name, "paused", "everything is admitted",
                        join("brim log ", name, " tells who paused it; brim resume ", name)});
  }
  if (info.superseded || info.filling) {
    findings.push_back({Level::kWarning, name, "resize",
                        "a resize is going on, or was killed: calls look at two tables",
                        join("if it was killed, brim resize ", name, " finishes it")});
  }
  if ((info.mode & (S_IRWXO)) != 0) {
    findings.push_back({Level::kError, name, "mode",
                        join("others may open it: ", human_mode(info.mode)),
                        join("chmod o-rwx ", escape_text(info.path))});
  } else {
    findings.push_back({Level::kOk, name, "mode", human_mode(info.mode), ""});
  }
  examine_table(inspector, name, findings);
  examine_processes(inspector, name, findings);
  examine_policies(inspector, name, findings);
  if (info.snapshot_failures != 0) {
    findings.push_back({Level::kWarning, name, "snapshot",
                        join("the last ", info.snapshot_failures, " snapshots failed"),
                        "the agent's messages say why: journalctl -u brim-agent@..."});
  } else if (info.snapshot_generation != 0 && info.snapshot_age_ns > kHourNs) {
    findings.push_back({Level::kWarning, name, "snapshot",
                        join("the last snapshot is ", human_duration(info.snapshot_age_ns), " old"),
                        "start the agent again: brim agent"});
  } else if (info.snapshot_generation == 0) {
    findings.push_back({Level::kNote, name, "snapshot", "none was taken",
                        "a reboot forgets what keys owe; brim agent keeps it"});
  } else {
    findings.push_back(
        {Level::kOk, name, "snapshot", join(human_duration(info.snapshot_age_ns), " old"), ""});
  }
}

}  // namespace brim::tools
