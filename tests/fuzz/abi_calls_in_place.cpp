// Calls in place, calls that are wrong, looks at the whole, and the small interface.
#include <algorithm>
#include <cstring>
#include <limits>

#include "tests/fuzz/abi_calls.h"
#include "tests/fuzz/battery.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/targets.h"

namespace memstream::fuzz {
namespace {

constexpr std::size_t kMostHeld = 140;  // More than a process has pins for.

}  // namespace

// ---- in place ----

void Calls::take_view(ModelHandle& handle) {
  const std::string key = take_key();
  HeldView held{&handle, {}, {}};
  const int status = memstream_view(handle.cache, key.data(), key.size(), &held.view);
  if (bad_key(status, key) || refused(handle, status, false)) return;
  if (status == CACHE_MISS) return missed(handle, key);
  const ModelEntry* known = handle.segment->find(key);
  MUST(status == CACHE_OK && known != nullptr, "a view of a value that was never set");
  MUST(held.view.size == known->value.size() && held.view.meta.flags == known->flags, "a view of another value");
  const std::size_t alignment = held.view.size >= 4096 ? 64 : 16;
  MUST(reinterpret_cast<std::uintptr_t>(held.view.data) % alignment == 0, "a view that is not aligned");
  held.value = known->value;
  views_.push_back(std::move(held));
  if (views_.size() > kMostHeld) release_view();
}

void Calls::release_view() {
  if (views_.empty()) return;
  const auto chosen = views_.begin() + input_.byte() % static_cast<std::ptrdiff_t>(views_.size());
  release(*chosen);
  views_.erase(chosen);
}

void Calls::release(HeldView& held) {
  MUST(std::memcmp(held.view.data, held.value.data(), held.value.size()) == 0, "a value changed under its view");
  const std::uint64_t token = held.view.token;
  MUST(memstream_release(held.handle->cache, &held.view) == CACHE_OK, cache_last_error());
  MUST(held.view.data == nullptr && held.view.token == 0, "a view that was released is not zeroed");
  held.view.token = token;
  MUST(memstream_release(held.handle->cache, &held.view) == CACHE_BAD_HANDLE, "a view is released twice");
}

void Calls::reserve(ModelHandle& handle) {
  HeldReservation held{&handle, {}, take_key()};
  const std::uint8_t chosen = input_.byte();
  const std::size_t size = chosen < 250 ? std::size_t{chosen} * 150 : std::numeric_limits<std::size_t>::max() - chosen;
  const int status = memstream_reserve(handle.cache, held.key.data(), held.key.size(), size, &held.reservation);
  if (bad_key(status, held.key) || refused(handle, status, true)) return;
  if (status == CACHE_TOO_LARGE) {
    MUST(chosen >= 250, "a reservation that is not too large");
    return;
  }
  MUST(status == CACHE_OK && held.reservation.size == size, cache_last_error());
  std::memset(held.reservation.data, chosen, size);
  reservations_.push_back(std::move(held));
  if (reservations_.size() > kMostHeld) commit_or_abort();
}

void Calls::commit_or_abort() {
  if (reservations_.empty()) return;
  const std::uint8_t chosen = input_.byte();
  const auto place = reservations_.begin() + chosen % static_cast<std::ptrdiff_t>(reservations_.size());
  HeldReservation held = std::move(*place);
  reservations_.erase(place);
  const auto* bytes = static_cast<const char*>(held.reservation.data);
  ModelEntry entry{std::string(bytes, held.reservation.size), chosen, false};
  const std::uint64_t token = held.reservation.token;
  if (chosen % 4 == 0) {
    MUST(memstream_abort(held.handle->cache, &held.reservation) == CACHE_OK, cache_last_error());
  } else {
    const int status = memstream_commit(held.handle->cache, &held.reservation, 0, entry.flags);
    if (refused(*held.handle, status, true)) return;
    MUST(status == CACHE_OK || status == CACHE_FULL, cache_last_error());
    if (status == CACHE_OK) {
      held.handle->segment->store(held.key, std::move(entry));
      if (token_key_ == held.key) token_key_.clear();
    }
  }
  MUST(held.reservation.data == nullptr, "a reservation that has ended is not zeroed");
  held.reservation.token = token;
  MUST(memstream_commit(held.handle->cache, &held.reservation, 0, 0) == CACHE_BAD_HANDLE,
       "a reservation is committed twice");
}

// ---- calls that are wrong ----

// A token of the one kind where the other is meant, a token of another handle, a token of nothing.
void Calls::wrong_tokens(ModelHandle& handle) {
  const std::uint8_t chosen = input_.byte();
  if (chosen % 3 == 0) {
    memstream_view_t view{};
    view.token = input_.take<std::uint64_t>();
    const bool held = std::any_of(views_.begin(), views_.end(),
                                  [&](const HeldView& known) { return known.view.token == view.token; });
    if (!held)
      MUST(memstream_release(handle.cache, &view) == CACHE_BAD_HANDLE, "a view that was never taken is released");
    return;
  }
  if (chosen % 3 == 1 && !reservations_.empty()) {
    const HeldReservation& known = reservations_[chosen % reservations_.size()];
    memstream_view_t view{};
    view.token = known.reservation.token;
    const bool is_view = std::any_of(views_.begin(), views_.end(), [&](const HeldView& held) {
      return held.handle == known.handle && held.view.token == view.token;
    });
    if (is_view) return;
    MUST(memstream_release(known.handle->cache, &view) == CACHE_BAD_HANDLE, "a reservation is released like a view");
    return;
  }
  if (views_.empty()) return;
  const HeldView& known = views_[chosen % views_.size()];
  memstream_reservation_t reservation{};
  reservation.token = known.view.token;
  const bool is_reservation = std::any_of(reservations_.begin(), reservations_.end(), [&](const HeldReservation& held) {
    return held.handle == known.handle && held.reservation.token == reservation.token;
  });
  if (is_reservation) return;
  const int status = chosen % 2 == 0 ? memstream_commit(known.handle->cache, &reservation, 0, 0)
                                     : memstream_abort(known.handle->cache, &reservation);
  MUST(status == CACHE_BAD_HANDLE, "a view is committed like a reservation");
}

void Calls::wrong_arguments(ModelHandle& handle) {
  memstream_t* cache = handle.cache;
  constexpr std::size_t kHuge = std::numeric_limits<std::size_t>::max();
  std::size_t size = 0;
  std::uint64_t cursor = 0;
  char byte = 0;
  memstream_view_t view{};
  memstream_reservation_t reservation{};
  memstream_entry_t entry{};
  cache_stats_t stats{};
  memstream_info_t info{};
  memstream_t* opened = nullptr;
  memstream_options_t options = options_for("a/b");
  const auto expect = [](int status, int wanted) {
    MUST(status == wanted, std::to_string(status) + " instead of " + std::to_string(wanted));
  };
  switch (input_.byte() % 20) {
    case 0:
      return expect(memstream_get(nullptr, "k", 1, nullptr, &size, nullptr), CACHE_INVALID);
    case 1:
      return expect(memstream_get(cache, "k", 1, nullptr, nullptr, nullptr), CACHE_INVALID);
    case 2:
      return expect(memstream_set(cache, nullptr, 1, "v", 1, 0, 0), CACHE_INVALID);
    case 3:
      return expect(memstream_set(cache, "k", 1, nullptr, 1, 0, 0), CACHE_INVALID);
    case 4:
      return expect(memstream_scan(cache, &cursor, &entry, 0, &size), CACHE_INVALID);
    case 5:
      return expect(memstream_scan(cache, nullptr, &entry, 1, &size), CACHE_INVALID);
    case 6:
      return expect(memstream_stats(cache, &stats), CACHE_INVALID);
    case 7:
      return expect(memstream_info(cache, &info), CACHE_INVALID);
    case 8:
      return expect(memstream_view(cache, nullptr, 1, &view), CACHE_INVALID);
    case 9:
      return expect(memstream_release(cache, nullptr), CACHE_INVALID);
    case 10:
      return expect(memstream_reserve(cache, "k", 1, 1, nullptr), CACHE_INVALID);
    case 11:
      return expect(memstream_check(cache, nullptr), CACHE_INVALID);
    case 12:
      return expect(memstream_processes(cache, nullptr, 1, &size), CACHE_INVALID);
    case 13:
      return expect(memstream_open(&options, &opened), CACHE_BAD_NAME);
    case 14:
      return expect(memstream_open(&options, nullptr), CACHE_INVALID);
    // No byte of a key or a value may be touched before its size is known to be possible.
    case 15:
      return expect(memstream_get(cache, &byte, kHuge, nullptr, &size, nullptr), CACHE_BAD_KEY);
    case 16:
      return expect(memstream_view(cache, &byte, kHuge, &view), CACHE_BAD_KEY);
    case 17:
      return expect(memstream_reserve(cache, &byte, kHuge, 1, &reservation), CACHE_BAD_KEY);
    case 18:
      return expect(memstream_entry_info(cache, &byte, kHuge, &entry), CACHE_BAD_KEY);
    default: {
      const int status = memstream_set(cache, "k", 1, &byte, kHuge, 0, 0);
      if (!refused(handle, status, true)) expect(status, CACHE_TOO_LARGE);
    }
  }
}

// ---- the whole ----

void Calls::scan(ModelHandle& handle) {
  static auto* batch = new memstream_entry_t[64];
  const std::uint8_t chosen = input_.byte();
  std::uint64_t cursor = chosen % 8 == 0 ? input_.take<std::uint64_t>() : 0;
  do {
    std::size_t count = 0;
    const int status = memstream_scan(handle.cache, &cursor, batch, 1 + chosen % 64, &count);
    if (refused(handle, status, false)) return;
    MUST(status == CACHE_OK && count <= 1U + chosen % 64, cache_last_error());
    for (std::size_t i = 0; i < count; ++i) {
      const ModelEntry* known = handle.segment->find(std::string(batch[i].key, batch[i].key_size));
      MUST(known != nullptr, "a scan finds a key that was never set");
      MUST(known->value.size() == batch[i].value_size && known->flags == batch[i].flags, "a scan finds another value");
    }
  } while (cursor != 0);
}

void Calls::look(ModelHandle& handle) {
  const std::uint8_t chosen = input_.byte();
  if (chosen % 4 == 0) {
    memstream_process_t processes[4];
    std::size_t count = 0;
    const int status = memstream_processes(handle.cache, processes, 4, &count);
    if (!refused(handle, status, false)) MUST(status == CACHE_OK && count <= 5, cache_last_error());
    return;
  }
  if (chosen % 4 == 1) {
    const std::string key = take_key();
    memstream_entry_t entry{};
    const int status = memstream_entry_info(handle.cache, key.data(), key.size(), &entry);
    if (bad_key(status, key) || refused(handle, status, false)) return;
    if (status == CACHE_MISS) return missed(handle, key);
    const ModelEntry* known = handle.segment->find(key);
    MUST(status == CACHE_OK && known != nullptr && known->value.size() == entry.value_size, "another entry");
    return;
  }
  std::uint64_t problems = 0;
  const int status = memstream_check(handle.cache, &problems);
  if (!refused(handle, status, true)) MUST(status == CACHE_OK && problems == 0, cache_last_error());
}

void Calls::default_connection(unsigned action) {
  char key[16];
  std::snprintf(key, sizeof key, "key-%u", input_.byte() % 40U);
  const auto usable = [&](int status) {
    if (!connected_) {
      MUST(status == CACHE_NOT_CONNECTED, "a call without a connection gave " + std::to_string(status));
      return false;
    }
    ModelHandle handle{nullptr, connected_, 0, false};
    return !refused(handle, status, true);
  };
  switch (action % 8) {
    case 0:
    case 1: {
      MUST(cache_connect() == CACHE_OK, cache_last_error());
      if (connected_ && !connected_->destroyed) return;
      if (!current_[0]) current_[0] = std::make_shared<ModelSegment>();
      connected_ = current_[0];
      return;
    }
    case 2: {
      const std::string value = take_value();
      const int status = cache_put(key, value.data(), value.size());
      if (usable(status) && status == CACHE_OK) {
        connected_->store(key, {value, 0, false});
        if (token_key_ == key) token_key_.clear();
      }
      return;
    }
    case 3: {
      char room[300];
      std::size_t size = sizeof room;
      const int status = cache_get(key, room, &size);
      if (!usable(status)) return;
      const ModelEntry* known = connected_->find(key);
      if (status == CACHE_MISS) return connected_->forget(key);
      MUST(known != nullptr && size == known->value.size(), "another value");
      if (status == CACHE_OK) MUST(std::memcmp(room, known->value.data(), size) == 0, "another value");
      return;
    }
    case 4: {
      const int status = cache_delete(key);
      if (usable(status)) connected_->remove(key);
      return;
    }
    case 5: {
      cache_stats_t stats{};
      stats.struct_size = sizeof stats;
      const int status = cache_get_stats(&stats);
      if (usable(status)) MUST(status == CACHE_OK, cache_last_error());
      return;
    }
    case 6:
      MUST(cache_disconnect() == (connected_ ? CACHE_OK : CACHE_NOT_CONNECTED), cache_last_error());
      connected_.reset();
      return;
    default: {
      const bool is_there = current_[0] && (!connected_ || connected_ == current_[0]);
      MUST(cache_destroy() == (is_there ? CACHE_OK : CACHE_NO_SEGMENT), cache_last_error());
      if (is_there) gone(0);
      connected_.reset();
    }
  }
}

// Everything is given back, and the segments are whole.
void Calls::finish() {
  for (HeldView& held : views_) release(held);
  views_.clear();
  while (!reservations_.empty()) commit_or_abort();
  for (ModelHandle& handle : handles_) {
    if (handle.cache == nullptr || handle.read_only || handle.segment->destroyed) continue;
    std::uint64_t problems = 0;
    MUST(memstream_check(handle.cache, &problems) == CACHE_OK, cache_last_error());
    scan(handle);
    const cache_stats_t stats = stats_of(handle);
    MUST(stats.pinned_memory == 0, "something is pinned that nobody holds");
    MUST(stats.damaged == 0 && stats.recoveries == 0, "damage that nobody did");
    if (stats.evictions == 0 && !handle.segment->had_ttl()) {
      MUST(stats.entries == handle.segment->size(),
           std::to_string(stats.entries) + " entries, not " + std::to_string(handle.segment->size()));
    }
  }
}

void run_abi_calls(const std::uint8_t* data, std::size_t size_bytes) {
  Calls calls(data, size_bytes);
  calls.run();
}

void seed_abi_calls(const SeedSink& sink) {
  // Every kind of call on one open handle, in several orders; then noise.
  std::uint32_t state = 12345;
  const auto byte = [&] { return static_cast<std::uint8_t>((state = state * 1664525 + 1013904223) >> 24); };
  for (int variant = 0; variant < 24; ++variant) {
    Bytes input{0, 0, 0, 64, 1, static_cast<std::uint8_t>(variant % 2), 96, 2, 2};
    for (int call = 0; call < 60; ++call) {
      input.push_back(static_cast<std::uint8_t>(variant < 8 ? 3 + (call * 7 + variant) % 29 : byte()));
      input.push_back(static_cast<std::uint8_t>(call % 3));
      for (int i = 0; i < 5; ++i) input.push_back(byte());
    }
    sink("calls-" + std::to_string(variant), input);
  }
  // Two handles that take, fulfil and give up leases of three keys, among sets and deletes of them.
  for (int variant = 0; variant < 8; ++variant) {
    Bytes input{0, 0, 0, 0, 1, 0};
    const auto call = [&](unsigned what) {
      input.push_back(static_cast<std::uint8_t>(what));
      input.push_back(static_cast<std::uint8_t>(byte() % 2));
    };
    const auto key = [&] { input.push_back(static_cast<std::uint8_t>(byte() % 3)); };
    const auto value = [&] { input.insert(input.end(), {1, byte(), 0, byte(), 0, 0, 0, 0}); };
    constexpr unsigned kLease = 30;
    for (int i = 0; i < 150; ++i) {
      switch (const unsigned way = byte() / 16U) {
        case 0:
          call(6);  // set
          key();
          value();
          input.push_back(1);
          break;
        case 1:
        case 2:
          call(13);  // delete
          key();
          break;
        case 3:
        case 4:
          call(3U * 32 + kLease);  // wait
          key();
          break;
        case 5:
        case 6:
        case 7:
          call((way == 5 ? 6U : 4U) * 32 + kLease);  // give up, fulfil
          input.push_back(static_cast<std::uint8_t>(byte() % 224));
          if (way != 5) value();
          break;
        default:
          call(kLease);  // take
          key();
          input.push_back(static_cast<std::uint8_t>(128 + byte() % 3));
      }
    }
    sink("leases-" + std::to_string(variant), input);
  }
}

}  // namespace memstream::fuzz
