// SPDX-License-Identifier: MIT
// A connection to one server that is logged in and has answered, and what its errors mean.
#ifndef BRIM_SRC_TIER_REDIS_CONNECTION_H_
#define BRIM_SRC_TIER_REDIS_CONNECTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/tier/resp.h"
#include "src/tier/store.h"
#include "src/tier/transport.h"

namespace brim::tier {

// How to reach servers; the same for all of a store but for the login of sentinels.
struct Dialer {
  bool tls = false;
  TlsOptions tls_options;
  TlsContext context;  // made when needed; made anew after trouble: a file may have been replaced
  Resolver resolver;
  StoreCounts* counts = nullptr;
};

struct Login {
  std::string user;
  Secret password;
  uint32_t db = 0;
  bool master = false;  // it must be one
};

class Connection {
 public:
  // Errors: as of Transport::connect(), and what the server says to the login (see refusal()).
  static absl::StatusOr<Connection> open(const Endpoint& endpoint, const Login& login,
                                         Dialer& dialer, int64_t deadline_ns);

  const std::string& name() const { return transport_.name(); }
  int fd() const { return transport_.fd(); }
  short events() const { return transport_.events(sent_in_out_ < out_.size()); }

  void queue(std::string_view bytes) { out_ += bytes; }
  // Counted from the beginning of the connection.
  uint64_t queued() const { return sent_ + out_.size() - sent_in_out_; }
  uint64_t sent() const { return sent_; }

  // Writes and reads what goes without waiting. On an error there may still be replies to take.
  absl::Status pump();
  absl::StatusOr<std::optional<Reply>> next() { return reader_.next(); }
  // There may be more to read that poll() does not know of.
  bool more() const { return more_; }
  absl::Status malformed(const absl::Status& why) const;  // an error of next(), with the name
  // False if the server ended it meanwhile, or said something unasked.
  bool is_idle();

  // One command and its reply. A reply that is an error is none of the call.
  absl::StatusOr<Reply> ask(std::string_view command, int64_t deadline_ns);

 private:
  explicit Connection(Transport transport) : transport_(std::move(transport)) {}
  bool wait(int64_t deadline_ns) const;
  absl::Status log_in(const Login& login, Dialer& dialer, int64_t deadline_ns);

  Transport transport_;
  ReplyReader reader_;
  std::string out_;
  size_t sent_in_out_ = 0;
  uint64_t sent_ = 0;
  bool more_ = false;
};

// What an error reply says. `word`: its first, or that of the command inside of a script.
struct Refusal {
  enum class Kind {
    kReadonly,
    kLoading,
    kClusterDown,
    kBusy,
    kOom,
    kAuth,
    kNoPermission,
    kOther,  // as counted
    kMoved,
    kAsk,
    kTryAgain,
    kNoScript,  // not refused: elsewhere, or otherwise
  };
  Kind kind = Kind::kOther;
  absl::Status status;
};
Refusal refusal(const std::string& server, const Reply& error);
void count(StoreCounts& counts, Refusal::Kind kind);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_REDIS_CONNECTION_H_
