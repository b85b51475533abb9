#include "near/slots.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "near/redis_connection.h"

namespace memstream::near {
namespace {

// CRC16 as XMODEM has it.
constexpr std::array<std::uint16_t, 256> crc_table() {
  std::array<std::uint16_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}
constexpr std::array<std::uint16_t, 256> kCrc = crc_table();

template <class Number>
bool read_number(std::string_view text, Number* number) {
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && stopped == text.data() + text.size();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end != 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// "7", "7-9", "[7->-id]" (being handed over) or "[7-<-id]" (being taken over, and not yet served).
bool read_slots(std::string_view word, SlotSet* served, SlotSet* leaving) {
  const bool moves = word.starts_with('[');
  if (moves) word.remove_prefix(1);
  const std::size_t dash = std::min(word.find('-'), word.size());
  std::uint32_t first = 0;
  if (!read_number(word.substr(0, dash), &first) || first >= kSlots) return false;
  if (moves) {
    if (word.substr(dash).starts_with("->-")) leaving->set(first);
    return true;
  }
  std::uint32_t last = first;
  if (dash < word.size() && !read_number(word.substr(dash + 1), &last)) return false;
  if (last < first || last >= kSlots) return false;
  for (std::uint32_t slot = first; slot <= last; ++slot) served->set(slot);
  return true;
}

std::string node_name(std::string_view host, std::uint64_t port, std::string_view asked) {
  std::string name(host);
  if (name.empty() || name == "?") {
    name = asked.substr(0, asked.rfind(':'));
  } else if (name.find(':') != std::string::npos && !name.starts_with('[')) {
    name = "[" + name + "]";
  }
  return name + ":" + std::to_string(port);
}

std::optional<std::string> node_of(const redisReply& reply, std::string_view asked) {
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements < 2) return std::nullopt;
  const redisReply& port = *reply.element[1];
  if (port.type != REDIS_REPLY_INTEGER || port.integer <= 0 || port.integer > 65535) return std::nullopt;
  return node_name(text_of(*reply.element[0]), static_cast<std::uint64_t>(port.integer), asked);
}

}  // namespace

std::uint32_t slot_of(std::string_view key) noexcept {
  const std::size_t begin = key.find('{');
  if (begin != std::string_view::npos) {
    const std::size_t end = key.find('}', begin + 1);
    if (end != std::string_view::npos && end != begin + 1) key = key.substr(begin + 1, end - begin - 1);
  }
  std::uint32_t crc = 0;
  for (const char byte : key) crc = (crc << 8 & 0xffff) ^ kCrc[(crc >> 8 ^ static_cast<unsigned char>(byte)) & 0xff];
  return crc % kSlots;
}

// ID HOST:PORT@BUS[,NAME] FLAG,... MASTER PING PONG CONFIG-EPOCH LINK SLOT...
std::optional<OwnView> parse_nodes(std::string_view text) {
  std::optional<OwnView> own;
  std::uint64_t latest_of_others = 0;
  for (const std::string_view line : split(text, '\n')) {
    const std::vector<std::string_view> words = split(line, ' ');
    std::uint64_t epoch = 0;
    if (words.size() < 8 || !read_number(words[6], &epoch)) return std::nullopt;
    const std::vector<std::string_view> flags = split(words[2], ',');
    const auto has = [&](std::string_view flag) { return std::find(flags.begin(), flags.end(), flag) != flags.end(); };
    if (!has("myself")) {
      if (has("master")) latest_of_others = std::max(latest_of_others, epoch);  // A replica shows its master's.
      continue;
    }
    own.emplace();
    own->id = words[0];
    own->is_master = has("master");
    own->config_epoch = epoch;
    SlotSet leaving;
    for (std::size_t i = 8; i < words.size(); ++i) {
      if (!read_slots(words[i].substr(0, words[i].find('\r')), &own->settled, &leaving)) return std::nullopt;
    }
    own->settled &= ~leaving;
  }
  if (own) own->is_latest = own->config_epoch >= latest_of_others;
  return own;
}

bool has_kept_slots(const OwnView& before, const OwnView& now) noexcept {
  return now.is_master && now.id == before.id && now.config_epoch == before.config_epoch &&
         (now.is_latest || !before.is_latest) && (before.settled & ~now.settled).none();
}

std::vector<SlotRange> parse_slots(const redisReply& reply, std::string_view asked) {
  std::vector<SlotRange> ranges;
  if (reply.type != REDIS_REPLY_ARRAY) return ranges;
  for (std::size_t i = 0; i < reply.elements; ++i) {
    const redisReply& range = *reply.element[i];
    if (range.type != REDIS_REPLY_ARRAY || range.elements < 3) return {};
    const redisReply& first = *range.element[0];
    const redisReply& last = *range.element[1];
    const std::optional<std::string> master = node_of(*range.element[2], asked);
    const bool is_range = first.type == REDIS_REPLY_INTEGER && last.type == REDIS_REPLY_INTEGER && first.integer >= 0 &&
                          first.integer <= last.integer && last.integer < kSlots;
    if (!is_range || !master) return {};
    SlotRange one{static_cast<std::uint32_t>(first.integer), static_cast<std::uint32_t>(last.integer), *master, {}};
    for (std::size_t j = 3; j < range.elements; ++j) {
      if (std::optional<std::string> replica = node_of(*range.element[j], asked)) one.replicas.push_back(*replica);
    }
    ranges.push_back(std::move(one));
  }
  return ranges;
}

std::optional<Redirection> parse_redirection(std::string_view error, std::string_view asked) {
  const std::vector<std::string_view> words = split(error, ' ');
  if (words.size() < 3 || (words[0] != "MOVED" && words[0] != "ASK")) return std::nullopt;
  const std::size_t colon = words[2].rfind(':');
  Redirection to{.is_ask = words[0] == "ASK", .slot = 0, .node = {}};
  std::uint32_t port = 0;
  if (colon == std::string_view::npos || !read_number(words[1], &to.slot) || to.slot >= kSlots ||
      !read_number(words[2].substr(colon + 1), &port) || port == 0 || port > 65535)
    return std::nullopt;
  to.node = node_name(words[2].substr(0, colon), port, asked);
  return to;
}

}  // namespace memstream::near
