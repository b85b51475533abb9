// Where the values come from: one Redis, or a cluster of them. It knows which node serves a key, asks it, follows
// MOVED and ASK, and has an agent for each master.
#pragma once

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/memstream_near_core.h"
#include "near/agent.h"
#include "near/connection_pool.h"
#include "near/redis_connection.h"
#include "near/slots.h"

namespace memstream::near {

inline constexpr std::uint32_t kNoServer = ~std::uint32_t{0};

// A server, and what this process knows of it. Nodes are added and never removed, so that a reader needs no lock.
struct Node {
  std::string name;  // As the caller or the cluster writes it.
  RedisAddress address;
  std::uint32_t server = kNoServer;  // Its number in the segment. kNoServer: the segment has no room for another one.
  ConnectionPool connections;
  std::atomic<std::uint32_t> slots{0};  // As the map has them. The one server of no cluster has all.
  std::atomic<Agent*> agent{nullptr};   // Once set it stays.
  // What the node itself said of its slots, and the epoch that was in force before it was asked. 0: nothing yet.
  std::atomic<std::uint32_t> view_epoch{0};
  std::array<std::atomic<std::uint64_t>, kSlots / 64> settled{};
};

class Upstream {
 public:
  struct Settings {
    memstream_t* cache = nullptr;  // Outlives this.
    bool is_cluster = false;
    std::vector<std::string> addresses;  // One, or some nodes of the cluster.
    std::string user;
    std::string password;
    std::vector<std::string> prefixes;
    std::chrono::milliseconds timeout{1000};
    bool runs_agent = true;
  };
  using Commands = std::vector<RedisConnection::Words>;

  explicit Upstream(Settings settings) : settings_(std::move(settings)) {}
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;
  ~Upstream();

  // Checks that the segment can be used, and starts what works in the background. Waits for no Redis.
  int open(std::string* error);

  // The node of the key by the map; null: nobody knows.
  Node* node_of(std::string_view key) const noexcept;
  // A server number for keys of which nobody knows the node: none of its copies are ever served.
  std::uint32_t fallback_server() const noexcept { return fallback_server_; }
  // The map is asked for if there is none.
  Node* find_node(std::string_view key);
  // A token of `node` for the key; false if nothing may be stored under it now.
  bool take_token(Node& node, std::string_view key, std::uint64_t* token);
  // Sends the commands in one go to the node of the key, and again over a new connection if an old one turns out to be
  // lost. They change nothing when they run twice: they read, or leave a key with the same value or without one. False:
  // `*error` says why nobody answered.
  bool ask(std::string_view key, const Commands& commands, std::vector<Reply>* replies, std::string* error);

  // Calls `visit` with each node that serves something.
  void visit_serving(const std::function<void(const Node&)>& visit) const;
  // Why no map could be had; empty if there is one.
  std::string map_error() const;

 private:
  using Clock = RedisConnection::Clock;
  enum class Outcome { kAnswered, kTimeout, kLost };

  static constexpr std::size_t kMostNodes = 64;
  static constexpr std::uint8_t kUnknown = 255;

  Outcome ask_node(Node& node, const Commands& commands, bool asks, std::vector<Reply>* replies, std::string* error);
  bool ask_cluster(std::string_view key, const Commands& commands, std::vector<Reply>* replies, std::string* error);
  Node* known_node(std::string_view name) const noexcept;
  // REQUIRES: the caller holds the change lock. Null: no room.
  Node* add_node(const std::string& name);
  Node* find_or_add(const std::string& name, Clock::time_point deadline);
  void route(std::uint32_t slot, Node& node) noexcept;
  bool refresh_map(Clock::time_point deadline);
  bool ask_for_map(std::string* error);
  bool refresh_view(Node& node, Clock::time_point deadline);
  void set_map_error(std::string error);
  // Not in a child of fork().
  bool has_thread() const noexcept { return thread_ != nullptr && process_ == ::getpid(); }
  void follow_cluster();
  bool start_agent(Node& node);

  Settings settings_;
  std::uint32_t fallback_server_ = kNoServer;
  std::array<std::unique_ptr<Node>, kMostNodes> nodes_;
  std::atomic<std::size_t> node_count_{0};
  std::array<std::atomic<std::uint8_t>, kSlots> map_{};

  // Held while nodes, map or views change. A child of fork() must not wait for a thread that it does not have: what
  // another process has taken is free.
  class ChangeLock;
  std::atomic<std::uint64_t> changer_{0};
  std::atomic<std::uint64_t> maps_{0};    // How many there were.
  std::atomic<bool> is_doubtful_{false};  // The map may be out of date.
  std::vector<std::string> hosts_;        // Under the change lock: all nodes that were ever heard of.
  std::size_t next_host_ = 0;             // Under the change lock.
  Clock::time_point last_map_{};          // Under the change lock.
  Clock::time_point last_failure_{};      // Under the change lock.
  mutable std::atomic<std::uint64_t> error_changer_{0};
  std::string error_;  // Under a lock of its own.

  std::vector<std::shared_ptr<Agent>> agents_;  // Of the thread that starts them.
  pid_t process_ = 0;
  int stop_fd_ = -1;
  std::unique_ptr<std::thread> thread_;
};

}  // namespace memstream::near
