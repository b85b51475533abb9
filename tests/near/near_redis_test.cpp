// The near cache with a Redis of its own: what is shared, what is merged, and what ends when something is lost.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "near/memstream_near.h"
#include "tests/near/near_handle.h"
#include "tests/near/redis_server.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;

// The signals that each thread of this process but the caller's blocks: bit n - 1 for the signal n.
std::vector<std::uint64_t> signals_blocked_by_others() {
  std::vector<std::uint64_t> blocked;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(::gettid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("SigBlk:", 0) == 0) blocked.push_back(std::stoull(line.substr(7), nullptr, 16));
    }
  }
  return blocked;
}

TEST_CASE("one fetch serves all, over one connection that tracks, and what another client writes is seen") {
  RedisServer redis;
  const TemporarySegment segment("near-all", kSize);
  const Near one(segment.spec(), redis.address());
  const Near other(segment.spec(), redis.address());
  one.wait_until_current();
  CHECK(one.get("key") == kAbsent);
  CHECK(other.get("key") == kAbsent);
  CHECK(redis.info("commandstats", "cmdstat_get") == 1);
  CHECK(redis.ask({"SET", "key", "value"}) == "OK");
  CHECK(becomes_true([&] { return other.get("key") == "value"; }, milliseconds(600)));
  const long gets = redis.info("commandstats", "cmdstat_get");
  CHECK(one.get("key") == "value");
  CHECK(other.get("key") == "value");
  CHECK(redis.info("commandstats", "cmdstat_get") == gets);
  CHECK(redis.info("clients", "tracking_clients") == 1);

  const std::string large(150'000, 'l');
  CHECK(one.set("key", large) == CACHE_OK);
  CHECK(one.get("key") == large);  // Its own write, at once.
  CHECK(other.get("key") == large);
  CHECK(one.get("key", 10) == "status " + std::to_string(CACHE_TOO_SMALL));
  CHECK(other.get("key", large.size()) == large);
  CHECK(one.set("short", "lived", 60) == CACHE_OK);
  CHECK(other.get("short") == "lived");
  std::this_thread::sleep_for(milliseconds(90));
  CHECK(other.get("short") == kAbsent);
  CHECK(one.remove("key") == CACHE_OK);
  CHECK(other.get("key") == kAbsent);
  CHECK(one.remove("key") == CACHE_MISS);
  CHECK(redis.ask({"SET", "empty", ""}) == "OK");
  CHECK(one.get("empty", 0).empty());
  CHECK(other.get("empty", 0).empty());
  const memstream_near_stats_t stats = other.stats();
  CHECK(stats.hits > 0);
  CHECK(stats.fills > 0);
  CHECK(stats.invalidations > 0);
  CHECK(stats.errors == 0);
  CHECK(one.stats().is_agent + other.stats().is_agent == 1);
  CHECK(stats.agent_pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(problems_of(one.cache()) == "");
}

TEST_CASE("callers that miss one key at a time ask Redis once") {
  RedisServer redis;
  RedisProxy proxy(redis);
  const TemporarySegment segment("near-merge", kSize);
  const Near near(segment.spec(), proxy.address());
  const Near other(segment.spec(), proxy.address());
  near.wait_until_current();
  redis.ask({"SET", "key", "value"});
  REQUIRE(becomes_true([&] { return near.stats().invalidations == 1; }));  // It would end the lease.
  proxy.hold_gets(true);
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&, i] { right += (i % 2 == 0 ? near : other).get("key") == "value" ? 1 : 0; });
  }
  CHECK(becomes_true([&] { return proxy.held() == 1; }));
  std::this_thread::sleep_for(milliseconds(50));
  CHECK(proxy.held() == 1);
  proxy.hold_gets(false);
  for (std::thread& caller : callers) caller.join();
  CHECK(right.load() == 8);
  CHECK(redis.info("commandstats", "cmdstat_get") == 1);
  CHECK(near.stats().merged + other.stats().merged > 0);
  CHECK(near.stats().merged + other.stats().merged + near.stats().hits + other.stats().hits == 7);
}

TEST_CASE("a key that is written while it is fetched is not stored, and the next get sees what was written") {
  RedisServer redis;
  RedisProxy proxy(redis);
  const TemporarySegment segment("near-during", kSize);
  const Near near(segment.spec(), proxy.address());
  near.wait_until_current();
  redis.ask({"SET", "key", "old"});
  REQUIRE(becomes_true([&] { return near.stats().invalidations == 1; }));
  CHECK(near.get("other") == kAbsent);  // A connection for gets is there.
  proxy.hold_gets(true);
  std::string got;
  std::thread reader([&] { got = near.get("key"); });
  CHECK(becomes_true([&] { return proxy.held() == 1; }));
  const std::uint64_t before = near.stats().invalidations;
  redis.ask({"SET", "key", "new"});
  CHECK(becomes_true([&] { return near.stats().invalidations > before; }));
  proxy.hold_gets(false);
  reader.join();
  CHECK(got == "old");
  CHECK(near.get("key") == "new");
  CHECK(near.stats().conflicts == 1);
}

TEST_CASE("a key that is written more often than it is read is kept on trial only, until it is read again") {
  RedisServer redis;
  const TemporarySegment segment("near-unread", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  const auto fill_and_change = [&](int times) {
    const std::uint64_t before = near.stats().fills;
    for (int i = 0; i < times; ++i) {
      const std::uint64_t heard = near.stats().invalidations;
      CHECK(near.get("key") != kUnreachable);
      redis.ask({"SET", "key", std::to_string(i)});
      REQUIRE(becomes_true([&] { return near.stats().invalidations > heard; }));
    }
    return near.stats().fills - before;
  };
  redis.ask({"SET", "key", "first"});
  REQUIRE(becomes_true([&] { return near.stats().invalidations == 1; }));
  CHECK(fill_and_change(8) == 8);
  CHECK(fill_and_change(16) == 2);  // One in eight.
  CHECK(near.stats().bypasses == 14);
  // A trial that is read brings it back. Another key was never in doubt.
  near.have("other", "kept");
  REQUIRE(becomes_true([&] {
    const std::uint64_t hits = near.stats().hits;
    return near.get("key") == "15" && near.stats().hits > hits;
  }));
  CHECK(fill_and_change(4) == 3);  // The first one was a hit.
}

TEST_CASE("FLUSHALL and FLUSHDB end the epoch, and a lost tracking connection too") {
  RedisServer redis;
  const TemporarySegment segment("near-flush", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  for (const char* command : {"FLUSHALL", "FLUSHDB"}) {
    CAPTURE(command);
    redis.ask({"SET", "key", command});
    REQUIRE(becomes_true([&] { return near.get("key") == command; }));
    const std::uint64_t epochs = near.stats().epochs;
    CHECK(redis.ask({command}) == "OK");
    CHECK(becomes_true([&] { return near.get("key") == kAbsent; }, milliseconds(600)));
    CHECK(near.stats().epochs == epochs + 1);
  }
  for (std::uint64_t round = 2; round < 7; ++round) {
    const std::string value = "of round " + std::to_string(round);
    redis.ask({"SET", "key", value});
    REQUIRE(becomes_true([&] { return near.get("key") == value; }));
    CHECK(redis.ask({"CLIENT", "KILL", "TYPE", "pubsub"}) == "1");
    redis.ask({"SET", "key", "behind its back"});
    CHECK(becomes_true([&] { return near.get("key") == "behind its back"; }, milliseconds(700)));
    CHECK(becomes_true([&] { return near.stats().subscriptions == round && near.is_current(); }));
  }
  CHECK(std::string(memstream_near_agent_error(near)).empty());
}

TEST_CASE("without Redis a copy is served up to the bound, then an error or what is stale; all resumes by itself") {
  RedisServer redis;
  const TemporarySegment segment("near-gone", kSize);
  const Near near(segment.spec(), redis.address());
  const Near content(segment.spec(), redis.address(), MEMSTREAM_NEAR_STALE_ON_ERROR);
  near.wait_until_current();
  near.have("key", "value");
  redis.kill();
  CHECK(near.get("key") == "value");
  CHECK(becomes_true([&] { return near.get("key") == kUnreachable; }, milliseconds(1200)));
  CHECK(std::string(memstream_near_last_error()).find(redis.socket()) != std::string::npos);
  CHECK(content.get("key") == "value");
  CHECK(content.stats().stale == 1);
  CHECK(content.get("never seen") == kUnreachable);
  CHECK(near.set("key", "newer") == MEMSTREAM_NEAR_UNREACHABLE);
  CHECK(near.remove("key") == MEMSTREAM_NEAR_UNREACHABLE);
  CHECK(
      becomes_true([&] { return *memstream_near_agent_error(near.stats().subscriptions != 0 ? near : content) != 0; }));
  redis.start();
  redis.ask({"SET", "key", "after"});
  CHECK(becomes_true([&] { return near.get("key") == "after"; }));
  CHECK(becomes_true([&] { return near.is_current(); }));
  const std::uint64_t hits = near.stats().hits;
  CHECK(becomes_true([&] { return near.get("key") == "after" && near.stats().hits > hits; }));
}

TEST_CASE("a connection that swallows everything, and a Redis that is stopped, are bypassed after the bound") {
  RedisServer redis;
  RedisProxy proxy(redis);
  const TemporarySegment segment("near-hole", kSize);
  const Near near(segment.spec(), proxy.address());
  near.wait_until_current();
  for (const bool is_stopped : {false, true}) {
    CAPTURE(is_stopped);
    near.have("key", "value");
    if (is_stopped) {
      redis.send_signal(SIGSTOP);
    } else {
      proxy.swallow(true);
      redis.ask({"SET", "key", "unseen"});
    }
    CHECK(near.get("key") == "value");
    std::this_thread::sleep_for(milliseconds(650));
    CHECK(near.get("key") == kUnreachable);
    if (is_stopped) {
      redis.send_signal(SIGCONT);
    } else {
      proxy.swallow(false);
      CHECK(becomes_true([&] { return near.get("key") == "unseen"; }));
    }
    CHECK(becomes_true([&] { return near.is_current(); }));
  }
}

TEST_CASE("another process takes the role of an agent that is killed or stopped") {
  RedisServer redis;
  const TemporarySegment segment("near-role", kSize);
  for (const int signal : {SIGKILL, SIGSTOP}) {
    CAPTURE(signal);
    Signal leads;
    const ChildProcess agent([&]() -> Complaint {
      const Near own(segment.spec(), redis.address());
      if (!becomes_true([&] { return own.stats().is_agent == 1 && own.is_current(); })) return "no agent";
      leads.post();
      ::pause();
      return {};
    });
    leads.wait();
    const Near near(segment.spec(), redis.address());
    near.have("key", "value");
    CHECK(near.stats().agent_pid == static_cast<std::uint32_t>(agent.id()));
    agent.send_signal(signal);
    redis.ask({"SET", "key", "unheard"});
    CHECK(becomes_true([&] { return near.get("key") == "unheard"; }, milliseconds(700)));
    CHECK(becomes_true([&] { return near.stats().is_agent == 1 && near.is_current(); }));
    if (signal == SIGSTOP) {
      agent.send_signal(SIGCONT);  // It finds that it is no agent any more.
      CHECK(becomes_true([&] { return redis.info("clients", "tracking_clients") == 1; }));
      CHECK(near.stats().is_agent == 1);
    }
  }
}

TEST_CASE("a caller with its own client stores what it was told, and others wait for it") {
  RedisServer redis;
  const TemporarySegment segment("near-own", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  memstream_near_fill_t fill;
  char room[16];
  std::size_t size = sizeof room;
  const auto begin = [&] {
    size = sizeof room;
    return memstream_near_begin(near, "key", 3, room, &size, &fill);
  };
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  std::string got;
  std::thread waiting([&] { got = near.get("key"); });
  std::this_thread::sleep_for(milliseconds(30));
  CHECK(memstream_near_store(near, "key", 3, "value", 5, -1, &fill) == CACHE_OK);
  waiting.join();
  CHECK(got == "value");
  CHECK(begin() == CACHE_OK);
  CHECK(std::string(room, size) == "value");

  CHECK(memstream_near_invalidate(near, "key", 3) == CACHE_OK);
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  CHECK(memstream_near_store_absent(near, "key", 3, &fill) == CACHE_OK);
  CHECK(begin() == CACHE_MISS);
  CHECK(memstream_near_invalidate(near, "key", 3) == CACHE_OK);
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  CHECK(memstream_near_invalidate(near, "key", 3) == CACHE_OK);
  CHECK(memstream_near_store(near, "key", 3, "value", 5, -1, &fill) == CACHE_CONFLICT);
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  CHECK(memstream_near_store(near, "key", 3, "value", 5, 0, &fill) == CACHE_OK);  // It is about to expire.
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  CHECK(memstream_near_abandon(near, "key", 3, &fill) == CACHE_OK);
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);  // It waits for nobody.
  const std::string too_large(kSize, 'l');
  CHECK(memstream_near_store(near, "key", 3, too_large.data(), too_large.size(), -1, &fill) == CACHE_TOO_LARGE);
  CHECK(std::string(memstream_near_last_error()).find("larger than the limit") != std::string::npos);
  REQUIRE(begin() == MEMSTREAM_NEAR_FETCH);
  CHECK(fill.lease != 0);  // That of the fill that failed keeps nobody away.
  CHECK(memstream_near_abandon(near, "key", 3, &fill) == CACHE_OK);
  CHECK(near.get("key") == kAbsent);
}

TEST_CASE("an idle connection that Redis has closed is replaced, and the caller does not notice") {
  RedisServer redis;
  const TemporarySegment segment("near-idle", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  for (const char* key : {"one", "two", "three"}) {
    CHECK(near.get(key) == kAbsent);
    CHECK(redis.ask({"CLIENT", "KILL", "TYPE", "normal"}) == "1");
  }
  CHECK(near.stats().errors == 0);
}

TEST_CASE("near caches over one handle share an agent, which lives as long as one of them") {
  RedisServer redis;
  const TemporarySegment segment("near-shared", kSize);
  const OpenCache cache(segment.spec());
  const std::string address = redis.address();
  const memstream_near_options_t options = options_for(address.c_str());
  memstream_near_t* one = nullptr;
  memstream_near_t* other = nullptr;
  REQUIRE(memstream_near_open(cache, &options, &one) == CACHE_OK);
  memstream_near_stats_t stats{};
  stats.struct_size = sizeof stats;
  const auto is_heard = [&](memstream_near_t* near) {
    return memstream_near_stats(near, &stats) == CACHE_OK && stats.is_agent == 1 && stats.lag_ms < 400;
  };
  REQUIRE(becomes_true([&] { return is_heard(one); }));
  REQUIRE(memstream_near_open(cache, &options, &other) == CACHE_OK);
  CHECK(is_heard(other));
  std::this_thread::sleep_for(milliseconds(300));
  CHECK(redis.info("clients", "tracking_clients") == 1);
  CHECK(memstream_near_close(one) == CACHE_OK);
  std::this_thread::sleep_for(milliseconds(300));
  CHECK(is_heard(other));
  CHECK(stats.epochs == 1);
  CHECK(memstream_near_close(other) == CACHE_OK);
  CHECK(becomes_true([&] { return redis.info("clients", "tracking_clients") == 0; }));
}

TEST_CASE("the agent's thread leaves the program's signals to it, and its own faults to the program's handlers") {
  RedisServer redis;
  const TemporarySegment segment("near-signals", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  const std::vector<std::uint64_t> others = signals_blocked_by_others();
  REQUIRE(others.size() == 1);
  const auto blocks = [&](int signal) { return (others.front() >> (signal - 1) & 1) != 0; };
  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGALRM}) {
    CAPTURE(signal);
    CHECK(blocks(signal));
  }
  for (const int signal : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
    CAPTURE(signal);
    CHECK_FALSE(blocks(signal));
  }
}

TEST_CASE("keys of another prefix, and keys that a cache cannot have, are fetched each time") {
  RedisServer redis;
  const TemporarySegment segment("near-prefix", kSize);
  const char* prefixes[] = {"user:", "page:"};
  memstream_near_options_t options = options_for(nullptr);
  const std::string address = redis.address();
  options.redis = address.c_str();
  options.prefixes = prefixes;
  options.prefix_count = 2;
  const Near near(segment.spec(), options);
  near.wait_until_current();
  const std::string long_key = "user:" + std::string(2000, 'k');
  for (const std::string& key : {std::string("session:1"), long_key}) {
    redis.ask({"SET", key, "1"});
    CHECK(near.get(key) == "1");
    redis.ask({"SET", key, "2"});
    CHECK(near.get(key) == "2");
    CHECK(near.set(key, "3") == CACHE_OK);
    CHECK(near.get(key) == "3");
  }
  CHECK(near.stats().bypasses == 6);
  near.have("page:1", "cached");
  CHECK(near.stats().bypasses == 6);
  // One that tracks other keys has nothing in common with it.
  const Near all(segment.spec(), redis.address());
  all.wait_until_current();
  CHECK(all.get("page:1") == "cached");
  CHECK(all.stats().hits == 0);
}

TEST_CASE("a segment that is destroyed is bypassed, and a child of fork has connections of its own") {
  RedisServer redis;
  const TemporarySegment segment("near-fork", kSize);
  const Near near(segment.spec(), redis.address());
  near.wait_until_current();
  CHECK(near.set("key", "value") == CACHE_OK);
  CHECK(near.get("absent") == kAbsent);
  const long connections = redis.info("stats", "total_connections_received");
  CHECK(in_child([&]() -> Complaint {
          if (near.get("key") != "value") return "no value: " + near.get("key");
          if (near.set("child", "its own") != CACHE_OK) return memstream_near_last_error();
          return near.get("child") == "its own" ? "" : "not its own write";
        }) == "");
  CHECK(redis.info("stats", "total_connections_received") == connections + 1);
  CHECK(near.get("child") == "its own");
  CHECK(near.stats().bypasses == 0);
  CHECK(memstream_destroy(near.cache()) == CACHE_OK);
  redis.ask({"SET", "key", "newer"});
  CHECK(near.get("key") == "newer");
  CHECK(near.set("key", "newest") == CACHE_OK);
  CHECK(near.get("key") == "newest");
  CHECK(near.remove("key") == CACHE_OK);
  memstream_near_stats_t stats{};
  stats.struct_size = sizeof stats;
  CHECK(memstream_near_stats(near, &stats) == CACHE_GONE);
}

TEST_CASE("what is wrong is named: options, credentials, kinds of keys, segments, arguments") {
  const auto says = [](const std::string& part) {
    return std::string(memstream_near_last_error()).find(part) != std::string::npos;
  };
  RedisServer redis({"--requirepass", "secret"});
  const TemporarySegment segment("near-wrong", kSize);
  const OpenCache cache(segment.spec());
  memstream_near_t* near = nullptr;
  const auto refused = [&](const std::function<void(memstream_near_options_t&)>& change, const char* part) {
    memstream_near_options_t options = options_for("127.0.0.1:1");
    change(options);
    CHECK(memstream_near_open(cache, &options, &near) == CACHE_INVALID);
    CHECK(near == nullptr);
    CAPTURE(part);
    CAPTURE(memstream_near_last_error());
    CHECK(says(part));
  };
  for (const char* address : {"", "host", ":6379", "host:", "host:0", "host:65536", "host:1x", "unix:here", "[::1:1"}) {
    CAPTURE(address);
    refused([&](auto& options) { options.redis = address; }, "HOST:PORT");
  }
  refused([&](auto& options) { options.redis = "\x1b[31m"; }, "Invalid redis '\\x1b[31m': expected HOST:PORT");
  const std::string long_address(5000, 'x');
  refused([&](auto& options) { options.redis = long_address.c_str(); }, "xxx...' (5000 bytes): expected HOST:PORT");
  const char* empty[] = {""};
  const char* overlapping[] = {"user:1", "user:"};
  refused([&](auto& options) { options.prefixes = empty, options.prefix_count = 1; }, "1 character");
  refused([&](auto& options) { options.prefixes = overlapping, options.prefix_count = 2; }, "'user:1'");
  refused([&](auto& options) { options.prefix_count = 1; }, "prefix_count");
  const std::string long_prefix(1100, 'p');
  const char* too_long[] = {long_prefix.c_str()};
  refused([&](auto& options) { options.prefixes = too_long, options.prefix_count = 1; }, "fewer or shorter");
  refused([&](auto& options) { options.max_lag_ms = 249; }, "250 to");
  refused([&](auto& options) { options.timeout_ms = ~std::uint64_t{0}; }, "timeout_ms");
  refused([&](auto& options) { options.local_ttl_ms = ~std::uint64_t{0}; }, "local_ttl_ms");
  refused([&](auto& options) { options.absent_ttl_ms = ~std::uint64_t{0}; }, "absent_ttl_ms");
  refused([&](auto& options) { options.flags = 8; }, "0x8");
  refused([&](auto& options) { options.user = "someone"; }, "password");
  refused([&](auto& options) { options.struct_size = 8; }, "memstream_near_options_t");
  CHECK(memstream_near_open(cache, nullptr, &near) == CACHE_INVALID);
  {
    const TemporarySegment small("near-tiny", kSize / 2);
    const OpenCache tiny(small.spec());
    const memstream_near_options_t options = options_for("[::1]:1");
    CHECK(memstream_near_open(tiny, &options, &near) == CACHE_INVALID);
    CHECK(says("at least 16 MiB"));
  }

  const std::string address = redis.address();
  memstream_near_options_t options = options_for(address.c_str());
  {
    const Near locked_out(segment.spec(), options);
    CHECK(becomes_true([&] { return std::strstr(memstream_near_agent_error(locked_out), "NOAUTH") != nullptr; }));
    CHECK(locked_out.get("key") == "status " + std::to_string(MEMSTREAM_NEAR_REFUSED));
    CHECK(says("NOAUTH"));
  }
  {
    // The message shows the address without the byte that a terminal obeys.
    const std::string hostile = "unix:/nowhere/\x1b[31m";
    memstream_near_options_t asked = options;
    asked.redis = hostile.c_str();
    const Near lost(segment.spec(), asked);
    CHECK(lost.get("key") == kUnreachable);
    CHECK(says("Redis at 'unix:/nowhere/\\x1b[31m' cannot be used"));
    CHECK(!says("\x1b"));
  }
  options.password = "wrong";
  {
    const Near locked_out(segment.spec(), options);
    CHECK(locked_out.get("key") == kUnreachable);
    CHECK(says("AUTH was refused"));
  }
  options.password = "secret";
  options.user = "default";
  const Near let_in(segment.spec(), options);
  let_in.wait_until_current();
  redis.ask({"AUTH", "secret"});
  redis.ask({"RPUSH", "list", "1"});
  CHECK(let_in.get("list") == "status " + std::to_string(MEMSTREAM_NEAR_REFUSED));
  CHECK(says("WRONGTYPE"));
  CHECK(let_in.stats().errors == 1);
  std::size_t size = 1;
  memstream_near_fill_t fill{};
  CHECK(memstream_near_get(let_in, "k", 1, nullptr, &size) == CACHE_INVALID);
  CHECK(says("value_size"));
  CHECK(memstream_near_get(nullptr, "k", 1, nullptr, &size) == CACHE_INVALID);
  CHECK(memstream_near_begin(let_in, "k", 1, nullptr, nullptr, &fill) == CACHE_INVALID);
  CHECK(memstream_near_store(let_in, "k", 1, nullptr, 1, -1, &fill) == CACHE_INVALID);
  CHECK(memstream_near_store_absent(let_in, "k", 1, nullptr) == CACHE_INVALID);
  CHECK(memstream_near_abandon(let_in, nullptr, 1, &fill) == CACHE_INVALID);
  CHECK(memstream_near_set(let_in, "k", 1, nullptr, 1, 0) == CACHE_INVALID);
  CHECK(memstream_near_delete(nullptr, "k", 1) == CACHE_INVALID);
  CHECK(memstream_near_invalidate(let_in, nullptr, 1) == CACHE_INVALID);
  memstream_near_stats_t stats{};
  CHECK(memstream_near_stats(let_in, &stats) == CACHE_INVALID);
  CHECK(says("memstream_near_stats_t"));
  CHECK(memstream_near_stats(let_in, nullptr) == CACHE_INVALID);
  CHECK(std::string(memstream_near_agent_error(nullptr)).empty());
  CHECK(memstream_near_close(nullptr) == CACHE_OK);
}

TEST_CASE("what Redis says is shown without the bytes that a terminal obeys, and shortened") {
  const RedisServer redis;
  RedisProxy proxy(redis);
  const TemporarySegment segment("near-said", kSize);
  const std::string hostile = "-ERR \x1b[31m" + std::string(5000, 'x') + "\r\n";
  proxy.answer(hostile.c_str());
  const auto is_clean = [](const char* message) {
    CAPTURE(message);
    CHECK(std::strstr(message, "ERR \\x1b[31mxxx") != nullptr);
    CHECK(std::strchr(message, '\x1b') == nullptr);
    CHECK(std::strlen(message) < 2000);
  };
  const std::string address = proxy.address();
  memstream_near_options_t options = options_for(address.c_str());
  {
    const Near near(segment.spec(), options);
    CHECK(near.get("key") == "status " + std::to_string(MEMSTREAM_NEAR_REFUSED));
    is_clean(memstream_near_last_error());
    REQUIRE(becomes_true([&] { return *memstream_near_agent_error(near) != 0; }));
    is_clean(memstream_near_agent_error(near));
  }
  options.password = "secret";
  {
    const Near near(segment.spec(), options);
    CHECK(near.get("key") == kUnreachable);
    is_clean(memstream_near_last_error());
  }
}

}  // namespace
}  // namespace memstream::test
