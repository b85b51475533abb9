// The near cache in front of a cluster of three masters with replicas: it follows keys to their masters, and what one
// master loses ends its copies only.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_near_core.h"
#include "near/memstream_near.h"
#include "tests/near/near_handle.h"
#include "tests/near/redis_cluster.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;

// A key of each master, whose slot no other test uses.
std::vector<std::string> keys_of_masters(RedisCluster& cluster, const std::string& stem) {
  std::vector<std::string> keys;
  for (const int master : cluster.masters()) {
    const near::SlotSet slots = cluster.view(master)->settled;
    for (int number = 0;; ++number) {
      std::string key = stem + std::to_string(number);
      if (!slots.test(near::slot_of(key))) continue;
      keys.push_back(std::move(key));
      break;
    }
  }
  return keys;
}

struct ServerState {
  std::uint32_t number = 0;
  memstream_near_core_state_t state{};
};
// What the segment knows of a node; a node that it does not know was never heard.
ServerState state_of(memstream_t* cache, const std::string& node) {
  ServerState found;
  found.state.struct_size = sizeof found.state;
  for (; memstream_near_core_look(cache, found.number, &found.state) == CACHE_OK; ++found.number) {
    if (found.state.label == "cluster " + node) return found;
  }
  found.state.lag_ms = ~std::uint64_t{0};
  return found;
}

bool is_whole(RedisCluster& cluster, const Near& near) {
  for (const int master : cluster.masters()) {
    if (state_of(near.cache(), cluster.name(master)).state.lag_ms > 400) return false;
  }
  return near.is_current();
}

TEST_CASE("keys go to their masters, one fetch serves all, and each master is tracked by one connection") {
  RedisCluster& cluster = shared_cluster();
  ClusterClient client(cluster.port(0));
  const TemporarySegment segment("near-masters", kSize);
  const std::string addresses = cluster.addresses();
  const Near one(segment.spec(), addresses, MEMSTREAM_NEAR_CLUSTER);
  const Near other(segment.spec(), addresses, MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, one) && is_whole(cluster, other); }));
  const std::vector<std::string> keys = keys_of_masters(cluster, "all");
  REQUIRE(keys.size() == 3);
  for (const std::string& key : keys) {
    CAPTURE(key);
    CHECK(one.get(key) == kAbsent);
    CHECK(other.get(key) == kAbsent);
    one.have(key, "value of " + key);
    const std::uint64_t hits = other.stats().hits;
    CHECK(other.get(key) == "value of " + key);
    CHECK(other.stats().hits == hits + 1);
    CHECK(client.ask(key, {"SET", key, "changed"}) == "OK");
    CHECK(becomes_true([&] { return other.get(key) == "changed"; }, milliseconds(600)));
    CHECK(one.get(key) == "changed");
    CHECK(other.remove(key) == CACHE_OK);
    CHECK(one.get(key) == kAbsent);
    CHECK(one.remove(key) == CACHE_MISS);
  }
  CHECK(one.set("short", "lived", 60) == CACHE_OK);
  CHECK(other.get("short") == "lived");
  std::this_thread::sleep_for(milliseconds(90));
  CHECK(other.get("short") == kAbsent);
  for (int node = 0; node < RedisCluster::kNodes; ++node) {
    CAPTURE(node);
    CHECK(cluster.node(node).info("clients", "tracking_clients") == (cluster.view(node)->is_master ? 1 : 0));
  }
  CHECK(one.stats().errors + other.stats().errors == 0);
  CHECK(std::string(memstream_near_agent_error(one)).empty());
  CHECK(problems_of(one.cache()) == "");
}

TEST_CASE("what one master loses ends its copies, and no other's") {
  RedisCluster& cluster = shared_cluster();
  const TemporarySegment segment("near-one", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  const std::vector<std::string> keys = keys_of_masters(cluster, "one");
  const int first = cluster.master_of(keys[0]);
  for (const bool is_killed : {false, true}) {
    CAPTURE(is_killed);
    for (const std::string& key : keys) near.have(key, "value");
    const auto epoch = [&](const std::string& key) {
      return state_of(near.cache(), cluster.name(cluster.master_of(key))).state.epoch;
    };
    const std::vector<std::uint32_t> before{epoch(keys[0]), epoch(keys[1]), epoch(keys[2])};
    if (is_killed) {
      CHECK(cluster.node(first).ask({"CLIENT", "KILL", "TYPE", "pubsub"}) == "1");
      cluster.node(first).ask({"SET", keys[0], "unheard"});
      CHECK(becomes_true([&] { return near.get(keys[0]) == "unheard"; }, milliseconds(700)));
    } else {
      CHECK(cluster.node(first).ask({"FLUSHALL"}) == "OK");
      CHECK(becomes_true([&] { return near.get(keys[0]) == kAbsent; }, milliseconds(600)));
    }
    CHECK(becomes_true([&] { return epoch(keys[0]) != before[0]; }));
    CHECK(epoch(keys[1]) == before[1]);
    CHECK(epoch(keys[2]) == before[2]);
    const std::uint64_t hits = near.stats().hits;
    CHECK(near.get(keys[1]) == "value");
    CHECK(near.get(keys[2]) == "value");
    CHECK(near.stats().hits == hits + 2);
    REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  }
}

TEST_CASE(
    "a slot that moves takes its copies along: nothing is kept of it while it moves, and its old master's epoch ends") {
  RedisCluster& cluster = shared_cluster();
  ClusterClient client(cluster.port(0));
  const TemporarySegment segment("near-move", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  const std::string key = "{move}key";
  const std::string absent = "{move}absent";
  const std::uint32_t slot = near::slot_of(key);
  const int from = cluster.master_of(key);
  const int to = cluster.masters()[0] == from ? cluster.masters()[1] : cluster.masters()[0];
  const auto epoch = [&] { return state_of(near.cache(), cluster.name(from)).state.epoch; };
  near.have(key, "value");
  CHECK(near.get(absent) == kAbsent);

  std::uint32_t before = epoch();
  cluster.begin_move(slot, from, to);
  CHECK(becomes_true([&] { return epoch() != before; }, milliseconds(1000)));
  // The old master sends for a key that it does not have to the new one. Its answer is right, and nothing is kept.
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t fills = near.stats().fills;
    CHECK(near.get(absent) == kAbsent);
    CHECK(near.get(key) == "value");
    CHECK(near.stats().fills == fills);
  }
  CHECK(client.ask(absent, {"SET", absent, "there"}) ==
        "OK");  // At the new master, of which the old one knows nothing.
  CHECK(near.get(absent) == "there");
  CHECK(near.set(absent, "newer") == CACHE_OK);
  CHECK(near.get(absent) == "newer");
  cluster.move_keys(slot, from, to);
  CHECK(near.get(key) == "value");
  before = epoch();
  cluster.end_move(slot, from, to);
  CHECK(near.get(key) == "value");
  CHECK(near.get(absent) == "newer");
  near.have(key, "of the new master");
  CHECK(near.stats().errors == 0);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  // And back, in one go: a copy of before is not served again.
  cluster.move_slot(slot, to, from);
  CHECK(client.ask(key, {"SET", key, "back"}) == "OK");
  CHECK(becomes_true([&] { return near.get(key) == "back"; }, milliseconds(600)));
  near.have(key, "again");
  cluster.wait_until_whole();
}

// It asks Redis by a client of its own, which follows the slot unseen. The new master's tracking connection is gone at
// each write: only the old master's epoch keeps the reader from copies that nobody would end.
TEST_CASE("a reader that still asks the old master gets nothing beyond the bound") {
  RedisCluster& cluster = shared_cluster();
  ClusterClient client(cluster.port(0));
  const TemporarySegment segment("near-left", kSize);
  const Near agent(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, agent); }));
  const Near reader(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER | MEMSTREAM_NEAR_NO_AGENT);
  const std::string key = "{left}key";
  const std::uint32_t slot = near::slot_of(key);
  const int from = cluster.master_of(key);
  const int to = cluster.masters()[0] == from ? cluster.masters()[1] : cluster.masters()[0];
  int stored = 0;
  const auto read = [&]() -> std::string {
    char room[64];
    std::size_t size = sizeof room;
    memstream_near_fill_t fill;
    const int status = memstream_near_begin(reader, key.data(), key.size(), room, &size, &fill);
    if (status == CACHE_OK) return {room, size};
    REQUIRE(status == MEMSTREAM_NEAR_FETCH);
    const std::string value = client.ask(key, {"GET", key});
    const std::uint64_t fills = reader.stats().fills;
    CHECK(memstream_near_store(reader, key.data(), key.size(), value.data(), value.size(), -1, &fill) >= 0);
    stored += reader.stats().fills > fills ? 1 : 0;
    return value;
  };
  REQUIRE(client.ask(key, {"SET", key, "value"}) == "OK");
  CHECK(becomes_true([&] { return read() == "value" && reader.stats().hits > 0; }));
  CHECK(stored > 0);
  cluster.move_slot(slot, from, to);
  std::this_thread::sleep_for(milliseconds(620));
  stored = 0;
  for (int round = 0; round < 4; ++round) {
    read();
    const std::string value = "round " + std::to_string(round);
    CHECK(becomes_true([&] { return cluster.node(to).ask({"CLIENT", "KILL", "TYPE", "pubsub"}) == "1"; }));
    CHECK(client.ask(key, {"SET", key, value}) == "OK");
    std::this_thread::sleep_for(milliseconds(620));
    CHECK(read() == value);
    CHECK(agent.get(key) == value);
  }
  CHECK(stored == 0);
  cluster.move_slot(slot, to, from);
  cluster.wait_until_whole();
}

TEST_CASE("a replica takes over, and a master is killed: reads fail at most until then, and all resumes by itself") {
  RedisCluster& cluster = shared_cluster();
  ClusterClient client(cluster.port(0));
  const TemporarySegment segment("near-over", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  for (const bool is_killed : {false, true}) {
    CAPTURE(is_killed);
    const std::string key = keys_of_masters(cluster, "over").back();
    const int master = cluster.master_of(key);
    REQUIRE(client.ask(key, {"SET", key, "value"}, {"WAIT", "1", "2000"}) == "1");
    CHECK(becomes_true([&] { return near.get(key) == "value"; }));
    if (is_killed) {
      cluster.kill_and_replace(master);
    } else {
      cluster.fail_over(master);
    }
    CHECK(client.ask(key, {"SET", key, "newer"}) == "OK");
    std::this_thread::sleep_for(milliseconds(620));
    CHECK(becomes_true([&] { return near.get(key) == "newer"; }));
    cluster.wait_until_whole();
    REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
    near.have(key, "cached again");
    for (int node = 0; node < RedisCluster::kNodes; ++node) {
      CAPTURE(node);
      CHECK(becomes_true([&] {
        return cluster.node(node).info("clients", "tracking_clients") == (cluster.view(node)->is_master ? 1 : 0);
      }));
    }
  }
}

TEST_CASE("a master that hangs is bypassed after the bound, and the others go on") {
  RedisCluster& cluster = shared_cluster();
  const TemporarySegment segment("near-hangs", kSize);
  memstream_near_options_t options = options_for(nullptr, MEMSTREAM_NEAR_CLUSTER);
  const std::string addresses = cluster.addresses();
  options.redis = addresses.c_str();
  options.max_lag_ms = 300;
  options.timeout_ms = 200;
  const Near near(segment.spec(), options);
  options.flags |= MEMSTREAM_NEAR_STALE_ON_ERROR;
  const Near content(segment.spec(), options);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near) && is_whole(cluster, content); }));
  const std::vector<std::string> keys = keys_of_masters(cluster, "hangs");
  for (const std::string& key : keys) {
    near.have(key, "value");
    CHECK(content.get(key) == "value");
  }
  const int master = cluster.master_of(keys[0]);
  cluster.node(master).send_signal(SIGSTOP);
  CHECK(near.get(keys[0]) == "value");
  std::this_thread::sleep_for(milliseconds(350));
  CHECK(near.get(keys[0]) == kUnreachable);
  CHECK(std::string(memstream_near_last_error()).find(cluster.name(master)) != std::string::npos);
  const std::uint64_t hits = near.stats().hits;
  CHECK(near.get(keys[1]) == "value");
  CHECK(near.stats().hits == hits + 1);
  cluster.node(master).send_signal(SIGCONT);
  cluster.wait_until_whole();
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  CHECK(content.stats().stale == 0);
  // Its agent's connections are new, and so is the epoch.
  const std::string after = keys_of_masters(cluster, "hangs")[0];
  near.have(after, "after");
}

TEST_CASE("a connection that Redis closes for its output buffer counts as lost") {
  RedisCluster& cluster = shared_cluster();
  ClusterClient client(cluster.port(0));
  const TemporarySegment segment("near-overflow", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  const std::string key = keys_of_masters(cluster, "buffer")[0];
  const int master = cluster.master_of(key);
  near.have(key, "value");
  const auto subscriptions = [&] { return state_of(near.cache(), cluster.name(master)).state.subscriptions; };
  const std::uint32_t before = subscriptions();
  const std::uint32_t epoch = state_of(near.cache(), cluster.name(master)).state.epoch;
  cluster.node(master).ask({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 1 0"});
  // One command that changes many keys: their names do not fit.
  std::vector<std::string> many{"MSET"};
  for (int i = 0; i < 3000; ++i) {
    many.push_back("{" + key + "}" + std::string(200, 'k') + std::to_string(i));
    many.emplace_back("value");
  }
  many.push_back(key);  // As its own tag it is of the same slot.
  many.emplace_back("overflowed");
  CHECK(cluster.node(master).ask(many) == "OK");
  CHECK(becomes_true([&] { return near.get(key) == "overflowed"; }, milliseconds(700)));
  cluster.node(master).ask({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60"});
  CHECK(becomes_true([&] { return subscriptions() > before; }));
  CHECK(state_of(near.cache(), cluster.name(master)).state.epoch != epoch);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  near.have(key, "after");
}

TEST_CASE("what Redis lets expire and what it evicts ends as a copy too") {
  RedisCluster& cluster = shared_cluster();
  const TemporarySegment segment("near-evicted", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  const std::string key = keys_of_masters(cluster, "evicted")[0];
  const int master = cluster.master_of(key);
  near.have(key, "value");
  CHECK(cluster.node(master).ask({"PEXPIRE", key, "100"}) == "1");
  std::this_thread::sleep_for(milliseconds(200));
  CHECK(becomes_true([&] { return near.get(key) == kAbsent; }, milliseconds(600)));
  near.have(key, "value");
  // All memory is too much: the next write evicts what there is.
  cluster.node(master).ask({"CONFIG", "SET", "maxmemory-policy", "allkeys-random"});
  cluster.node(master).ask({"CONFIG", "SET", "maxmemory", "1"});
  const std::string reply = cluster.node(master).ask({"SET", "{" + key + "}other", "value"});
  CHECK(becomes_true([&] { return near.get(key) == kAbsent; }, milliseconds(600)));
  cluster.node(master).ask({"CONFIG", "SET", "maxmemory", "0"});
  cluster.node(master).ask({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  CHECK(cluster.node(master).info("stats", "evicted_keys") > 0);
  near.have(key, "after");
  cluster.wait_until_whole();
}

TEST_CASE("without a cluster each call says so, and what answers without one is named") {
  RedisServer single;
  const TemporarySegment segment("near-none", kSize);
  const Near nobody(segment.spec(), "127.0.0.1:1,127.0.0.1:2", MEMSTREAM_NEAR_CLUSTER);
  CHECK(nobody.get("key") == kUnreachable);
  CHECK(std::string(memstream_near_last_error()).find("127.0.0.1:2") != std::string::npos);
  CHECK(nobody.set("key", "value") == MEMSTREAM_NEAR_UNREACHABLE);
  CHECK(nobody.remove("key") == MEMSTREAM_NEAR_UNREACHABLE);
  CHECK(becomes_true([&] { return std::strstr(memstream_near_agent_error(nobody), "127.0.0.1:1") != nullptr; }));
  CHECK(nobody.stats().lag_ms == ~std::uint64_t{0});
  CHECK(nobody.stats().agent_pid == 0);
  const OpenCache cache(segment.spec());
  memstream_near_t* near = nullptr;
  for (const std::string& address : {single.address(), std::string("host"), std::string("h:1,"), std::string(",h:1")}) {
    CAPTURE(address);
    const memstream_near_options_t options = options_for(address.c_str(), MEMSTREAM_NEAR_CLUSTER);
    CHECK(memstream_near_open(cache, &options, &near) == CACHE_INVALID);
    CHECK(std::string(memstream_near_last_error()).find("with commas between") != std::string::npos);
  }
}

TEST_CASE("a user whom the ACL keeps from a command is told which rule is missing") {
  RedisCluster& cluster = shared_cluster();
  const TemporarySegment segment("near-acl", kSize);
  const std::string addresses = cluster.addresses();
  const std::vector<std::string> rules{"+cluster|slots", "+cluster|nodes", "+client|id", "+client|tracking",
                                       "+subscribe &__redis__:invalidate"};
  for (std::size_t allowed = 0; allowed < rules.size(); ++allowed) {
    CAPTURE(rules[allowed]);
    for (int node = 0; node < RedisCluster::kNodes; ++node) {
      cluster.node(node).ask({"ACL", "DELUSER", "near"});
      std::vector<std::string> words{"ACL", "SETUSER", "near", "on", ">secret", "~*"};
      for (std::size_t i = 0; i < allowed; ++i) words.push_back(rules[i]);
      REQUIRE(cluster.node(node).ask(words) == "OK");
    }
    memstream_near_options_t options = options_for(addresses.c_str(), MEMSTREAM_NEAR_CLUSTER);
    options.user = "near";
    options.password = "secret";
    const Near locked_out(segment.spec(), options);
    CHECK(becomes_true([&] {
      return std::string(memstream_near_agent_error(locked_out)).find("ACL SETUSER: " + rules[allowed]) !=
             std::string::npos;
    }));
    CAPTURE(memstream_near_agent_error(locked_out));
  }
  for (int node = 0; node < RedisCluster::kNodes; ++node) cluster.node(node).ask({"ACL", "DELUSER", "near"});
}

TEST_CASE("a child of fork follows the cluster with connections of its own") {
  RedisCluster& cluster = shared_cluster();
  const TemporarySegment segment("near-child", kSize);
  const Near near(segment.spec(), cluster.addresses(), MEMSTREAM_NEAR_CLUSTER);
  REQUIRE(becomes_true([&] { return is_whole(cluster, near); }));
  const std::vector<std::string> keys = keys_of_masters(cluster, "child");
  CHECK(in_child([&]() -> Complaint {
          for (const std::string& key : keys) {
            if (near.set(key, "its own") != CACHE_OK) return memstream_near_last_error();
            if (near.get(key) != "its own") return "not its own write of " + key;
          }
          return near.stats().is_agent == 1 ? "" : "the parent's agent is not shown";
        }) == "");
  for (const std::string& key : keys) CHECK(near.get(key) == "its own");
}

}  // namespace
}  // namespace memstream::test
