// SPDX-License-Identifier: MIT
// Goal: any text is a policy or is refused with a place inside it; a policy's canonical text means
// the same policy; whatever parses can be compiled and reported. Method: parse, print, parse again.
// Input: the text.
#include "brim/policy.h"
#include "brim/policy_report.h"
#include "src/base/text.h"
#include "src/compile.h"
#include "src/policy_terms.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

void require_refusal(std::string_view text, const TextError& error) {
  require(error.at == kNowhere || error.at <= text.size(), "the column is behind the text");
  require(!error.what.empty(), "refused without a reason");
  const absl::StatusOr<Policy> again = parse_policy(text);
  require(!again.ok(), "refused once, taken then");
  const std::string message(again.status().message());
  require(message.starts_with("invalid_policy: "), "another error", message);
  require(printable_ascii(message, "") && message.size() < 2000, "a message", message);
}

void require_policy(const Policy& policy) {
  require(validate(policy).ok(), "parsed, but not valid");
  const std::string canonical = policy_text(policy);
  require(canonical.size() <= kMaxPolicyText && printable_ascii(canonical, ""), "text", canonical);
  const absl::StatusOr<Policy> again = parse_policy(canonical);
  require(again.ok() && *again == policy, "the canonical text means something else", canonical);
  require(policy_text(*again) == canonical, "two canonical texts", canonical);
  const PolicyReport report = report_policy(policy, 48);
  require(report.text == canonical && report.rates.size() == policy.rates.size(), "the report");
  for (const RateReport& rate : report.rates) require(printable_ascii(rate.text), "a rate's text");
  for (const PolicyFinding& finding : report.findings) {
    require(printable_ascii(finding.what) && !finding.name.empty(), "a finding", finding.what);
  }
  require(cells_needed(policy) % 2 == 0, "an odd number of cells");
  const Beginning at{1'000'000'000'000, 1'700'000'000'000'000'000};
  const absl::StatusOr<shm::PolicyWords> words = compile(policy, at);
  require(words.ok(), "valid, but does not compile", canonical);
  const Beginning later{at.now_ns + 3'000'000'000, at.wall_ns + 3'000'000'000};
  require(recompile(policy, later, *words, false).ok(), "does not replace itself", canonical);
  with_factor(*words, later.now_ns, 333'333);
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim;
  using namespace brim::fuzz;
  const std::string_view text = as_text(data, size);
  Policy policy;
  TextError error;
  if (read_policy(text, policy, error)) {
    require_policy(policy);
  } else {
    require_refusal(text, error);
  }
  return 0;
}
