// How much of its work a test does: MEMSTREAM_TEST_SCALE is a percentage, for runs under tools that slow everything
// down.
#pragma once

#include <algorithm>
#include <cstdlib>

namespace memstream::test {

// `count` rounds, seconds or processes, scaled; at least 1, so that no test becomes empty.
inline int scaled(int count) {
  const char* text = std::getenv("MEMSTREAM_TEST_SCALE");
  const long percent = text == nullptr ? 100 : std::strtol(text, nullptr, 10);
  return static_cast<int>(std::max(1L, count * percent / 100));
}

}  // namespace memstream::test
