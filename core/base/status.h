// The outcome of an operation: one enum for the whole library, and the message that explains a failure.
//
// The numbers are the ABI: api/cache.h spells the same values as C constants and asserts that they agree.
// Zero is success, positive values are expected outcomes that carry no message, negative values are errors.
#pragma once

#include <string>
#include <string_view>

namespace memstream {

// clang-format off: version 14 takes the attribute for the name of a function.
enum class [[nodiscard]] Status : int{
    kOk = 0,
    // Expected outcomes.
    kMiss = 1,      // No live entry has this key.
    kExists = 2,    // add: the key is there already.
    kConflict = 3,  // cas: the entry changed since the token was taken. A lease: it ended before.
    kHeld = 4,      // Another holds the lease of this key.

    // Errors in the caller's arguments.
    kInvalid = -1,       // A NULL pointer, a negative number, a struct of an unknown size.
    kBadKey = -2,        // Key of 0 bytes or more than 1,024.
    kTooLarge = -3,      // Value above the limit of a shard.
    kTooSmall = -4,      // The caller's buffer does not hold the value.
    kNotConnected = -5,  // No cache is open.
    kNotNumeric = -6,    // incr of a value that is not a decimal integer, or out of the 64-bit range.
    kReadOnly = -7,      // A write through a read-only attach.
    kBadHandle = -8,     // A view or reservation that this process does not hold.

    // Errors in the environment or the options.
    kBadBackend = -20,
    kBadName = -21,
    kBadSize = -22,
    kBadShards = -23,
    kBadTimeout = -24,
    kBadMode = -25,
    kBadHugePages = -26,
    kBadPrefault = -27,
    kBadMaxValue = -28,
    kBadGroup = -29,
    kBadChecksumChoice = -30,

    // Conditions that may pass.
    kBusy = -40,              // Deadline reached while others held the shard.
    kGone = -41,              // The segment was destroyed; connect again.
    kNoMemory = -42,          // The machine or the container has no memory left for it.
    kProcessTableFull = -43,  // Every process slot is taken by a live process.
    kFull = -44,              // Views and reservations pin so much that nothing can be evicted.
    kNoHugePages = -45,       // Huge pages are required, and the system has none, or the segment was made without.

    // Errors in an existing segment.
    kNoSegment = -60,
    kNotOwner = -61,
    kNoPermission = -62,
    kBadMagic = -63,
    kBadVersion = -64,
    kSizeMismatch = -65,
    kNameMismatch = -66,
    kBadChecksum = -67,
    kBadState = -68,
    kTruncated = -69,
    kNotSharedMemory = -70,  // A directory, a FIFO or another file has that name.
    kOtherNamespace = -71,
    kOtherLibc = -72,
    kOtherByteOrder = -73,
    kOtherBoot = -74,
    kCorrupt = -75,

    kOsError = -90,  // A system call failed; the message names it.
    kInternal = -91,
};
// clang-format on

// Keeps `message` as the calling thread's last error and returns `status`, so that a failing function ends in one line:
// `return fail(Status::kBadSize, "...")`. Takes no memory and never throws. `message` may be last_error().
Status fail(Status status, std::string_view message) noexcept;

// `fail(status, make_message())` for code that must not throw. Without memory for the message it uses the fixed
// sentence of the status.
template <class MakeMessage>
Status fail_without_throwing(Status status, const MakeMessage& make_message) noexcept;

// fail() for a failed system call: "<call> of segment '<name>' failed: <strerror>. <remedy>". An empty name is left
// out, for functions that do not know the segment.
Status fail_errno(Status status, const char* call, const std::string& segment_name, int error,
                  const char* remedy) noexcept;

// The calling thread's last message; empty if it never failed. Valid until the thread's next failure.
const char* last_error() noexcept;

// A fixed sentence for a status, for callers without a message at hand.
const char* status_sentence(Status status) noexcept;

template <class MakeMessage>
Status fail_without_throwing(Status status, const MakeMessage& make_message) noexcept {
  try {
    return fail(status, make_message());
  } catch (...) {
    return fail(status, status_sentence(status));
  }
}

}  // namespace memstream
