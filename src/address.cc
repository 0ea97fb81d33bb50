// SPDX-License-Identifier: MIT
#include "brim/address.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>

#include "absl/status/status.h"
#include "src/base/text.h"

namespace brim {

namespace {

constexpr uint8_t kMappedBits = 96;  // in front of the IPv4 address in ::ffff:a.b.c.d

bool take(std::string_view& text, char wanted) noexcept {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

// A decimal number without zeros in front. REQUIRES: most < 2^24.
bool take_decimal(std::string_view& text, uint32_t most, uint32_t& value) noexcept {
  value = 0;
  size_t size = 0;
  for (; size < text.size() && text[size] >= '0' && text[size] <= '9'; ++size) {
    if (size > 0 && value == 0) return false;
    value = value * 10 + static_cast<uint32_t>(text[size] - '0');
    if (value > most) return false;
  }
  text.remove_prefix(size);
  return size != 0;
}

// One to four hexadecimal digits.
bool take_group(std::string_view& text, uint32_t& value) noexcept {
  value = 0;
  size_t size = 0;
  for (; size < text.size() && size < 4; ++size) {
    const char c = text[size];
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      value = value << 4 | static_cast<uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value << 4 | static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      break;
    }
  }
  text.remove_prefix(size);
  return size != 0;
}

bool parse_v4(std::string_view text, uint8_t* out) noexcept {
  for (int i = 0; i < 4; ++i) {
    uint32_t value;
    if (i > 0 && !take(text, '.')) return false;
    if (!take_decimal(text, 255, value)) return false;
    out[i] = static_cast<uint8_t>(value);
  }
  return text.empty();
}

// REQUIRES: out is 16 zeros.
bool parse_v6(std::string_view text, uint8_t* out) noexcept {
  constexpr size_t kNone = 17;
  size_t gap = kNone;  // where "::" stands
  size_t at = 0;
  if (text.starts_with("::")) {
    gap = 0;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    const std::string_view tail = text;
    uint32_t group;
    if (at == 16 || !take_group(text, group)) return false;
    if (!text.empty() && text.front() == '.') {
      if (at > 12 || !parse_v4(tail, out + at)) return false;
      at += 4;
      break;
    }
    out[at++] = static_cast<uint8_t>(group >> 8);
    out[at++] = static_cast<uint8_t>(group);
    if (text.empty()) break;
    if (!take(text, ':') || text.empty()) return false;
    if (take(text, ':')) {
      if (gap != kNone) return false;
      gap = at;
    }
  }
  if (gap == kNone) return at == 16;
  if (at == 16) return false;  // "::" stands for one group or more
  std::memmove(out + 16 - (at - gap), out + gap, at - gap);
  std::memset(out + gap, 0, 16 - at);
  return true;
}

// An address and nothing else. mapped: it was written as IPv6 and is IPv4.
bool parse_bare(std::string_view text, Address& out, bool& mapped) noexcept {
  static constexpr uint8_t kMapped[kMappedBits / 8] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  Address address;
  mapped = false;
  if (text.find(':') == std::string_view::npos) {
    address.v4 = true;
    if (!parse_v4(text, address.bytes)) return false;
  } else {
    if (!parse_v6(text, address.bytes)) return false;
    mapped = std::memcmp(address.bytes, kMapped, sizeof(kMapped)) == 0;
  }
  if (mapped) {
    address.v4 = true;
    std::memcpy(address.bytes, address.bytes + sizeof(kMapped), 4);
    std::memset(address.bytes + 4, 0, 12);
  }
  out = address;
  return true;
}

bool is_port(std::string_view text) noexcept {
  uint32_t port;
  return take(text, ':') && take_decimal(text, 65535, port) && text.empty();
}

bool is_zone(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '[' && c != ']';
  });
}

// Cuts "%zone" off. False: there is one where none can be.
bool cut_zone(std::string_view& host) noexcept {
  const size_t percent = host.find('%');
  if (percent == std::string_view::npos) return true;
  const std::string_view zone = host.substr(percent + 1);
  host = host.substr(0, percent);
  return is_zone(zone) && host.find(':') != std::string_view::npos;
}

// Bits of byte i that belong to the prefix.
constexpr uint8_t byte_mask(size_t i, uint8_t prefix) noexcept {
  const size_t left = prefix > 8 * i ? std::min<size_t>(prefix - 8 * i, 8) : 0;
  return static_cast<uint8_t>(0xff00u >> left);
}

char* write_number(char* at, uint32_t value, int base) noexcept {
  return std::to_chars(at, at + 4, value, base).ptr;  // 255 or ffff at most: never cut
}

char* write_v4(char* at, const uint8_t* bytes) noexcept {
  for (int i = 0; i < 4; ++i) {
    if (i > 0) *at++ = '.';
    at = write_number(at, bytes[i], 10);
  }
  return at;
}

// RFC 5952: the first of the longest runs of two or more zero groups becomes "::".
char* write_v6(char* at, const uint8_t* bytes) noexcept {
  uint32_t groups[8];
  for (size_t i = 0; i < 8; ++i) {
    groups[i] = uint32_t{bytes[2 * i]} << 8 | bytes[2 * i + 1];
  }
  size_t run = 8;
  size_t run_size = 1;
  for (size_t i = 0, size = 0; i < 8; ++i) {
    size = groups[i] == 0 ? size + 1 : 0;
    if (size <= run_size) continue;
    run_size = size;
    run = i + 1 - size;
  }
  for (size_t i = 0; i < 8;) {
    if (i == run) {
      *at++ = ':';
      i += run_size;
      if (i == 8) *at++ = ':';
      continue;
    }
    if (i > 0) *at++ = ':';
    at = write_number(at, groups[i++], 16);
  }
  return at;
}

template <class... Pieces>
absl::Status invalid(std::string_view text, const Pieces&... pieces) {
  return absl::InvalidArgumentError(
      cat("invalid_address: network '", printable(text), "': ", pieces...));
}

}  // namespace

bool parse_address(std::string_view text, Address& out) noexcept {
  std::string_view host = text;
  const bool bracketed = take(host, '[');
  if (bracketed) {
    const size_t end = host.find(']');
    if (end == std::string_view::npos) return false;
    const std::string_view rest = host.substr(end + 1);
    if (!rest.empty() && !is_port(rest)) return false;
    host = host.substr(0, end);
  }
  if (!cut_zone(host)) return false;
  if (!bracketed) {
    // Only a port can follow dotted numbers; behind hexadecimal groups it would be one more.
    const size_t dot = host.rfind('.');
    const size_t colon = host.rfind(':');
    if (dot != std::string_view::npos && colon != std::string_view::npos && colon > dot) {
      if (!is_port(host.substr(colon))) return false;
      host = host.substr(0, colon);
    }
  }
  bool mapped;
  return parse_bare(host, out, mapped);
}

AddressKey network_key(const Address& address, uint8_t prefix) noexcept {
  AddressKey key;
  uint8_t network[16];
  for (size_t i = 0; i < 16; ++i) {
    network[i] = static_cast<uint8_t>(address.bytes[i] & byte_mask(i, prefix));
  }
  char* at = address.v4 ? write_v4(key.text_, network) : write_v6(key.text_, network);
  if (prefix < address.bits()) {
    *at++ = '/';
    at = write_number(at, prefix, 10);
  }
  key.size_ = static_cast<uint8_t>(at - key.text_);
  return key;
}

AddressKey address_key(std::string_view text, AddressOptions options) noexcept {
  Address address;
  if (!parse_address(text, address)) return {};
  return network_key(address, address.v4 ? options.v4_prefix : options.v6_prefix);
}

absl::StatusOr<Cidr> parse_cidr(std::string_view text) {
  const size_t slash = text.find('/');
  Cidr cidr;
  bool mapped;
  if (!parse_bare(text.substr(0, slash), cidr.address, mapped)) {
    return invalid(text, "it does not begin with an IP address; write 203.0.113.0/24, ",
                   "2001:db8::/32 or one address, without zone, brackets or port");
  }
  const uint8_t least = mapped ? kMappedBits : 0;
  const uint32_t most = uint32_t{least} + cidr.address.bits();
  uint32_t prefix = most;
  if (slash != std::string_view::npos) {
    std::string_view digits = text.substr(slash + 1);
    if (!take_decimal(digits, 999, prefix) || !digits.empty()) {
      return invalid(text, "what follows the slash is no prefix length; write a number from ",
                     least, " to ", most);
    }
  }
  if (prefix < least) {
    return invalid(text, "an IPv4-mapped network needs a prefix of ", least, " to ", most,
                   "; write the IPv4 network, such as ", network_key(cidr.address, 32).view(),
                   "/32");
  }
  if (prefix > most) {
    return invalid(text, "prefix ", prefix, " is out of range; write a number from ", least, " to ",
                   most);
  }
  cidr.prefix = static_cast<uint8_t>(prefix - least);
  for (size_t i = 0; i < 16; ++i) {
    if ((cidr.address.bytes[i] & ~byte_mask(i, cidr.prefix)) == 0) continue;
    return invalid(text, "it has bits set behind its prefix; write ", cidr_text(cidr).view(),
                   " for the network, or ", network_key(cidr.address, 128).view(),
                   " for the one address");
  }
  return cidr;
}

AddressKey cidr_text(const Cidr& cidr) noexcept { return network_key(cidr.address, cidr.prefix); }

bool contains(const Cidr& cidr, const Address& address) noexcept {
  if (cidr.address.v4 != address.v4) return false;
  const uint8_t prefix = std::min(cidr.prefix, address.bits());
  const size_t whole = prefix / 8;
  if (std::memcmp(cidr.address.bytes, address.bytes, whole) != 0) return false;
  if (whole == 16) return true;
  return ((cidr.address.bytes[whole] ^ address.bytes[whole]) & byte_mask(whole, prefix)) == 0;
}

}  // namespace brim
