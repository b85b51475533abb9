// The yardsticks: what the machine allows a table of keys and values in shared memory, with no protection of any kind,
// and with the least that keeps values whole. Compiled with -march=native: nothing but this machine holds them back.
//
// A bucket is one cache line of eight words, each a tag of 16 bits and the offset of an entry in 48. All eight tags are
// compared at the same time. A full bucket continues in the next one; at most half of the words are used. An entry
// starts a cache line: a header of 24 bytes with the key, and the value right behind it. So a get waits for two places,
// and the second brings the key and the first bytes of the value together. Puts overwrite in place.
#include <sched.h>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <atomic>
#include <bit>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cstring>

#include "benchmarks/c/contenders/contenders.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

namespace ipc = boost::interprocess;

constexpr std::uint64_t kLine = 64;
constexpr std::uint64_t kWordsOfBucket = 8;
constexpr unsigned kTagBits = 16;
constexpr std::uint64_t kOffsetMask = ~std::uint64_t{0} >> kTagBits;

// A key, filled up with zeros.
struct Name {
  std::uint64_t words[2];

  static Name of(const Key& key) noexcept {
    static_assert(kKeySize <= sizeof(Name));
    Name name{};
    std::memcpy(&name, key.view().data(), kKeySize);
    return name;
  }
  bool operator==(const Name& other) const noexcept {
    return ((words[0] ^ other.words[0]) | (words[1] ^ other.words[1])) == 0;
  }
};

struct Entry {
  std::uint32_t sequence;  // Odd while a writer of the seqlock is in the value; the others leave it at 0.
  std::uint32_t length;
  Name name;

  std::byte* value() noexcept { return reinterpret_cast<std::byte*>(this) + sizeof(Entry); }
};
static_assert(sizeof(Entry) == 24);

constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t step) { return (bytes + step - 1) / step * step; }

// A bit for each word of the bucket whose tag is that of the hash. No branch depends on where it lies.
inline unsigned matches(const std::uint64_t* bucket, std::uint64_t hash) noexcept {
#if defined(__AVX512F__)
  const __m512i different =
      _mm512_xor_si512(_mm512_load_si512(bucket), _mm512_set1_epi64(static_cast<long long>(hash)));
  return _mm512_testn_epi64_mask(different, _mm512_set1_epi64(static_cast<long long>(~kOffsetMask)));
#elif defined(__AVX2__)
  const auto half = [&](const std::uint64_t* words) {
    const __m256i tags = _mm256_srli_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(words)), 64 - kTagBits);
    const __m256i wanted = _mm256_set1_epi64x(static_cast<long long>(hash >> (64 - kTagBits)));
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(tags, wanted))));
  };
  return half(bucket) | half(bucket + 4) << 4;
#else
  unsigned found = 0;
  for (unsigned slot = 0; slot < kWordsOfBucket; ++slot) {
    found |= static_cast<unsigned>((bucket[slot] ^ hash) >> (64 - kTagBits) == 0) << slot;
  }
  return found;
#endif
}

// ---- how an entry is read and overwritten ----

// Two processes may meet in a value and tear it.
struct Unprotected {
  static constexpr bool kMayTear = true;
  static void begin() noexcept {}
  static std::uint32_t read(Entry* entry, std::span<std::byte> room) noexcept {
    const std::uint32_t length = std::min(entry->length, static_cast<std::uint32_t>(room.size()));
    std::memcpy(room.data(), entry->value(), length);
    return length;
  }
  static void write(Entry* entry, std::span<const std::byte> value) noexcept {
    std::memcpy(entry->value(), value.data(), value.size());
  }
};

// A fence before each operation: the memory accesses of two operations do not overlap.
struct Fenced : Unprotected {
  static void begin() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
};

// A sequence counter in each entry, compared before and after the copy: no value is torn. Writers of one entry exclude
// each other by making it odd; one that is killed there leaves it so, and the others wait for ever.
struct Sequenced {
  static constexpr bool kMayTear = false;
  static constexpr unsigned kSpins = 64;  // Before a process gives up its turn: the other may have lost its core.
  static void begin() noexcept {}
  static std::uint32_t read(Entry* entry, std::span<std::byte> room) noexcept {
    const std::atomic_ref<std::uint32_t> sequence(entry->sequence);
    for (unsigned tries = 1;; ++tries) {
      const std::uint32_t before = sequence.load(std::memory_order_acquire);
      if ((before & 1) == 0) [[likely]] {
        const std::uint32_t length = Unprotected::read(entry, room);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (sequence.load(std::memory_order_relaxed) == before) [[likely]]
          return length;
      }
      if (tries % kSpins == 0) ::sched_yield();
    }
  }
  static void write(Entry* entry, std::span<const std::byte> value) noexcept {
    const std::atomic_ref<std::uint32_t> sequence(entry->sequence);
    std::uint32_t before = sequence.load(std::memory_order_relaxed) & ~1U;
    for (unsigned tries = 1; !sequence.compare_exchange_weak(before, before + 1, std::memory_order_acquire); ++tries) {
      before &= ~1U;
      if (tries % kSpins == 0) ::sched_yield();
    }
    std::atomic_thread_fence(std::memory_order_release);
    Unprotected::write(entry, value);
    sequence.store(before + 2, std::memory_order_release);
  }
};

// ---- the table ----

struct Limit : Unprotected {
  static constexpr const char* kName = "limit";
  static constexpr unsigned kBatch = 1;
};
struct FencedLimit : Fenced {
  static constexpr const char* kName = "fenced";
  static constexpr unsigned kBatch = 1;
};
struct Seqlock : Sequenced {
  static constexpr const char* kName = "seqlock";
  static constexpr unsigned kBatch = 1;
};
// Requests the lines of sixteen keys before it waits for the first of them.
struct LimitOfBatches : Unprotected {
  static constexpr const char* kName = "limit-batches";
  static constexpr unsigned kBatch = 16;
};

template <class Kind>
class Yardstick {
 public:
  static constexpr const char* kName = Kind::kName;
  static constexpr unsigned kBatch = Kind::kBatch;
  static constexpr unsigned kSampleEvery = 64;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = Kind::kMayTear;

  Yardstick(const Environment& environment, const DataSet& data)
      : words_(std::bit_ceil(std::max<std::uint64_t>(kWordsOfBucket, std::uint64_t{data.keys} * 2))),
        entry_size_(round_up(sizeof(Entry) + data.value_size, kLine)),
        memory_(map((environment.tag + "." + kName).c_str(),
                    kLine + words_ * sizeof(std::uint64_t) + data.keys * entry_size_)) {
    *static_cast<std::uint64_t*>(memory_.get_address()) = kLine + words_ * sizeof(std::uint64_t);
  }

  class Session {
   public:
    explicit Session(Yardstick& table)
        : base_(static_cast<std::byte*>(table.memory_.get_address())),
          words_(reinterpret_cast<std::uint64_t*>(base_ + kLine)),
          mask_(table.words_ / kWordsOfBucket - 1),
          entry_size_(table.entry_size_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      Kind::begin();
      const Name name = Name::of(key);
      Entry* entry = find(name, hash_of(key));
      if (entry == nullptr) return false;
      see(room.data(), std::size_t{Kind::read(entry, room)});
      return true;
    }

    void put(const Key& key, std::span<const std::byte> value) {
      Kind::begin();
      const Name name = Name::of(key);
      const std::uint64_t hash = hash_of(key);
      Entry* entry = find(name, hash);
      if (entry == nullptr) entry = insert(name, hash, value.size());
      Kind::write(entry, value);
    }

    template <class See>
    void get_batch(std::span<const Key> keys, std::span<std::byte> room, See see) {
      request(keys);
      const std::size_t size = room.size() / keys.size();
      for (std::size_t i = 0; i < keys.size(); ++i) {
        Entry* entry = find(names_[i], hashes_[i]);
        if (entry == nullptr) continue;
        const std::span<std::byte> mine = room.subspan(i * size, size);
        see(static_cast<unsigned>(i), mine.data(), std::size_t{Kind::read(entry, mine)});
      }
    }

    void put_batch(std::span<const Key> keys, std::span<std::byte> values) {
      request(keys);
      const std::size_t size = values.size() / keys.size();
      for (std::size_t i = 0; i < keys.size(); ++i) {
        Entry* entry = find(names_[i], hashes_[i]);
        if (entry == nullptr) entry = insert(names_[i], hashes_[i], size);
        Kind::write(entry, values.subspan(i * size, size));
      }
    }

   private:
    static std::uint64_t hash_of(const Key& key) noexcept { return XXH3_64bits(key.view().data(), kKeySize); }
    std::uint64_t* bucket_of(std::uint64_t index) noexcept { return words_ + (index & mask_) * kWordsOfBucket; }
    Entry& entry_of(std::uint64_t word) noexcept { return *reinterpret_cast<Entry*>(base_ + (word & kOffsetMask)); }

    Entry* find(const Name& name, std::uint64_t hash) noexcept {
      for (std::uint64_t index = hash;; ++index) {
        const std::uint64_t* bucket = bucket_of(index);
        for (unsigned found = matches(bucket, hash); found != 0; found &= found - 1) {
          Entry& entry = entry_of(bucket[std::countr_zero(found)]);
          if (entry.name == name) [[likely]]
            return &entry;
        }
        if (bucket[kWordsOfBucket - 1] == 0) return nullptr;  // They are filled in order.
      }
    }

    // Only while the table is filled, by one process. There is room for exactly the keys of the data set.
    Entry* insert(const Name& name, std::uint64_t hash, std::size_t size) noexcept {
      std::uint64_t index = hash;
      while (bucket_of(index)[kWordsOfBucket - 1] != 0) ++index;
      std::uint64_t* word = bucket_of(index);
      while (*word != 0) ++word;
      auto& end = *reinterpret_cast<std::uint64_t*>(base_);  // Of the entries so far.
      *word = (hash & ~kOffsetMask) | end;
      Entry* entry = new (base_ + end) Entry{0, static_cast<std::uint32_t>(size), name};
      end += entry_size_;
      return entry;
    }

    void request(std::span<const Key> keys) noexcept {
      for (std::size_t i = 0; i < keys.size(); ++i) {
        names_[i] = Name::of(keys[i]);
        hashes_[i] = hash_of(keys[i]);
        __builtin_prefetch(bucket_of(hashes_[i]));
      }
      for (std::size_t i = 0; i < keys.size(); ++i) {
        // The first with the tag: another key's in one of thousands. What went to the next bucket is not requested.
        const std::uint64_t* bucket = bucket_of(hashes_[i]);
        const unsigned found = matches(bucket, hashes_[i]);
        if (found == 0) continue;
        const auto* first = reinterpret_cast<const std::byte*>(&entry_of(bucket[std::countr_zero(found)]));
        for (std::uint64_t line = 0; line < std::min(entry_size_, kMostRequested); line += kLine) {
          __builtin_prefetch(first + line);
        }
      }
    }

    static constexpr std::uint64_t kMostRequested = 4 * kLine;  // The processor itself follows a longer copy.

    std::byte* base_;
    std::uint64_t* words_;
    std::uint64_t mask_;
    std::uint64_t entry_size_;
    std::array<Name, kBatch> names_{};
    std::array<std::uint64_t, kBatch> hashes_{};
  };

 private:
  // Nothing is left behind if the benchmark is killed: the name goes at once, the mapping stays.
  static ipc::mapped_region map(const char* name, std::uint64_t size) {
    ipc::shared_memory_object object(ipc::create_only, name, ipc::read_write);
    ipc::shared_memory_object::remove(name);
    object.truncate(static_cast<ipc::offset_t>(size));
    return {object, ipc::read_write};
  }

  std::uint64_t words_;
  std::uint64_t entry_size_;
  ipc::mapped_region memory_;
};

}  // namespace

Contender limit() { return contender<Yardstick<Limit>>(); }
Contender fenced() { return contender<Yardstick<FencedLimit>>(); }
Contender seqlock() { return contender<Yardstick<Seqlock>>(); }
Contender limit_of_batches() { return contender<Yardstick<LimitOfBatches>>(); }

}  // namespace memstream::bench
