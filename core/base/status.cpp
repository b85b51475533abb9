// The last error of each thread, and the fixed sentences of the statuses.
#include "core/base/status.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace memstream {
namespace {

constexpr std::size_t kMessageCapacity = 2048;
constexpr char kCutMark[] = "...";

// Plain bytes and not a std::string: a message can be stored without memory from the heap, and also by code that runs
// while the thread ends, after the destructors of thread-local objects.
thread_local char message_of_thread[kMessageCapacity] = "";

void mark_if_cut(std::size_t wanted_size) noexcept {
  if (wanted_size < kMessageCapacity) return;
  std::memcpy(message_of_thread + kMessageCapacity - sizeof kCutMark, kCutMark, sizeof kCutMark);
}

}  // namespace

Status fail(Status status, std::string_view message) noexcept {
  const std::size_t kept = std::min(message.size(), kMessageCapacity - 1);
  std::memmove(message_of_thread, message.data(), kept);
  message_of_thread[kept] = '\0';
  mark_if_cut(message.size());
  return status;
}

Status fail_errno(Status status, const char* call, const std::string& segment_name, int error,
                  const char* remedy) noexcept {
  const char* reason = strerrordesc_np(error);
  const bool has_name = !segment_name.empty();
  const int wanted = std::snprintf(message_of_thread, kMessageCapacity, "%s%s%s%s failed: %s. %s", call,
                                   has_name ? " of segment '" : "", segment_name.c_str(), has_name ? "'" : "",
                                   reason != nullptr ? reason : "unknown error", remedy);
  if (wanted > 0) mark_if_cut(static_cast<std::size_t>(wanted));
  return status;
}

const char* last_error() noexcept { return message_of_thread; }

const char* status_sentence(Status status) noexcept {
  // No default: the compiler names a status that has no sentence.
  switch (status) {
    case Status::kOk:
      return "Success.";
    case Status::kMiss:
      return "No live entry has this key.";
    case Status::kExists:
      return "The key has an entry already.";
    case Status::kConflict:
      return "The entry changed since the token was taken.";
    case Status::kHeld:
      return "Another thread or process holds the lease of this key.";
    case Status::kInvalid:
      return "An argument is not valid: a null pointer, a negative number or an unknown struct size.";
    case Status::kBadKey:
      return "Keys must be 1 to 1,024 bytes long.";
    case Status::kTooLarge:
      return "The value is larger than the cache accepts.";
    case Status::kTooSmall:
      return "The buffer is too small for the value.";
    case Status::kNotConnected:
      return "No cache is open; connect first.";
    case Status::kNotNumeric:
      return "The value is not a decimal integer, or the result leaves the 64-bit range.";
    case Status::kReadOnly:
      return "The cache is open for reading only.";
    case Status::kBadHandle:
      return "This process does not hold that view or reservation.";
    case Status::kBadBackend:
      return "The backend is unknown (MEMSTREAM_BACKEND).";
    case Status::kBadName:
      return "The name is not valid (MEMSTREAM_NAME).";
    case Status::kBadSize:
      return "The size is not valid, or this system refuses it (MEMSTREAM_SIZE).";
    case Status::kBadShards:
      return "The number of shards is not valid (MEMSTREAM_SHARDS).";
    case Status::kBadTimeout:
      return "The timeout is not valid (MEMSTREAM_TIMEOUT_MS).";
    case Status::kBadMode:
      return "The mode is not valid (MEMSTREAM_MODE).";
    case Status::kBadHugePages:
      return "The choice of huge pages is not valid (MEMSTREAM_HUGEPAGES).";
    case Status::kBadPrefault:
      return "The choice of pre-faulting is not valid (MEMSTREAM_PREFAULT).";
    case Status::kBadMaxValue:
      return "The largest value is not valid, or too large for the segment (MEMSTREAM_MAX_VALUE).";
    case Status::kBadGroup:
      return "The group does not exist (MEMSTREAM_GROUP).";
    case Status::kBadChecksumChoice:
      return "The choice of checksums is not valid (MEMSTREAM_CHECKSUM).";
    case Status::kBusy:
      return "Another process held a lock until the deadline; try again.";
    case Status::kGone:
      return "The segment was destroyed, or its name was removed; connect again for a new one.";
    case Status::kNoMemory:
      return "The machine or the container has no memory left for this.";
    case Status::kProcessTableFull:
      return "Live processes use every process slot of the segment.";
    case Status::kFull:
      return "Views and reservations pin so much that nothing can be evicted.";
    case Status::kNoHugePages:
      return "Huge pages are required, but the system has none left or the segment was made without them.";
    case Status::kNoSegment:
      return "The segment does not exist.";
    case Status::kNotOwner:
      return "The segment belongs to another user.";
    case Status::kNoPermission:
      return "The system refuses access.";
    case Status::kBadMagic:
      return "The object of this name is not a MemStream segment.";
    case Status::kBadVersion:
      return "The segment was made by a version with another layout.";
    case Status::kSizeMismatch:
      return "The segment's header and the system disagree about its size.";
    case Status::kNameMismatch:
      return "The segment carries another name.";
    case Status::kBadChecksum:
      return "The segment's header is damaged.";
    case Status::kBadState:
      return "The segment's state does not exist.";
    case Status::kTruncated:
      return "The segment is smaller than its header says.";
    case Status::kNotSharedMemory:
      return "The object of this name is not shared memory.";
    case Status::kOtherNamespace:
      return "The segment belongs to another IPC or time namespace, or live processes of another pid namespace use it.";
    case Status::kOtherLibc:
      return "The segment was made with another C library.";
    case Status::kOtherByteOrder:
      return "The segment was made on a machine of other byte order.";
    case Status::kOtherBoot:
      return "The segment was made before the last reboot.";
    case Status::kCorrupt:
      return "Damaged bytes were found.";
    case Status::kOsError:
      return "A system call failed.";
    case Status::kInternal:
      return "A defect of the library; please report it.";
  }
  return "Unknown status.";
}

}  // namespace memstream
