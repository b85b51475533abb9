// Blocks held in place: a pinned value stays as it is whatever happens to its key, and a reservation becomes a value or
// nothing.
#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/expectations.h"
#include "tests/support/overwriting_shard.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

std::string bytes_of(const PinnedBlock& pinned) {
  return {reinterpret_cast<const char*>(pinned.value), pinned.read.value_size};
}

TEST_CASE("a pinned value stands through whatever takes its key away, and its block goes with the last pin") {
  const std::string value = pattern(5000, 1);
  struct Loss {
    const char* what;
    void (*happen)(TestShard&);
  };
  for (const Loss& loss :
       {Loss{"replace", [](TestShard& cache) { REQUIRE(cache.set("key", "new") == Status::kOk); }},
        Loss{"delete", [](TestShard& cache) { REQUIRE(cache.remove("key") == Status::kOk); }},
        Loss{"clear", [](TestShard& cache) { REQUIRE(cache.shard.clear(cache.deadline()) == Status::kOk); }},
        Loss{"expiry", [](TestShard& cache) {
               REQUIRE(cache.shard.touch(cache.key("key"), cache.now_ms + 1, {cache.deadline(), cache.now_ms}) ==
                       Status::kOk);
               cache.now_ms += 1;
               REQUIRE(cache.remove("key") == Status::kMiss);
             }}}) {
    CAPTURE(loss.what);
    TestShard cache;
    REQUIRE(cache.set("key", value) == Status::kOk);
    PinnedBlock first, second;
    REQUIRE(cache.pin("key", &first) == Status::kOk);
    REQUIRE(cache.pin("key", &second) == Status::kOk);
    CHECK(cache.statistics().pinned_memory == 0);  // It is still the key's.
    loss.happen(cache);
    CHECK(cache.get("key") != value);
    CHECK(cache.statistics().pinned_memory >= value.size());
    CHECK(cache.problems() == "");
    // Others write all over the heap meanwhile.
    for (int i = 0; i < 3000; ++i) REQUIRE(cache.set("other-" + std::to_string(i), pattern(900, 2)) == Status::kOk);
    CHECK(bytes_of(first) == value);
    REQUIRE(cache.unpin(first) == Status::kOk);
    CHECK(bytes_of(second) == value);
    CHECK(cache.statistics().pinned_memory >= value.size());
    REQUIRE(cache.unpin(second) == Status::kOk);
    CHECK(cache.statistics().pinned_memory == 0);
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("eviction passes over pinned blocks, one by one and by windows") {
  TestShard cache;
  constexpr std::size_t kPinned = 100;
  std::vector<PinnedBlock> pinned(kPinned);
  for (int i = 0; i < 300; ++i) REQUIRE(cache.set("small-" + std::to_string(i), pattern(2000, 1)) == Status::kOk);
  for (std::size_t i = 0; i < kPinned; ++i)
    REQUIRE(cache.pin("small-" + std::to_string(i * 3), &pinned[i]) == Status::kOk);
  for (int i = 0; i < 2000; ++i) REQUIRE(cache.set("more-" + std::to_string(i), pattern(2000, 2)) == Status::kOk);
  for (int i = 0; i < 50; ++i) REQUIRE(cache.set("wide-" + std::to_string(i), pattern(30'000, 3)) == Status::kOk);
  for (std::size_t i = 0; i < kPinned; ++i) {
    CHECK(bytes_of(pinned[i]) == pattern(2000, 1));
    CHECK(cache.get("small-" + std::to_string(i * 3)) == pattern(2000, 1));
    CHECK(ref_block(cache.entry("small-" + std::to_string(i * 3)).ref) == pinned[i].position);  // Nothing moved it.
    REQUIRE(cache.unpin(pinned[i]) == Status::kOk);
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a pin counts an access and tells what a get tells") {
  TestShard cache;
  REQUIRE(cache.set("key", "value", 5000, 9) == Status::kOk);
  const ReadResult read = cache.read("key");
  PinnedBlock pinned;
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  CHECK(pinned.read.cas == read.cas);
  CHECK(pinned.read.caller_flags == 9);
  CHECK(pinned.read.expires_ms == 5000);
  CHECK(pinned.read.created_ms == 1000);
  CHECK(cache.entry("key").access_count == 2);
  CHECK(cache.pin("absent", &pinned) == Status::kMiss);
  cache.now_ms = 5000;
  CHECK(cache.pin("key", &pinned) == Status::kMiss);
}

// What happens between the look for a key and the pin of its block: the instant at which an expiry is compared is asked
// for there.
TEST_CASE("what changes while a value is being pinned is seen") {
  struct Change {
    const char* what;
    void (*happen)(OverwritingShard&);
    const char* value;  // That is pinned in the end; null: none.
  };
  const Change changes[] = {
      {"nothing", [](OverwritingShard&) {}, "old"},
      {"a view of another",
       [](OverwritingShard& cache) {
         PinnedBlock other;
         REQUIRE(cache.pin("key", &other) == Status::kOk);
       },
       "old"},
      {"overwritten", [](OverwritingShard& cache) { REQUIRE(cache.put("key", "new", 5000) == Status::kOk); }, "new"},
      {"replaced", [](OverwritingShard& cache) { REQUIRE(cache.set("key", "new", 5000) == Status::kOk); }, "new"},
      {"removed", [](OverwritingShard& cache) { REQUIRE(cache.remove("key") == Status::kOk); }, nullptr},
      {"removed and stored again",
       [](OverwritingShard& cache) {
         REQUIRE(cache.remove("key") == Status::kOk);
         REQUIRE(cache.set("key", "old", 5000) == Status::kOk);
       },
       "old"},
      {"rebuilt", [](OverwritingShard& cache) { cache.recover(); }, "old"},
  };
  for (const Change& change : changes) {
    CAPTURE(change.what);
    OverwritingShard cache;
    REQUIRE(cache.put("key", "old", 5000) == Status::kOk);
    bool happened = false;
    const auto now = [&] {
      if (!happened) {
        happened = true;
        change.happen(cache);
      }
      return cache.now_ms;
    };
    PinnedBlock pinned;
    const Status status = cache.shard.pin(cache.key("key"), cache.pins, cache.deadline(), cache.now_ms, now, &pinned);
    CHECK(happened);
    if (change.value == nullptr) {
      CHECK(status == Status::kMiss);
    } else {
      REQUIRE(status == Status::kOk);
      CHECK(bytes_of(pinned) == change.value);
      CHECK(pinned.read.cas == cache.read("key").cas);
      // Held in truth: what is stored now goes elsewhere.
      REQUIRE(cache.put("key", "even newer") == Status::kOk);
      for (int i = 0; i < 100; ++i) REQUIRE(cache.put("other-" + std::to_string(i), pattern(40, i)) == Status::kOk);
      CHECK(bytes_of(pinned) == change.value);
      CHECK(cache.unpin(pinned) == Status::kOk);
    }
    int pins = 0;
    for (const auto& pin : cache.process_slot(0).pins) pins += pin != 0 ? 1 : 0;
    CHECK(pins == (change.what == std::string("a view of another") ? 1 : 0));
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("a value that is being overwritten is pinned when that is done, or the shard is busy") {
  OverwritingShard cache;
  cache.timeout = std::chrono::milliseconds(0);
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  PinnedBlock pinned;
  SUBCASE("by a writer that stands still") {
    Entry& entry = cache.entry("key");
    std::atomic<int> stage = 0;
    std::thread writer([&] {
      REQUIRE(::pthread_mutex_lock(&cache.header().write_mutex) == 0);
      stage = 1;
      while (stage != 2) std::this_thread::yield();
      REQUIRE(::pthread_mutex_unlock(&cache.header().write_mutex) == 0);
    });
    while (stage != 1) std::this_thread::yield();
    const std::uint64_t ref = entry.ref;
    entry.ref = ref_overwritten(ref);
    CHECK(cache.pin("key", &pinned) == Status::kBusy);
    entry.ref = ref_finished(ref_overwritten(ref));
    stage = 2;
    writer.join();
  }
  SUBCASE("by one that was killed") { cache.die_overwriting("key", pattern(64, 1), 20); }
  cache.timeout = std::chrono::milliseconds(2000);
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  CHECK(bytes_of(pinned) == pattern(64, 1));
  CHECK(ref_has_pinned_hint(cache.entry("key").ref));
  REQUIRE(cache.put("key", pattern(64, 2)) == Status::kOk);
  CHECK(bytes_of(pinned) == pattern(64, 1));
  REQUIRE(cache.unpin(pinned) == Status::kOk);
  CHECK(cache.problems() == "");
}

TEST_CASE("a view changes nothing that others read of the value") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  const std::uint64_t token = cache.read("key").cas;
  PinnedBlock pinned;
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  CHECK(cache.read("key").cas == token);
  CHECK(cache.scan().size() == 1);
  CHECK(cache.store("key", "other", StoreMode::kCas, token) == Status::kOk);
  CHECK(bytes_of(pinned) == "value");
  CHECK(cache.read("key").cas != token);
}

TEST_CASE("pins of every process count, wherever they stand and however new they are") {
  for (const std::uint64_t mark : {std::uint64_t{0}, kPinIsTentative}) {
    for (const std::uint32_t slot : {0U, 1U, 7U}) {
      for (const std::uint32_t place : {0U, 5U, kPinsPerProcess - 1}) {
        CAPTURE(mark);
        CAPTURE(slot);
        CAPTURE(place);
        TestShard cache;
        REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
        cache.TestSegment::header().slots_in_use = slot + 1;
        PinSet other(&cache.process_slot(slot), cache.places);
        for (std::uint32_t i = 0; i < place; ++i) REQUIRE(other.claim(64) == i);  // Of something else.
        PinnedBlock pinned;
        const auto now = [&] { return cache.now_ms; };
        REQUIRE(cache.shard.pin(cache.key("key"), other, cache.deadline(), now(), now, &pinned) == Status::kOk);
        REQUIRE(pinned.pin == place);
        const std::uint64_t offset = cache.shard.offset_of(pinned.position);
        REQUIRE(other.holds(PinNumber{place}, offset));
        cache.process_slot(slot).pins[place] |= mark;
        REQUIRE(cache.remove("key") == Status::kOk);
        CHECK(cache.statistics().pinned_memory >= 100);
        REQUIRE(cache.set("key", pattern(100, 2)) == Status::kOk);
        CHECK(bytes_of(pinned) == pattern(100, 1));
        cache.process_slot(slot).pins[place] = 0;
        CHECK(cache.statistics().pinned_memory == 0);
      }
    }
  }
}

TEST_CASE("a pin that is not held cannot be dropped") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  PinnedBlock pinned;
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  PinnedBlock wrong = pinned;
  wrong.position += 1;
  CHECK(cache.unpin(wrong) == Status::kBadHandle);
  wrong = pinned;
  for (const std::uint32_t pin : {kPinsPerProcess, kPinsPerProcess + kPinsPerChunk, ~0U}) {  // Of no chunk.
    wrong.pin = PinNumber{pin};
    CHECK(cache.unpin(wrong) == Status::kBadHandle);
  }
  CHECK(cache.unpin(pinned) == Status::kOk);
  CHECK(cache.unpin(pinned) == Status::kBadHandle);
}

TEST_CASE("a process without a free place for a pin is told so, and nothing is left of the attempt") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  const std::uint32_t places = kPinsPerProcess + cache.geometry().pin_chunks() * kPinsPerChunk;
  std::vector<PinnedBlock> pinned(places + 1);
  for (std::uint32_t i = 0; i < places; ++i) REQUIRE(cache.pin("key", &pinned[i]) == Status::kOk);
  CHECK(cache.pin("key", &pinned.back()) == Status::kFull);
  CHECK(cache.reserve("key", 100, &pinned.back()) == Status::kFull);
  CHECK(cache.problems() == "");
  for (const std::uint32_t again : {5U, kPinsPerProcess, places - 1}) {
    CAPTURE(again);
    REQUIRE(cache.unpin(pinned[again]) == Status::kOk);
    CHECK(cache.unpin(pinned[again]) == Status::kBadHandle);
    CHECK(cache.pin("key", &pinned[again]) == Status::kOk);
  }
  for (std::uint32_t i = 0; i < places; ++i) REQUIRE(cache.unpin(pinned[i]) == Status::kOk);
  PinSet none(nullptr, cache.places);
  const auto now = [&] { return cache.now_ms; };
  CHECK(cache.shard.pin(cache.key("key"), none, cache.deadline(), now(), now, &pinned[0]) == Status::kFull);
  CHECK(cache.problems() == "");
}

TEST_CASE("the error of a put that finds all room held says who holds how much") {
  TestShard cache;
  ProcessSlot& other = cache.process_slot(1);
  other.pid = static_cast<std::uint32_t>(::getppid());
  cache.TestSegment::header().slots_in_use = 2;
  cache.process_slot(0).pid = static_cast<std::uint32_t>(::getpid());
  PinSet of_other(&other, cache.places);
  std::vector<PinnedBlock> held;
  const std::uint64_t half = cache.max_value("held-0");
  for (int i = 0; i < 2; ++i) {
    const std::string key = "held-" + std::to_string(i);
    REQUIRE(cache.set(key, pattern(i == 0 ? half : half / 2, 1)) == Status::kOk);
    REQUIRE(cache.pin(key, &held.emplace_back()) == Status::kOk);
    REQUIRE(cache.pin(key, &held.emplace_back()) == Status::kOk);
  }
  const std::uint64_t small = cache.shard.offset_of(held.back().position);
  REQUIRE(of_other.claim(small) != PinSet::kNone);
  CHECK(cache.set("more", pattern(half, 2)) == Status::kFull);
  const std::string own = "this process (" + std::to_string(::getpid()) + ")";
  CHECK_MESSAGE(message_has(own + " holds "), last_error());
  CHECK_MESSAGE(message_has("in 2 blocks, process " + std::to_string(::getppid()) + " ("), last_error());
  CHECK_MESSAGE(message_has("in 1 blocks"), last_error());
}

TEST_CASE("a reservation is nobody's until it is committed, and the key's then") {
  TestShard cache;
  REQUIRE(cache.set("key", "old") == Status::kOk);
  PinnedBlock reserved;
  const std::string value = pattern(50'000, 4);
  REQUIRE(cache.reserve("key", value.size(), &reserved) == Status::kOk);
  CHECK(cache.get("key") == "old");
  CHECK(cache.statistics().entries == 1);
  CHECK(cache.statistics().pinned_memory >= value.size());
  CHECK(cache.problems() == "");
  value.copy(reinterpret_cast<char*>(reserved.value), value.size());
  REQUIRE(cache.commit("key", reserved) == Status::kOk);
  CHECK(cache.get("key") == value);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.statistics().entries == 1);
  CHECK(cache.problems() == "");
}

TEST_CASE("a reservation that is given up, or whose commit is refused, leaves nothing") {
  TestShard cache;
  REQUIRE(cache.set("key", "old") == Status::kOk);
  const std::uint64_t used = cache.statistics().used_memory;
  PinnedBlock reserved;
  REQUIRE(cache.reserve("key", 1000, &reserved) == Status::kOk);
  REQUIRE(cache.unpin(reserved) == Status::kOk);
  REQUIRE(cache.reserve("key", 1000, &reserved) == Status::kOk);
  CHECK(cache.commit("key", reserved, StoreMode::kAdd) == Status::kExists);
  REQUIRE(cache.reserve("other", 1000, &reserved) == Status::kOk);
  CHECK(cache.commit("other", reserved, StoreMode::kReplace) == Status::kMiss);
  CHECK(cache.get("key") == "old");
  CHECK(cache.statistics().used_memory == used);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
  CHECK(cache.reserve("key", cache.max_value("key") + 1, &reserved) == Status::kTooLarge);
}

TEST_CASE("a value that was pinned from a committed reservation is a value like any other") {
  TestShard cache;
  PinnedBlock reserved, pinned;
  REQUIRE(cache.reserve("key", 3, &reserved) == Status::kOk);
  std::string("abc").copy(reinterpret_cast<char*>(reserved.value), 3);
  REQUIRE(cache.commit("key", reserved) == Status::kOk);
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  CHECK(pinned.value == reserved.value);  // Never copied.
  CHECK(bytes_of(pinned) == "abc");
}

// Of whoever is killed between the commit of a reservation and the end of its pin.
TEST_CASE("the block of a committed reservation is held until its pin has ended") {
  TestShard cache;
  PinnedBlock reserved;
  REQUIRE(cache.reserve("key", 3, &reserved) == Status::kOk);
  std::string("abc").copy(reinterpret_cast<char*>(reserved.value), 3);
  REQUIRE(cache.commit("key", reserved) == Status::kOk);
  cache.process_slot(0).pins[reserved.pin] = cache.shard.offset_of(reserved.position);
  REQUIRE(cache.set("key", "other") == Status::kOk);
  CHECK(bytes_of(reserved) == "abc");
  CHECK(cache.problems() == "");
  CHECK(cache.statistics().pinned_memory != 0);
}

TEST_CASE("when pins hold everything a put is refused with what to do, and works again after") {
  TestShard cache;
  PinnedBlock first, second;
  const std::uint64_t limit = cache.max_value("a");
  REQUIRE(cache.reserve("a", limit, &first) == Status::kOk);
  REQUIRE(cache.reserve("b", limit, &second) == Status::kOk);
  CHECK(cache.set("c", pattern(100'000, 1)) == Status::kFull);
  CHECK(message_has("views and reservations"));
  CHECK(cache.problems() == "");
  REQUIRE(cache.unpin(first) == Status::kOk);
  CHECK(cache.set("c", pattern(100'000, 1)) == Status::kOk);
  REQUIRE(cache.unpin(second) == Status::kOk);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
