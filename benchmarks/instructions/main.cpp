// Runs the operations of the C interface under callgrind, a fixed number of times each, and has callgrind write one
// dump for each kind: benchmarks/instructions/instructions.py makes figures of them.
//
//   valgrind --tool=callgrind --instr-atstart=no memstream-instructions   (MEMSTREAM_BACKEND as elsewhere)
//
// Outside callgrind it runs through all the same and checks that every operation did what its name says.
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>

#include "api/memstream.h"

namespace {

constexpr int kSegments = 5;  // Each has another secret seed of its hash: what chance does to a figure averages out.
constexpr int kKeys = 4000;
constexpr int kFullKeys = 40'000;  // More than the small segment holds.
constexpr std::size_t kValueSize = 64;

using Value = std::array<char, kValueSize>;

std::string key_of(int number) {
  char text[16];
  std::snprintf(text, sizeof text, "user:%08d", number);
  return text;
}

void require_status(int status, int expected, const char* what) {
  if (status == expected) return;
  throw std::runtime_error(std::string(what) + ": " + cache_strerror(status) + " instead of " +
                           cache_strerror(expected) + ": " + cache_last_error());
}

// The cache that is measured; its segment goes with it.
class MeasuredCache {
 public:
  MeasuredCache() : name_("instructions-" + std::to_string(::getpid())) {
    memstream_options_t options;
    memstream_options_init(&options);
    options.name = name_.c_str();
    options.size_bytes = std::size_t{4} << 20;
    options.shards = 2;
    require_status(memstream_open(&options, &cache_), CACHE_OK, "open");
  }
  MeasuredCache(const MeasuredCache&) = delete;
  MeasuredCache& operator=(const MeasuredCache&) = delete;
  ~MeasuredCache() {
    memstream_destroy(cache_);
    memstream_close(cache_);
  }

  memstream_t* handle() const noexcept { return cache_; }
  const std::string& name() const noexcept { return name_; }

 private:
  std::string name_;
  memstream_t* cache_ = nullptr;
};

// As get and set, sixteen keys in one call; counted by key.
class Batch {
 public:
  explicit Batch(memstream_t* cache) : cache_(cache) {}

  void get(int first) {
    prepare(first);
    std::size_t room_size = room_.size();
    require_status(memstream_get_many(cache_, items_.data(), kBatch, room_.data(), &room_size), CACHE_OK, "get_many");
    for (const memstream_item_t& item : items_) require_status(item.status, CACHE_OK, "get_many");
  }
  void set(int first) {
    prepare(first);
    for (memstream_item_t& item : items_) {
      item.value = room_.data();
      item.value_size = kValueSize;
    }
    require_status(memstream_set_many(cache_, items_.data(), kBatch), CACHE_OK, "set_many");
  }

  static constexpr int kBatch = 16;

 private:
  void prepare(int first) {
    for (int i = 0; i < kBatch; ++i) {
      const auto place = static_cast<std::size_t>(i);
      keys_[place] = key_of(first + i);
      items_[place] = {};
      items_[place].key = keys_[place].data();
      items_[place].key_size = keys_[place].size();
    }
  }

  memstream_t* cache_;
  std::array<std::string, kBatch> keys_;
  std::array<memstream_item_t, kBatch> items_{};
  std::array<char, kBatch*(kValueSize + 64)> room_{};
};

// Runs operation(n) once without counting, so that no first time counts, then once for each key under callgrind, and
// names the dump. The line on the standard output says how many operations it is about.
template <class Operation>
void measure(const char* name, int first, int count, Operation operation, int step = 1) {
  operation(first);
  CALLGRIND_START_INSTRUMENTATION;
  for (int number = first; number < first + count; number += step) operation(number);
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT(name);
  std::printf("%s %d\n", name, count);
}

void set_key(memstream_t* cache, int number) {
  const std::string key = key_of(number);
  const Value value{};
  require_status(memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0), CACHE_OK, "set");
}

void get_key(memstream_t* cache, int number, int expected) {
  const std::string key = key_of(number);
  Value value;
  std::size_t size = value.size();
  require_status(memstream_get(cache, key.data(), key.size(), value.data(), &size, nullptr), expected, "get");
}

void run(memstream_t* cache) {
  const auto set = [&](int number) { set_key(cache, number); };
  const auto get = [&](int number, int expected) { get_key(cache, number, expected); };

  measure("set_new", 0, kKeys, set);
  measure("get", 0, kKeys, [&](int number) { get(number, CACHE_OK); });
  measure("get_miss", kKeys, kKeys, [&](int number) { get(number, CACHE_MISS); });
  measure("set_overwrite", 0, kKeys, set);
  Batch batch(cache);
  measure(
      "get_many", 0, kKeys, [&](int number) { batch.get(number); }, Batch::kBatch);
  measure(
      "set_many", 0, kKeys, [&](int number) { batch.set(number); }, Batch::kBatch);
  measure("view_release", 0, kKeys, [&](int number) {
    const std::string key = key_of(number);
    memstream_view_t view;
    require_status(memstream_view(cache, key.data(), key.size(), &view), CACHE_OK, "view");
    require_status(memstream_release(cache, &view), CACHE_OK, "release");
  });
  measure("set_viewed", 0, kKeys, set);
  // From here on every set of a new key evicts another one.
  for (int number = 0; number < kFullKeys; ++number) set(number);
  measure("set_evicting", kFullKeys, kKeys, set);
  measure("delete", kFullKeys + kKeys - 1000, 1000, [&](int number) {
    const std::string key = key_of(number);
    const int status = memstream_delete(cache, key.data(), key.size());
    require_status(status == CACHE_MISS ? CACHE_OK : status, CACHE_OK, "delete");
  });
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  require_status(memstream_stats(cache, &stats), CACHE_OK, "stats");
  if (stats.evictions < kKeys) throw std::runtime_error("the segment was not full");
}

// A put of the process's default connection, over a value of the same size.
void run_default_connection(const MeasuredCache& cache) {
  ::setenv("MEMSTREAM_NAME", cache.name().c_str(), 1);
  require_status(cache_connect(), CACHE_OK, "cache_connect");
  for (int number = 0; number < kKeys; ++number) set_key(cache.handle(), number);
  measure("cache_put", 0, kKeys, [](int number) {
    const Value value{};
    require_status(cache_put(key_of(number).c_str(), value.data(), value.size()), CACHE_OK, "cache_put");
  });
  require_status(cache_disconnect(), CACHE_OK, "cache_disconnect");
}

// A get and a set of a thread of a process that has another one.
void run_among_threads(memstream_t* cache) {
  for (int number = 0; number < kKeys; ++number) set_key(cache, number);
  measure("get_threads", 0, kKeys, [&](int number) { get_key(cache, number, CACHE_OK); });
  measure("set_threads", 0, kKeys, [&](int number) { set_key(cache, number); });
}

// Sleeps as long as it lives. Once there was one, a process counts as one with threads.
class OtherThread {
 public:
  OtherThread() : thread_([this] { end_.get_future().wait(); }) {}
  OtherThread(const OtherThread&) = delete;
  OtherThread& operator=(const OtherThread&) = delete;
  ~OtherThread() {
    end_.set_value();
    thread_.join();
  }

 private:
  std::promise<void> end_;
  std::thread thread_;
};

}  // namespace

int main() {
  try {
    std::puts(MEMSTREAM_COMPILER);
    for (int segment = 0; segment < kSegments; ++segment) {
      const MeasuredCache cache;
      run(cache.handle());
      run_default_connection(cache);
    }
    const OtherThread other;
    for (int segment = 0; segment < kSegments; ++segment) {
      const MeasuredCache cache;
      run_among_threads(cache.handle());
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
