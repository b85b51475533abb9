// Programs that were compiled when the structs of the C interface were smaller: each size that was published works, and
// nothing behind it is read or written.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "api/memstream.h"
#include "api/memstream_tags.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr unsigned char kGuard = 0xa5;
constexpr std::size_t kOptionsSizes[] = {56, 72, sizeof(memstream_options_t)};
constexpr std::size_t kStatsSizes[] = {200, 216, sizeof(cache_stats_t)};

// A struct of `size` bytes as an old program has it on its stack, with its other variables behind it.
template <class T>
struct OldStruct {
  explicit OldStruct(std::size_t struct_size) : size(struct_size) { std::memset(bytes, kGuard, sizeof bytes); }
  T* get() { return reinterpret_cast<T*>(bytes); }
  bool has_kept_the_rest() const {
    for (std::size_t i = size; i < sizeof bytes; ++i) {
      if (bytes[i] != kGuard) return false;
    }
    return true;
  }
  std::size_t size;
  alignas(T) unsigned char bytes[sizeof(T) + 64];
};

TEST_CASE("options of every published size open a cache") {
  for (const std::size_t size : kOptionsSizes) {
    CAPTURE(size);
    const TemporarySegment segment("options", std::uint64_t{1} << 20);
    OldStruct<memstream_options_t> options(size);
    memstream_options_init_sized(options.get(), size);
    CHECK(options.has_kept_the_rest());
    CHECK(options.get()->struct_size == size);
    options.get()->name = segment.spec().name.c_str();
    options.get()->size_bytes = segment.spec().size_bytes;
    memstream_t* cache = nullptr;
    REQUIRE(memstream_open(options.get(), &cache) == CACHE_OK);
    CHECK(stats_of(cache).max_memory == segment.spec().size_bytes);
    CHECK(options.has_kept_the_rest());
    memstream_close(cache);
  }
}

TEST_CASE("the function without a size writes no more than the first struct had") {
  OldStruct<memstream_options_t> options(56);
  (memstream_options_init)(options.get());
  CHECK(options.has_kept_the_rest());
  CHECK(options.get()->struct_size == 56);
  CHECK(options.get()->timeout_ms == -1);
  const TemporarySegment segment("first", std::uint64_t{1} << 20);
  options.get()->name = segment.spec().name.c_str();
  options.get()->size_bytes = segment.spec().size_bytes;
  memstream_t* cache = nullptr;
  CHECK(memstream_open(options.get(), &cache) == CACHE_OK);
  memstream_close(cache);
}

TEST_CASE("a field counts as soon as the struct has it") {
  memstream_options_t options;
  memstream_options_init(&options);
  CHECK(options.struct_size == sizeof options);
  options.hugepages = "perhaps";
  memstream_t* cache = nullptr;
  CHECK(memstream_open(&options, &cache) == CACHE_BAD_HUGEPAGES);
  options.struct_size = 72;
  CHECK(memstream_open(&options, &cache) == CACHE_BAD_HUGEPAGES);
}

TEST_CASE("statistics of every published size are filled") {
  const TemporarySegment segment("stats", std::uint64_t{1} << 20);
  const OpenCache cache(segment.spec());
  for (const std::size_t size : kStatsSizes) {
    CAPTURE(size);
    OldStruct<cache_stats_t> stats(size);
    stats.get()->struct_size = size;
    REQUIRE(memstream_stats(cache, stats.get()) == CACHE_OK);
    CHECK(stats.has_kept_the_rest());
    CHECK(stats.get()->struct_size == size);
    CHECK(stats.get()->max_memory == segment.spec().size_bytes);
    CHECK(stats.get()->now_ms >= stats.get()->created_at_ms);
  }
}

TEST_CASE("a size that no version had is refused") {
  const TemporarySegment segment("sizes", std::uint64_t{1} << 20);
  const OpenCache cache(segment.spec());
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{8}, std::size_t{199}, std::size_t{201}, sizeof(cache_stats_t) + 8}) {
    OldStruct<cache_stats_t> stats(0);
    stats.get()->struct_size = size;
    CHECK(memstream_stats(cache, stats.get()) == CACHE_INVALID);
    CHECK(std::string(cache_last_error()).find(std::to_string(size)) != std::string::npos);
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{48}, std::size_t{57}, sizeof(memstream_options_t) + 8}) {
    memstream_options_t options = segment.spec().options();
    options.struct_size = size;
    memstream_t* other = nullptr;
    CHECK(memstream_open(&options, &other) == CACHE_INVALID);
    CHECK(std::string(cache_last_error()).find(std::to_string(size)) != std::string::npos);
  }
}

TEST_CASE("reserved bits of the options must be 0") {
  memstream_options_t options;
  memstream_options_init(&options);
  options.reserved = 1;
  memstream_t* cache = nullptr;
  CHECK(memstream_open(&options, &cache) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("Invalid options.reserved 1: expected 0") != std::string::npos);
}

// An item of a program that is newer than the library: it has a field more.
struct NewerItem {
  memstream_item_t item;
  const memstream_tags_t* tags;
  std::uint64_t added;
};
static_assert(sizeof(NewerItem) == sizeof(memstream_tagged_item_t) + sizeof(std::uint64_t));

constexpr std::size_t kItems = 300;  // More than the engine takes at once.

// The items point into `keys`.
std::vector<NewerItem> newer_items(const std::vector<std::string>& keys) {
  std::vector<NewerItem> items(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    items[i].item.key = items[i].item.value = keys[i].data();
    items[i].item.key_size = items[i].item.value_size = keys[i].size();
  }
  return items;
}

TEST_CASE("items of a newer program work as long as what it added is 0") {
  const TemporarySegment segment("items", std::uint64_t{2} << 20);
  const OpenCache cache(segment.spec());
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < kItems; ++i) keys.push_back("key" + std::to_string(i));
  std::vector<NewerItem> items = newer_items(keys);
  REQUIRE(memstream_set_many_sized(cache, &items[0].item, sizeof(NewerItem), kItems) == CACHE_OK);
  std::vector<char> buffer(kItems * 16);
  size_t size = buffer.size();
  REQUIRE(memstream_get_many_sized(cache, &items[0].item, sizeof(NewerItem), kItems, buffer.data(), &size) == CACHE_OK);
  for (std::size_t i = 0; i < kItems; ++i) {
    CHECK(std::string(static_cast<const char*>(items[i].item.value), items[i].item.value_size) == keys[i]);
    CHECK(items[i].added == 0);
  }
  REQUIRE(memstream_delete_many_sized(cache, &items[0].item, sizeof(NewerItem), kItems) == CACHE_OK);
  CHECK(items[kItems - 1].item.status == CACHE_OK);
  CHECK(stats_of(cache).entries == 0);
}

TEST_CASE("an item whose added field is not 0 is refused, and no other one") {
  const TemporarySegment segment("added", std::uint64_t{2} << 20);
  const OpenCache cache(segment.spec());
  const std::vector<std::string> keys = {"first", "second", "third"};
  std::vector<NewerItem> items = newer_items(keys);
  items[1].added = std::uint64_t{1} << 63;
  size_t size = 0;
  CHECK(memstream_set_many_sized(cache, &items[0].item, sizeof(NewerItem), 3) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("expected zeros behind the fields") != std::string::npos);
  CHECK(items[0].item.status == CACHE_OK);
  CHECK(items[1].item.status == CACHE_INVALID);
  CHECK(items[2].item.status == CACHE_OK);
  CHECK(stats_of(cache).entries == 2);
  CHECK(memstream_get_many_sized(cache, &items[0].item, sizeof(NewerItem), 3, nullptr, &size) == CACHE_INVALID);
  CHECK(items[2].item.status == CACHE_TOO_SMALL);
  CHECK(memstream_delete_many_sized(cache, &items[0].item, sizeof(NewerItem), 3) == CACHE_INVALID);
  CHECK(stats_of(cache).entries == 0);
}

TEST_CASE("an item size that no version can have is refused") {
  const TemporarySegment segment("stride", std::uint64_t{1} << 20);
  const OpenCache cache(segment.spec());
  memstream_item_t item{};
  size_t size = 0;
  for (const std::size_t item_size : {std::size_t{0}, sizeof item - 8, sizeof item + 4, std::size_t{1032}}) {
    CAPTURE(item_size);
    const auto is_refused = [&](int status) {
      return status == CACHE_INVALID &&
             std::string(cache_last_error()).find("Invalid item_size " + std::to_string(item_size)) !=
                 std::string::npos;
    };
    CHECK(is_refused(memstream_set_many_sized(cache, &item, item_size, 1)));
    CHECK(is_refused(memstream_get_many_sized(cache, &item, item_size, 1, nullptr, &size)));
    CHECK(is_refused(memstream_delete_many_sized(cache, &item, item_size, 1)));
  }
}

}  // namespace
}  // namespace memstream::test
