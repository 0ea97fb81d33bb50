// SPDX-License-Identifier: MIT
// A password: wiped where it lay when it is not needed any more.
#ifndef BRIM_SRC_TIER_SECRET_H_
#define BRIM_SRC_TIER_SECRET_H_

#include <string.h>

#include <string>
#include <string_view>

namespace brim::tier {

inline void wipe(std::string& text) noexcept {
  explicit_bzero(text.data(), text.size());
  text.clear();
}

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string_view text) : text_(text) {}
  Secret(const Secret&) = default;
  Secret& operator=(const Secret& other) {
    if (this == &other) return *this;
    wipe(text_);
    text_ = other.text_;
    return *this;
  }
  ~Secret() { wipe(text_); }

  bool empty() const noexcept { return text_.empty(); }
  std::string_view view() const noexcept { return text_; }

 private:
  std::string text_;
};

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_SECRET_H_
