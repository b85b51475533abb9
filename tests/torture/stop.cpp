// Stops processes at random moments: a stopped process is not a dead one. Its locks stay its own, and the others get an
// answer or CACHE_BUSY at their deadline.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <random>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/crowd.h"
#include "tests/torture/segment_bytes.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kStopHang{60};
constexpr std::int64_t kTimeoutMs = 20;
// A deadline bounds the waiting, not the work, nor how long the machine lets a process wait for a processor.
constexpr double kLateMs = 5000;
constexpr int kHolderTries = 300;  // To stop a process while it holds the lock that is wanted.

using Clock = std::chrono::steady_clock;

class Stopping {
 public:
  Stopping(const Place& place, const Place& patient, const CommonOptions& common)
      : watchdog_(kStopHang * common.patience),
        late_ms_(kLateMs * common.patience),
        random_(common.seed),
        auditor_(patient),
        bytes_(auditor_),
        peer_(place, kWorkersPatience),
        crowd_(place, {}, common.seed) {}

  void run(std::uint64_t rounds, Section& section) {
    std::uint64_t done = 0;
    try {
      for (; done < rounds; ++done) {
        watchdog_.rearm(fmt::format("working beside the stopped process of round {}", done));
        round();
      }
      watchdog_.rearm("auditing");
      audit();
    } catch (const Finding& finding) {
      section.find(fmt::format("round {}: {}", done, finding.what()));
    }
    report(done, section);
  }

 private:
  void round() {
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 1500));
    Process& victim = stop_somebody();
    const bool holds = bytes_.write_lock().holder == victim.id();
    const bool reads = bytes_.reads_slowly(victim.id());
    const std::uint64_t epoch = bytes_.shard().epoch;
    stopped_inside_ += holds ? 1 : 0;
    stopped_reading_ += reads ? 1 : 0;
    const int written =
        timed("a set", [&] { return memstream_set(peer_.handle(), kKey.data(), kKey.size(), "value", 5, 0, 0); });
    // Most of all what it may be in the middle of writing.
    for (std::size_t key = 0; holds && key < crowd_.ledger().load().keys; ++key) {
      read(*crowd_.index_of(victim.id()), key);
    }
    read(random_() % Ledger::kProcesses, random_() % crowd_.ledger().load().keys);
    scan();
    // It was stopped all the time: whatever it held it must still hold.
    if (holds && bytes_.write_lock().holder != victim.id()) throw Finding("the lock of a stopped process was taken");
    if (holds && written != CACHE_BUSY) throw Finding("a set succeeds while a stopped process holds the lock");
    if (reads && bytes_.shard().epoch != epoch) throw Finding("the shared lock of a stopped reader was taken");
    victim.go_on();
  }

  // Anybody, or one that holds the lock, or one that reads under the shared one, if that succeeds.
  Process& stop_somebody() {
    const std::uint64_t wanted = random_() % 3;
    Process* victim = &crowd_.process(random_() % Ledger::kProcesses);
    victim->stop();
    for (int tries = wanted == 0 ? 0 : kHolderTries; tries > 0; --tries) {
      if (wanted == 1 && bytes_.write_lock().holder == victim->id()) break;
      if (wanted == 2 && bytes_.reads_slowly(victim->id())) break;
      victim->go_on();
      const auto holder = wanted == 1 ? crowd_.index_of(bytes_.write_lock().holder) : std::nullopt;
      victim = &crowd_.process(holder ? *holder : random_() % Ledger::kProcesses);
      victim->stop();
    }
    return *victim;
  }

  void read(std::size_t process, std::size_t key) {
    const std::uint64_t stored = crowd_.ledger().last_stored(process, key);
    std::string value;
    const int status = timed("a get", [&] { return peer_.try_get(Ledger::key(process, key), &value); });
    if (status == CACHE_BUSY) return;
    crowd_.ledger().verify(process, key, stored, status == CACHE_OK ? std::optional<std::string>(value) : std::nullopt);
  }

  void scan() {
    std::uint64_t cursor = 0;
    std::size_t count = 0;
    static std::array<memstream_entry_t, 16> entries;
    timed("a scan", [&] { return memstream_scan(peer_.handle(), &cursor, entries.data(), entries.size(), &count); });
  }

  template <class Call>
  int timed(const char* what, const Call& call) {
    const auto began = Clock::now();
    const int status = call();
    const double took_ms = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
    longest_ms_ = std::max(longest_ms_, took_ms);
    ++calls_;
    if (took_ms > late_ms_) throw Finding(fmt::format("{} took {:.0f} ms", what, took_ms));
    if (status != CACHE_BUSY) return require(status, what);
    ++busy_;
    if (took_ms < static_cast<double>(kTimeoutMs)) throw Finding(fmt::format("{} was busy before its deadline", what));
    return status;
  }

  void audit() {
    for (std::size_t index = 0; index < Ledger::kProcesses; ++index) crowd_.audit(auditor_, index);
    // The last to be stopped may hold something yet; every process is alive and goes on.
    auditor_.check();
  }

  void report(std::uint64_t done, Section& section) {
    const cache_stats_t statistics = auditor_.statistics();
    section.set("rounds", done);
    section.set("stopped_in_lock", stopped_inside_);
    section.set("stopped_reading", stopped_reading_);
    section.set("peer_calls", calls_);
    section.set("peer_busy", busy_);
    section.set("crowd_calls", crowd_.ledger().calls());
    section.set("crowd_busy", crowd_.ledger().busy());
    section.set("longest_ms", std::round(longest_ms_));
    section.set("crowd_longest_ms", std::round(crowd_.ledger().longest_ms()));
    // Nobody died: a recovery would have taken something from the living.
    section.set("stolen", statistics.recoveries);
    if (statistics.recoveries != 0)
      section.find(fmt::format("{} locks of stopped processes taken", statistics.recoveries));
    if (crowd_.ledger().longest_ms() > late_ms_) section.find("a process was blocked far beyond its deadline");
  }

  static constexpr std::string_view kKey = "a key of the peer";

  Watchdog watchdog_;
  double late_ms_;
  std::mt19937_64 random_;
  CacheUnderTest auditor_;
  SegmentBytes bytes_;
  CacheUnderTest peer_;
  Crowd crowd_;
  std::uint64_t stopped_inside_ = 0;
  std::uint64_t stopped_reading_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t busy_ = 0;
  double longest_ms_ = 0;
};

}  // namespace

void run_stop(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  for (const std::string& backend : common.backends) {
    Place patient = common.place(backend, "stop");
    patient.size_bytes = std::uint64_t{8} << 20;
    patient.timeout_ms *= 5;
    Place place = patient;
    place.timeout_ms = kTimeoutMs;
    Section section(backend, "stop");
    try {
      Stopping(place, patient, common).run(rounds, section);
    } catch (const Finding& finding) {
      section.find(finding.what());
    }
    destroy_named(patient);
    report.add(section);
  }
}

}  // namespace memstream::torture
