// Kills a child at every instruction of an operation, and looks what a live peer finds.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "tests/torture/commands.h"
#include "tests/torture/operations.h"
#include "tests/torture/scenes.h"
#include "tests/torture/stepped_child.h"
#include "tests/torture/watchdog.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::seconds kHang{60};  // Many times the deadline of an operation.

using Clock = std::chrono::steady_clock;

std::optional<std::string_view> find(const Content& content, const std::string& key) {
  const auto found = content.find(key);
  return found == content.end() ? std::nullopt : std::optional<std::string_view>(found->second);
}

std::string describe(const std::optional<std::string_view>& value) {
  return value ? fmt::format("{} bytes '{}'", value->size(), value->substr(0, 20)) : "nothing";
}

// One operation on one backend.
class Walk {
 public:
  Walk(const Operation& operation, const CommonOptions& common, const std::string& backend)
      : operation_(operation),
        place_(common.place(backend, "step")),
        other_place_(common.place(backend, "step-other")),
        section_(backend, "step " + operation.name) {}
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;
  ~Walk() {
    destroy_named(place_);
    destroy_named(other_place_);
  }

  Section run(std::uint64_t first, std::uint64_t stride) {
    watchdog_.rearm("preparing " + operation_.name);
    try {
      Scene scene(place_, other_place_);
      operation_.prepare(scene);
      walk(scene, first, stride);
    } catch (const Finding& finding) {
      section_.find(finding.what());
    }
    return section_;
  }

 private:
  void walk(Scene& scene, std::uint64_t first, std::uint64_t stride) {
    const std::vector<std::byte> prepared = scene.bytes.copy();
    before_ = scene.cache.content();
    scene.bytes.restore(prepared);
    const Route route(walk_to_end(scene));
    std::uint64_t points = 0;
    std::uint64_t early = 0;
    for (std::uint64_t instruction = first; instruction < route.instructions(); instruction += stride, ++points) {
      scene.bytes.restore(prepared);
      watchdog_.rearm(fmt::format("{} after a death at instruction {}", operation_.name, instruction));
      try {
        auto child = start(scene);
        const bool reached = child.go(route.leg(instruction));
        early += reached ? 0 : 1;
        child.kill();
        examine(scene, !reached);
      } catch (const Finding& finding) {
        section_.find(fmt::format("instruction {}: {}", instruction, finding.what()));
      }
    }
    section_.set("instructions", route.instructions());
    section_.set("points", points);
    section_.set("ended_early", early);
    section_.set("recoveries", recoveries_);
    section_.set("longest_ms", std::chrono::duration_cast<std::chrono::milliseconds>(longest_).count());
  }

  SteppedChild start(Scene& scene) const {
    return SteppedChild([&] { (operation_.begin ? operation_.begin : enter)(scene); }, [&] { operation_.run(scene); });
  }

  // Without a death: what the operation leaves is what it must leave.
  Trace walk_to_end(Scene& scene) {
    auto child = start(scene);
    Trace trace = child.walk_to_end();
    child.kill();
    after_ = scene.cache.content();
    examine(scene, true);
    return trace;
  }

  // What a live peer finds.
  void examine(Scene& scene, bool ended) {
    const std::uint64_t recoveries = scene.bytes.shard().counters.recoveries;
    const auto began = Clock::now();
    look(scene, ended);
    const Content seen = get_all(scene.cache);
    judge(seen, before_, ended);
    for (const std::string& key : scene.cache.scan()) {
      // A write that nobody was told of may still come about: recovery finishes what was committed and not yet
      // findable.
      const bool may_come = !ended && find(before_, key) != find(after_, key);
      if (!seen.contains(key) && !may_come)
        throw Finding("a scan reports the key '" + key + "', which a get does not find");
    }
    use(scene.cache);
    scene.cache.check();
    judge(get_all(scene.cache), seen, ended);
    longest_ = std::max(longest_, Clock::now() - began);
    recoveries_ += scene.bytes.shard().counters.recoveries - recoveries;
    if (operation_.settle) operation_.settle(scene);
  }

  // A get that takes no lock may come before anybody has put the shard right: key by key it finds what must be there,
  // or says that it cannot tell. The looker's attach is read-only, so that it leaves the shard as the dead left it.
  void look(Scene& scene, bool ended) const {
    std::string value;
    for (const Content* known : {&before_, &after_}) {
      for (const auto& [key, unused] : *known) {
        switch (scene.looker.try_get(key, &value)) {
          case CACHE_OK:
            judge_one(key, value, before_, ended);
            break;
          case CACHE_MISS:
            judge_one(key, std::nullopt, before_, ended);
            break;
          case CACHE_BUSY:
            break;
          default:
            throw Finding("a read-only get fails: " + std::string(cache_last_error()));
        }
      }
    }
  }

  Content get_all(CacheUnderTest& cache) const {
    Content content;
    std::string value;
    for (const Content* known : {&before_, &after_}) {
      for (const auto& [key, unused] : *known) {
        if (cache.get(key, &value)) content.insert_or_assign(key, value);
      }
    }
    return content;
  }

  void judge(const Content& seen, const Content& earlier, bool ended) const {
    for (const Content* known : {&before_, &after_}) {
      for (const auto& [key, unused] : *known) judge_one(key, find(seen, key), earlier, ended);
    }
  }

  // `earlier` is what was there when somebody last looked: what was new then must not be old again.
  void judge_one(const std::string& key, std::optional<std::string_view> value, const Content& earlier,
                 bool ended) const {
    const auto old_value = find(earlier, key);
    const auto new_value = find(after_, key);
    const bool written = find(before_, key) != new_value;
    const bool as_it_may_be = value == new_value || (!ended && value == old_value);
    const bool evicted = operation_.evicts && !value && !(ended && written && new_value);
    if (as_it_may_be || evicted) return;
    throw Finding(fmt::format("the key '{}' has {} where {} or {} must be", key, describe(value), describe(old_value),
                              describe(new_value)));
  }

  static void use(CacheUnderTest& cache) {
    constexpr std::string_view kProbe = "a key of the peer";
    const std::string probe = make_value(kProbe, 1, 200);
    std::string value;
    cache.put(kProbe, probe);
    if (!cache.get(kProbe, &value) || value != probe) throw Finding("the peer does not get what it put");
    if (!cache.remove(kProbe) || cache.get(kProbe, &value)) throw Finding("the peer cannot remove what it put");
  }

  const Operation& operation_;
  Place place_;
  Place other_place_;
  Section section_;
  Watchdog watchdog_{kHang};
  Content before_;
  Content after_;
  std::uint64_t recoveries_ = 0;
  Clock::duration longest_{};
};

}  // namespace

void run_step(const CommonOptions& common, const StepOptions& options, Report& report) {
  for (const std::string& backend : common.backends) {
    for (const Operation& operation : operations()) {
      const auto& wanted = options.operations;
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), operation.name) == wanted.end()) continue;
      report.add(Walk(operation, common, backend).run(common.seed % options.stride, options.stride));
    }
  }
}

void list_operations() {
  for (const Operation& operation : operations()) fmt::print("{:18} {}\n", operation.name, operation.description);
}

}  // namespace memstream::torture
