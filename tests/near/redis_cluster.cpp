#include "tests/near/redis_cluster.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <thread>

namespace memstream::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kBusOffset = 10'000;

bool is_free(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool is_bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return is_bound;
}

void wait_for(const char* what, const std::function<bool()>& condition) {
  const auto end = steady_clock::now() + milliseconds(60'000);
  while (!condition()) {
    if (steady_clock::now() > end) throw std::runtime_error(std::string("the cluster is not ready: ") + what);
    std::this_thread::sleep_for(milliseconds(20));
  }
}

void run_redis_cli(const std::vector<std::string>& options, const std::string& log) {
  std::vector<std::string> words{"redis-cli"};
  words.insert(words.end(), options.begin(), options.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t process = ::fork();
  if (process == 0) {
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    ::execvp("redis-cli", arguments.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(process, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("redis-cli failed; its log is " + log);
}

}  // namespace

RedisCluster::RedisCluster() {
  int port = 20'000 + ::getpid() % 2000 * 10;
  for (int number = 0; number < kNodes; ++number) {
    // Another program may take the port between the look and the start: then the next one is tried.
    for (int tries = 0;; ++tries) {
      do {
        port = port >= 50'000 ? 20'000 : port + 1;
      } while (!is_free(port) || !is_free(port + kBusOffset));
      try {
        nodes_.push_back(std::make_unique<RedisServer>(
            std::vector<std::string>{"--port", std::to_string(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes",
                                     "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
                                     "--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"}));
        break;
      } catch (const std::runtime_error&) {
        if (tries == 5) throw;
      }
    }
    ports_.push_back(port);
  }
  std::vector<std::string> create{"--cluster", "create"};
  for (int number = 0; number < kNodes; ++number) create.push_back(name(number));
  create.insert(create.end(), {"--cluster-replicas", "1", "--cluster-yes"});
  run_redis_cli(create, node(0).folder() + "/create.log");
  wait_until_whole();
}

std::string RedisCluster::addresses() const { return name(0) + "," + name(1) + "," + name(2); }

std::optional<near::OwnView> RedisCluster::view(int number) {
  try {
    return near::parse_nodes(node(number).ask({"CLUSTER", "NODES"}));
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

std::string RedisCluster::id_of(int number) { return node(number).ask({"CLUSTER", "MYID"}); }

std::vector<int> RedisCluster::masters() {
  std::vector<int> found;
  for (int number = 0; number < kNodes; ++number) {
    const std::optional<near::OwnView> own = view(number);
    if (own && own->is_master && own->settled.any()) found.push_back(number);
  }
  return found;
}

int RedisCluster::master_of_slot(std::uint32_t slot) {
  for (int number = 0; number < kNodes; ++number) {
    const std::optional<near::OwnView> own = view(number);
    if (own && own->is_master && own->settled.test(slot)) return number;
  }
  throw std::runtime_error("a slot without a master");
}

int RedisCluster::replica_of(int master) {
  const std::string id = id_of(master);
  for (int number = 0; number < kNodes; ++number) {
    const std::optional<near::OwnView> own = view(number);
    if (!own || own->is_master) continue;
    const std::string text = node(number).ask({"CLUSTER", "NODES"});
    const std::size_t myself = text.find("myself");
    if (text.compare(text.find(' ', myself) + 1, id.size(), id) == 0) return number;
  }
  throw std::runtime_error("a master without a replica");
}

void RedisCluster::wait_until_whole() {
  wait_for("slots, masters and replicas", [&] {
    near::SlotSet served;
    int master_count = 0;
    for (int number = 0; number < kNodes; ++number) {
      const std::optional<near::OwnView> own = view(number);
      if (!own) return false;
      if (node(number).ask({"CLUSTER", "INFO"}).find("cluster_state:ok") == std::string::npos) return false;
      if (own->is_master) {
        ++master_count;
        if ((served & own->settled).any()) return false;
        served |= own->settled;
        if (node(number).info("replication", "connected_slaves") != 1) return false;
        if (node(number).ask({"INFO", "replication"}).find("state=online") == std::string::npos) return false;
      } else if (node(number).ask({"INFO", "replication"}).find("master_link_status:up") == std::string::npos) {
        return false;
      }
    }
    if (master_count != kNodes / 2 || !served.all()) return false;
    // All agree: each node routes each range to the same master.
    std::vector<std::string> maps;
    for (int number = 0; number < kNodes; ++number) {
      std::string map;
      const std::string text = node(number).ask({"CLUSTER", "NODES"});
      for (int other = 0; other < kNodes; ++other) {
        const std::size_t line = text.find(" " + name(other) + "@");
        if (line == std::string::npos) return false;
        const std::string rest = text.substr(line, text.find('\n', line) - line);
        if (rest.find("fail") != std::string::npos || rest.find("disconnected") != std::string::npos) return false;
        const std::size_t link = rest.find(" connected");
        map += name(other) + (link == std::string::npos ? "" : rest.substr(link)) + "\n";
      }
      maps.push_back(map);
    }
    return std::all_of(maps.begin(), maps.end(), [&](const std::string& map) { return map == maps.front(); });
  });
}

void RedisCluster::begin_move(std::uint32_t slot, int from, int to) {
  const std::string number = std::to_string(slot);
  node(to).ask({"CLUSTER", "SETSLOT", number, "IMPORTING", id_of(from)});
  node(from).ask({"CLUSTER", "SETSLOT", number, "MIGRATING", id_of(to)});
}

void RedisCluster::move_keys(std::uint32_t slot, int from, int to) {
  const std::string number = std::to_string(slot);
  for (;;) {
    const std::string left = node(from).ask({"CLUSTER", "COUNTKEYSINSLOT", number});
    if (left == "0") return;
    const std::string key = node(from).ask_first({"CLUSTER", "GETKEYSINSLOT", number, "1"});
    node(from).ask({"MIGRATE", "127.0.0.1", std::to_string(port(to)), key, "0", "5000"});
  }
}

void RedisCluster::end_move(std::uint32_t slot, int from, int to) {
  const std::string number = std::to_string(slot);
  const std::string id = id_of(to);
  node(to).ask({"CLUSTER", "SETSLOT", number, "NODE", id});
  node(from).ask({"CLUSTER", "SETSLOT", number, "NODE", id});
  for (const int other : masters()) node(other).ask({"CLUSTER", "SETSLOT", number, "NODE", id});
}

void RedisCluster::move_slot(std::uint32_t slot, int from, int to) {
  begin_move(slot, from, to);
  move_keys(slot, from, to);
  end_move(slot, from, to);
}

void RedisCluster::fail_over(int master) {
  const int replica = replica_of(master);
  auto next_try = steady_clock::now();
  wait_for("the replica takes over", [&] {
    // Redis gives up after 5 s, when the other masters do not vote in time.
    if (steady_clock::now() >= next_try) {
      node(replica).ask({"CLUSTER", "FAILOVER"});
      next_try = steady_clock::now() + milliseconds(6000);
    }
    const std::optional<near::OwnView> own = view(replica);
    return own && own->is_master;
  });
}

void RedisCluster::kill_and_replace(int master) {
  const int replica = replica_of(master);
  node(master).kill();
  wait_for("the replica takes over", [&] {
    const std::optional<near::OwnView> own = view(replica);
    return own && own->is_master;
  });
  node(master).start();
}

RedisCluster& shared_cluster() {
  static RedisCluster cluster;
  return cluster;
}

// ---- a client ----

redisContext* ClusterClient::connection(int port) {
  std::unique_ptr<redisContext, Free>& known = connections_[port];
  if (known != nullptr && known->err == 0) return known.get();
  known.reset(redisConnectWithTimeout("127.0.0.1", port, {.tv_sec = 0, .tv_usec = 300'000}));
  if (known == nullptr || known->err != 0) return nullptr;
  redisSetTimeout(known.get(), {.tv_sec = 1, .tv_usec = 0});
  return known.get();
}

bool ClusterClient::send(redisContext& context, const std::vector<std::string>& words, std::string* answer) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string& word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  auto* const reply =
      static_cast<redisReply*>(redisCommandArgv(&context, static_cast<int>(texts.size()), texts.data(), sizes.data()));
  if (reply == nullptr) return false;
  *answer = reply->type == REDIS_REPLY_INTEGER ? std::to_string(reply->integer)
            : reply->str == nullptr            ? std::string("nil")
                                               : std::string(reply->str, reply->len);
  if (reply->type == REDIS_REPLY_ERROR) *answer = "-" + *answer;
  freeReplyObject(reply);
  return true;
}

std::string ClusterClient::ask(std::string_view key, const std::vector<std::string>& words,
                               const std::vector<std::string>& then, int limit_ms) {
  const std::uint32_t slot = near::slot_of(key);
  int& port = ports_.try_emplace(slot, first_port_).first->second;
  const auto end = steady_clock::now() + milliseconds(limit_ms);
  std::string answer = "nobody answered";
  int asked = port;
  bool asks = false;
  while (steady_clock::now() < end) {
    redisContext* const context = connection(asked);
    std::string ignored;
    if (context != nullptr && (!asks || send(*context, {"ASKING"}, &ignored)) && send(*context, words, &answer)) {
      const std::optional<near::Redirection> to =
          answer.starts_with('-') ? near::parse_redirection(answer.substr(1), "127.0.0.1:1") : std::nullopt;
      if (to) {
        asked = std::stoi(to->node.substr(to->node.rfind(':') + 1));
        asks = to->is_ask;
        if (!asks) port = asked;
        continue;
      }
      const bool may_pass = answer.starts_with("-CLUSTERDOWN") || answer.starts_with("-TRYAGAIN") ||
                            answer.starts_with("-LOADING") || answer.starts_with("-READONLY") ||
                            answer.starts_with("-MASTERDOWN");
      if (!may_pass && (then.empty() || answer.starts_with('-') || send(*context, then, &answer))) return answer;
    }
    // Somebody else may serve it now: any node knows whom to ask.
    asks = false;
    std::this_thread::sleep_for(milliseconds(10));
    asked = asked != port ? port : first_port_;
    if (connections_.size() > 1 && connection(asked) == nullptr) {
      for (const auto& [other, open] : connections_) {
        if (other != asked && open != nullptr && open->err == 0) asked = other;
      }
    }
  }
  return "-" + answer;
}

}  // namespace memstream::test
