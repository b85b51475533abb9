#include "api/handle.h"

#include <fmt/format.h>

#include <algorithm>

#include "backends/open_segment.h"
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
  std::unique_ptr<Cache> cache;
  do {  // Again if the segment is destroyed before this process has entered it: another may have its name by now.
    status = open_cache(open_options, &cache, &opened->open_note_);
  } while (status == Status::kGone && !deadline.passed());
  if (status != Status::kOk) return memstream::name_variable(status, open_options);
  opened->current_.store(cache.get(), std::memory_order_release);
  opened->attachments_[0].cache = std::move(cache);
  opened->read_only_ = open_options.read_only;
  opened->prefault_ = open_options.prefault;
  opened->backend_ = std::move(open_options.backend);
  opened->spec_ = std::move(open_options.spec);
  *handle = std::move(opened);
  return Status::kOk;
}

Status memstream_handle::destroy() {
  for (;;) {
    const memstream::InFlightCalls::OperationGuard guard(calls_in_flight_);
    // If another segment has taken the place, that one is meant.
    while (follows_ && cache().is_superseded()) {
      if (const Status status = follow(cache()); status != Status::kOk) return status;
    }
    Cache& present = cache();
    if (present.read_only()) {
      return memstream::fail(Status::kReadOnly,
                             "The cache is open for reading only. Open it for writing to destroy it.");
    }
    SegmentFormat format(spec_.name, 0);
    const Status status = backend_->remove(spec_, format, &present.segment(), memstream::mark_destroyed);
    // Also if that happened while this call waited for its turn.
    if (status != Status::kNoSegment || !follows_ || !present.is_superseded()) return status;
  }
}

// ---- successors ----

Status memstream_handle::attach_again(const std::unique_ptr<memstream::SegmentBackend>& backend,
                                      std::unique_ptr<Cache>* cache, std::string* note) const {
  const Deadline deadline(spec_.timeout);
  Status status;
  do {
    SegmentFormat format(spec_.name, 0);
    std::unique_ptr<memstream::Segment> segment;
    const auto access = read_only_ ? memstream::Access::kReadOnly : memstream::Access::kReadWrite;
    status = backend->attach(spec_, access, format, &segment);
    if (status == Status::kOk) status = Cache::open(std::move(segment), spec_.name, spec_.timeout, cache);
  } while (status == Status::kGone && !deadline.passed());
  // Slower without: that is no reason to do without the cache.
  if (status == Status::kOk && prefault_) static_cast<void>((*cache)->prefault());
  note->clear();
  return status;
}

Status memstream_handle::no_attachment() noexcept {
  return memstream::fail(Status::kBadHandle,
                         "This process does not hold that view or reservation: it was released before, or taken "
                         "before a fork. End each one once, in the process that took it.");
}

Status memstream_handle::follow(Cache& gone) {
  const memstream::ForkSafeGuard guard(attachments_mutex_);
  Cache& current = cache();
  if (&current != &gone) {
    drop_retired();
    return Status::kOk;
  }
  if (!follows_ || !gone.is_superseded()) return Status::kGone;
  drop_retired();
  const auto free = std::find_if(attachments_.begin(), attachments_.end(),
                                 [](const Attachment& attachment) { return attachment.cache == nullptr; });
  if (free == attachments_.end()) {
    return memstream::fail(Status::kGone,
                           "The segment was resized, and this process still holds views in seven earlier ones. Release "
                           "them, and call again.");
  }
  std::unique_ptr<Cache> next;
  Status status = attach_again(backend_, &next, &open_note_);
  if (status == Status::kOk) status = next->continue_near_table(gone);
  if (status != Status::kOk) {
    const std::string reason = memstream::last_error();
    return memstream::fail(status == Status::kBusy ? status : Status::kGone,
                           fmt::format("Segment '{}' was resized, and this process cannot attach to its successor. {}",
                                       spec_.name, reason));
  }
  gone.listen(nullptr);
  next->set_number(static_cast<std::uint32_t>(free - attachments_.begin()));
  page_size_bytes_.store(0, std::memory_order_relaxed);
  current_.store(next.get(), std::memory_order_seq_cst);
  calls_in_flight_.note_earlier(&attachments_[gone.number()].calls);
  free->cache = std::move(next);
  if (drop_retired()) cache().listen(this);
  return Status::kOk;
}

Status memstream_handle::open_again(std::unique_ptr<memstream_handle>* handle) const {
  auto opened = std::unique_ptr<memstream_handle>(new memstream_handle);
  if (const Status status = memstream::make_backend(backend_->name(), &opened->backend_); status != Status::kOk) {
    return status;
  }
  opened->spec_ = spec_;
  opened->read_only_ = read_only_;
  opened->prefault_ = prefault_;
  std::unique_ptr<Cache> cache;
  if (const Status status = attach_again(opened->backend_, &cache, &opened->open_note_); status != Status::kOk) {
    return status;
  }
  opened->current_.store(cache.get(), std::memory_order_release);
  opened->attachments_[0].cache = std::move(cache);
  *handle = std::move(opened);
  return Status::kOk;
}

// Whether some are left.
bool memstream_handle::drop_retired() noexcept {
  const Cache* const current = &cache();
  bool is_one_left = false;
  for (Attachment& attachment : attachments_) {
    if (attachment.cache == nullptr || attachment.cache.get() == current) continue;
    const bool has_users = !calls_in_flight_.has_ended(&attachment.calls) || attachment.cache->pins() != 0;
    if (!has_users && !attachment.is_inherited) {
      attachment = {};
    } else {
      is_one_left = true;
    }
  }
  return is_one_left;
}

void memstream_handle::on_look() noexcept {
  const memstream::SignalBlock no_signals;
  const std::unique_lock guard(attachments_mutex_, std::try_to_lock);
  if (guard.owns_lock() && !drop_retired()) cache().listen(nullptr);
}

// Views of the parent stay readable in the child, which has no slot that says how many they are.
void memstream_handle::before_fork() noexcept {
  attachments_mutex_.lock();
  items_mutex_.lock();
  for (Attachment& attachment : attachments_) {
    attachment.is_viewed = attachment.cache != nullptr && attachment.cache->pins() != 0;
  }
}

void memstream_handle::after_fork_in_parent() noexcept {
  items_mutex_.unlock();
  attachments_mutex_.unlock();
}

void memstream_handle::after_fork_in_child() noexcept {
  const bool is_in_operation = calls_in_flight_.has_operation_of_this_thread();
  for (Attachment& attachment : attachments_) {
    if (attachment.cache == nullptr) continue;
    attachment.is_inherited |= attachment.is_viewed;
    if (is_in_operation) attachment.cache->abandon();
  }
  calls_in_flight_.reset();
  items_mutex_.unlock();
  attachments_mutex_.unlock();
}

Status memstream_handle::resize(std::uint64_t size_bytes, memstream_resize_report_t* report) {
  for (;;) {
    const memstream::InFlightCalls::OperationGuard guard(calls_in_flight_);
    bool is_outrun = false;
    report->old_bytes = cache().attached().geometry.size_bytes;
    report->copies = report->passes = report->stopped_ns = 0;
    const Status status = try_resize(size_bytes, report, &is_outrun);
    report->new_bytes = cache().attached().geometry.size_bytes;
    if (!is_outrun) return status;
  }
}

Status memstream_handle::try_resize(std::uint64_t size_bytes, memstream_resize_report_t* report, bool* is_outrun) {
  while (is_gone()) {
    Cache& gone = cache();
    if (!gone.is_superseded()) {
      return memstream::fail(
          Status::kGone,
          "The segment was destroyed, or its name was removed (rm, ipcrm). Connect again for a new one.");
    }
    if (const Status status = follow(gone); status != Status::kOk) return status;
  }
  Cache& from = cache();
  const memstream::AttachedHeader& attached = from.attached();
  const memstream::Geometry& geometry = attached.geometry;
  report->old_bytes = geometry.size_bytes;
  if (from.read_only()) {
    return memstream::fail(Status::kReadOnly, "The cache is open for reading only. Open it for writing to resize it.");
  }
  memstream::SegmentSpec spec = spec_;
  if (const Status status = memstream::set_spec_size("size_bytes", size_bytes, &spec); status != Status::kOk) {
    return status;
  }
  // As large values as before, as far as the new size allows.
  const std::uint64_t max_value = std::min(memstream::max_value_size(geometry, memstream::kMaxKeySize),
                                           memstream::largest_max_value(spec.size_bytes) / 16 * 15);
  const std::uint32_t mode = from.segment().mode() != 0 ? from.segment().mode() : spec.mode;
  SegmentFormat format(spec.name, {.max_value_bytes = max_value}, false, spec.timeout, mode, spec.group,
                       geometry.features);
  format.inherit({.created_unix_ms = attached.created_unix_ms,
                  .created_monotonic_ms = attached.created_monotonic_ms,
                  .hash_seed = attached.hash_seed});
  bool has_begun = false;
  memstream::MoveReport moved;
  const Status status = backend_->replace(spec, format, from.segment(), [&](memstream::Segment& successor) {
    has_begun = true;
    return from.move_to(successor, &moved);
  });
  report->copies = moved.copies;
  report->passes = moved.passes;
  report->stopped_ns = moved.stopped_ns;
  if (!from.is_superseded()) return status;
  *is_outrun = status == Status::kNoSegment && !has_begun;
  const std::string reason = status == Status::kOk ? "" : memstream::last_error();
  const Status followed = follow(from);
  return status == Status::kOk ? followed : memstream::fail(status, reason);
}

std::uint64_t memstream_handle::page_size_bytes() noexcept {
  std::uint64_t size = page_size_bytes_.load(std::memory_order_relaxed);
  if (size != 0) return size;
  size = cache().segment().kernel_page_size_bytes();
  page_size_bytes_.store(size, std::memory_order_relaxed);
  return size;
}

std::uint64_t memstream_handle::keep(PinnedItem item) {
  const memstream::ForkSafeGuard guard(items_mutex_);
  items_.emplace(next_token_, std::move(item));
  return next_token_++;
}

Status memstream_handle::take(std::uint64_t token, PinnedItem::Kind kind, PinnedItem* item) {
  const memstream::ForkSafeGuard guard(items_mutex_);
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
