#include "benchmarks/costs/cold.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/report.h"
#include "benchmarks/c/worker.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

constexpr int kMostKills = 400;  // For one rebuild; a writer is nearly always inside the lock.

template <class Operation>
double microseconds(Operation operation) {
  const auto before = std::chrono::steady_clock::now();
  operation();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - before).count();
}

// A process that stores one value until it is killed.
void kill_a_writer(const memstream_options_t& options, const std::vector<std::byte>& value) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork failed");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    memstream_t* cache = nullptr;
    if (::getppid() != parent || memstream_open(&options, &cache) != CACHE_OK) ::_exit(1);
    const std::string key = user_key(1);
    while (memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) == CACHE_OK) {
    }
    ::_exit(1);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

}  // namespace

nlohmann::json measure_connecting(const std::string& backend, unsigned rounds) {
  std::vector<double> create;
  std::vector<double> connect;
  std::vector<double> first_get;
  for (unsigned round = 0; round < rounds; ++round) {
    stop_if_interrupted();
    std::optional<OpenCache> cache;
    create.push_back(microseconds([&] { cache.emplace(backend, std::uint64_t{1} << 30); }));
    const std::string key = user_key(1);
    const char value[64] = {};
    cache->set(key, value, sizeof value);
    memstream_t* second = nullptr;
    connect.push_back(microseconds([&] { require_ok(memstream_open(&cache->options(), &second), "memstream_open"); }));
    char room[64];
    std::size_t size = sizeof room;
    int status = CACHE_OK;
    first_get.push_back(
        microseconds([&] { status = memstream_get(second, key.data(), key.size(), room, &size, nullptr); }));
    require_ok(status, "memstream_get");
    memstream_close(second);
  }
  return {{"store", "memstream-" + backend},
          {"create_1_gib_us", median(create)},
          {"connect_us", median(connect)},
          {"first_get_us", median(first_get)}};
}

double recovery_us(const OpenCache& cache, std::size_t value_size) {
  std::vector<std::byte> value(value_size, std::byte{0x5a});
  stamp(value, 1, 1);  // Whoever reads it afterwards checks it.
  const std::string key = user_key(1);
  for (int kills = 0; kills < kMostKills; ++kills) {
    stop_if_interrupted();
    const std::uint64_t recoveries = cache.stats().recoveries;
    kill_a_writer(cache.options(), value);
    // Not stats(): that would be the one to repair.
    const std::uint64_t before = elapsed_ns(true);
    cache.set(key, value.data(), value.size());
    const std::uint64_t taken = elapsed_ns(true) - before;
    if (cache.stats().recoveries != recoveries) return static_cast<double>(taken) / 1000;
  }
  throw std::runtime_error("no killed writer left a shard to be repaired");
}

nlohmann::json measure_rebuild(const std::string& backend, unsigned entries, unsigned rounds) {
  OpenCache cache(backend, std::uint64_t{entries} * 220 + (std::uint64_t{8} << 20), 1);
  const char value[64] = {};
  for (unsigned number = 0; number < entries; ++number) cache.set(user_key(number), value, sizeof value);
  if (cache.stats().entries != entries) throw std::runtime_error("the segment is too small for its entries");
  std::vector<double> rebuilds;
  for (int kills = 0; rebuilds.size() < rounds; ++kills) {
    stop_if_interrupted();
    if (kills == kMostKills) throw std::runtime_error("no killed writer left a shard to be rebuilt");
    const std::uint64_t recoveries = cache.stats().recoveries;
    kill_a_writer(cache.options(), std::vector<std::byte>(sizeof value));
    // Not stats(): that would be the one to rebuild.
    const double taken = microseconds([&] { cache.set(user_key(2), value, sizeof value); });
    if (cache.stats().recoveries != recoveries) rebuilds.push_back(taken);
  }
  return {{"store", "memstream-" + backend},
          {"entries", entries},
          {"rebuild_us", median(rebuilds)},
          {"rebuild_ns_per_entry", median(rebuilds) * 1000 / entries}};
}

}  // namespace memstream::bench
