#include "core/cache/access_trace.h"

#include "core/base/clock.h"

namespace memstream {
namespace {

constexpr auto kInAnyOrder = std::memory_order_relaxed;
constexpr std::uint64_t kOnMs = 1000;
// How long a reader waits for a record that is not complete.
constexpr std::uint64_t kPatienceMs = 100;

// Whether a reader has stored it lately. Another value is of readers that have gone, or damage.
bool is_current(std::uint64_t until_ms, std::uint64_t now_ms) noexcept {
  return until_ms >= now_ms && until_ms - now_ms <= 2 * kOnMs;
}

TraceRing& ring_at(const Segment& segment, std::uint64_t offset) noexcept {
  return *reinterpret_cast<TraceRing*>(segment.data() + offset);
}

}  // namespace

AccessTrace::AccessTrace(const Segment& segment, const Geometry& geometry, std::uint64_t created_monotonic_ms) noexcept
    : segment_(segment),
      until_ms_(metrics_of_segment(segment, geometry).trace_until_ms),
      offset_(geometry.has_trace() ? geometry.areas[kTraceArea].offset : 0),
      created_monotonic_ms_(created_monotonic_ms) {}

// A reader gives the ring memory before it raises the word. Damage of the word does not.
bool AccessTrace::has_memory() noexcept {
  if (has_memory_.load(kInAnyOrder)) return true;
  if (offset_ == 0 || segment_.look_for_memory(offset_, kTraceAreaSize) == Status::kNoMemory) return false;
  has_memory_.store(true, kInAnyOrder);
  return true;
}

void AccessTrace::note_at_once(KeyHash hash, AccessKind what, std::uint64_t size) noexcept {
  // The clock is read after the word. A writer that was stopped in between finds a lapsed one, which readers have
  // renewed if they are still there.
  std::uint64_t until = until_ms_.load(kInAnyOrder);
  std::uint64_t now = monotonic_ms();
  while (!is_current(until, now)) {
    if (until_ms_.compare_exchange_strong(until, 0, kInAnyOrder)) return;
    now = monotonic_ms();
  }
  if (!has_memory()) return;
  TraceRing& ring = ring_at(segment_, offset_);
  const std::uint64_t number = ring.next.fetch_add(1, kInAnyOrder);
  TraceRecord& record = ring.records[number % kTraceRecords];
  const std::uint64_t word = (now - created_monotonic_ms_) << kAccessBits | static_cast<std::uint64_t>(what);
  // In any order: the seal holds for these four numbers together.
  record.hash.store(hash.value, kInAnyOrder);
  record.what.store(word, kInAnyOrder);
  record.size.store(size, kInAnyOrder);
  record.seal.store(trace_seal(number, hash.value, word, size), kInAnyOrder);
}

// The word never moves back: a reader that was stopped between clock and word begins again.
void AccessTrace::keep_on(Cursor* cursor) noexcept {
  std::uint64_t now = 0;
  std::uint64_t seen = until_ms_.load(kInAnyOrder);
  do {
    now = monotonic_ms();
  } while (!until_ms_.compare_exchange_weak(seen, now + kOnMs, kInAnyOrder));
  if (cursor->noted_until_ms != 0 && now > cursor->noted_until_ms) ++cursor->gaps;
  cursor->noted_until_ms = now + kOnMs;
}

// Whether a record that is not complete is given up: its writer is stopped or dead.
bool AccessTrace::is_stuck(Cursor* cursor) noexcept {
  const std::uint64_t now = monotonic_ms();
  if (cursor->stuck_since_ms == 0) cursor->stuck_since_ms = now;
  if (now - cursor->stuck_since_ms < kPatienceMs) return false;
  cursor->stuck_since_ms = 0;
  return true;
}

std::size_t AccessTrace::read(Cursor* cursor, std::span<TracedAccess> accesses) const noexcept {
  const TraceRing& ring = ring_at(segment_, offset_);
  const std::uint64_t end = ring.next.load(kInAnyOrder);
  // Behind the end lies what another segment has told, or damage.
  if (cursor->next == 0 || cursor->next - 1 > end) cursor->next = end + 1;
  std::uint64_t number = cursor->next - 1;
  if (end - number > kTraceRecords) {
    cursor->lost += end - number - kTraceRecords;
    number = end - kTraceRecords;
  }
  std::size_t count = 0;
  for (; number != end && count < accesses.size(); ++number) {
    const TraceRecord& record = ring.records[number % kTraceRecords];
    const std::uint64_t hash = record.hash.load(kInAnyOrder);
    const std::uint64_t what = record.what.load(kInAnyOrder);
    const std::uint64_t size = record.size.load(kInAnyOrder);
    if (record.seal.load(kInAnyOrder) != trace_seal(number, hash, what, size)) {
      if (!is_stuck(cursor)) break;
      ++cursor->lost;
      continue;
    }
    cursor->stuck_since_ms = 0;
    accesses[count++] = {.hash = hash,
                         .at_ms = what >> kAccessBits,
                         .size = size,
                         .what = static_cast<std::uint32_t>(what & ((1U << kAccessBits) - 1))};
  }
  cursor->next = number + 1;
  return count;
}

}  // namespace memstream
