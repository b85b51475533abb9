// Mapping pages before they are needed: what is mapped after, what stays as it was, and that a page which the system
// cannot give is an error and no signal. Also on a kernel that has no MADV_POPULATE_WRITE, which a filter plays.
#include "backends/touch_pages.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "backends/mapped_segment.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/page_map.h"

namespace memstream::test {
namespace {

constexpr std::size_t kPages = 200;  // More than one round of the way around.

// A file on a tmpfs, mapped twice: what one mapping has touched is not mapped in the other.
struct SharedPages {
  explicit SharedPages(const char* path) {
    file = ::open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    ::unlink(path);
    REQUIRE(::ftruncate(file, static_cast<off_t>(size_bytes)) == 0);
    for (std::byte*& side : sides) {
      void* address = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      REQUIRE(address != MAP_FAILED);
      side = static_cast<std::byte*>(address);
    }
  }
  SharedPages(const SharedPages&) = delete;
  SharedPages& operator=(const SharedPages&) = delete;
  ~SharedPages() {
    for (std::byte* side : sides) ::munmap(side, size_bytes);
    ::close(file);
  }

  std::size_t size_bytes = kPages * page_size_bytes();
  int file = -1;
  std::byte* sides[2] = {};
};

Complaint maps_every_page_and_changes_no_byte(Access access) {
  SharedPages pages("/dev/shm/memstream-touch-pages-test");
  std::memset(pages.sides[0], 0x5a, pages.size_bytes);
  if (mapped_pages(pages.sides[1], kPages) != 0) return "pages are mapped before";
  const FailedCall failed = touch_pages(pages.sides[1], pages.size_bytes, access);
  if (failed.name != nullptr) return std::string(failed.name) + ": " + std::strerror(failed.error);
  if (mapped_pages(pages.sides[1], kPages) != kPages) return "pages are not mapped";
  for (std::size_t i = 0; i < pages.size_bytes; ++i) {
    if (pages.sides[1][i] != std::byte{0x5a}) return "a byte has changed";
  }
  return "";
}

Complaint fails_without_a_signal_on_a_full_tmpfs() {
  // Full before the last four pages: in the middle of the last round of the way around.
  const std::string size = "size=" + std::to_string((kPages - 4) * page_size_bytes());
  if (Complaint obstacle = mount_own_shm(size); !obstacle.empty()) return obstacle;
  SharedPages pages("/dev/shm/memstream-touch-pages-test");
  const FailedCall failed = touch_pages(pages.sides[0], pages.size_bytes, Access::kReadWrite);
  if (failed.name == nullptr) return "nothing failed";
  return failed.error == EFAULT || failed.error == ENOMEM ? "" : std::strerror(failed.error);
}

TEST_CASE("every page is mapped after, and no byte is changed") {
  CHECK(maps_every_page_and_changes_no_byte(Access::kReadWrite) == "");
  CHECK(maps_every_page_and_changes_no_byte(Access::kReadOnly) == "");
}

TEST_CASE("a kernel without MADV_POPULATE_WRITE maps them too") {
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    CHECK(in_child([&]() -> Complaint {
            if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
            return maps_every_page_and_changes_no_byte(access);
          }) == "");
  }
}

TEST_CASE("a page that the system cannot give is an error, and no signal") {
  if (in_child([] { return mount_own_shm("size=64k"); }) != "") {
    MESSAGE("skipped: a mount namespace with a /dev/shm of its own needs root");
    return;
  }
  CHECK(in_child(fails_without_a_signal_on_a_full_tmpfs) == "");
  CHECK(in_child([]() -> Complaint {
          if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
          return fails_without_a_signal_on_a_full_tmpfs();
        }) == "");
}

TEST_CASE_TEMPLATE("a commit takes its pages on a kernel without MADV_POPULATE_WRITE too", Kind, Posix, SysV) {
  NamedBackend<Kind> named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
          const auto segment = named.open();
          const std::byte* const first = segment->data() + page_size_bytes();
          if (mapped_pages(first, kPages) != 0) return "pages are there before";
          if (Complaint wrong = unless(segment->commit(page_size_bytes(), kPages * page_size_bytes()), Status::kOk);
              !wrong.empty())
            return wrong;
          return mapped_pages(first, kPages) == kPages ? "" : "pages are missing";
        }) == "");
}

TEST_CASE("a process that may claim no page of a System V segment is told of the filter") {
  NamedBackend<SysV> named;
  CHECK(in_child([&]() -> Complaint {
          const auto segment = named.open();
          if (Complaint obstacle = refuse_page_claims(); !obstacle.empty()) return obstacle;
          if (Complaint wrong = unless(segment->commit(0, page_size_bytes()), Status::kOsError); !wrong.empty())
            return wrong;
          return message_has("seccomp") ? "" : last_error();
        }) == "");
}

}  // namespace
}  // namespace memstream::test
