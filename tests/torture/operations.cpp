#include "tests/torture/operations.h"

#include <algorithm>
#include <array>
#include <utility>

#include "tests/torture/scenes.h"

namespace memstream::torture {
namespace {

// ---- what is stepped; values are made beforehand, so that the library's instructions are most of it ----

Action put(std::string_view key, std::size_t size_bytes) {
  return [key, value = make_value(key, 2, size_bytes)](Scene& scene) { scene.cache.put(key, value); };
}

// With an expiry and flags, for which the block of a small value without them has no room.
Action put_with_extras(std::string_view key, std::size_t size_bytes) {
  return [key, value = make_value(key, 2, size_bytes)](Scene& scene) {
    require(memstream_set(scene.cache.handle(), key.data(), key.size(), value.data(), value.size(), 3'600'000, 7),
            "memstream_set");
  };
}

// With the tag that kTaggedKey has too. The set was made by take_tags().
Action put_tagged(std::string_view key, std::size_t size_bytes) {
  return [key, value = make_value(key, 2, size_bytes)](Scene& scene) {
    require(memstream_store_tagged(scene.cache.handle(), key.data(), key.size(), value.data(), value.size(), 0, 0,
                                   MEMSTREAM_SET, 0, &tags_of_scene()),
            "memstream_store_tagged");
  };
}

void invalidate(Scene& scene) {
  require(memstream_invalidate(scene.cache.handle(), kTag.data(), kTag.size()), "memstream_invalidate");
}

Action get(std::string_view key) {
  return [key](Scene& scene) {
    static std::string value;
    scene.cache.get(key, &value);
  };
}

// A key of the scene's own choice.
void get_unsettled(Scene& scene) {
  static std::string value;
  scene.cache.get(scene.unsettled_key, &value);
}

Action add(std::string_view key) {
  return [key, value = make_value(key, 2, 300)](Scene& scene) {
    require(memstream_add(scene.cache.handle(), key.data(), key.size(), value.data(), value.size(), 0, 0),
            "memstream_add");
  };
}

Action replace(std::string_view key) {
  return [key, value = make_value(key, 2, 300)](Scene& scene) {
    require(memstream_replace(scene.cache.handle(), key.data(), key.size(), value.data(), value.size(), 0, 0),
            "memstream_replace");
  };
}

Action remove(std::string_view key) {
  return [key](Scene& scene) { scene.cache.remove(key); };
}

Action touch(std::string_view key) {
  return [key](Scene& scene) {
    require(memstream_touch(scene.cache.handle(), key.data(), key.size(), 3'600'000), "memstream_touch");
  };
}

void get_and_touch(Scene& scene) {
  char value[1024];
  std::size_t size = sizeof value;
  require(
      memstream_get_and_touch(scene.cache.handle(), kOldKey.data(), kOldKey.size(), 3'600'000, value, &size, nullptr),
      "memstream_get_and_touch");
}

void view_then(Scene& scene, const Action& meanwhile) {
  memstream_view_t view;
  const int status =
      require(memstream_view(scene.cache.handle(), kOldKey.data(), kOldKey.size(), &view), "memstream_view");
  if (status == CACHE_MISS) return;  // A live peer has deleted it.
  meanwhile(scene);
  require(memstream_release(scene.cache.handle(), &view), "memstream_release");
}

void no_more(Scene&) {}

void reserve_then(Scene& scene, int (*end)(memstream_t*, memstream_reservation_t*)) {
  memstream_reservation_t room;
  require(memstream_reserve(scene.cache.handle(), kOldKey.data(), kOldKey.size(), 500, &room), "memstream_reserve");
  std::fill_n(static_cast<char*>(room.data), room.size, 'r');
  require(end(scene.cache.handle(), &room), "the end of a reservation");
}

// Three reservations, given up: their blocks are nobody's, and freed when somebody looks.
void leave_retired(Scene& scene) {
  for (int i = 0; i < 3; ++i) reserve_then(scene, memstream_abort);
}

int commit(memstream_t* cache, memstream_reservation_t* room) { return memstream_commit(cache, room, 0, 0); }

void increment(Scene& scene) {
  require(memstream_incr(scene.cache.handle(), kCounterKey.data(), kCounterKey.size(), 1, nullptr, 0, nullptr),
          "memstream_incr");
}

memstream_meta_t meta_of_old;

void read_token(Scene& scene) {
  std::size_t size = 0;
  memstream_get(scene.cache.handle(), kOldKey.data(), kOldKey.size(), nullptr, &size, &meta_of_old);
}

void compare_and_set(Scene& scene) {
  constexpr std::string_view kValue = "compared and set";
  require(memstream_cas(scene.cache.handle(), kOldKey.data(), kOldKey.size(), kValue.data(), kValue.size(), 0, 0,
                        meta_of_old.cas),
          "memstream_cas");
}

// Sleeps for a moment, unless the other process of the scene changes the entry. What it announced holds for longer.
void wait_for_old(Scene& scene) {
  require(memstream_wait(scene.cache.handle(), kOldKey.data(), kOldKey.size(), meta_of_old.cas, 1), "memstream_wait");
}

void announce_wait(Scene& scene) {
  read_token(scene);
  wait_for_old(scene);
}

// ---- many keys at once ----

using Batch = std::array<memstream_item_t, 3>;

// A key that is there, one that is not, and one whose value is copied outside every lock.
Batch& batch_of_three() {
  static const std::string large(kLargeSize, 'b');
  static Batch batch;
  constexpr std::string_view kSmall = "in a batch";
  const std::array<std::pair<std::string_view, std::string_view>, 3> pairs = {
      {{kOldKey, kSmall}, {kNewKey, kSmall}, {kLargeKey, large}}};
  for (std::size_t i = 0; i < batch.size(); ++i) {
    batch[i] = {};
    batch[i].key = pairs[i].first.data();
    batch[i].key_size = pairs[i].first.size();
    batch[i].value = pairs[i].second.data();
    batch[i].value_size = pairs[i].second.size();
  }
  return batch;
}

void put_many(Scene& scene) {
  Batch& batch = batch_of_three();
  require(memstream_set_many(scene.cache.handle(), batch.data(), batch.size()), "memstream_set_many");
}

void get_many(Scene& scene) {
  static std::array<char, 2 * kLargeSize> room;
  Batch& batch = batch_of_three();
  std::size_t room_size = room.size();
  require(memstream_get_many(scene.cache.handle(), batch.data(), batch.size(), room.data(), &room_size),
          "memstream_get_many");
}

void remove_many(Scene& scene) {
  Batch& batch = batch_of_three();
  require(memstream_delete_many(scene.cache.handle(), batch.data(), batch.size()), "memstream_delete_many");
}

// ---- leases: whoever is killed with one leaves it to the next ----

std::uint64_t lease_of_new = 0;

void take_lease(Scene& scene) {
  require(memstream_lease(scene.cache.handle(), kNewKey.data(), kNewKey.size(), 0, 0, &lease_of_new),
          "memstream_lease");
}

void fulfil_lease(Scene& scene) {
  constexpr std::string_view kValue = "computed";
  require(memstream_lease_fulfil(scene.cache.handle(), kNewKey.data(), kNewKey.size(), kValue.data(), kValue.size(), 0,
                                 0, lease_of_new),
          "memstream_lease_fulfil");
}

void release_lease(Scene& scene) {
  require(memstream_lease_release(scene.cache.handle(), kNewKey.data(), kNewKey.size(), lease_of_new),
          "memstream_lease_release");
}

// The peer: the key is there, or its lease can be had at once, and nobody else has it.
void want_lease(Scene& scene) {
  std::uint64_t lease = 0;
  memstream_t* cache = scene.cache.handle();
  const auto ask = [&] {
    return require(memstream_lease(cache, kNewKey.data(), kNewKey.size(), 0, 0, &lease), "memstream_lease");
  };
  const int status = ask();
  if (status == CACHE_EXISTS) return;
  if (status != CACHE_OK || lease == 0) throw Finding("the lease of a dead process is not to be had");
  if (ask() != CACHE_HELD) throw Finding("a lease is granted twice");
}

void enter_with_lease(Scene& scene) {
  enter(scene);
  take_lease(scene);
}

void scan(Scene& scene) {
  static std::array<memstream_entry_t, 32> entries;
  std::uint64_t cursor = 0;
  do {
    std::size_t count = 0;
    require(memstream_scan(scene.cache.handle(), &cursor, entries.data(), entries.size(), &count), "memstream_scan");
  } while (cursor != 0);
}

void look_around(Scene& scene) {
  static std::array<memstream_process_t, 8> processes;
  std::size_t count = 0;
  require(memstream_processes(scene.cache.handle(), processes.data(), processes.size(), &count), "memstream_processes");
  scene.cache.statistics();
}

void check(Scene& scene) { scene.cache.check(); }

void clear(Scene& scene) { require(memstream_clear(scene.cache.handle()), "memstream_clear"); }

// ---- operations on handles and segments ----

// A handle of the child's own, which ends with it.
CacheUnderTest* own_handle = nullptr;

void open_this(Scene& scene) { own_handle = new CacheUnderTest(scene.place); }
void open_other(Scene& scene) { own_handle = new CacheUnderTest(scene.other_place); }
void close_own(Scene&) { own_handle->close(); }
// With a view and a reservation that are still held.
void open_and_hold(Scene& scene) {
  open_this(scene);
  static memstream_view_t view;
  static memstream_reservation_t room;
  memstream_t* cache = own_handle->handle();
  require(memstream_view(cache, kOldKey.data(), kOldKey.size(), &view), "memstream_view");
  require(memstream_reserve(cache, kNewKey.data(), kNewKey.size(), 500, &room), "memstream_reserve");
}
void destroy_own(Scene&) { require(memstream_destroy(own_handle->handle()), "memstream_destroy"); }

// Whatever was left under the other name, the next one can use it, and remove it.
void use_other_place(Scene& scene) {
  {
    CacheUnderTest cache(scene.other_place);
    cache.put(kNewKey, "value");
    std::string value;
    if (!cache.get(kNewKey, &value) || value != "value") throw Finding("a new segment does not keep what is put");
    cache.check();
  }
  destroy_named(scene.other_place);
}

Operation evicting(Operation operation) {
  operation.evicts = true;
  return operation;
}

Operation elsewhere(Operation operation) {
  operation.uses_other = true;
  return operation;
}

Operation after_a_death(Operation operation) {
  operation.finds_wreck = true;
  return operation;
}

Operation with(Effect effect, Operation operation) {
  operation.effect = effect;
  return operation;
}

}  // namespace

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"put-new", "a key that is not there", prepare_some, put(kNewKey, 300)},
      {"put-replace", "a value of the same size", prepare_some, put(kOldKey, 49)},
      {"put-replace-extras", "one with an expiry and flags, where the one before it had them", prepare_some,
       put_with_extras(kOldKey, 49), touch(kOldKey)},
      {"put-replace-long", "one that nearly fills a redo record", prepare_some, put("key-32", 32 * 32)},
      {"put-hole", "a key in a free block of which a part is left", prepare_hole, put(kNewKey, 100)},
      {"put-larger", "a larger value instead", prepare_some, put(kOldKey, 4500)},
      {"put-smaller", "a smaller value instead", prepare_some, put("key-39", 3)},
      {"put-tagged", "a key with a tag", prepare_tagged, put_tagged(kNewKey, 300)},
      {"put-tagged-replace", "a value with a tag instead of one with a tag", prepare_tagged,
       put_tagged(kTaggedKey, 120)},
      {"put-tagged-large", "a value with a tag that is filled in place", prepare_tagged,
       put_tagged(kTaggedKey, kLargeSize)},
      {"put-untagged", "a value without tags instead of one with a tag", prepare_tagged, put(kTaggedKey, 152)},
      with(Effect::kRemoves, {"invalidate", "the tag of a key", prepare_tagged, invalidate}),
      {"put-large", "a value that is filled in place", prepare_some, put(kOldKey, kLargeSize)},
      evicting({"put-evict", "a key in a full cache", prepare_full, put(kNewKey, 3000)}),
      evicting({"put-evict-window", "a large value in a full cache", prepare_full, put(kNewKey, kLargeSize)}),
      evicting({"put-shrink", "a key before which a table that is much too large shrinks", prepare_large_table,
                put(kNewKey, 3000)}),
      {"put-grow", "a key for which the table has to grow", prepare_full_table, put(kNewKey, 30)},
      {"put-split", "a key for which a bucket is split", prepare_full_cells, put(kNewKey, 30)},
      with(Effect::kSetsIfAbsent, {"add", "a key only if it is not there", prepare_some, add(kNewKey)}),
      with(Effect::kSetsIfPresent, {"replace", "a key only if it is there", prepare_some, replace(kOldKey)}),
      {"get", "without a lock", prepare_some, get("key-39")},
      after_a_death({"get-slow-miss", "of a bucket in the middle of a change that nobody finishes", prepare_dead_linker,
                     get_unsettled}),
      after_a_death({"get-overwritten", "a value that a dead process has not finished overwriting",
                     prepare_dead_overwriter, get(kOldKey), no_more}),
      after_a_death({"get-slow-hit", "in the middle of a recovery that nobody finishes", prepare_dead_recoverer,
                     get(kOldKey), no_more}),
      {"get-large", "a value that is copied in place", prepare_some, get(kLargeKey)},
      {"view-release", "read in place", prepare_some, [](Scene& s) { view_then(s, no_more); }},
      {"view-replace", "read in place and replaced meanwhile", prepare_some,
       [other = put(kOldKey, 49)](Scene& s) { view_then(s, other); }},
      {"put-viewed", "a value of the same size, where the one before it was viewed", prepare_some, put(kOldKey, 49),
       [](Scene& s) { view_then(s, no_more); }},
      {"free-retired", "what reservations have left that were given up, beneath a put that leaves another",
       prepare_some, [other = put(kOldKey, 49)](Scene& s) { view_then(s, other); }, leave_retired},
      {"reserve-commit", "written in place", prepare_some, [](Scene& s) { reserve_then(s, commit); }},
      {"reserve-abort", "room asked for and given back", prepare_some,
       [](Scene& s) { reserve_then(s, memstream_abort); }},
      with(Effect::kRemoves, {"delete", "a key that is there", prepare_some, remove(kOldKey)}),
      {"touch", "a time to live, where the value had none", prepare_some, touch(kOldKey)},
      {"touch-again", "another time to live", prepare_some, touch(kOldKey), touch(kOldKey)},
      {"get-and-touch", "read, with a time to live where the value had none", prepare_some, get_and_touch},
      with(Effect::kIncrements, {"incr", "a counter", prepare_some, increment}),
      with(Effect::kSetsIfUnchanged, {"cas", "with the right token", prepare_some, compare_and_set, read_token}),
      {"wait", "for a change that nobody makes", prepare_some, wait_for_old, read_token},
      {"put-awaited", "a value that somebody waits for", prepare_some, put(kOldKey, 300), announce_wait},
      with(Effect::kRemoves,
           {"delete-awaited", "a key that somebody waits for", prepare_some, remove(kOldKey), announce_wait}),
      {"set-many", "three keys in one batch", prepare_some, put_many},
      {"get-many", "three keys in one batch", prepare_some, get_many},
      with(Effect::kRemoves, {"delete-many", "three keys in one batch", prepare_some, remove_many}),
      {"lease", "of a key that is not there", prepare_some, take_lease, {}, want_lease},
      {"lease-fulfil", "with a value", prepare_some, fulfil_lease, enter_with_lease, want_lease},
      {"lease-release", "without a value", prepare_some, release_lease, enter_with_lease, want_lease},
      {"expire", "a key whose time has come is met and removed", prepare_expired, touch(kNewKey)},
      {"scan", "under the shared lock", prepare_some, scan},
      {"look-around", "processes and statistics", prepare_some, look_around},
      {"check", "every invariant", prepare_some, check},
      with(Effect::kRemoves, {"clear", "every key goes", prepare_some, clear}),
      {"first-use", "the first call after a fork, which enters the process table", prepare_some, get(kOldKey), no_more},
      {"connect", "to a segment that is there", prepare_some, open_this, no_more},
      after_a_death({"connect-after-dead", "where a dead process held a view and a reservation", prepare_dead_holder,
                     open_this, no_more}),
      after_a_death({"connect-overwriting", "taking over the slot of a process that died overwriting a value",
                     prepare_dead_overwriter, open_this, no_more}),
      {"disconnect", "from a segment that stays", prepare_some, close_own, open_this},
      {"disconnect-holding", "with a view and a reservation that are held", prepare_some, close_own, open_and_hold},
      elsewhere({"create", "a segment that is not there", prepare_some, open_other, no_more, use_other_place}),
      elsewhere({"destroy", "a segment", prepare_some, destroy_own, open_other, use_other_place}),
      after_a_death(
          {"recover", "after the death of a writer: the recoverer dies too", prepare_dead_writer, remove("key-8")}),
      after_a_death({"recover-overwriting", "after the death of one who overwrote a value: the recoverer dies too",
                     prepare_dead_overwriter, remove("key-8")}),
      after_a_death({"recover-again", "after the death of a recoverer: the second one dies too", prepare_dead_recoverer,
                     remove("key-8"), no_more}),
      after_a_death(
          {"pass-dead-reader", "a put past the lock that a dead reader spoilt", prepare_dead_reader, put(kOldKey, 49)}),
  };
  return all;
}

}  // namespace memstream::torture
