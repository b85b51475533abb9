#include "api/handle.h"

#include <fmt/format.h>

#include "core/base/process_fence.h"
#include "core/cache/format.h"

using memstream::Cache;
using memstream::Deadline;
using memstream::OpenOptions;
using memstream::PinnedItem;
using memstream::SegmentFormat;
using memstream::Status;

namespace {

// How an existing segment differs from what was asked for. Empty if it does not.
std::string differences(const OpenOptions& options, const Cache& cache) {
  const memstream::Geometry& geometry = cache.attached().geometry;
  std::string found;
  const auto compare = [&](bool is_as_asked, const std::string& has, const std::string& asked) {
    if (!is_as_asked) found += fmt::format("{}{} instead of {}", found.empty() ? "" : ", ", has, asked);
  };
  if (options.asks_for_size) {
    compare(geometry.size_bytes == options.spec.size_bytes, fmt::format("a size of {} bytes", geometry.size_bytes),
            std::to_string(options.spec.size_bytes));
  }
  if (const std::uint32_t asked = options.shard_choice.shards; asked != 0) {
    compare(geometry.shards == asked, fmt::format("{} shards", geometry.shards), std::to_string(asked));
  }
  if (const std::uint64_t asked = options.shard_choice.max_value_bytes; asked != 0) {
    const std::uint64_t limit = memstream::max_value_size(geometry, memstream::kMaxKeySize);
    compare(limit >= asked, fmt::format("a largest value of {} bytes", limit), std::to_string(asked));
  }
  if (options.asks_for_mode) {
    compare(cache.segment().mode() == options.spec.mode, fmt::format("the mode {:04o}", cache.segment().mode()),
            fmt::format("{:04o}", options.spec.mode));
  }
  if (options.asks_for_checksum) {
    const auto name_of = [](bool is_on) { return is_on ? "on" : "off"; };
    const bool is_on = geometry.has_checksums();
    compare(is_on == options.checksum, fmt::format("checksums {}", name_of(is_on)), name_of(options.checksum));
  }
  if (found.empty()) return found;
  return fmt::format("Segment '{}' existed already and has {}. Destroy it to create a new one, or ask for what it has.",
                     options.spec.name, found);
}

Status open_cache(const OpenOptions& options, std::unique_ptr<Cache>* cache, std::string* note) {
  SegmentFormat format(options.spec.name, options.shard_choice, options.prefault, options.spec.timeout,
                       options.spec.mode, options.spec.group, options.checksum ? memstream::kFeatureChecksums : 0);
  std::unique_ptr<memstream::Segment> segment;
  const auto access = options.read_only ? memstream::Access::kReadOnly : memstream::Access::kReadWrite;
  const Status status = options.existing_only ? options.backend->attach(options.spec, access, format, &segment)
                                              : options.backend->open(options.spec, format, &segment);
  if (status != Status::kOk) return status;
  const Status opened = Cache::open(std::move(segment), options.spec.name, options.spec.timeout, cache);
  if (opened == Status::kOk) *note = format.has_created() ? "" : differences(options, **cache);
  if (opened != Status::kOk || !options.prefault || format.has_prefaulted()) return opened;
  const Status prefaulted = (*cache)->prefault();
  if (prefaulted == Status::kOk) return prefaulted;
  const std::string reason = memstream::last_error();
  cache->reset();  // Closing may fail and replace the message, which `reason` keeps.
  return memstream::fail(prefaulted, fmt::format("Pre-faulting segment '{}' failed. {}", options.spec.name, reason));
}

}  // namespace

Status memstream_handle::open(const memstream_options_t* options, std::unique_ptr<memstream_handle>* handle) {
  OpenOptions open_options;
  if (const Status status = memstream::read_options(options, &open_options); status != Status::kOk) return status;
  // While the process has one thread this takes no time. Where it is refused, calls are noted in the costlier way.
  static_cast<void>(memstream::prepare_process_fence());
  auto opened = std::unique_ptr<memstream_handle>(new memstream_handle);
  const Deadline deadline(open_options.spec.timeout);
  Status status;
  do {  // Again if the segment is destroyed before this process has entered it: another may have its name by now.
    status = open_cache(open_options, &opened->cache_, &opened->open_note_);
  } while (status == Status::kGone && !deadline.passed());
  if (status != Status::kOk) return status;
  opened->backend_ = std::move(open_options.backend);
  opened->spec_ = std::move(open_options.spec);
  *handle = std::move(opened);
  return Status::kOk;
}

Status memstream_handle::destroy() {
  if (cache_->read_only()) {
    return memstream::fail(Status::kReadOnly, "The cache is open for reading only. Open it for writing to destroy it.");
  }
  SegmentFormat format(spec_.name, 0);
  return backend_->remove(spec_, format, &cache_->segment(), memstream::mark_destroyed);
}

std::uint64_t memstream_handle::page_size_bytes() noexcept {
  std::uint64_t size = page_size_bytes_.load(std::memory_order_relaxed);
  if (size != 0) return size;
  size = cache_->segment().kernel_page_size_bytes();
  page_size_bytes_.store(size, std::memory_order_relaxed);
  return size;
}

std::uint64_t memstream_handle::keep(PinnedItem item) {
  const std::lock_guard guard(items_mutex_);
  items_.emplace(next_token_, std::move(item));
  return next_token_++;
}

Status memstream_handle::take(std::uint64_t token, PinnedItem::Kind kind, PinnedItem* item) {
  const std::lock_guard guard(items_mutex_);
  const auto found = items_.find(token);
  if (found == items_.end() || found->second.kind != kind) {
    return memstream::fail(Status::kBadHandle,
                           "This handle does not hold that view or reservation: it was released, committed or aborted "
                           "before. End each one once.");
  }
  *item = std::move(found->second);
  items_.erase(found);
  return Status::kOk;
}
