// Leases against a model: one of a key stands at a time, until its key is written or it is given up.
#include <algorithm>

#include "core/layout/layout.h"
#include "tests/fuzz/abi_calls.h"
#include "tests/fuzz/battery.h"

namespace memstream::fuzz {

void Calls::lease(ModelHandle& handle, unsigned action) {
  switch (action % 8) {
    case 0:
    case 1:
    case 2:
      return take_lease(handle);
    case 3:
      return wait_for_lease(handle);
    case 4:
    case 5:
      return fulfil_lease(handle);
    default:
      return release_lease(handle);
  }
}

void Calls::take_lease(ModelHandle& handle) {
  const std::string key = take_key();
  const std::uint8_t chosen = input_.byte();
  constexpr std::uint64_t kTimes[] = {0, 1, 3'600'000, ~std::uint64_t{0}};
  const std::uint64_t lease_ms = kTimes[chosen % std::size(kTimes)];
  const std::uint64_t stale = chosen < 64 ? token_ : chosen < 80 ? input_.take<std::uint64_t>() : 0;
  const bool is_stale = stale == token_ && token_key_ == key && token_segment_ == handle.segment.get() && stale != 0;
  std::uint64_t token = ~std::uint64_t{0};
  const int status = memstream_lease(handle.cache, key.data(), key.size(), stale, lease_ms, &token);
  MUST(status == CACHE_OK || token == 0, "a lease that was refused has a token");
  if (bad_key(status, key) || refused(handle, status, true)) return;
  const ModelEntry* known = handle.segment->find(key);
  auto& leases = handle.segment->leases;
  if (status == CACHE_EXISTS) {
    MUST(known != nullptr && !is_stale, "nothing that keeps it from a lease is there");
    return;
  }
  // Granted or held: the entry has gone, or is the stale one.
  if (known != nullptr && !is_stale) missed(handle, key);
  if (status == CACHE_HELD) {
    MUST(handle.segment->may_be_leased(key), "a lease that nobody took is held");
    return;
  }
  MUST(status == CACHE_OK, cache_last_error());
  MUST(!handle.segment->is_leased(key), "two leases of one key");
  MUST(token != 0, "a lease that was granted has no token");
  if ((token & 0xff) >= kLeasesPerShard) {
    MUST(leases.size() >= kLeasesPerShard, "no place for a lease, with few of them");
    return;  // Whether it stands depends on other keys too.
  }
  handle.segment->end_leases(key);  // One whose time was over may have stood until now.
  leases.push_back({&handle, key, token, lease_ms == 1, false});
}

void Calls::wait_for_lease(ModelHandle& handle) {
  const std::string key = take_key();
  const int status = memstream_lease_wait(handle.cache, key.data(), key.size(), 0);
  if (bad_key(status, key) || refused(handle, status, true)) return;
  if (status == CACHE_HELD) {
    MUST(handle.segment->may_be_leased(key), "a lease that nobody took is held");
  } else {
    MUST(status == CACHE_OK && !handle.segment->is_leased(key), "a lease that stands is not waited for");
  }
  std::uint64_t followed = 0;
  const int outcome = memstream_lease_follow(handle.cache, key.data(), key.size(), &followed, 0);
  MUST(outcome == CACHE_MISS || outcome == status, "a lease is followed as it is not waited for");
  // The time of a lease may have ended between the two calls.
  MUST(outcome != CACHE_MISS || status == CACHE_OK || !handle.segment->is_leased(key),
       "a holder that stands is missed");
}

// One that this or another handle took, or none at all. Whether it stands, if the model knows it.
ModelLease Calls::choose_lease(ModelHandle& handle, bool* may_stand, bool* may_fall) {
  const std::uint8_t chosen = input_.byte();
  const auto& leases = handle.segment->leases;
  ModelLease lease{&handle, {}, 0, false, true};
  if (chosen < 224 && !leases.empty()) {
    lease = leases[chosen % leases.size()];
  } else {
    lease.key = take_key();
    lease.token = input_.take<std::uint64_t>();
    for (const ModelLease& known : leases) {
      if (known.key == lease.key && known.token == lease.token) lease = known;
    }
  }
  const bool is_own = lease.holder == &handle;
  *may_stand = !lease.ended && is_own;
  *may_fall = lease.ended || lease.may_be_over || !is_own;
  return lease;
}

// Only its size, or what is held, keeps a value out.
void Calls::kept_out(const ModelHandle& handle, std::size_t size, int status) const {
  if (status == CACHE_TOO_LARGE) {
    MUST(size > stats_of(handle).max_value_size - CACHE_MAX_KEY_SIZE - 64, "a value that is not too large");
  } else {
    MUST(status == CACHE_FULL && !(views_.empty() && reservations_.empty()), cache_last_error());
  }
}

void Calls::fulfil_lease(ModelHandle& handle) {
  bool may_stand = false;
  bool may_fall = false;
  const ModelLease lease = choose_lease(handle, &may_stand, &may_fall);
  const std::string& key = lease.key;
  ModelEntry entry{take_value(), input_.take<std::uint32_t>(), false};
  const std::uint64_t ttl_ms = take_ttl();
  entry.may_expire = ttl_ms != 0;
  const std::size_t size = entry.value.size();
  const void* value = entry.value.empty() ? nullptr : entry.value.data();
  const int status =
      memstream_lease_fulfil(handle.cache, key.data(), key.size(), value, size, ttl_ms, entry.flags, lease.token);
  if (bad_key(status, key) || refused(handle, status, true)) return;
  switch (status) {
    case CACHE_OK:
      MUST(may_stand, "a lease that has ended is fulfilled");
      handle.segment->store(key, std::move(entry));
      if (token_key_ == key) token_key_.clear();
      return;
    case CACHE_CONFLICT:
      MUST(may_fall, "a lease that stands is refused");
      return;
    default:
      kept_out(handle, size, status);
  }
}

void Calls::release_lease(ModelHandle& handle) {
  bool may_stand = false;
  bool may_fall = false;
  const ModelLease lease = choose_lease(handle, &may_stand, &may_fall);
  const int status = memstream_lease_release(handle.cache, lease.key.data(), lease.key.size(), lease.token);
  if (bad_key(status, lease.key) || refused(handle, status, true)) return;
  if (status == CACHE_CONFLICT) {
    MUST(may_fall, "a lease that stands is refused");
    return;
  }
  MUST(status == CACHE_OK && may_stand, "a lease that has ended is given up");
  handle.segment->end_leases(lease.key);
}

}  // namespace memstream::fuzz
