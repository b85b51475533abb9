// Leases through the C interface: who gets one, and what ends it.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

struct Change {
  const char* name;
  std::function<int()> make;
};

using std::chrono::milliseconds;

constexpr std::uint64_t kSegmentSize = 16 << 20;

TEST_CASE("a missing key is leased to one, and to the next when that one has ended its lease") {
  const TemporarySegment segment("lease", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  std::uint64_t lease = 0;
  REQUIRE(lease_of(cache, kKey, &lease) == CACHE_OK);
  CHECK(lease != 0);
  std::uint64_t refused = 1;
  CHECK(lease_of(other, kKey, &refused) == CACHE_HELD);
  CHECK(refused == 0);
  CHECK(lease_of(cache) == CACHE_HELD);  // Its own handle too: another thread may have asked.
  CHECK(lease_of(other, "another key") == CACHE_OK);
  CHECK(release(other, lease) == CACHE_CONFLICT);
  CHECK(fulfil(other, lease) == CACHE_CONFLICT);
  CHECK(get(cache) == "status 1");

  CHECK(release(cache, lease) == CACHE_OK);
  CHECK(release(cache, lease) == CACHE_CONFLICT);
  CHECK(fulfil(cache, lease) == CACHE_CONFLICT);
  const std::uint64_t second = must_lease(other);
  CHECK(second != lease);
  CHECK(fulfil(cache, lease) == CACHE_CONFLICT);
  CHECK(fulfil(other, second) == CACHE_OK);
  CHECK(get(cache) == "computed");
  CHECK(fulfil(other, second) == CACHE_CONFLICT);
  refused = 1;
  CHECK(lease_of(cache, kKey, &refused) == CACHE_EXISTS);
  CHECK(refused == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a value that is copied outside the lock is stored under a lease like a small one") {
  const TemporarySegment segment("lease-large", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const std::string large(90'000, 'l');
  std::uint64_t lease = must_lease(cache);
  CHECK(fulfil(cache, lease, large) == CACHE_OK);
  CHECK(get(cache) == large);
  CHECK(memstream_delete(cache, kKey.data(), kKey.size()) == CACHE_OK);
  lease = must_lease(cache);
  CHECK(set(cache, "newer") == CACHE_OK);
  CHECK(fulfil(cache, lease, large) == CACHE_CONFLICT);
  CHECK(get(cache) == "newer");
  CHECK(stats_of(cache).pinned_memory == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("whoever writes or removes a key ends its lease, and what was computed is not stored over it") {
  const TemporarySegment segment("lease-ended", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  const std::int64_t start = 1;
  memstream_item_t item{};
  item.key = kKey.data();
  item.key_size = kKey.size();
  item.value = "newer";
  item.value_size = 5;
  const auto size = kKey.size();
  const std::vector<Change> changes = {
      {"set", [&] { return set(other, "newer"); }},
      {"add", [&] { return memstream_add(other, kKey.data(), size, "newer", 5, 0, 0); }},
      {"incr", [&] { return memstream_incr(other, kKey.data(), size, 1, &start, 0, nullptr); }},
      {"set_many", [&] { return memstream_set_many(other, &item, 1); }},
      {"delete", [&] { return memstream_delete(other, kKey.data(), size) == CACHE_MISS ? CACHE_OK : -1; }},
      {"delete_many", [&] { return memstream_delete_many(other, &item, 1); }},
      {"clear", [&] { return memstream_clear(other); }},
      {"commit",
       [&] {
         memstream_reservation_t room;
         const int status = memstream_reserve(other, kKey.data(), size, 5, &room);
         return status != CACHE_OK ? status : memstream_commit(other, &room, 0, 0);
       }},
  };
  for (const Change& change : changes) {
    CAPTURE(change.name);
    memstream_delete(cache, kKey.data(), size);
    const std::uint64_t lease = must_lease(cache);
    const std::uint64_t of_another = must_lease(cache, "another key");
    CHECK(change.make() == CACHE_OK);
    const std::string value = get(cache);
    CHECK(value != "computed");
    CHECK(fulfil(cache, lease) == CACHE_CONFLICT);
    CHECK(get(cache) == value);
    CHECK(release(cache, of_another, "another key") ==
          (std::string(change.name) == "clear" ? CACHE_CONFLICT : CACHE_OK));
    CHECK(problems_of(cache) == "");
  }
}

TEST_CASE("a stale value is leased to one, by the token of just that value") {
  const TemporarySegment segment("lease-stale", kSegmentSize);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "stale") == CACHE_OK);
  memstream_meta_t meta;
  REQUIRE(get(cache, kKey, &meta) == "stale");
  std::uint64_t lease = 0;
  CHECK(lease_of(cache, kKey, &lease, meta.cas) == CACHE_OK);
  std::uint64_t refused = 0;
  CHECK(lease_of(cache, kKey, &refused, meta.cas) == CACHE_HELD);
  CHECK(lease_of(cache) == CACHE_EXISTS);  // Whoever is content with the stale value is told that there is one.
  CHECK(get(cache) == "stale");
  CHECK(fulfil(cache, lease) == CACHE_OK);
  CHECK(lease_of(cache, kKey, &refused, meta.cas) == CACHE_EXISTS);
  CHECK(get(cache) == "computed");
  // The stale value has gone meanwhile: it is missing, which is reason enough.
  CHECK(memstream_delete(cache, kKey.data(), kKey.size()) == CACHE_OK);
  CHECK(lease_of(cache, kKey, &lease, meta.cas) == CACHE_OK);
}

TEST_CASE("an expired value is as good as none") {
  const TemporarySegment segment("lease-expired", kSegmentSize);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, kKey.data(), kKey.size(), "v", 1, 2000, 0) == CACHE_OK);
  CHECK(lease_of(cache) == CACHE_EXISTS);
  std::this_thread::sleep_for(milliseconds(2100));
  CHECK(fulfil(cache, must_lease(cache)) == CACHE_OK);
  CHECK(get(cache) == "computed");
}

TEST_CASE("a lease whose time is over goes to whoever asks, and until then it can still be fulfilled") {
  const TemporarySegment segment("lease-time", kSegmentSize);
  const OpenCache cache(segment.spec());
  const std::uint64_t late = must_lease(cache, kKey, 2000);
  CHECK(lease_of(cache) == CACHE_HELD);
  CHECK(wait_for(cache, 20'000) == CACHE_OK);
  const std::uint64_t next = must_lease(cache);
  CHECK(fulfil(cache, late) == CACHE_CONFLICT);
  CHECK(fulfil(cache, next) == CACHE_OK);
  const std::uint64_t alone = must_lease(cache, "other", 2000);
  std::this_thread::sleep_for(milliseconds(2100));
  CHECK(fulfil(cache, alone, "late, but nobody came", "other") == CACHE_OK);
  CHECK(lease_of(cache, "long", nullptr) == CACHE_INVALID);
  std::uint64_t lease = 0;
  CHECK(lease_of(cache, "long", &lease, 0, UINT64_MAX) == CACHE_OK);
  CHECK(lease_of(cache, "long") == CACHE_HELD);
}

TEST_CASE("closing the handle ends its leases") {
  const TemporarySegment segment("lease-closed", kSegmentSize);
  const OpenCache cache(segment.spec());
  {
    const OpenCache other(segment.spec());
    must_lease(other);
    CHECK(lease_of(cache) == CACHE_HELD);
  }
  CHECK(wait_for(cache, 1000) == CACHE_OK);
  const OpenCache another(segment.spec());  // It has the slot of the one that went, and not its leases.
  CHECK(lease_of(cache) == CACHE_OK);
}

TEST_CASE("a forked child has none of its parent's leases") {
  const TemporarySegment segment("lease-fork", kSegmentSize);
  const OpenCache cache(segment.spec());
  const std::uint64_t lease = must_lease(cache);
  CHECK(in_child([&]() -> Complaint {
          if (lease_of(cache) != CACHE_HELD) return "the child does not see its parent's lease";
          if (fulfil(cache, lease) != CACHE_CONFLICT) return "the child fulfils its parent's lease";
          if (release(cache, lease) != CACHE_CONFLICT) return "the child releases its parent's lease";
          must_lease(cache, "the child's");
          return "";
        }) == "");
  CHECK(lease_of(cache, "the child's") == CACHE_OK);
  CHECK(fulfil(cache, lease) == CACHE_OK);
}

TEST_CASE("a lease that finds no place is fulfilled only if nobody has changed its key since") {
  const TemporarySegment segment("lease-unplaced", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  std::vector<std::uint64_t> placed;
  for (int i = 0; i < 48; ++i) placed.push_back(must_lease(cache, "placed-" + std::to_string(i)));
  const std::vector<Change> changes = {
      {"set", [&] { return set(other, "newer"); }},
      {"delete", [&] { return memstream_delete(other, kKey.data(), kKey.size()) == CACHE_MISS ? CACHE_OK : -1; }},
      {"set and delete", [&] { return set(other, "v") + memstream_delete(other, kKey.data(), kKey.size()); }},
      {"release", [] { return CACHE_OK; }},
      {"clear", [&] { return memstream_clear(other); }},
  };
  for (const Change& change : changes) {
    CAPTURE(change.name);
    memstream_delete(cache, kKey.data(), kKey.size());
    const std::uint64_t lease = must_lease(cache);
    CHECK(release(cache, lease, "another key") == CACHE_CONFLICT);
    if (std::string(change.name) == "release") {
      CHECK(release(cache, lease) == CACHE_OK);
      CHECK(release(cache, lease) == CACHE_CONFLICT);
    } else {
      CHECK(change.make() == CACHE_OK);
    }
    const std::string value = get(cache);
    CHECK(fulfil(cache, lease) == CACHE_CONFLICT);
    CHECK(get(cache) == value);
  }
  // The places are free by now. Only a change of its own key, or of one that shares its count of changes, ends a lease.
  for (int i = 0; i < 48; ++i) must_lease(cache, "placed-" + std::to_string(i));
  int unharmed = 0;
  for (int i = 0; i < 8; ++i) {  // One key in 32 shares the count.
    memstream_delete(cache, kKey.data(), kKey.size());
    const std::uint64_t lease = must_lease(cache);
    const std::string another = "placed-" + std::to_string(i);
    CHECK(memstream_delete(cache, another.data(), another.size()) == CACHE_MISS);
    unharmed += fulfil(cache, lease) == CACHE_OK ? 1 : 0;
    must_lease(cache, another);
  }
  CHECK(unharmed >= 2);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a lease of 0 is none") {
  const TemporarySegment segment("lease-zero", kSegmentSize);
  const OpenCache cache(segment.spec());
  CHECK(fulfil(cache, 0) == CACHE_CONFLICT);
  CHECK(get(cache) == "status 1");
  CHECK(release(cache, 0) == CACHE_CONFLICT);
  CHECK(fulfil(cache, 0xff) == CACHE_CONFLICT);
  CHECK(get(cache) == "status 1");
}

TEST_CASE("whoever follows a lease is told whether it was ended or lost its holder") {
  const TemporarySegment segment("lease-follow", kSegmentSize);
  const OpenCache cache(segment.spec());
  std::uint64_t followed = 0;
  CHECK(follow(cache, &followed) == CACHE_OK);  // There is none.
  CHECK(followed == 0);
  struct End {
    const char* name;
    std::function<void(std::uint64_t)> make;
  };
  const std::vector<End> ends = {
      {"release", [&](std::uint64_t lease) { release(cache, lease); }},
      {"fulfil", [&](std::uint64_t lease) { fulfil(cache, lease); }},
      {"set", [&](std::uint64_t) { set(cache, "newer"); }},
      {"clear", [&](std::uint64_t) { memstream_clear(cache); }},
  };
  for (const End& end : ends) {
    CAPTURE(end.name);
    const std::uint64_t lease = must_lease(cache);
    followed = 0;
    CHECK(follow(cache, &followed) == CACHE_HELD);
    CHECK(followed == lease);
    CHECK(follow(cache, &followed, 20) == CACHE_HELD);
    end.make(lease);
    CHECK(follow(cache, &followed) == CACHE_OK);
    memstream_delete(cache, kKey.data(), kKey.size());
    const std::uint64_t next = must_lease(cache);  // In the same place: not the one that is followed.
    CHECK(follow(cache, &followed) == CACHE_OK);
    CHECK(release(cache, next) == CACHE_OK);
  }

  followed = 0;
  must_lease(cache, kKey, 2000);
  CHECK(follow(cache, &followed) == CACHE_HELD);
  CHECK(follow(cache, &followed, 20'000) == CACHE_MISS);  // Its time is over.
  {
    const OpenCache other(segment.spec());
    const std::uint64_t second = must_lease(other);
    CHECK(follow(cache, &followed) == CACHE_HELD);  // It was taken over.
    CHECK(followed == second);
  }
  CHECK(follow(cache, &followed) == CACHE_MISS);  // Its handle was closed.
  const std::uint64_t third = must_lease(cache);
  CHECK(follow(cache, &followed) == CACHE_HELD);
  CHECK(followed == third);
  CHECK(release(cache, third) == CACHE_OK);
  CHECK(follow(cache, &followed) == CACHE_OK);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("clear ends the leases that were granted before it before it removes anything") {
  constexpr std::uint64_t kEntries = 100'000;
  const TemporarySegment segment("lease-clear", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  bool was_under_way = false;
  for (int i = 0; i < 100 && !was_under_way; ++i) {  // Until the clearing thread is met at work.
    for (std::uint64_t k = 0; k < kEntries; ++k) REQUIRE(set(cache, "v", std::to_string(k)) == CACHE_OK);
    const std::uint64_t all = stats_of(cache).entries;
    const std::uint64_t lease = must_lease(cache);
    std::thread clearing([&] { CHECK(memstream_clear(cache) == CACHE_OK); });
    while (stats_of(cache).entries == all) std::this_thread::yield();
    CHECK(fulfil(cache, lease, "made of what is being cleared") == CACHE_CONFLICT);
    was_under_way = stats_of(cache).entries != 0;
    clearing.join();
    CHECK(get(cache) == "status 1");
  }
  CHECK(was_under_way);
}

TEST_CASE("bad arguments, read-only attaches and destroyed segments are told apart") {
  const TemporarySegment segment("lease-bad", kSegmentSize);
  const OpenCache cache(segment.spec());
  std::uint64_t lease = 1;
  CHECK(lease_of(nullptr, kKey, &lease) == CACHE_INVALID);
  CHECK(memstream_lease(cache, nullptr, 3, 0, 0, &lease) == CACHE_INVALID);
  CHECK(memstream_lease_wait(cache, nullptr, 3, 0) == CACHE_INVALID);
  CHECK(memstream_lease_follow(cache, nullptr, 3, &lease, 0) == CACHE_INVALID);
  CHECK(memstream_lease_follow(cache, "k", 1, nullptr, 0) == CACHE_INVALID);
  CHECK(memstream_lease_fulfil(cache, "k", 1, nullptr, 1, 0, 0, 1) == CACHE_INVALID);
  CHECK(memstream_lease_fulfil(cache, nullptr, 1, "v", 1, 0, 0, 1) == CACHE_INVALID);
  CHECK(memstream_lease_release(cache, nullptr, 1, 1) == CACHE_INVALID);
  CHECK(lease_of(cache, "", &lease) == CACHE_BAD_KEY);
  CHECK(wait_for(cache, 0, "") == CACHE_BAD_KEY);
  CHECK(follow(cache, &lease, 0, "") == CACHE_BAD_KEY);
  CHECK(fulfil(cache, 1, "v", "") == CACHE_BAD_KEY);
  CHECK(release(cache, 1, "") == CACHE_BAD_KEY);
  lease = must_lease(cache);
  CHECK(fulfil(cache, lease, std::string(kSegmentSize, 'v')) == CACHE_TOO_LARGE);
  CHECK(fulfil(cache, lease + 0xff) == CACHE_CONFLICT);
  CHECK(fulfil(cache, lease, "v", "another key") == CACHE_CONFLICT);
  CHECK(fulfil(cache, lease) == CACHE_OK);

  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* reader = nullptr;
  REQUIRE(memstream_open(&options, &reader) == CACHE_OK);
  CHECK(lease_of(reader) == CACHE_READ_ONLY);
  CHECK(wait_for(reader, 0) == CACHE_READ_ONLY);
  CHECK(follow(reader, &lease) == CACHE_READ_ONLY);
  CHECK(fulfil(reader, 1) == CACHE_READ_ONLY);
  CHECK(release(reader, 1) == CACHE_READ_ONLY);
  CHECK(memstream_close(reader) == CACHE_OK);

  must_lease(cache, "gone");
  std::thread waiter([&] { CHECK(wait_for(cache, 10'000, "gone") == CACHE_GONE); });
  std::this_thread::sleep_for(milliseconds(20));
  REQUIRE(memstream_destroy(cache) == CACHE_OK);
  waiter.join();
  CHECK(lease_of(cache) == CACHE_GONE);
  CHECK(follow(cache, &lease) == CACHE_GONE);
}

}  // namespace
}  // namespace memstream::test
