// How a command ends: exit codes, and the exception that carries an error of the C interface to main().
#pragma once

#include <stdexcept>
#include <string>

#include "api/memstream.h"

namespace memstream::cli {

// What the shell sees. docs/cli.md lists them.
enum ExitCode {
  kDone = 0,
  kMissOrFinding = 1,  // A key that is not there; a check or doctor that found something.
  kUsage = 2,          // Wrong words on the command line, or a value that is not allowed.
  kNoSegment = 3,      // There is no such segment.
  kRefused = 4,        // The segment is refused, busy or corrupt, or the system failed.
};

// A call of the library that failed, with the message that it left.
class Failure : public std::runtime_error {
 public:
  explicit Failure(int status) : std::runtime_error(cache_last_error()), status_(status) {}
  Failure(int status, const std::string& message) : std::runtime_error(message), status_(status) {}

  int status() const noexcept { return status_; }

  // -20 to -39 are values of the environment and the options, which the user typed.
  int exit_code() const noexcept {
    if (status_ == CACHE_NO_SEGMENT) return kNoSegment;
    const bool is_option = status_ <= CACHE_BAD_BACKEND && status_ > CACHE_BUSY;
    return is_option || status_ == CACHE_BAD_KEY || status_ == CACHE_INVALID ? kUsage : kRefused;
  }

 private:
  int status_;
};

}  // namespace memstream::cli
