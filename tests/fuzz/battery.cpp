// See battery.h.
#include "tests/fuzz/battery.h"

#include "tests/fuzz/must.h"

namespace memstream::fuzz {
namespace {

constexpr std::size_t kReplyBytes = std::size_t{1} << 20;

std::byte* room() {
  static auto* bytes = new std::byte[kReplyBytes];
  return bytes;
}

}  // namespace

void touch(const void* bytes, std::size_t size_bytes) {
  for (std::size_t i = 0; i < size_bytes; ++i) static_cast<void>(static_cast<const volatile std::uint8_t*>(bytes)[i]);
}

void must_be_sane(int status, const char* call) {
  MUST(status != CACHE_INTERNAL && status != CACHE_INVALID && status != CACHE_OS_ERROR,
       std::string(call) + ": " + cache_last_error());
  // The size that comes back with CACHE_TOO_SMALL says all there is to say.
  MUST(status >= 0 || status == CACHE_TOO_SMALL || cache_last_error()[0] != '\0',
       std::string(call) + " failed without a message");
}

void Reader::get(const std::string& key, std::size_t room_bytes) {
  std::size_t size = room_bytes;
  memstream_meta_t meta{};
  const int status = memstream_get(cache_, key.data(), key.size(), room(), &size, &meta);
  must_be_sane(status, "get");
  if (status == CACHE_OK) MUST(size <= room_bytes, "a value larger than its room");
  if (status == CACHE_TOO_SMALL) MUST(size > room_bytes, "a value that fits its room");
}

void Reader::view(const std::string& key) {
  memstream_view_t taken{};
  const int status = memstream_view(cache_, key.data(), key.size(), &taken);
  must_be_sane(status, "view");
  if (status != CACHE_OK) return;
  touch(taken.data, taken.size);
  MUST(memstream_release(cache_, &taken) == CACHE_OK, cache_last_error());
}

void Reader::entry_info(const std::string& key) {
  memstream_entry_t entry{};
  const int status = memstream_entry_info(cache_, key.data(), key.size(), &entry);
  must_be_sane(status, "entry_info");
  if (status == CACHE_OK) MUST(entry.key_size == key.size() && key == entry.key, "the entry of another key");
}

void Reader::scan(std::uint64_t* cursor, std::size_t capacity) {
  static auto* batch = new memstream_entry_t[64];
  std::size_t count = 0;
  const std::uint64_t before = *cursor;
  const int status = memstream_scan(cache_, cursor, batch, capacity, &count);
  must_be_sane(status, "scan");
  if (status != CACHE_OK) {
    *cursor = 0;
    return;
  }
  MUST(count <= capacity, "a scan that reports more than there is room for");
  // Shard by shard, and downwards in each: 0 is its upper end.
  const auto left_of = [](std::uint64_t at) { return static_cast<std::uint32_t>(at) - 1; };
  const bool is_further =
      *cursor >> 32 != before >> 32 ? *cursor >> 32 > before >> 32 : left_of(*cursor) < left_of(before);
  MUST(*cursor == 0 || is_further, "a scan that does not go on");
  for (std::size_t i = 0; i < count; ++i) {
    MUST(batch[i].key_size <= CACHE_MAX_KEY_SIZE && batch[i].key[batch[i].key_size] == '\0', "a key out of bounds");
    MUST(batch[i].data_offset + batch[i].value_size <= scene_.bytes.size(), "a value outside of the segment");
  }
}

void Reader::processes(std::size_t capacity) {
  static auto* found = new memstream_process_t[64];
  std::size_t count = 0;
  const int status = memstream_processes(cache_, found, capacity, &count);
  must_be_sane(status, "processes");
  if (status == CACHE_OK) MUST(count <= scene_.geometry.process_slots, "more processes than slots");
}

void Reader::get_many(std::size_t first, std::size_t room_bytes) {
  memstream_item_t items[20] = {};
  for (std::size_t i = 0; i < std::size(items); ++i) {
    items[i].key = key_of(first + i).data();
    items[i].key_size = key_of(first + i).size();
  }
  std::size_t size = room_bytes;
  must_be_sane(memstream_get_many(cache_, items, std::size(items), room(), &size), "get_many");
  for (const memstream_item_t& item : items) {
    must_be_sane(item.status, "get_many, of one key");
    if (item.status != CACHE_OK) continue;
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(item.value) - room());
    MUST(offset <= room_bytes && item.value_size <= room_bytes - offset, "a value outside of the room");
  }
}

void Reader::call(const Record& record) {
  const std::string& key = key_of(record.index);
  switch (record.kind % 9) {
    case 0:
      return get(key, kReplyBytes);
    case 1:
      return get(key, record.extra);
    case 2:
      return view(key);
    case 3:
      return entry_info(key);
    case 4:
      return must_be_sane(memstream_exists(cache_, key.data(), key.size()), "exists");
    case 5: {
      std::uint64_t cursor = record.value;
      return scan(&cursor, 1 + record.extra % 64);
    }
    case 6:
      return processes(record.extra % 64);
    case 7:
      return get_many(record.index, record.extra * std::size_t{8});
    default: {
      cache_stats_t stats{};
      stats.struct_size = sizeof stats;
      return must_be_sane(memstream_stats(cache_, &stats), "stats");
    }
  }
}

void Reader::everything(std::size_t keys) {
  std::uint64_t cursor = 0;
  do {
    scan(&cursor, 64);
  } while (cursor != 0);
  processes(64);
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  must_be_sane(memstream_stats(cache_, &stats), "stats");
  std::uint64_t problems = 0;
  must_be_sane(memstream_check(cache_, &problems), "check");
  for (std::size_t i = 0; i < keys; ++i) {
    get(key_of(i), kReplyBytes);
    view(key_of(i));
    entry_info(key_of(i));
  }
  get_many(0, kReplyBytes);
  get(scene_.keys.back(), 0);
}

}  // namespace memstream::fuzz
