// The watches of a handle, and the thread that fills them: docs/decisions/0030.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <vector>

#include "api/handle.h"
#include "core/base/process_private.h"
#include "core/cache/watch_state.h"

namespace memstream {

// Keys under one prefix that have changed, as far as nobody has asked for them. Its descriptor is readable while there
// is something to ask for. The hub's mutex guards all but the descriptor.
class WatchQueue {
 public:
  explicit WatchQueue(std::string_view prefix) : prefix_(prefix) {}
  WatchQueue(const WatchQueue&) = delete;
  WatchQueue& operator=(const WatchQueue&) = delete;
  ~WatchQueue() { close(); }

  Status open() noexcept;
  void close() noexcept;
  int descriptor() const noexcept { return descriptor_; }

  void add(std::string_view key);
  void look_again() noexcept;
  // The segment has gone for good, or no successor can be used.
  void end() noexcept;
  // What add() and look_again() have left: kOk with a key, or with an empty one for "look again"; kMiss if there is
  // nothing. kTooSmall, and the key stays, if it does not fit into `capacity` bytes.
  Status take(std::byte* key, std::size_t capacity, std::size_t* key_size) noexcept;

 private:
  // So many keys, and bytes of them, that nobody asks for become one "look again".
  static constexpr std::size_t kMostKeys = std::size_t{1} << 16;
  static constexpr std::size_t kMostBytes = std::size_t{4} << 20;
  void signal() noexcept;

  const std::string prefix_;
  int descriptor_ = -1;
  bool is_signalled_ = false;
  bool must_look_ = false;
  bool has_ended_ = false;
  std::size_t bytes_ = 0;
  std::deque<std::string> keys_;
  std::unordered_set<std::string_view> known_;  // Of `keys_`, whose elements stay where they are.
};

// One thread for all watches of a handle. It has a handle of its own: it waits for no call of the user's, and watches
// outlive the handle on which they were made.
class WatchHub {
 public:
  // kGone if the name is another segment's by now.
  static Status start(memstream_handle& of, std::shared_ptr<WatchHub>* hub);
  ~WatchHub();
  WatchHub(const WatchHub&) = delete;
  WatchHub& operator=(const WatchHub&) = delete;

  // False in a process that has a copy of the hub, and not its thread. The copy may be half changed: it must stay as it
  // is.
  bool is_of_this_process() const noexcept { return own_->is_mine; }
  bool has_ended() noexcept;
  Status add(std::string_view prefix, std::unique_ptr<WatchQueue>* queue);
  void remove(const WatchQueue& queue) noexcept;
  // WatchQueue::take(), and why there will be nothing more if that is so.
  Status take(WatchQueue& queue, std::byte* key, std::size_t capacity, std::size_t* key_size) noexcept;

 private:
  WatchHub() = default;
  void run() noexcept;
  // One look. False if there is nothing to watch any more.
  bool step() noexcept;
  Status look(Cache& segment);
  void look_again() noexcept;

  struct Own {
    bool is_mine;
  };
  ProcessPrivate<Own> own_;
  std::unique_ptr<memstream_handle> handle_;
  std::uint64_t watched_ = 0;  // Which segment, as uuid_word() has it. The thread's alone, once it runs.
  WatchState state_;           // As above.
  std::mutex mutex_;
  std::vector<WatchQueue*> queues_;
  Status ended_ = Status::kOk;  // Why the thread has ended ...
  std::string reason_;          // ... and what it was told.
  std::atomic<bool> must_stop_{false};
  std::thread thread_;
};

}  // namespace memstream

// The object behind memstream_watch_t.
struct memstream_watch_handle {
  std::shared_ptr<memstream::WatchHub> hub;
  std::unique_ptr<memstream::WatchQueue> queue;
  memstream_watch_handle* next_left = nullptr;  // See memstream_watch_end().
};
