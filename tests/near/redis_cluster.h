// A Redis cluster of a test's own: three masters with a replica each, on free ports of the loopback interface; and a
// client that follows it.
#pragma once

#include <hiredis/hiredis.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "near/slots.h"
#include "tests/near/redis_server.h"

namespace memstream::test {

class RedisCluster {
 public:
  static constexpr int kNodes = 6;

  // Throws std::runtime_error if it does not come up. Without Redis the test program ends as skipped.
  RedisCluster();

  // Some of its nodes, with commas between.
  std::string addresses() const;
  RedisServer& node(int number) { return *nodes_[static_cast<std::size_t>(number)]; }
  int port(int number) const { return ports_[static_cast<std::size_t>(number)]; }
  std::string name(int number) const { return "127.0.0.1:" + std::to_string(port(number)); }

  // What a node says of itself; nothing if it is down.
  std::optional<near::OwnView> view(int number);
  std::vector<int> masters();
  int master_of_slot(std::uint32_t slot);
  int master_of(std::string_view key) { return master_of_slot(near::slot_of(key)); }
  int replica_of(int master);
  // Until all slots have a master, all nodes agree on it, and each master has a replica that has caught up.
  void wait_until_whole();

  // The ways in which a slot gets another master.
  void move_slot(std::uint32_t slot, int from, int to);
  void begin_move(std::uint32_t slot, int from, int to);
  void move_keys(std::uint32_t slot, int from, int to);
  void end_move(std::uint32_t slot, int from, int to);
  // The replica takes over from its living master.
  void fail_over(int master);
  // The master is killed; it is started again when its replica has taken over.
  void kill_and_replace(int master);

 private:
  std::string id_of(int number);

  std::vector<int> ports_;
  std::vector<std::unique_ptr<RedisServer>> nodes_;
};

// The one that all cases of a program share: it takes seconds to come up.
RedisCluster& shared_cluster();

// Sends commands to the node that serves a key, as any client of a cluster does.
class ClusterClient {
 public:
  explicit ClusterClient(int port) : first_port_(port) {}

  // The answer as text, an error with a minus before it. It tries for `limit_ms` to get one that is no redirection and
  // no lost connection. `then`: a command for the same connection whose answer comes back instead.
  std::string ask(std::string_view key, const std::vector<std::string>& words,
                  const std::vector<std::string>& then = {}, int limit_ms = 20'000);

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
  };
  redisContext* connection(int port);
  bool send(redisContext& context, const std::vector<std::string>& words, std::string* answer);

  int first_port_;
  std::map<std::uint32_t, int> ports_;
  std::map<int, std::unique_ptr<redisContext, Free>> connections_;
};

}  // namespace memstream::test
