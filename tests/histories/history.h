// What clients did to the keys of a cache, and when: the input of the linearizability checker.
#pragma once

#include <cstdint>
#include <vector>

namespace memstream::histories {

// A value of a key as the model knows it; kAbsent: the key is not there. No two writes of one history make the same
// value, so that a value also stands for the write that made it, and thereby for its compare-and-set token.
using Value = std::uint64_t;
inline constexpr Value kAbsent = 0;

enum class Origin : std::uint64_t {
  kBytes = 1,    // Stored as bytes; cannot be incremented.
  kNumber = 2,   // Stored as a number in text, or made from one by increments.
  kInitial = 3,  // The same, made by an increment of a key that was absent.
};

// Low 16 bits: increments since the write. Then 24 bits that number the write, and its origin.
inline constexpr unsigned kWriteShift = 16;
inline constexpr unsigned kOriginShift = 40;
constexpr Value make_value(Origin origin, std::uint32_t write) noexcept {
  return static_cast<std::uint64_t>(origin) << kOriginShift | std::uint64_t{write} << kWriteShift;
}
constexpr Origin origin_of(Value value) noexcept { return static_cast<Origin>(value >> kOriginShift); }
constexpr std::uint32_t write_of(Value value) noexcept {
  return static_cast<std::uint32_t>(value >> kWriteShift & 0xff'ffff);
}
constexpr bool is_number(Value value) noexcept { return value != kAbsent && origin_of(value) != Origin::kBytes; }

enum class Call : std::uint8_t {
  kRead,  // get, view, and what else tells which value is there.
  kSet,
  kAdd,
  kReplace,
  kCompareAndSet,
  kDelete,
  kTouch,
  kIncrement,  // By one.
};

enum class Outcome : std::uint8_t {
  kUnknown,  // The client was killed in it: it took effect at any time after its beginning, or never.
  kOk,
  kMiss,
  kExists,
  kConflict,
  kNotNumeric,
  kRefused,  // No room: what would have to go is held in place. It changed nothing.
};

// One operation of one client on one key. Instants are numbers of a clock that all clients share, each given out once.
struct Operation {
  std::uint64_t invoked = 0;
  std::uint64_t returned = 0;  // 0: never.
  std::uint32_t client = 0;
  std::uint32_t key = 0;
  Call call = Call::kRead;
  Outcome outcome = Outcome::kUnknown;
  Value argument = kAbsent;  // What is stored. Increment: what an absent key begins with; kAbsent: a miss then.
  Value expected = kAbsent;  // Compare-and-set: the value from which the token was taken.
  Value result = kAbsent;    // Read and increment: what came back. A read that tells only the token: kAbsent.
  std::uint64_t token = 0;   // Read: the compare-and-set token that came with it.
};

using History = std::vector<Operation>;

}  // namespace memstream::histories
