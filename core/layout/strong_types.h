// Numbers that must not be mistaken for one another: each has a type of its own, which costs nothing.
#pragma once

#include <cstdint>

namespace memstream {

// A number that converts to its value implicitly. It is made from a value only explicitly, and never from another
// kind of number. So an argument in the wrong place does not compile.
template <class Kind, class Value>
class StrongNumber {
 public:
  constexpr StrongNumber() noexcept = default;
  constexpr explicit StrongNumber(Value value) noexcept : value_(value) {}
  template <class OtherKind, class OtherValue>
  explicit StrongNumber(StrongNumber<OtherKind, OtherValue>) = delete;

  constexpr operator Value() const noexcept { return value_; }
  constexpr StrongNumber& operator+=(Value by) noexcept {
    value_ += by;
    return *this;
  }
  constexpr StrongNumber& operator++() noexcept {
    ++value_;
    return *this;
  }

 private:
  Value value_ = 0;
};

// An entry of a shard's table, in runs of 32 bytes from the table's start. 0: none.
using EntryId = StrongNumber<struct EntryIdKind, std::uint32_t>;
// Where a block begins, in units from the shard's start. 0: none.
using BlockPosition = StrongNumber<struct BlockPositionKind, std::uint32_t>;
// The value of an entry's `ref`: whether it is live, its generation, and the position of its block.
using EntryRef = StrongNumber<struct EntryRefKind, std::uint64_t>;
// A size in units of kUnitSize bytes.
using Units = StrongNumber<struct UnitsKind, std::uint64_t>;
// A place for a pin, as its process counts them.
using PinNumber = StrongNumber<struct PinNumberKind, std::uint32_t>;

}  // namespace memstream
