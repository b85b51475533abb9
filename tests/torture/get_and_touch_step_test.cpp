// A get that renews its entry stands at any instruction while another process replaces the value: the new value keeps
// the time to live that it was stored with, unless it is the one that was read.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/leases.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

constexpr std::uint64_t kSize = 16 << 20;
constexpr int kPoints = 150;  // Instructions at which a child stands.
constexpr std::uint64_t kRenewedMs = 60'000;
constexpr std::uint64_t kStoredMs = 3'600'000;

int store(memstream_t* cache, std::string_view value) {
  return memstream_set(cache, "key", 3, value.data(), value.size(), kStoredMs, 0);
}

// The child's handle. It never closes: it is killed.
memstream_t* child_cache = nullptr;

void open_in_child(const test::CacheSpec& spec) {
  const memstream_options_t options = spec.options();
  if (memstream_open(&options, &child_cache) != CACHE_OK) ::_exit(1);
  test::set(child_cache, "warm", "warm");  // The first write of a process enters it.
}

void read_and_renew() {
  std::array<char, 16> value{};
  std::size_t size = value.size();
  if (memstream_get_and_touch(child_cache, "key", 3, kRenewedMs, value.data(), &size, nullptr) != CACHE_OK) ::_exit(1);
  test::set(child_cache, std::string(value.data(), size), "read");
}

bool is_renewed(memstream_t* cache) {
  memstream_entry_t entry{};
  REQUIRE(memstream_entry_info(cache, "key", 3, &entry) == CACHE_OK);
  return entry.expires_at_ms - entry.created_at_ms < (kRenewedMs + kStoredMs) / 2;
}

}  // namespace

TEST_CASE("a value that takes the place of the one that was read keeps its own time to live") {
  // Little patience with the lock that a stopped process holds.
  const test::TemporarySegment segment("renew-step", kSize, 1, 30);
  const test::OpenCache cache(segment.spec());
  const auto begin = [&] { open_in_child(segment.spec()); };
  REQUIRE(store(cache, "old") == CACHE_OK);
  const Route route(trace_of(begin, read_and_renew));
  const std::size_t stride =
      std::max<std::size_t>(1, route.instructions() / static_cast<std::size_t>(test::scaled(kPoints)));
  int of_old = 0;
  int of_new = 0;
  for (std::size_t instruction = 0; instruction < route.instructions(); instruction += stride) {
    CAPTURE(instruction);
    REQUIRE(store(cache, "old") == CACHE_OK);
    SteppedChild child(begin, read_and_renew);
    if (!child.go(route.legs(instruction))) continue;
    const int status = store(cache, "new");
    child.finish();
    if (status != CACHE_OK) {  // The child holds the lock.
      CHECK(status == CACHE_BUSY);
      continue;
    }
    const bool is_old = test::get(cache, "read") == "old";
    ++(is_old ? of_old : of_new);
    CHECK(is_renewed(cache) == !is_old);
  }
  MESSAGE("replaced after " << of_old << " reads, before " << of_new);
  CHECK(of_old > 5);
  CHECK(of_new > 5);
  CHECK(test::problems_of(cache) == "");
}

}  // namespace memstream::torture
