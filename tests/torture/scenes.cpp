#include "tests/torture/scenes.h"

#include <array>
#include <chrono>
#include <functional>
#include <thread>

#include "tests/torture/process.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

void fill_entries(Scene& scene) {
  const cache_stats_t statistics = scene.cache.statistics();
  for (std::uint64_t i = statistics.entries; i < statistics.entry_capacity; ++i) {
    scene.cache.put("entry-" + std::to_string(i), "small");
  }
}

// Kills a child in the middle of `operation`, at an instruction after which `is_wreck` says that the scene is as it
// should be, and leaves the cache so. What `is_wreck` does to the cache is undone.
void kill_in(Scene& scene, const Action& operation, const std::function<bool()>& is_wreck) {
  const auto begin = [&] { enter(scene); };
  const auto run = [&] { operation(scene); };
  const std::vector<std::byte> alive = scene.bytes.copy();
  const Route route(trace_of(begin, run));
  const std::size_t step = 1 + route.instructions() / 1000;
  for (std::size_t instruction = route.instructions() / 3; instruction < route.instructions(); instruction += step) {
    scene.bytes.restore(alive);
    SteppedChild child(begin, run);
    child.go(route.legs(instruction));
    child.kill();
    const std::vector<std::byte> dead = scene.bytes.copy();
    const bool found = is_wreck();
    scene.bytes.restore(dead);
    if (found) return;
  }
  throw Finding("no death in the middle of the operation has the effect that this scene needs");
}

// Whether a put now moves `number`.
template <class Number>
bool a_put_moves(Scene& scene, Number number) {
  const std::uint64_t before = number();
  scene.cache.put("another key", "small");
  return number() != before;
}

// A key that is not there, and of which a get without a lock cannot tell.
std::string find_unsettled(Scene& scene) {
  std::string value;
  for (int i = 0; i < kAbsentKeys; ++i) {
    const std::string key = "absent-" + std::to_string(i);
    if (scene.looker.try_get(key, &value) == CACHE_BUSY) return key;
  }
  return {};
}

}  // namespace

std::string numbered_key(int number) { return "key-" + std::to_string(number); }

void enter(Scene& scene) {
  std::string value;
  scene.cache.get(kOldKey, &value);
}

void prepare_some(Scene& scene) {
  for (int i = 0; i < kSomeKeys; ++i) {
    scene.cache.put(numbered_key(i), make_value(numbered_key(i), 1, static_cast<std::size_t>(i * i)));
  }
  scene.cache.put(kCounterKey, "41");
  scene.cache.put(kLargeKey, make_value(kLargeKey, 1, kLargeSize));
}

void prepare_hole(Scene& scene) {
  prepare_some(scene);
  scene.cache.remove(numbered_key(kSomeKeys / 2));
  scene.cache.remove(numbered_key(kSomeKeys - 1));
}

void prepare_full(Scene& scene) {
  for (int i = 100; scene.cache.statistics().evictions < 8; ++i) {
    scene.cache.put(numbered_key(i), make_value(numbered_key(i), 1, 3000));
  }
  scene.cache.put(kOldKey, make_value(kOldKey, 1, 3000));
}

namespace {

std::uint64_t bytes_in_use(Scene& scene) {
  const cache_stats_t stats = scene.cache.statistics();
  return stats.used_memory + stats.table_memory;
}

// Makes the table as large as it gets, and leaves few entries.
void enlarge_table(Scene& scene) {
  require(memstream_clear(scene.cache.handle()), "memstream_clear");
  const auto key = [](int number) { return "tiny-" + std::to_string(number); };
  int tiny = 0;
  const std::uint64_t before = scene.cache.statistics().evictions;
  while (scene.cache.statistics().evictions == before) scene.cache.put(key(tiny++), "t");
  require(memstream_clear(scene.cache.handle()), "memstream_clear");
  scene.cache.put(kOldKey, make_value(kOldKey, 1, 300));
}

// Puts values until `is_enough()`.
template <class IsEnough>
void put_until(Scene& scene, const IsEnough& is_enough) {
  for (int i = 100; !is_enough(); ++i) scene.cache.put(numbered_key(i), make_value(numbered_key(i), 1, 3000));
}

}  // namespace

void prepare_large_table(Scene& scene) {
  // Once to see how full the cache is when the table shrinks; and then up to there.
  enlarge_table(scene);
  const std::uint64_t table_bytes = scene.cache.statistics().table_memory;
  const auto has_shrunk = [&] { return scene.cache.statistics().table_memory < table_bytes; };
  std::uint64_t most_bytes = 0;
  put_until(scene, [&] {
    if (has_shrunk()) return true;
    most_bytes = bytes_in_use(scene);
    return false;
  });
  do {
    enlarge_table(scene);
    put_until(scene, [&] { return bytes_in_use(scene) >= most_bytes || has_shrunk(); });
  } while (has_shrunk());
}

void prepare_full_table(Scene& scene) {
  prepare_some(scene);
  fill_entries(scene);
}

void prepare_full_cells(Scene& scene) {
  prepare_full_table(scene);
  scene.cache.put("the key that makes the table grow", "small");
  fill_entries(scene);
}

void prepare_expired(Scene& scene) {
  prepare_some(scene);
  scene.cache.put(kNewKey, make_value(kNewKey, 1, 100), 1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

memstream_tags_t& tags_of_scene() {
  static memstream_tags_t tags;
  return tags;
}

void prepare_tagged(Scene& scene) {
  prepare_some(scene);
  memstream_t* const cache = scene.cache.handle();
  tags_of_scene() = {};
  require(memstream_tag(cache, kTag.data(), kTag.size(), &tags_of_scene()), "memstream_tag");
  const std::string value = make_value(kTaggedKey, 1, 120);
  require(memstream_store_tagged(cache, kTaggedKey.data(), kTaggedKey.size(), value.data(), value.size(), 0, 0,
                                 MEMSTREAM_SET, 0, &tags_of_scene()),
          "memstream_store_tagged");
}

void prepare_dead_writer(Scene& scene) {
  prepare_some(scene);
  kill_in(
      scene, [value = make_value(kOldKey, 1, 300)](Scene& s) { s.cache.put(kOldKey, value); },
      [&] { return a_put_moves(scene, [&] { return scene.bytes.shard().counters.recoveries; }); });
}

void prepare_dead_linker(Scene& scene) {
  prepare_full_cells(scene);
  kill_in(
      scene, [](Scene& s) { s.cache.put("key that splits a bucket", "small"); },
      [&] {
        scene.unsettled_key = find_unsettled(scene);
        return !scene.unsettled_key.empty();
      });
}

void prepare_dead_overwriter(Scene& scene) {
  prepare_some(scene);
  kill_in(
      scene, [value = make_value(kOldKey, 2, 49)](Scene& s) { s.cache.put(kOldKey, value); },
      [&] { return scene.bytes.is_overwriting(); });
}

void prepare_dead_recoverer(Scene& scene) {
  prepare_dead_writer(scene);
  kill_in(
      scene, [](Scene& s) { s.cache.put("another key", "small"); },
      [&] { return scene.bytes.shard().seq.load() % 2 == 1; });
}

void prepare_dead_holder(Scene& scene) {
  prepare_some(scene);
  Process holder([&] {
    memstream_view_t view;
    memstream_reservation_t room;
    memstream_t* cache = scene.cache.handle();
    require(memstream_view(cache, kOldKey.data(), kOldKey.size(), &view), "memstream_view");
    require(memstream_reserve(cache, kNewKey.data(), kNewKey.size(), 500, &room), "memstream_reserve");
  });
  if (!holder.wait()) throw Finding("the holder of a view was killed by somebody else");
}

void prepare_dead_reader(Scene& scene) {
  prepare_some(scene);
  const auto scan_some = [](Scene& s) {
    static std::array<memstream_entry_t, 32> entries;
    std::uint64_t cursor = 0;
    std::size_t count = 0;
    require(memstream_scan(s.cache.handle(), &cursor, entries.data(), entries.size(), &count), "memstream_scan");
  };
  kill_in(scene, scan_some, [&] { return a_put_moves(scene, [&] { return scene.bytes.shard().epoch.load(); }); });
}

}  // namespace memstream::torture
