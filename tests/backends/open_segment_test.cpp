// The choice of the backend by name and by MEMSTREAM_BACKEND.
#include "backends/open_segment.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

// MEMSTREAM_BACKEND as a test wants it, and as it was before afterwards.
class BackendVariable {
 public:
  explicit BackendVariable(const char* value) {
    if (const char* before = std::getenv(kName)) before_ = std::make_unique<std::string>(before);
    set(value);
  }
  BackendVariable(const BackendVariable&) = delete;
  BackendVariable& operator=(const BackendVariable&) = delete;
  ~BackendVariable() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static constexpr const char* kName = "MEMSTREAM_BACKEND";
  static void set(const char* value) { value != nullptr ? ::setenv(kName, value, 1) : ::unsetenv(kName); }
  std::unique_ptr<std::string> before_;
};

TEST_CASE("each backend is made by its name") {
  for (const std::string name : {"posix", "sysv"}) {
    std::unique_ptr<SegmentBackend> backend;
    REQUIRE(make_backend(name, &backend) == Status::kOk);
    CHECK(backend->name() == name);

    const BackendVariable variable(name.c_str());
    REQUIRE(make_backend_from_environment(&backend) == Status::kOk);
    CHECK(backend->name() == name);
  }
}

TEST_CASE("without MEMSTREAM_BACKEND it is POSIX") {
  const BackendVariable variable(nullptr);
  std::unique_ptr<SegmentBackend> backend;
  REQUIRE(make_backend_from_environment(&backend) == Status::kOk);
  CHECK(std::string(backend->name()) == "posix");
}

TEST_CASE("a value that names no backend is an error that says what is allowed") {
  for (const std::string value : {"", "POSIX", "posix ", "sysvv", "mmap"}) {
    CAPTURE(value);
    const BackendVariable variable(value.c_str());
    std::unique_ptr<SegmentBackend> backend;
    CHECK(make_backend_from_environment(&backend) == Status::kBadBackend);
    CHECK(std::string(last_error()) == "Invalid MEMSTREAM_BACKEND '" + value + "': expected posix or sysv.");
    CHECK(backend == nullptr);

    CHECK(make_backend(value, &backend) == Status::kBadBackend);
    CHECK(message_has("'" + value + "'"));
    CHECK_FALSE(message_has("MEMSTREAM_BACKEND"));
  }
}

}  // namespace
}  // namespace memstream::test
