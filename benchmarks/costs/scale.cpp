#include "benchmarks/costs/scale.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <atomic>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <csignal>
#include <fstream>
#include <functional>
#include <memory>
#include <vector>

#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/report.h"
#include "benchmarks/c/worker.h"
#include "benchmarks/costs/cold.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

constexpr std::uint64_t kOperations = 50'000;  // Of each kind by a process in a round.
constexpr std::uint64_t kLeftToOthers = std::uint64_t{2} << 30;

std::uint64_t processor_ns() { return elapsed_ns(true); }

double ns_of(const std::function<void()>& operation) {
  const std::uint64_t before = processor_ns();
  operation();
  return static_cast<double>(processor_ns() - before);
}

// One user of a cache: draws keys, checks every value.
class User {
 public:
  User(memstream_t* cache, std::uint64_t entries, std::uint32_t value_size, std::uint64_t seed)
      : cache_(cache), entries_(entries), value_(value_size, std::byte{0x5a}), room_(value_size), random_(seed) {}

  void put(std::uint32_t number) {
    stamp(value_, number, ++version_);
    require_ok(memstream_set(cache_, Key(number).c_str(), kKeySize, value_.data(), value_.size(), 0, 0),
               "memstream_set");
  }
  void get(std::uint32_t number) {
    std::size_t size = room_.size();
    require_ok(memstream_get(cache_, Key(number).c_str(), kKeySize, room_.data(), &size, nullptr), "memstream_get");
    if (judge(room_.data(), size, number, value_.size()) != Verdict::kWhole) {
      throw std::runtime_error(fmt::format("a wrong or torn value for {}", Key(number).view()));
    }
  }
  void read_all() {
    for (std::uint64_t number = 0; number < entries_; ++number) get(static_cast<std::uint32_t>(number));
  }
  // Nanoseconds of one.
  double gets() {
    return ns_of([&] {
             for (std::uint64_t i = 0; i < kOperations; ++i) get(draw());
           }) /
           kOperations;
  }
  double puts() {
    return ns_of([&] {
             for (std::uint64_t i = 0; i < kOperations; ++i) put(draw());
           }) /
           kOperations;
  }

 private:
  std::uint32_t draw() noexcept {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return static_cast<std::uint32_t>((random_ >> 32) * entries_ >> 32);
  }

  memstream_t* cache_;
  std::uint64_t entries_;
  std::vector<std::byte> value_;
  std::vector<std::byte> room_;
  std::uint64_t random_;
  std::uint32_t version_ = 0;
};

struct Point {
  const char* series;
  std::uint64_t entries;
  unsigned processes;
  std::uint64_t segment_bytes;
  std::uint32_t value_size;
};

struct Figures {
  std::vector<double> get, put, connect, scan, recovery;
  std::uint64_t shards = 0;
};

// ---- several processes ----

struct Meeting {
  std::atomic<unsigned> arrived{0};
  std::atomic<unsigned> failed{0};
  std::atomic<bool> leave{false};
  double get[64];
  double put[64];
};

void meet(std::atomic<unsigned>& arrived, unsigned count) {
  arrived.fetch_add(1);
  while (arrived.load() < count) ::sched_yield();
}

[[noreturn]] void work_as(unsigned index, const Point& point, const memstream_options_t& options, Meeting& meeting) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    memstream_t* cache = nullptr;
    require_ok(memstream_open(&options, &cache), "memstream_open");
    User user(cache, point.entries, point.value_size, 0x9e3779b97f4a7c15U * (index + 1));
    user.read_all();
    meet(meeting.arrived, point.processes);
    meeting.get[index] = user.gets();
    meet(meeting.arrived, 2 * point.processes);
    meeting.put[index] = user.puts();
    meet(meeting.arrived, 3 * point.processes);
    while (!meeting.leave.load()) ::usleep(1000);
    memstream_close(cache);
  } catch (const std::exception& error) {
    fmt::print(stderr, "memstream-costs: {}\n", error.what());
    meeting.failed.store(1);
    ::_exit(1);
  }
  ::_exit(0);
}

// Runs `beside` while all processes of the point are attached, after their gets and puts.
void with_processes(const Point& point, const memstream_options_t& options, Figures* figures,
                    const std::function<void()>& beside) {
  const auto memory = boost::interprocess::anonymous_shared_memory(sizeof(Meeting));
  auto& meeting = *new (memory.get_address()) Meeting;
  std::vector<pid_t> children;
  for (unsigned index = 0; index < point.processes; ++index) {
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error("fork failed");
    if (pid == 0) work_as(index, point, options, meeting);
    children.push_back(pid);
  }
  while (meeting.arrived.load() < 3 * point.processes && meeting.failed.load() == 0) ::usleep(1000);
  if (meeting.failed.load() == 0) beside();
  meeting.leave.store(true);
  if (meeting.failed.load() != 0) {
    for (const pid_t pid : children) ::kill(pid, SIGKILL);  // Those that wait for the one that failed.
  }
  for (const pid_t pid : children) ::waitpid(pid, nullptr, 0);
  if (meeting.failed.load() != 0) throw std::runtime_error("a process of the measurement failed");
  double gets = 0;
  double puts = 0;
  for (unsigned index = 0; index < point.processes; ++index) {
    gets += meeting.get[index] / point.processes;
    puts += meeting.put[index] / point.processes;
  }
  figures->get.push_back(gets);
  figures->put.push_back(puts);
}

// ---- one point ----

void fill(const OpenCache& cache, const Point& point) {
  User user(cache.handle(), point.entries, point.value_size, 1);
  for (std::uint64_t number = 0; number < point.entries; ++number) {
    if (number % 65'536 == 0) stop_if_interrupted();
    user.put(static_cast<std::uint32_t>(number));
  }
  if (cache.stats().entries != point.entries) throw std::runtime_error("the segment is too small for its entries");
}

double connect_ns(const OpenCache& cache) {
  memstream_t* second = nullptr;
  const double taken = ns_of([&] { require_ok(memstream_open(&cache.options(), &second), "memstream_open"); });
  memstream_close(second);
  return taken;
}

double scan_ns(const OpenCache& cache, std::uint64_t entries) {
  std::vector<memstream_entry_t> room(64);
  std::uint64_t seen = 0;
  const double taken = ns_of([&] {
    std::uint64_t cursor = 0;
    do {
      std::size_t count = 0;
      require_ok(memstream_scan(cache.handle(), &cursor, room.data(), room.size(), &count), "memstream_scan");
      seen += count;
    } while (cursor != 0);
  });
  if (seen < entries) throw std::runtime_error(fmt::format("a scan saw {} of {} entries", seen, entries));
  return taken / static_cast<double>(entries);
}

void measure_round(const OpenCache& cache, const Point& point, Figures* figures) {
  stop_if_interrupted();
  figures->shards = cache.stats().shards;
  const auto beside = [&] {
    figures->connect.push_back(connect_ns(cache));
    figures->scan.push_back(scan_ns(cache, point.entries));
    figures->recovery.push_back(1000 * recovery_us(cache, point.value_size));
  };
  if (point.processes > 1) {
    with_processes(point, cache.options(), figures, beside);
    return;
  }
  User user(cache.handle(), point.entries, point.value_size, 0x9e3779b97f4a7c15U);
  user.gets();  // Warms up.
  figures->get.push_back(user.gets());
  figures->put.push_back(user.puts());
  beside();
}

nlohmann::json report_on(const std::string& backend, const Point& point, const Figures& figures) {
  nlohmann::json one = {{"store", "memstream-" + backend},
                        {"series", point.series},
                        {"entries", point.entries},
                        {"processes", point.processes},
                        {"segment_bytes", point.segment_bytes},
                        {"value_size", point.value_size},
                        {"shards", figures.shards},
                        {"get_ns", median(figures.get)},
                        {"put_ns", median(figures.put)},
                        {"connect_ns", median(figures.connect)},
                        {"scan_ns_by_entry", median(figures.scan)},
                        {"recovery_ns", median(figures.recovery)}};
  fmt::print("  {:<10} {:>10} {:>4} {:>8.1f} MiB {:>8.0f} {:>8.0f} {:>10.0f} {:>8.0f} {:>12.0f}\n", point.series,
             point.entries, point.processes, static_cast<double>(point.segment_bytes) / (1 << 20),
             one["get_ns"].get<double>(), one["put_ns"].get<double>(), one["connect_ns"].get<double>(),
             one["scan_ns_by_entry"].get<double>(), one["recovery_ns"].get<double>());
  std::fflush(stdout);
  return one;
}

// Room for them all, however unevenly the shards fill.
std::uint64_t segment_for(std::uint64_t entries, std::uint32_t value_size) {
  return (std::uint64_t{64} << 20) + entries * (value_size + 160UL);
}

}  // namespace

std::uint64_t free_for_segments() {
  std::uint64_t available = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    if (name == "MemAvailable:") file >> available;
    file.ignore(256, '\n');
  }
  struct statvfs shm {};
  if (::statvfs("/dev/shm", &shm) != 0) throw std::runtime_error("cannot look at /dev/shm");
  const std::uint64_t least = std::min(available << 10, std::uint64_t{shm.f_bavail} * shm.f_frsize);
  return least > kLeftToOthers ? least - kLeftToOthers : 0;
}

nlohmann::json measure_scale(const std::string& backend, const ScaleLimits& limits, unsigned rounds) {
  fmt::print(
      "memstream-{}, nanoseconds of the processor\n  {:<10} {:>10} {:>4} {:>12} {:>8} {:>8} {:>10} {:>8} {:>12}\n",
      backend, "series", "entries", "proc", "segment", "get", "put", "connect", "scan", "recovery");
  nlohmann::json points = nlohmann::json::array();
  nlohmann::json left_out = nlohmann::json::array();
  // Whether the point fits beside `taken` bytes; notes it if not.
  const auto fits = [&](const Point& point, std::uint64_t needed) {
    if (needed <= free_for_segments()) return true;
    left_out.push_back(fmt::format("{}: {} entries, {} MiB", point.series, point.entries, point.segment_bytes >> 20));
    fmt::print("  left out, memory is too scarce: {}\n", left_out.back().get<std::string>());
    return false;
  };

  {  // All caches are there at the same time, and take turns in each round.
    std::vector<Point> series;
    std::vector<std::unique_ptr<OpenCache>> caches;
    for (std::uint64_t entries = 1000; entries <= limits.most_entries; entries *= 10) {
      const Point point{"entries", entries, 1, segment_for(entries, 64), 64};
      if (!fits(point, entries * 160)) continue;
      caches.push_back(std::make_unique<OpenCache>(backend, point.segment_bytes, 0, std::to_string(entries)));
      series.push_back(point);
      fill(*caches.back(), point);
    }
    std::vector<Figures> figures(series.size());
    for (unsigned round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < series.size(); ++i) measure_round(*caches[i], series[i], &figures[i]);
    }
    for (std::size_t i = 0; i < series.size(); ++i) points.push_back(report_on(backend, series[i], figures[i]));
  }
  {  // One cache, and all numbers of processes in each round.
    std::vector<Point> series;
    constexpr std::uint64_t kEntries = 100'000;
    for (unsigned processes = 1; processes <= limits.most_processes; processes *= 2) {
      series.push_back({"processes", kEntries, processes, segment_for(kEntries, 64), 64});
    }
    OpenCache cache(backend, series.front().segment_bytes);
    fill(cache, series.front());
    std::vector<Figures> figures(series.size());
    for (unsigned round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < series.size(); ++i) measure_round(cache, series[i], &figures[i]);
    }
    for (std::size_t i = 0; i < series.size(); ++i) points.push_back(report_on(backend, series[i], figures[i]));
  }
  // One after the other: they do not fit side by side.
  for (std::uint64_t bytes = std::uint64_t{64} << 20; bytes <= limits.largest_gib << 30; bytes *= 4) {
    constexpr std::uint32_t kValueSize = 16 << 10;
    const Point point{"segment", bytes / 4 * 3 / (kValueSize + 160), 1, bytes, kValueSize};
    if (!fits(point, bytes / 4 * 3)) continue;
    OpenCache cache(backend, bytes);
    fill(cache, point);
    Figures figures;
    for (unsigned round = 0; round < rounds; ++round) measure_round(cache, point, &figures);
    points.push_back(report_on(backend, point, figures));
  }
  return {{"points", points}, {"left_out", left_out}};
}

}  // namespace memstream::bench
