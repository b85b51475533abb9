// Any sequence of calls of the C interface, against a model: what comes back was put there, whatever is asked for.
#include "tests/fuzz/abi_calls.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/fuzz/backend_choice.h"
#include "tests/fuzz/battery.h"
#include "tests/fuzz/must.h"
#include "tests/support/memory_segment.h"

namespace memstream::fuzz {

namespace {

constexpr std::size_t kMostCalls = 200;
constexpr const char* kNames[] = {"calls-0", "calls-1"};

std::unique_ptr<SegmentBackend> make_memory_backend() { return std::make_unique<test::MemoryBackend>(); }

}  // namespace

Calls::Calls(const std::uint8_t* data, std::size_t size_bytes) : input_(data, size_bytes) {
  use_backend(make_memory_backend);
  ::setenv("MEMSTREAM_NAME", kNames[0], 1);
  ::setenv("MEMSTREAM_SIZE", "1M", 1);
  ::setenv("MEMSTREAM_TIMEOUT_MS", "100", 1);
  handles_.resize(4);
}

Calls::~Calls() {
  for (ModelHandle& handle : handles_) memstream_close(handle.cache);
  cache_disconnect();
  for (const char* name : kNames) {
    memstream_options_t options = options_for(name);
    memstream_destroy_named(&options);
  }
}

memstream_options_t Calls::options_for(const char* name) {
  memstream_options_t options;
  memstream_options_init(&options);
  options.name = name;
  return options;
}

void Calls::run() {
  for (std::size_t calls = 0; calls < kMostCalls && !input_.empty(); ++calls) one_call();
  finish();
}

void Calls::one_call() {
  const std::uint8_t chosen = input_.byte();
  const std::uint8_t which = input_.byte();
  ModelHandle& handle = handles_[which % handles_.size()];
  if (chosen % 32 < 3 || handle.cache == nullptr) return life(chosen / 32U, which % handles_.size());
  switch (chosen % 32) {
    case 3:
    case 4:
    case 5:
      return get(handle);
    case 6:
    case 7:
    case 8:
    case 9:
      return store(handle, StoreWay::kSet);
    case 10:
      return store(handle, StoreWay::kAdd);
    case 11:
      return store(handle, StoreWay::kReplace);
    case 12:
      return store(handle, StoreWay::kCas);
    case 13:
    case 14:
      return remove(handle);
    case 15:
      return touch_key(handle);
    case 16:
    case 17:
      return increment(handle);
    case 18:
      return exists(handle);
    case 19:
      return chosen < 64 ? clear(handle) : batch(handle);
    case 20:
    case 21:
      return take_view(handle);
    case 22:
      return release_view();
    case 23:
    case 24:
      return reserve(handle);
    case 25:
      return commit_or_abort();
    case 26:
      return wrong_tokens(handle);
    case 27:
      return scan(handle);
    case 28:
      return look(handle);
    case 29:
      return wrong_arguments(handle);
    case 30:
      return lease(handle, chosen / 32U);
    default:
      return default_connection(chosen / 32U);
  }
}

// ---- arguments ----

// Mostly one of a few keys, now and then one of an impossible size.
std::string Calls::take_key() {
  const std::uint8_t chosen = input_.byte();
  if (chosen < 160) return "key-" + std::to_string(chosen % 40);
  if (chosen < 200) return std::string(1, static_cast<char>(chosen));
  if (chosen < 216) return std::string("with\0nul", 8) + static_cast<char>(chosen);
  if (chosen < 248) return std::string(CACHE_MAX_KEY_SIZE - (chosen % 8), static_cast<char>(chosen));
  if (chosen < 252) return {};
  return std::string(CACHE_MAX_KEY_SIZE + 1U + input_.byte(), 'k');
}

std::string Calls::take_value() {
  const std::uint8_t chosen = input_.byte();
  const auto number = input_.take<std::uint16_t>();
  std::size_t size = 0;
  if (chosen < 120) {
    size = number % 256;
  } else if (chosen < 180) {
    size = number % 6000;
  } else if (chosen < 200) {
    return std::to_string(static_cast<std::int64_t>(number) - 30'000);
  } else if (chosen < 240) {
    size = 30'000U + number;
  } else {
    size = std::size_t{number} * 9;  // Up to and above the limit.
  }
  std::string value(size, static_cast<char>(number));
  for (std::size_t i = 0; i < size; i += 61) value[i] = static_cast<char>(i + chosen);
  return value;
}

std::uint64_t Calls::take_ttl() {
  constexpr std::uint64_t kTtls[] = {0, 0, 0, 0, 1, 8, 3'600'000, ~std::uint64_t{0}};
  return kTtls[input_.byte() % std::size(kTtls)];
}

bool Calls::bad_key(int status, const std::string& key) {
  if (!key.empty() && key.size() <= CACHE_MAX_KEY_SIZE) return false;
  MUST(status == CACHE_BAD_KEY, "a key of an impossible size gave " + std::to_string(status));
  return true;
}

// Whether the call was refused for what its handle is; a status that nothing explains ends the program.
bool Calls::refused(const ModelHandle& handle, int status, bool writes) {
  must_be_sane(status, "a call");
  MUST(status != CACHE_BUSY && status != CACHE_CORRUPT, cache_last_error());
  if (handle.segment->destroyed) {
    MUST(status == CACHE_GONE, "a destroyed segment gave " + std::to_string(status));
    return true;
  }
  MUST(status != CACHE_GONE, "a segment that is there gave CACHE_GONE");
  if (writes && handle.read_only) {
    MUST(status == CACHE_READ_ONLY, "a write through a read-only handle gave " + std::to_string(status));
    return true;
  }
  MUST(status != CACHE_READ_ONLY, "this attach may do that");
  return false;
}

// ---- life ----

void Calls::life(unsigned action, std::size_t number) {
  ModelHandle& handle = handles_[number];
  if (handle.cache == nullptr) return open(handle);
  switch (action % 8) {
    case 0:
      return destroy(handle);
    case 1: {
      const unsigned name = input_.byte() % 2;
      memstream_options_t options = options_for(kNames[name]);
      const int status = memstream_destroy_named(&options);
      MUST(status == (current_[name] ? CACHE_OK : CACHE_NO_SEGMENT), cache_last_error());
      return gone(name);
    }
    default:
      return close(handle);
  }
}

void Calls::open(ModelHandle& handle) {
  const std::uint8_t chosen = input_.byte();
  const unsigned name = chosen % 2;
  memstream_options_t options = options_for(kNames[name]);
  options.size_bytes = (std::uint64_t{1} << 20) + (chosen / 16 % 2) * (std::uint64_t{512} << 10);
  options.shards = chosen / 16 % 2 == 1 ? 2 : 1;
  options.timeout_ms = 100;
  options.flags = chosen / 2 % 8;
  const bool existing = (options.flags & (MEMSTREAM_OPEN_READ_ONLY | MEMSTREAM_OPEN_EXISTING)) != 0;
  const int status = memstream_open(&options, &handle.cache);
  if (existing && !current_[name]) {
    MUST(status == CACHE_NO_SEGMENT && handle.cache == nullptr, cache_last_error());
    return;
  }
  MUST(status == CACHE_OK && handle.cache != nullptr, cache_last_error());
  if (!current_[name]) current_[name] = std::make_shared<ModelSegment>();
  handle.segment = current_[name];
  handle.name = name;
  handle.read_only = (options.flags & MEMSTREAM_OPEN_READ_ONLY) != 0;
}

void Calls::close(ModelHandle& handle) {
  std::erase_if(views_, [&](const HeldView& held) { return held.handle == &handle; });
  std::erase_if(reservations_, [&](const HeldReservation& held) { return held.handle == &handle; });
  std::erase_if(handle.segment->leases, [&](const ModelLease& lease) { return lease.holder == &handle; });
  MUST(memstream_close(handle.cache) == CACHE_OK, cache_last_error());
  handle = {};
}

void Calls::gone(unsigned name) {
  if (current_[name]) current_[name]->destroyed = true;
  current_[name].reset();
}

void Calls::destroy(ModelHandle& handle) {
  const int status = memstream_destroy(handle.cache);
  if (handle.read_only) {
    MUST(status == CACHE_READ_ONLY, cache_last_error());
  } else if (handle.segment == current_[handle.name]) {
    MUST(status == CACHE_OK, cache_last_error());
    gone(handle.name);
  } else {
    MUST(status == CACHE_NO_SEGMENT, "a segment that was destroyed was destroyed again");
  }
}

// ---- entries ----

void Calls::get(ModelHandle& handle) {
  const std::string key = take_key();
  const ModelEntry* known = handle.segment->find(key);
  // Exactly as much room as the value needs, or a little less: what is written behind it is caught.
  const std::size_t wanted = known != nullptr ? known->value.size() : input_.byte();
  const unsigned choice = input_.byte();
  const bool too_small = choice % 4 == 0 && wanted != 0;
  const bool renews = choice % 4 == 3;
  std::vector<char> room(too_small ? wanted - 1 : wanted);
  std::size_t size = room.size();
  memstream_meta_t meta{};
  char* const buffer = room.empty() ? nullptr : room.data();
  const int status = renews ? memstream_get_and_touch(handle.cache, key.data(), key.size(), 1000, buffer, &size, &meta)
                            : memstream_get(handle.cache, key.data(), key.size(), buffer, &size, &meta);
  if (bad_key(status, key) || refused(handle, status, renews)) return;
  if (status == CACHE_MISS) {
    MUST(size == 0, "a miss with a size");
    return missed(handle, key);
  }
  MUST(known != nullptr, "a value that was never set, or deleted");
  MUST(size == known->value.size() && meta.flags == known->flags, "another value");
  if (too_small) {
    MUST(status == CACHE_TOO_SMALL, "a value in a room that is too small");
  } else {
    MUST(status == CACHE_OK && std::equal(room.begin(), room.end(), known->value.begin()), "another value");
    if (renews) handle.segment->may_expire(key, true);
  }
  token_ = meta.cas;
  token_key_ = key;
  token_segment_ = handle.segment.get();
}

// A miss of a key that was set: evicted or expired.
void Calls::missed(ModelHandle& handle, const std::string& key) {
  const ModelEntry* known = handle.segment->find(key);
  if (known == nullptr) return;
  if (!known->may_expire && !handle.read_only) {
    MUST(stats_of(handle).evictions != 0, "a key is lost that nobody evicted");
  }
  handle.segment->forget(key);
}

cache_stats_t Calls::stats_of(const ModelHandle& handle) {
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  MUST(memstream_stats(handle.cache, &stats) == CACHE_OK, cache_last_error());
  return stats;
}

void Calls::store(ModelHandle& handle, StoreWay way) {
  const std::string key = take_key();
  ModelEntry entry{take_value(), input_.take<std::uint32_t>(), false};
  const std::uint64_t ttl_ms = take_ttl();
  entry.may_expire = ttl_ms != 0;
  const std::uint64_t token = input_.byte() % 4 == 0 ? input_.take<std::uint64_t>() : token_;
  const void* value = entry.value.empty() ? nullptr : entry.value.data();
  const std::size_t size = entry.value.size();
  int status = CACHE_OK;
  switch (way) {
    case StoreWay::kSet:
      status = memstream_set(handle.cache, key.data(), key.size(), value, size, ttl_ms, entry.flags);
      break;
    case StoreWay::kAdd:
      status = memstream_add(handle.cache, key.data(), key.size(), value, size, ttl_ms, entry.flags);
      break;
    case StoreWay::kReplace:
      status = memstream_replace(handle.cache, key.data(), key.size(), value, size, ttl_ms, entry.flags);
      break;
    case StoreWay::kCas:
      status = memstream_cas(handle.cache, key.data(), key.size(), value, size, ttl_ms, entry.flags, token);
      break;
  }
  if (bad_key(status, key) || refused(handle, status, true)) return;
  const ModelEntry* known = handle.segment->find(key);
  switch (status) {
    case CACHE_OK:
      if (way == StoreWay::kReplace || way == StoreWay::kCas) MUST(known != nullptr, "what is not there was replaced");
      if (way == StoreWay::kCas) {
        MUST(token == token_ && token_key_ == key && token_segment_ == handle.segment.get(),
             "a token of something else");
      }
      if (way == StoreWay::kAdd && known != nullptr) missed(handle, key);
      handle.segment->store(key, std::move(entry));
      if (token_key_ == key) token_key_.clear();
      return;
    case CACHE_EXISTS:
      MUST(way == StoreWay::kAdd && known != nullptr, "a key exists that was never set");
      return;
    case CACHE_CONFLICT:
      MUST(way == StoreWay::kCas && known != nullptr, "a conflict about nothing");
      MUST(token != token_ || token_key_ != key || token_segment_ != handle.segment.get(),
           "a token that holds is refused");
      return;
    case CACHE_MISS:
      MUST(way == StoreWay::kReplace || way == StoreWay::kCas, "a set that misses");
      return missed(handle, key);
    default:
      kept_out(handle, size, status);
  }
}

void Calls::remove(ModelHandle& handle) {
  const std::string key = take_key();
  const int status = memstream_delete(handle.cache, key.data(), key.size());
  if (bad_key(status, key) || refused(handle, status, true)) return;
  if (status == CACHE_MISS) {
    missed(handle, key);
  } else {
    MUST(status == CACHE_OK && handle.segment->find(key) != nullptr, "a key is deleted that was never set");
  }
  handle.segment->remove(key);
}

void Calls::touch_key(ModelHandle& handle) {
  const std::string key = take_key();
  const std::uint64_t ttl_ms = take_ttl();
  const int status = memstream_touch(handle.cache, key.data(), key.size(), ttl_ms);
  if (bad_key(status, key) || refused(handle, status, true)) return;
  if (status == CACHE_MISS) return missed(handle, key);
  MUST(status == CACHE_OK && handle.segment->find(key) != nullptr, "a key is touched that was never set");
  handle.segment->may_expire(key, ttl_ms != 0);
}

void Calls::exists(ModelHandle& handle) {
  const std::string key = take_key();
  const int status = memstream_exists(handle.cache, key.data(), key.size());
  if (bad_key(status, key) || refused(handle, status, false)) return;
  if (status == CACHE_MISS) return missed(handle, key);
  MUST(status == CACHE_OK && handle.segment->find(key) != nullptr, "a key is there that was never set");
}

}  // namespace memstream::fuzz
