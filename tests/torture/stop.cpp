// Stops processes at random moments: a stopped process is not a dead one. Its locks stay its own, and the others get an
// answer or CACHE_BUSY at their deadline.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/crowd.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kHang{60};
constexpr std::int64_t kTimeoutMs = 20;
// A deadline bounds the waiting, not the work, nor how long the machine lets this process wait for a processor.
constexpr std::chrono::seconds kLate{5};

using Clock = std::chrono::steady_clock;

void stop_and_go_on(const Place& place, std::uint64_t seed, std::uint64_t rounds, Section& section) {
  Watchdog watchdog(kHang);
  std::mt19937_64 random(seed);
  // Opened first: its short deadline is for the writes, not for the rush into the process table.
  Place impatient = place;
  impatient.timeout_ms = kTimeoutMs;
  CacheUnderTest peer(impatient);
  Crowd crowd(place, {}, seed);
  std::uint64_t busy = 0;
  Clock::duration longest{};
  for (std::uint64_t round = 0; round < rounds; ++round) {
    watchdog.rearm(fmt::format("working beside the stopped process of round {}", round));
    Process& victim = crowd.process(random() % Ledger::kProcesses);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    victim.send(SIGSTOP);
    const auto began = Clock::now();
    const int status = memstream_set(peer.handle(), "peer", 4, "value", 5, 0, 0);
    longest = std::max(longest, Clock::now() - began);
    busy += status == CACHE_BUSY ? 1 : 0;
    if (status != CACHE_BUSY) require(status, "memstream_set");
    victim.send(SIGCONT);
  }
  std::uint64_t lost = 0;
  for (std::size_t index = 0; index < Ledger::kProcesses; ++index) crowd.process(index).kill();
  CacheUnderTest auditor(place);
  for (std::size_t index = 0; index < Ledger::kProcesses; ++index) crowd.audit(auditor, index);
  auditor.check();
  section.set("rounds", rounds);
  section.set("busy", busy);
  section.set("lost", lost);
  section.set("longest_ms", std::chrono::duration_cast<std::chrono::milliseconds>(longest).count());
  if (lost != 0) section.find(fmt::format("{} writes were lost", lost));
  if (longest > kLate) section.find("a write was blocked far beyond its deadline");
}

}  // namespace

void run_stop(const CommonOptions& common, std::uint64_t rounds, Report& report) {
  for (const std::string& backend : common.backends) {
    const Place place = common.place(backend, "stop");
    Section section(backend, "stop");
    try {
      stop_and_go_on(place, common.seed, rounds, section);
    } catch (const Finding& finding) {
      section.find(finding.what());
    }
    destroy_named(place);
    report.add(section);
  }
}

}  // namespace memstream::torture
