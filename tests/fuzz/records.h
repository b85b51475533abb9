// The inputs of the targets that damage a segment: a scene to begin with, and a list of records. A record changes bytes
// of the image at a place that means something there, or makes a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/layout/geometry.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {

// A segment as real calls left it.
struct Scene {
  const char* name = nullptr;
  std::vector<std::byte> bytes;
  Geometry geometry;
  std::vector<std::string> keys;                   // Some of those that are in it, and one that is not.
  std::vector<std::vector<std::uint32_t>> blocks;  // Of each shard: the positions of its blocks.
};

// All of them, made at the first call.
const std::vector<Scene>& scenes();

// Sixteen bytes of the input.
struct Record {
  std::uint8_t kind;   // Below kFirstCall: a change of bytes; otherwise a call.
  std::uint8_t place;  // Low half: which structure. High half: which shard.
  std::uint16_t index;
  std::uint8_t field;
  std::uint8_t how;  // Bits 0 to 1: size; 2 to 3: store, exclusive or, add; 4 to 6: where the value comes from.
  std::uint16_t extra;
  std::uint64_t value;

  bool is_call() const { return kind >= kFirstCall; }
  static constexpr std::uint8_t kFirstCall = 128;
};
static_assert(sizeof(Record) == 16);

// What stands before the records.
struct Preamble {
  std::uint8_t scene;
  std::uint8_t options;  // The target's own.
  std::uint8_t unused[6];
};
static_assert(sizeof(Preamble) == 8);

struct Script {
  const Scene* scene = nullptr;
  std::uint8_t options = 0;
  std::vector<Record> records;
};

// At most kMaxRecords are taken.
inline constexpr std::size_t kMaxRecords = 64;
Script parse_script(const std::uint8_t* data, std::size_t size_bytes);
Bytes make_input(std::size_t scene, std::uint8_t options, const std::vector<Record>& records);

// Which bytes a change may touch.
enum class Protect {
  kIdentity,  // The part of the segment header that an attach checks.
  kLocks,     // That, and every word of the locks.
  kNothing,
};

// Where a record's change goes.
struct Change {
  std::size_t offset;  // In the image.
  std::size_t size;    // 1, 2, 4 or 8 bytes.
  std::uint64_t value;
};
// Nothing if the place is protected.
std::optional<Change> locate(const Record& record, const Scene& scene, const std::byte* image, Protect protect);
// As a stray write of another process would: through single bytes that nobody expects to change.
void apply(const Change& change, std::byte* image);

// Records that change something, one for each structure, to begin with.
std::vector<Record> sample_changes(std::minstd_rand& random, std::size_t count);
// Changes a list of records in place, in at most `room` bytes; the size it has then.
std::size_t mutate_records(std::uint8_t* data, std::size_t size_bytes, std::size_t room_bytes, unsigned seed);

}  // namespace memstream::fuzz
