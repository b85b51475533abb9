#include "near/upstream.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "api/quoted.h"

namespace memstream::near {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMapAge{2000};     // After that long the map is asked for again.
constexpr milliseconds kLook{100};        // How often the thread looks for agents that have lost something.
constexpr milliseconds kMapTimeout{500};  // For each node that is asked for the map.
constexpr milliseconds kRetry{20};        // While a cluster has no master for a slot.
constexpr int kMostRedirections = 16;

bool begins_with_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return text.starts_with(word); });
}

}  // namespace

// Waits in steps of a millisecond: it is held for a question to a node, when the cluster has changed.
class Upstream::ChangeLock {
 public:
  ChangeLock(std::atomic<std::uint64_t>& changer, Clock::time_point deadline) : changer_(changer) {
    const std::uint64_t own = forks() + 1;
    for (;;) {
      std::uint64_t holder = changer_.load(std::memory_order_relaxed);
      if (holder != own && changer_.compare_exchange_weak(holder, own, std::memory_order_acquire)) {
        is_held_ = true;
        return;
      }
      if (Clock::now() >= deadline) return;
      std::this_thread::sleep_for(milliseconds(1));
    }
  }
  ChangeLock(const ChangeLock&) = delete;
  ChangeLock& operator=(const ChangeLock&) = delete;
  ~ChangeLock() {
    if (is_held_) changer_.store(0, std::memory_order_release);
  }
  explicit operator bool() const noexcept { return is_held_; }

 private:
  std::atomic<std::uint64_t>& changer_;
  bool is_held_ = false;
};

Upstream::~Upstream() {
  if (thread_ != nullptr && process_ != ::getpid()) {
    static_cast<void>(thread_.release());  // A copy of a handle on a thread that this process does not have.
  } else if (thread_ != nullptr) {
    ::eventfd_write(stop_fd_, 1);
    thread_->join();
  }
  if (stop_fd_ >= 0) ::close(stop_fd_);
}

// Processes that track other keys must not take each other's word for what is tracked: to the segment their servers
// have different names.
int Upstream::open(std::string* error) {
  for (std::atomic<std::uint8_t>& place : map_) place.store(kUnknown, std::memory_order_relaxed);
  process_ = ::getpid();
  std::string name = settings_.is_cluster ? std::string("cluster") : settings_.addresses.front();
  for (const std::string& prefix : settings_.prefixes) name += '\n' + prefix;
  // The longest address of a node takes the place of "cluster".
  constexpr std::size_t kMostBytes = CACHE_MAX_KEY_SIZE - 300;
  const std::size_t most = settings_.is_cluster ? kMostBytes : CACHE_MAX_KEY_SIZE;
  if (name.size() > most) {
    *error = fmt::format(
        "Invalid prefixes of {} bytes with the address: expected at most {} in total. Use fewer or "
        "shorter ones.",
        name.size(), most);
    return CACHE_INVALID;
  }
  const int status = memstream_near_core_claim(settings_.cache, name.data(), name.size(), &fallback_server_);
  if (status != CACHE_OK) {
    *error = cache_last_error();
    return status;
  }
  hosts_ = settings_.addresses;
  const auto no_thread = [&] {
    *error = fmt::format(
        "The agent cannot be started: {}. Allow this process another thread and descriptor, or open "
        "with MEMSTREAM_NEAR_NO_AGENT.",
        std::strerror(errno));  // NOLINT(concurrency-mt-unsafe): only a text.
    return CACHE_OS_ERROR;
  };
  if (!settings_.is_cluster) {
    auto node = std::make_unique<Node>();
    node->name = settings_.addresses.front();
    RedisAddress::parse(node->name, &node->address);
    node->address.user = settings_.user;
    node->address.password = settings_.password;
    node->server = fallback_server_;
    node->slots = kSlots;
    nodes_[0] = std::move(node);
    node_count_ = 1;
    return settings_.runs_agent && !start_agent(*nodes_[0]) ? no_thread() : CACHE_OK + 0;
  }
  if (!settings_.runs_agent) return CACHE_OK;
  stop_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd_ < 0) return no_thread();
  const SignalsFromElsewhereBlocked inherited;
  try {
    thread_ = std::make_unique<std::thread>([this] { follow_cluster(); });
  } catch (const std::system_error& failure) {
    errno = failure.code().value();
    return no_thread();
  }
  return CACHE_OK;
}

bool Upstream::start_agent(Node& node) {
  // What it waits for Redis must not make the others think that nobody has the role.
  const milliseconds timeout = std::min(settings_.timeout, milliseconds(900));
  std::shared_ptr<Agent> agent =
      Agent::of({settings_.cache, node.server, node.address, settings_.prefixes, timeout, settings_.is_cluster});
  if (agent == nullptr) return false;
  node.agent.store(agent.get(), std::memory_order_release);
  agents_.push_back(std::move(agent));
  return true;
}

// ---- which node ----

Node* Upstream::node_of(std::string_view key) const noexcept {
  if (!settings_.is_cluster) return nodes_[0].get();
  const std::uint8_t number = map_[slot_of(key)].load(std::memory_order_acquire);
  return number == kUnknown ? nullptr : nodes_[number].get();
}

Node* Upstream::find_node(std::string_view key) {
  if (Node* const node = node_of(key); node != nullptr) return node;
  refresh_map(Clock::now() + settings_.timeout);
  return node_of(key);
}

Node* Upstream::known_node(std::string_view name) const noexcept {
  const std::size_t count = node_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    if (nodes_[i]->name == name) return nodes_[i].get();
  }
  return nullptr;
}

Node* Upstream::add_node(const std::string& name) {
  if (Node* const known = known_node(name); known != nullptr) return known;
  const std::size_t count = node_count_.load(std::memory_order_relaxed);
  if (count == kMostNodes) return nullptr;
  auto node = std::make_unique<Node>();
  node->name = name;
  if (!RedisAddress::parse(name, &node->address)) return nullptr;
  node->address.user = settings_.user;
  node->address.password = settings_.password;
  std::string server = "cluster " + name;
  for (const std::string& prefix : settings_.prefixes) server += '\n' + prefix;
  if (memstream_near_core_claim(settings_.cache, server.data(), server.size(), &node->server) != CACHE_OK) {
    node->server = kNoServer;
  }
  nodes_[count] = std::move(node);
  node_count_.store(count + 1, std::memory_order_release);
  return nodes_[count].get();
}

Node* Upstream::find_or_add(const std::string& name, Clock::time_point deadline) {
  if (Node* const known = known_node(name); known != nullptr) return known;
  const ChangeLock lock(changer_, deadline);
  return lock ? add_node(name) : nullptr;
}

void Upstream::route(std::uint32_t slot, Node& node) noexcept {
  std::uint8_t number = 0;
  while (nodes_[number].get() != &node) ++number;
  const std::uint8_t before = map_[slot].exchange(number, std::memory_order_acq_rel);
  if (before == number) return;
  node.slots.fetch_add(1, std::memory_order_relaxed);
  if (before != kUnknown) nodes_[before]->slots.fetch_sub(1, std::memory_order_relaxed);
}

// One caller asks; those that come meanwhile take its answer.
bool Upstream::refresh_map(Clock::time_point deadline) {
  const std::uint64_t before = maps_.load(std::memory_order_acquire);
  const ChangeLock lock(changer_, deadline);
  if (maps_.load(std::memory_order_acquire) != before) return true;
  if (!lock || Clock::now() - last_failure_ < kRetry) return false;
  if (Clock::now() - last_map_ < kRetry) return true;
  std::string error;
  const bool is_known = ask_for_map(&error);
  (is_known ? last_map_ : last_failure_) = Clock::now();
  set_map_error(std::move(error));
  return is_known;
}

// Each time another node begins, so that one that hangs or has been left behind is not asked for ever.
bool Upstream::ask_for_map(std::string* error) {
  const milliseconds timeout = std::min(settings_.timeout, kMapTimeout);
  std::vector<std::string> hosts = hosts_;
  std::rotate(hosts.begin(), hosts.begin() + static_cast<std::ptrdiff_t>(next_host_++ % hosts.size()), hosts.end());
  for (const std::string& host : hosts) {
    RedisAddress address;
    if (!RedisAddress::parse(host, &address)) continue;
    address.user = settings_.user;
    address.password = settings_.password;
    std::string why;
    const std::unique_ptr<RedisConnection> connection = RedisConnection::open(address, timeout, &why);
    Reply reply;
    std::vector<SlotRange> ranges;
    if (connection != nullptr) {
      if (connection->ask({"CLUSTER", "SLOTS"}, Clock::now() + timeout, &reply) != Io::kOk) {
        why = connection->error();
      } else if (is_error(reply)) {
        why = with_remedy(*reply, "+cluster|slots");
      } else {
        ranges = parse_slots(*reply, host);
        why = "it knows of no slots";
      }
    }
    if (ranges.empty()) {
      *error += fmt::format("{}{}: {}", error->empty() ? "" : "; ", in_quotes(host, kMostQuotedPathBytes), why);
      continue;
    }
    hosts_ = settings_.addresses;
    const auto keep = [this](const std::string& name) {
      if (std::find(hosts_.begin(), hosts_.end(), name) == hosts_.end()) hosts_.push_back(name);
    };
    for (const SlotRange& range : ranges) {
      keep(range.master);
      std::for_each(range.replicas.begin(), range.replicas.end(), keep);
      Node* const node = add_node(range.master);
      if (node == nullptr) {
        *error = fmt::format("the cluster has had more than {} masters", kMostNodes);
        return false;
      }
      for (std::uint32_t slot = range.first; slot <= range.last; ++slot) route(slot, *node);
    }
    error->clear();
    is_doubtful_.store(false, std::memory_order_relaxed);
    maps_.fetch_add(1, std::memory_order_release);
    return true;
  }
  return false;
}

std::string Upstream::map_error() const {
  const ChangeLock lock(error_changer_, Clock::now() + settings_.timeout);
  return lock ? error_ : std::string{};
}

void Upstream::set_map_error(std::string error) {
  const ChangeLock lock(error_changer_, Clock::now() + settings_.timeout);
  if (lock) error_ = std::move(error);
}

void Upstream::visit_serving(const std::function<void(const Node&)>& visit) const {
  const std::size_t count = node_count_.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < count; ++i) {
    if (nodes_[i]->slots.load(std::memory_order_relaxed) != 0) visit(*nodes_[i]);
  }
}

// ---- filling ----

// The epoch before the question: what the answer says was so when that epoch was in force.
bool Upstream::refresh_view(Node& node, Clock::time_point deadline) {
  const ChangeLock lock(changer_, deadline);
  if (!lock) return false;
  memstream_near_core_state_t state{};
  state.struct_size = sizeof state;
  if (memstream_near_core_state(settings_.cache, node.server, &state) != CACHE_OK || state.epoch == 0) return false;
  if (node.view_epoch.load(std::memory_order_relaxed) == state.epoch) return true;
  std::vector<Reply> replies;
  std::string error;
  if (ask_node(node, {{"CLUSTER", "NODES"}}, false, &replies, &error) != Outcome::kAnswered) return false;
  const std::optional<OwnView> view = is_error(replies[0]) ? std::nullopt : parse_nodes(text_of(*replies[0]));
  if (!view) return false;
  node.view_epoch.store(0, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
  for (std::uint32_t word = 0; word < node.settled.size(); ++word) {
    std::uint64_t bits = 0;
    for (std::uint32_t bit = 0; view->is_master && bit < 64; ++bit) {
      if (view->settled.test(word * 64 + bit)) bits |= std::uint64_t{1} << bit;
    }
    node.settled[word].store(bits, std::memory_order_relaxed);
  }
  node.view_epoch.store(state.epoch, std::memory_order_release);
  return true;
}

// In a cluster the node must have said in this very epoch that the slot is its own: docs/decisions/0024.
bool Upstream::take_token(Node& node, std::string_view key, std::uint64_t* token) {
  if (node.server == kNoServer) return false;
  constexpr int kMostTries = 3;
  for (int tries = 0; tries < kMostTries; ++tries) {
    if (memstream_near_core_begin(settings_.cache, node.server, key.data(), key.size(), token) != CACHE_OK)
      return false;
    if (!settings_.is_cluster) return true;
    const std::uint32_t epoch = memstream_near_core_epoch_of(*token);
    if (epoch == 0) return false;  // Nothing is served before the agent has begun.
    const std::uint32_t slot = slot_of(key);
    if (node.view_epoch.load(std::memory_order_acquire) == epoch) {
      const std::uint64_t word = node.settled[slot / 64].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (node.view_epoch.load(std::memory_order_relaxed) == epoch) return (word >> slot % 64 & 1) != 0;
    }
    if (!refresh_view(node, Clock::now() + settings_.timeout)) return false;
  }
  return false;
}

// ---- asking ----

Upstream::Outcome Upstream::ask_node(Node& node, const Commands& commands, bool asks, std::vector<Reply>* replies,
                                     std::string* error) {
  for (;;) {
    std::unique_ptr<RedisConnection> connection = node.connections.take();
    const bool is_new = connection == nullptr;
    if (is_new) connection = RedisConnection::open(node.address, settings_.timeout, error);
    if (connection == nullptr) return Outcome::kLost;
    const Clock::time_point deadline = Clock::now() + settings_.timeout;
    Io done = Io::kOk;
    for (const RedisConnection::Words& command : commands) {
      if (asks && done == Io::kOk) done = connection->send({"ASKING"}, deadline);
      if (done == Io::kOk) done = connection->send(command, deadline);
    }
    replies->clear();
    for (std::size_t i = 0; i < commands.size() && done == Io::kOk; ++i) {
      Reply reply;
      if (asks) done = connection->receive(deadline, &reply);
      if (done == Io::kOk) done = connection->receive(deadline, &reply);
      if (done == Io::kOk) replies->push_back(std::move(reply));
    }
    if (done == Io::kOk) {
      node.connections.give(std::move(connection));
      return Outcome::kAnswered;
    }
    *error = done == Io::kTimeout ? std::string("it did not answer in time") : connection->error();
    if (done == Io::kTimeout) return Outcome::kTimeout;
    if (is_new) return Outcome::kLost;
  }
}

bool Upstream::ask(std::string_view key, const Commands& commands, std::vector<Reply>* replies, std::string* error) {
  if (settings_.is_cluster) return ask_cluster(key, commands, replies, error);
  return ask_node(*nodes_[0], commands, false, replies, error) == Outcome::kAnswered;
}

// A node that is gone may have a successor: the others know, once they have agreed on it.
bool Upstream::ask_cluster(std::string_view key, const Commands& commands, std::vector<Reply>* replies,
                           std::string* error) {
  const Clock::time_point deadline = Clock::now() + settings_.timeout;
  const std::uint32_t slot = slot_of(key);
  Node* node = node_of(key);
  if (node == nullptr) {
    refresh_map(deadline);
    node = node_of(key);
  }
  if (node == nullptr) {
    const std::string reason = map_error();
    *error = "no node tells who serves the key" + (reason.empty() ? std::string{} : " (" + reason + ")");
    return false;
  }
  bool asks = false;
  for (int redirections = 0; redirections < kMostRedirections;) {
    const Outcome outcome = ask_node(*node, commands, asks, replies, error);
    asks = false;
    if (outcome != Outcome::kAnswered) {
      *error = in_quotes(node->name, kMostQuotedPathBytes) + ": " + *error;
      is_doubtful_.store(true, std::memory_order_relaxed);
      refresh_map(deadline);
      Node* const successor = node_of(key);
      if (successor == node || successor == nullptr) return false;
      node = successor;
      ++redirections;
      continue;
    }
    const std::string_view answer = is_error((*replies)[0]) ? text_of(*(*replies)[0]) : std::string_view{};
    if (const std::optional<Redirection> to = parse_redirection(answer, node->name); to) {
      Node* const other = find_or_add(to->node, deadline);
      if (other == nullptr) {
        *error = fmt::format("the cluster has had more than {} masters", kMostNodes);
        return false;
      }
      if (!to->is_ask) {
        is_doubtful_.store(true, std::memory_order_relaxed);
        if (!has_thread()) refresh_map(deadline);
        // The node that answered knows better than those that tell the map.
        const ChangeLock lock(changer_, deadline);
        if (lock) route(slot, *other);
      }
      node = other;
      asks = to->is_ask;
      ++redirections;
      continue;
    }
    const bool may_pass = begins_with_any(answer, {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"});
    if (!may_pass || Clock::now() + kRetry >= deadline) return true;
    std::this_thread::sleep_for(kRetry);
  }
  *error = "its nodes send each other's keys around";
  return false;
}

// ---- following the cluster ----

// Finds masters, and has an agent for each.
void Upstream::follow_cluster() {
  ::pthread_setname_np(::pthread_self(), "memstream-slots");
  Clock::time_point next_map = Clock::now();
  std::vector<bool> was_subscribed(kMostNodes, false);
  pollfd stop{.fd = stop_fd_, .events = POLLIN, .revents = 0};
  do {
    bool is_due = Clock::now() >= next_map || is_doubtful_.load(std::memory_order_relaxed);
    const std::size_t known = node_count_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < known; ++i) {
      const Agent* const agent = nodes_[i]->agent.load(std::memory_order_relaxed);
      const bool is_subscribed = agent != nullptr && agent->is_subscribed();
      is_due = is_due || (was_subscribed[i] && !is_subscribed);
      was_subscribed[i] = is_subscribed;
    }
    if (is_due) {
      const bool is_known = refresh_map(Clock::now() + settings_.timeout);
      next_map = Clock::now() + (is_known ? kMapAge : kLook);
    }
    const std::size_t count = node_count_.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < count; ++i) {
      Node& node = *nodes_[i];
      const bool needs_agent = node.agent.load(std::memory_order_relaxed) == nullptr && node.server != kNoServer &&
                               node.slots.load(std::memory_order_relaxed) != 0;
      if (needs_agent && !start_agent(node))
        set_map_error("no thread for the agent of " + in_quotes(node.name, kMostQuotedPathBytes));
    }
  } while (::poll(&stop, 1, static_cast<int>(kLook.count())) <= 0);
}

}  // namespace memstream::near
