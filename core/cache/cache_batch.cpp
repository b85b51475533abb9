// Many keys in one call: what every such call begins with, and the writes, which go shard by shard, several keys in one
// hold of the lock.
#include <algorithm>
#include <array>
#include <new>
#include <span>

#include "core/cache/cache.h"
#include "core/shard/shard_lookup.h"

namespace memstream {

Status Cache::begin_batch(BatchWork& work, bool writes, std::size_t* usable_items) noexcept {
  const std::span<BatchItem> items = work.filled();
  Key* key = work.keys();
  *usable_items = 0;
  static_cast<void>(now_and_look());
  Status all = present();
  if (all == Status::kOk) all = writes ? writable() : lockable();
  Status failure = all;
  for (BatchItem& item : items) {
    const bool was_failure = item.status != Status::kOk;
    if (!was_failure) item.status = all == Status::kOk ? usable(item.key) : all;
    if (item.status == Status::kOk) [[likely]] {
      new (key++) Key(make_key(item.key));
      ++*usable_items;
    } else {
      if (!was_failure) failure = item.status;
      new (key++) Key{};
    }
  }
  return failure;
}

namespace {

// The items of a batch by shard: those of shard s are order[begins[s]] to order[begins[s + 1] - 1], as they stood.
struct ByShard {
  std::array<std::uint8_t, BatchWork::kMost> order;
  std::array<std::uint8_t, kMaxShards + 1> begins{};

  ByShard(std::span<const BatchItem> items, const Key* keys, std::uint32_t shards) noexcept {
    static_assert(BatchWork::kMost <= 0xff);
    std::array<std::uint8_t, kMaxShards + 1> next{};
    const auto each = [&](auto&& visit) {
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (items[i].status == Status::kOk) visit(static_cast<std::uint8_t>(i), keys[i].hash.shard(shards));
      }
    };
    each([&](std::uint8_t, std::uint32_t shard) { ++begins[shard + 1]; });
    for (std::size_t shard = 1; shard <= shards; ++shard) {
      begins[shard] = static_cast<std::uint8_t>(begins[shard] + begins[shard - 1]);
    }
    next = begins;
    each([&](std::uint8_t item, std::uint32_t shard) { order[next[shard]++] = item; });
  }

  Shard::BatchOrder of(std::uint32_t shard) const noexcept {
    return {order.data() + begins[shard], static_cast<std::size_t>(begins[shard + 1] - begins[shard])};
  }
  Shard::BatchOrder of_all(std::uint32_t shards) const noexcept { return {order.data(), begins[shards]}; }
  // How many come before `part` of them.
  std::size_t place_of(Shard::BatchOrder part) const noexcept {
    return static_cast<std::size_t>(part.data() - order.data());
  }
};

// Asks for the lines that writes of the keys in `order` are going to take, a group of keys ahead. Each step is done for
// the whole group, across its shards.
class WritesAhead {
 public:
  WritesAhead(std::span<const std::uint8_t> order, const Key* keys) noexcept : order_(order), keys_(keys) {}

  // Before the first `end` of them are written.
  template <class ShardOf>
  void reach(std::size_t end, ShardOf shard_of) noexcept {
    while (asked_ < end) {
      const auto group = order_.subspan(asked_, std::min(order_.size() - asked_, kGroup));
      ask(group, shard_of);
      asked_ += group.size();
    }
  }

 private:
  static constexpr std::size_t kGroup = 16;

  template <class ShardOf>
  void ask(std::span<const std::uint8_t> group, ShardOf shard_of) noexcept {
    std::array<Shard::Probe, kGroup> probes;
    for (std::size_t i = 0; i < group.size(); ++i) {
      const Key& key = keys_[group[i]];
      Shard& shard = shard_of(key);
      shard.prefetch_lock();
      static_cast<void>(shard.probe_start<false>(key, &probes[i]));
    }
    for (std::size_t i = 0; i < group.size(); ++i) {
      const Key& key = keys_[group[i]];
      if (probes[i].bucket == nullptr) continue;
      shard_of(key).template probe_bucket<LineUse::kWrite>(key, &probes[i]);
    }
  }

  std::span<const std::uint8_t> order_;
  const Key* keys_;
  std::size_t asked_ = 0;
};

}  // namespace

Status Cache::store_many(BatchWork& work, const Deadline& deadline) noexcept {
  const std::span<BatchItem> items = work.filled();
  const Key* const keys = work.keys();
  std::size_t usable_items = 0;
  Status failure = begin_batch(work, true, &usable_items);
  if (usable_items == 0) return failure;
  const std::uint64_t now = now_ms();
  const RedoClaim redo(*this);
  StoreRequest* const requests = work.requests();
  std::array<Status, BatchWork::kMost> statuses;
  for (std::size_t i = 0; i < items.size(); ++i) {
    const BatchItem& item = items[i];
    const bool is_checked = has_checksums() && item.status == Status::kOk;
    const std::uint64_t checksum = is_checked ? checksum_word(item.value, item.value_size, keys[i].hash) : 0;
    new (requests + i) StoreRequest{.key = keys[i],
                                    .value = item.value,
                                    .value_size = item.value_size,
                                    .expires_ms = expiry(item.ttl_ms),
                                    .caller_flags = item.caller_flags | checksum,
                                    .redo = redo.record()};
    if (item.tags != nullptr) [[unlikely]] {
      requests[i].expires_ms |= kHasTags;
      requests[i].tags = &pairs_of(*item.tags);
      requests[i].redo = 0;
    }
  }
  std::uint64_t puts = 0;
  const auto is_large = [&](std::uint8_t item) { return items[item].value_size >= Shard::kPinnedCopySize; };
  const auto store_alone = [&](std::uint8_t item) { return store_hashed(requests[item], {deadline, now}); };
  const auto finish = [&](std::uint8_t item, Status status) {
    items[item].status = status;
    if (items[item].failed()) failure = status;
    if (status == Status::kOk) {
      ++puts;
    } else {
      note_outcome(Operation::kSet, status);
    }
  };
  const ByShard by_shard(items, keys, attached_.geometry.shards);
  WritesAhead ahead(by_shard.of_all(attached_.geometry.shards), keys);
  for (std::uint32_t shard = 0; shard < attached_.geometry.shards; ++shard) {
    Shard::BatchOrder rest = by_shard.of(shard);
    while (!rest.empty()) {
      if (is_large(rest.front())) {
        finish(rest.front(), store_alone(rest.front()));
        rest = rest.subspan(1);
        continue;
      }
      const Shard::BatchOrder most = rest.first(std::min(rest.size(), Shard::kBatchHold));
      const auto end = std::find_if(most.begin(), most.end(), is_large);
      const Shard::BatchOrder hold = most.first(static_cast<std::size_t>(end - most.begin()));
      ahead.reach(by_shard.place_of(hold) + hold.size(), [this](const Key& key) -> Shard& { return shard_of(key); });
      shards_[shard]->store_many(requests, hold, statuses.data(), {deadline, now});
      for (const std::uint8_t item : hold) {
        // Alone it may get the room of processes that have died.
        const bool no_room = statuses[item] == Status::kFull || statuses[item] == Status::kNoMemory;
        finish(item, no_room ? store_alone(item) : statuses[item]);
      }
      rest = rest.subspan(hold.size());
    }
  }
  count_puts(puts);
  return failure;
}

Status Cache::remove_many(BatchWork& work, const Deadline& deadline) noexcept {
  const std::span<BatchItem> items = work.filled();
  const Key* const keys = work.keys();
  std::size_t usable_items = 0;
  Status failure = begin_batch(work, true, &usable_items);
  if (usable_items == 0) return failure;
  const std::uint64_t now = now_ms();
  std::array<Status, BatchWork::kMost> statuses;
  const ByShard by_shard(items, keys, attached_.geometry.shards);
  WritesAhead ahead(by_shard.of_all(attached_.geometry.shards), keys);
  for (std::uint32_t shard = 0; shard < attached_.geometry.shards; ++shard) {
    for (Shard::BatchOrder rest = by_shard.of(shard); !rest.empty();) {
      const Shard::BatchOrder hold = rest.first(std::min(rest.size(), Shard::kBatchHold));
      ahead.reach(by_shard.place_of(hold) + hold.size(), [this](const Key& key) -> Shard& { return shard_of(key); });
      shards_[shard]->remove_many(keys, hold, statuses.data(), {deadline, now});
      for (const std::uint8_t item : hold) {
        items[item].status = statuses[item];
        if (items[item].failed()) failure = statuses[item];
        if (statuses[item] != Status::kOk) note_outcome(Operation::kDelete, statuses[item]);
      }
      rest = rest.subspan(hold.size());
    }
  }
  return failure;
}

}  // namespace memstream
