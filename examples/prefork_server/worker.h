// SPDX-License-Identifier: MIT
// One worker process: an HTTP/1.1 server (libevent's evhttp) on a listening socket that it shares
// with its brothers, and one rate limiter that it shares with them too.
#ifndef BRIM_EXAMPLES_PREFORK_SERVER_WORKER_H_
#define BRIM_EXAMPLES_PREFORK_SERVER_WORKER_H_

#include <functional>
#include <string>

namespace example {

struct WorkerConfig {
  std::string segment;
  std::string policy_name;
  std::string policy_text;
  std::string key_header;  // requests are counted by this header's value; by address if empty
  std::string group;       // of the segment, if a group shares it
  int listen_fd = -1;      // bound, listening, non-blocking
};

// Serves until SIGTERM. Calls ready() once, when the limiter is open and requests are accepted.
// Returns the process's exit code: 0, or 1 after saying on stderr what failed.
int run_worker(const WorkerConfig& config, const std::function<void()>& ready);

}  // namespace example

#endif  // BRIM_EXAMPLES_PREFORK_SERVER_WORKER_H_
