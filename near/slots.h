// The slots of a Redis cluster: which one a key has, and what nodes say of who serves which.
#pragma once

#include <hiredis/hiredis.h>

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace memstream::near {

inline constexpr std::uint32_t kSlots = 16384;
using SlotSet = std::bitset<kSlots>;

// By the bytes between the first '{' and the next '}', if there are any, and otherwise by the whole key.
std::uint32_t slot_of(std::string_view key) noexcept;

// What CLUSTER NODES says of the node that answers.
struct OwnView {
  std::string id;
  bool is_master = false;
  std::uint64_t config_epoch = 0;
  bool is_latest = false;  // No other node has a later one.
  SlotSet settled;         // Slots that it serves, without those that it is handing over.
};
std::optional<OwnView> parse_nodes(std::string_view text);
// Whether the node was the one that served each settled slot, in between too. docs/decisions/0024 says why this tells.
bool has_kept_slots(const OwnView& before, const OwnView& now) noexcept;

// A range of the answer to CLUSTER SLOTS.
struct SlotRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  std::string master;  // "HOST:PORT".
  std::vector<std::string> replicas;
};
// `asked` stands for a node without a name of its own: the one that answers. Empty: no answer, or no slots yet.
std::vector<SlotRange> parse_slots(const redisReply& reply, std::string_view asked);

// An error that names the node to ask instead.
struct Redirection {
  bool is_ask = false;
  std::uint32_t slot = 0;
  std::string node;  // "HOST:PORT".
};
std::optional<Redirection> parse_redirection(std::string_view error, std::string_view asked);

}  // namespace memstream::near
