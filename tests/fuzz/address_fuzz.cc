// SPDX-License-Identifier: MIT
// Goal: an address, a network and a duration have one canonical text each, which means the same;
// anything else is refused. Method: parse, print, parse again.
// Input: the text; its first byte is also the prefix.
#include "brim/address.h"
#include "src/base/text.h"
#include "src/policy_scan.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

void address(std::string_view text, uint8_t prefix) {
  Address parsed;
  parsed.bytes[3] = 7;
  const Address before = parsed;
  if (!parse_address(text, parsed)) {
    require(parsed == before, "no address, but changed");
    require(!address_key(text).ok(), "no address, but a key");
    return;
  }
  const AddressKey whole = network_key(parsed, 128);
  Address again;
  require(whole.ok() && parse_address(whole.view(), again) && again == parsed, "canonical text",
          whole.view());
  require(network_key(again, 128).view() == whole.view(), "two canonical texts", whole.view());
  const AddressKey key = network_key(parsed, prefix);
  const absl::StatusOr<Cidr> network = parse_cidr(key.view());
  require(network.ok(), "a network key that is no network", key.view());
  require(contains(*network, parsed), "not in its own network", key.view());
  require(network->prefix == std::min(prefix, parsed.bits()), "another prefix", key.view());
  require(address_key(text, {.v4_prefix = prefix, .v6_prefix = prefix}).view() == key.view(),
          "another key", key.view());
}

void network(std::string_view text) {
  const absl::StatusOr<Cidr> parsed = parse_cidr(text);
  if (!parsed.ok()) {
    const std::string message(parsed.status().message());
    require(message.starts_with("invalid_address: ") && printable_ascii(message, ""), "a message",
            message);
    return;
  }
  require(parsed->prefix <= parsed->address.bits(), "a prefix beyond the address");
  const AddressKey canonical = cidr_text(*parsed);
  const absl::StatusOr<Cidr> again = parse_cidr(canonical.view());
  require(again.ok() && *again == *parsed, "canonical text", canonical.view());
  require(contains(*parsed, parsed->address), "a network without its own address");
}

void duration(std::string_view text) {
  TextError error;
  Scanner scanner(text, error);
  int64_t ns = 0;
  if (!scanner.time("the time", kMaxPeriodNs, ns)) {
    require(error.at <= text.size() && !error.what.empty(), "the column is behind the text");
    return;
  }
  require(ns >= 0 && ns <= kMaxPeriodNs, "a time out of range");
  const std::string canonical = time_text(ns);
  TextError none;
  Scanner second(canonical, none);
  int64_t again = -1;
  require(second.time("the time", kMaxPeriodNs, again) && second.at_end() && again == ns,
          "canonical text", canonical);
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) { return 0; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  const std::string_view text = as_text(data, size);
  address(text, size == 0 ? 0 : static_cast<uint8_t>(data[0] % 140));
  network(text);
  duration(text);
  return 0;
}
