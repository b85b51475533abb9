// Waiting until the entry of a key changes: docs/decisions/0026.
#include <algorithm>
#include <chrono>
#include <optional>

#include "core/cache/cache.h"

namespace memstream {

Status Cache::wait_for_change(std::string_view key, std::uint64_t cas, const Deadline& deadline) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  Shard& shard = shard_of(hashed);
  const WaitTable& waits = shard.waits();
  if (!waits.exists()) {
    return fail(Status::kInvalid,
                "This segment has no words to wait on: another version of the library made it. Destroy the segment and "
                "connect again.");
  }
  const std::uint32_t hash = hashed.hash.bucket_bits();
  // The first look goes without an announcement: a caller that comes too late to wait costs writers nothing.
  std::uint32_t seen = 0;
  std::optional<CountedWaiter> counted;
  for (bool is_announced = false;;) {
    const std::uint64_t now = now_and_look();
    if (const Status status = present(); status != Status::kOk) return status;
    std::uint64_t found = 0;
    std::uint64_t expires_ms = 0;
    const Status status = shard.inspect(hashed, {Deadline(timeout_), now}, [&](const ScannedEntry& entry) {
      found = entry.cas;
      expires_ms = entry.block.expires_ms;
    });
    if (status == Status::kOk && (cas == 0 || found != cas)) return Status::kOk;
    if (status == Status::kMiss && cas != 0) return Status::kMiss;
    if (status != Status::kOk && status != Status::kMiss) return status;
    std::chrono::nanoseconds left = deadline.end() - std::chrono::steady_clock::now();
    if (left <= left.zero()) return status == Status::kOk ? Status::kExists : Status::kMiss;
    if (!is_announced) {
      seen = waits.announce(hash);
      // Where a stopped process keeps the lock, a change may come unnoticed until the slice is over.
      const Status passed = shard.pass_write_lock(Deadline(WaitTable::kSlice));
      if (passed != Status::kOk && passed != Status::kBusy) return passed;
      is_announced = true;
      continue;
    }
    if (expires_ms != 0) {
      const std::chrono::milliseconds until_expiry(std::max<std::uint64_t>(expires_ms - std::min(expires_ms, now), 1));
      left = std::min<std::chrono::nanoseconds>(left, until_expiry);
    }
    if (!counted) counted.emplace(*this, Waiting::kChange);
    waits.sleep(hash, seen, left);
    is_announced = false;
  }
}

}  // namespace memstream
