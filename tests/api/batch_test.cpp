// Many keys in one call, through the C interface: what each item gets, what the call says, what a killed process
// leaves.
#include <doctest/doctest.h>

#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/tagged_value.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSegmentSize = 32 << 20;

// Items and the memory they point to.
class Batch {
 public:
  void add(const std::string& key, std::string value = "") {
    keys_.push_back(key);
    values_.push_back(std::move(value));
  }
  std::size_t size() const { return keys_.size(); }

  // Laid anew before every call, so that nothing of the last one helps.
  memstream_item_t* items() {
    items_.assign(size(), {});
    for (std::size_t i = 0; i < size(); ++i) {
      items_[i].key = keys_[i].data();
      items_[i].key_size = keys_[i].size();
      items_[i].value = values_[i].data();
      items_[i].value_size = values_[i].size();
      items_[i].status = -99;
    }
    return items_.data();
  }
  const memstream_item_t& operator[](std::size_t i) const { return items_[i]; }
  std::string found(std::size_t i) const { return {static_cast<const char*>(items_[i].value), items_[i].value_size}; }

 private:
  std::vector<std::string> keys_;
  std::vector<std::string> values_;
  std::vector<memstream_item_t> items_;
};

std::string get(memstream_t* cache, const std::string& key) {
  std::string room(1 << 20, '\0');
  std::size_t size = room.size();
  const int status = memstream_get(cache, key.data(), key.size(), room.data(), &size, nullptr);
  return status == CACHE_OK ? room.substr(0, size) : "status " + std::to_string(status);
}

TEST_CASE("a batch stores, reads and removes as many keys as there are") {
  const TemporarySegment segment("batch", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  Batch batch;
  for (int i = 0; i < 1000; ++i) {
    // Every 100th is copied outside the lock, in the middle of those that are not.
    batch.add("key-" + std::to_string(i), std::string(i % 100 == 7 ? 40'000 : static_cast<std::size_t>(i), 'v'));
  }
  CHECK(memstream_set_many(cache, batch.items(), batch.size()) == CACHE_OK);
  for (std::size_t i = 0; i < batch.size(); ++i) REQUIRE(batch[i].status == CACHE_OK);

  std::vector<char> room(2 << 20);
  std::size_t room_size = room.size();
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), room.data(), &room_size) == CACHE_OK);
  std::size_t needed = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    REQUIRE(batch[i].status == CACHE_OK);
    REQUIRE(batch.found(i) == get(cache, "key-" + std::to_string(i)));
    REQUIRE(static_cast<const char*>(batch[i].value) == room.data() + needed);
    needed += (batch[i].value_size + 15) / 16 * 16;
  }
  CHECK(room_size == needed);
  CHECK(stats_of(cache).hits == 2000);
  CHECK(stats_of(cache).puts == 1000);
  CHECK(problems_of(cache) == "");

  batch.add("absent");
  CHECK(memstream_delete_many(cache, batch.items(), batch.size()) == CACHE_OK);
  for (std::size_t i = 0; i < 1000; ++i) REQUIRE(batch[i].status == CACHE_OK);
  CHECK(batch[1000].status == CACHE_MISS);
  CHECK(stats_of(cache).deletes == 1000);
  CHECK(stats_of(cache).entries == 0);
  room_size = room.size();
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), room.data(), &room_size) == CACHE_OK);
  CHECK(room_size == 0);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    REQUIRE(batch[i].status == CACHE_MISS);
    REQUIRE(batch[i].value == nullptr);
    REQUIRE(batch[i].value_size == 0);
  }
  CHECK(stats_of(cache).misses == 1001);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a batch carries flags, times to live and tokens like a single call") {
  const TemporarySegment segment("batch-meta", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  Batch batch;
  batch.add("short", "s");
  batch.add("long", "l");
  memstream_item_t* items = batch.items();
  items[0].ttl_ms = 500;
  items[0].flags = 7;
  items[1].flags = 0xffff'ffff;
  items[1].ttl_ms = UINT64_MAX;
  CHECK(memstream_set_many(cache, items, 2) == CACHE_OK);
  char room[64];
  std::size_t room_size = sizeof room;
  CHECK(memstream_get_many(cache, batch.items(), 2, room, &room_size) == CACHE_OK);
  for (std::size_t i = 0; i < 2; ++i) {
    memstream_meta_t meta;
    std::size_t size = 0;
    CHECK(memstream_get(cache, batch[i].key, batch[i].key_size, nullptr, &size, &meta) == CACHE_TOO_SMALL);
    CHECK(batch[i].flags == meta.flags);
    CHECK(batch[i].cas == meta.cas);
    CHECK(batch[i].created_at_ms == meta.created_at_ms);
    CHECK(batch[i].expires_at_ms == meta.expires_at_ms);
    CHECK(batch[i].expires_at_ms > batch[i].created_at_ms);
  }
  CHECK(batch[0].flags == 7);
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  room_size = sizeof room;
  CHECK(memstream_get_many(cache, batch.items(), 2, room, &room_size) == CACHE_OK);
  CHECK(batch[0].status == CACHE_MISS);
  CHECK(batch[0].value_size == 0);
  CHECK(batch[1].status == CACHE_OK);
}

TEST_CASE("values that do not fit the room are named, and the others are there") {
  const TemporarySegment segment("batch-room", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  Batch batch;
  const std::size_t sizes[] = {10, 100'000, 20, 0, 50};
  for (const std::size_t size : sizes) batch.add("size-" + std::to_string(size), std::string(size, 'x'));
  batch.add("absent");
  REQUIRE(memstream_set_many(cache, batch.items(), 5) == CACHE_OK);
  char room[64];
  std::size_t room_size = sizeof room;
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), room, &room_size) == CACHE_TOO_SMALL);
  CHECK(std::string(cache_last_error()).find("too small") != std::string::npos);
  CHECK(room_size == 16 + 100'000 + 32 + 0 + 64);
  const int statuses[] = {CACHE_OK, CACHE_TOO_SMALL, CACHE_OK, CACHE_OK, CACHE_TOO_SMALL, CACHE_MISS};
  for (std::size_t i = 0; i < batch.size(); ++i) {
    CAPTURE(i);
    CHECK(batch[i].status == statuses[i]);
    if (i < 5) CHECK(batch[i].value_size == sizes[i]);
    CHECK((batch[i].value != nullptr) == (statuses[i] == CACHE_OK));
  }
  CHECK(batch.found(2) == std::string(20, 'x'));

  std::vector<char> enough(room_size);
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), enough.data(), &room_size) == CACHE_OK);
  CHECK(batch.found(1) == std::string(100'000, 'x'));
  room_size = 0;
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), nullptr, &room_size) == CACHE_TOO_SMALL);
  CHECK(batch[3].status == CACHE_OK);  // It needs none.
  CHECK(room_size == enough.size());
}

TEST_CASE("of two values for one key in a batch the later one stays, however large they are") {
  const TemporarySegment segment("batch-twice", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  const std::string large(50'000, 'l');
  Batch batch;
  for (const auto& [key, value] : {std::pair{"small-last", large},
                                   {"small-last", std::string("s")},
                                   {"large-last", std::string("s")},
                                   {"large-last", large}}) {
    batch.add(key, value);
  }
  CHECK(memstream_set_many(cache, batch.items(), batch.size()) == CACHE_OK);
  CHECK(get(cache, "small-last") == "s");
  CHECK(get(cache, "large-last") == large);
  CHECK(stats_of(cache).entries == 2);
}

TEST_CASE("an item that is refused keeps none of the others from being done") {
  const TemporarySegment segment("batch-refused", 4 << 20, 2);
  const OpenCache cache(segment.spec());
  Batch batch;
  batch.add("first", "1");
  batch.add("", "no key");
  batch.add(std::string(CACHE_MAX_KEY_SIZE + 1, 'k'), "too long");
  batch.add("null value");
  batch.add("too large", std::string(3 << 20, 'v'));
  batch.add("null key");
  batch.add("last", "2");
  memstream_item_t* items = batch.items();
  items[3].value = nullptr;
  items[3].value_size = 1;
  items[5].key = nullptr;
  const int statuses[] = {CACHE_OK,        CACHE_BAD_KEY, CACHE_BAD_KEY, CACHE_INVALID,
                          CACHE_TOO_LARGE, CACHE_INVALID, CACHE_OK};
  const int status = memstream_set_many(cache, items, batch.size());
  CHECK(status == CACHE_TOO_LARGE);
  CHECK(std::string(cache_last_error()).find("is larger than the limit") != std::string::npos);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    CAPTURE(i);
    CHECK(batch[i].status == statuses[i]);
  }
  CHECK(get(cache, "first") == "1");
  CHECK(get(cache, "last") == "2");

  char room[64];
  std::size_t room_size = sizeof room;
  CHECK(memstream_get_many(cache, batch.items(), batch.size(), room, &room_size) == CACHE_BAD_KEY);
  CHECK(batch[1].status == CACHE_BAD_KEY);
  CHECK(batch[3].status == CACHE_MISS);  // Its value is not looked at.
  CHECK(batch.found(6) == "2");
  CHECK(memstream_delete_many(cache, batch.items(), batch.size()) == CACHE_BAD_KEY);
  CHECK(batch[6].status == CACHE_OK);
  CHECK(get(cache, "last") == "status 1");
}

TEST_CASE("what concerns the whole segment is every item's status") {
  const TemporarySegment segment("batch-all", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* reader = nullptr;
  REQUIRE(memstream_open(&options, &reader) == CACHE_OK);
  Batch batch;
  batch.add("a", "1");
  batch.add("b", std::string(40'000, '2'));
  REQUIRE(memstream_set_many(cache, batch.items(), 2) == CACHE_OK);
  std::vector<char> room(50'000);
  std::size_t room_size = room.size();
  CHECK(memstream_get_many(reader, batch.items(), 2, room.data(), &room_size) == CACHE_OK);
  CHECK(batch.found(1) == std::string(40'000, '2'));
  for (const auto change : {memstream_set_many, memstream_delete_many}) {
    CHECK(change(reader, batch.items(), 2) == CACHE_READ_ONLY);
    CHECK(batch[0].status == CACHE_READ_ONLY);
    CHECK(batch[1].status == CACHE_READ_ONLY);
    CHECK(std::string(cache_last_error()).find("read-only") != std::string::npos);
  }
  CHECK(memstream_close(reader) == CACHE_OK);
  REQUIRE(memstream_destroy(cache) == CACHE_OK);
  for (const auto change : {memstream_set_many, memstream_delete_many}) {
    CHECK(change(cache, batch.items(), 2) == CACHE_GONE);
    CHECK(batch[1].status == CACHE_GONE);
  }
  room_size = room.size();
  CHECK(memstream_get_many(cache, batch.items(), 2, room.data(), &room_size) == CACHE_GONE);
  CHECK(batch[0].status == CACHE_GONE);
  CHECK(room_size == 0);
}

TEST_CASE("a batch without items, and one without pointers") {
  const TemporarySegment segment("batch-null", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  Batch batch;
  batch.add("a", "1");
  std::size_t room_size = 0;
  for (const auto change : {memstream_set_many, memstream_delete_many}) {
    CHECK(change(cache, nullptr, 0) == CACHE_OK);
    CHECK(change(cache, nullptr, 1) == CACHE_INVALID);
    CHECK(change(nullptr, batch.items(), 1) == CACHE_INVALID);
  }
  CHECK(memstream_get_many(cache, nullptr, 0, nullptr, &room_size) == CACHE_OK);
  CHECK(memstream_get_many(cache, nullptr, 1, nullptr, &room_size) == CACHE_INVALID);
  CHECK(memstream_get_many(nullptr, batch.items(), 1, nullptr, &room_size) == CACHE_INVALID);
  CHECK(memstream_get_many(cache, batch.items(), 1, nullptr, nullptr) == CACHE_INVALID);
  room_size = 1;
  CHECK(memstream_get_many(cache, batch.items(), 1, nullptr, &room_size) == CACHE_INVALID);
}

TEST_CASE("a batch finds the room that dead processes had reserved") {
  const TemporarySegment segment("batch-dead", 8 << 20, 1);
  const OpenCache cache(segment.spec());
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          std::uint64_t pinned_before = 1;
          for (const std::size_t size : {1U << 20, 16U << 10, 256U}) {
            for (int i = 0; i < 128 && stats_of(own).pinned_memory != pinned_before; ++i) {
              pinned_before = stats_of(own).pinned_memory;
              memstream_reservation_t room{};
              if (memstream_reserve(own, "r", 1, size, &room) != CACHE_OK) return cache_last_error();
            }
            pinned_before = 1;
          }
          ::raise(SIGKILL);
          return "";
        }) == "killed by signal 9");
  Batch batch;
  for (int i = 0; i < 40; ++i) batch.add("key-" + std::to_string(i), std::string(30'000, 'v'));
  CHECK(memstream_set_many(cache, batch.items(), batch.size()) == CACHE_OK);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a process killed in a batch leaves each key whole, old or new, and nobody waits") {
  const TemporarySegment segment("batch-kill", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  constexpr std::uint32_t kKeys = 200;
  const int rounds = static_cast<int>(scaled(60));
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const Signal is_working;
    ChildProcess process([&]() -> Complaint {
      const OpenCache own(segment.spec());
      std::vector<std::byte> value;
      is_working.post();
      for (std::uint32_t sequence = 1;; ++sequence) {
        Batch batch;
        for (std::uint32_t key = 0; key < kKeys; ++key) {
          make_tagged(key, sequence, kMinTaggedSize + (key * 37 + sequence) % 3000, &value);
          batch.add("key-" + std::to_string(key), std::string(reinterpret_cast<char*>(value.data()), value.size()));
        }
        if (memstream_set_many(own, batch.items(), batch.size()) != CACHE_OK) return cache_last_error();
        if (sequence % 3 == 0 && memstream_delete_many(own, batch.items(), batch.size()) != CACHE_OK) {
          return cache_last_error();
        }
      }
    });
    is_working.wait();
    std::this_thread::sleep_for(std::chrono::microseconds(round * 331 % 9000));
    process.send_signal(SIGKILL);
    CHECK(process.wait() == "killed by signal 9");
    Batch batch;
    for (std::uint32_t key = 0; key < kKeys; ++key) batch.add("key-" + std::to_string(key));
    std::vector<char> room(kKeys * 4096);
    std::size_t room_size = room.size();
    REQUIRE(memstream_get_many(cache, batch.items(), batch.size(), room.data(), &room_size) == CACHE_OK);
    for (std::uint32_t key = 0; key < kKeys; ++key) {
      if (batch[key].status == CACHE_OK) CHECK_NOTHROW(check_tagged(key, batch[key].value, batch[key].value_size));
    }
    CHECK(problems_of(cache) == "");
  }
}

}  // namespace
}  // namespace memstream::test
