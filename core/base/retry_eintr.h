// System calls that a signal may interrupt.
#pragma once

#include <cerrno>

namespace memstream {

// Repeats a call that returns -1 with EINTR. The number of tries is bounded: if signals arrive faster than the call can
// finish, it fails with EINTR.
template <class Call>
auto retry_on_eintr(const Call& call) noexcept {
  constexpr int kTries = 1000;
  auto result = call();
  for (int tries = 1; tries < kTries && result == -1 && errno == EINTR; ++tries) result = call();
  return result;
}

}  // namespace memstream
