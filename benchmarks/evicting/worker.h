// The loop that is measured, compiled once for each cache. A store is a class like those of benchmarks/c/contender.h
// with get() and put() alone; get() may miss.
#pragma once

#include <cmath>
#include <stdexcept>
#include <string>

#include "benchmarks/c/worker.h"
#include "benchmarks/evicting/stores.h"

namespace memstream::bench {

template <class Store>
class EvictingWorker {
 public:
  EvictingWorker(Store& store, WorkerContext& context)
      : context_(context),
        session_(store),
        room_(context.data.value_size),
        value_(context.data.value_size, std::byte{0x5a}),
        random_(0x9e3779b97f4a7c15U * (context.index + 1)),
        next_new_(context.index) {}

  void round() {
    const Order order = context_.control->order;
    WorkerResult& result = *context_.result;
    result = {};
    context_.meet();
    const std::uint64_t start = elapsed_ns(order.by_processor_time);
    do {
      for (unsigned i = 0; i < kCallsBetweenLooks; ++i) {
        if (order.new_keys) {
          put(new_key());
        } else {
          get_or_put(draw(order.distribution), &result);
        }
      }
      result.operations += kCallsBetweenLooks;
    } while (order.puts != 0 ? result.operations < order.puts
                             : context_.control->stop.load(std::memory_order_relaxed) == 0);
    result.elapsed_ns = elapsed_ns(order.by_processor_time) - start;
  }

 private:
  static constexpr unsigned kCallsBetweenLooks = 64;
  static constexpr std::uint64_t kScatter = 4'294'967'291;  // A prime above every number of keys.
  static constexpr std::uint64_t kAllKeys = 100'000'000;    // A key has eight digits.

  // Zipf of the exponent 1, drawn where it is used: a list of draws would come again, and a cache would know it.
  std::uint32_t draw(Distribution distribution) {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    const std::uint64_t keys = context_.data.keys;
    if (distribution == Distribution::kUniform) return static_cast<std::uint32_t>((random_ >> 32) * keys >> 32);
    const double part = static_cast<double>(random_ >> 11) * 0x1p-53;
    const auto rank = static_cast<std::uint64_t>(std::exp(part * std::log(static_cast<double>(keys)))) - 1;
    return static_cast<std::uint32_t>(rank * kScatter % keys);
  }

  // Behind those that are drawn. After ninety million they come again, evicted long ago.
  std::uint32_t new_key() noexcept {
    const std::uint64_t number = context_.data.keys + next_new_ % (kAllKeys - context_.data.keys);
    next_new_ += context_.workers;
    return static_cast<std::uint32_t>(number);
  }

  void put(std::uint32_t number) {
    stamp(value_, number, ++version_);
    session_.put(Key(number), std::span<const std::byte>(value_));
  }

  void get_or_put(std::uint32_t number, WorkerResult* result) {
    const auto see = [&](const void* data, std::size_t size) {
      if (judge(data, size, number, value_.size()) == Verdict::kWhole) [[likely]]
        return;
      throw std::runtime_error(std::string(Store::kName) + ": a wrong or torn value of " + std::to_string(size) +
                               " bytes for " + std::string(Key(number).view()));
    };
    if (session_.get(Key(number), std::span(room_), see)) {
      ++result->hits;
    } else {
      put(number);
    }
  }

  WorkerContext& context_;
  typename Store::Session session_;
  std::vector<std::byte> room_;
  std::vector<std::byte> value_;
  std::uint64_t random_;
  std::uint64_t next_new_;
  std::uint32_t version_ = 0;
};

template <class Store>
class EvictingStore final : public Prepared {
 public:
  EvictingStore(const std::string& tag, const Bounds& bounds) : store_(tag, bounds) {}

  void work(WorkerContext& context) override {
    EvictingWorker<Store> worker(store_, context);
    context.answer();
    while (context.wait_for_order()) {
      worker.round();
      context.answer();
    }
  }
  bool may_tear() const noexcept override { return false; }

 private:
  Store store_;
};

}  // namespace memstream::bench
