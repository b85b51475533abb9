// Kills processes at random moments among others at work, and audits what all of them were told is stored.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/crowd.h"
#include "tests/torture/segment_bytes.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kKillHang{60};
constexpr std::size_t kMostVictims = 3;
constexpr int kVictimTries = 100;                    // To stop a process while it holds the lock.
constexpr std::chrono::milliseconds kUntilTaken{5};  // Until somebody takes the lock.

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

// From a death to the end of a peer's next write.
class Delays {
 public:
  explicit Delays(std::string name) : name_(std::move(name)) {}
  void add(Clock::duration delay) { all_.push_back(milliseconds(delay)); }
  void report(Section& section) {
    if (all_.empty()) return;
    std::sort(all_.begin(), all_.end());
    section.set(name_ + "_p50_ms", at(0.5));
    section.set(name_ + "_p99_ms", at(0.99));
    section.set(name_ + "_max_ms", at(1));
  }

 private:
  double at(double part) const {
    const double value = all_[static_cast<std::size_t>(part * static_cast<double>(all_.size() - 1))];
    return std::round(value * 1000) / 1000;
  }
  std::string name_;
  std::vector<double> all_;
};

class Killing {
 public:
  Killing(const Place& place, const Load& load, const CommonOptions& common)
      : watchdog_(kKillHang * common.patience),
        random_(common.seed),
        peer_(place),
        bytes_(peer_),
        crowd_(place, load, common.seed) {}

  void run(std::uint64_t rounds, Section& section) {
    std::uint64_t done = 0;
    try {
      for (; done < rounds; ++done) {
        watchdog_.rearm(fmt::format("working after kill {}", done));
        round();
        if (done % 64 == 0) peer_.check();
      }
      peer_.check();
    } catch (const Finding& finding) {
      section.find(fmt::format("round {}: {}", done, finding.what()));
    }
    report(done, section);
  }

 private:
  // Some processes die: the first at a random moment, or one that holds the lock; each further one holds it then, and
  // may be at repairing what the last one left.
  void round() {
    const std::uint64_t recoveries = bytes_.shard().counters.recoveries;
    const std::uint64_t epoch = bytes_.shard().epoch;
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 1500));
    const std::size_t wanted = 1 + random_() % kMostVictims;
    std::vector<std::size_t> dead;
    if (random_() % 4 == 0) kill(random_() % Ledger::kProcesses, &dead);
    for (int tries = 0; dead.size() < wanted && tries < kVictimTries; ++tries) {
      const auto index = await_holder(dead);
      if (!index) break;
      Process& holder = crowd_.process(*index);
      holder.stop();
      if (bytes_.write_lock().holder == holder.id()) {
        inside_ += 1;
        inside_recovery_ += bytes_.shard().needs_recovery != 0 ? 1 : 0;
        kill(*index, &dead);
      } else {
        holder.go_on();
      }
    }
    if (dead.empty()) kill(random_() % Ledger::kProcesses, &dead);
    const auto died = Clock::now();
    peer_.put("a key of the peer", "value");
    const auto delay = Clock::now() - died;
    const bool was_inside = bytes_.shard().counters.recoveries != recoveries;
    (was_inside ? after_recovery_ : without_recovery_).add(delay);
    recovered_ += was_inside ? 1 : 0;
    dead_readers_ += !was_inside && bytes_.shard().epoch != epoch ? 1 : 0;
    deaths_ += dead.size();
    for (const std::size_t index : dead) crowd_.replace(peer_, index);
    for (std::size_t index = 0; index < Ledger::kProcesses; ++index) crowd_.audit(peer_, index);
  }

  void kill(std::size_t index, std::vector<std::size_t>* dead) {
    crowd_.process(index).kill();
    dead->push_back(index);
  }

  // A process of the crowd that has the write lock at this moment.
  std::optional<std::size_t> await_holder(const std::vector<std::size_t>& dead) const {
    for (const auto end = Clock::now() + kUntilTaken; Clock::now() < end;) {
      const pid_t holder = bytes_.write_lock().holder;
      const auto index = holder != 0 ? crowd_.index_of(holder) : std::nullopt;
      if (index && std::find(dead.begin(), dead.end(), *index) == dead.end()) return index;
    }
    return std::nullopt;
  }

  void report(std::uint64_t done, Section& section) {
    const cache_stats_t statistics = peer_.statistics();
    section.set("rounds", done);
    section.set("deaths", deaths_);
    section.set("deaths_in_lock", inside_);
    section.set("deaths_in_recovery", inside_recovery_);
    section.set("rounds_with_recovery", recovered_);
    section.set("dead_readers_passed", dead_readers_);
    section.set("recoveries", statistics.recoveries);
    section.set("evictions", statistics.evictions);
    section.set("calls", crowd_.ledger().calls());
    section.set("lost", crowd_.ledger().lost());
    after_recovery_.report(section);
    without_recovery_.report(section);
    section.set("longest_call_ms", std::round(crowd_.ledger().longest_ms() * 10) / 10);
    const bool evicts = crowd_.ledger().load().evicts;
    if (crowd_.ledger().busy() != 0) section.find(fmt::format("{} calls were busy", crowd_.ledger().busy()));
    if (!evicts && statistics.evictions != 0) section.find("entries were evicted, so that the audit says nothing");
    if (evicts && done > 100 && statistics.evictions == 0) section.find("nothing was evicted");
    if (statistics.damaged != 0) section.find(fmt::format("{} damaged entries", statistics.damaged));
  }

  Watchdog watchdog_;
  std::mt19937_64 random_;
  CacheUnderTest peer_;
  SegmentBytes bytes_;
  Crowd crowd_;
  Delays after_recovery_{"recovery"};
  Delays without_recovery_{"other"};
  std::uint64_t deaths_ = 0;
  std::uint64_t inside_ = 0;
  std::uint64_t inside_recovery_ = 0;
  std::uint64_t recovered_ = 0;
  std::uint64_t dead_readers_ = 0;
};

void kill_and_audit(const CommonOptions& common, const std::string& backend, const std::string& subject,
                    const Load& load, std::uint64_t rounds, Report& report) {
  Place place = common.place(backend, "kill");
  place.size_bytes = std::uint64_t{load.evicts ? 1U : 8U} << 20;
  place.timeout_ms *= 5;
  Section section(backend, subject);
  try {
    Killing(place, load, common).run(rounds, section);
  } catch (const Finding& finding) {
    section.find(finding.what());
  }
  destroy_named(place);
  report.add(section);
}

}  // namespace

void run_kill(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  const std::uint64_t evicting = rounds / 4;
  for (const std::string& backend : common.backends) {
    kill_and_audit(common, backend, "kill, room for all", {}, rounds - evicting, report);
    kill_and_audit(common, backend, "kill, evicting", {.keys = 64, .large_every = 8, .evicts = true}, evicting, report);
  }
}

}  // namespace memstream::torture
