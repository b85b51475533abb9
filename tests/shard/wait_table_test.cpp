// The words that waiters sleep on, by themselves: who is woken, and what waiters that have gone leave behind.
#include "core/shard/wait_table.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "core/base/shared_futex.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::chrono::seconds kForEver{20};

// The table of a segment with one shard, and its words.
class Waits : public TestShard {
 public:
  const WaitTable& table = shard.waits();

  std::uint32_t hash(std::string_view text) const { return key(text).hash.bucket_bits(); }
  std::atomic<std::uint32_t>& word(std::string_view text) const {
    return reinterpret_cast<WaitWords*>(data() + geometry().areas[kWaitArea].offset)->words[hash(text) % kWaitWords];
  }
  std::atomic<std::uint64_t>& awaited_until_ms() const { return TestSegment::header().awaited_until_ms; }
  std::uint64_t token(std::string_view text) {
    std::uint64_t cas = 0;
    static_cast<void>(
        shard.inspect(key(text), {deadline(), now_ms}, [&](const ScannedEntry& entry) { cas = entry.cas; }));
    return cas;
  }
};

}  // namespace

TEST_CASE("a writer touches no word that nobody waits on") {
  Waits waits;
  REQUIRE(waits.table.exists());
  REQUIRE(waits.set("key", "value") == Status::kOk);
  CHECK(waits.word("key") == 0);
  CHECK(waits.awaited_until_ms() == 0);
}

TEST_CASE("a change takes the bit of the waiters back, and counts") {
  Waits waits;
  const std::uint32_t seen = waits.table.announce(waits.hash("key"));
  CHECK(seen == 1);
  CHECK(waits.table.announce(waits.hash("key")) == seen);  // A second waiter.
  CHECK(waits.awaited_until_ms() > monotonic_ms());
  REQUIRE(waits.set("key", "value") == Status::kOk);
  CHECK(waits.word("key") == 2);
  REQUIRE(waits.set("key", "newer") == Status::kOk);
  CHECK(waits.word("key") == 2);  // Nobody waits any more, also if they were killed.
  CHECK(waits.table.announce(waits.hash("key")) == 3);
  REQUIRE(waits.remove("key") == Status::kOk);
  CHECK(waits.word("key") == 4);
  const auto began = std::chrono::steady_clock::now();
  waits.table.sleep(waits.hash("key"), 3, kForEver);  // The change came before the sleep.
  CHECK(std::chrono::steady_clock::now() - began < WaitTable::kSlice);
}

TEST_CASE("no sleep is longer than a slice") {
  const Waits waits;
  const std::uint32_t seen = waits.table.announce(waits.hash("key"));
  const auto began = std::chrono::steady_clock::now();
  waits.table.sleep(waits.hash("key"), seen, kForEver);
  CHECK(std::chrono::steady_clock::now() - began < kForEver / 2);
}

TEST_CASE("what waiters that have gone said in the header is taken back, and so is what no waiter says") {
  Waits waits;
  for (const std::uint64_t stale : {std::uint64_t{1}, monotonic_ms() - 1, ~std::uint64_t{0}}) {
    CAPTURE(stale);
    waits.awaited_until_ms() = stale;
    REQUIRE(waits.set("key", "value") == Status::kOk);
    CHECK(waits.awaited_until_ms() == 0);
    // A new waiter replaces it as well.
    waits.awaited_until_ms() = stale;
    waits.table.announce(waits.hash("key"));
    CHECK(waits.awaited_until_ms() > monotonic_ms());
    CHECK(waits.awaited_until_ms() < monotonic_ms() + 1000);
    REQUIRE(waits.set("key", "value") == Status::kOk);
    CHECK(waits.awaited_until_ms() != 0);
  }
}

TEST_CASE("a change of all entries reaches every word on which somebody waits") {
  const Waits waits;
  waits.table.note_change_of_all();
  CHECK(waits.word("one") == 0);
  waits.table.announce(waits.hash("one"));
  waits.table.announce(waits.hash("other"));
  waits.table.note_change_of_all();
  CHECK(waits.word("one") == 2);
  CHECK(waits.word("other") == 2);
}

// A waiter of this test has no slices: a wake-up that is lost costs it kForEver.
TEST_CASE("no wake-up is lost while two threads answer each other") {
  Waits waits;
  const int changes = scaled(20'000);
  std::atomic<int> lost{0};
  // Changes `mine` whenever `theirs` has changed. Every other change removes the key, so that each kind is met.
  const auto answer = [&](const char* mine, const char* theirs, bool begins) {
    Shard own(&waits.segment(), waits.geometry(), 0, waits.attached().hash_seed);
    const Key key_of_mine = waits.key(mine);
    const Key key_of_theirs = waits.key(theirs);
    const auto token_of_theirs = [&] {
      std::uint64_t cas = 0;
      static_cast<void>(own.inspect(key_of_theirs, {Deadline(kForEver), waits.now_ms},
                                    [&](const ScannedEntry& entry) { cas = entry.cas; }));
      return cas;
    };
    std::uint64_t known = 0;
    for (int i = 0; i < changes; ++i) {
      if (!begins || i != 0) {
        std::uint64_t now = token_of_theirs();
        while (now == known) {
          const std::uint32_t seen = own.waits().announce(key_of_theirs.hash.bucket_bits());
          static_cast<void>(own.pass_write_lock(Deadline(kForEver)));
          now = token_of_theirs();
          if (now != known) break;
          const auto began = std::chrono::steady_clock::now();
          futex_wait(waits.word(theirs), seen, kForEver);
          if (std::chrono::steady_clock::now() - began >= kForEver) ++lost;
          now = token_of_theirs();
        }
        known = now;
      }
      const OpContext context{Deadline(kForEver), waits.now_ms};
      if (i % 2 == 1) {
        static_cast<void>(own.remove(key_of_mine, context));
        continue;
      }
      const std::string value(static_cast<std::size_t>(i % 64), 'v');
      static_cast<void>(own.store(
          {.key = key_of_mine, .value = reinterpret_cast<const std::byte*>(value.data()), .value_size = value.size()},
          context));
    }
  };
  std::thread other([&] { answer("pong", "ping", false); });
  answer("ping", "pong", true);
  other.join();
  CHECK(lost == 0);
  CHECK(waits.problems() == "");
}

}  // namespace memstream::test
