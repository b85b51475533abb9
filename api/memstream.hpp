// MemStream for C++20: memstream.h with owners instead of handles, and types instead of pointers and sizes.
//
// START HERE:
//
//   #include <memstream/memstream.hpp>
//
//   auto cache = memstream::Cache::open({.name = "quotes"}).value();
//   cache.set("EURUSD", Quote{1.07, 1.08}, {.ttl = 60s}).value();
//   if (auto quote = cache.get<Quote>("EURUSD")) use(*quote);
//
// Rules. They hold for every class of this header, besides those of cache.h and memstream.h.
//
//  1. Cache returns a Result: a value, or an Error with a status and a message. It throws nothing but std::bad_alloc.
//     ThrowingCache has the same members. It throws an Exception for an error; expected outcomes such as CACHE_MISS are
//     an empty std::optional, or false.
//  2. A key is a std::string_view of 1 to CACHE_MAX_KEY_SIZE bytes of any value. A value is anything that Bytes takes.
//  3. A cache, a view, a reservation, a permit and a lease end what they own when they are destroyed. All of them can
//     be moved. A moved-from one owns nothing and must not be used. All others end before their cache.
//  4. All threads may use one cache at the same time, except to move, close or assign it.
//  5. All durations are milliseconds. A time to live of 0 means for ever.
//  6. The comment of each member names the function of the C interface that it calls. docs/reference-c.md has its
//     statuses.
#ifndef MEMSTREAM_MEMSTREAM_HPP
#define MEMSTREAM_MEMSTREAM_HPP

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <type_traits>

#include "memstream_bytes.hpp"
#include "memstream_limits.h"
#include "memstream_metrics.h"
#include "memstream_result.hpp"
#include "memstream_tags.h"
#include "memstream_watch.h"

namespace memstream {
inline namespace cxx1 {

// The structs of the C interface.
using Entry = memstream_entry_t;
using Info = memstream_info_t;
using Item = memstream_item_t;
using LimitInfo = memstream_limit_info_t;
using LockHolder = memstream_lock_holder_t;
using Meta = memstream_meta_t;
using Metrics = memstream_metrics_t;
using Process = memstream_process_t;
using RepairReport = memstream_repair_report_t;
using ReapReport = memstream_reap_report_t;
using ResizeReport = memstream_resize_report_t;
using Segment = memstream_segment_t;
using Stats = cache_stats_t;
using Usage = memstream_usage_t;

// ---- Options ----

// How to open a cache. A member that is not given takes its value from the environment, as memstream_options_t says.
struct Options {
  std::string backend{};
  std::string name{};
  std::uint64_t size_bytes = 0;
  std::uint32_t shards = 0;
  std::uint32_t mode = 0;
  std::chrono::milliseconds timeout{-1};
  bool read_only = false;  // MEMSTREAM_OPEN_READ_ONLY.
  bool existing = false;   // MEMSTREAM_OPEN_EXISTING.
  bool any_owner = false;  // MEMSTREAM_OPEN_ANY_OWNER.
  std::string hugepages{};
  std::string prefault{};
  std::string group{};
  std::uint64_t max_value = 0;
  std::string owner{};
  std::string checksum{};
};

// Tags as they were when BasicCache::tags() took them. C: memstream_tags_t.
using Tags = memstream_tags_t;

// How to store a value.
struct SetOptions {
  std::chrono::milliseconds ttl{0};  // Time to live. 0: the entry never expires.
  std::uint32_t flags = 0;           // 32 bits of the caller, stored with the value.
  const Tags* tags = nullptr;        // Groups that the entry belongs to. Null: none.
};

// How often a key may be used: evenly, and `burst` times together after a pause.
struct Rate {
  std::uint64_t requests = 1;              // In each period.
  std::chrono::milliseconds period{1000};  // At least 1 ms.
  std::uint64_t burst = 0;                 // 0: as many as `requests`.
};

// How to ask for a lease.
struct LeaseOptions {
  std::uint64_t stale_cas = 0;  // Meta::cas of a stale entry. 0: only if the key has no entry.
  std::chrono::milliseconds lease{
      0};  // After this time another caller may take it. 0: it lives as long as its process.
};

// How to compute a value once for all processes.
struct MemoizeOptions {
  std::chrono::milliseconds ttl{0};        // As in SetOptions.
  std::uint32_t flags = 0;                 // As in SetOptions.
  std::chrono::milliseconds wait{10'000};  // Longest wait for another caller that computes.
  std::chrono::milliseconds lease{0};      // As in LeaseOptions.
  // Receives the error of a value that was computed and could not be stored. The call returns the value all the same.
  std::function<void(const Error&)> not_stored{};
};

// A key with what to store under it, for set_many().
struct KeyValue {
  std::string_view key;
  Bytes value;
  SetOptions options{};
};

// What check() found.
struct CheckReport {
  std::uint64_t problems = 0;
  std::string description{};  // The first ones. Empty if there are none.
};

// The key of an entry. Lives as long as the entry.
inline std::string_view key_of(const Entry& entry) noexcept { return {entry.key, entry.key_size}; }

// Whether an entry has tags. C: memstream_entry_has_tags().
inline bool has_tags(const Entry& entry) noexcept { return memstream_entry_has_tags(&entry) != 0; }

// The version of the library that is loaded, as MEMSTREAM_VERSION_NUMBER. C: memstream_version().
inline std::uint32_t library_version() noexcept { return memstream_version(); }

// The lowest value that an element of a histogram of Metrics counts. C: memstream_bucket_bound().
inline std::uint64_t bucket_bound(std::size_t bucket) noexcept { return memstream_bucket_bound(bucket); }

namespace detail {

// How many bytes a get of unknown size tries first. Larger values take a second call.
inline constexpr std::size_t kFirstTry = 1024;

inline Result<void> done_or_error(int status) {
  if (status == CACHE_OK) return {};
  return Error::of(status);
}

inline memstream_options_t options_of(const Options& options) noexcept {
  const auto text = [](const std::string& given) { return given.empty() ? nullptr : given.c_str(); };
  memstream_options_t result;
  memstream_options_init_sized(&result, sizeof result);
  result.backend = text(options.backend);
  result.name = text(options.name);
  result.size_bytes = options.size_bytes;
  result.shards = options.shards;
  result.mode = options.mode;
  result.timeout_ms = options.timeout.count();
  result.flags = (options.read_only ? static_cast<std::uint32_t>(MEMSTREAM_OPEN_READ_ONLY) : 0) |
                 (options.existing ? static_cast<std::uint32_t>(MEMSTREAM_OPEN_EXISTING) : 0) |
                 (options.any_owner ? static_cast<std::uint32_t>(MEMSTREAM_OPEN_ANY_OWNER) : 0);
  result.hugepages = text(options.hugepages);
  result.prefault = text(options.prefault);
  result.group = text(options.group);
  result.max_value = options.max_value;
  result.owner = text(options.owner);
  result.checksum = text(options.checksum);
  return result;
}

// The handle of a cache.
struct Closer {
  void operator()(memstream_t* cache) const noexcept { memstream_close(cache); }
};
using Handle = std::unique_ptr<memstream_t, Closer>;

inline Result<Handle> open(const Options& options) {
  const memstream_options_t given = options_of(options);
  memstream_t* cache = nullptr;
  const int status = memstream_open(&given, &cache);
  if (status != CACHE_OK) return Error::of(status);
  return Handle(cache);
}

// Apart from the get, whose usual way stays short.
template <Plain T>
[[gnu::cold, gnu::noinline]] void fail_get(Result<T>& result, int status, std::size_t size) {
  const bool has_value = status == CACHE_OK || status == CACHE_TOO_SMALL;
  result = has_value ? wrong_size(size, sizeof(T), "") : Error::of(status);
}

// Reads a value by one of the functions that do: call(buffer, &size).
template <Plain T, class Call>
[[gnu::always_inline]] inline Result<T> read(const Call& call) {
  Result<T> result{Unfilled{}};
  std::size_t size = sizeof(T);
  const int status = call(&*result, &size);
  if (status != CACHE_OK || size != sizeof(T)) [[unlikely]] {
    fail_get(result, status, size);
  }
  return result;
}

template <Value T, class Call>
requires(!Plain<T>) Result<T> read(const Call& call) {
  std::array<std::byte, kFirstTry> first;
  std::size_t size = first.size();
  int status = call(first.data(), &size);
  if (status == CACHE_OK) return decode<T>(std::span(first).first(size));
  while (status == CACHE_TOO_SMALL) {  // Another process may store a larger value between the calls.
    using Element = typename T::value_type;
    T value((size + sizeof(Element) - 1) / sizeof(Element), Element{});
    size = value.size() * sizeof(Element);
    status = call(value.data(), &size);
    if (status != CACHE_OK) continue;
    if (size % sizeof(Element) != 0) return wrong_size(size, sizeof(Element), "a multiple of ");
    value.resize(size / sizeof(Element));
    return value;
  }
  return Error::of(status);
}

template <Value T>
[[gnu::always_inline]] inline Result<T> get(memstream_t* cache, std::string_view key, Meta* meta = nullptr) {
  return read<T>([&](void* buffer, std::size_t* size) {
    return memstream_get(cache, key.data(), key.size(), buffer, size, meta);
  });
}

// Calls one of the functions that store: store(key, key_size, value, value_size, ttl_ms, flags).
template <class Store>
Result<void> store(std::string_view key, Bytes value, const SetOptions& options, Store&& call) {
  if (auto error = refuse_negative("ttl", options.ttl)) return *std::move(error);
  return done_or_error(call(key.data(), key.size(), value.data(), value.size(), count_of(options.ttl), options.flags));
}

// A lease, which is released unless it was ended before.
class HeldLease {
 public:
  HeldLease(memstream_t* cache, std::string_view key, std::uint64_t token) : cache_(cache), key_(key), token_(token) {}
  HeldLease(HeldLease&& other) noexcept
      : cache_(other.cache_), key_(std::move(other.key_)), token_(std::exchange(other.token_, 0)) {}
  HeldLease& operator=(HeldLease&& other) noexcept {
    HeldLease old(std::move(*this));
    cache_ = other.cache_;
    key_ = std::move(other.key_);
    token_ = std::exchange(other.token_, 0);
    return *this;
  }
  ~HeldLease() {
    if (token_ != 0) memstream_lease_release(cache_, key_.data(), key_.size(), token_);
  }

  Result<void> fulfil(Bytes value, const SetOptions& options) {
    auto result = store(key_, value, options, [&](auto... given) {
      return options.tags != nullptr ? memstream_store_tagged(cache_, given..., MEMSTREAM_FULFIL, token_, options.tags)
                                     : memstream_lease_fulfil(cache_, given..., token_);
    });
    if (result || result.status() == CACHE_CONFLICT) token_ = 0;
    return result;
  }
  Result<void> release() {
    const int status = memstream_lease_release(cache_, key_.data(), key_.size(), token_);
    if (status == CACHE_OK || status == CACHE_CONFLICT) token_ = 0;
    return done_or_error(status);
  }

  const std::string& key() const noexcept { return key_; }
  std::uint64_t token() const noexcept { return token_; }

 private:
  memstream_t* cache_;
  std::string key_;
  std::uint64_t token_;  // 0: ended.
};

inline Result<HeldLease> lease(memstream_t* cache, std::string_view key, const LeaseOptions& options) {
  if (auto error = refuse_negative("lease", options.lease)) return *std::move(error);
  std::uint64_t token = 0;
  const int status = memstream_lease(cache, key.data(), key.size(), options.stale_cas, count_of(options.lease), &token);
  if (status != CACHE_OK) return Error::of(status);
  return HeldLease(cache, key, token);
}

// What a caller of memoize() does next.
enum class Turn { kLook, kComputeAlone };

// Waits for the caller that computes.
inline Result<Turn> follow(memstream_t* cache, std::string_view key, std::chrono::steady_clock::time_point start,
                           std::chrono::milliseconds wait) {
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  std::uint64_t followed = 0;
  const int status =
      memstream_lease_follow(cache, key.data(), key.size(), &followed, count_of(std::max(wait - passed, {})));
  switch (status) {
    case CACHE_MISS:  // The holder died: the next round asks for the lease.
      return Turn::kLook;
    case CACHE_OK:    // It ended. If there is no value, its holder had none to give.
    case CACHE_HELD:  // Time is over.
      return Turn::kComputeAlone;
    default:
      return Error::of(status);
  }
}

template <Value T, class Compute>
Result<T> memoize(memstream_t* cache, std::string_view key, Compute&& compute, const MemoizeOptions& options) {
  for (const auto& [name, duration] :
       {std::pair("ttl", options.ttl), std::pair("wait", options.wait), std::pair("lease", options.lease)}) {
    if (auto error = refuse_negative(name, duration)) return *std::move(error);
  }
  const SetOptions storing{.ttl = options.ttl, .flags = options.flags};
  const auto report = [&](const Result<void>& stored) {
    if (!stored && !stored.error().is_expected() && options.not_stored) options.not_stored(stored.error());
  };
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    Result<T> found = get<T>(cache, key);
    if (found.status() != CACHE_MISS) return found;
    Result<HeldLease> held = lease(cache, key, {.lease = options.lease});
    if (held) {
      T value = std::invoke(std::forward<Compute>(compute));  // An exception ends the lease.
      // CACHE_CONFLICT: another write or a delete came after the lease, and is newer.
      report(held->fulfil(value, storing));
      return value;
    }
    bool computes = held.status() == CACHE_PROCESS_TABLE_FULL;
    if (held.status() == CACHE_HELD) {
      const Result<Turn> turn = follow(cache, key, start, options.wait);
      if (!turn) return turn.error();
      computes = *turn == Turn::kComputeAlone;
      if (computes) {
        found = get<T>(cache, key);
        if (found.status() != CACHE_MISS) return found;
      }
    } else if (held.status() != CACHE_EXISTS && !computes) {
      return held.error();
    }
    if (computes) {
      T value = std::invoke(std::forward<Compute>(compute));
      report(store(key, value, storing, [&](auto... arguments) { return memstream_add(cache, arguments...); }));
      return value;
    }
  }
}

// Calls list(array, capacity, &count) until the array holds all that there is.
template <class Element, class List>
Result<std::vector<Element>> listed(std::size_t first_capacity, List&& list) {
  std::vector<Element> elements(first_capacity);
  for (;;) {
    std::size_t count = 0;
    const int status = list(elements.data(), elements.size(), &count);
    if (status != CACHE_OK) return Error::of(status);
    const bool is_complete = count <= elements.size();
    elements.resize(count);
    if (is_complete) return elements;
  }
}

}  // namespace detail

// The names of the backends, the default one first. C: memstream_backend_name().
inline std::vector<std::string_view> backends() {
  std::vector<std::string_view> names;
  while (const char* name = memstream_backend_name(names.size())) names.emplace_back(name);
  return names;
}

// The segments of this machine on a backend. C: memstream_segments().
inline Result<std::vector<Segment>> segments(const std::string& backend) {
  return detail::listed<Segment>(16, [&](Segment* array, std::size_t capacity, std::size_t* count) {
    return memstream_segments(backend.c_str(), array, sizeof(Segment), capacity, count);
  });
}

// Destroys a segment by its name, without opening it. C: memstream_destroy_named().
inline Result<void> destroy(const Options& options) {
  const memstream_options_t given = detail::options_of(options);
  return detail::done_or_error(memstream_destroy_named(&given));
}

// ---- Views, reservations, leases ----

// A value where it lies. Its bytes do not change while it lives. C: memstream_view().
//
// OWNS: a pin on the value. Any thread may read and destroy it. A forked child must not use it.
class View {
 public:
  View(memstream_t* cache, const memstream_view_t& view) noexcept : cache_(cache), view_(view) {}
  View(View&& other) noexcept : cache_(std::exchange(other.cache_, nullptr)), view_(other.view_) {}
  View& operator=(View&& other) noexcept {
    View old(std::move(*this));
    cache_ = std::exchange(other.cache_, nullptr);
    view_ = other.view_;
    return *this;
  }
  ~View() {
    if (cache_ != nullptr) memstream_release(cache_, &view_);
  }

  std::span<const std::byte> bytes() const noexcept { return {static_cast<const std::byte*>(view_.data), view_.size}; }
  std::string_view text() const noexcept { return {static_cast<const char*>(view_.data), view_.size}; }
  // The value as an object in place. kWrongSize if it has another size. The pointer lives as long as the view.
  template <Plain T>
  Result<const T*> as() const {
    static_assert(alignof(T) <= 16, "a value is aligned to 16 bytes");
    if (view_.size != sizeof(T)) return detail::wrong_size(view_.size, sizeof(T), "");
    return static_cast<const T*>(view_.data);
  }
  // The value as an array in place. kWrongSize if it is no multiple of an element. It lives as long as the view.
  template <Plain T>
  Result<std::span<const T>> as_array() const {
    static_assert(alignof(T) <= 16, "a value is aligned to 16 bytes");
    if (view_.size % sizeof(T) != 0) return detail::wrong_size(view_.size, sizeof(T), "a multiple of ");
    return std::span(static_cast<const T*>(view_.data), view_.size / sizeof(T));
  }
  const Meta& meta() const noexcept { return view_.meta; }
  // Whether it shows the segment and not a copy of the library's. C: memstream_view_in_place().
  Result<bool> in_place() const {
    int result = 0;
    const int status = memstream_view_in_place(cache_, &view_, &result);
    if (status != CACHE_OK) return Error::of(status);
    return result != 0;
  }
  // Ends the view. C: memstream_release().
  Result<void> release() {
    const int status = memstream_release(cache_, &view_);
    if (status == CACHE_OK) cache_ = nullptr;
    return detail::done_or_error(status);
  }

 private:
  memstream_t* cache_;  // NULL: ended or moved.
  memstream_view_t view_;
};

// Memory in the segment for a value that is not stored yet. C: memstream_reserve().
//
// OWNS: the memory. The destructor aborts what was not committed.
class Reservation {
 public:
  Reservation(memstream_t* cache, const memstream_reservation_t& room) noexcept : cache_(cache), room_(room) {}
  Reservation(Reservation&& other) noexcept : cache_(other.cache_), room_(std::exchange(other.room_, {})) {}
  Reservation& operator=(Reservation&& other) noexcept {
    Reservation old(std::move(*this));
    cache_ = other.cache_;
    room_ = std::exchange(other.room_, {});
    return *this;
  }
  ~Reservation() {
    if (room_.token != 0) memstream_abort(cache_, &room_);
  }

  // The bytes to fill. Undefined at first.
  std::span<std::byte> bytes() const noexcept { return {static_cast<std::byte*>(room_.data), room_.size}; }
  // Makes it the value of its key. After CACHE_BUSY commit again. CACHE_INVALID: a reservation takes no tags.
  // C: memstream_commit().
  Result<void> commit(const SetOptions& options = {}) {
    if (options.tags != nullptr)
      return Error(CACHE_INVALID, "Invalid tags of a reservation: expected none. Store the value by set().");
    if (auto error = detail::refuse_negative("ttl", options.ttl)) return *std::move(error);
    return detail::done_or_error(memstream_commit(cache_, &room_, detail::count_of(options.ttl), options.flags));
  }
  // Ends it without a value. C: memstream_abort().
  Result<void> abort() { return detail::done_or_error(memstream_abort(cache_, &room_)); }

 private:
  memstream_t* cache_;
  memstream_reservation_t room_;  // The library zeroes it when it ends.
};

// One permit of a semaphore. C: memstream_semaphore_acquire().
//
// OWNS: the permit. The destructor gives it back, in any thread. A forked child does not have it. A process that ends
// in any way gives it back, too.
class Permit {
 public:
  Permit(memstream_t* cache, std::string name, std::uint64_t permit) noexcept
      : cache_(cache), name_(std::move(name)), permit_(permit) {}
  Permit(Permit&& other) noexcept
      : cache_(other.cache_), name_(std::move(other.name_)), permit_(std::exchange(other.permit_, 0)) {}
  Permit& operator=(Permit&& other) noexcept {
    Permit old(std::move(*this));
    cache_ = other.cache_;
    name_ = std::move(other.name_);
    permit_ = std::exchange(other.permit_, 0);
    return *this;
  }
  ~Permit() {
    if (permit_ != 0) memstream_semaphore_release(cache_, name_.data(), name_.size(), permit_);
  }

  // Gives it back. CACHE_CONFLICT: it was given back already. C: memstream_semaphore_release().
  Result<void> release() {
    const int status = memstream_semaphore_release(cache_, name_.data(), name_.size(), permit_);
    if (status == CACHE_OK) permit_ = 0;
    return detail::done_or_error(status);
  }

 private:
  memstream_t* cache_;
  std::string name_;
  std::uint64_t permit_;  // 0: given back or moved.
};

// The right to compute the value of a key. C: memstream_lease().
//
// OWNS: the lease. The destructor releases it. Any thread may fulfil it. A forked child does not have it.
template <class Face>
class BasicLease {
 public:
  explicit BasicLease(detail::HeldLease held) noexcept : held_(std::move(held)) {}

  // Stores the value and ends the lease. CACHE_CONFLICT: the lease had ended. C: memstream_lease_fulfil().
  typename Face::template Maybe<void> fulfil(Bytes value, const SetOptions& options = {}) {
    return Face::maybe([&] { return held_.fulfil(value, options); });
  }
  // Ends the lease without a value. C: memstream_lease_release().
  typename Face::template Maybe<void> release() {
    return Face::maybe([&] { return held_.release(); });
  }
  const std::string& key() const noexcept { return held_.key(); }
  // The lease for the C interface. 0: it has ended.
  std::uint64_t token() const noexcept { return held_.token(); }

 private:
  detail::HeldLease held_;
};

// Keys under a prefix that change, in whatever process. C: memstream_watch().
//
// OWNS: the watch. The destructor ends it. It may end after its cache. A forked child begins a watch of its own.
template <class Face>
class BasicWatch {
 public:
  // Takes over a watch of the C interface.
  explicit BasicWatch(memstream_watch_t* watch) noexcept : watch_(watch) {}
  BasicWatch(BasicWatch&& other) noexcept : watch_(std::exchange(other.watch_, nullptr)) {}
  BasicWatch& operator=(BasicWatch&& other) noexcept {
    BasicWatch old(std::move(*this));
    watch_ = std::exchange(other.watch_, nullptr);
    return *this;
  }
  ~BasicWatch() { memstream_watch_end(&watch_); }

  // For poll() and the like: readable as long as next() has something to tell. Do not read from it. -1: the watch was
  // moved. C: memstream_watch_fd().
  int descriptor() const noexcept { return memstream_watch_fd(watch_); }
  // A key that has changed. An empty one says "look again": any key under the prefix may have changed. CACHE_MISS:
  // nothing has changed within that time. CACHE_GONE: begin another watch. C: memstream_watch_next().
  typename Face::template Maybe<std::string> next(std::chrono::milliseconds timeout) {
    return Face::maybe([&]() -> Result<std::string> {
      if (auto error = detail::refuse_negative("timeout", timeout)) return *std::move(error);
      std::array<char, CACHE_MAX_KEY_SIZE> key;
      std::size_t size = key.size();
      const int status = memstream_watch_next(watch_, key.data(), &size, detail::count_of(timeout));
      if (status != CACHE_OK) return Error::of(status);
      return std::string(key.data(), size);
    });
  }

 private:
  memstream_watch_t* watch_;  // NULL: moved.
};

// ---- Scans and batches ----

// The entries of a cache, as an input range. Each begin() goes on where the last iterator was. C: memstream_scan().
//
// A scan with the face Results ends at an error, which result() gives. With the face Throws it throws.
template <class Face>
class BasicScan : public std::ranges::view_base {
 public:
  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = Entry;
    using difference_type = std::ptrdiff_t;

    Iterator() = default;
    explicit Iterator(BasicScan* scan) : scan_(scan) {}
    const Entry& operator*() const noexcept { return scan_->entries_[scan_->place_]; }
    const Entry* operator->() const noexcept { return &**this; }
    Iterator& operator++() {
      ++scan_->place_;
      scan_->fill();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& iterator, std::default_sentinel_t) noexcept { return iterator.is_at_end(); }

   private:
    bool is_at_end() const noexcept { return scan_->place_ == scan_->count_; }

    BasicScan* scan_ = nullptr;
  };

  BasicScan(memstream_t* cache, std::size_t batch) : cache_(cache), entries_(std::max<std::size_t>(batch, 1)) {}
  BasicScan(BasicScan&&) noexcept = default;
  BasicScan& operator=(BasicScan&&) noexcept = default;

  Iterator begin() {
    fill();
    return Iterator(this);
  }
  std::default_sentinel_t end() const noexcept { return {}; }
  // Whether the scan has met an error so far.
  Result<void> result() const { return result_; }

 private:
  // Fetches the next entries, unless there are some left or the scan is over.
  void fill() {
    while (place_ == count_ && !is_over_) {
      place_ = count_ = 0;
      const int status = memstream_scan(cache_, &cursor_, entries_.data(), entries_.size(), &count_);
      is_over_ = status != CACHE_OK || cursor_ == 0;
      if (status != CACHE_OK) {
        count_ = 0;
        result_ = Error::of(status);
        if constexpr (std::same_as<Face, Throws>) result_.value();
      }
    }
  }

  memstream_t* cache_;
  std::vector<Entry> entries_;
  std::size_t place_ = 0;
  std::size_t count_ = 0;
  std::uint64_t cursor_ = 0;
  bool is_over_ = false;
  Result<void> result_;
};

// The values of many keys, in the order of the keys. C: memstream_get_many_sized().
//
// OWNS: the values.
class Found {
 public:
  explicit Found(std::span<const std::string_view> keys) : items_(keys.size()) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      items_[i].key = keys[i].data();
      items_[i].key_size = keys[i].size();
    }
  }

  std::size_t size() const noexcept { return items_.size(); }
  // CACHE_OK or CACHE_MISS.
  int status(std::size_t place) const noexcept { return items_[place].status; }
  bool contains(std::size_t place) const noexcept { return items_[place].status == CACHE_OK; }
  // The bytes of a value. Empty if the key has none.
  std::span<const std::byte> bytes(std::size_t place) const noexcept {
    const Item& item = items_[place];
    return {static_cast<const std::byte*>(item.value), contains(place) ? item.value_size : 0};
  }
  std::string_view text(std::size_t place) const noexcept {
    return {reinterpret_cast<const char*>(bytes(place).data()), bytes(place).size()};
  }
  // The value as an object. CACHE_MISS if the key has none.
  template <Value T>
  Result<T> get(std::size_t place) const {
    if (!contains(place)) return Error::of(items_[place].status);
    return detail::decode<T>(bytes(place));
  }
  Meta meta(std::size_t place) const noexcept {
    const Item& item = items_[place];
    return {item.cas, item.created_at_ms, item.expires_at_ms, item.flags, 0};
  }

  // For this header: fetches the values, all of one instant.
  Result<void> fetch_consistent(memstream_t* cache) {
    std::size_t size = items_.size() * 128;
    for (;;) {
      buffers_.assign(1, std::vector<std::byte>(size + 1));
      const int status = memstream_get_many_consistent(cache, items_.data(), sizeof(Item), items_.size(),
                                                       buffers_.front().data(), &size, 0);
      if (status == CACHE_OK) return {};
      if (status != CACHE_TOO_SMALL) return Error::of(status);
    }
  }
  // For this header: fetches the values.
  Result<void> fetch(memstream_t* cache) {
    std::size_t size = items_.size() * 128;  // A guess. The values that do not fit are fetched by themselves.
    std::vector<std::size_t> places(items_.size());
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = i;
    while (!places.empty()) {
      std::vector<Item> asked(places.size());
      for (std::size_t i = 0; i < places.size(); ++i) asked[i] = items_[places[i]];
      auto& buffer = buffers_.emplace_back(size + 1);
      const int status =
          memstream_get_many_sized(cache, asked.data(), sizeof(Item), asked.size(), buffer.data(), &size);
      if (status != CACHE_OK && status != CACHE_TOO_SMALL) return Error::of(status);
      std::vector<std::size_t> left;
      size = 0;
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (asked[i].status == CACHE_TOO_SMALL) {
          left.push_back(places[i]);
          size += (asked[i].value_size + 15) / 16 * 16;
          asked[i] = {.key = asked[i].key,
                      .key_size = asked[i].key_size,
                      .value = nullptr,
                      .value_size = 0,
                      .ttl_ms = 0,
                      .cas = 0,
                      .created_at_ms = 0,
                      .expires_at_ms = 0,
                      .flags = 0,
                      .status = 0};
        }
        items_[places[i]] = asked[i];
      }
      places = std::move(left);
    }
    return {};
  }

 private:
  std::vector<Item> items_;
  std::vector<std::vector<std::byte>> buffers_;
};

// ---- The cache ----

// An open cache. Use it as Cache or ThrowingCache.
//
// OWNS: the handle. The destructor closes it. The segment and its entries stay.
template <class Face>
class BasicCache {
 public:
  template <class T>
  using Maybe = typename Face::template Maybe<T>;
  template <class T>
  using Sure = typename Face::template Sure<T>;
  using Lease = BasicLease<Face>;
  using Scan = BasicScan<Face>;
  using Watch = BasicWatch<Face>;

  // Opens a cache, and creates the segment if it does not exist. C: memstream_open().
  static Sure<BasicCache> open(const Options& options = {}) {
    return Face::sure([&]() -> Result<BasicCache> {
      Result<detail::Handle> handle = detail::open(options);
      if (!handle) return handle.error();
      return BasicCache(*std::move(handle));
    });
  }
  // Takes over a handle of the C interface.
  static BasicCache adopt(memstream_t* handle) noexcept { return BasicCache(detail::Handle(handle)); }
  // The handle for the C interface. It belongs to the cache.
  memstream_t* handle() const noexcept { return handle_.get(); }
  // Gives up the handle: the caller closes it, or another cache adopts it.
  memstream_t* release() noexcept { return handle_.release(); }

  // Tells how the segment differs from what was asked for. Lives as long as the cache. C: memstream_open_note().
  std::string_view open_note() const noexcept { return memstream_open_note(handle()); }
  // Describes the segment. Its texts live as long as the cache. C: memstream_info().
  Sure<Info> info() const {
    return Face::sure([&] { return sized<Info>(memstream_info); });
  }
  // Closes the cache. It must not be used afterwards. C: memstream_close().
  Sure<void> close() {
    return Face::sure([&] { return detail::done_or_error(memstream_close(handle_.release())); });
  }
  // Destroys the segment. Other processes get CACHE_GONE. C: memstream_destroy().
  Sure<void> destroy() {
    return Face::sure([&] { return detail::done_or_error(memstream_destroy(handle())); });
  }

  // ---- Entries ----

  // Copies the value of a key. CACHE_MISS: it has none. kWrongSize: the value is no T. C: memstream_get().
  //
  // A plain T takes one call. A std::string or std::vector takes a second one for a value above 1 KiB.
  template <Value T>
  Maybe<T> get(std::string_view key) const {
    return Face::maybe([&] { return detail::get<T>(handle(), key); });
  }
  // As get(), and fills what else is known of the entry.
  template <Value T>
  Maybe<T> get(std::string_view key, Meta& meta) const {
    return Face::maybe([&] { return detail::get<T>(handle(), key, &meta); });
  }
  // As get(), and gives the entry a new time to live in the same step; 0: for ever. An entry that replaces it meanwhile
  // keeps its own. C: memstream_get_and_touch().
  template <Value T>
  Maybe<T> get_and_touch(std::string_view key, std::chrono::milliseconds ttl, Meta* meta = nullptr) {
    return Face::maybe([&]() -> Result<T> {
      if (auto error = detail::refuse_negative("ttl", ttl)) return *std::move(error);
      return detail::read<T>([&](void* buffer, std::size_t* size) {
        return memstream_get_and_touch(handle(), key.data(), key.size(), detail::count_of(ttl), buffer, size, meta);
      });
    });
  }
  // Copies the value into a buffer and returns its size. CACHE_TOO_SMALL: nothing is copied. C: memstream_get().
  Maybe<std::size_t> get_into(std::string_view key, std::span<std::byte> buffer, Meta* meta = nullptr) const {
    return Face::maybe([&]() -> Result<std::size_t> {
      std::size_t size = buffer.size();
      const int status = memstream_get(handle(), key.data(), key.size(), buffer.data(), &size, meta);
      if (status != CACHE_OK) return Error::of(status);
      return size;
    });
  }
  // Stores a value, and replaces the one that was there. C: memstream_set().
  Sure<void> set(std::string_view key, Bytes value, const SetOptions& options = {}) {
    return Face::sure([&] {
      return detail::store(key, value, options, [&](auto... given) {
        return options.tags != nullptr ? memstream_store_tagged(handle(), given..., MEMSTREAM_SET, 0, options.tags)
                                       : memstream_set(handle(), given...);
      });
    });
  }
  // Stores a value if the key has none. CACHE_EXISTS: it has one. C: memstream_add().
  Maybe<void> add(std::string_view key, Bytes value, const SetOptions& options = {}) {
    return Face::maybe([&] {
      return detail::store(key, value, options, [&](auto... given) {
        return options.tags != nullptr ? memstream_store_tagged(handle(), given..., MEMSTREAM_ADD, 0, options.tags)
                                       : memstream_add(handle(), given...);
      });
    });
  }
  // Stores a value if the key has one. CACHE_MISS: it has none. C: memstream_replace().
  Maybe<void> replace(std::string_view key, Bytes value, const SetOptions& options = {}) {
    return Face::maybe([&] {
      return detail::store(key, value, options, [&](auto... given) {
        return options.tags != nullptr ? memstream_store_tagged(handle(), given..., MEMSTREAM_REPLACE, 0, options.tags)
                                       : memstream_replace(handle(), given...);
      });
    });
  }
  // Stores a value if the entry is still that of the token, Meta::cas. CACHE_CONFLICT, CACHE_MISS: it is not.
  // C: memstream_cas().
  Maybe<void> compare_and_set(std::string_view key, Bytes value, std::uint64_t cas, const SetOptions& options = {}) {
    return Face::maybe([&] {
      return detail::store(key, value, options, [&](auto... given) {
        return options.tags != nullptr ? memstream_store_tagged(handle(), given..., MEMSTREAM_CAS, cas, options.tags)
                                       : memstream_cas(handle(), given..., cas);
      });
    });
  }
  // Adds to a number that is stored as decimal text, and returns the sum. CACHE_MISS: there is none, and no initial
  // number is given. C: memstream_incr().
  Maybe<std::int64_t> increment(std::string_view key, std::int64_t delta = 1,
                                std::optional<std::int64_t> initial = std::nullopt,
                                std::chrono::milliseconds ttl = {}) {
    return Face::maybe([&]() -> Result<std::int64_t> {
      if (auto error = detail::refuse_negative("ttl", ttl)) return *std::move(error);
      std::int64_t sum = 0;
      const int status = memstream_incr(handle(), key.data(), key.size(), delta, initial ? &*initial : nullptr,
                                        detail::count_of(ttl), &sum);
      if (status != CACHE_OK) return Error::of(status);
      return sum;
    });
  }
  // Gives an entry a new time to live. CACHE_MISS: there is none. C: memstream_touch().
  Maybe<void> touch(std::string_view key, std::chrono::milliseconds ttl) {
    return Face::maybe([&]() -> Result<void> {
      if (auto error = detail::refuse_negative("ttl", ttl)) return *std::move(error);
      return detail::done_or_error(memstream_touch(handle(), key.data(), key.size(), detail::count_of(ttl)));
    });
  }
  // Takes tags as they are now, four at most, for values that are stored later: SetOptions::tags. C: memstream_tag().
  Sure<Tags> tags(std::span<const std::string_view> names) {
    return Face::sure([&]() -> Result<Tags> {
      Tags taken{};
      for (const std::string_view name : names) {
        const int status = memstream_tag(handle(), name.data(), name.size(), &taken);
        if (status != CACHE_OK) return Error::of(status);
      }
      return taken;
    });
  }
  // Makes all entries misses that have the tag, in constant time. C: memstream_invalidate().
  Sure<void> invalidate(std::string_view tag) {
    return Face::sure([&] { return detail::done_or_error(memstream_invalidate(handle(), tag.data(), tag.size())); });
  }
  // How often that was called, by all processes. C: memstream_invalidations().
  Sure<std::uint64_t> invalidations() const {
    return Face::sure([&]() -> Result<std::uint64_t> {
      std::uint64_t count = 0;
      const int status = memstream_invalidations(handle(), &count);
      if (status != CACHE_OK) return Error::of(status);
      return count;
    });
  }
  // Removes a key. CACHE_MISS: it had no entry. C: memstream_delete().
  Maybe<void> remove(std::string_view key) {
    return Face::maybe([&] { return detail::done_or_error(memstream_delete(handle(), key.data(), key.size())); });
  }
  // Tells whether a key has an entry. Counts as no access. C: memstream_exists().
  Sure<bool> contains(std::string_view key) const {
    return Face::sure([&]() -> Result<bool> {
      const int status = memstream_exists(handle(), key.data(), key.size());
      if (status != CACHE_OK && status != CACHE_MISS) return Error::of(status);
      return status == CACHE_OK;
    });
  }
  // Removes all entries. C: memstream_clear().
  Sure<void> clear() {
    return Face::sure([&] { return detail::done_or_error(memstream_clear(handle())); });
  }

  // ---- Many keys in one call ----

  // Copies the values of many keys, which must outlive the call. The error of any key is that of the call.
  // C: memstream_get_many_sized().
  Sure<Found> get_many(std::span<const std::string_view> keys) const {
    return Face::sure([&]() -> Result<Found> {
      Found found(keys);
      if (auto fetched = found.fetch(handle()); !fetched) return fetched.error();
      return found;
    });
  }
  // The values of many keys that all stood there at one instant. CACHE_CONFLICT if they change all the time.
  // C: memstream_get_many_consistent().
  Sure<Found> get_many_consistent(std::span<const std::string_view> keys) const {
    return Face::sure([&]() -> Result<Found> {
      Found found(keys);
      if (auto fetched = found.fetch_consistent(handle()); !fetched) return fetched.error();
      return found;
    });
  }
  // As memstream_get_many_sized(): each item gets a status, and its value in the buffer. Returns the bytes that all
  // values need.
  Sure<std::size_t> get_many(std::span<Item> items, std::span<std::byte> buffer) const {
    return Face::sure([&]() -> Result<std::size_t> {
      std::size_t size = buffer.size();
      const int status =
          memstream_get_many_sized(handle(), items.data(), sizeof(Item), items.size(), buffer.data(), &size);
      if (status != CACHE_OK) return Error::of(status);
      return size;
    });
  }
  // Stores many values. The error of any key is that of the call; the others are stored. C: memstream_set_many_sized().
  Sure<void> set_many(std::span<const KeyValue> values) {
    return Face::sure([&]() -> Result<void> {
      std::vector<memstream_tagged_item_t> items(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const KeyValue& given = values[i];
        if (auto error = detail::refuse_negative("ttl", given.options.ttl)) return *std::move(error);
        Item& item = items[i].item;
        item.key = given.key.data();
        item.key_size = given.key.size();
        item.value = given.value.data();
        item.value_size = given.value.size();
        item.ttl_ms = detail::count_of(given.options.ttl);
        item.flags = given.options.flags;
        items[i].tags = given.options.tags;
      }
      Item* const first = items.empty() ? nullptr : &items[0].item;
      return detail::done_or_error(memstream_set_many_sized(handle(), first, sizeof items[0], items.size()));
    });
  }
  // As memstream_set_many_sized(): each item gets a status.
  Sure<void> set_many(std::span<Item> items) {
    return Face::sure([&] {
      return detail::done_or_error(memstream_set_many_sized(handle(), items.data(), sizeof(Item), items.size()));
    });
  }
  // Removes many keys, and returns how many had an entry. C: memstream_delete_many_sized().
  Sure<std::size_t> remove_many(std::span<const std::string_view> keys) {
    return Face::sure([&]() -> Result<std::size_t> {
      std::vector<Item> items(keys.size());
      for (std::size_t i = 0; i < keys.size(); ++i) {
        items[i].key = keys[i].data();
        items[i].key_size = keys[i].size();
      }
      const int status = memstream_delete_many_sized(handle(), items.data(), sizeof(Item), items.size());
      if (status != CACHE_OK) return Error::of(status);
      const auto removed = std::ranges::count(items, static_cast<std::int32_t>(CACHE_OK), &Item::status);
      return static_cast<std::size_t>(removed);
    });
  }
  // As memstream_delete_many_sized(): each item gets a status.
  Sure<void> remove_many(std::span<Item> items) {
    return Face::sure([&] {
      return detail::done_or_error(memstream_delete_many_sized(handle(), items.data(), sizeof(Item), items.size()));
    });
  }

  // ---- Without a copy ----

  // Gives the value of a key in place. CACHE_MISS: it has none. C: memstream_view().
  Maybe<View> view(std::string_view key) const {
    return Face::maybe([&]() -> Result<View> {
      memstream_view_t view;
      const int status = memstream_view(handle(), key.data(), key.size(), &view);
      if (status != CACHE_OK) return Error::of(status);
      return View(handle(), view);
    });
  }
  // Reserves memory for a value of so many bytes. No reader sees it before its commit. C: memstream_reserve().
  Sure<Reservation> reserve(std::string_view key, std::size_t size) {
    return Face::sure([&]() -> Result<Reservation> {
      memstream_reservation_t room;
      const int status = memstream_reserve(handle(), key.data(), key.size(), size, &room);
      if (status != CACHE_OK) return Error::of(status);
      return Reservation(handle(), room);
    });
  }

  // ---- One caller of many computes a value ----

  // Returns the value of a key, or computes it. Of all callers in all processes one computes, and the others wait.
  //
  // A caller that is killed while it computes is followed by the next one. A caller computes without a lease if its
  // wait is over, or if the lease ended without a value. An exception of `compute` ends the lease and goes on to the
  // caller. `compute` must not ask for the same key: it would wait for itself until its wait is over.
  //
  // Returns: the value; kWrongSize if the key has a value that is no T; the errors of get() and lease().
  template <std::invocable Compute>
  requires Value<std::remove_cvref_t<std::invoke_result_t<Compute>>>
      Sure<std::remove_cvref_t<std::invoke_result_t<Compute>>> memoize(std::string_view key, Compute&& compute,
                                                                       const MemoizeOptions& options = {}) {
    using T = std::remove_cvref_t<std::invoke_result_t<Compute>>;
    return Face::sure([&] { return detail::memoize<T>(handle(), key, std::forward<Compute>(compute), options); });
  }
  // Asks for the right to compute the value of a key. CACHE_EXISTS: it has one. CACHE_HELD: another caller has the
  // lease. C: memstream_lease().
  Maybe<Lease> lease(std::string_view key, const LeaseOptions& options = {}) {
    return Face::maybe([&]() -> Result<Lease> {
      Result<detail::HeldLease> held = detail::lease(handle(), key, options);
      if (!held) return held.error();
      return Lease(*std::move(held));
    });
  }
  // Waits until no process holds a lease of the key. CACHE_HELD: one still does. C: memstream_lease_wait().
  Maybe<void> wait_for_lease(std::string_view key, std::chrono::milliseconds timeout) {
    return Face::maybe([&]() -> Result<void> {
      if (auto error = detail::refuse_negative("timeout", timeout)) return *std::move(error);
      return detail::done_or_error(memstream_lease_wait(handle(), key.data(), key.size(), detail::count_of(timeout)));
    });
  }
  // Waits for the end of one lease, and tells how it ended. Returns CACHE_OK, CACHE_MISS or CACHE_HELD. `followed` is 0
  // at first. C: memstream_lease_follow().
  Sure<int> follow_lease(std::string_view key, std::uint64_t& followed, std::chrono::milliseconds timeout) {
    return Face::sure([&]() -> Result<int> {
      if (auto error = detail::refuse_negative("timeout", timeout)) return *std::move(error);
      const int status = memstream_lease_follow(handle(), key.data(), key.size(), &followed, detail::count_of(timeout));
      if (status < 0) return Error::of(status);
      return status;
    });
  }

  // ---- Limits among all processes ----

  // Asks whether a request of a key may go on now, and counts it if so. Returns how long to wait before the next try: 0
  // if it may go on. C: memstream_limit().
  Sure<std::chrono::milliseconds> limit(std::string_view key, const Rate& rate) {
    return Face::sure([&]() -> Result<std::chrono::milliseconds> {
      if (auto error = detail::refuse_negative("period", rate.period)) return *std::move(error);
      std::uint64_t wait_ms = 0;
      const int status = memstream_limit(handle(), key.data(), key.size(), rate.requests, detail::count_of(rate.period),
                                         rate.burst != 0 ? rate.burst : rate.requests, &wait_ms);
      if (status != CACHE_OK && status != CACHE_HELD) return Error::of(status);
      return std::chrono::milliseconds(wait_ms);
    });
  }
  // Makes a key as if it was never used. CACHE_MISS: it was already. C: memstream_limit_reset().
  Maybe<void> reset_limit(std::string_view key) {
    return Face::maybe([&] { return detail::done_or_error(memstream_limit_reset(handle(), key.data(), key.size())); });
  }
  // Takes one of the permits of a semaphore, and waits for one. With one permit it is a lock. CACHE_HELD: living
  // processes hold all. C: memstream_semaphore_acquire().
  Maybe<Permit> acquire(std::string_view name, std::uint64_t permits, std::chrono::milliseconds timeout) {
    return Face::maybe([&]() -> Result<Permit> {
      if (auto error = detail::refuse_negative("timeout", timeout)) return *std::move(error);
      std::string kept(name);  // First: nothing may fail once there is a permit.
      std::uint64_t permit = 0;
      const int status =
          memstream_semaphore_acquire(handle(), name.data(), name.size(), permits, detail::count_of(timeout), &permit);
      if (status != CACHE_OK) return Error::of(status);
      return Permit(handle(), std::move(kept), permit);
    });
  }
  // Counts the permits of a semaphore that living processes hold. C: memstream_semaphore_held().
  Sure<std::uint64_t> held(std::string_view name) const {
    return Face::sure([&]() -> Result<std::uint64_t> {
      std::uint64_t count = 0;
      const int status = memstream_semaphore_held(handle(), name.data(), name.size(), &count);
      if (status != CACHE_OK) return Error::of(status);
      return count;
    });
  }
  // The rate limits and permits that are in use. C: memstream_limits().
  Sure<std::vector<LimitInfo>> limits() const {
    return Face::sure([&] {
      return detail::listed<LimitInfo>(16, [&](auto... given) { return memstream_limits(handle(), given...); });
    });
  }

  // ---- Waiting for a change ----

  // Waits until the entry of a key has another token than `cas`; with 0 until it has one. Returns CACHE_OK, CACHE_MISS
  // or CACHE_EXISTS. C: memstream_wait().
  Sure<int> wait(std::string_view key, std::uint64_t cas, std::chrono::milliseconds timeout) {
    return Face::sure([&]() -> Result<int> {
      if (auto error = detail::refuse_negative("timeout", timeout)) return *std::move(error);
      const int status = memstream_wait(handle(), key.data(), key.size(), cas, detail::count_of(timeout));
      if (status < 0) return Error::of(status);
      return status;
    });
  }
  // Watches the keys that begin with a prefix; with none all keys. What changes after this call is told, and what was
  // changed before it can be read. The segment has at least 16 MiB. C: memstream_watch().
  Sure<Watch> watch(std::string_view prefix = {}) {
    return Face::sure([&]() -> Result<Watch> {
      memstream_watch_t* watch = nullptr;
      const int status = memstream_watch(handle(), prefix.data(), prefix.size(), &watch);
      if (status != CACHE_OK) return Error::of(status);
      return Watch(watch);
    });
  }

  // ---- Inspection ----

  // The entries of the cache, so many in each call of the library. C: memstream_scan().
  Scan scan(std::size_t batch = 32) const { return Scan(handle(), batch); }
  // Describes the entry of a key. Counts as no access. CACHE_MISS: there is none. C: memstream_entry_info().
  Maybe<Entry> entry(std::string_view key) const {
    return Face::maybe([&]() -> Result<Entry> {
      Result<Entry> result{detail::Unfilled{}};
      const int status = memstream_entry_info(handle(), key.data(), key.size(), &*result);
      if (status != CACHE_OK) result = Error::of(status);
      return result;
    });
  }
  // The statistics of the segment. C: memstream_stats().
  Sure<Stats> stats() const {
    return Face::sure([&] { return sized<Stats>(memstream_stats); });
  }
  // The metrics of the segment. C: memstream_metrics().
  Sure<Metrics> metrics() const {
    return Face::sure([&] { return sized<Metrics>(memstream_metrics); });
  }
  // What is in use now: limits, semaphores, locks, permits, waiters. C: memstream_usage().
  Sure<Usage> usage() const {
    return Face::sure([&] { return sized<Usage>(memstream_usage); });
  }
  // The locks that threads hold now. C: memstream_lock_holders().
  Sure<std::vector<LockHolder>> lock_holders() const {
    return Face::sure([&] {
      return detail::listed<LockHolder>(16, [&](auto... given) { return memstream_lock_holders(handle(), given...); });
    });
  }
  // The accesses to sampled keys since the last call with this state, which begins as {sizeof(memstream_trace_t)}.
  // Returns how many there are now in `accesses`. C: memstream_trace().
  Sure<std::size_t> trace(memstream_trace_t& state, std::span<memstream_access_t> accesses) const {
    return Face::sure([&]() -> Result<std::size_t> {
      std::size_t count = 0;
      const int status = memstream_trace(handle(), &state, accesses.data(), accesses.size(), &count);
      if (status != CACHE_OK) return Error::of(status);
      return count;
    });
  }
  // The entries that are read most often, the hottest first. C: memstream_hot_keys().
  Sure<std::vector<Entry>> hot_keys() const {
    return Face::sure([&] {
      return detail::listed<Entry>(64, [&](auto... given) { return memstream_hot_keys(handle(), given...); });
    });
  }
  // The live processes that are attached. C: memstream_processes().
  Sure<std::vector<Process>> processes() const {
    return Face::sure([&] {
      return detail::listed<Process>(16, [&](auto... given) { return memstream_processes(handle(), given...); });
    });
  }
  // Verifies every invariant. Problems are no error, but the result. C: memstream_check().
  Sure<CheckReport> check() const {
    return Face::sure([&]() -> Result<CheckReport> {
      CheckReport report;
      const int status = memstream_check(handle(), &report.problems);
      if (status != CACHE_OK && (status != CACHE_CORRUPT || report.problems == 0)) return Error::of(status);
      if (report.problems != 0) report.description = cache_last_error();
      return report;
    });
  }
  // Rebuilds every shard and drops what is damaged. C: memstream_repair().
  Sure<RepairReport> repair() {
    return Face::sure([&] { return sized<RepairReport>(memstream_repair); });
  }
  // Frees everything that dead processes still hold. C: memstream_reap().
  Sure<ReapReport> reap() {
    return Face::sure([&] { return sized<ReapReport>(memstream_reap); });
  }
  // Replaces the segment by one of another size, while others use it. Views stay valid. C: memstream_resize().
  Sure<ResizeReport> resize(std::uint64_t size_bytes) {
    return Face::sure([&]() -> Result<ResizeReport> {
      ResizeReport report{};
      report.struct_size = sizeof report;
      const int status = memstream_resize(handle(), size_bytes, &report);
      if (status != CACHE_OK) return Error::of(status);
      return report;
    });
  }

 private:
  explicit BasicCache(detail::Handle handle) noexcept : handle_(std::move(handle)) {}

  // Fills a struct that begins with its size.
  template <class Struct>
  Result<Struct> sized(int (*fill)(memstream_t*, Struct*)) const {
    Result<Struct> result{Struct{}};
    result->struct_size = sizeof(Struct);
    const int status = fill(handle(), &*result);
    if (status != CACHE_OK) result = Error::of(status);
    return result;
  }

  detail::Handle handle_;
};

using Cache = BasicCache<Results>;
using Lease = BasicLease<Results>;
using Scan = BasicScan<Results>;
using Watch = BasicWatch<Results>;
#ifdef __cpp_exceptions
using ThrowingCache = BasicCache<Throws>;
using ThrowingLease = BasicLease<Throws>;
using ThrowingScan = BasicScan<Throws>;
using ThrowingWatch = BasicWatch<Throws>;
#endif

}  // namespace cxx1
}  // namespace memstream

#endif
