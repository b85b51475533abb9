// The contract of core/base/segment.h: one set of bodies that holds for every backend. What is peculiar to one of them
// stands in segment_posix_test.cpp and segment_sysv_test.cpp, what needs several processes in segment_race_test.cpp.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backends/mapped_segment.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

#define EVERY_BACKEND Posix, SysV, InMemory

// The entry of a list for one segment; null if it is not listed.
template <class Kind>
std::unique_ptr<SegmentInfo> listed(NamedBackend<Kind>& named) {
  std::vector<SegmentInfo> segments;
  REQUIRE(named.backend->list(named.initializer, &segments) == Status::kOk);
  const auto found = std::find_if(segments.begin(), segments.end(),
                                  [&](const SegmentInfo& info) { return info.name == named.spec.name; });
  return found == segments.end() ? nullptr : std::make_unique<SegmentInfo>(*found);
}

TEST_CASE_TEMPLATE("a new segment has the size that was asked for and is initialised once", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  named.spec.size_bytes = 3 * kMinSegmentSize;
  const auto segment = named.open();
  CHECK(segment->size_bytes() == 3 * kMinSegmentSize);
  CHECK(segment->access() == Access::kReadWrite);
  CHECK(reinterpret_cast<std::uintptr_t>(segment->data()) % page_size_bytes() == 0);
  CHECK(named.initializer.initializations() == 1);
  CHECK(header_of(*segment).state == kTestReady);
}

TEST_CASE_TEMPLATE("opening again attaches to the same memory, whatever size is asked for", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto first = named.open();
  header_of(*first).token = 42;
  named.spec.size_bytes = 8 * kMinSegmentSize;
  const auto second = named.open();
  CHECK(second->size_bytes() == kMinSegmentSize);
  CHECK(header_of(*second).token == 42);
  header_of(*second).token = 43;
  CHECK(header_of(*first).token == 43);
  CHECK(named.initializer.initializations() == 1);
}

TEST_CASE_TEMPLATE("a segment outlives its last mapping", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  header_of(*named.open()).token = 7;
  CHECK(header_of(*named.open()).token == 7);
  CHECK(named.initializer.initializations() == 1);
}

TEST_CASE_TEMPLATE("names are separate", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> one("one");
  NamedBackend<Kind> two("two");
  header_of(*one.open()).token = 1;
  header_of(*two.open()).token = 2;
  CHECK(header_of(*one.open()).token == 1);
  CHECK(header_of(*two.open()).token == 2);
}

TEST_CASE_TEMPLATE("attaching to a name that stands for nothing says so and creates nothing", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  CHECK(named.try_attach() == Status::kNoSegment);
  CHECK(message_has(named.spec.name));
  CHECK(named.try_attach(Access::kReadOnly) == Status::kNoSegment);
  CHECK(named.remove() == Status::kNoSegment);
  CHECK(Kind::traces_of(named.spec.name) == "");
}

TEST_CASE_TEMPLATE("attaching gives the same memory, for reading only if that was asked", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  header_of(*named.open()).token = 5;
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    std::unique_ptr<Segment> segment;
    REQUIRE(named.backend->attach(named.spec, access, named.initializer, &segment) == Status::kOk);
    CHECK(segment->access() == access);
    CHECK(segment->size_bytes() == kMinSegmentSize);
    CHECK(header_of(*segment).token == 5);
  }
}

TEST_CASE_TEMPLATE("any range can be committed, in part, whole and again, and keeps what was written", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto segment = named.open();
  const std::size_t size = segment->size_bytes();
  REQUIRE(segment->commit(5000, 1) == Status::kOk);
  std::memset(segment->data() + 4096, 0x5a, 4096);  // The whole page, since ranges are rounded outwards.
  CHECK(segment->commit(0, 0) == Status::kOk);
  CHECK(segment->commit(size, 0) == Status::kOk);
  CHECK(segment->commit(size - 1, 1) == Status::kOk);
  CHECK(segment->commit(4095, 4098) == Status::kOk);
  REQUIRE(segment->commit(0, size) == Status::kOk);
  CHECK(segment->data()[4096] == std::byte{0x5a});
  CHECK(segment->data()[8191] == std::byte{0x5a});
  std::memset(segment->data() + 4096, 1, size - 4096);
}

TEST_CASE_TEMPLATE("any range can be pre-faulted, for reading only too, and keeps what was written", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto segment = named.open();
  const std::size_t size = segment->size_bytes();
  REQUIRE(segment->commit(0, size) == Status::kOk);
  std::memset(segment->data() + 4096, 0x5a, size - 4096);
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    std::unique_ptr<Segment> other;
    REQUIRE(named.backend->attach(named.spec, access, named.initializer, &other) == Status::kOk);
    CHECK(other->prefault(0, 0) == Status::kOk);
    CHECK(other->prefault(5000, 1) == Status::kOk);
    CHECK(other->prefault(size - 1, 1) == Status::kOk);
    CHECK(other->prefault(0, size) == Status::kOk);
    CHECK(other->kernel_page_size_bytes() >= page_size_bytes());
    CHECK(std::all_of(other->data() + 4096, other->data() + size, [](std::byte b) { return b == std::byte{0x5a}; }));
  }
}

TEST_CASE_TEMPLATE("what a dead creator left in ordinary pages is removed by who requires huge ones", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto left = named.open();
  if (left->kernel_page_size_bytes() != page_size_bytes()) return;  // This machine gives nothing but huge pages.
  header_of(*left).state = kTestUnfinished;
  named.spec.huge_pages = HugePages::kRequire;
  CHECK(named.try_open() == Status::kNoHugePages);
  CHECK(message_has(named.spec.name));
  CHECK(Kind::traces_of(named.spec.name) == "");
}

TEST_CASE_TEMPLATE("what a dead creator left is initialised in place, with the size it has", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto left = named.open();
  TestHeader& header = header_of(*left);
  named.spec.size_bytes = 4 * kMinSegmentSize;
  SUBCASE("begun and not finished") { header.state = kTestUnfinished; }
  SUBCASE("sized and never begun") { std::memset(static_cast<void*>(&header), 0, sizeof header); }
  const std::uint32_t initializations = header.initializations;

  CHECK(named.try_attach() == Status::kNoSegment);
  CHECK(named.try_attach(Access::kReadOnly) == Status::kNoSegment);
  CHECK(header.state == kTestUnfinished);

  const auto segment = named.open();
  CHECK(segment->size_bytes() == kMinSegmentSize);
  CHECK(header.state == kTestReady);
  CHECK(header.initializations == initializations + 1);
}

TEST_CASE_TEMPLATE("a segment that is marked destroyed and has kept its name makes room for a new one", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto old = named.open();
  header_of(*old).token = 9;
  mark_destroyed(old->data());
  CHECK(named.try_attach() == Status::kNoSegment);

  const auto segment = named.open();
  CHECK(header_of(*segment).state == kTestReady);
  CHECK(header_of(*segment).token == 0);
  CHECK(header_of(*old).state == kTestDestroyed);
  CHECK(header_of(*old).token == 9);
  CHECK(named.initializer.initializations() == 2);
}

TEST_CASE_TEMPLATE("attaching while another process destroys waits until the name is gone", Kind, EVERY_BACKEND) {
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    NamedBackend<Kind> named;
    const auto old = named.open();
    mark_destroyed(old->data());
    std::thread destroyer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      TestInitializer initializer(named.spec.name);
      static_cast<void>(named.backend->remove(named.spec, initializer, nullptr, mark_destroyed));
    });
    CHECK(named.try_attach(access) == Status::kNoSegment);
    CHECK_FALSE(message_has("not ready"));
    CHECK_FALSE(message_has("was destroyed, but"));
    CHECK(Kind::traces_of(named.spec.name) == "");
    destroyer.join();
  }
}

TEST_CASE_TEMPLATE("a reader is told that a destroyed segment kept its name", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto old = named.open();
  mark_destroyed(old->data());
  named.spec.timeout = std::chrono::milliseconds(20);
  CHECK(named.try_attach(Access::kReadOnly) == Status::kNoSegment);
  CHECK(message_has("was destroyed, but"));
  CHECK(message_has("MEMSTREAM_OPEN_READ_ONLY"));
  CHECK(named.try_attach() == Status::kNoSegment);  // It removes the name.
  CHECK(Kind::traces_of(named.spec.name) == "");
}

TEST_CASE_TEMPLATE("foreign bytes are handed out for the attach checks and never changed", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto damaged = named.open();
  SUBCASE("another magic") { header_of(*damaged).magic = 12345; }
  SUBCASE("a state that does not exist") { header_of(*damaged).state = 77; }
  const std::vector<std::byte> before(damaged->data(), damaged->data() + 4096);

  for (const bool create : {true, false}) {
    std::unique_ptr<Segment> segment;
    const Status status = create ? named.backend->open(named.spec, named.initializer, &segment)
                                 : named.backend->attach(named.spec, Access::kReadOnly, named.initializer, &segment);
    REQUIRE(status == Status::kOk);
    CHECK(std::equal(before.begin(), before.end(), segment->data()));
  }
  CHECK(std::equal(before.begin(), before.end(), damaged->data()));
  CHECK(named.initializer.initializations() == 1);
  header_of(*damaged).magic = kTestMagic;  // So that System V consents to remove it.
  header_of(*damaged).state = kTestReady;
}

TEST_CASE_TEMPLATE("a header that looks foreign only while it is being written is not taken for foreign", Kind,
                   EVERY_BACKEND) {
  struct HalfWritten : TestInitializer {
    using TestInitializer::TestInitializer;
    SegmentState state_of(const std::byte* header) const noexcept override {
      return looks++ == 0 ? SegmentState::kForeign : TestInitializer::state_of(header);
    }
    mutable int looks = 0;
  };
  NamedBackend<Kind> named;
  header_of(*named.open()).state = kTestUnfinished;
  HalfWritten half_written(named.spec.name);
  std::unique_ptr<Segment> segment;
  CHECK(named.backend->attach(named.spec, Access::kReadOnly, half_written, &segment) == Status::kNoSegment);
  CHECK(half_written.looks >= 2);
}

TEST_CASE_TEMPLATE("when initialising fails, its error comes back and nothing is left", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  TestInitializer failing(named.spec.name,
                          [](TestHeader&) { return fail(Status::kNoMemory, "no memory, says the test"); });
  std::unique_ptr<Segment> segment;
  CHECK(named.backend->open(named.spec, failing, &segment) == Status::kNoMemory);
  CHECK(std::string(last_error()) == "no memory, says the test");
  CHECK(segment == nullptr);
  CHECK(Kind::traces_of(named.spec.name) == "");
  CHECK(header_of(*named.open()).state == kTestReady);
}

TEST_CASE_TEMPLATE("removing marks the segment and takes its name, and mappings stay good", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto segment = named.open();
  header_of(*segment).token = 11;
  REQUIRE(named.remove() == Status::kOk);
  CHECK(Kind::traces_of(named.spec.name) == "");
  CHECK(header_of(*segment).state == kTestDestroyed);
  CHECK(header_of(*segment).token == 11);
  CHECK(segment->commit(0, segment->size_bytes()) == Status::kOk);
  CHECK(named.try_attach() == Status::kNoSegment);
  CHECK(named.remove() == Status::kNoSegment);

  const auto next = named.open();
  CHECK(header_of(*next).token == 0);
}

TEST_CASE_TEMPLATE("the engine sees what it began before it is removed, and nothing else", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  bool is_begun = false;
  SUBCASE("unfinished") { is_begun = true; }
  SUBCASE("blank") { is_begun = false; }
  {
    const auto segment = named.open();
    TestHeader& header = header_of(*segment);
    header.state = kTestUnfinished;
    if (!is_begun) std::memset(static_cast<void*>(&header), 0, sizeof header);
  }
  bool was_called = false;
  CHECK(named.backend->remove(named.spec, named.initializer, nullptr, [&](std::byte*) { was_called = true; }) ==
        Status::kOk);
  CHECK(was_called == is_begun);
  CHECK(Kind::traces_of(named.spec.name) == "");
}

TEST_CASE_TEMPLATE("a removal that is meant for one segment leaves its successor alone", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  const auto first = named.open();
  REQUIRE(named.remove() == Status::kOk);
  const auto second = named.open();
  CHECK(named.remove(first.get()) == Status::kNoSegment);
  CHECK(header_of(*second).state == kTestReady);
  CHECK(named.remove(second.get()) == Status::kOk);
  CHECK(header_of(*second).state == kTestDestroyed);
}

TEST_CASE_TEMPLATE("another user's segment may be read, and written or removed only on request", Kind, EVERY_BACKEND) {
  SKIP_UNLESS_ROOT("give a segment to another user");
  NamedBackend<Kind> named;
  header_of(*named.open()).token = 3;
  Kind::change_owner(named.spec.name, kOtherUser);
  CHECK(named.try_open() == Status::kNotOwner);
  CHECK(message_has("user id 65534"));
  CHECK(named.try_attach() == Status::kNotOwner);
  CHECK(named.remove() == Status::kNotOwner);
  CHECK(named.try_attach(Access::kReadOnly) == Status::kOk);
  named.spec.any_owner = true;
  CHECK(header_of(*named.open()).token == 3);
  CHECK(named.try_attach() == Status::kOk);
  CHECK(named.remove() == Status::kOk);
}

TEST_CASE_TEMPLATE("the mode is the one that was asked for, whatever the umask", Kind, EVERY_BACKEND) {
  for (const unsigned mode : {0600U, 0640U, 0666U}) {
    for (const mode_t umask : {mode_t{0}, mode_t{0777}}) {
      NamedBackend<Kind> named;
      named.spec.mode = mode;
      const mode_t before = ::umask(umask);
      const auto segment = named.open();
      ::umask(before);
      const auto info = listed(named);
      REQUIRE(info != nullptr);
      CHECK(info->mode == mode);
    }
  }
}

TEST_CASE_TEMPLATE("a segment is found whatever mode it was created with", Kind, EVERY_BACKEND) {
  for (const unsigned mode : {0600U, 0660U}) {
    NamedBackend<Kind> named;
    named.spec.mode = mode;
    header_of(*named.open()).token = 4;
    named.spec.mode = mode ^ 0060U;
    CHECK(header_of(*named.open()).token == 4);
    CHECK(named.try_attach() == Status::kOk);
    CHECK(named.remove() == Status::kOk);
    CHECK(Kind::traces_of(named.spec.name) == "");
  }
}

TEST_CASE_TEMPLATE("the list has a segment with its facts while it has a name", Kind, EVERY_BACKEND) {
  NamedBackend<Kind> named;
  CHECK(listed(named) == nullptr);
  const auto segment = named.open();
  const auto info = listed(named);
  REQUIRE(info != nullptr);
  CHECK(info->size_bytes == kMinSegmentSize);
  CHECK(info->mode == 0600);
  CHECK(info->owner_uid == ::geteuid());
  CHECK(info->system_id != "");
  header_of(*segment).state = kTestUnfinished;
  CHECK(listed(named) != nullptr);
  header_of(*segment).state = kTestReady;
  REQUIRE(named.remove() == Status::kOk);
  CHECK(listed(named) == nullptr);
}

// What the kernel says of the mapping at `address`.
struct Mapping {
  std::string permissions;  // "rw-s"
  std::string flags;        // "rd wr sh dd ", as in /proc/self/smaps.
};

Mapping mapping_at(const std::byte* address) {
  std::ifstream file("/proc/self/smaps");
  const std::string begin = fmt::format("{:08x}-", reinterpret_cast<std::uintptr_t>(address));
  Mapping mapping;
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(begin)) mapping.permissions = line.substr(line.find(' ') + 1, 4);
    if (!mapping.permissions.empty() && line.starts_with("VmFlags: ")) {
      mapping.flags = line.substr(9);
      break;
    }
  }
  return mapping;
}

TEST_CASE_TEMPLATE("a mapping is read-only if asked, unmapped at its end, and never in a core dump", Kind, Posix,
                   SysV) {
  NamedBackend<Kind> named;
  (void)named.open();
  for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
    std::unique_ptr<Segment> segment;
    REQUIRE(named.backend->attach(named.spec, access, named.initializer, &segment) == Status::kOk);
    const std::byte* address = segment->data();
    const Mapping mapping = mapping_at(address);
    CHECK(mapping.permissions == (access == Access::kReadWrite ? "rw-s" : "r--s"));
    CHECK(mapping.flags.find("dd ") != std::string::npos);
    segment.reset();
    CHECK(mapping_at(address).permissions == "");
  }
}

TEST_CASE("a commit takes the whole pages that its range touches") {
  NamedBackend<InMemory> named;
  const auto segment = named.open();
  const std::size_t before = MemoryBackend::committed_bytes();
  CHECK(segment->commit(2 * page_size_bytes() - 1, 2) == Status::kOk);
  CHECK(MemoryBackend::committed_bytes() == before + 2 * page_size_bytes());
}

TEST_CASE("the memory backend runs out of memory where the test says") {
  NamedBackend<InMemory> named;
  const auto segment = named.open();
  const std::size_t before = MemoryBackend::committed_bytes();
  MemoryBackend::limit_committed_bytes(before + 2 * page_size_bytes());
  CHECK(segment->commit(page_size_bytes(), 2 * page_size_bytes()) == Status::kOk);
  CHECK(segment->commit(page_size_bytes(), 3 * page_size_bytes()) == Status::kNoMemory);
  CHECK(segment->commit(page_size_bytes(), 2 * page_size_bytes()) == Status::kOk);  // It has these.
  CHECK(MemoryBackend::committed_bytes() == before + 2 * page_size_bytes());
  MemoryBackend::unlimit_committed_bytes();
  CHECK(segment->commit(page_size_bytes(), 3 * page_size_bytes()) == Status::kOk);
}

}  // namespace
}  // namespace memstream::test
