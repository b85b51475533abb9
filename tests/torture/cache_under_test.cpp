#include "tests/torture/cache_under_test.h"

#include <array>

namespace memstream::torture {

Place read_only(const Place& place) {
  Place result = place;
  result.timeout_ms = 0;
  result.flags = MEMSTREAM_OPEN_READ_ONLY;
  return result;
}

memstream_options_t options_for(const Place& place) {
  memstream_options_t options;
  memstream_options_init(&options);
  options.backend = place.backend.c_str();
  options.name = place.name.c_str();
  options.size_bytes = place.size_bytes;
  options.shards = place.shards;
  options.timeout_ms = place.timeout_ms;
  options.flags = place.flags;
  return options;
}

void destroy_named(const Place& place) {
  const memstream_options_t options = options_for(place);
  const int status = memstream_destroy_named(&options);
  if (status != CACHE_NO_SEGMENT) require(status, "memstream_destroy_named");
}

int require(int status, const char* call) {
  if (status >= 0) return status;
  throw Finding(std::string(call) + ": status " + std::to_string(status) + ": " + cache_last_error());
}

CacheUnderTest::CacheUnderTest(const Place& place, int patience) : room_bytes_(place.size_bytes) {
  const memstream_options_t options = options_for(place);
  int status = memstream_open(&options, &cache_);
  for (; status == CACHE_BUSY && patience > 0; --patience) status = memstream_open(&options, &cache_);
  require(status, "memstream_open");
}

CacheUnderTest::~CacheUnderTest() { memstream_close(cache_); }

void CacheUnderTest::close() {
  memstream_close(cache_);
  cache_ = nullptr;
}

void CacheUnderTest::put(std::string_view key, std::string_view value, std::uint64_t ttl_ms) {
  require(memstream_set(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, 0), "memstream_set");
}

int CacheUnderTest::try_get(std::string_view key, std::string* value) {
  room_.resize(room_bytes_);
  std::size_t size = room_.size();
  const int status = memstream_get(cache_, key.data(), key.size(), room_.data(), &size, nullptr);
  if (status == CACHE_OK) value->assign(room_.data(), size);
  return status;
}

bool CacheUnderTest::get(std::string_view key, std::string* value) {
  return require(try_get(key, value), "memstream_get") == CACHE_OK;
}

bool CacheUnderTest::remove(std::string_view key) {
  return require(memstream_delete(cache_, key.data(), key.size()), "memstream_delete") == CACHE_OK;
}

int CacheUnderTest::try_scan(std::set<std::string, std::less<>>* keys, bool at_rest) {
  static std::array<memstream_entry_t, 32> entries;
  std::uint64_t cursor = 0;
  do {
    std::size_t count = 0;
    const int status = memstream_scan(cache_, &cursor, entries.data(), entries.size(), &count);
    if (status < 0) return status;
    for (std::size_t i = 0; i < count; ++i) {
      const bool is_new = keys->emplace(entries[i].key, entries[i].key_size).second;
      if (!is_new && at_rest) throw Finding("a scan reports the key '" + std::string(entries[i].key) + "' twice");
    }
  } while (cursor != 0);
  return CACHE_OK;
}

std::set<std::string, std::less<>> CacheUnderTest::scan() {
  std::set<std::string, std::less<>> keys;
  require(try_scan(&keys, true), "memstream_scan");
  return keys;
}

Content CacheUnderTest::content() {
  Content content;
  for (const std::string& key : scan()) {
    std::string value;
    if (get(key, &value)) content.emplace(key, std::move(value));
  }
  return content;
}

cache_stats_t CacheUnderTest::statistics() {
  cache_stats_t statistics{};
  statistics.struct_size = sizeof statistics;
  require(memstream_stats(cache_, &statistics), "memstream_stats");
  return statistics;
}

void CacheUnderTest::check() {
  std::uint64_t problems = 0;
  require(memstream_check(cache_, &problems), "memstream_check");
}

std::string make_value(std::string_view key, std::uint64_t version, std::size_t size_bytes) {
  const std::string pattern = std::string(key) + '#' + std::to_string(version) + ';';
  std::string value;
  value.reserve(size_bytes + pattern.size());
  while (value.size() < size_bytes) value += pattern;
  value.resize(size_bytes);
  return value;
}

}  // namespace memstream::torture
