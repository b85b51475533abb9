#include "tests/torture/examination.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "tests/torture/scenes.h"

namespace memstream::torture {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<std::string_view> find(const Content& content, const std::string& key) {
  const auto found = content.find(key);
  return found == content.end() ? std::nullopt : std::optional<std::string_view>(found->second);
}

}  // namespace

void Examination::examine(bool ended, const LivePeer* peer) {
  const auto began = Clock::now();
  if (peer == nullptr) look(ended);
  const Content seen = get_all();
  judge(seen, before_, ended, peer);
  scan(seen, ended, peer);
  use();
  scene_.cache.check();
  judge(get_all(), seen, ended, peer);
  // A death spoils nothing: what recovery takes for damaged and drops was written in the wrong order.
  if (const std::uint64_t damaged = scene_.cache.statistics().damaged; damaged != 0) {
    throw Finding(fmt::format("{} entries or blocks are counted as damaged", damaged));
  }
  longest_ms_ = std::max(longest_ms_, std::chrono::duration<double, std::milli>(Clock::now() - began).count());
  if (operation_.settle) operation_.settle(scene_);
}

// A get that takes no lock may come before anybody has put the shard right: key by key it finds what must be there, or
// says that it cannot tell. The looker's attach is read-only, so that it leaves the shard as the dead left it.
void Examination::look(bool ended) const {
  std::string value;
  for (const Content* known : {&before_, &after_}) {
    for (const auto& [key, unused] : *known) {
      switch (scene_.looker.try_get(key, &value)) {
        case CACHE_OK:
          judge_one(key, value, before_, ended);
          break;
        case CACHE_MISS:
          judge_one(key, std::nullopt, before_, ended);
          break;
        case CACHE_BUSY:
          break;
        default:
          throw Finding("a read-only get fails: " + std::string(cache_last_error()));
      }
    }
  }
}

void Examination::scan(const Content& seen, bool ended, const LivePeer* peer) const {
  for (const std::string& key : scene_.cache.scan()) {
    // A write that nobody was told of may still come about: recovery finishes what was committed and not yet findable.
    const bool may_come = !ended && find(before_, key) != find(after_, key);
    const bool is_known = seen.contains(key) || (peer != nullptr && peer->known(key).is_watched);
    if (!is_known && !may_come) throw Finding("a scan reports the key '" + key + "', which a get does not find");
  }
}

Content Examination::get_all() const {
  Content content;
  std::string value;
  for (const Content* known : {&before_, &after_}) {
    for (const auto& [key, unused] : *known) {
      if (scene_.cache.get(key, &value)) content.insert_or_assign(key, value);
    }
  }
  return content;
}

void Examination::judge(const Content& seen, const Content& earlier, bool ended, const LivePeer* peer) const {
  for (const Content* known : {&before_, &after_}) {
    for (const auto& [key, unused] : *known) {
      const LivePeer::Known watched = peer != nullptr ? peer->known(key) : LivePeer::Known{};
      if (watched.is_watched) {
        judge_watched(key, find(seen, key), watched);
      } else {
        judge_one(key, find(seen, key), earlier, ended);
      }
    }
  }
}

// `earlier` is what was there when somebody last looked: what was new then must not be old again.
void Examination::judge_one(const std::string& key, std::optional<std::string_view> value, const Content& earlier,
                            bool ended) const {
  const auto old_value = find(earlier, key);
  const auto new_value = find(after_, key);
  const bool written = find(before_, key) != new_value;
  const bool as_it_may_be = value == new_value || (!ended && value == old_value);
  const bool evicted = operation_.evicts && !value && !(ended && written && new_value);
  // Which keys have to go depends on what a peer read and wrote meanwhile.
  const bool spared = operation_.evicts && !new_value && value == old_value;
  if (as_it_may_be || evicted || spared) return;
  throw Finding(fmt::format("the key '{}' has {} where {} or {} must be", key, describe(value), describe(old_value),
                            describe(new_value)));
}

// The peer read it after the death, and rests since then: nothing may have changed.
void Examination::judge_watched(const std::string& key, std::optional<std::string_view> value,
                                const LivePeer::Known& known) const {
  if (!value && (!known.is_there || operation_.evicts)) return;
  if (value && known.is_there && std::hash<std::string_view>{}(*value) == known.hash) return;
  throw Finding(fmt::format("the key '{}' has {}, which is not what the peer found last", key, describe(value)));
}

void Examination::use() const {
  constexpr std::string_view kProbe = "a key of the peer";
  const std::string probe = make_value(kProbe, 1, 200);
  std::string value;
  scene_.cache.put(kProbe, probe);
  if (!scene_.cache.get(kProbe, &value) || value != probe) throw Finding("the peer does not get what it put");
  if (!scene_.cache.remove(kProbe) || scene_.cache.get(kProbe, &value)) {
    throw Finding("the peer cannot remove what it put");
  }
}

}  // namespace memstream::torture
