// SPDX-License-Identifier: MIT
// Goal: bytes of any origin leave the encoders as plain ASCII that says the same bytes: no control
// byte, no escape sequence, no direction mark; JSON and CSV read back; no spreadsheet takes a field
// for a formula (F44, P15). Method: encode, decode with a reader of our own or nlohmann, compare.
// Input: a number 8, then texts that end at byte 0xff.
#include <nlohmann/json.hpp>

#include "output.h"
#include "tests/fuzz/fuzz.h"

namespace brim::fuzz {
namespace {

using namespace brim::tools;

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    require(i + 2 < text.size(), "a cut escape", text);
    out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
    i += 2;
  }
  return out;
}

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<uint32_t>(kDigits.find(c));
    held += 6;
    if (held >= 8) out += static_cast<char>(bits >> (held -= 8));
  }
  return out;
}

// The fields of one row, as RFC 4180 has it.
std::vector<std::string> fields_of(std::string_view row) {
  std::vector<std::string> fields(1);
  bool inside = false;
  require(row.ends_with("\r\n"), "a row without an end");
  row.remove_suffix(2);
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] == '"') {
      const bool doubled = inside && i + 1 < row.size() && row[i + 1] == '"';
      if (doubled) fields.back() += row[i++];
      if (!doubled) inside = !inside;
    } else if (row[i] == ',' && !inside) {
      fields.emplace_back();
    } else {
      fields.back() += row[i];
    }
  }
  require(!inside, "an open quote", row);
  return fields;
}

void require_field(const std::string& field, const std::string& text) {
  require(field.empty() || std::strchr("=+-@\t\r", field.front()) == nullptr, "a formula", field);
  const std::string back = field.starts_with('\'')  ? field.substr(1)
                           : text.starts_with('\'') ? "'" + field.substr(3)
                                                    : field;
  require(back == text, "a CSV field that says something else", field);
}

void encode_text(std::string_view bytes) {
  const std::string key = escape_key(bytes);
  require(printable_ascii(key, "") && key.find_first_of(" \",\\") == std::string::npos, "key", key);
  require(unescaped(key) == bytes, "a key that says something else", key);
  const std::string text = escape_text(bytes);
  require(printable_ascii(text, ""), "text", text);
  require(from_base64(base64(bytes)) == bytes, "base64");
  const std::string raw(bytes);
  // Callers escape before; the quoting must hold without it.
  for (const std::string& one : {key, text, raw}) {
    const std::vector<std::string> fields = fields_of(csv_row({one, "x", one}));
    require(fields.size() == 3 && fields[1] == "x", "a field more or less", one);
    require_field(fields[0], one);
    require_field(fields[2], one);
  }
}

void encode_json(const std::vector<std::string>& texts, int64_t number) {
  JsonWriter writer;
  writer.begin('{').field("n", number).name("ns").duration(number).name("list").begin('[');
  for (const std::string& text : texts) writer.line().value(text);
  writer.line().end(']').name("object").begin('{');
  for (size_t i = 0; i < texts.size(); ++i) writer.field(join(i, texts[i]), true);
  writer.end('}').name("none").null();
  const std::string json = writer.end('}').take();
  require(printable_ascii(json), "JSON", json);
  const nlohmann::json back = nlohmann::json::parse(json, nullptr, false);
  require(!back.is_discarded(), "JSON that does not parse", json);
  require(back["n"] == number && back["list"].size() == texts.size(), "JSON", json);
  for (size_t i = 0; i < texts.size(); ++i) {
    require(back["list"][i] == escape_text(texts[i]), "a JSON string that says something else");
    require(back["object"].contains(escape_text(join(i, texts[i]))), "a JSON name");
  }
}

void encode_table(const std::vector<std::string>& texts) {
  std::vector<std::vector<std::string>> rows = {{"A", "B"}};
  for (const std::string& text : texts) {
    rows.push_back({escape_key(text), "x", escape_text(text)});
    rows.push_back({});
  }
  const std::string shown = table(rows, {1});
  require(printable_ascii(shown), "a table", shown);
  require(static_cast<size_t>(std::count(shown.begin(), shown.end(), '\n')) == rows.size(), "rows");
}

void encode_number(int64_t number) {
  const auto bits = static_cast<uint64_t>(number);
  for (const std::string& text : {human_duration(number), human_bytes(bits), hex_digits(bits, 16),
                                  human_mode(static_cast<uint32_t>(bits))}) {
    require(!text.empty() && text.size() < 40 && printable_ascii(text, ""), "a number", text);
  }
  const absl::StatusOr<uint64_t> count = parse_count("--n", std::to_string(bits), 0, UINT64_MAX);
  require(count.ok() && *count == bits, "a count");
}

}  // namespace
}  // namespace brim::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("NO_COLOR", "1", 1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace brim::fuzz;
  Input input(data, size);
  const auto number = input.take<int64_t>();
  encode_number(number);
  std::vector<std::string> texts;
  while (!input.empty() && texts.size() < 20) texts.emplace_back(input.take_until('\xff'));
  for (const std::string& text : texts) {
    encode_text(text);
    const absl::StatusOr<uint64_t> count = brim::tools::parse_count("--n", text, 1, 1000);
    require(!count.ok() || (*count >= 1 && *count <= 1000), "a count out of range", text);
    require(count.ok() || printable_ascii(std::string(count.status().message()), ""), "a message");
  }
  encode_json(texts, number);
  encode_table(texts);
  Captured captured;
  if (!texts.empty()) brim::tools::complain(texts.front());
  require(printable_ascii(captured.take_error()), "a complaint");
  return 0;
}
