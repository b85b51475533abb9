#include "near/near_cache.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace memstream::near {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kAbsent = 1;  // In the flags of an entry: Redis has no such key.
constexpr std::uint64_t kLeastLagMs = 250;
constexpr std::uint64_t kMostMs = std::uint64_t{1} << 40;
constexpr std::string_view kDefaultRedis = "127.0.0.1:6379";

thread_local std::string message_of_thread;

// How often this process is a child of a child of the one that loaded the library.
std::atomic<std::uint64_t> fork_count{0};
[[maybe_unused]] const int is_registered = ::pthread_atfork(nullptr, nullptr, [] { ++fork_count; });

std::uint64_t now_ns() noexcept {
  return static_cast<std::uint64_t>(RedisConnection::Clock::now().time_since_epoch().count());
}

int bad_option(const char* name, const std::string& value, const char* expected) {
  return fail(CACHE_INVALID, fmt::format("Invalid {} '{}': expected {}.", name, value, expected));
}

}  // namespace

int fail(int status, std::string message) {
  message_of_thread = std::move(message);
  return status;
}
const char* last_error() noexcept { return message_of_thread.c_str(); }

// ---- connections ----

ConnectionPool::~ConnectionPool() {
  Idle* const own = own_.load(std::memory_order_relaxed);
  if (own->process == fork_count.load(std::memory_order_relaxed)) delete own;
}

ConnectionPool::Idle& ConnectionPool::idle() {
  Idle* own = own_.load(std::memory_order_acquire);
  const std::uint64_t process = fork_count.load(std::memory_order_relaxed);
  if (own->process == process) [[likely]]
    return *own;
  auto fresh = std::make_unique<Idle>();
  fresh->process = process;
  if (own_.compare_exchange_strong(own, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  return *own;
}

std::unique_ptr<RedisConnection> ConnectionPool::take() {
  Idle& own = idle();
  const std::lock_guard<std::mutex> guard(own.mutex);
  if (own.connections.empty()) return nullptr;
  std::unique_ptr<RedisConnection> connection = std::move(own.connections.back());
  own.connections.pop_back();
  return connection;
}

void ConnectionPool::give(std::unique_ptr<RedisConnection> connection) {
  Idle& own = idle();
  const std::lock_guard<std::mutex> guard(own.mutex);
  if (own.connections.size() < kMostIdle) own.connections.push_back(std::move(connection));
}

int NearCache::unreachable(const std::string& error) {
  count(counts_.errors);
  return fail(MEMSTREAM_NEAR_UNREACHABLE, fmt::format("Redis at '{}' cannot be used: {}. Start it, or correct the "
                                                      "address.",
                                                      settings_.redis_text, error));
}

int NearCache::refused(const redisReply& reply) {
  count(counts_.errors);
  return fail(MEMSTREAM_NEAR_REFUSED, fmt::format("Redis at '{}' refused the command: {}. Use a key of type string and "
                                                  "a user who may read and write it.",
                                                  settings_.redis_text, text_of(reply)));
}

// The commands change nothing when they run twice: they read, or leave a key with the same value or without one.
int NearCache::ask(const std::vector<RedisConnection::Words>& commands, std::vector<Reply>* replies) {
  for (;;) {
    std::string error;
    std::unique_ptr<RedisConnection> connection = connections_.take();
    const bool is_new = connection == nullptr;
    if (is_new) connection = RedisConnection::open(settings_.redis, settings_.timeout, &error);
    if (connection == nullptr) return unreachable(error);
    const Clock::time_point deadline = Clock::now() + settings_.timeout;
    Io done = Io::kOk;
    for (const RedisConnection::Words& command : commands) {
      if (done == Io::kOk) done = connection->send(command, deadline);
    }
    replies->clear();
    while (done == Io::kOk && replies->size() < commands.size()) {
      Reply reply;
      done = connection->receive(deadline, &reply);
      if (done == Io::kOk) replies->push_back(std::move(reply));
    }
    if (done == Io::kOk) {
      connections_.give(std::move(connection));
      return CACHE_OK;
    }
    if (done == Io::kTimeout) return unreachable("it did not answer in time");
    if (is_new) return unreachable(connection->error());
  }
}

// ---- opening ----

int NearCache::read_options(const memstream_near_options_t& options, Settings* settings) {
  settings->redis_text = options.redis == nullptr ? std::string(kDefaultRedis) : options.redis;
  if (!RedisAddress::parse(settings->redis_text, &settings->redis)) {
    return bad_option("redis", settings->redis_text, "HOST:PORT, [IPV6]:PORT or unix:/PATH");
  }
  if (options.user != nullptr) settings->redis.user = options.user;
  if (options.password != nullptr) settings->redis.password = options.password;
  if (!settings->redis.user.empty() && settings->redis.password.empty()) {
    return bad_option("password", "", "one for the user");
  }
  if (options.prefix_count != 0 && options.prefixes == nullptr) {
    return bad_option("prefixes", "NULL", "as many as prefix_count says");
  }
  for (std::uint64_t i = 0; i < options.prefix_count; ++i) {
    if (options.prefixes[i] == nullptr || *options.prefixes[i] == '\0') {
      return bad_option("prefix", "", "1 character or more; without any prefix all keys are cached");
    }
    settings->prefixes.emplace_back(options.prefixes[i]);
  }
  std::sort(settings->prefixes.begin(), settings->prefixes.end());
  // Redis refuses those too. What begins with another one stands right behind it.
  const auto overlap =
      std::adjacent_find(settings->prefixes.begin(), settings->prefixes.end(),
                         [](const std::string& one, const std::string& next) { return next.starts_with(one); });
  if (overlap != settings->prefixes.end()) {
    return bad_option("prefix", *(overlap + 1), "one that begins with no other prefix");
  }
  const auto read_ms = [](const char* name, std::uint64_t value, std::uint64_t least, std::uint64_t* to) {
    if (value == 0) return CACHE_OK + 0;
    if (value < least || value > kMostMs) {
      return fail(CACHE_INVALID,
                  fmt::format("Invalid {} '{}': expected {} to {} milliseconds.", name, value, least, kMostMs));
    }
    *to = value;
    return CACHE_OK + 0;
  };
  std::uint64_t timeout_ms = 1000;
  for (const int status : {read_ms("max_lag_ms", options.max_lag_ms, kLeastLagMs, &settings->max_lag_ms),
                           read_ms("local_ttl_ms", options.local_ttl_ms, 1, &settings->local_ttl_ms),
                           read_ms("absent_ttl_ms", options.absent_ttl_ms, 1, &settings->absent_ttl_ms),
                           read_ms("timeout_ms", options.timeout_ms, 1, &timeout_ms)}) {
    if (status != CACHE_OK) return status;
  }
  settings->timeout = milliseconds(std::min<std::uint64_t>(timeout_ms, 3'600'000));
  if ((options.flags & ~std::uint64_t{MEMSTREAM_NEAR_NO_AGENT | MEMSTREAM_NEAR_STALE_ON_ERROR}) != 0) {
    return bad_option("flags", fmt::format("{:#x}", options.flags), "MEMSTREAM_NEAR_NO_AGENT, _STALE_ON_ERROR or both");
  }
  settings->runs_agent = (options.flags & MEMSTREAM_NEAR_NO_AGENT) == 0;
  settings->serves_stale = (options.flags & MEMSTREAM_NEAR_STALE_ON_ERROR) != 0;
  return CACHE_OK;
}

// Processes that track other keys must not take each other's word for what is tracked: to the segment their servers
// have different names.
int NearCache::open(memstream_t* cache, Settings settings, std::unique_ptr<NearCache>* near) {
  std::string name = settings.redis_text;
  for (const std::string& prefix : settings.prefixes) name += '\n' + prefix;
  if (name.size() > CACHE_MAX_KEY_SIZE) {
    return fail(CACHE_INVALID, fmt::format("Invalid prefixes of {} bytes with the address: expected at most {} in "
                                           "total. Use fewer or shorter ones.",
                                           name.size(), CACHE_MAX_KEY_SIZE));
  }
  std::uint32_t server = 0;
  const int status = memstream_near_core_claim(cache, name.data(), name.size(), &server);
  if (status != CACHE_OK) return fail(status, cache_last_error());
  std::unique_ptr<NearCache> opened(new NearCache(cache, std::move(settings), server));
  if (opened->settings_.runs_agent) {
    const Settings& own = opened->settings_;
    // What it waits for Redis must not make the others think that nobody has the role.
    const milliseconds timeout = std::min(own.timeout, milliseconds(900));
    opened->agent_ = Agent::of({cache, server, own.redis, own.prefixes, timeout});
    if (opened->agent_ == nullptr) {
      return fail(CACHE_OS_ERROR, fmt::format("The agent cannot be started: {}. Allow this process another thread and "
                                              "descriptor, or open with MEMSTREAM_NEAR_NO_AGENT.",
                                              std::strerror(errno)));  // NOLINT(concurrency-mt-unsafe): only a text.
    }
  }
  *near = std::move(opened);
  return CACHE_OK;
}

// ---- reading ----

bool NearCache::is_tracked(std::string_view key) const noexcept {
  return settings_.prefixes.empty() || std::any_of(settings_.prefixes.begin(), settings_.prefixes.end(),
                                                   [&](const std::string& prefix) { return key.starts_with(prefix); });
}

// CACHE_OK, CACHE_MISS (absent in Redis) and CACHE_TOO_SMALL are answers; MEMSTREAM_NEAR_FETCH: there is none, and one
// may be stored; all others: there is none.
int NearCache::look_up(std::string_view key, void* value, std::size_t* value_size, std::uint64_t max_lag_ms,
                       std::uint64_t* stale_cas) {
  memstream_near_core_meta_t meta;
  const int status =
      memstream_near_core_get(cache_, server_, key.data(), key.size(), value, value_size, &meta, max_lag_ms);
  if (status == CACHE_OK || status == CACHE_TOO_SMALL) {
    if ((meta.flags & kAbsent) == 0) return status;
    *value_size = 0;
    return CACHE_MISS;
  }
  if (status != CACHE_MISS) return status;
  *stale_cas = meta.stale_cas;
  return MEMSTREAM_NEAR_FETCH;
}

int NearCache::bypass(memstream_near_fill_t* fill) {
  count(counts_.bypasses);
  *fill = {};
  return MEMSTREAM_NEAR_FETCH;
}

// Of those that miss a key one asks Redis, with a lease; the others wait for its end and look again.
void NearCache::join_fill(std::string_view key, std::uint64_t stale_cas, bool* look_again,
                          memstream_near_fill_t* fill) {
  const auto wait_ms = static_cast<std::uint64_t>(settings_.timeout.count());
  const int leased = memstream_lease(cache_, key.data(), key.size(), stale_cas, 2 * wait_ms, &fill->lease);
  if (leased == CACHE_EXISTS) {
    *look_again = true;  // Its answer came meanwhile.
  } else if (leased == CACHE_HELD) {
    std::uint64_t followed = 0;
    // CACHE_MISS: its holder died. Whoever waited too long asks by itself.
    const int ended = memstream_lease_follow(cache_, key.data(), key.size(), &followed, wait_ms);
    *look_again = ended == CACHE_OK || ended == CACHE_MISS;
  } else if (leased != CACHE_OK) {
    fill->lease = 0;
  }
}

int NearCache::begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill) {
  const std::size_t room = *value_size;
  *fill = {};
  if (!is_tracked(key)) return bypass(fill);
  constexpr int kMostTries = 3;  // A holder may store nothing, time after time.
  for (int tries = 0;; ++tries) {
    std::uint64_t stale_cas = 0;
    *value_size = room;
    const int status = look_up(key, value, value_size, settings_.max_lag_ms, &stale_cas);
    if (status == CACHE_OK || status == CACHE_MISS || status == CACHE_TOO_SMALL) {
      count(tries == 0 ? counts_.hits : counts_.merged);
      return status == CACHE_TOO_SMALL ? fail(status, cache_last_error()) : status;
    }
    if (status != MEMSTREAM_NEAR_FETCH) return bypass(fill);
    bool look_again = false;
    if (tries < kMostTries) join_fill(key, stale_cas, &look_again, fill);
    if (!look_again) break;
  }
  // The token before Redis is asked.
  fill->begun_ns = now_ns();
  fill->may_store = memstream_near_core_begin(cache_, server_, key.data(), key.size(), &fill->token) == CACHE_OK;
  return MEMSTREAM_NEAR_FETCH;
}

int NearCache::abandon(std::string_view key, memstream_near_fill_t* fill) {
  if (fill->lease != 0) memstream_lease_release(cache_, key.data(), key.size(), fill->lease);
  *fill = {};
  return CACHE_OK;
}

int NearCache::store(std::string_view key, const std::string_view* value, std::int64_t pttl_ms,
                     memstream_near_fill_t* fill) {
  std::uint64_t ttl_ms = value != nullptr ? settings_.local_ttl_ms : settings_.absent_ttl_ms;
  if (value != nullptr && pttl_ms != -1) {
    // From the instant on at which Redis was asked: it may have counted since then.
    const std::uint64_t gone_ms = (now_ns() - fill->begun_ns) / 1'000'000 + 1;
    const std::uint64_t left_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(pttl_ms, 0));
    ttl_ms = std::min(ttl_ms, left_ms - std::min(left_ms, gone_ms));
  }
  if (fill->may_store == 0 || ttl_ms == 0) return abandon(key, fill);
  const std::string_view bytes = value != nullptr ? *value : std::string_view{};
  const int status = memstream_near_core_store(cache_, server_, key.data(), key.size(), bytes.data(), bytes.size(),
                                               ttl_ms, value != nullptr ? 0 : kAbsent, fill->token);
  if (status == CACHE_OK) {
    count(counts_.fills);  // Its lease has ended.
    *fill = {};
    return status;
  }
  if (status == CACHE_CONFLICT) count(counts_.conflicts);
  const std::string message = status < 0 ? cache_last_error() : "";
  abandon(key, fill);
  return status < 0 ? fail(status, message) : status;
}

int NearCache::get(std::string_view key, void* value, std::size_t* value_size) {
  const std::size_t room = *value_size;
  memstream_near_fill_t fill;
  const int status = begin(key, value, value_size, &fill);
  if (status != MEMSTREAM_NEAR_FETCH) return status;
  count(counts_.fetches);
  std::vector<Reply> replies;
  const int asked = ask({{"GET", key}, {"PTTL", key}}, &replies);
  if (asked != CACHE_OK || is_error(replies[0])) {
    abandon(key, &fill);
    if (asked != CACHE_OK && settings_.serves_stale && is_tracked(key)) {
      *value_size = room;
      std::uint64_t stale_cas = 0;
      const int stale = look_up(key, value, value_size, ~std::uint64_t{0}, &stale_cas);
      if (stale == CACHE_OK || stale == CACHE_MISS || stale == CACHE_TOO_SMALL) {
        count(counts_.stale);
        return stale == CACHE_TOO_SMALL ? fail(stale, cache_last_error()) : stale;
      }
    }
    *value_size = 0;
    return asked != CACHE_OK ? asked : refused(*replies[0]);
  }
  // That a copy cannot be stored is nothing to the caller.
  if (is_type(replies[0], REDIS_REPLY_NIL)) {
    *value_size = 0;
    static_cast<void>(store(key, nullptr, 0, &fill));
    return CACHE_MISS;
  }
  const std::string_view bytes = text_of(*replies[0]);
  static_cast<void>(store(key, &bytes, is_type(replies[1], REDIS_REPLY_INTEGER) ? replies[1]->integer : 0, &fill));
  *value_size = bytes.size();
  if (bytes.size() > room) {
    return fail(CACHE_TOO_SMALL, fmt::format("The value has {} bytes and the buffer {}. Call again with a larger one.",
                                             bytes.size(), room));
  }
  if (!bytes.empty()) std::memcpy(value, bytes.data(), bytes.size());
  return CACHE_OK;
}

// ---- writing: upstream first, and then the copy goes whatever came of it ----

int NearCache::invalidate(std::string_view key) {
  const int status = memstream_near_core_invalidate(cache_, server_, key.data(), key.size());
  // Nothing is read any more of a segment that is destroyed.
  return status == CACHE_OK || status == CACHE_GONE ? CACHE_OK : fail(status, cache_last_error());
}

int NearCache::set(std::string_view key, std::string_view value, std::uint64_t ttl_ms) {
  std::vector<Reply> replies;
  const std::string ttl = std::to_string(ttl_ms);
  RedisConnection::Words command{"SET", key, value};
  if (ttl_ms != 0) command.insert(command.end(), {"PX", ttl});
  const int asked = ask({command}, &replies);
  const int status = asked == CACHE_OK && is_error(replies[0]) ? refused(*replies[0]) : asked;
  const std::string message = status == CACHE_OK ? "" : last_error();
  const int removed = invalidate(key);
  return status == CACHE_OK ? removed : fail(status, message);
}

int NearCache::remove(std::string_view key) {
  std::vector<Reply> replies;
  const int asked = ask({{"DEL", key}}, &replies);
  const int status = asked == CACHE_OK && is_error(replies[0]) ? refused(*replies[0]) : asked;
  const std::string message = status == CACHE_OK ? "" : last_error();
  const int removed = invalidate(key);
  if (status != CACHE_OK) return fail(status, message);
  if (removed != CACHE_OK) return removed;
  return replies[0]->integer != 0 ? CACHE_OK : CACHE_MISS;
}

int NearCache::stats(memstream_near_stats_t* stats) {
  memstream_near_core_state_t state{};
  state.struct_size = sizeof state;
  const int status = memstream_near_core_state(cache_, server_, &state);
  if (status != CACHE_OK) return fail(status, cache_last_error());
  const auto now = [](const Counter& counter) { return counter.load(std::memory_order_relaxed); };
  *stats = {.struct_size = sizeof *stats,
            .hits = now(counts_.hits),
            .fetches = now(counts_.fetches),
            .fills = now(counts_.fills),
            .conflicts = now(counts_.conflicts),
            .merged = now(counts_.merged),
            .bypasses = now(counts_.bypasses),
            .stale = now(counts_.stale),
            .errors = now(counts_.errors),
            .subscriptions = agent_ == nullptr ? 0 : agent_->subscriptions(),
            .lag_ms = state.lag_ms,
            .invalidations = state.invalidations,
            .epochs = state.advances,
            .agent_pid = state.agent_pid,
            .is_agent = agent_ != nullptr && agent_->is_subscribed()};
  return CACHE_OK;
}

}  // namespace memstream::near
