// Huge pages and pre-faulting as users ask for them: what they get, what they are told, and what is left when it is not
// to be had. Where a test needs a system that gives huge pages it makes one: a /dev/shm of its own, or some pages more
// in the kernel's pool, which are given back.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "backends/huge_pages.h"
#include "backends/mapped_segment.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/page_map.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

void skip(const char* reason) { MESSAGE("skipped: " << reason); }

bool is_sysv() {
  const char* backend = std::getenv("MEMSTREAM_BACKEND");
  return backend != nullptr && std::string(backend) == "sysv";
}

std::string traces_of(const std::string& name) { return is_sysv() ? SysV::traces_of(name) : Posix::traces_of(name); }

std::uint64_t huge_page_size() {
  return is_sysv() ? huge_page_pool().page_size_bytes : transparent_huge_page_size_bytes();
}

// A segment as TemporarySegment has it, opened with options of this test's own.
class Pages {
 public:
  explicit Pages(std::uint64_t size_bytes) : segment_("pages", size_bytes) {}

  const std::string& name() const { return segment_.spec().name; }
  int open(memstream_t** cache, const char* hugepages, const char* prefault = "off", std::uint32_t flags = 0) const {
    memstream_options_t options = segment_.spec().options();
    options.hugepages = hugepages;
    options.prefault = prefault;
    options.flags = flags;
    return memstream_open(&options, cache);
  }

 private:
  TemporarySegment segment_;
};

struct Opened {
  Opened(const Pages& pages, const char* hugepages, const char* prefault = "off", std::uint32_t flags = 0) {
    const std::set<std::uintptr_t> before = segment_mappings();
    status = pages.open(&cache, hugepages, prefault, flags);
    if (status < 0) message = cache_last_error();
    for (const std::uintptr_t mapping : segment_mappings()) {
      if (!before.contains(mapping)) start = mapping;
    }
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { memstream_close(cache); }

  // How many ordinary pages of the segment are mapped here.
  std::size_t mapped() const {
    return mapped_pages(reinterpret_cast<const void*>(start), stats_of(cache).max_memory / page_size_bytes());
  }

  memstream_t* cache = nullptr;
  int status = CACHE_OK;
  std::string message;
  std::uintptr_t start = 0;
};

// Fills the cache until it evicts; complains if a put fails.
Complaint fill(memstream_t* cache) {
  const std::vector<char> value(64 << 10, 'v');
  for (int i = 0; stats_of(cache).evictions == 0; ++i) {
    const std::string key = fmt::format("key-{}", i);
    if (memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) != CACHE_OK)
      return cache_last_error();
    if (stats_of(cache).commit_failures != 0) return "the system gave no more memory";
  }
  return problems_of(cache);
}

// ---- systems that have huge pages, and such that have none ----

// `pages` more of the default size in the kernel's pool, given back at the end.
class LargerPool {
 public:
  explicit LargerPool(std::uint64_t pages) : before_(kernel_number(kSetting)) {
    std::ofstream(kSetting) << before_ + pages;
    const HugePagePool pool = huge_page_pool();
    is_larger_ = pool.free_pages - pool.reserved_pages >= pages;
  }
  LargerPool(const LargerPool&) = delete;
  LargerPool& operator=(const LargerPool&) = delete;
  ~LargerPool() { std::ofstream(kSetting) << before_; }
  bool is_larger() const { return is_larger_; }

 private:
  static constexpr const char* kSetting = "/proc/sys/vm/nr_hugepages";
  std::uint64_t before_;
  bool is_larger_ = false;
};

// Runs `body` in a child that can have huge pages for 32 MiB. Says so and does nothing where that cannot be.
void with_huge_pages(const std::function<Complaint()>& body) {
  if (huge_page_size() == 0) return skip("this kernel has no huge pages");
  if (is_sysv()) {
    const LargerPool pool(32 * kMiB / huge_page_size());
    if (!pool.is_larger()) return skip("reserving huge pages needs root, and memory in one piece");
    CHECK(in_child(body) == "");
    return;
  }
  const auto mount = [] { return mount_own_shm("size=256m,huge=advise"); };
  if (in_child(mount) != "") return skip("a /dev/shm with huge=advise of its own needs root");
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = mount(); !obstacle.empty()) return obstacle;
          return body();
        }) == "");
}

// Runs `body` in a child to which the system gives no huge pages for 32 MiB.
void without_huge_pages(const std::function<Complaint()>& body) {
  const HugePagePool pool = huge_page_pool();
  if (is_sysv()) {
    const std::uint64_t available = pool.free_pages + kernel_number("/proc/sys/vm/nr_overcommit_hugepages");
    if (available * pool.page_size_bytes >= 32 * kMiB) return skip("this system has huge pages to give");
    CHECK(in_child(body) == "");
    return;
  }
  const auto mount = [] { return mount_own_shm("size=256m"); };
  const bool can_mount = in_child(mount) == "";
  if (!can_mount && tmpfs_allows_huge_pages("/dev/shm")) return skip("/dev/shm has huge pages to give");
  CHECK(in_child([&]() -> Complaint {
          if (can_mount) mount();
          return body();
        }) == "");
}

// ---- what is asked for, and what is said ----

TEST_CASE("without a word about huge pages the size is what was asked for, and the statistics say so") {
  without_huge_pages([]() -> Complaint {
    const Pages pages(5 * kMiB + 4096);
    const Opened opened(pages, "off");
    if (opened.status != CACHE_OK) return opened.message;
    const cache_stats_t stats = stats_of(opened.cache);
    if (stats.max_memory != 5 * kMiB + 4096) return "another size";
    if (stats.huge_pages != 0) return "huge pages were not asked for";
    return stats.page_size == page_size_bytes() ? "" : fmt::format("pages of {} bytes", stats.page_size);
  });
}

TEST_CASE("where there are none, trying gives ordinary pages and says so") {
  without_huge_pages([]() -> Complaint {
    const Pages pages(31 * kMiB);
    const Opened opened(pages, "try");
    if (opened.status != CACHE_OK) return opened.message;
    const cache_stats_t stats = stats_of(opened.cache);
    if (stats.huge_pages != 1) return "the statistics do not say what was asked for";
    if (stats.page_size != page_size_bytes()) return fmt::format("pages of {} bytes", stats.page_size);
    const std::uint64_t unit = huge_page_size() == 0 ? page_size_bytes() : huge_page_size();
    if (stats.max_memory % unit != 0 || stats.max_memory < 31 * kMiB) return "the size is not in whole huge pages";
    return fill(opened.cache);
  });
}

TEST_CASE("where there are none, requiring them is refused with what makes them possible, and leaves nothing") {
  without_huge_pages([]() -> Complaint {
    for (const char* prefault : {"off", "on"}) {
      const Pages pages(32 * kMiB);
      const Opened opened(pages, "require", prefault);
      if (opened.status != CACHE_NO_HUGE_PAGES) return fmt::format("status {}: {}", opened.status, opened.message);
      const auto says = [&](const std::string& text) { return opened.message.find(text) != std::string::npos; };
      if (!says("'" + pages.name() + "'")) return opened.message;
      if (huge_page_size() != 0) {
        const HugePagePool pool = huge_page_pool();
        const std::uint64_t missing = 32 * kMiB / huge_page_size() - (pool.free_pages - pool.reserved_pages);
        const std::string remedy = is_sysv() ? fmt::format("sysctl vm.nr_hugepages={}", pool.pages + missing)
                                             : "mount -o remount,huge=advise /dev/shm";
        if (!says(remedy)) return opened.message;
      }
      if (!traces_of(pages.name()).empty()) return "left behind: " + traces_of(pages.name());
    }
    return "";
  });
}

TEST_CASE("a segment keeps its pages: requiring others is refused with a sentence of its own, all else attaches") {
  without_huge_pages([]() -> Complaint {
    const Pages pages(8 * kMiB);
    const Opened creator(pages, "off");
    if (creator.status != CACHE_OK) return creator.message;
    for (const std::uint32_t flags :
         {0U, std::uint32_t{MEMSTREAM_OPEN_EXISTING}, std::uint32_t{MEMSTREAM_OPEN_READ_ONLY}}) {
      for (const char* hugepages : {"off", "try"}) {
        const Opened attached(pages, hugepages, "off", flags);
        if (attached.status != CACHE_OK) return attached.message;
        if (stats_of(attached.cache).page_size != page_size_bytes()) return "other pages";
      }
      const Opened refused(pages, "require", "off", flags);
      if (refused.status != CACHE_NO_HUGE_PAGES) return fmt::format("status {}", refused.status);
      if (refused.message.find("was made without huge pages") == std::string::npos) return refused.message;
    }
    return problems_of(creator.cache);
  });
}

TEST_CASE("where there are huge pages, trying and requiring give them, and everybody who attaches sees them") {
  for (const char* hugepages : {"try", "require"}) {
    with_huge_pages([&]() -> Complaint {
      const Pages pages(15 * kMiB);
      const Opened opened(pages, hugepages);
      if (opened.status != CACHE_OK) return opened.message;
      const cache_stats_t stats = stats_of(opened.cache);
      if (stats.page_size != huge_page_size()) return fmt::format("pages of {} bytes", stats.page_size);
      if (stats.max_memory != (15 * kMiB + huge_page_size() - 1) / huge_page_size() * huge_page_size())
        return fmt::format("a size of {} bytes", stats.max_memory);
      for (const char* theirs : {"off", "try", "require"}) {
        for (const std::uint32_t flags : {0U, std::uint32_t{MEMSTREAM_OPEN_READ_ONLY}}) {
          const Opened attached(pages, theirs, "off", flags);
          if (attached.status != CACHE_OK) return attached.message;
          if (stats_of(attached.cache).page_size != huge_page_size()) return "an attach sees other pages";
        }
      }
      return fill(opened.cache);
    });
  }
}

TEST_CASE("pages of the pool are reserved at creation, so that nobody can take them from under the cache") {
  if (!is_sysv()) return;
  with_huge_pages([]() -> Complaint {
    const std::uint64_t reserved_before = huge_page_pool().reserved_pages;
    const Pages pages(16 * kMiB);
    const Opened opened(pages, "require");
    if (opened.status != CACHE_OK) return opened.message;
    const HugePagePool pool = huge_page_pool();
    if (pool.reserved_pages <= reserved_before) return "nothing is reserved";
    // Whatever is left goes to another; the first still has what it needs.
    TemporarySegment greedy("greedy", (pool.free_pages - pool.reserved_pages) * pool.page_size_bytes);
    memstream_options_t options = greedy.spec().options();
    options.hugepages = "require";
    memstream_t* other = nullptr;
    if (memstream_open(&options, &other) != CACHE_OK) return cache_last_error();
    const Complaint complaint = fill(opened.cache);
    memstream_close(other);
    return complaint;
  });
}

TEST_CASE("when the pool is too small the message says how large it has to be, beside what others have of it") {
  if (!is_sysv()) return;
  with_huge_pages([]() -> Complaint {
    const Pages pages(16 * kMiB);
    const Opened opened(pages, "require");
    if (opened.status != CACHE_OK) return opened.message;
    const HugePagePool pool = huge_page_pool();
    const std::uint64_t available = pool.free_pages - pool.reserved_pages;
    const TemporarySegment larger("larger", (available + 3) * pool.page_size_bytes);
    memstream_options_t options = larger.spec().options();
    options.hugepages = "require";
    memstream_t* cache = nullptr;
    if (memstream_open(&options, &cache) != CACHE_NO_HUGE_PAGES) return "not refused";
    const std::string remedy = fmt::format("sysctl vm.nr_hugepages={}", pool.pages + 3);
    const std::string message = cache_last_error();
    return message.ends_with(remedy) ? "" : message;
  });
}

TEST_CASE("pages that are reserved and then kept from the container are no huge pages, and nothing is left") {
  if (!is_sysv()) return;
  with_huge_pages([]() -> Complaint {
    const std::uint64_t reserved_before = huge_page_pool().reserved_pages;
    if (Complaint obstacle = refuse_population(EFAULT); !obstacle.empty()) return obstacle;
    const Pages pages(16 * kMiB);
    const Opened refused(pages, "require");
    if (refused.status != CACHE_NO_HUGE_PAGES) return fmt::format("status {}: {}", refused.status, refused.message);
    if (refused.message.find("hugetlb.*.max") == std::string::npos) return refused.message;
    if (huge_page_pool().reserved_pages != reserved_before) return "pages stay reserved";
    return traces_of(pages.name());
  });
}

TEST_CASE("where they are there and this process may not have them, the message says who lets it") {
  with_huge_pages([]() -> Complaint {
    std::string remedy = "THP_enabled";
    if (is_sysv()) {
      if (kernel_number("/proc/sys/vm/hugetlb_shm_group") == kOtherUser) return "";  // It may.
      if (Complaint obstacle = limit_resource(RLIMIT_MEMLOCK, 0); !obstacle.empty()) return obstacle;
      if (Complaint obstacle = become_other_user(); !obstacle.empty()) return obstacle;
      remedy = fmt::format("sysctl vm.hugetlb_shm_group={}", ::getegid());
    } else if (::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) {
      return "prctl(PR_SET_THP_DISABLE)";
    }
    const Pages pages(16 * kMiB);
    const Opened refused(pages, "require");
    if (refused.status != CACHE_NO_HUGE_PAGES) return fmt::format("status {}: {}", refused.status, refused.message);
    if (refused.message.find(remedy) == std::string::npos) return refused.message;
    if (!traces_of(pages.name()).empty()) return "left behind: " + traces_of(pages.name());
    const Opened tried(pages, "try");
    if (tried.status != CACHE_OK) return tried.message;
    return stats_of(tried.cache).page_size == page_size_bytes() ? "" : "other pages";
  });
}

TEST_CASE("a header whose page cannot be had is an error, and no SIGBUS") {
  if (!is_sysv()) return;  // With POSIX it is read by pread().
  const Pages pages(8 * kMiB);
  const Opened creator(pages, "off");
  REQUIRE_MESSAGE(creator.status == CACHE_OK, creator.message);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = refuse_population(EFAULT); !obstacle.empty()) return obstacle;
          const Opened attached(pages, "off");
          if (attached.status != CACHE_NO_MEMORY) return fmt::format("status {}", attached.status);
          return attached.message.find("madvise") != std::string::npos ? "" : attached.message;
        }) == "");
}

// ---- pre-faulting ----

TEST_CASE("a new segment that is pre-faulted has all its memory, and all of it is mapped") {
  for (const char* hugepages : {"off", "try"}) {
    const Pages pages(16 * kMiB);
    const Opened opened(pages, hugepages, "on");
    REQUIRE_MESSAGE(opened.status == CACHE_OK, opened.message);
    const cache_stats_t stats = stats_of(opened.cache);
    CHECK(stats.committed_memory > stats.max_memory - kMiB);  // All shards; what is not shards is tables.
    CHECK(opened.mapped() == stats.max_memory / page_size_bytes());
    CHECK(fill(opened.cache) == "");
    CHECK(stats_of(opened.cache).committed_memory == stats.committed_memory);
  }
}

TEST_CASE("an attach that pre-faults maps what the segment has, for reading only too, and no more than that") {
  const Pages pages(64 * kMiB);
  const Opened creator(pages, "off");
  REQUIRE_MESSAGE(creator.status == CACHE_OK, creator.message);
  const std::vector<char> value(kMiB, 'v');
  for (int i = 0; i < 16; ++i)
    REQUIRE(memstream_set(creator.cache, &i, sizeof i, value.data(), kMiB, 0, 0) == CACHE_OK);
  const std::uint64_t committed = stats_of(creator.cache).committed_memory;
  REQUIRE(committed < 32 * kMiB);
  for (const std::uint32_t flags : {0U, std::uint32_t{MEMSTREAM_OPEN_READ_ONLY}}) {
    CHECK(in_child([&]() -> Complaint {
            const Opened attached(pages, "off", "on", flags);
            if (attached.status != CACHE_OK) return attached.message;
            const std::size_t mapped = attached.mapped();
            if (mapped < committed / page_size_bytes()) return fmt::format("only {} pages are mapped", mapped);
            if (mapped > committed / page_size_bytes() + kMiB / page_size_bytes())
              return fmt::format("{} pages are mapped, {} bytes are committed", mapped, committed);
            const Opened lazy(pages, "off", "off", flags);
            if (lazy.mapped() > mapped / 2) return "without pre-faulting as much is mapped: this test shows nothing";
            return "";
          }) == "");
  }
}

TEST_CASE("pre-faulting works on a kernel that has no call for it") {
  CHECK(in_child([]() -> Complaint {
          if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
          const Pages pages(16 * kMiB);
          const Opened opened(pages, "try", "on");
          if (opened.status != CACHE_OK) return opened.message;
          if (opened.mapped() != stats_of(opened.cache).max_memory / page_size_bytes())
            return "not all pages are mapped";
          return fill(opened.cache);
        }) == "");
}

TEST_CASE("a segment whose memory is not to be had at once is not made") {
  if (is_sysv()) return;  // No limit of the system refuses it: fault_test plays one.
  const auto mount = [] { return mount_own_shm("size=16m"); };
  if (in_child(mount) != "") return skip("a small /dev/shm of its own needs root");
  for (const char* hugepages : {"off", "try"}) {
    CHECK(in_child([&]() -> Complaint {
            if (Complaint obstacle = mount(); !obstacle.empty()) return obstacle;
            const Pages pages(64 * kMiB);
            const Opened refused(pages, hugepages, "on");
            if (refused.status != CACHE_NO_MEMORY) return fmt::format("status {}: {}", refused.status, refused.message);
            if (refused.message.find("Mount it larger") == std::string::npos) return refused.message;
            if (!traces_of(pages.name()).empty()) return "left behind: " + traces_of(pages.name());
            const Opened lazy(pages, hugepages);
            return lazy.status == CACHE_OK ? "" : lazy.message;
          }) == "");
  }
}

}  // namespace
}  // namespace memstream::test
