// See memory_segment.h.
#include "tests/support/memory_segment.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "backends/mapped_segment.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEMSTREAM_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(MEMSTREAM_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (static_cast<void>(address), static_cast<void>(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (static_cast<void>(address), static_cast<void>(size))
#endif

namespace memstream::test {
namespace {

// The memory of one segment: what in the other backends belongs to the kernel. All members but the bytes are guarded by
// the registry's mutex.
struct Region {
  ~Region();

  std::byte* data = nullptr;
  void* allocation = nullptr;  // Null if the memory is not ours.
  std::size_t size_bytes = 0;
  unsigned mode = 0;
  uid_t owner = 0;
  std::vector<bool> committed;  // By page.
  bool has_name = true;
  bool is_locked = false;
};

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Region>> by_name;
  std::size_t committed_bytes = 0;
  std::size_t commit_limit_bytes = std::numeric_limits<std::size_t>::max();
};

Registry& registry() {
  static Registry instance;
  return instance;
}

Region::~Region() {
  for (const bool is_committed : committed) {
    if (is_committed) registry().committed_bytes -= page_size_bytes();
  }
  ASAN_UNPOISON_MEMORY_REGION(data, round_up_to_page(size_bytes));
  std::free(allocation);
}

// Lets go of a region under the mutex, which its destructor relies on.
void drop(std::shared_ptr<Region>& region) {
  const std::lock_guard guard(registry().mutex);
  region.reset();
}

class MemorySegment final : public MappedSegment {
 public:
  MemorySegment(std::string name, Access access, std::shared_ptr<Region> region)
      : MappedSegment(std::move(name), region->data, region->size_bytes, access), region_(std::move(region)) {}
  ~MemorySegment() override { drop(region_); }

  std::size_t available_bytes() const noexcept override {
    const std::lock_guard guard(registry().mutex);
    return registry().commit_limit_bytes;
  }
  // What was never committed is a hole, whatever the system thinks of it.
  Status look_for_memory(std::size_t offset_bytes, std::size_t size_bytes) const noexcept override {
    const std::lock_guard guard(registry().mutex);
    for (std::size_t at = offset_bytes / page_size_bytes() * page_size_bytes(); at < offset_bytes + size_bytes;
         at += page_size_bytes()) {
      if (!region_->committed[at / page_size_bytes()]) return Status::kNoMemory;
    }
    return Status::kOk;
  }
  std::size_t left_bytes() const noexcept override {
    const std::lock_guard guard(registry().mutex);
    return registry().commit_limit_bytes - std::min(registry().commit_limit_bytes, registry().committed_bytes);
  }
  const Region* region() const noexcept { return region_.get(); }

 private:
  Status commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept override {
    Registry& all = registry();
    const std::lock_guard guard(all.mutex);
    const std::size_t page = page_size_bytes();
    std::size_t missing_bytes = 0;
    for (std::size_t at = offset_bytes; at < offset_bytes + size_bytes; at += page) {
      if (!region_->committed[at / page]) missing_bytes += page;
    }
    if (missing_bytes > all.commit_limit_bytes - std::min(all.commit_limit_bytes, all.committed_bytes)) {
      return fail_errno(Status::kNoMemory, "commit", name(), ENOSPC, "The test wanted it so.");
    }
    all.committed_bytes += missing_bytes;
    for (std::size_t at = offset_bytes; at < offset_bytes + size_bytes; at += page)
      region_->committed[at / page] = true;
    ASAN_UNPOISON_MEMORY_REGION(data() + offset_bytes, size_bytes);
    return Status::kOk;
  }

  std::shared_ptr<Region> region_;
};

class MemoryObject final : public SharedObject {
 public:
  MemoryObject(const SegmentSpec& spec, std::shared_ptr<Region> region)
      : SharedObject(spec), region_(std::move(region)), owner_(region_->owner) {}
  ~MemoryObject() override {
    if (holds_lock_) {
      const std::lock_guard guard(registry().mutex);
      region_->is_locked = false;
    }
    drop(region_);
  }

  std::size_t size_bytes() const noexcept override { return region_->size_bytes; }
  Ownership ownership() const noexcept override { return {.owner = owner_, .creator = owner_}; }

  bool is_mapped_by(const Segment& segment) const noexcept override {
    const auto* mapped = dynamic_cast<const MemorySegment*>(&segment);
    return mapped != nullptr && mapped->region() == region_.get();
  }

  Status read_header(std::byte* header, std::size_t size_bytes) override {
    const std::lock_guard guard(registry().mutex);
    if (size_bytes > region_->size_bytes) {
      return fail(Status::kTruncated, "segment '" + spec().name + "' is smaller than a header");
    }
    for (std::size_t at = 0; at < size_bytes; at += page_size_bytes()) {
      const std::size_t part_bytes = std::min(page_size_bytes(), size_bytes - at);
      if (region_->committed[at / page_size_bytes()]) {
        copy_while_written(header + at, region_->data + at, part_bytes);
      } else {
        std::fill_n(header + at, part_bytes, std::byte{0});
      }
    }
    return Status::kOk;
  }

  Status lock(const Deadline& deadline) override {
    while (!holds_lock_) {
      {
        const std::lock_guard guard(registry().mutex);
        holds_lock_ = !std::exchange(region_->is_locked, true);
      }
      if (holds_lock_) break;
      if (deadline.passed()) return fail(Status::kBusy, "another thread is creating segment '" + spec().name + "'");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return Status::kOk;
  }

  Status look_again() override {
    const std::lock_guard guard(registry().mutex);
    return region_->has_name ? Status::kOk : Status::kGone;
  }

  Status give_size() override { return Status::kOk; }

  Status map(Access access, std::unique_ptr<Segment>* segment) override {
    *segment = std::make_unique<MemorySegment>(spec().name, access, region_);
    return Status::kOk;
  }

  std::string huge_page_remedy() const override { return "ordinary memory has none"; }

  Status may_remove_name() const override { return Status::kOk; }

  Status may_remove_foreign() const override { return Status::kOk; }

  Status remove_name() override {
    const std::lock_guard guard(registry().mutex);
    if (std::exchange(region_->has_name, false)) registry().by_name.erase(spec().name);
    return Status::kOk;
  }
  // Whoever has the lock finishes it. Nothing here fails between creating and locking.
  Status discard() override { return holds_lock_ ? remove_name() : Status::kOk; }

 private:
  std::shared_ptr<Region> region_;
  uid_t owner_;
  bool holds_lock_ = false;
};

}  // namespace

Status MemoryBackend::find(const SegmentSpec& spec, Access /*access*/, const SegmentInitializer& /*initializer*/,
                           std::unique_ptr<SharedObject>* object) {
  const std::lock_guard guard(registry().mutex);
  const auto found = registry().by_name.find(spec.name);
  if (found == registry().by_name.end()) {
    return fail(Status::kNoSegment, "there is no memory segment '" + spec.name + "'");
  }
  *object = std::make_unique<MemoryObject>(spec, found->second);
  return Status::kOk;
}

Status MemoryBackend::create(const SegmentSpec& spec, const SegmentInitializer& /*initializer*/,
                             const Deadline& /*deadline*/, std::unique_ptr<SharedObject>* object) {
  const std::lock_guard guard(registry().mutex);
  if (registry().by_name.contains(spec.name)) return Status::kGone;
  const std::size_t page = page_size_bytes();
  void* allocation = std::calloc(1, spec.size_bytes + page);  // Zeros, and no memory until it is touched.
  if (allocation == nullptr) return fail(Status::kNoMemory, "no memory for segment '" + spec.name + "'");
  auto region = std::make_shared<Region>();
  region->allocation = allocation;
  region->data = static_cast<std::byte*>(allocation) + (page - reinterpret_cast<std::uintptr_t>(allocation) % page);
  region->size_bytes = spec.size_bytes;
  region->mode = spec.mode;
  region->owner = ::geteuid();
  region->committed.resize(spec.size_bytes / page);
  ASAN_POISON_MEMORY_REGION(region->data, region->size_bytes);
  registry().by_name.emplace(spec.name, region);
  *object = std::make_unique<MemoryObject>(spec, std::move(region));
  return Status::kOk;
}

Status MemoryBackend::move_name(SharedObject& object, SharedObject& successor) {
  const std::lock_guard guard(registry().mutex);
  const auto from = registry().by_name.find(successor.spec().name);
  if (from == registry().by_name.end()) return fail(Status::kNoSegment, "the successor has no name");
  std::shared_ptr<Region>& named = registry().by_name[object.spec().name];
  if (named != nullptr) named->has_name = false;
  named = from->second;
  registry().by_name.erase(successor.spec().name);
  return Status::kOk;
}

Status MemoryBackend::list(SegmentInitializer& /*initializer*/, std::vector<SegmentInfo>* segments) {
  segments->clear();
  const std::lock_guard guard(registry().mutex);
  for (const auto& [name, region] : registry().by_name) {
    segments->push_back({.name = name,
                         .system_id = name,
                         .size_bytes = region->size_bytes,
                         .mode = region->mode,
                         .owner_uid = region->owner});
  }
  return Status::kOk;
}

void MemoryBackend::limit_committed_bytes(std::size_t bytes) {
  const std::lock_guard guard(registry().mutex);
  registry().commit_limit_bytes = bytes;
}

void MemoryBackend::unlimit_committed_bytes() { limit_committed_bytes(std::numeric_limits<std::size_t>::max()); }

std::size_t MemoryBackend::committed_bytes() {
  const std::lock_guard guard(registry().mutex);
  return registry().committed_bytes;
}

void MemoryBackend::change_owner(const std::string& name, uid_t owner) {
  const std::lock_guard guard(registry().mutex);
  registry().by_name.at(name)->owner = owner;
}

void MemoryBackend::place(const std::string& name, std::span<std::byte> bytes) {
  const std::lock_guard guard(registry().mutex);
  auto region = std::make_shared<Region>();
  region->data = bytes.data();
  region->size_bytes = bytes.size();
  region->mode = 0600;
  region->owner = ::geteuid();
  region->committed.assign(round_up_to_page(bytes.size()) / page_size_bytes(), true);
  registry().committed_bytes += region->committed.size() * page_size_bytes();
  // Behind an end that is no page border the mapping shows nothing; touching it is a mistake all the same.
  ASAN_POISON_MEMORY_REGION(region->data + bytes.size(), round_up_to_page(bytes.size()) - bytes.size());
  registry().by_name[name] = std::move(region);
}

bool MemoryBackend::exists(const std::string& name) {
  const std::lock_guard guard(registry().mutex);
  return registry().by_name.contains(name);
}

}  // namespace memstream::test
