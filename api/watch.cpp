// The C interface of watches.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <memory>
#include <utility>

#include "api/arguments.h"
#include "api/guarded.h"
#include "api/memstream_watch.h"
#include "api/watch_hub.h"

using memstream::bytes_of;
using memstream::Deadline;
using memstream::fail;
using memstream::fail_without_throwing;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::kLongestWaitMs;
using memstream::kMaxKeySize;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::WatchHub;

namespace {

using std::chrono::milliseconds;

// Sleeps until the descriptor is readable. False at the deadline.
bool wait_for(int descriptor, const Deadline& deadline) noexcept {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline.end() - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd event{.fd = descriptor, .events = POLLIN, .revents = 0};
    if (::poll(&event, 1, static_cast<int>(std::min<int64_t>(left, INT_MAX))) > 0) return true;
  }
}

// The rest of a watch that a child of fork() has ended: the parent's thread may have changed it while the parent
// forked. It stays, and in a list, so that tools which look for lost memory find it.
void leave(memstream_watch_handle& watch) noexcept {
  static std::atomic<memstream_watch_handle*> left{nullptr};
  watch.next_left = left.load(std::memory_order_relaxed);
  while (!left.compare_exchange_weak(watch.next_left, &watch, std::memory_order_acq_rel)) {
  }
}

}  // namespace

extern "C" {

int memstream_watch(memstream_t* cache, const void* prefix, size_t prefix_size, memstream_watch_t** watch) {
  return guarded([&] {
    if (const Status status = require("cache, watch", cache, watch); status != Status::kOk) return status;
    *watch = nullptr;
    if (const Status status = require_bytes("prefix", prefix, prefix_size); status != Status::kOk) return status;
    if (prefix_size > kMaxKeySize) {
      return fail_without_throwing(Status::kInvalid, [&] {
        return fmt::format("Invalid prefix of {} bytes: expected at most {} bytes.", prefix_size, kMaxKeySize);
      });
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    auto made = std::make_unique<memstream_watch_handle>();
    if (const Status status = cache->watch_hub(&made->hub); status != Status::kOk) return status;
    const Status status = made->hub->add(bytes_of(prefix, prefix_size), &made->queue);
    if (status == Status::kOk) *watch = made.release();
    return status;
  });
}

int memstream_watch_fd(const memstream_watch_t* watch) { return watch != nullptr ? watch->queue->descriptor() : -1; }

int memstream_watch_next(memstream_watch_t* watch, void* key, size_t* key_size, uint64_t timeout_ms) {
  return guarded([&] {
    if (const Status status = require("watch, key_size", watch, key_size); status != Status::kOk) return status;
    const size_t capacity = *key_size;
    if (const Status status = require_bytes("key", key, capacity); status != Status::kOk) return status;
    if (!watch->hub->is_of_this_process()) {
      return fail(Status::kGone,
                  "The watch is that of the process that this one was forked from. End it, and begin another one.");
    }
    const Deadline deadline(milliseconds(std::min(timeout_ms, kLongestWaitMs)));
    for (;;) {
      const Status status = watch->hub->take(*watch->queue, static_cast<std::byte*>(key), capacity, key_size);
      if (status != Status::kMiss || timeout_ms == 0 || !wait_for(watch->queue->descriptor(), deadline)) return status;
    }
  });
}

int memstream_watch_end(memstream_watch_t** watch) {
  return guarded([&] {
    if (watch == nullptr || *watch == nullptr) return Status::kOk;
    memstream_watch_t* const ended = std::exchange(*watch, nullptr);
    if (!ended->hub->is_of_this_process()) {
      ended->queue->close();
      leave(*ended);
      return Status::kOk;
    }
    ended->hub->remove(*ended->queue);
    delete ended;
    return Status::kOk;
  });
}

}  // extern "C"
