// Watching which keys change: docs/decisions/0030 has the argument, which depends on the order of the steps here.
#include <fmt/format.h>

#include <bit>

#include "core/cache/cache.h"

namespace memstream {
namespace {

// How long a look waits for one shard's write lock. The announcement holds for longer than all shards take.
constexpr std::chrono::milliseconds kPassTime{2};

constexpr std::uint64_t all_of(std::size_t shards) noexcept {
  return shards == kMaxShards ? ~std::uint64_t{0} : (std::uint64_t{1} << shards) - 1;
}

}  // namespace

Status Cache::watchable() noexcept {
  now_and_look();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Geometry& geometry = attached_.geometry;
  if (geometry.has_watches()) return Status::kOk;
  return fail_without_throwing(Status::kInvalid, [&] {
    return fmt::format(
        "This segment of {} bytes does not say which keys change: it has less than {} MiB, or another version of the "
        "library made it. Make a new one with at least {} MiB (MEMSTREAM_SIZE).",
        geometry.size_bytes, kLeastWatchSegment >> 20, kLeastWatchSegment >> 20);
  });
}

Status Cache::begin_watch(WatchState* state) {
  if (const Status status = watchable(); status != Status::kOk) return status;
  const Geometry& geometry = attached_.geometry;
  const Status memory = segment_->commit(geometry.areas[kWatchArea].offset, geometry.watches_size_bytes());
  if (memory != Status::kOk) return memory;
  *state = {};
  state->positions.resize(shards_.size());
  static_cast<void>(shards_[0]->waits().announce_watch(&state->lapses));
  const Deadline until = deadline();
  for (auto& shard : shards_) {
    if (const Status status = shard->pass_write_lock(until); status != Status::kOk) return status;
  }
  state->changes_of_all = shards_[0]->waits().watches().changes_of_all();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    state->positions[i] = shards_[i]->waits().watches().position();
  }
  return Status::kOk;
}

Status Cache::read_changes(WatchState* state, const WatchVisitor& visitor) {
  if (const Status status = watchable(); status != Status::kOk) return status;
  if (!shards_[0]->waits().announce_watch(&state->lapses)) state->unpassed = all_of(shards_.size());
  const std::uint64_t now = now_ms();
  const bool is_time = now >= state->next_look_ms;
  if (is_time) state->next_look_ms = now + static_cast<std::uint64_t>(kWatchSlice.count()) / 2;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const std::uint64_t bit = std::uint64_t{1} << i;
    if ((state->unpassed & bit) != 0) {
      // A writer that saw nobody watching may still be at work. Only behind it a look is late enough.
      const Status passed = shards_[i]->pass_write_lock(Deadline(kPassTime));
      if (passed == Status::kGone) return passed;
      if (passed == Status::kBusy) continue;
      state->unpassed &= ~bit;
      visitor.look_again();
    } else if (is_time) {
      shards_[i]->mend_after_death(Deadline(kPassTime));
    }
  }
  // Before the rings: what is noted while they are read is told next time.
  const std::uint64_t changes_of_all = shards_[0]->waits().watches().changes_of_all();
  if (changes_of_all != state->changes_of_all) visitor.look_again();
  state->changes_of_all = changes_of_all;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const WatchTable& watches = shards_[i]->waits().watches();
    if (!watches.read(&state->positions[i], &state->words, visitor.changed)) visitor.look_again();
  }
  return Status::kOk;
}

void Cache::sleep_until_change(const WatchState& state, const std::function<bool()>& is_wanted) {
  const WatchTable& first = shards_[0]->waits().watches();
  const std::uint32_t seen = first.prepare_sleep();
  if (first.changes_of_all() != state.changes_of_all) return;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (shards_[i]->waits().watches().position() != state.positions[i]) return;
  }
  if (is_wanted()) first.sleep(seen, kWatchSlice);
}

void Cache::wake_watchers() noexcept {
  if (is_inside() && attached_.geometry.has_watches()) shards_[0]->waits().watches().wake_watchers();
}

}  // namespace memstream
