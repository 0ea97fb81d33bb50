// SPDX-License-Identifier: MIT
#include "glob.h"

#include <cstddef>

namespace brim::tools {

namespace {

unsigned char byte_at(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// Where the set that begins at `at` ends, behind its ]; 0 if it has none.
size_t set_end(std::string_view pattern, size_t at) {
  size_t i = at + 1;
  if (i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^')) ++i;
  if (i < pattern.size() && pattern[i] == ']') ++i;  // the first is a member
  while (i < pattern.size() && pattern[i] != ']') i += pattern[i] == '\\' ? 2 : 1;
  return i < pattern.size() ? i + 1 : 0;
}

bool in_set(std::string_view pattern, size_t at, size_t end, unsigned char byte) {
  size_t i = at + 1;
  const bool negated = pattern[i] == '!' || pattern[i] == '^';
  if (negated) ++i;
  bool found = false;
  while (i < end - 1) {
    if (pattern[i] == '\\' && i + 1 < end - 1) ++i;
    const unsigned char low = byte_at(pattern, i++);
    unsigned char high = low;
    if (i + 1 < end - 1 && pattern[i] == '-') {
      ++i;
      if (pattern[i] == '\\' && i + 1 < end - 1) ++i;
      high = byte_at(pattern, i++);
    }
    if (low <= byte && byte <= high) found = true;
  }
  return found != negated;
}

// Whether the pattern's element at `at`, not a *, takes `byte`; `next` is where the next begins.
bool takes(std::string_view pattern, size_t at, unsigned char byte, size_t& next) {
  next = at + 1;
  if (pattern[at] == '?') return true;
  if (pattern[at] == '[') {
    const size_t end = set_end(pattern, at);
    if (end != 0) {
      next = end;
      return in_set(pattern, at, end, byte);
    }
  }
  if (pattern[at] == '\\' && at + 1 < pattern.size()) {
    next = at + 2;
    return byte_at(pattern, at + 1) == byte;
  }
  return byte_at(pattern, at) == byte;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;  // behind the last *
  size_t star_text = 0;                  // what that one has taken ends here
  while (t < text.size()) {
    size_t next = 0;
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      star_text = t;
    } else if (p < pattern.size() && takes(pattern, p, byte_at(text, t), next)) {
      p = next;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star;  // the last * takes one more; an earlier one would gain nothing
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace brim::tools
