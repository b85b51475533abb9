// One connection to Redis, by hiredis: RESP2, blocking with deadlines, and no signal when the other end is gone.
#pragma once

#include <hiredis/hiredis.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace memstream::near {

// Where Redis is, and as whom to speak to it.
struct RedisAddress {
  std::string host;  // Or empty, and `path` is set.
  int port = 0;
  std::string path;
  std::string user;
  std::string password;

  // False if `text` is no address.
  static bool parse(const std::string& text, RedisAddress* address);
};

struct FreeReply {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

inline bool is_type(const Reply& reply, int type) noexcept { return reply && reply->type == type; }
inline bool is_error(const Reply& reply) noexcept { return is_type(reply, REDIS_REPLY_ERROR); }
inline std::string_view text_of(const redisReply& reply) noexcept {
  return reply.str == nullptr ? std::string_view{} : std::string_view{reply.str, reply.len};
}

// An error of Redis in apostrophes, as in_quotes() shows a text of others.
std::string quoted_text_of(const redisReply& reply);
// The same; behind one that says that the user may not do something stands the rule that lets it: "+ping".
std::string with_remedy(const redisReply& error, std::string_view rule);

// What a call came to. kLost: the connection is of no use any more, and error() says why.
enum class Io { kOk, kTimeout, kStopped, kLost };

class RedisConnection {
 public:
  using Clock = std::chrono::steady_clock;
  using Words = std::vector<std::string_view>;

  // Null, and `*error` is set, if there is no Redis or it refuses the credentials.
  static std::unique_ptr<RedisConnection> open(const RedisAddress& address, std::chrono::milliseconds timeout,
                                               std::string* error);

  // Sends all of it.
  Io send(const Words& command, Clock::time_point deadline);
  // The next reply, or kStopped as soon as `stop_fd` can be read. -1: there is none.
  Io receive(Clock::time_point deadline, Reply* reply, int stop_fd = -1);
  // Both.
  Io ask(const Words& command, Clock::time_point deadline, Reply* reply);
  const std::string& error() const noexcept { return error_; }

 private:
  struct FreeContext {
    void operator()(redisContext* context) const noexcept { redisFree(context); }
  };

  explicit RedisConnection(redisContext* context) : context_(context) {}
  Io lose(std::string error);
  Io wait_for(short events, Clock::time_point deadline, int stop_fd);

  std::unique_ptr<redisContext, FreeContext> context_;
  std::string error_;
};

}  // namespace memstream::near
