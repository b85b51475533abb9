// File descriptors: the library opens files for the length of one call and keeps none of them.
#pragma once

#include <utility>

#include "core/base/retry_eintr.h"

namespace memstream {

// Owns a file descriptor. A negative number stands for none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int number) noexcept : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileDescriptor();

  bool is_open() const noexcept { return number_ >= 0; }
  int number() const noexcept { return number_; }
  // The caller closes it.
  int release() noexcept { return std::exchange(number_, -1); }

 private:
  int number_;
};

// The numbers of standard input, output and error. A program may run without them; a file that is opened then gets one
// of these numbers, and the program's next message goes into that file.
inline constexpr int kStandardNumbers = 3;

// Fills gaps among the standard numbers with descriptors that can be neither read nor written, so that the program's
// own calls fail as before. They stay until the program puts a file of its own there or executes another program:
// closing them later could close a file that another thread has put there. False, with errno set, if no descriptor is
// available.
bool fill_standard_gaps() noexcept;

// Moves a descriptor off the standard numbers, in case the program has just closed one of them.
FileDescriptor off_standard_numbers(int number) noexcept;

// Runs `open()`, which returns a new descriptor or -1 with errno. The result is never a standard number. The library
// opens every file through this function. On failure the descriptor is negative and errno is set.
template <class Open>
FileDescriptor open_descriptor(const Open& open) noexcept {
  return off_standard_numbers(fill_standard_gaps() ? retry_on_eintr(open) : -1);
}

}  // namespace memstream
