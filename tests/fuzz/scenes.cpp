// Segments as real calls leave them: what the damage is done to.
#include <thread>

#include "core/base/robust_mutex.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "core/shard/index.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/records.h"

namespace memstream::fuzz {
namespace {

constexpr long kTimeoutMs = 1000;
constexpr std::uint32_t kDeadPid = 0x3fff'fff0;  // Above every pid that a kernel gives.
constexpr std::size_t kTwoShards = std::size_t{1280} << 10;

ShardHeader& shard_header(std::byte* image, const Geometry& geometry, std::uint32_t shard) {
  return *reinterpret_cast<ShardHeader*>(image + geometry.shard_offset(shard));
}

Geometry geometry_of(const std::byte* image) {
  const SegmentIdentity& identity = reinterpret_cast<const SegmentHeader*>(image)->identity;
  return geometry_of(identity);
}

std::vector<std::uint32_t> blocks_of(std::byte* image, const Geometry& geometry, std::uint32_t shard) {
  ShardHeader& header = shard_header(image, geometry, shard);
  std::vector<std::uint32_t> positions;
  for (std::uint32_t position = header.space.heap_begin; position < header.space.heap_end;) {
    positions.push_back(position);
    const auto* block =
        reinterpret_cast<BlockHeader*>(reinterpret_cast<std::byte*>(&header) + std::size_t{position} * kUnitSize);
    position += BlockShape::unpack(block->shape).size_units;
  }
  return positions;
}

// One scene in the making: a cache in the image, filled through the C interface.
class Stage {
 public:
  explicit Stage(const char* name, std::size_t size_bytes = kMinSegmentSize, unsigned shards = 1) {
    Image::instance().clear(size_bytes);
    Image::instance().refuse_commits(false);
    cache_ = std::make_unique<OpenImage>(0U, kTimeoutMs, size_bytes, shards);
    MUST(cache_->get() != nullptr, cache_last_error());
    scene_.name = name;
    scene_.geometry = geometry_of(image());
  }

  memstream_t* cache() const { return cache_->get(); }
  std::byte* image() const { return Image::instance().data(); }
  ShardHeader& shard(std::uint32_t index = 0) const { return shard_header(image(), scene_.geometry, index); }
  const RedoRecord& redo_record(std::uint32_t index) const {
    return reinterpret_cast<const RedoRecord*>(image() + scene_.geometry.redo_records_offset())[index];
  }
  ProcessSlot& process_slot(std::uint32_t index) const {
    return reinterpret_cast<ProcessSlot*>(image() + scene_.geometry.process_slots_offset)[index];
  }

  void set(const std::string& key, std::size_t value_size, std::uint64_t ttl_ms = 0) {
    const std::string value(value_size, static_cast<char>('a' + value_size % 23));
    const int status = memstream_set(cache(), key.data(), key.size(), value.data(), value.size(), ttl_ms, 17);
    MUST(status == CACHE_OK, cache_last_error());
    if (scene_.keys.size() < 24) scene_.keys.push_back(key);
  }
  void remove(const std::string& key) { memstream_delete(cache(), key.data(), key.size()); }

  // What is in the image now is the scene.
  Scene take() {
    scene_.keys.emplace_back("absent");
    scene_.bytes.assign(image(), image() + Image::instance().size_bytes());
    for (std::uint32_t index = 0; index < scene_.geometry.shards; ++index) {
      scene_.blocks.push_back(blocks_of(image(), scene_.geometry, index));
    }
    return scene_;
  }

 private:
  Scene scene_;
  std::unique_ptr<OpenImage> cache_;
};

std::string numbered(const char* stem, int number) { return stem + std::to_string(number); }

void fill_some(Stage& stage, int keys) {
  for (int i = 0; i < keys; ++i) stage.set(numbered("key-", i), static_cast<std::size_t>(i) * 37 % 300);
  const std::string number = "41";
  memstream_set(stage.cache(), "number", 6, number.data(), number.size(), 0, 0);
}

void make_holes(Stage& stage) {
  for (int i = 0; i < 40; i += 3) stage.remove(numbered("key-", i));
}

// Keys of one bucket, whatever the number of cells is up to 256.
void fill_one_bucket(Stage& stage, int keys) {
  const SegmentIdentity& identity = reinterpret_cast<const SegmentHeader*>(stage.image())->identity;
  for (int number = 0, found = 0; found < keys; ++number) {
    const std::string key = numbered("c", number);
    if ((hash_key(key, identity.hash_seed).bucket_bits() & 0xff) != 5) continue;
    stage.set(key, 20);
    ++found;
  }
}

// A writer that died with the lock in its hands and a change half done.
void die_in_the_middle(Stage& stage) {
  ShardHeader& shard = stage.shard();
  std::thread([&] {
    MUST(robust_mutex_try_lock(&shard.write_mutex) == LockOutcome::kAcquired, "the lock is taken");
  }).join();
  Index::bucket(&shard, 3).version.fetch_or(1);
  shard.seq.fetch_or(1);
  shard.space.used_memory += 64;
  shard.space.free_entry = 0;
}

// One that had committed a value over another, and had copied nothing of it.
void die_overwriting(Stage& stage) {
  stage.set("key-5", 5 * 37);
  const RedoRecord& record = stage.redo_record(0);
  Entry& entry = Index::entry_unchecked(&stage.shard(), EntryId{record.entry});
  MUST(entry.ref == ref_finished(record.ref), "the last put overwrote nothing");
  entry.ref = record.ref.load();
  stage.shard().redo = 1;
  stage.shard().wait = 1;
  std::thread([&] {
    MUST(robust_mutex_try_lock(&stage.shard().write_mutex) == LockOutcome::kAcquired, "the lock is taken");
  }).join();
}

using Direct = void (*)(Stage& stage);
Scene made(const char* name, Direct direct) {
  Stage stage(name);
  direct(stage);
  return stage.take();
}

// A view of a value that was replaced, one of a value that was deleted, one that lives, and a reservation.
Scene make_pins(const char* name, bool of_the_dead) {
  Stage stage(name);
  fill_some(stage, 30);
  memstream_view_t replaced{}, deleted{}, live{};
  memstream_reservation_t reserved{};
  MUST(memstream_view(stage.cache(), "key-1", 5, &replaced) == CACHE_OK, cache_last_error());
  MUST(memstream_view(stage.cache(), "key-2", 5, &deleted) == CACHE_OK, cache_last_error());
  MUST(memstream_view(stage.cache(), "key-3", 5, &live) == CACHE_OK, cache_last_error());
  MUST(memstream_reserve(stage.cache(), "reserved", 8, 5000, &reserved) == CACHE_OK, cache_last_error());
  stage.set("key-1", 90);
  stage.remove("key-2");
  if (of_the_dead) stage.process_slot(0).pid = kDeadPid;
  return stage.take();
}

std::vector<Scene> make_scenes() {
  std::vector<Scene> all;
  all.push_back(made("empty", [](Stage&) {}));
  all.push_back(made("some keys", [](Stage& stage) { fill_some(stage, 30); }));
  all.push_back(made("holes", [](Stage& stage) {
    fill_some(stage, 60);
    make_holes(stage);
  }));
  all.push_back(made("full", [](Stage& stage) {
    for (int i = 0; i < 2500; ++i) stage.set(numbered("key-", i % 2400), static_cast<std::size_t>(i) % 9 * 100);
    stage.set("large", 200'000);
  }));
  all.push_back(made("times to live", [](Stage& stage) {
    for (int i = 0; i < 40; ++i) stage.set(numbered("key-", i), 50, i % 2 == 0 ? 1 : 3'600'000);
  }));
  all.push_back(make_pins("pins", false));
  all.push_back(make_pins("pins of the dead", true));
  all.push_back(made("a writer that died", [](Stage& stage) {
    fill_some(stage, 50);
    make_holes(stage);
    die_in_the_middle(stage);
  }));
  all.push_back(made("an overflow chain", [](Stage& stage) { fill_one_bucket(stage, 40); }));
  all.push_back(made("large values", [](Stage& stage) {
    for (int i = 0; i < 8; ++i) stage.set(numbered("key-", i), 40'000 + static_cast<std::size_t>(i) * 9'000);
  }));
  all.push_back(made("a grown table", [](Stage& stage) {
    for (int i = 0; i < 1200; ++i) stage.set(numbered("k", i), 3);
  }));
  Stage two("two shards", kTwoShards, 2);
  fill_some(two, 60);
  make_holes(two);
  all.push_back(two.take());
  all.push_back(made("a writer that died overwriting", [](Stage& stage) {
    fill_some(stage, 30);
    die_overwriting(stage);
  }));
  return all;
}

}  // namespace

const std::vector<Scene>& scenes() {
  static const std::vector<Scene>& all = *new std::vector<Scene>(make_scenes());
  return all;
}

}  // namespace memstream::fuzz
