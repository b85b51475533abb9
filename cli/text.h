// Numbers, instants, keys and tables as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/quoted.h"

namespace memstream::cli {

std::string format_size(std::uint64_t size_bytes);                  // "512 B", "3.4 MiB"
std::string format_duration(std::uint64_t ms);                      // "0.5 s", "12 min", "3.2 d"
std::string format_nanoseconds(std::uint64_t ns);                   // "120 ns", "3.4 ms"
std::string format_instant(std::uint64_t unix_ms);                  // local time, "2026-12-01 12:00:00"; "never" for 0
std::string format_share(std::uint64_t part, std::uint64_t whole);  // "12.3 %"; "-" of 0

// Bytes as text that is safe on a terminal: everything but printable UTF-8 is escaped. Cut to `width` characters; 0: no
// limit.
std::string printable(std::string_view bytes, std::size_t width = 0);

// A path in an error message.
inline std::string path_in_quotes(std::string_view path) { return in_quotes(path, kMostQuotedPathBytes); }

// Bytes as text for JSON: bytes that are not UTF-8 are escaped as \xNN, and a backslash as two.
std::string json_text(std::string_view bytes);
// The bytes that json_text() made this of.
std::string bytes_of_json_text(std::string_view text);

// "#####" of at most `width` characters.
std::string bar(double part_of_largest, std::size_t width);

// Columns side by side: the first one left-aligned, the others right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string render() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Bytes of "64M", "1G", "512". Throws std::invalid_argument.
std::uint64_t parse_size(const std::string& text);

}  // namespace memstream::cli
