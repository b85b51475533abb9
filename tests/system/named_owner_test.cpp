// Looking at the segment of a user whom the option "owner" names.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "api/memstream.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr uid_t kOwner = 61001;
constexpr uid_t kMember = 61002;  // Of the owner's group.
constexpr gid_t kGroup = 61000;

// What a call gave, if it was not `wanted` or its message lacks the word.
Complaint unless(int status, int wanted, const char* word = "") {
  if (status == wanted && std::strstr(cache_last_error(), word) != nullptr) return "";
  return "status " + std::to_string(status) + " instead of " + std::to_string(wanted) + ": " + cache_last_error();
}

#define RETURN_UNLESS(...) \
  if (Complaint wrong = unless(__VA_ARGS__); !wrong.empty()) return std::to_string(__LINE__) + ": " + wrong

int open_of(uid_t owner, const std::string& name, memstream_t** opened) {
  const std::string text = std::to_string(owner);
  memstream_options_t options;
  memstream_options_init(&options);
  options.name = name.c_str();
  options.owner = text.c_str();
  return memstream_open(&options, opened);
}

Complaint as_owner(const std::function<Complaint()>& body) {
  return in_child([&]() -> Complaint {
    if (Complaint failed = become_user(kOwner, kGroup); !failed.empty()) return failed;
    return body();
  });
}

TEST_CASE("root, who names the owner, may look at a private segment and change nothing") {
  if (!is_root()) {
    std::puts("skipped: only root can become another user");
    std::exit(77);
  }
  const CacheSpec spec{"test-" + std::to_string(::getpid()) + "-owner", 1 << 20, 1, 1000};
  REQUIRE(as_owner([&]() -> Complaint {
            const OpenCache cache(spec);
            return unless(memstream_set(cache, "key", 3, "value", 5, 0, 0), CACHE_OK);
          }) == "");
  CHECK(in_child([&]() -> Complaint {
          memstream_t* opened = nullptr;
          RETURN_UNLESS(open_of(kOwner, spec.name, &opened), CACHE_OK);
          char value[8];
          std::size_t size = sizeof value;
          RETURN_UNLESS(memstream_get(opened, "key", 3, value, &size, nullptr), CACHE_OK);
          if (std::string_view(value, size) != "value") return "another value";
          RETURN_UNLESS(memstream_set(opened, "key", 3, "x", 1, 0, 0), CACHE_READ_ONLY);
          RETURN_UNLESS(memstream_destroy(opened), CACHE_READ_ONLY);
          RETURN_UNLESS(memstream_close(opened), CACHE_OK);
          const bool on_posix = std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0;
          return unless(open_of(kMember, spec.name, &opened), on_posix ? CACHE_NOT_OWNER : CACHE_NO_SEGMENT, "61002");
        }) == "");
  // A name gives nobody rights.
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          memstream_t* opened = nullptr;
          return unless(open_of(kOwner, spec.name, &opened), CACHE_NO_PERMISSION, "user id 61001");
        }) == "");
  CHECK(as_owner([&]() -> Complaint {
          const memstream_options_t options = spec.options();
          return unless(memstream_destroy_named(&options), CACHE_OK);
        }) == "");
}

}  // namespace
}  // namespace memstream::test
