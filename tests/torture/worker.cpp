#include "tests/torture/worker.h"

#include <algorithm>
#include <array>
#include <chrono>

namespace memstream::torture {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Worker::Worker(const Place& place, Ledger& ledger, std::size_t index, std::uint64_t seed)
    : cache_(place, kWorkersPatience), ledger_(ledger), index_(index), random_(seed) {}

void Worker::work() {
  for (;;) step();
}

void Worker::step() {
  const std::uint64_t choice = random_() % 64;
  if (choice < 32) {
    write();
  } else if (choice < 50) {
    read();
  } else if (choice < 56) {
    view();
  } else if (choice < 63) {
    scan();
  } else {
    look_around();
  }
}

// Being busy is an answer while somebody is stopped; the one that counts the answers says whether it was allowed.
template <class Call>
int Worker::timed(const char* what, const Call& call) {
  const auto began = Clock::now();
  const int status = call();
  ledger_.note_call(index_, std::chrono::duration<double, std::milli>(Clock::now() - began).count(),
                    status == CACHE_BUSY);
  return status == CACHE_BUSY ? status : require(status, what);
}

void Worker::write() {
  const std::size_t key_index = random_() % ledger_.load().keys;
  const std::string key = Ledger::key(index_, key_index);
  const std::uint64_t version = ledger_.begin(index_, key_index);
  const auto value = ledger_.value(index_, key_index, version);
  const int status =
      value ? store(key, *value, version)
            : timed("memstream_delete", [&] { return memstream_delete(cache_.handle(), key.data(), key.size()); });
  if (status != CACHE_BUSY) ledger_.stored(index_, key_index, version);
}

int Worker::store(const std::string& key, const std::string& value, std::uint64_t version) {
  if (version % 4 == 0) return fill_in_place(key, value);
  if (version % 4 == 1) {
    if (const int status = compare_and_set(key, value); status != CACHE_MISS) return status;
  }
  return timed("memstream_set", [&] {
    return memstream_set(cache_.handle(), key.data(), key.size(), value.data(), value.size(), 0, 0);
  });
}

int Worker::fill_in_place(const std::string& key, std::string_view value) {
  memstream_reservation_t room;
  const int status = timed("memstream_reserve", [&] {
    return memstream_reserve(cache_.handle(), key.data(), key.size(), value.size(), &room);
  });
  if (status == CACHE_BUSY) return status;
  std::copy(value.begin(), value.end(), static_cast<char*>(room.data));
  // A reservation that is not given up would stay for as long as the process lives.
  int committed = CACHE_BUSY;
  while (committed == CACHE_BUSY) {
    committed = timed("memstream_commit", [&] { return memstream_commit(cache_.handle(), &room, 0, 0); });
  }
  return committed;
}

int Worker::compare_and_set(const std::string& key, std::string_view value) {
  memstream_meta_t meta{};
  std::size_t size = 0;
  const int found = memstream_get(cache_.handle(), key.data(), key.size(), nullptr, &size, &meta);
  if (found == CACHE_MISS || found == CACHE_BUSY) return found;
  if (found != CACHE_TOO_SMALL) require(found, "memstream_get");
  const int status = timed("memstream_cas", [&] {
    return memstream_cas(cache_.handle(), key.data(), key.size(), value.data(), value.size(), 0, 0, meta.cas);
  });
  if (status == CACHE_CONFLICT) throw Finding("cas of '" + key + "' says that somebody else wrote it, and nobody did");
  return status;
}

void Worker::read() {
  const std::size_t process = random_() % Ledger::kProcesses;
  const std::size_t key = random_() % ledger_.load().keys;
  const std::uint64_t stored = ledger_.last_stored(process, key);
  const int status = timed("memstream_get", [&] { return cache_.try_get(Ledger::key(process, key), &value_); });
  if (status == CACHE_BUSY) return;
  ledger_.verify(process, key, stored, status == CACHE_OK ? std::optional<std::string>(value_) : std::nullopt);
}

// The value stays as it is while it is held.
void Worker::view() {
  const std::size_t process = random_() % Ledger::kProcesses;
  const std::size_t key_index = random_() % ledger_.load().keys;
  const std::string key = Ledger::key(process, key_index);
  const std::uint64_t stored = ledger_.last_stored(process, key_index);
  memstream_view_t view;
  const int status =
      timed("memstream_view", [&] { return memstream_view(cache_.handle(), key.data(), key.size(), &view); });
  if (status == CACHE_BUSY) return;
  if (status == CACHE_MISS) return ledger_.verify(process, key_index, stored, std::nullopt);
  const std::string first(static_cast<const char*>(view.data), view.size);
  ledger_.verify(process, key_index, stored, first);
  write();
  if (first != std::string_view(static_cast<const char*>(view.data), view.size)) {
    throw Finding("the value of '" + key + "' changed while it was held");
  }
  while (timed("memstream_release", [&] { return memstream_release(cache_.handle(), &view); }) == CACHE_BUSY) {
  }
}

void Worker::scan() {
  static std::array<memstream_entry_t, 64> entries;
  std::size_t count = 0;
  const int status = timed("memstream_scan", [&] {
    return memstream_scan(cache_.handle(), &cursor_, entries.data(), entries.size(), &count);
  });
  if (status == CACHE_BUSY) return;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view key(entries[i].key, entries[i].key_size);
    if (!key.starts_with("process-") && !key.starts_with("a key of the peer")) {
      throw Finding("a scan reports the key '" + std::string(key) + "', which nobody put");
    }
  }
}

void Worker::look_around() {
  cache_stats_t statistics{};
  statistics.struct_size = sizeof statistics;
  timed("memstream_stats", [&] { return memstream_stats(cache_.handle(), &statistics); });
  std::array<memstream_process_t, 16> processes;
  std::size_t count = 0;
  timed("memstream_processes",
        [&] { return memstream_processes(cache_.handle(), processes.data(), processes.size(), &count); });
}

}  // namespace memstream::torture
