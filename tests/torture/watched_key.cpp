#include "tests/torture/watched_key.h"

#include <fmt/format.h>

#include <utility>

namespace memstream::torture {

std::string describe(const std::optional<std::string_view>& value) {
  return value ? fmt::format("{} bytes '{}'", value->size(), value->substr(0, 20)) : "nothing";
}

WatchedKey::WatchedKey(std::string key, std::optional<std::string> before, std::optional<std::string> after,
                       Effect effect, bool evicts)
    : key_(std::move(key)),
      before_(std::move(before)),
      after_(std::move(after)),
      effect_(effect),
      evicts_(evicts),
      current_(before_) {}

void WatchedKey::reset() {
  current_ = before_;
  child_wrote_ = false;
}

void WatchedKey::found(const std::optional<std::string>& value) {
  if (value == current_) return;
  if (!child_wrote_ && child_makes(value)) {
    child_wrote_ = true;
  } else if (value || !evicts_) {
    throw Finding(fmt::format("the peer finds {} under the key '{}' where it last knew of {}", describe(value), key_,
                              describe(current_)));
  }
  current_ = value;
}

bool WatchedKey::child_makes(const std::optional<std::string>& value) const {
  if (is_own()) return false;
  switch (effect_) {
    case Effect::kSets:
      break;
    case Effect::kSetsIfUnchanged:
      if (current_ != before_) return false;
      break;
    case Effect::kSetsIfAbsent:
      if (current_) return false;
      break;
    case Effect::kSetsIfPresent:
      if (!current_) return false;
      break;
    case Effect::kRemoves:
      return !value;
    case Effect::kIncrements:
      return current_ && value && std::stoll(*value) == std::stoll(*current_) + 1;
  }
  return value == after_;
}

}  // namespace memstream::torture
