// Calls for many keys at once: each key as the call for one would have it.
#include <algorithm>
#include <cstring>

#include "tests/fuzz/abi_calls.h"
#include "tests/fuzz/battery.h"

namespace memstream::fuzz {

void Calls::clear(ModelHandle& handle) {
  const int status = memstream_clear(handle.cache);
  if (refused(handle, status, true)) return;
  MUST(status == CACHE_OK, cache_last_error());
  handle.segment->clear();
}

void Calls::get_batch(ModelHandle& handle, std::vector<memstream_item_t>& items, const std::vector<std::string>& keys) {
  std::vector<char> room(input_.byte() * std::size_t{64});
  std::size_t size = room.size();
  const int status =
      memstream_get_many(handle.cache, items.data(), items.size(), room.empty() ? nullptr : room.data(), &size);
  must_be_sane(status, "get_many");
  for (std::size_t i = 0; i < items.size(); ++i) {
    const memstream_item_t& item = items[i];
    if (refused(handle, item.status, false) || bad_key(item.status, keys[i])) continue;
    if (item.status == CACHE_MISS) {
      MUST(item.value == nullptr, "a miss with a value");
      missed(handle, keys[i]);
      continue;
    }
    const ModelEntry* known = handle.segment->find(keys[i]);
    MUST(known != nullptr && known->value.size() == item.value_size && known->flags == item.flags, "another value");
    if (item.status == CACHE_TOO_SMALL) continue;
    MUST(item.status == CACHE_OK, cache_last_error());
    const auto* value = static_cast<const char*>(item.value);
    MUST(value >= room.data() && value + item.value_size <= room.data() + room.size(), "a value outside of the room");
    MUST(std::equal(known->value.begin(), known->value.end(), value), "another value");
  }
}

void Calls::batch(ModelHandle& handle) {
  const std::uint8_t chosen = input_.byte();
  const std::size_t count = chosen < 250 ? chosen % 48 : 150;  // More than the engine takes at once.
  std::vector<std::string> keys;
  std::vector<ModelEntry> entries;
  std::vector<memstream_item_t> items(count);
  for (std::size_t i = 0; i < count; ++i) {
    keys.push_back(take_key());
    entries.push_back({chosen % 3 == 0 ? take_value() : std::string(), static_cast<std::uint32_t>(i), false});
  }
  for (std::size_t i = 0; i < count; ++i) {
    items[i].key = keys[i].data();
    items[i].key_size = keys[i].size();
    items[i].value = entries[i].value.data();
    items[i].value_size = entries[i].value.size();
    items[i].flags = entries[i].flags;
  }
  if (chosen % 3 == 2) return get_batch(handle, items, keys);
  const bool stores = chosen % 3 == 0;
  must_be_sane(stores ? memstream_set_many(handle.cache, items.data(), count)
                      : memstream_delete_many(handle.cache, items.data(), count),
               "a batch");
  for (std::size_t i = 0; i < count; ++i) {
    const int status = items[i].status;
    if (refused(handle, status, true) || bad_key(status, keys[i])) continue;
    if (token_key_ == keys[i]) token_key_.clear();
    if (stores) {
      MUST(status == CACHE_OK || status == CACHE_TOO_LARGE || status == CACHE_FULL, cache_last_error());
      if (status == CACHE_OK) handle.segment->store(keys[i], entries[i]);
    } else if (status == CACHE_OK) {
      MUST(handle.segment->find(keys[i]) != nullptr, "a key is deleted that was never set");
      handle.segment->remove(keys[i]);
    } else {
      MUST(status == CACHE_MISS, cache_last_error());
      missed(handle, keys[i]);
      handle.segment->remove(keys[i]);
    }
  }
}

}  // namespace memstream::fuzz
