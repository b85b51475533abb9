// Every system call and every initialiser that the library uses fails, on its n-th call, for every n, once or from then
// on. What must hold: the call of the library succeeds, or ends in an error that says what failed and what to do; no
// crash, no hang; nothing is left of what was begun; and the process goes on as if nothing had been, once nothing fails
// any more. Where nothing may stay of a case, the next one runs in the same process.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tests/faults/injection.h"
#include "tests/faults/scenarios.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

constexpr std::int64_t kTimeoutMs = 20;    // Where something fails: nobody else is in the way.
constexpr std::int64_t kHealthyMs = 2000;  // Where nothing does. Valgrind needs 20 to pass a dead reader.
constexpr unsigned kPatienceSeconds = 20;  // After which a case counts as a hang. Valgrind needs some.

// What a process holds of the system.
struct Resources {
  std::ptrdiff_t descriptors = 0;
  std::ptrdiff_t mappings = 0;  // Of shared memory.

  static Resources of_this_process() {
    Resources resources;
    const std::filesystem::directory_iterator folder("/proc/self/fd");
    resources.descriptors = std::distance(begin(folder), end(folder));
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/dev/shm/memstream.") != std::string::npos || line.find("/SYSV") != std::string::npos)
        ++resources.mappings;
    }
    return resources;
  }
};

std::string traces_of(const std::string& name) {
  const char* backend = std::getenv("MEMSTREAM_BACKEND");
  return backend != nullptr && std::string(backend) == "sysv" ? SysV::traces_of(name) : Posix::traces_of(name);
}
// A semaphore that nobody holds is no harm: whoever creates or removes a segment of the name next removes it.
std::string segments_of(const std::string& name) {
  const std::string traces = traces_of(name);
  return traces.find("segment with key") != std::string::npos || traces.find("/dev/shm") == 0 ? traces : "";
}

// What the healthy run of a scenario came to; filled by a child.
struct Healthy {
  unsigned calls[kFunctions];
  long allocations;  // That are left after two runs: caches of the library that last as long as the process.
};

std::string describe(const Fault& fault) {
  return fmt::format("{} call {} fails {} with {}", facts_of(fault.function).name, fault.call,
                     fault.persists ? "for good" : "once", strerrorname_np(fault.error));
}

bool is_of(const Fault& fault, std::initializer_list<Function> functions) {
  return std::find(functions.begin(), functions.end(), fault.function) != functions.end();
}
bool is_allocation(const Fault& fault) {
  return is_of(fault, {Function::k_operator_new, Function::k_operator_new_aligned, Function::k_aligned_alloc,
                       Function::k___register_atfork});
}

// How the message of an error names the function that failed.
std::string named_in_messages(Function function) {
  switch (function) {
    case Function::k___register_atfork:
      return "pthread_atfork";
    case Function::k_pread:
    case Function::k_read:
      return "read";
    default:
      return facts_of(function).name;
  }
}

// What is wrong with the outcomes of a run; empty if nothing.
Complaint judge(const Journal& journal, const CacheSpec& spec, const Fault* fault) {
  if (!journal.complaint().empty()) return journal.complaint();
  if (journal.is_full()) return "the scenario does not come to an end";
  for (const Outcome& outcome : journal) {
    if (outcome.status >= 0) continue;
    const std::string message = outcome.message;
    const auto bad = [&](const char* what) {
      return fmt::format("{} gave {}, {}: '{}'", outcome.call, outcome.status, what, message);
    };
    if (message.empty()) return bad("without a message");
    if (outcome.status == CACHE_INTERNAL) return bad("which is said of defects");
    if (fault == nullptr || is_allocation(*fault)) continue;
    if (outcome.names_segment && outcome.status != CACHE_READ_ONLY &&
        message.find("'" + spec.name + "'") == std::string::npos)
      return bad("and does not name the segment");
    if (outcome.status == CACHE_OS_ERROR && message.find(named_in_messages(fault->function)) == std::string::npos)
      return bad("and does not name the call");
    if (message.find("''") != std::string::npos) return bad("with an empty name");
    if (message.back() != '.' && message.back() != ')' && message.find(": ") == std::string::npos)
      return bad("without a remedy");
  }
  return "";
}

// As `spec`, for whoever has all the time that the machine may take.
CacheSpec patient(CacheSpec spec) {
  spec.timeout_ms = kHealthyMs;
  return spec;
}

Complaint run(const Scenario& scenario, const CacheSpec& spec, const Fault* fault, Journal& journal) {
  start_calls(fault);
  scenario.run(journal, spec);
  stop_calls();
  return judge(journal, spec, fault);
}

// One run without faults in which every call succeeds, with a peer where the scenario has one, and nothing left after.
Complaint run_healthy(const Scenario& scenario, const CacheSpec& spec, unsigned* calls) {
  static Journal journal;
  journal = {};
  std::unique_ptr<OpenCache> peer;
  std::shared_ptr<void> prepared;
  if (scenario.has_peer) {
    peer = std::make_unique<OpenCache>(patient(spec));
    if (Complaint complaint = use_as_peer(*peer); !complaint.empty()) return complaint;
    if (scenario.prepare != nullptr) prepared = scenario.prepare(spec);
  }
  const bool waits_in_vain = scenario.expected_error == CACHE_BUSY;
  if (Complaint complaint = run(scenario, waits_in_vain ? spec : patient(spec), nullptr, journal); !complaint.empty())
    return complaint;
  prepared.reset();
  for (std::size_t function = 0; calls != nullptr && function < kFunctions; ++function)
    calls[function] = calls_of(static_cast<Function>(function));
  for (const Outcome& outcome : journal) {
    const bool is_meant = outcome.status >= 0 || outcome.status == scenario.expected_error ||
                          outcome.status == CACHE_BAD_KEY || outcome.status == CACHE_TOO_LARGE ||
                          outcome.status == CACHE_BAD_HANDLE || outcome.status == CACHE_READ_ONLY;
    if (!is_meant) return fmt::format("{} gave {}: {}", outcome.call, outcome.status, outcome.message);
  }
  peer.reset();
  const memstream_options_t options = spec.options();
  memstream_destroy_named(&options);  // Some scenarios do it themselves.
  const std::string traces = traces_of(spec.name);
  return traces.empty() ? "" : "left behind: " + traces;
}

// Functions whose failure leaves exactly what they should have taken away.
bool may_keep_mapping(const Fault& fault) { return is_of(fault, {Function::k_munmap, Function::k_shmdt}); }
bool may_keep_slot(const Fault& fault) {
  // Leaving the process table needs its lock. The slot is taken from the process when it ends.
  return is_of(fault, {Function::k_pthread_mutex_trylock, Function::k_pthread_mutex_clocklock});
}

Complaint check_peer(memstream_t* peer, const Fault& fault, bool is_destroyed) {
  if (is_destroyed) return "";
  if (Complaint complaint = use_as_peer(peer); !complaint.empty()) return "the peer: " + complaint;
  if (may_keep_slot(fault)) return "";
  // Not the statistics: they read /proc/self/smaps, which took a fifth of this test under the address sanitizer.
  memstream_process_t processes[4];
  std::size_t count = 0;
  if (memstream_processes(peer, processes, std::size(processes), &count) != CACHE_OK) return cache_last_error();
  if (count != 1) return fmt::format("{} process slots are taken", count);
  if (processes[0].pins != 0) return "pins are left";
  return "";
}

// One fault in one scenario. Everything that must hold is asked here. Counts in `struck` whether the fault came about.
Complaint run_with_fault(const Scenario& scenario, const CacheSpec& spec, const Fault& fault, long kept_allocations,
                         std::atomic<unsigned>* struck) {
  ::alarm(kPatienceSeconds);
  const Resources before = Resources::of_this_process();
  const long allocations_before = outstanding_allocations();
  static Journal journal;
  journal = {};
  std::unique_ptr<OpenCache> peer;
  std::shared_ptr<void> prepared;
  if (scenario.has_peer) {
    peer = std::make_unique<OpenCache>(patient(spec));
    if (Complaint complaint = use_as_peer(*peer); !complaint.empty()) return complaint;
    if (scenario.prepare != nullptr) prepared = scenario.prepare(spec);
  }
  if (Complaint complaint = run(scenario, spec, &fault, journal); !complaint.empty()) return complaint;
  prepared.reset();
  if (!fault_struck()) {  // Runs differ by a call or two; how many faults come about is counted.
    peer.reset();
    const memstream_options_t options = spec.options();
    memstream_destroy_named(&options);
    return "";
  }
  ++*struck;

  const Outcome& last = *(journal.end() - 1);
  const bool is_announced = std::any_of(journal.begin(), journal.end(), [](const Outcome& outcome) {
    return std::string(outcome.message).find("left behind") != std::string::npos;
  });
  if (peer != nullptr) {
    const bool is_destroyed = memstream_exists(*peer, "kept", 4) == CACHE_GONE;
    if (is_destroyed && std::string(scenario.name) != "destroy by name") return "the peer's segment is gone";
    if (Complaint complaint = check_peer(*peer, fault, is_destroyed); !complaint.empty()) return complaint;
    peer.reset();
    const memstream_options_t options = spec.options();
    memstream_destroy_named(&options);
  } else if (last.status < 0 && std::string(last.call) == "memstream_open" && journal.end() - journal.begin() <= 2) {
    // Creating failed: then there is nothing, unless the message says so.
    const std::string segments = segments_of(spec.name);
    if (!segments.empty() && !is_announced)
      return fmt::format("left behind: {}, and the message is '{}'", segments, journal.begin()->message);
  }
  if (!scenario.has_peer && journal.end() - journal.begin() > 2) {
    // What the fault kept it from destroying. It may wait a second until it asks the system for memory again.
    const memstream_options_t options = spec.options();
    memstream_destroy_named(&options);
  }
  if (Complaint complaint = run_healthy(scenario, spec, nullptr); !complaint.empty())
    return "afterwards, without a fault: " + complaint;

  const Resources after = Resources::of_this_process();
  if (after.descriptors != before.descriptors)
    return fmt::format("{} descriptors are left", after.descriptors - before.descriptors);
  if (after.mappings != before.mappings && !may_keep_mapping(fault))
    return fmt::format("{} mappings are left", after.mappings - before.mappings);
  const long left = outstanding_allocations() - allocations_before - kept_allocations;
  return left > 0 ? fmt::format("{} blocks of memory are left", left) : "";
}

struct Case {
  Fault fault;
  bool is_certain;  // Whether every run comes to the call.
};

// Of the cases of a scenario; what the children that run them share.
struct Progress {
  std::atomic<unsigned> begun, struck;
  std::atomic<unsigned> missed;  // Certain and not struck.
};

// Runs cases from where the child before stopped, to the first about which something is to be said. A case that may
// leave something in the process is the last one in it. So is one that the process does not come to, as it no longer
// makes calls that are made once: it is left to the next one, in which it is the first. With `is_cold` every case is.
Complaint run_cases(const Scenario& scenario, const CacheSpec& spec, const std::vector<Case>& cases,
                    long kept_allocations, bool is_cold, Progress& progress) {
  for (bool is_first = true; progress.begun < cases.size(); is_first = false) {
    const Case& current = cases[progress.begun++];
    const unsigned struck_before = progress.struck;
    Complaint complaint =
        run_with_fault(scenario, spec, current.fault, is_first ? kept_allocations : 0, &progress.struck);
    const bool has_struck = progress.struck != struck_before;
    if (complaint.empty() && !has_struck && !is_first) {
      --progress.begun;
      return "";
    }
    if (current.is_certain && !has_struck) ++progress.missed;
    if (!complaint.empty() || is_cold || may_keep_mapping(current.fault) || may_keep_slot(current.fault))
      return complaint;
  }
  return "";
}

// Calls 1 to `count`, all of them or every n-th.
std::vector<unsigned> chosen_calls(unsigned count, unsigned stride, unsigned offset) {
  std::vector<unsigned> chosen;
  for (unsigned call = 1 + offset % stride; call <= count; call += stride) chosen.push_back(call);
  return chosen;
}

CacheSpec spec_of(const Scenario& scenario) {
  const auto number = &scenario - kScenarios;
  return {fmt::format("test-{}-fault-{}", ::getpid(), number), kMinSegmentSize, 1, kTimeoutMs};
}

// Every choice of call, error and persistence for the calls that a scenario makes. `healthy`: two runs of it.
std::vector<Case> cases_of(const SharedArray<Healthy>& healthy, unsigned stride, std::size_t cases_before) {
  const char* only = std::getenv("MEMSTREAM_FAULT");  // Of one function: to look at a finding.
  std::vector<Case> cases;
  for (std::size_t index = 0; index < kFunctions; ++index) {
    const auto function = static_cast<Function>(index);
    if (only != nullptr && std::string(only) != facts_of(function).name) continue;
    // Who waits looks again as often as the machine lets him. Of a function that two runs call differently often, what
    // the shorter run does not come to is no case, and only of its first half every call must come about again.
    const unsigned least = std::min(healthy[0].calls[index], healthy[1].calls[index]);
    const unsigned certain = healthy[0].calls[index] == healthy[1].calls[index] ? least : least / 2;
    for (const int error : facts_of(function).errors) {
      if (error == 0) break;
      const auto offset = static_cast<unsigned>(cases_before + cases.size());
      for (const unsigned call : chosen_calls(least, stride, offset)) {
        cases.push_back({{function, call, error, false}, call <= certain});
        // Said again of a segment or a page that is there it would be a lie.
        if (error != EIDRM && error != EFAULT) cases.push_back({{function, call, error, true}, call <= certain});
      }
    }
  }
  return cases;
}

TEST_CASE("whatever call fails, the library says so or goes on, leaves nothing, and works again") {
  // Where semctl() fails for good nobody can remove semaphores: they go with an IPC namespace of the test's own.
  if (::unshare(CLONE_NEWIPC) != 0) MESSAGE("this user cannot have an IPC namespace: semaphores may be left behind");
  // Under tools that slow everything down only some of the calls are tried.
  const auto stride = static_cast<unsigned>(std::max(1, 100 / scaled(100)));
  std::size_t cases_run = 0;
  unsigned struck = 0;
  unsigned missed = 0;
  unsigned functions_called[kFunctions] = {};
  for (const Scenario* scenario = kScenarios; scenario != kScenarios + kScenarioCount; ++scenario) {
    const CacheSpec spec = spec_of(*scenario);
    ::setenv("MEMSTREAM_NAME", spec.name.c_str(), 1);
    ::setenv("MEMSTREAM_SIZE", "1M", 1);
    ::setenv("MEMSTREAM_TIMEOUT_MS", std::to_string(kTimeoutMs).c_str(), 1);
    SharedArray<Healthy> healthy(2);
    const auto count_calls = [&](Healthy& counted) {
      return in_child([&]() -> Complaint {
        ::alarm(kPatienceSeconds);
        const long before = outstanding_allocations();
        Complaint complaint = run_healthy(*scenario, spec, counted.calls);
        if (complaint.empty()) complaint = run_healthy(*scenario, spec, nullptr);
        counted.allocations = outstanding_allocations() - before;
        return complaint;
      });
    };
    const Complaint unhealthy = count_calls(healthy[0]) + count_calls(healthy[1]);
    REQUIRE_MESSAGE(unhealthy == "", std::string(scenario->name));
    for (std::size_t index = 0; index < kFunctions; ++index)
      functions_called[index] += std::min(healthy[0].calls[index], healthy[1].calls[index]);

    const bool is_cold = scenario == kScenarios;
    const std::vector<Case> cases = cases_of(healthy, stride, cases_run);
    const SharedArray<Progress> shared(1);
    Progress& progress = shared[0];
    while (progress.begun < cases.size()) {
      const Complaint complaint =
          in_child([&] { return run_cases(*scenario, spec, cases, healthy[0].allocations, is_cold, progress); });
      if (complaint.empty()) continue;
      CHECK_MESSAGE(complaint == "", fmt::format("{}: {}", scenario->name, describe(cases[progress.begun - 1].fault)));
      const memstream_options_t options = spec.options();
      while (memstream_destroy_named(&options) == CACHE_OK) continue;  // Lest the next case suffer.
    }
    cases_run += cases.size();
    struck += progress.struck;
    missed += progress.missed;
    // What only the first call of a process does has been tried now. The children to come find the functions bound, and
    // translated where Valgrind does that, which took half of their time.
    if (is_cold) CHECK(run_healthy(*scenario, spec, nullptr) == "");
  }
  const auto reached = std::count_if(std::begin(functions_called), std::end(functions_called),
                                     [](unsigned calls) { return calls != 0; });
  std::string unreached;
  for (std::size_t index = 0; index < kFunctions; ++index) {
    if (functions_called[index] == 0) unreached += std::string(" ") + facts_of(static_cast<Function>(index)).name;
  }
  CHECK(missed <= cases_run / 50);
  CHECK(struck >= cases_run / 2);
  MESSAGE(reached << " functions, " << cases_run << " cases, " << struck
                  << " struck; not called on this backend:" << unreached);
}

}  // namespace
}  // namespace memstream::test
