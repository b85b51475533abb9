// The cache as the torture program uses it: through the C interface alone, as any peer would.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "api/memstream.h"

namespace memstream::torture {

// What must not be: the sentence goes into the report.
class Finding : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Keys and values.
using Content = std::map<std::string, std::string, std::less<>>;

// Where a cache lives. Small and with one shard, so that everything that happens meets everything else.
struct Place {
  std::string backend;
  std::string name;
  std::uint64_t size_bytes = std::uint64_t{1} << 20;
  std::uint32_t shards = 1;
  std::int64_t timeout_ms = 2000;
  std::uint32_t flags = 0;  // Of memstream_open_flags.
};

// The same for looking only, without patience.
Place read_only(const Place& place);

memstream_options_t options_for(const Place& place);

// Removes the segment, if there is one.
void destroy_named(const Place& place);

// How often a process at work tries again when the process table is busy.
inline constexpr int kWorkersPatience = 1000;

// An open cache. Functions without a status of their own throw Finding when the library reports an error.
class CacheUnderTest {
 public:
  // `patience`: how often it is tried again when the process table is busy until the deadline of `place`.
  explicit CacheUnderTest(const Place& place, int patience = 0);
  CacheUnderTest(const CacheUnderTest&) = delete;
  CacheUnderTest& operator=(const CacheUnderTest&) = delete;
  ~CacheUnderTest();

  memstream_t* handle() const { return cache_; }
  // Closes the handle now rather than in the destructor.
  void close();

  void put(std::string_view key, std::string_view value, std::uint64_t ttl_ms = 0);
  // False on a miss.
  bool get(std::string_view key, std::string* value);
  // The status, whatever it is.
  int try_get(std::string_view key, std::string* value);
  // False if it was not there.
  bool remove(std::string_view key);
  std::set<std::string, std::less<>> scan();
  // The status, whatever it is. `at_rest`: nobody writes, so that no key may come twice.
  int try_scan(std::set<std::string, std::less<>>* keys, bool at_rest);
  // Every key of a scan with the value that a get brings.
  Content content();
  cache_stats_t statistics();
  // Verifies every invariant of the segment.
  void check();

 private:
  memstream_t* cache_ = nullptr;
  std::size_t room_bytes_;
  std::string room_;  // For any value; made by the first get, since opening is stepped too.
};

// Throws Finding if `status` is an error.
int require(int status, const char* call);

// A value that its key and version determine, so that any mixture of two values is recognised.
std::string make_value(std::string_view key, std::uint64_t version, std::size_t size_bytes);

}  // namespace memstream::torture
