#include "tests/torture/process.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

namespace memstream::torture {
namespace {

constexpr int kFinding = 3;

}  // namespace

pid_t Process::begin() {
  const pid_t process_id = ::fork();
  if (process_id < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (process_id == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return process_id;
}

void Process::complain(const char* what) {
  std::fprintf(stderr, "process %d: %s\n", ::getpid(), what);
  ::_exit(kFinding);
}

void Process::leave() { ::_exit(0); }

Process::Process(Process&& other) noexcept : process_id_(std::exchange(other.process_id_, -1)) {}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(process_id_, other.process_id_);
  return *this;
}

Process::~Process() {
  if (process_id_ < 0) return;
  ::kill(process_id_, SIGKILL);
  ::waitpid(process_id_, nullptr, 0);
}

bool Process::has_ended() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(process_id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

void Process::send(int signal) const { ::kill(process_id_, signal); }

void Process::stop() {
  send(SIGSTOP);
  int status = 0;
  ::waitpid(process_id_, &status, WUNTRACED);
  if (WIFSTOPPED(status)) return;
  process_id_ = -1;
  throw Finding("a process ended by itself");
}

void Process::go_on() const { send(SIGCONT); }

void Process::kill() {
  send(SIGKILL);
  if (wait()) throw Finding("a process ended by itself");
}

bool Process::wait() {
  int status = 0;
  ::waitpid(std::exchange(process_id_, -1), &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
    throw Finding(std::string("a process got the signal ") + ::strsignal(WTERMSIG(status)));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) throw Finding("a process reports a finding (see above)");
  return WIFEXITED(status);
}

}  // namespace memstream::torture
