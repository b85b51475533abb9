// Text of a user in an error message: its characters as they are, without any that a terminal or a log obeys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace memstream {

// A message shortens longer values, so that what is expected and the remedy are still read.
inline constexpr std::size_t kMostQuotedBytes = 100;
// A path is worth more: its end says which file it is.
inline constexpr std::size_t kMostQuotedPathBytes = 1000;

// Length of the well-formed UTF-8 sequence at the start of `bytes`, 0 if there is none. REQUIRES: `bytes` is not empty.
inline std::size_t utf8_length(std::string_view bytes) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and numbers beyond Unicode.
  const bool is_out = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
                      (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f);
  return is_out ? 0 : length;
}

// Whether a character of UTF-8 is a control character: U+0000 to U+001F and U+007F to U+009F.
inline bool is_control(std::string_view character) noexcept {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return character.size() == 2 && first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

// The text between apostrophes. Each byte of a control character, and each byte that is not UTF-8, appears as \xNN, and
// a backslash as two. A text of more than `most` bytes is cut between two characters, and its length follows.
inline std::string in_quotes(std::string_view text, std::size_t most = kMostQuotedBytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string shown = "'";
  std::size_t used = 0;
  while (used < text.size()) {
    const std::string_view rest = text.substr(used);
    const std::size_t length = utf8_length(rest);
    const std::string_view character = rest.substr(0, std::max<std::size_t>(length, 1));
    if (used + character.size() > most) break;
    if (length == 0 || is_control(character)) {
      for (const char one : character) {
        const auto byte = static_cast<unsigned char>(one);
        shown += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
      }
    } else {
      shown += character == "\\" ? "\\\\" : character;
    }
    used += character.size();
  }
  return used == text.size() ? shown + "'" : shown + "...' (" + std::to_string(text.size()) + " bytes)";
}

}  // namespace memstream
