// docs/layout.md against core/layout/layout.h: the document's tables list every field of every struct, and nothing
// else, with the offset and the size that the compiler gives it.
#include "core/layout/layout.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "core/layout/block.h"
#include "core/layout/layout_limits.h"
#include "core/layout/layout_metrics.h"
#include "core/layout/layout_near.h"
#include "core/layout/layout_tags.h"
#include "core/layout/layout_trace.h"
#include "core/layout/layout_waits.h"
#include "core/layout/layout_watches.h"

namespace memstream::test {
namespace {

struct Field {
  std::string name;
  std::size_t offset;
  std::size_t size;
  bool operator==(const Field&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Field& field) {
  return out << field.name << " at " << field.offset << ", " << field.size << " bytes";
}

struct Layout {
  std::size_t size = 0;
  std::vector<Field> fields;
};

#define FIELD(type, name) \
  Field { #name, offsetof(type, name), sizeof(type::name) }

const std::map<std::string, Layout> kCompiled = {
    {"SegmentIdentity",
     {sizeof(SegmentIdentity),
      {FIELD(SegmentIdentity, magic),
       FIELD(SegmentIdentity, layout_version),
       FIELD(SegmentIdentity, byte_order),
       FIELD(SegmentIdentity, mutex_size),
       FIELD(SegmentIdentity, mutex_alignment),
       FIELD(SegmentIdentity, rwlock_size),
       FIELD(SegmentIdentity, rwlock_alignment),
       FIELD(SegmentIdentity, libc),
       FIELD(SegmentIdentity, boot_id),
       FIELD(SegmentIdentity, ipc_namespace),
       FIELD(SegmentIdentity, uuid),
       FIELD(SegmentIdentity, hash_seed),
       FIELD(SegmentIdentity, created_unix_ms),
       FIELD(SegmentIdentity, created_monotonic_ms),
       FIELD(SegmentIdentity, size_bytes),
       FIELD(SegmentIdentity, process_slots_offset),
       FIELD(SegmentIdentity, thread_slots_offset),
       FIELD(SegmentIdentity, shards_offset),
       FIELD(SegmentIdentity, shard_size),
       FIELD(SegmentIdentity, process_slots),
       FIELD(SegmentIdentity, thread_slots),
       FIELD(SegmentIdentity, shards),
       FIELD(SegmentIdentity, features),
       FIELD(SegmentIdentity, time_namespace),
       FIELD(SegmentIdentity, marks_created_s),
       FIELD(SegmentIdentity, marks_id),
       FIELD(SegmentIdentity, marks_key),
       FIELD(SegmentIdentity, name),
       FIELD(SegmentIdentity, areas)}}},
    {"BlockTags", {sizeof(BlockTags), {FIELD(BlockTags, pairs)}}},
    {"Area", {sizeof(Area), {FIELD(Area, offset), FIELD(Area, size_bytes)}}},
    {"SegmentHeader",
     {sizeof(SegmentHeader),
      {FIELD(SegmentHeader, identity), FIELD(SegmentHeader, checksum), FIELD(SegmentHeader, pid_namespace),
       FIELD(SegmentHeader, new_marks_key), FIELD(SegmentHeader, has_unmarked), FIELD(SegmentHeader, unused0),
       FIELD(SegmentHeader, state), FIELD(SegmentHeader, unused1), FIELD(SegmentHeader, successor),
       FIELD(SegmentHeader, awaited_until_ms), FIELD(SegmentHeader, watched), FIELD(SegmentHeader, unused3),
       FIELD(SegmentHeader, registry_mutex), FIELD(SegmentHeader, retired), FIELD(SegmentHeader, dead_processes),
       FIELD(SegmentHeader, slots_in_use), FIELD(SegmentHeader, pin_chunks_in_use), FIELD(SegmentHeader, view_copies),
       FIELD(SegmentHeader, unused2)}}},
    {"ProcessCounters",
     {sizeof(ProcessCounters),
      {FIELD(ProcessCounters, hits), FIELD(ProcessCounters, misses), FIELD(ProcessCounters, puts)}}},
    {"ProcessSlot",
     {sizeof(ProcessSlot),
      {FIELD(ProcessSlot, pid), FIELD(ProcessSlot, generation), FIELD(ProcessSlot, start_time),
       FIELD(ProcessSlot, pins_used), FIELD(ProcessSlot, pin_chunk), FIELD(ProcessSlot, pins),
       FIELD(ProcessSlot, unused2), FIELD(ProcessSlot, counters), FIELD(ProcessSlot, image),
       FIELD(ProcessSlot, waiters), FIELD(ProcessSlot, unused3)}}},
    {"PinChunk",
     {sizeof(PinChunk),
      {FIELD(PinChunk, owner), FIELD(PinChunk, taken), FIELD(PinChunk, unused), FIELD(PinChunk, pins)}}},
    {"WatchHead",
     {sizeof(WatchHead),
      {FIELD(WatchHead, events), FIELD(WatchHead, unused1), FIELD(WatchHead, changes_of_all),
       FIELD(WatchHead, unused2)}}},
    {"WatchRing",
     {sizeof(WatchRing), {FIELD(WatchRing, reserved), FIELD(WatchRing, written), FIELD(WatchRing, unused)}}},
    {"LimitHead", {sizeof(LimitHead), {FIELD(LimitHead, mover), FIELD(LimitHead, is_used), FIELD(LimitHead, unused)}}},
    {"TraceRecord",
     {sizeof(TraceRecord),
      {FIELD(TraceRecord, hash), FIELD(TraceRecord, what), FIELD(TraceRecord, size), FIELD(TraceRecord, seal)}}},
    {"TraceRing", {sizeof(TraceRing), {FIELD(TraceRing, next), FIELD(TraceRing, unused), FIELD(TraceRing, records)}}},
    {"RateBucket", {sizeof(RateBucket), {FIELD(RateBucket, limits), FIELD(RateBucket, notes)}}},
    {"RateLimit", {sizeof(RateLimit), {FIELD(RateLimit, due), FIELD(RateLimit, key)}}},
    {"RateNote",
     {sizeof(RateNote),
      {FIELD(RateNote, reset_due), FIELD(RateNote, interval_ns), FIELD(RateNote, burst), FIELD(RateNote, label)}}},
    {"HoldingStripe",
     {sizeof(HoldingStripe),
      {FIELD(HoldingStripe, events), FIELD(HoldingStripe, has_waiters), FIELD(HoldingStripe, unused),
       FIELD(HoldingStripe, holdings), FIELD(HoldingStripe, notes)}}},
    {"Holding", {sizeof(Holding), {FIELD(Holding, holder), FIELD(Holding, name)}}},
    {"HoldingNote",
     {sizeof(HoldingNote),
      {FIELD(HoldingNote, permits), FIELD(HoldingNote, since_ms), FIELD(HoldingNote, label),
       FIELD(HoldingNote, unused)}}},
    {"SegmentMetrics",
     {sizeof(SegmentMetrics),
      {FIELD(SegmentMetrics, sample_shift), FIELD(SegmentMetrics, generation),
       FIELD(SegmentMetrics, sampled_references), FIELD(SegmentMetrics, references),
       FIELD(SegmentMetrics, first_references), FIELD(SegmentMetrics, places), FIELD(SegmentMetrics, more_places),
       FIELD(SegmentMetrics, hot_notes), FIELD(SegmentMetrics, trace_until_ms),
       FIELD(SegmentMetrics, keys_of_generation), FIELD(SegmentMetrics, distances), FIELD(SegmentMetrics, hot)}}},
    {"HotEntry", {sizeof(HotEntry), {FIELD(HotEntry, name), FIELD(HotEntry, weight)}}},
    {"ShardMetrics",
     {sizeof(ShardMetrics),
      {FIELD(ShardMetrics, removals), FIELD(ShardMetrics, lock_waits), FIELD(ShardMetrics, lock_wait_ns),
       FIELD(ShardMetrics, longest_wait_ns), FIELD(ShardMetrics, lock_timeouts), FIELD(ShardMetrics, recovery_ns),
       FIELD(ShardMetrics, longest_recovery_ns), FIELD(ShardMetrics, slow_reads), FIELD(ShardMetrics, read_retries),
       FIELD(ShardMetrics, evicted_age_ms), FIELD(ShardMetrics, evicted_idle_ms)}}},
    {"ProcessMetrics",
     {sizeof(ProcessMetrics),
      {FIELD(ProcessMetrics, get_ns), FIELD(ProcessMetrics, set_ns), FIELD(ProcessMetrics, outcomes),
       FIELD(ProcessMetrics, unused)}}},
    {"NearMaster",
     {sizeof(NearMaster),
      {FIELD(NearMaster, heard_ms), FIELD(NearMaster, epoch), FIELD(NearMaster, subscriptions), FIELD(NearMaster, name),
       FIELD(NearMaster, invalidations), FIELD(NearMaster, advances), FIELD(NearMaster, agent),
       FIELD(NearMaster, agent_ms), FIELD(NearMaster, unused1)}}},
    {"WaitWords", {sizeof(WaitWords), {FIELD(WaitWords, words)}}},
    {"NearTable",
     {sizeof(NearTable),
      {FIELD(NearTable, epochs), FIELD(NearTable, unused), FIELD(NearTable, masters), FIELD(NearTable, counters),
       FIELD(NearTable, counts), FIELD(NearTable, labels)}}},
    {"NearCounts",
     {sizeof(NearCounts),
      {FIELD(NearCounts, hits), FIELD(NearCounts, fetches), FIELD(NearCounts, fills), FIELD(NearCounts, conflicts),
       FIELD(NearCounts, merged), FIELD(NearCounts, bypasses), FIELD(NearCounts, stale), FIELD(NearCounts, errors)}}},
    {"NearLabel", {sizeof(NearLabel), {FIELD(NearLabel, words)}}},
    {"RedoRecord",
     {sizeof(RedoRecord),
      {FIELD(RedoRecord, ref), FIELD(RedoRecord, entry), FIELD(RedoRecord, shard), FIELD(RedoRecord, block),
       FIELD(RedoRecord, extras), FIELD(RedoRecord, unused), FIELD(RedoRecord, value)}}},
    {"ThreadSlot",
     {sizeof(ThreadSlot), {FIELD(ThreadSlot, mutex), FIELD(ThreadSlot, hold), FIELD(ThreadSlot, unused)}}},
    {"ShardHeader",
     {sizeof(ShardHeader),
      {FIELD(ShardHeader, seq), FIELD(ShardHeader, cells), FIELD(ShardHeader, index), FIELD(ShardHeader, unused0),
       FIELD(ShardHeader, write_mutex), FIELD(ShardHeader, epoch), FIELD(ShardHeader, wait),
       FIELD(ShardHeader, needs_recovery), FIELD(ShardHeader, redo), FIELD(ShardHeader, announced),
       FIELD(ShardHeader, rw), FIELD(ShardHeader, lease_events), FIELD(ShardHeader, unused2), FIELD(ShardHeader, space),
       FIELD(ShardHeader, counters), FIELD(ShardHeader, free_lists), FIELD(ShardHeader, leases),
       FIELD(ShardHeader, lease_changes)}}},
    {"ShardSpace", {sizeof(ShardSpace), {FIELD(ShardSpace, max_memory),       FIELD(ShardSpace, used_memory),
                                         FIELD(ShardSpace, pinned_memory),    FIELD(ShardSpace, key_memory),
                                         FIELD(ShardSpace, value_memory),     FIELD(ShardSpace, free_memory),
                                         FIELD(ShardSpace, table_committed),  FIELD(ShardSpace, heap_committed),
                                         FIELD(ShardSpace, commit_retry_ms),  FIELD(ShardSpace, table_cells),
                                         FIELD(ShardSpace, heap_begin),       FIELD(ShardSpace, heap_end),
                                         FIELD(ShardSpace, entries),          FIELD(ShardSpace, free_entry),
                                         FIELD(ShardSpace, reclaim_hand),     FIELD(ShardSpace, leases),
                                         FIELD(ShardSpace, small_hand),       FIELD(ShardSpace, small_memory),
                                         FIELD(ShardSpace, small_target),     FIELD(ShardSpace, main_hand),
                                         FIELD(ShardSpace, small_left),       FIELD(ShardSpace, small_drops),
                                         FIELD(ShardSpace, small_returns),    FIELD(ShardSpace, main_drops),
                                         FIELD(ShardSpace, main_returns),     FIELD(ShardSpace, small_read),
                                         FIELD(ShardSpace, main_debt),        FIELD(ShardSpace, asks),
                                         FIELD(ShardSpace, retired_hand),     FIELD(ShardSpace, retired),
                                         FIELD(ShardSpace, main_looks),       FIELD(ShardSpace, main_reads),
                                         FIELD(ShardSpace, usual_reads),      FIELD(ShardSpace, idle_sweeps),
                                         FIELD(ShardSpace, most_idle_sweeps), FIELD(ShardSpace, main_is_stale)}}},
    {"Lease", {sizeof(Lease), {FIELD(Lease, owner), FIELD(Lease, hash), FIELD(Lease, token), FIELD(Lease, until_ms)}}},
    {"ShardCounters",
     {sizeof(ShardCounters),
      {FIELD(ShardCounters, deletes), FIELD(ShardCounters, evictions), FIELD(ShardCounters, expirations),
       FIELD(ShardCounters, recoveries), FIELD(ShardCounters, damaged), FIELD(ShardCounters, commit_failures)}}},
    {"FreeLists",
     {sizeof(FreeLists),
      {FIELD(FreeLists, level_bitmap), FIELD(FreeLists, bin_bitmap), FIELD(FreeLists, unused),
       FIELD(FreeLists, heads)}}},
    {"Cell", {sizeof(Cell), {FIELD(Cell, bucket), FIELD(Cell, entries)}}},
    {"Bucket",
     {sizeof(Bucket),
      {FIELD(Bucket, version), FIELD(Bucket, overflow), FIELD(Bucket, tags), FIELD(Bucket, slots),
       FIELD(Bucket, eviction), FIELD(Bucket, hints)}}},
    {"Entry",
     {sizeof(Entry),
      {FIELD(Entry, ref), FIELD(Entry, hash), FIELD(Entry, next), FIELD(Entry, last_access_ms),
       FIELD(Entry, access_count), FIELD(Entry, policy)}}},
    {"BlockHeader", {sizeof(BlockHeader), {FIELD(BlockHeader, shape), FIELD(BlockHeader, owner)}}},
    {"BlockExtras", {sizeof(BlockExtras), {FIELD(BlockExtras, expires_ms), FIELD(BlockExtras, caller_flags)}}},
};

// Headings of the form "### `Name`, N bytes", each followed by rows of the form "| offset | size | `name` | ... |".
std::map<std::string, Layout> documented() {
  std::ifstream file(MEMSTREAM_SOURCE_DIR "/docs/layout.md");
  REQUIRE(file.is_open());
  const std::regex heading("### `([A-Za-z]+)`, ([0-9]+) bytes");
  const std::regex row(R"(\| ([0-9]+) \| ([0-9]+) \| `([a-z_0-9]+)` \|.*\|)");
  std::map<std::string, Layout> layouts;
  Layout* current = nullptr;
  std::smatch match;
  for (std::string line; std::getline(file, line);) {
    if (std::regex_match(line, match, heading)) {
      current = &layouts[match[1]];
      current->size = std::stoul(match[2]);
    } else if (line.starts_with('#')) {
      current = nullptr;
    } else if (current != nullptr && std::regex_match(line, match, row)) {
      current->fields.push_back({match[3], std::stoul(match[1]), std::stoul(match[2])});
    }
  }
  return layouts;
}

TEST_CASE("the tables of docs/layout.md say what the compiler does") {
  const std::map<std::string, Layout> tables = documented();
  CHECK(tables.size() == kCompiled.size());
  for (const auto& compiled : kCompiled) {
    const std::string& name = compiled.first;
    const Layout& layout = compiled.second;
    CAPTURE(name);
    REQUIRE(tables.contains(name));
    const Layout& table = tables.at(name);
    CHECK(table.size == layout.size);
    REQUIRE(table.fields.size() == layout.fields.size());
    for (std::size_t i = 0; i < layout.fields.size(); ++i) CHECK(table.fields[i] == layout.fields[i]);
  }
}

// So that no field can be missing from the list above, and no byte of a struct from the document.
TEST_CASE("the fields of every struct lie one behind the other without a hole") {
  for (const auto& compiled : kCompiled) {
    const Layout& layout = compiled.second;
    CAPTURE(compiled.first);
    std::size_t end = 0;
    for (const Field& field : layout.fields) {
      CAPTURE(field.name);
      CHECK(field.offset == end);
      end = field.offset + field.size;
    }
    CHECK(end == layout.size);
  }
}

TEST_CASE("the words of an entry and of a block come apart as they were put together") {
  const std::uint64_t live = ref_live(0, BlockPosition{0x1234'5678});
  CHECK(ref_is_live(live));
  CHECK(ref_block(live) == 0x1234'5678);
  CHECK_FALSE(ref_is_live(ref_empty(live)));
  CHECK(ref_block(ref_empty(live)) == 0);
  CHECK(ref_next_generation(live) == 2);
  // The generation has 30 bits and wraps without touching the live bit.
  const std::uint64_t last = ref_empty((kGenerationMask - 1) << 32);
  CHECK((last >> 32) == kGenerationMask);
  CHECK(ref_live(last, BlockPosition{7}) == (kLiveBit | 7));
  CHECK(ref_empty(kLiveBit | last) == 0);

  const BlockShape shape{.size_units = 0xfedc'ba98, .flags = 0x2a87, .slack = 0x65, .key_size = 0x421};
  const BlockShape again = BlockShape::unpack(shape.pack());
  CHECK(again.size_units == shape.size_units);
  CHECK(again.flags == shape.flags);
  CHECK(again.slack == shape.slack);
  CHECK(again.key_size == shape.key_size);

  // When a value was written stands in two words, beside what else they hold.
  for (const std::uint64_t created : {std::uint64_t{0}, std::uint64_t{0x1'2345'6789}, kLastCreatedMs}) {
    const std::uint64_t owner = owner_word(EntryId{0xfedc'ba98}, created);
    CHECK(owner_entry(owner) == 0xfedc'ba98);
    const std::uint32_t flags = created_flags(created) | kBlockUsed | kMaxMoves << kMovesShift;
    CHECK(created_of(owner, BlockShape::unpack(BlockShape{.flags = flags}.pack()).flags) == created);
    CHECK(BlockShape{.flags = flags}.moves() == kMaxMoves);
  }
  CHECK(created_of(owner_word(EntryId{1}, kLastCreatedMs + 1), created_flags(kLastCreatedMs + 1)) == kLastCreatedMs);

  CHECK(policy_tag(policy_word(0xabcd) | kHits | kExpires | kSeen | kSmall | kMain | kYoung) == 0xabcd);
}

}  // namespace
}  // namespace memstream::test
