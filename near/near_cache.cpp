#include "near/near_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "api/quoted.h"

namespace memstream::near {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kAbsent = 1;  // In the flags of an entry: Redis has no such key.
constexpr std::uint64_t kLeastLagMs = 250;
constexpr std::uint64_t kMostMs = std::uint64_t{1} << 40;
constexpr std::int64_t kPublicationNs = 100'000'000;
constexpr std::string_view kDefaultRedis = "127.0.0.1:6379";

thread_local std::string message_of_thread;

std::uint64_t now_ns() noexcept {
  return static_cast<std::uint64_t>(RedisConnection::Clock::now().time_since_epoch().count());
}

int bad_option(const char* name, const std::string& value, const char* expected) {
  return fail(CACHE_INVALID, fmt::format("Invalid {} {}: expected {}.", name, in_quotes(value), expected));
}

}  // namespace

int fail(int status, std::string message) {
  message_of_thread = std::move(message);
  return status;
}
const char* last_error() noexcept { return message_of_thread.c_str(); }

int NearCache::unreachable(const std::string& error) {
  count(counts_.errors);
  return fail(MEMSTREAM_NEAR_UNREACHABLE, fmt::format("Redis at {} cannot be used: {}. Start it, or correct the "
                                                      "address.",
                                                      in_quotes(settings_.redis_text, kMostQuotedPathBytes), error));
}

int NearCache::refused(const redisReply& reply) {
  count(counts_.errors);
  return fail(MEMSTREAM_NEAR_REFUSED,
              fmt::format("Redis at {} refused the command: {}. Use a key of type string and "
                          "a user who may read and write it.",
                          in_quotes(settings_.redis_text, kMostQuotedPathBytes), quoted_text_of(reply)));
}

int NearCache::ask(std::string_view key, const Upstream::Commands& commands, std::vector<Reply>* replies) {
  std::string error;
  return upstream_.ask(key, commands, replies, &error) ? CACHE_OK + 0 : unreachable(error);
}

// ---- counting ----

// A hit must cost next to nothing, so the segment hears of every thousandth.
void NearCache::count_hit() {
  constexpr std::uint64_t kStep = 1024;
  if (count(counts_.hits) % kStep == kStep - 1) [[unlikely]]
    publish_counts();
}

// Counts that a process has not published when it forks count twice, because the child has them too.
void NearCache::publish_counts() noexcept {
  memstream_near_core_counts_t more{};
  more.struct_size = sizeof more;
  const auto grown = [](Counter& counter, Counter& published) {
    const std::uint64_t now = counter.load(std::memory_order_relaxed);
    const std::uint64_t before = published.exchange(now, std::memory_order_relaxed);
    return now - std::min(now, before);
  };
  more.hits = grown(counts_.hits, published_.hits);
  more.fetches = grown(counts_.fetches, published_.fetches);
  more.fills = grown(counts_.fills, published_.fills);
  more.conflicts = grown(counts_.conflicts, published_.conflicts);
  more.merged = grown(counts_.merged, published_.merged);
  more.bypasses = grown(counts_.bypasses, published_.bypasses);
  more.stale = grown(counts_.stale, published_.stale);
  more.errors = grown(counts_.errors, published_.errors);
  memstream_near_core_count(cache_, &more);
}

// ---- opening ----

int NearCache::read_options(const memstream_near_options_t& options, Settings* settings) {
  Upstream::Settings& upstream = settings->upstream;
  settings->redis_text = options.redis == nullptr ? std::string(kDefaultRedis) : options.redis;
  upstream.is_cluster = (options.flags & MEMSTREAM_NEAR_CLUSTER) != 0;
  std::string rest = settings->redis_text;
  for (bool is_more = true; is_more;) {
    const std::size_t comma = upstream.is_cluster ? rest.find(',') : std::string::npos;
    is_more = comma != std::string::npos;
    upstream.addresses.push_back(rest.substr(0, comma));
    rest.erase(0, is_more ? comma + 1 : rest.size());
    RedisAddress address;
    const bool is_address = RedisAddress::parse(upstream.addresses.back(), &address);
    if (upstream.is_cluster && (!is_address || address.host.empty())) {
      return bad_option("redis", settings->redis_text, "HOST:PORT or [IPV6]:PORT of some nodes, with commas between");
    }
    if (!is_address) return bad_option("redis", settings->redis_text, "HOST:PORT, [IPV6]:PORT or unix:/PATH");
  }
  if (options.user != nullptr) upstream.user = options.user;
  if (options.password != nullptr) upstream.password = options.password;
  if (!upstream.user.empty() && upstream.password.empty()) {
    return bad_option("password", "", "one for the user");
  }
  if (options.prefix_count != 0 && options.prefixes == nullptr) {
    return bad_option("prefixes", "NULL", "as many as prefix_count says");
  }
  for (std::uint64_t i = 0; i < options.prefix_count; ++i) {
    if (options.prefixes[i] == nullptr || *options.prefixes[i] == '\0') {
      return bad_option("prefix", "", "1 character or more; without any prefix all keys are cached");
    }
    upstream.prefixes.emplace_back(options.prefixes[i]);
  }
  std::sort(upstream.prefixes.begin(), upstream.prefixes.end());
  // Redis refuses prefixes that overlap too. In the sorted list, such a prefix follows the one that it begins with.
  const auto overlap =
      std::adjacent_find(upstream.prefixes.begin(), upstream.prefixes.end(),
                         [](const std::string& one, const std::string& next) { return next.starts_with(one); });
  if (overlap != upstream.prefixes.end()) {
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
  upstream.timeout = milliseconds(std::min<std::uint64_t>(timeout_ms, 3'600'000));
  constexpr std::uint64_t kFlags = MEMSTREAM_NEAR_NO_AGENT | MEMSTREAM_NEAR_STALE_ON_ERROR | MEMSTREAM_NEAR_CLUSTER;
  if ((options.flags & ~kFlags) != 0) {
    return bad_option("flags", fmt::format("{:#x}", options.flags),
                      "a sum of MEMSTREAM_NEAR_NO_AGENT, _STALE_ON_ERROR and _CLUSTER");
  }
  upstream.runs_agent = (options.flags & MEMSTREAM_NEAR_NO_AGENT) == 0;
  settings->serves_stale = (options.flags & MEMSTREAM_NEAR_STALE_ON_ERROR) != 0;
  return CACHE_OK;
}

int NearCache::open(memstream_t* cache, Settings settings, std::unique_ptr<NearCache>* near) {
  settings.upstream.cache = cache;
  std::unique_ptr<NearCache> opened(new NearCache(cache, std::move(settings)));
  std::string error;
  if (const int status = opened->upstream_.open(&error); status != CACHE_OK) return fail(status, std::move(error));
  *near = std::move(opened);
  return CACHE_OK;
}

// ---- reading ----

bool NearCache::is_tracked(std::string_view key) const noexcept {
  return settings_.upstream.prefixes.empty() ||
         std::any_of(settings_.upstream.prefixes.begin(), settings_.upstream.prefixes.end(),
                     [&](const std::string& prefix) { return key.starts_with(prefix); });
}

// Returns CACHE_OK, CACHE_MISS (absent in Redis) or CACHE_TOO_SMALL with an answer. Without one, it returns
// MEMSTREAM_NEAR_FETCH if the caller may store one, and another status if not.
int NearCache::look_up(std::uint32_t server, std::string_view key, void* value, std::size_t* value_size,
                       std::uint64_t max_lag_ms, std::uint64_t* stale_cas) {
  memstream_near_core_meta_t meta;
  const int status =
      memstream_near_core_get(cache_, server, key.data(), key.size(), value, value_size, &meta, max_lag_ms);
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

// One of the callers that miss a key asks Redis, with a lease. The others wait until the lease ends and look again.
void NearCache::join_fill(std::string_view key, std::uint64_t stale_cas, bool* look_again,
                          memstream_near_fill_t* fill) {
  const auto wait_ms = static_cast<std::uint64_t>(settings_.upstream.timeout.count());
  const int leased = memstream_lease(cache_, key.data(), key.size(), stale_cas, 2 * wait_ms, &fill->lease);
  if (leased == CACHE_EXISTS) {
    *look_again = true;  // Its answer came meanwhile.
  } else if (leased == CACHE_HELD) {
    std::uint64_t followed = 0;
    // CACHE_MISS: its holder died. A caller that waited too long asks Redis itself.
    const int ended = memstream_lease_follow(cache_, key.data(), key.size(), &followed, wait_ms);
    *look_again = ended == CACHE_OK || ended == CACHE_MISS;
  } else if (leased != CACHE_OK) {
    fill->lease = 0;
  }
}

void NearCache::start_fill(Node& node, std::string_view key, memstream_near_fill_t* fill) {
  // The token must be older than the question to Redis.
  fill->begun_ns = now_ns();
  const bool may_store = upstream_.take_token(node, key, &fill->token) && is_worth_keeping(fill->token);
  fill->may_store = may_store ? 1 : 0;
  if (!may_store && fill->lease != 0) {  // Nobody has anything to wait for.
    memstream_lease_release(cache_, key.data(), key.size(), fill->lease);
    fill->lease = 0;
  }
  if (next_publication_ns_.load(std::memory_order_relaxed) <= static_cast<std::int64_t>(fill->begun_ns)) {
    next_publication_ns_.store(static_cast<std::int64_t>(fill->begun_ns) + kPublicationNs, std::memory_order_relaxed);
    publish_counts();
  }
}

int NearCache::begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill) {
  const std::size_t room = *value_size;
  *fill = {};
  if (!is_tracked(key)) return bypass(fill);
  Node* const node = upstream_.find_node(key);
  if (node == nullptr || node->server == kNoServer) return bypass(fill);
  fill->server = node->server;
  constexpr int kMostTries = 3;  // A holder may store nothing, time after time.
  for (int tries = 0;; ++tries) {
    std::uint64_t stale_cas = 0;
    *value_size = room;
    const int status = look_up(node->server, key, value, value_size, settings_.max_lag_ms, &stale_cas);
    if (status == CACHE_OK || status == CACHE_MISS || status == CACHE_TOO_SMALL) {
      tries == 0 ? count_hit() : static_cast<void>(count(counts_.merged));
      return status == CACHE_TOO_SMALL ? fail(status, cache_last_error()) : status;
    }
    if (status != MEMSTREAM_NEAR_FETCH) return bypass(fill);
    bool look_again = false;
    if (tries < kMostTries) join_fill(key, stale_cas, &look_again, fill);
    if (!look_again) break;
  }
  start_fill(*node, key, fill);
  return MEMSTREAM_NEAR_FETCH;
}

// A key that is written more often than it is read gains nothing from a copy. One fetch in a few tries it again.
bool NearCache::is_worth_keeping(std::uint64_t token) noexcept {
  constexpr std::uint32_t kMostUnread = 8;
  constexpr std::uint64_t kTrial = 8;
  if (memstream_near_core_unread_of(token) < kMostUnread) [[likely]]
    return true;
  if (trials_.fetch_add(1, std::memory_order_relaxed) % kTrial == 0) return true;
  count(counts_.bypasses);
  return false;
}

int NearCache::try_begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill) {
  const std::size_t room = *value_size;
  *fill = {};
  if (!is_tracked(key)) return bypass(fill);
  Node* const node = upstream_.node_of(key);
  if (node == nullptr || node->server == kNoServer) return bypass(fill);
  fill->server = node->server;
  constexpr int kMostTries = 3;
  for (int tries = 0; tries < kMostTries; ++tries) {
    std::uint64_t stale_cas = 0;
    *value_size = room;
    const int status = look_up(node->server, key, value, value_size, settings_.max_lag_ms, &stale_cas);
    if (status == CACHE_OK || status == CACHE_MISS) count_hit();
    if (status == CACHE_OK || status == CACHE_MISS) return status;
    if (status == CACHE_TOO_SMALL) return fail(status, cache_last_error());
    if (status != MEMSTREAM_NEAR_FETCH) return bypass(fill);
    const auto lease_ms = 2 * static_cast<std::uint64_t>(settings_.upstream.timeout.count());
    const int leased = memstream_lease(cache_, key.data(), key.size(), stale_cas, lease_ms, &fill->lease);
    if (leased == CACHE_HELD) return MEMSTREAM_NEAR_HELD;
    if (leased == CACHE_EXISTS) continue;  // Its answer came meanwhile.
    if (leased != CACHE_OK) fill->lease = 0;
    break;
  }
  start_fill(*node, key, fill);
  return MEMSTREAM_NEAR_FETCH;
}

int NearCache::peek(std::string_view key, void* value, std::size_t* value_size) {
  const Node* const node = is_tracked(key) ? upstream_.node_of(key) : nullptr;
  if (node == nullptr || node->server == kNoServer) return MEMSTREAM_NEAR_FETCH;
  std::uint64_t stale_cas = 0;
  const int status = look_up(node->server, key, value, value_size, settings_.max_lag_ms, &stale_cas);
  if (status == CACHE_TOO_SMALL) return status;  // Whoever calls again with more room counts the hit.
  if (status != CACHE_OK && status != CACHE_MISS) return MEMSTREAM_NEAR_FETCH;
  count_hit();
  return status;
}

int NearCache::peek_stale(std::string_view key, void* value, std::size_t* value_size) {
  const Node* const node = is_tracked(key) ? upstream_.node_of(key) : nullptr;
  if (node == nullptr || node->server == kNoServer) return MEMSTREAM_NEAR_FETCH;
  std::uint64_t stale_cas = 0;
  const int status = look_up(node->server, key, value, value_size, ~std::uint64_t{0}, &stale_cas);
  if (status == CACHE_TOO_SMALL) return status;
  if (status != CACHE_OK && status != CACHE_MISS) return MEMSTREAM_NEAR_FETCH;
  count(counts_.stale);
  return status;
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
    // The time counts from the instant of the question to Redis: Redis may have counted since then.
    const std::uint64_t gone_ms = (now_ns() - fill->begun_ns) / 1'000'000 + 1;
    const std::uint64_t left_ms = static_cast<std::uint64_t>(std::max<std::int64_t>(pttl_ms, 0));
    ttl_ms = std::min(ttl_ms, left_ms - std::min(left_ms, gone_ms));
  }
  if (fill->may_store == 0 || ttl_ms == 0) return abandon(key, fill);
  const std::string_view bytes = value != nullptr ? *value : std::string_view{};
  const int status = memstream_near_core_store(cache_, fill->server, key.data(), key.size(), bytes.data(), bytes.size(),
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
  const int asked = ask(key, {{"GET", key}, {"PTTL", key}}, &replies);
  if (asked != CACHE_OK || is_error(replies[0])) {
    abandon(key, &fill);
    const Node* const node = upstream_.node_of(key);
    const bool has_copies = node != nullptr && node->server != kNoServer;
    if (asked != CACHE_OK && settings_.serves_stale && is_tracked(key) && has_copies) {
      *value_size = room;
      std::uint64_t stale_cas = 0;
      const int stale = look_up(node->server, key, value, value_size, ~std::uint64_t{0}, &stale_cas);
      if (stale == CACHE_OK || stale == CACHE_MISS || stale == CACHE_TOO_SMALL) {
        count(counts_.stale);
        return stale == CACHE_TOO_SMALL ? fail(stale, cache_last_error()) : stale;
      }
    }
    *value_size = 0;
    return asked != CACHE_OK ? asked : refused(*replies[0]);
  }
  // The caller has its value, so a copy that cannot be stored is no error.
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

// ---- writing: upstream first, then the copy is dropped, whatever Redis answered ----

int NearCache::invalidate(std::string_view key) {
  const Node* const node = upstream_.node_of(key);
  const std::uint32_t server =
      node == nullptr || node->server == kNoServer ? upstream_.fallback_server() : node->server;
  const int status = memstream_near_core_invalidate(cache_, server, key.data(), key.size());
  // Nobody reads a destroyed segment any more.
  return status == CACHE_OK || status == CACHE_GONE ? CACHE_OK : fail(status, cache_last_error());
}

int NearCache::set(std::string_view key, std::string_view value, std::uint64_t ttl_ms) {
  std::vector<Reply> replies;
  const std::string ttl = std::to_string(ttl_ms);
  RedisConnection::Words command{"SET", key, value};
  if (ttl_ms != 0) command.insert(command.end(), {"PX", ttl});
  const int asked = ask(key, {command}, &replies);
  const int status = asked == CACHE_OK && is_error(replies[0]) ? refused(*replies[0]) : asked;
  const std::string message = status == CACHE_OK ? "" : last_error();
  const int removed = invalidate(key);
  return status == CACHE_OK ? removed : fail(status, message);
}

int NearCache::remove(std::string_view key) {
  std::vector<Reply> replies;
  const int asked = ask(key, {{"DEL", key}}, &replies);
  const int status = asked == CACHE_OK && is_error(replies[0]) ? refused(*replies[0]) : asked;
  const std::string message = status == CACHE_OK ? "" : last_error();
  const int removed = invalidate(key);
  if (status != CACHE_OK) return fail(status, message);
  if (removed != CACHE_OK) return removed;
  return replies[0]->integer != 0 ? CACHE_OK : CACHE_MISS;
}

// For a cluster: the largest lag, and sums. Each master has an agent; the first one that a process runs is shown.
int NearCache::stats(memstream_near_stats_t* stats) {
  publish_counts();
  memstream_near_core_state_t state{};
  state.struct_size = sizeof state;
  if (const int status = memstream_near_core_state(cache_, upstream_.fallback_server(), &state); status != CACHE_OK)
    return fail(status, cache_last_error());
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
            .subscriptions = 0,
            .lag_ms = 0,
            .invalidations = 0,
            .epochs = 0,
            .agent_pid = 0,
            .is_agent = 0};
  bool is_any = false;
  upstream_.visit_serving([&](const Node& node) {
    is_any = true;
    if (node.server == kNoServer || memstream_near_core_state(cache_, node.server, &state) != CACHE_OK) {
      stats->lag_ms = ~std::uint64_t{0};
      return;
    }
    stats->lag_ms = std::max(stats->lag_ms, state.lag_ms);
    stats->invalidations += state.invalidations;
    stats->epochs += state.advances;
    if (stats->agent_pid == 0) stats->agent_pid = state.agent_pid;
    const Agent* const agent = node.agent.load(std::memory_order_acquire);
    if (agent == nullptr) return;
    stats->subscriptions += agent->subscriptions();
    if (agent->is_subscribed()) stats->is_agent = 1;
  });
  if (!is_any) stats->lag_ms = ~std::uint64_t{0};
  return CACHE_OK;
}

std::string NearCache::agent_error() const {
  std::string errors = upstream_.map_error();
  upstream_.visit_serving([&](const Node& node) {
    const Agent* const agent = node.agent.load(std::memory_order_acquire);
    const std::string error = agent == nullptr ? std::string{} : agent->error();
    if (error.empty()) return;
    if (!errors.empty()) errors += "; ";
    if (settings_.upstream.is_cluster) errors += in_quotes(node.name, kMostQuotedPathBytes) + ": ";
    errors += error;
  });
  return errors;
}

}  // namespace memstream::near
