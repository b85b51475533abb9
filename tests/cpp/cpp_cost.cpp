// Gets through the C interface and through the interface for C++, counted by callgrind: see cpp_cost_test.py.
#include <unistd.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <string>

#include "api/memstream.hpp"

namespace {

struct Quote {
  double bid, ask;
};

constexpr int kGets = 20'000;

// Counts what `get` takes, and names the dump.
template <class Get>
double count(const char* name, Get get) {
  double sum = get();
  CALLGRIND_START_INSTRUMENTATION;
  for (int i = 0; i < kGets; ++i) sum += get();
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT(name);
  return sum;
}

}  // namespace

int main() {
  memstream::Cache cache =
      memstream::Cache::open({.name = "cpp-cost-" + std::to_string(::getpid()), .size_bytes = 1 << 20}).value();
  cache.set("EURUSD", Quote{1, 2}).value();
  memstream_t* handle = cache.handle();
  const double in_c = count("c", [&] {
    Quote quote;
    std::size_t size = sizeof quote;
    const int status = memstream_get(handle, "EURUSD", 6, &quote, &size, nullptr);
    return status == CACHE_OK && size == sizeof quote ? quote.ask : 0;
  });
  const double in_cpp = count("cpp", [&] {
    const auto quote = cache.get<Quote>("EURUSD");
    return quote ? quote->ask : 0;
  });
  const bool is_destroyed = cache.destroy().has_value();
  std::printf("%d\n", kGets);
  return is_destroyed && in_c == in_cpp && in_c == 2.0 * (kGets + 1) ? 0 : 1;
}
