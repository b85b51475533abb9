// See child_process.h.
#include "tests/support/child_process.h"

#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace memstream::test {
namespace {

void check(bool is_good, const char* call) {
  if (!is_good) throw std::runtime_error(std::string(call) + ": " + std::strerror(errno));
}

Complaint complaint_if(bool is_bad, const char* call) {
  return is_bad ? std::string(call) + ": " + std::strerror(errno) : "";
}

}  // namespace

ChildProcess::ChildProcess(const std::function<Complaint()>& body) {
  int fds[2];
  check(::pipe(fds) == 0, "pipe");
  std::fflush(nullptr);  // Valgrind writes out at a child's end what the parent had not written yet.
  process_id_ = ::fork();
  check(process_id_ >= 0, "fork");
  if (process_id_ == 0) {
    ::close(fds[0]);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A test that is killed, by its timeout for instance, leaves nobody behind.
    Complaint complaint;
    try {
      complaint = body();
    } catch (const std::exception& error) {  // The child must not unwind into the parent's test.
      complaint = error.what();
    } catch (...) {
      complaint = "an exception, or a REQUIRE that did not hold";
    }
    const ssize_t written = ::write(fds[1], complaint.data(), complaint.size());
    // Not exit(): its handlers are the parent's. The coverage build has one for quick_exit().
    ::quick_exit(written == static_cast<ssize_t>(complaint.size()) ? 0 : 1);
  }
  ::close(fds[1]);
  complaint_fd_ = fds[0];
}

ChildProcess::~ChildProcess() {
  if (process_id_ < 0) return;
  ::kill(process_id_, SIGKILL);
  wait();
}

void ChildProcess::send_signal(int signal) const { check(::kill(process_id_, signal) == 0, "kill"); }

Complaint ChildProcess::wait() {
  Complaint complaint;
  char part[512];
  ssize_t count;
  while ((count = ::read(complaint_fd_, part, sizeof part)) > 0)
    complaint.append(part, static_cast<std::size_t>(count));
  ::close(complaint_fd_);
  int status = 0;
  ::waitpid(std::exchange(process_id_, -1), &status, 0);
  if (WIFSIGNALED(status)) return complaint + "killed by signal " + std::to_string(WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return complaint + "exit code " + std::to_string(WEXITSTATUS(status));
  return complaint;
}

Complaint in_child(const std::function<Complaint()>& body) { return ChildProcess(body).wait(); }

Signal::Signal() { check(::pipe(fds_) == 0, "pipe"); }

Signal::~Signal() {
  ::close(fds_[0]);
  ::close(fds_[1]);
}

void Signal::post(int times) const {
  for (int i = 0; i < times; ++i) check(::write(fds_[1], "!", 1) == 1, "write");
}

void Signal::wait() const {
  char byte;
  check(::read(fds_[0], &byte, 1) == 1, "read");
}

bool is_root() { return ::geteuid() == 0; }

Complaint become_user(uid_t user, gid_t group) {
#ifdef MEMSTREAM_COVERAGE
  const uid_t saved = ::geteuid();  // Counts for nothing until the process ends and writes its counters.
#else
  const uid_t saved = user;
#endif
  const bool is_done =
      ::setgroups(0, nullptr) == 0 && ::setresgid(group, group, group) == 0 && ::setresuid(user, user, saved) == 0;
  return complaint_if(!is_done, "setresuid");
}

Complaint become_other_user() { return become_user(kOtherUser, kOtherUser); }

Complaint limit_resource(int resource, std::size_t value) {
  rlimit limit{};
  const auto which = static_cast<__rlimit_resource_t>(resource);
  bool is_done = ::getrlimit(which, &limit) == 0;
  limit.rlim_cur = value;
  is_done = is_done && ::setrlimit(which, &limit) == 0;
  return complaint_if(!is_done, "setrlimit");
}

Complaint limit_address_space(std::size_t bytes) {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return limit_resource(RLIMIT_AS, pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + bytes);
}

Complaint mount_over(const char* folder, const std::string& options) {
  const bool is_done = ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", "none", MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("memstream-test", folder, "tmpfs", 0, options.c_str()) == 0;
  return complaint_if(!is_done, "mount");
}

}  // namespace memstream::test
