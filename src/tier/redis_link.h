// SPDX-License-Identifier: MIT
// Takes calls to the servers that have their keys, and brings the answers back: of one server, of
// the master that sentinels name, or of a cluster's nodes. All calls of a server are written
// together and its answers read together, of all servers at the same time.
//
// What is done again by itself is only what surely was not done: refused by a server (MOVED, ASK,
// NOSCRIPT, TRYAGAIN, CLUSTERDOWN, LOADING, READONLY), not sent in whole, or not connected. Each a
// bounded number of times, and within the deadline. A call that was sent and not answered is
// Unknown, and never sent again.
#ifndef BRIM_SRC_TIER_REDIS_LINK_H_
#define BRIM_SRC_TIER_REDIS_LINK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/tier/redis_connection.h"
#include "src/tier/redis_script.h"
#include "src/tier/redis_slots.h"
#include "src/tier/resp.h"
#include "src/tier/store.h"
#include "src/tier/url.h"

namespace brim::tier {

inline constexpr size_t kMostServers = 1024;  // of a cluster; whatever a server tells

struct Call {
  uint16_t slot = 0;
  const Script* script = nullptr;  // nullptr: the words are the command
  size_t words = 0;
  std::string bytes;  // the words, each by append_word(): of a script, from the number of keys on

  absl::Status status;  // the answer; `reply` is no error
  Reply reply;

  // Of the link.
  enum class Again { kNo, kNow, kLater };
  Again again = Again::kNo;
  bool load = false;            // the source is to be sent
  std::optional<Endpoint> ask;  // where an ASK sends
  int redirects = 0;
  uint64_t end = 0;  // of its bytes in its connection
};

class RedisLink {
 public:
  RedisLink(RedisUrl url, TlsOptions tls, int64_t connect_timeout_ns);

  void run(std::span<Call> calls, int64_t deadline_ns);
  // Connects if need be; one answer of each master that is known.
  std::vector<absl::StatusOr<Reply>> ask_all(std::string_view command, int64_t deadline_ns);
  // Now and then: a master that was replaced while it works still calls itself one for seconds, and
  // what it is told then is lost.
  void look_for_another_master(int64_t deadline_ns);
  void drop_all();  // after fork()
  StoreCounts& counts() { return counts_; }
  const StoreCounts& counts() const { return counts_; }

 private:
  struct Server {
    Endpoint endpoint;
    std::optional<Connection> connection;
    int64_t not_before_ns = 0;  // it did not answer: left alone until then
  };
  // The calls of one round to one server.
  struct Batch {
    Server* server = nullptr;
    std::vector<Call*> calls;
    size_t answered = 0;
    bool asking = false;  // the next reply is that to ASKING
  };

  std::vector<Call*> deliver(std::vector<Call*>& calls, int64_t deadline_ns);
  Server* route(const Call& call);
  Server& server_at(const Endpoint& endpoint);
  absl::Status connect(Server& server, int64_t deadline_ns);
  absl::StatusOr<Endpoint> ask_sentinel(const Endpoint& sentinel, int64_t deadline_ns);
  absl::Status connect_master(Server& server, int64_t deadline_ns);
  absl::Status connect_to(Server& server, const Endpoint& endpoint, const Login& login,
                          int64_t deadline_ns);
  void send(Batch& batch);
  void wait_for_answers(std::vector<Batch>& batches, int64_t deadline_ns);
  bool take_answers(Batch& batch);
  void take(Server& server, Call& call, Reply reply);
  void refused(Server& server, Call& call, const Reply& error);
  void redirected(Server& server, Call& call, const Reply& error, bool moved);
  void broken(Batch& batch, const absl::Status& why);
  void not_connected(Batch& batch, const absl::Status& why);
  absl::Status refresh(int64_t deadline_ns);
  void learn(const std::vector<SlotRange>& ranges);

  RedisUrl url_;
  Dialer dialer_;
  StoreCounts counts_;
  int64_t connect_timeout_ns_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<Server*> slots_;  // of a cluster; empty: not known
  bool stale_ = false;          // the map is
  int64_t refreshed_ns_ = 0;
  size_t first_ = 0;  // whom to ask first: of the sentinels, or for the map
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_REDIS_LINK_H_
