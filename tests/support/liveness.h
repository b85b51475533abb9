// What tests of liveness look at: the header under an open cache, and a view that must stay whole.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "core/layout/layout.h"
#include "tests/support/leases.h"

namespace memstream::test {

inline std::size_t live_processes(memstream_t* cache) { return stats_of(cache).processes; }

inline int open_status(const CacheSpec& spec, std::string* message = nullptr) {
  const memstream_options_t options = spec.options();
  memstream_t* cache = nullptr;
  const int status = memstream_open(&options, &cache);
  if (message != nullptr) *message = status == CACHE_OK ? "" : cache_last_error();
  memstream_close(cache);
  return status;
}

// The header of the segment under an open cache, found through the C interface.
inline SegmentHeader& header_of(memstream_t* cache) {
  memstream_view_t view;
  memstream_entry_t entry;
  if (memstream_set(cache, "anchor", 6, "here", 4, 0, 0) != CACHE_OK ||
      memstream_view(cache, "anchor", 6, &view) != CACHE_OK ||
      memstream_entry_info(cache, "anchor", 6, &entry) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  std::byte* first = static_cast<std::byte*>(const_cast<void*>(view.data)) - entry.data_offset;
  if (memstream_release(cache, &view) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return *reinterpret_cast<SegmentHeader*>(first);
}

// A cache with one value that its owner views.
struct HeldView {
  static constexpr std::size_t kSize = 100'000;

  explicit HeldView(memstream_t* owner) : cache(owner), value(kSize, 'A') {
    REQUIRE(set(cache, value, "held") == CACHE_OK);
    REQUIRE(memstream_view(cache, "held", 4, &view) == CACHE_OK);
  }
  ~HeldView() { CHECK(memstream_release(cache, &view) == CACHE_OK); }
  bool is_whole() const { return std::memcmp(view.data, value.data(), value.size()) == 0; }

  memstream_t* cache;
  std::string value;
  memstream_view_t view{};
};

}  // namespace memstream::test
