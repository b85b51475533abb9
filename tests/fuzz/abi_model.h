// What a segment must hold after the calls that were made: a map that may forget what was evicted or has expired, and
// nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/memstream.h"

namespace memstream::fuzz {

struct ModelEntry {
  std::string value;
  std::uint32_t flags = 0;
  bool may_expire = false;
};

// A lease as it was granted. Only calls of its own handle can end it by its token.
struct ModelLease {
  const void* holder = nullptr;
  std::string key;
  std::uint64_t token = 0;
  bool may_be_over = false;  // Its time may have passed: whether it stands shows when somebody asks.
  bool ended = false;
};

// One segment, from its creation until the last handle on it is closed.
class ModelSegment {
 public:
  // The entry that a call found, or must not have found.
  const ModelEntry* find(const std::string& key) const {
    const auto found = entries_.find(key);
    return found != entries_.end() ? &found->second : nullptr;
  }
  void store(const std::string& key, ModelEntry entry) {
    had_ttl_ |= entry.may_expire;
    entries_[key] = std::move(entry);
    end_leases(key);
  }
  // It was deleted, or was to be.
  void remove(const std::string& key) {
    forget(key);
    end_leases(key);
  }
  // The cache says that it is not there: never to come back.
  void forget(const std::string& key) { entries_.erase(key); }
  void clear() {
    entries_.clear();
    for (ModelLease& lease : leases) lease.ended = true;
  }
  void may_expire(const std::string& key, bool may) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) found->second.may_expire = may;
    had_ttl_ |= may;
  }
  std::size_t size() const { return entries_.size(); }
  // Whether an entry ever had a time to live: expired ones are counted until somebody removes them.
  bool had_ttl() const { return had_ttl_; }

  void end_leases(const std::string& key) {
    for (ModelLease& lease : leases) lease.ended |= lease.key == key;
  }
  bool is_leased(const std::string& key) const {
    return std::any_of(leases.begin(), leases.end(),
                       [&](const ModelLease& lease) { return lease.key == key && !lease.ended && !lease.may_be_over; });
  }
  bool may_be_leased(const std::string& key) const {
    return std::any_of(leases.begin(), leases.end(),
                       [&](const ModelLease& lease) { return lease.key == key && !lease.ended; });
  }

  bool destroyed = false;
  std::vector<ModelLease> leases;  // Of handles that are open, those that have ended too.

 private:
  std::map<std::string, ModelEntry> entries_;
  bool had_ttl_ = false;
};

// An open handle and what it is open on.
struct ModelHandle {
  memstream_t* cache = nullptr;
  std::shared_ptr<ModelSegment> segment;
  unsigned name = 0;
  bool read_only = false;
};

struct HeldView {
  ModelHandle* handle = nullptr;
  memstream_view_t view{};
  std::string value;
};

struct HeldReservation {
  ModelHandle* handle = nullptr;
  memstream_reservation_t reservation{};
  std::string key;
};

}  // namespace memstream::fuzz
