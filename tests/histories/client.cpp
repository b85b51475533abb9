#include "tests/histories/client.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include "tests/support/tagged_value.h"

namespace memstream::histories {
namespace {

using test::make_tagged;

constexpr std::size_t kPinnedSize = 32 << 10;  // From here on the library copies values outside every lock.
constexpr std::size_t kLargestValue = 100 << 10;
constexpr std::size_t kEvictingSize = 20 << 10;  // Of the values that fill a cache that has to evict.
constexpr std::size_t kMostViews = 3;
constexpr std::uint64_t kHourMs = 3'600'000;

// The caller's flags that go with a value; an increment keeps them, one that makes the key sets none.
// Half of the values have none: a put without flags takes another way than one with them.
std::uint32_t flags_of(Value value) {
  if (origin_of(value) == Origin::kInitial || write_of(value) % 2 == 0) return 0;
  return write_of(value) * 2'654'435'761U;
}

[[noreturn]] void complain(const std::string& what) { throw std::runtime_error(what); }

// What a value that was read says it is.
Value value_of(std::uint32_t key, const void* data, std::size_t size) {
  if (size >= test::kMinTaggedSize) return make_value(Origin::kBytes, test::check_tagged(key, data, size));
  Value number = 0;
  const auto* text = static_cast<const char*>(data);
  const auto [end, error] = std::from_chars(text, text + size, number);
  if (error != std::errc{} || end != text + size)
    complain("a value of " + std::to_string(size) + " bytes is no number");
  return number;
}

}  // namespace

std::string key_text(std::uint32_t key) { return "key-" + std::to_string(key); }

Client::Client(const ClientPlan& plan, memstream_t* cache, Board& board, ClientLog& log)
    : plan_(plan),
      cache_(cache),
      board_(board),
      log_(log),
      random_(static_cast<std::minstd_rand::result_type>(plan.seed)),
      room_(kLargestValue),
      seen_(plan.keys) {}

void Client::run() {
  board_.ready.fetch_add(1);
  while (!board_.begun) std::this_thread::sleep_for(kGlance);
  const Interruptions interruptions(plan_.seed);
  for (bool dies = false; log_.count < plan_.operations; step()) {
    if (dies || !plan_.dies_after || log_.count < *plan_.dies_after) continue;
    dies = true;
    Interruptions::die_soon();
  }
  release_views(0);
}

void Client::step() {
  const std::uint32_t key = below(plan_.keys);
  const std::uint32_t kind = below(100);
  if (kind < 26) return read(key);
  if (kind < 31) return view(key);
  if (kind < 35) return inspect(key);
  if (kind < 37) return scan();
  if (kind < 52) return store(key, Call::kSet);
  if (kind < 56) return store_in_place(key);
  if (kind < 61) return store(key, Call::kAdd);
  if (kind < 64) return store(key, Call::kReplace);
  if (kind < 74) return store(key, Call::kCompareAndSet);
  if (kind < 83) return remove(key);
  if (kind < 86) return touch(key);
  if (kind < 95) return increment(key);
  grow_table();
}

// ---- writing down ----

Operation& Client::append(const Operation& operation) {
  const std::uint32_t index = log_.count;
  log_.operations[index] = operation;
  log_.count.store(index + 1);
  return log_.operations[index];
}

Outcome Client::outcome_of(int status, const char* call) const {
  switch (status) {
    case CACHE_OK:
      return Outcome::kOk;
    case CACHE_MISS:
      return Outcome::kMiss;
    case CACHE_EXISTS:
      return Outcome::kExists;
    case CACHE_CONFLICT:
      return Outcome::kConflict;
    case CACHE_NOT_NUMERIC:
      return Outcome::kNotNumeric;
    case CACHE_FULL:
      if (plan_.evicts) return Outcome::kRefused;
      [[fallthrough]];
    default:
      complain(std::string(call) + ": status " + std::to_string(status) + ": " + cache_last_error());
  }
}

template <class Body>
void Client::record(Operation operation, Body call) {
  operation.client = plan_.client;
  operation.invoked = board_.tick();
  Operation& noted = append(operation);
  const int status = call(noted);
  noted.outcome = outcome_of(status, key_text(operation.key).c_str());
  noted.returned = board_.tick();
}

void Client::note_read(Operation& operation, const void* data, std::size_t size, const memstream_meta_t& meta) {
  operation.result = value_of(operation.key, data, size);
  operation.token = meta.cas;
  if (meta.flags != flags_of(operation.result)) {
    complain(key_text(operation.key) + ": the flags " + std::to_string(meta.flags) + " belong to another value");
  }
  seen_[operation.key] = {meta.cas, operation.result};
}

// ---- reading ----

void Client::read(std::uint32_t key) {
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kRead}, [&](Operation& noted) {
    std::size_t size = room_.size();
    memstream_meta_t meta{};
    const int status = memstream_get(cache_, text.data(), text.size(), room_.data(), &size, &meta);
    if (status == CACHE_OK) note_read(noted, room_.data(), size, meta);
    return status;
  });
}

void Client::view(std::uint32_t key) {
  release_views(kMostViews - 1);
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kRead}, [&](Operation& noted) {
    memstream_view_t view{};
    const int status = memstream_view(cache_, text.data(), text.size(), &view);
    if (status != CACHE_OK) return status;
    note_read(noted, view.data, view.size, view.meta);
    views_.push_back({view, key, noted.result});
    return status;
  });
}

// Ends views until there are `most`; each must still show the value that it showed at first.
void Client::release_views(std::size_t most) {
  while (views_.size() > most) {
    std::swap(views_[below(static_cast<std::uint32_t>(views_.size()))], views_.back());
    HeldView held = views_.back();
    views_.pop_back();
    if (value_of(held.key, held.view.data, held.view.size) != held.value) complain("the bytes under a view changed");
    outcome_of(memstream_release(cache_, &held.view), "release");
  }
}

// Learns the token of a value, and not the value.
void Client::inspect(std::uint32_t key) {
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kRead}, [&](Operation& noted) {
    memstream_entry_t entry{};
    const int status = memstream_entry_info(cache_, text.data(), text.size(), &entry);
    if (status == CACHE_OK) noted.token = entry.cas;
    return status;
  });
}

// A scan that shows a key has seen its value at some moment between its beginning and its end.
void Client::scan() {
  const std::uint64_t invoked = board_.tick();
  std::vector<Operation> found;
  std::uint64_t cursor = 0;
  do {
    memstream_entry_t entries[16];
    std::size_t count = 0;
    outcome_of(memstream_scan(cache_, &cursor, entries, std::size(entries), &count), "scan");
    for (std::size_t i = 0; i < count; ++i) {
      for (std::uint32_t key = 0; key < plan_.keys; ++key) {
        if (std::string_view(entries[i].key, entries[i].key_size) != key_text(key)) continue;
        found.push_back({.invoked = invoked, .client = plan_.client, .key = key, .token = entries[i].cas});
      }
    }
  } while (cursor != 0);
  const std::uint64_t returned = board_.tick();
  for (Operation& operation : found) {
    operation.outcome = Outcome::kOk;
    operation.returned = returned;
    if (log_.count < plan_.operations) append(operation);
  }
}

void Client::read_all() {
  for (std::uint32_t key = 0; key < plan_.keys; ++key) read(key);
}

// ---- writing ----

// The write that is noted next.
std::uint32_t Client::write_number() const { return plan_.client * kMostOperations + log_.count + 1; }

std::size_t Client::choose_size() {
  const std::uint32_t kind = below(20);
  if (kind < 12) return test::kMinTaggedSize + below(1500);
  if (kind < 18) return 1500 + below(kPinnedSize - 1500);
  return kPinnedSize + below(kLargestValue - kPinnedSize);
}

Value Client::new_bytes(std::uint32_t key) {
  make_tagged(key, write_number(), choose_size(), &value_);
  return make_value(Origin::kBytes, write_number());
}

Value Client::new_number() {
  const Value value = make_value(Origin::kNumber, write_number());
  const std::string text = std::to_string(value);
  value_.resize(text.size());
  std::memcpy(value_.data(), text.data(), text.size());
  return value;
}

void Client::store(std::uint32_t key, Call call) {
  const Seen seen = seen_[key];
  if (call == Call::kCompareAndSet && seen.value == kAbsent) return read(key);
  const Value value = below(3) == 0 ? new_number() : new_bytes(key);
  const std::string text = key_text(key);
  const auto store = [&](auto* function) {
    return function(cache_, text.data(), text.size(), value_.data(), value_.size(), 0, flags_of(value));
  };
  const Value expected = call == Call::kCompareAndSet ? seen.value : kAbsent;
  record({.key = key, .call = call, .argument = value, .expected = expected}, [&](Operation&) {
    if (call == Call::kAdd) return store(&memstream_add);
    if (call == Call::kReplace) return store(&memstream_replace);
    if (call == Call::kSet) return store(&memstream_set);
    return memstream_cas(cache_, text.data(), text.size(), value_.data(), value_.size(), 0, flags_of(value),
                         seen.token);
  });
}

// Through a reservation; some are given up, and then nothing may come of them.
void Client::store_in_place(std::uint32_t key) {
  const Value value = new_bytes(key);
  const std::string text = key_text(key);
  memstream_reservation_t reservation{};
  outcome_of(memstream_reserve(cache_, text.data(), text.size(), value_.size(), &reservation), "reserve");
  std::memcpy(reservation.data, value_.data(), value_.size());
  if (below(4) == 0) {
    outcome_of(memstream_abort(cache_, &reservation), "abort");
    return;
  }
  record({.key = key, .call = Call::kSet, .argument = value},
         [&](Operation&) { return memstream_commit(cache_, &reservation, 0, flags_of(value)); });
}

void Client::remove(std::uint32_t key) {
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kDelete},
         [&](Operation&) { return memstream_delete(cache_, text.data(), text.size()); });
}

void Client::touch(std::uint32_t key) {
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kTouch},
         [&](Operation&) { return memstream_touch(cache_, text.data(), text.size(), below(2) == 0 ? 0 : kHourMs); });
}

void Client::increment(std::uint32_t key) {
  const Value begins = below(2) == 0 ? kAbsent : make_value(Origin::kInitial, write_number());
  const std::string text = key_text(key);
  record({.key = key, .call = Call::kIncrement, .argument = begins}, [&](Operation& noted) {
    const auto initial = static_cast<std::int64_t>(begins);
    std::int64_t result = 0;
    const int status =
        memstream_incr(cache_, text.data(), text.size(), 1, begins == kAbsent ? nullptr : &initial, 0, &result);
    if (status == CACHE_OK) noted.result = static_cast<Value>(result);
    return status;
  });
}

// A key of its own: enough of them make the table grow, and split the buckets that the others look into.
void Client::grow_table() {
  const std::string text = "filler-" + std::to_string(plan_.client) + "-" + std::to_string(fillers_++);
  const std::size_t size = plan_.evicts ? kEvictingSize : text.size();
  outcome_of(memstream_set(cache_, text.data(), text.size(), room_.data(), size, 0, 0), "set");
}

}  // namespace memstream::histories
