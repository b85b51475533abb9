// Lets processes run out of memory in the middle of their work: killed by the kernel at the limit of a memory cgroup,
// or ended by their own failure to allocate at a resource limit. The others go on, and nothing is lost.
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/torture/commands.h"
#include "tests/torture/ledger.h"
#include "tests/torture/memory_group.h"
#include "tests/torture/process.h"
#include "tests/torture/watchdog.h"
#include "tests/torture/worker.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kOomHang{120};
constexpr std::uint64_t kGroupLimit = std::uint64_t{24} << 20;
constexpr std::uint64_t kMoreAddresses = std::uint64_t{16} << 20;

// Works on the cache and takes ever more memory of its own, in pieces of some pages, until that is its end.
[[noreturn]] void work_and_grow(const Place& place, Ledger& ledger, std::uint64_t seed) {
  Worker worker(place, ledger, 0, seed);
  std::vector<std::unique_ptr<char[]>> hoard;
  for (;;) {
    worker.step();
    constexpr std::size_t kPiece = 20'000;
    hoard.push_back(std::make_unique<char[]>(kPiece));  // Zeroed, so that its pages are there.
  }
}

// Writes new keys into the shared memory, which is charged to whoever touches a page first.
[[noreturn]] void fill(const Place& place) {
  CacheUnderTest cache(place);
  for (std::uint64_t i = 0;; ++i) {
    const std::string key = "process-filler-" + std::to_string(i % 20'000);
    cache.put(key, make_value(key, i, 3'000));
  }
}

void limit_addresses() {
  // What this process has now, in pages, is the first number.
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (file == nullptr || std::fscanf(file, "%lu", &pages) != 1)
    throw std::runtime_error("cannot read /proc/self/statm");
  std::fclose(file);
  const rlimit limit{.rlim_cur = pages * 4096 + kMoreAddresses, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) throw std::runtime_error(std::string("setrlimit: ") + std::strerror(errno));
}

enum class Way { kGroupHeap, kGroupSegment, kAddresses };

class Starving {
 public:
  Starving(const Place& place, Way way, const CommonOptions& common)
      : place_(place),
        way_(way),
        watchdog_(kOomHang * common.patience),
        random_(common.seed),
        peer_(std::make_unique<CacheUnderTest>(place)),
        ledger_({}) {}

  void run(std::uint64_t rounds, Section& section) {
    std::uint64_t done = 0;
    for (; done < rounds && section.findings() == 0; ++done) {
      watchdog_.rearm(fmt::format("starving in round {}", done));
      try {
        MemoryGroup group(kGroupLimit);
        if (way_ != Way::kAddresses && !group.why_not().empty()) return section.skip(group.why_not());
        round(group);
      } catch (const Finding& finding) {
        section.find(fmt::format("round {}: {}", done, finding.what()));
      }
    }
    const cache_stats_t statistics = peer_->statistics();
    section.set("rounds", done);
    section.set("killed_by_kernel", killed_);
    section.set("ended_by_failed_allocation", aborted_);
    section.set("recoveries", recoveries_ + statistics.recoveries);
    section.set("lost", ledger_.lost());
    if (statistics.evictions != 0 && way_ != Way::kGroupSegment) {
      section.find("entries were evicted, so that the audit says nothing");
    }
  }

 private:
  void round(const MemoryGroup& group) {
    // The pages of a segment that has been full are charged already.
    if (way_ == Way::kGroupSegment) begin_anew();
    const std::uint64_t seed = random_();
    const pid_t process_id = ::fork();
    if (process_id < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (process_id == 0) starve(group, seed);
    int status = 0;
    ::waitpid(process_id, &status, 0);
    killed_ += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 1 : 0;
    aborted_ += WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 1 : 0;
    const int expected = way_ == Way::kAddresses ? SIGABRT : SIGKILL;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != expected) {
      throw Finding(fmt::format("the starving process ended with the wait status {:#x}", status));
    }
    examine();
  }

  void begin_anew() {
    recoveries_ += peer_->statistics().recoveries;
    peer_.reset();
    destroy_named(place_);
    peer_ = std::make_unique<CacheUnderTest>(place_);
  }

  [[noreturn]] void starve(const MemoryGroup& group, std::uint64_t seed) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // A core file of each would help nobody.
    const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    try {
      if (way_ == Way::kAddresses) {
        limit_addresses();
      } else {
        group.join();
      }
      if (way_ == Way::kGroupSegment) fill(place_);
      work_and_grow(place_, ledger_, seed);
    } catch (const std::bad_alloc&) {
      std::abort();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "a starving process: %s\n", error.what());
      ::_exit(3);
    }
  }

  // A peer goes on, and finds what the dead one was told is stored.
  void examine() {
    std::string value;
    peer_->put("a key of the peer", "value");
    for (std::size_t key = 0; key < ledger_.load().keys; ++key) {
      const bool found = peer_->get(Ledger::key(0, key), &value);
      const bool may_go = way_ == Way::kGroupSegment;
      if (found || !may_go) ledger_.settle(0, key, found ? std::optional<std::string>(value) : std::nullopt);
    }
    peer_->check();
  }

  Place place_;
  Way way_;
  Watchdog watchdog_;
  std::mt19937_64 random_;
  std::unique_ptr<CacheUnderTest> peer_;
  Ledger ledger_;
  std::uint64_t killed_ = 0;
  std::uint64_t aborted_ = 0;
  std::uint64_t recoveries_ = 0;
};

}  // namespace

void run_oom(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  constexpr std::pair<Way, const char*> kWays[] = {{Way::kGroupHeap, "oom, cgroup, own memory"},
                                                   {Way::kGroupSegment, "oom, cgroup, segment"},
                                                   {Way::kAddresses, "oom, RLIMIT_AS"}};
  for (const std::string& backend : common.backends) {
    for (const auto& [way, subject] : kWays) {
      Place place = common.place(backend, "oom");
      place.size_bytes = std::uint64_t{way == Way::kGroupSegment ? 64U : 8U} << 20;
      Section section(backend, subject);
      try {
        Starving(place, way, common).run(rounds, section);
      } catch (const Finding& finding) {
        section.find(finding.what());
      }
      destroy_named(place);
      report.add(section);
    }
  }
}

}  // namespace memstream::torture
