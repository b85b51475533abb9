// The generated traces. Popular keys, scans and loops ask for what is there already and store what is not. Producers
// write each key once, for consumers that ask for it once, some time later.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>
#include <queue>
#include <random>
#include <stdexcept>
#include <string_view>

#include "benchmarks/hit_ratio/recorder.h"

namespace memstream::bench {
namespace {

constexpr std::uint32_t kRequestsPerObject = 20;

// Objects of different kinds have numbers from different ranges.
constexpr std::uint64_t kOthers = std::uint64_t{1} << 32;

// Of the traces of producers: the cache that they are made for, and what it can hold while it warms up.
constexpr double kProducersPercent = 20;
constexpr double kWarmUpCapacities = 1.5;

std::uint32_t mixed_size(std::uint64_t object) {
  // Powers of two from 64 bytes to 64 KiB, each half as frequent as the one before.
  const std::uint64_t bits = (object + 1) * 0x9e37'79b9'7f4a'7c15ULL >> 48;
  std::uint32_t size = 64;
  for (int doublings = 0; doublings < 10 && (bits >> doublings & 1) != 0; ++doublings) size *= 2;
  return size;
}

// ---- popular keys, scans and loops ----

void make_zipf(Recorder* recorder) {
  const Zipf zipf(recorder->scale);
  for (std::uint64_t i = 0; i < std::uint64_t{recorder->scale} * kRequestsPerObject; ++i) {
    recorder->request(zipf(recorder->random));
  }
}

// The footprint counts the objects that the scans touch once, so the popular ones are a fourth of the scale.
void make_scan(Recorder* recorder) {
  std::mt19937_64& random = recorder->random;
  const Zipf zipf(recorder->scale / 4);
  const std::uint32_t run = recorder->scale / 10;
  std::uint64_t scanned = kOthers;
  for (std::uint64_t i = 0; i < std::uint64_t{recorder->scale} * kRequestsPerObject / 4; i += 3 * run) {
    for (std::uint32_t j = 0; j < 2 * run; ++j) recorder->request(zipf(random));
    // The scan is one of several clients: its requests lie between those of the others.
    for (std::uint32_t j = 0; j < run; ++j) {
      recorder->request(scanned++);
      if (random() % 2 == 0) recorder->request(zipf(random));
    }
  }
}

void make_loop(Recorder* recorder) {
  const std::uint64_t requests = std::uint64_t{recorder->scale} * kRequestsPerObject;
  for (std::uint64_t i = 0; i < requests; ++i) recorder->request(i % recorder->scale);
}

// A hundredth of the working set is replaced by new objects whenever it has been requested once over: popular ones and
// others alike.
void make_shift(Recorder* recorder) {
  std::mt19937_64& random = recorder->random;
  const std::uint32_t scale = recorder->scale;
  const std::uint32_t working_set = scale / 4;
  const Zipf zipf(working_set);
  std::vector<std::uint64_t> objects(working_set);
  std::uint64_t next = 0;
  for (auto& object : objects) object = next++;
  std::uint32_t oldest = 0;
  const std::uint64_t requests = std::uint64_t{scale} * kRequestsPerObject / 4;
  const std::uint64_t every = std::max<std::uint64_t>(1, requests / (std::uint64_t{scale} * 3 / 4));
  for (std::uint64_t i = 0; i < requests; ++i) {
    // Ranks are scattered, so that what is replaced next says nothing about how popular it is.
    const std::uint64_t place = zipf(random) * std::uint64_t{2'654'435'761} % working_set;
    recorder->request(objects[place]);
    if (i % every == 0) objects[oldest++ % working_set] = next++;
  }
}

void make_phases(Recorder* recorder) {
  const std::uint32_t scale = recorder->scale;
  const Zipf zipf(scale / 2);
  const std::uint64_t part = std::uint64_t{scale} * kRequestsPerObject / 3;
  for (std::uint64_t i = 0; i < part; ++i) recorder->request(zipf(recorder->random));
  for (std::uint64_t i = 0; i < part; ++i) recorder->request(kOthers + i % (scale / 2));
  for (std::uint64_t i = 0; i < part; ++i) recorder->request(zipf(recorder->random));
}

// Each object comes back after a period of its own, give or take a tenth. The longest period is 64 times the shortest,
// and each doubling is as frequent as the next.
void make_far(Recorder* recorder) {
  std::mt19937_64& random = recorder->random;
  const auto fraction = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  struct Due {
    double at;
    double period;
    std::uint64_t object;
    bool operator<(const Due& other) const noexcept { return at > other.at; }
  };
  std::priority_queue<Due> queue;
  for (std::uint64_t object = 0; object < recorder->scale; ++object) {
    const double period = std::exp2(fraction() * 6);
    queue.push({fraction() * period, period, object});
  }
  for (std::uint64_t i = 0; i < std::uint64_t{recorder->scale} * kRequestsPerObject; ++i) {
    Due due = queue.top();
    queue.pop();
    recorder->request(due.object);
    due.at += due.period * (0.9 + 0.2 * fraction());
    queue.push(due);
  }
}

// Several programs go over their own files again and again, each with files of another size and at the same rate, while
// others ask for popular blocks: few requests for each object, and most of those a long time after the last one.
void make_blocks(Recorder* recorder) {
  std::mt19937_64& random = recorder->random;
  const std::uint32_t scale = recorder->scale;
  const Zipf zipf(scale / 4);
  const std::uint64_t lengths[] = {scale / 16, scale / 8, scale / 4, scale / 3};
  std::uint64_t at[] = {0, 0, 0, 0};
  for (std::uint64_t i = 0; i < std::uint64_t{scale} * kRequestsPerObject / 2; ++i) {
    const std::uint64_t who = random() % 6;
    if (who < 4) {
      recorder->request((who + 1) * kOthers + at[who]++ % lengths[who]);
    } else {
      recorder->request(zipf(random));
    }
  }
}

// New objects come all the time, and the older one is the fewer ask for it.
void make_decay(Recorder* recorder) {
  const Zipf ages(recorder->scale, 0.9);
  std::uint64_t born = 0;
  for (std::uint64_t i = 0; i < std::uint64_t{recorder->scale} * kRequestsPerObject; ++i) {
    if (i % kRequestsPerObject == 0) ++born;
    recorder->request(born - 1 - ages.up_to(born, recorder->random));
  }
}

// ---- producers and consumers ----

// Puts each key once and gets it `lag` puts later, as long as it goes on.
class Producer {
 public:
  Producer(std::uint64_t first, std::uint64_t lag, Op get) : first_(first), lag_(lag), get_(get) {}

  void step(Recorder* recorder) {
    recorder->request(first_ + next_, Op::kPut);
    if (next_ >= lag_) recorder->request(first_ + next_ - lag_, get_);
    ++next_;
  }
  std::uint64_t written() const noexcept { return next_; }

 private:
  std::uint64_t first_;
  std::uint64_t lag_;
  Op get_;
  std::uint64_t next_ = 0;
};

struct Lag {
  double percent = 0;  // Of what the cache holds.
  Op get = Op::kGet;

  std::uint64_t objects(std::uint32_t scale) const noexcept {
    return static_cast<std::uint64_t>(scale * kProducersPercent / 100 * percent / 100);
  }
};

// `before` requests go before what counts.
void count_when_full(Recorder* recorder) {
  Trace& trace = recorder->trace();
  const double capacity = static_cast<double>(trace.footprint_bytes()) * kProducersPercent / 100;
  std::vector<bool> seen(trace.sizes.size());
  double bytes = 0;
  std::size_t position = 0;
  for (; position < trace.requests.size() && bytes < kWarmUpCapacities * capacity; ++position) {
    const std::uint32_t object = trace.requests[position];
    if (!seen[object]) bytes += trace.sizes[object];
    seen[object] = true;
  }
  trace.counted_from = position;
  trace.percent = kProducersPercent;
}

void make_lag(Recorder* recorder, Lag lag) {
  Producer producer(0, lag.objects(recorder->scale), lag.get);
  while (producer.written() < recorder->scale) producer.step(recorder);
  count_when_full(recorder);
}

void make_lag_sizes(Recorder* recorder, Lag lag) {
  recorder->size_of = mixed_size;
  make_lag(recorder, lag);
}

void make_lag_expiring(Recorder* recorder, Lag lag) {
  recorder->trace().expires = true;
  make_lag(recorder, lag);
}

// Three producers, with a fourth, a half and all of the lag, take turns by chance.
void make_lag_producers(Recorder* recorder, Lag lag) {
  const std::uint64_t most = lag.objects(recorder->scale) / 3;
  Producer producers[] = {{0, most / 4, lag.get}, {kOthers, most / 2, lag.get}, {2 * kOthers, most, lag.get}};
  for (std::uint32_t i = 0; i < recorder->scale; ++i) producers[recorder->random() % 3].step(recorder);
  count_when_full(recorder);
}

// A third of what was read is read once more, by chance.
void make_lag_repeats(Recorder* recorder, Lag lag) {
  std::mt19937_64& random = recorder->random;
  const std::uint64_t objects = lag.objects(recorder->scale);
  Producer producer(0, objects, lag.get);
  while (producer.written() < recorder->scale) {
    producer.step(recorder);
    if (producer.written() > objects && random() % 3 == 0) {
      recorder->request(producer.written() - 1 - random() % objects, lag.get);
    }
  }
  count_when_full(recorder);
}

// Popular keys fill the cache, then the producer begins.
void make_lag_after_zipf(Recorder* recorder, Lag lag) {
  const std::uint32_t popular = recorder->scale / 3;
  const Zipf zipf(popular);
  for (std::uint64_t i = 0; i < std::uint64_t{popular} * kRequestsPerObject; ++i) {
    recorder->request(kOthers + zipf(recorder->random));
  }
  const std::size_t begin = recorder->trace().requests.size();
  Producer producer(0, lag.objects(recorder->scale), lag.get);
  const std::uint64_t objects = recorder->scale - popular;
  std::size_t counted_from = begin;
  while (producer.written() < objects) {
    producer.step(recorder);
    if (producer.written() == objects / 2) counted_from = recorder->trace().requests.size();
  }
  recorder->trace().counted_from = counted_from;
  recorder->trace().percent = kProducersPercent;
}

// A producer whose keys are read after `lag` of a cache of a tenth of all, among requests of another kind.
template <class Other>
void make_mix(Recorder* recorder, const Other& other) {
  Producer producer(kOthers * 8, recorder->scale / 40, Op::kGet);
  while (producer.written() < recorder->scale / 2) {
    producer.step(recorder);
    for (int i = 0; i < 6; ++i) other();
  }
}

void make_mix_zipf(Recorder* recorder) {
  const Zipf zipf(recorder->scale / 2);
  make_mix(recorder, [&] { recorder->request(zipf(recorder->random)); });
}

void make_mix_loop(Recorder* recorder) {
  std::uint64_t at = 0;
  make_mix(recorder, [&] { recorder->request(at++ % (recorder->scale / 2)); });
}

void make_mix_scan(Recorder* recorder) {
  const Zipf zipf(recorder->scale / 8);
  std::uint64_t at = kOthers;
  std::uint64_t i = 0;
  make_mix(recorder, [&] {
    if (++i % 12 < 11) {
      recorder->request(zipf(recorder->random));
    } else {
      recorder->request(at++);
    }
  });
}

// Popular keys, a producer, a loop and the popular keys again, one after the other.
void make_turns(Recorder* recorder) {
  const std::uint32_t scale = recorder->scale;
  const Zipf zipf(scale / 4);
  const auto popular = [&] {
    for (std::uint64_t i = 0; i < std::uint64_t{scale} * 2; ++i) recorder->request(zipf(recorder->random));
  };
  const auto produce = [&](std::uint64_t first) {
    Producer producer(first, scale / 20, Op::kGet);
    while (producer.written() < scale / 4) producer.step(recorder);
  };
  popular();
  produce(kOthers);
  for (std::uint64_t i = 0; i < std::uint64_t{scale} * 2; ++i) recorder->request(2 * kOthers + i % (scale / 4));
  produce(3 * kOthers);
  popular();
}

struct Generator {
  const char* name;
  void (*make)(Recorder*);
};

constexpr Generator kGenerators[] = {
    {"zipf", make_zipf},
    {"zipf-sizes",
     [](Recorder* recorder) {
       recorder->size_of = mixed_size;
       make_zipf(recorder);
     }},
    {"scan", make_scan},
    {"loop", make_loop},
    {"shift", make_shift},
    {"phases", make_phases},
    {"far", make_far},
    {"blocks", make_blocks},
    {"decay", make_decay},
    {"mix-zipf", make_mix_zipf},
    {"mix-scan", make_mix_scan},
    {"mix-loop", make_mix_loop},
    {"turns", make_turns},
};

// Those with a lag in percent and, perhaps, "-refill" behind their name.
struct LagGenerator {
  const char* name;
  void (*make)(Recorder*, Lag);
};

constexpr LagGenerator kLagGenerators[] = {
    {"lag", make_lag},
    {"lag-sizes", make_lag_sizes},
    {"lag-expiring", make_lag_expiring},
    {"lag-producers", make_lag_producers},
    {"lag-repeats", make_lag_repeats},
    {"lag-after-zipf", make_lag_after_zipf},
};

// What is behind "NAME-" in `name`, as a lag.
std::optional<Lag> lag_of(std::string_view name, std::string_view generator) {
  if (name.substr(0, generator.size()) != generator) return std::nullopt;
  name.remove_prefix(generator.size());
  if (name.empty() || name.front() != '-') return std::nullopt;
  unsigned percent = 0;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), percent);
  const std::string_view rest(end, static_cast<std::size_t>(name.data() + name.size() - end));
  if (error != std::errc{} || percent == 0 || percent > 100 || (!rest.empty() && rest != "-refill")) {
    return std::nullopt;
  }
  return Lag{static_cast<double>(percent), rest.empty() ? Op::kGet : Op::kFetch};
}

}  // namespace

std::vector<std::string> generated_names() {
  std::vector<std::string> names;
  for (const Generator& generator : kGenerators) names.emplace_back(generator.name);
  for (const char* lag : {"5", "30", "80"}) {
    names.push_back(std::string("lag-") + lag);
    names.push_back(std::string("lag-") + lag + "-refill");
  }
  for (const LagGenerator& generator : kLagGenerators) {
    if (generator.name != std::string_view("lag")) names.push_back(std::string(generator.name) + "-60");
  }
  return names;
}

Trace generate(const std::string& name, std::uint32_t scale, std::uint64_t seed) {
  Recorder recorder(name, scale, seed);
  for (const Generator& generator : kGenerators) {
    if (generator.name != name) continue;
    generator.make(&recorder);
    return std::move(recorder.trace());
  }
  for (const LagGenerator& generator : kLagGenerators) {
    const std::optional<Lag> lag = lag_of(name, generator.name);
    if (!lag) continue;
    generator.make(&recorder, *lag);
    return std::move(recorder.trace());
  }
  throw std::invalid_argument("there is no generated trace '" + name + "'");
}

}  // namespace memstream::bench
