// What the caller learns when there is no room: why, and which processes hold it.
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/process_names.h"
#include "core/shard/reclaimer.h"

namespace memstream {

Status Reclaimer::no_room(std::uint64_t bytes) const noexcept {
  assert(holds_write_lock(header_));
  const bool refused = header_->counters.commit_failures != 0 && arena_.wilderness_bytes() >= kPageSize;
  if (refused) {
    return fail_without_throwing(Status::kNoMemory, [&] {
      return fmt::format(
          "No memory for {} bytes: the machine or the container gives this segment no more. Free memory, or enlarge "
          "/dev/shm or the container's limit.",
          bytes);
    });
  }
  return fail_without_throwing(Status::kFull, [&] {
    return fmt::format(
        "No memory for {} bytes: views and reservations pin all that could be evicted. {}. Release some, or use a "
        "larger MEMSTREAM_SIZE.",
        bytes, holders());
  });
}

// The processes that hold most of the shard, for the error of a writer that finds no room.
std::string Reclaimer::holders() const {
  constexpr std::size_t kNamed = 4;
  std::map<std::uint32_t, std::set<BlockPosition>> blocks_of;  // Positions by pid: a block may be held many times.
  const PinPlaces& places = pins_.places();
  places.for_each(places.slots_in_use(), [&](const std::atomic<std::uint64_t>& pin, const ProcessSlot& slot) {
    const std::uint64_t offset = (pin.load(std::memory_order_acquire) & ~kPinIsTentative) - offset_;
    if (offset >= size_) return;
    blocks_of[slot.pid.load(std::memory_order_relaxed)].insert(
        BlockPosition{static_cast<std::uint32_t>(offset / kUnitSize)});
  });
  struct Holder {
    std::uint64_t bytes;
    std::uint32_t pid;
    std::size_t blocks;
  };
  std::vector<Holder> holders;
  for (const auto& [pid, positions] : blocks_of) {
    holders.push_back({0, pid, positions.size()});
    for (const BlockPosition position : positions) {
      CheckedBlock block;
      if (check_block(arena_.backing(), position, &block)) holders.back().bytes += block.stored_size;
    }
  }
  std::sort(holders.begin(), holders.end(), [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  std::string text = fmt::format("Of the {} bytes of this shard", size_);
  for (std::size_t i = 0; i < std::min(holders.size(), kNamed); ++i) {
    text += fmt::format("{} {} holds {} bytes in {} blocks", i == 0 ? "" : ",",
                        describe_process(static_cast<pid_t>(holders[i].pid)), holders[i].bytes, holders[i].blocks);
  }
  if (holders.size() > kNamed) text += fmt::format(", {} others hold less", holders.size() - kNamed);
  return text;
}

}  // namespace memstream
