// Every ring, list, chain and hand of a shard with each bit of its links flipped: whatever is called then ends within a
// number of steps that goes by what the shard holds. Steps are counted and not time: the compiler has the shard's code
// call a function of this test at the beginning of each basic block.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace {

// A check and a rebuild of the shard below, both in one call, take a tenth of this.
constexpr std::uint64_t kMostSteps = 300'000;

std::uint64_t steps = 0;
std::uint64_t most_steps = 0;
const char* call = "";
std::string flipped;

}  // namespace

extern "C" void __sanitizer_cov_trace_pc() {
  if (++steps <= kMostSteps) return;
  std::fprintf(stderr, "%s does not end: %s\n", call, flipped.c_str());
  std::abort();
}

namespace memstream::test {
namespace {

template <class Operation>
void count(const char* name, Operation operation) {
  call = name;
  steps = 0;
  operation();
  most_steps = std::max(most_steps, steps);
}

struct Link {
  std::string what;
  std::size_t offset;  // In the segment.
  std::size_t size;    // 4 or 8 bytes.
};

// A shard with whatever is linked: retired blocks, free blocks of several sizes, a chain, free entries.
class LinkedShard : public TestShard {
 public:
  LinkedShard() {
    for (int i = 0; i < 120; ++i)
      REQUIRE(set("key-" + std::to_string(i), pattern(static_cast<std::size_t>(40 + i * 7), i)) == Status::kOk);
    for (int i = 0; i < 6; ++i) {
      PinnedBlock pinned;
      REQUIRE(pin("key-" + std::to_string(i * 11), &pinned) == Status::kOk);
      REQUIRE(remove("key-" + std::to_string(i * 11)) == Status::kOk);
    }
    for (int i = 1; i < 120; i += 4) static_cast<void>(remove("key-" + std::to_string(i)));
    for (int number = 0, found = 0; found < 16; ++number) {
      const std::string name = "chained-" + std::to_string(number);
      if ((key(name).hash.bucket_bits() & 0x1f) != 3) continue;
      REQUIRE(set(name, "value") == Status::kOk);
      ++found;
    }
    REQUIRE(problems() == "");
  }

  std::vector<Link> links() const {
    std::vector<Link> found;
    const auto add = [&](const std::string& what, const auto& word) {
      const auto offset = reinterpret_cast<const std::byte*>(&word) - data();
      found.push_back({what, static_cast<std::size_t>(offset), sizeof word});
    };
    const ShardSpace& space = header().space;
    add("retired_hand", space.retired_hand);
    add("retired", space.retired);
    add("free_entry", space.free_entry);
    add("reclaim_hand", space.reclaim_hand);
    add("small_hand", space.small_hand);
    add("main_hand", space.main_hand);
    add("main_debt", space.main_debt);
    add("entries", space.entries);
    add("leases", space.leases);
    add("heap_begin", space.heap_begin);
    add("cells", header().cells);
    add("level_bitmap", header().free_lists.level_bitmap);
    for (const auto& level : header().free_lists.heads) {
      for (const std::uint32_t& head : level) {
        if (head != 0) add("head of a free list", head);
      }
    }
    int values = 0;
    for (std::uint32_t position = space.heap_begin; position < space.heap_end;) {
      const auto& block = *reinterpret_cast<const BlockHeader*>(shard_data() + std::size_t{position} * kUnitSize);
      const BlockShape shape = BlockShape::unpack(block.shape);
      const bool is_retired = (shape.flags & kBlockRetired) != 0;
      if (!shape.used()) add("links of a free block", block.owner);
      if (is_retired) add("links of a retired block", block.owner);
      if (!shape.used() || is_retired || ++values % 40 == 0) add("shape of a block", block.shape);
      position += shape.size_units;
    }
    for (std::uint32_t cell = 0; cell < header().cells; ++cell) {
      const Bucket& bucket = Index::bucket(&header(), cell);
      if (bucket.overflow != 0) add("overflow", bucket.overflow);
      if (cell % 8 == 3) add("slot", bucket.slots[0]);
      for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
        const Entry& entry = Index::entry_unchecked(&header(), EntryId{cell * kSlotsPerCell + slot});
        if (entry.next != 0) add("next of an entry", entry.next);
      }
    }
    return found;
  }

  void call_everything(int turn) {
    PinnedBlock pinned;
    PinnedBlock reserved;
    for (int step = 0; step < 9; ++step) {
      switch ((turn + step) % 9) {
        case 0:
          count("set", [&] { static_cast<void>(set("key-50", pattern(700, 1))); });
          break;
        case 1:
          count("set of a new key", [&] { static_cast<void>(set("chained-new", pattern(100, 1))); });
          break;
        case 2:
          count("set of a large value", [&] { static_cast<void>(set("large", pattern(300'000, 1))); });
          break;
        case 3:
          count("remove", [&] { static_cast<void>(remove("key-10")); });
          break;
        case 4:
          count("get", [&] { static_cast<void>(shard.inspect(key("key-7"), {deadline(), now_ms}, {})); });
          break;
        case 5:
          count("statistics", [&] {
            ShardStatistics found{};
            static_cast<void>(shard.statistics(deadline(), &found));
          });
          break;
        case 6:
          count("check", [&] {
            std::vector<std::string> found;
            static_cast<void>(shard.check(deadline(), &found));
          });
          break;
        case 7:
          count("reserve", [&] { static_cast<void>(reserve("reserved", 2000, &reserved)); });
          break;
        default:
          count("pin", [&] { static_cast<void>(pin("key-90", &pinned)); });
      }
    }
    for (std::uint32_t next = 0, calls = 0; calls == 0 || (next != 0 && calls < 50); ++calls) {
      count("scan", [&] {
        static_cast<void>(shard.scan(&next, {deadline(), now_ms}, [](const ScannedEntry&) { return true; }));
      });
    }
    count("clear", [&] { static_cast<void>(shard.clear(deadline())); });
  }
};

TEST_CASE("no flipped bit of a link keeps a call busy") {
  LinkedShard cache;
  const std::vector<Link> links = cache.links();
  const std::vector<std::byte> sound(cache.data(), cache.data() + cache.segment().size_bytes());
  // Where memory was never given there is nothing to restore, and nothing may be written.
  const std::size_t heap = cache.geometry().shards_offset + cache.header().space.heap_committed;
  const std::size_t table = cache.geometry().shards_offset + cache.header().space.table_committed;
  int turn = 0;
  for (const Link& link : links) {
    for (std::size_t bit = 0; bit < link.size * 8; ++bit) {
      if (++turn % (100 / scaled(100)) != 0) continue;
      std::memcpy(cache.data(), sound.data(), table);
      std::memcpy(cache.data() + heap, sound.data() + heap, sound.size() - heap);
      flipped = link.what + ", bit " + std::to_string(bit);
      cache.data()[link.offset + bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      cache.call_everything(turn);
    }
  }
  std::printf("%zu links, at most %llu steps\n", links.size(), static_cast<unsigned long long>(most_steps));
  CHECK(links.size() > 40);
  CHECK(most_steps > 1000);
}

}  // namespace
}  // namespace memstream::test
