// A process that views beside one that puts. Neither has threads, so that what they do for one another's sake is the
// library's own: no locked instruction is there that only threads need.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::string_view kKey = "key";
using Words = std::array<std::uint64_t, 8>;

// The same number in each word, or what else stands there.
bool is_whole(const Words& words) {
  for (const std::uint64_t word : words) {
    if (word != words[0]) return false;
  }
  return true;
}

Complaint view_for(const CacheSpec& spec, std::chrono::milliseconds time) {
  const OpenCache cache(spec);
  const auto end = std::chrono::steady_clock::now() + time;
  std::uint64_t newest = 0;
  do {
    for (int i = 0; i < 1000; ++i) {
      memstream_view_t view{};
      if (memstream_view(cache, kKey.data(), kKey.size(), &view) != CACHE_OK) return cache_last_error();
      Words first, later;
      std::memcpy(first.data(), view.data, sizeof first);
      // Long enough for two more puts, of which the second would take the block if it had been given up.
      for (int pauses = 0; pauses < i % 32; ++pauses) std::atomic_signal_fence(std::memory_order_seq_cst);
      const auto* bytes = static_cast<const volatile std::uint64_t*>(view.data);
      for (std::size_t word = 0; word < later.size(); ++word) later[word] = bytes[word];
      if (!is_whole(first)) return "a view of half a value";
      if (later != first) return "a value changed beneath a view";
      if (first[0] < newest) return "a view of a value that was replaced before it began";
      newest = first[0];
      if (memstream_release(cache, &view) != CACHE_OK) return cache_last_error();
    }
  } while (std::chrono::steady_clock::now() < end);
  return "";
}

}  // namespace

TEST_CASE("what one process views stands while another one puts and puts") {
  const TemporarySegment segment("view-race", 1 << 20, 1);
  const OpenCache cache(segment.spec());
  Words words{};
  const auto put = [&] {
    for (std::uint64_t& word : words) ++word;
    return memstream_set(cache, kKey.data(), kKey.size(), words.data(), sizeof words, 0, 0);
  };
  REQUIRE(put() == CACHE_OK);
  const auto time = stress_time(2);
  const auto end = std::chrono::steady_clock::now() + time;
  ChildProcess viewer([&] { return view_for(segment.spec(), time); });
  do {
    for (int i = 0; i < 1000; ++i) REQUIRE(put() == CACHE_OK);
  } while (std::chrono::steady_clock::now() < end);
  CHECK(viewer.wait() == "");
  CHECK(stats_of(cache).pinned_memory == 0);
  CHECK(problems_of(cache) == "");
}

}  // namespace memstream::test
