// An attach for writing to a damaged image whose locks are whole: calls are answered, damaged entries dropped, and
// after a recovery the segment is as good as new.
#include <fmt/format.h>

#include <random>
#include <string>
#include <vector>

#include "core/layout/layout.h"
#include "tests/fuzz/battery.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/records.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {
namespace {

constexpr long kRepairTimeoutMs = 200;

enum Option : std::uint8_t {
  kDamageUnderWay = 1,  // Changes are made between the calls; otherwise all of them before the attach.
  kNoMemory = 2,        // The system gives no memory.
  kHold = 4,            // A view and a reservation are held over everything.
};

std::string bytes_for(const Record& record) {
  const std::size_t size = record.how % 8 == 0 ? record.extra * std::size_t{4} : record.extra % 700;
  return std::string(size, static_cast<char>(record.value));
}

class Repair {
 public:
  Repair(memstream_t* cache, const Script& script) : cache_(cache), script_(script) {}

  void hold() {
    note(memstream_view(cache_, key(1).data(), key(1).size(), &view_), "view");
    note(memstream_reserve(cache_, "held", 4, 3000, &reservation_), "reserve");
  }
  void let_go() {
    if (view_.data != nullptr) {
      touch(view_.data, view_.size);
      note(memstream_release(cache_, &view_), "release");
    }
    if (reservation_.data != nullptr) {
      std::memset(reservation_.data, 'r', reservation_.size);
      note(memstream_commit(cache_, &reservation_, 0, 0), "commit");
    }
  }
  void call(const Record& record);
  void recover_and_verify();

 private:
  const std::string& key(std::size_t number) const { return script_.scene->keys[number % script_.scene->keys.size()]; }
  static void note(int status, const char* call) {
    must_be_sane(status, call);
    MUST(status != CACHE_BUSY, fmt::format("{}: nobody else is here: {}", call, cache_last_error()));
  }
  void write(const Record& record, const std::string& key);
  void write_many(const Record& record);
  void must_be_clean(const char* when);
  void verify_scan();
  void verify_fresh_keys();

  memstream_t* cache_;
  const Script& script_;
  memstream_view_t view_{};
  memstream_reservation_t reservation_{};
};

void Repair::write(const Record& record, const std::string& key) {
  const std::string value = bytes_for(record);
  const std::uint64_t ttl_ms = record.field % 4 == 0 ? record.field : 0;
  switch (record.kind % 4) {
    case 0:
      return note(memstream_add(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, 1), "add");
    case 1:
      return note(memstream_replace(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, 1), "replace");
    case 2:
      return note(memstream_cas(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, 1, record.value),
                  "cas");
    default: {
      memstream_reservation_t room{};
      const int status = memstream_reserve(cache_, key.data(), key.size(), value.size(), &room);
      note(status, "reserve");
      if (status != CACHE_OK) return;
      if (!value.empty()) std::memcpy(room.data, value.data(), value.size());
      if (record.field % 2 == 0) return note(memstream_abort(cache_, &room), "abort");
      return note(memstream_commit(cache_, &room, ttl_ms, 2), "commit");
    }
  }
}

// Set or delete, of keys that were there and of new ones.
void Repair::write_many(const Record& record) {
  const std::string value = bytes_for(record);
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < 20; ++i) {
    keys.push_back(i % 2 == 0 ? key(record.index + i) : "new-" + std::to_string((record.index + i) % 64));
  }
  std::vector<memstream_item_t> items(keys.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].key = keys[i].data();
    items[i].key_size = keys[i].size();
    items[i].value = value.data();
    items[i].value_size = value.size();
  }
  note(record.field % 4 < 2 ? memstream_set_many(cache_, items.data(), items.size())
                            : memstream_delete_many(cache_, items.data(), items.size()),
       "set_many or delete_many");
  for (const memstream_item_t& item : items) note(item.status, "set_many or delete_many, of one key");
}

void Repair::call(const Record& record) {
  const std::string own = "new-" + std::to_string(record.index % 64);
  const std::string& used = record.field % 2 == 0 ? key(record.index) : own;
  switch (record.kind / 4 % 8) {
    case 0:
    case 1: {
      const std::string value = bytes_for(record);
      return note(memstream_set(cache_, used.data(), used.size(), value.data(), value.size(), 0, 3), "set");
    }
    case 2:
      return note(memstream_delete(cache_, used.data(), used.size()), "delete");
    case 3:
      return note(memstream_touch(cache_, used.data(), used.size(), record.extra), "touch");
    case 4: {
      const std::int64_t initial = 5;
      std::int64_t result = 0;
      return note(memstream_incr(cache_, used.data(), used.size(), static_cast<std::int64_t>(record.value), &initial, 0,
                                 &result),
                  "incr");
    }
    case 5:
      return write(record, used);
    case 6:
      if (record.extra % 4 == 1) return write_many(record);
      if (record.extra % 32 == 0) return note(memstream_clear(cache_), "clear");
      [[fallthrough]];
    default:
      Reader(cache_, *script_.scene).call(record);
  }
}

void Repair::must_be_clean(const char* when) {
  std::uint64_t problems = 0;
  const int status = memstream_check(cache_, &problems);
  MUST(status == CACHE_OK, std::string(when) + ": " + cache_last_error());
}

// Every entry that is listed can be read, and there are as many as the counters say.
void Repair::verify_scan() {
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  MUST(memstream_stats(cache_, &stats) == CACHE_OK, cache_last_error());
  static auto* batch = new memstream_entry_t[64];
  std::uint64_t cursor = 0;
  std::uint64_t found = 0;
  do {
    std::size_t count = 0;
    MUST(memstream_scan(cache_, &cursor, batch, 64, &count) == CACHE_OK, cache_last_error());
    for (std::size_t i = 0; i < count; ++i) {
      memstream_entry_t entry{};
      const int status = memstream_entry_info(cache_, batch[i].key, batch[i].key_size, &entry);
      const bool may_be_gone = batch[i].expires_at_ms != 0;
      MUST(status == CACHE_OK || (may_be_gone && status == CACHE_MISS), "an entry that is listed is not there");
      if (status == CACHE_OK) MUST(entry.data_offset == batch[i].data_offset, "two entries have one key");
    }
    found += count;
  } while (cursor != 0);
  MUST(found <= stats.entries, "more entries than are counted");
}

void Repair::verify_fresh_keys() {
  std::string room(2000, '\0');
  for (int i = 0; i < 6; ++i) {
    const std::string name = "fresh-" + std::to_string(i);
    const std::string value(static_cast<std::size_t>(i) * 300, static_cast<char>('A' + i));
    const int status = memstream_set(cache_, name.data(), name.size(), value.data(), value.size(), 0, 0);
    // Pins that the damage made up may hold everything.
    MUST(status == CACHE_OK || status == CACHE_FULL || status == CACHE_NO_MEMORY, cache_last_error());
    if (status != CACHE_OK) continue;
    std::size_t size = room.size();
    MUST(memstream_get(cache_, name.data(), name.size(), room.data(), &size, nullptr) == CACHE_OK,
         "a new value is lost");
    MUST(room.substr(0, size) == value, "a new value is another one");
    if (i % 2 == 0) MUST(memstream_delete(cache_, name.data(), name.size()) == CACHE_OK, "a new value is lost");
  }
}

void Repair::recover_and_verify() {
  std::byte* image = Image::instance().data();
  const Geometry& geometry = script_.scene->geometry;
  for (std::uint32_t shard = 0; shard < geometry.shards; ++shard) {
    // As after the death of a writer.
    reinterpret_cast<ShardHeader*>(image + geometry.shard_offset(shard))->needs_recovery.store(1);
  }
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  MUST(memstream_stats(cache_, &stats) == CACHE_OK, cache_last_error());
  must_be_clean("after the recovery");
  verify_scan();
  verify_fresh_keys();
  must_be_clean("after new values");
}

}  // namespace

void run_repair(const std::uint8_t* data, std::size_t size_bytes) {
  const Script script = parse_script(data, size_bytes);
  const Scene& scene = *script.scene;
  Image& image = Image::instance();
  image.load(scene.bytes);
  image.refuse_commits((script.options & kNoMemory) != 0);
  const bool under_way = (script.options & kDamageUnderWay) != 0;
  const auto damage = [&](const Record& record) {
    if (const auto change = locate(record, scene, image.data(), Protect::kLocks)) apply(*change, image.data());
  };
  if (!under_way) {
    for (const Record& record : script.records) {
      if (!record.is_call()) damage(record);
    }
  }
  const OpenImage cache(0U, kRepairTimeoutMs);
  if (cache.get() == nullptr) {
    MUST(cache.status() == CACHE_PROCESS_TABLE_FULL, cache_last_error());
    return;
  }
  Repair repair(cache.get(), script);
  if ((script.options & kHold) != 0) repair.hold();
  for (const Record& record : script.records) {
    if (record.is_call()) {
      repair.call(record);
    } else if (under_way) {
      damage(record);
    }
  }
  repair.let_go();
  repair.recover_and_verify();
}

void seed_repair(const SeedSink& sink) {
  std::minstd_rand random(2);
  for (std::size_t i = 0; i < scenes().size(); ++i) {
    const std::string name = std::to_string(i);
    sink("scene-" + name, make_input(i, 0, {}));
    for (std::uint8_t options = 0; options < 8; ++options) {
      std::vector<Record> records;
      for (const Record& change : sample_changes(random, 12)) {
        records.push_back(change);
        records.push_back(change);
        records.back().kind = static_cast<std::uint8_t>(Record::kFirstCall + records.size() * 3 / 2);
      }
      sink("damaged-" + name + "-" + std::to_string(options), make_input(i, options, records));
    }
  }
}

}  // namespace memstream::fuzz
