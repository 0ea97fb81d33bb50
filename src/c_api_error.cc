// SPDX-License-Identifier: MIT
// Codes and messages of the C interface.
#include <algorithm>
#include <new>

#include "src/c_api.h"

namespace brim::c_api {

namespace {

// Room is reserved for this one when the library is loaded: to set it allocates nothing, so a
// decision may fail in a signal handler. The text's room is made when a thread's first set-up call
// fails, and on the heap: all thread-local bytes of a library that has initial-exec ones come out
// of the little that the loader keeps for those loaded later, such as modules of Python.
[[gnu::tls_model("initial-exec")]] thread_local const char* last_error = "";
constexpr size_t kMostText = 1024;
thread_local char* last_text = nullptr;
thread_local bool ended = false;

// Other destructors of the thread's data may run after this one, and ask or fail.
struct AtThreadEnd {
  bool begun = false;
  ~AtThreadEnd() {
    ended = true;
    last_error = "";
    delete[] last_text;
    last_text = nullptr;
  }
};
thread_local AtThreadEnd at_thread_end;

const char* words_of(int code) noexcept {
  switch (code) {
    case BRIM_E_INVALID:
      return "invalid_argument: a pointer that is needed is NULL, or a value is out of its range";
    case BRIM_E_STRUCT_SIZE:
      return "struct_size: a struct is smaller than any of its type was, or has a field that this "
             "library does not know; set struct_size to its sizeof";
    case BRIM_E_BUFFER:
      return "buffer_too_small: the text and a NUL need more room; the length is given";
    case BRIM_E_NO_MEMORY:
      return "no_memory: an allocation failed";
    default:
      return "internal_error: an exception that nothing else names";
  }
}

}  // namespace

int write_text(std::string_view text, char* buffer, size_t size, size_t* length) noexcept {
  if (buffer == nullptr && size != 0) return fail(BRIM_E_INVALID);
  if (length != nullptr) *length = text.size();
  if (buffer == nullptr) return 0;
  const size_t fits = size == 0 ? 0 : std::min(text.size(), size - 1);
  std::memcpy(buffer, text.data(), fits);
  if (size != 0) buffer[fits] = '\0';
  if (text.size() < size) return 0;
  return fail(BRIM_E_BUFFER);
}

}  // namespace brim::c_api

extern "C" {

const char* brim_strerror(int code) {
  switch (code) {
    case BRIM_OK:
      return "no error";
    case BRIM_E_INVALID:
      return "invalid argument";
    case BRIM_E_NOT_FOUND:
      return "not found";
    case BRIM_E_EXISTS:
      return "exists already";
    case BRIM_E_PERMISSION:
      return "permission denied";
    case BRIM_E_UNFIT:
      return "not possible in this state";
    case BRIM_E_BUSY:
      return "busy, try again";
    case BRIM_E_FULL:
      return "no room left";
    case BRIM_E_DAMAGED:
      return "damaged data";
    case BRIM_E_INTERNAL:
      return "internal error";
    case BRIM_E_STRUCT_SIZE:
      return "wrong struct_size";
    case BRIM_E_BUFFER:
      return "buffer too small";
    case BRIM_E_NO_MEMORY:
      return "out of memory";
    default:
      return "unknown error code";
  }
}

const char* brim_last_error(void) { return brim::c_api::last_error; }

int brim_set_last_error(int code, const char* message) {
  using namespace brim::c_api;
  if (message == nullptr) {
    last_error = words_of(code);
    return code;
  }
  if (ended) {
    last_error = brim_strerror(code);
    return code;
  }
  if (last_text == nullptr) {
    last_text = new (std::nothrow) char[kMostText];
    at_thread_end.begun = true;
  }
  if (last_text == nullptr) {
    last_error = words_of(BRIM_E_NO_MEMORY);
    return code;
  }
  const size_t length = std::min(strlen(message), kMostText - 1);
  std::memmove(last_text, message, length);
  last_text[length] = '\0';
  last_error = last_text;
  return code;
}

}  // extern "C"
