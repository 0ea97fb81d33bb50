// SPDX-License-Identifier: MIT
// What the files of the C interface share: errors, structs that may be longer or shorter than ours,
// and the boundary that no exception crosses. Read docs/design/0010-c-abi.md first.
#ifndef BRIM_SRC_C_API_H_
#define BRIM_SRC_C_API_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <list>
#include <new>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "brim/brim.h"
#include "brim/limiter.h"
#include "src/base/no_cancel.h"

struct brim_policy {
  brim::PolicyHandle handle;
  const brim_limiter* limiter;
};

// Everything but `limiter` and `read_only` is guarded by the mutex in c_api_open.cc.
struct brim_limiter {
  brim::Limiter limiter;
  bool read_only = false;
  brim_options clock = {};  // of it the clock only
  size_t openings = 1;
  std::list<std::string> opened_as = {};  // the names and options of calls that gave this handle
  std::list<brim_policy> policies = {};   // a list: they stay where they are
};

namespace brim::c_api {

// All return the code. Without a message, which allocates nothing, it is the code's own.
inline int fail(int code, const char* message = nullptr) noexcept {
  return brim_set_last_error(code, message);
}
inline int code_of(absl::StatusCode code) noexcept {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return BRIM_E_INVALID;
    case absl::StatusCode::kNotFound:
      return BRIM_E_NOT_FOUND;
    case absl::StatusCode::kAlreadyExists:
      return BRIM_E_EXISTS;
    case absl::StatusCode::kPermissionDenied:
      return BRIM_E_PERMISSION;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
      return BRIM_E_UNFIT;
    case absl::StatusCode::kUnavailable:
      return BRIM_E_BUSY;
    case absl::StatusCode::kResourceExhausted:
      return BRIM_E_FULL;
    case absl::StatusCode::kDataLoss:
      return BRIM_E_DAMAGED;
    default:
      return BRIM_E_INTERNAL;
  }
}
inline int fail(const absl::Status& status) {
  return fail(code_of(status.code()), std::string(status.message()).c_str());
}
inline int result(const absl::Status& status) { return status.ok() ? 0 : fail(status); }

// Runs what may throw, or block.
template <class Body>
int guarded(const Body& body) noexcept {
  const NoCancel whole;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(BRIM_E_NO_MEMORY);
  } catch (...) {
    return fail(BRIM_E_INTERNAL);
  }
}

inline std::string_view bytes_of(const void* bytes, size_t length) noexcept {
  return {static_cast<const char*>(bytes), length};
}

// True for a caller's struct that can be written to: the fields it lacks are not.
template <class Struct>
bool has_size(const Struct& in) noexcept {
  return in.struct_size >= sizeof(Struct);
}

// Takes a caller's struct. A longer one is of a later version: what it has beyond ours must be
// zero, or something would be asked for and not be done. `least` is the first version's size; what
// a caller of that time lacks is zero.
template <class Struct>
bool read_struct(const Struct& in, Struct& out, size_t least = sizeof(Struct)) noexcept {
  constexpr uint32_t kMost = 4096;  // more is no size
  if (in.struct_size < least || in.struct_size > kMost) return false;
  out = {};
  std::memcpy(&out, &in, std::min(sizeof(out), size_t{in.struct_size}));
  const char* const bytes = reinterpret_cast<const char*>(&in);
  for (size_t i = sizeof(out); i < in.struct_size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

// The caller's report, which may be null.
template <class Struct>
bool fits(const Struct* out) noexcept {
  return out == nullptr || has_size(*out);
}

// `granted` came last: a caller that does not know it has a struct that ends there.
[[gnu::always_inline]] inline void write_decision(const Decision& from, uint32_t granted,
                                                  brim_decision* out) noexcept {
  out->remaining = from.remaining;
  out->retry_after_ns = from.retry_after_ns;
  out->reset_after_ns = from.reset_after_ns;
  out->delay_ns = from.delay_ns;
  out->admitted = from.admitted ? 1 : 0;
  out->verdict = static_cast<uint8_t>(from.verdict);
  out->reason = static_cast<uint8_t>(from.reason);
  out->part = from.part;
  if (out->struct_size >= sizeof(*out)) [[likely]]
    out->granted = granted;
}

// Text for the caller. A null buffer of size 0 asks for the length alone.
int write_text(std::string_view text, char* buffer, size_t size, size_t* length) noexcept;

}  // namespace brim::c_api

#endif  // BRIM_SRC_C_API_H_
