// See descriptors.h.
#include "core/base/descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/base/thread_cancel.h"

namespace memstream {

FileDescriptor::~FileDescriptor() {
  if (!is_open()) return;
  const DisableCancelScope uncancelled;
  ::close(number_);
}

bool fill_standard_gaps() noexcept {
  for (int number = 0; number < kStandardNumbers; ++number) {
    if (::fcntl(number, F_GETFD) >= 0) continue;
    // The lowest free number: this one, or one that is free since. It may be beyond them all by now.
    const DisableCancelScope uncancelled;
    FileDescriptor filler(retry_on_eintr([] { return ::open("/", O_PATH | O_CLOEXEC); }));
    if (!filler.is_open()) return false;
    if (filler.number() < kStandardNumbers) (void)filler.release();
  }
  return true;
}

FileDescriptor off_standard_numbers(int number) noexcept {
  FileDescriptor opened(number);
  if (number < 0 || number >= kStandardNumbers) return opened;
  return FileDescriptor(::fcntl(number, F_DUPFD_CLOEXEC, kStandardNumbers));
}

}  // namespace memstream
