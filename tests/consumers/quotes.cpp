// A program that embeds MemStream by the interface for C++.
#include <unistd.h>

#include <cstdio>
#include <memstream/memstream.hpp>
#include <string>

struct Quote {
  double bid, ask;
};

int main() {
  auto opened = memstream::Cache::open({.name = "quotes-" + std::to_string(getpid()), .size_bytes = 1 << 20});
  if (!opened) {
    std::fprintf(stderr, "%s\n", std::string(opened.error().message()).c_str());
    return 1;
  }
  memstream::Cache& cache = *opened;
  cache.set("EURUSD", Quote{1, 2}).value();
  const bool is_found = cache.get<Quote>("EURUSD").value_or(Quote{}).ask == 2;
  const bool is_computed = *cache.memoize("computed", [] { return std::string("value"); }) == "value";
  return cache.destroy() && is_found && is_computed ? 0 : 1;
}
