// Lets an object react to fork(): a child must not use its parent's slot in the process table.
#pragma once

namespace memstream {

// An object that holds per-process state. Its functions run around every fork() of the process: before it and after it
// in the parent, in the thread that forks; after it in the child, whose only thread that is. They must not wait for
// other processes.
class ForkAware {
 public:
  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

  // Takes the object's own mutexes, so that the child finds the data behind them consistent.
  virtual void before_fork() noexcept {}
  virtual void after_fork_in_parent() noexcept {}
  virtual void after_fork_in_child() noexcept = 0;

 protected:
  ForkAware() noexcept = default;
  ~ForkAware() = default;
};

// Registers an object for forks while it lives. The base class cannot register itself: another thread may fork at any
// moment and must not see a partly constructed object. So this is the last member of the most derived class.
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
