// See records.h.
#include "tests/fuzz/records.h"

#include <algorithm>
#include <cstring>

#include "core/layout/layout.h"
#include "core/shard/index.h"
#include "tests/fuzz/image.h"

namespace memstream::fuzz {
namespace {

enum Place : std::uint8_t {
  kSpace,
  kShardFront,
  kFreeLists,
  kBucket,
  kEntry,
  kBlock,
  kContents,
  kProcess,
  kAnywhere,
  kBlockEnd,
  kSegmentCounts,
  kCounters,
  kRedo,
  kRedoRecord,
  kPlaces
};

constexpr std::uint64_t kInteresting[] = {
    0,          1,     2,         3,      0x7fff'ffff,           0x8000'0000, 0xffff'fffe, 0xffff'ffff, 0x1'0000'0000,
    1ULL << 63, ~0ULL, ~0ULL - 1, 0xffff, 0x7fff'ffff'ffff'ffff, 1ULL << 36,  1ULL << 46};

// Shard words that a list or a bitmap may name.
std::uint32_t block_of(const Scene& scene, std::size_t shard, std::uint64_t number) {
  const auto& blocks = scene.blocks[shard];
  return blocks.empty() ? 0 : blocks[number % blocks.size()];
}

std::uint64_t value_of(const Record& record, const Scene& scene, std::size_t shard) {
  switch (record.how >> 4 & 7) {
    case 0:
    case 1:
      return record.value;
    case 2:
      return kInteresting[record.value % std::size(kInteresting)];
    case 3:
      return block_of(scene, shard, record.value);
    case 4:  // An entry that might be.
      return record.value % 4096;
    case 5:  // A ref to a block, or one that says that its value is being overwritten.
      return ((record.value >> 31 & 1) != 0 ? 0 : kLiveBit) | (record.value >> 32 & kGenerationMask) << 32 |
             block_of(scene, shard, record.value & 0xffff);
    case 6:  // An offset in the segment, as pins have it.
      return scene.geometry.shard_offset(static_cast<std::uint32_t>(shard)) +
             std::uint64_t{block_of(scene, shard, record.value & 0xffff)} * kUnitSize + (record.value >> 56 & 1);
    default:  // A shape.
      return BlockShape{.size_units = static_cast<std::uint32_t>(record.value & 0x3ff),
                        .flags = static_cast<std::uint32_t>(record.value >> 12 & 7),
                        .slack = static_cast<std::uint32_t>(record.value >> 16 & 0xff),
                        .key_size = static_cast<std::uint32_t>(record.value >> 24 & 0x7ff)}
          .pack();
  }
}

std::size_t offset_of(const Record& record, const Scene& scene, std::size_t shard) {
  const Geometry& geometry = scene.geometry;
  const std::size_t base = geometry.shard_offset(static_cast<std::uint32_t>(shard));
  const std::size_t table = base + kShardHeaderSize;
  const std::size_t block = base + std::size_t{block_of(scene, shard, record.index)} * kUnitSize;
  switch (record.place % 16 % kPlaces) {
    case kSpace:
      return base + offsetof(ShardHeader, space) + record.field * 4U % sizeof(ShardSpace);
    case kShardFront:
      return base + record.field * 4U % 16;
    case kFreeLists:
      return base + offsetof(ShardHeader, free_lists) + record.index * 4U % sizeof(FreeLists);
    case kBucket:
      return table + record.index % 512 * sizeof(Cell) + record.field * 4U % sizeof(Bucket);
    case kEntry:
      return table + record.index % 512 * sizeof(Cell) + sizeof(Bucket) + record.field * 4U % sizeof(Cell::entries);
    case kBlock:
      return block + record.field * 4U % (sizeof(BlockHeader) + sizeof(BlockExtras));
    case kContents:
      return block + sizeof(BlockHeader) + record.extra % 512;
    case kProcess:
      return geometry.process_slots_offset + record.index % geometry.process_slots * sizeof(ProcessSlot) +
             (record.field < 32 ? record.field * 4U % 32 : 128 + record.field * 8U % (8 * kPinsPerProcess));
    case kBlockEnd:
      return block - 4;
    case kSegmentCounts:
      return offsetof(SegmentHeader, retired) + record.field * 8U % 32;
    case kCounters:
      return base + offsetof(ShardHeader, counters) + record.field * 8U % sizeof(ShardCounters);
    case kRedo:
      return base + offsetof(ShardHeader, redo);
    case kRedoRecord:
      return geometry.redo_records_offset() + record.index % 2 * sizeof(RedoRecord) + record.field * 4U % 128;
    default:
      return record.index | std::size_t{record.extra} << 16;
  }
}

bool overlaps(std::size_t offset, std::size_t size, std::size_t begin, std::size_t length) {
  return offset < begin + length && begin < offset + size;
}

bool is_protected(std::size_t offset, std::size_t size, const Geometry& geometry, Protect protect) {
  if (protect == Protect::kNothing) return false;
  if (overlaps(offset, size, 0, offsetof(SegmentHeader, unused1))) return true;
  if (protect == Protect::kIdentity) return false;
  if (overlaps(offset, size, offsetof(SegmentHeader, registry_mutex), sizeof(pthread_mutex_t))) return true;
  if (overlaps(offset, size, geometry.thread_slots_offset, geometry.shards_offset - geometry.thread_slots_offset)) {
    return true;
  }
  for (std::uint32_t shard = 0; shard < geometry.shards; ++shard) {
    // All of the lock but the number of the redo record, which lies among its words.
    const std::size_t base = geometry.shard_offset(shard);
    const auto touches = [&](std::size_t begin, std::size_t end) {
      return overlaps(offset, size, base + begin, end - begin);
    };
    if (touches(offsetof(ShardHeader, write_mutex), offsetof(ShardHeader, redo)) ||
        touches(offsetof(ShardHeader, announced), offsetof(ShardHeader, space))) {
      return true;
    }
  }
  return false;
}

}  // namespace

Script parse_script(const std::uint8_t* data, std::size_t size_bytes) {
  Script script;
  Preamble preamble{};
  std::memcpy(&preamble, data, std::min(size_bytes, sizeof preamble));
  script.scene = &scenes()[preamble.scene % scenes().size()];
  script.options = preamble.options;
  for (std::size_t at = sizeof preamble; at + sizeof(Record) <= size_bytes && script.records.size() < kMaxRecords;
       at += sizeof(Record)) {
    Record record{};
    std::memcpy(&record, data + at, sizeof record);
    script.records.push_back(record);
  }
  return script;
}

Bytes make_input(std::size_t scene, std::uint8_t options, const std::vector<Record>& records) {
  Bytes input(sizeof(Preamble) + records.size() * sizeof(Record));
  input[0] = static_cast<std::uint8_t>(scene);
  input[1] = options;
  if (!records.empty()) std::memcpy(input.data() + sizeof(Preamble), records.data(), records.size() * sizeof(Record));
  return input;
}

std::optional<Change> locate(const Record& record, const Scene& scene, const std::byte* image, Protect protect) {
  const std::size_t shard = record.place / 16U % scene.geometry.shards;
  const std::size_t size = std::size_t{1} << (record.how & 3);
  const std::size_t offset = offset_of(record, scene, shard);
  if (offset > scene.bytes.size() - size || is_protected(offset, size, scene.geometry, protect)) return std::nullopt;
  if (Image::instance().has_hole_in(offset, size)) return std::nullopt;  // There are no bytes to be changed.
  std::uint64_t value = value_of(record, scene, shard);
  if ((record.how >> 2 & 3) != 0) {
    std::uint64_t present = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const auto byte = static_cast<const volatile std::byte*>(image)[offset + i];
      present |= std::uint64_t{static_cast<std::uint8_t>(byte)} << (8 * i);
    }
    value = (record.how >> 2 & 3) == 1 ? present ^ value : (record.how >> 2 & 3) == 2 ? present + value : value;
  }
  return Change{offset, size, value};
}

void apply(const Change& change, std::byte* image) {
  for (std::size_t i = 0; i < change.size; ++i) {
    __atomic_store_n(reinterpret_cast<std::uint8_t*>(image) + change.offset + i,
                     static_cast<std::uint8_t>(change.value >> (8 * i)), __ATOMIC_RELAXED);
  }
}

// ---- making and mutating records ----

namespace {

Record random_record(std::minstd_rand& random) {
  const auto word = [&] { return static_cast<std::uint32_t>(random()); };
  Record record{};
  record.kind = static_cast<std::uint8_t>(word() % 3 == 0 ? Record::kFirstCall + word() % 128 : word() % 128);
  record.place = static_cast<std::uint8_t>(word() % kPlaces | (word() & 1) << 4);
  record.index = static_cast<std::uint16_t>(word() % 2 == 0 ? word() % 24 : word());
  record.field = static_cast<std::uint8_t>(word());
  record.how = static_cast<std::uint8_t>(word() % 3 == 0 ? word() : (word() % 8) << 4 | 2 | (word() & 1));
  record.extra = static_cast<std::uint16_t>(word() % 64);
  record.value = word() % 3 == 0 ? word() % 64 : word() | std::uint64_t{word()} << 31;
  return record;
}

}  // namespace

std::vector<Record> sample_changes(std::minstd_rand& random, std::size_t count) {
  std::vector<Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    Record record = random_record(random);
    record.kind = static_cast<std::uint8_t>(record.kind % Record::kFirstCall);
    record.place = static_cast<std::uint8_t>(i % kPlaces);
    records.push_back(record);
  }
  return records;
}

std::size_t mutate_records(std::uint8_t* data, std::size_t size_bytes, std::size_t room_bytes, unsigned seed) {
  std::minstd_rand random(seed);
  if (room_bytes < sizeof(Preamble) + sizeof(Record)) return size_bytes;
  const std::size_t kept = std::min(size_bytes, room_bytes);
  if (kept < sizeof(Preamble)) std::memset(data + kept, 0, sizeof(Preamble) - kept);
  if (random() % 16 == 0) data[random() % 2] = static_cast<std::uint8_t>(random());
  std::size_t count = kept > sizeof(Preamble) ? (kept - sizeof(Preamble)) / sizeof(Record) : 0;
  const std::size_t most = std::min(kMaxRecords, (room_bytes - sizeof(Preamble)) / sizeof(Record));
  const auto at = [&](std::size_t i) { return data + sizeof(Preamble) + i * sizeof(Record); };
  for (auto steps = 1 + random() % 3; steps > 0; --steps) {
    const std::size_t chosen = count == 0 ? 0 : random() % count;
    const auto action = count == 0 ? 0 : random() % 6;
    const Record made = random_record(random);
    if (action <= 1 && count < most) {  // Insert a new one, or the same once more.
      const Record inserted = [&] {
        Record same = made;
        if (action == 1) std::memcpy(&same, at(chosen), sizeof same);
        return same;
      }();
      std::memmove(at(chosen + 1), at(chosen), (count - chosen) * sizeof(Record));
      std::memcpy(at(chosen), &inserted, sizeof inserted);
      ++count;
    } else if (action == 2 && count > 1) {  // Remove.
      std::memmove(at(chosen), at(chosen + 1), (count - chosen - 1) * sizeof(Record));
      --count;
    } else if (action == 3) {  // Swap.
      const std::size_t other = random() % count;
      std::swap_ranges(at(chosen), at(chosen) + sizeof(Record), at(other));
      if (other == chosen) at(chosen)[random() % sizeof(Record)] ^= static_cast<std::uint8_t>(1U << random() % 8);
    } else if (action == 4) {  // One part of it, as a new one would have it.
      constexpr std::size_t kParts[][2] = {{0, 1}, {1, 1}, {2, 2}, {4, 1}, {5, 1}, {6, 2}, {8, 8}};
      const auto& part = kParts[random() % std::size(kParts)];
      std::memcpy(at(chosen) + part[0], reinterpret_cast<const std::uint8_t*>(&made) + part[0], part[1]);
    } else {
      std::memcpy(at(chosen), &made, count == 0 ? 0 : sizeof made);
    }
  }
  return sizeof(Preamble) + count * sizeof(Record);
}

}  // namespace memstream::fuzz
