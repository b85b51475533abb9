#include "near/redis_connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "api/quoted.h"

namespace memstream::near {
namespace {

using std::chrono::milliseconds;

timeval timeval_of(milliseconds timeout) noexcept {
  return {.tv_sec = static_cast<time_t>(timeout.count() / 1000),
          .tv_usec = static_cast<suseconds_t>(timeout.count() % 1000 * 1000)};
}

std::string text_of_errno(int error) {
  std::array<char, 128> room{};
  return ::strerror_r(error, room.data(), room.size());
}

}  // namespace

bool RedisAddress::parse(const std::string& text, RedisAddress* address) {
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) {
    address->path = text.substr(kUnix.size());
    return address->path.starts_with('/');
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  address->host = text.substr(0, colon);
  if (address->host.starts_with('[') != address->host.ends_with(']')) return false;
  if (address->host.starts_with('[')) address->host = address->host.substr(1, address->host.size() - 2);
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data() + colon + 1, end, address->port);
  return error == std::errc{} && stopped == end && address->port > 0 && address->port < 65536 && !address->host.empty();
}

std::string quoted_text_of(const redisReply& reply) {
  constexpr std::size_t kMostBytes = 300;
  return in_quotes(text_of(reply), kMostBytes);
}

std::string with_remedy(const redisReply& error, std::string_view rule) {
  const std::string shown = quoted_text_of(error);
  if (!text_of(error).starts_with("NOPERM")) return shown;
  return shown + ". Add this rule to the user by ACL SETUSER: " + std::string(rule);
}

std::unique_ptr<RedisConnection> RedisConnection::open(const RedisAddress& address, milliseconds timeout,
                                                       std::string* error) {
  const timeval limit = timeval_of(timeout);
  redisContext* const context = address.path.empty()
                                    ? redisConnectWithTimeout(address.host.c_str(), address.port, limit)
                                    : redisConnectUnixWithTimeout(address.path.c_str(), limit);
  if (context == nullptr) {
    *error = "this process has no memory left for a connection";
    return nullptr;
  }
  std::unique_ptr<RedisConnection> connection(new RedisConnection(context));
  if (context->err != 0) {
    *error = context->errstr;
    return nullptr;
  }
  ::fcntl(context->fd, F_SETFD, FD_CLOEXEC);
  if (address.password.empty()) return connection;
  Words words{"AUTH"};
  if (!address.user.empty()) words.emplace_back(address.user);
  words.emplace_back(address.password);
  Reply reply;
  if (connection->ask(words, Clock::now() + timeout, &reply) != Io::kOk) {
    *error = connection->error();
    return nullptr;
  }
  if (is_error(reply)) {
    *error = "AUTH was refused: " + quoted_text_of(*reply);
    return nullptr;
  }
  return connection;
}

Io RedisConnection::lose(std::string error) {
  error_ = std::move(error);
  return Io::kLost;
}

Io RedisConnection::wait_for(short events, Clock::time_point deadline, int stop_fd) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  if (left.count() <= 0) return Io::kTimeout;
  std::array<pollfd, 2> waits{
      {{.fd = context_->fd, .events = events, .revents = 0}, {.fd = stop_fd, .events = POLLIN, .revents = 0}}};
  const int ready = ::poll(waits.data(), waits.size(), static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
  if (ready < 0 && errno != EINTR) return lose("poll: " + text_of_errno(errno));
  return waits[1].revents != 0 && ready > 0 ? Io::kStopped : Io::kOk;
}

Io RedisConnection::send(const Words& command, Clock::time_point deadline) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string_view word : command) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  char* bytes = nullptr;
  const int size = redisFormatCommandArgv(&bytes, static_cast<int>(texts.size()), texts.data(), sizes.data());
  if (size < 0) return lose("this process has no memory left for a command");
  const std::unique_ptr<char, decltype(&redisFreeCommand)> owner(bytes, &redisFreeCommand);
  std::size_t sent = 0;
  while (sent < static_cast<std::size_t>(size)) {
    const ssize_t now =
        ::send(context_->fd, bytes + sent, static_cast<std::size_t>(size) - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (now > 0) {
      sent += static_cast<std::size_t>(now);
    } else if (now < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      // Half a command is on its way: without the rest the connection is of no use.
      if (const Io waited = wait_for(POLLOUT, deadline, -1); waited != Io::kOk) {
        return waited == Io::kTimeout ? lose("Redis took no command in time") : waited;
      }
    } else if (now < 0 && errno != EINTR) {
      return lose(text_of_errno(errno));
    }
  }
  return Io::kOk;
}

Io RedisConnection::receive(Clock::time_point deadline, Reply* reply, int stop_fd) {
  for (;;) {
    void* parsed = nullptr;
    if (redisReaderGetReply(context_->reader, &parsed) != REDIS_OK) {
      return lose("Redis sent no RESP2: " + std::string(context_->reader->errstr));
    }
    if (parsed != nullptr) {
      reply->reset(static_cast<redisReply*>(parsed));
      return Io::kOk;
    }
    std::array<char, 16 << 10> room;  // NOLINT(cppcoreguidelines-pro-type-member-init): recv() fills it.
    const ssize_t size = ::recv(context_->fd, room.data(), room.size(), MSG_DONTWAIT);
    if (size > 0) {
      if (redisReaderFeed(context_->reader, room.data(), static_cast<std::size_t>(size)) != REDIS_OK) {
        return lose("this process has no memory left for a reply");
      }
    } else if (size == 0) {
      return lose("Redis closed the connection");
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (const Io waited = wait_for(POLLIN, deadline, stop_fd); waited != Io::kOk) return waited;
    } else if (errno != EINTR) {
      return lose(text_of_errno(errno));
    }
  }
}

Io RedisConnection::ask(const Words& command, Clock::time_point deadline, Reply* reply) {
  if (const Io sent = send(command, deadline); sent != Io::kOk) return sent;
  const Io received = receive(deadline, reply);
  return received == Io::kTimeout ? lose("Redis did not answer in time") : received;
}

}  // namespace memstream::near
