#include "benchmarks/evicting/stores.h"

#include <sched.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cstring>

#include "api/memstream.h"
#include "benchmarks/evicting/worker.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

namespace ipc = boost::interprocess;

// ---- the limit: sets of eight entries, a victim by chance, a sequence counter in each entry ----

struct Slot {
  std::atomic<std::uint32_t> sequence;  // Odd while a writer is in the entry.
  std::uint32_t length;
  std::uint64_t key[2];  // Filled up with zeros.

  std::byte* value() noexcept { return reinterpret_cast<std::byte*>(this) + sizeof(Slot); }
};
static_assert(sizeof(Slot) == 24);

// A set is one line of eight words, each a tag of 16 bits and the offset of an entry in 48; 0: none yet. Entries lie
// behind all sets, in the order of their first use, and stay with their word: an eviction overwrites one in place.
class Sets {
 public:
  static constexpr const char* kName = "limit";

  Sets(const std::string& tag, const Bounds& bounds)
      : slot_size_((sizeof(Slot) + bounds.value_size + kLine - 1) / kLine * kLine),
        sets_(bounds.size_bytes / (kLine + kWays * slot_size_)),
        memory_(map(tag + ".limit", kLine + sets_ * (kLine + kWays * slot_size_) + kSpares * slot_size_)) {
    end().store(kLine + sets_ * kLine);
  }

  class Session {
   public:
    explicit Session(Sets& store)
        : store_(store),
          base_(static_cast<std::byte*>(store.memory_.get_address())),
          sets_(store.sets_),
          slot_size_(store.slot_size_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      const Name name(key);
      std::atomic<std::uint64_t>* words = set_of(name);
      for (unsigned way = 0; way < kWays; ++way) {
        const std::uint64_t word = words[way].load(std::memory_order_acquire);
        if (word == 0) break;  // They are taken in order.
        if ((word ^ name.hash) >> kTagShift != 0) continue;
        Slot& found = slot(word);
        for (unsigned tries = 1;; ++tries) {
          const std::uint32_t before = found.sequence.load(std::memory_order_acquire);
          if ((before & 1) == 0) {
            const bool same = found.key[0] == name.key[0] && found.key[1] == name.key[1];
            const std::uint32_t length = std::min(found.length, static_cast<std::uint32_t>(room.size()));
            if (same) std::memcpy(room.data(), found.value(), length);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (found.sequence.load(std::memory_order_relaxed) == before) {
              if (!same) break;
              see(room.data(), std::size_t{length});
              return true;
            }
          }
          if (tries % kSpins == 0) ::sched_yield();
        }
      }
      return false;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      const Name name(key);
      std::atomic<std::uint64_t>& word = choose(name);
      const std::uint64_t offset = word.load(std::memory_order_relaxed) & kOffsetMask;
      Slot& target = slot(offset);
      std::uint32_t before = target.sequence.load(std::memory_order_relaxed) & ~1U;
      for (unsigned tries = 1; !target.sequence.compare_exchange_weak(before, before + 1, std::memory_order_acquire);
           ++tries) {
        before &= ~1U;
        if (tries % kSpins == 0) ::sched_yield();
      }
      std::atomic_thread_fence(std::memory_order_release);
      word.store((name.hash & ~kOffsetMask) | offset, std::memory_order_relaxed);
      target.length = static_cast<std::uint32_t>(value.size());
      std::memcpy(target.key, name.key, sizeof target.key);
      std::memcpy(target.value(), value.data(), value.size());
      target.sequence.store(before + 2, std::memory_order_release);
    }

   private:
    struct Name {
      explicit Name(const Key& text) noexcept : hash(XXH3_64bits(text.view().data(), kKeySize)) {
        std::memcpy(key, text.view().data(), kKeySize);
      }
      std::uint64_t hash;
      std::uint64_t key[2] = {};
    };

    // The lower half of the hash picks the set, the upper 16 bits are the tag.
    std::atomic<std::uint64_t>* set_of(const Name& name) noexcept {
      const std::uint64_t set = (name.hash & 0xffff'ffff) * sets_ >> 32;
      return reinterpret_cast<std::atomic<std::uint64_t>*>(base_ + kLine + set * kLine);
    }
    Slot& slot(std::uint64_t word) noexcept { return *reinterpret_cast<Slot*>(base_ + (word & kOffsetMask)); }

    // The word of the key, a new one, or that of a victim.
    std::atomic<std::uint64_t>& choose(const Name& name) {
      std::atomic<std::uint64_t>* words = set_of(name);
      for (unsigned way = 0; way < kWays; ++way) {
        std::uint64_t word = words[way].load(std::memory_order_acquire);
        if (word == 0) {
          if (spare_ == 0) spare_ = store_.end().fetch_add(slot_size_);
          if (words[way].compare_exchange_strong(word, (name.hash & ~kOffsetMask) | spare_)) {
            spare_ = 0;
            return words[way];
          }
        }
        if ((word ^ name.hash) >> kTagShift != 0) continue;
        const Slot& there = slot(word);  // Its key is 0 while its first put is under way.
        if ((there.key[0] == name.key[0] && there.key[1] == name.key[1]) || there.key[0] == 0) return words[way];
      }
      victims_ = victims_ * 6'364'136'223'846'793'005U + 1;
      return words[victims_ >> 61];
    }

    Sets& store_;
    std::byte* base_;
    std::uint64_t sets_;
    std::uint64_t slot_size_;
    std::uint64_t spare_ = 0;  // An entry that another process was faster than this one to take a word for.
    std::uint64_t victims_ = 1;
  };

 private:
  static constexpr std::uint64_t kLine = 64;
  static constexpr unsigned kWays = 8;
  static constexpr unsigned kSpares = 64;  // One for each process.
  static constexpr unsigned kTagShift = 48;
  static constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << kTagShift) - 1;
  static constexpr unsigned kSpins = 64;  // Before a process gives up its turn: the other may have lost its core.

  std::atomic<std::uint64_t>& end() noexcept {  // Of the entries so far.
    return *static_cast<std::atomic<std::uint64_t>*>(memory_.get_address());
  }

  // Nothing is left behind if the benchmark is killed: the name goes at once, the mapping stays.
  static ipc::mapped_region map(const std::string& name, std::uint64_t size) {
    ipc::shared_memory_object object(ipc::create_only, name.c_str(), ipc::read_write);
    ipc::shared_memory_object::remove(name.c_str());
    object.truncate(static_cast<ipc::offset_t>(size));
    return {object, ipc::read_write};
  }

  std::uint64_t slot_size_;
  std::uint64_t sets_;
  ipc::mapped_region memory_;
};

// ---- MemStream ----

struct Posix {
  static constexpr const char* kName = "memstream-posix";
  static constexpr const char* kBackend = "posix";
};
struct SystemV {
  static constexpr const char* kName = "memstream-sysv";
  static constexpr const char* kBackend = "sysv";
};

template <class Kind>
class MemStream {
 public:
  static constexpr const char* kName = Kind::kName;

  MemStream(const std::string& tag, const Bounds& bounds)
      : name_(tag + ".evicting"), options_(options_of(Kind::kBackend, name_, bounds.size_bytes)), cache_(options_) {}

  class Session {
   public:
    explicit Session(MemStream& store) : cache_(store.options_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      std::size_t size = room.size();
      const int status = memstream_get(cache_.handle(), key.c_str(), kKeySize, room.data(), &size, nullptr);
      if (status == CACHE_MISS) return false;
      require_ok(status, "memstream_get");
      see(room.data(), size);
      return true;
    }
    void put(const Key& key, std::span<const std::byte> value) {
      require_ok(memstream_set(cache_.handle(), key.c_str(), kKeySize, value.data(), value.size(), 0, 0),
                 "memstream_set");
    }

   private:
    JoinedCache cache_;
  };

 private:
  std::string name_;
  memstream_options_t options_;
  CreatedCache cache_;
};

template <class Store>
BoundedCache bounded_cache() {
  return {Store::kName, [](const std::string& tag, const Bounds& bounds) -> std::unique_ptr<Prepared> {
            return std::make_unique<EvictingStore<Store>>(tag, bounds);
          }};
}

}  // namespace

std::vector<BoundedCache> bounded_caches() {
  return {bounded_cache<Sets>(), bounded_cache<MemStream<Posix>>(), bounded_cache<MemStream<SystemV>>()};
}

}  // namespace memstream::bench
