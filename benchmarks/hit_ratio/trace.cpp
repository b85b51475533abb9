#include "benchmarks/hit_ratio/trace.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

namespace memstream::bench {
namespace {

constexpr std::uint64_t kSeed = 1970;
constexpr std::uint32_t kObjectSize = 1024;
constexpr std::uint32_t kRequestsPerObject = 20;

// Gives objects their numbers as they come.
class Recorder {
 public:
  explicit Recorder(std::string name) { trace_.name = std::move(name); }

  template <class SizeOf>
  void request(std::uint64_t object, SizeOf size_of) {
    const auto [found, is_new] = numbers_.try_emplace(object, static_cast<std::uint32_t>(trace_.sizes.size()));
    if (is_new) trace_.sizes.push_back(size_of(object));
    trace_.requests.push_back(found->second);
  }
  void request(std::uint64_t object) {
    request(object, [](std::uint64_t) { return kObjectSize; });
  }
  Trace take() { return std::move(trace_); }

 private:
  Trace trace_;
  std::unordered_map<std::uint64_t, std::uint32_t> numbers_;
};

class Zipf {
 public:
  explicit Zipf(std::uint32_t objects) : cumulative_(objects) {
    double sum = 0;
    for (std::uint32_t rank = 0; rank < objects; ++rank) cumulative_[rank] = sum += std::pow(rank + 1.0, -0.99);
  }
  std::uint32_t operator()(std::mt19937_64& random) const {
    const double point = static_cast<double>(random() >> 11) * 0x1p-53 * cumulative_.back();
    return static_cast<std::uint32_t>(std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, point) -
                                      cumulative_.begin());
  }

 private:
  std::vector<double> cumulative_;
};

std::uint32_t mixed_size(std::uint64_t object) {
  // Powers of two from 64 bytes to 64 KiB, each half as frequent as the one before.
  const std::uint64_t bits = (object + 1) * 0x9e37'79b9'7f4a'7c15ULL >> 48;
  std::uint32_t size = 64;
  for (int doublings = 0; doublings < 10 && (bits >> doublings & 1) != 0; ++doublings) size *= 2;
  return size;
}

void make_zipf(std::uint32_t scale, Recorder* recorder, bool mixed) {
  std::mt19937_64 random(kSeed);
  const Zipf zipf(scale);
  for (std::uint64_t i = 0; i < std::uint64_t{scale} * kRequestsPerObject; ++i) {
    const std::uint32_t object = zipf(random);
    if (mixed) {
      recorder->request(object, mixed_size);
    } else {
      recorder->request(object);
    }
  }
}

// The footprint counts the objects that the scans touch once, so the popular ones are a fourth of the scale.
void make_scan(std::uint32_t scale, Recorder* recorder) {
  std::mt19937_64 random(kSeed);
  const Zipf zipf(scale / 4);
  const std::uint32_t run = scale / 10;
  std::uint64_t scanned = std::uint64_t{1} << 32;
  for (std::uint64_t i = 0; i < std::uint64_t{scale} * kRequestsPerObject / 4; i += 3 * run) {
    for (std::uint32_t j = 0; j < 2 * run; ++j) recorder->request(zipf(random));
    // The scan is one of several clients: its requests lie between those of the others.
    for (std::uint32_t j = 0; j < run; ++j) {
      recorder->request(scanned++);
      if (random() % 2 == 0) recorder->request(zipf(random));
    }
  }
}

void make_loop(std::uint32_t scale, Recorder* recorder) {
  for (std::uint64_t i = 0; i < std::uint64_t{scale} * kRequestsPerObject; ++i) recorder->request(i % scale);
}

// A hundredth of the working set is replaced by new objects whenever it has been requested once over: popular ones and
// others alike.
void make_shift(std::uint32_t scale, Recorder* recorder) {
  std::mt19937_64 random(kSeed);
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

void make_phases(std::uint32_t scale, Recorder* recorder) {
  std::mt19937_64 random(kSeed);
  const Zipf zipf(scale / 2);
  const std::uint64_t part = std::uint64_t{scale} * kRequestsPerObject / 3;
  for (std::uint64_t i = 0; i < part; ++i) recorder->request(zipf(random));
  for (std::uint64_t i = 0; i < part; ++i) recorder->request((std::uint64_t{1} << 32) + i % (scale / 2));
  for (std::uint64_t i = 0; i < part; ++i) recorder->request(zipf(random));
}

struct Generator {
  const char* name;
  std::function<void(std::uint32_t, Recorder*)> make;
};

const std::vector<Generator>& generators() {
  static const std::vector<Generator> all = {
      {"zipf", [](std::uint32_t scale, Recorder* recorder) { make_zipf(scale, recorder, false); }},
      {"zipf-sizes", [](std::uint32_t scale, Recorder* recorder) { make_zipf(scale, recorder, true); }},
      {"scan", make_scan},
      {"loop", make_loop},
      {"shift", make_shift},
      {"phases", make_phases}};
  return all;
}

template <class Number>
bool parse(std::string_view text, Number* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

std::uint64_t Trace::footprint_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const std::uint32_t size : sizes) sum += size;
  return sum;
}

Trace read_trace(std::istream& text, const std::string& name) {
  Trace trace;
  trace.name = name;
  std::unordered_map<std::string, std::uint32_t> numbers;
  std::uint64_t line_number = 0;
  for (std::string line; std::getline(text, line);) {
    ++line_number;
    if (line.empty()) continue;
    const std::size_t first = line.find(',');
    const std::size_t second = first == std::string::npos ? first : line.find(',', first + 1);
    const std::string_view all = line;
    std::uint32_t size = 0;
    std::uint32_t ttl = 0;
    const bool is_request = first != std::string::npos && first != 0 &&
                            parse(all.substr(first + 1, second - first - 1), &size) && size > 0 &&
                            (second == std::string::npos || parse(all.substr(second + 1), &ttl));
    if (!is_request)
      throw std::runtime_error(name + ":" + std::to_string(line_number) + ": not key,size[,ttl]: " + line);
    const auto [found, is_new] =
        numbers.try_emplace(line.substr(0, first), static_cast<std::uint32_t>(trace.sizes.size()));
    if (is_new) trace.sizes.push_back(size);
    trace.requests.push_back(found->second);
    trace.ttls.push_back(ttl);
  }
  if (trace.requests.empty()) throw std::runtime_error(name + " holds no request");
  if (std::all_of(trace.ttls.begin(), trace.ttls.end(), [](std::uint32_t ttl) { return ttl == 0; })) trace.ttls.clear();
  return trace;
}

std::vector<std::string> generated_names() {
  std::vector<std::string> names;
  for (const Generator& generator : generators()) names.emplace_back(generator.name);
  return names;
}

Trace generate(const std::string& name, std::uint32_t scale) {
  for (const Generator& generator : generators()) {
    if (generator.name != name) continue;
    Recorder recorder(name);
    generator.make(scale, &recorder);
    return recorder.take();
  }
  throw std::invalid_argument("there is no generated trace '" + name + "'");
}

}  // namespace memstream::bench
