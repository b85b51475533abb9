// One of the processes of a crowd: writes its own keys, reads everybody's.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/ledger.h"

namespace memstream::torture {

class Worker {
 public:
  Worker(const Place& place, Ledger& ledger, std::size_t index, std::uint64_t seed);

  // Never ends. Throws Finding.
  [[noreturn]] void work();
  // One thing of those that it does.
  void step();

 private:
  // Runs one call of the library and notes how long it took.
  template <class Call>
  int timed(const char* what, const Call& call);

  void write();
  int store(const std::string& key, const std::string& value, std::uint64_t version);
  int fill_in_place(const std::string& key, std::string_view value);
  int compare_and_set(const std::string& key, std::string_view value);
  void read();
  void view();
  void scan();
  void look_around();

  CacheUnderTest cache_;
  Ledger& ledger_;
  std::size_t index_;
  std::mt19937_64 random_;
  std::uint64_t cursor_ = 0;
  std::string value_;
};

}  // namespace memstream::torture
