// An open cache, for commands: owns the handle, throws Failure.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/memstream_metrics.h"
#include "api/memstream_tags.h"
#include "cli/failure.h"

namespace memstream::cli {

// Which cache the user means. Empty texts and -1 leave it to the environment.
struct Target {
  std::string name;
  std::string backend;
  std::string owner;  // The user whose cache it is; a cache that is named so is looked at only.
  std::int64_t timeout_ms = -1;
};

enum class Attach {
  kReadOnly,  // Takes no lock and changes nothing, not even when an entry was last read.
  kLook,      // For looking: writable if allowed, so that numbers are exact, otherwise read-only.
  kWrite,
  kCreate,  // As kWrite; makes the cache if it is absent.
};

class Cache {
 public:
  // Throws Failure. Without kCreate a cache that is absent is CACHE_NO_SEGMENT.
  Cache(const Target& target, Attach attach);

  memstream_t* get() const noexcept { return handle_.get(); }
  memstream_info_t info() const;
  cache_stats_t stats() const;
  std::vector<memstream_process_t> processes() const;
  // The locks that threads hold at this moment. Waits for none.
  std::vector<memstream_lock_holder_t> locks() const;

  // The value of a key, and what is known of it. False if there is none. On a read-only attach it counts no access.
  bool read(std::string_view key, std::string* value, memstream_meta_t* meta) const;

  // The keys that are read most often now, the hottest first, as a sample tells.
  std::vector<memstream_entry_t> hot_keys() const;

  // Calls `visit` with every live entry; false from it ends the walk. Counts no access; no lock is held during a call.
  void scan(const std::function<bool(const memstream_entry_t&)>& visit) const;

 private:
  struct Close {
    void operator()(memstream_t* handle) const noexcept { memstream_close(handle); }
  };
  std::unique_ptr<memstream_t, Close> handle_;
};

// Throws Failure unless `status` is CACHE_OK or a positive outcome, which it returns.
int require_ok(int status);

// The bytes of the key of a scanned entry.
std::string_view key_of(const memstream_entry_t& entry) noexcept;

// Whether a key matches a shell pattern (`*`, `?`, `[...]`). An empty pattern matches every key.
bool matches(std::string_view pattern, std::string_view key);

}  // namespace memstream::cli
