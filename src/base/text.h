// SPDX-License-Identifier: MIT
// Sentences for error messages: cat() joins strings and integers. (Debian's abseil has a
// string_view of its own, which its StrCat insists on.)
#ifndef BRIM_SRC_BASE_TEXT_H_
#define BRIM_SRC_BASE_TEXT_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace brim {

inline void append_piece(std::string& out, const char* text) { out += text; }
inline void append_piece(std::string& out, std::integral auto number) {
  out += std::to_string(number);
}
template <class Text>
requires requires(const Text& text) { text.data(), text.size(); }
void append_piece(std::string& out, const Text& text) { out.append(text.data(), text.size()); }

template <class... Pieces>
std::string cat(const Pieces&... pieces) {
  std::string out;
  (append_piece(out, pieces), ...);
  return out;
}

// At least `digits` hexadecimal digits.
inline std::string hex(uint64_t value, int digits = 1) {
  std::string out;
  for (; value != 0 || digits > 0; value >>= 4, --digits) {
    out.insert(out.begin(), "0123456789abcdef"[value & 15]);
  }
  return out;
}

inline std::string hex_bytes(const uint8_t* bytes, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) text += hex(bytes[i], 2);
  return text;
}

// A file mode as chmod writes it: four octal digits.
inline std::string octal_mode(uint32_t mode) {
  std::string out;
  for (int shift = 9; shift >= 0; shift -= 3) out += static_cast<char>('0' + ((mode >> shift) & 7));
  return out;
}

// Bytes of unknown origin, safe for a terminal and a log: what is not plain ASCII becomes %XX.
inline std::string printable(std::string_view bytes, size_t most = 64) {
  std::string out;
  for (const char c : bytes.substr(0, most)) {
    const bool plain = c >= 0x20 && c < 0x7f && c != '%';
    out += plain ? std::string(1, c) : cat("%", hex(static_cast<uint8_t>(c), 2));
  }
  return bytes.size() > most ? out + "..." : out;
}

// A path in a message: the caller chose it, but whoever reads the log did not.
inline std::string shown_path(std::string_view path) { return printable(path, 4096); }

}  // namespace brim

#endif  // BRIM_SRC_BASE_TEXT_H_
