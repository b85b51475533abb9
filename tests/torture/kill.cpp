// Kills processes at random moments among others at work, and audits what the dead were told is stored.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/crowd.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kHang{60};

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

// From a death to the end of a peer's next write, recovery included.
class Delays {
 public:
  void add(Clock::duration delay) { all_.push_back(milliseconds(delay)); }
  void report(Section& section) {
    if (all_.empty()) return;
    std::sort(all_.begin(), all_.end());
    section.set("p50_ms", at(0.5));
    section.set("p99_ms", at(0.99));
    section.set("max_ms", all_.back());
  }

 private:
  double at(double part) const { return all_[static_cast<std::size_t>(part * static_cast<double>(all_.size() - 1))]; }
  std::vector<double> all_;
};

void kill_and_audit(const Place& place, std::uint64_t seed, std::uint64_t rounds, Section& section) {
  Watchdog watchdog(kHang);
  std::mt19937_64 random(seed);
  CacheUnderTest peer(place);
  Crowd crowd(place, seed);
  Delays delays;
  std::uint64_t lost = 0;
  std::uint64_t done = 0;
  try {
    for (; done < rounds; ++done) {
      watchdog.rearm(fmt::format("working after kill {}", done));
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      const std::size_t victim = random() % Crowd::kProcesses;
      crowd.process(victim).kill();
      const auto died = Clock::now();
      peer.put("a key of the peer", "value");
      delays.add(Clock::now() - died);
      lost += crowd.audit(peer, victim);
      crowd.replace(victim);
      if (done % 64 == 0) peer.check();
    }
    peer.check();
  } catch (const Finding& finding) {
    section.find(fmt::format("round {}: {}", done, finding.what()));
  }
  const cache_stats_t statistics = peer.statistics();
  section.set("rounds", done);
  section.set("recoveries", statistics.recoveries);
  section.set("lost", lost);
  delays.report(section);
  if (lost != 0) section.find(fmt::format("{} writes were lost", lost));
  if (statistics.evictions != 0) section.find("entries were evicted, so that the audit says nothing");
}

}  // namespace

void run_kill(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  for (const std::string& backend : common.backends) {
    const Place place = common.place(backend, "kill");
    Section section(backend, "kill");
    kill_and_audit(place, common.seed, rounds, section);
    destroy_named(place);
    report.add(section);
  }
}

}  // namespace memstream::torture
