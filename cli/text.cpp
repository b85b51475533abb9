#include "cli/text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <stdexcept>

namespace memstream::cli {
namespace {

// Calls `whole(sequence)` for each character and `broken(byte)` for each byte that is part of none.
template <class Whole, class Broken>
void each_character(std::string_view bytes, Whole whole, Broken broken) {
  while (!bytes.empty()) {
    const std::size_t length = utf8_length(bytes);
    if (length == 0) {
      broken(static_cast<unsigned char>(bytes[0]));
    } else {
      whole(bytes.substr(0, length));
    }
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string format_size(std::uint64_t size_bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto number = static_cast<double>(size_bytes);
  std::size_t unit = 0;
  for (; number >= 1024 && unit + 1 < kUnits.size(); ++unit) number /= 1024;
  return unit == 0 ? fmt::format("{} B", size_bytes) : fmt::format("{:.1f} {}", number, kUnits[unit]);
}

std::string format_duration(std::uint64_t ms) {
  const double seconds = static_cast<double>(ms) / 1000;
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return seconds < 2 * 86400 ? fmt::format("{:.1f} h", seconds / 3600) : fmt::format("{:.1f} d", seconds / 86400);
}

std::string format_nanoseconds(std::uint64_t ns) {
  const auto number = static_cast<double>(ns);
  if (ns < 1000) return fmt::format("{} ns", ns);
  if (ns < 1'000'000) return fmt::format("{:.1f} µs", number / 1e3);
  if (ns < 1'000'000'000) return fmt::format("{:.1f} ms", number / 1e6);
  return fmt::format("{:.1f} s", number / 1e9);
}

std::string format_instant(std::uint64_t unix_ms) {
  if (unix_ms == 0) return "never";
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(seconds));
}

std::string format_share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string printable(std::string_view bytes, std::size_t width) {
  std::string text;
  std::size_t characters = 0;
  bool is_cut = false;
  const auto append = [&](std::string_view piece, std::size_t count) {
    is_cut = is_cut || (width != 0 && characters + count > width - 1 && characters + count != width);
    if (is_cut) return;
    text += piece;
    characters += count;
  };
  each_character(
      bytes,
      [&](std::string_view character) {
        if (!is_control(character) && character != "\\") return append(character, 1);
        const std::string escaped = character == "\n"   ? "\\n"
                                    : character == "\t" ? "\\t"
                                    : character == "\\"
                                        ? "\\\\"
                                        : fmt::format("\\x{:02x}", static_cast<unsigned char>(character[0]));
        append(escaped, escaped.size());
      },
      [&](unsigned char byte) { append(fmt::format("\\x{:02x}", byte), 4); });
  return is_cut ? text + "…" : text;
}

std::string json_text(std::string_view bytes) {
  std::string text;
  each_character(
      bytes, [&](std::string_view character) { text += character == "\\" ? "\\\\" : std::string(character); },
      [&](unsigned char byte) { text += fmt::format("\\x{:02x}", byte); });
  return text;
}

std::string bytes_of_json_text(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    const char* digits = text.data() + i + 2;
    if (text[i] != '\\' || i + 1 == text.size()) {
      bytes += text[i];
    } else if (text[i + 1] == 'x' && i + 3 < text.size() &&
               std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      bytes += static_cast<char>(byte);
      i += 3;
    } else {
      bytes += text[++i];
    }
  }
  return bytes;
}

std::string bar(double part_of_largest, std::size_t width) {
  const double clamped = std::clamp(part_of_largest, 0.0, 1.0);
  std::string text;
  text.append(static_cast<std::size_t>(std::lround(clamped * static_cast<double>(width))), '#');
  return text;
}

std::string Table::render() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width_of(row[i]), ' ');
      if (i != 0) line += "  ";
      line += i == 0 ? row[i] + padding : padding + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

std::uint64_t parse_size(const std::string& text) {
  std::size_t used = 0;
  std::uint64_t number = 0;
  try {
    if (text.empty() || text[0] == '-') throw std::invalid_argument("");
    number = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = used == 0 ? "?" : text.substr(used);
  const int shift = unit.empty()                 ? 0
                    : unit == "K" || unit == "k" ? 10
                    : unit == "M" || unit == "m" ? 20
                    : unit == "G" || unit == "g" ? 30
                                                 : -1;
  if (shift < 0 || number > (std::uint64_t{1} << (63 - shift))) {
    throw std::invalid_argument(
        fmt::format("Invalid size {}: expected bytes, with K, M or G for larger units.", in_quotes(text)));
  }
  return number << shift;
}

}  // namespace memstream::cli
