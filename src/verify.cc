// SPDX-License-Identifier: MIT
// The walk as a whole, and what is not about slots or policies: header, file, attachments,
// counters.
#include "src/verify.h"

#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "shm/attachments.h"

namespace brim {

namespace {

constexpr FindingKind kReachBeyondLimit = {
    Severity::kError, "reach_beyond_limit",
    "no effect on decisions: callers cut it to the probe limit; --repair lowers it to that"};
constexpr FindingKind kAttachIds = {
    Severity::kNote, "attach_ids_used",
    "the numbers of attached processes begin again at 2097152; harmless unless so many attach "
    "within 70 minutes"};
constexpr FindingKind kDeadAttachment = {
    Severity::kNote, "dead_attachment",
    "nothing: the next process that attaches takes the entry; --repair empties it"};
constexpr FindingKind kAttachmentsFull = {
    Severity::kNote, "attachments_full",
    "further processes work, but `brim info` does not list them"};
constexpr FindingKind kNameLost = {
    Severity::kWarning, "name_lost",
    "the name was removed or taken over while this ran: new processes count elsewhere; restart "
    "the workers"};
constexpr FindingKind kModeChanged = {Severity::kNote, "mode_changed",
                                      "chmod it back unless that was meant"};
constexpr FindingKind kOwnerChanged = {Severity::kNote, "owner_changed",
                                       "chown it back unless that was meant"};
constexpr FindingKind kCounterInconsistent = {
    Severity::kError, "counter_inconsistent",
    "decisions do not depend on it; the counts are wrong until the segment is recreated"};
constexpr FindingKind kCounterLow = {
    Severity::kNote, "counter_low",
    "decisions do not depend on it: slots were written by something else than brim's calls"};

constexpr uint64_t kImpossibleCount = uint64_t{1} << 62;

}  // namespace

Finding Verifier::make(const FindingKind& kind, std::string value) {
  Finding finding;
  finding.severity = kind.severity;
  finding.name = kind.name;
  finding.remedy = kind.remedy;
  finding.value = std::move(value);
  return finding;
}

std::string Verifier::policy_label(uint16_t number) const {
  std::string name = engine_.registry.name(number);
  return name.empty() ? cat("#", number) : name;
}

void Verifier::report(const Finding& finding) {
  const bool error = finding.severity == Severity::kError;
  const bool warning = finding.severity == Severity::kWarning;
  ++(error ? report_.errors : warning ? report_.warnings : report_.notes);
  if (finding.repaired) {
    ++report_.repaired;
  } else if (error || warning) {
    ++(error ? report_.errors_remaining : report_.warnings_remaining);
  }
  if (visit_) visit_(finding);
}

// Policies come first: what slots and overrides are judged by.
VerifyReport Verifier::run() {
  check_header();
  check_attachments();
  check_policies();
  check_overrides();
  check_slots();
  check_copies();
  check_counters();
  check_file();
  return report_;
}

void Verifier::check_header() {
  shm::Segment& segment = *engine_.segment;
  const shm::HeaderFields& header = segment.header();
  const uint64_t most = std::min<uint64_t>(header.probe_limit, header.group_count) - 1;
  // Raised by one at a time, and never beyond the limit: one look is enough.
  const uint64_t reach = segment.stored_reach();
  if (reach > most) {
    Finding finding = make(kReachBeyondLimit, cat("reach ", reach, ", at most ", most));
    finding.repaired = options_.repair && segment.limit_reach(reach, most);
    report(finding);
  }
  constexpr uint64_t kIds = uint64_t{1} << kAttachIdBits;
  if (const uint64_t ids = segment.attach_ids(); ids > kIds / 8 * 7) {
    report(make(kAttachIds, cat(ids, " given out")));
  }
}

void Verifier::check_file() {
  const shm::Segment& segment = *engine_.segment;
  const shm::HeaderFields& header = segment.header();
  if (!segment.linked()) report(make(kNameLost, segment.path()));
  struct stat st {};
  if (fstat(segment.fd(), &st) != 0) return;
  if ((st.st_mode & 0777) != header.mode) {
    report(make(kModeChanged, cat("mode ", octal_mode(st.st_mode & 0777), ", made with ",
                                  octal_mode(header.mode))));
  }
  if (st.st_uid != header.creator_uid) {
    report(make(kOwnerChanged, cat("uid ", st.st_uid, ", made by uid ", header.creator_uid)));
  }
}

void Verifier::check_attachments() {
  const shm::Section* const section = engine_.segment->section(shm::SectionType::kAttachments);
  shm::Attachment* const table = engine_.segment->attachments();
  if (section == nullptr) return;
  uint64_t taken = 0;
  const auto list_dead = [&] {
    std::vector<uint32_t> dead;
    taken = 0;
    for (const shm::AttachedProcess& process : shm::list_attachments(table, section->count)) {
      ++taken;
      if (process.same_namespace && !process.alive) dead.push_back(process.pid);
    }
    return dead;
  };
  // A dead process does not come back: what is dead stays so until its entry is taken.
  const std::vector<uint32_t> dead = list_dead();
  std::vector<uint32_t> left = dead;
  if (options_.repair && !dead.empty()) {
    shm::clear_dead_attachments(table, section->count);
    left = list_dead();
  }
  for (const uint32_t pid : dead) {
    Finding finding = make(kDeadAttachment, cat("pid ", pid));
    finding.repaired = std::find(left.begin(), left.end(), pid) == left.end();
    report(finding);
  }
  if (taken == section->count && dead.empty()) {
    report(make(kAttachmentsFull, cat(taken, " processes")));
  }
}

// Each event is counted by whoever made it, right after the one that it follows; a killed process
// misses the later one. So if the later is read first it is never the larger.
void Verifier::check_counters() {
  using shm::Event;
  const shm::Counters& counters = engine_.counters;
  uint64_t evicted = 0;
  for (uint32_t i = 0; i < engine_.registry.size(); ++i) {
    const auto number = static_cast<uint16_t>(i);
    for (uint32_t which = 0; which <= static_cast<uint32_t>(shm::PolicyCounter::kPaused); ++which) {
      const uint64_t sum = counters.sum(number, static_cast<shm::PolicyCounter>(which));
      if (which == static_cast<uint32_t>(shm::PolicyCounter::kEvicted)) evicted += sum;
      if (sum < kImpossibleCount) continue;
      Finding finding = make(kCounterInconsistent, cat("counter ", which, " is ", sum));
      finding.policy = policy_label(number);
      report(finding);
    }
  }
  const uint64_t live = counters.sum(Event::kEvictedLive);
  const uint64_t taken = live + counters.sum(Event::kReclaimed) + counters.sum(Event::kExpired);
  const uint64_t inserted = counters.sum(Event::kInserted);
  uint64_t claimed = 0;
  for (uint32_t bin = 0; bin < 9; ++bin) {
    claimed += counters.sum(static_cast<Event>(static_cast<uint32_t>(Event::kProbeLength0) + bin));
  }
  const auto differ = [this](std::string_view what, uint64_t a, uint64_t b) {
    report(make(kCounterInconsistent, cat(what, ": ", a, " against ", b)));
  };
  if (evicted > live) differ("evicted by policy, and in all", evicted, live);
  if (taken > claimed) differ("slots taken from others, and claimed", taken, claimed);
  for (const uint64_t sum : {live, taken, inserted, claimed}) {
    if (sum >= kImpossibleCount) {
      differ("events of the table, and the most there can be", sum, kImpossibleCount);
      break;
    }
  }
  // Every key in a slot was inserted once; each thread of a killed process may have missed one.
  constexpr uint64_t kMostIds = uint64_t{1} << 48;  // the number may be anything
  const uint64_t missed = 64 * std::min<uint64_t>(engine_.segment->attach_ids(), kMostIds) + 1088;
  const uint64_t verified = report_.used - report_.tentative;
  if (verified > missed && verified - missed > inserted) {
    report(make(kCounterLow, cat(verified, " keys in slots, ", inserted, " insertions counted")));
  }
}

absl::StatusOr<VerifyReport> verify(std::string_view name, const VerifyOptions& options,
                                    const std::function<void(const Finding&)>& visit) {
  const auto engine = internal::attach_engine(name, options.access, !options.repair);
  if (!engine.ok()) return engine.status();
  return Verifier(**engine, options, visit).run();
}

}  // namespace brim
