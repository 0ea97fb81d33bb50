// SPDX-License-Identifier: MIT
#include "replay_stats.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

#include "output.h"
#include "replay_text.h"

namespace brim::replay {

namespace {

using tools::join;

__extension__ typedef __int128 int128;  // no other type holds a count times a period in ns

constexpr uint32_t kMaxCount = std::numeric_limits<uint32_t>::max();

absl::Status file_error(const std::string& what) {
  return absl::UnavailableError(
      join("replay_file: ", what, ": ", std::strerror(errno),
           "; requests are kept there, 16 bytes each: set TMPDIR to a directory with room"));
}

// A file that no name leads to.
int open_nameless(const std::string& directory) {
  const int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  std::string path = directory + "/brim-replay-XXXXXX";
  const int named = mkostemp(path.data(), O_CLOEXEC);
  if (named >= 0) unlink(path.c_str());
  return named;
}

}  // namespace

void Reorder::let_go() {
  const Held& first = held_.top();
  last_ns_ = first.time_ns;
  sink_(first.time_ns, first.client);
  held_.pop();
}

void Reorder::push(int64_t time_ns, uint32_t client) {
  if (time_ns < newest_ns_) ++out_of_order_;
  if (time_ns < last_ns_) {
    ++late_;
    time_ns = last_ns_;
  }
  newest_ns_ = std::max(newest_ns_, time_ns);
  held_.push({time_ns, sequence_++, client});
  // A line still to come may bear the very stamp newest - window.
  while (held_.top().time_ns < newest_ns_ - window_ns_) let_go();
}

void Reorder::finish() {
  while (!held_.empty()) let_go();
}

void Spread::push(int64_t time_ns, uint32_t client) {
  time_ns -= time_ns % resolution_ns_;  // a stamp may be finer than its format promises
  if (time_ns != time_ns_) finish();
  time_ns_ = time_ns;
  clients_.push_back(client);
}

void Spread::finish() {
  const auto count = static_cast<int128>(clients_.size());
  for (size_t i = 0; i < clients_.size(); ++i) {
    const auto shift = static_cast<int64_t>(static_cast<int128>(i) * resolution_ns_ / count);
    sink_(time_ns_ + shift, clients_[i]);
  }
  clients_.clear();
}

absl::StatusOr<EventFile> EventFile::create() {
  const char* const set = std::getenv("TMPDIR");
  const std::string directory = set == nullptr || *set == '\0' ? "/tmp" : set;
  const int fd = open_nameless(directory);
  if (fd < 0) return file_error(join("a temporary file in ", tools::escape_text(directory)));
  std::FILE* const file = fdopen(fd, "w+");
  if (file == nullptr) {
    close(fd);
    return file_error("fdopen");
  }
  return EventFile(file);
}

EventFile::EventFile(EventFile&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)),
      last_(other.last_),
      written_(other.written_),
      failed_(other.failed_),
      map_(std::exchange(other.map_, nullptr)) {}

EventFile::~EventFile() {
  if (map_ != nullptr) munmap(map_, written_ * sizeof(Event));
  if (file_ != nullptr) std::fclose(file_);
}

void EventFile::write_last() {
  if (last_.count == 0) return;
  failed_ = failed_ || std::fwrite(&last_, sizeof(last_), 1, file_) != 1;
  ++written_;
}

void EventFile::append(int64_t time_ns, uint32_t client) {
  if (last_.count != 0 && last_.time_ns == time_ns && last_.client == client &&
      last_.count != kMaxCount) {
    ++last_.count;
    return;
  }
  write_last();
  last_ = {time_ns, client, 1};
}

absl::StatusOr<std::span<const Event>> EventFile::finish() {
  write_last();
  last_.count = 0;
  if (failed_ || std::fflush(file_) != 0) return file_error("writing a temporary file");
  if (written_ == 0) return std::span<const Event>();
  map_ = mmap(nullptr, written_ * sizeof(Event), PROT_READ, MAP_SHARED, fileno(file_), 0);
  if (map_ == MAP_FAILED) {
    map_ = nullptr;
    return file_error("mapping a temporary file");
  }
  return std::span(static_cast<const Event*>(map_), written_);
}

Peaks window_peaks(std::span<const Event> events, size_t clients, int64_t window_ns) {
  Peaks peaks;
  peaks.client.resize(clients);
  std::vector<uint32_t> inside(clients);
  uint64_t all = 0;
  size_t oldest = 0;
  for (const Event& event : events) {
    for (; event.time_ns - events[oldest].time_ns >= window_ns; ++oldest) {
      inside[events[oldest].client] -= events[oldest].count;
      all -= events[oldest].count;
    }
    uint32_t& count = inside[event.client];
    count += event.count;
    all += event.count;
    peaks.client[event.client] = std::max(peaks.client[event.client], count);
    if (all > peaks.all) {
      peaks.all = all;
      peaks.all_at_ns = event.time_ns;
    }
  }
  return peaks;
}

std::vector<uint32_t> least_bursts(std::span<const Event> events, size_t clients, uint32_t limit,
                                   int64_t period_ns) {
  // The debt if every request is admitted, in units of 1/period permit: nothing is rounded.
  struct Debt {
    int128 now = 0;
    int128 most = 0;
    int64_t time_ns = 0;
  };
  std::vector<Debt> debts(clients);
  for (const Event& event : events) {
    Debt& debt = debts[event.client];
    const int128 refilled = static_cast<int128>(event.time_ns - debt.time_ns) * limit;
    debt.now = std::max<int128>(0, debt.now - refilled);
    debt.now += static_cast<int128>(event.count) * period_ns;
    debt.time_ns = event.time_ns;
    debt.most = std::max(debt.most, debt.now);
  }
  std::vector<uint32_t> bursts;
  bursts.reserve(clients);
  for (const Debt& debt : debts) {
    const int128 permits = (debt.most + period_ns - 1) / period_ns;
    bursts.push_back(permits > kMaxCount ? kMaxCount : static_cast<uint32_t>(permits));
  }
  return bursts;
}

std::string why_no_burst(const Policy& policy) {
  if (policy.rates.size() != 1) return "several rates decide together";
  const Rate& rate = policy.rates.front();
  if (rate.algorithm != Algorithm::kGcra && rate.algorithm != Algorithm::kTokenBucket &&
      rate.algorithm != Algorithm::kLeakyBucket) {
    return "this algorithm has no burst";
  }
  if (rate.forward || rate.debt != 0) return "the bucket lends permits";
  if (policy.warm_up_ns != 0) return "the rate grows";
  if (policy.ban.after != 0) return "bans refuse more than the rate does";
  if (policy.enforced_percent != 100) return "the policy is not enforced for all";
  if (policy.class_percent[static_cast<size_t>(Priority::kNormal)] != 100) {
    return "normal requests may not use the whole burst";
  }
  return "";
}

int64_t only_period_ns(const Policy& policy) {
  if (policy.rates.size() != 1) return 0;
  const Rate& rate = policy.rates.front();
  switch (rate.calendar) {
    case CalendarUnit::kHour:
      return 3600 * kSecondNs;
    case CalendarUnit::kDay:
      return 86400 * kSecondNs;
    case CalendarUnit::kWeek:
      return 7 * 86400 * kSecondNs;
    case CalendarUnit::kMonth:
    case CalendarUnit::kYear:
      return 0;
    case CalendarUnit::kNone:
      break;
  }
  return rate.period_ns;
}

absl::StatusOr<Percentile> Percentile::parse(const std::string& text) {
  const size_t dot = std::min(text.find('.'), text.size());
  const std::string decimals = dot < text.size() ? text.substr(dot + 1) : "0";
  uint32_t value = 0;
  bool good = dot >= 1 && dot <= 3 && !decimals.empty() && decimals.size() <= 3;
  for (const char c : text.substr(0, dot) + (decimals + "00").substr(0, 3)) {
    good = good && c >= '0' && c <= '9';
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  if (good && value >= 1 && value <= 100000) return Percentile{value};
  return absl::InvalidArgumentError(join("invalid_percentile: '", tools::escape_text(text),
                                         "'; give 0.001 to 100, such as 99 or 99.9"));
}

std::string Percentile::text() const {
  std::string decimals = std::to_string(1000 + thousandths % 1000).substr(1);
  while (!decimals.empty() && decimals.back() == '0') decimals.pop_back();
  return join(thousandths / 1000, decimals.empty() ? "" : ".", decimals);
}

uint32_t percentile_of(std::vector<uint32_t> values, Percentile percentile) {
  if (values.empty()) return 0;
  const uint64_t rank = (values.size() * uint64_t{percentile.thousandths} + 99999) / 100000;
  const auto nth = values.begin() + static_cast<ptrdiff_t>(rank - 1);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

Suggestion suggest(std::span<const Event> events, const std::vector<uint32_t>& period_peaks,
                   const Policy& asked, Percentile percentile) {
  Suggestion suggestion;
  suggestion.policy = asked;
  Rate& rate = suggestion.policy.rates.front();
  rate.limit = percentile_of(period_peaks, percentile);
  // A period of nanoseconds may be too short for such a limit.
  if (rate.limit == 0 || rate.limit > rate.period_ns) return suggestion;
  const std::vector<uint32_t> bursts =
      least_bursts(events, period_peaks.size(), rate.limit, rate.period_ns);
  rate.burst = percentile_of(bursts, percentile);
  suggestion.clients_refused = static_cast<uint64_t>(std::count_if(
      bursts.begin(), bursts.end(), [&](uint32_t burst) { return burst > rate.burst; }));
  suggestion.valid = validate(suggestion.policy).ok();
  return suggestion;
}

}  // namespace brim::replay
