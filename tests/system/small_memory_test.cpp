// A /dev/shm that is far smaller than the cache: the cache works with what there is, evicts, says so, and nobody dies
// of SIGBUS. Only POSIX shared memory lives in /dev/shm.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/tagged_value.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kTmpfsSize = 16 << 20;

// Runs `body` with a cache of 1 GiB in a child whose /dev/shm has 16 MiB. Ends the program as skipped where the system
// does not allow that to be made. `shards` 0: as many as the library chooses.
Complaint with_small_memory(std::uint32_t shards, const std::function<Complaint(memstream_t* cache)>& body) {
  const auto mount = [] { return mount_own_shm("size=16m"); };
  if (const Complaint obstacle = in_child(mount); !obstacle.empty()) {
    std::printf("skipped: a mount namespace with a /dev/shm of its own needs root (%s)\n", obstacle.c_str());
    std::exit(77);
  }
  return in_child([&]() -> Complaint {
    if (const Complaint obstacle = mount(); !obstacle.empty()) return obstacle;
    const TemporarySegment segment("small-memory", std::uint64_t{1} << 30, shards);
    const OpenCache cache(segment.spec());
    return body(cache);
  });
}

std::string key_text(std::uint32_t key) { return "key-" + std::to_string(key); }

int put(memstream_t* cache, std::uint32_t key, std::size_t size_bytes) {
  static std::vector<std::byte> value;
  make_tagged(key, 1, size_bytes, &value);
  const std::string text = key_text(key);
  return memstream_set(cache, text.data(), text.size(), value.data(), value.size(), 0, 0);
}

// How many of the keys [0, keys) are there. Throws if one has a wrong value.
std::uint32_t present(memstream_t* cache, std::uint32_t keys) {
  std::uint32_t count = 0;
  std::vector<std::byte> room(8 << 20);
  for (std::uint32_t key = 0; key < keys; ++key) {
    const std::string text = key_text(key);
    std::size_t size = room.size();
    const int status = memstream_get(cache, text.data(), text.size(), room.data(), &size, nullptr);
    if (status == CACHE_MISS) continue;
    if (status != CACHE_OK) throw std::runtime_error(cache_last_error());
    check_tagged(key, room.data(), size);
    ++count;
  }
  return count;
}

// What must hold after more was written than the memory holds.
Complaint judge(memstream_t* cache) {
  const cache_stats_t stats = stats_of(cache);
  Complaint complaint = problems_of(cache) + disagreement_of_stats_and_scan(cache);
  if (stats.max_memory != std::uint64_t{1} << 30) complaint += "max_memory is not what was asked for; ";
  if (stats.committed_memory > kTmpfsSize) complaint += "more is said to be committed than there is; ";
  if (stats.reachable_memory != kTmpfsSize) complaint += "what is there at most is told wrongly; ";
  if (stats.commit_failures == 0) complaint += "no refusal of memory was counted; ";
  if (stats.evictions == 0) complaint += "nothing was evicted; ";
  return complaint;
}

TEST_CASE("a cache of 1 GiB works in a /dev/shm of 16 MiB") {
  for (const std::size_t size_bytes : {100U, 1000U, 20'000U}) {
    CAPTURE(size_bytes);
    CHECK(with_small_memory(32, [&](memstream_t* cache) -> Complaint {
            const auto keys = static_cast<std::uint32_t>(3 * kTmpfsSize / size_bytes);
            std::uint32_t refused = 0;
            for (std::uint32_t key = 0; key < keys; ++key) refused += put(cache, key, size_bytes) != CACHE_OK ? 1 : 0;
            if (refused != 0) return std::to_string(refused) + " puts refused: " + cache_last_error();
            const cache_stats_t stats = stats_of(cache);
            std::printf("%zu bytes: %llu committed, %llu in live blocks\n", size_bytes,
                        static_cast<unsigned long long>(stats.committed_memory),
                        static_cast<unsigned long long>(stats.used_memory));
            std::fflush(stdout);
            if (present(cache, keys) != stats.entries) return "entries that cannot be read";
            if (stats.used_memory + stats.table_memory < kTmpfsSize / 2) return "half of the memory lies idle";
            return judge(cache);
          }) == "");
  }
}

TEST_CASE("a new cache has shards for the memory that there is, and refuses no value that fits one") {
  CHECK(with_small_memory(0, [](memstream_t* cache) -> Complaint {
          for (std::uint32_t key = 0; key < 100; ++key) {
            if (put(cache, key, 3 << 20) != CACHE_OK) return key_text(key) + ": " + cache_last_error();
          }
          if (present(cache, 100) < 3) return "most of the memory lies idle";
          return judge(cache);
        }) == "");
}

TEST_CASE("values larger than what memory is left are refused or stored, and the cache goes on") {
  CHECK(with_small_memory(32, [](memstream_t* cache) -> Complaint {
          std::uint32_t key = 0;
          for (const std::size_t size_bytes :
               {100U, 5U << 20, 30'000U, 12U << 20, 300U << 10, 1000U, 15U << 20, 1U << 20}) {
            for (int i = 0; i < 100; ++i) {
              const int status = put(cache, key++, size_bytes);
              if (status != CACHE_OK && status != CACHE_NO_MEMORY && status != CACHE_TOO_LARGE) {
                return std::to_string(size_bytes) + " bytes: status " + std::to_string(status) + ", " +
                       cache_last_error();
              }
            }
            if (const std::string problems = problems_of(cache); !problems.empty()) return problems;
          }
          if (put(cache, key++, 100) != CACHE_OK) return std::string("a small put after them: ") + cache_last_error();
          present(cache, key);
          return judge(cache);
        }) == "");
}

TEST_CASE("a shard without a key has room for one where another has taken all memory") {
  CHECK(with_small_memory(32, [](memstream_t* cache) -> Complaint {
          std::uint32_t key = 0;
          while (put(cache, key, 1 << 20) == CACHE_OK && key < 100) ++key;
          if (stats_of(cache).commit_failures == 0) return "there was memory enough";
          // More keys than any of the 32 shards can miss.
          for (const std::uint32_t end = key + 2000; key < end; ++key) {
            if (put(cache, key, 100) != CACHE_OK) return key_text(key) + ": " + cache_last_error();
          }
          return problems_of(cache);
        }) == "");
}

TEST_CASE("a shard whose keys come first leaves the others what is their right, and views are held meanwhile") {
  CHECK(with_small_memory(4, [](memstream_t* cache) -> Complaint {
          std::vector<std::vector<std::uint32_t>> keys_of(4);
          std::uint32_t key = 0;
          for (; key < 40'000; ++key) {
            const std::string text = key_text(key);
            memstream_entry_t entry{};
            if (memstream_set(cache, text.data(), text.size(), "", 0, 0, 0) != CACHE_OK) return cache_last_error();
            const int status = memstream_entry_info(cache, text.data(), text.size(), &entry);
            if (status != CACHE_OK || entry.shard >= 4) return "an entry that is not there";
            keys_of[entry.shard].push_back(key);
            if (memstream_delete(cache, text.data(), text.size()) != CACHE_OK) return cache_last_error();
          }
          for (const std::uint32_t first : keys_of[0]) {
            if (put(cache, first, 4000) != CACHE_OK) return key_text(first) + ": " + cache_last_error();
          }
          if (stats_of(cache).commit_failures == 0) return "the first shard took all it could use";
          memstream_view_t view{};
          const std::string viewed = key_text(keys_of[0].back());
          if (memstream_view(cache, viewed.data(), viewed.size(), &view) != CACHE_OK) return cache_last_error();
          // 600 values of 4,000 bytes are 2.4 MB, of a right of 3 MB.
          for (std::uint32_t shard = 1; shard < 4; ++shard) {
            std::uint32_t there = 0;
            for (std::uint32_t i = 0; i < 600; ++i) {
              if (put(cache, keys_of[shard][i], 4000) != CACHE_OK) return cache_last_error();
            }
            for (std::uint32_t i = 0; i < 600; ++i) {
              const std::string text = key_text(keys_of[shard][i]);
              there += memstream_exists(cache, text.data(), text.size()) == CACHE_OK ? 1 : 0;
            }
            if (there != 600)
              return std::to_string(there) + " of 600 values are there in shard " + std::to_string(shard);
          }
          check_tagged(keys_of[0].back(), static_cast<const std::byte*>(view.data), view.size);
          if (memstream_release(cache, &view) != CACHE_OK) return cache_last_error();
          return judge(cache);
        }) == "");
}

TEST_CASE("reservations that memory is not there for are refused") {
  CHECK(with_small_memory(32, [](memstream_t* cache) -> Complaint {
          std::vector<memstream_reservation_t> reservations;
          int status = CACHE_OK;
          while (status == CACHE_OK && reservations.size() < 100) {
            const std::string text = key_text(static_cast<std::uint32_t>(reservations.size()));
            memstream_reservation_t reservation{};
            status = memstream_reserve(cache, text.data(), text.size(), 1 << 20, &reservation);
            if (status != CACHE_OK) break;
            std::memset(reservation.data, 'r', reservation.size);
            reservations.push_back(reservation);
          }
          if (status != CACHE_NO_MEMORY && status != CACHE_FULL) return "status " + std::to_string(status);
          for (memstream_reservation_t& reservation : reservations) {
            if (memstream_abort(cache, &reservation) != CACHE_OK) return cache_last_error();
          }
          return problems_of(cache);
        }) == "");
}

}  // namespace
}  // namespace memstream::test
