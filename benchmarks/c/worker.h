// The loop that is measured, compiled once for each contender.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/c/contender.h"
#include "benchmarks/c/crowd.h"
#include "benchmarks/c/interrupt.h"

namespace memstream::bench {

inline std::uint64_t now_ns() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// That of this thread, on a core or not yet there. On a shared machine a round may lie idle for most of its duration.
inline std::uint64_t elapsed_ns(bool by_processor_time) noexcept {
  if (!by_processor_time) return now_ns();
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(time.tv_nsec);
}

template <class Store>
class Worker {
  static_assert(Store::kBatch >= 1 && Store::kBatch <= 64);

 public:
  Worker(Store& store, WorkerContext& context)
      : context_(context),
        size_(context.data.value_size),
        session_(store),
        room_(size_ * Store::kBatch),
        value_(size_ * Store::kBatch, std::byte{0x5a}),
        random_(0x9e3779b9U * (context.index + 1)),
        version_(context.index << 24) {}

  // Reads keys that lie next to each other in order, so that every page is mapped and every value was seen once.
  void sweep() {
    for (std::uint32_t key = 0; key + Store::kBatch <= context_.data.keys; key += Store::kSweepEvery * Store::kBatch) {
      for (unsigned i = 0; i < Store::kBatch; ++i) numbers_[i] = key + i;
      get();
    }
    if (torn_ != 0) throw std::runtime_error(std::string(Store::kName) + ": torn values before the first write");
  }

  void round() {
    const Order order = context_.control->order;
    const auto& keys = context_.draws->of(order.distribution);
    const std::size_t mask = keys.size() - 1;
    // Each process and round has its own part of the draws.
    std::size_t next = (keys.size() / 16 * context_.index + keys.size() / 64 * order.round) & mask;
    const std::uint32_t get_limit = static_cast<std::uint32_t>((std::uint64_t{order.get_percent} << 24) / 100);
    WorkerResult& result = *context_.result;
    result.gets = {};
    result.puts = {};
    torn_ = 0;
    std::uint64_t calls = 0;
    unsigned until_sample = Store::kSampleEvery;
    context_.meet();
    const std::uint64_t start = elapsed_ns(order.by_processor_time);
    do {
      for (int i = 0; i < kCallsBetweenLooks; ++i, ++calls) {
        for (auto& number : numbers_) number = keys[next++ & mask];
        const bool is_get = draw() < get_limit;
        if (--until_sample == 0) {
          until_sample = Store::kSampleEvery;
          const std::uint64_t before = now_ns();
          act(is_get);
          (is_get ? result.gets : result.puts).add(now_ns() - before);
        } else {
          act(is_get);
        }
      }
    } while (context_.control->stop.load(std::memory_order_relaxed) == 0);
    result.elapsed_ns = elapsed_ns(order.by_processor_time) - start;
    result.operations = calls * Store::kBatch;
    result.torn = torn_;
  }

  // Overwrites or fills the keys from `first` on. What is planted spoils the first of them.
  void put_from(std::uint32_t first, Plant planted = Plant::kNothing) {
    for (unsigned i = 0; i < Store::kBatch; ++i) numbers_[i] = first + i;
    stamp_values();
    const auto spoilt = std::span(value_).first(size_);
    if (planted == Plant::kForeign) stamp(spoilt, first + 1, version_);
    if (planted == Plant::kTorn) spoilt[size_ - sizeof(std::uint64_t)] ^= std::byte{1};
    put_values();
  }

 private:
  static constexpr int kCallsBetweenLooks = Store::kSampleEvery == 1 ? 4 : 64;

  std::uint32_t draw() noexcept {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 17;
    random_ ^= random_ << 5;
    return random_ >> 8;
  }

  void act(bool is_get) {
    if (is_get) {
      get();
    } else {
      put();
    }
  }

  void get() {
    if constexpr (Store::kBatch == 1) {
      const bool found = session_.get(Key(numbers_[0]), std::span(room_),
                                      [&](const void* data, std::size_t size) { see(0, data, size); });
      if (!found) [[unlikely]]
        missing(0);
    } else {
      std::uint64_t seen = 0;
      make_keys();
      session_.get_batch(std::span<const Key>(keys_), std::span(room_),
                         [&](unsigned index, const void* data, std::size_t size) {
                           see(index, data, size);
                           seen |= std::uint64_t{1} << index;
                         });
      for (unsigned i = 0; i < Store::kBatch; ++i) {
        if ((seen >> i & 1) == 0 && !seen_as_another(i, seen)) [[unlikely]]
          missing(i);
      }
    }
  }

  // A key that was drawn twice for one batch may be answered once.
  bool seen_as_another(unsigned index, std::uint64_t seen) const noexcept {
    for (unsigned i = 0; i < Store::kBatch; ++i) {
      if ((seen >> i & 1) != 0 && numbers_[i] == numbers_[index]) return true;
    }
    return false;
  }

  void put() {
    stamp_values();
    put_values();
  }

  void stamp_values() noexcept {
    for (unsigned i = 0; i < Store::kBatch; ++i)
      stamp(std::span(value_).subspan(i * size_, size_), numbers_[i], ++version_);
  }

  void put_values() {
    if constexpr (Store::kBatch == 1) {
      session_.put(Key(numbers_[0]), std::span<const std::byte>(value_));
    } else {
      make_keys();
      session_.put_batch(std::span<const Key>(keys_), std::span<std::byte>(value_));
    }
  }

  void make_keys() noexcept {
    for (unsigned i = 0; i < Store::kBatch; ++i) keys_[i] = Key(numbers_[i]);
  }

  void see(unsigned index, const void* data, std::size_t size) {
    const Verdict verdict = judge(data, size, numbers_[index], size_);
    if (verdict == Verdict::kWhole) [[likely]]
      return;
    if (verdict == Verdict::kWrong) {
      throw std::runtime_error(std::string(Store::kName) + ": a wrong value of " + std::to_string(size) +
                               " bytes for " + std::string(Key(numbers_[index]).view()));
    }
    ++torn_;
  }

  [[noreturn]] void missing(unsigned index) const {
    throw std::runtime_error(std::string(Store::kName) + ": no value for " + std::string(Key(numbers_[index]).view()) +
                             ", which was stored");
  }

  WorkerContext& context_;
  std::size_t size_;
  typename Store::Session session_;
  std::vector<std::byte> room_;
  std::vector<std::byte> value_;
  std::uint32_t numbers_[Store::kBatch]{};
  Key keys_[Store::kBatch];
  std::uint32_t random_;
  std::uint32_t version_;
  std::uint64_t torn_ = 0;
};

template <class Store>
class PreparedStore final : public Prepared {
 public:
  PreparedStore(const Environment& environment, const DataSet& data) : store_(environment, data) {
    WorkerContext context{};
    context.data = data;
    Worker<Store> filler(store_, context);
    const std::uint32_t last = data.keys - Store::kBatch;
    for (std::uint32_t key = 0; key < last; key += Store::kBatch) {
      stop_if_interrupted();
      filler.put_from(key);
    }
    filler.put_from(last);
    if (environment.planted != Plant::kNothing) filler.put_from(0, environment.planted);
  }

  void work(WorkerContext& context) override {
    Worker<Store> worker(store_, context);
    worker.sweep();
    context.answer();
    while (context.wait_for_order()) {
      worker.round();
      context.answer();
    }
  }

  bool may_tear() const noexcept override { return Store::kMayTear; }

 private:
  Store store_;
};

template <class Store>
Contender contender() {
  return {Store::kName, [](const Environment& environment, const DataSet& data) {
            return std::make_unique<PreparedStore<Store>>(environment, data);
          }};
}

}  // namespace memstream::bench
