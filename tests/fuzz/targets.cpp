// The table of targets.
#include "tests/fuzz/targets.h"

#include <algorithm>

namespace memstream::fuzz {
namespace {

constexpr Target kTargets[] = {
    {"attach", run_attach, seed_attach, false},
    {"read_image", run_read_image, seed_read_image, true},
    {"read_scribbled", run_read_scribbled, seed_read_scribbled, true},
    {"abi_calls", run_abi_calls, seed_abi_calls, false},
    {"environment", run_environment, seed_environment, false},
    {"repair", run_repair, seed_repair, true},
};

}  // namespace

std::span<const Target> targets() { return kTargets; }

const Target* find_target(const std::string& name) {
  const auto* found =
      std::find_if(std::begin(kTargets), std::end(kTargets), [&](const Target& target) { return target.name == name; });
  return found != std::end(kTargets) ? found : nullptr;
}

}  // namespace memstream::fuzz
