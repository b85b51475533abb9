// The rings of changed keys, by themselves: what a watcher reads, what it is told that it has missed, and what writers
// and watchers that have gone leave behind.
#include "core/shard/watch_table.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = kLeastWatchSegment;
constexpr std::uint64_t kWord = sizeof(std::uint64_t);

void commit_watches(TestShard& shard) {
  const Geometry& geometry = shard.geometry();
  REQUIRE(shard.segment().commit(geometry.areas[kWatchArea].offset, geometry.watches_size_bytes()) == Status::kOk);
}

// The ring of a segment with one shard, its words, and a watcher.
class Watched : public TestShard {
 public:
  Watched() : TestShard(kSize) {
    commit_watches(*this);
    static_cast<void>(announce());
    position = table().position();
  }

  const WatchTable& table() const { return shard.waits().watches(); }
  WatchRing& ring() const { return *reinterpret_cast<WatchRing*>(area() + sizeof(WatchHead)); }
  WatchHead& head() const { return *reinterpret_cast<WatchHead*>(area()); }
  std::atomic<std::uint64_t>& awaited() const { return TestSegment::header().awaited_until_ms; }
  std::atomic<std::uint64_t>& watched() const { return TestSegment::header().watched; }
  std::uint64_t ring_bytes() const { return geometry().watch_ring_bytes(); }

  bool announce() { return shard.waits().announce_watch(&lapses); }
  // The keys that were appended since the last call; "look again" among them where some are lost.
  std::vector<std::string> read() {
    std::vector<std::string> told;
    if (!table().read(&position, &words, [&](std::string_view key) { told.emplace_back(key); })) {
      told.emplace_back("look again");
    }
    return told;
  }

  std::string told() {
    std::string text;
    for (const std::string& key : read()) text += (text.empty() ? "" : ", ") + key;
    return text;
  }

  std::uint64_t position = 0;
  std::uint16_t lapses = 0;

 private:
  std::byte* area() const { return data() + geometry().areas[kWatchArea].offset; }
  std::vector<std::uint64_t> words;
};

}  // namespace

TEST_CASE("a writer appends a key only while somebody watches") {
  TestShard quiet(kSize);
  commit_watches(quiet);
  REQUIRE(quiet.set("key", "value") == Status::kOk);
  CHECK(quiet.shard.waits().watches().position() == 0);
  // Nor for one that waits.
  quiet.shard.waits().announce(quiet.key("key").hash.bucket_bits());
  REQUIRE(quiet.set("key", "newer") == Status::kOk);
  CHECK(quiet.shard.waits().watches().position() == 0);
  Watched watched;
  REQUIRE(watched.set("key", "value") == Status::kOk);
  REQUIRE(watched.set("another key of more than a word", "value") == Status::kOk);
  REQUIRE(watched.remove("key") == Status::kOk);
  CHECK(watched.told() == "key, another key of more than a word, key");
  CHECK(watched.told() == "");
}

TEST_CASE("an announcement that has passed ends with the next change, and is told apart from a new one") {
  Watched watched;
  CHECK(watched.announce());
  // Both words say that the time is over.
  watched.watched() = watched_word(1, watched.lapses);
  watched.awaited() = 1;
  REQUIRE(watched.set("lost", "value") == Status::kOk);
  CHECK(watched_until_ms(watched.watched()) == 0);
  CHECK(watched.awaited() == 0);
  CHECK(watched.told() == "");
  std::uint16_t of_other = 0;
  static_cast<void>(watched.shard.waits().announce_watch(&of_other));  // Another watcher comes first.
  CHECK_FALSE(watched.announce());
  CHECK(watched.announce());
  REQUIRE(watched.set("named", "value") == Status::kOk);
  CHECK(watched.told() == "named");
}

TEST_CASE("an announcement that has passed and that no writer met goes on") {
  Watched watched;
  watched.watched() = watched_word(1, watched.lapses);
  watched.awaited() = 1;
  CHECK(watched.announce());
}

TEST_CASE("a waiter that keeps the first word does not keep watchers that have gone") {
  Watched watched;
  watched.watched() = watched_word(1, watched.lapses);
  watched.shard.waits().announce(watched.key("key").hash.bucket_bits());
  REQUIRE(watched.set("lost", "value") == Status::kOk);
  CHECK(watched_until_ms(watched.watched()) == 0);
  CHECK(watched.awaited() != 0);
  CHECK_FALSE(watched.announce());
}

TEST_CASE("a watcher that a ring has overtaken looks again") {
  Watched watched;
  const std::string key(100, 'k');
  const std::uint64_t records = watched.ring_bytes() / watch_record_size(key.size());
  for (std::uint64_t i = 0; i < records; ++i) REQUIRE(watched.set(key, "value") == Status::kOk);
  CHECK(watched.read().size() == records);
  for (std::uint64_t i = 0; i <= records; ++i) REQUIRE(watched.set(key, "value") == Status::kOk);
  CHECK(watched.told() == "look again");
  REQUIRE(watched.set("key", "value") == Status::kOk);
  CHECK(watched.told() == "key");
}

TEST_CASE("a record that a writer left half done is lost, and all before it that it may have overwritten") {
  Watched watched;
  REQUIRE(watched.set("first", "value") == Status::kOk);
  // A writer that has reserved nearly all of the ring, and died.
  watched.ring().reserved += watched.ring_bytes() - kWord;
  CHECK(watched.told() == "look again");
  REQUIRE(watched.set("key", "value") == Status::kOk);
  CHECK(watched.told() == "look again");
  REQUIRE(watched.set("key", "value") == Status::kOk);
  CHECK(watched.told() == "key");
}

TEST_CASE("a rebuild of a shard says to look again") {
  Watched watched;
  REQUIRE(watched.set("key", "value") == Status::kOk);
  RepairReport report;
  REQUIRE(watched.shard.repair(watched.deadline(), &report) == Status::kOk);
  CHECK(watched.told() == "look again");
  REQUIRE(watched.set("key", "value") == Status::kOk);
  CHECK(watched.told() == "key");
}

TEST_CASE("damage is a look again, and does not last") {
  for (const std::uint64_t damage :
       {std::uint64_t{1}, std::uint64_t{12'345}, ~std::uint64_t{0}, ~std::uint64_t{0} - 6, std::uint64_t{1} << 63}) {
    CAPTURE(damage);
    for (const bool of_both : {false, true}) {
      Watched watched;
      watched.ring().written = damage;
      if (of_both) watched.ring().reserved = damage;
      CHECK(watched.told() == "look again");
      REQUIRE(watched.set("key", "value") == Status::kOk);
      watched.read();
      REQUIRE(watched.set("key", "value") == Status::kOk);
      CHECK(watched.told() == "key");
    }
    Watched watched;  // A record with an impossible size.
    REQUIRE(watched.set("key", "value") == Status::kOk);
    auto* const bytes =
        watched.data() + watched.geometry().areas[kWatchArea].offset + watched.geometry().watch_rings_offset();
    *reinterpret_cast<std::uint64_t*>(bytes) = damage;
    const std::string told = watched.told();
    CHECK((told == "look again" || damage == 1));
    watched.watched() = damage;
    REQUIRE(watched.set("key", "value") == Status::kOk);
    static_cast<void>(watched.announce());
    static_cast<void>(watched.announce());
    watched.read();
    REQUIRE(watched.set("key", "value") == Status::kOk);
    CHECK(watched.told() == "key");
  }
}

TEST_CASE("what is read while a writer appends is whole") {
  Watched watched;
  const int changes = scaled(50'000);
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    Shard own(&watched.segment(), watched.geometry(), 0, watched.attached().hash_seed);
    for (int i = 0; i < changes; ++i) {
      // The end of a key says how it begins.
      std::string key(static_cast<std::size_t>(1 + i % 90), static_cast<char>('a' + i % 26));
      key = std::to_string(i) + key + std::to_string(i);
      own.waits().watches().note(key);  // No other writer: the lock would only slow it down.
    }
    is_over = true;
  });
  int next = 0;
  int looks_again = 0;
  std::string wrong;
  while (!is_over || watched.table().position() != watched.position) {
    for (const std::string& key : watched.read()) {
      if (key == "look again") {
        ++looks_again;
        next = -1;
        continue;
      }
      const int number = std::stoi(key);
      const std::string text = std::to_string(number);
      const bool is_whole = key.size() == 2 * text.size() + static_cast<std::size_t>(1 + number % 90) &&
                            key.compare(key.size() - text.size(), text.size(), text) == 0;
      if (!is_whole || (next != -1 && number != next)) wrong = key;
      next = number + 1;
    }
  }
  writer.join();
  CHECK(wrong == "");
  CHECK((next == changes || next == -1));
  MESSAGE(looks_again << " times look again");
}

}  // namespace memstream::test
