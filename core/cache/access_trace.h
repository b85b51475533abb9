// Tells those who trace which keys are asked for and stored: docs/decisions/0031.
//
// Only operations on keys of the sample (ReuseSample) come here. They load one word. While somebody traces they note
// the access in a ring that all processes share. A reader keeps up with it, or loses accesses; no writer waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "core/layout/hash.h"
#include "core/layout/layout_trace.h"
#include "core/shard/metrics.h"

namespace memstream {

struct TracedAccess {
  std::uint64_t hash = 0;
  std::uint64_t at_ms = 0;  // On the segment's clock.
  std::uint64_t size = 0;
  std::uint32_t what = 0;  // AccessKind.
};

// Safe from all threads of all processes.
class AccessTrace {
 public:
  // What a reader knows between two calls. Begins as it is made here.
  struct Cursor {
    std::uint64_t next = 0;  // Number of the next access + 1; 0: the next that anybody makes.
    std::uint64_t lost = 0;
    std::uint64_t stuck_since_ms = 0;  // 0: not on a record that is not complete.
    std::uint64_t noted_until_ms = 0;  // What the last call has asked for.
    std::uint64_t gaps = 0;            // Calls that came later than that.
  };

  AccessTrace(const Segment& segment, const Geometry& geometry, std::uint64_t created_monotonic_ms) noexcept;

  // Notes an access of a sampled key, if anybody traces.
  void note(KeyHash hash, AccessKind what, std::uint64_t size) noexcept {
    if (until_ms_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      note_at_once(hash, what, size);
  }

  // Accesses are noted for a second from now on. REQUIRES: the segment has the area, which has memory.
  void keep_on(Cursor* cursor) noexcept;
  // Copies the accesses that the cursor has not seen, and returns how many. REQUIRES: as keep_on().
  std::size_t read(Cursor* cursor, std::span<TracedAccess> accesses) const noexcept;

 private:
  [[gnu::cold, gnu::noinline]] void note_at_once(KeyHash hash, AccessKind what, std::uint64_t size) noexcept;
  bool has_memory() noexcept;
  static bool is_stuck(Cursor* cursor) noexcept;

  const Segment& segment_;
  MetricWord& until_ms_;  // On CLOCK_MONOTONIC_COARSE.
  std::uint64_t offset_;  // Of the ring; 0: the segment has none.
  std::uint64_t created_monotonic_ms_;
  std::atomic<bool> has_memory_{false};
};

}  // namespace memstream
