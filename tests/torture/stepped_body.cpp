#include "tests/torture/stepped_body.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <exception>

#include "tests/torture/stepped_heap.h"

namespace memstream::torture {
namespace {

[[gnu::noinline]] void mark_begin() { asm volatile("int3" ::: "memory"); }
[[gnu::noinline]] void mark_end() { asm volatile("ud2" ::: "memory"); }

}  // namespace

void be_stepped(const std::function<void()>& begin, const std::function<void()>& run) noexcept {
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    use_stepped_heap();
    begin();
    mark_begin();
    run();
    mark_end();
  } catch (const std::exception&) {
    ::_exit(kBodyFailed);
  }
  ::_exit(0);
}

std::string unexpected_end(int status) {
  if (WIFSTOPPED(status)) return std::string("the child got the signal ") + ::strsignal(WSTOPSIG(status));
  if (WIFSIGNALED(status)) return std::string("the child was ended by the signal ") + ::strsignal(WTERMSIG(status));
  if (WEXITSTATUS(status) == kTraceFull) return "the operation has more instructions than a trace has room for";
  return "the operation failed in the child, exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace memstream::torture
