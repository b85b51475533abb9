// Segments that this process must not write to, as a real attach meets them: each is refused with its own status and a
// sentence that says what to do, and not one byte of it changes.
#include <doctest/doctest.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

// The first byte of the segment under an open cache, found through the C interface.
std::byte* first_byte_of(memstream_t* cache) {
  memstream_view_t view;
  memstream_entry_t entry;
  if (memstream_set(cache, "anchor", 6, "here", 4, 0, 0) != CACHE_OK ||
      memstream_view(cache, "anchor", 6, &view) != CACHE_OK ||
      memstream_entry_info(cache, "anchor", 6, &entry) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  std::byte* first = static_cast<std::byte*>(const_cast<void*>(view.data)) - entry.data_offset;
  if (memstream_release(cache, &view) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return first;
}

// Opening for writing comes to `status`, and the message has `words`. Empty if so.
Complaint is_refused(const CacheSpec& spec, int status, const std::string& words) {
  const memstream_options_t options = spec.options();
  memstream_t* cache = nullptr;
  const int outcome = memstream_open(&options, &cache);
  const std::string message = cache_last_error();
  if (outcome == CACHE_OK) memstream_close(cache);
  if (outcome != status) return "status " + std::to_string(outcome) + ": " + message;
  return message.find(words) != std::string::npos ? "" : "without '" + words + "': " + message;
}

// A read-only attach brings the value. Empty if so.
Complaint can_be_read(const CacheSpec& spec) {
  memstream_options_t options = spec.options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* cache = nullptr;
  if (memstream_open(&options, &cache) != CACHE_OK) return cache_last_error();
  char room[8];
  std::size_t size = sizeof room;
  const int status = memstream_get(cache, "anchor", 6, room, &size, nullptr);
  memstream_close(cache);
  return status == CACHE_OK && size == 4 && std::memcmp(room, "here", 4) == 0 ? "" : "the value cannot be read";
}

struct Case {
  const char* name;
  int status;
  const char* words;  // Of the remedy.
  bool readable;      // By a read-only attach.
  std::function<void(SegmentIdentity&)> change;
};

const Case kCases[] = {
    {"other byte order", CACHE_OTHER_BYTE_ORDER, "Destroy it", false,
     [](SegmentIdentity& identity) { identity.magic = __builtin_bswap64(identity.magic); }},
    {"other byte order mark", CACHE_OTHER_BYTE_ORDER, "Destroy it", false,
     [](SegmentIdentity& identity) { identity.byte_order = __builtin_bswap32(identity.byte_order); }},
    {"other layout version", CACHE_BAD_VERSION, "this library reads version", false,
     [](SegmentIdentity& identity) { ++identity.layout_version; }},
    {"other C library", CACHE_OTHER_LIBC, "attach read-only", true,
     [](SegmentIdentity& identity) { std::strcpy(identity.libc, "glibc 1.99"); }},
    {"other mutex", CACHE_OTHER_LIBC, "attach read-only", true,
     [](SegmentIdentity& identity) { identity.mutex_size = static_cast<std::uint16_t>(identity.mutex_size + 8); }},
    {"other rwlock", CACHE_OTHER_LIBC, "attach read-only", true,
     [](SegmentIdentity& identity) {
       identity.rwlock_alignment = static_cast<std::uint16_t>(2 * identity.rwlock_alignment);
     }},
    {"other boot", CACHE_OTHER_BOOT, "if you know that no process uses it", true,
     [](SegmentIdentity& identity) {
       identity.boot_id[0] = identity.boot_id[0] == '0' ? '1' : '0';
       ++identity.marks_created_s;
     }},
    {"other boot id beside semaphores of this boot", CACHE_OK, "", true,
     [](SegmentIdentity& identity) { identity.boot_id[0] = identity.boot_id[0] == '0' ? '1' : '0'; }},
    {"semaphores that are not there", CACHE_CORRUPT, "Stop those that use it", true,
     [](SegmentIdentity& identity) { ++identity.marks_key; }},
    {"other IPC namespace", CACHE_OTHER_NAMESPACE, "Share the IPC namespace", true,
     [](SegmentIdentity& identity) { ++identity.ipc_namespace; }},
    {"other time namespace", CACHE_OTHER_NAMESPACE, "one time namespace", false,
     [](SegmentIdentity& identity) { ++identity.time_namespace; }},
    {"other size", CACHE_SIZE_MISMATCH, "Destroy it", false,
     [](SegmentIdentity& identity) { identity.size_bytes -= kPageSize; }},
};

TEST_CASE("a segment of another kind is refused for its reason and stays as it is") {
  const TemporarySegment segment("kind", std::uint64_t{2} << 20);
  const OpenCache cache(segment.spec());
  auto* header = reinterpret_cast<SegmentHeader*>(first_byte_of(cache));
  const SegmentIdentity sound = header->identity;
  const std::uint64_t sound_checksum = header->checksum;
  for (const Case& one : kCases) {
    CAPTURE(one.name);
    SegmentIdentity changed = sound;
    one.change(changed);
    header->identity = changed;
    header->checksum = hash_bytes(&changed, sizeof changed);
    std::vector<std::byte> before(kPageSize);
    std::memcpy(before.data(), header, before.size());
    CHECK(is_refused(segment.spec(), one.status, one.words) == "");
    if (one.readable) CHECK(can_be_read(segment.spec()) == "");
    CHECK(std::memcmp(before.data(), header, before.size()) == 0);
    header->identity = sound;
    header->checksum = sound_checksum;
  }
  header->checksum ^= 1;
  CHECK(is_refused(segment.spec(), CACHE_BAD_CHECKSUM, "Destroy it") == "");
  header->checksum = sound_checksum;
  CHECK(is_refused(segment.spec(), CACHE_OK, "") == "");
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a process of another pid namespace may read and not write") {
  const TemporarySegment segment("namespace", std::uint64_t{2} << 20);
  const OpenCache cache(segment.spec());
  const std::byte* header = first_byte_of(cache);
  std::vector<std::byte> before(header, header + kPageSize);
  const Complaint complaint = in_child([&]() -> Complaint {
    if (::unshare(CLONE_NEWPID) != 0) return "skipped";
    return in_child([&]() -> Complaint {  // The first process of the new namespace.
      if (::getpid() != 1) return "not in a namespace of its own";
      const Complaint refused = is_refused(segment.spec(), CACHE_OTHER_NAMESPACE, "attach read-only");
      return refused.empty() ? can_be_read(segment.spec()) : refused;
    });
  });
  if (complaint == "skipped") {
    MESSAGE("skipped: this user cannot make a pid namespace");
    return;
  }
  CHECK(complaint == "");
  CHECK(std::memcmp(before.data(), header, before.size()) == 0);
}

}  // namespace
}  // namespace memstream::test
