#include "tests/near/redis_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace memstream::test {
namespace {

constexpr const char* kProgram = "/usr/bin/redis-server";

int unix_socket(const std::string& path, bool listens) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const int failed = listens ? ::bind(fd, generic, sizeof address) != 0 || ::listen(fd, 64) != 0
                             : ::connect(fd, generic, sizeof address);
  if (failed == 0) return fd;
  ::close(fd);
  return -1;
}

}  // namespace

RedisServer::RedisServer(std::vector<std::string> options) : options_(std::move(options)) {
  if (::access(kProgram, X_OK) != 0) {
    std::puts("skipped: this machine has no /usr/bin/redis-server (Debian: redis-server)");
    std::exit(77);
  }
  const char* const base = std::getenv("TMPDIR");
  folder_ = std::string(base == nullptr ? "/tmp" : base) + "/near-redis-XXXXXX";
  if (::mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("no folder for Redis");
  start();
}

RedisServer::~RedisServer() {
  kill();
  std::filesystem::remove_all(folder_);
}

void RedisServer::start() {
  std::vector<std::string> words{kProgram,       "--port", "0",     "--unixsocket", socket(),    "--save",        "",
                                 "--appendonly", "no",     "--dir", folder_,        "--logfile", folder_ + "/log"};
  words.insert(words.end(), options_.begin(), options_.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    ::execv(kProgram, arguments.data());
    ::_exit(127);
  }
  for (int tries = 0; tries < 1000; ++tries) {
    context_.reset(redisConnectUnix(socket().c_str()));
    if (context_ != nullptr && context_->err == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  kill();
  throw std::runtime_error("Redis does not come up");
}

void RedisServer::kill() {
  context_.reset();
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  process_ = 0;
  std::filesystem::remove(socket());
}

void RedisServer::send_signal(int signal) const { ::kill(process_, signal); }

std::string RedisServer::ask(const std::vector<std::string>& words) { return ask_for(words, false); }
std::string RedisServer::ask_first(const std::vector<std::string>& words) { return ask_for(words, true); }

std::string RedisServer::ask_for(const std::vector<std::string>& words, bool wants_first) {
  if (context_ == nullptr) throw std::runtime_error("Redis is gone");
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string& word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  auto* const whole = static_cast<redisReply*>(
      redisCommandArgv(context_.get(), static_cast<int>(texts.size()), texts.data(), sizes.data()));
  if (whole == nullptr) throw std::runtime_error("Redis is gone");
  const redisReply* const reply = wants_first && whole->elements != 0 ? whole->element[0] : whole;
  std::string text = reply->type == REDIS_REPLY_INTEGER ? std::to_string(reply->integer)
                     : reply->str == nullptr            ? std::string("nil")
                                                        : std::string(reply->str, reply->len);
  if (reply->type == REDIS_REPLY_ERROR) text = "-" + text;
  freeReplyObject(whole);
  return text;
}

long RedisServer::info(const std::string& section, const std::string& name) {
  const std::string text = ask({"INFO", section});
  const std::size_t line = text.find(name + ":");
  if (line == std::string::npos) return 0;
  std::size_t number = line + name.size() + 1;
  if (text.compare(number, 6, "calls=") == 0) number += 6;
  return std::stol(text.substr(number));
}

RedisProxy::RedisProxy(const RedisServer& server) : server_(server.socket()), path_(server.folder() + "/proxy.sock") {
  listen_fd_ = unix_socket(path_, true);
  stop_fd_ = ::eventfd(0, EFD_CLOEXEC);
  if (listen_fd_ < 0 || stop_fd_ < 0) throw std::runtime_error("no socket for the proxy");
  thread_ = std::thread([this] { run(); });
}

RedisProxy::~RedisProxy() {
  ::eventfd_write(stop_fd_, 1);
  thread_.join();
  ::close(listen_fd_);
  ::close(stop_fd_);
}

void RedisProxy::run() {
  struct Pair {
    int client;
    int server;
    bool has_sent_get = false;
    std::string held;
  };
  std::vector<Pair> pairs;
  std::array<char, 64 << 10> room{};
  for (;;) {
    std::vector<pollfd> waits{{stop_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}};
    for (const Pair& pair : pairs) {
      waits.push_back({pair.client, POLLIN, 0});
      waits.push_back({pair.server, POLLIN, 0});
    }
    ::poll(waits.data(), waits.size(), 2);
    if (waits[0].revents != 0) break;
    std::vector<Pair> left;
    int held = 0;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      Pair& pair = pairs[i];
      bool is_over = false;
      const auto pass = [&](int from, int to, short revents) {
        if (revents == 0) return std::string();
        const ssize_t size = ::recv(from, room.data(), room.size(), MSG_DONTWAIT);
        if (size <= 0) {
          is_over = size == 0 || errno != EAGAIN;
          return std::string();
        }
        std::string bytes(room.data(), static_cast<std::size_t>(size));
        if (to >= 0 && !swallows_) ::send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        return bytes;
      };
      const char* const answer = answer_;
      const std::string asked = pass(pair.client, answer == nullptr ? pair.server : -1, waits[2 + 2 * i].revents);
      for (std::size_t command = 0; answer != nullptr && command != std::string::npos && command < asked.size();) {
        ::send(pair.client, answer, std::strlen(answer), MSG_NOSIGNAL);
        command = asked.find("\r\n*", command + 1);
      }
      if (asked.find("GET\r\n") != std::string::npos) pair.has_sent_get = true;
      const std::string answered = pass(pair.server, -1, waits[3 + 2 * i].revents);
      if (!swallows_) pair.held += answered;
      if (!(holds_gets_ && pair.has_sent_get) && !pair.held.empty()) {
        ::send(pair.client, pair.held.data(), pair.held.size(), MSG_NOSIGNAL);
        pair.held.clear();
      }
      held += pair.held.empty() ? 0 : 1;
      if (is_over) {
        ::close(pair.client);
        ::close(pair.server);
      } else {
        left.push_back(std::move(pair));
      }
    }
    pairs = std::move(left);
    held_ = held;
    if (waits[1].revents != 0) {
      const int client = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
      const int server = unix_socket(server_, false);
      if (client >= 0 && server >= 0) {
        pairs.push_back({client, server, false, {}});
      } else {
        if (client >= 0) ::close(client);
        if (server >= 0) ::close(server);
      }
    }
  }
  for (const Pair& pair : pairs) {
    ::close(pair.client);
    ::close(pair.server);
  }
}

}  // namespace memstream::test
