// The near cache's part in the segment: what a reader gets is never older than its bound, whatever is invalidated,
// lost, killed or stopped meanwhile. A server is played by this program.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/memstream_near_core.h"
#include "api/memstream_watch.h"
#include "backends/open_segment.h"
#include "core/cache/format.h"
#include "core/layout/layout.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = 16 << 20;
constexpr std::uint64_t kNoBound = ~std::uint64_t{0};
constexpr std::string_view kKey = "user:1";

// A cache with one server, as one process of many sees it.
class NearView {
 public:
  explicit NearView(const CacheSpec& spec, std::string_view name = "server") : cache_(spec) {
    if (memstream_near_core_claim(cache_, name.data(), name.size(), &server_) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
  }
  operator memstream_t*() const { return cache_; }  // NOLINT(google-explicit-constructor): stands for the handle.
  std::uint32_t server() const { return server_; }

  std::uint64_t begin(std::string_view key = kKey) const {
    std::uint64_t token = 0;
    if (memstream_near_core_begin(cache_, server_, key.data(), key.size(), &token) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
    return token;
  }
  int store(std::uint64_t token, std::string_view value, std::string_view key = kKey) const {
    return memstream_near_core_store(cache_, server_, key.data(), key.size(), value.data(), value.size(), 60'000, 5,
                                     token);
  }
  // The value, or the number of the status.
  std::string get(std::string_view key = kKey, std::uint64_t max_lag_ms = kNoBound) const {
    std::string room(100'000, '\0');
    std::size_t size = room.size();
    memstream_near_core_meta_t meta{};
    const int status =
        memstream_near_core_get(cache_, server_, key.data(), key.size(), room.data(), &size, &meta, max_lag_ms);
    if (status == CACHE_OK) CHECK(meta.flags == 5);
    return status == CACHE_OK ? room.substr(0, size) : "status " + std::to_string(status);
  }
  int invalidate(std::string_view key = kKey) const {
    return memstream_near_core_invalidate(cache_, server_, key.data(), key.size());
  }
  int advance() const { return memstream_near_core_advance(cache_, server_); }
  std::uint64_t now() const { return memstream_near_core_now(cache_); }
  int heard(std::uint64_t instant_ms) const { return memstream_near_core_heard(cache_, server_, instant_ms); }
  int lead() const { return memstream_near_core_lead(cache_, server_); }
  memstream_near_core_state_t state() const {
    memstream_near_core_state_t state{};
    state.struct_size = sizeof state;
    CHECK(memstream_near_core_state(cache_, server_, &state) == CACHE_OK);
    return state;
  }
  // As an agent that has subscribed.
  void come_up() const {
    REQUIRE(advance() == CACHE_OK);
    while (now() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // 0 is "never heard".
    REQUIRE(heard(now()) == CACHE_OK);
  }

 private:
  OpenCache cache_;
  std::uint32_t server_ = 0;
};

const std::string kMissed = "status 1";
const std::string kUnknown = "status 3";

TEST_CASE("what is stored under a token is served to every process, with its flags, small and large") {
  const TemporarySegment segment("near", kSize, 2);
  const NearView one(segment.spec());
  const NearView other(segment.spec());
  CHECK(one.server() == other.server());
  one.come_up();
  CHECK(other.get() == kMissed);
  for (const std::string& value : {std::string("value"), std::string(), std::string(90'000, 'l')}) {
    CAPTURE(value.size());
    CHECK(one.store(one.begin(), value) == CACHE_OK);
    CHECK(other.get() == value);
    char byte = 0;
    std::size_t size = value.empty() ? 0 : 1;
    memstream_near_core_meta_t meta{};
    const int status =
        memstream_near_core_get(other, other.server(), kKey.data(), kKey.size(), &byte, &size, &meta, kNoBound);
    CHECK(status == (value.size() > 1 ? CACHE_TOO_SMALL : CACHE_OK));
    CHECK(size == value.size());
  }
  CHECK(problems_of(one) == "");
}

TEST_CASE("what is stored in another way is a miss for a near get, and the other way round nothing is hidden") {
  const TemporarySegment segment("near-plain", kSize);
  const NearView near(segment.spec());
  near.come_up();
  CHECK(memstream_set(near, kKey.data(), kKey.size(), "plain", 5, 0, 0xffff'ffff) == CACHE_OK);
  CHECK(near.get() == kMissed);
  CHECK(near.store(near.begin(), "17") == CACHE_OK);
  std::array<char, 16> room{};
  std::size_t size = room.size();
  memstream_meta_t meta;
  CHECK(memstream_get(near, kKey.data(), kKey.size(), room.data(), &size, &meta) == CACHE_OK);
  CHECK(meta.flags == 5);
  CHECK(memstream_incr(near, kKey.data(), kKey.size(), 1, nullptr, 0, nullptr) == CACHE_OK);
  CHECK(near.get() == kMissed);  // Of the new number nobody knows whether the server has it.
}

TEST_CASE("nothing is stored under a token when its key was invalidated after it was taken") {
  const TemporarySegment segment("near-token", kSize, 1);
  const NearView reader(segment.spec());
  const NearView agent(segment.spec());
  agent.come_up();
  for (const std::size_t size : {std::size_t{5}, std::size_t{90'000}}) {
    CAPTURE(size);
    const std::string value(size, 'v');
    const std::uint64_t token = reader.begin();
    CHECK(agent.invalidate() == CACHE_OK);
    CHECK(reader.store(token, value) == CACHE_CONFLICT);
    CHECK(reader.get() == kMissed);
    CHECK(reader.store(reader.begin(), value) == CACHE_OK);
    CHECK(reader.get() == value);
    CHECK(agent.invalidate() == CACHE_OK);
    CHECK(reader.get() == kMissed);
  }
  CHECK(agent.state().invalidations == 4);
  CHECK(stats_of(agent).pinned_memory == 0);
  CHECK(problems_of(agent) == "");
}

TEST_CASE("an invalidation ends the lease of its key") {
  const TemporarySegment segment("near-lease", kSize);
  const NearView near(segment.spec());
  near.come_up();
  std::uint64_t lease = 0;
  REQUIRE(memstream_lease(near, kKey.data(), kKey.size(), 0, 0, &lease) == CACHE_OK);
  CHECK(near.invalidate() == CACHE_OK);
  CHECK(memstream_lease_release(near, kKey.data(), kKey.size(), lease) == CACHE_CONFLICT);
  REQUIRE(memstream_lease(near, kKey.data(), kKey.size(), 0, 0, &lease) == CACHE_OK);
  CHECK(near.store(near.begin(), "value") == CACHE_OK);  // And so does a fill.
  CHECK(memstream_lease_release(near, kKey.data(), kKey.size(), lease) == CACHE_CONFLICT);
}

TEST_CASE("an epoch that ends takes all entries and tokens of its server with it, and of no other") {
  const TemporarySegment segment("near-epoch", kSize);
  const NearView one(segment.spec());
  const NearView other(segment.spec(), "another server");
  CHECK(one.server() != other.server());
  one.come_up();
  other.come_up();
  CHECK(one.state().epoch != other.state().epoch);
  CHECK(one.store(one.begin("a"), "1", "a") == CACHE_OK);
  CHECK(other.store(other.begin("b"), "2", "b") == CACHE_OK);
  CHECK(one.get("b") == kMissed);  // A key that has moved to another server.
  const std::uint64_t token = one.begin("c");
  CHECK(one.advance() == CACHE_OK);
  CHECK(one.get("a") == kMissed);
  CHECK(one.store(token, "3", "c") == CACHE_CONFLICT);
  // An entry whose epoch is over does not keep anybody from the lease of its key.
  char room[8];
  std::size_t size = sizeof room;
  memstream_near_core_meta_t meta{};
  CHECK(memstream_near_core_get(one, one.server(), "a", 1, room, &size, &meta, kNoBound) == CACHE_MISS);
  std::uint64_t lease = 0;
  CHECK(memstream_lease(one, "a", 1, 0, 0, &lease) == CACHE_EXISTS);
  CHECK(memstream_lease(one, "a", 1, meta.stale_cas, 0, &lease) == CACHE_OK);
  CHECK(one.get("c") == kMissed);
  CHECK(other.get("b") == "2");
  CHECK(one.store(one.begin("a"), "4", "a") == CACHE_OK);
  CHECK(one.get("a") == "4");
  CHECK(one.state().advances == 2);
}

TEST_CASE("a watcher is told of copies that end, one by one and all at once") {
  const TemporarySegment segment("near-watch", kSize, 2);
  const NearView near(segment.spec());
  near.come_up();
  memstream_watch_t* watch = nullptr;
  REQUIRE(memstream_watch(near, "", 0, &watch) == CACHE_OK);
  const auto told = [&]() -> std::string {
    std::string key(CACHE_MAX_KEY_SIZE, '\0');
    std::size_t size = key.size();
    const int status = memstream_watch_next(watch, key.data(), &size, 5000);
    return status != CACHE_OK ? "nothing" : size == 0 ? "look again" : key.substr(0, size);
  };
  CHECK(near.store(near.begin("a"), "1", "a") == CACHE_OK);
  CHECK(told() == "a");
  CHECK(near.invalidate("a") == CACHE_OK);
  CHECK(told() == "a");
  CHECK(near.advance() == CACHE_OK);
  CHECK(told() == "look again");
  CHECK(near.store(near.begin("a"), "2", "a") == CACHE_OK);
  CHECK(told() == "a");
  CHECK(memstream_watch_end(&watch) == CACHE_OK);
}

TEST_CASE("nothing is served before the first epoch, nor when the server was not heard for too long") {
  const TemporarySegment segment("near-lag", kSize);
  const NearView near(segment.spec());
  CHECK(near.get() == kUnknown);
  CHECK(near.state().lag_ms == kNoBound);
  CHECK(near.store(near.begin(), "early") == CACHE_CONFLICT);
  near.come_up();
  CHECK(near.store(near.begin(), "value") == CACHE_OK);
  CHECK(near.get(kKey, 5000) == "value");
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  CHECK(near.get(kKey, 50) == kUnknown);
  CHECK(near.get("absent", 50) == kUnknown);
  CHECK(near.get(kKey, 5000) == "value");
  CHECK(near.state().lag_ms >= 50);
  const std::uint64_t now = near.now();
  CHECK(near.heard(now) == CACHE_OK);
  CHECK(near.get(kKey, 50) == "value");
  CHECK(near.heard(1) == CACHE_OK);  // Of an agent that was slower.
  CHECK(near.state().lag_ms < now - 1);
  CHECK(near.heard(now + 60'000) == CACHE_INVALID);
}

TEST_CASE("the agent's role passes on when its holder ends, gives it up or is inactive") {
  const TemporarySegment segment("near-agent", kSize);
  const NearView one(segment.spec());
  const NearView other(segment.spec());
  CHECK(one.state().agent_pid == 0);
  CHECK(one.lead() == CACHE_OK);
  CHECK(other.lead() == CACHE_HELD);
  CHECK(one.lead() == CACHE_OK);
  CHECK(one.state().agent_pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(memstream_near_core_yield(other, 0) == CACHE_OK);  // It has none to give up.
  CHECK(other.lead() == CACHE_HELD);
  CHECK(memstream_near_core_yield(one, 0) == CACHE_OK);
  CHECK(other.lead() == CACHE_OK);
  CHECK(one.lead() == CACHE_HELD);
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  CHECK(one.lead() == CACHE_OK);
  CHECK(other.lead() == CACHE_HELD);
  CHECK(memstream_near_core_yield(one, 0) == CACHE_OK);

  Signal leads;
  const ChildProcess child([&]() -> Complaint {
    const NearView own(segment.spec());
    if (own.lead() != CACHE_OK) return "no role";
    leads.post();
    ::pause();
    return {};
  });
  leads.wait();
  CHECK(other.lead() == CACHE_HELD);
  child.send_signal(SIGKILL);
  int tries = 0;
  while (other.lead() == CACHE_HELD && ++tries < 50) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(tries < 50);  // Not only after its second.
}

TEST_CASE("an invalidation that finds the shard busy ends the epoch instead") {
  const TemporarySegment segment("near-busy", kSize, 1, 20);
  const NearView near(segment.spec());
  near.come_up();
  CHECK(near.store(near.begin(), "value") == CACHE_OK);
  const std::uint64_t token = near.begin("another");
  std::unique_ptr<SegmentBackend> backend;
  std::unique_ptr<Segment> raw;
  SegmentFormat format(segment.spec().name, 0);
  REQUIRE(make_backend_from_environment(&backend) == Status::kOk);
  REQUIRE(backend->attach({.name = segment.spec().name}, Access::kReadWrite, format, &raw) == Status::kOk);
  const auto& header = *reinterpret_cast<const SegmentHeader*>(raw->data());
  auto& shard = *reinterpret_cast<ShardHeader*>(raw->data() + header.identity.shards_offset);
  Signal is_held;
  Signal is_over;
  std::thread holder([&] {
    ::pthread_mutex_lock(&shard.write_mutex);
    is_held.post();
    is_over.wait();
    ::pthread_mutex_unlock(&shard.write_mutex);
  });
  is_held.wait();
  CHECK(near.get() == "value");
  CHECK(near.invalidate() == CACHE_OK);
  CHECK(near.get() == kMissed);
  is_over.post();
  holder.join();
  CHECK(near.store(token, "old", "another") == CACHE_CONFLICT);
}

TEST_CASE("a handle that has claimed nothing sees servers and counts, also read-only") {
  const TemporarySegment segment("near-look", kSize, 2);
  memstream_near_core_state_t state{};
  state.struct_size = sizeof state;
  memstream_near_core_counts_t counts{};
  counts.struct_size = sizeof counts;
  {
    const OpenCache plain(segment.spec());
    CHECK(memstream_near_core_look(plain, 0, &state) == CACHE_MISS);
    CHECK(memstream_near_core_counts(plain, &counts) == CACHE_OK);
    CHECK(counts.hits == 0);
    counts.hits = 1;
    CHECK(memstream_near_core_count(plain, &counts) == CACHE_INVALID);  // It has claimed nothing.
  }
  const NearView one(segment.spec(), "10.0.0.1:6379\nuser:");
  const NearView other(segment.spec(), std::string(100, 'n'));
  one.come_up();
  CHECK(memstream_near_core_note_subscription(one, one.server()) == CACHE_OK);
  counts = {sizeof counts, 1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(memstream_near_core_count(one, &counts) == CACHE_OK);
  CHECK(memstream_near_core_count(other, &counts) == CACHE_OK);
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(memstream_near_core_look(reader, one.server(), &state) == CACHE_OK);
  CHECK(std::string(state.label) == "10.0.0.1:6379");
  CHECK(state.subscriptions == 1);
  CHECK(state.advances == 1);
  CHECK(state.lag_ms < 10'000);
  CHECK(memstream_near_core_look(reader, other.server(), &state) == CACHE_OK);
  CHECK(std::string(state.label) == std::string(48, 'n'));
  CHECK(state.lag_ms == kNoBound);
  CHECK(memstream_near_core_look(reader, 2, &state) == CACHE_MISS);
  CHECK(memstream_near_core_look(reader, 1000, &state) == CACHE_MISS);
  CHECK(memstream_near_core_counts(reader, &counts) == CACHE_OK);
  CHECK(counts.hits == 2);
  CHECK(counts.fetches == 4);
  CHECK(counts.fills == 6);
  CHECK(counts.conflicts == 8);
  CHECK(counts.merged == 10);
  CHECK(counts.bypasses == 12);
  CHECK(counts.stale == 14);
  CHECK(counts.errors == 16);
  counts.struct_size = 8;
  CHECK(memstream_near_core_counts(reader, &counts) == CACHE_INVALID);
  CHECK(memstream_near_core_count(one, &counts) == CACHE_INVALID);
  CHECK(memstream_near_core_count(one, nullptr) == CACHE_INVALID);
  CHECK(memstream_near_core_note_subscription(reader, 0) == CACHE_READ_ONLY);
  state.struct_size = 8;
  CHECK(memstream_near_core_look(reader, 0, &state) == CACHE_INVALID);
}

TEST_CASE("a token says how many copies in a row were removed unread, and in which epoch it was taken") {
  const TemporarySegment segment("near-unread", kSize, 2);
  const NearView near(segment.spec());
  CHECK(memstream_near_core_epoch_of(near.begin()) == 0);
  near.come_up();
  CHECK(memstream_near_core_epoch_of(near.begin()) == near.state().epoch);
  for (std::uint32_t unread = 0; unread < 20; ++unread) {
    const std::uint64_t token = near.begin();
    CHECK(memstream_near_core_unread_of(token) == std::min<std::uint32_t>(unread, 15));
    REQUIRE(near.store(token, "value") == CACHE_OK);
    REQUIRE(near.invalidate() == CACHE_OK);
    REQUIRE(near.invalidate() == CACHE_OK);  // Of nothing: it says nothing of the key.
    CHECK(near.store(token, "value") == CACHE_CONFLICT);
  }
  REQUIRE(near.store(near.begin(), "value") == CACHE_OK);
  CHECK(near.get() == "value");
  REQUIRE(near.invalidate() == CACHE_OK);
  CHECK(memstream_near_core_unread_of(near.begin()) == 0);
}

TEST_CASE("what cannot be a near cache is refused with a remedy, and wrong calls are named") {
  const auto says = [](const char* part) { return std::strstr(cache_last_error(), part) != nullptr; };
  std::uint32_t server = 0;
  {
    const TemporarySegment segment("near-small", kSize - (1 << 20));
    const OpenCache cache(segment.spec());
    CHECK(memstream_near_core_claim(cache, "s", 1, &server) == CACHE_INVALID);
    CHECK(says("at least 16 MiB"));
    std::uint64_t token = 0;
    CHECK(memstream_near_core_begin(cache, 0, "k", 1, &token) == CACHE_INVALID);
    CHECK(says("memstream_near_core_claim"));
    std::size_t size = 0;
    memstream_near_core_meta_t meta{};
    CHECK(memstream_near_core_get(cache, 0, "k", 1, nullptr, &size, &meta, 0) == CACHE_INVALID);
    CHECK(memstream_near_core_lead(cache, 0) == CACHE_INVALID);
    CHECK(memstream_near_core_yield(cache, 0) == CACHE_INVALID);
  }
  {
    const TemporarySegment segment("near-checksum", kSize);
    memstream_options_t options = segment.spec().options();
    options.checksum = "on";
    const OpenCache cache(options);
    CHECK(memstream_near_core_claim(cache, "s", 1, &server) == CACHE_INVALID);
    CHECK(says("MEMSTREAM_CHECKSUM=off"));
  }
  const TemporarySegment segment("near-wrong", kSize);
  const NearView near(segment.spec());
  CHECK(memstream_near_core_claim(near, "", 0, &server) == CACHE_INVALID);
  CHECK(says("1 to 1024 bytes"));
  CHECK(memstream_near_core_claim(near, nullptr, 1, &server) == CACHE_INVALID);
  CHECK(memstream_near_core_claim(nullptr, "s", 1, &server) == CACHE_INVALID);
  CHECK(memstream_near_core_advance(near, 64) == CACHE_INVALID);
  CHECK(memstream_near_core_heard(near, 64, 0) == CACHE_INVALID);
  CHECK(memstream_near_core_invalidate(near, 64, "k", 1) == CACHE_INVALID);
  CHECK(memstream_near_core_store(near, 64, "k", 1, "v", 1, 0, 0, 0) == CACHE_INVALID);
  CHECK(memstream_near_core_store(near, 0, "k", 1, nullptr, 1, 0, 0, 0) == CACHE_INVALID);
  std::uint64_t token = 0;
  const std::string long_key(1025, 'k');
  CHECK(memstream_near_core_begin(near, 0, long_key.data(), long_key.size(), &token) == CACHE_BAD_KEY);
  CHECK(memstream_near_core_store(near, 0, "", 0, "v", 1, 0, 0, 0) == CACHE_BAD_KEY);
  CHECK(near.get(long_key) == "status -2");
  CHECK(near.invalidate(long_key) == CACHE_OK);  // The server has keys that a cache cannot have.
  CHECK(memstream_near_core_now(nullptr) == 0);
  memstream_near_core_state_t state{};
  CHECK(memstream_near_core_state(near, 0, &state) == CACHE_INVALID);
  CHECK(says("sizeof"));
  for (std::uint32_t number = 1; number < 64; ++number) {
    const std::string name = "server " + std::to_string(number);
    REQUIRE(memstream_near_core_claim(near, name.data(), name.size(), &server) == CACHE_OK);
    REQUIRE(server == number);
  }
  CHECK(memstream_near_core_claim(near, "one more", 8, &server) == CACHE_FULL);
  CHECK(says("64 servers"));
  CHECK(memstream_near_core_claim(near, "server 7", 8, &server) == CACHE_OK);
  CHECK(server == 7);

  memstream_options_t read_only = segment.spec().options();
  read_only.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(read_only);
  CHECK(memstream_near_core_claim(reader, "server", 6, &server) == CACHE_READ_ONLY);
  CHECK(memstream_destroy(near) == CACHE_OK);
  CHECK(near.get() == "status " + std::to_string(CACHE_GONE));
  CHECK(near.advance() == CACHE_GONE);
  CHECK(memstream_near_core_claim(near, "server", 6, &server) == CACHE_GONE);
}

// ---- the oracle ----

// A server with keys whose values are growing numbers, and the messages that it sends to its subscriber.
class PlayedServer {
 public:
  static constexpr std::size_t kKeys = 6;
  using Clock = std::chrono::steady_clock;

  static std::string key_of(std::size_t number) { return "user:" + std::to_string(number); }

  void write(std::size_t key) {
    const std::lock_guard<std::mutex> guard(mutex_);
    overwritten_[key].push_back(Clock::now());
    if (is_connected_) messages_.push_back(key);
  }
  std::size_t read(std::size_t key) {
    const std::lock_guard<std::mutex> guard(mutex_);
    return overwritten_[key].size();
  }
  // When the value of that version was overwritten.
  Clock::time_point overwritten_at(std::size_t key, std::size_t version) {
    const std::lock_guard<std::mutex> guard(mutex_);
    return version < overwritten_[key].size() ? overwritten_[key][version] : Clock::time_point::max();
  }
  void disconnect() {
    const std::lock_guard<std::mutex> guard(mutex_);
    is_connected_ = false;
    messages_.clear();
  }
  void connect() {
    const std::lock_guard<std::mutex> guard(mutex_);
    is_connected_ = true;
  }
  std::deque<std::size_t> take_messages() {
    const std::lock_guard<std::mutex> guard(mutex_);
    return std::exchange(messages_, {});
  }

 private:
  std::mutex mutex_;
  std::array<std::vector<Clock::time_point>, kKeys> overwritten_;
  std::deque<std::size_t> messages_;
  bool is_connected_ = false;
};

TEST_CASE("no reader gets what was overwritten longer ago than its bound, whatever is lost meanwhile") {
  constexpr std::uint64_t kMaxLagMs = 60;
  const TemporarySegment segment("near-oracle", kSize, 2);
  PlayedServer server;
  std::atomic<bool> is_over{false};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> stale{0};
  std::atomic<std::uint64_t> conflicts{0};

  std::thread writer([&] {
    std::mt19937_64 random(1);
    while (!is_over) {
      server.write(random() % PlayedServer::kKeys);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
  });
  std::thread agent([&] {
    std::mt19937_64 random(2);
    const NearView near(segment.spec());
    while (!is_over) {
      server.connect();
      near.advance();
      const std::uint64_t beats = 20 + random() % 200;
      for (std::uint64_t beat = 0; beat < beats && !is_over; ++beat) {
        const std::uint64_t instant = near.now();
        for (const std::size_t key : server.take_messages()) near.invalidate(PlayedServer::key_of(key));
        near.heard(instant);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      }
      server.disconnect();  // And the messages are lost.
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
    }
  });
  std::vector<std::thread> readers;
  for (unsigned seed = 3; seed < 6; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      const NearView near(segment.spec());
      while (!is_over) {
        const std::size_t number = random() % PlayedServer::kKeys;
        const std::string key = PlayedServer::key_of(number);
        const PlayedServer::Clock::time_point begin = PlayedServer::Clock::now();
        const std::string got = near.get(key, kMaxLagMs);
        if (got == kMissed) {
          const std::uint64_t token = near.begin(key);
          const std::size_t version = server.read(number);
          if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 4000));
          if (near.store(token, "version " + std::to_string(version), key) == CACHE_CONFLICT) ++conflicts;
        } else if (got != kUnknown) {
          ++hits;
          const std::size_t version = std::stoul(got.substr(std::strlen("version ")));
          const auto gone = server.overwritten_at(number, version);
          if (gone != PlayedServer::Clock::time_point::max() && gone + std::chrono::milliseconds(kMaxLagMs) < begin) {
            ++stale;
          }
        }
      }
    });
  }
  std::this_thread::sleep_for(stress_time(3));
  is_over = true;
  writer.join();
  agent.join();
  for (std::thread& reader : readers) reader.join();
  CHECK(stale == 0);
  CHECK(hits > 0);
  CHECK(conflicts > 0);
  const NearView near(segment.spec());
  CHECK(near.state().advances > 0);
  CHECK(problems_of(near) == "");
}

int resize(memstream_t* cache, std::uint64_t size_bytes) {
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  return memstream_resize(cache, size_bytes, &report);
}

TEST_CASE("after a resize the servers keep their numbers, and nothing of the old segment passes for valid") {
  const TemporarySegment segment("near-resize", kSize);
  const NearView reader(segment.spec());
  const NearView agent(segment.spec());
  const NearView second(segment.spec(), "second server");
  agent.come_up();
  second.come_up();
  REQUIRE(agent.lead() == CACHE_OK);
  std::uint64_t size = kSize;
  for (int round = 0; round < 4; ++round) {
    CAPTURE(round);
    const std::uint64_t token = reader.begin();
    const std::uint32_t epoch = agent.state().epoch;
    const std::uint32_t second_epoch = second.state().epoch;
    REQUIRE(reader.store(token, "old") == CACHE_OK);
    REQUIRE(reader.get() == "old");
    size = size == kSize ? 3 * kSize : kSize;
    REQUIRE(resize(reader, size) == CACHE_OK);
    // Nothing was heard in the new segment yet.
    CHECK(reader.get() == kUnknown);
    CHECK(agent.lead() == CACHE_OK);
    // An agent goes on with its claims: it need not know of the resize.
    REQUIRE(agent.heard(agent.now()) == CACHE_OK);
    CHECK(reader.get() == kMissed);
    CHECK(reader.store(token, "old") == CACHE_CONFLICT);
    CHECK(reader.get() == kMissed);
    CHECK(agent.state().epoch > epoch + 1000);
    CHECK(second.state().epoch > second_epoch + 1000);
    CHECK(second.state().epoch != agent.state().epoch);
    CHECK(NearView(segment.spec(), "second server").server() == second.server());
    CHECK(reader.store(reader.begin(), "new") == CACHE_OK);
    CHECK(agent.get() == "new");
    CHECK(agent.invalidate() == CACHE_OK);
    CHECK(reader.get() == kMissed);
  }
  CHECK(NearView(segment.spec(), "third server").server() > second.server());
  CHECK(problems_of(reader) == "");
}

TEST_CASE("each call of an agent and of a reader goes on in the successor") {
  const TemporarySegment segment("near-calls", kSize);
  const NearView near(segment.spec());
  const OpenCache other(segment.spec());
  near.come_up();
  std::uint64_t size = kSize;
  const auto next = [&] {
    size = size == kSize ? 2 * kSize : kSize;
    REQUIRE(resize(other, size) == CACHE_OK);
  };
  next();
  CHECK(near.begin() != 0);
  next();
  CHECK(near.invalidate() == CACHE_OK);
  CHECK(near.state().invalidations == 1);
  next();
  CHECK(near.advance() == CACHE_OK);
  CHECK(near.state().advances == 1);
  next();
  CHECK(near.heard(near.now()) == CACHE_OK);
  CHECK(near.get() == kMissed);
  next();
  CHECK(near.lead() == CACHE_OK);
  CHECK(near.state().agent_pid == static_cast<std::uint32_t>(::getpid()));
  next();
  CHECK(near.state().agent_pid == 0);
  next();
  CHECK(near.get() == kUnknown);
  next();
  CHECK(near.store(near.begin(), "value") == CACHE_OK);
  next();
  std::uint32_t server = 99;
  CHECK(memstream_near_core_claim(near, "server", 6, &server) == CACHE_OK);
  CHECK(server == near.server());
}

TEST_CASE("a near cache is not made smaller than it may be, and another segment is") {
  const TemporarySegment segment("near-small", kSize);
  const OpenCache plain(segment.spec());
  REQUIRE(resize(plain, kSize / 2) == CACHE_OK);
  REQUIRE(resize(plain, kSize) == CACHE_OK);
  const NearView near(segment.spec());
  CHECK(resize(plain, kSize / 2) == CACHE_BAD_SIZE);
  CHECK(std::string(cache_last_error()).find("near cache") != std::string::npos);
  near.come_up();
  CHECK(near.store(near.begin(), "value") == CACHE_OK);
  CHECK(near.get() == "value");
}

TEST_CASE("readers and agents that are killed at any instant leave no stale value and a whole cache") {
  const TemporarySegment segment("near-kill", kSize, 1);
  const NearView near(segment.spec());
  std::mt19937_64 random(7);
  for (int round = 0; round < scaled(60); ++round) {
    Signal works;
    const ChildProcess child([&]() -> Complaint {
      const NearView own(segment.spec());
      for (std::uint64_t number = 0;; ++number) {
        const std::string key = "user:" + std::to_string(number % 4);
        const std::uint64_t token = own.begin(key);
        if (number % 3 == 0) own.invalidate(key);
        static_cast<void>(own.store(token, "of " + std::to_string(round), key));
        if (number % 50 == 0) own.lead();
        if (number % 97 == 0) own.advance();
        if (number == 100) works.post();
      }
    });
    works.wait();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    child.send_signal(SIGKILL);
    // As the next agent: what the dead one left behind is over.
    near.come_up();
    for (int number = 0; number < 4; ++number) {
      const std::string key = "user:" + std::to_string(number);
      CHECK(near.get(key) == kMissed);
      CHECK(near.store(near.begin(key), "new", key) == CACHE_OK);
      CHECK(near.get(key) == "new");
    }
    REQUIRE(problems_of(near) == "");
  }
}

}  // namespace
}  // namespace memstream::test
