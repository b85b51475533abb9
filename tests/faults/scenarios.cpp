// See scenarios.h. A call that failed may have done nothing or everything; one that succeeded has to have done what it
// says, whatever failed on the way.
#include "tests/faults/scenarios.h"

#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "api/memstream_watch.h"
#include "backends/open_segment.h"
#include "core/cache/format.h"
#include "core/layout/layout.h"
#include "core/layout/layout_watches.h"
#include "tests/support/child_process.h"
#include "tests/support/page_map.h"

namespace memstream::test {
namespace {

constexpr std::size_t kLargeSize = 100 << 10;  // Goes through a reservation, and is read through a pin.
char large_value[kLargeSize];
char room[kLargeSize];
memstream_entry_t entries[8];

// A handle, with a note of every call.
class NotedCache {
 public:
  NotedCache(Journal& journal, const CacheSpec& spec, std::uint32_t flags, const char* hugepages = nullptr,
             const char* prefault = nullptr, std::uint64_t size_bytes = 0)
      : journal_(journal) {
    memstream_options_t options = spec.options();
    if (size_bytes != 0) options.size_bytes = size_bytes;
    options.flags = flags;
    options.hugepages = hugepages;
    options.prefault = prefault;
    const int status = journal_.note("memstream_open", memstream_open(&options, &cache_), true);
    if ((status == CACHE_OK) != (cache_ != nullptr)) journal_.complain("memstream_open: status and handle disagree");
  }
  NotedCache(const NotedCache&) = delete;
  NotedCache& operator=(const NotedCache&) = delete;
  ~NotedCache() {
    if (journal_.note("memstream_close", memstream_close(cache_)) != CACHE_OK) journal_.complain("close failed");
  }

  bool is_open() const { return cache_ != nullptr; }
  memstream_t* handle() const { return cache_; }

  // Whether the key has the value for sure afterwards.
  bool set(std::string_view key, std::string_view value) {
    return journal_.note("memstream_set",
                         memstream_set(cache_, key.data(), key.size(), value.data(), value.size(), 0, 0)) == CACHE_OK;
  }

  // `is_sure`: a miss cannot be.
  void get(std::string_view key, std::string_view value, bool is_sure) {
    std::size_t size = sizeof room;
    const int status =
        journal_.note("memstream_get", memstream_get(cache_, key.data(), key.size(), room, &size, nullptr));
    if (status == CACHE_OK && std::string_view(room, size) != value) journal_.complain("get: another value");
    if (status == CACHE_MISS && is_sure) journal_.complain("get: a stored value is missing");
    if (status > CACHE_MISS) journal_.complain("get: a status that it does not have");
  }

  void view(std::string_view key, std::string_view value, bool is_sure) {
    memstream_view_t view{};
    const int status = journal_.note("memstream_view", memstream_view(cache_, key.data(), key.size(), &view));
    if (status == CACHE_MISS && is_sure) journal_.complain("view: a stored value is missing");
    if (status != CACHE_OK) return;
    if (std::string_view(static_cast<const char*>(view.data), view.size) != value)
      journal_.complain("view: other bytes");
    while (journal_.note("memstream_release", memstream_release(cache_, &view)) == CACHE_BUSY && !journal_.is_full()) {
    }
  }

  bool reserve(std::string_view key, std::string_view value, bool commits) {
    memstream_reservation_t reservation{};
    if (journal_.note("memstream_reserve",
                      memstream_reserve(cache_, key.data(), key.size(), value.size(), &reservation)) != CACHE_OK)
      return false;
    std::memcpy(reservation.data, value.data(), value.size());
    if (commits && journal_.note("memstream_commit", memstream_commit(cache_, &reservation, 0, 0)) == CACHE_OK)
      return true;
    if (reservation.data != nullptr) journal_.note("memstream_abort", memstream_abort(cache_, &reservation));
    return false;
  }

  void scan() {
    std::uint64_t cursor = 0;
    std::size_t count = 0;
    do {
      if (journal_.note("memstream_scan", memstream_scan(cache_, &cursor, entries, std::size(entries), &count)) < 0)
        return;
    } while (cursor != 0);
  }

  void look() {
    cache_stats_t stats{};
    stats.struct_size = sizeof stats;
    memstream_info_t info{};
    info.struct_size = sizeof info;
    memstream_process_t processes[4];
    std::size_t count = 0;
    journal_.note("memstream_stats", memstream_stats(cache_, &stats));
    journal_.note("memstream_info", memstream_info(cache_, &info));
    journal_.note("memstream_processes", memstream_processes(cache_, processes, std::size(processes), &count));
    journal_.note("memstream_entry_info", memstream_entry_info(cache_, "small", 5, entries));
  }

  void change() {
    const std::int64_t initial = 1;
    std::int64_t number = 0;
    journal_.note("memstream_incr", memstream_incr(cache_, "number", 6, 1, &initial, 0, &number));
    journal_.note("memstream_touch", memstream_touch(cache_, "small", 5, 1'000'000));
    journal_.note("memstream_delete", memstream_delete(cache_, "number", 6));
    journal_.note("memstream_exists", memstream_exists(cache_, "number", 6));
  }

  void watch() {
    memstream_watch_t* watch = nullptr;
    if (journal_.note("memstream_watch", memstream_watch(cache_, "sm", 2, &watch)) == CACHE_OK) {
      set("small", "a value");
      std::size_t size = sizeof room;
      journal_.note("memstream_watch_next", memstream_watch_next(watch, room, &size, 0));
    } else if (watch != nullptr) {
      journal_.complain("memstream_watch: a watch in spite of the error");
    }
    journal_.note("memstream_watch_end", memstream_watch_end(&watch));
  }

  void refuse() {
    journal_.note("memstream_set", memstream_set(cache_, "", 0, "", 0, 0, 0));
    journal_.note("memstream_set", memstream_set(cache_, "huge", 4, large_value, std::size_t{1} << 40, 0, 0));
    memstream_view_t view{};
    journal_.note("memstream_release", memstream_release(cache_, &view));
  }

  void work_in_batches() {
    char names[3][8] = {"first", "second", "third"};
    memstream_item_t items[3] = {};
    for (int i = 0; i < 3; ++i) {
      items[i].key = names[i];
      items[i].key_size = std::strlen(names[i]);
      items[i].value = names[i];
      items[i].value_size = items[i].key_size;
    }
    std::size_t room_size = sizeof room;
    journal_.note("memstream_set_many", memstream_set_many(cache_, items, 3));
    journal_.note("memstream_get_many", memstream_get_many(cache_, items, 3, room, &room_size));
    journal_.note("memstream_delete_many", memstream_delete_many(cache_, items, 3));
  }

  void check() {
    std::uint64_t problems = 0;
    if (journal_.note("memstream_check", memstream_check(cache_, &problems)) == CACHE_CORRUPT && problems != 0)
      journal_.complain("the checker finds problems");
  }

  void resize(std::uint64_t size_bytes) {
    memstream_resize_report_t report{};
    report.struct_size = sizeof report;
    journal_.note("memstream_resize", memstream_resize(cache_, size_bytes, &report));
  }

  void destroy() { journal_.note("memstream_destroy", memstream_destroy(cache_), true); }

 private:
  Journal& journal_;
  memstream_t* cache_ = nullptr;
};

std::string_view large() { return {large_value, kLargeSize}; }

void do_everything(NotedCache& cache) {
  const bool has_small = cache.set("small", "value");
  const bool has_large = cache.set("large", large());
  cache.get("small", "value", has_small);
  cache.get("large", large(), has_large);
  cache.get("absent", "", false);
  cache.view("small", "value", has_small);
  const bool has_reserved = cache.reserve("reserved", large().substr(0, 9000), true);
  cache.reserve("aborted", "gone", false);
  cache.get("reserved", large().substr(0, 9000), has_reserved);
  cache.change();
  cache.work_in_batches();
  cache.scan();
  cache.look();
  cache.refuse();
  cache.check();
}

void create(Journal& journal, const CacheSpec& spec) {
  {
    NotedCache cache(journal, spec, 0);
    if (!cache.is_open()) return;
    do_everything(cache);
  }
  NotedCache again(journal, spec, MEMSTREAM_OPEN_EXISTING);
  if (!again.is_open()) return;
  again.get("small", "value", false);
  again.destroy();
}

void attach(Journal& journal, const CacheSpec& spec) {
  NotedCache cache(journal, spec, 0);
  if (cache.is_open()) do_everything(cache);
}

void write_and_read(Journal& journal, const CacheSpec& spec) {
  NotedCache cache(journal, spec, 0);
  if (!cache.is_open()) return;
  cache.set("small", "value");
  cache.get("kept", "by the peer", true);
}

void read_only(Journal& journal, const CacheSpec& spec) {
  NotedCache cache(journal, spec, MEMSTREAM_OPEN_READ_ONLY);
  if (!cache.is_open()) return;
  cache.get("kept", "by the peer", true);
  cache.get("absent", "", false);
  cache.view("kept", "by the peer", true);
  cache.scan();
  cache.look();
  cache.refuse();
  cache.set("kept", "no");
  cache.destroy();
}

void create_in_some_pages(Journal& journal, const CacheSpec& spec, const char* hugepages, const char* prefault) {
  NotedCache cache(journal, spec, 0, hugepages, prefault);
  if (!cache.is_open()) return;
  const bool is_set = cache.set("key", "value");
  cache.get("key", "value", is_set);
  cache.look();
  cache.destroy();
}

void create_prefaulted(Journal& journal, const CacheSpec& spec) { create_in_some_pages(journal, spec, "try", "on"); }

// Refused, unless the machine has huge pages.
void require_huge_pages(Journal& journal, const CacheSpec& spec) {
  create_in_some_pages(journal, spec, "require", "off");
}

void attach_prefaulted(Journal& journal, const CacheSpec& spec) {
  for (const std::uint32_t flags : {0U, std::uint32_t{MEMSTREAM_OPEN_READ_ONLY}}) {
    NotedCache cache(journal, spec, flags, "try", "on");
    if (cache.is_open()) cache.get("kept", "by the peer", true);
  }
}

void attach_by_requirement(Journal& journal, const CacheSpec& spec) { NotedCache(journal, spec, 0, "require"); }

std::shared_ptr<void> use_an_old_kernel(const CacheSpec& /*spec*/) {
  static const Complaint obstacle = refuse_population(EINVAL);  // As long as the process lives.
  if (!obstacle.empty()) throw std::runtime_error(obstacle);
  return nullptr;
}

void default_connection(Journal& journal, const CacheSpec& /*spec*/) {
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  std::size_t size = sizeof room;
  for (int round = 0; round < 2; ++round) {
    if (journal.note("cache_connect", cache_connect(), true) != CACHE_OK) continue;
    const bool is_put = journal.note("cache_put", cache_put("key", "value", 5)) == CACHE_OK;
    size = sizeof room;
    const int got = journal.note("cache_get", cache_get("key", room, &size));
    if (got == CACHE_OK && std::string_view(room, size) != "value") journal.complain("get: another value");
    if (got == CACHE_MISS && is_put) journal.complain("get: a stored value is missing");
    journal.note("cache_get_stats", cache_get_stats(&stats));
    journal.note("cache_delete", cache_delete("key"));
    if (round == 0) journal.note("cache_disconnect", cache_disconnect());
  }
  journal.note("cache_destroy", cache_destroy(), true);
  cache_disconnect();  // Where destroying failed.
}

void destroy_by_name(Journal& journal, const CacheSpec& spec) {
  const memstream_options_t options = spec.options();
  journal.note("memstream_destroy_named", memstream_destroy_named(&options), true);
}

// The first shard of the segment, in a mapping that `segment` keeps.
ShardHeader* first_shard(const CacheSpec& spec, std::unique_ptr<Segment>* segment) {
  std::unique_ptr<SegmentBackend> backend;
  SegmentFormat format(spec.name, 0);
  const SegmentSpec where{.name = spec.name};
  AttachedHeader attached;
  if (make_backend_from_environment(&backend) != Status::kOk ||
      backend->attach(where, Access::kReadWrite, format, segment) != Status::kOk ||
      check_header(**segment, spec.name, &attached) != Status::kOk)
    throw std::runtime_error(last_error());
  return reinterpret_cast<ShardHeader*>((*segment)->data() + attached.geometry.shard_offset(0));
}

// A process does what `before_death` says in the shard and is killed.
std::shared_ptr<void> leave_behind(const CacheSpec& spec, const std::function<Complaint(ShardHeader&)>& before_death) {
  const Complaint end = in_child([&]() -> Complaint {
    std::unique_ptr<Segment> segment;  // Mapped until then: the kernel finds the locks of the dead in it.
    if (Complaint complaint = before_death(*first_shard(spec, &segment)); !complaint.empty()) return complaint;
    ::raise(SIGKILL);
    return "alive";
  });
  if (end != "killed by signal 9") throw std::runtime_error(end);
  return nullptr;
}

// A process dies with a view, and so with a process slot, and with the write lock of the shard: whoever comes next
// recovers.
std::shared_ptr<void> leave_lock_behind(const CacheSpec& spec) {
  return leave_behind(spec, [&](ShardHeader& shard) -> Complaint {
    const memstream_options_t options = spec.options();
    memstream_t* cache = nullptr;
    memstream_view_t view{};
    if (memstream_open(&options, &cache) != CACHE_OK || memstream_view(cache, "kept", 4, &view) != CACHE_OK)
      return cache_last_error();
    return ::pthread_mutex_lock(&shard.write_mutex) == 0 ? "" : "the lock is not to be had";
  });
}

// A process dies as a slow reader of the shard: the next writer has to find out that nobody is in its way.
std::shared_ptr<void> leave_reader_behind(const CacheSpec& spec) {
  return leave_behind(spec, [](ShardHeader& shard) -> Complaint {
    const std::uint64_t epoch = shard.epoch;
    ++shard.announced[epoch & 1];
    return ::pthread_rwlock_rdlock(&shard.rw[epoch & 1]) == 0 ? "" : "the shared lock is not to be had";
  });
}

// Another process has the write lock and lives.
std::shared_ptr<void> keep_lock(const CacheSpec& spec) {
  const Signal is_locked;
  auto holder = std::make_shared<ChildProcess>([&]() -> Complaint {
    std::unique_ptr<Segment> segment;
    if (::pthread_mutex_lock(&first_shard(spec, &segment)->write_mutex) != 0) return "the lock is not to be had";
    is_locked.post();
    for (;;) ::pause();
  });
  is_locked.wait();
  return holder;
}

// In both directions. Whatever fails, the entries are in the segment that has the name.
void resize(Journal& journal, const CacheSpec& spec) {
  NotedCache cache(journal, spec, 0);
  if (!cache.is_open()) return;
  const bool has_large = cache.set("large", large());
  for (const std::uint64_t size : {2 * kMinSegmentSize, kMinSegmentSize}) {
    cache.resize(size);
    cache.get("kept", "by the peer", true);
    cache.get("large", large(), has_large);
    const bool has_small = cache.set("small", "value");
    cache.view("small", "value", has_small);
  }
  cache.look();
  cache.check();
}

void list_segments(Journal& journal, const CacheSpec& spec) {
  std::unique_ptr<SegmentBackend> backend;
  std::vector<SegmentInfo> segments;
  try {
    SegmentFormat format(spec.name, 0);
    auto status = static_cast<int>(make_backend_from_environment(&backend));
    if (status == CACHE_OK) status = static_cast<int>(backend->list(format, &segments));
    journal.note("list", status, false, last_error());
  } catch (const std::bad_alloc&) {
    return;  // The C interface would make an error of it.
  }
}

void watch(Journal& journal, const CacheSpec& spec) {
  NotedCache cache(journal, spec, 0, nullptr, nullptr, kLeastWatchSegment);
  if (cache.is_open()) cache.watch();
}

}  // namespace

// clang-format off: one line each.
const Scenario kScenarios[] = {
    {"create", false, nullptr, 0, create},
    {"attach", true, nullptr, 0, attach},
    {"read only", true, nullptr, 0, read_only},
    {"default connection", false, nullptr, 0, default_connection},
    {"recover", true, leave_lock_behind, 0, attach},
    {"write past a dead reader", true, leave_reader_behind, 0, attach},
    {"wait in vain", true, keep_lock, CACHE_BUSY, write_and_read},
    {"destroy by name", true, nullptr, 0, destroy_by_name},
    {"resize", true, nullptr, 0, resize},
    {"list", true, nullptr, 0, list_segments},
    {"watch", false, nullptr, 0, watch},
    {"create pre-faulted", false, nullptr, 0, create_prefaulted},
    {"require huge pages", false, nullptr, CACHE_NO_HUGE_PAGES, require_huge_pages},
    {"attach pre-faulted", true, nullptr, 0, attach_prefaulted},
    {"attach pre-faulted on an old kernel", true, use_an_old_kernel, 0, attach_prefaulted},
    {"attach requiring huge pages", true, nullptr, CACHE_NO_HUGE_PAGES, attach_by_requirement},
};
// clang-format on
const std::size_t kScenarioCount = std::size(kScenarios);

std::string use_as_peer(memstream_t* cache) {
  std::size_t size = sizeof room;
  if (memstream_set(cache, "kept", 4, "by the peer", 11, 0, 0) != CACHE_OK ||
      memstream_get(cache, "kept", 4, room, &size, nullptr) != CACHE_OK)
    return cache_last_error();
  if (std::string_view(room, size) != "by the peer") return "the peer reads another value";
  return problems_of(cache);
}

}  // namespace memstream::test
