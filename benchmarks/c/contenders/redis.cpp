// Redis behind a Unix socket, one request at a time and sixteen at a time.
#include <hiredis/hiredis.h>

#include <cstring>
#include <memory>
#include <stdexcept>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/server.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

struct FreeContext {
  void operator()(redisContext* context) const noexcept { redisFree(context); }
};
struct FreeReply {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;

struct OneByOne {
  static constexpr const char* kName = "redis";
  static constexpr unsigned kBatch = 1;
};
struct Pipelined {
  static constexpr const char* kName = "redis-pipelined";
  static constexpr unsigned kBatch = 16;
};

template <class Kind>
class Redis {
 public:
  static constexpr const char* kName = Kind::kName;
  static constexpr unsigned kBatch = Kind::kBatch;
  static constexpr unsigned kSampleEvery = 1;
  static constexpr unsigned kSweepEvery = 64;
  static constexpr bool kMayTear = false;

  Redis(const Environment& environment, const DataSet&)
      : server_({"redis-server", "--port", "0", "--unixsocket", environment.scratch + "/" + kName, "--save", "",
                 "--appendonly", "no", "--dir", environment.scratch, "--loglevel", "warning"},
                environment.scratch + "/" + kName) {}

  class Session {
   public:
    explicit Session(Redis& store) : context_(redisConnectUnix(store.server_.socket().c_str())) {
      if (context_ == nullptr || context_->err != 0) throw std::runtime_error("redisConnectUnix failed");
    }

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      ask_get(key);
      return take_value(room, [&](std::size_t size) { see(room.data(), size); });
    }
    void put(const Key& key, std::span<const std::byte> value) {
      ask_set(key, value);
      take_reply();
    }

    template <class See>
    void get_batch(std::span<const Key> keys, std::span<std::byte> room, See see) {
      for (const Key& key : keys) ask_get(key);
      for (unsigned index = 0; index < keys.size(); ++index) {
        take_value(room, [&](std::size_t size) { see(index, room.data(), size); });
      }
    }
    void put_batch(std::span<const Key> keys, std::span<std::byte> values) {
      const std::size_t size = values.size() / keys.size();
      for (std::size_t index = 0; index < keys.size(); ++index)
        ask_set(keys[index], values.subspan(index * size, size));
      for (std::size_t index = 0; index < keys.size(); ++index) take_reply();
    }

   private:
    void ask_get(const Key& key) {
      const std::string_view text = key.view();
      redisAppendCommand(context_.get(), "GET %b", text.data(), text.size());
    }
    void ask_set(const Key& key, std::span<const std::byte> value) {
      const std::string_view text = key.view();
      redisAppendCommand(context_.get(), "SET %b %b", text.data(), text.size(), value.data(), value.size());
    }
    Reply take_reply() {
      void* reply = nullptr;
      if (redisGetReply(context_.get(), &reply) != REDIS_OK) throw std::runtime_error(context_->errstr);
      Reply taken(static_cast<redisReply*>(reply));
      if (taken->type == REDIS_REPLY_ERROR) throw std::runtime_error(taken->str);
      return taken;
    }
    template <class See>
    bool take_value(std::span<std::byte> room, See see) {
      const Reply reply = take_reply();
      if (reply->type != REDIS_REPLY_STRING) return false;
      const std::size_t size = std::min(static_cast<std::size_t>(reply->len), room.size());
      std::memcpy(room.data(), reply->str, size);
      see(size);
      return true;
    }

    std::unique_ptr<redisContext, FreeContext> context_;
  };

 private:
  Server server_;
};

}  // namespace

Contender redis() { return contender<Redis<OneByOne>>(); }
Contender redis_pipelined() { return contender<Redis<Pipelined>>(); }

}  // namespace memstream::bench
