// Boost.Interprocess as its documentation has it: an unordered map in managed shared memory behind one shared lock.
#include <boost/functional/hash.hpp>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/containers/vector.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_sharable_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/interprocess/sync/sharable_lock.hpp>
#include <boost/unordered_map.hpp>
#include <cstring>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

namespace ipc = boost::interprocess;

using Manager = ipc::managed_shared_memory;
template <class T>
using Allocator = ipc::allocator<T, Manager::segment_manager>;
using String = ipc::basic_string<char, std::char_traits<char>, Allocator<char>>;
using Bytes = ipc::vector<std::byte, Allocator<std::byte>>;

// Finds by std::string_view, so that a look-up allocates nothing in shared memory.
struct Hash {
  std::size_t operator()(const String& key) const noexcept { return boost::hash_range(key.begin(), key.end()); }
  std::size_t operator()(std::string_view key) const noexcept { return boost::hash_range(key.begin(), key.end()); }
};
struct Equal {
  bool operator()(const String& a, const String& b) const noexcept { return a == b; }
  bool operator()(std::string_view a, const String& b) const noexcept {
    return a == std::string_view(b.data(), b.size());
  }
};
using Map = boost::unordered_map<String, Bytes, Hash, Equal, Allocator<std::pair<const String, Bytes>>>;

class BoostInterprocess {
 public:
  static constexpr const char* kName = "boost";
  static constexpr unsigned kBatch = 1;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = false;

  BoostInterprocess(const Environment& environment, const DataSet& data)
      : name_(environment.tag + ".boost"),
        memory_(ipc::create_only, name_.c_str(), (std::size_t{64} << 20) + data.keys * (data.value_size + 256UL)) {
    // The mapping stays, in this process and in those forked from it; nothing is left behind if it is killed.
    ipc::shared_memory_object::remove(name_.c_str());
    mutex_ = memory_.construct<ipc::interprocess_sharable_mutex>(ipc::anonymous_instance)();
    map_ = memory_.construct<Map>(ipc::anonymous_instance)(data.keys, Hash(), Equal(),
                                                           Map::allocator_type(memory_.get_segment_manager()));
  }

  class Session {
   public:
    explicit Session(BoostInterprocess& store) : memory_(store.memory_), mutex_(*store.mutex_), map_(*store.map_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      std::size_t size = 0;
      {
        const ipc::sharable_lock lock(mutex_);
        const auto found = map_.find(key.view(), Hash(), Equal());
        if (found == map_.end()) return false;
        size = std::min(found->second.size(), room.size());
        std::memcpy(room.data(), found->second.data(), size);
      }
      see(room.data(), size);
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      const ipc::scoped_lock lock(mutex_);
      const auto found = map_.find(key.view(), Hash(), Equal());
      if (found != map_.end()) {
        found->second.assign(value.begin(), value.end());
        return;
      }
      const Allocator<char> allocator(memory_.get_segment_manager());
      map_.emplace(String(key.view().data(), key.view().size(), allocator),
                   Bytes(value.begin(), value.end(), allocator));
    }

   private:
    Manager& memory_;
    ipc::interprocess_sharable_mutex& mutex_;
    Map& map_;
  };

 private:
  std::string name_;
  Manager memory_;
  ipc::interprocess_sharable_mutex* mutex_ = nullptr;
  Map* map_ = nullptr;
};

}  // namespace

Contender boost_interprocess() { return contender<BoostInterprocess>(); }

}  // namespace memstream::bench
