// The states of a cache that operations begin in.
#pragma once

#include "api/memstream_tags.h"
#include "tests/torture/operations.h"

namespace memstream::torture {

inline constexpr std::string_view kOldKey = "key-7";      // There in every scene.
inline constexpr std::string_view kNewKey = "a new key";  // Not there, or expired.
inline constexpr std::string_view kCounterKey = "counter";
inline constexpr std::string_view kLargeKey = "large";
inline constexpr std::string_view kTaggedKey = "tagged";
inline constexpr std::string_view kTag = "tag";
inline constexpr int kSomeKeys = 40;     // "key-0" to "key-39".
inline constexpr int kAbsentKeys = 200;  // "absent-0" ...: in every bucket there is one to look for.
inline constexpr std::size_t kLargeSize = std::size_t{40} << 10;  // Read and written in place, outside every lock.

std::string numbered_key(int number);

// Enters a forked child into the process table, as its first call would.
void enter(Scene& scene);

// Values of many sizes, a counter and a large value.
void prepare_some(Scene& scene);
// The same, with free blocks between others that are larger than a value needs.
void prepare_hole(Scene& scene);
// Every byte is in use, and the cache has begun to evict.
void prepare_full(Scene& scene);
// The table is far larger than its few entries need, and the next put gives the rest of it back.
void prepare_large_table(Scene& scene);
// The next new key needs a larger table ...
void prepare_full_table(Scene& scene);
// ... or a cell that the table has.
void prepare_full_cells(Scene& scene);
// kNewKey is there, and its time has come.
void prepare_expired(Scene& scene);
// kTaggedKey is there too, with kTag, which tags_of_scene() has as it is then.
void prepare_tagged(Scene& scene);
memstream_tags_t& tags_of_scene();
// The lock has a dead holder, who was killed in the middle of a put.
void prepare_dead_writer(Scene& scene);
// The same, and gets that take no lock meet its half-done change.
void prepare_dead_linker(Scene& scene);
// The same, who was killed while it overwrote the value of kOldKey in its block.
void prepare_dead_overwriter(Scene& scene);
// The lock has a dead holder, who was killed in the middle of the recovery after another's death.
void prepare_dead_recoverer(Scene& scene);
// A process that held a view and a reservation was killed.
void prepare_dead_holder(Scene& scene);
// The count of a slow reader who was killed stands in the rwlock.
void prepare_dead_reader(Scene& scene);

}  // namespace memstream::torture
