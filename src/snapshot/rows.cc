// SPDX-License-Identifier: MIT
// The rows of a snapshot's file: one for each slot that owes something.
#include <algorithm>
#include <charconv>

#include "src/snapshot/fields.h"
#include "src/snapshot/store.h"

namespace brim::snapshot {

namespace {

std::string left_text(const std::vector<int64_t>& left) {
  std::string text;
  for (const int64_t each : left) {
    if (!text.empty()) text += ',';
    append_piece(text, each);
  }
  return text;
}

bool left_from(std::string_view text, std::vector<int64_t>& left) {
  left.clear();
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    int64_t each = 0;
    const auto [next, error] = std::from_chars(at, end, each);
    if (error != std::errc() || left.size() == 256) return false;
    left.push_back(each);
    at = next;
    if (at != end && *at++ != ',') return false;
  }
  return true;
}

// What no writer writes, whatever its checksum: sums of these would overflow.
bool is_state(const KeyState& state) {
  return state.until_ns >= 0 && state.as_of_ns >= 0 && state.part < kMostParts &&
         std::all_of(state.left_ns.begin(), state.left_ns.end(),
                     [](int64_t left) { return left >= 0; });
}

}  // namespace

uint64_t row_sum(const KeyState& state) {
  Sum sum;
  sum.add(state.slot).add(uint64_t{state.policy}).add(uint64_t{state.part});
  sum.add(state.fingerprint).add(uint64_t{state.has_key}).add(state.key);
  sum.add(state.has_key ? state.key_length : 0).add(state.has_key ? state.place : 0);
  sum.add(kind_name(state.kind)).add(state.used).add(state.before).add(state.until_ns);
  sum.add(uint64_t{state.barred}).add(left_text(state.left_ns)).add(state.as_of_ns);
  return sum.value();
}

absl::Status read_rows(Database& database, const SnapshotFile& file, uint64_t rows_sum,
                       const std::function<bool(const KeyState&)>& visit) {
  auto select = database.prepare(
      "SELECT slot, policy, part, fingerprint, key, key_length, place, kind, used, before,"
      " until_ns, barred, left_ns, as_of_ns, sum FROM keys ORDER BY slot");
  if (!select.ok()) return select.status();
  uint64_t rows = 0;
  uint64_t total = 0;
  KeyState state;
  absl::Status status = select->step();
  for (; status.ok() && select->row(); status = select->step()) {
    state.slot = select->word(0);
    state.policy = static_cast<uint16_t>(select->integer(1));
    state.part = static_cast<uint32_t>(select->integer(2));
    state.fingerprint = select->word(3);
    state.has_key = !select->is_null(4);
    state.key = select->bytes(4);
    state.key_length = select->word(5);
    state.place = select->word(6);
    const bool known = kind_from(select->bytes(7), state.kind);
    state.used = select->word(8);
    state.before = select->word(9);
    state.until_ns = select->integer(10);
    state.barred = select->integer(11) != 0;
    const bool readable = left_from(select->bytes(12), state.left_ns);
    state.as_of_ns = select->integer(13);
    const uint64_t sum = select->word(14);
    if (!known || !readable || row_sum(state) != sum || !is_state(state)) {
      return corrupt(cat("the row of slot ", state.slot, " does not add up to its checksum"));
    }
    ++rows;
    total += sum;
    if (visit && !visit(state)) return absl::OkStatus();
  }
  if (!status.ok()) return status;
  if (rows != file.rows || total != rows_sum) {
    return corrupt(cat("the file has ", rows, " rows and should have ", file.rows,
                       ", or their checksum is another"));
  }
  return absl::OkStatus();
}

absl::StatusOr<RowWriter> RowWriter::open(Database& database) {
  RowWriter writer;
  auto put = database.prepare(
      "INSERT OR REPLACE INTO keys VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,"
      " ?14, ?15)");
  if (!put.ok()) return put.status();
  auto remove = database.prepare("DELETE FROM keys WHERE slot = ?1");
  if (!remove.ok()) return remove.status();
  writer.put_ = *std::move(put);
  writer.remove_ = *std::move(remove);
  return writer;
}

absl::Status RowWriter::put(const KeyState& state, uint64_t sum) {
  put_.bind(1, state.slot);
  put_.bind(2, int64_t{state.policy});
  put_.bind(3, int64_t{state.part});
  put_.bind(4, state.fingerprint);
  if (state.has_key) {
    is_text(state.key) ? put_.bind_text(5, state.key) : put_.bind_blob(5, state.key);
    put_.bind(6, state.key_length);
    put_.bind(7, state.place);
  } else {
    for (int column = 5; column <= 7; ++column) put_.bind_null(column);
  }
  put_.bind_text(8, kind_name(state.kind));
  put_.bind(9, state.used);
  put_.bind(10, state.before);
  put_.bind(11, state.until_ns);
  put_.bind(12, int64_t{state.barred});
  put_.bind_text(13, left_text(state.left_ns));
  put_.bind(14, state.as_of_ns);
  put_.bind(15, sum);
  return put_.run();
}

absl::Status RowWriter::remove(uint64_t slot) {
  remove_.bind(1, slot);
  return remove_.run();
}

}  // namespace brim::snapshot
