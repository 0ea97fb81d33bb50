// SPDX-License-Identifier: MIT
// The tier beside doing without, and beside the usual way, in one run each:
//   1  ns of a local decision: a policy of one node, one of the cluster without an agent, and one
//      whose agent exchanges with a Redis all the time
//   2  what the Redis sees as keys and traffic grow
//   3  the usual way: one script call per request, one by one and pipelined
//
//   bench_tier [--rounds N] [--calls N] [--seconds S]
//
// Starts a redis-server of its own on a unix socket, and ends it.
#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/workload.h"
#include "brim/cluster.h"
#include "brim/limiter.h"
#include "brim/tier.h"
#include "src/base/check.h"
#include "src/base/text.h"

namespace brim::bench {
namespace {

class Redis {
 public:
  Redis() {
    char made[] = "/tmp/brim-bench-XXXXXX";
    BRIM_CHECK(mkdtemp(made) != nullptr);
    directory_ = made;
    socket_ = directory_ + "/redis.sock";
    pid_ = fork();
    if (pid_ == 0) {
      execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_.c_str(),
             "--dir", made, "--save", "", "--appendonly", "no", "--logfile", "log",
             static_cast<char*>(nullptr));
      _exit(127);
    }
    for (int tries = 0; tries < 500 && access(socket_.c_str(), F_OK) != 0; ++tries) {
      usleep(10000);
    }
    BRIM_CHECK(access(socket_.c_str(), F_OK) == 0);
  }
  ~Redis() {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    unlink((directory_ + "/log").c_str());
    rmdir(directory_.c_str());
  }
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;
  const std::string& socket() const { return socket_; }
  std::string url() const { return "unix://" + socket_; }

 private:
  std::string directory_;
  std::string socket_;
  pid_t pid_ = -1;
};

struct Node {
  Node(const std::string& tag, const char* text, bool names = false)
      : name("brim-bench-tier-" + tag + "-" + std::to_string(getpid())) {
    Options options;
    options.capacity = 1 << 17;
    options.name_bytes = names ? 48 : Options::kNoNames;
    options.policies = {{"p", text}};
    auto made = Limiter::create(name, options);
    if (!made.ok()) std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
    BRIM_CHECK(made.ok());
    limiter = *std::move(made);
    policy = *limiter.policy("p");
  }
  ~Node() { (void)Limiter::unlink(name); }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  std::string name;
  Limiter limiter;
  PolicyHandle policy;
};

TierThread start(const Redis& redis, const Node& node) {
  TierOptions options;
  options.url = redis.url();
  auto thread = TierThread::start(node.name, options);
  if (!thread.ok()) std::fprintf(stderr, "%s\n", thread.status().ToString().c_str());
  BRIM_CHECK(thread.ok());
  for (int tries = 0; tries < 500 && !ClusterView::status_of(node.name)->up; ++tries) usleep(10000);
  BRIM_CHECK(ClusterView::status_of(node.name)->up);
  return *std::move(thread);
}

Contender contender(const std::string& name, const PolicyHandle& policy) {
  return {name, [policy](const Keys& keys, uint64_t n, uint64_t seed) {
            KeyPicker picker{seed, keys.count()};
            uint64_t sum = 0;
            for (uint64_t i = 0; i < n; ++i) {
              sum += policy.try_acquire(keys[picker.next()]).admitted;
            }
            return sum;
          }};
}

void local_decisions(const Redis& redis, int rounds, uint64_t calls) {
  const Keys keys(256);
  std::printf("ns of CPU per decision, 256 keys      admitted  x node   refused  x node\n");
  std::vector<double> columns[2];
  const char* const names[] = {"scope node", "scope cluster, no agent",
                               "scope cluster, exchanging"};
  for (int refused = 0; refused < 2; ++refused) {
    const std::string rate = refused != 0 ? "1/y" : "1000000000/s burst 1000000";
    Node alone("a" + std::to_string(refused), rate.c_str());
    Node off("b" + std::to_string(refused), (rate + " scope cluster").c_str());
    Node on("c" + std::to_string(refused), (rate + " scope cluster").c_str());
    const TierThread agent = start(redis, on);
    // The agent of a key that is far from its limit has nothing to do: let every use matter.
    if (auto view = ClusterView::attach(on.name); view.ok()) view->set_hold_back(0, 0, 1);
    columns[refused] = measure({contender(names[0], alone.policy), contender(names[1], off.policy),
                                contender(names[2], on.policy)},
                               keys, 1, rounds, calls);
  }
  for (size_t i = 0; i < 3; ++i) {
    std::printf("%-36s %8.1f %7.2f  %8.1f %7.2f\n", names[i], columns[0][i],
                columns[0][i] / columns[0][0], columns[1][i], columns[1][i] / columns[1][0]);
  }
}

void traffic(const Redis& redis, double seconds) {
  std::printf("\n600/m burst 10, each key at a share of its rate; what the Redis sees\n");
  std::printf("%8s %8s %12s %12s %12s %14s\n", "keys", "share", "requests/s", "keys told/s",
              "trips/s", "requests/told");
  int run = 0;
  for (const uint64_t count : {uint64_t{1}, uint64_t{100}, uint64_t{10000}}) {
    for (const double share : {0.1, 0.5, 0.9, 1.5}) {
      Node node("t" + std::to_string(run++), "600/m burst 10 scope cluster");
      const TierThread agent = start(redis, node);
      const Keys keys(count);
      const TierStatus before = *ClusterView::status_of(node.name);
      const auto begun = std::chrono::steady_clock::now();
      KeyPicker picker{7, count};
      uint64_t sent = 0;
      for (;;) {
        const double gone =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        if (gone >= seconds) break;
        const auto due = static_cast<uint64_t>(gone * 10 * share * static_cast<double>(count));
        for (; sent < due; ++sent) node.policy.try_acquire(keys[picker.next()]);
        usleep(1000);
      }
      usleep(400000);  // for what is told last
      const TierStatus after = *ClusterView::status_of(node.name);
      const double told = static_cast<double>(after.pushes - before.pushes);
      std::printf("%8llu %7.0f%% %12.0f %12.1f %12.1f %14.1f\n",
                  static_cast<unsigned long long>(count), share * 100,
                  static_cast<double>(sent) / seconds, told / seconds,
                  static_cast<double>(after.calls - before.calls) / seconds,
                  static_cast<double>(sent) / (told > 0 ? told : 1));
    }
  }
}

// GCRA as one would write it: one key, the server's clock, expiry.
constexpr char kUsual[] =
    "local t=redis.call('TIME') local now=t[1]*1000000+t[2] "
    "local tat=tonumber(redis.call('GET',KEYS[1]) or 0) if tat<now then tat=now end "
    "local new=tat+ARGV[1] if new-now>tonumber(ARGV[2]) then return 0 end "
    "redis.call('SET',KEYS[1],string.format('%d',new),'PX',math.ceil((new-now)/1000)) return 1";

void usual_way(const Redis& redis, double seconds) {
  redisContext* const c = redisConnectUnix(redis.socket().c_str());
  BRIM_CHECK(c != nullptr && c->err == 0);
  auto* const loaded = static_cast<redisReply*>(redisCommand(c, "SCRIPT LOAD %s", kUsual));
  BRIM_CHECK(loaded != nullptr && loaded->type == REDIS_REPLY_STRING);
  const std::string sha(loaded->str, loaded->len);
  freeReplyObject(loaded);
  std::printf("\none script call per request over a unix socket\n");
  for (const int depth : {1, 16, 128}) {
    const auto begun = std::chrono::steady_clock::now();
    uint64_t done = 0;
    double gone = 0;
    for (uint64_t key = 0; gone < seconds;) {
      for (int i = 0; i < depth; ++i) {
        redisAppendCommand(c, "EVALSHA %s 1 usual:%llu 1000 1000000000", sha.c_str(),
                           static_cast<unsigned long long>(key++ % 256));
      }
      for (int i = 0; i < depth; ++i) {
        void* reply = nullptr;
        BRIM_CHECK(redisGetReply(c, &reply) == REDIS_OK);
        freeReplyObject(reply);
        ++done;
      }
      gone = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    }
    std::printf("pipelined by %3d: %10.0f decisions/s, %8.0f ns each, waiting included\n", depth,
                static_cast<double>(done) / gone, gone * 1e9 / static_cast<double>(done));
  }
  redisFree(c);
}

}  // namespace
}  // namespace brim::bench

int main(int argc, char** argv) {
  using namespace brim::bench;
  int rounds = 9;
  uint64_t calls = 200000;
  double seconds = 2;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--rounds") == 0) rounds = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--calls") == 0) calls = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--seconds") == 0) seconds = std::atof(argv[i + 1]);
  }
  const Redis redis;
  local_decisions(redis, rounds, calls);
  traffic(redis, seconds);
  usual_way(redis, seconds);
  return 0;
}
