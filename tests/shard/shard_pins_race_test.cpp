// Viewers beside a writer that does all that can happen to a value: what a view shows stands until it ends.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include "core/shard/shard_lookup.h"
#include "tests/support/overwriting_shard.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

constexpr int kKeys = 6;

std::string name(std::uint64_t number) { return "key-" + std::to_string(number % kKeys); }

// The number over and over: every word tells of which value it is. It is that of the key, too.
std::string value_of(std::uint64_t number, std::size_t size_bytes) {
  std::string value(size_bytes / sizeof number * sizeof number, ' ');
  for (std::size_t at = 0; at < value.size(); at += sizeof number) std::memcpy(&value[at], &number, sizeof number);
  return value;
}

bool is_whole(const PinnedBlock& pinned, std::uint64_t key, std::uint64_t* number) {
  std::memcpy(number, pinned.value, sizeof *number);
  for (std::size_t at = 0; at < pinned.read.value_size; at += sizeof *number) {
    std::uint64_t word = 0;
    copy_from_shared(&word, pinned.value + at, sizeof word);
    if (word != *number || word % kKeys != key) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("views beside a writer show one whole value each until they end") {
  // A full heap, so that blocks are used again at once, and windows are cleared of those that are not viewed.
  OverwritingShard cache;
  const auto size_of = [](std::uint64_t number) -> std::size_t {
    return number % 7 == 0 ? 30'000 : number % 3 == 0 ? 3000 : 400;
  };
  for (int i = 0; i < 1000; ++i) REQUIRE(cache.put("other-" + std::to_string(i), pattern(1000, i)) == Status::kOk);
  for (std::uint64_t key = 0; key < kKeys; ++key) REQUIRE(cache.put(name(key), value_of(key, 400)) == Status::kOk);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> views{0}, wrong{0};
  const auto view = [&](std::uint64_t seed) {
    constexpr std::size_t kHeld = 3;
    struct Held {
      PinnedBlock pinned;
      std::uint64_t key = 0;
      std::uint64_t number = 0;
      bool is_held = false;
    };
    std::array<Held, kHeld> held;
    const auto now = [&] { return cache.now_ms; };
    const auto end = [&](Held& one) {
      std::uint64_t number = 0;
      if (!is_whole(one.pinned, one.key, &number) || number != one.number) wrong.fetch_add(1);
      if (cache.unpin(one.pinned) != Status::kOk) wrong.fetch_add(1);
      one.is_held = false;
    };
    while (!stop.load()) {
      seed = seed * 6364136223846793005 + 1442695040888963407;
      Held& one = held[(seed >> 40) % kHeld];
      if (one.is_held) end(one);
      one.key = (seed >> 33) % kKeys;
      const std::string key = name(one.key);
      const Status status =
          cache.shard.pin(cache.key(key), cache.pins, cache.deadline(), cache.now_ms, now, &one.pinned);
      if (status == Status::kMiss) continue;
      one.is_held = status == Status::kOk;
      if (!one.is_held || !is_whole(one.pinned, one.key, &one.number)) wrong.fetch_add(1);
      views.fetch_add(1);
    }
    for (Held& one : held) {
      if (one.is_held) end(one);
    }
  };
  std::thread one(view, 1);
  std::thread two(view, 2);
  std::uint64_t refused = 0;
  for (std::uint64_t number = kKeys; number < static_cast<std::uint64_t>(scaled(40'000)); ++number) {
    const std::string key = name(number);
    if (number % 11 == 0) {
      const Status status = cache.remove(key);
      REQUIRE((status == Status::kOk || status == Status::kMiss));
    } else if (number % 5 == 0) {
      PinnedBlock reserved;
      const std::string value = value_of(number, size_of(number));
      const Status status = cache.reserve(key, value.size(), &reserved);
      if (status == Status::kFull) ++refused;
      if (status != Status::kOk) continue;
      copy_to_shared(reserved.value, value.data(), value.size());
      REQUIRE(cache.commit(key, reserved) == Status::kOk);
    } else {
      const Status status = cache.put(key, value_of(number, size_of(number)));
      if (status == Status::kFull) ++refused;
      REQUIRE((status == Status::kOk || status == Status::kFull));
    }
    REQUIRE(cache.put("other-" + std::to_string(number % 1000), pattern(1000, number)) == Status::kOk);
    if (number % 4096 == 0) cache.recover();
  }
  while (views.load() < 100) std::this_thread::yield();
  stop = true;
  one.join();
  two.join();
  MESSAGE(views.load() << " views, " << refused << " puts without room");
  CHECK(wrong == 0);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.header().space.retired == 0);
  CHECK(cache.problems() == "");
}

}  // namespace memstream::test
