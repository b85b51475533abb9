#include "core/cache/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/identity.h"
#include "core/base/pieces.h"
#include "core/base/process_private.h"
#include "core/base/quoted.h"
#include "core/base/robust_mutex.h"
#include "core/base/shared_bytes.h"
#include "core/layout/hash.h"
#include "core/shard/shard.h"

namespace memstream {
namespace {

template <std::size_t kSize>
void copy_text(char (&to)[kSize], std::string_view text) noexcept {
  const std::size_t size = std::min(text.size(), kSize - 1);
  std::memcpy(to, text.data(), size);
  to[size] = '\0';
}

template <std::size_t kSize>
std::string_view text_of(const char (&text)[kSize]) noexcept {
  return {text, strnlen(text, kSize)};
}

SegmentIdentity identity_of(const std::byte* header) noexcept {
  SegmentIdentity identity;
  copy_from_shared(&identity, header, sizeof identity);
  return identity;
}

HeaderState state_word(const std::byte* header) noexcept {
  return static_cast<HeaderState>(
      reinterpret_cast<const SegmentHeader*>(header)->state.load(std::memory_order_acquire));
}

// Removes the semaphores of a segment, also those whose creator died before the segment was ready.
void remove_marks(const std::byte* header) noexcept {
  if (state_word(header) == HeaderState::kInitializing) {
    ProcessMarks::remove_new(
        reinterpret_cast<const SegmentHeader*>(header)->new_marks_key.load(std::memory_order_acquire));
    return;
  }
  const SegmentIdentity identity = identity_of(header);
  ProcessMarks({identity.marks_id, identity.marks_key, identity.marks_created_s}, identity.process_slots).remove();
}

// Removes new semaphores unless the segment that they are for becomes ready.
class NewMarks {
 public:
  NewMarks(std::uint32_t slots) noexcept : slots_(slots) {}
  NewMarks(const NewMarks&) = delete;
  NewMarks& operator=(const NewMarks&) = delete;
  ~NewMarks() {
    if (!kept_) ProcessMarks(set, slots_).remove();
  }
  void keep() noexcept { kept_ = true; }

  MarkSet set;

 private:
  std::uint32_t slots_;
  bool kept_ = false;
};

constexpr const char* kDestroyRemedy =
    "Destroy it (cache_destroy, or memstream_destroy_named) and connect again, or use another MEMSTREAM_NAME.";
constexpr const char* kNewerRemedy = "Load the library of that release, or use another MEMSTREAM_NAME.";

}  // namespace

// ---- creating ----

SegmentState SegmentFormat::state_of(const std::byte* header) const noexcept {
  const HeaderState state = state_word(header);
  const SegmentIdentity identity = identity_of(header);
  static constexpr SegmentIdentity kBlankIdentity{};
  if (identity.magic != kMagic) {
    // The creator stores the state before the magic, so that a half-made header is never taken for somebody else's.
    if (state == HeaderState::kInitializing && identity.magic == 0) return SegmentState::kUnfinished;
    const bool blank = state == HeaderState::kBlank && std::memcmp(&identity, &kBlankIdentity, sizeof identity) == 0;
    return blank ? SegmentState::kBlank : SegmentState::kForeign;
  }
  switch (state) {
    case HeaderState::kInitializing:
      return SegmentState::kUnfinished;
    case HeaderState::kReady:
      return SegmentState::kReady;
    case HeaderState::kDestroyed:
      return SegmentState::kDestroyed;
    case HeaderState::kPending:
      return SegmentState::kPending;
    case HeaderState::kSuperseded:
      return SegmentState::kSuperseded;
    case HeaderState::kBlank:
      break;
  }
  return SegmentState::kForeign;
}

std::string SegmentFormat::name_of(const std::byte* header) const {
  const SegmentIdentity identity = identity_of(header);
  std::uint64_t checksum = 0;
  copy_from_shared(&checksum, header + offsetof(SegmentHeader, checksum), sizeof checksum);
  // A damaged name would look like another segment's, and a second one would be made beside this one.
  if (identity.magic != kMagic || checksum != hash_bytes(&identity, sizeof identity)) return {};
  std::string name(text_of(identity.name));
  return state_word(header) == HeaderState::kPending ? successor_name(name) : name;
}

bool SegmentFormat::is_successor(const std::byte* superseded, const std::byte* successor) const noexcept {
  const HeaderState state = state_word(successor);
  const auto* header = reinterpret_cast<const SegmentHeader*>(superseded);
  return (state == HeaderState::kPending || state == HeaderState::kReady) &&
         uuid_word(identity_of(successor).uuid) == header->successor.load(std::memory_order_acquire);
}

void SegmentFormat::succeed(std::byte* successor) noexcept {
  auto* header = reinterpret_cast<SegmentHeader*>(successor);
  header->state.store(static_cast<std::uint32_t>(HeaderState::kReady), std::memory_order_release);
}

void SegmentFormat::retire(std::byte* segment) noexcept { remove_marks(segment); }

Status SegmentFormat::initialize(Segment& segment) {
  std::uint32_t shards = 0;
  const Status chosen = choose_shards(segment.size_bytes(), segment.available_bytes(), choice_, &shards);
  if (chosen != Status::kOk) return chosen;
  Geometry geometry;
  if (const Status status = make_geometry(segment.size_bytes(), shards, &geometry); status != Status::kOk)
    return status;
  geometry.features = features_;
  // If this process cannot map its private page, it must fail before any process can find the segment ready.
  const ProcessPrivate<std::uint64_t> own_page;
  if (!own_page) return fail(Status::kNoMemory, fmt::format("Segment '{}': {}", name_, last_error()));
  auto* header = reinterpret_cast<SegmentHeader*>(segment.data());
  // Also before the first read: reading a page that is not there takes memory, as writing it does.
  if (const Status status = segment.commit(0, fixed_tables_end(geometry)); status != Status::kOk) return status;
  if (prefaults_) {
    const Status status = in_pieces(0, geometry.size_bytes, Deadline(prefault_timeout_), [&](auto offset, auto size) {
      const Status committed = segment.commit(offset, size);
      return committed == Status::kOk ? segment.prefault(offset, size) : committed;
    });
    if (status != Status::kOk) return status;
  }
  const bool is_blank = state_of(segment.data()) == SegmentState::kBlank;
  header->state.store(static_cast<std::uint32_t>(HeaderState::kInitializing), std::memory_order_release);
  if (const Status status = lay_out(segment, geometry, is_blank); status != Status::kOk) {
    return fail(status, fmt::format("Segment '{}' cannot be laid out. {}", name_, last_error()));
  }
  const HeaderState made = inheritance_ ? HeaderState::kPending : HeaderState::kReady;
  header->state.store(static_cast<std::uint32_t>(made), std::memory_order_release);
  has_created_ = true;
  return Status::kOk;
}

Status SegmentFormat::lay_out(Segment& segment, const Geometry& geometry, bool is_blank) {
  auto* header = reinterpret_cast<SegmentHeader*>(segment.data());
  // Wipes the leavings of a creator that died. Fresh memory is zero already and stays untouched, as do areas.
  if (!is_blank) {
    ProcessMarks::remove_new(header->new_marks_key.exchange(0));
    std::memset(segment.data() + kPageSize, 0, fixed_tables_end(geometry) - kPageSize);
  }
  for (std::uint32_t index = 0; index < geometry.shards; ++index) {
    const std::uint64_t offset = geometry.shard_offset(index);
    constexpr std::uint64_t kFirstPages = kShardHeaderSize + kPageSize;
    if (const Status status = segment.commit(offset, kFirstPages); status != Status::kOk) return status;
    if (!is_blank) std::memset(segment.data() + offset, 0, kFirstPages);
  }
  if (geometry.has_metrics()) {
    const std::uint64_t offset = geometry.areas[kMetricsArea].offset;
    const std::uint64_t size = geometry.metrics_places_offset();
    if (const Status status = segment.commit(offset, size); status != Status::kOk) return status;
    if (!is_blank) std::memset(segment.data() + offset, 0, size);
  }
  if (geometry.has_wait_words()) {
    const std::uint64_t offset = geometry.areas[kWaitArea].offset;
    if (const Status status = segment.commit(offset, kWaitAreaSize); status != Status::kOk) return status;
    if (!is_blank) std::memset(segment.data() + offset, 0, kWaitAreaSize);
  }
  header->awaited_until_ms.store(0, std::memory_order_relaxed);
  header->watched.store(0, std::memory_order_relaxed);
  // Removes what a creator with another number of shards has put there.
  for (const std::uint32_t number : {kTagArea, kLimitArea, kNearArea, kWatchArea, kTraceArea}) {
    const Area& area = geometry.areas[number];
    if (area.size_bytes == 0 || is_blank) continue;
    if (const Status status = segment.commit(area.offset, area.size_bytes); status != Status::kOk) return status;
    std::memset(segment.data() + area.offset, 0, area.size_bytes);
  }
  header->has_unmarked.store(0, std::memory_order_relaxed);
  NewMarks marks(geometry.process_slots);
  Status status = ProcessMarks::create(geometry.process_slots, mode_, group_, &header->new_marks_key, &marks.set);
  if (status == Status::kOk) status = write_identity(segment, geometry, marks.set);
  if (status == Status::kOk) status = write_tables(segment, geometry);
  if (status == Status::kOk) marks.keep();
  return status;
}

Status SegmentFormat::write_identity(Segment& segment, const Geometry& geometry, const MarkSet& marks) const {
  SegmentIdentity identity{};
  identity.magic = kMagic;
  identity.layout_version = kLayoutVersion;
  identity.byte_order = kByteOrderMark;
  identity.mutex_size = sizeof(pthread_mutex_t);
  identity.mutex_alignment = alignof(pthread_mutex_t);
  identity.rwlock_size = sizeof(pthread_rwlock_t);
  identity.rwlock_alignment = alignof(pthread_rwlock_t);
  HostId home;
  if (const Status status = read_host_id(&home); status != Status::kOk) return status;
  copy_text(identity.libc, libc_id());
  copy_text(identity.boot_id, home.boot_id);
  copy_text(identity.name, name_);
  identity.ipc_namespace = home.ipc_namespace;
  identity.time_namespace = home.time_namespace;
  identity.marks_created_s = marks.created_s;
  identity.marks_id = marks.id;
  identity.marks_key = marks.key;
  if (!random_bytes(identity.uuid, sizeof identity.uuid) ||
      !random_bytes(&identity.hash_seed, sizeof identity.hash_seed)) {
    return fail_errno(Status::kOsError, "getrandom", "", errno,
                      "A new segment needs random bytes for its secret: let this process use the call (seccomp).");
  }
  identity.created_unix_ms = unix_ms();
  identity.created_monotonic_ms = monotonic_ms();
  if (inheritance_) {
    identity.hash_seed = inheritance_->hash_seed;
    identity.created_unix_ms = inheritance_->created_unix_ms;
    identity.created_monotonic_ms = inheritance_->created_monotonic_ms;
  }
  identity.size_bytes = geometry.size_bytes;
  identity.process_slots_offset = geometry.process_slots_offset;
  identity.thread_slots_offset = geometry.thread_slots_offset;
  identity.shards_offset = geometry.shards_offset;
  identity.shard_size = geometry.shard_size;
  identity.process_slots = geometry.process_slots;
  identity.thread_slots = geometry.thread_slots;
  identity.shards = geometry.shards;
  identity.features = geometry.features;
  std::copy(std::begin(geometry.areas), std::end(geometry.areas), identity.areas);
  auto* header = reinterpret_cast<SegmentHeader*>(segment.data());
  header->pid_namespace.store(home.pid_namespace, std::memory_order_relaxed);
  header->identity = identity;
  header->checksum = hash_bytes(&identity, sizeof identity);
  return robust_mutex_init(&header->registry_mutex);
}

Status SegmentFormat::write_tables(Segment& segment, const Geometry& geometry) const {
  auto* thread_slots = reinterpret_cast<ThreadSlot*>(segment.data() + geometry.thread_slots_offset);
  for (std::uint32_t i = 0; i < geometry.thread_slots; ++i) {
    if (const Status status = robust_mutex_init(&thread_slots[i].mutex); status != Status::kOk) return status;
  }
  for (std::uint32_t index = 0; index < geometry.shards; ++index) {
    Shard shard(&segment, geometry, index, 0);
    if (const Status status = shard.initialize(prefaults_); status != Status::kOk) return status;
  }
  return Status::kOk;
}

// ---- attaching ----

Status check_header(const Segment& segment, const std::string& name, AttachedHeader* attached) {
  const auto refuse = [&](Status status, const std::string& what, const char* remedy = kDestroyRemedy) {
    return fail(status, fmt::format("Segment '{}' {}. {}", name, what, remedy));
  };
  if (segment.size_bytes() < kPageSize) {
    return refuse(Status::kTruncated, fmt::format("has {} bytes, less than a header", segment.size_bytes()));
  }
  const SegmentIdentity identity = identity_of(segment.data());
  const auto* header = reinterpret_cast<const SegmentHeader*>(segment.data());
  if (identity.magic == __builtin_bswap64(kMagic)) {
    return refuse(Status::kOtherByteOrder, "was made on a machine of other byte order");
  }
  if (identity.magic != kMagic)
    return refuse(Status::kBadMagic, "is not a MemStream segment, or its header is damaged");
  if (identity.byte_order != kByteOrderMark) {
    return refuse(Status::kOtherByteOrder, "was made on a machine of other byte order");
  }
  if (identity.layout_version != kLayoutVersion) {
    const bool is_newer = identity.layout_version > kLayoutVersion;
    return refuse(Status::kBadVersion,
                  fmt::format("has layout version {}, this library reads version {}: {} MemStream made it",
                              identity.layout_version, kLayoutVersion, is_newer ? "a newer" : "an older"),
                  is_newer ? kNewerRemedy : kDestroyRemedy);
  }
  if ((identity.features & ~kKnownFeatures) != 0 && header->checksum == hash_bytes(&identity, sizeof identity)) {
    return refuse(Status::kBadVersion, fmt::format("was made with features {:#x}, of which this library knows {:#x}",
                                                   identity.features, kKnownFeatures));
  }
  if (header->checksum != hash_bytes(&identity, sizeof identity)) {
    return refuse(Status::kBadChecksum, "has a damaged header: its checksum is wrong");
  }
  if (identity.size_bytes > segment.size_bytes()) {
    return refuse(Status::kTruncated, fmt::format("was cut: its header says {} bytes, the system says {}",
                                                  identity.size_bytes, segment.size_bytes()));
  }
  if (identity.size_bytes != segment.size_bytes()) {
    return refuse(Status::kSizeMismatch, fmt::format("has a header for {} bytes and really has {}", identity.size_bytes,
                                                     segment.size_bytes()));
  }
  if (text_of(identity.name) != name) {
    return refuse(Status::kNameMismatch, fmt::format("carries the name {}", in_quotes(text_of(identity.name))));
  }
  const Geometry geometry = geometry_of(identity);
  if (!geometry_is_valid(geometry))
    return refuse(Status::kSizeMismatch, "has a header whose parts do not fit its size");

  if (segment.access() == Access::kReadWrite) {
    if (text_of(identity.libc) != libc_id() || identity.mutex_size != sizeof(pthread_mutex_t) ||
        identity.mutex_alignment != alignof(pthread_mutex_t) || identity.rwlock_size != sizeof(pthread_rwlock_t) ||
        identity.rwlock_alignment != alignof(pthread_rwlock_t)) {
      return refuse(Status::kOtherLibc,
                    fmt::format("was made with C library {}, this process has '{}'", in_quotes(text_of(identity.libc)),
                                libc_id()),
                    "Their locks may differ: run both with the same library, or attach read-only.");
    }
  }
  attached->residence = {.boot_id = std::string(text_of(identity.boot_id)),
                         .ipc_namespace = identity.ipc_namespace,
                         .time_namespace = identity.time_namespace,
                         .marks = {identity.marks_id, identity.marks_key, identity.marks_created_s}};
  if (const Status status = check_clock(attached->residence); status != Status::kOk) {
    return fail(status, fmt::format("Segment '{}': {}", name, last_error()));
  }
  switch (state_word(segment.data())) {
    case HeaderState::kReady:
      break;
    case HeaderState::kDestroyed:
      return fail(Status::kGone, fmt::format("Segment '{}' was destroyed. Connect again for a new one.", name));
    case HeaderState::kSuperseded:
      return fail(Status::kGone, fmt::format("Segment '{}' was resized. Connect again to use its successor.", name));
    default:
      return refuse(Status::kBadState,
                    fmt::format("is in state {}, which does not exist", header->state.load(std::memory_order_relaxed)));
  }
  attached->geometry = geometry;
  attached->hash_seed = identity.hash_seed;
  attached->created_unix_ms = identity.created_unix_ms;
  attached->created_monotonic_ms = identity.created_monotonic_ms;
  attached->layout_version = identity.layout_version;
  std::copy(std::begin(identity.uuid), std::end(identity.uuid), attached->uuid);
  return Status::kOk;
}

void mark_destroyed(std::byte* bytes) noexcept {
  // One that is not ready stays so: no process uses it, and the next to find it makes or removes it.
  if (state_word(bytes) != HeaderState::kInitializing) {
    auto* header = reinterpret_cast<SegmentHeader*>(bytes);
    header->state.store(static_cast<std::uint32_t>(HeaderState::kDestroyed), std::memory_order_release);
  }
  remove_marks(bytes);
}

}  // namespace memstream
