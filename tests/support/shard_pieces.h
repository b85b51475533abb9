// A shard, and beside it the classes that it is made of, on the same bytes: for tests of one of those classes alone.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/shard/reclaimer.h"
#include "core/shard/shard_parts.h"
#include "core/shard/shard_rebuilder.h"
#include "core/shard/table_shrinker.h"
#include "tests/support/test_shard.h"

namespace memstream::test {

// REQUIRES: a test that calls these classes holds W (WriteLockScope), and no operation of the shard runs meanwhile.
class ShardPieces : public TestShard {
 public:
  explicit ShardPieces(std::uint64_t size_bytes = kMinSegmentSize)
      : TestShard(size_bytes),
        offset(geometry().shards_offset),
        pin_table(places, offset),
        tags(&segment(), geometry()),
        waits(&segment(), geometry(), 0),
        arena(&header(), offset, shard_size(), &segment()),
        index(&header()),
        eviction(&header(), &index, &arena, &pin_table, &tags),
        contents(&header(), 0, geometry(), arena),
        leases(&header(), pin_table.places()),
        retired(&header(), &arena, &pin_table, offset, shard_size()),
        redo(&header(), reinterpret_cast<RedoRecord*>(data() + geometry().redo_records_offset()), geometry(), arena),
        reclaimer(parts()),
        rebuilder(parts()),
        shrinker(parts(), &rebuilder) {}

  ShardParts parts() noexcept {
    return {&header(),  0,         offset,  shard_size(), attached().hash_seed,
            geometry(), pin_table, arena,   index,        eviction,
            contents,   leases,    retired, redo,         metrics_of_shard(segment(), geometry(), 0),
            tags,       waits};
  }
  ShardSpace& space() noexcept { return header().space; }
  BlockPosition position_of(std::string_view key_bytes) { return ref_block(entry(key_bytes).ref); }
  // As a view does.
  PinNumber hold(BlockPosition position) {
    entry_at(position).ref |= kPinnedHint;
    return pins.claim(shard.offset_of(position));
  }
  // The entry that owns the block. REQUIRES: one does.
  Entry& entry_at(BlockPosition position) { return index.entry(owner_entry(arena.block(position).owner)); }

  std::uint64_t offset;
  PinTable pin_table;
  TagTable tags;
  WaitTable waits;
  Arena arena;
  Index index;
  Eviction eviction;
  ShardContents contents;
  LeaseTable leases;
  RetiredBlocks retired;
  RedoLog redo;
  Reclaimer reclaimer;
  ShardRebuilder rebuilder;
  TableShrinker shrinker;
};

}  // namespace memstream::test
