// memcached behind a Unix socket, through libmemcached: one request at a time, and sixteen at a time.
#include <libmemcached/memcached.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/server.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

struct FreeConnection {
  void operator()(memcached_st* connection) const noexcept { memcached_free(connection); }
};

struct OneByOne {
  static constexpr const char* kName = "memcached";
  static constexpr unsigned kBatch = 1;
};
struct Pipelined {
  static constexpr const char* kName = "memcached-pipelined";
  static constexpr unsigned kBatch = 16;
};

// Room enough that nothing is evicted: slabs are of one size, and larger values are made of several chunks.
std::string megabytes_for(const DataSet& data) {
  return std::to_string(128 + std::uint64_t{data.keys} * (data.value_size + 200UL) * 3 / 2 / 1'000'000);
}

template <class Kind>
class Memcached {
 public:
  static constexpr const char* kName = Kind::kName;
  static constexpr unsigned kBatch = Kind::kBatch;
  static constexpr unsigned kSampleEvery = 1;
  static constexpr unsigned kSweepEvery = 64;
  static constexpr bool kMayTear = false;

  Memcached(const Environment& environment, const DataSet& data)
      : server_({"memcached", "-s", environment.scratch + "/" + kName, "-m", megabytes_for(data), "-M", "-I", "4m",
                 "-t", "2", "-u", ::geteuid() == 0 ? "nobody" : "", "-a", "0777"},
                environment.scratch + "/" + kName) {}

  class Session {
   public:
    explicit Session(Memcached& store) : connection_(memcached_create(nullptr)) {
      if (memcached_server_add_unix_socket(connection_.get(), store.server_.socket().c_str()) != MEMCACHED_SUCCESS) {
        throw std::runtime_error("memcached_server_add_unix_socket failed");
      }
      memcached_behavior_set(connection_.get(), MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, 1);
      memcached_behavior_set(connection_.get(), MEMCACHED_BEHAVIOR_NO_BLOCK, 1);
      // Here and never again: libmemcached closes the connection whenever this is set.
      memcached_behavior_set(connection_.get(), MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, kBatch > 1);
    }

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      const std::string_view text = key.view();
      std::size_t size = 0;
      std::uint32_t flags = 0;
      memcached_return_t outcome = MEMCACHED_SUCCESS;
      char* value = memcached_get(connection_.get(), text.data(), text.size(), &size, &flags, &outcome);
      if (outcome == MEMCACHED_NOTFOUND) return false;
      require(outcome, "memcached_get");
      size = std::min(size, room.size());
      std::memcpy(room.data(), value, size);
      std::free(value);
      see(room.data(), size);
      return true;
    }
    void put(const Key& key, std::span<const std::byte> value) {
      put_without_flush(key, value.data(), value.size());
      if (kBatch > 1) finish_puts(key);
    }

    template <class See>
    void get_batch(std::span<const Key> keys, std::span<std::byte> room, See see) {
      const char* names[kBatch];
      std::size_t sizes[kBatch];
      for (std::size_t index = 0; index < keys.size(); ++index) {
        names[index] = keys[index].view().data();
        sizes[index] = kKeySize;
      }
      require(memcached_mget(connection_.get(), names, sizes, keys.size()), "memcached_mget");
      memcached_return_t outcome = MEMCACHED_SUCCESS;
      memcached_result_st result;
      memcached_result_create(connection_.get(), &result);
      while (memcached_fetch_result(connection_.get(), &result, &outcome) != nullptr) {
        const std::string_view name(memcached_result_key_value(&result), memcached_result_key_length(&result));
        const std::size_t size = std::min(memcached_result_length(&result), room.size());
        std::memcpy(room.data(), memcached_result_value(&result), size);
        for (unsigned index = 0; index < keys.size(); ++index) {
          if (keys[index].view() == name) see(index, room.data(), size);
        }
      }
      memcached_result_free(&result);
      if (outcome != MEMCACHED_END && outcome != MEMCACHED_NOTFOUND) require(outcome, "memcached_fetch_result");
    }
    // Quiet sets are buffered, and nobody answers them.
    void put_batch(std::span<const Key> keys, std::span<std::byte> values) {
      const std::size_t size = values.size() / keys.size();
      for (std::size_t index = 0; index < keys.size(); ++index) {
        put_without_flush(keys[index], values.data() + index * size, size);
      }
      finish_puts(keys.back());
    }

   private:
    void put_without_flush(const Key& key, const std::byte* value, std::size_t size) {
      const std::string_view text = key.view();
      const memcached_return_t outcome =
          memcached_set(connection_.get(), text.data(), text.size(), reinterpret_cast<const char*>(value), size, 0, 0);
      if (outcome != MEMCACHED_BUFFERED) require(outcome, "memcached_set");
    }
    // memcached_flush_buffers() would only send what is buffered; the answer to a question about the last key comes
    // when the server has taken all of them.
    void finish_puts(const Key& last) {
      const std::string_view text = last.view();
      std::size_t size = 0;
      std::uint32_t flags = 0;
      memcached_return_t outcome = MEMCACHED_SUCCESS;
      std::free(memcached_get(connection_.get(), text.data(), text.size(), &size, &flags, &outcome));
      require(outcome, "memcached_get");
    }
    void require(memcached_return_t outcome, const char* call) const {
      if (outcome == MEMCACHED_SUCCESS) [[likely]]
        return;
      throw std::runtime_error(std::string(call) + ": " + memcached_strerror(connection_.get(), outcome));
    }

    std::unique_ptr<memcached_st, FreeConnection> connection_;
  };

 private:
  Server server_;
};

}  // namespace

Contender memcached() { return contender<Memcached<OneByOne>>(); }
Contender memcached_pipelined() { return contender<Memcached<Pipelined>>(); }

}  // namespace memstream::bench
