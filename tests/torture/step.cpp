// Kills a child at every instruction of an operation, and looks what a live peer finds: one that comes afterwards, or
// one that is at work all the time.
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <random>
#include <thread>

#include "tests/torture/commands.h"
#include "tests/torture/examination.h"
#include "tests/torture/live_peer.h"
#include "tests/torture/operations.h"
#include "tests/torture/scenes.h"
#include "tests/torture/stepped_child.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kStepHang{
    180};  // Many times the deadline of an operation; walks take minutes on a machine at work.
// How often a point is tried that a child did not come to: the kernel's answers, random numbers and a peer at work
// decide on some of its ways.
constexpr int kPointTries = 20;
constexpr int kWalks = 3;  // Of which the longest serves, where every instruction counts.
constexpr std::chrono::milliseconds kMeeting{20};

using Clock = std::chrono::steady_clock;

// Of an instruction: its function, or its offset in its library.
std::string place_of(std::uint64_t address) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(address), &info) == 0) return "[vdso]";
  const std::string_view file = info.dli_fname;
  return fmt::format("{}+{:#x}", file.substr(file.rfind('/') + 1),
                     address - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
}

struct Tally {
  std::uint64_t points = 0;
  std::uint64_t covered = 0;
  std::uint64_t recoveries = 0;
  std::uint64_t raced = 0;   // Points that the child came to while the peer worked from its beginning on.
  std::uint64_t waited = 0;  // Points at which the peer was asleep in the lock that the child held.
  double longest_ms = 0;

  void operator+=(const Tally& other) {
    points += other.points;
    covered += other.covered;
    recoveries += other.recoveries;
    raced += other.raced;
    waited += other.waited;
    longest_ms = std::max(longest_ms, other.longest_ms);
  }
  void report(Section& section, bool with_peer) const {
    section.set("points", points);
    section.set("covered", covered);
    section.set("recoveries", recoveries);
    if (with_peer) section.set("raced", raced);
    if (with_peer) section.set("peer_asleep", waited);
    section.set("longest_ms", std::round(longest_ms * 10) / 10);
  }
};

// What is asked of each point: a peer that comes after the death, or one that is at work all the time.
struct Half {
  bool with_peer;
  Section section;
  Tally tally;
};

// One operation on one backend. Both halves use one trace: stepping through an operation takes as long as many points.
class Walk {
 public:
  Walk(const Operation& operation, const CommonOptions& common, const std::string& backend, const StepOptions& options)
      : operation_(operation),
        options_(options),
        place_(common.place(backend, "step")),
        other_place_(common.place(backend, "step-other")),
        random_(common.seed),
        watchdog_(kStepHang * common.patience) {
    for (const bool with_peer : {false, true}) {
      if (options.only_peer && *options.only_peer != with_peer) continue;
      halves_.push_back({with_peer, Section(backend, (with_peer ? "step peer " : "step ") + operation.name), {}});
    }
  }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;
  ~Walk() {
    destroy_named(place_);
    destroy_named(other_place_);
  }

  const std::vector<Half>& run() {
    watchdog_.rearm("preparing " + operation_.name);
    try {
      Scene scene(place_, other_place_);
      std::unique_ptr<LivePeer> peer;
      if (halves_.back().with_peer) peer = std::make_unique<LivePeer>(scene);
      operation_.prepare(scene);
      walk(scene, peer.get());
    } catch (const Finding& finding) {
      halves_.front().section.find(finding.what());
    }
    return halves_;
  }

 private:
  struct Point {
    std::vector<Route::Leg> legs;
    std::uint64_t address = 0;
  };

  // The peer rests until its half begins.
  void walk(Scene& scene, LivePeer* peer) {
    prepared_ = scene.bytes.copy();
    Examination examination(operation_, scene, scene.cache.content());
    const Route route(walk_to_end(scene, examination, options_.stride == 1 ? kWalks : 1));
    const std::uint64_t stride =
        std::max(options_.stride, (route.instructions() + options_.most_points - 1) / options_.most_points);
    const std::uint64_t first = random_() % stride;
    for (Half& half : halves_) {
      if (half.with_peer) peer->watch(operation_, examination.before(), examination.after());
      visit(scene, half, peer, route, examination, first, stride);
    }
  }

  void visit(Scene& scene, Half& half, LivePeer* peer, const Route& route, Examination& examination,
             std::uint64_t first, std::uint64_t stride) {
    tally_ = {};
    half.section.set("instructions", route.instructions());
    auto missed = nlohmann::ordered_json::array();
    for (std::size_t instruction = first; instruction < route.instructions(); instruction += stride) {
      ++tally_.points;
      scene.bytes.restore(prepared_);
      const std::uint64_t recoveries = scene.bytes.shard().counters.recoveries;
      watchdog_.rearm(fmt::format("{} after a death at instruction {}", operation_.name, instruction));
      try {
        const Point point{.legs = route.legs(instruction), .address = route.address(instruction)};
        const bool covered =
            half.with_peer ? die_beside(*peer, scene, point, examination) : die(scene, point, examination);
        if (covered) {
          ++tally_.covered;
        } else {
          missed.push_back(fmt::format("{} {}", instruction, place_of(route.address(instruction))));
        }
        tally_.recoveries += scene.bytes.shard().counters.recoveries - recoveries;
      } catch (const Finding& finding) {
        half.section.find(fmt::format("instruction {}: {}", instruction, finding.what()));
      }
    }
    tally_.longest_ms = std::max(tally_.longest_ms, examination.longest_ms());
    tally_.report(half.section, half.with_peer);
    if (!missed.empty()) half.section.set("missed", missed);
    half.tally = tally_;
  }

  SteppedChild start(Scene& scene) const {
    scene.bytes.restore(prepared_);
    return SteppedChild([&] { begin(scene); }, [&] { operation_.run(scene); });
  }

  void begin(Scene& scene) const { (operation_.begin ? operation_.begin : enter)(scene); }

  // Without a death: what the operation leaves is what it must leave.
  Trace walk_to_end(Scene& scene, Examination& examination, int times) {
    Trace longest;
    for (int walks = 0; walks < times; ++walks) {
      watchdog_.rearm("walking through " + operation_.name);
      scene.bytes.restore(prepared_);
      Trace trace = trace_of([&] { begin(scene); }, [&] { operation_.run(scene); });
      if (walks == 0) examination.set_after(scene.cache.content());
      examination.examine(true, nullptr);
      if (trace.size() > longest.size()) longest = std::move(trace);
    }
    return longest;
  }

  // A peer comes after the death. False if the point was not come to.
  bool die(Scene& scene, const Point& point, Examination& examination) const {
    for (int tries = 0; tries < kPointTries; ++tries) {
      auto child = start(scene);
      const bool is_inside = child.go(point.legs);
      const bool is_there = is_inside && child.is_at(point.address);
      child.kill();
      examination.examine(!is_inside, nullptr);
      if (is_there) return true;
    }
    return false;
  }

  // A peer works from the child's first instruction on; where that keeps the child from the point, from the point on.
  bool die_beside(LivePeer& peer, Scene& scene, const Point& point, Examination& examination) {
    for (int tries = operation_.finds_wreck ? 1 : 0; tries < kPointTries; ++tries) {
      auto child = start(scene);
      const pid_t process_id = child.process_id();
      const bool races = tries == 0;
      if (races) peer.begin(random_() % 2 == 0, random_());
      const bool is_inside = child.go(point.legs);
      const bool is_there = is_inside && child.is_at(point.address);
      if (!races) peer.begin(random_() % 2 == 0, random_());
      if (is_inside) tally_.waited += meet(peer, scene, process_id) ? 1 : 0;
      child.kill();
      peer.rest_after_death();
      tally_.longest_ms = std::max(tally_.longest_ms, peer.longest_ms());
      examination.examine(!is_inside, &peer);
      tally_.raced += is_there && races ? 1 : 0;
      if (is_there) return true;
    }
    return false;
  }

  // Gives the peer time to run into what the child holds. True if it sleeps in the child's lock then.
  static bool meet(const LivePeer& peer, const Scene& scene, pid_t process_id) {
    const std::uint64_t rounds = peer.rounds();
    for (const auto end = Clock::now() + kMeeting; Clock::now() < end && peer.rounds() == rounds;) {
      const LockWord word = scene.bytes.write_lock();
      if (word.holder == process_id && word.has_waiters) return true;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return false;
  }

  const Operation& operation_;
  const StepOptions& options_;
  Place place_;
  Place other_place_;
  std::mt19937_64 random_;
  Watchdog watchdog_;
  std::vector<Half> halves_;
  Tally tally_;  // Of the half that is under way.
  std::vector<std::byte> prepared_;
};

std::vector<const Operation*> chosen(const std::vector<std::string>& names) {
  std::vector<const Operation*> result;
  for (const Operation& operation : operations()) {
    if (names.empty() || std::find(names.begin(), names.end(), operation.name) != names.end()) {
      result.push_back(&operation);
    }
  }
  for (const std::string& name : names) {
    if (std::none_of(result.begin(), result.end(), [&](const Operation* known) { return known->name == name; })) {
      throw std::runtime_error("there is no operation '" + name + "': step --list names them");
    }
  }
  return result;
}

}  // namespace

void run_step(const CommonOptions& common, const StepOptions& options, Report& report) {
  const std::vector<const Operation*> operations = chosen(options.operations);
  for (const std::string& backend : common.backends) {
    Tally totals[2];
    for (const Operation* operation : operations) {
      Walk walk(*operation, common, backend, options);
      for (const Half& half : walk.run()) {
        report.add(half.section);
        totals[half.with_peer ? 1 : 0] += half.tally;
      }
    }
    for (const bool with_peer : {false, true}) {
      if (options.only_peer && *options.only_peer != with_peer) continue;
      const Tally& total = totals[with_peer ? 1 : 0];
      Section section(backend, with_peer ? "step peer, all" : "step, all");
      section.set("operations", operations.size());
      total.report(section, with_peer);
      // The way through an operation differs from child to child, by a point here and there.
      if (total.covered < total.points - total.points / 4)
        section.find("more than a quarter of the points were not come to");
      report.add(section);
    }
  }
}

void list_operations() {
  for (const Operation& operation : operations()) fmt::print("{:20} {}\n", operation.name, operation.description);
}

}  // namespace memstream::torture
