// Leases of the C interface for tests: the four calls on one key.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/test_cache.h"

namespace memstream::test {

inline constexpr std::string_view kKey = "key";

inline int lease_of(memstream_t* cache, std::string_view key, std::uint64_t* lease, std::uint64_t stale_cas = 0,
                    std::uint64_t lease_ms = 0) {
  return memstream_lease(cache, key.data(), key.size(), stale_cas, lease_ms, lease);
}

inline int lease_of(memstream_t* cache, std::string_view key = kKey) {
  std::uint64_t lease = 0;
  return lease_of(cache, key, &lease);
}

inline std::uint64_t must_lease(memstream_t* cache, std::string_view key = kKey, std::uint64_t lease_ms = 0) {
  std::uint64_t lease = 0;
  const int status = lease_of(cache, key, &lease, 0, lease_ms);
  if (status != CACHE_OK || lease == 0) throw std::runtime_error("no lease: " + std::to_string(status));
  return lease;
}

inline int fulfil(memstream_t* cache, std::uint64_t lease, std::string_view value = "computed",
                  std::string_view key = kKey) {
  return memstream_lease_fulfil(cache, key.data(), key.size(), value.data(), value.size(), 0, 0, lease);
}

inline int release(memstream_t* cache, std::uint64_t lease, std::string_view key = kKey) {
  return memstream_lease_release(cache, key.data(), key.size(), lease);
}

inline int wait_for(memstream_t* cache, std::uint64_t timeout_ms, std::string_view key = kKey) {
  return memstream_lease_wait(cache, key.data(), key.size(), timeout_ms);
}

inline int follow(memstream_t* cache, std::uint64_t* followed, std::uint64_t timeout_ms = 0,
                  std::string_view key = kKey) {
  return memstream_lease_follow(cache, key.data(), key.size(), followed, timeout_ms);
}

inline int set(memstream_t* cache, std::string_view value, std::string_view key = kKey) {
  return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0);
}

inline std::string get(memstream_t* cache, std::string_view key = kKey, memstream_meta_t* meta = nullptr) {
  std::string room(100'000, '\0');
  std::size_t size = room.size();
  const int status = memstream_get(cache, key.data(), key.size(), room.data(), &size, meta);
  return status == CACHE_OK ? room.substr(0, size) : "status " + std::to_string(status);
}

}  // namespace memstream::test
