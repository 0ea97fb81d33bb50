// SPDX-License-Identifier: MIT
#include "src/tier/resp.h"

#include <utility>

#include "src/base/text.h"

namespace brim::tier {

// The reply in the making. hiredis asks its callbacks for objects; these lie here: the root, and
// each item in its array. An array has room for all its items before the first one is added, so an
// item that is an array itself stays where it is.
struct ReplyReader::Limits {
  Reply root;
  int items = 0;
  size_t bytes = 0;
  const char* refused = nullptr;

  static Reply* refuse(Limits& limits, const char* why) {
    limits.refused = why;
    return nullptr;
  }

  // nullptr, which hiredis takes for an end of memory, if the reply grows too large.
  static Reply* add(const redisReadTask* task, Reply::Kind kind) {
    Limits& limits = *static_cast<Limits*>(task->privdata);
    Reply* place = &limits.root;
    if (task->parent != nullptr) {
      place = &static_cast<Reply*>(task->parent->obj)->items.emplace_back();
    } else {
      limits.root = Reply();
      limits.items = 0;
      limits.bytes = 0;
    }
    place->kind = kind;
    return place;
  }

  static void* text(const redisReadTask* task, char* bytes, size_t size) {
    Limits& limits = *static_cast<Limits*>(task->privdata);
    Reply* const reply =
        add(task, task->type == REDIS_REPLY_ERROR ? Reply::Kind::kError : Reply::Kind::kText);
    limits.bytes += size;
    if (size > kMostText || limits.bytes > kMostBytes) return refuse(limits, "a text too long");
    reply->text.assign(bytes, size);
    return reply;
  }

  static void* array(const redisReadTask* task, int count) {
    Limits& limits = *static_cast<Limits*>(task->privdata);
    Reply* const reply = add(task, Reply::Kind::kArray);
    int depth = 1;
    for (const redisReadTask* up = task->parent; up != nullptr; up = up->parent) ++depth;
    if (depth > kMostDepth) return refuse(limits, "arrays nested too deep");
    if (count < 0 || count > kMostItems - limits.items) return refuse(limits, "too many items");
    limits.items += count;
    reply->items.reserve(static_cast<size_t>(count));
    return reply;
  }

  static void* integer(const redisReadTask* task, long long value) {
    Reply* const reply = add(task, Reply::Kind::kInteger);
    reply->integer = value;
    return reply;
  }

  static void* nil(const redisReadTask* task) { return add(task, Reply::Kind::kNil); }
  static void nothing(void*) {}  // the next reply takes its place

  static redisReplyObjectFunctions functions;
};

redisReplyObjectFunctions ReplyReader::Limits::functions = {text, array, integer, nil, nothing};

void append_word(std::string& out, std::string_view word) {
  out += cat("$", word.size(), "\r\n");
  out += word;
  out += "\r\n";
}

void append_head(std::string& out, size_t words) { out += cat("*", words, "\r\n"); }

std::string command(std::initializer_list<std::string_view> words) {
  std::string out;
  append_head(out, words.size());
  for (const std::string_view word : words) append_word(out, word);
  return out;
}

ReplyReader::ReplyReader()
    : limits_(std::make_unique<Limits>()),
      reader_(redisReaderCreateWithFunctions(&Limits::functions)) {
  if (reader_ != nullptr) reader_->privdata = limits_.get();
}

ReplyReader::ReplyReader(ReplyReader&&) noexcept = default;
ReplyReader& ReplyReader::operator=(ReplyReader&&) noexcept = default;
ReplyReader::~ReplyReader() = default;

void ReplyReader::feed(std::string_view bytes) {
  if (reader_ != nullptr) redisReaderFeed(reader_.get(), bytes.data(), bytes.size());
}

absl::StatusOr<std::optional<Reply>> ReplyReader::next() {
  if (reader_ == nullptr) return absl::ResourceExhaustedError("tier_protocol: no memory");
  void* done = nullptr;
  const bool ok = redisReaderGetReply(reader_.get(), &done) == REDIS_OK;
  if (ok && done != nullptr) return std::exchange(limits_->root, Reply());
  if (ok && reader_->len - reader_->pos <= kMostBytes) return std::nullopt;
  const char* why = ok ? "a reply too long" : reader_->errstr;
  if (limits_->refused != nullptr) why = limits_->refused;
  // It never gets another byte: hiredis keeps its error, and ours is kept with it.
  limits_->refused = why;
  if (ok) reader_->err = REDIS_ERR_PROTOCOL;
  return absl::DataLossError(cat("tier_protocol: ", printable(why, 128)));
}

}  // namespace brim::tier
