// What a forked child must forget: its parent's place in the process table, its parent's other threads.
#pragma once

namespace memstream {

// An object that holds per-process state. While it lives, its functions run around every fork() of the process: before
// it and after it in the parent, in the thread that forks; after it in the child, whose only thread that is. They must
// not wait for other processes.
class ForkAware {
 public:
  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

  // Takes the object's own mutexes, so that the child finds what they guard whole.
  virtual void before_fork() noexcept {}
  virtual void after_fork_in_parent() noexcept {}
  virtual void after_fork_in_child() noexcept = 0;

 protected:
  ForkAware();
  virtual ~ForkAware();
};

}  // namespace memstream
