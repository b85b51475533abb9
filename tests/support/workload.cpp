// See workload.h.
#include "tests/support/workload.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/shared_bytes.h"
#include "tests/support/tagged_value.h"

namespace memstream::test {
namespace {

constexpr std::uint32_t kOperationsPerClockLook = 16;
// For so many operations a worker writes small values only, then for as many all sizes: the tables grow in the one
// phase, and windows are cleared for large values in the other.
constexpr std::uint32_t kOperationsPerPhase = 8192;
constexpr std::size_t kViewsPerWorker = 2;
// Values from here on may be refused while views and reservations cut the heap into pieces; smaller ones never.
constexpr std::size_t kRefusableBytes = 16 << 10;

// Every seventh key is long.
std::string key_text(std::uint32_t key) {
  std::string text = "key-" + std::to_string(key);
  if (key % 7 == 0) text.append(200, '.');
  return text;
}

std::string counter_text(std::uint32_t counter) { return "counter-" + std::to_string(counter); }

// What the writer of a key knows of it. With a time to live, or where others evict, a value may go by itself.
struct OwnKey {
  std::uint32_t sequence = 0;  // Of the last write of any kind.
  std::uint32_t stored = 0;    // Sequence of the value, 0 if there is none.
  bool may_vanish = false;
};

struct HeldView {
  memstream_view_t view;
  std::uint32_t key;
  std::uint32_t sequence;
};

class Worker {
 public:
  Worker(const WorkloadPlan& plan, std::uint32_t number, memstream_t* cache, SharedArray<KeyRecord>& records,
         Workload::Totals& totals)
      : plan_(plan),
        number_(number),
        cache_(cache),
        records_(records),
        totals_(totals),
        random_(number + 1),
        own_(plan.keys),
        newest_seen_(plan.keys) {}
  ~Worker() {
    for (HeldView& held : views_) memstream_release(cache_, &held.view);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void run() {
    const auto end = std::chrono::steady_clock::now() + plan_.duration;
    while (std::chrono::steady_clock::now() < end) {
      for (std::uint32_t i = 0; i < kOperationsPerClockLook; ++i) operate();
      totals_.operations += kOperationsPerClockLook;
    }
    while (!views_.empty()) release_view();
  }

 private:
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }
  std::uint32_t any_key() { return below(plan_.keys); }
  std::uint32_t own_key() { return below(plan_.keys / plan_.workers) * plan_.workers + number_; }

  // Mostly small; in every other phase some up to a few pages, few large.
  std::size_t random_size() {
    const bool small_only = operations_ / kOperationsPerPhase % 2 == 0;
    const std::uint32_t kind = below(small_only ? 80 : 100);
    const std::size_t limit = kind < 80 ? 512 : kind < 97 ? 16 << 10 : plan_.max_value_bytes;
    return kMinTaggedSize + below(static_cast<std::uint32_t>(std::min(limit, plan_.max_value_bytes)));
  }

  [[noreturn]] void complain(const std::string& what, std::uint32_t key, int status) const {
    throw std::runtime_error("worker " + std::to_string(number_) + ", key " + std::to_string(key) + ": " + what +
                             " (status " + std::to_string(status) + ", " + cache_last_error() + ")");
  }

  void operate() {
    ++operations_;
    const std::uint32_t kind = below(1000);
    if (kind < 300) return get(any_key());
    if (kind < 360) return get(own_key());
    if (kind < 430) return take_view(any_key());
    if (kind < 480) return views_.empty() ? get(any_key()) : release_view();
    if (kind < 700) return set(own_key());
    if (kind < 740) return add_or_replace(own_key());
    if (kind < 770) return compare_and_set(own_key());
    if (kind < 850) return remove(own_key());
    if (kind < 890) return touch(own_key());
    if (kind < 950) return reserve(own_key());
    if (kind < 990) return count();
    if (below(20) != 0) return get(any_key());
    if (below(20) == 0 && plan_.evicts) return clear();
    look_around();
  }

  // ---- reading ----

  // Judges a value that was read while the key's record said `before` at first.
  void accept(std::uint32_t key, KeyWrite before, const void* value, std::size_t size_bytes) {
    const std::uint32_t sequence = check_tagged(key, value, size_bytes);
    if (sequence < std::max(before.sequence, newest_seen_[key])) complain("an old value came back", key, 0);
    if (sequence > records_[key].begun().sequence) complain("a value that nobody has written yet", key, 0);
    newest_seen_[key] = sequence;
    if (is_own(key) && sequence != own_[key].stored) complain("not the value that was stored", key, 0);
  }

  void accept_miss(std::uint32_t key) const {
    if (is_own(key) && own_[key].stored != 0 && !own_[key].may_vanish) complain("a stored value is gone", key, 0);
  }

  bool is_own(std::uint32_t key) const { return key % plan_.workers == number_; }

  void get(std::uint32_t key) {
    const std::string text = key_text(key);
    const KeyWrite before = records_[key].acknowledged();
    room_.resize(plan_.max_value_bytes + kMinTaggedSize);
    std::size_t size = room_.size();
    const int status = memstream_get(cache_, text.data(), text.size(), room_.data(), &size, nullptr);
    if (status == CACHE_OK) return accept(key, before, room_.data(), size);
    if (status != CACHE_MISS) complain("get", key, status);
    accept_miss(key);
  }

  void take_view(std::uint32_t key) {
    if (views_.size() == kViewsPerWorker) return release_view();
    const std::string text = key_text(key);
    const KeyWrite before = records_[key].acknowledged();
    HeldView held{{}, key, 0};
    const int status = memstream_view(cache_, text.data(), text.size(), &held.view);
    if (status == CACHE_MISS) return accept_miss(key);
    if (status != CACHE_OK) complain("view", key, status);
    views_.push_back(held);
    accept(key, before, held.view.data, held.view.size);
    views_.back().sequence = newest_seen_[key];
  }

  // Whatever became of the key meanwhile, the bytes are the same.
  void release_view() {
    std::swap(views_[below(static_cast<std::uint32_t>(views_.size()))], views_.back());
    HeldView held = views_.back();
    views_.pop_back();
    const bool changed = check_tagged(held.key, held.view.data, held.view.size) != held.sequence;
    const int status = memstream_release(cache_, &held.view);
    if (status != CACHE_OK) complain("release", held.key, status);
    if (changed) complain("a view changed while it was held", held.key, 0);
  }

  void look_around() {
    scan_all(cache_, [&](const memstream_entry_t& entry) {
      if (entry.value_size > plan_.max_value_bytes + kMinTaggedSize)
        complain("a scan reports a size never stored", 0, 0);
      if (std::strlen(entry.key) != entry.key_size) complain("a scan reports a key never stored", 0, 0);
    });
    const cache_stats_t stats = stats_of(cache_);
    if (stats.used_memory + stats.table_memory + stats.pinned_memory > stats.max_memory) {
      complain("more memory in use than there is", 0, 0);
    }
  }

  // ---- writing ----

  KeyWrite begin_write(std::uint32_t key, bool deletes = false) {
    const KeyWrite write{++own_[key].sequence, deletes};
    records_[key].begin(write);
    return write;
  }

  // After a write that happened.
  void end_write(std::uint32_t key, KeyWrite write, std::uint64_t ttl_ms = 0) {
    records_[key].acknowledge(write);
    own_[key].stored = write.deletes ? 0 : write.sequence;
    own_[key].may_vanish = plan_.evicts || ttl_ms != 0;
  }

  // Whether a write happened that may be refused for its size. The key keeps what it had if not.
  bool happened(const char* what, std::uint32_t key, int status, std::size_t size_bytes) {
    if (status == CACHE_OK) return true;
    if (status != CACHE_FULL || size_bytes < kRefusableBytes || !plan_.evicts) complain(what, key, status);
    ++totals_.refusals;
    return false;
  }

  std::uint64_t random_ttl() { return below(8) == 0 ? 1 + below(50) : 0; }

  void set(std::uint32_t key) {
    const std::string text = key_text(key);
    const KeyWrite write = begin_write(key);
    make_tagged(key, write.sequence, random_size(), &value_);
    const std::uint64_t ttl_ms = random_ttl();
    const int status = memstream_set(cache_, text.data(), text.size(), value_.data(), value_.size(), ttl_ms, key);
    if (happened("set", key, status, value_.size())) end_write(key, write, ttl_ms);
  }

  void add_or_replace(std::uint32_t key) {
    const std::string text = key_text(key);
    const OwnKey before = own_[key];
    const bool adds = below(2) == 0;
    const KeyWrite write = begin_write(key);
    make_tagged(key, write.sequence, kMinTaggedSize + below(512), &value_);
    const int status = (adds ? memstream_add : memstream_replace)(cache_, text.data(), text.size(), value_.data(),
                                                                  value_.size(), 0, key);
    const bool was_there = status == (adds ? CACHE_EXISTS : CACHE_OK);
    const bool was_absent = status == (adds ? CACHE_OK : CACHE_MISS);
    if (!was_there && !was_absent) complain("add or replace", key, status);
    if (was_there && before.stored == 0) complain("a deleted value is back", key, status);
    if (was_absent && before.stored != 0 && !before.may_vanish) complain("a stored value is gone", key, status);
    if (status == CACHE_OK) end_write(key, write);
  }

  void compare_and_set(std::uint32_t key) {
    const std::string text = key_text(key);
    memstream_meta_t meta{};
    std::size_t size = 0;
    if (memstream_get(cache_, text.data(), text.size(), nullptr, &size, &meta) != CACHE_TOO_SMALL) return;
    if (meta.flags != key) complain("flags that were never stored", key, 0);
    const KeyWrite write = begin_write(key);
    make_tagged(key, write.sequence, kMinTaggedSize + below(512), &value_);
    const int status = memstream_cas(cache_, text.data(), text.size(), value_.data(), value_.size(), 0, key, meta.cas);
    if (status == CACHE_MISS) return accept_miss(key);
    if (status != CACHE_OK) complain("cas by the only writer", key, status);
    end_write(key, write);
  }

  void remove(std::uint32_t key) {
    const std::string text = key_text(key);
    const KeyWrite write = begin_write(key, true);
    const int status = memstream_delete(cache_, text.data(), text.size());
    if (status == CACHE_MISS) {
      accept_miss(key);
    } else if (status != CACHE_OK) {
      complain("delete", key, status);
    } else if (own_[key].stored == 0) {
      complain("a deleted value is back", key, status);
    }
    end_write(key, write);
  }

  void touch(std::uint32_t key) {
    const std::string text = key_text(key);
    const std::uint64_t ttl_ms = random_ttl();
    const int status = memstream_touch(cache_, text.data(), text.size(), ttl_ms);
    if (status == CACHE_MISS) return accept_miss(key);
    if (status != CACHE_OK) complain("touch", key, status);
    own_[key].may_vanish = plan_.evicts || ttl_ms != 0;
  }

  void reserve(std::uint32_t key) {
    const std::string text = key_text(key);
    const std::size_t size = random_size();
    memstream_reservation_t reservation{};
    if (!happened("reserve", key, memstream_reserve(cache_, text.data(), text.size(), size, &reservation), size))
      return;
    const bool aborts = below(4) == 0;
    const KeyWrite write = aborts ? KeyWrite{} : begin_write(key);
    make_tagged(key, write.sequence, size, &value_);
    // Not memcpy: a reader that still looks at what was in this memory before may copy it now, and throw it away then.
    copy_to_shared(reservation.data, value_.data(), size);
    if (aborts) {
      if (const int status = memstream_abort(cache_, &reservation); status != CACHE_OK) complain("abort", key, status);
      return;
    }
    const int status = memstream_commit(cache_, &reservation, 0, key);
    if (happened("commit", key, status, size)) end_write(key, write);
  }

  // ---- what all workers write ----

  // Adds one to a shared counter, by incr or by a loop of get and cas.
  void count() {
    const std::uint32_t counter = below(Workload::kCounters);
    const std::string text = counter_text(counter);
    constexpr std::int64_t kNothing = 0;
    std::int64_t result = 0;
    int status = CACHE_CONFLICT;
    if (below(2) == 0) {
      status = memstream_incr(cache_, text.data(), text.size(), 1, &kNothing, 0, &result);
    } else {
      char digits[24] = {};
      std::size_t size = sizeof digits - 1;
      memstream_meta_t meta{};
      const int found = memstream_get(cache_, text.data(), text.size(), digits, &size, &meta);
      if (found == CACHE_MISS) return;
      if (found != CACHE_OK) complain("get of a counter", counter, found);
      const std::string sum = std::to_string(std::stoll(std::string(digits, size)) + 1);
      status = memstream_cas(cache_, text.data(), text.size(), sum.data(), sum.size(), 0, 0, meta.cas);
      if (status == CACHE_CONFLICT || (status == CACHE_MISS && plan_.evicts)) return;
    }
    if (status != CACHE_OK) complain("count", counter, status);
    ++totals_.increments[counter];
  }

  void clear() {
    if (const int status = memstream_clear(cache_); status != CACHE_OK) complain("clear", 0, status);
  }

  const WorkloadPlan& plan_;
  std::uint32_t number_;
  memstream_t* cache_;
  SharedArray<KeyRecord>& records_;
  Workload::Totals& totals_;
  std::minstd_rand random_;
  std::uint64_t operations_ = 0;
  std::vector<OwnKey> own_;
  std::vector<std::uint32_t> newest_seen_;
  std::vector<HeldView> views_;
  std::vector<std::byte> value_;
  std::vector<std::byte> room_;
};

}  // namespace

Workload::Workload(const WorkloadPlan& plan)
    : plan_(plan), records_(plan.keys), shared_totals_(1), totals_(&shared_totals_[0]) {}

void Workload::run_worker(std::uint32_t worker, memstream_t* cache) {
  Worker(plan_, worker, cache, records_, *totals_).run();
}

Complaint Workload::verify_at_rest(memstream_t* cache) {
  for (std::uint32_t key = 0; key < plan_.keys; ++key) {
    const std::string text = key_text(key);
    const int status = memstream_touch(cache, text.data(), text.size(), 0);
    if (status != CACHE_OK && status != CACHE_MISS) return cache_last_error();
  }
  Complaint complaint = problems_of(cache) + disagreement_of_stats_and_scan(cache);
  if (plan_.evicts) return complaint;
  if (stats_of(cache).evictions != 0) complaint += "the cache evicted although all fits; ";
  for (std::uint32_t counter = 0; counter < kCounters; ++counter) {
    const std::string text = counter_text(counter);
    std::int64_t value = 0;
    const std::uint64_t wanted = totals_->increments[counter];
    const int status = memstream_incr(cache, text.data(), text.size(), 0, nullptr, 0, &value);
    if (wanted != 0 && (status != CACHE_OK || static_cast<std::uint64_t>(value) != wanted)) {
      complaint += text + " is " + std::to_string(value) + " after " + std::to_string(wanted) + " increments; ";
    }
  }
  return complaint;
}

}  // namespace memstream::test
