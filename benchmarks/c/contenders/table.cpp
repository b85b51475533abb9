// The classic: a table of buckets, entries and blocks behind one process-shared rwlock. And the same table without a
// lock, which waits for bucket, entry and block one after the other.
#include <pthread.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cstring>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

constexpr unsigned kWidth = 8;

struct alignas(64) Bucket {
  std::uint16_t tags[kWidth];
  std::uint32_t entries[kWidth];  // Number of an entry + 1; 0: empty.
  std::uint32_t count;
  std::uint32_t unused[3];
};

struct Entry {
  std::uint64_t hash;
  std::uint64_t offset;  // Of the key, in the block area; the value follows at the next multiple of 16.
  std::uint32_t key_size;
  std::uint32_t value_size;
  std::uint64_t unused;
};
static_assert(sizeof(Bucket) == 64 && sizeof(Entry) == 32);

constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t step) { return (bytes + step - 1) / step * step; }

// What the classic would be if its lock cost nothing.
struct NoLock {
  static constexpr const char* kName = "classic-unlocked";
  static constexpr bool kMayTear = true;
  void initialize() noexcept {}
  void lock_shared() noexcept {}
  void unlock_shared() noexcept {}
  void lock() noexcept {}
  void unlock() noexcept {}
};

// What most caches in shared memory do.
struct OneRwLock {
  static constexpr const char* kName = "classic";
  static constexpr bool kMayTear = false;
  void initialize() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    const int error = pthread_rwlock_init(&rwlock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    if (error != 0) throw std::runtime_error("pthread_rwlock_init failed");
  }
  void lock_shared() noexcept { pthread_rwlock_rdlock(&rwlock); }
  void unlock_shared() noexcept { pthread_rwlock_unlock(&rwlock); }
  void lock() noexcept { pthread_rwlock_wrlock(&rwlock); }
  void unlock() noexcept { pthread_rwlock_unlock(&rwlock); }

  pthread_rwlock_t rwlock;
};

template <class Lock>
class Table {
 public:
  static constexpr const char* kName = Lock::kName;
  static constexpr unsigned kBatch = 1;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = Lock::kMayTear;

  Table(const Environment&, const DataSet& data)
      : buckets_(std::bit_ceil(data.keys / 4 + 1U)),
        entries_offset_(round_up(sizeof(Header), 64) + std::uint64_t{buckets_} * sizeof(Bucket)),
        blocks_offset_(entries_offset_ + std::uint64_t{data.keys} * sizeof(Entry)),
        memory_(boost::interprocess::anonymous_shared_memory(
            blocks_offset_ + std::uint64_t{data.keys} * block_size(kKeySize, data.value_size))) {
    (new (base()) Header{})->lock.initialize();
  }

  struct Header {
    [[no_unique_address]] Lock lock;
    std::uint64_t used_entries;
    std::uint64_t used_blocks;
  };

  class Session {
   public:
    explicit Session(Table& table)
        : base_(table.base()),
          mask_(table.buckets_ - 1),
          entries_(reinterpret_cast<Entry*>(base_ + table.entries_offset_)),
          blocks_(base_ + table.blocks_offset_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      const std::string_view text = key.view();
      const std::uint64_t hash = XXH3_64bits(text.data(), text.size());
      header().lock.lock_shared();
      const Entry* entry = find(text, hash);
      std::uint32_t size = 0;
      if (entry != nullptr && entry->value_size <= room.size()) {
        size = entry->value_size;
        std::memcpy(room.data(), blocks_ + entry->offset + round_up(text.size(), 16), size);
      }
      header().lock.unlock_shared();
      if (entry == nullptr) return false;
      see(room.data(), std::size_t{size});
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      const std::string_view text = key.view();
      const std::uint64_t hash = XXH3_64bits(text.data(), text.size());
      header().lock.lock();
      const Entry* entry = find(text, hash);
      if (entry == nullptr) entry = insert(text, hash, value.size());
      std::memcpy(blocks_ + entry->offset + round_up(text.size(), 16), value.data(), value.size());
      header().lock.unlock();
    }

   private:
    Header& header() noexcept { return *reinterpret_cast<Header*>(base_); }
    Bucket& bucket(std::uint64_t index) noexcept {
      return reinterpret_cast<Bucket*>(base_ + round_up(sizeof(Header), 64))[index & mask_];
    }
    static std::uint16_t tag_of(std::uint64_t hash) noexcept { return static_cast<std::uint16_t>(hash >> 48); }

    const Entry* find(std::string_view key, std::uint64_t hash) noexcept {
      for (std::uint64_t index = hash;; ++index) {
        const Bucket& current = bucket(index);
        const std::uint32_t count = current.count;
        for (unsigned slot = 0; slot < count; ++slot) {
          if (current.tags[slot] != tag_of(hash)) continue;
          const Entry& entry = entries_[current.entries[slot] - 1];
          if (entry.hash == hash && entry.key_size == key.size() &&
              std::memcmp(blocks_ + entry.offset, key.data(), key.size()) == 0) {
            return &entry;
          }
        }
        if (count < kWidth) return nullptr;
      }
    }

    // Only while the table is filled, by one process. There is room for exactly the keys of the data set.
    const Entry* insert(std::string_view key, std::uint64_t hash, std::size_t value_size) noexcept {
      std::uint64_t index = hash;
      while (bucket(index).count == kWidth) ++index;
      const std::uint64_t number = header().used_entries++;
      Entry& entry = entries_[number];
      entry = {hash, header().used_blocks, static_cast<std::uint32_t>(key.size()),
               static_cast<std::uint32_t>(value_size), 0};
      header().used_blocks += block_size(key.size(), value_size);
      std::memcpy(blocks_ + entry.offset, key.data(), key.size());
      Bucket& target = bucket(index);
      target.tags[target.count] = tag_of(hash);
      target.entries[target.count++] = static_cast<std::uint32_t>(number + 1);
      return &entry;
    }

    std::byte* base_;
    std::uint64_t mask_;
    Entry* entries_;
    std::byte* blocks_;
  };

 private:
  static constexpr std::uint64_t block_size(std::uint64_t key_size, std::uint64_t value_size) {
    return round_up(round_up(key_size, 16) + value_size, 16);
  }
  std::byte* base() const noexcept { return static_cast<std::byte*>(memory_.get_address()); }

  std::uint32_t buckets_;
  std::uint64_t entries_offset_;
  std::uint64_t blocks_offset_;
  boost::interprocess::mapped_region memory_;
};

}  // namespace

Contender classic() { return contender<Table<OneRwLock>>(); }
Contender classic_unlocked() { return contender<Table<NoLock>>(); }

}  // namespace memstream::bench
