// A bit that flipped anywhere in the headers, tables and blocks of a segment, while the /dev/shm that it lies in has no
// page left: whatever is called then comes back, and no process dies of SIGBUS. Only POSIX shared memory lives there.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/layout/block.h"
#include "core/layout/geometry.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSegmentSize = 64 << 20;
constexpr int kKeys = 300;
constexpr int kShown = 20;                // Of the flips that did harm.
constexpr unsigned kLongestSeconds = 30;  // Of one trial: SIGALRM ends what does not end by itself.

std::string key_text(int key) { return "key-" + std::to_string(key); }

// The bytes of the segment as the file system has them: what was never given is left out.
class Snapshot {
 public:
  explicit Snapshot(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR);
    void* mapped = ::mmap(nullptr, kSegmentSize, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || mapped == MAP_FAILED) throw std::runtime_error("the segment cannot be mapped: " + path);
    bytes_ = static_cast<std::byte*>(mapped);
    for (off_t begin = 0; (begin = ::lseek(file, begin, SEEK_DATA)) >= 0;) {
      const off_t end = ::lseek(file, begin, SEEK_HOLE);
      parts_.push_back({static_cast<std::size_t>(begin), {bytes_ + begin, bytes_ + end}});
      begin = end;
    }
    ::close(file);
  }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  ~Snapshot() { ::munmap(bytes_, kSegmentSize); }

  std::byte* bytes() const { return bytes_; }
  void restore() const {
    for (const Part& part : parts_) std::memcpy(bytes_ + part.begin, part.bytes.data(), part.bytes.size());
  }

 private:
  struct Part {
    std::size_t begin;
    std::vector<std::byte> bytes;
  };
  std::byte* bytes_;
  std::vector<Part> parts_;
};

// Takes what the file system has left.
bool fill_up(const char* path) {
  const int file = ::open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  static constexpr char kPage[4096] = {};
  while (::write(file, kPage, sizeof kPage) > 0) {
  }
  const bool is_full = errno == ENOSPC;
  ::close(file);
  return is_full;
}

// What is in the segment: keys with and without expiry, small and large, holes, a view of what was deleted since, a
// reservation, a lease.
struct Scene {
  explicit Scene(memstream_t* cache) {
    const std::string large(70'000, 'l');
    for (int key = 0; key < kKeys; ++key) {
      const std::string text = key_text(key);
      const std::size_t size = key % 40 == 7 ? large.size() : static_cast<std::size_t>(key) * 37 % 900;
      put(memstream_set(cache, text.data(), text.size(), large.data(), size, key % 5 == 0 ? 3'600'000 : 0, 1));
    }
    put(memstream_set(cache, "number", 6, "41", 2, 0, 0));
    for (int i = 0; i < 3; ++i) {
      const std::string text = key_text(i * 9 + 1);
      put(memstream_view(cache, text.data(), text.size(), &views[i]));
      put(memstream_delete(cache, text.data(), text.size()));
    }
    for (int key = 100; key < 140; key += 3) memstream_delete(cache, key_text(key).data(), key_text(key).size());
    put(memstream_reserve(cache, "reserved", 8, 3000, &reservation));
    put(memstream_lease(cache, "leased", 6, 0, 0, &lease));
  }
  static void put(int status) {
    if (status != CACHE_OK) throw std::runtime_error(cache_last_error());
  }

  memstream_view_t views[3];
  memstream_reservation_t reservation;
  std::uint64_t lease = 0;
};

// Every call that reads.
void read_all(memstream_t* cache) {
  static std::vector<std::byte> room(200'000);
  for (int key = 0; key < kKeys; ++key) {
    const std::string text = key_text(key);
    std::size_t size = room.size();
    memstream_get(cache, text.data(), text.size(), room.data(), &size, nullptr);
    memstream_view_t view;
    if (key % 3 == 0 && memstream_view(cache, text.data(), text.size(), &view) == CACHE_OK) {
      std::memcpy(room.data(), view.data, std::min(view.size, room.size()));
      memstream_release(cache, &view);
    }
    memstream_entry_t entry;
    if (key % 7 == 0) memstream_entry_info(cache, text.data(), text.size(), &entry);
  }
  std::vector<std::string> keys;
  for (int key = 0; key < kKeys; ++key) keys.push_back(key_text(key));
  std::vector<memstream_item_t> items(keys.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].key = keys[i].data();
    items[i].key_size = keys[i].size();
  }
  std::size_t size = room.size();
  memstream_get_many(cache, items.data(), items.size(), room.data(), &size);
  static memstream_entry_t batch[64];
  std::uint64_t cursor = 0;
  for (int calls = 0; calls < 50; ++calls) {
    std::size_t count = 0;
    if (memstream_scan(cache, &cursor, batch, std::size(batch), &count) != CACHE_OK || cursor == 0) break;
  }
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  memstream_stats(cache, &stats);
  memstream_process_t processes[8];
  std::size_t count = 0;
  memstream_processes(cache, processes, std::size(processes), &count);
  std::uint64_t problems = 0;
  memstream_check(cache, &problems);
}

// Every call that writes. `turn` chooses what comes first: what meets the damage first repairs it.
void write_all(memstream_t* cache, int turn) {
  const std::string value(5000, 'n');
  const std::string large(90'000, 'N');
  for (int step = 0; step < 8; ++step) {
    switch ((turn + step) % 8) {
      case 0:
        for (int key = 0; key < kKeys; ++key) {
          const std::string text = key_text(key);
          memstream_set(cache, text.data(), text.size(), value.data(), static_cast<std::size_t>(key) * 53 % 1000, 0, 1);
        }
        break;
      case 1:
        for (int key = 0; key < 60; ++key) {
          const std::string text = "new-" + std::to_string(key);
          memstream_set(cache, text.data(), text.size(), value.data(), value.size(), 1000, 0);
        }
        break;
      case 2:
        for (int key = 0; key < kKeys; key += 2) memstream_delete(cache, key_text(key).data(), key_text(key).size());
        break;
      case 3: {
        const std::int64_t initial = 1;
        memstream_incr(cache, "number", 6, 1, &initial, 0, nullptr);
        for (int key = 0; key < 50; ++key) memstream_touch(cache, key_text(key).data(), key_text(key).size(), 5000);
        break;
      }
      case 4:
        memstream_set(cache, "large", 5, large.data(), large.size(), 0, 0);
        break;
      case 5: {
        memstream_reservation_t reservation;
        if (memstream_reserve(cache, "filled", 6, 20'000, &reservation) != CACHE_OK) break;
        std::memset(reservation.data, 'r', reservation.size);
        memstream_commit(cache, &reservation, 0, 0);
        break;
      }
      case 6: {
        std::uint64_t lease = 0;
        if (memstream_lease(cache, "other", 5, 0, 0, &lease) != CACHE_OK) break;
        memstream_lease_fulfil(cache, "other", 5, "value", 5, 0, 0, lease);
        break;
      }
      default:
        read_all(cache);
    }
  }
  memstream_clear(cache);
}

// Where bits flip: the words between two offsets of the segment.
struct Words {
  std::size_t begin;
  std::size_t end;
  int most_bits;  // That are tried of each word.
};

std::vector<Words> words_of(const std::byte* bytes) {
  const auto* header = reinterpret_cast<const SegmentHeader*>(bytes);
  const Geometry geometry = geometry_of(header->identity);
  const std::size_t shard = geometry.shards_offset;
  const auto* shard_header = reinterpret_cast<const ShardHeader*>(bytes + shard);
  std::vector<Words> words = {
      {offsetof(SegmentHeader, retired), sizeof(SegmentHeader), 2},
      {geometry.process_slots_offset, geometry.process_slots_offset + 96, 2},
      {geometry.redo_records_offset(), geometry.redo_records_offset() + 64, 2},
      {shard, shard + 16, 8},
      {shard + offsetof(ShardHeader, space), shard + offsetof(ShardHeader, counters), 24},
      {shard + offsetof(ShardHeader, free_lists), shard + offsetof(ShardHeader, leases) + 96, 1},
      {shard + kShardHeaderSize, shard + kShardHeaderSize + 40 * sizeof(Cell), 2},
  };
  for (std::uint32_t position = shard_header->space.heap_begin; position < shard_header->space.heap_end;) {
    const std::size_t block = shard + std::size_t{position} * kUnitSize;
    words.push_back({block, block + sizeof(BlockHeader), 1});
    position += BlockShape::unpack(reinterpret_cast<const BlockHeader*>(bytes + block)->shape).size_units;
  }
  return words;
}

Complaint flip_and_call(const CacheSpec& spec, const Snapshot& snapshot, std::size_t offset, int bit, int turn) {
  reinterpret_cast<std::atomic<std::uint64_t>*>(snapshot.bytes() + offset)->fetch_xor(std::uint64_t{1} << bit);
  const Complaint complaint = in_child([&]() -> Complaint {
    ::alarm(kLongestSeconds);
    memstream_options_t options = spec.options();
    memstream_t* cache = nullptr;
    options.flags = MEMSTREAM_OPEN_READ_ONLY;
    options.timeout_ms = 1;  // A damaged shard keeps each of many reads busy for so long.
    if (memstream_open(&options, &cache) == CACHE_OK) read_all(cache);
    memstream_close(cache);
    options.flags = MEMSTREAM_OPEN_EXISTING;
    options.timeout_ms = 100;
    if (memstream_open(&options, &cache) == CACHE_OK) write_all(cache, turn);
    memstream_close(cache);
    return "";
  });
  snapshot.restore();
  if (complaint.empty()) return "";
  return "offset " + std::to_string(offset) + ", bit " + std::to_string(bit) + ": " + complaint + "; ";
}

TEST_CASE("a flipped bit and a full /dev/shm kill nobody") {
  const auto mount = [] { return mount_own_shm("size=4m"); };
  if (const Complaint obstacle = in_child(mount); !obstacle.empty()) {
    std::printf("skipped: a mount namespace with a /dev/shm of its own needs root (%s)\n", obstacle.c_str());
    std::exit(77);
  }
  CHECK(in_child([&]() -> Complaint {
          if (const Complaint obstacle = mount(); !obstacle.empty()) return obstacle;
          const TemporarySegment segment("holes", kSegmentSize, 1, 100);
          const OpenCache cache(segment.spec());
          const Scene scene(cache);
          if (!fill_up("/dev/shm/filler")) return "/dev/shm cannot be filled";
          const Snapshot snapshot("/dev/shm/memstream." + segment.spec().name);
          std::ostringstream complaints;
          int failed = 0;
          std::minstd_rand random(1);
          int trials = 0;
          const int stride = 800 / scaled(100);
          for (const Words& words : words_of(snapshot.bytes())) {
            for (std::size_t offset = words.begin; offset < words.end; offset += sizeof(std::uint64_t)) {
              for (int tried = 0; tried < words.most_bits; ++tried) {
                // Half of them where a position leads far away.
                const auto bit = static_cast<int>(tried % 2 == 0 ? random() % 64 : 12 + random() % 10);
                if (++trials % stride != 0) continue;
                const Complaint complaint = flip_and_call(segment.spec(), snapshot, offset, bit, trials);
                failed += complaint.empty() ? 0 : 1;
                if (failed <= kShown) complaints << complaint;
              }
            }
          }
          std::printf("%d bits flipped\n", trials / stride);
          if (failed > kShown) complaints << failed << " in all";
          return complaints.str();
        }) == "");
}

}  // namespace
}  // namespace memstream::test
