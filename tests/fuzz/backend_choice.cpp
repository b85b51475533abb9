// Stands in for backends/open_segment.cpp: the C interface over segments in plain memory, without a system call.
#include "tests/fuzz/backend_choice.h"

#include "backends/open_segment.h"

namespace memstream {
namespace {

fuzz::MakeBackend make_substitute = nullptr;

}  // namespace

void fuzz::use_backend(MakeBackend make) { make_substitute = make; }

Status make_backend(std::string_view name, std::unique_ptr<SegmentBackend>* backend) {
  if (make_substitute == nullptr) return real_make_backend(name, backend);
  *backend = make_substitute();
  return Status::kOk;
}

Status make_backend_from_environment(std::unique_ptr<SegmentBackend>* backend) {
  if (make_substitute == nullptr) return real_make_backend_from_environment(backend);
  *backend = make_substitute();
  return Status::kOk;
}

}  // namespace memstream
