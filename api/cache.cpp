// The small C interface: the process's default connection.
#include "api/cache.h"

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "api/arguments.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/in_flight_calls.h"
#include "api/quick_get.h"
#include "api/statistics.h"
#include "core/base/fork_guard.h"
#include "core/cache/cache_put.h"

namespace memstream {
namespace {

// The connection that cache_connect() makes. A call is counted before it loads the handle. disconnect() clears the
// handle before it waits for the counted calls, so no call ever uses a handle that is deleted.
class DefaultConnection final : private ForkAware {
 public:
  static DefaultConnection& instance() {
    // Never destroyed: other threads may call while the process exits.
    static DefaultConnection& connection = *(existing = new DefaultConnection);
    return connection;
  }
  // Null if no function has asked for the connection yet.
  static DefaultConnection* created() { return existing; }

  // The handle for the only thread of a process, which no other can delete. Null if there is none.
  // REQUIRES: has_one_thread().
  static memstream_handle* alone() noexcept {
    DefaultConnection* const connection = existing.load(std::memory_order_relaxed);
    return connection != nullptr ? connection->handle_.load(std::memory_order_relaxed) : nullptr;
  }

  // A quick get among threads; kNoAnswer if get() has to answer.
  [[gnu::always_inline]] static int get_among_threads(const char* key, void* value, std::size_t* value_size) noexcept {
    DefaultConnection* const connection = existing.load(std::memory_order_acquire);
    if (connection == nullptr) [[unlikely]]
      return kNoAnswer;
    const std::size_t turn = connection->turn_.load(std::memory_order_seq_cst);
    InFlightCalls::Place* const place = connection->calls_in_flight_[turn % 2].enter();
    if (place == nullptr) [[unlikely]]
      return kNoAnswer;
    int status = kNoAnswer;
    // As in use().
    memstream_handle* const handle = connection->handle_.load(std::memory_order_seq_cst);
    if (connection->turn_.load(std::memory_order_seq_cst) == turn && handle != nullptr) [[likely]] {
      const std::size_t key_size = std::strlen(key);
      status = get_short_key<Threads::kMany>(handle, key, key_size, value, value_size, nullptr);
      if (status == kNoAnswer) [[unlikely]]
        status = get_any_key_among_threads(handle, key, key_size, value, value_size, nullptr);
    }
    InFlightCalls::leave(*place);
    return status;
  }

  // A put that overwrites or adds a short value. kNoAnswer if store() has to answer.
  [[gnu::always_inline]] static int put_quickly(const char* key, const std::byte* value,
                                                std::size_t value_size) noexcept {
    DefaultConnection* const connection = existing.load(std::memory_order_acquire);
    if (connection == nullptr) [[unlikely]]
      return kNoAnswer;
    const std::size_t turn = connection->turn_.load(std::memory_order_seq_cst);
    return connection->calls_in_flight_[turn % 2].operation<put_in_turn>(connection, turn, key, value, value_size);
  }

  Status connect() {
    const std::lock_guard guard(mutex_);
    if (memstream_handle* current = handle_.load(); current != nullptr && !current->is_gone()) return Status::kOk;
    std::unique_ptr<memstream_handle> opened;
    if (const Status status = memstream_handle::open(nullptr, &opened); status != Status::kOk) return status;
    opened->leave_following_to_owner();
    replace(opened.release());
    return Status::kOk;
  }

  Status disconnect() {
    const std::lock_guard guard(mutex_);
    if (handle_.load() == nullptr) return not_connected();
    replace(nullptr);
    return Status::kOk;
  }

  // For a library that is unloaded: closes the connection unless a thread is still in a call.
  void close_if_idle() {
    const std::unique_lock guard(mutex_, std::try_to_lock);
    if (!guard.owns_lock()) return;
    for (InFlightCalls& calls : calls_in_flight_) {
      if (!calls.is_empty()) return;
    }
    replace(nullptr);
  }

  Status destroy() {
    const std::lock_guard guard(mutex_);
    for (;;) {
      if (const Status status = renew_superseded(); status != Status::kOk) return status;
      memstream_handle* const current = handle_.load();
      if (current == nullptr) return static_cast<Status>(memstream_destroy_named(nullptr));
      const Status status = current->destroy();
      if (status == Status::kNoSegment && current->cache().is_superseded()) continue;
      if (status == Status::kOk || status == Status::kNoSegment) replace(nullptr);
      return status;
    }
  }

  // Runs `operation(handle)` on the connection.
  template <class Guard = InFlightCalls::OperationGuard, class Operation>
  Status use(Operation operation) {
    for (;;) {
      {
        const std::size_t turn = turn_.load(std::memory_order_seq_cst);
        const Guard guard(calls_in_flight_[turn % 2]);
        // Count first, check second: a thread that changes the connection either waits for this call or is seen here.
        if (turn_.load(std::memory_order_seq_cst) != turn) continue;
        memstream_handle* handle = handle_.load(std::memory_order_seq_cst);
        if (handle == nullptr) return not_connected();
        const Status status = operation(*handle);
        if (status != Status::kGone || !handle->cache().is_superseded()) [[likely]]
          return status;
      }
      const std::lock_guard guard(mutex_);
      if (const Status status = renew_superseded(); status != Status::kOk) return status;
    }
  }

 private:
  DefaultConnection() = default;

  [[gnu::always_inline]] static int put_in_turn(DefaultConnection* connection, std::size_t turn, const char* key,
                                                const std::byte* value, std::size_t value_size) noexcept {
    // As in use().
    memstream_handle* const handle = connection->handle_.load(std::memory_order_seq_cst);
    if (connection->turn_.load(std::memory_order_seq_cst) != turn || handle == nullptr) [[unlikely]]
      return kNoAnswer;
    Status status = Status::kOk;
    const bool is_answered = handle->cache().put_quickly({key, std::strlen(key)}, value, value_size, &status);
    return is_answered ? static_cast<int>(status) : kNoAnswer;
  }

  static Status not_connected() {
    return fail(Status::kNotConnected, "This process is not connected to a cache. Call cache_connect() first.");
  }

  // Connects to the segment that took the place of this one. kOk also if none did. REQUIRES: the mutex is held.
  Status renew_superseded() {
    memstream_handle* const current = handle_.load();
    if (current == nullptr || !current->cache().is_superseded()) return Status::kOk;
    std::unique_ptr<memstream_handle> opened;
    if (const Status status = current->open_again(&opened); status != Status::kOk) {
      const std::string reason = last_error();
      return fail(Status::kGone, "The segment was resized, and this process cannot attach to its successor. " + reason);
    }
    opened->leave_following_to_owner();
    replace(opened.release());
    return Status::kOk;
  }

  void replace(memstream_handle* handle) {
    memstream_handle* old = handle_.exchange(handle, std::memory_order_seq_cst);
    // New calls are counted in the other element, so a steady stream of them cannot keep this one above zero.
    const std::size_t turn = turn_.fetch_add(1, std::memory_order_seq_cst);
    // Where nobody can tell whether another thread still uses it, it stays until the process ends.
    if (calls_in_flight_[turn % 2].wait_until_empty()) delete old;
  }

  // A thread of the parent may have held the mutex. It guards one pointer, which is always consistent.
  void after_fork_in_child() noexcept override {
    for (InFlightCalls& calls : calls_in_flight_) {
      if (memstream_handle* handle = handle_.load(); handle != nullptr && calls.has_operation_of_this_thread()) {
        handle->cache().abandon();
      }
      calls.reset();
    }
    std::construct_at(&mutex_);
  }

  static inline std::atomic<DefaultConnection*> existing{nullptr};

  std::mutex mutex_;                              // Held while the connection changes.
  std::array<InFlightCalls, 2> calls_in_flight_;  // Each change of the connection switches to the other one.
  std::atomic<std::size_t> turn_{0};
  std::atomic<memstream_handle*> handle_{nullptr};
  ForkRegistration fork_registration_{this};
};

}  // namespace
}  // namespace memstream

using memstream::DefaultConnection;
using memstream::guarded;
using memstream::has_one_thread;
using memstream::InFlightCalls;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::Threads;

// dlclose() must leave no mapping and no process slot behind. When the process exits, the kernel would do the same.
[[gnu::destructor]] static void close_default_connection() {
  if (DefaultConnection* created = DefaultConnection::created(); created != nullptr) created->close_if_idle();
}

namespace {

// A get with all its cases.
[[gnu::noinline]] int get_slowly(const char* key, void* value, size_t* value_size) noexcept {
  return guarded([&] {
    if (const Status status = require("key", key); status != Status::kOk) return status;
    if (const Status status = require("value_size", value_size); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, *value_size); status != Status::kOk) return status;
    memstream::GetResult got;
    const Status status = DefaultConnection::instance().use<InFlightCalls::Guard>([&](memstream_handle& handle) {
      got = handle.cache().get(key, static_cast<std::byte*>(value), *value_size, false);
      return got.status;
    });
    *value_size = status == Status::kOk || status == Status::kTooSmall ? got.read.value_size : 0;
    return status;
  });
}

// A put with all its cases.
[[gnu::noinline]] int put_slowly(const char* key, const void* value, size_t value_size) noexcept {
  return guarded([&] {
    if (const Status status = require("key", key); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, value_size); status != Status::kOk) return status;
    return DefaultConnection::instance().use([&](memstream_handle& handle) {
      return handle.cache().store(key, {static_cast<const std::byte*>(value), value_size}, memstream::StoreMode::kSet,
                                  0);
    });
  });
}

[[gnu::noinline]] int get_among_threads(const char* key, void* value, size_t* value_size) noexcept {
  const int status = DefaultConnection::get_among_threads(key, value, value_size);
  return status != memstream::kNoAnswer ? status : get_slowly(key, value, value_size);
}

}  // namespace

extern "C" {

int cache_connect(void) {
  return guarded([] { return DefaultConnection::instance().connect(); });
}

int cache_put(const char* key, const void* value, size_t value_size) {
  const bool is_short = key != nullptr && value != nullptr && value_size - 1 < memstream::kRedoValueSize;
  if (is_short) [[likely]] {
    const int status = DefaultConnection::put_quickly(key, static_cast<const std::byte*>(value), value_size);
    if (status != memstream::kNoAnswer) [[likely]]
      return status;
  }
  return put_slowly(key, value, value_size);
}

int cache_get(const char* key, void* value, size_t* value_size) {
  const bool is_whole = key != nullptr && value != nullptr && value_size != nullptr;
  if (!is_whole) [[unlikely]]
    return get_slowly(key, value, value_size);
  if (!has_one_thread()) return get_among_threads(key, value, value_size);
  int status = memstream::kNoAnswer;
  if (memstream_handle* const handle = DefaultConnection::alone(); handle != nullptr) [[likely]] {
    const size_t key_size = std::strlen(key);
    status = memstream::get_short_key<Threads::kOne>(handle, key, key_size, value, value_size, nullptr);
    if (status == memstream::kNoAnswer) [[unlikely]]
      status = memstream::get_any_key(handle, key, key_size, value, value_size, nullptr);
  }
  return status != memstream::kNoAnswer ? status : get_slowly(key, value, value_size);
}

int cache_delete(const char* key) {
  return guarded([&] {
    if (const Status status = require("key", key); status != Status::kOk) return status;
    return DefaultConnection::instance().use([&](memstream_handle& handle) { return handle.cache().remove(key); });
  });
}

int cache_get_stats(cache_stats_t* stats) {
  return guarded([&] {
    if (const Status status = require("stats", stats); status != Status::kOk) return status;
    return DefaultConnection::instance().use(
        [&](memstream_handle& handle) { return memstream::fill_statistics(handle, stats); });
  });
}

int cache_disconnect(void) {
  return guarded([] { return DefaultConnection::instance().disconnect(); });
}

int cache_destroy(void) {
  return guarded([] { return DefaultConnection::instance().destroy(); });
}

const char* cache_strerror(int status) { return memstream::status_sentence(static_cast<Status>(status)); }

const char* cache_last_error(void) { return memstream::last_error(); }

const char* cache_version(void) { return MEMSTREAM_VERSION; }

uint32_t memstream_version(void) { return MEMSTREAM_VERSION_NUMBER; }

}  // extern "C"
