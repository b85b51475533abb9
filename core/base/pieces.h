// Reserves or maps a large range in pieces. A single call could exceed the deadline, and each signal that interrupts it
// could send it back to its start.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace memstream {

// A few milliseconds of work.
inline constexpr std::uint64_t kPieceSize = std::uint64_t{16} << 20;

// Calls step(offset_bytes, size_bytes) for each piece of the range in order, until one fails. kBusy if the deadline
// passes before the last piece.
template <class Step>
Status in_pieces(std::uint64_t begin_bytes, std::uint64_t size_bytes, const Deadline& deadline, const Step& step) {
  const std::uint64_t end_bytes = begin_bytes + size_bytes;
  static_cast<void>(deadline.end());  // The first piece counts against the deadline too.
  for (std::uint64_t at = begin_bytes; at < end_bytes;) {
    const std::uint64_t piece_bytes = std::min(kPieceSize, end_bytes - at);
    if (const Status status = step(at, piece_bytes); status != Status::kOk) return status;
    at += piece_bytes;
    if (at < end_bytes && deadline.passed()) {
      return fail(Status::kBusy,
                  "The system did not give all of the memory before the timeout. Raise MEMSTREAM_TIMEOUT_MS, choose a "
                  "smaller MEMSTREAM_SIZE, or set MEMSTREAM_PREFAULT=off.");
    }
  }
  return Status::kOk;
}

}  // namespace memstream
