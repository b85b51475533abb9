#include "near/agent.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <map>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

namespace memstream::near {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kBeat{100};
constexpr milliseconds kLongestPause{1000};
constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
constexpr std::string_view kChannel = "__redis__:invalidate";

// What makes instants into claims. One ping is on its way at a time; its answer follows, in the stream, every
// invalidation of the event-loop cycle in which the ping before it ran.
class PingPairs {
 public:
  bool is_waiting() const noexcept { return is_waiting_; }
  void sent(std::uint64_t instant_ms) noexcept {
    is_waiting_ = true;
    sent_ms_ = instant_ms;
  }
  // The instant of which nothing is missing any more.
  std::optional<std::uint64_t> answered() noexcept {
    is_waiting_ = false;
    return std::exchange(before_ms_, sent_ms_);
  }
  // An error says nothing of what came before it: Redis answers so while a script keeps it from sending invalidations.
  void refused() noexcept {
    is_waiting_ = false;
    before_ms_.reset();
  }

 private:
  bool is_waiting_ = false;
  std::uint64_t sent_ms_ = 0;
  std::optional<std::uint64_t> before_ms_;
};

// A child of fork() has its parent's, whose thread it has not.
using AgentKey = std::tuple<memstream_t*, std::uint32_t, pid_t>;
std::mutex agents_mutex;
std::map<AgentKey, std::weak_ptr<Agent>> agents;
[[maybe_unused]] const int forks_unlocked =
    ::pthread_atfork([] { agents_mutex.lock(); }, [] { agents_mutex.unlock(); }, [] { agents_mutex.unlock(); });

// "pong" arrives as an array in a subscribed connection of RESP2.
bool is_pong(const redisReply& reply) noexcept {
  return reply.type == REDIS_REPLY_ARRAY && reply.elements == 2 && text_of(*reply.element[0]) == "pong";
}

}  // namespace

std::shared_ptr<Agent> Agent::of(const Settings& settings) {
  const std::lock_guard<std::mutex> guard(agents_mutex);
  std::weak_ptr<Agent>& known = agents[{settings.cache, settings.server, ::getpid()}];
  std::shared_ptr<Agent> agent = known.lock();
  if (agent == nullptr) known = agent = start(settings);
  return agent;
}

std::shared_ptr<Agent> Agent::start(Settings settings) {
  std::shared_ptr<Agent> agent(new Agent(std::move(settings)));
  agent->stop_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (agent->stop_fd_ < 0) return nullptr;
  agent->process_ = ::getpid();
  const SignalsFromElsewhereBlocked inherited;
  try {
    agent->thread_ = std::make_unique<std::thread>([self = agent.get()] { self->run(); });
  } catch (const std::system_error& error) {
    errno = error.code().value();
    return nullptr;
  }
  return agent;
}

Agent::~Agent() {
  if (thread_ != nullptr && process_ != ::getpid()) {
    static_cast<void>(thread_.release());  // A copy of a handle on a thread that this process does not have.
  } else if (thread_ != nullptr) {
    ::eventfd_write(stop_fd_, 1);
    thread_->join();
  }
  if (stop_fd_ >= 0) ::close(stop_fd_);
}

std::string Agent::error() const {
  const std::lock_guard<std::mutex> guard(error_mutex_);
  return error_;
}

void Agent::set_error(std::string error) {
  const std::lock_guard<std::mutex> guard(error_mutex_);
  error_ = std::move(error);
}

bool Agent::sleep(milliseconds time) const {
  pollfd stop{.fd = stop_fd_, .events = POLLIN, .revents = 0};
  return ::poll(&stop, 1, static_cast<int>(time.count())) <= 0;
}

void Agent::run() {
  ::pthread_setname_np(::pthread_self(), "memstream-near");
  milliseconds pause = kBeat;
  bool goes_on = true;
  while (goes_on) {
    if (!leads()) {
      set_error({});
      goes_on = sleep(kBeat);
      continue;
    }
    std::optional<Subscription> subscription = subscribe();
    if (!subscription) {
      // A pause is shorter than what makes the others think that nobody has the role.
      goes_on = sleep(std::min(pause, kLongestPause / 2));
      pause = std::min(2 * pause, kLongestPause);
      continue;
    }
    pause = kBeat;
    set_error({});
    is_subscribed_ = true;
    ++subscriptions_;
    memstream_near_core_note_subscription(settings_.cache, settings_.server);
    follow(*subscription);
    is_subscribed_ = false;
    goes_on = sleep(milliseconds(0));
  }
  memstream_near_core_yield(settings_.cache, settings_.server);
}

std::unique_ptr<RedisConnection> Agent::connect() {
  std::string error;
  std::unique_ptr<RedisConnection> connection = RedisConnection::open(settings_.redis, settings_.timeout, &error);
  if (connection == nullptr) set_error(std::move(error));
  return connection;
}

bool Agent::ask(RedisConnection& connection, const RedisConnection::Words& command, int wanted, std::string_view rule,
                Reply* reply) {
  if (connection.ask(command, Clock::now() + settings_.timeout, reply) != Io::kOk) {
    set_error(connection.error());
    return false;
  }
  if (is_type(*reply, wanted)) return true;
  set_error(std::string(command[0]) + " was refused: " +
            (is_error(*reply) ? with_remedy(**reply, rule) : std::string("an answer of an unknown kind")));
  return false;
}

// Messages between the commands may be lost: so the epoch is advanced by whoever calls this, before the first claim. In
// a cluster the view comes before the epoch: what is lost in it is seen against that view.
std::optional<Agent::Subscription> Agent::subscribe() {
  Subscription made;
  Reply reply;
  if (settings_.is_of_cluster) {
    made.questions = connect();
    if (made.questions == nullptr) return std::nullopt;
    if (!ask(*made.questions, {"CLUSTER", "NODES"}, REDIS_REPLY_STRING, "+cluster|nodes", &reply)) return std::nullopt;
    const std::optional<OwnView> view = parse_nodes(text_of(*reply));
    if (!view || !view->is_master) {
      set_error(view ? "the node is a replica now" : "CLUSTER NODES has an unknown form");
      return std::nullopt;
    }
    made.view = *view;
  }
  made.messages = connect();
  if (made.messages == nullptr) return std::nullopt;
  RedisConnection& messages = *made.messages;
  if (!ask(messages, {"CLIENT", "ID"}, REDIS_REPLY_INTEGER, "+client|id", &reply)) return std::nullopt;
  const std::string id = std::to_string(reply->integer);
  RedisConnection::Words track{"CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST"};
  for (const std::string& prefix : settings_.prefixes) {
    track.emplace_back("PREFIX");
    track.emplace_back(prefix);
  }
  if (!ask(messages, track, REDIS_REPLY_STATUS, "+client|tracking", &reply)) return std::nullopt;
  if (!ask(messages, {"SUBSCRIBE", kChannel}, REDIS_REPLY_ARRAY, "+subscribe &__redis__:invalidate", &reply))
    return std::nullopt;
  if (memstream_near_core_advance(settings_.cache, settings_.server) == CACHE_OK) return made;
  set_error(cache_last_error());
  return std::nullopt;
}

std::optional<bool> Agent::verify(Subscription& subscription) {
  Reply reply;
  if (subscription.questions->ask({"CLUSTER", "NODES"}, Clock::now() + settings_.timeout, &reply) != Io::kOk) {
    set_error(subscription.questions->error());
    return false;
  }
  if (is_error(reply)) return std::nullopt;
  const std::optional<OwnView> view = is_type(reply, REDIS_REPLY_STRING) ? parse_nodes(text_of(*reply)) : std::nullopt;
  if (!view || !view->is_master) {
    set_error(view ? "the node has become a replica" : "CLUSTER NODES has an unknown form");
    return false;
  }
  const bool has_kept = has_kept_slots(subscription.view, *view);
  subscription.view = *view;
  if (has_kept || memstream_near_core_advance(settings_.cache, settings_.server) == CACHE_OK) return true;
  set_error(cache_last_error());
  return false;
}

void Agent::follow(Subscription& subscription) {
  RedisConnection& connection = *subscription.messages;
  PingPairs pings;
  std::uint64_t verified_ms = settings_.is_of_cluster ? 0 : kNever;  // Up to then no slot was lost unnoticed.

  Clock::time_point next_beat = Clock::now();
  Clock::time_point answer_due = Clock::time_point::max();
  for (;;) {
    const Clock::time_point now = Clock::now();
    if (now >= next_beat) {
      if (!leads()) return;
      next_beat = now + kBeat;
      if (!pings.is_waiting()) {
        // Before the ping leaves: whatever was written by then ran before it.
        const std::uint64_t instant_ms = memstream_near_core_now(settings_.cache);
        if (connection.send({"PING"}, now + settings_.timeout) != Io::kOk) break;
        pings.sent(instant_ms);
        if (settings_.is_of_cluster) {
          const std::optional<bool> is_verified = verify(subscription);
          if (is_verified && !*is_verified) return;
          if (is_verified) verified_ms = instant_ms;
        }
        answer_due = Clock::now() + settings_.timeout;
      }
    }
    if (pings.is_waiting() && now >= answer_due) {
      set_error("Redis did not answer in time");
      return;
    }
    Reply reply;
    const Io received = connection.receive(next_beat, &reply, stop_fd_);
    if (received == Io::kStopped) return;
    if (received == Io::kTimeout) continue;
    if (received == Io::kLost) break;
    if (is_pong(*reply)) {
      const std::optional<std::uint64_t> instant_ms = pings.answered();
      if (instant_ms && *instant_ms <= verified_ms &&
          memstream_near_core_heard(settings_.cache, settings_.server, *instant_ms) != CACHE_OK) {
        set_error(cache_last_error());
        return;
      }
    } else if (is_error(reply)) {
      pings.refused();
    } else if (!carry_out(*reply)) {
      set_error(cache_last_error());
      return;
    }
  }
  set_error(connection.error());
}

// ["message", channel, [key, ...]], or nothing in the place of the keys, which means all of them.
bool Agent::carry_out(const redisReply& message) {
  if (message.type != REDIS_REPLY_ARRAY || message.elements != 3 || text_of(*message.element[0]) != "message")
    return true;
  const redisReply& keys = *message.element[2];
  if (keys.type != REDIS_REPLY_ARRAY) {
    return memstream_near_core_advance(settings_.cache, settings_.server) == CACHE_OK;
  }
  for (std::size_t i = 0; i < keys.elements; ++i) {
    if (i % 1024 == 1023) static_cast<void>(leads());  // Whoever works on a long list is not inactive.
    const std::string_view key = text_of(*keys.element[i]);
    if (memstream_near_core_invalidate(settings_.cache, settings_.server, key.data(), key.size()) != CACHE_OK)
      return false;
  }
  return true;
}

}  // namespace memstream::near
