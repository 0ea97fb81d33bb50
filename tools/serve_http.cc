// SPDX-License-Identifier: MIT
// One request a connection. The library parses requests and writes answers, but it waits for each
// byte anew and bounds no sum of bytes, so a few slow clients would hold all its threads; here each
// connection is read whole first, within one deadline and one size, and only then handed to it.
#include "serve_http.h"

#include <httplib.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "commands.h"
#include "output.h"
#include "serve_site.h"

namespace brim::tools {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kThreads = 16;
constexpr size_t kMostWaiting = 256;           // connections; more are closed at once
constexpr size_t kMostHeadBytes = 16384;       // of a request
constexpr milliseconds kPatience(5000);        // for a whole request, and for a whole answer
constexpr milliseconds kCrowdedPatience(100);  // while others wait for a thread

// Time left for one connection: less as soon as others wait.
class Deadline {
 public:
  explicit Deadline(const std::atomic<bool>& crowded) : crowded_(&crowded) {}
  // False if `events` have not come in time.
  bool wait(int fd, short events) const {
    for (;;) {
      const auto left = (*crowded_ ? kCrowdedPatience : kPatience) -
                        std::chrono::duration_cast<milliseconds>(Clock::now() - began_);
      if (left.count() <= 0) return false;
      pollfd waiting = {fd, events, 0};
      // In slices, to see that others have come meanwhile.
      const int ready = poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left.count(), 50)));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

 private:
  const std::atomic<bool>* crowded_;
  Clock::time_point began_ = Clock::now();
};

// A request that has been read, and where its answer goes.
class Exchange : public httplib::Stream {
 public:
  Exchange(int fd, std::string head, const std::atomic<bool>& crowded)
      : fd_(fd), head_(std::move(head)), crowded_(crowded) {}

  bool is_readable() const override { return at_ < head_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* bytes, size_t size) override {
    const size_t n = std::min(size, head_.size() - at_);
    std::memcpy(bytes, head_.data() + at_, n);
    at_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* bytes, size_t size) override {
    // From here on: the time that the answer took to make is not its reader's fault.
    if (!deadline_.has_value()) deadline_.emplace(crowded_);
    for (;;) {
      const ssize_t n = send(fd_, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) return n;
      if (errno != EINTR && errno != EAGAIN) return -1;
      if (errno == EAGAIN && !deadline_->wait(fd_, POLLOUT)) return -1;
    }
  }
  // Nothing here depends on who asks.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return fd_; }

 private:
  int fd_;
  std::string head_;
  size_t at_ = 0;
  const std::atomic<bool>& crowded_;
  std::optional<Deadline> deadline_;
};

// A few threads. Whoever comes when too many wait is served by the one that accepts: with nothing.
class Queue : public httplib::TaskQueue {
 public:
  explicit Queue(std::atomic<bool>& crowded) : crowded_(crowded) {
    for (size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
  }
  void enqueue(std::function<void()> task) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (tasks_.size() < kMostWaiting) {
        tasks_.push_back(std::move(task));
        crowded_ = busy_ == kThreads;
        waiting_.notify_one();
        return;
      }
    }
    refused = true;
    task();
    refused = false;
  }
  void shutdown() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
      crowded_ = true;  // no patience any more
    }
    waiting_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  static thread_local bool refused;  // the task that runs shall only close its connection

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      waiting_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.erase(tasks_.begin());
      ++busy_;
      crowded_ = ending_ || (busy_ == kThreads && !tasks_.empty());
      refused = ending_;
      lock.unlock();
      task();
      lock.lock();
      --busy_;
    }
  }

  std::mutex mutex_;
  std::condition_variable waiting_;
  std::vector<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  size_t busy_ = 0;
  bool ending_ = false;
  std::atomic<bool>& crowded_;
};
thread_local bool Queue::refused = false;

class Server : public httplib::Server {
 public:
  Server() {
    new_task_queue = [this] { return new Queue(crowded_); };
    // The library's own options let a second server take the same port in silence.
    set_socket_options([](int fd) {
      const int yes = 1;
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
  }

  // The library has five wait; a sixth would try again after a second.
  void widen() { ::listen(svr_sock_, kMostWaiting); }

 private:
  bool process_and_close_socket(socket_t fd) override {
    std::string head;
    const char* const fault = Queue::refused ? "" : read_head(fd, head);
    Exchange exchange(fd, std::move(head), crowded_);
    if (fault == nullptr) {
      bool closed = false;
      // A range costs the whole text once more, and there may be thousands; packing costs more than
      // the way to a neighbour.
      process_request(exchange, true, closed, [](httplib::Request& request) {
        request.ranges.clear();
        request.headers.erase("Accept-Encoding");
      });
    } else if (*fault != '\0') {
      const std::string answer =
          join("HTTP/1.1 ", fault, "\r\nContent-Length: 0\r\n", "Connection: close\r\n\r\n");
      exchange.write(answer.data(), answer.size());
    }
    // With bytes unread, close() would reset the connection and the answer be lost.
    ::shutdown(fd, SHUT_WR);
    char rest[4096];
    for (int i = 0; i < 64 && recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0; ++i) {
    }
    close(fd);
    return true;
  }

  // Up to the empty line. Null if that came, else the status to answer, "" for none.
  const char* read_head(int fd, std::string& head) const {
    const Deadline deadline(crowded_);
    char bytes[4096];
    for (;;) {
      if (!deadline.wait(fd, POLLIN)) return head.empty() ? "" : "408 Request Timeout";
      const ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return "";
      if (n < 0) continue;
      const size_t from = head.size() < 3 ? 0 : head.size() - 3;
      head.append(bytes, static_cast<size_t>(n));
      if (head.size() > kMostHeadBytes) return "431 Request Header Fields Too Large";
      if (head.find("\r\n\r\n", from) != std::string::npos) return nullptr;
    }
  }

  std::atomic<bool> crowded_ = false;
};

WebRequest request_of(const httplib::Request& from) {
  WebRequest request;
  request.get = from.method == "GET" || from.method == "HEAD";
  request.path = from.path;
  if (from.get_header_value_count("Host") == 1) request.host = from.get_header_value("Host");
  request.other_site = from.get_header_value("Sec-Fetch-Site") == "cross-site";
  if (from.has_param("state")) request.state = from.get_param_value("state");
  if (from.has_param("limit")) request.limit = from.get_param_value("limit");
  return request;
}

void give(WebAnswer answer, httplib::Response& to) {
  for (const auto& [name, value] : kGuardHeaders) to.set_header(name, value);
  if (answer.status == 405) to.set_header("Allow", "GET, HEAD");
  to.status = answer.status;
  to.body = std::move(answer.body);
  if (answer.type != nullptr) to.set_header("Content-Type", answer.type);
}

// Binds; the port, or an error that says why not.
absl::StatusOr<int> bind(Server& server, const Listen& listen) {
  errno = 0;
  const int port = listen.port == 0 ? server.bind_to_any_port(listen.address)
                   : server.bind_to_port(listen.address, listen.port) ? listen.port
                                                                      : -1;
  if (port > 0) {
    server.widen();
    return port;
  }
  return absl::UnavailableError(join("listen_failed: ", listen.address, " port ", listen.port, ": ",
                                     std::strerror(errno), "; give another --listen"));
}

}  // namespace

int run_server(const ServeArgs& args) {
  const absl::StatusOr<Listen> listen = parse_listen(args.listen);
  if (!listen.ok()) return report(listen.status());
  const absl::StatusOr<Options> options = trusting_options(args.owner, args.group);
  if (!options.ok()) return report(options.status());
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // in all threads that are made
  Site site(args, *options);
  Server server;
  server.set_pre_routing_handler(
      [&site](const httplib::Request& request, httplib::Response& response) {
        give(site.answer(request_of(request)), response);
        return httplib::Server::HandlerResponse::Handled;
      });
  const absl::StatusOr<int> port = bind(server, *listen);
  if (!port.ok()) return report(port.status());
  std::atomic<bool> ended = false;
  std::thread serving([&] {
    server.listen_after_bind();
    ended = true;
  });
  while (!server.is_running() && !ended) std::this_thread::sleep_for(milliseconds(1));
  if (!listen->loopback) {
    complain("warning: others can reach this address; whoever does may read all keys");
  }
  const bool six = listen->address.find(':') != std::string::npos;
  emit(join("serving http://", six ? "[" : "", listen->address, six ? "]" : "", ":", *port, "/",
            args.metrics_only ? "metrics" : "", "\n"));
  int code = finish();
  int signal = 0;
  const timespec tick = {1, 0};
  do {
    signal = sigtimedwait(&signals, nullptr, &tick);
  } while (signal <= 0 && !ended);
  if (ended) {
    complain("listen_failed: the server has ended by itself");
    code = kExitFailure;
  }
  server.stop();
  serving.join();
  return code;
}

}  // namespace brim::tools
