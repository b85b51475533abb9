// An attach to any bytes: what stands under the name is taken for what it is, or refused with a status and a sentence.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "core/base/identity.h"
#include "core/cache/cache_lookup.h"
#include "core/cache/format.h"
#include "tests/fuzz/backend_choice.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/records.h"
#include "tests/fuzz/targets.h"
#include "tests/support/memory_segment.h"

namespace memstream::fuzz {
namespace {

// What stands before the image in the input.
struct Setup {
  std::uint8_t repairs;  // Which parts of the header are put right first, so that the checks behind them are met.
  std::uint8_t size;     // How large the segment is.
  std::uint8_t unused[6];
};

enum Repairs : std::uint8_t {
  kMachine = 1,   // C library, boot and pid namespace are those of this machine.
  kChecksum = 2,  // Last of all.
  kFront = 4,     // Magic, version and byte order.
  kName = 8,
  kSize = 16,
  kState = 32,
  kLockTypes = 64,
};

constexpr std::size_t kMostBytes = std::size_t{1280} << 10;

std::size_t size_of(std::uint8_t choice, std::size_t input_size) {
  switch (choice % 8) {
    case 0:
      return std::max<std::size_t>(input_size, 1);
    case 1:
      return kPageSize;
    case 2:
      return kMinSegmentSize + kPageSize;
    case 3:
      return kMostBytes;
    default:
      return kMinSegmentSize;
  }
}

// The input's bytes at the front of `size_bytes` of memory, zeros behind them. Always the same memory: fresh pages cost
// more than everything else here.
std::span<std::byte> make_image(const Input& input, std::size_t size_bytes) {
  alignas(kPageSize) static std::byte memory[kMostBytes + kPageSize];
  std::memset(memory, 0, sizeof memory);
  size_bytes = std::min(size_bytes, kMostBytes);
  if (input.left() != 0) std::memcpy(memory, input.data(), std::min(input.left(), size_bytes));
  return {memory, size_bytes};
}

void copy_text(char* to, std::size_t room, const std::string& text) {
  std::memset(to, 0, room);
  text.copy(to, room - 1);
}

void put_right(std::byte* image, std::size_t size_bytes, std::uint8_t repairs) {
  SegmentHeader& header = *reinterpret_cast<SegmentHeader*>(image);
  SegmentIdentity& identity = header.identity;
  static const HostId home = [] {
    HostId found;
    if (read_host_id(&found) != Status::kOk) std::abort();
    return found;
  }();
  if ((repairs & kFront) != 0) {
    identity.magic = kMagic;
    identity.layout_version = kLayoutVersion;
    identity.byte_order = kByteOrderMark;
  }
  if ((repairs & kMachine) != 0) {
    copy_text(identity.libc, sizeof identity.libc, libc_id());
    copy_text(identity.boot_id, sizeof identity.boot_id, home.boot_id);
    identity.ipc_namespace = home.ipc_namespace;
    identity.time_namespace = home.time_namespace;
    header.pid_namespace = home.pid_namespace;
  }
  if ((repairs & kLockTypes) != 0) {
    identity.mutex_size = sizeof(pthread_mutex_t);
    identity.mutex_alignment = alignof(pthread_mutex_t);
    identity.rwlock_size = sizeof(pthread_rwlock_t);
    identity.rwlock_alignment = alignof(pthread_rwlock_t);
  }
  if ((repairs & kName) != 0) copy_text(identity.name, sizeof identity.name, kImageName);
  if ((repairs & kSize) != 0) identity.size_bytes = size_bytes;
  if ((repairs & kState) != 0) header.state = static_cast<std::uint32_t>(HeaderState::kReady);
  if ((repairs & kChecksum) != 0) header.checksum = hash_bytes(&identity, sizeof identity);
}

// A refusal has a status of its own, and a sentence with the segment's name.
void must_be_refusal(Status status) {
  constexpr Status kRefusals[] = {
      Status::kGone,         Status::kNoSegment,      Status::kBadMagic,  Status::kBadVersion, Status::kSizeMismatch,
      Status::kNameMismatch, Status::kBadChecksum,    Status::kBadState,  Status::kTruncated,  Status::kOtherNamespace,
      Status::kOtherLibc,    Status::kOtherByteOrder, Status::kOtherBoot, Status::kBadSize,    Status::kBadShards};
  MUST(std::find(std::begin(kRefusals), std::end(kRefusals), status) != std::end(kRefusals),
       std::to_string(static_cast<int>(status)) + ": " + last_error());
  const std::string message = last_error();
  MUST(message.find(kImageName) != std::string::npos, message);
}

void must_lie_inside(const Geometry& geometry, std::size_t size_bytes) {
  MUST(geometry.size_bytes == size_bytes, "a geometry of another size");
  MUST(geometry.process_slots_offset + geometry.process_slots * sizeof(ProcessSlot) <= geometry.thread_slots_offset &&
           geometry.thread_slots_offset + geometry.thread_slots * sizeof(ThreadSlot) <= geometry.shards_offset &&
           geometry.shard_offset(geometry.shards) <= size_bytes,
       "parts that overlap or leave the segment");
}

// Reads a little of whatever was accepted.
void look_around(std::unique_ptr<Segment> segment, std::size_t size_bytes) {
  std::unique_ptr<Cache> cache;
  const Status status = Cache::open(std::move(segment), kImageName, std::chrono::milliseconds(0), &cache);
  if (status != Status::kOk) return must_be_refusal(status);
  must_lie_inside(cache->attached().geometry, size_bytes);
  std::byte room[128];
  static_cast<void>(cache->get("key-1", room, sizeof room));
  CacheStatistics statistics;
  static_cast<void>(cache->statistics(&statistics));
  static_cast<void>(cache->prefault());
  std::uint64_t cursor = 0;
  for (int calls = 0; calls < 8; ++calls) {
    static_cast<void>(cache->scan(&cursor, [](std::uint32_t, const ScannedEntry&) { return true; }));
    if (cursor == 0) break;
  }
}

}  // namespace

void run_attach(const std::uint8_t* data, std::size_t size_bytes) {
  Input input(data, size_bytes);
  const auto setup = input.take<Setup>();
  const std::span<std::byte> bytes = make_image(input, size_of(setup.size, input.left()));
  if (bytes.size() >= sizeof(SegmentHeader)) put_right(bytes.data(), bytes.size(), setup.repairs);

  SegmentSpec spec;
  spec.name = kImageName;
  spec.size_bytes = kMinSegmentSize;
  spec.timeout = std::chrono::milliseconds(0);
  SegmentFormat format(kImageName, 0);
  test::MemoryBackend backend;
  test::MemoryBackend::place(spec.name, bytes);

  std::unique_ptr<Segment> segment;
  Status status = backend.attach(spec, Access::kReadOnly, format, &segment);
  if (status == Status::kOk) {
    look_around(std::move(segment), bytes.size());
  } else {
    must_be_refusal(status);
  }

  // For writing, up to the point where the first lock would be taken. An unfinished segment is initialised in place.
  status = backend.open(spec, format, &segment);
  if (status == Status::kOk) {
    AttachedHeader attached;
    status = check_header(*segment, kImageName, &attached);
    if (status == Status::kOk) must_lie_inside(attached.geometry, segment->size_bytes());
    segment.reset();
  }
  if (status != Status::kOk) must_be_refusal(status);
  MUST(backend.remove(spec, format, nullptr, mark_destroyed) == Status::kOk, last_error());
}

void seed_attach(const SeedSink& sink) {
  const auto input = [](std::uint8_t repairs, std::uint8_t size, const std::vector<std::byte>& image,
                        std::size_t kept) {
    Bytes bytes(sizeof(Setup));
    bytes[0] = repairs;
    bytes[1] = size;
    const auto* begin = reinterpret_cast<const std::uint8_t*>(image.data());
    bytes.insert(bytes.end(), begin, begin + kept);
    return bytes;
  };
  constexpr std::uint8_t kAll = 127;
  constexpr std::size_t kHeader = sizeof(SegmentHeader);
  const std::vector<std::byte>& image = scenes()[1].bytes;
  sink("whole-image", input(kAll, 0, image, image.size()));
  sink("header", input(kAll, 4, image, kHeader));
  sink("other-machine", input(0, 4, image, kHeader));
  sink("blank", input(0, 4, image, 0));
  sink("short", input(0, 0, image, 100));
  sink("one-page", input(kAll, 1, image, kHeader));
  sink("longer", input(kAll & ~kSize, 2, image, kHeader));
  for (std::size_t offset = 0; offset < kHeader; offset += 8) {
    std::vector<std::byte> spoilt = image;
    spoilt[offset] ^= std::byte{0x40};
    sink("spoilt-" + std::to_string(offset), input(kMachine | kLockTypes | kChecksum, 4, spoilt, kHeader));
  }
  for (const std::uint32_t state : {0U, 1U, 3U, 4U}) {
    std::vector<std::byte> other = image;
    std::memcpy(&other[offsetof(SegmentHeader, state)], &state, sizeof state);
    sink("state-" + std::to_string(state), input(kAll & ~kState, 4, other, kHeader));
  }
  std::vector<std::byte> begun(kHeader);
  begun[offsetof(SegmentHeader, state)] = std::byte{1};
  sink("begun", input(0, 4, begun, kHeader));
}

}  // namespace memstream::fuzz
