// The token by which a compare-and-set tells whether a value is still the one that its caller read.
#pragma once

#include <cstdint>

#include "core/layout/block.h"
#include "core/layout/layout.h"

namespace memstream {

// Every write of an entry changes its token. A value that only moves keeps it: each move is a generation of the ref,
// and is taken out again.
inline std::uint64_t cas_token(EntryId id, EntryRef ref, std::uint32_t moves) noexcept {
  const auto generation = static_cast<std::uint32_t>(ref >> 32);
  return (((generation - moves) & kGenerationMask) | kLiveBit >> 32) ^ id * 0x9e37'79b9'7f4a'7c15ULL;
}
inline std::uint64_t cas_token(const FoundEntry& found) noexcept {
  return cas_token(found.id, found.ref, found.block.moves());
}

}  // namespace memstream
