// No reader gets what was overwritten longer ago than its bound, whatever dies: processes read a cluster through near
// caches while readers, agents and masters are killed, slots move and everything is flushed. MEMSTREAM_TEST_SCALE makes
// the run longer: 5000 kills 1,000 readers during a fill and 200 agents, stops 100, and does 50 to 200 of the rest.
#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/memstream_near_core.h"
#include "near/memstream_near.h"
#include "tests/near/near_handle.h"
#include "tests/near/redis_cluster.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kMaxLagMs = 600;
constexpr int kKeys = 12;
constexpr std::uint32_t kVersions = 1 << 18;
constexpr std::int64_t kMs = 1'000'000;

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// As std::shared_mutex, for threads of several processes.
class SharedMutex {
 public:
  SharedMutex() {
    pthread_rwlockattr_t attributes;
    ::pthread_rwlockattr_init(&attributes);
    ::pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    // The two who share it leave no pause for the third.
    ::pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    ::pthread_rwlock_init(&lock_, &attributes);
    ::pthread_rwlockattr_destroy(&attributes);
  }
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;
  ~SharedMutex() { ::pthread_rwlock_destroy(&lock_); }
  void lock() { ::pthread_rwlock_wrlock(&lock_); }
  void unlock() { ::pthread_rwlock_unlock(&lock_); }
  void lock_shared() { ::pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() { ::pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};

// What the writers did, in memory that all processes share. Version 0 is "absent"; so is each flush.
struct History {
  struct Key {
    std::atomic<std::uint32_t> begun{0};
    std::atomic<std::uint32_t> acknowledged{0};
    std::array<std::atomic<std::int64_t>, kVersions> acknowledged_ns{};  // 0: not yet.
    std::array<std::atomic<bool>, kVersions> is_absent{};
  };
  std::array<Key, kKeys> keys;
  std::atomic<std::uint64_t> reads{0}, hits{0}, failures{0};
  std::atomic<std::uint64_t> stale{0}, unknown{0}, not_own_write{0};
  std::atomic<bool> is_over{false};
  SharedMutex writing;

  // The latest version that was acknowledged by then.
  std::uint32_t latest_by(const Key& key, std::int64_t instant_ns) const {
    std::uint32_t version = key.acknowledged.load();
    while (version > 0 &&
           (key.acknowledged_ns[version].load() == 0 || key.acknowledged_ns[version].load() > instant_ns))
      --version;
    return version;
  }
};

struct Unmap {
  void operator()(History* history) const { ::munmap(history, sizeof(History)); }
};
std::unique_ptr<History, Unmap> make_history() {
  void* const place =
      ::mmap(nullptr, sizeof(History), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::runtime_error("no memory for the history");
  // It is zeros, which is what its members begin with; a constructor of the whole would touch every page.
  History* const history = static_cast<History*>(place);
  new (&history->writing) SharedMutex;
  for (History::Key& key : history->keys) {
    key.is_absent[0] = true;
    key.acknowledged_ns[0] = 1;
  }
  return std::unique_ptr<History, Unmap>(history);
}

std::string key_name(int number) { return "torture:" + std::to_string(number); }
std::string value_of(int number, std::uint32_t version) {
  return key_name(number) + "=" + std::to_string(version) + std::string(version % 200, '.');
}

// Reads one key and compares it with the history; `floor` is a version that this process knows to be there.
void read_and_check(History& history, const Near& near, int number, std::uint32_t floor) {
  History::Key& key = history.keys[static_cast<std::size_t>(number)];
  const std::int64_t bound = now_ns() - static_cast<std::int64_t>(kMaxLagMs) * kMs;
  const std::string got = near.get(key_name(number), 1024);
  const std::uint32_t begun = key.begun.load();
  ++history.reads;
  std::uint32_t version = 0;
  if (got == kAbsent) {
    for (version = begun; version > 0 && !key.is_absent[version].load();) --version;
  } else if (got.starts_with("status")) {
    ++history.failures;
    return;
  } else {
    const std::string stem = key_name(number) + "=";
    version = got.starts_with(stem) ? static_cast<std::uint32_t>(std::stoul(got.substr(stem.size()))) : ~0U;
    if (version > begun || got != value_of(number, version)) {
      ++history.unknown;
      return;
    }
  }
  if (version < history.latest_by(key, bound)) ++history.stale;
  if (version < floor) ++history.not_own_write;
}

class Torture {
 public:
  explicit Torture(RedisCluster& cluster)
      : cluster_(cluster), segment_("near-torture", kSize), addresses_(cluster.addresses()) {
    options_ = options_for(addresses_.c_str(), MEMSTREAM_NEAR_CLUSTER);
    options_.max_lag_ms = kMaxLagMs;
    const char* const prefix = "torture:";
    prefixes_ = {prefix};
    options_.prefixes = prefixes_.data();
    options_.prefix_count = 1;
    for (int i = 0; i < 2; ++i) agents_.push_back(start_reader());
    watcher_ = std::make_unique<Near>(segment_.spec(), without_agent());
    wait_until_heard();
    // The writers are threads of a process of their own. This one forks again and again, and must have no threads: the
    // allocator of the address sanitizer does not survive a fork beside a thread that allocates.
    writers_ = std::make_unique<ChildProcess>([this] {
      std::array<Complaint, 2> complaints;
      std::thread second([&] { complaints[1] = write(1); });
      complaints[0] = write(0);
      second.join();
      return complaints[0] + complaints[1];
    });
  }
  ~Torture() { end_writers(); }

  // What went wrong in them.
  Complaint end_writers() {
    history_->is_over = true;
    const std::unique_ptr<ChildProcess> writers = std::move(writers_);
    return writers == nullptr ? Complaint() : writers->wait();
  }

  History& history() { return *history_; }
  RedisCluster& cluster() { return cluster_; }
  memstream_t* cache() { return watcher_->cache(); }

  void wait_until_heard() {
    REQUIRE(becomes_true(
        [&] {
          watcher_->get(key_name(0));  // It has no thread that looks for masters.
          for (const int master : cluster_.masters()) {
            if (lag_of(cluster_.name(master)) > 400) return false;
          }
          return true;
        },
        milliseconds(30'000)));
  }

  // A child with the agent of some master. Another one has it in the end.
  void strike_agent(int signal) {
    std::unique_ptr<ChildProcess>* struck = nullptr;
    REQUIRE(becomes_true([&] {
      for (std::unique_ptr<ChildProcess>& agent : agents_) {
        if (is_agent(agent->id())) struck = &agent;
      }
      return struck != nullptr;
    }));
    const pid_t process = (*struck)->id();
    write_unheard([&] { (*struck)->send_signal(signal); });
    REQUIRE(becomes_true([&] { return !is_agent(process); }));
    if (signal == SIGSTOP) {
      (*struck)->send_signal(SIGCONT);
    } else {
      (*struck)->wait();
      *struck = start_reader();
    }
  }

  // A process that has begun a fill and holds the lease of the key.
  void kill_reader_during_fill() {
    Signal fills;
    ChildProcess reader([&]() -> Complaint {
      const Near near(segment_.spec(), without_agent());
      char room[1024];
      for (int number = 0;; number = (number + 1) % kKeys) {
        memstream_near_fill_t fill;
        std::size_t size = sizeof room;
        const std::string key = key_name(number);
        if (memstream_near_begin(near, key.data(), key.size(), room, &size, &fill) != MEMSTREAM_NEAR_FETCH) continue;
        fills.post();
        ::pause();
      }
    });
    fills.wait();
    reader.send_signal(SIGKILL);
    reader.wait();
  }

  // Writes each key once behind the agents' back, and then no more for longer than the bound: so a write that nobody
  // hears of is not covered up by the next one.
  void write_unheard(const std::function<void()>& event) {
    const std::unique_lock<SharedMutex> guard(history_->writing);
    event();
    for (int number = 0; number < kKeys; ++number) write_one(client_, number);
    std::this_thread::sleep_for(milliseconds(kMaxLagMs + 100));
  }

  // Absent is a version as any other: nobody writes while everything goes.
  void flush(int master, const char* command) {
    const std::unique_lock<SharedMutex> guard(history_->writing);
    const near::SlotSet slots = cluster_.view(master)->settled;
    std::vector<History::Key*> gone;
    for (int number = 0; number < kKeys; ++number) {
      if (!slots.test(near::slot_of(key_name(number)))) continue;
      History::Key& key = history_->keys[static_cast<std::size_t>(number)];
      const std::uint32_t version = key.begun.load() + 1;
      key.is_absent[version] = true;
      key.begun = version;
      gone.push_back(&key);
    }
    REQUIRE(cluster_.node(master).ask({command}) == "OK");
    // The replica too, so that no failover brings anything back.
    REQUIRE(cluster_.node(master).ask({"WAIT", "1", "5000"}) == "1");
    for (History::Key* const key : gone) acknowledge(*key, key->begun.load());
    std::this_thread::sleep_for(milliseconds(kMaxLagMs + 100));
  }

 private:
  memstream_near_options_t without_agent() const {
    memstream_near_options_t options = options_;
    options.flags |= MEMSTREAM_NEAR_NO_AGENT;
    return options;
  }

  // Of any server.
  bool is_agent(pid_t process) {
    memstream_near_core_state_t state{};
    state.struct_size = sizeof state;
    for (std::uint32_t server = 0; memstream_near_core_look(cache(), server, &state) == CACHE_OK; ++server) {
      const bool is_serving = state.lag_ms < 10'000;  // One that was a master may be one again.
      if (is_serving && state.agent_pid == static_cast<std::uint32_t>(process)) return true;
    }
    return false;
  }

  std::uint64_t lag_of(const std::string& node) {
    memstream_near_core_state_t state{};
    state.struct_size = sizeof state;
    for (std::uint32_t server = 0; memstream_near_core_look(cache(), server, &state) == CACHE_OK; ++server) {
      if (state.label == "cluster " + node) return state.lag_ms;
    }
    return ~std::uint64_t{0};
  }

  std::unique_ptr<ChildProcess> start_reader() {
    return std::make_unique<ChildProcess>([this]() -> Complaint {
      const Near near(segment_.spec(), options_);
      for (std::uint64_t step = 0; !history_->is_over.load(); ++step) {
        read_and_check(*history_, near, static_cast<int>(step * 7 % kKeys), 0);
        if (step % 64 == 0) {
          std::this_thread::sleep_for(milliseconds(1));
          history_->hits = std::max(history_->hits.load(), near.stats().hits);
        }
      }
      return {};
    });
  }

  static void acknowledge(History::Key& key, std::uint32_t version) {
    key.acknowledged_ns[version] = now_ns();
    key.acknowledged = version;
  }

  // A write counts once a replica has it: others may be lost in a failover.
  void write_one(ClusterClient& client, int number) {
    History::Key& key = history_->keys[static_cast<std::size_t>(number)];
    const std::string name = key_name(number);
    const std::uint32_t version = key.begun.load() + 1;
    if (version + 100 >= kVersions) throw std::runtime_error("the history is full");
    key.begun = version;
    const std::string value = value_of(number, version);
    while (client.ask(name, {"SET", name, value}, {"WAIT", "1", "500"}) != "1") {
      if (history_->is_over.load()) return;
    }
    acknowledge(key, version);
  }

  // Each writer has keys of its own.
  Complaint write(int writer) {
    try {
      ClusterClient client(cluster_.port(0));
      const Near near(segment_.spec(), without_agent());
      for (int number = writer; !history_->is_over.load(); number = (number + 2) % kKeys) {
        {
          const std::shared_lock<SharedMutex> guard(history_->writing);
          write_one(client, number);
          const std::string name = key_name(number);
          memstream_near_invalidate(near, name.data(), name.size());
          const std::uint32_t version = history_->keys[static_cast<std::size_t>(number)].acknowledged.load();
          read_and_check(*history_, near, number, version);
        }
        std::this_thread::sleep_for(milliseconds(3));
      }
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  }

  RedisCluster& cluster_;
  ClusterClient client_{cluster_.port(0)};
  const TemporarySegment segment_;
  std::string addresses_;
  std::vector<const char*> prefixes_;
  memstream_near_options_t options_{};
  std::unique_ptr<History, Unmap> history_ = make_history();
  std::vector<std::unique_ptr<ChildProcess>> agents_;
  std::unique_ptr<Near> watcher_;
  std::unique_ptr<ChildProcess> writers_;
};

TEST_CASE("whatever dies in a cluster, nothing is served beyond the bound, and nothing that nobody wrote") {
  RedisCluster& cluster = shared_cluster();
  {
    Torture torture(cluster);
    const auto repeat = [&](const char* what, int times, bool is_unheard, const std::function<void(int)>& event) {
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < times; ++i) {
        if (is_unheard) {
          torture.write_unheard([&] { event(i); });
        } else {
          event(i);
        }
        torture.wait_until_heard();
      }
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      std::printf("%5d x %-34s %6.1f s, stale so far: %lu\n", times, what, took.count(),
                  static_cast<unsigned long>(torture.history().stale.load()));
      std::fflush(stdout);
    };
    const auto some_master = [&](int i) {
      const std::vector<int> masters = cluster.masters();
      return masters[static_cast<std::size_t>(i) % masters.size()];
    };
    repeat("a reader killed during a fill", scaled(20), false, [&](int) { torture.kill_reader_during_fill(); });
    repeat("the agent killed", scaled(4), false, [&](int) { torture.strike_agent(SIGKILL); });
    repeat("the agent stopped", scaled(2), false, [&](int) { torture.strike_agent(SIGSTOP); });
    repeat("CLIENT KILL", scaled(4), true, [&](int i) {
      CHECK(cluster.node(some_master(i)).ask({"CLIENT", "KILL", "TYPE", "pubsub"}) == "1");
    });
    repeat("FLUSHALL or FLUSHDB", scaled(2), false,
           [&](int i) { torture.flush(some_master(i), i % 2 == 0 ? "FLUSHALL" : "FLUSHDB"); });
    repeat("a master that hangs", scaled(1), true, [&](int i) {
      RedisServer& node = cluster.node(some_master(i));
      node.send_signal(SIGSTOP);
      std::this_thread::sleep_for(milliseconds(700));
      node.send_signal(SIGCONT);
      cluster.wait_until_whole();
    });
    repeat("a slot moved and moved back", scaled(1), true, [&](int i) {
      const std::uint32_t slot = near::slot_of(key_name(i % kKeys));
      const int from = cluster.master_of_slot(slot);
      const int to = some_master(i) == from ? some_master(i + 1) : some_master(i);
      cluster.move_slot(slot, from, to);
      std::this_thread::sleep_for(milliseconds(700));
      cluster.move_slot(slot, to, from);
    });
    repeat("a replica takes over", scaled(1), true, [&](int i) {
      cluster.fail_over(some_master(i));
      cluster.wait_until_whole();
    });
    repeat("a master killed", scaled(1), true, [&](int i) {
      cluster.kill_and_replace(some_master(i));
      cluster.wait_until_whole();
    });
    CHECK(torture.end_writers() == "");
    History& history = torture.history();
    std::printf("%lu reads, %lu of them failed; at most %lu hits in one process\n",
                static_cast<unsigned long>(history.reads.load()), static_cast<unsigned long>(history.failures.load()),
                static_cast<unsigned long>(history.hits.load()));
    CHECK(history.stale.load() == 0);
    CHECK(history.unknown.load() == 0);
    CHECK(history.not_own_write.load() == 0);
    CHECK(history.reads.load() > 1000);
    CHECK(history.hits.load() > 100);
    CHECK(problems_of(torture.cache()) == "");
  }
}

}  // namespace
}  // namespace memstream::test
