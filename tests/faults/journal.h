// What a scenario saw: the status of each call and what cache_last_error() said. Kept in arrays of a fixed size, since
// it is written while the process may have no memory.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>

#include "api/cache.h"

namespace memstream::test {

struct Outcome {
  const char* call;
  int status;
  bool names_segment;  // Whether an error of this call has to name the segment.
  char message[600];   // Empty unless the status is an error.
};

class Journal {
 public:
  // Returns `status`. `message` is what a failed call said, where it was not a call of the C interface.
  int note(const char* call, int status, bool names_segment = false, const char* message = nullptr) {
    if (count_ == kCapacity) return status;
    Outcome& outcome = outcomes_[count_++];
    outcome.call = call;
    outcome.status = status;
    outcome.names_segment = names_segment;
    outcome.message[0] = '\0';
    if (status < 0)
      std::snprintf(outcome.message, sizeof outcome.message, "%s", message != nullptr ? message : cache_last_error());
    return status;
  }

  // Something that no fault excuses.
  void complain(const char* about) {
    if (complaint_ == nullptr) complaint_ = about;
  }

  const Outcome* begin() const { return outcomes_; }
  const Outcome* end() const { return outcomes_ + count_; }
  std::string complaint() const { return complaint_ == nullptr ? "" : complaint_; }
  bool is_full() const { return count_ == kCapacity; }

 private:
  static constexpr std::size_t kCapacity = 96;
  Outcome outcomes_[kCapacity];
  std::size_t count_ = 0;
  const char* complaint_ = nullptr;
};

}  // namespace memstream::test
