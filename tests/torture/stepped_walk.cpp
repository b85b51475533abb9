// A child that steps through itself: the trap flag makes the processor raise SIGTRAP after each instruction, and the
// handler notes where.
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/stepped_body.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

// Shared with the child that fills it.
struct Notes {
  static constexpr std::size_t kRoom = std::size_t{1} << 24;  // Stops: a hundred times what any operation has.

  std::size_t count;
  std::uint64_t addresses[kRoom];
};
Notes* notes = nullptr;

void note_stop(int /*signal*/, siginfo_t* /*info*/, void* context) {
  constexpr greg_t kTrapFlag = 0x100;
  greg_t(&registers)[NGREG] = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_EFL] |= kTrapFlag;
  if (notes->count == Notes::kRoom) ::_exit(kTraceFull);
  notes->addresses[notes->count++] = static_cast<std::uint64_t>(registers[REG_RIP]);
}

void end_walk(int /*signal*/) { ::_exit(kWalked); }

void step_through_oneself() noexcept {
  // The child's stack stays as it is without the handlers.
  static char handlers_stack[1 << 16];
  const stack_t stack{.ss_sp = handlers_stack, .ss_flags = 0, .ss_size = sizeof handlers_stack};
  struct sigaction step {};
  step.sa_sigaction = &note_stop;
  step.sa_flags = SA_SIGINFO | SA_ONSTACK;
  struct sigaction end {};
  end.sa_handler = &end_walk;
  end.sa_flags = SA_ONSTACK;
  if (::sigaltstack(&stack, nullptr) != 0 || ::sigaction(SIGTRAP, &step, nullptr) != 0 ||
      ::sigaction(SIGILL, &end, nullptr) != 0)
    ::_exit(kBodyFailed);
}

}  // namespace

Trace trace_of(const std::function<void()>& begin, const std::function<void()>& run) {
  void* const memory =
      ::mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error(std::string("mmap: ") + std::strerror(errno));
  const std::unique_ptr<Notes, void (*)(Notes*)> shared(static_cast<Notes*>(memory),
                                                        [](Notes* mapped) { ::munmap(mapped, sizeof(Notes)); });
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    notes = shared.get();
    step_through_oneself();
    be_stepped(begin, run);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != kWalked) throw Finding(unexpected_end(status));
  return Trace(shared->addresses, shared->addresses + shared->count);
}

}  // namespace memstream::torture
