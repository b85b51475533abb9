// What a peer may find under one key while another process runs one operation on it and may die at any instruction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tests/torture/operations.h"

namespace memstream::torture {

// The peer is the only one besides the stepped child that writes the key, and the child writes it at most once. So each
// value that the peer finds is the last that it knew of, or the child's, which comes once and never goes back.
class WatchedKey {
 public:
  WatchedKey(std::string key, std::optional<std::string> before, std::optional<std::string> after, Effect effect,
             bool evicts);

  const std::string& key() const { return key_; }
  const std::optional<std::string>& current() const { return current_; }
  // The child does not write it. What is not there it may remove after the peer has put it.
  bool is_own() const { return before_ == after_ && (before_ || effect_ != Effect::kRemoves); }
  // A key whose value is a number, to be written with numbers only.
  bool is_counter() const { return effect_ == Effect::kIncrements && !is_own(); }

  // A point begins.
  void reset();
  // What a get found. Throws Finding if it cannot be.
  void found(const std::optional<std::string>& value);
  // What the peer wrote itself; absent if it deleted the key.
  void wrote(std::optional<std::string> value) { current_ = std::move(value); }

 private:
  // What the child's operation would make of the value; nothing if it leaves it alone.
  bool child_makes(const std::optional<std::string>& value) const;

  std::string key_;
  std::optional<std::string> before_;
  std::optional<std::string> after_;
  Effect effect_;
  bool evicts_;
  std::optional<std::string> current_;
  bool child_wrote_ = false;
};

// For messages.
std::string describe(const std::optional<std::string_view>& value);

}  // namespace memstream::torture
