// SPDX-License-Identifier: MIT
// The program that exactness tests exec: attaches the segment by name and does worker N's part of
// the job behind an inherited descriptor. `process_worker strace NAME` makes 10^6 calls between
// two getppid(2) for P7.
#include "tests/process/job.h"

namespace brim::test {
namespace {

int do_job(int fd, uint32_t worker) {
  const SharedBytes bytes = SharedBytes::adopt(fd);
  Job& job = *bytes.as<Job>();
  Options options;
  if (job.kind != JobKind::kEndless) {
    options.clock = ClockKind::kManual;
    options.manual_clock_ns = &job.clock_ns;
  }
  const absl::StatusOr<Limiter> limiter = Limiter::attach(job.segment, options);
  if (!limiter.ok()) return 2;
  const absl::StatusOr<PolicyHandle> policy = limiter->policy("p");
  if (!policy.ok()) return 3;
  run_job(job, *policy, worker);
  return 0;
}

// Hot and new keys, admissions and refusals, every call; nothing but decisions between the marks.
int traced_calls(const char* segment) {
  const absl::StatusOr<Limiter> limiter = Limiter::attach(segment);
  if (!limiter.ok()) return 2;
  const absl::StatusOr<PolicyHandle> policy = limiter->policy("p");
  if (!policy.ok()) return 3;
  char key[32] = "key";
  std::string_view batch[4] = {"a", "b", "c", "d"};
  Decision decisions[4];
  (void)policy->try_acquire("warm");  // sets the clock's anchor
  (void)getppid();
  for (uint32_t i = 0; i < 1000000; ++i) {
    std::memcpy(key + 3, &i, sizeof(i));
    const std::string_view text(key, 3 + (i % 2 == 0 ? sizeof(i) : 0));
    switch (i % 8) {
      case 5:
        (void)policy->peek(text, 1);
        break;
      case 6:
        policy->try_acquire_batch(batch, decisions);
        break;
      case 7:
        (void)(i % 16 == 7 ? policy->refund(text) : policy->reset(text));
        break;
      default:
        (void)policy->try_acquire(text);
    }
  }
  (void)getppid();
  return 0;
}

}  // namespace
}  // namespace brim::test

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  if (std::string_view(argv[1]) == "strace") return brim::test::traced_calls(argv[2]);
  brim::test::bound_child(300);
  return brim::test::do_job(std::atoi(argv[1]), static_cast<uint32_t>(std::atoi(argv[2])));
}
