// Test bodies that need a process of their own: other users, other namespaces, limits, signals.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <string>

namespace memstream::test {

// What went wrong, empty if nothing did.
using Complaint = std::string;

// A forked process that runs a body. Killed and waited for in the destructor, if nobody waited for it before.
class ChildProcess {
 public:
  explicit ChildProcess(const std::function<Complaint()>& body);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  void send_signal(int signal) const;
  pid_t id() const noexcept { return process_id_; }
  // Waits for the end. The complaint of the body, or "killed by signal N".
  Complaint wait();

 private:
  pid_t process_id_;
  int complaint_fd_;
};

// Runs `body` in a child and waits for it.
Complaint in_child(const std::function<Complaint()>& body);

// A line of communication between processes: each wait() takes one post().
class Signal {
 public:
  Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal();
  void post(int times = 1) const;
  void wait() const;

 private:
  int fds_[2];
};

bool is_root();
// For a child that is root: become an ordinary user with one group, or that user (nobody).
constexpr uid_t kOtherUser = 65534;
Complaint become_user(uid_t user, gid_t group);
Complaint become_other_user();
// For a child: at most `bytes` more address space than it has now.
Complaint limit_address_space(std::size_t bytes);
// For a child: the soft limit of `resource` (RLIMIT_...) at `value`.
Complaint limit_resource(int resource, std::size_t value);
// For a child that is root: a tmpfs with `options` ("size=16m") over `folder`, seen by nobody else.
Complaint mount_over(const char* folder, const std::string& options);
inline Complaint mount_own_shm(const std::string& options) { return mount_over("/dev/shm", options); }

}  // namespace memstream::test
