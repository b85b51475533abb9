// How much of its work a test does: MEMSTREAM_TEST_SCALE is a percentage, for runs under tools that slow everything
// down.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace memstream::test {

// `count` rounds, seconds or processes, scaled; at least 1, so that no test becomes empty.
inline int scaled(int count) {
  const char* text = std::getenv("MEMSTREAM_TEST_SCALE");
  const long percent = text == nullptr ? 100 : std::strtol(text, nullptr, 10);
  return static_cast<int>(std::max(1L, count * percent / 100));
}

// How long a stress test runs on one backend: `seconds`, scaled, unless MEMSTREAM_TEST_SECONDS says how long.
inline std::chrono::milliseconds stress_time(int seconds) {
  const char* text = std::getenv("MEMSTREAM_TEST_SECONDS");
  if (text != nullptr) return std::chrono::seconds(std::strtol(text, nullptr, 10));
  return std::chrono::milliseconds(scaled(seconds * 1000));
}

}  // namespace memstream::test
