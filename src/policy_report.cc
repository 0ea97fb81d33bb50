// SPDX-License-Identifier: MIT
#include "brim/policy_report.h"

#include <algorithm>
#include <utility>

#include "src/base/text.h"
#include "src/policy_terms.h"
#include "src/worst_case.h"

namespace brim {

namespace {

constexpr uint64_t kSlotBytes = 16;
constexpr uint64_t kLogMemory = 1024;
constexpr uint64_t kConsumptionBytes = 32;  // of a rate that nodes share

uint64_t rate_bytes(const Rate& rate) {
  if (is_one_of(rate.algorithm, kConstant)) return 0;
  if (rate.algorithm == Algorithm::kSlidingLog) return kSlotBytes + uint64_t{8} * rate.limit;
  if (rate.algorithm == Algorithm::kConcurrency) return kSlotBytes + uint64_t{16} * rate.limit;
  return kSlotBytes;
}

// The most permits of one instant.
uint64_t capacity(const Rate& rate) {
  if (is_one_of(rate.algorithm, kBuckets)) return uint64_t{rate.burst} + rate.debt;
  return rate.algorithm == Algorithm::kQueue ? uint64_t{rate.burst} + 1 : rate.limit;
}

// How long a call of one permit may have to wait at least, once refused for a while.
int64_t usual_retry_ns(const Rate& rate) {
  if (is_one_of(rate.algorithm, kConstant | kLeases)) return 0;
  const int64_t period = worst_period_ns(rate);
  return is_one_of(rate.algorithm, kBuckets | kQueues) ? period / rate.limit : period;
}

class Reviewer {
 public:
  explicit Reviewer(const Policy& policy, std::vector<PolicyFinding>& findings)
      : policy_(policy), findings_(findings) {}

  void review() {
    for (const Rate& rate : policy_.rates) {
      if (is_one_of(rate.algorithm, kBuckets | kQueues)) review_bucket(rate);
      if (is_one_of(rate.algorithm, kFixed | kCalendars | kLogs | kSlidingCounters)) {
        review_window(rate);
      }
      review_time(rate);
      review_others(rate);
      review_classes(rate);
    }
    review_scope();
    review_enforcement();
    review_ban();
  }

 private:
  void note(std::string_view name, std::string what) {
    findings_.push_back({false, name, std::move(what)});
  }
  void warn(std::string_view name, std::string what) {
    findings_.push_back({true, name, std::move(what)});
  }

  void review_bucket(const Rate& rate) {
    const uint64_t worst = worst_admitted(rate, rate.period_ns);
    const std::string text = rate_text(rate);
    if (rate.algorithm == Algorithm::kQueue) {
      if (rate.undelayed != Rate::kAllUndelayed && rate.undelayed != 0 &&
          rate.undelayed >= rate.burst) {
        warn("nothing_waits",
             cat("'", text, "': with delay-after ", rate.undelayed, " and burst ", rate.burst,
                 " no call waits; write no-delay, or a "
                 "smaller delay-after"));
      }
      note("any_cost", cat("'", text,
                           "': one call of any cost passes where one of cost 1 does; "
                           "the next ones pay"));
      return;
    }
    if (capacity(rate) >= rate.limit && rate.limit > 1) {
      note("burst_adds", cat("'", text, "' lets up to ", worst, " pass in ",
                             time_text(rate.period_ns), ", not ", rate.limit,
                             ": what is saved up comes on top; for a hard limit choose burst and "
                             "rate whose sum it is, or sliding-log"));
    }
    if (rate.forward) {
      note("any_cost", cat("'", text,
                           "': one call of any cost passes where one of cost 1 does; "
                           "the next ones pay"));
    } else if (capacity(rate) == 1) {
      note("cost_one",
           cat("'", text, "': a call of cost 2 or more never passes, as the burst is 1"));
    }
  }

  void review_window(const Rate& rate) {
    const std::string text = rate_text(rate);
    if (is_one_of(rate.algorithm, kFixed | kCalendars)) {
      const int64_t period = worst_period_ns(rate);
      note("window_boundary", cat("'", text, "' lets up to ", worst_admitted(rate, period),
                                  " pass in ", time_text(period),
                                  ", across the end of a window; gcra, sliding-counter and "
                                  "sliding-log are smoother"));
    }
    const uint64_t bytes = rate_bytes(rate) - kSlotBytes;
    if (rate.algorithm == Algorithm::kSlidingLog && bytes > kLogMemory) {
      warn("log_memory", cat("'", text, "' keeps ", bytes,
                             " bytes for each slot of the segment; sliding-counter or gcra keep 16 "
                             "a key"));
    }
    if (rate.algorithm == Algorithm::kSlidingCounter && rate.count_denied) {
      note("count_denied",
           cat("'", text, "': a client that keeps trying stays refused, as refusals count"));
    }
  }

  void review_time(const Rate& rate) {
    const int64_t period = worst_period_ns(rate);
    if (period > 0 && period < kMillisecondNs) {
      warn("short_period", cat("'", rate_text(rate),
                               "': in a period below 1ms the order in which "
                               "processes read the clock matters; give a longer period with a "
                               "limit as much higher"));
    }
  }

  void review_others(const Rate& rate) {
    for (const Rate& other : policy_.rates) {
      if (&other == &rate || !never_binds(rate, other)) continue;
      // Of two that are alike only the later one is told of.
      if (never_binds(other, rate) && &other > &rate) continue;
      warn("never_binds", cat("'", rate_text(rate), "' never refuses what '", rate_text(other),
                              "' admits; leave it out, or make it stricter"));
      return;
    }
  }

  void review_classes(const Rate& rate) {
    if (is_one_of(rate.algorithm, kConstant)) return;
    constexpr std::string_view kNames[] = {"low", "normal", "high"};
    for (int i = 0; i < 3; ++i) {
      const uint32_t percent = policy_.class_percent[i];
      if (percent < 100 && capacity(rate) * percent < 100) {
        warn("class_shut_out",
             cat("'", rate_text(rate), "': ", percent, "% of ", capacity(rate),
                 " is less than one permit, so ", kNames[i],
                 " priority never passes; give a higher per cent or a larger burst"));
      }
    }
  }

  // How far the nodes together may go beyond what the rate alone admits.
  void review_scope() {
    if (policy_.scope == PolicyScope::kStrict) {
      note("cluster_strict",
           cat("each request that a node would admit waits for the store, and is ",
               policy_.on_unavailable == OnUnavailable::kAllow ? "admitted" : "refused",
               " if that does not answer; see docs/concepts/cluster.md"));
    }
    if (policy_.scope != PolicyScope::kCluster) return;
    for (const Rate& rate : policy_.rates) {
      note("cluster_excess",
           cat("'", rate_text(rate), "' counts on all nodes: two of them together may admit ",
               capacity(rate),
               " more, and what the rate gives in the delay of an exchange; N nodes ",
               "N - 1 times that and half a burst, once; see docs/concepts/cluster.md"));
    }
  }

  void review_enforcement() {
    if (policy_.enforced_percent == 0) {
      warn("shadow",
           "in shadow mode nothing is refused, only counted; leave out 'shadow' to enforce");
    } else if (policy_.enforced_percent < 100) {
      warn("partly_enforced", cat("only ", policy_.enforced_percent,
                                  "% of the keys are limited; leave out 'enforce' for all"));
    }
  }

  void review_ban() {
    const Ban& ban = policy_.ban;
    if (ban.after == 0) return;
    int64_t retry = 0;
    for (const Rate& rate : policy_.rates) retry = std::max(retry, usual_retry_ns(rate));
    if (ban.for_ns < retry) {
      warn("ban_short", cat("a ban of ", time_text(ban.for_ns),
                            " may end before the rate admits "
                            "again, which takes up to ",
                            time_text(retry), "; give a longer ban"));
    }
    if (ban.factor != 1 && ban.max_ns == ban.for_ns) {
      warn("ban_capped", cat("the ban is not longer the next time, as its maximum is ",
                             time_text(ban.max_ns), "; give a larger max or leave out 'times'"));
    }
  }

  const Policy& policy_;
  std::vector<PolicyFinding>& findings_;
};

}  // namespace

PolicyReport report_policy(const Policy& policy, uint32_t name_bytes) {
  static_assert(RateReport::kUnbounded == kUnbounded);
  PolicyReport report;
  report.text = policy_text(policy);
  for (const Rate& rate : policy.rates) {
    RateReport one;
    one.text = rate_text(rate);
    one.bytes_per_key = rate_bytes(rate);
    one.period_ns = worst_period_ns(rate);
    one.period = time_text(one.period_ns);
    one.admitted = worst_admitted(rate, one.period_ns);
    one.started = worst_started(rate, one.period_ns);
    one.by_policy = worst_admitted(policy, one.period_ns);
    one.at_once = most_at_once(rate);
    one.any_cost = any_cost_passes(rate);
    report.bytes_per_key += one.bytes_per_key + (one.bytes_per_key == 0 ? 0 : name_bytes);
    if (policy.scope != PolicyScope::kNode) report.bytes_per_key += kConsumptionBytes;
    report.rates.push_back(std::move(one));
  }
  if (policy.ban.after != 0) report.bytes_per_key += kSlotBytes + name_bytes;
  Reviewer(policy, report.findings).review();
  return report;
}

}  // namespace brim
