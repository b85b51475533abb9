// The table of backends.
#include "backends/open_segment.h"

#include <fmt/format.h>

#include <cstdlib>
#include <iterator>
#include <string>

#include "backends/posix/posix_backend.h"
#include "backends/sysv/sysv_backend.h"
#include "core/base/quoted.h"

namespace memstream {
namespace {

struct BackendEntry {
  const char* name;
  std::unique_ptr<SegmentBackend> (*make)();
};

// One line a backend; the first is the default.
constexpr BackendEntry kBackends[] = {
    {"posix", [] { return make_posix_backend(); }},
    {"sysv", [] { return make_sysv_backend(); }},
};

Status make_named(std::string_view asked_by, std::string_view name, std::unique_ptr<SegmentBackend>* backend) {
  std::string allowed;
  for (const BackendEntry& entry : kBackends) {
    if (entry.name == name) {
      *backend = entry.make();
      return Status::kOk;
    }
    allowed += allowed.empty() ? "" : " or ";
    allowed += entry.name;
  }
  return fail(Status::kBadBackend, fmt::format("Invalid {} {}: expected {}.", asked_by, in_quotes(name), allowed));
}

}  // namespace

Status make_backend(std::string_view name, std::unique_ptr<SegmentBackend>* backend) {
  return make_named("options.backend", name, backend);
}

Status make_backend_from_environment(std::unique_ptr<SegmentBackend>* backend) {
  constexpr const char* kVariable = "MEMSTREAM_BACKEND";
  const char* name = ::secure_getenv(kVariable);
  return make_named(kVariable, name != nullptr ? name : std::begin(kBackends)->name, backend);
}

const char* backend_name(std::size_t number) noexcept {
  return number < std::size(kBackends) ? kBackends[number].name : nullptr;
}

}  // namespace memstream
