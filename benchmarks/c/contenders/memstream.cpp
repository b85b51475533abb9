// MemStream as a user has it: libcache.so through its C interfaces, on either backend.
#include "api/memstream.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/worker.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

// The default size, or more: room enough that nothing is evicted. Shards fill unevenly: each has place for six standard
// deviations more items than the mean, and for two more that are being written.
std::uint64_t segment_size(const DataSet& data) {
  constexpr double kShardSize = 32 << 20;
  const double item = data.value_size + kKeySize + 160;
  const double most_items = kShardSize / item - 2;
  const double deviation = std::sqrt(9 + most_items) - 3;  // Of the mean, which is its square.
  const double needed = (64 << 20) + kShardSize * data.keys / (deviation * deviation);
  return std::max(static_cast<std::uint64_t>(needed), std::uint64_t{256} << 20);
}

// What a kind of MemStream has unless it says otherwise.
struct Common {
  static constexpr const char* kBackend = "posix";
  static constexpr const char* kHugePages = nullptr;  // As MEMSTREAM_HUGEPAGES says.
  static constexpr bool kViews = false;
  static constexpr bool kConnects = false;  // By cache_connect(), to use cache_get() and cache_put().
  static constexpr unsigned kBatch = 1;
};
struct Posix : Common {
  static constexpr const char* kName = "memstream-posix";
};
struct SystemV : Common {
  static constexpr const char* kBackend = "sysv";
  static constexpr const char* kName = "memstream-sysv";
};
struct PosixCache : Common {
  static constexpr const char* kName = "memstream-posix-cache";
  static constexpr bool kConnects = true;
};
struct SystemVCache : Common {
  static constexpr const char* kBackend = "sysv";
  static constexpr const char* kName = "memstream-sysv-cache";
  static constexpr bool kConnects = true;
};
struct Views : Common {
  static constexpr const char* kName = "memstream-views";
  static constexpr bool kViews = true;
};
struct Batches : Common {
  static constexpr const char* kName = "memstream-batches";
  static constexpr unsigned kBatch = 16;
};
struct HugePosix : Common {
  static constexpr const char* kName = "memstream-posix-huge";
  static constexpr const char* kHugePages = "require";
};
struct HugeSystemV : Common {
  static constexpr const char* kBackend = "sysv";
  static constexpr const char* kName = "memstream-sysv-huge";
  static constexpr const char* kHugePages = "require";
};

template <class Kind>
class MemStream {
 public:
  static constexpr const char* kName = Kind::kName;
  static constexpr unsigned kBatch = Kind::kBatch;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = false;

  MemStream(const Environment& environment, const DataSet& data)
      : name_(environment.tag + "." + kName), options_(options_for(name_, data)), cache_(options_) {}

  class Session {
   public:
    explicit Session(MemStream& store) {
      if constexpr (Kind::kConnects) {
        connect(store.options_);
      } else {
        joined_.emplace(store.options_);
        cache_ = joined_->handle();
      }
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    ~Session() {
      if constexpr (Kind::kConnects) cache_disconnect();
    }

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      const std::string_view text = key.view();
      if constexpr (Kind::kViews) {
        memstream_view_t view;
        const int status = memstream_view(cache_, text.data(), text.size(), &view);
        if (status == CACHE_MISS) return false;
        require_ok(status, "memstream_view");
        see(view.data, view.size);
        require_ok(memstream_release(cache_, &view), "memstream_release");
      } else if constexpr (Kind::kConnects) {
        std::size_t size = room.size();
        const int status = cache_get(key.c_str(), room.data(), &size);
        if (status == CACHE_MISS) return false;
        require_ok(status, "cache_get");
        see(room.data(), size);
      } else {
        std::size_t size = room.size();
        const int status = memstream_get(cache_, text.data(), text.size(), room.data(), &size, nullptr);
        if (status == CACHE_MISS) return false;
        require_ok(status, "memstream_get");
        see(room.data(), size);
      }
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      if constexpr (Kind::kConnects) {
        require_ok(cache_put(key.c_str(), value.data(), value.size()), "cache_put");
      } else {
        const std::string_view text = key.view();
        require_ok(memstream_set(cache_, text.data(), text.size(), value.data(), value.size(), 0, 0), "memstream_set");
      }
    }

    template <class See>
    void get_batch(std::span<const Key> keys, std::span<std::byte> room, See see) {
      name_items(keys);
      std::size_t room_size = room.size();
      require_ok(memstream_get_many(cache_, items_.data(), keys.size(), room.data(), &room_size), "memstream_get_many");
      for (std::size_t index = 0; index < keys.size(); ++index) {
        const memstream_item_t& item = items_[index];
        if (item.status == CACHE_MISS) continue;
        require_ok(item.status, "memstream_get_many");
        see(static_cast<unsigned>(index), item.value, item.value_size);
      }
    }

    void put_batch(std::span<const Key> keys, std::span<std::byte> values) {
      name_items(keys);
      const std::size_t size = values.size() / keys.size();
      for (std::size_t index = 0; index < keys.size(); ++index) {
        items_[index].value = values.data() + index * size;
        items_[index].value_size = size;
      }
      require_ok(memstream_set_many(cache_, items_.data(), keys.size()), "memstream_set_many");
    }

   private:
    // A process has one such cache: the filling disconnects before the next store is filled, and each child connects.
    static void connect(const memstream_options_t& options) {
      const std::string size = std::to_string(options.size_bytes);
      ::setenv("MEMSTREAM_NAME", options.name, 1);
      ::setenv("MEMSTREAM_BACKEND", options.backend, 1);
      ::setenv("MEMSTREAM_SIZE", size.c_str(), 1);
      require_ok(cache_connect(), "cache_connect");
    }

    void name_items(std::span<const Key> keys) {
      for (std::size_t index = 0; index < keys.size(); ++index) {
        const std::string_view text = keys[index].view();
        items_[index] = {};
        items_[index].key = text.data();
        items_[index].key_size = text.size();
      }
    }

    std::optional<JoinedCache> joined_;  // None if the process connects.
    memstream_t* cache_ = nullptr;
    std::array<memstream_item_t, Kind::kBatch> items_{};
  };

 private:
  static memstream_options_t options_for(const std::string& name, const DataSet& data) {
    memstream_options_t options = options_of(Kind::kBackend, name, segment_size(data));
    options.hugepages = Kind::kHugePages;
    return options;
  }

  std::string name_;
  memstream_options_t options_;
  CreatedCache cache_;
};

}  // namespace

bool has_huge_pages(const char* backend) {
  const std::string name = "probe-" + std::to_string(::getpid());
  memstream_options_t options = options_of(backend, name, std::uint64_t{2} << 20);
  options.hugepages = "require";
  memstream_t* cache = nullptr;
  const int status = memstream_open(&options, &cache);
  if (status == CACHE_NO_HUGE_PAGES) return false;
  require_ok(status, "memstream_open");
  require_ok(memstream_destroy(cache), "memstream_destroy");
  require_ok(memstream_close(cache), "memstream_close");
  return true;
}

Contender memstream_posix() { return contender<MemStream<Posix>>(); }
Contender memstream_sysv() { return contender<MemStream<SystemV>>(); }
Contender memstream_posix_cache() { return contender<MemStream<PosixCache>>(); }
Contender memstream_sysv_cache() { return contender<MemStream<SystemVCache>>(); }
Contender memstream_views() { return contender<MemStream<Views>>(); }
Contender memstream_batches() { return contender<MemStream<Batches>>(); }
Contender memstream_posix_huge() { return contender<MemStream<HugePosix>>(); }
Contender memstream_sysv_huge() { return contender<MemStream<HugeSystemV>>(); }

}  // namespace memstream::bench
