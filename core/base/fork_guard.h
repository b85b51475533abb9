// What a forked child must forget: its parent's place in the process table, its parent's other threads.
#pragma once

namespace memstream {

// An object that holds per-process state. Its functions run around every fork() of the process: before it and after it
// in the parent, in the thread that forks; after it in the child, whose only thread that is. They must not wait for
// other processes.
class ForkAware {
 public:
  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

  // Takes the object's own mutexes, so that the child finds what they guard whole.
  virtual void before_fork() noexcept {}
  virtual void after_fork_in_parent() noexcept {}
  virtual void after_fork_in_child() noexcept = 0;

 protected:
  ForkAware() noexcept = default;
  ~ForkAware() = default;
};

// While it lives, its object is told of forks. Not the base class does this: another thread may fork at any moment, and
// must find an object that is whole. So it is the last member of the most derived class, there only when the rest is.
class ForkRegistration {
 public:
  // Throws std::bad_alloc if the process has no memory left.
  explicit ForkRegistration(ForkAware* object);
  ForkRegistration(const ForkRegistration&) = delete;
  ForkRegistration& operator=(const ForkRegistration&) = delete;
  ~ForkRegistration();

 private:
  ForkAware* object_;
};

}  // namespace memstream
