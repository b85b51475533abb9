// See watch_hub.h.
#include "api/watch_hub.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>

#include "api/following.h"

namespace memstream {

// ---- one watch ----

void WatchQueue::close() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Status WatchQueue::open() noexcept {
  descriptor_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor_ >= 0) return Status::kOk;
  return fail_errno(Status::kOsError, "eventfd", "", errno, "Close descriptors, or allow more of them (ulimit -n).");
}

void WatchQueue::signal() noexcept {
  if (!is_signalled_) ::eventfd_write(descriptor_, 1);
  is_signalled_ = true;
}

void WatchQueue::add(std::string_view key) {
  if (must_look_ || !key.starts_with(prefix_) || known_.count(key) != 0) return;
  if (keys_.size() == kMostKeys || bytes_ + key.size() > kMostBytes) return look_again();
  keys_.emplace_back(key);
  try {
    known_.insert(keys_.back());
  } catch (...) {
    keys_.pop_back();
    throw;
  }
  bytes_ += key.size();
  signal();
}

void WatchQueue::look_again() noexcept {
  known_.clear();
  keys_.clear();
  bytes_ = 0;
  must_look_ = true;
  signal();
}

void WatchQueue::end() noexcept {
  has_ended_ = true;
  signal();
}

Status WatchQueue::take(std::byte* key, std::size_t capacity, std::size_t* key_size) noexcept {
  *key_size = 0;
  if (must_look_) {
    must_look_ = false;
  } else if (keys_.empty()) {
    return Status::kMiss;
  } else {
    const std::string& first = keys_.front();
    *key_size = first.size();
    if (first.size() > capacity) return Status::kTooSmall;
    std::memcpy(key, first.data(), first.size());
    bytes_ -= first.size();
    known_.erase(first);
    keys_.pop_front();
  }
  if (keys_.empty() && !has_ended_ && is_signalled_) {
    eventfd_t count = 0;
    ::eventfd_read(descriptor_, &count);
    is_signalled_ = false;
  }
  return Status::kOk;
}

// ---- all watches of a handle ----

Status WatchHub::start(memstream_handle& of, std::shared_ptr<WatchHub>* hub) {
  std::shared_ptr<WatchHub> made(new WatchHub);
  if (!made->own_) return Status::kNoMemory;
  if (const Status status = of.open_again(&made->handle_); status != Status::kOk) return status;
  const auto uuid_of = [](memstream_handle& handle) { return uuid_word(handle.cache().attached().uuid); };
  if (uuid_of(*made->handle_) != uuid_of(of)) {
    return fail(Status::kGone, "The segment was destroyed, and another one has its name. Connect again to watch it.");
  }
  made->own_->is_mine = true;
  const Status status = on_segment(*made->handle_, [&](Cache& segment) { return made->look(segment); });
  if (status != Status::kOk) return status;
  const SignalBlock inherited;
  try {
    made->thread_ = std::thread([self = made.get()] { self->run(); });
  } catch (const std::system_error& error) {
    return fail_errno(Status::kOsError, "pthread_create", "", error.code().value(),
                      "Allow this process one more thread (ulimit -u, cgroup pids.max).");
  }
  *hub = std::move(made);
  return Status::kOk;
}

WatchHub::~WatchHub() {
  if (!thread_.joinable()) return;
  must_stop_.store(true, std::memory_order_seq_cst);
  {
    const InFlightCalls::OperationGuard guard(handle_->calls_in_flight());
    handle_->cache().wake_watchers();
  }
  thread_.join();
}

Status WatchHub::add(std::string_view prefix, std::unique_ptr<WatchQueue>* queue) {
  auto made = std::make_unique<WatchQueue>(prefix);
  if (const Status status = made->open(); status != Status::kOk) return status;
  const ForkSafeGuard guard(mutex_);
  queues_.push_back(made.get());
  if (ended_ != Status::kOk) made->end();
  *queue = std::move(made);
  return Status::kOk;
}

bool WatchHub::has_ended() noexcept {
  const ForkSafeGuard guard(mutex_);
  return ended_ != Status::kOk;
}

void WatchHub::remove(const WatchQueue& queue) noexcept {
  const ForkSafeGuard guard(mutex_);
  queues_.erase(std::remove(queues_.begin(), queues_.end(), &queue), queues_.end());
}

Status WatchHub::take(WatchQueue& queue, std::byte* key, std::size_t capacity, std::size_t* key_size) noexcept {
  const ForkSafeGuard guard(mutex_);
  const Status status = queue.take(key, capacity, key_size);
  if (status != Status::kMiss || ended_ == Status::kOk) return status;
  return fail_without_throwing(ended_, [&] { return reason_; });
}

void WatchHub::look_again() noexcept {
  const ForkSafeGuard guard(mutex_);
  for (WatchQueue* queue : queues_) queue->look_again();
}

Status WatchHub::look(Cache& segment) {
  const std::uint64_t id = uuid_word(segment.attached().uuid);
  if (id != watched_) {
    if (const Status status = segment.begin_watch(&state_); status != Status::kOk) return status;
    watched_ = id;
    look_again();
  }
  const WatchVisitor visitor{.changed =
                                 [this](std::string_view key) {
                                   const ForkSafeGuard guard(mutex_);
                                   for (WatchQueue* queue : queues_) queue->add(key);
                                 },
                             .look_again = [this] { look_again(); }};
  return segment.read_changes(&state_, visitor);
}

bool WatchHub::step() noexcept {
  try {
    Status status = Status::kOk;
    {
      const InFlightCalls::OperationGuard guard(handle_->calls_in_flight());
      status = on_segment(*handle_, [this](Cache& segment) {
        const Status looked = look(segment);
        if (looked != Status::kOk) return looked;
        segment.sleep_until_change(state_, [this] { return !must_stop_.load(std::memory_order_seq_cst); });
        return Status::kOk;
      });
    }
    if (status == Status::kOk) return true;
    if (status != Status::kBusy && status != Status::kNoMemory) {
      const ForkSafeGuard guard(mutex_);
      ended_ = status;
      reason_ = last_error();
      for (WatchQueue* queue : queues_) queue->end();
      return false;
    }
  } catch (const std::bad_alloc&) {
  }
  look_again();
  std::this_thread::sleep_for(kWatchSlice);
  return true;
}

void WatchHub::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "memstream-watch");
  while (!must_stop_.load(std::memory_order_seq_cst) && step()) {
  }
}

}  // namespace memstream

memstream::Status memstream_handle::watch_hub(std::shared_ptr<memstream::WatchHub>* hub) {
  const auto find = [&] {
    *hub = watch_hub_.lock();
    return *hub != nullptr && (*hub)->is_of_this_process() && !(*hub)->has_ended();
  };
  {
    const memstream::ForkSafeGuard guard(items_mutex_);
    if (find()) return memstream::Status::kOk;
  }
  while (cache().is_superseded()) {
    if (const memstream::Status status = follow(cache()); status != memstream::Status::kOk) return status;
  }
  std::shared_ptr<memstream::WatchHub> made;
  if (const memstream::Status status = memstream::WatchHub::start(*this, &made); status != memstream::Status::kOk)
    return status;
  const memstream::ForkSafeGuard guard(items_mutex_);
  if (find()) return memstream::Status::kOk;  // Another thread was faster.
  watch_hub_ = made;
  *hub = std::move(made);
  return memstream::Status::kOk;
}
