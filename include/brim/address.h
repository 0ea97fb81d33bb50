// SPDX-License-Identifier: MIT
// Client addresses as keys: one spelling for each address, and one key for each network, so that
// neither "::FFFF:203.0.113.7" beside "203.0.113.7" nor the 2^64 addresses of one IPv6 customer
// get a limit each. Plain values. What is noexcept here may be called for every request, by any
// thread and in a signal handler: it neither allocates nor waits nor keeps state.
#ifndef BRIM_ADDRESS_H_
#define BRIM_ADDRESS_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace brim {

// How much of an address makes a key. A prefix beyond the whole address means the whole address.
struct AddressOptions {
  uint8_t v4_prefix = 32;
  uint8_t v6_prefix = 64;  // what one customer usually gets
};

struct Address {
  uint8_t bytes[16] = {};  // network order; an IPv4 address fills the first 4, the rest is zero
  bool v4 = false;

  constexpr uint8_t bits() const noexcept { return v4 ? 32 : 128; }
  friend bool operator==(const Address&, const Address&) = default;
};

// A network: an address whose bits behind the prefix are zero.
struct Cidr {
  Address address;
  uint8_t prefix = 0;

  friend bool operator==(const Cidr&, const Cidr&) = default;
};

// The canonical text of an address or network, or nothing.
class AddressKey {
 public:
  AddressKey() = default;
  bool ok() const noexcept { return size_ != 0; }
  // Points into this object.
  std::string_view view() const noexcept { return {text_, size_}; }

 private:
  friend AddressKey network_key(const Address& address, uint8_t prefix) noexcept;
  char text_[47] = {};  // the longest: 39 characters, and "/127"
  uint8_t size_ = 0;
};

// Reads an address as servers write it: "203.0.113.7" (four decimal numbers, no zeros in front),
// IPv6 with "::" and with an IPv4 tail. A zone ("%eth0"), brackets, and a port that can not be a
// part of the address ("1.2.3.4:80", "[::1]:80") are ignored. An IPv4-mapped IPv6 address is the
// IPv4 address. Anything else, such as "unix:", is no address: false, and `out` is unchanged.
bool parse_address(std::string_view text, Address& out) noexcept;

// Canonical text of the network of that prefix around an address: "203.0.113.0/24",
// "2001:db8:1:2::/64" (as in RFC 5952), and without "/..." if it is the whole address.
AddressKey network_key(const Address& address, uint8_t prefix) noexcept;

// The key of the client whose address is `text`. Not ok() if the text is no address: the caller
// then uses the text itself.
AddressKey address_key(std::string_view text, AddressOptions options = {}) noexcept;

// Reads a network, "10.0.0.0/8", or an address as the network of itself. Set-up only. No zone,
// brackets or port. A mapped network, ::ffff:10.0.0.0/104, is the IPv4 network.
// Errors: InvalidArgument (invalid_address) that says what to write instead.
absl::StatusOr<Cidr> parse_cidr(std::string_view text);

// The one canonical spelling; parse_cidr(cidr_text(c).view()) == c.
AddressKey cidr_text(const Cidr& cidr) noexcept;

// An IPv4 address is in no IPv6 network, not even ::/0.
bool contains(const Cidr& cidr, const Address& address) noexcept;

}  // namespace brim

#endif  // BRIM_ADDRESS_H_
